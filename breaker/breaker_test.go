package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/breaker"
)

var errBoom = errors.New("boom")

// The verbs of the tests. Time is that of a synctest bubble, so that waiting is
// exact and costs nothing.

func ok(context.Context) error   { return nil }
func boom(context.Context) error { return errBoom }

func succeed(t *testing.T, b *breaker.Breaker, n int) {
	t.Helper()
	for range n {
		if err := b.Do(t.Context(), ok); err != nil {
			t.Fatalf("a call that succeeds: %v", err)
		}
	}
}

func fail(t *testing.T, b *breaker.Breaker, n int) {
	t.Helper()
	for range n {
		if err := b.Do(t.Context(), boom); err != errBoom {
			t.Fatalf("a call that fails: got %v, want its own error", err)
		}
	}
}

func failAs(t *testing.T, b *breaker.Breaker, want error) {
	t.Helper()
	if err := b.Do(t.Context(), func(context.Context) error { return want }); err != want {
		t.Fatalf("got %v, want %v untouched", err, want)
	}
}

func allow(t *testing.T, b *breaker.Breaker) breaker.Permit {
	t.Helper()
	p, err := b.Allow()
	if err != nil {
		t.Fatalf("refused: %v, state %v", err, b.State())
	}
	return p
}

func refused(t *testing.T, b *breaker.Breaker) *breaker.OpenError {
	t.Helper()
	err := b.Do(t.Context(), func(context.Context) error {
		t.Error("a refused call was made")
		return nil
	})
	open, ok := errors.AsType[*breaker.OpenError](err)
	if !ok || !errors.Is(err, breaker.ErrOpen) {
		t.Fatalf("got %v, want a refusal", err)
	}
	return open
}

func state(t *testing.T, b *breaker.Breaker, want breaker.State) {
	t.Helper()
	if got := b.State(); got != want {
		t.Fatalf("state is %v, want %v; %+v", got, want, b.Stats())
	}
}

// untilProbe waits until an open breaker lets a probe through.
func untilProbe(t *testing.T, b *breaker.Breaker) {
	t.Helper()
	until := b.Stats().Until
	if until.IsZero() {
		t.Fatalf("not open: %+v", b.Stats())
	}
	time.Sleep(time.Until(until))
	state(t, b, breaker.HalfOpen)
}

// bubble runs f with a breaker of cfg in a synctest bubble.
func bubble(t *testing.T, cfg breaker.Config, f func(*testing.T, *breaker.Breaker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, breaker.New(cfg)) })
}

// one is the smallest configuration: one failure opens it, one probe closes it.
func one() breaker.Config {
	return breaker.Config{Consecutive: 1, Probes: 1, RampUp: -1}
}

