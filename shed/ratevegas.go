package shed

import (
	"math"
	"math/rand/v2"
	"time"
)

// RateVegas is Vegas on a baseline that is learned in health only, with a claim on the
// rate that could be served then. It is the default. See the package's documentation for
// the idea; what can be told apart, and what can't, is in the comments of its steps.
func RateVegas(c Config) Algorithm {
	v := &rateVegas{
		limit:      float64(c.Initial),
		maxLatency: c.MaxLatency.Seconds(),
		base:       c.Learned.Latency.Seconds(),
		good:       c.Learned.Rate,
		credible:   1,
		grow:       growLater,
		random:     rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}
	if v.base > 0 {
		v.age = young
	}
	return v
}

// rateVegas counts in seconds and in calls a second.
type rateVegas struct {
	limit      float64
	maxLatency float64 // 0: none
	random     *rand.Rand

	// What was learned in health.
	base float64 // how long calls take; 0: not known
	good float64 // the most that was served; 0: not known
	age  float64
	well float64 // for how long it has been well

	// Smoothed.
	throughput, arrivals, latency float64
	peak                          float64 // calls under way

	grow float64 // by which the limit grows next
	bad  int     // windows in a row with too long a queue

	claim    *claim  // nil: none
	credible float64 // how much of good there was when it was claimed last
	backoff  int     // exponent of the wait for the next claim
	retryIn  float64
}

const (
	growFirst = 1.25 // after a window in which the limit was not reached
	growLater = 1.05

	// How long the first windows are taken as they come. The very first may be far off.
	young = 5.0
)

// view is a window with what follows from it.
type view struct {
	Window

	t, n, x, a, r float64 // length, calls under way, ended and arrived in a second, latency

	over   bool    // something says so that knows
	knee   float64 // calls under way that the throughput takes at the base's latency
	head   float64 // how many more there should be
	queue  float64 // how many more there are
	target float64
}

// Update implements [Algorithm].
func (v *rateVegas) Update(w Window) int {
	if w.Completed+w.Overloaded == 0 {
		return v.rounded()
	}
	o := v.look(w)
	switch {
	case !w.Limited():
		v.unlimited(o)
	case o.over:
		v.overloaded(o)
	case v.claim != nil:
		v.claiming(o)
	case v.mayClaim(o):
		v.begin(o)
	default:
		v.vegas(o)
	}
	if w.Limited() {
		v.well = 0
		v.learnFaster(o, .1)
	}
	v.limit = max(1, min(v.limit, mostCalls))
	return v.rounded()
}

func (v *rateVegas) rounded() int { return int(math.Round(v.limit)) }

func (v *rateVegas) look(w Window) *view {
	t := w.Length.Seconds()
	o := &view{
		Window: w, t: t, n: w.Mean,
		x: float64(w.Completed+w.Overloaded) / t,
		a: float64(w.Arrived) / t,
	}
	o.r = o.n / o.x
	o.over = w.Overloaded*100 > w.Completed+w.Overloaded ||
		v.maxLatency > 0 && o.r > v.maxLatency
	if v.latency == 0 {
		v.throughput, v.arrivals, v.latency = o.x, o.a, o.r
	}
	if v.base == 0 {
		v.base = o.r
	}
	v.throughput += over(t, 1) * (o.x - v.throughput)
	v.arrivals += over(t, .4) * (o.a - v.arrivals)
	v.latency += over(t, 1.5) * (o.r - v.latency)
	v.peak = max(o.n, v.peak*math.Exp(-t/10))
	v.good *= math.Exp(-t / 86400) // what was possible a day ago may not be now
	v.retryIn -= t
	v.age += t
	// A window with a few long calls has few that end. To go by it alone would cut the limit
	// for no reason.
	o.knee = max(o.x, min(v.throughput, 1.5*o.x)) * v.base
	o.head = head(o.knee, w.Variation)
	o.queue, o.target = o.n-o.knee, o.knee+o.head
	return o
}

// over is how much of a change to follow after t, for a mean over about tau.
func over(t, tau float64) float64 { return 1 - math.Exp(-t/tau) }

// head is how many calls more than k keep k of them busy, for arrivals at random. More do
// so more surely, and have each wait for longer. With a queue in front a quarter is
// enough, and less where many even out. Calls that differ much need more.
func head(k, variation float64) float64 {
	f := min(1.6, max(.8, math.Sqrt((1+variation)/2)))
	return max(1, f*min(.25*k, .9*math.Sqrt(k)))
}

