package breaker_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/breaker"
)

func TestOpenRefusesUntilProbe(t *testing.T) {
	bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		open := refused(t, b)
		if open.State != breaker.Open {
			t.Errorf("refused in state %v", open.State)
		}
		wait := open.RetryAfter()
		if wait < 4*time.Second || wait > 5*time.Second {
			t.Errorf("retry after %v, want 4s to 5s", wait)
		}
		time.Sleep(wait - 1)
		refused(t, b)
		if got := open.RetryAfter(); got != 1 {
			t.Errorf("retry after %v now, want 1ns: it is read when asked", got)
		}
		time.Sleep(time.Nanosecond)
		state(t, b, breaker.HalfOpen) // though no call has come
		succeed(t, b, 1)
		state(t, b, breaker.Closed)
	})
}

// A stampede into a dependency that is about to recover is what half-open is there
// to prevent. The caller that makes the transition is one of the probes.
func TestProbesAtATime(t *testing.T) {
	for _, probes := range []int{1, 3} {
		cfg := breaker.Config{Consecutive: 1, Probes: probes}
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 1)
			untilProbe(t, b)
			var made atomic.Int64
			release := make(chan struct{})
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() {
					_ = b.Do(context.Background(), func(context.Context) error {
						made.Add(1)
						<-release
						return nil
					})
				})
			}
			synctest.Wait()
			if got := made.Load(); got != int64(probes) {
				t.Errorf("%d calls at a time, want %d", got, probes)
			}
			if open := refused(t, b); open.State != breaker.HalfOpen || open.RetryAfter() != 0 {
				t.Errorf("refused with %+v, retry after %v", open, open.RetryAfter())
			}
			close(release)
			wg.Wait()
			state(t, b, breaker.Ramp)
		})
	}
}

// No more probes are sent than are still wanted: two that have succeeded and one
// under way are three.
func TestProbesInAll(t *testing.T) {
	bubble(t, breaker.Config{Consecutive: 1}, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		untilProbe(t, b)
		succeed(t, b, 2)
		p := allow(t, b)
		refused(t, b)
		p.Record(breaker.Success)
		state(t, b, breaker.Ramp)
	})
}

func TestFailedProbeOpensAgain(t *testing.T) {
	bubble(t, breaker.Config{Consecutive: 1}, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		time.Sleep(time.Hour) // idle: the open time was over long ago
		state(t, b, breaker.HalfOpen)
		succeed(t, b, 2)
		fail(t, b, 1)
		// The time counts from now, and has grown by half.
		wait := refused(t, b).RetryAfter()
		if wait < 6*time.Second || wait > 7500*time.Millisecond {
			t.Errorf("open for %v, want 6s to 7.5s", wait)
		}
	})
}

// A probe that hangs must not keep the breaker half-open for ever. Two peers stay
// so until the process is restarted.
func TestHungProbe(t *testing.T) {
	cfg := one()
	cfg.ProbeTimeout = time.Second
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		untilProbe(t, b)
		hung := allow(t, b)
		time.Sleep(time.Second - 1)
		refused(t, b)
		time.Sleep(time.Nanosecond)
		second := allow(t, b)
		refused(t, b) // still one at a time
		hung.Record(breaker.Success)
		state(t, b, breaker.HalfOpen) // what it says comes too late
		refused(t, b)                 // and gives back no place but its own
		second.Record(breaker.Success)
		state(t, b, breaker.Closed)
	})
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		untilProbe(t, b)
		hung := allow(t, b)
		time.Sleep(time.Second)
		allow(t, b)
		hung.Record(breaker.Failure) // a failure counts, or a hang would never be one
		state(t, b, breaker.Open)
	})
}

