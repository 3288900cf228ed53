package shed

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stormjib/stormjib/internal/loadsim"
)

// scenario is a service under a load, in virtual time.
type scenario struct {
	name    string
	cfg     Config
	gates   int
	backend loadsim.Backend
	length  time.Duration
	sources func() []*loadsim.Source // for each run its own

	delay func(t time.Duration) time.Duration // of a dependency; nil: none
	own   time.Duration                       // p99 of the service alone
	best  func(t time.Duration) float64       // calls a second that can be answered in time

	restartEvery, restartFrom, restartUntil time.Duration // of one replica after the other

	spans []span
}

// span is the part of a run that is measured, with what is wanted of it and what is asserted.
type span struct {
	name     string
	from, to time.Duration
	want     map[measure]goal
}

// measure is what is measured of a span.
type measure string

const (
	goodput measure = "goodput" // answers within four times the service's own p99, of the best
	p99     measure = "p99"     // of what was answered, of the service's own
	rejects measure = "rejects" // of what came
	limits  measure = "limits"  // the sum of all, in workers
	wasted  measure = "wasted"  // answers after the deadline, of all
	minimum measure = "minimum" // the lowest limit
	refusal measure = "refusal" // median time to refuse, in ms
)

// class is the share of a class that was answered in time.
func class(c Criticality) measure { return measure(c.String()) }

// tenant is the share of a tenant that was answered in time.
func tenant(name string) measure { return measure("tenant " + name) }

// goal is what a measure should reach and what is asserted of it, in the two disciplines: first
// come first served, and processor sharing. Where a target is met, that is asserted.
type goal struct {
	target   [2]float64
	asserted [2]float64 // with a margin for other seeds; 0: the target
	printed  bool       // and not asserted, since seeds differ too much
}

func both(f float64) goal                    { return goal{target: [2]float64{f, f}} }
func each(fcfs, ps float64) goal             { return goal{target: [2]float64{fcfs, ps}} }
func (g goal) reached(fcfs, ps float64) goal { g.asserted = [2]float64{fcfs, ps}; return g }
func (g goal) open() goal                    { g.printed = true; return g }

// bound is what is asserted in a discipline.
func (g goal) bound(discipline int) float64 {
	return cmp.Or(g.asserted[discipline], g.target[discipline])
}

// atLeast reports whether a measure should be high.
func (m measure) atLeast() bool {
	switch m {
	case p99, rejects, limits, wasted, refusal:
		return false
	}
	return true
}

// met reports whether a value is as good as a bound.
func (m measure) met(value, bound float64) bool {
	if m.atLeast() {
		return value >= bound
	}
	return value <= bound
}

// tally is what was seen of a span.
type tally struct {
	arrived, good, refused, late int
	latencies, refusals          []float64 // in units of the service's own p99; ms
	limits, looks, least         float64

	came, served map[measure]int // by class and tenant
}

func (t *tally) add(key measure, served bool) {
	if t.came == nil {
		t.came, t.served = map[measure]int{}, map[measure]int{}
	}
	if served {
		t.served[key]++
	} else {
		t.came[key]++
	}
}

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[int(q*float64(len(v)-1))]
}

