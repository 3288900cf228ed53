package retry_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry"
)

var (
	errBoom     = errors.New("boom")
	errConflict = errors.New("conflict")
)

// The verbs of the tests. Time is that of a synctest bubble, so that waiting is
// exact and costs nothing.

// plain returns a policy that waits a second each time and has no budget.
func plain() *retry.Policy {
	return &retry.Policy{Backoff: retry.Constant(time.Second), Budget: retry.Budget{Off: true}}
}

// hasty returns a policy that does not wait and has no budget.
func hasty() *retry.Policy {
	return &retry.Policy{Backoff: retry.Constant(0), Budget: retry.Budget{Off: true}}
}

func ok(context.Context) error   { return nil }
func boom(context.Context) error { return errBoom }

// call is how a call went.
type call struct {
	attempts int
	took     time.Duration
	err      error
}

// play makes a call whose attempts fail with errs, one after another, and then
// succeed.
func play(ctx context.Context, p *retry.Policy, errs ...error) (c call) {
	began := time.Now()
	c.err = p.Do(ctx, func(context.Context) error {
		c.attempts++
		if c.attempts <= len(errs) {
			return errs[c.attempts-1]
		}
		return nil
	})
	c.took = time.Since(began)
	return c
}

// same returns err n times.
func same(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// made fails the test unless c made so many attempts and took so long.
func (c call) made(t *testing.T, attempts int, took time.Duration) {
	t.Helper()
	if c.attempts != attempts || c.took != took {
		t.Errorf("%d attempts in %v, want %d in %v: %v", c.attempts, c.took, attempts, took, c.err)
	}
}

// matches fails the test unless c ended with an *Error that matches all of want.
func (c call) matches(t *testing.T, want ...error) *retry.Error {
	t.Helper()
	e, isError := errors.AsType[*retry.Error](c.err)
	if !isError {
		t.Fatalf("got %v, want an *Error", c.err)
	}
	for _, w := range want {
		if !errors.Is(e, w) {
			t.Errorf("%q does not match %q", e, w)
		}
	}
	return e
}

// tokens fails the test unless b holds so many.
func tokens(t *testing.T, b *retry.Budget, want float64) {
	t.Helper()
	if got := b.Tokens(); math.Abs(got-want) > 1e-5 {
		t.Errorf("%v tokens in the budget, want %v", got, want)
	}
}

// bubble runs f in a synctest bubble, with a policy of its own.
func bubble(t *testing.T, p *retry.Policy, f func(*testing.T, *retry.Policy)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, p) })
}

