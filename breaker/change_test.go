package breaker_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/breaker"
)

func TestChangesTellTheStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []breaker.Change
		b := breaker.New(breaker.Config{
			Name: "prices", FailureRate: .5, MinCalls: 4, Probes: 2,
			OnChange: func(c breaker.Change) { changes = append(changes, c) },
		})
		began := time.Now()
		succeed(t, b, 2)
		fail(t, b, 2)
		firstProbe := b.Stats().Until
		untilProbe(t, b)
		succeed(t, b, 1)
		fail(t, b, 1)
		untilProbe(t, b)
		succeed(t, b, 2)
		time.Sleep(time.Until(b.Stats().Until)) // to the end of the ramp
		succeed(t, b, 1)
		b.ForceOpen()
		b.Auto()

		want := []struct {
			from, to breaker.State
			reason   string
		}{
			{breaker.Closed, breaker.Open, "failure rate"},
			{breaker.Open, breaker.HalfOpen, "open time over"},
			{breaker.HalfOpen, breaker.Open, "probe failed"},
			{breaker.Open, breaker.HalfOpen, "open time over"},
			{breaker.HalfOpen, breaker.Ramp, "probes succeeded"},
			{breaker.Ramp, breaker.Closed, "ramp over"},
			{breaker.Closed, breaker.Open, "manual"},
			{breaker.Open, breaker.Closed, "manual"},
		}
		if len(changes) != len(want) {
			t.Fatalf("%d changes, want %d: %+v", len(changes), len(want), changes)
		}
		for i, c := range changes {
			w := want[i]
			if c.Name != "prices" || c.From != w.from || c.To != w.to || c.Reason != w.reason {
				t.Errorf("change %d is %+v, want %+v", i, c, w)
			}
		}
		first := changes[0]
		if !first.At.Equal(began) || !first.Until.Equal(firstProbe) {
			t.Errorf("at %v until %v, want %v and %v", first.At, first.Until, began, firstProbe)
		}
		if first.Recent != (breaker.Counts{Succeeded: 2, Failed: 2}) {
			t.Errorf("recent %+v", first.Recent)
		}
		if changes[2].Recent != (breaker.Counts{Succeeded: 1, Failed: 1}) {
			t.Errorf("the probes were %+v", changes[2].Recent)
		}
		if !changes[6].Until.IsZero() {
			t.Errorf("forced open until %v", changes[6].Until)
		}
	})
}

// However many find the reason at once, the breaker opens once.
func TestOneChangePerTrip(t *testing.T) {
	for range 100 {
		var changes atomic.Int64
		b := breaker.New(breaker.Config{
			Consecutive: 64,
			OnChange:    func(breaker.Change) { changes.Add(1) },
		})
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range 64 {
			p := allow(t, b)
			wg.Go(func() {
				<-start
				p.Record(breaker.Failure)
			})
		}
		close(start)
		wg.Wait()
		if changes.Load() != 1 || b.State() != breaker.Open {
			t.Fatalf("%d changes, state %v", changes.Load(), b.State())
		}
	}
}

// Each change begins where the one before ended, whatever the goroutines did.
func TestChangesAreChained(t *testing.T) {
	const goroutines, each = 8, 2000
	last, changes := breaker.Closed, 0
	var running atomic.Bool
	b := breaker.New(breaker.Config{
		Consecutive: 1, Probes: 1, OpenFor: time.Nanosecond, RampUp: time.Nanosecond,
		OnChange: func(c breaker.Change) {
			if running.Swap(true) {
				t.Error("two at a time")
			}
			if c.From != last {
				t.Errorf("from %v after a change to %v", c.From, last)
			}
			last = c.To
			changes++
			running.Store(false)
		},
	})
	var wg sync.WaitGroup
	for g := range goroutines {
		rng := rand.New(rand.NewPCG(1, uint64(g)))
		wg.Go(func() {
			for range each {
				switch rng.IntN(10) {
				case 0:
					b.ForceOpen()
				case 1:
					b.Auto()
				case 2, 3, 4:
					_ = b.Do(context.Background(), boom)
				default:
					_ = b.Do(context.Background(), ok)
				}
			}
		})
	}
	wg.Wait()
	if changes < goroutines {
		t.Errorf("only %d changes", changes)
	}
}