func TestRules(t *testing.T) {
	const s, f = true, false
	times := func(n int, outcome bool) []bool {
		calls := make([]bool, n)
		for i := range calls {
			calls[i] = outcome
		}
		return calls
	}
	join := func(parts ...[]bool) (calls []bool) {
		for _, p := range parts {
			calls = append(calls, p...)
		}
		return calls
	}
	rate := func(r float64, minCalls int) breaker.Config {
		return breaker.Config{FailureRate: r, MinCalls: minCalls}
	}
	for _, test := range []struct {
		name  string
		cfg   breaker.Config
		calls []bool // the last one opens the breaker, if open
		open  bool
	}{
		{"default: nine failures are too few", breaker.Config{}, times(9, f), false},
		{"default: ten failures", breaker.Config{}, times(10, f), true},
		{"default: half", breaker.Config{}, join(times(10, s), times(10, f)), true},
		{"default: below half", breaker.Config{}, join(times(11, s), times(10, f)), false},
		{"default: a burst of failures", breaker.Config{}, join(times(99, s), times(98, f)), false},

		{"99 of 200 do not reach a half", rate(.5, 1), join(times(101, s), times(99, f)), false},
		{"100 of 200 do", rate(.5, 1), join(times(100, s), times(100, f)), true},
		{"57 of 100 reach 0.57", rate(.57, 100), join(times(43, s), times(57, f)), true},
		{"56 of 100 do not", rate(.57, 100), join(times(44, s), times(56, f)), false},
		{"two of three reach 2/3", rate(2.0/3, 3), join(times(1, s), times(2, f)), true},
		{"five of six reach 5/6", rate(5.0/6, 6), join(times(1, s), times(5, f)), true},
		{"4 of 1000 reach 0.4 %", rate(.004, 1), join(times(996, s), times(4, f)), true},
		{"3 of 1000 do not", rate(.004, 1), join(times(997, s), times(3, f)), false},
		{"1 of 1000 does not reach 0.2 %", rate(.002, 1), join(times(999, s), times(1, f)), false},
		{"all must fail for a rate of 1", rate(1, 2), join(times(1, s), times(50, f)), false},

		{
			"a success that crosses the minimum does not open",
			rate(.5, 20), join(times(10, f), times(10, s)), false,
		},
		{
			"the failure after it does",
			rate(.5, 20), join(times(10, f), times(10, s), times(1, f)), true,
		},

		{"consecutive: too few", breaker.Config{Consecutive: 3}, times(2, f), false},
		{"consecutive: enough", breaker.Config{Consecutive: 3}, times(3, f), true},
		{
			"consecutive: a success between",
			breaker.Config{Consecutive: 3},
			[]bool{f, f, s, f, f},
			false,
		},
		{
			"consecutive: and then enough",
			breaker.Config{Consecutive: 3},
			[]bool{f, f, s, f, f, f},
			true,
		},
		{"consecutive alone has no rate", breaker.Config{Consecutive: 30}, times(29, f), false},
		{"a rate alone has no consecutive", rate(.9, 10), join(times(9, s), times(80, f)), false},
		{
			"any of two rules: the first",
			breaker.Config{Consecutive: 3, FailureRate: .9},
			times(3, f), true,
		},
		{
			"any of two rules: the second",
			breaker.Config{Consecutive: 99, FailureRate: .9},
			times(10, f), true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, test.cfg, func(t *testing.T, b *breaker.Breaker) {
				for i, succeeds := range test.calls {
					if got := b.State(); got != breaker.Closed {
						t.Fatalf("%v before call %d of %d", got, i+1, len(test.calls))
					}
					if succeeds {
						succeed(t, b, 1)
					} else {
						fail(t, b, 1)
					}
				}
				if open := b.State() == breaker.Open; open != test.open {
					t.Errorf("open is %v, want %v: %+v", open, test.open, b.Stats())
				}
			})
		})
	}
}

// A dependency that is gone opens the breaker in two seconds, however well it did
// before. By the rate alone it would take as long as the good times lasted, up to
// half a window.
func TestFailingForSeesThroughGoodTimes(t *testing.T) {
	bubble(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		for range 3000 {
			succeed(t, b, 1)
			time.Sleep(10 * time.Millisecond)
		}
		began := time.Now()
		for b.State() == breaker.Closed {
			fail(t, b, 1)
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took < 2*time.Second || took > 2100*time.Millisecond {
			t.Errorf("opened after %v, want 2s", took)
		}
	})
}

func TestFailingFor(t *testing.T) {
	cfg := breaker.Config{FailingFor: time.Second, MinCalls: 3}
	t.Run("needs both the time and the calls", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 100)
			time.Sleep(999 * time.Millisecond)
			fail(t, b, 1)
			state(t, b, breaker.Closed)
			time.Sleep(time.Millisecond)
			fail(t, b, 1)
			state(t, b, breaker.Open)
		})
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			for range 2 {
				fail(t, b, 1)
				time.Sleep(time.Minute)
			}
			state(t, b, breaker.Closed)
			fail(t, b, 1)
			state(t, b, breaker.Open)
		})
	})
	t.Run("one success begins it anew", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 10)
			time.Sleep(900 * time.Millisecond)
			succeed(t, b, 1)
			fail(t, b, 10)
			time.Sleep(900 * time.Millisecond)
			fail(t, b, 10)
			state(t, b, breaker.Closed)
		})
	})
}

// Thirty seconds must hold ten calls of a dependency that is called once a second.
func TestDefaultsTripAtOneCallASecond(t *testing.T) {
	bubble(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		for range 60 {
			succeed(t, b, 1)
			time.Sleep(time.Second)
		}
		calls := 0
		for ; b.State() == breaker.Closed; calls++ {
			fail(t, b, 1)
			time.Sleep(time.Second)
		}
		if calls > 10 {
			t.Errorf("took %d failures at one a second, want 10", calls)
		}
	})
}

// A failure belongs to the window in which it ends. Peers that give it to the one in
// which it began never see a dependency that takes longer than the window to fail.
func TestFailuresSlowerThanTheWindow(t *testing.T) {
	cfg := breaker.Config{Window: time.Second, FailureRate: .5, MinCalls: 5}
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				_ = b.Do(context.Background(), func(context.Context) error {
					time.Sleep(20 * time.Second)
					return errBoom
				})
			})
		}
		wg.Wait()
		state(t, b, breaker.Open)
	})
}

