package stormjib_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
)

type call = func(context.Context) error

var errBoom = errors.New("boom")

// same reports whether two errors are one value: that an error matches another is
// less than that it was returned untouched.
func same(a, b error) bool { return any(a) == any(b) }

func wantPanic(t *testing.T, want string, fn func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := recover(); got == nil || !strings.Contains(fmt.Sprint(got), want) {
			t.Errorf("panic is %v, want one with %q", got, want)
		}
	}()
	fn()
}

// A trail is what happened, in order.
type trail []string

// policy returns one that leaves its name on the way in and on the way out.
func (tr *trail) policy(name string) stormjib.Policy {
	return stormjib.PolicyFunc(func(ctx context.Context, fn call) error {
		*tr = append(*tr, name)
		err := fn(ctx)
		*tr = append(*tr, "/"+name)
		return err
	})
}

func (tr *trail) call(context.Context) error {
	*tr = append(*tr, "call")
	return nil
}

// twice is a policy that calls again after an error, once.
var twice = stormjib.PolicyFunc(func(ctx context.Context, fn call) error {
	if err := fn(ctx); err == nil {
		return nil
	}
	return fn(ctx)
})

// pass is a policy that does nothing.
var pass = stormjib.PolicyFunc(func(ctx context.Context, fn call) error { return fn(ctx) })

// A chain in the wrong order is a breaker that does not see timeouts, and nobody
// notices until the day that they matter.
func TestChainOrder(t *testing.T) {
	var tr trail
	a, b, c := tr.policy("a"), tr.policy("b"), tr.policy("c")
	tests := []struct {
		name   string
		policy stormjib.Policy
		want   string
	}{
		{"none", stormjib.Chain(), "call"},
		{"one", stormjib.Chain(a), "a call /a"},
		{"two", stormjib.Chain(a, b), "a b call /b /a"},
		{"three", stormjib.Chain(a, b, c), "a b c call /c /b /a"},
		{"the same one twice", stormjib.Chain(b, a, b), "b a b call /b /a /b"},
		{"a chain in a chain", stormjib.Chain(a, stormjib.Chain(b, c)), "a b c call /c /b /a"},
		{"an empty chain in a chain", stormjib.Chain(a, stormjib.Chain(), b), "a b call /b /a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // a chain is used more than once
				tr = nil
				if err := test.policy.Do(t.Context(), tr.call); err != nil {
					t.Errorf("the chain returned %v", err)
				}
				if got := strings.Join(tr, " "); got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			}
		})
	}
}

