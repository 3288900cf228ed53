package limiter

import (
	"sync"
	"sync/atomic"
)

// table keeps the buckets of many keys in memory that does not grow: for each the hash of
// its key, and the one number that is its state. A key's hash names two sets of slots, in
// one of which it has its place.
//
// A bucket that is full is as good as one that is not there. So nothing needs to be swept
// out, by a goroutine or by anybody: a slot whose time has come is free, whatever it says.
//
// # When there is no free slot
//
// A newcomer takes the place of the bucket with the least debt in its two sets. That
// alone would be a way to get a full bucket back: have a million other keys spend as much
// as oneself, and come again. To let a newcomer begin with the debt of the bucket that it
// replaces would close that way, and open another: a few keys too many, each with a call
// or two, would be refused for what others did.
//
// So it depends on how much is lost. A debt of up to half a burst is forgotten. A greater
// one is taken over, and the newcomer is judged as if it were its own; if it is refused
// then, the place stays with whom it was. A key that has used up its burst is therefore
// the last to go, and while its sets are full of such keys what comes instead of it has no
// more than it had. Newcomers that are refused for a debt of others are counted as crowded.
//
// # Without a lock
//
// Only to give a slot away is a lock taken. Who does it first swaps the slot's time for
// closed, then writes the tag, and then the new time. So whoever finds the key's tag after
// it has read a time knows that the time is that key's, and to take tokens is to swap
// that time for a later one. It fails if the slot was given away in between, for the
// time was closed then.
//
// But for one case: the slot's new owner has come to the very number that was there
// before. So the tag is read once more. If it is another key's, its time is put back,
// and the call begins again, as a newcomer: it was as if it had come a moment later. If
// that can't be done, since the new owner has moved on already, the charge stays there,
// and the caller is charged in its new place too: once in a blue moon somebody gets a
// token less, and nobody ever gets one more.
type table struct {
	level   atomic.Pointer[plan] // of keys without a plan of their own; nil: is being replaced
	sets    []set
	stripes []stripe // a power of two of them
}

const slots = 8 // of a set

// set has its tags in one cache line and its times in another: to look for a key is to read
// the first, which hardly ever changes.
type set struct {
	tags  [slots]atomic.Uint64 // hashes of keys; 0: never used
	times [slots]atomic.Int64  // theoretical arrival times; closed: changes hands
}

// stripe has the lock for every so many sets, held to give a slot to another key. The
// counters are here so that not all of them are in one cache line.
type stripe struct {
	mu sync.Mutex

	evicted, crowded, shadowed atomic.Uint64

	_ [32]byte
}

const maxStripes = 64

// newTable returns a table with four slots for every three keys. With a choice of two sets
// about one key in a hundred thousand then finds both full. With a single set, it would
// be one in twenty.
func newTable(keys int) *table {
	sets, stripes := max(2, (keys+5)/6), 1
	for stripes < maxStripes && stripes*8 <= sets {
		stripes *= 2
	}
	return &table{sets: make([]set, sets), stripes: make([]stripe, stripes)}
}

// pair returns the two sets of a key, which are never the same one.
func (t *table) pair(hash uint64) (a, b int) {
	n := uint64(len(t.sets))
	first := (hash >> 32) * n >> 32
	second := first + 1 + (hash&(1<<32-1))*(n-1)>>32
	if second >= n {
		second -= n
	}
	return int(first), int(second)
}

func (t *table) stripe(set int) *stripe { return &t.stripes[set&(len(t.stripes)-1)] }

// lock takes the locks of two sets, in the order in which everybody does.
func (t *table) lock(a, b int) {
	mask := len(t.stripes) - 1
	a, b = min(a&mask, b&mask), max(a&mask, b&mask)
	t.stripes[a].mu.Lock()
	if a != b {
		t.stripes[b].mu.Lock()
	}
}

func (t *table) unlock(a, b int) {
	first, second := t.stripe(a), t.stripe(b)
	first.mu.Unlock()
	if first != second {
		second.mu.Unlock()
	}
}

// claim is what a call wants: tokens, from least to most of them.
type claim struct {
	hash        uint64 // not 0
	now         int64
	plan        *plan // one with a rate
	own         bool  // the plan is the key's own, and not the table's
	least, most int64
}

// stale reports whether c's plan has been replaced. If not, what was read from the table
// before goes by that plan still, and so it does if it is there to be swapped afterwards:
// rescale would have changed it.
func (t *table) stale(c *claim) bool { return !c.own && t.level.Load() != c.plan }

// outcome is what became of a claim.
type outcome int

const (
	refused outcome = iota
	granted
	moved // the key's place was given away meanwhile: look again
	above // it owes more than its plan allows for: see lower
	stale // the plan has been replaced
)

// take takes what c wants, if it is there, and returns the debt that there is then, and
// how many tokens it took. It is right in any order, as level.take is.
func (t *table) take(c *claim) (debt, n int64, what outcome) {
	for {
		if s, ok := t.find(c.hash); ok {
			debt, n, what = t.hit(s, c)
		} else {
			debt, n, what = t.enter(c)
		}
		if what != moved {
			return debt, n, what
		}
		a, b := t.pair(c.hash) // wait for who has the lock, rather than spin
		t.lock(a, b)
		t.unlock(a, b)
	}
}

// slot is a place in the table.
type slot struct {
	tag  *atomic.Uint64
	time *atomic.Int64
}

// find returns the slot of a key that has one.
func (t *table) find(hash uint64) (slot, bool) {
	a, b := t.pair(hash)
	for _, index := range [2]int{a, b} {
		s := &t.sets[index]
		for i := range s.tags {
			if s.tags[i].Load() == hash {
				return s.slot(i), true
			}
		}
	}
	return slot{}, false
}

