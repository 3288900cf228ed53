package retry_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/retry"
)

// What the backoff is given is this call's own, and what it returned is what is waited
// for.
func TestBackoffIsToldOfItsOwnCall(t *testing.T) {
	type asked struct {
		attempt int
		prev    time.Duration
	}
	var got []asked
	p := with(plain(), func(p *retry.Policy) {
		p.MaxAttempts = 4
		p.Backoff = func(attempt int, prev time.Duration) time.Duration {
			got = append(got, asked{attempt, prev})
			return time.Duration(attempt) * time.Second
		}
	})
	bubble(t, p, func(t *testing.T, p *retry.Policy) {
		for range 2 {
			got = nil
			// The server's delay is no part of prev: decorrelated waits would grow by it.
			late := retry.After(time.Second, errBoom)
			play(t.Context(), p, late, errBoom, errBoom).made(t, 4, 7*time.Second)
			want := []asked{{1, 0}, {2, time.Second}, {3, 2 * time.Second}}
			if !slices.Equal(got, want) {
				t.Errorf("the backoff was asked %v, want %v", got, want)
			}
		}
	})
}

// The first wait of the zero policy is up to 50 ms, the second up to 100 ms: and both
// may be next to nothing.
func TestZeroPolicyWaits(t *testing.T) {
	bubble(t, &retry.Policy{MaxAttempts: 8}, func(t *testing.T, p *retry.Policy) {
		p.Budget.Off = true
		var least, most, sum [7]time.Duration
		for i := range least {
			least[i] = time.Hour
		}
		p.OnRetry = func(_ context.Context, e retry.Event) {
			i := e.Attempt - 1
			least[i], most[i] = min(least[i], e.Delay), max(most[i], e.Delay)
			sum[i] += e.Delay
		}
		const n = 2000
		for range n {
			play(t.Context(), p, same(errBoom, 7)...)
		}
		bound := 50 * time.Millisecond
		for i := range most {
			if least[i] > bound/20 || most[i] < bound*19/20 || most[i] > bound {
				t.Errorf("wait %d is from %v to %v, want 0 to %v", i+1, least[i], most[i], bound)
			}
			if mean := sum[i] / n; mean < bound*45/100 || mean > bound*55/100 {
				t.Errorf("wait %d is %v in the mean, want %v", i+1, mean, bound/2)
			}
			bound = min(2*bound, 2*time.Second)
		}
	})
}

func TestOnRetryIsToldOfEveryRetryAndOfNothingElse(t *testing.T) {
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		p.Budget.Off = false
		type key struct{}
		ctx := context.WithValue(t.Context(), key{}, "the caller's")
		var events []retry.Event
		began := time.Now()
		p.OnRetry = func(ctx context.Context, e retry.Event) {
			if ctx.Value(key{}) == nil {
				t.Error("not the caller's context")
			}
			if at := time.Since(began); at != time.Duration(len(events))*time.Second {
				t.Errorf("told after %v, want before the wait", at)
			}
			tokens(t, &p.Budget, float64(2-len(events))+0.1*time.Since(began).Seconds())
			events = append(events, e)
		}
		play(ctx, p, errBoom, errConflict, errBoom)
		want := []retry.Event{{1, errBoom, time.Second}, {2, errConflict, time.Second}}
		if !slices.Equal(events, want) {
			t.Errorf("told of %v, want %v", events, want)
		}
	})
	for name, change := range map[string]func(*retry.Policy){
		"a permanent error": func(p *retry.Policy) {
			p.RetryIf = func(error) bool { return false }
		},
		"too long a delay":   func(p *retry.Policy) { p.MaxRetryAfter = -1 },
		"no time":            func(p *retry.Policy) { p.MaxElapsed = 1 },
		"no budget":          func(p *retry.Policy) { p.SharedBudget = drained(t) },
		"a single attempt":   func(p *retry.Policy) { p.MaxAttempts = 1 },
		"nothing that fails": func(p *retry.Policy) { p.Backoff = nil },
	} {
		t.Run(name, func(t *testing.T) {
			p := with(plain(), change)
			p.OnRetry = func(context.Context, retry.Event) { t.Error("told of a retry") }
			if name == "nothing that fails" {
				play(t.Context(), p)
				return
			}
			play(t.Context(), p, retry.After(1, errBoom))
		})
	}
}

// drained returns a budget that has nothing to give.
func drained(t *testing.T) *retry.Budget {
	t.Helper()
	b := &retry.Budget{Burst: 1, Floor: -1}
	if !b.Take() {
		t.Fatal("a new budget is empty")
	}
	return b
}

// The hook of a service that is shutting down cancels; the next attempt must not go out.
func TestOnRetryMayCancel(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Second} {
		bubble(t, &retry.Policy{}, func(t *testing.T, p *retry.Policy) {
			p.Backoff = retry.Constant(delay)
			ctx, cancel := context.WithCancel(t.Context())
			p.OnRetry = func(context.Context, retry.Event) { cancel() }
			c := play(ctx, p, errBoom)
			c.made(t, 1, 0)
			c.matches(t, errBoom, context.Canceled)
			tokens(t, &p.Budget, 3)
		})
	}
}

func TestOnRetryMayPanic(t *testing.T) {
	p := &retry.Policy{OnRetry: func(context.Context, retry.Event) { panic("hook") }}
	for range 10 {
		func() {
			defer func() {
				if v := recover(); v != "hook" {
					t.Errorf("recovered %v", v)
				}
			}()
			_ = p.Do(t.Context(), boom)
		}()
	}
	tokens(t, &p.Budget, 3)
}