func TestDo(t *testing.T) {
	const s = time.Second
	late := retry.After(3*s, errBoom)
	tests := []struct {
		name     string
		policy   *retry.Policy
		errs     []error
		attempts int
		took     time.Duration
		want     string // "" for success
	}{
		{"success", plain(), nil, 1, 0, ""},
		{"a success after a failure", plain(), same(errBoom, 1), 2, s, ""},
		{"a success at the last attempt", plain(), same(errBoom, 2), 3, 2 * s, ""},
		{
			"three attempts, if nothing is said", plain(), same(errBoom, 3), 3, 2 * s,
			"boom (3 attempts; retry: attempts exhausted)",
		},
		{
			"two attempts", with(plain(), func(p *retry.Policy) { p.MaxAttempts = 2 }),
			same(errBoom, 9), 2, s, "boom (2 attempts; retry: attempts exhausted)",
		},
		{
			"one attempt, and its own error",
			with(plain(), func(p *retry.Policy) { p.MaxAttempts = 1 }),
			same(errBoom, 9), 1, 0, "boom",
		},
		{
			"no bound", with(plain(), func(p *retry.Policy) { p.MaxAttempts = -1 }),
			same(errBoom, 99), 100, 99 * s, "",
		},
		{
			"the last error comes first", plain(),
			[]error{errBoom, errBoom, errConflict},
			3, 2 * s,
			"conflict (3 attempts; retry: attempts exhausted)",
		},
		{
			"an error that is not to be retried", plain(),
			[]error{retry.Permanent(errBoom)},
			1, 0, "boom",
		},
		{
			"and after a retry", plain(),
			[]error{errBoom, retry.Permanent(errConflict)},
			2, s,
			"conflict (2 attempts; retry: not to be retried)",
		},
		{
			"an error that asks for a delay", plain(),
			[]error{retry.After(2*s, errBoom)},
			2, 3 * s, "",
		},
		{
			"for more than two seconds", plain(),
			[]error{late},
			1, 0,
			"boom (1 attempt; retry: asked to wait for 3s)",
		},
		{
			"for as much as is allowed",
			with(plain(), func(p *retry.Policy) { p.MaxRetryAfter = 3 * s }),
			[]error{late},
			2, 4 * s, "",
		},
		{
			"for any delay, where none is allowed",
			with(plain(), func(p *retry.Policy) { p.MaxRetryAfter = -1 }),
			[]error{retry.After(1, errBoom)},
			1, 0,
			"boom (1 attempt; retry: asked to wait for 1ns)",
		},
		{
			"for none, where none is allowed",
			with(plain(), func(p *retry.Policy) { p.MaxRetryAfter = -1 }),
			[]error{retry.After(0, errBoom)},
			2, s, "",
		},
		{
			"for less than none", plain(), []error{retry.After(-5*s, errBoom)}, 2, s, "",
		},
		{
			"the time is over with the next wait",
			with(plain(), func(p *retry.Policy) { p.MaxElapsed = 2 * s }),
			same(errBoom, 9), 2, s, "boom (2 attempts; retry: MaxElapsed is over, or would be)",
		},
		{
			"the time is over for the first wait",
			with(plain(), func(p *retry.Policy) { p.MaxElapsed = s }),
			same(errBoom, 9), 1, 0, "boom (1 attempt; retry: MaxElapsed is over, or would be)",
		},
		{
			"the time is just not over",
			with(plain(), func(p *retry.Policy) { p.MaxElapsed = s + 1 }),
			same(errBoom, 1), 2, s, "",
		},
		{
			"a backoff below zero",
			with(plain(), func(p *retry.Policy) {
				p.Backoff = func(int, time.Duration) time.Duration { return -time.Hour }
			}),
			same(errBoom, 1), 2, 0, "",
		},
		{
			"negative times are none",
			with(plain(), func(p *retry.Policy) { p.MaxElapsed, p.AttemptTimeout = -s, -s }),
			same(errBoom, 2), 3, 2 * s, "",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, test.policy, func(t *testing.T, p *retry.Policy) {
				c := play(t.Context(), p, test.errs...)
				c.made(t, test.attempts, test.took)
				message := ""
				if c.err != nil {
					message = c.err.Error()
				}
				if message != test.want {
					t.Errorf("ends with %q, want %q", message, test.want)
				}
			})
		})
	}
}

func with(p *retry.Policy, change func(*retry.Policy)) *retry.Policy {
	change(p)
	return p
}

// The caller of a request with 100 ms left gains nothing from an answer in a second. No
// library with a backoff that was looked at refuses to sleep there: the goroutine, the
// connection and the request's memory are held for nothing, and then the error is lost.
func TestDoesNotSleepPastTheDeadline(t *testing.T) {
	for _, left := range []time.Duration{1, 100 * time.Millisecond, time.Second} {
		bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
			p.Budget.Off = false
			ctx, cancel := context.WithTimeout(t.Context(), left)
			defer cancel()
			c := play(ctx, p, errBoom)
			c.made(t, 1, 0)
			e := c.matches(t, errBoom, context.DeadlineExceeded)
			if ctx.Err() != nil || errors.Is(e, retry.ErrExhausted) {
				t.Errorf("%v, and the context: %v", e, ctx.Err())
			}
			tokens(t, &p.Budget, 3)
		})
	}
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second+1)
		defer cancel()
		play(ctx, p, errBoom).made(t, 2, time.Second)
	})
	// What a server asks for counts as much as the backoff does.
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		c := play(ctx, p, retry.After(1500*time.Millisecond, errBoom))
		c.made(t, 1, 0)
		c.matches(t, errBoom, context.DeadlineExceeded)
	})
}

