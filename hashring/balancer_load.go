package hashring

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// share returns what a node of this weight may have of the whole load, in 2^32ths. It is
// rounded down, so that a product which comes out even stays even.
func (b bound) share(weight uint32, all uint64) uint64 {
	hi, lo := bits.Mul64(b.factor<<32, uint64(weight))
	q, _ := bits.Div64(hi, lo, all*1000) // the quotient is at most the factor: no overflow
	return q
}

// limit returns the load that a node with this share may have when there are total
// requests, the one that asks among them.
func (b bound) limit(share uint64, total int64) uint64 {
	if b.factor == 0 {
		return inUse
	}
	hi, lo := bits.Mul64(uint64(total), share)
	most := hi<<32 | lo>>32
	if lo&math.MaxUint32 != 0 {
		most++
	}
	return min(inUse, max(b.minCap, most))
}

// The word of a seat. That all of it changes in one step is what makes the bound hold:
// who adds to the load has seen how much there was, and that the node was not gone.
const (
	inUse    = 1<<31 - 1 // requests under way
	guard    = 1 << 31   // always set: what is released too often borrows from here
	wentAway = 1 << 32   // the node was removed: what is under way counts no more
	oneLease = 1 << 33   // the rest counts the leases given, and wraps around
)

// seat is the load of one node, from the time when it is added until it is removed. One
// that is added again gets another, so that what its earlier life left cannot weigh on
// it.
//
// It fills a cache line, or nodes that have nothing to do with each other would share
// one.
type seat struct {
	word  atomic.Uint64
	held  atomic.Uint64 // a held: failures that still count
	sum   *stripe
	owner *Balancer
	_     [32]byte
}

// stripe is a part of the load of all nodes. A seat is always with the same one: more
// than all seats of one stripe together are not busy with it, and the load of a node that
// goes can be taken from where it was added.
type stripe struct {
	load    atomic.Int64
	spilled atomic.Uint64
	_       [48]byte
}

// take adds one to the load if there is less than most, and reports whether it did, and
// as which of the seat's leases.
func (s *seat) take(most uint64) (nth uint64, ok bool) {
	for {
		w := s.word.Load()
		if w&wentAway != 0 || w&inUse >= most {
			return 0, false
		}
		if s.word.CompareAndSwap(w, w+oneLease+1) {
			// Later than the load of the seat, and in release earlier: so the sum is
			// never above what is under way, and a bound that goes by it not too high.
			s.sum.load.Add(1)
			return w / oneLease, true
		}
	}
}

func (s *seat) release() {
	s.sum.load.Add(-1)
	w := s.word.Add(^uint64(0))
	if w&guard == 0 {
		s.word.Add(1)
		s.sum.load.Add(1)
		panic("hashring: a copy of a Lease was released too")
	}
	if w&wentAway != 0 { // who removed the node has taken it off
		s.sum.load.Add(1)
	}
}

// remove takes the node's load off the sum. The leases that are under way find the node
// gone when they end.
func (s *seat) remove() {
	for {
		w := s.word.Load()
		if s.word.CompareAndSwap(w, w|wentAway) {
			s.sum.load.Add(-int64(w & inUse))
			return
		}
	}
}

func (s *seat) load() uint64 { return s.word.Load() & inUse }

// held is how many failures still count as load, in 256ths, and in the upper 40 bits when
// that was so, in microseconds. They fade away: of those that come at a steady rate so
// many are left as calls would be under way that take as long as the hold. That a time
// comes again after 12 days makes no difference but to a node that nobody has asked for
// since.
type held uint64

const (
	heldOne  = 1 << 8
	heldMost = 1<<24 - 1
	heldTime = 1<<40 - 1
)

// add returns h with one more at a time, given in microseconds as the hold is.
func (h held) add(now, hold uint64) held {
	n := h.faded(now, hold)
	return held(now&heldTime<<24) | held(min(n+heldOne, heldMost))
}

// at returns how many there are left, to the nearest.
func (h held) at(now, hold uint64) uint64 {
	return (h.faded(now, hold) + heldOne/2) / heldOne
}

func (h held) faded(now, hold uint64) uint64 {
	passed := (now - uint64(h>>24)) & heldTime
	n := float64(h & heldMost)
	return uint64(n * math.Exp(-float64(passed)/float64(max(1, hold))))
}
