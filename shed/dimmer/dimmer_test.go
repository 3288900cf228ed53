package dimmer_test

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed/dimmer"
)

const period = 500 * time.Millisecond

// periods lets n periods go by in which every delay is the same. The negative one ends the
// last, and counts in none.
func periods(d *dimmer.Dimmer, n int, delay time.Duration) {
	for range n {
		d.Observe(delay)
		time.Sleep(period)
	}
	d.Observe(-1)
}

func wantShares(t *testing.T, d *dimmer.Dimmer, want ...float64) {
	t.Helper()
	for i, f := range d.Stats().Features {
		if !(math.Abs(f.Share-want[i]) <= 1e-6) {
			t.Errorf("feature %s has a share of %.4f, want %v", f.Name, f.Share, want)
		}
	}
}

// lit returns for what part of many requests f is lit.
func lit(t *testing.T, f *dimmer.Feature) float64 {
	t.Helper()
	const n = 20_000
	yes := 0
	for range n {
		if f.Allow(t.Context()) {
			yes++
		}
	}
	return float64(yes) / n
}

func TestZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{})
		f := d.Feature("optional")
		periods(d, 10, 0)
		wantShares(t, d, 1)
		if !f.Allow(t.Context()) || f.Share() != 1 {
			t.Error("dimmed while calm")
		}
		// The mean of what is below and above the target is at it: down by 0.2 from calm.
		d.Observe(0)
		periods(d, 1, 100*time.Millisecond)
		wantShares(t, d, 0.8)
		if got := d.Stats().Measured; got != 1 {
			t.Errorf("measured %v targets, want 1", got)
		}
		if got := lit(t, f); math.Abs(got-0.8) > 0.02 {
			t.Errorf("lit for %v of the requests", got)
		}
		if dark := d.Stats().Features[0].Dimmed; dark < 3_500 || dark > 4_500 {
			t.Errorf("dimmed %d times", dark)
		}
	})
}

// One delay counts as ten targets, and one measurement as a quarter.
func TestHuge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{})
		for range 99 {
			d.Observe(0)
		}
		d.Observe(math.MaxInt64)
		d.Observe(math.MinInt64)
		d.Observe(-1)
		time.Sleep(period)
		d.Observe(0)
		if s := d.Stats(); s.Measured != 0.1 || s.Ignored != 2 {
			t.Errorf("measured %v and ignored %d, want a tenth and 2", s.Measured, s.Ignored)
		}
		d = dimmer.New(dimmer.Config{Target: math.MaxInt64})
		periods(d, 1, math.MaxInt64)
		wantShares(t, d, 0.8)
	})
}

// The second is dimmed when the first is dark, and lit again before it.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{Features: []string{"a", "b", "c"}})
		periods(d, 1, time.Second)
		wantShares(t, d, 0.25, 1, 1)
		periods(d, 1, time.Second)
		wantShares(t, d, 0.00454545, 1, 1)
		periods(d, 1, time.Second)
		wantShares(t, d, 0, 0.75909091, 1)
		a, b, c := d.Feature("a"), d.Feature("b"), d.Feature("c")
		if a.Allow(t.Context()) || !c.Allow(t.Context()) {
			t.Error("the last is lit, the first is not")
		}
		periods(d, 20, time.Second)
		wantShares(t, d, 0, 0, 0)
		if b.Allow(t.Context()) {
			t.Error("lit with a share of 0")
		}
		periods(d, 4, 0)
		wantShares(t, d, 0, 0.2, 1)
		periods(d, 10, 0)
		wantShares(t, d, 1, 1, 1)
	})
}

func TestForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{Features: []string{"a", "b"}})
		a, b := d.Feature("a"), d.Feature("b")
		a.ForceOff()
		wantShares(t, d, 0, 1)
		if a.Allow(t.Context()) || !b.Allow(t.Context()) {
			t.Error("a is forced off, b is not")
		}
		periods(d, 2, time.Second) // b alone bears it
		wantShares(t, d, 0, 0.66818181)
		b.ForceOn()
		wantShares(t, d, 0, 1)
		periods(d, 9, time.Second) // nothing left to dim
		wantShares(t, d, 0, 1)
		if s := d.Stats().Features; s[0].Mode != "forced off" || s[1].Mode != "forced on" {
			t.Errorf("modes are %v and %v", s[0].Mode, s[1].Mode)
		}
		a.Auto()
		b.Auto()
		b.Auto()
		wantShares(t, d, 0, 1) // as it was
		if s := d.Stats(); s.Share != 0.5 || s.Features[0].Mode != "auto" {
			t.Errorf("share %v, mode %v", s.Share, s.Features[0].Mode)
		}
		periods(d, 1, 0)
		wantShares(t, d, 0.2, 1)
		a.ForceOn()
		a.ForceOff()
		wantShares(t, d, 0, 1)
	})
}