// A user closes the page while the service waits to try again. The wait must end then,
// not when the timer does, and leave none behind.
func TestCancelledWaitEndsAtOnce(t *testing.T) {
	errClosed := errors.New("page closed")
	bubble(t, hasty(), func(t *testing.T, p *retry.Policy) {
		p.Backoff = retry.Constant(time.Hour)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Millisecond, func() { cancel(errClosed) })
		c := play(ctx, p, errBoom)
		c.made(t, 1, 10*time.Millisecond)
		e := c.matches(t, errBoom, context.Canceled, errClosed)
		if errors.Is(e, retry.ErrExhausted) || errors.Is(e, retry.ErrBudget) {
			t.Errorf("%v matches what did not happen", e)
		}
		if want := "boom (1 attempt; retry: page closed)"; e.Error() != want {
			t.Errorf("%q, want %q", e, want)
		}
	})
}

// instant is a context that ends at a time to the nanosecond: Err says so by the clock,
// however late the goroutine that closes Done gets to run.
type instant struct {
	context.Context
	at   time.Time
	done chan struct{}
}

func cancelledAt(ctx context.Context, at time.Time) *instant {
	i := &instant{ctx, at, make(chan struct{})}
	time.AfterFunc(time.Until(at), func() { close(i.done) })
	return i
}

func (i *instant) Done() <-chan struct{} { return i.done }

func (i *instant) Err() error {
	if time.Now().Before(i.at) {
		return nil
	}
	return context.Canceled
}

// Of a timer and a context that are ready at once select takes any. A worker that was
// told to stop must not send the payment once more half of the time.
func TestTimerAndCancelAtTheSameInstant(t *testing.T) {
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		p.Budget.Off, p.Budget.Floor = false, -1
		for range 1000 {
			ctx := cancelledAt(t.Context(), time.Now().Add(time.Second))
			c := play(ctx, p, errBoom)
			c.made(t, 1, time.Second)
			c.matches(t, errBoom, context.Canceled)
			synctest.Wait()
		}
		tokens(t, &p.Budget, 3)
	})
	// With a real clock both are ready before select looks.
	p := &retry.Policy{Backoff: retry.Constant(1), Budget: retry.Budget{Floor: -1}}
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		p.OnRetry = func(context.Context, retry.Event) { cancel() }
		if c := play(ctx, p, errBoom); c.attempts != 1 {
			t.Fatalf("%d attempts, the last one with a context that was done", c.attempts)
		}
	}
	tokens(t, &p.Budget, 3)
}

