package coalesce

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
)

// table has the entries of a group, and says what is kept, for how long, and what goes
// when there is no room. It knows neither locks nor clocks nor contexts: of a call it
// knows that there is one.
type table[K comparable, V any] struct {
	set     *settings
	entries map[K]*entry[K, V]
	kept    []*entry[K, V] // those with a result, to pick from at random

	evicted, unkept uint64
}

// entry is what there is for one key: a result, a call that is to bring one, or both.
// Only uses may be written under the read lock.
type entry[K comparable, V any] struct {
	uses atomic.Uint32 // up to maxUses, so that a hot key stops passing its cache line around

	key    K
	full   bool // there is a result, if only an expired one
	failed bool // the last refresh has
	index  int  // in the table's kept, if full
	result[V]
	expires int64 // the result is fresh before
	stale   int64 // and served before, unless a refresh has failed
	reserve int64 // and served before if one has
	retryAt int64 // no refresh begins before

	call     *call[K, V] // under way; nil: none
	panicked *PanicError // nobody has seen it yet: the next caller will
}

// result is what a call returns.
type result[V any] struct {
	value V
	err   error
}

const (
	maxUses = 15 // being spared four times without a use makes it zero
	sampled = 16 // entries that are looked at to find one that can go
)

// serves reports whether the result may be had at once.
func (e *entry[K, V]) serves(now int64) bool {
	if e.failed {
		return e.covers(now)
	}
	return e.full && now < e.stale
}

// covers reports whether the result may take the place of an error.
func (e *entry[K, V]) covers(now int64) bool { return e.full && now < e.reserve }

// due reports whether a refresh is to begin if the entry is asked for.
func (e *entry[K, V]) due(now int64) bool {
	return e.call == nil && now >= e.expires && now >= e.retryAt
}

// ready reports whether there is nothing to do but to serve the result.
func (e *entry[K, V]) ready(now int64) bool {
	return e.serves(now) && !e.due(now) && e.panicked == nil
}

// use notes that the result has been asked for. That two at a time may count as one does
// no harm.
func (e *entry[K, V]) use() {
	if uses := e.uses.Load(); uses < maxUses {
		e.uses.Store(uses + 1)
	}
}

// worth is what is lost with the result: nothing, if it is no longer served.
func (e *entry[K, V]) worth(now int64) uint32 {
	if !e.serves(now) {
		return 0
	}
	return e.uses.Load()
}

// entry returns the entry of key, which is made if there is none.
func (t *table[K, V]) entry(key K) *entry[K, V] {
	e := t.entries[key]
	if e == nil {
		e = &entry[K, V]{key: key}
		t.entries[key] = e
	}
	return e
}

// keep puts a good result into an entry, whose call has brought it.
func (t *table[K, V]) keep(e *entry[K, V], r result[V], now, lifetime int64, uses uint32) {
	e.call = nil
	if lifetime == 0 {
		t.tidy(e)
		return
	}
	if t.fill(e, r, now, uses) {
		e.expires = later(now, lifetime)
		e.stale = later(e.expires, t.set.stale)
		e.reserve = later(e.expires, t.set.reserve)
	}
}

// fail notes that the call of an entry has brought no good result, and that another is
// pointless for a while. It returns the stale one, if that may be served instead.
func (t *table[K, V]) fail(e *entry[K, V], now, wait int64) (stale result[V], ok bool) {
	e.call = nil
	if !e.covers(now) {
		t.tidy(e)
		return stale, false
	}
	e.failed = true
	e.retryAt = later(now, max(min(wait, maxAskedWait), t.set.retryWait))
	return e.result, true
}

// keepError keeps an error, for a key without anything better.
func (t *table[K, V]) keepError(key K, r result[V], now int64, uses uint32) {
	e := t.entry(key)
	if t.fill(e, r, now, uses) {
		e.expires = later(now, t.set.errorTTL)
		e.stale, e.reserve = e.expires, e.expires
	}
}

// keepPanic keeps a panic for the next caller. Where there is no entry it takes the
// place of a result, one that has expired: it must not be a way around the bound.
func (t *table[K, V]) keepPanic(key K, p *PanicError, now int64) {
	e := t.entry(key)
	if e.full || t.fill(e, result[V]{}, now, 0) {
		e.panicked = p
	}
}

// fill puts a result into the entry, if there is room or can be made. Else the entry is
// gone, unless it has a call. The result has expired from the beginning of time: a caller
// may have read the clock before now, and get here after.
func (t *table[K, V]) fill(e *entry[K, V], r result[V], now int64, uses uint32) bool {
	if !e.full {
		if len(t.kept) >= t.set.maxEntries && !t.evict(now, uses) {
			t.unkept++
			if e.call == nil {
				delete(t.entries, e.key)
			}
			return false
		}
		e.full = true
		e.index = len(t.kept)
		t.kept = append(t.kept, e)
		e.uses.Store(min(uses, maxUses))
	}
	e.result, e.failed = r, false
	e.expires, e.stale, e.reserve, e.retryAt = 0, 0, 0, 0
	return true
}

// evict drops the result that is worth least among a few, if it is worth no more than a
// new one with so many uses. Of equals the one that expires first goes. An entry with a
// call is waited for, or just about to be renewed, and never dropped.
//
// What is spared ages. Otherwise results that were used once, long ago, could keep out
// new ones until they expire; and somebody could fill the table with such. It is one that
// ages, not the whole sample, or a flood would make all that is used look unused.
func (t *table[K, V]) evict(now int64, uses uint32) bool {
	var least *entry[K, V]
	for i := range sampled {
		e := t.pick(i)
		if e != nil && e.call == nil && (least == nil || e.before(least, now)) {
			least = e
		}
	}
	if least == nil {
		return false
	}
	if least.worth(now) > uses {
		least.uses.Store(least.uses.Load() / 2)
		return false
	}
	t.remove(least)
	t.evicted++
	return true
}

// pick returns the ith entry of a sample; nil: there are fewer. To range over the map would
// be no way to pick: it begins somewhere, but goes on with the neighbours of that, and
// with the same ones each time.
func (t *table[K, V]) pick(i int) *entry[K, V] {
	switch n := len(t.kept); {
	case n > sampled:
		return t.kept[rand.IntN(n)]
	case i < n:
		return t.kept[i]
	}
	return nil
}

// before reports whether e is to be dropped rather than other.
func (e *entry[K, V]) before(other *entry[K, V], now int64) bool {
	if dead := !e.covers(now); dead != !other.covers(now) {
		return dead
	}
	if worth, others := e.worth(now), other.worth(now); worth != others {
		return worth < others
	}
	return e.expires < other.expires
}

// tidy drops an entry without a call whose result is of no more use.
func (t *table[K, V]) tidy(e *entry[K, V]) {
	if e.panicked == nil {
		t.remove(e)
	}
}

// remove drops an entry.
func (t *table[K, V]) remove(e *entry[K, V]) {
	if e.full {
		last := len(t.kept) - 1
		t.kept[e.index] = t.kept[last]
		t.kept[e.index].index = e.index
		t.kept[last] = nil
		t.kept = t.kept[:last]
	}
	delete(t.entries, e.key)
}

// later returns t+d, or the end of time. Neither is negative.
func later(t, d int64) int64 {
	if sum := t + d; sum >= t {
		return sum
	}
	return math.MaxInt64
}