func TestCallsUnderWayAreNotCounted(t *testing.T) {
	cfg := breaker.Config{FailureRate: .5, MinCalls: 20}
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		for range 100 {
			p := allow(t, b)
			defer p.Record(breaker.Success)
		}
		succeed(t, b, 10)
		fail(t, b, 10)
		state(t, b, breaker.Open)
	})
}

func TestIdleReadsAreNotStale(t *testing.T) {
	bubble(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		succeed(t, b, 20)
		fail(t, b, 9)
		if got := b.Stats().Recent; got.Failed != 9 || got.Succeeded != 20 {
			t.Errorf("recent is %+v", got)
		}
		time.Sleep(time.Hour)
		if got := b.Stats().Recent; got != (breaker.Counts{}) {
			t.Errorf("an hour later recent is %+v, want nothing", got)
		}
		if got := b.Stats().Total; got.Failed != 9 || got.Succeeded != 20 {
			t.Errorf("an hour later the total is %+v", got)
		}
	})
}

func TestSlowCalls(t *testing.T) {
	slowly := func(t *testing.T, b *breaker.Breaker, d time.Duration, err error) {
		t.Helper()
		got := b.Do(t.Context(), func(context.Context) error { time.Sleep(d); return err })
		if got != err {
			t.Fatal(got)
		}
	}
	cfg := breaker.Config{SlowCall: time.Second, SlowRate: .5, MinCalls: 4}
	t.Run("slow successes open", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			succeed(t, b, 2)
			slowly(t, b, time.Second, nil)
			state(t, b, breaker.Closed)
			slowly(t, b, time.Second, nil)
			state(t, b, breaker.Open)
		})
	})
	t.Run("a little faster does not", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			for range 10 {
				slowly(t, b, time.Second-1, nil)
			}
			state(t, b, breaker.Closed)
		})
	})
	t.Run("SlowRate alone leaves failures alone", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 1000)
			state(t, b, breaker.Closed)
		})
	})
	t.Run("SlowCall alone adds to the defaults", func(t *testing.T) {
		bubble(t, breaker.Config{SlowCall: time.Second}, func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 10)
			state(t, b, breaker.Open)
		})
	})
	t.Run("SlowRate is a half if not set", func(t *testing.T) {
		cfg := breaker.Config{SlowCall: time.Second, MinCalls: 4}
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			succeed(t, b, 3)
			slowly(t, b, time.Second, nil)
			slowly(t, b, time.Second, nil)
			state(t, b, breaker.Closed)
			slowly(t, b, time.Second, nil)
			state(t, b, breaker.Open)
		})
	})
	t.Run("an ignored call that was slow is slow", func(t *testing.T) {
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			for range 4 {
				p := allow(t, b)
				time.Sleep(time.Second)
				p.Record(breaker.Ignored)
			}
			state(t, b, breaker.Open)
			if got := b.Stats(); got.Ignored != 4 || got.Total.Slow != 4 {
				t.Errorf("%+v", got)
			}
		})
	})
	t.Run("and not part of the failure rate", func(t *testing.T) {
		cfg := breaker.Config{
			Window: time.Hour, SlowCall: time.Second, SlowRate: 1, FailureRate: .5, MinCalls: 4,
		}
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			succeed(t, b, 1)
			for range 90 {
				p := allow(t, b)
				time.Sleep(time.Second)
				p.Record(breaker.Ignored)
			}
			succeed(t, b, 2)
			fail(t, b, 2)
			state(t, b, breaker.Closed)
			fail(t, b, 1)
			state(t, b, breaker.Open)
		})
	})
	t.Run("a slow probe opens again", func(t *testing.T) {
		cfg.Probes = 1
		bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
			for range 4 {
				slowly(t, b, time.Second, nil)
			}
			untilProbe(t, b)
			slowly(t, b, time.Second, nil)
			state(t, b, breaker.Open)
		})
	})
}

func TestPanicAndGoexitAreFailures(t *testing.T) {
	exits := map[string]func(context.Context) error{
		"panic":  func(context.Context) error { panic("burst") },
		"goexit": func(context.Context) error { runtime.Goexit(); return nil },
	}
	for name, exit := range exits {
		do := map[string]func(b *breaker.Breaker){
			"method": func(b *breaker.Breaker) { _ = b.Do(context.Background(), exit) },
			"function": func(b *breaker.Breaker) {
				_, _ = breaker.Do(context.Background(), b, func(ctx context.Context) (int, error) {
					return 0, exit(ctx)
				})
			},
		}
		for form, do := range do {
			t.Run(name+" in the "+form, func(t *testing.T) {
				bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
					attempt := func() {
						var wg sync.WaitGroup
						wg.Go(func() {
							defer func() { _ = recover() }()
							do(b)
						})
						wg.Wait()
					}
					attempt()
					state(t, b, breaker.Open)
					untilProbe(t, b)
					attempt() // as a probe: it must give back its place
					state(t, b, breaker.Open)
					untilProbe(t, b)
					succeed(t, b, 1)
					state(t, b, breaker.Closed)
				})
			})
		}
	}
}