// Where all calls take longer than a lease, what they say must still be heard.
func TestProbesLongerThanTheirLease(t *testing.T) {
	// callers keep calling for an hour, and pause after a refusal.
	callers := func(b *breaker.Breaker, n int, call func(context.Context) error) {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				for end := time.Now().Add(time.Hour); time.Now().Before(end); {
					if errors.Is(b.Do(context.Background(), call), breaker.ErrOpen) {
						time.Sleep(100 * time.Millisecond)
					}
				}
			})
		}
		wg.Wait()
	}
	for _, n := range []int{1, 20} {
		bubble(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 10)
			callers(b, n, func(context.Context) error { time.Sleep(6 * time.Second); return nil })
			state(t, b, breaker.Closed)
		})
	}
	bubble(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 10)
		callers(b, 20, func(context.Context) error { time.Sleep(10 * time.Second); return errBoom })
		if s := b.Stats(); s.Opened < 10 || s.Total.Failed > 1000 {
			t.Errorf("in an hour of hanging calls: %+v", s)
		}
	})
	// Leases are never made shorter, also where they are longer than the bound.
	cfg := one()
	cfg.ProbeTimeout = time.Hour
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		untilProbe(t, b)
		hung := allow(t, b)
		time.Sleep(time.Hour)
		hung.Record(breaker.Success)
		allow(t, b)
		time.Sleep(time.Hour - 1)
		refused(t, b)
	})
	// One answer after an hour does not make places last for hours.
	bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		untilProbe(t, b)
		hung := allow(t, b)
		time.Sleep(time.Hour)
		hung.Record(breaker.Success)
		state(t, b, breaker.HalfOpen)
		allow(t, b)
		time.Sleep(2 * time.Minute)
		succeed(t, b, 1)
		state(t, b, breaker.Closed)
	})
}

func TestForgottenPermits(t *testing.T) {
	bubble(t, breaker.Config{Consecutive: 1}, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		untilProbe(t, b)
		for range 3 {
			allow(t, b)
		}
		refused(t, b)
		time.Sleep(5 * time.Second) // ProbeTimeout is OpenFor
		succeed(t, b, 3)
		state(t, b, breaker.Ramp)
	})
}

// A probe whose caller has left proves nothing either way. One peer closes on it,
// another stays half-open for ever.
func TestIgnoredProbe(t *testing.T) {
	bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		untilProbe(t, b)
		ctx, cancel := context.WithCancel(t.Context())
		err := b.Do(ctx, func(ctx context.Context) error {
			cancel()
			return ctx.Err()
		})
		if err != context.Canceled {
			t.Fatal(err)
		}
		state(t, b, breaker.HalfOpen)
		succeed(t, b, 1)
		state(t, b, breaker.Closed)
	})
}

// Results of calls that began before the last change say how things were.
func TestLateResultsDoNotCount(t *testing.T) {
	late := func(t *testing.T, b *breaker.Breaker) (permits []breaker.Permit) {
		t.Helper()
		for range 10 {
			permits = append(permits, allow(t, b))
		}
		return permits
	}
	finish := func(permits []breaker.Permit, o breaker.Outcome) {
		for i := range permits {
			permits[i].Record(o)
		}
	}
	cfg := breaker.Config{Consecutive: 2, Probes: 2, RampUp: -1}
	t.Run("successes do not close", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			permits := late(t, b)
			fail(t, b, 2)
			untilProbe(t, b)
			p := allow(t, b)
			finish(permits, breaker.Success)
			state(t, b, breaker.HalfOpen)
			q := allow(t, b)
			refused(t, b) // and free no place
			p.Record(breaker.Success)
			q.Record(breaker.Success)
			state(t, b, breaker.Closed)
		})
	})
	t.Run("failures do not open", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			permits := late(t, b)
			fail(t, b, 2)
			untilProbe(t, b)
			succeed(t, b, 2)
			finish(permits, breaker.Failure)
			state(t, b, breaker.Closed)
			if got := b.Stats().Total.Failed; got != 12 {
				t.Errorf("%d failures in total, want 12: nothing is lost", got)
			}
		})
	})
	t.Run("nor do those of other probes", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 2)
			untilProbe(t, b)
			p, q := allow(t, b), allow(t, b)
			p.Record(breaker.Failure)
			until := b.Stats().Until
			time.Sleep(time.Second)
			q.Record(breaker.Failure)
			if s := b.Stats(); s.Opened != 2 || !s.Until.Equal(until) {
				t.Errorf("%+v, was open until %v", s, until)
			}
		})
	})
	t.Run("failures do not prolong", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			permits := late(t, b)
			fail(t, b, 2)
			until := b.Stats().Until
			time.Sleep(time.Second)
			finish(permits, breaker.Failure)
			if got := b.Stats().Until; !got.Equal(until) {
				t.Errorf("open until %v, was %v", got, until)
			}
		})
	})
}

