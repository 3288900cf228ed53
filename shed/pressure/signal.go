package pressure

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Signal measures one resource. It comes from [Memory], [CPU] or [Scheduler], and is for
// any number of goroutines. It has no goroutine and no timer, and nothing to close.
type Signal struct {
	cfg  Config
	base time.Time

	next  atomic.Int64  // when it is polled again
	level atomic.Uint64 // the bits of a float64

	mu     sync.Mutex // held by the one who polls; nobody waits for that but Stats
	source source
	value  float64
	off    string
}

// A source is what a signal measures. It has no lock and no clock. It returns why it
// cannot tell, and then 0, or "".
type source interface {
	sample(now time.Duration) (value float64, off string)
}

// The time between polls. Nothing that is measured here says more when asked more often:
// a quota's period is as long.
const every = 100 * time.Millisecond

func newSignal(cfg Config, s source) *Signal {
	return &Signal{cfg: cfg, base: time.Now(), source: s}
}

// Level returns the level, from 0, calm, to 1, saturated. The method value is what other
// packages take as a signal. It costs a reading of the clock, allocates nothing, and
// every tenth of a second measures.
func (s *Signal) Level() float64 {
	if now := time.Since(s.base); int64(now) >= s.next.Load() && s.mu.TryLock() {
		s.poll(now)
		s.mu.Unlock()
	}
	return math.Float64frombits(s.level.Load())
}

// poll measures, unless another has just done so. The lock is held.
func (s *Signal) poll(now time.Duration) {
	if int64(now) < s.next.Load() {
		return
	}
	s.next.Store(int64(now + every))
	s.value, s.off = s.source.sample(now)
	level := clamp((s.value - s.cfg.Start) / (s.cfg.Full - s.cfg.Start))
	s.level.Store(math.Float64bits(level))
}

// clamp returns x as a level. What is not a number is none.
func clamp(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return max(0, min(x, 1))
}

// Stats is what a signal knows of itself at one moment.
type Stats struct {
	Name  string  // Config.Name
	Level float64 // see [Signal.Level]

	// Value is what was measured, in the terms of Config.Start and Full. It is there below
	// Start too, so that one can see what is usual.
	Value float64

	// Off is why the signal measures nothing, or empty if it does.
	Off string
}

// Stats returns a snapshot, of a new poll if it is time for one. It is for exporters and
// for a look after the start.
func (s *Signal) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.poll(time.Since(s.base))
	return Stats{
		Name:  s.cfg.Name,
		Level: math.Float64frombits(s.level.Load()),
		Value: s.value,
		Off:   s.off,
	}
}

// Max returns a function with the highest of the levels, each taken as one from 0 to 1.
// What is not a number is taken as 0. It panics if one of them is nil.
//
// The highest, not a sum or a product: resources run out one at a time, and two that are
// half full are not one that is.
func Max(levels ...func() float64) func() float64 {
	levels = append([]func() float64(nil), levels...)
	for _, level := range levels {
		if level == nil {
			panic("pressure: Max: nil function")
		}
	}
	return func() float64 {
		highest := 0.0
		for _, level := range levels {
			highest = max(highest, clamp(level()))
		}
		return highest
	}
}

// A pause is a time without a poll after which rates and averages begin anew: what they
// would say is of then, and not of now.
const pause = 5 * time.Second

// A clock tells a source how long ago it was asked before.
type clock struct {
	last  time.Duration
	begun bool
}

// since returns the time since the last call, and false if there is nothing to go on from.
func (c *clock) since(now time.Duration) (time.Duration, bool) {
	passed, begun := now-c.last, c.begun
	c.last, c.begun = now, true
	return passed, begun && passed <= pause
}

// toward moves an average over the given time toward x, which has held for passed.
func toward(average, x float64, passed, over time.Duration) float64 {
	return average + (x-average)*float64(passed)/float64(passed+over)
}
