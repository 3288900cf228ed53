package shed

import (
	"time"
)

// Algorithm finds a limit. It is a state machine without a clock: it gets one window
// after another and answers each with the limit until the next. Calls of Update do not
// overlap.
type Algorithm interface {
	// Update returns the limit that is to hold after w.
	Update(w Window) (limit int)
}

// Window is what was measured from one update to the next, most often of some fifty calls.
type Window struct {
	Length time.Duration // above 0
	Limit  int           // that was in force
	Mean   float64       // calls under way, on average

	Completed  int // calls that were OK
	Overloaded int // calls that were Overloaded
	Arrived    int // calls that asked for a slot
	Refused    int // of those, the ones that did not get one
	Waited     int // of those, the ones that had to wait for it, or for the refusal

	// Variation is the squared coefficient of variation of latencies: 0 if all calls take
	// as long, 1 if they are exponential, more if a few take very long.
	Variation float64

	// Median is an estimate of how long most calls take. Unlike Latency it knows little of
	// the few that take very long.
	Median time.Duration
}

// Throughput returns how many calls a second were OK.
func (w Window) Throughput() float64 { return float64(w.Completed) / w.Length.Seconds() }

// Latency returns how long calls took on average, by Little's law: how many were under way,
// over how many ended in a second. Unlike a mean of those that ended it knows of those that
// have not yet. It is 0 if none ended.
func (w Window) Latency() time.Duration {
	ended := w.Completed + w.Overloaded
	if ended == 0 {
		return 0
	}
	return time.Duration(w.Mean / float64(ended) * float64(w.Length))
}

// Limited reports whether more calls would have been under way with a higher limit.
func (w Window) Limited() bool {
	return w.Refused > 0 || w.Waited > 0 || w.Mean > 0.9*float64(w.Limit)
}

// Snapshot is what a Shedder has learned of its server, to be given to the next one when it
// is restarted under load. It has no secrets and no pointers.
type Snapshot struct {
	Latency time.Duration // that calls take while all is well
	Rate    float64       // the most that was served then, in calls a second
}

// Fixed is an algorithm whose limit stays what it is: a semaphore, with the queue of a
// Shedder.
func Fixed(c Config) Algorithm { return fixed(c.Initial) }

type fixed int

func (f fixed) Update(Window) int { return int(f) }