// calm reports whether no more is asked for than has been served in health.
func (v *rateVegas) calm() bool { return v.good == 0 || v.arrivals <= 1.2*v.good }

// unlimited is for a window in which more calls would not have been let through: the only
// ones that say how long calls take while they are not in each other's way.
func (v *rateVegas) unlimited(o *view) {
	healthy := !o.over && (v.latency < 1.2*v.base || v.age < young)
	if v.claim != nil {
		v.claim.drift(v.base * o.t)
	}
	if healthy {
		v.recover(o)
	}
	if !o.over && v.throughput*v.latency < .7*v.limit {
		v.learn(o)
	}
	if !v.calm() && v.latency > 1.2*v.base {
		// More than ever was served well, and it shows: the limit should not be far off when
		// it is needed.
		v.limit = min(v.limit, max(1.5*o.target, o.n+2))
	}
	if v.limit > 3*v.peak+10 { // what is not used proves nothing
		v.limit *= math.Exp(-o.t / 5)
	}
	v.bad, v.grow = 0, growFirst
}

// recover notes a window of good health.
func (v *rateVegas) recover(o *view) {
	v.good = max(v.good, v.throughput)
	v.claim = nil
	if v.well += o.t; v.well > 10 {
		v.credible = min(1, v.credible+.02)
	}
	if v.well > 30 && v.backoff > 0 {
		v.backoff--
		v.well = 10
	}
}

// learn follows the latency of good health: down fast; up by a part of what may be
// chance; and up by more only if little is asked for. A base that follows whatever is
// measured would rise with every overload, until the overload is the base.
func (v *rateVegas) learn(o *view) {
	switch {
	case v.age < young:
		v.base += max(.1, min(1, o.t/v.age)) * (o.r - v.base)
	case v.latency < .8*v.base:
		v.learnFaster(o, .3)
	case v.latency < 1.2*v.base && (v.calm() || o.r < v.base):
		// As far to the one side as to the other, or the base would end up too low.
		c := 2 * math.Sqrt(o.Variation/float64(o.Completed))
		within := min(v.base*(1+c), max(v.base*(1-c), o.r))
		v.base += min(.1, o.t/2) * (within - v.base)
	case v.calm() && v.arrivals < .7*v.good:
		v.base += min(.1, o.t/60) * (min(v.latency, 2*v.base) - v.base)
	}
}

// learnFaster follows calls that have become faster.
func (v *rateVegas) learnFaster(o *view, most float64) {
	if !o.over && v.latency < .8*v.base {
		v.base += min(most, o.t) * (v.latency - v.base)
	}
}

// overloaded is for a window in which calls ran out of time, or were refused by something
// behind. Calls that have less time than they take even in health do so at any limit, so
// it does not go below what health takes.
func (v *rateVegas) overloaded(o *view) {
	if v.claim != nil {
		v.disprove(o)
	}
	floor := o.target
	if o.r < .8*v.base { // they were refused at once: that is no throughput
		floor *= float64(o.Completed) / float64(o.Completed+o.Overloaded)
	}
	v.limit = min(v.limit, max(floor, .7*v.limit))
}

// vegas has the queue be as long as the head is. Of a queue that is too long the first
// window is let pass if no more is asked for than usual: bursts come by chance.
func (v *rateVegas) vegas(o *view) {
	switch {
	case o.queue > 1.15*o.head:
		v.bad++
		least := .5
		if v.calm() {
			if least = .7; v.bad == 1 {
				return
			}
		}
		floor := o.target
		if v.stuck(o) {
			// What is stuck ends seldom, so that there seem to be few calls worth their slots,
			// and fewer after each cut. What health took does no harm to what does nothing.
			floor = max(floor, v.good*v.base+o.head)
		}
		v.limit = min(v.limit, max(floor, least*v.limit))
		v.grow = growLater
	case o.queue < .85*o.head && o.n > v.limit/2: // else it was not the limit
		v.bad = 0
		v.limit = v.limit*v.grow + .5
		v.grow = growLater
	default:
		v.bad = 0
	}
}

// Snapshot returns what was learned in health.
func (v *rateVegas) Snapshot() Snapshot {
	return Snapshot{Latency: time.Duration(v.base * float64(time.Second)), Rate: v.good}
}