// A queue of requests whose callers have gone: none of them may reach the dependency.
// Some libraries make one attempt.
func TestNoAttemptWithAContextThatIsDone(t *testing.T) {
	errGone := errors.New("client gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGone)
	for name, p := range map[string]*retry.Policy{
		"the zero policy":       {},
		"with a time to try":    {AttemptTimeout: time.Second},
		"with a time for all":   {MaxElapsed: time.Second},
		"with a single attempt": {MaxAttempts: 1},
	} {
		c := play(ctx, p)
		c.made(t, 0, c.took)
		e := c.matches(t, context.Canceled, errGone)
		if e.Attempts != 0 || e.Errs != nil || !e.NotAttempted() || e.Retryable() {
			t.Errorf("%s: %+v", name, e)
		}
		if want := "retry: client gone (no attempts)"; e.Error() != want {
			t.Errorf("%s: %q, want %q", name, e, want)
		}
		n, err := retry.Do(ctx, p, func(context.Context) (int, error) { return 7, nil })
		if n != 0 || err == nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// One replica hangs. The attempt must end by itself and the next one find another
// replica; where it is the caller's time that ended, nobody is left to try for.
func TestAttemptTimeout(t *testing.T) {
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	p := func() *retry.Policy {
		return with(plain(), func(p *retry.Policy) { p.AttemptTimeout = 3 * time.Second })
	}
	t.Run("its end is retried", func(t *testing.T) {
		bubble(t, p(), func(t *testing.T, p *retry.Policy) {
			began, n := time.Now(), 0
			err := p.Do(t.Context(), func(ctx context.Context) error {
				if n++; n < 3 {
					return hang(ctx)
				}
				return ctx.Err()
			})
			if took := time.Since(began); err != nil || took != 8*time.Second {
				t.Errorf("%v after %v, want success after 8s", err, took)
			}
		})
	})
	t.Run("the caller's end is not", func(t *testing.T) {
		bubble(t, p(), func(t *testing.T, p *retry.Policy) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			began, n := time.Now(), 0
			err := p.Do(ctx, func(ctx context.Context) error { n++; return hang(ctx) })
			if took := time.Since(began); n != 2 || took != 5*time.Second {
				t.Errorf("%d attempts in %v, want 2 in 5s", n, took)
			}
			call{err: err}.matches(t, context.DeadlineExceeded)
		})
	})
	t.Run("the caller's end in the first attempt is the error itself", func(t *testing.T) {
		bubble(t, p(), func(t *testing.T, p *retry.Policy) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := p.Do(ctx, hang); err != context.DeadlineExceeded {
				t.Errorf("got %v, want what the function returned", err)
			}
		})
	})
	t.Run("the context ends with the attempt", func(t *testing.T) {
		bubble(t, p(), func(t *testing.T, p *retry.Policy) {
			var seen []context.Context
			_ = p.Do(t.Context(), func(ctx context.Context) error {
				for _, earlier := range seen {
					if earlier.Err() == nil {
						t.Error("the context of an earlier attempt is alive")
					}
				}
				if deadline, _ := ctx.Deadline(); time.Until(deadline) != 3*time.Second {
					t.Errorf("an attempt has %v, want 3s", time.Until(deadline))
				}
				seen = append(seen, ctx)
				return errBoom
			})
			if len(seen) != 3 || seen[2].Err() == nil {
				t.Errorf("%d attempts, the last one's context: %v", len(seen), seen[2].Err())
			}
		})
	})
	t.Run("without one the context is the caller's", func(t *testing.T) {
		ctx := t.Context()
		_ = plain().Do(ctx, func(inner context.Context) error {
			if inner != ctx {
				t.Error("the first attempt has another context than the caller")
			}
			return nil
		})
	})
}

// A connection that another request's end took down says context.Canceled, while this
// caller is still there: it is a failure like any other.
func TestCancelledIsNotTheCallersUnlessTheCallerIs(t *testing.T) {
	for _, err := range []error{context.Canceled, context.DeadlineExceeded} {
		bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
			play(t.Context(), p, err, err).made(t, 3, 2*time.Second)
		})
	}
}

// A server that says when to come back gets nobody earlier, and not everybody at once:
// jitter that goes both ways comes before the quota's window is over.
func TestServersDelayIsAFloor(t *testing.T) {
	p := &retry.Policy{MaxRetryAfter: 10 * time.Second, Budget: retry.Budget{Off: true}}
	bubble(t, p, func(t *testing.T, p *retry.Policy) {
		const asked = 10 * time.Second
		later := 0
		for range 10_000 {
			c := play(t.Context(), p, retry.After(asked, errBoom))
			if c.attempts != 2 || c.took < asked || c.took > asked+50*time.Millisecond {
				t.Fatalf("%d attempts in %v, want 2 in 10s to 10.05s", c.attempts, c.took)
			}
			if c.took > asked+25*time.Millisecond {
				later++
			}
		}
		if later < 4700 || later > 5300 {
			t.Errorf("%d of 10000 waits are in the upper half of the jitter", later)
		}
	})
}

