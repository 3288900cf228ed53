package throttle

import (
	"math"
	"sync/atomic"
	"time"
)

// probeEvery is how long a class can be without a call let through.
const probeEvery = int64(time.Second)

// gate is the algorithm: which calls go through, by how earlier ones ended. It has no
// clock and draws no lots. It is safe for concurrent use.
type gate struct {
	k      float64
	window window

	// until is when the last rejection leaves the window, or 0 if it is known to have
	// left. While it is 0, a call that goes through reads it and nothing else.
	until atomic.Int64

	// passed is when a call of a class last went through, while there were rejections.
	passed [classes]atomic.Int64
}

// admit decides on a call by a lot from [0, 1), and counts it if it is refused.
func (g *gate) admit(now int64, class int, lot float64) (p float64, ok bool) {
	until := g.until.Load()
	if now >= until {
		g.until.CompareAndSwap(until, 0) // in vain if there is a new rejection
		return 0, true
	}
	g.window.roll(now)
	p = g.window.probability(now, g.k, class)
	if lot >= p {
		g.passed[class].Store(now)
		return p, true
	}
	if g.probe(now, class) {
		return p, true
	}
	g.window.class[class].refused.Add(1)
	return p, false
}

// probe reports whether a call that drew a bad lot goes through nevertheless, because
// none of its class or a higher one has for a while. One of a lower class is no reason
// to hold it back: the other side may turn away that class alone.
func (g *gate) probe(now int64, class int) bool {
	for i := class + 1; i < classes; i++ {
		if now-g.passed[i].Load() < probeEvery {
			return false
		}
	}
	last := g.passed[class].Load()
	return now-last >= probeEvery && g.passed[class].CompareAndSwap(last, now)
}

// count counts a call that went through.
func (g *gate) count(now int64, class int, outcome Outcome) {
	t := &g.window.class[class]
	switch outcome {
	case Accepted:
		g.window.roll(now)
		t.accepted.Add(1)
	case Rejected:
		g.window.roll(now)
		t.rejected.Add(1)
		g.disturb(now)
	default:
		t.ignored.Add(1)
	}
}

// disturb has calls looked at for as long as a rejection at now is in the window.
func (g *gate) disturb(now int64) {
	leaves := later(now, buckets*g.window.width)
	for {
		until := g.until.Load()
		if until >= leaves || g.until.CompareAndSwap(until, leaves) {
			return
		}
	}
}

// probability returns what admit would go by.
func (g *gate) probability(now int64, class int) float64 {
	if now >= g.until.Load() {
		return 0
	}
	return g.window.probability(now, g.k, class)
}

// later returns now plus d, or the end of time.
func later(now, d int64) int64 {
	if d > math.MaxInt64-now {
		return math.MaxInt64
	}
	return now + d
}
