package throttle

import "time"

// Gate is the algorithm, of which the time and the lots are whatever a test says.
// Classes are from 1 to 5.
type Gate struct{ g gate }

// NewGate returns the gate of a throttle with k and window.
func NewGate(k float64, window time.Duration) *Gate {
	g := &Gate{}
	g.g.k, g.g.window.width = k, int64(window)/buckets
	return g
}

// Admit decides on a call.
func (g *Gate) Admit(now time.Duration, class int, lot float64) (float64, bool) {
	return g.g.admit(int64(now), class-1, lot)
}

// Count counts a call that went through.
func (g *Gate) Count(now time.Duration, class int, outcome Outcome) {
	g.g.count(int64(now), class-1, outcome)
}

// Probability returns what Admit would go by.
func (g *Gate) Probability(now time.Duration, class int) float64 {
	return g.g.probability(int64(now), class-1)
}

// Calm reports whether calls go through without a look at the clock.
func (g *Gate) Calm() bool { return g.g.until.Load() == 0 }

// Marks returns how many buckets are remembered.
func (g *Gate) Marks() int {
	n := 0
	for m := g.g.window.newest.Load(); m != nil; m = m.older.Load() {
		n++
	}
	return n
}

// Probability returns the probability by numbers alone.
func Probability(k float64, requests [classes]uint64, accepted uint64, class int) float64 {
	c := counts{requests, accepted}
	return c.probability(k, class-1)
}