// A limit that is over next week has been sent in good faith. Whoever waits for it, or
// for as long as it dares, holds a request that has failed.
func TestDelayBeyondReasonEndsTheCallAtOnce(t *testing.T) {
	for _, asked := range []time.Duration{3 * time.Second, 484289 * time.Hour, math.MaxInt64} {
		bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
			p.Budget.Off = false
			c := play(t.Context(), p, retry.After(asked, errBoom))
			c.made(t, 1, 0)
			if e := c.matches(t, errBoom, retry.ErrExhausted); e.RetryAfter() != asked {
				t.Errorf("it does not say %v any more, but %v", asked, e.RetryAfter())
			}
			tokens(t, &p.Budget, 3)
		})
	}
}

// "Retry-After: 10000000000" overflows a duration. Three widely used libraries then
// retry at once, three times in a millisecond.
func TestDelayThatOverflowsIsNotShort(t *testing.T) {
	for _, asked := range []time.Duration{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 / 2} {
		p := with(plain(), func(p *retry.Policy) {
			p.MaxRetryAfter = math.MaxInt64
			p.Backoff = retry.Constant(time.Hour)
		})
		bubble(t, p, func(t *testing.T, p *retry.Policy) {
			ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
			defer cancel()
			c := play(ctx, p, retry.After(asked, errBoom))
			c.made(t, 1, 0)
			c.matches(t, errBoom, context.DeadlineExceeded)
		})
		bubble(t, p, func(t *testing.T, p *retry.Policy) {
			p.MaxElapsed = 24 * time.Hour
			c := play(t.Context(), p, retry.After(asked, errBoom))
			c.made(t, 1, 0)
			c.matches(t, errBoom, retry.ErrExhausted)
		})
	}
	// A backoff as long as there is one: the time of the call still counts.
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		p.Backoff, p.MaxElapsed = retry.Constant(math.MaxInt64), time.Hour
		n := 0
		err := p.Do(t.Context(), func(context.Context) error {
			n++
			time.Sleep(time.Second)
			return retry.After(time.Second, errBoom)
		})
		call{err: err}.matches(t, errBoom, retry.ErrExhausted)
		if n != 1 {
			t.Errorf("%d attempts", n)
		}
	})
}

// A worker that polls a dependency which is down, and waits for what the error asks: the
// empty budget must not turn its pauses into none.
func TestDeniedRetryKeepsTheServersDelay(t *testing.T) {
	bubble(t, &retry.Policy{}, func(t *testing.T, p *retry.Policy) {
		attempts := 0
		for began := time.Now(); time.Since(began) < time.Minute; {
			err := p.Do(t.Context(), func(context.Context) error {
				attempts++
				return retry.After(time.Second, errBoom)
			})
			e := call{err: err}.matches(t, errBoom)
			if e.RetryAfter() != time.Second {
				t.Fatalf("%v asks for %v", e, e.RetryAfter())
			}
			time.Sleep(e.RetryAfter())
		}
		if attempts > 60+3+6 {
			t.Errorf("%d attempts in a minute, want one a second and the budget's", attempts)
		}
	})
}

// One Policy serves the whole process. Libraries that keep the attempt in the backoff
// let calls eat each other's attempts.
func TestPolicySharedByManyCalls(t *testing.T) {
	p := &retry.Policy{
		MaxAttempts: 6,
		Backoff:     retry.Decorrelated(time.Millisecond, time.Hour, nil),
		Budget:      retry.Budget{Off: true},
	}
	bubble(t, p, func(t *testing.T, p *retry.Policy) {
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				c := play(t.Context(), p, same(errBoom, 5)...)
				// 3 + 9 + 27 + 81 + 243 ms: the waits begin anew with each call.
				if c.attempts != 6 || c.err != nil || c.took > 363*time.Millisecond {
					t.Errorf("%d attempts in %v: %v", c.attempts, c.took, c.err)
				}
			})
		}
		wg.Wait()
	})
}