func TestPanicKeepsItsStack(t *testing.T) {
	defer func() {
		if v := recover(); v != "burst" {
			t.Errorf("recovered %v", v)
		}
		if stack := string(debug.Stack()); !strings.Contains(stack, "burstDeepInside") {
			t.Errorf("the origin is not on the stack:\n%s", stack)
		}
	}()
	_ = breaker.New(breaker.Config{}).Do(t.Context(), burstDeepInside)
}

func burstDeepInside(context.Context) error { panic("burst") }

// A Classify of the user's may panic too. The call is then a failure, and a probe's
// place is free again.
func TestPanicInClassify(t *testing.T) {
	cfg := one()
	cfg.Classify = func(context.Context, error) breaker.Outcome { panic("classify") }
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		attempt := func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = b.Do(t.Context(), ok)
		}
		attempt()
		state(t, b, breaker.Open)
		untilProbe(t, b)
		attempt()
		state(t, b, breaker.Open)
	})
}

func TestResultIsReturnedBesideItsError(t *testing.T) {
	b := breaker.New(breaker.Config{})
	got, err := breaker.Do(t.Context(), b, func(context.Context) (int, error) { return 7, errBoom })
	if got != 7 || err != errBoom {
		t.Errorf("got %v and %v", got, err)
	}
	b.ForceOpen()
	got, err = breaker.Do(t.Context(), b, func(context.Context) (int, error) { return 7, nil })
	if got != 0 || !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("refused: got %v and %v", got, err)
	}
}

func TestNilFunction(t *testing.T) {
	bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
		for name, do := range map[string]func(){
			"method":   func() { _ = b.Do(t.Context(), nil) },
			"function": func() { _, _ = breaker.Do[int](t.Context(), b, nil) },
		} {
			func() {
				defer func() {
					if v := recover(); v != "breaker: Do: nil function" {
						t.Errorf("%s: recovered %v", name, v)
					}
				}()
				do()
			}()
		}
		state(t, b, breaker.Closed) // a mistake of the caller's is no failure
	})
}

func TestPermitIsFinishedOnce(t *testing.T) {
	bubble(t, breaker.Config{Consecutive: 2, Probes: 2}, func(t *testing.T, b *breaker.Breaker) {
		p := allow(t, b)
		p.Done(t.Context(), errBoom)
		p.Done(t.Context(), errBoom)
		p.Record(breaker.Failure)
		state(t, b, breaker.Closed)
		if got := b.Stats().Total.Failed; got != 1 {
			t.Errorf("%d failures, want 1", got)
		}
		fail(t, b, 1)
		untilProbe(t, b)

		// Of two probes, one finished twice frees one place and is one success.
		p, q := allow(t, b), allow(t, b)
		p.Record(breaker.Success)
		p.Record(breaker.Success)
		state(t, b, breaker.HalfOpen)
		refused(t, b)
		q.Record(breaker.Success)
		state(t, b, breaker.Ramp)
	})
	// The permit of a refusal is the zero one, for a caller who overlooks the error.
	b := breaker.New(breaker.Config{})
	b.ForceOpen()
	p, err := b.Allow()
	p.Done(t.Context(), errBoom)
	if got := b.Stats().Total.Failed; err == nil || got != 0 {
		t.Errorf("%v, and %d failures", err, got)
	}
	var zero breaker.Permit
	zero.Done(t.Context(), errBoom)
	zero.Record(breaker.Failure)
}

func TestPermitAfterReset(t *testing.T) {
	cfg := breaker.Config{FailureRate: .5, MinCalls: 1}
	bubble(t, cfg, func(t *testing.T, b *breaker.Breaker) {
		p := allow(t, b)
		b.Reset()
		p.Done(t.Context(), errBoom)
		q := allow(t, b)
		b.Reset()
		q.Done(t.Context(), nil)
		state(t, b, breaker.Closed)
		s := b.Stats()
		if s.Total != (breaker.Counts{Succeeded: 1, Failed: 1}) || s.Recent != (breaker.Counts{}) {
			t.Errorf("%+v: nothing is lost, and nothing late is recent", s)
		}
	})
}

