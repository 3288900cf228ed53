package hedge_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry/hedge"
)

// The latencies of the tables. All have a mean of 20ms or so, and 2ms that nothing
// saves.
func latencies() []distribution {
	return []distribution{
		{"exponential", func(r *rand.Rand) float64 { return r.ExpFloat64() }},
		{"lognormal", func(r *rand.Rand) float64 { return math.Exp(r.NormFloat64()) }},
		{"bimodal, 3 % 20x slow", func(r *rand.Rand) float64 {
			x := 1 + 0.2*r.Float64()
			if r.Float64() < 0.03 {
				x *= 20
			}
			return x
		}},
		{"narrow", func(r *rand.Rand) float64 { return 1 + 0.1*r.Float64() }},
	}
}

type distribution struct {
	name string
	draw func(*rand.Rand) float64
}

// A world is where calls take as long as a distribution says, in the time of a bubble.
type world struct {
	mu     sync.Mutex
	random *rand.Rand
	draw   func(*rand.Rand) float64
	scale  float64
	fail   float64 // the share of attempts that fails, after a millisecond
}

func newWorld(d distribution) *world {
	return &world{random: rand.New(rand.NewPCG(1, 1)), draw: d.draw, scale: 1}
}

func (w *world) set(scale, fail float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scale, w.fail = scale, fail
}

func (w *world) call(ctx context.Context) (int, error) {
	w.mu.Lock()
	takes := 2*ms + time.Duration(w.draw(w.random)*w.scale*float64(20*ms))
	fails := w.random.Float64() < w.fail
	w.mu.Unlock()
	if fails {
		time.Sleep(ms)
		return 0, errBoom
	}
	select {
	case <-time.After(takes):
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// calls makes n calls, a few at a time, and returns how long they took.
func calls(w *world, p *hedge.Policy, n, atOnce int) []time.Duration {
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for range n / atOnce {
				began := time.Now()
				_, _ = hedge.Do(context.Background(), p, w.call, nil)
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return took
}

// Of all calls 5 % are sent again, whatever latencies look like, and however many are
// under way. While all latencies are ten times what they were, at most 10 % are. Where
// all calls take about as long, and many are under way, a step of the delay is answered
// by all of them at once, and only the bound holds. The table is shown with -v.
func TestExtraCalls(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "%-24s%8s%8s%10s%12s%12s\n", "", "at once", "extra", "delay",
		"10x slower", "10x faster")
	for _, l := range latencies() {
		for _, atOnce := range []int{1, 50} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(l)
				p := &hedge.Policy{}
				calls(w, p, 1000, atOnce)
				extra := share(w, p, 6000, atOnce)
				settled := p.Stats().Delay
				w.set(10, 0)
				slower := worst(w, p, atOnce)
				w.set(1, 0)
				faster := worst(w, p, atOnce)
				fmt.Fprintf(&table, "%-24s%8d%7.2f%%%10v%11.2f%%%11.2f%%\n", l.name, atOnce,
					100*extra, settled.Round(ms), 100*slower, 100*faster)
				most := 0.055
				if l.name == "narrow" {
					most = 0.0605
				}
				if extra < 0.035 || extra > most {
					t.Errorf("%s: %.2f %% extra, want 3.5 to %.2f", l.name, 100*extra, 100*most)
				}
				if slower > 0.1 || faster > 0.1 {
					t.Errorf("%s: %.2f %% extra when all get slower, %.2f when faster, want 10",
						l.name, 100*slower, 100*faster)
				}
			})
		}
	}
	t.Logf("\n%s", table.String())
}

// share returns the share of extra calls among n.
func share(w *world, p *hedge.Policy, n, atOnce int) float64 {
	before := p.Stats()
	calls(w, p, n, atOnce)
	after := p.Stats()
	return float64(after.Hedged-before.Hedged) / float64(after.Calls-before.Calls)
}

// worst returns the largest share of extra calls among the first 100, the first 200 and
// so on.
func worst(w *world, p *hedge.Policy, atOnce int) float64 {
	most, before := 0.0, p.Stats()
	for range 15 {
		calls(w, p, 100, atOnce)
		after := p.Stats()
		most = max(most, float64(after.Hedged-before.Hedged)/float64(after.Calls-before.Calls))
	}
	return most
}

// No hedge until there are enough calls to know what is late.
func TestColdStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(latencies()[2])
		p := &hedge.Policy{}
		calls(w, p, 63, 1)
		if s := p.Stats(); s.Hedged != 0 || s.Delay != 0 {
			t.Errorf("after 63 calls: %+v", s)
		}
		calls(w, p, 200, 1)
		if s := p.Stats(); s.Hedged == 0 || s.Delay < 22*ms || s.Delay > 40*ms {
			t.Errorf("after 263 calls: %+v", s)
		}
	})
}

// Fast errors do not make the delay shorter, though half of all attempts fail, or all.
func TestFailuresDoNotShortenTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(latencies()[0])
		p := &hedge.Policy{}
		calls(w, p, 3000, 1)
		before := p.Stats().Delay
		w.set(1, 0.5)
		calls(w, p, 3000, 1)
		half := p.Stats().Delay
		w.set(1, 1)
		calls(w, p, 3000, 1)
		if d := p.Stats().Delay; half < before*3/4 || d != half {
			t.Errorf("%v became %v when half of the attempts failed, and %v when all did",
				before, half, d)
		}
	})
}

// Nor do callers that leave.
func TestCallersThatLeaveDoNotShortenTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(latencies()[0])
		p, random := &hedge.Policy{}, rand.New(rand.NewPCG(2, 2))
		leave := func(share float64, within func() time.Duration) time.Duration {
			for range 3000 {
				ctx, cancel := context.WithCancel(t.Context())
				if random.Float64() < share {
					time.AfterFunc(within(), cancel)
				}
				_, _ = hedge.Do(ctx, p, w.call, nil)
				cancel()
			}
			return p.Stats().Delay
		}
		before := leave(0, nil)
		soon := leave(1, func() time.Duration { return ms })
		some := leave(0.2, func() time.Duration {
			return time.Duration(random.Float64() * float64(before))
		})
		late := leave(1, func() time.Duration { return 2 * before })
		if soon != before || some < before*3/4 || late < before*3/4 {
			t.Errorf("%v became %v when all left soon, %v when some did, %v when late",
				before, soon, some, late)
		}
	})
}

// With hedges the slowest calls are nearly as fast as the others.
func TestTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quantile := func(p *hedge.Policy) time.Duration {
			w := newWorld(latencies()[2])
			took := calls(w, p, 5000, 10)[500:]
			slices.Sort(took)
			return took[len(took)*99/100]
		}
		p := &hedge.Policy{}
		without, with := quantile(&hedge.Policy{MaxAttempts: 1}), quantile(p)
		s := p.Stats()
		extra := float64(s.Hedged) / float64(s.Calls)
		t.Logf("p99 %v without, %v with %.2f %% extra calls", without, with, 100*extra)
		if with > without/3 || extra > 0.06 {
			t.Errorf("p99 is %v, without hedges %v; %.2f %% extra calls", with, without, 100*extra)
		}
	})
}
