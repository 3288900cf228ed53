package bulkhead

import "time"

// DrainRate is the algorithm behind FullError.RetryAfter, for its table.
type DrainRate struct{ rate drainRate }

// Refused notes a refusal, and how many calls had ended by then.
func (d *DrainRate) Refused(now time.Duration, calls uint64) { d.rate.refused(int64(now), calls) }

// After returns how long n calls will take to end.
func (d *DrainRate) After(n int64) time.Duration { return d.rate.after(n) }

// EndedCallsWrap is the number at which the count of ended calls begins again.
const EndedCallsWrap = 1 << 64 / oneCall

// HoldEstimate is what somebody does who is just making a new estimate, until the
// function that it returns is called.
func (b *Bulkhead) HoldEstimate() (release func()) {
	b.drained.mu.Lock()
	return b.drained.mu.Unlock
}