// A policy in the middle that calls twice is a retry: what is inside it runs for
// each attempt, what is outside once.
func TestChainCallsAgain(t *testing.T) {
	var tr trail
	policy := stormjib.Chain(tr.policy("a"), twice, tr.policy("b"))
	err := policy.Do(t.Context(), func(context.Context) error { return errBoom })
	if !same(err, errBoom) {
		t.Errorf("the chain returned %v, want the error of the call", err)
	}
	if got, want := strings.Join(tr, " "), "a b /b b /b /a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Tracing is lost where a layer starts from a context of its own.
func TestChainContext(t *testing.T) {
	type key int
	add := func(k key) stormjib.Policy {
		return stormjib.PolicyFunc(func(ctx context.Context, fn call) error {
			return fn(context.WithValue(ctx, k, k))
		})
	}
	policy := stormjib.Chain(add(1), stormjib.Timeout(time.Hour), add(2), stormjib.Chain(add(3)))
	ctx := context.WithValue(t.Context(), key(0), key(0))
	err := policy.Do(ctx, func(ctx context.Context) error {
		for k := range key(4) {
			if ctx.Value(k) != k {
				t.Errorf("the call does not see the value of layer %d", k)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestChainNilPolicy(t *testing.T) {
	tests := []struct {
		name     string
		policies []stormjib.Policy
		want     string
	}{
		{"alone", []stormjib.Policy{nil}, "stormjib: Chain: policy 0 is nil"},
		{"last", []stormjib.Policy{pass, pass, nil}, "stormjib: Chain: policy 2 is nil"},
		{"first of several", []stormjib.Policy{pass, nil, nil}, "stormjib: Chain: policy 1 is nil"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			wantPanic(t, test.want, func() { stormjib.Chain(test.policies...) })
		})
	}
}

// A list of policies that is cut and filled anew for each client must not change
// the clients already built.
func TestChainKeepsItsOwnList(t *testing.T) {
	var tr trail
	policies := []stormjib.Policy{tr.policy("a"), tr.policy("b")}
	policy := stormjib.Chain(policies...)
	policies[0], policies[1] = tr.policy("x"), nil
	if err := policy.Do(t.Context(), tr.call); err != nil {
		t.Error(err)
	}
	if got, want := strings.Join(tr, " "), "a b call /b /a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// One chain serves all requests of a process. Kept state would give one caller the
// result of another; the race detector sees what the results do not.
func TestChainConcurrently(t *testing.T) {
	policy := stormjib.Chain(
		stormjib.Timeout(time.Hour),
		breaker.New(breaker.Config{}),
		twice,
		stormjib.Timeout(time.Hour),
	)
	var wg sync.WaitGroup
	for caller := range 8 {
		wg.Go(func() {
			for i := range 200 {
				want, failed := caller*1000+i, false
				got, err := stormjib.Do(t.Context(), policy, func(context.Context) (int, error) {
					if !failed && i%3 == 0 {
						failed = true
						return -1, errBoom
					}
					return want, nil
				})
				if got != want || err != nil {
					t.Errorf("caller %d got %d, %v; want %d", caller, got, err, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestDo(t *testing.T) {
	errPolicy := errors.New("policy")
	tests := []struct {
		name    string
		policy  stormjib.Policy
		results []int // of one call after the other; below 0 with errBoom beside it
		want    int
		err     error
	}{
		{"result", pass, []int{7}, 7, nil},
		{"result beside an error", pass, []int{-7}, -7, errBoom},
		{"a policy's own error", stormjib.PolicyFunc(func(ctx context.Context, fn call) error {
			fn(ctx)
			return errPolicy
		}), []int{7}, 7, errPolicy},
		{"refused: the zero value", stormjib.PolicyFunc(func(context.Context, call) error {
			return errPolicy
		}), []int{7}, 0, errPolicy},
		{"the last call's result", twice, []int{-7, 8}, 8, nil},
		{"the last call's result, of two that failed", twice, []int{-7, -8}, -8, errBoom},
		{"a chain of none", stormjib.Chain(), []int{-7}, -7, errBoom},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			results := test.results
			got, err := stormjib.Do(t.Context(), test.policy, func(context.Context) (int, error) {
				result := results[0]
				results = results[1:]
				if result < 0 {
					return result, errBoom
				}
				return result, nil
			})
			if got != test.want || !same(err, test.err) {
				t.Errorf("Do = %d, %v; want %d, %v", got, err, test.want, test.err)
			}
		})
	}
}

// What a layer costs is promised in the documentation; a closure that escapes
// breaks the promise without a word from the compiler.
func TestAllocations(t *testing.T) {
	nothing := func(context.Context) error { return nil }
	answer := func(context.Context) (int, error) { return 42, nil }
	b := [3]*breaker.Breaker{}
	for i := range b {
		b[i] = breaker.New(breaker.Config{})
	}
	timeout := stormjib.Timeout(time.Hour)
	ctx := t.Context()
	type test struct {
		name string
		most float64
		call func()
	}
	tests := []test{
		{"Do in Do in Do", 0, func() {
			breaker.Do(ctx, b[0], func(ctx context.Context) (int, error) {
				return breaker.Do(ctx, b[1], func(ctx context.Context) (int, error) {
					return breaker.Do(ctx, b[2], answer)
				})
			})
		}},
		{"Fallback not needed", 0, func() {
			stormjib.Fallback(ctx, answer, func(context.Context, error) (int, error) {
				return 0, nil
			})
		}},
		{"Timeout", 4, func() { timeout.Do(ctx, nothing) }},
	}
	for n := range 5 {
		chain := stormjib.Chain(slices.Repeat([]stormjib.Policy{pass}, n)...)
		breakers := stormjib.Chain(slices.Repeat([]stormjib.Policy{b[0]}, n)...)
		links := float64(max(0, n-1))
		tests = append(tests,
			test{fmt.Sprintf("Chain of %d", n), links, func() { chain.Do(ctx, nothing) }},
			test{
				fmt.Sprintf("Chain of %d breakers", n), links,
				func() { breakers.Do(ctx, nothing) },
			},
			test{
				fmt.Sprintf("Do over a Chain of %d", n), links + 2,
				func() { stormjib.Do(ctx, chain, answer) },
			},
		)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(100, test.call); got > test.most {
				t.Errorf("%v allocations, want at most %v", got, test.most)
			}
		})
	}
}

func TestFallback(t *testing.T) {
	errFallback := errors.New("fallback")
	tests := []struct {
		name string
		// ctx is the caller's, and leave what the caller does while the call runs.
		ctx      func(context.Context) (ctx context.Context, leave func())
		timeout  time.Duration // around the call alone; 0: none
		err      error         // of the call, which takes a second
		fallback error         // its error
		called   bool
		want     error
	}{
		{name: "success", err: nil, want: nil},
		{name: "failure", err: errBoom, called: true, want: nil},
		{
			name: "the fallback fails too", err: errBoom, fallback: errFallback,
			called: true, want: errFallback,
		},
		{
			// The policies' own timeout is what a fallback is for.
			name: "a timeout that is not the caller's", timeout: time.Second / 2,
			err: errBoom, called: true, want: nil,
		},
		{
			name: "a cancellation that is not the caller's", err: context.Canceled,
			called: true, want: nil,
		},
		{
			// Nobody is there to be answered, and stale data would be served to a
			// cache on the way.
			name: "the caller has left", err: errBoom, want: errBoom,
			ctx: func(ctx context.Context) (context.Context, func()) {
				return context.WithCancel(ctx)
			},
		},
		{
			name: "the caller's time is over", err: errBoom, want: errBoom,
			ctx: func(ctx context.Context) (context.Context, func()) {
				ctx, cancel := context.WithTimeout(ctx, time.Second/2)
				t.Cleanup(cancel)
				return ctx, func() {}
			},
		},
		{
			name: "the caller has time", err: errBoom, called: true, want: nil,
			ctx: func(ctx context.Context) (context.Context, func()) {
				ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
				t.Cleanup(cancel)
				return ctx, func() {}
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, leave := t.Context(), func() {}
				if test.ctx != nil {
					ctx, leave = test.ctx(ctx)
				}
				policy := stormjib.Chain()
				if test.timeout > 0 {
					policy = stormjib.Timeout(test.timeout)
				}
				called := false
				got, err := stormjib.Fallback(ctx, func(ctx context.Context) (string, error) {
					return stormjib.Do(ctx, policy, func(context.Context) (string, error) {
						time.Sleep(time.Second)
						leave()
						return "call", test.err
					})
				}, func(fallbackCtx context.Context, err error) (string, error) {
					called = true
					if fallbackCtx != ctx || !errors.Is(err, test.err) {
						t.Errorf("the fallback got %v, %v", fallbackCtx, err)
					}
					return "fallback", test.fallback
				})
				wantResult := map[bool]string{false: "call", true: "fallback"}[test.called]
				if got != wantResult || called != test.called || !same(err, test.want) {
					t.Errorf("Fallback = %q, %v, called: %t; want %q, %v, called: %t",
						got, err, called, wantResult, test.want, test.called)
				}
			})
		})
	}
}

// A refusal keeps what it says about itself through whatever a user wraps around
// it: NotAttempted is what makes it safe to send a payment elsewhere.
func TestVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusal := &breaker.OpenError{Name: "b", Until: time.Now().Add(5 * time.Second)}
		longer := &breaker.OpenError{Name: "c", Until: time.Now().Add(9 * time.Second)}
		const s = time.Second
		tests := []struct {
			name         string
			err          error
			notAttempted bool
			retryAfter   time.Duration
		}{
			{"nil", nil, false, 0},
			{"a failure", errBoom, false, 0},
			{"a refusal", refusal, true, 5 * s},
			{"a refusal, wrapped", fmt.Errorf("prices: %w", refusal), true, 5 * s},
			{"two refusals", errors.Join(refusal, longer), true, 9 * s},
			{"a refusal and a failure", errors.Join(refusal, errBoom), false, 5 * s},
			{"the same with two verbs", fmt.Errorf("%w: %w", errBoom, refusal), false, 5 * s},
		}
		for _, test := range tests {
			if got := stormjib.NotAttempted(test.err); got != test.notAttempted {
				t.Errorf("%s: NotAttempted = %t, want %t", test.name, got, test.notAttempted)
			}
			if got := stormjib.RetryAfter(test.err); got != test.retryAfter {
				t.Errorf("%s: RetryAfter = %v, want %v", test.name, got, test.retryAfter)
			}
		}
	})
}

// The order of a client's policies, asserted by what each of them sees of one call
// that hangs: swap any two neighbours and a row of it changes.
func TestClientOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		deadline := func(ctx context.Context) time.Duration {
			at, ok := ctx.Deadline()
			if !ok {
				return 0
			}
			return at.Sub(start)
		}
		b := breaker.New(breaker.Config{Name: "prices", Consecutive: 1})
		var total, attempt time.Duration // how long the layers leave
		policy := stormjib.Chain(
			stormjib.Timeout(2*time.Second),
			stormjib.PolicyFunc(func(ctx context.Context, fn call) error {
				total = deadline(ctx)
				return fn(ctx)
			}),
			b,
			stormjib.Timeout(time.Second/4),
		)
		calls := 0
		get := func() (string, error) {
			return stormjib.Fallback(t.Context(), func(ctx context.Context) (string, error) {
				return stormjib.Do(ctx, policy, func(ctx context.Context) (string, error) {
					calls++
					attempt = deadline(ctx)
					<-ctx.Done()
					return "", ctx.Err()
				})
			}, func(ctx context.Context, err error) (string, error) {
				return err.Error(), ctx.Err()
			})
		}

		steps := []struct {
			want    string // what the fallback makes of the error
			elapsed time.Duration
			calls   int
			state   breaker.State
		}{
			// The attempt's timeout ends it, and the breaker outside counts that.
			{
				"stormjib: timed out after 250ms: context deadline exceeded",
				time.Second / 4, 1, breaker.Open,
			},
			// The breaker refuses, so no timeout starts inside it; the fallback
			// outside of all answers for that too.
			{"breaker: prices: open", time.Second / 4, 1, breaker.Open},
		}
		for i, step := range steps {
			got, err := get()
			if got != step.want || err != nil {
				t.Errorf("%d: got %q, %v; want %q", i, got, err, step.want)
			}
			if elapsed := time.Since(start); elapsed != step.elapsed || calls != step.calls {
				t.Errorf("%d: %d calls in %v, want %d in %v",
					i, calls, elapsed, step.calls, step.elapsed)
			}
			if b.State() != step.state {
				t.Errorf("%d: the breaker is %v, want %v", i, b.State(), step.state)
			}
		}
		if attempt != time.Second/4 {
			t.Errorf("the call's deadline is after %v", attempt)
		}
		// Taken anew by the second call, a quarter of a second later.
		if want := 2*time.Second + time.Second/4; total != want {
			t.Errorf("the breaker's deadline is after %v, want %v", total, want)
		}
	})
}
