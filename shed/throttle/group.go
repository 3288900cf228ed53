package throttle

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"sync"
	"sync/atomic"
)

// GroupConfig configures a [Group].
type GroupConfig struct {
	// Throttle is what each throttle of the group is made from. Its Name is followed by
	// a slash and the key in the name of each.
	Throttle Config

	// MaxKeys is how many throttles the group keeps at most. If zero, 1024: less than two
	// megabytes when all are busy.
	MaxKeys int
}

// Validate returns an error that names every field that has no meaning, or nil.
// [NewGroup] panics with the same text.
func (c GroupConfig) Validate() error {
	err := c.Throttle.Validate()
	if c.MaxKeys < 0 {
		const text = "throttle: GroupConfig: MaxKeys is %d, but must be at least 1"
		err = errors.Join(err, fmt.Errorf(text, c.MaxKeys))
	}
	return err
}

// Group keeps a throttle for each key: a host, a shard, an API with a quota of its own.
// Make it with [NewGroup] and use it from any number of goroutines.
//
// It is bounded, for keys often come from outside. When it is full, a new key takes the
// place of one that was not asked for during a whole Window. All that its throttle knew
// is out of date by then, so nothing is lost with it but its Stats, and a flood of keys
// cannot make the group forget who is overloaded.
//
// When no place can be had, a new key goes unthrottled: it gets a throttle that lets
// every call through, and [GroupStats] counts it. It does not get one that it shares
// with others, which would have calls to a server with room refused for one without.
type Group[K comparable] struct {
	set     *settings
	name    string
	max     int
	through *Throttle // what keys without a place get

	evicted, unthrottled atomic.Uint64

	mu      sync.RWMutex
	entries map[K]*entry
	retryAt int64 // no place will be free before
}

type entry struct {
	throttle *Throttle
	asked    atomic.Int64 // when it was last asked for, to within a bucket
}

// NewGroup returns an empty group. It panics if cfg is not valid; see
// [GroupConfig.Validate].
func NewGroup[K comparable](cfg GroupConfig) *Group[K] {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	g := &Group[K]{
		set:     cfg.Throttle.settings(),
		name:    cfg.Throttle.Name,
		max:     cfg.MaxKeys,
		entries: make(map[K]*entry),
	}
	if g.max == 0 {
		g.max = 1024
	}
	g.through = newThrottle(g.name, g.set)
	g.through.off = true
	return g
}

// Get returns the throttle of key, never nil. It costs a lookup under a read lock and a
// reading of the clock; nothing is allocated for a key that is there. The throttle
// should be asked for each time and not kept, or the group takes it for idle.
func (g *Group[K]) Get(key K) *Throttle {
	now := g.set.clock()
	e := g.lookup(key)
	if e == nil {
		return g.add(key, now)
	}
	// Not every time: the callers of one key would pass the cache line around.
	if now-e.asked.Load() > g.set.width {
		e.asked.Store(now)
	}
	return e.throttle
}

func (g *Group[K]) lookup(key K) *entry {
	g.mu.RLock()
	defer g.mu.RUnlock() // also if key is an interface, of a type that cannot be a key
	return g.entries[key]
}

func (g *Group[K]) add(key K, now int64) *Throttle {
	if key != key { // as NaN: no map would find it again
		g.unthrottled.Add(1)
		return g.through
	}
	name := g.keyName(key) // by a method of the user's, perhaps: not under the lock
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.entries[key]; e != nil {
		return e.throttle
	}
	if len(g.entries) >= g.max && !g.evict(now) {
		g.unthrottled.Add(1)
		return g.through
	}
	e := &entry{throttle: newThrottle(name, g.set)}
	e.asked.Store(now)
	g.entries[key] = e
	return e.throttle
}

func (g *Group[K]) keyName(key K) string {
	if g.name == "" {
		return fmt.Sprint(key)
	}
	return fmt.Sprint(g.name, "/", key)
}

// evict drops one throttle, and reports false if none may be. Then it has looked at all
// of them; so that a flood of keys does not pay for that each time, a search in vain is
// not repeated before it can have another result.
func (g *Group[K]) evict(now int64) bool {
	if now < g.retryAt {
		return false
	}
	g.retryAt = math.MaxInt64
	for key, e := range g.entries {
		idleAt := e.idleAt(g.set)
		if idleAt <= now {
			delete(g.entries, key)
			g.evicted.Add(1)
			g.retryAt = 0
			return true
		}
		g.retryAt = min(g.retryAt, idleAt)
	}
	return false
}

// idleAt returns when a whole window will have passed since the throttle was last asked
// for, which was up to a bucket after what is noted.
func (e *entry) idleAt(set *settings) int64 {
	return later(e.asked.Load(), later(set.width, buckets*set.width))
}

// All returns the keys and throttles of the group as they are when the iteration begins,
// in no order. The body may use the group.
func (g *Group[K]) All() iter.Seq2[K, *Throttle] {
	return func(yield func(K, *Throttle) bool) {
		g.mu.RLock()
		entries := maps.Clone(g.entries)
		g.mu.RUnlock()
		for key, e := range entries {
			if !yield(key, e.throttle) {
				return
			}
		}
	}
}

// GroupStats is what a group knows of itself at one moment.
type GroupStats struct {
	Keys int // throttles now

	// Evicted and Unthrottled only grow.
	Evicted     uint64 // throttles dropped to make room
	Unthrottled uint64 // Gets for which there was no room
}

// Stats returns a snapshot.
func (g *Group[K]) Stats() GroupStats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return GroupStats{
		Keys:        len(g.entries),
		Evicted:     g.evicted.Load(),
		Unthrottled: g.unthrottled.Load(),
	}
}
