package redislimiter

import (
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
)

// Ticks are a sixteenth of a nanosecond, as in package limiter: whole numbers that Lua's
// doubles hold exactly for buckets that fill within six days, and to some nanoseconds for
// slower ones.
const (
	ticksPerNano   = 16
	ticksPerSecond = ticksPerNano * int64(time.Second)
)

// plan is a Limit made ready.
type plan struct {
	limit limiter.Limit
	cost  int64 // of a token, in ticks; 0: nothing to count
	full  int64 // of a burst
	burst int64 // 0: nothing passes
}

// newPlan rounds the cost as package limiter does: up, since a rate that is a little too
// high in the long run was exceeded, but for the last bits, which are nobody's rate.
func newPlan(l limiter.Limit) (plan, error) {
	if err := l.Validate(); err != nil {
		return plan{}, err
	}
	p := plan{limit: l}
	switch {
	case l.Rate >= rate.Inf:
		p.burst = math.MaxInt64
	case l.Rate > 0:
		cost := float64(ticksPerSecond) / float64(l.Rate)
		p.cost = int64(math.Ceil(cost - cost*0x1p-51))
		p.burst = int64(l.Burst)
		p.full = p.cost * p.burst
	}
	return p, nil
}

// result is what there is to say after an attempt to take n, if ok with success, that
// left a debt. Leave is what had to stay in the bucket.
func (p *plan) result(name string, debt, leave, n int64, ok bool) limiter.Result {
	r := limiter.Result{OK: ok, Name: name, Limit: p.limit}
	r.Remaining, r.ResetAfter = p.remaining(debt), duration(debt)
	switch {
	case ok:
		r.Granted = int(n)
	case n < 1 || n > p.burst:
		r.RetryAfter = rate.InfDuration
	default:
		r.RetryAfter = p.wait(debt, leave, n)
	}
	return r
}

// wait returns in how long n can be taken.
func (p *plan) wait(debt, leave, n int64) time.Duration {
	return duration(max(0, debt+n*p.cost+leave-p.full))
}

func (p *plan) remaining(debt int64) int {
	switch {
	case p.burst == 0:
		return 0
	case p.cost == 0:
		return math.MaxInt
	}
	return int(max(0, p.full-debt) / p.cost)
}

// duration converts ticks, rounding up: who waits for so long has waited for long enough.
func duration(ticks int64) time.Duration {
	return time.Duration((ticks + ticksPerNano - 1) / ticksPerNano)
}
