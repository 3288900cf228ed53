package hashring

import (
	"time"
	"unsafe"
)

// Limit returns the load that a node may have by a config, for tables.
func Limit(cfg BalancerConfig, weight uint32, all uint64, total int64) uint64 {
	b := cfg.bound()
	return b.limit(b.share(weight, all), total)
}

// Held is what remembers failures, for tables. Times are in microseconds.
type Held = held

// Latency returns what successes are believed to take.
func (b *Balancer) Latency() time.Duration { return time.Duration(b.latency.Load()) }

// Counts returns how many counts the load of all nodes is the sum of.
func (b *Balancer) Counts() int { return len(b.stripes) }

// Sizes returns the sizes of what should not share cache lines.
func Sizes() (ofSeat, ofStripe uintptr) {
	return unsafe.Sizeof(seat{}), unsafe.Sizeof(stripe{})
}

// Sketch is what counts keys.
type Sketch struct{ sketch }

// NewSketch returns one with room for so many keys.
func NewSketch(size int) *Sketch { return &Sketch{newSketch(size)} }

// Count counts a key by its hash.
func (s *Sketch) Count(hash uint64, key string) { s.count(hash, key) }

// Age halves the counts.
func (s *Sketch) Age() { s.age() }

// Bounds returns from and to what share of all observations each key with a place is.
func (s *Sketch) Bounds(yield func(hash uint64, least, most float64)) {
	for i := range s.places {
		least, most := s.shares(&s.places[i])
		yield(s.places[i].hash, least, most)
	}
}

// Valid reports whether the places are a heap that can be found by hash.
func (s *Sketch) Valid() bool {
	for i := range s.places {
		if s.where[s.places[i].hash] != i || s.places[(i-1)/2*min(i, 1)].count > s.places[i].count {
			return false
		}
	}
	return len(s.where) == len(s.places) && len(s.places) <= s.size
}

// Add and At are for tables.
func (h held) Add(now, hold uint64) held  { return h.add(now, hold) }
func (h held) At(now, hold uint64) uint64 { return h.at(now, hold) }