// What a switch takes from one is not given to the others, nor taken.
func TestForceKeepsLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{Features: []string{"a", "b"}})
		periods(d, 2, time.Second)
		wantShares(t, d, 0.33636364, 1)
		d.Feature("b").ForceOn()
		wantShares(t, d, 0.33636364, 1)
		d.Feature("b").Auto()
		wantShares(t, d, 0.33636364, 1)
		d.Feature("b").ForceOff()
		wantShares(t, d, 0.33636364, 0)
		d.Feature("b").Auto()
		wantShares(t, d, 0, 0.33636364)
	})
}

// A feature that may not be dimmed is asked for like the others.
func TestUnknownFeature(t *testing.T) {
	f := dimmer.New(dimmer.Config{}).Feature("checkout")
	f.ForceOff()
	f.ForceOn()
	f.Auto()
	if f != nil || !f.Allow(t.Context()) || f.Share() != 1 {
		t.Error("a feature that the dimmer does not have is dimmed")
	}
}

// Nobody observes any more, but requests still ask.
func TestDeadSensor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{})
		f := d.Feature("optional")
		periods(d, 20, time.Second)
		for i := range 20 {
			time.Sleep(period)
			f.Allow(t.Context())
			if got := d.Stats(); got.Share != 0 || got.Blind != i+1 {
				t.Fatalf("blind for %d periods: %d, share %v", i, got.Blind, got.Share)
			}
		}
		for i := range 20 {
			time.Sleep(period)
			f.Allow(t.Context())
			wantShares(t, d, 0.05*float64(i+1))
		}
	})
}

// Periods in which nobody called are made up for.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, idle := range []time.Duration{
			10 * time.Second, 15 * time.Second, 20*time.Second - 1, time.Hour,
		} {
			d := dimmer.New(dimmer.Config{})
			periods(d, 20, time.Second)
			time.Sleep(idle)
			d.Observe(0)
			missed := float64(idle / period)
			wantShares(t, d, max(0, min(0.05*(missed-20), 1)))
		}
	})
}

// Periods end when they would have, however late the call that finds one over.
func TestGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{})
		d.Observe(50 * time.Millisecond)
		time.Sleep(period * 5 / 4)
		d.Observe(time.Second)
		wantShares(t, d, 0.8)
		time.Sleep(period*3/4 - 1)
		d.Observe(time.Second)
		wantShares(t, d, 0.8)
		time.Sleep(time.Nanosecond)
		d.Observe(time.Second)
		wantShares(t, d, 0.8-0.3*9/11)
	})
}

// A signal alone, with nothing to observe.
func TestSignal(t *testing.T) {
	tests := []struct {
		signal, setPoint float64
		delay            time.Duration
		measured         float64
		share            float64
	}{
		{0.5, 0, none, 1, 0.8},
		{1, 0, none, 2, 0.75},
		{7, 0, none, 2, 0.75},
		{math.Inf(1), 0, none, 2, 0.75},
		{-3, 0, none, 0, 1},
		{0.25, 0.25, none, 1, 0.8},
		{1, 0.001, none, 1000, 0.75},
		{math.NaN(), 0, none, 0, 1},
		{math.NaN(), 0, 50 * time.Millisecond, 1, 0.8},
		{0.25, 0, 50 * time.Millisecond, 1, 0.8},
		{0.5, 0, 10 * time.Millisecond, 1, 0.8},
		{0, 0, 50 * time.Millisecond, 1, 0.8},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			d := dimmer.New(dimmer.Config{SetPoint: test.setPoint, Signal: func() float64 {
				calls++
				return test.signal
			}})
			f := d.Feature("optional")
			if test.delay != none {
				d.Observe(test.delay)
			}
			time.Sleep(period)
			for range 10 {
				f.Allow(t.Context())
			}
			wantShares(t, d, test.share)
			if s := d.Stats(); s.Measured != test.measured || calls != 1 {
				t.Errorf("%v: measured %v, %d calls of Signal", test, s.Measured, calls)
			}
		})
	}
}

// A signal may use the dimmer.
func TestSignalCallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d *dimmer.Dimmer
		d = dimmer.New(dimmer.Config{Signal: func() float64 {
			d.Observe(0)
			d.Feature("optional").ForceOff()
			d.Feature("optional").Auto()
			return float64(len(d.Stats().Features))
		}})
		periods(d, 1, 0)
		if got := d.Stats().Measured; got != 2 {
			t.Errorf("measured %v, want 2", got)
		}
	})
}

// A panic goes to one caller in each period, and the period has no measurement.
func TestSignalPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := false
		d := dimmer.New(dimmer.Config{Signal: func() float64 {
			if dead {
				panic("no")
			}
			return 1
		}})
		f := d.Feature("optional")
		periods(d, 30, none)
		wantShares(t, d, 0)
		dead = true
		for i := range 40 {
			time.Sleep(period)
			func() {
				defer func() {
					if recover() != "no" {
						t.Error("the panic is gone")
					}
				}()
				f.Allow(t.Context())
			}()
			f.Allow(t.Context())
			if got := d.Stats().Blind; got != i+1 {
				t.Fatalf("blind for %d periods, want %d", got, i+1)
			}
		}
		wantShares(t, d, 1)
	})
}

