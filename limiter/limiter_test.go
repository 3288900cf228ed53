package limiter_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/limiter"
	"golang.org/x/time/rate"
)

var errBoom = errors.New("boom")

// The verbs of the tests. Time is that of a synctest bubble, so that waiting is
// exact and costs nothing.

func ok(context.Context) error   { return nil }
func boom(context.Context) error { return errBoom }

// bubble runs f with a limiter of cfg in a synctest bubble.
func bubble(t *testing.T, cfg limiter.Config, f func(*testing.T, *limiter.Limiter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, limiter.New(cfg)) })
}

// of is the Config of a limit alone.
func of(r rate.Limit, burst int) limiter.Config { return limiter.Config{Limit: limit(r, burst)} }

// take fails the test unless n can be taken.
func take(t *testing.T, l *limiter.Limiter, n int) {
	t.Helper()
	if !l.AllowN(n) {
		t.Fatalf("%d refused: %+v", n, l.Stats())
	}
}

// none fails the test if n can be taken.
func none(t *testing.T, l *limiter.Limiter, n int) {
	t.Helper()
	if l.AllowN(n) {
		t.Fatalf("%d granted, leaving %+v", n, l.Stats())
	}
}

// left fails the test unless exactly n are left. It takes them.
func left(t *testing.T, l *limiter.Limiter, n int) {
	t.Helper()
	none(t, l, n+1)
	if n > 0 {
		take(t, l, n)
	}
	none(t, l, 1)
}

// drain takes what is there.
func drain(l *limiter.Limiter) {
	for l.Allow() {
	}
}

// set changes the limit.
func set(t *testing.T, l *limiter.Limiter, to limiter.Limit) {
	t.Helper()
	if err := l.SetLimit(to); err != nil {
		t.Fatal(err)
	}
}

func TestAllow(t *testing.T) {
	bubble(t, of(10, 3), func(t *testing.T, l *limiter.Limiter) {
		for range 3 {
			if !l.Allow() {
				t.Fatal("refused before the burst was used")
			}
		}
		if l.Allow() {
			t.Fatal("more than the burst")
		}
		time.Sleep(100*ms - 1)
		none(t, l, 1)
		time.Sleep(time.Nanosecond)
		take(t, l, 1)
		none(t, l, 1)
		time.Sleep(time.Hour) // and no more than a burst
		left(t, l, 3)
		time.Sleep(200 * ms)
		left(t, l, 2)
	})
}

// Who comes on the dot is let through, whatever the interval.
func TestEveryOnTheDot(t *testing.T) {
	for i := range 1000 {
		every := time.Duration(i+1) * ms
		bubble(t, of(rate.Every(every), 1), func(t *testing.T, l *limiter.Limiter) {
			for range 5 {
				take(t, l, 1)
				time.Sleep(every - 1)
				none(t, l, 1)
				time.Sleep(time.Nanosecond)
			}
		})
	}
}

// A refusal that cost something would keep a client that does not stop out for ever.
func TestRefusalsCostNothing(t *testing.T) {
	bubble(t, of(10, 5), func(t *testing.T, l *limiter.Limiter) {
		left(t, l, 5)
		for range 1000 {
			none(t, l, 1)
			none(t, l, 6)
			l.Check(5)
		}
		time.Sleep(100 * ms)
		left(t, l, 1)
	})
}

// All or nothing: what is refused takes none of what is there.
func TestAllOrNothing(t *testing.T) {
	bubble(t, of(10, 5), func(t *testing.T, l *limiter.Limiter) {
		take(t, l, 3)
		none(t, l, 3)
		left(t, l, 2)
	})
}

// A limiter of windows lets two windows' worth through around the end of one.
func TestNoTwiceAroundAWindow(t *testing.T) {
	bubble(t, of(100, 100), func(t *testing.T, l *limiter.Limiter) {
		time.Sleep(990 * ms)
		left(t, l, 100)
		time.Sleep(20 * ms)
		left(t, l, 2)
	})
}