func TestBeginsEmptyAfterOpen(t *testing.T) {
	cfg := breaker.Config{FailureRate: .5, MinCalls: 4, Probes: 1, RampUp: -1, OpenFor: time.Second}
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 4)
		untilProbe(t, b)
		succeed(t, b, 1)
		fail(t, b, 3) // with the old four these would be enough, long before
		state(t, b, breaker.Closed)
	})
}

func TestOpenTimeGrowsToItsBound(t *testing.T) {
	cfg := one()
	cfg.OpenFor, cfg.MaxOpenFor = time.Second, 10*time.Second
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		seen := map[time.Duration]bool{}
		grown := time.Second
		for i := range 100 {
			fail(t, b, 1)
			most := min(10*time.Second, grown)
			grown = most + most/2
			wait := refused(t, b).RetryAfter()
			if wait > most || wait < most*4/5 {
				t.Fatalf("time %d: open for %v, want %v to %v", i+1, wait, most*4/5, most)
			}
			if i >= 6 {
				seen[wait] = true
			}
			untilProbe(t, b)
		}
		// At the bound too: clients that have reached it must not probe in step.
		if len(seen) < 90 {
			t.Errorf("%d different open times of 94", len(seen))
		}
	})
}

func TestOpenTimeDoesNotOverflow(t *testing.T) {
	cfg := one()
	cfg.OpenFor, cfg.MaxOpenFor = math.MaxInt64/2+1, math.MaxInt64
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		time.Sleep(100 * 365 * 24 * time.Hour)
		refused(t, b)
	})
	cfg.OpenFor = 1 << 60 // 36 years, then 54, 82, 123 and 185, and there time ends
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		for range 3 {
			fail(t, b, 1)
			untilProbe(t, b)
		}
		fail(t, b, 1)
		refused(t, b)
	})
}

// A dependency that works for a second at a time must not get the shortest open
// time each time; one that has long been well must get it.
func TestOpenTimeForgetsWithHealth(t *testing.T) {
	cfg := one()
	cfg.Window, cfg.OpenFor, cfg.MaxOpenFor = 10*time.Second, 8*time.Second, 30*time.Second
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		opens := func(healthy time.Duration, want time.Duration) {
			t.Helper()
			time.Sleep(healthy)
			fail(t, b, 1)
			if wait := refused(t, b).RetryAfter(); wait > want || wait < want*4/5 {
				t.Fatalf("after %v of health open for %v, want %v", healthy, wait, want)
			}
			untilProbe(t, b)
			succeed(t, b, 1)
		}
		opens(0, 8*time.Second)
		opens(time.Second, 12*time.Second)
		opens(time.Second, 18*time.Second)
		opens(time.Second, 27*time.Second)
		opens(time.Second, 30*time.Second)
		opens(time.Second, 30*time.Second)
		opens(10*time.Second, 27*time.Second)
		opens(25*time.Second, 18*time.Second)
		opens(time.Hour, 8*time.Second)
	})
}

type pushback struct{ after time.Duration }

func (pushback) Error() string               { return "busy" }
func (p pushback) RetryAfter() time.Duration { return p.after }

