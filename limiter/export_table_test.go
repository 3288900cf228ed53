package limiter

import "unsafe"

// Table is the table of a Keyed, for tests that give it the time in ticks.
type Table struct{ t *table }

// What tests of the table need to know of it.
const (
	TableSlots = slots
	StripeSize = unsafe.Sizeof(stripe{})
	MaxKeys    = maxKeys
)

// Outcome is what became of a call.
type Outcome = outcome

// The outcomes.
const (
	Refused = refused
	Granted = granted
	Above   = above
)

// NewTable returns an empty table.
func NewTable(keys int) Table { return Table{newTable(keys)} }

// TableOf returns the table of k.
func TableOf[K comparable](k *Keyed[K]) Table { return Table{k.keyed.table} }

// HashOf returns what the table of k knows key by.
func HashOf[K comparable](k *Keyed[K], key K) uint64 { return k.hash(key) }

// Take takes from least to most tokens. The limit must be one with a rate.
func (t Table) Take(hash uint64, now int64, l Limit, most, least int) (debt, n int64, o Outcome) {
	p, err := l.plan()
	if err != nil {
		panic(err)
	}
	return t.t.take(&claim{
		hash: hash, now: now, plan: &p, own: true, most: int64(most), least: int64(least),
	})
}

// Lower is what a Keyed does about what is Above.
func (t Table) Lower(hash uint64, seen, now int64, l Limit) {
	p, _ := l.plan()
	t.t.lower(&claim{hash: hash, now: now, plan: &p, own: true}, seen)
}

// Refund gives back n tokens.
func (t Table) Refund(hash uint64, l Limit, n int64) {
	p, _ := l.plan()
	t.t.refund(hash, n*p.cost)
}

// Late is a call, or a refund, that has found the slot of its key, and is then held up.
type Late struct {
	t *table
	s slot
}

// Find finds the slot of a key that has one.
func (t Table) Find(hash uint64) Late {
	s, ok := t.t.find(hash)
	if !ok {
		panic("no slot")
	}
	return Late{t.t, s}
}

// Take goes on with taking n tokens. It reports false if it has to look again.
func (c Late) Take(hash uint64, now int64, l Limit, n int64) bool {
	p, _ := l.plan()
	_, _, o := c.t.hit(c.s, &claim{hash: hash, now: now, plan: &p, own: true, most: n, least: n})
	return o != moved
}

// Refund goes on with giving back n tokens.
func (c Late) Refund(hash uint64, l Limit, n int64) {
	p, _ := l.plan()
	c.s.refund(hash, n*p.cost)
}

// Close has the slot change hands until it is opened.
func (c Late) Close() (open func() (touched bool)) {
	stored := c.s.time.Swap(closed)
	return func() bool { return c.s.time.Swap(stored) != closed }
}

// Begun is a call for a token by Limit that has begun: it has its time and its plan.
type Begun struct {
	t *table
	c claim
}

// BeginOf begins a call for a key of k.
func BeginOf[K comparable](k *Keyed[K], key K) Begun {
	t := k.keyed.table
	return Begun{t, claim{
		hash: k.hash(key), now: k.keyed.clock(), plan: t.level.Load(), most: 1, least: 1,
	}}
}

// Stale goes on, and reports whether it found that the limit is another one.
func (b Begun) Stale() bool {
	_, _, o := b.t.take(&b.c)
	return o == stale
}

// Lower goes on with lowering, of a debt that was seen.
func (b Begun) Lower(debt int64) { b.t.lower(&b.c, b.c.now+debt) }

// Pair returns the sets of a key.
func (t Table) Pair(hash uint64) (a, b int) { return t.t.pair(hash) }

// Sets returns how many there are.
func (t Table) Sets() int { return len(t.t.sets) }

// Owing returns how many keys are short of tokens.
func (t Table) Owing(now int64) int { return t.t.owing(now) }

// Counts returns how many lost their place, and how many found none.
func (t Table) Counts() (evicted, crowded uint64) {
	for i := range t.t.stripes {
		evicted += t.t.stripes[i].evicted.Load()
		crowded += t.t.stripes[i].crowded.Load()
	}
	return evicted, crowded
}

// Bytes is how much memory a table takes.
func (t Table) Bytes() int {
	return int(unsafe.Sizeof(*t.t)) +
		len(t.t.sets)*int(unsafe.Sizeof(set{})) +
		len(t.t.stripes)*int(unsafe.Sizeof(stripe{}))
}

// Refund has b take back what it granted with r, as All does.
func Refund(b Bucket, r Result) { b.refund(r) }

// DebtFrom returns what a debt is under l, of a limit by which a token had another cost; and
// the cost and the time to fill of l's own.
func DebtFrom(l Limit, debt, cost int64) (under, own, full int64) {
	p, _ := l.plan()
	return p.debtFrom(debt, cost), p.cost, p.full
}