// Numbers that mean nothing are refused by every verb, and above all give nothing back:
// AllowN of -5 must not make five tokens.
func TestNumbers(t *testing.T) {
	for _, before := range []limiter.Limit{limit(10, 5), {}, limit(rate.Inf, 0), limit(1, 1000)} {
		for _, n := range []int{0, -1, -5, math.MinInt, math.MinInt + 1, 6, math.MaxInt} {
			cfg := limiter.Config{Limit: before, MaxQueue: 9}
			bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
				set(t, l, limit(10, 5))
				drain(l)
				none(t, l, n)
				neverTaken(t, l.Check(n))
				neverTaken(t, l.Bucket().Check(n))
				neverTaken(t, limiter.All(n, l.Bucket(), l.Bucket()))
				if l.Bucket().AllowN(n) {
					t.Errorf("a bucket grants %d", n)
				}
				began := time.Now()
				e := limited(t, l.Wait(t.Context(), n), limiter.Never)
				if took := time.Since(began); took != 0 || e.Limit != limit(10, 5) {
					t.Errorf("waited for %v: %v", took, e)
				}
				none(t, l, 1)
				limited(t, limiter.New(of(10, 5)).Wait(t.Context(), n), limiter.Never)
				time.Sleep(time.Hour)
				none(t, l, n)
				left(t, l, 5)
			})
		}
	}
}

// neverTaken fails the test unless r is a refusal for ever.
func neverTaken(t *testing.T, r limiter.Result) {
	t.Helper()
	if r.OK || r.Granted != 0 || r.RetryAfter != never {
		t.Errorf("got %+v, want a refusal for ever", r)
	}
}

func TestZeroLetsNothingThrough(t *testing.T) {
	for _, zero := range []limiter.Limit{{}, limit(0, 10), limit(0, math.MaxInt)} {
		cfg := limiter.Config{Limit: zero, MaxQueue: 1}
		bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
			for range 2 {
				none(t, l, 1)
				limited(t, l.Wait(t.Context(), 1), limiter.Never)
				limited(t, l.Do(t.Context(), uncalled(t)), limiter.Never)
				r := l.Check(1)
				want := limiter.Result{Limit: zero, RetryAfter: never}
				if r != want {
					t.Errorf("got %+v, want %+v", r, want)
				}
				if s := l.Stats(); s.Tokens != 0 {
					t.Errorf("%v tokens", s.Tokens)
				}
				time.Sleep(1000 * time.Hour)
			}
		})
	}
}