// A bug in the function is not a failure of the dependency: it must come out as it is,
// cost no token, and leave neither timer nor context behind.
func TestPanicComesOutAsItIs(t *testing.T) {
	for _, at := range []int{1, 2} {
		bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
			p.Budget.Off, p.Budget.Floor, p.AttemptTimeout = false, -1, time.Minute
			var inner context.Context
			attempts := 0
			defer func() {
				if v := recover(); v != "bug" || attempts != at {
					t.Errorf("recovered %v in attempt %d, want the bug in %d", v, attempts, at)
				}
				if inner.Err() == nil {
					t.Error("the attempt's context outlives it")
				}
				tokens(t, &p.Budget, float64(4-at)) // the retry that panicked was made
				if err := p.Do(context.Background(), ok); err != nil {
					t.Errorf("the policy is broken: %v", err)
				}
			}()
			_ = p.Do(t.Context(), func(ctx context.Context) error {
				inner = ctx
				if attempts++; attempts == at {
					panic("bug")
				}
				return errBoom
			})
		})
	}
}

// t.FailNow in a function under test ends the goroutine.
func TestGoexitEndsTheCall(t *testing.T) {
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		p.AttemptTimeout = time.Minute
		var inner context.Context
		attempts, returned := 0, false
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = p.Do(t.Context(), func(ctx context.Context) error {
				inner = ctx
				if attempts++; attempts == 2 {
					runtime.Goexit()
				}
				return errBoom
			})
			returned = true
		})
		wg.Wait()
		if attempts != 2 || returned || inner.Err() == nil {
			t.Errorf("%d attempts, returned %t, context %v", attempts, returned, inner.Err())
		}
	})
}

// Nothing that is missing may wait to be found until the day the dependency fails.
func TestNilFunctionOrPolicyPanics(t *testing.T) {
	var none *retry.Policy
	for name, f := range map[string]func(){
		"Do, no policy":          func() { _, _ = retry.Do[int](t.Context(), nil, nil) },
		"Do, no function":        func() { _, _ = retry.Do[int](t.Context(), plain(), nil) },
		"Policy.Do, no policy":   func() { _ = none.Do(t.Context(), ok) },
		"Policy.Do, no function": func() { _ = plain().Do(t.Context(), nil) },
		"Attempts, no policy":    func() { none.Attempts(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "retry: ") {
					t.Errorf("recovered %q, want a panic that names the package", s)
				}
			}()
			f()
		})
	}
}

func TestDoReturnsTheLastResult(t *testing.T) {
	n := 0
	last, err := retry.Do(t.Context(), hasty(), func(context.Context) (int, error) {
		n++
		return n * 10, errBoom
	})
	if last != 30 || err == nil {
		t.Errorf("%d, %v, want what came with the last error", last, err)
	}
	n, err = retry.Do(t.Context(), hasty(), func(context.Context) (int, error) { return 7, nil })
	if n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	n, err = retry.Do(t.Context(), hasty(), func(context.Context) (int, error) {
		return 8, retry.Permanent(errBoom)
	})
	if n != 8 || !errors.Is(err, errBoom) {
		t.Errorf("%d, %v", n, err)
	}
}

// A single attempt is for turning retries off. It must not be worse than no policy.
func TestSingleAttemptNeitherWaitsNorPays(t *testing.T) {
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		p.MaxAttempts, p.Budget.Off = 1, false
		p.Backoff = func(int, time.Duration) time.Duration {
			t.Error("the backoff was asked")
			return 0
		}
		p.OnRetry = func(context.Context, retry.Event) { t.Error("a retry was announced") }
		for range 10 {
			c := play(t.Context(), p, errBoom)
			c.made(t, 1, 0)
			if c.err != errBoom {
				t.Errorf("got %v, want the error itself", c.err)
			}
		}
		tokens(t, &p.Budget, 3)
	})
}