func TestRetryAfterExtendsOpenTime(t *testing.T) {
	for _, test := range []struct {
		name              string
		after, from, upTo time.Duration
	}{
		{"shorter than the open time", time.Second, 4 * time.Second, 5 * time.Second},
		{"longer", 30 * time.Second, 30 * time.Second, 30 * time.Second},
		{"beyond MaxOpenFor", time.Hour, 60 * time.Second, 60 * time.Second},
		{"for ever", math.MaxInt64, 60 * time.Second, 60 * time.Second},
		{"negative", -time.Hour, 4 * time.Second, 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
				failAs(t, b, pushback{test.after})
				wait := refused(t, b).RetryAfter()
				if wait < test.from || wait > test.upTo {
					t.Errorf("open for %v, want %v to %v", wait, test.from, test.upTo)
				}
			})
		})
	}
	t.Run("from a probe", func(t *testing.T) {
		bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 1)
			untilProbe(t, b)
			failAs(t, b, pushback{50 * time.Second})
			if wait := refused(t, b).RetryAfter(); wait != 50*time.Second {
				t.Errorf("open for %v", wait)
			}
		})
	})
	t.Run("from a late failure, bounded from when it opened", func(t *testing.T) {
		bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
			first, second, third := allow(t, b), allow(t, b), allow(t, b)
			fail(t, b, 1)
			time.Sleep(time.Second)
			first.Done(t.Context(), pushback{20 * time.Second})
			if wait := refused(t, b).RetryAfter(); wait != 20*time.Second {
				t.Errorf("open for %v more", wait)
			}
			second.Done(t.Context(), pushback{10 * time.Second})
			if wait := refused(t, b).RetryAfter(); wait != 20*time.Second {
				t.Errorf("a shorter one: open for %v more", wait)
			}
			third.Done(t.Context(), pushback{time.Hour})
			if wait := refused(t, b).RetryAfter(); wait != 59*time.Second {
				t.Errorf("open for %v more, want 59s", wait)
			}
			if got := b.Stats().Opened; got != 1 {
				t.Errorf("opened %d times", got)
			}
		})
	})
	t.Run("not from a late call that is ignored", func(t *testing.T) {
		bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
			p := allow(t, b)
			fail(t, b, 1)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			p.Done(ctx, pushback{time.Minute})
			if wait := refused(t, b).RetryAfter(); wait > 5*time.Second {
				t.Errorf("open for %v", wait)
			}
		})
	})
	t.Run("not when forced open", func(t *testing.T) {
		bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
			p := allow(t, b)
			b.ForceOpen()
			p.Done(t.Context(), pushback{time.Second})
			time.Sleep(time.Hour)
			refused(t, b)
		})
	})
}

// stats is an error whose methods use the breaker, as an error that reports on it may.
type stats struct{ b *breaker.Breaker }

func (stats) Error() string               { return "busy" }
func (e stats) RetryAfter() time.Duration { e.b.Stats(); return 0 }
func (e stats) NotAttempted() bool        { e.b.Stats(); return false }

func TestErrorsMayUseTheBreaker(t *testing.T) {
	bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
		late := allow(t, b)
		failAs(t, b, stats{b})
		late.Done(t.Context(), stats{b})
		untilProbe(t, b)
		failAs(t, b, stats{b}) // as a probe
		state(t, b, breaker.Open)
	})
}

func TestRamp(t *testing.T) {
	// The window is short, since a ramp is not yet health that shortens the open time.
	cfg := breaker.Config{
		Consecutive: 1, Probes: 1, RampUp: 10 * time.Second, Window: time.Second,
	}
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 1)
		untilProbe(t, b)
		succeed(t, b, 1)
		state(t, b, breaker.Ramp)
		share := func() float64 {
			t.Helper()
			through := 0
			for range 10_000 {
				if p, err := b.Allow(); err == nil {
					p.Record(breaker.Success)
					through++
				}
			}
			return float64(through) / 10_000
		}
		for second, want := range []float64{.1, .1, .2, .3, .4, .5, .6, .7, .8, .9} {
			// Five standard deviations of a coin thrown ten thousand times.
			if got := share(); math.Abs(got-want) > .025 {
				t.Errorf("after %ds %v of the calls, want %v", second, got, want)
			}
			time.Sleep(time.Second)
		}
		state(t, b, breaker.Closed) // though no call has come
		if got := share(); got != 1 {
			t.Errorf("after the ramp %v of the calls", got)
		}
	})
	t.Run("a failure in it opens for longer", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 1)
			untilProbe(t, b)
			succeed(t, b, 1)
			time.Sleep(10*time.Second - 1)
			for b.State() == breaker.Ramp {
				_ = b.Do(t.Context(), boom)
			}
			wait := refused(t, b).RetryAfter()
			if wait < 6*time.Second || wait > 7500*time.Millisecond {
				t.Errorf("open for %v, want 6s to 7.5s", wait)
			}
		})
	})
	t.Run("its refusals say what they are", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 1)
			untilProbe(t, b)
			succeed(t, b, 1)
			for {
				p, err := b.Allow()
				if err == nil {
					p.Record(breaker.Ignored)
					continue
				}
				if open := err.(*breaker.OpenError); open.State != breaker.Ramp ||
					open.RetryAfter() != 0 {
					t.Errorf("%+v", open)
				}
				return
			}
		})
	})
}

