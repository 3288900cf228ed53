package shed

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stormjib/stormjib/internal/loadsim"
)

const second = time.Second

// service10 is what most scenarios serve: 10 ms of a worker on average, p99 49 ms.
var service10, own10 = lognormal(10*time.Millisecond, 1)

// plain is a service of c workers under a load in multiples of what they can do.
func plain(
	name string, gates, c int, load func(time.Duration) float64, peak float64, spans ...span,
) *scenario {
	capacity := float64(c) * 100
	sc := &scenario{
		name: name, gates: gates, own: own10, spans: spans,
		backend: loadsim.Backend{Workers: func(time.Duration) int { return c }},
		best:    func(t time.Duration) float64 { return min(load(t), 1) * capacity },
	}
	for _, s := range spans {
		sc.length = max(sc.length, s.to)
	}
	sc.sources = func() []*loadsim.Source {
		return []*loadsim.Source{{
			Rate:  func(t time.Duration) float64 { return load(t) * capacity },
			Peak:  peak * capacity,
			Limit: time.Second,
			Make: func(random *rand.Rand, r *loadsim.Request) {
				r.Work = service10(random)
				r.Gate = random.IntN(max(1, gates))
			},
		}}
	}
	return sc
}

// makes changes what the calls of a scenario are, on top of what they are already.
func (sc *scenario) makes(change func(random *rand.Rand, r *loadsim.Request)) *scenario {
	sources := sc.sources
	sc.sources = func() []*loadsim.Source {
		all := sources()
		for _, s := range all {
			before := s.Make
			s.Make = func(random *rand.Rand, r *loadsim.Request) {
				before(random, r)
				change(random, r)
			}
		}
		return all
	}
	return sc
}

// workers has the number of workers change with time.
func (sc *scenario) workers(n func(time.Duration) float64, at ...time.Duration) *scenario {
	before := sc.best
	whole := n(0)
	sc.backend.Workers = func(t time.Duration) int { return int(n(t)) }
	sc.backend.Changes = at
	sc.best = func(t time.Duration) float64 { return min(before(t), 100*n(t)/whole*whole) }
	return sc
}

type goals = map[measure]goal

func scenarios() []*scenario {
	return slices.Concat(steps(), dependency(), trouble(), priorities(), fleets())
}

// steps are changes of the load.
func steps() []*scenario {
	calm := span{"0.7 load", 5 * second, 30 * second, goals{rejects: both(.001)}}
	double := func(c int, want goals, few goal) *scenario {
		calm.want = goals{rejects: few}
		return plain(fmt.Sprintf("2x, c = %d", c), 1, c, stepped(.7, 30*second, 2.), 2, calm,
			span{"2x", 40 * second, 100 * second, want})
	}
	io := plain("pool of 64", 1, 64, stepped(.7, 30*second, 2.), 2, calm,
		span{"first 5 s", 30 * second, 35 * second, goals{goodput: both(.97).reached(.93, .93)}},
		span{"2x", 40 * second, 90 * second, goals{goodput: both(.98), p99: both(1.25)}})
	slow, own := lognormal(100*time.Millisecond, .25)
	io.own = own
	io.best = func(t time.Duration) float64 { return min(stepped(.7, 30*second, 2.)(t), 1) * 640 }
	sources := io.sources
	io.sources = func() []*loadsim.Source {
		s := sources()
		s[0].Rate = func(t time.Duration) float64 { return 640 * stepped(.7, 30*second, 2.)(t) }
		s[0].Peak = 1280
		return s
	}
	io.makes(func(random *rand.Rand, r *loadsim.Request) { r.Work = slow(random) })
	bimodal := plain("bimodal, 2x", 1, 8, stepped(.7/1.45, 30*second, 2./1.45), 2/1.45,
		span{"0.7 load", 5 * second, 30 * second, goals{rejects: both(.005)}},
		span{"2x", 40 * second, 100 * second, goals{goodput: both(.97)}})
	bimodal.own = 100 * time.Millisecond
	bimodal.best = func(t time.Duration) float64 {
		return 800 / 1.45 * min(1, stepped(.7, 30*second, 2.)(t))
	}
	bimodal.makes(func(random *rand.Rand, r *loadsim.Request) {
		r.Work = 5 * time.Millisecond
		if random.Float64() < .1 {
			r.Work = 100 * time.Millisecond
		}
	})
	cold := plain("cold start", 1, 8, stepped(.7), .7,
		span{"first 20 s", 0, 20 * second, nil},
		span{"after", 25 * second, 60 * second, goals{rejects: both(.001)}})
	factor := func(t time.Duration) float64 { return max(1, 6-5*t.Seconds()/20) }
	cold.best = func(t time.Duration) float64 { return min(560, 800/factor(t)) }
	cold.own = 6 * own10
	cold.makes(func(_ *rand.Rand, r *loadsim.Request) {
		r.Work = time.Duration(float64(r.Work) * factor(r.First()))
	})
	return []*scenario{
		double(8, goals{goodput: both(.98), p99: each(1.3, 1.6), refusal: both(5)},
			both(.001).reached(.002, .002)), // a burst of ten
		double(2, goals{
			goodput: both(.98).reached(.97, .97), p99: each(1.9, 2.5).reached(2.2, 2.8),
			refusal: both(5),
		}, both(.001).reached(.012, .006)),
		double(1, goals{
			goodput: both(.98).reached(.96, .93), p99: each(2.3, 3.2).reached(4.2, 6),
			refusal: both(5).reached(75, 75),
		}, both(.001).reached(.03, .025)),
		plain("10x, c = 8", 1, 8, stepped(.7, 30*second, 10.), 10,
			span{
				"first 5 s", 30 * second, 35 * second,
				goals{goodput: both(.97), p99: both(1.6).reached(1.6, 1.9)},
			},
			span{"10x", 40 * second, 60 * second, goals{goodput: both(.98), refusal: both(5)}}),
		plain("1.3x for 10 min", 1, 8, stepped(.7, 30*second, 1.3), 1.3,
			span{"minute 1", 40 * second, 90 * second, goals{goodput: both(.97)}},
			span{"minute 10", 570 * second, 630 * second, goals{goodput: both(.97)}}),
		plain("0.85, 0.95, 1.1", 1, 8, stepped(.85, 60*second, .95, 120*second, 1.1), 1.1,
			span{"0.85", 5 * second, 60 * second, goals{rejects: both(.005).reached(.013, .013)}},
			span{"0.95", 60 * second, 120 * second, goals{goodput: both(.97).reached(.95, .95)}},
			span{"1.1x", 120 * second, 180 * second, goals{goodput: both(.97)}}),
		bimodal, io, cold,
		plain("8 a second and bursts of 60", 1, 8, bursts, .6/8,
			span{"all", 5 * second, 120 * second, goals{rejects: both(0)}}),
	}
}

