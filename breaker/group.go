package breaker

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// GroupConfig configures a [Group].
type GroupConfig struct {
	// Breaker is what each breaker of the group is made from. Its Name is followed
	// by a slash and the key in the name of each.
	Breaker Config

	// MaxKeys is how many breakers the group keeps at most. If zero, 1024: about
	// a megabyte when all are busy.
	MaxKeys int
}

// Validate returns an error that names every field that has no meaning, or nil.
// [NewGroup] panics with the same text.
func (c GroupConfig) Validate() error {
	err := c.Breaker.Validate()
	if c.MaxKeys < 0 {
		const text = "breaker: GroupConfig: MaxKeys is %d, but must be at least 1"
		err = errors.Join(err, fmt.Errorf(text, c.MaxKeys))
	}
	return err
}

// Group keeps a breaker for each key: a host, a shard, a tenant's database. Make it
// with [NewGroup] and use it from any number of goroutines.
//
// It is bounded, for keys often come from outside. When it is full, a new key takes
// the place of one that was not asked for during a whole Window: of a breaker that is
// closed and without failures if one is found soon, else of any that is not refusing
// calls. A
// breaker that refuses is never dropped, nor one in use; else a flood of keys would
// open what is broken, and reset what is about to break.
//
// When no place can be had, a new key goes unprotected: it gets a breaker that lets
// every call through, and [GroupStats] counts it. It does not get one that it
// shares with others, which would have the healthy pay for the failing.
type Group[K comparable] struct {
	set     *settings
	name    string
	max     int
	through *Breaker // what keys without a place get

	evicted, unprotected atomic.Uint64

	mu      sync.RWMutex
	entries map[K]*entry
	retryAt int64 // no place will be free before
}

type entry struct {
	breaker *Breaker
	asked   atomic.Int64 // when it was last asked for, to within a tenth of the window
}

// NewGroup returns an empty group. It panics if cfg is not valid; see
// [GroupConfig.Validate].
func NewGroup[K comparable](cfg GroupConfig) *Group[K] {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	g := &Group[K]{
		set:     cfg.Breaker.settings(),
		name:    cfg.Breaker.Name,
		max:     cfg.MaxKeys,
		entries: make(map[K]*entry),
	}
	if g.max == 0 {
		g.max = 1024
	}
	g.through = newBreaker(g.name, g.set)
	g.through.Disable()
	g.through.fixed = true
	return g
}

// Get returns the breaker of key, never nil. It costs a lookup under a read lock
// and a reading of the clock; nothing is allocated for a key that is there. A
// permit stays valid when its breaker is dropped; the breaker itself should be asked
// for each time and not kept, or the group takes it for idle.
func (g *Group[K]) Get(key K) *Breaker {
	now := int64(time.Since(g.set.base))
	e := g.lookup(key)
	if e == nil {
		return g.add(key, now)
	}
	// Not every time: the callers of one key would pass the cache line around.
	if now-e.asked.Load() > g.set.window/buckets {
		e.asked.Store(now)
	}
	return e.breaker
}

func (g *Group[K]) lookup(key K) *entry {
	g.mu.RLock()
	defer g.mu.RUnlock() // also if key is an interface, of a type that cannot be a key
	return g.entries[key]
}

func (g *Group[K]) add(key K, now int64) *Breaker {
	name := g.keyName(key) // by a method of the user's, perhaps: not under the lock
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.entries[key]; e != nil {
		return e.breaker
	}
	if len(g.entries) >= g.max && !g.evict(now) {
		g.unprotected.Add(1)
		return g.through
	}
	e := &entry{breaker: newBreaker(name, g.set)}
	e.asked.Store(now)
	g.entries[key] = e
	return e.breaker
}

func (g *Group[K]) keyName(key K) string {
	if g.name == "" {
		return fmt.Sprint(key)
	}
	return fmt.Sprint(g.name, "/", key)
}

// evict drops one breaker, and reports false if none may be. Then it has looked at all
// of them. So that a flood of keys does not pay for that each time, a search in vain
// is not repeated before it can have another result; and of those that remember
// failures, it takes one when it has seen a few and nothing better.
func (g *Group[K]) evict(now int64) bool {
	if now < g.retryAt {
		return false
	}
	const few = 64
	var second K
	found := 0
	g.retryAt = now + g.set.window/buckets
	for key, e := range g.entries {
		if idleAt := later(e.asked.Load(), g.set.window); idleAt > now {
			g.retryAt = min(g.retryAt, idleAt)
			continue
		}
		switch e.breaker.worth(now) {
		case nothing:
			return g.drop(key)
		case little:
			second = key
			found++
		}
		if found == few {
			break
		}
	}
	return found > 0 && g.drop(second)
}

// drop reports false for a key that no map can find, such as NaN.
func (g *Group[K]) drop(key K) bool {
	before := len(g.entries)
	delete(g.entries, key)
	if len(g.entries) == before {
		return false
	}
	g.evicted.Add(1)
	g.retryAt = 0
	return true
}

// What is lost with a breaker.
const (
	much    = iota // it refuses calls, or somebody has set it by hand
	little         // it remembers failures
	nothing        // it is as good as new
)

func (b *Breaker) worth(now int64) int {
	e := b.now.Load()
	switch state := e.effective(now); {
	case e.mode != auto, state == Open, state == Ramp, e.busyUntil.Load() > now:
		return much
	case state == HalfOpen, e.streak.word.Load() != 0, b.recent(e, now).Failed != 0:
		return little
	}
	return nothing
}

// All returns the keys and breakers of the group as they are when the iteration
// begins, in no order. The body may use the group.
func (g *Group[K]) All() iter.Seq2[K, *Breaker] {
	return func(yield func(K, *Breaker) bool) {
		g.mu.RLock()
		entries := maps.Clone(g.entries)
		g.mu.RUnlock()
		for key, e := range entries {
			if !yield(key, e.breaker) {
				return
			}
		}
	}
}

// GroupStats is what a group knows of itself at one moment.
type GroupStats struct {
	Keys int // breakers now

	// Evicted and Unprotected only grow.
	Evicted     uint64 // breakers dropped to make room
	Unprotected uint64 // Gets for which there was no room
}

// Stats returns a snapshot.
func (g *Group[K]) Stats() GroupStats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return GroupStats{
		Keys:        len(g.entries),
		Evicted:     g.evicted.Load(),
		Unprotected: g.unprotected.Load(),
	}
}
