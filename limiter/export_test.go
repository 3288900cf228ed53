package limiter

import "time"

// Level is the algorithm, for tests that give it the time in ticks.
type Level struct{ level }

// What tests of the algorithm need to know of it.
const (
	TicksPerSecond = ticksPerSecond
	TicksPerNano   = ticksPerNano
	MaxAge         = maxAge
)

// NewLevel returns a full bucket.
func NewLevel(l Limit) (*Level, error) {
	plan, err := l.plan()
	return &Level{level{plan: plan}}, err
}

// Ticks converts a time since the base.
func Ticks(d time.Duration) int64 { return ticks(d) }

// Take takes n at a time.
func (v *Level) Take(now, n int64) (debt int64, ok bool) { return v.take(now, n) }

// Close is what SetLimit does to a level that it replaces.
func (v *Level) Close() { v.theoretical.Swap(closed) }

// Cost is how many ticks a token takes.
func (v *Level) Cost() int64 { return v.cost }

// Refund is what All does when a later bucket refuses what l granted with r.
func (l *Limiter) Refund(r Result) { l.Bucket().refund(r) }
