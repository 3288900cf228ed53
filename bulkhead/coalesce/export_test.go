package coalesce

import "time"

// Len returns how many entries there are, with a result or without.
func Len[K comparable, V any](g *Group[K, V]) int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.table.entries)
}

// Table is the algorithm, of which the time is whatever a test says.
type Table struct{ t table[string, int] }

// NewTable returns an empty table of a group with cfg.
func NewTable(cfg Config) *Table {
	set := cfg.settings()
	return &Table{table[string, int]{set: &set, entries: map[string]*entry[string, int]{}}}
}

// Begin starts a call for a key.
func (t *Table) Begin(key string) { t.t.entry(key).call = &call[string, int]{} }

// Keep has a call for a key return a result at a time, after so many have joined it.
func (t *Table) Keep(key string, now time.Duration, joined uint32) {
	t.Begin(key)
	t.t.keep(t.t.entries[key], result[int]{}, int64(now), t.t.set.ttl, joined)
}

// KeepPanic has a panic come for a key, which nobody waits for.
func (t *Table) KeepPanic(key string, now time.Duration) {
	t.t.keepPanic(key, &PanicError{}, int64(now))
}

// Use has the result of a key served so many times.
func (t *Table) Use(key string, times int) {
	for range times {
		t.t.entries[key].use()
	}
}

// Has reports whether there is an entry.
func (t *Table) Has(key string) bool { return t.t.entries[key] != nil }

// Serves reports whether the result of a key may be had.
func (t *Table) Serves(key string, now time.Duration) bool {
	e := t.t.entries[key]
	return e != nil && e.serves(int64(now))
}

// Counts returns the numbers of entries that are kept, were evicted and found no room.
func (t *Table) Counts() (kept int, evicted, unkept uint64) {
	return len(t.t.kept), t.t.evicted, t.t.unkept
}