func (s *set) slot(i int) slot { return slot{&s.tags[i], &s.times[i]} }

// hit is for a key that has its place.
func (t *table) hit(s slot, c *claim) (debt, n int64, what outcome) {
	for {
		stored := s.time.Load()
		if stored == closed || s.tag.Load() != c.hash {
			return 0, 0, moved
		}
		debt := max(stored, c.now) - c.now
		switch {
		case t.stale(c):
			return 0, 0, stale
		case debt > c.plan.full:
			return debt, 0, above
		}
		n, what := c.grant(debt)
		if n == 0 {
			return debt, 0, what
		}
		debt += n * c.plan.cost
		if !s.time.CompareAndSwap(stored, c.now+debt) {
			continue
		}
		if s.tag.Load() != c.hash {
			s.time.CompareAndSwap(c.now+debt, stored)
			return 0, 0, moved
		}
		return debt, n, granted
	}
}

// grant returns how many tokens a bucket with a debt gives to c. That may be none, if
// none will do.
func (c *claim) grant(debt int64) (n int64, what outcome) {
	p := c.plan
	switch {
	case c.most <= p.burst && debt+c.most*p.cost <= p.full:
		return c.most, granted // without a division, as most calls are
	case c.least == c.most:
		return 0, refused
	}
	if n = max(0, p.full-debt) / p.cost; n < c.least {
		return 0, refused
	}
	return n, granted
}

// enter is for a key that has no place: it gets one if it gets a token. Whoever gets
// none takes no lock either.
func (t *table) enter(c *claim) (debt, n int64, what outcome) {
	p := t.place(c)
	n, what = c.grant(p.debt)
	if n == 0 {
		if what == refused && p.debt > 0 && c.least <= c.plan.burst {
			t.stripe(p.set).crowded.Add(1)
		}
		return p.debt, 0, what
	}
	a, b := t.pair(c.hash)
	t.lock(a, b)
	defer t.unlock(a, b)
	if _, ok := t.find(c.hash); ok {
		return 0, 0, moved
	}
	p = t.place(c)
	if t.stale(c) {
		return 0, 0, stale
	}
	if n, what = c.grant(p.debt); n == 0 || !p.time.CompareAndSwap(p.stored, closed) {
		return 0, 0, moved // it is not what it was
	}
	if p.stored > c.now {
		t.stripe(p.set).evicted.Add(1)
	}
	debt = p.debt + n*c.plan.cost
	p.tag.Store(c.hash)
	p.time.Store(c.now + debt)
	return debt, n, granted
}

// place is where a newcomer would go.
type place struct {
	slot
	set    int
	free   int   // slots of the set
	stored int64 // the slot's time, the earliest of its set
	debt   int64 // with which the newcomer would begin
}

// place finds the place for a newcomer: in the set with more free slots, which is what
// makes a choice of two sets worth having; if none is free, where the debt is least.
func (t *table) place(c *claim) place {
	a, b := t.pair(c.hash)
	p, q := t.look(a, c.now), t.look(b, c.now)
	if q.free > p.free || q.free == p.free && q.stored < p.stored {
		p = q
	}
	if p.debt = p.stored - c.now; p.debt <= c.plan.full/2 {
		p.debt = 0
	}
	return p
}

func (t *table) look(index int, now int64) place {
	s := &t.sets[index]
	p, best := place{set: index, stored: closed}, 0
	for i := range s.times {
		stored := s.times[i].Load()
		if stored <= now {
			p.free++
		}
		if stored < p.stored {
			p.stored, best = stored, i
		}
	}
	p.slot = s.slot(best)
	return p
}

// lower is for a key that was seen to be full later than its plan allows for, since it
// has another plan than before. It has an empty bucket now. Unless that were written
// down, it would have one again at each call, for as long as it owes by the old plan.
//
// The clock was read after seen was, and seen must still be there: what another call has
// written at a later time than that of the clock is not too late.
func (t *table) lower(c *claim, seen int64) {
	most := c.now + c.plan.full
	if s, ok := t.find(c.hash); ok && seen > most && !t.stale(c) {
		s.time.CompareAndSwap(seen, most)
	}
}

// refund gives back what a call has taken, unless the key has lost its place meanwhile.
func (t *table) refund(hash uint64, ticks int64) {
	if s, ok := t.find(hash); ok {
		s.refund(hash, ticks)
	}
}

func (s slot) refund(hash uint64, ticks int64) {
	for {
		stored := s.time.Load()
		if stored == closed || s.tag.Load() != hash ||
			s.time.CompareAndSwap(stored, stored-ticks) {
			return
		}
	}
}

// rescale replaces every debt. Free slots stay as they are: so a call that is under way, and
// is the first of a key, may still count by the plan before.
func (t *table) rescale(now int64, rescaled func(debt int64) int64) {
	for i := range t.sets {
		for j := range t.sets[i].times {
			time := &t.sets[i].times[j]
			for {
				stored := time.Load()
				if stored == closed {
					t.lock(i, i) // until it has changed hands
					t.unlock(i, i)
					continue
				}
				if stored <= now || time.CompareAndSwap(stored, now+rescaled(stored-now)) {
					break
				}
			}
		}
	}
}

// owing returns how many keys have a bucket that is not full.
func (t *table) owing(now int64) (n int) {
	for i := range t.sets {
		for j := range t.sets[i].times {
			if t.sets[i].times[j].Load() > now {
				n++
			}
		}
	}
	return n
}