func TestUnknownOutcomeIsAFailure(t *testing.T) {
	bubble(t, one(), func(t *testing.T, b *breaker.Breaker) {
		p := allow(t, b)
		p.Record(breaker.Outcome(77))
		state(t, b, breaker.Open)
	})
}

// Classifiers are the user's code: one that blocks must hold up nobody else.
func TestClassifyRunsUnderNoLock(t *testing.T) {
	blocked, release := make(chan struct{}), make(chan struct{})
	b := breaker.New(breaker.Config{Classify: func(_ context.Context, err error) breaker.Outcome {
		if err == errBoom {
			close(blocked)
			<-release
		}
		return breaker.Success
	}})
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Do(context.Background(), boom) })
	<-blocked
	succeed(t, b, 1)
	b.Reset()
	b.Stats()
	close(release)
	wg.Wait()
}

func TestConcurrentCallsAreAllCounted(t *testing.T) {
	const goroutines, calls = 8, 5000
	b := breaker.New(breaker.Config{Window: 10 * time.Millisecond, FailureRate: 1})
	var made atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range calls {
				p, err := b.Allow()
				if err != nil {
					continue
				}
				made.Add(1)
				if i%3 == 0 {
					p.Record(breaker.Failure)
				} else {
					p.Record(breaker.Success)
				}
			}
		})
	}
	wg.Wait()
	s := b.Stats()
	if got := s.Total.Succeeded + s.Total.Failed; got != uint64(made.Load()) {
		t.Errorf("counted %d of %d calls over many buckets: %+v", got, made.Load(), s)
	}
	if got := s.Refused + uint64(made.Load()); got != goroutines*calls {
		t.Errorf("%d calls made or refused, want %d", got, goroutines*calls)
	}
}

func TestNoAllocations(t *testing.T) {
	ctx := t.Context()
	give := func(context.Context) (string, error) { return "x", nil }
	closed := breaker.New(breaker.Config{})
	slow := breaker.New(breaker.Config{SlowCall: time.Hour})
	open := breaker.New(breaker.Config{})
	open.ForceOpen()
	failing := breaker.New(breaker.Config{FailureRate: 1, MinCalls: 1 << 20})
	for name, f := range map[string]func(){
		"method":    func() { _ = closed.Do(ctx, ok) },
		"function":  func() { _, _ = breaker.Do(ctx, closed, give) },
		"slow rule": func() { _, _ = breaker.Do(ctx, slow, give) },
		"failure":   func() { _ = failing.Do(ctx, boom) },
		"refusal":   func() { _, _ = breaker.Do(ctx, open, give) },
		"two steps": func() {
			p, err := closed.Allow()
			if err == nil {
				p.Done(ctx, nil)
			}
		},
		"nested": func() {
			_, _ = breaker.Do(ctx, closed, func(ctx context.Context) (string, error) {
				return breaker.Do(ctx, slow, give)
			})
		},
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestNewStartsNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 100_000 {
		breaker.New(breaker.Config{})
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines became %d", before, after)
	}
}

// A breaker may be made in one time and used in another: package variables are made
// before a test's bubble begins.
func TestMadeOutsideABubble(t *testing.T) {
	b := breaker.New(one())
	synctest.Test(t, func(t *testing.T) {
		fail(t, b, 1)
		untilProbe(t, b)
		succeed(t, b, 1)
		state(t, b, breaker.Closed)
		fail(t, b, 1)
	})
	// Back outside, the time of the bubble lies in the future. Nothing panics, and
	// the breaker can be had back.
	refused(t, b)
	b.Reset()
	succeed(t, b, 1)
}

func TestErrors(t *testing.T) {
	b := breaker.New(breaker.Config{Name: "prices"})
	b.ForceOpen()
	err := fmt.Errorf("get: %w", b.Do(t.Context(), ok))
	open, ok := errors.AsType[*breaker.OpenError](err)
	if !ok || !errors.Is(err, breaker.ErrOpen) {
		t.Fatal(err)
	}
	if got, want := open.Error(), "breaker: prices: open"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	if !open.NotAttempted() || open.RetryAfter() != 0 || !open.Until.IsZero() {
		t.Errorf("%+v, retry after %v", open, open.RetryAfter())
	}
	if got := (&breaker.OpenError{State: breaker.HalfOpen}).Error(); got != "breaker: half-open" {
		t.Errorf("message %q", got)
	}
}