func TestInfLetsEverythingThrough(t *testing.T) {
	for _, inf := range []limiter.Limit{
		limit(rate.Inf, 0), limit(rate.Inf, 7), limit(rate.Limit(math.Inf(1)), 0),
	} {
		cfg := limiter.Config{Limit: inf, MaxQueue: 1}
		bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
			for range 100 {
				take(t, l, 1)
				take(t, l, math.MaxInt)
				if err := l.Wait(t.Context(), math.MaxInt); err != nil {
					t.Error(err)
				}
				r := l.Check(8)
				want := limiter.Result{OK: true, Granted: 8, Remaining: math.MaxInt, Limit: inf}
				if r != want {
					t.Errorf("got %+v, want %+v", r, want)
				}
			}
			none(t, l, 0)
			none(t, l, -1)
			if s := l.Stats(); s.Tokens != float64(rate.Inf) {
				t.Errorf("%v tokens", s.Tokens)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	l := limit(10, 5)
	steps := []struct {
		after time.Duration
		n     int
		want  limiter.Result
	}{
		{0, 2, limiter.Result{OK: true, Granted: 2, Remaining: 3, ResetAfter: 200 * ms}},
		{0, 3, limiter.Result{OK: true, Granted: 3, Remaining: 0, ResetAfter: 500 * ms}},
		{0, 1, limiter.Result{RetryAfter: 100 * ms, ResetAfter: 500 * ms}},
		{0, 5, limiter.Result{RetryAfter: 500 * ms, ResetAfter: 500 * ms}},
		{0, 6, limiter.Result{RetryAfter: never, ResetAfter: 500 * ms}},
		{0, 0, limiter.Result{RetryAfter: never, ResetAfter: 500 * ms}},
		{0, -1, limiter.Result{RetryAfter: never, ResetAfter: 500 * ms}},
		{30 * ms, 1, limiter.Result{RetryAfter: 70 * ms, ResetAfter: 470 * ms}},
		{69*ms + 999999, 1, limiter.Result{RetryAfter: 1, ResetAfter: 400*ms + 1}},
		{1, 2, limiter.Result{Remaining: 1, RetryAfter: 100 * ms, ResetAfter: 400 * ms}},
		{0, 1, limiter.Result{OK: true, Granted: 1, ResetAfter: 500 * ms}},
		{250 * ms, 3, limiter.Result{Remaining: 2, RetryAfter: 50 * ms, ResetAfter: 250 * ms}},
		{time.Hour, 6, limiter.Result{Remaining: 5, RetryAfter: never}},
		{0, 5, limiter.Result{OK: true, Granted: 5, ResetAfter: 500 * ms}},
	}
	cfg := limiter.Config{Name: "tenants", Limit: l}
	bubble(t, cfg, func(t *testing.T, lim *limiter.Limiter) {
		for i, step := range steps {
			time.Sleep(step.after)
			step.want.Name, step.want.Limit = "tenants", l
			if got := lim.Check(step.n); got != step.want {
				t.Errorf("step %d:\ngot  %+v\nwant %+v", i, got, step.want)
			}
		}
	})
}

// One nanosecond before RetryAfter is too early, and then it is not; and likewise the
// bucket is full at ResetAfter, and a nanosecond before it is not.
func TestRetryAfterIsExact(t *testing.T) {
	for _, r := range []rate.Limit{
		0.001, 1.0 / 3, 1, 3, 7, 10, 99.9, 1e4, 7e5, 3e6, 7e7, 3e8, 1e9,
	} {
		bubble(t, of(r, 100), func(t *testing.T, l *limiter.Limiter) {
			for _, n := range []int{100, 1, 2, 7, 50, 99, 100} {
				drain(l)
				wait := l.Check(n).RetryAfter
				time.Sleep(wait - 1)
				if got := l.Check(n); got.OK || got.RetryAfter != 1 {
					t.Fatalf("%v/s: %d a nanosecond early: %+v", r, n, got)
				}
				time.Sleep(time.Nanosecond)
				got := l.Check(n)
				if !got.OK {
					t.Fatalf("%v/s: %d after %v: %+v", r, n, wait, got)
				}
				time.Sleep(got.ResetAfter - 1)
				if got := l.Check(101); got.ResetAfter != 1 {
					t.Fatalf("%v/s: reset a nanosecond early: %+v", r, got)
				}
				time.Sleep(time.Nanosecond)
				if got := l.Check(101); got.ResetAfter != 0 || got.Remaining != 100 {
					t.Fatalf("%v/s: not reset after what it said: %+v", r, got)
				}
			}
		})
	}
}

func TestSetLimitKeepsTokens(t *testing.T) {
	ten := limit(10, 10)
	inf := limit(rate.Inf, 0)
	for _, test := range []struct {
		name   string
		limits []limiter.Limit // one after another, after 4 of the first were used
		want   int
	}{
		{"the same", []limiter.Limit{ten, ten}, 6},
		{"ten times slower", []limiter.Limit{ten, limit(1, 10)}, 6},
		{"ten times faster", []limiter.Limit{ten, limit(100, 10)}, 6},
		{"a rate that does not divide", []limiter.Limit{ten, limit(3, 10), limit(7, 10), ten}, 6},
		{"there and back", []limiter.Limit{ten, limit(1e-3, 10), limit(1e6, 10), ten}, 6},
		{"a smaller burst", []limiter.Limit{ten, limit(10, 5)}, 5},
		{"a burst as large as what is there", []limiter.Limit{ten, limit(10, 6)}, 6},
		{"a larger burst", []limiter.Limit{ten, limit(10, 1000)}, 6},
		{"both", []limiter.Limit{ten, limit(0.1, 1000)}, 6},
		{"what does not fit is lost", []limiter.Limit{ten, limit(10, 1), ten}, 1},
		{"as slow as can be", []limiter.Limit{ten, limit(rate.Every(80*24*time.Hour), 10)}, 6},
		{"as fast as can be", []limiter.Limit{ten, limit(1e300, 10)}, 6},
		{"none", []limiter.Limit{ten, {}}, 0},
		{"from none it begins empty", []limiter.Limit{ten, {}, ten}, 0},
		{"from no limit it begins full", []limiter.Limit{ten, inf, ten}, 10},
		{"from none to no limit and back", []limiter.Limit{ten, {}, inf, ten}, 10},
		{"from no limit to none and back", []limiter.Limit{ten, inf, {}, ten}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := limiter.Config{Limit: test.limits[0]}
			bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
				take(t, l, 4)
				for _, next := range test.limits[1:] {
					set(t, l, next)
				}
				if got := l.Check(1000); got.Remaining != test.want {
					t.Errorf("%d left, want %d: %+v", got.Remaining, test.want, got)
				}
				left(t, l, test.want)
			})
		})
	}
}