// A signal that ends its goroutine is no measurement, and one that hangs holds up one
// caller in each period.
func TestSignalEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := []func(){runtime.Goexit, runtime.Goexit}
		d := dimmer.New(dimmer.Config{Signal: func() float64 {
			end := ends[0]
			ends = ends[1:]
			end()
			return 1
		}})
		f := d.Feature("optional")
		time.Sleep(period)
		go f.Allow(t.Context())
		synctest.Wait()
		if got := d.Stats().Blind; got != 1 {
			t.Errorf("blind for %d periods, want 1", got)
		}
		release := make(chan struct{})
		ends[0] = func() { <-release }
		time.Sleep(period)
		go f.Allow(t.Context())
		synctest.Wait()
		f.Allow(t.Context())
		f.ForceOff()
		f.Auto()
		if got := d.Stats().Measured; got != 0 {
			t.Errorf("measured %v while the signal hangs", got)
		}
		close(release)
		synctest.Wait()
		if got := d.Stats().Measured; got != 2 {
			t.Errorf("measured %v", got)
		}
	})
}

// With a seed the same question has the same answer, and the lower share dims more.
func TestWithSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := dimmer.New(dimmer.Config{}), dimmer.New(dimmer.Config{})
		f, g := one.Feature("optional"), two.Feature("optional")
		periods(one, 4, time.Second) // 0.5045
		periods(two, 2, time.Second) // 0.6682
		yes := 0
		const n = 10_000
		for seed := range uint64(n) { // small numbers, all like each other
			ctx := context.WithValue(dimmer.WithSeed(t.Context(), seed), t, nil)
			first := f.Allow(ctx)
			if first != f.Allow(ctx) {
				t.Fatal("two answers to a question")
			}
			if first && !g.Allow(ctx) {
				t.Fatal("lit with the lower share only")
			}
			if first {
				yes++
			}
		}
		if got := float64(yes) / n; math.Abs(got-0.5045) > 0.02 {
			t.Errorf("lit for %v of the seeds", got)
		}
	})
}

func TestWithSeedKeepsValues(t *testing.T) {
	type key struct{}
	ctx := dimmer.WithSeed(context.WithValue(t.Context(), key{}, "value"), 1)
	if got := ctx.Value(key{}); got != "value" {
		t.Errorf("got %v from below the seed", got)
	}
}

func TestAllocs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{
			Signal:   func() float64 { return 0.3 },
			Features: []string{"a", "b"},
		})
		a, b := d.Feature("a"), d.Feature("b")
		periods(d, 2, time.Second)
		ctx, seeded := t.Context(), dimmer.WithSeed(t.Context(), 1)
		if got := testing.AllocsPerRun(100, func() {
			d.Observe(time.Second)
			a.Allow(ctx)
			a.Allow(seeded)
			b.Allow(ctx)
			time.Sleep(period / 3)
		}); got != 0 {
			t.Errorf("%v allocations", got)
		}
		if got := testing.AllocsPerRun(100, func() { seeded = dimmer.WithSeed(ctx, 7) }); got > 1 {
			t.Errorf("WithSeed has %v allocations", got)
		}
	})
}

// Everything at once, for the race detector; the shares still are a dealt-out whole.
func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		d := dimmer.New(dimmer.Config{
			Features: []string{"a", "b", "c"},
			Signal: func() float64 {
				calls.Add(1)
				return rand.Float64()
			},
		})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				f := d.Feature([]string{"a", "b", "c"}[i%3])
				for range 200 {
					d.Observe(rand.N(200 * time.Millisecond))
					f.Allow(t.Context())
					switch rand.N(20) {
					case 0:
						f.ForceOff()
					case 1:
						f.ForceOn()
					case 2, 3, 4:
						f.Auto()
					}
					d.Stats()
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		if n := calls.Load(); n < 39 || n > 40 {
			t.Errorf("Signal was called %d times in 40 periods", n)
		}
		sum := 0.0
		for _, f := range d.Stats().Features {
			d.Feature(f.Name).Auto()
		}
		for _, f := range d.Stats().Features {
			sum += f.Share
		}
		if share := d.Stats().Share; math.Abs(sum-3*share) > 1e-9 {
			t.Errorf("shares add up to %v, of 3 × %v", sum, share)
		}
	})
}

// Made in a bubble and used outside, and the other way round: nothing moves, or does.
func TestOutsideBubble(t *testing.T) {
	var d *dimmer.Dimmer
	synctest.Test(t, func(*testing.T) { d = dimmer.New(dimmer.Config{}) })
	d.Observe(time.Hour)
	e := dimmer.New(dimmer.Config{})
	synctest.Test(t, func(*testing.T) { periods(e, 3, time.Hour) })
	for _, d := range []*dimmer.Dimmer{d, e} {
		if share := d.Stats().Share; !(share >= 0 && share <= 1) {
			t.Errorf("share %v", share)
		}
	}
}
