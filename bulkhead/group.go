package bulkhead

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"
	"sync/atomic"
)

// GroupConfig configures a [Group].
type GroupConfig struct {
	// Bulkhead is what each bulkhead of the group is made from. Its Name is followed by
	// a slash and the key in the name of each.
	Bulkhead Config

	// MaxKeys is how many bulkheads the group keeps at most. If zero, 1024: about a
	// third of a megabyte.
	MaxKeys int
}

// Validate returns an error that names every field that has no meaning, or nil.
// [NewGroup] panics with the same text.
func (c GroupConfig) Validate() error {
	err := c.Bulkhead.Validate()
	if c.MaxKeys < 0 {
		const text = "bulkhead: GroupConfig: MaxKeys is %d, but must be at least 1"
		err = errors.Join(err, fmt.Errorf(text, c.MaxKeys))
	}
	return err
}

// Group keeps a bulkhead for each key: a dependency, a host, a tenant. Make it with
// [NewGroup] and use it from any number of goroutines.
//
// It is bounded, for keys often come from outside. When it is full, a new key takes the
// place of one whose bulkhead is idle: empty, and of the size that it was made with. An
// empty bulkhead is as good as a new one, so nothing is lost with it but its Stats; who
// still has it is led to the one that its key has then. A bulkhead with calls under way is
// never dropped, or its key would get its slots twice.
//
// When no place can be had, that is when the keys of the group, or all of 64 that are
// looked at, have calls under way, new keys share one more bulkhead among them, and
// [GroupStats] counts it. Whoever floods the group with keys so has MaxKeys + 1 times
// MaxConcurrent slots and not more. A key that no map finds again, such as NaN, shares
// it too. A key that gets a place later has its own slots besides those it still holds of
// the shared ones; so ask for a key's bulkhead for each call.
type Group[K comparable] struct {
	set    *settings
	name   string
	max    int
	shared *Bulkhead // of keys without a place

	evicted, sharing atomic.Uint64

	mu        sync.RWMutex
	bulkheads map[K]*Bulkhead
}

// NewGroup returns an empty group. It panics if cfg is not valid; see
// [GroupConfig.Validate].
func NewGroup[K comparable](cfg GroupConfig) *Group[K] {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	g := &Group[K]{
		set:       cfg.Bulkhead.settings(),
		name:      cfg.Bulkhead.Name,
		max:       cfg.MaxKeys,
		bulkheads: make(map[K]*Bulkhead),
	}
	if g.max == 0 {
		g.max = 1024
	}
	g.shared = newBulkhead(g.name, g.set)
	g.shared.shared = true
	return g
}

// Get returns the bulkhead of key, never nil. It costs a lookup under a read lock;
// nothing is allocated for a key that is there.
func (g *Group[K]) Get(key K) *Bulkhead {
	if b := g.lookup(key); b != nil {
		return b
	}
	if key != key { // it would have a place that nobody gets back
		g.sharing.Add(1)
		return g.shared
	}
	return g.add(key)
}

func (g *Group[K]) lookup(key K) *Bulkhead {
	g.mu.RLock()
	defer g.mu.RUnlock() // also if key is an interface, of a type that cannot be a key
	return g.bulkheads[key]
}

func (g *Group[K]) add(key K) *Bulkhead {
	b := newBulkhead(g.keyName(key), g.set) // may call a method of the user's: not under the lock
	b.successor = func() *Bulkhead { return g.Get(key) }
	g.mu.Lock()
	defer g.mu.Unlock()
	if b := g.bulkheads[key]; b != nil {
		return b
	}
	if len(g.bulkheads) >= g.max && !g.evict() {
		g.sharing.Add(1)
		return g.shared
	}
	g.bulkheads[key] = b
	return b
}

func (g *Group[K]) keyName(key K) string {
	if g.name == "" {
		return fmt.Sprint(key)
	}
	return fmt.Sprint(g.name, "/", key)
}

// evict drops one idle bulkhead of a few that it looks at: a map's order is random, and
// a flood of keys must not search all of it each time.
func (g *Group[K]) evict() bool {
	looks := 64
	for key, b := range g.bulkheads {
		if b.retire() {
			delete(g.bulkheads, key)
			g.evicted.Add(1)
			return true
		}
		if looks--; looks == 0 {
			break
		}
	}
	return false
}

// retire marks an idle bulkhead, in one step with finding that it is. From then on
// it lets no call through.
func (b *Bulkhead) retire() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.word.Load()
	return w&(inUse|waiting) == 0 && b.max.Load() == b.set.maxConcurrent &&
		b.word.CompareAndSwap(w, w|retired)
}

// All returns the keys and bulkheads of the group as they are when the iteration begins,
// in no order. The body may use the group.
func (g *Group[K]) All() iter.Seq2[K, *Bulkhead] {
	return func(yield func(K, *Bulkhead) bool) {
		g.mu.RLock()
		bulkheads := maps.Clone(g.bulkheads)
		g.mu.RUnlock()
		for key, b := range bulkheads {
			if !yield(key, b) {
				return
			}
		}
	}
}

// GroupStats is what a group knows of itself at one moment.
type GroupStats struct {
	Keys int // bulkheads now

	// Evicted and Shared only grow.
	Evicted uint64 // idle bulkheads dropped to make room
	Shared  uint64 // Gets for which there was no room
}

// Stats returns a snapshot.
func (g *Group[K]) Stats() GroupStats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return GroupStats{
		Keys:    len(g.bulkheads),
		Evicted: g.evicted.Load(),
		Shared:  g.sharing.Load(),
	}
}