// bursts is a load of 8 calls a second, and of 60 for one second in ten.
func bursts(t time.Duration) float64 {
	if t%(10*second) < second {
		return 60. / 800
	}
	return 8. / 800
}

// dependency are changes of what the service has to wait for.
func dependency() []*scenario {
	shift := func(
		name string, gates, c int, before, after, ramp time.Duration, spans ...span,
	) *scenario {
		sc := plain(name, gates, c, stepped(.7), .7, spans...)
		sc.delay = func(t time.Duration) time.Duration {
			if t < 60*second {
				return before
			}
			if t < 60*second+ramp {
				part := float64(t-60*second) / float64(ramp)
				return before + time.Duration(part*float64(after-before))
			}
			return after
		}
		return sc
	}
	const ms = time.Millisecond
	steady := goals{rejects: both(.003).reached(.006, .006)}
	first := goals{rejects: both(.2)}
	return []*scenario{
		shift("dependency 20 to 200 ms", 1, 8, 20*ms, 200*ms, 0,
			span{"first 10 s", 60 * second, 70 * second, first},
			span{"30 to 60 s", 90 * second, 120 * second, steady}),
		shift("20 to 80 ms", 1, 8, 20*ms, 80*ms, 0,
			span{"first 10 s", 60 * second, 70 * second, first},
			span{"30 to 60 s", 90 * second, 120 * second, steady}),
		shift("a ramp of 60 s", 1, 8, 20*ms, 200*ms, 60*second,
			span{"steepest", 90 * second, 120 * second, goals{rejects: both(.3)}},
			span{"60 s later", 180 * second, 210 * second, steady}),
		shift("fleet: 20 to 200 ms", 6, 24, 20*ms, 200*ms, 0,
			span{"first 10 s", 60 * second, 70 * second, first},
			span{"30 to 60 s", 90 * second, 120 * second, steady}),
		shift("fleet: a ramp of 60 s", 6, 24, 20*ms, 200*ms, 60*second,
			span{"steepest", 90 * second, 120 * second, goals{rejects: both(.3)}},
			span{
				"60 s later", 180 * second, 210 * second,
				goals{rejects: both(.003).reached(.07, .04)},
			}),
	}
}