// Two peers call their hook under the lock, and a hook that asks for the state
// never returns.
func TestOnChangeMayUseTheBreaker(t *testing.T) {
	var b *breaker.Breaker
	var seen []breaker.State
	b = breaker.New(breaker.Config{
		Consecutive: 1,
		OnChange: func(c breaker.Change) {
			seen = append(seen, c.To)
			b.State()
			b.Stats()
			_ = b.Do(context.Background(), ok)
			if len(seen) == 1 {
				b.ForceOpen() // Open already: no change
				b.Reset()     // and Reset leaves it so
				b.Auto()
				if len(seen) != 1 {
					t.Error("the hook ran inside itself")
				}
			}
		},
	})
	fail(t, b, 1)
	if len(seen) != 2 || seen[0] != breaker.Open || seen[1] != breaker.Closed {
		t.Errorf("saw %v", seen)
	}
	succeed(t, b, 1)
}

// In one peer a hook that panics ends the process, with an error that cannot be
// recovered.
func TestOnChangeMayPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *breaker.Breaker
		calls := 0
		b = breaker.New(breaker.Config{
			Consecutive: 1, Probes: 1, RampUp: -1,
			OnChange: func(breaker.Change) {
				if calls++; calls == 1 {
					b.Auto()
					b.ForceOpen() // no change of state
					b.Auto()      // one more to report
					panic("hook")
				}
			},
		})
		func() {
			defer func() {
				if v := recover(); v != "hook" {
					t.Errorf("recovered %v", v)
				}
			}()
			_ = b.Do(t.Context(), boom)
		}()
		if calls != 2 {
			t.Errorf("%d of 2 changes were reported", calls)
		}
		state(t, b, breaker.Closed)
		fail(t, b, 1)
		if calls != 3 {
			t.Errorf("%d changes reported, want 3: the breaker is deaf", calls)
		}
	})
}

func TestOnChangeMayExitItsGoroutine(t *testing.T) {
	calls := 0
	b := breaker.New(breaker.Config{
		Consecutive: 1,
		OnChange: func(breaker.Change) {
			if calls++; calls == 1 {
				runtime.Goexit()
			}
		},
	})
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Do(context.Background(), boom) })
	wg.Wait()
	b.Reset()
	if calls != 2 {
		t.Errorf("%d changes reported, want 2", calls)
	}
}

// A slow hook holds up the caller whose goroutine it has, and nobody else.
func TestSlowOnChange(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var changes []breaker.Change
	b := breaker.New(breaker.Config{
		Consecutive: 1,
		OnChange: func(c breaker.Change) {
			if changes = append(changes, c); len(changes) == 1 {
				close(entered)
				<-release
			}
		},
	})
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Do(context.Background(), boom) })
	<-entered
	refused(t, b)
	b.Reset() // a change that is reported later, by the other goroutine
	succeed(t, b, 1)
	close(release)
	wg.Wait()
	if len(changes) != 2 || changes[1].From != breaker.Open || changes[1].To != breaker.Closed {
		t.Errorf("%+v", changes)
	}
}

// What a hook takes is not the time of the probe whose goroutine it has.
func TestOnChangeSlowerThanSlowCall(t *testing.T) {
	cfg := breaker.Config{
		Consecutive: 1, SlowCall: 500 * time.Millisecond, Probes: 1, RampUp: -1,
		OnChange: func(breaker.Change) { time.Sleep(600 * time.Millisecond) },
	}
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		untilProbe(t, b)
		succeed(t, b, 1)
		state(t, b, breaker.Closed)
	})
}

// A hook that panics when the breaker becomes half-open has taken the place of a probe.
func TestOnChangeMayPanicBeforeAProbe(t *testing.T) {
	cfg := one()
	cfg.OnChange = func(c breaker.Change) {
		if c.To == breaker.HalfOpen {
			panic("hook")
		}
	}
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		untilProbe(t, b)
		func() {
			defer func() {
				if v := recover(); v != "hook" {
					t.Errorf("recovered %v", v)
				}
			}()
			_ = b.Do(t.Context(), ok)
		}()
		succeed(t, b, 1)
		state(t, b, breaker.Closed)
	})
}