// A consumer that has tried all night, at full speed, because somebody removed the
// backoff: it may use the processor, but not the memory.
func TestMillionFailuresInBoundedMemory(t *testing.T) {
	p := with(hasty(), func(p *retry.Policy) { p.MaxAttempts = -1 })
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	type payload struct {
		error
		_ [64]byte
	}
	n, before := 0, heap()
	err := p.Do(t.Context(), func(ctx context.Context) error {
		switch n++; {
		case n < 1_000_000:
			return &payload{error: errBoom}
		case retry.Attempt(ctx) != n:
			t.Errorf("attempt %d says it is %d", n, retry.Attempt(ctx))
		}
		if grown := heap() - before; grown > 1<<20 {
			t.Errorf("a million failures keep %d bytes", grown)
		}
		return retry.Permanent(errConflict)
	})
	e := call{err: err}.matches(t, errConflict)
	if e.Attempts != 1_000_000 || len(e.Errs) != 8 || errors.Is(e, errBoom) {
		t.Errorf("%d attempts, %d errors: %v", e.Attempts, len(e.Errs), e)
	}
}

// MaxElapsed does not cut an attempt off: a long poll that takes longer than it is made
// once, and is not repeated.
func TestMaxElapsedCountsTheAttempts(t *testing.T) {
	bubble(t, hasty(), func(t *testing.T, p *retry.Policy) {
		p.MaxElapsed = time.Second
		n, began := 0, time.Now()
		err := p.Do(t.Context(), func(context.Context) error {
			n++
			time.Sleep(2 * time.Second)
			return errBoom
		})
		if took := time.Since(began); n != 1 || took != 2*time.Second {
			t.Errorf("%d attempts in %v", n, took)
		}
		e := call{err: err}.matches(t, errBoom, retry.ErrExhausted)
		if !strings.Contains(e.Error(), "MaxElapsed") {
			t.Errorf("%q does not say why", e)
		}
	})
	// It counts from the call, not from when the policy was made.
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		p.MaxElapsed = 3 * time.Second
		for range 3 {
			play(t.Context(), p, errBoom, errBoom).made(t, 3, 2*time.Second)
			time.Sleep(time.Hour)
		}
	})
}

// Success is nearly all that happens, in every call of the service.
func TestSuccessAllocatesNothing(t *testing.T) {
	ctx, p := t.Context(), &retry.Policy{}
	var n atomic.Int64 // what the functions close over
	for name, f := range map[string]func(){
		"Do": func() {
			_, _ = retry.Do(ctx, p, func(context.Context) (int64, error) { return n.Add(1), nil })
		},
		"Policy.Do": func() {
			_ = p.Do(ctx, func(context.Context) error { n.Add(1); return nil })
		},
	} {
		if allocs := testing.AllocsPerRun(1000, f); allocs != 0 {
			t.Errorf("%s allocates %v times, want 0", name, allocs)
		}
		// Nor where the budget is to be paid back.
		p.Budget.Take()
		if allocs := testing.AllocsPerRun(5, f); allocs != 0 {
			t.Errorf("%s on a budget that is not full allocates %v times, want 0", name, allocs)
		}
	}
}

// A call that retries for long has one timer, and a context for each attempt.
func TestRetriesShareATimer(t *testing.T) {
	p := &retry.Policy{Backoff: retry.Constant(1), Budget: retry.Budget{Off: true}}
	cost := func(attempts int) float64 {
		p.MaxAttempts = attempts
		return testing.AllocsPerRun(20, func() { _ = p.Do(t.Context(), boom) })
	}
	if more := cost(30) - cost(10); more > 20*2 {
		t.Errorf("20 more attempts allocate %v times, want 2 for each at most", more)
	}
}