// trouble is what goes wrong inside of the service.
func trouble() []*scenario {
	loss := plain("8 to 3 workers", 1, 8, stepped(.8), .8,
		span{"first 5 s", 60 * second, 65 * second, goals{goodput: both(.96).reached(.96, .93)}},
		span{"after", 65 * second, 120 * second, goals{goodput: both(.96)}}).
		workers(stepped(8., 60*second, 3.), 60*second)
	storm := plain("retry storm", 1, 8, stepped(.85), .85,
		span{"before", 20 * second, 60 * second, goals{goodput: both(.98)}},
		span{"1 s after", 71 * second, 90 * second, goals{goodput: both(.98)}}).
		workers(stepped(8., 60*second, 2., 70*second, 8.), 60*second, 70*second)
	sources := storm.sources
	storm.sources = func() []*loadsim.Source {
		s := sources()
		s[0].Limit, s[0].Tries, s[0].Wait = second/2, 4, 100*time.Millisecond
		return s
	}
	stall := func(name string, load float64, every time.Duration, target goal) *scenario {
		sc := plain(name, 1, 8, stepped(load), load,
			span{"all", 10 * second, 120 * second, goals{rejects: target}})
		sc.backend.StallEvery, sc.backend.StallFor = every, 60*time.Millisecond
		sc.own += 60 * time.Millisecond
		return sc
	}
	polls := func(name string, detached bool, target goal) *scenario {
		return plain(name, 1, 8, stepped(.7), .7,
			span{"after a minute", 60 * second, 180 * second, goals{rejects: target}}).
			makes(func(random *rand.Rand, r *loadsim.Request) {
				if random.Float64() < .03 {
					r.Delay, r.Detached = 10*second, detached
				}
			})
	}
	failing := plain("half fail in 1 ms, then none", 1, 8, stepped(.7, 60*second, 2.), 2,
		span{"failing", 5 * second, 60 * second, goals{rejects: both(.001)}},
		span{"2x", 60 * second, 70 * second, goals{goodput: both(.95), p99: each(1.9, 2.6)}}).
		makes(func(random *rand.Rand, r *loadsim.Request) {
			if r.First() < 60*second && random.Float64() < .5 {
				r.Outcome, r.Work = loadsim.Failed, time.Millisecond
			}
		})
	failing.best = func(t time.Duration) float64 { return 800 * stepped(.7, 60*second, 1.)(t) }
	hang := plain("all time out for 30 s", 1, 8, stepped(.7), .7,
		span{"hanging", 70 * second, 90 * second, goals{minimum: both(1. / 8)}},
		span{"5 s after", 96 * second, 120 * second, goals{goodput: both(.97).reached(.94, .94)}}).
		makes(func(_ *rand.Rand, r *loadsim.Request) {
			if t := r.First(); t >= 60*second && t < 90*second {
				r.Delay, r.Work, r.Outcome = second, 0, loadsim.Timeout
			}
		})
	return []*scenario{
		loss, storm,
		stall("60 ms stops each second", .6, second, both(.001).reached(.013, .013)),
		stall("a quota: 60 of 100 ms", .24, 100*time.Millisecond, both(.01)),
		polls("3 % long polls, StopClock", true, both(.01)),
		polls("3 % long polls", false, both(.05).open()),
		failing, hang,
	}
}

// priorities are about who gets what there is.
func priorities() []*scenario {
	const c, h, m, l = CriticalPlus, Critical, SheddablePlus, Sheddable
	mix := plain("priority mix at 2x", 1, 8, stepped(2.), 2,
		span{"2x", 20 * second, 100 * second, goals{
			goodput: both(.97), class(c): both(1).reached(.999, .99),
			class(h): both(.995).reached(.995, .99), class(m): both(.6),
		}}).
		makes(func(random *rand.Rand, r *loadsim.Request) {
			switch f := random.Float64(); {
			case f < .1:
				r.Class = int(c)
			case f < .3:
				r.Class = int(h)
			case f < .6:
				r.Class = int(m)
			default:
				r.Class = int(l)
			}
		})
	alone := plain("critical alone at 1.5x", 1, 8, stepped(1.5), 1.5,
		span{"1.5x", 20 * second, 80 * second, goals{goodput: both(.97)}})
	long := plain("lowest class 100 times longer", 1, 8, stepped(.5), .5,
		span{
			"all", 20 * second, 120 * second,
			goals{class(Critical): both(.995).reached(.93, .85)},
		}).
		makes(func(_ *rand.Rand, r *loadsim.Request) { r.Class = int(Critical) })
	sources := long.sources
	long.sources = func() []*loadsim.Source {
		return append(sources(), &loadsim.Source{
			Rate: func(time.Duration) float64 { return 8 }, Peak: 8, Limit: 30 * second,
			Make: func(random *rand.Rand, r *loadsim.Request) {
				r.Work, r.Class = 100*service10(random), int(BestEffort)
			},
		})
	}
	long.best = func(time.Duration) float64 { return 400 }
	noisy := plain("noisy tenant", 1, 8, stepped(5.45), 5.45,
		span{"all", 20 * second, 80 * second, goals{
			tenant("1"): both(.99), tenant("9"): both(.99), tenant("10"): both(.97 * .55 / 5),
		}}).
		makes(func(random *rand.Rand, r *loadsim.Request) {
			r.Tenant = 10
			if f := random.Float64(); f < .45/5.45 {
				r.Tenant = 1 + int(f/(.05/5.45))
			}
		})
	deadline := plain("half have 20 ms, at 2x", 1, 8, stepped(2.), 2,
		span{"all", 20 * second, 80 * second, goals{wasted: both(.05)}}).
		makes(func(random *rand.Rand, r *loadsim.Request) {
			if random.Float64() < .5 {
				r.Deadline = r.First() + 20*time.Millisecond
				r.Class = int(Critical)
			}
		})
	return []*scenario{mix, alone, long, noisy, deadline}
}

