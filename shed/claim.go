package shed

import "math"

// claim is an attempt to serve the rate of better times at today's latency.
//
// When latency has risen and calls are refused, either the service is saturated, or
// something that it waits for got slow. One replica of many that share a backend cannot
// tell: whatever it does to its own limit, all that it sees is the same in both cases. If
// all of them then try whether more calls bring more, it does for each, at the cost of
// the others, and their limits rise until nothing works any more.
//
// So what is claimed is a rate. All rates together cannot be more than what the backend
// can do: if the claims are, some replica does not get its own, sees that, and drops it.
// If they are not, L = rate * latency makes the sum of all limits smaller or leaves it as
// it is. And in a plain overload the rate that is claimed is no more than what is served,
// so nothing is tried at all.
type claim struct {
	windows   int
	n, x, r   float64 // of the window that it began with
	calls     float64 // that ended in it
	reference float64 // latency that it is made for

	asked, got, ended float64 // since the limit was all that is claimed
	satisfied         int
}

const (
	// Calls that take more than ten times as long as in health are stuck rather than slow.
	// Without a bound like this there is none at all: a few replicas that are served at the
	// cost of the others keep up with any latency.
	slowest = 10

	fewRefused = 20   // one in so many
	drifting   = 0.15 // of the base in a second: a dependency that gets slower by and by
	raise      = 2    // how fast the limit goes where it should
)

// mayClaim reports whether a claim is worth a try: what was served in health would take
// more than the limit, and is asked for, and is not served. One window can be chance.
func (v *rateVegas) mayClaim(o *view) bool {
	rate := v.credible * v.good
	short := o.x < .9*min(o.a, rate)
	slow := o.queue > 1.15*o.head || o.x < .25*min(o.a, rate)
	return v.maxLatency == 0 && v.retryIn <= 0 && short && slow &&
		rate*o.r > 1.15*o.target && !v.stuck(o)
}

func (v *rateVegas) stuck(o *view) bool { return o.Median.Seconds() > slowest*v.base }

func (v *rateVegas) begin(o *view) {
	if v.bad++; v.bad < 2 {
		v.limit = max(o.target, .7*v.limit, min(v.limit, v.good*v.base+o.head))
		return
	}
	v.bad, v.credible = 0, 1
	v.claim = &claim{n: o.n, x: o.x, r: o.r, calls: o.x * o.t, reference: o.r}
	v.limit = min(v.good*o.r+o.head, raise*v.limit)
}

// claiming goes on with a claim, or drops it.
func (v *rateVegas) claiming(o *view) {
	c := v.claim
	c.windows++
	if c.windows == 1 { // it may have been getting slower just then
		c.reference = max(c.reference, min(o.r, 1.5*c.r))
	}
	rate := v.credible * v.good
	full := rate * min(o.r, 1.25*c.reference)
	if o.Refused*fewRefused <= o.Arrived {
		// Next to all is served, so there is no overload: it may get slower, by and by, and
		// have some more to spare.
		c.drift(v.base * o.t)
		full += max(o.head, head(full, o.Variation))
	} else {
		full += o.head
	}
	if v.stuck(o) || c.windows > 1 && c.slower(o) || c.inVain(o, rate) ||
		v.limit >= .9*full && c.short(o, rate) {
		v.disprove(o)
		return
	}
	if full < o.target {
		v.claim = nil
		return
	}
	v.outgrow(o, rate)
	v.limit = min(full, raise*v.limit)
}

// drift allows for calls that take a little longer than before.
func (c *claim) drift(base float64) { c.reference += drifting * base }

// slower reports whether calls take much longer than when it began: what is saturated
// gets slower with each call that is let in.
func (c *claim) slower(o *view) bool {
	chance := math.Sqrt(o.Variation / float64(max(1, o.Completed)))
	return o.r > 1.25*c.reference*(1+chance)
}

// inVain reports whether more calls were under way, and not more of them done.
func (c *claim) inVain(o *view, rate float64) bool {
	more, done := math.Log(o.n/c.n), math.Log(o.x/c.x)
	// The less calls differ, the less does the number of them that end by chance. And calls
	// come in bursts.
	chance := 1.5 * math.Sqrt((1+o.Variation)/2*(1/c.calls+1/(o.x*o.t)))
	return o.x < .85*min(o.a, rate) && more > .3 && done+chance < .5*more
}

// short reports whether the limit is what the rate should take, and it does not.
func (c *claim) short(o *view, rate float64) bool {
	c.got += o.x * o.t
	c.asked += min(o.a, rate) * o.t
	c.ended += float64(o.Completed)
	// The longer it has been watched, the less of what is missing can be chance.
	missing := max(.05, min(.15, 2/math.Sqrt(c.ended)))
	return c.ended > 60 && c.got < (1-missing)*c.asked
}

// outgrow lets the rate grow, slowly, if what is claimed is served, is not slower, and
// more is asked for: it may be that more was possible all the time.
func (v *rateVegas) outgrow(o *view, rate float64) {
	c := v.claim
	if o.x > .95*rate && o.r < 1.1*c.reference && o.a > 1.05*rate {
		if c.satisfied++; c.satisfied > 5 {
			v.good *= 1 + .01*o.t
		}
		return
	}
	c.satisfied = max(0, c.satisfied-1)
}

// disprove drops a claim, and what it has raised the limit by. The next one is made after
// 4 s, 16 s, and so on to 17 minutes, give or take a half, and only if less is served
// than now.
func (v *rateVegas) disprove(o *view) {
	v.limit = max(o.target, min(.5*v.limit, v.claim.n))
	v.claim = nil
	v.credible = min(v.credible, .9*o.x/v.good)
	v.retryIn = 4 * math.Pow(2, float64(v.backoff)) * (.5 + v.random.Float64())
	v.backoff = min(8, v.backoff+2)
}
