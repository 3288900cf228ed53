package retry_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/retry"
)

// stack calls fn through policies, the first one outermost, and returns how often it
// reached the leaf.
func stack(
	ctx context.Context, leaf func(context.Context) error, policies ...*retry.Policy,
) (calls int, err error) {
	fn := func(ctx context.Context) error {
		calls++
		return leaf(ctx)
	}
	for _, p := range slices.Backward(policies) {
		inner := fn
		fn = func(ctx context.Context) error { return p.Do(ctx, inner) }
	}
	err = fn(ctx)
	return calls, err
}

// A client library, a repository and a handler, each with a policy its author thought
// sensible: 27 calls to a database that is down for each one that came in.
func TestThreeLayersMakeThreeCalls(t *testing.T) {
	calls, err := stack(t.Context(), boom, hasty(), hasty(), hasty())
	e := call{err: err}.matches(t, errBoom, retry.ErrExhausted)
	if calls != 3 || e.Attempts != 3 {
		t.Errorf("%d calls: %v", calls, err)
	}
	if want := "boom (3 attempts; retry: attempts exhausted)"; err.Error() != want {
		t.Errorf("%q, want the innermost layer's %q, unchanged", err, want)
	}
}

// The budget of the innermost layer is empty: an outer one must not spend its own on it.
func TestOuterLayerDoesNotMakeUpForTheInnerBudget(t *testing.T) {
	inner := with(hasty(), func(p *retry.Policy) { p.SharedBudget = drained(t) })
	outer := &retry.Policy{Backoff: retry.Constant(0)}
	calls, err := stack(t.Context(), boom, outer, inner)
	call{err: err}.matches(t, errBoom, retry.ErrBudget)
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
	tokens(t, &outer.Budget, 3)
}

// A middleware with retries switched off says nothing about the layers inside it.
func TestLayerThatWillNotRetryDoesNotStopTheInnerOne(t *testing.T) {
	off := with(hasty(), func(p *retry.Policy) { p.MaxAttempts = 1 })
	poor := with(hasty(), func(p *retry.Policy) { p.SharedBudget = drained(t) })
	for name, policies := range map[string][]*retry.Policy{
		"outside":         {off, hasty()},
		"inside":          {hasty(), off},
		"outside, budget": {poor, hasty()},
		"on both sides":   {off, hasty(), off},
	} {
		if calls, err := stack(t.Context(), boom, policies...); calls != 3 {
			t.Errorf("%s: %d calls: %v", name, calls, err)
		}
	}
}

func TestOuterLayerMayRetryIfItSaysSo(t *testing.T) {
	outer := with(hasty(), func(p *retry.Policy) {
		p.RetryIf = func(err error) bool { return errors.Is(err, retry.ErrExhausted) }
	})
	calls, err := stack(t.Context(), boom, outer, hasty())
	e := call{err: err}.matches(t, errBoom)
	if calls != 9 || e.Attempts != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// The outermost layer knows another region to go to, and wants to hear of a failure at
// once.
func TestOnceLetsTheOutermostLayerRetry(t *testing.T) {
	regions := 0
	calls := 0
	inner := hasty()
	inner.OnRetry = func(context.Context, retry.Event) { t.Error("an inner layer retries") }
	err := hasty().Do(t.Context(), func(ctx context.Context) error {
		regions++
		n, err := stack(retry.Once(ctx), boom, inner, inner)
		calls += n
		if err != errBoom {
			t.Errorf("got %v, want the error as it is", err)
		}
		return err
	})
	call{err: err}.matches(t, errBoom, retry.ErrExhausted)
	if regions != 3 || calls != 3 {
		t.Errorf("%d regions, %d calls", regions, calls)
	}
	// It does not change what the number of the attempt is, nor a success.
	if n := retry.Attempt(retry.Once(t.Context())); n != 1 {
		t.Errorf("attempt %d", n)
	}
	if err := inner.Do(retry.Once(t.Context()), ok); err != nil {
		t.Error(err)
	}
	// The loop has the same rule.
	tries := 0
	for ctx, try := range inner.Attempts(retry.Once(t.Context())) {
		tries++
		if !try.Again(boom(ctx)) && try.Err() != errBoom {
			t.Errorf("got %v", try.Err())
		}
	}
	if tries != 1 {
		t.Errorf("%d tries", tries)
	}
}

// A success inside is a success outside: it pays into both budgets, once.
func TestSuccessPaysIntoEveryLayersBudget(t *testing.T) {
	outer, inner := &retry.Policy{}, &retry.Policy{}
	outer.Budget.Floor, inner.Budget.Floor = -1, -1
	outer.Budget.Take()
	inner.Budget.Take()
	if _, err := stack(t.Context(), ok, outer, inner); err != nil {
		t.Fatal(err)
	}
	tokens(t, &outer.Budget, 2.1)
	tokens(t, &inner.Budget, 2.1)
}