// After a change what is missing comes back at the new rate.
func TestSetLimitFillsAtTheNewRate(t *testing.T) {
	bubble(t, of(10, 10), func(t *testing.T, l *limiter.Limiter) {
		left(t, l, 10)
		time.Sleep(150 * ms) // one, and a half
		set(t, l, limit(1, 10))
		take(t, l, 1)
		time.Sleep(500*ms - 1)
		none(t, l, 1)
		time.Sleep(time.Nanosecond)
		take(t, l, 1)
		set(t, l, limit(0, 0))
		time.Sleep(time.Hour)
		set(t, l, limit(100, 10))
		none(t, l, 1)
		time.Sleep(10 * ms)
		left(t, l, 1)
		if got := l.Stats().Limit; got != limit(100, 10) {
			t.Errorf("goes by %v", got)
		}
	})
}

// A limit that means nothing changes nothing.
func TestSetLimitInvalid(t *testing.T) {
	bubble(t, of(10, 10), func(t *testing.T, l *limiter.Limiter) {
		take(t, l, 4)
		before := l.Stats()
		for bad := range theInvalid() {
			if err := l.SetLimit(bad); (err == nil) != (bad.Validate() == nil) {
				t.Errorf("%+v: %v", bad, err)
			}
			if bad.Validate() == nil {
				set(t, l, limit(10, 10))
			}
		}
		if after := l.Stats(); after != before {
			t.Errorf("was %+v, is %+v", before, after)
		}
		left(t, l, 6)
	})
}

func TestShadow(t *testing.T) {
	cfg := limiter.Config{Name: "new", Limit: limit(10, 2), MaxQueue: 5, Shadow: true}
	bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
		first := l.Check(2)
		if !first.OK || first.Shadowed || first.Granted != 2 {
			t.Errorf("within the limit: %+v", first)
		}
		got := l.Check(1)
		want := limiter.Result{
			OK: true, Shadowed: true, ResetAfter: 200 * ms, Limit: limit(10, 2), Name: "new",
		}
		if got != want || got.Err() != nil {
			t.Errorf("got %+v, want %+v", got, want)
		}
		take(t, l, 1)
		take(t, l, 3)
		take(t, l, 0)
		take(t, l, -1)
		if err := l.Wait(t.Context(), 1); err != nil {
			t.Error(err)
		}
		if err := l.Do(t.Context(), boom); err != errBoom {
			t.Error(err)
		}
		if s := l.Stats(); s.Shadowed != 7 || s.Tokens != 0 {
			t.Errorf("%+v, want 7 shadowed", s)
		}
		time.Sleep(100 * ms) // what was let through all the same has used nothing
		if got := l.Check(1); got.Shadowed || got.Granted != 1 {
			t.Errorf("later: %+v", got)
		}
		set(t, l, limiter.Limit{})
		take(t, l, 1)
	})
}

