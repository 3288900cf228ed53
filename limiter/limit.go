package limiter

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Limit is how much a bucket lets through: Rate tokens a second in the long run, and up
// to Burst at once when it has been idle. In any stretch of time it is at most Burst plus
// Rate times its length.
//
// The zero Limit lets nothing through, and neither does one with a Rate of 0: a limit that
// somebody forgot to load should be noticed. [rate.Inf] lets everything through, whatever
// the Burst.
type Limit struct {
	// Rate is in tokens a second; rate.Every(time.Minute) is one a minute. The time
	// that a token takes is rounded up to a sixteenth of a nanosecond: rates up to a
	// hundred million are kept to within 1 %, and none is ever exceeded. So of three a
	// second the third comes a nanosecond after the second is over.
	Rate rate.Limit

	// Burst is how many tokens the bucket holds, and the most that one call can take. It
	// must be at least 1 with a Rate that is above 0. Rate divided by ten allows for
	// arrivals that come in clumps of a tenth of a second. Where callers wait, 1 loses what
	// their timers are late, a tenth of 140 a second for example; with 5 nothing is lost.
	Burst int
}

// Validate returns an error that names every field that has no meaning, with its value,
// or nil.
func (l Limit) Validate() error {
	_, err := l.plan()
	return err
}

// String returns a limit for people, such as "100/s, burst 20" or "1 in 1m0s, burst 5".
func (l Limit) String() string {
	switch {
	case l.Rate >= rate.Inf:
		return "no limit"
	case l.Rate == 0:
		return "nothing"
	case l.Rate > 0 && l.Rate < 1:
		every := time.Duration(math.Round(1e9 / float64(l.Rate)))
		return fmt.Sprintf("1 in %v, burst %d", every, l.Burst)
	}
	return fmt.Sprintf("%g/s, burst %d", float64(l.Rate), l.Burst)
}

// ticks are a sixteenth of a nanosecond: fine enough for the time between two tokens of
// a fast limit.
const (
	ticksPerNano   = 16
	ticksPerSecond = ticksPerNano * int64(time.Second)

	// maxTicks is the longest that a bucket may take to fill: two years and a quarter.
	// Sums of two such times and of a limiter's age then fit into an int64.
	maxTicks = int64(1) << 60

	// maxAge is nine years. There time stands still: it lets nothing more through, where
	// a sum that overflows might let through anything.
	maxAge = int64(1) << 62
)

// ticks converts a time since the base.
func ticks(d time.Duration) int64 {
	return min(max(0, int64(d)), maxAge/ticksPerNano) * ticksPerNano
}

// duration converts ticks, rounding up: who waits for so long has waited for long enough.
func duration(ticks int64) time.Duration {
	return time.Duration((ticks + ticksPerNano - 1) / ticksPerNano)
}

// plan is a Limit made ready. The generic cell rate algorithm needs two numbers, and
// those of the two limits that are not rates make it do the right thing by themselves:
// without a burst no n fits, and what costs nothing always does.
type plan struct {
	limit Limit
	cost  int64 // of a token; 0: everything passes
	full  int64 // of a burst
	burst int64 // 0: nothing passes
}

func (l Limit) plan() (plan, error) {
	p := plan{limit: l}
	r := float64(l.Rate)
	switch {
	case l.Rate >= rate.Inf && l.Burst >= 0:
		p.burst = math.MaxInt64
		return p, nil
	case l.Rate == 0 && l.Burst >= 0:
		return p, nil
	case r > 0 && l.Burst > 0:
		// Not to the nearest: a rate that is a little too high in the long run is one
		// that was exceeded. But the last two bits are nobody's rate: without them one
		// in five of what rate.Every returns would be a tick too slow, and who comes
		// on the dot would be refused.
		cost := float64(ticksPerSecond) / r
		cost = math.Ceil(cost - cost*0x1p-51)
		if cost*float64(l.Burst) <= float64(maxTicks) {
			p.cost, p.burst = int64(cost), int64(l.Burst)
			p.full = p.cost * p.burst
			return p, nil
		}
	}
	return p, l.invalid()
}

// invalid names what is wrong with a limit for which there is no plan.
func (l Limit) invalid() error {
	var bad []string
	rateOK := l.Rate >= 0
	if !rateOK { // or not a number
		bad = append(bad, fmt.Sprintf("Rate is %v, but must not be negative", float64(l.Rate)))
	}
	switch {
	case l.Burst < 0:
		bad = append(bad, fmt.Sprintf("Burst is %d, but must not be negative", l.Burst))
	case l.Burst == 0 && rateOK:
		bad = append(bad, fmt.Sprintf(
			"Burst is 0, but must be at least 1 with a Rate of %v", float64(l.Rate)))
	case rateOK:
		bad = append(bad, fmt.Sprintf("Burst is %d at a Rate of %v, but must not take more than "+
			"two years to fill", l.Burst, float64(l.Rate)))
	}
	return errors.New("limiter: Limit: " + strings.Join(bad, "; "))
}

// Result is what a bucket says to a call.
type Result struct {
	OK      bool // the call may go on
	Granted int  // how many tokens were taken; 0 unless OK

	// Remaining is how many whole tokens are left.
	Remaining int

	// RetryAfter is when a call refused now could be let through, if no others come
	// before; [rate.InfDuration] if waiting does not help, since what was asked for is
	// more than the Burst, or nothing passes at all. It is 0 if OK.
	RetryAfter time.Duration

	// ResetAfter is when the bucket is full again if nothing more is taken.
	ResetAfter time.Duration

	Limit Limit  // what the bucket goes by
	Name  string // of the limiter that decided

	// Shadowed is whether the call would have been refused, but for Shadow.
	Shadowed bool
}

// result is what p says of an attempt to take n that left a debt of so many ticks.
func (p *plan) result(name string, debt, n int64, ok bool) (r Result) {
	r.OK, r.Name, r.Limit = ok, name, p.limit
	r.Remaining, r.ResetAfter = p.remaining(debt), duration(debt)
	if ok {
		r.Granted = int(n)
		return r
	}
	r.RetryAfter = p.wait(debt, n, 0)
	return r
}

// remaining returns how many whole tokens a debt leaves.
func (p *plan) remaining(debt int64) int {
	switch {
	case p.burst == 0:
		return 0
	case p.cost == 0:
		return math.MaxInt
	}
	return int(max(0, p.full-debt) / p.cost)
}

// wait returns in how long n can be taken, behind others who wait for ahead tokens.
func (p *plan) wait(debt, n, ahead int64) time.Duration {
	switch {
	case n < 1 || n > p.burst:
		return rate.InfDuration
	case p.cost == 0:
		return 0
	case ahead > (math.MaxInt64/2-debt)/p.cost-n: // centuries
		return rate.InfDuration
	}
	return duration(max(0, debt+(n+ahead)*p.cost-p.full))
}

// Err returns nil if r is OK, else the [*LimitedError] that says the same.
func (r Result) Err() error {
	if r.OK {
		return nil
	}
	reason := RateExceeded
	if r.RetryAfter == rate.InfDuration {
		reason = Never
	}
	return &LimitedError{Name: r.Name, Reason: reason, Limit: r.Limit, after: r.RetryAfter}
}
