package loadsim_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stormjib/stormjib/internal/loadsim"
)

// open is a gate that lets everything in.
type open struct{ sim *loadsim.Sim }

func (g *open) Offer(_ time.Duration, r *loadsim.Request)             { g.sim.Admit(r) }
func (g *open) Done(time.Duration, *loadsim.Request, loadsim.Outcome) {}
func (g *open) Tick(time.Duration)                                    {}

// mean returns how long requests take on average, with exponential work of 10 ms.
func mean(backend loadsim.Backend, rate float64) (seconds float64) {
	sim := &loadsim.Sim{Backend: backend}
	sim.Gates = []loadsim.Gate{&open{sim}}
	sim.Sources = []*loadsim.Source{{
		Rate: func(time.Duration) float64 { return rate }, Peak: rate,
		Make: func(random *rand.Rand, r *loadsim.Request) {
			r.Work = time.Duration(random.ExpFloat64() * float64(10*time.Millisecond))
		},
	}}
	sum, n := 0.0, 0.0
	sim.Observe = func(r *loadsim.Request, what loadsim.Event, now time.Duration) {
		if what == loadsim.Completed {
			sum, n = sum+r.Latency(now).Seconds(), n+1
		}
	}
	sim.Run(2000*time.Second, 1)
	return sum / n
}

// What queueing theory says of M/M/1 at 70 % is 1/(100-70) s, in either discipline; of
// M/M/2 it is 1/(200-140) + 1/(200+140) s; and a process that stands still for a tenth of
// the time is slower by more than that.
func TestTheory(t *testing.T) {
	workers := func(n int) func(time.Duration) int { return func(time.Duration) int { return n } }
	for _, test := range []struct {
		name    string
		backend loadsim.Backend
		rate    float64
		want    float64
	}{
		{"M/M/1", loadsim.Backend{Workers: workers(1)}, 70, 1. / 30},
		{"M/M/1 shared", loadsim.Backend{Workers: workers(1), Shared: true}, 70, 1. / 30},
		{"M/M/2", loadsim.Backend{Workers: workers(2)}, 140, 1./60 + 1./340},
		{"M/M/2 shared", loadsim.Backend{Workers: workers(2), Shared: true}, 140, 1./60 + 1./340},
	} {
		if got := mean(test.backend, test.rate); math.Abs(got/test.want-1) > .04 {
			t.Errorf("%s: %.4f s, want %.4f", test.name, got, test.want)
		}
	}
	still := loadsim.Backend{
		Workers: workers(1), StallEvery: time.Second, StallFor: 100 * time.Millisecond,
	}
	if got := mean(still, 70); got < 1.2/20 || got > 2./20 {
		t.Errorf("with stalls: %.4f s", got)
	}
}