// fleets are replicas that share a backend, and know nothing of each other. They have been
// well before.
func fleets() []*scenario {
	well := func(x float64) func(time.Duration) float64 { return stepped(.7, 30*second, x) }
	limit := func(p99FCFS, p99PS float64) goals {
		return goals{goodput: both(.97), p99: each(p99FCFS, p99PS), limits: both(3)}
	}
	unknown := goals{ // they take it for normal
		goodput: both(.97).reached(.95, .94), p99: each(1.5, 2).open(), limits: both(3).open(),
	}
	over := func(x float64) *scenario {
		return plain(fmt.Sprintf("fleet: %.1fx for 6 min", x), 6, 24, well(x), x,
			span{"minute 1", 40 * second, 90 * second, limit(1.5, 2)},
			span{"minute 6", 330 * second, 390 * second, limit(1.5, 2)})
	}
	half := plain("fleet: half lost for 2 min", 6, 24, well(1.3), 1.3,
		span{"first 10 s", 90 * second, 100 * second, goals{goodput: both(.97)}},
		span{
			"lost", 100 * second, 210 * second,
			goals{goodput: both(.97), p99: each(1.7, 3).reached(2.3, 4.6)},
		},
		span{"after", 220 * second, 300 * second, limit(1.5, 2)}).
		workers(stepped(24., 90*second, 12., 210*second, 24.), 90*second, 210*second)
	lasting := func(name string, load float64, spans ...span) *scenario {
		return plain(name, 6, 24, stepped(load), load, spans...).
			workers(stepped(24., 60*second, 12.), 60*second)
	}
	rolling := plain("fleet: rolling restarts", 6, 24, well(1.3), 1.3,
		span{"restarts", 60 * second, 150 * second, goals{
			goodput: both(.97), p99: each(1.3, 1.8).reached(1.6, 2.1), limits: both(3),
		}})
	rolling.restartEvery = 5 * second
	rolling.restartFrom, rolling.restartUntil = 60*second, 150*second
	return []*scenario{
		over(1.3), over(2),
		plain("fleet: after a 10x spike", 6, 24,
			stepped(.7, 30*second, 1.3, 60*second, 10., 80*second, 1.3), 10,
			span{"10x", 60 * second, 80 * second, goals{goodput: both(.97)}},
			span{"3 min later", 260 * second, 320 * second, limit(1.5, 2)}),
		half, rolling,
		plain("fleet: born in 1.5x", 6, 24, stepped(1.5), 1.5,
			span{"minute 1", 10 * second, 60 * second, unknown},
			span{"minute 3", 120 * second, 180 * second, unknown}),
		plain("born in 2x", 1, 8, stepped(2.), 2.,
			span{"first 5 s", 0, 5 * second, goals{goodput: both(.95)}},
			span{"minute 1", 10 * second, 60 * second, unknown}),
		lasting("fleet: half lost for good at 0.6", .6,
			span{"minute 2", 120 * second, 180 * second, goals{goodput: both(.97)}},
			span{"minute 10", 600 * second, 660 * second, goals{goodput: both(.97)}}),
		lasting("fleet: half lost for good at 0.95", .95,
			span{"minute 2", 120 * second, 180 * second, goals{goodput: both(.97)}},
			span{"minute 10", 600 * second, 660 * second, goals{goodput: both(.97)}}),
		lasting("fleet: half lost for good at 0.8", .8,
			span{
				"first 10 s", 60 * second, 70 * second,
				goals{goodput: both(.97).reached(.95, .85)},
			},
			span{"minute 2", 120 * second, 180 * second, goals{goodput: both(.97)}},
			span{"minute 10", 600 * second, 660 * second, goals{goodput: both(.97)}}),
	}
}