func TestStats(t *testing.T) {
	cfg := limiter.Config{Name: "partner", Limit: limit(10, 10), MaxQueue: 2}
	bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
		stats(t, l, limiter.Stats{Name: "partner", Limit: cfg.Limit, Tokens: 10})
		take(t, l, 10)
		time.Sleep(250 * ms)
		stats(t, l, limiter.Stats{Name: "partner", Limit: cfg.Limit, Tokens: 2.5})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { _ = l.Wait(context.Background(), 5) })
			synctest.Wait()
		}
		want := limiter.Stats{Name: "partner", Limit: cfg.Limit, Tokens: 2.5, Waiting: 2}
		stats(t, l, want)
		limited(t, l.Wait(t.Context(), 1), limiter.QueueFull)
		want.RefusedFull++
		stats(t, l, want)
		wg.Wait()
		want.Waiting, want.Tokens = 0, 0
		stats(t, l, want)
		ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
		defer cancel()
		limited(t, l.Wait(ctx, 1), limiter.DeadlineTooShort)
		want.TooShort++
		stats(t, l, want)
		cancel()
		_ = l.Wait(ctx, 1)
		want.GaveUp++
		stats(t, l, want)
		limited(t, l.Wait(t.Context(), 11), limiter.Never)
		none(t, l, 1)
		l.Check(1)
		stats(t, l, want)
	})
}