// run simulates the scenario and returns the measures of each span.
func (sc *scenario) run(
	algorithm func(Config) Algorithm, shared bool, seed uint64,
) []map[measure]float64 {
	sim := &loadsim.Sim{Backend: sc.backend, Sources: sc.sources()}
	sim.Backend.Shared = shared
	random := rand.New(rand.NewPCG(seed, 2))
	config := func() Config {
		cfg := sc.cfg
		cfg.Algorithm = func(c Config) Algorithm {
			a := algorithm(c)
			if r, ok := a.(*rateVegas); ok {
				r.random = rand.New(rand.NewPCG(random.Uint64(), 3))
			}
			return a
		}
		return cfg
	}
	var gates []*simGate
	for range max(1, sc.gates) {
		gates = append(gates, addGate(sim, config()))
	}
	tallies := make([]tally, len(sc.spans))
	in := func(t time.Duration, f func(*tally)) {
		for i, s := range sc.spans {
			if t >= s.from && t < s.to {
				f(&tallies[i])
			}
		}
	}
	sim.Observe = func(r *loadsim.Request, what loadsim.Event, now time.Duration) {
		sc.observe(r, what, now, in)
	}
	sim.Every = 100 * time.Millisecond
	next, restarts := sc.restartFrom, 0
	sim.Each = func(now time.Duration) {
		sum := 0.0
		for _, g := range gates {
			sum += float64(g.Limit())
		}
		sum /= float64(max(1, sc.backend.Workers(now)))
		in(now, func(t *tally) {
			if t.limits += sum; t.looks == 0 || sum < t.least {
				t.least = sum
			}
			t.looks++
		})
		if sc.restartEvery > 0 && now >= next && now < sc.restartUntil {
			gates[restarts%len(gates)].restart(now, config())
			next, restarts = next+sc.restartEvery, restarts+1
		}
	}
	sim.Run(sc.length, seed)
	result := make([]map[measure]float64, len(tallies))
	for i := range tallies {
		result[i] = sc.measures(&tallies[i], sc.spans[i])
	}
	return result
}

func (sc *scenario) observe(
	r *loadsim.Request, what loadsim.Event, now time.Duration, in func(time.Duration, func(*tally)),
) {
	own := sc.own
	if sc.delay != nil {
		own += sc.delay(now)
	}
	byClass, byTenant := class(Criticality(r.Class)), tenant(fmt.Sprint(r.Tenant))
	if r.Tenant == 0 {
		byTenant = ""
	}
	switch what {
	case loadsim.Admitted:
		if sc.delay != nil {
			r.Delay += sc.delay(now)
		}
	case loadsim.Arrived:
		in(now, func(t *tally) {
			t.arrived++
			t.add(byClass, false)
			t.add(byTenant, false)
		})
	case loadsim.Refused:
		in(now, func(t *tally) {
			t.refused++
			t.refusals = append(t.refusals, float64(now-r.Arrived)/1e6)
		})
	case loadsim.Completed:
		in(now, func(t *tally) {
			latency := now - r.Arrived
			if r.Outcome == loadsim.OK && !r.Detached {
				t.latencies = append(t.latencies, float64(latency)/float64(own))
			}
			switch {
			case r.Deadline > 0 && now > r.Deadline:
				t.late++
			case latency <= 4*own || r.Detached:
				t.good++
				t.add(byClass, true)
				t.add(byTenant, true)
			}
		})
	}
}

func (sc *scenario) measures(t *tally, s span) map[measure]float64 {
	const step = 100 * time.Millisecond
	best := 0.0
	for at := s.from; at < s.to; at += step {
		best += sc.best(at) * step.Seconds()
	}
	m := map[measure]float64{
		goodput: float64(t.good) / best,
		p99:     quantile(t.latencies, .99),
		rejects: float64(t.refused) / float64(max(1, t.arrived)),
		limits:  t.limits / t.looks,
		minimum: t.least,
		wasted:  float64(t.late) / float64(max(1, t.arrived)),
		refusal: quantile(t.refusals, .5),
	}
	for key, n := range t.came {
		m[key] = float64(t.served[key]) / float64(n)
	}
	return m
}

// lognormal returns service times, and the p99 of them. Those of most services look like
// this.
func lognormal(mean time.Duration, cv2 float64) (func(*rand.Rand) time.Duration, time.Duration) {
	s2 := math.Log(1 + cv2)
	mu, s := math.Log(float64(mean))-s2/2, math.Sqrt(s2)
	return func(r *rand.Rand) time.Duration {
		return time.Duration(math.Exp(mu + s*r.NormFloat64()))
	}, time.Duration(math.Exp(mu + 2.3263*s))
}

// stepped returns a rate that changes at given times: rate, time, rate, time, rate.
func stepped(values ...any) func(time.Duration) float64 {
	return func(t time.Duration) float64 {
		i := 0
		for i+1 < len(values) && t >= values[i+1].(time.Duration) {
			i += 2
		}
		return values[i].(float64)
	}
}
