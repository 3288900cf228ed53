package coalesce

// counters are those that change with a call, which takes the lock anyway. They are no
// atomics, and so agree with each other in a snapshot.
type counters struct {
	running int

	calls, shared, errors, refreshErrors, abandoned, panics uint64
}

// Stats is what a group knows of itself at one moment.
type Stats struct {
	Name string // Config.Name

	Entries  int // results and errors that are kept, expired ones included
	InFlight int // functions that have not returned, whether anybody waits or not

	// The others only grow, from New on.
	Hits      uint64 // callers that got a fresh result, or an error that is kept
	StaleHits uint64 // callers that got a stale one
	Shared    uint64 // callers that joined a call of another
	Calls     uint64 // calls of functions, refreshes included
	Errors    uint64 // calls that failed, panicked or took too long
	Abandoned uint64 // calls that ended because their callers had all left; no Errors
	Panics    uint64 // panics of functions, those that nobody waited for included

	// RefreshErrors are those of Errors that a stale result stands in for.
	RefreshErrors uint64

	// Evicted are results that were dropped to make room, and Unkept those that had to
	// give way to more useful ones. When they grow, MaxEntries is too small, or keys come
	// in a flood.
	Evicted, Unkept uint64
}

// Stats returns a snapshot. It is for exporters and tests.
func (g *Group[K, V]) Stats() Stats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return Stats{
		Name:          g.set.name,
		Entries:       len(g.table.kept),
		InFlight:      g.count.running,
		Hits:          g.hits.Load(),
		StaleHits:     g.staleHits.Load(),
		Shared:        g.count.shared,
		Calls:         g.count.calls,
		Errors:        g.count.errors,
		Abandoned:     g.count.abandoned,
		Panics:        g.count.panics,
		RefreshErrors: g.count.refreshErrors,
		Evicted:       g.table.evicted,
		Unkept:        g.table.unkept,
	}
}