func stats(t *testing.T, l *limiter.Limiter, want limiter.Stats) {
	t.Helper()
	if got := l.Stats(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestConfigValidate(t *testing.T) {
	valid := limiter.Config{Limit: limit(1, 1), MaxQueue: 5, Shadow: true}
	if err := errors.Join(valid.Validate(), limiter.Config{}.Validate()); err != nil {
		t.Error(err)
	}
	bad := limiter.Config{Name: "partner", Limit: limit(-1, -2), MaxQueue: -3}
	err := bad.Validate()
	for _, want := range []string{
		"limiter", "partner", "Rate is -1", "Burst is -2", "MaxQueue is -3",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	defer func() {
		if got := recover(); got != err.Error() {
			t.Errorf("panics with %v, want %v", got, err)
		}
	}()
	limiter.New(bad)
}

func uncalled(t *testing.T) func(context.Context) error {
	t.Helper()
	return func(context.Context) error {
		t.Error("a refused call was made")
		return nil
	}
}

func TestDo(t *testing.T) {
	bubble(t, of(10, 2), func(t *testing.T, l *limiter.Limiter) {
		if err := l.Do(t.Context(), boom); err != errBoom {
			t.Errorf("got %v, want the call's own error", err)
		}
		n, err := limiter.Do(t.Context(), l, func(ctx context.Context) (int, error) {
			if ctx != t.Context() {
				t.Error("the call got another context")
			}
			return 42, errBoom
		})
		if n != 42 || err != errBoom {
			t.Errorf("got %d and %v, want both untouched", n, err)
		}
		e := limited(t, l.Do(t.Context(), uncalled(t)), limiter.RateExceeded)
		if e.RetryAfter() != 100*ms {
			t.Errorf("retry after %v", e.RetryAfter())
		}
		n, err = limiter.Do(t.Context(), l, func(context.Context) (int, error) {
			t.Error("a refused call was made")
			return 42, nil
		})
		if limited(t, err, limiter.RateExceeded); n != 0 {
			t.Errorf("a refused call's result is %d", n)
		}
		time.Sleep(e.RetryAfter() - 1)
		e = limited(t, l.Do(t.Context(), uncalled(t)), limiter.RateExceeded)
		if e.RetryAfter() != ms { // rounded up
			t.Errorf("retry after %v", e.RetryAfter())
		}
		time.Sleep(time.Nanosecond)
		if err := l.Do(t.Context(), ok); err != nil {
			t.Error(err)
		}
	})
}

func TestDoNil(t *testing.T) {
	l := limiter.New(of(1, 1))
	for name, do := range map[string]func(){
		"method":   func() { _ = l.Do(t.Context(), nil) },
		"function": func() { _, _ = limiter.Do[int](t.Context(), l, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if got := recover(); got != "limiter: Do: nil function" {
					t.Errorf("panics with %v", got)
				}
			}()
			do()
		})
	}
	left(t, l, 1)
}

// A call that panics or exits has used its token, and holds nothing.
func TestPanicAndGoexit(t *testing.T) {
	exits := map[string]func(context.Context) error{
		"panic":  func(context.Context) error { panic("burst") },
		"goexit": func(context.Context) error { runtime.Goexit(); return nil },
	}
	for name, exit := range exits {
		t.Run(name, func(t *testing.T) {
			cfg := limiter.Config{Limit: limit(10, 3), MaxQueue: 1}
			bubble(t, cfg, func(t *testing.T, l *limiter.Limiter) {
				for range 5 { // the last two wait for their tokens
					var wg sync.WaitGroup
					wg.Go(func() {
						defer func() { _ = recover() }()
						_ = l.Do(context.Background(), exit)
					})
					wg.Wait()
				}
				stats(t, l, limiter.Stats{Limit: cfg.Limit})
				time.Sleep(time.Hour)
				left(t, l, 3)
			})
		})
	}
}

// A limiter made outside of a bubble has its own time, which stands still in it; and so
// has one that was made inside and is used outside. Neither panics or hangs.
func TestAcrossBubbles(t *testing.T) {
	outside := limiter.New(of(1e9, 2))
	var inside *limiter.Limiter
	synctest.Test(t, func(t *testing.T) {
		inside = limiter.New(of(1e9, 2))
		take(t, outside, 1)
		for range 2 {
			outside.Check(1)
			none(t, outside, 9)
			_ = outside.Wait(t.Context(), 1)
			set(t, outside, limit(1e8, 3))
			outside.Stats()
			time.Sleep(time.Second)
		}
	})
	for range 2 {
		inside.Allow()
		inside.Check(1)
		_ = inside.Wait(t.Context(), 1)
		set(t, inside, limit(1e8, 3))
		inside.Stats()
	}
}

func TestAllocs(t *testing.T) {
	granting := limiter.New(of(1e9, 1e9))
	refusing := limiter.New(of(1.0/3600, 1))
	refusing.Allow()
	full := limiter.New(limiter.Config{Limit: limit(1.0/3600, 1), MaxQueue: 1})
	full.Allow()
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() { defer close(gone); _ = full.Wait(ctx, 1) }()
	for full.Stats().Waiting == 0 {
		runtime.Gosched()
	}
	defer func() { cancel(); <-gone }()
	shadow := limiter.New(limiter.Config{Limit: limit(1e-3, 1), Shadow: true})
	stranger := rate.NewLimiter(1e-3, 1)
	value := func(context.Context) (int, error) { return 1, nil }
	for name, f := range map[string]func(){
		"Allow":                func() { granting.Allow() },
		"Allow refused":        func() { refusing.Allow() },
		"AllowN":               func() { granting.AllowN(3) },
		"Check":                func() { granting.Check(1) },
		"Check refused":        func() { refusing.Check(1) },
		"Check shadowed":       func() { shadow.Check(1) },
		"Wait":                 func() { _ = granting.Wait(ctx, 1) },
		"Wait refused":         func() { _ = refusing.Wait(ctx, 1) },
		"Wait refused: never":  func() { _ = refusing.Wait(ctx, 2) },
		"Wait refused: full":   func() { _ = full.Wait(ctx, 1) },
		"Do":                   func() { _ = granting.Do(ctx, ok) },
		"Do refused":           func() { _ = refusing.Do(ctx, ok) },
		"Do, generic":          func() { _, _ = limiter.Do(ctx, granting, value) },
		"Do, generic, refused": func() { _, _ = limiter.Do(ctx, refusing, value) },
		"Bucket":               func() { granting.Bucket().Check(1) },
		"FromRate":             func() { limiter.FromRate("x", stranger).Check(1) },
		"All":                  func() { limiter.All(1, granting.Bucket(), granting.Bucket()) },
		"All refused":          func() { limiter.All(1, granting.Bucket(), refusing.Bucket()) },
		"Stats":                func() { granting.Stats() },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