// A log line, a metric and an outgoing header all ask which attempt this is.
func TestAttemptNumberIsInTheContext(t *testing.T) {
	if n := retry.Attempt(t.Context()); n != 1 {
		t.Errorf("outside of any policy it is %d", n)
	}
	var seen []int
	outer, inner := hasty(), hasty()
	outer.RetryIf = func(error) bool { return true }
	inner.MaxAttempts = 2
	_ = outer.Do(t.Context(), func(ctx context.Context) error {
		return inner.Do(ctx, func(ctx context.Context) error {
			seen = append(seen, retry.Attempt(ctx))
			return errBoom
		})
	})
	want := []int{1, 2, 2, 3, 3, 4} // the work of the second is done again from the second on
	if !slices.Equal(seen, want) {
		t.Errorf("attempts %v, want %v", seen, want)
	}
}

func TestRetryIf(t *testing.T) {
	t.Run("decides alone", func(t *testing.T) {
		p := hasty()
		p.RetryIf = func(err error) bool { return errors.Is(err, errBoom) }
		if c := play(t.Context(), p, retry.Permanent(errBoom), errBoom, errBoom); c.attempts != 3 {
			t.Errorf("%d attempts, want 3: what is permanent was asked about", c.attempts)
		}
		c := play(t.Context(), p, errConflict)
		if c.attempts != 1 || c.err != errConflict {
			t.Errorf("%d attempts, %v, want one and its error", c.attempts, c.err)
		}
	})
	t.Run("sees the error itself", func(t *testing.T) {
		p := hasty()
		var asked []error
		p.RetryIf = func(err error) bool {
			asked = append(asked, err)
			return true
		}
		play(t.Context(), p, errBoom, errConflict, errBoom)
		if !slices.Equal(asked, []error{errBoom, errConflict, errBoom}) {
			t.Errorf("asked about %v", asked)
		}
	})
	// It may look at what the caller owns, which is gone with the caller.
	t.Run("is not asked when the caller has gone", func(t *testing.T) {
		p := hasty()
		p.RetryIf = func(error) bool {
			t.Error("asked")
			return true
		}
		ctx, cancel := context.WithCancel(t.Context())
		_ = p.Do(ctx, func(context.Context) error {
			cancel()
			return errBoom
		})
	})
}

// Retries in front of an open breaker would hold every caller for as long as the breaker
// is open, to be refused again.
func TestOpenBreakerHoldsNobodyUp(t *testing.T) {
	bubble(t, &retry.Policy{}, func(t *testing.T, p *retry.Policy) {
		b := breaker.New(breaker.Config{Consecutive: 1})
		calls := 0
		get := func() (took time.Duration, err error) {
			began := time.Now()
			err = p.Do(t.Context(), func(ctx context.Context) error {
				return b.Do(ctx, func(context.Context) error {
					calls++
					return errBoom
				})
			})
			return time.Since(began), err
		}

		// The failure opens it; the retry finds it open.
		took, err := get()
		e := call{err: err}.matches(t, breaker.ErrOpen, retry.ErrExhausted)
		if e.Attempts != 2 || e.NotAttempted() || took > 50*time.Millisecond {
			t.Errorf("%v after %v, not attempted: %t", e, took, e.NotAttempted())
		}
		// From now on nothing is attempted, and nobody waits.
		for range 1000 {
			took, err := get()
			e := call{err: err}.matches(t, breaker.ErrOpen)
			if e.Attempts != 1 || !e.NotAttempted() || took != 0 || e.RetryAfter() == 0 {
				t.Fatalf("%v after %v, not attempted: %t", e, took, e.NotAttempted())
			}
		}
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
		tokens(t, &p.Budget, 2+0.1*took.Seconds())
	})
}

func TestPolicyValidate(t *testing.T) {
	if err := (&retry.Policy{}).Validate(); err != nil {
		t.Errorf("the zero policy: %v", err)
	}
	for _, p := range []*retry.Policy{
		{MaxAttempts: -1, MaxRetryAfter: -1},
		{Budget: retry.Budget{Ratio: 1, Burst: math.MaxInt32, Floor: -1}},
		{AttemptTimeout: time.Hour, MaxElapsed: time.Nanosecond, MaxRetryAfter: time.Hour},
		{SharedBudget: &retry.Budget{Ratio: .5, Burst: 1, Floor: 100}},
	} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	bad := retry.Policy{
		AttemptTimeout: -1, MaxElapsed: -time.Second,
		Budget:       retry.Budget{Ratio: 1.5, Burst: -1, Floor: math.NaN()},
		SharedBudget: &retry.Budget{Ratio: math.NaN(), Floor: math.Inf(1)},
	}
	const want = "retry: Policy: AttemptTimeout is -1ns, but must not be negative; " +
		"MaxElapsed is -1s, but must not be negative; " +
		"Budget: Ratio is 1.5, but must be from 0 to 1; " +
		"Burst is -1, but must be from 0 to 2147483647; Floor is NaN, but must be a number; " +
		"SharedBudget: Ratio is NaN, but must be from 0 to 1; " +
		"Floor is +Inf, but must be a number"
	if err := bad.Validate(); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// What a hook takes is time of the call too.
func TestMaxElapsedIsKeptAfterOnRetry(t *testing.T) {
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		p.MaxElapsed, p.Backoff = time.Second, retry.Constant(0)
		p.OnRetry = func(context.Context, retry.Event) { time.Sleep(2 * time.Second) }
		before := p.Budget.Tokens()
		c := play(t.Context(), p, errBoom)
		c.made(t, 1, 2*time.Second)
		c.matches(t, errBoom, retry.ErrExhausted)
		if got := p.Budget.Tokens(); got != before {
			t.Errorf("%v tokens, want %v: the retry was not made", got, before)
		}
	})
}
