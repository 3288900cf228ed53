package hashring

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// HotKeysConfig says which keys are hot, and for how many nodes.
type HotKeysConfig struct {
	// Name is carried in errors. It is for people, and need not be unique.
	Name string

	// Share is the share of all that is observed from which on a key is hot, and what
	// each of its owners should have of it at most. If zero, 0.01: as much as a node
	// should have that is one of a hundred. With fewer nodes it may be larger; a good one
	// is half of what a node has, since the owner has other keys too.
	Share float64

	// MaxOwners is how many owners a key gets at most. If zero, 8: whatever is kept of it
	// is kept so many times.
	MaxOwners int

	// Window is the number of observations after which what was counted before them
	// counts half. If zero, 100,000: a key with a share of 0.01 is seen a thousand times
	// in it, so its share is known to a tenth. A smaller one is sooner to see a key get
	// hot, and to forget one that was.
	Window int

	// Keys is how many keys are counted at the same time. It must be several times
	// 1/Share: what is counted of a key is off by at most 1/Keys of all, and in practice
	// by much less. Each takes about 200 bytes, and up to 256 more for the key. If zero,
	// four times 1/Share, 400 by default.
	Keys int
}

const (
	maxKeys    = 1 << 20
	keptOfKey  = 256 // bytes; clients choose keys, and how long they are
	looks      = 16  // times in a window what is hot is looked at
	cellsOfKey = 8
)

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [NewHotKeys] panics with the same text.
func (c HotKeysConfig) Validate() error {
	var bad []string
	if !(c.Share >= 0 && c.Share <= 1) {
		bad = append(bad, fmt.Sprintf("Share is %v, but must be above 0 and at most 1", c.Share))
	}
	bad = checkCount(bad, "MaxOwners", c.MaxOwners, maxNodes)
	bad = checkCount(bad, "Window", c.Window, math.MaxInt32)
	bad = checkCount(bad, "Keys", c.Keys, maxKeys)
	if bad == nil {
		return nil
	}
	return errors.New("hashring: HotKeysConfig" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func checkCount(bad []string, field string, n, most int) []string {
	if n >= 0 && n <= most {
		return bad
	}
	return append(bad, fmt.Sprintf("%s is %d, but must be from 1 to %d", field, n, most))
}

// HotKeys finds the keys of a stream that come more often than others, and says how many
// owners they should have. Make it with [NewHotKeys] and use it from any number of
// goroutines.
//
//	n := hot.Observe(key)
//	lease, err := balancer.AcquireSpread(key, n, nil)
//
// It counts a bounded number of keys in bounded memory, all of it taken when it is made
// but for the keys. A flood of keys that come once each takes no places from those that
// come often, and allocates nothing.
//
// Spread what is read. A key that is written has one owner, or as many parts as [Spread]
// gives it, and then always as many: readers and writers have to agree, and what is hot
// here is not what is hot in another process.
//
// # Algorithm
//
// Filtered space-saving, of Homem and Carvalho (Knowledge and Information Systems 22,
// 2010). As in space-saving (Metwally, Agrawal and El Abbadi, 2005) a new key takes the
// place of the one with the fewest counts, and what it may have been counted before is
// its error. But it has to earn the place first, in a cell that it shares with all keys
// of the same hash: in plain space-saving every key that comes once gets a place, and
// costs an allocation. No key is counted too low, and none with more than 1/Keys of all
// is without a place.
//
// A key is hot by the least that it can have been counted, so none is by mistake. It gets
// one owner for each Share, and keeps those it has until it is a fifth below.
//
// # Failure modes
//
//   - Observations that come at the same moment from several processors are in part left
//     out, of all keys alike: nobody waits. What is hot is looked at 16 times in a
//     Window.
//   - Time does not count, only observations. Where there are few, what was hot stays so.
//   - A key is known by 64 bits of a hash, by a seed of its own, and of long ones only
//     the first 256 bytes are kept, for people.
type HotKeys struct {
	seed   maphash.Seed
	share  float64
	owners int

	hot atomic.Pointer[map[uint64]int] // the owners of the keys with several

	mu     sync.Mutex
	sketch sketch
	window int // observations in it
	until  int // it ends
	look   int // until what is hot is looked at again
}

// NewHotKeys returns a HotKeys that has seen nothing. It panics if cfg is not valid; see
// [HotKeysConfig.Validate].
func NewHotKeys(cfg HotKeysConfig) *HotKeys {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	h := &HotKeys{
		seed:   maphash.MakeSeed(),
		share:  cmp.Or(cfg.Share, 0.01),
		owners: cmp.Or(cfg.MaxOwners, 8),
		window: cmp.Or(cfg.Window, 100_000),
	}
	keys := cfg.Keys
	if keys == 0 {
		keys = int(min(maxKeys, math.Ceil(4/h.share)))
	}
	h.sketch = newSketch(keys)
	h.until, h.look = h.window, max(1, h.window/looks)
	h.hot.Store(&map[uint64]int{})
	return h
}

// Observe counts a key, and returns how many owners it should have: 1, unless it is hot.
func (h *HotKeys) Observe(key string) int {
	hash := maphash.String(h.seed, key)
	if h.mu.TryLock() {
		h.count(hash, key)
		h.mu.Unlock()
	}
	return max(1, (*h.hot.Load())[hash])
}

// Owners returns how many owners a key should have, and does not count it.
func (h *HotKeys) Owners(key string) int {
	return max(1, (*h.hot.Load())[maphash.String(h.seed, key)])
}

func (h *HotKeys) count(hash uint64, key string) {
	h.sketch.count(hash, key)
	if h.until--; h.until <= 0 {
		h.sketch.age()
		h.until = h.window
	}
	if h.look--; h.look <= 0 {
		h.publish()
		h.look = max(1, h.window/looks)
	}
}

// publish has Observe go by what is hot now.
func (h *HotKeys) publish() {
	old, hot := *h.hot.Load(), map[uint64]int{}
	for i := range h.sketch.places {
		p := &h.sketch.places[i]
		least, _ := h.sketch.shares(p)
		if n := h.ownersFor(least, old[p.hash]); n > 1 {
			hot[p.hash] = n
		}
	}
	h.hot.Store(&hot)
}

// ownersFor returns how many owners a key with a share should have that has had some.
func (h *HotKeys) ownersFor(share float64, had int) int {
	return max(h.needs(share), min(had, h.needs(share*1.25)))
}

func (h *HotKeys) needs(share float64) int {
	return int(min(float64(h.owners), math.Ceil(share/h.share)))
}

// HotKey is a key that is hot.
type HotKey struct {
	Key    string  // its first 256 bytes
	Owners int     // how many it should have, as Observe says
	Least  float64 // its share of what was observed is from Least
	Most   float64 // to Most
}

// Hot returns the keys that are hot, the hottest first: for exporters, and to fill a
// cache before others ask.
func (h *HotKeys) Hot() []HotKey {
	h.mu.Lock()
	defer h.mu.Unlock()
	var keys []HotKey
	hot := *h.hot.Load()
	for i := range h.sketch.places {
		p := &h.sketch.places[i]
		if n := hot[p.hash]; n > 1 {
			least, most := h.sketch.shares(p)
			keys = append(keys, HotKey{p.key, n, least, most})
		}
	}
	slices.SortFunc(keys, func(a, b HotKey) int {
		return cmp.Or(cmp.Compare(b.Least, a.Least), strings.Compare(a.Key, b.Key))
	})
	return keys
}