// The deadline is published with the state: nobody who sees an open breaker may
// take it for one whose time is over.
func TestNobodyPassesBeforeTheDeadline(t *testing.T) {
	for range 200 {
		b := breaker.New(breaker.Config{Consecutive: 1, OpenFor: time.Hour})
		var opened atomic.Bool
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				<-start
				for range 200 {
					after := opened.Load()
					if p, err := b.Allow(); err == nil {
						p.Record(breaker.Ignored)
						if after {
							t.Error("a call passed an open breaker")
							return
						}
					}
				}
			})
		}
		close(start)
		fail(t, b, 1)
		opened.Store(true)
		wg.Wait()
	}
}

func TestManualControl(t *testing.T) {
	type B = breaker.Breaker
	forms := map[string]struct {
		enter func(*B)
		mode  string
		check func(*testing.T, *B)
	}{
		"ForceOpen": {(*B).ForceOpen, "forced open", func(t *testing.T, b *B) {
			time.Sleep(1000 * time.Hour)
			refused(t, b) // no probe, ever
			state(t, b, breaker.Open)
			b.Reset()
			refused(t, b)
		}},
		"Disable": {(*B).Disable, "disabled", func(t *testing.T, b *B) {
			before := b.Stats().Total
			fail(t, b, 1000)
			state(t, b, breaker.Closed)
			if got := b.Stats().Total; got != before {
				t.Errorf("counted %+v", got)
			}
			b.Reset()
			fail(t, b, 1000)
		}},
		"Shadow": {(*B).Shadow, "shadow", func(t *testing.T, b *B) {
			before := b.Stats()
			fail(t, b, 1)
			state(t, b, breaker.Open)
			fail(t, b, 5) // let through
			s := b.Stats()
			if s.Unrefused != 5 || s.Refused != before.Refused {
				t.Errorf("%+v", s)
			}
			if got := s.Total.Failed - before.Total.Failed; got != 6 {
				t.Errorf("counted %d failures of 6", got)
			}
			untilProbe(t, b)
			p := allow(t, b) // the probe
			fail(t, b, 5)    // let through, and no probes
			state(t, b, breaker.HalfOpen)
			p.Record(breaker.Success)
			state(t, b, breaker.Closed)
			b.Reset()
			if got := b.Stats().Mode; got != "shadow" {
				t.Errorf("mode after Reset is %q", got)
			}
		}},
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
				fail(t, b, 1)
				form.enter(b)
				if got := b.Stats().Mode; got != form.mode {
					t.Errorf("mode is %q, want %q", got, form.mode)
				}
				form.check(t, b)
				b.Auto()
				state(t, b, breaker.Closed)
				if got := b.Stats().Mode; got != "auto" {
					t.Errorf("mode is %q", got)
				}
				fail(t, b, 1) // as new: the open time is the first one
				if wait := refused(t, b).RetryAfter(); wait > 5*time.Second || wait == 0 {
					t.Errorf("open for %v", wait)
				}
				b.Auto() // nothing to end: still open
				refused(t, b)
				b.Reset()
				succeed(t, b, 1)
			})
		})
	}
}

func TestStats(t *testing.T) {
	cfg := breaker.Config{Name: "prices", FailureRate: .5, MinCalls: 4, Probes: 1}
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		succeed(t, b, 2)
		fail(t, b, 2)
		refused(t, b)
		refused(t, b)
		p := func() breaker.Permit { untilProbe(t, b); return allow(t, b) }()
		p.Record(breaker.Ignored)
		succeed(t, b, 1)
		s := b.Stats()
		if s.Name != "prices" || s.State != breaker.Ramp || s.Mode != "auto" || s.Until.IsZero() {
			t.Errorf("%+v", s)
		}
		want := breaker.Counts{Succeeded: 3, Failed: 2}
		if s.Total != want || s.Recent != (breaker.Counts{}) {
			t.Errorf("total %+v, recent %+v", s.Total, s.Recent)
		}
		if s.Refused != 2 || s.Ignored != 1 || s.Opened != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Keep in step with the example for testing.
func TestExampleForTesting(t *testing.T) { comesBack(t) }
