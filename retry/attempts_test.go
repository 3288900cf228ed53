package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// loop is play with the iterator.
func loop(ctx context.Context, p *retry.Policy, errs ...error) (c call) {
	began := time.Now()
	defer func() { c.took = time.Since(began) }()
	for _, try := range p.Attempts(ctx) {
		c.attempts++
		var err error
		if c.attempts <= len(errs) {
			err = errs[c.attempts-1]
		}
		if !try.Again(err) {
			c.err = try.Err()
			return c
		}
	}
	c.err = context.Cause(ctx)
	return c
}

// The loop is Do in another form: whatever Do does with a script of errors, it does.
func TestAttemptsIsDo(t *testing.T) {
	late := retry.After(3*time.Second, errBoom)
	for name, test := range map[string]struct {
		change func(*retry.Policy)
		errs   []error
	}{
		"success":       {func(*retry.Policy) {}, nil},
		"a retry":       {func(*retry.Policy) {}, same(errBoom, 1)},
		"three":         {func(*retry.Policy) {}, same(errBoom, 3)},
		"permanent":     {func(*retry.Policy) {}, []error{errBoom, retry.Permanent(errConflict)}},
		"one":           {func(p *retry.Policy) { p.MaxAttempts = 1 }, same(errBoom, 3)},
		"many":          {func(p *retry.Policy) { p.MaxAttempts = -1 }, same(errBoom, 30)},
		"too long":      {func(*retry.Policy) {}, []error{late}},
		"a delay":       {func(p *retry.Policy) { p.MaxRetryAfter = time.Hour }, []error{late}},
		"a time":        {func(p *retry.Policy) { p.MaxElapsed = time.Second }, same(errBoom, 3)},
		"a time to try": {func(p *retry.Policy) { p.AttemptTimeout = 1 }, same(errBoom, 3)},
		"a budget": {
			func(p *retry.Policy) { p.Budget.Off, p.Budget.Floor = false, -1 }, same(errBoom, 3),
		},
		"an empty one": {func(p *retry.Policy) { p.SharedBudget = drained(t) }, same(errBoom, 3)},
		"a success pays": {
			func(p *retry.Policy) { p.Budget.Off, p.Budget.Floor = false, -1 }, nil,
		},
		"after a retry it does not": {
			func(p *retry.Policy) { p.Budget.Off, p.Budget.Floor = false, -1 }, same(errBoom, 1),
		},
		"but gets a refund": {
			func(p *retry.Policy) { p.Budget = retry.Budget{Floor: -1, Refund: true} },
			same(errBoom, 1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				do, iter := with(plain(), test.change), with(plain(), test.change)
				do.Budget.Take()
				iter.Budget.Take()
				a, b := play(t.Context(), do, test.errs...), loop(t.Context(), iter, test.errs...)
				b.made(t, a.attempts, a.took)
				if fmt.Sprint(a.err) != fmt.Sprint(b.err) {
					t.Errorf("ends with %v, Do with %v", b.err, a.err)
				}
				tokens(t, &iter.Budget, do.Budget.Tokens())
			})
		})
	}
}

// A loop is not entered for a caller who has gone.
func TestAttemptsWithAContextThatIsDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c := loop(ctx, plain()); c.attempts != 0 || c.err != context.Canceled {
		t.Errorf("%+v", c)
	}
}

// A loop may have had enough although there would be another attempt.
func TestAttemptsLeftAfterAgain(t *testing.T) {
	n := 0
	for _, try := range hasty().Attempts(t.Context()) {
		if n++; !try.Again(errBoom) || try.Err() != nil {
			t.Errorf("attempt %d is the last: %v", n, try.Err())
		}
		break
	}
	if n != 1 {
		t.Errorf("%d attempts", n)
	}
}

func TestAttemptsLeftEarly(t *testing.T) {
	p := &retry.Policy{AttemptTimeout: time.Hour, Budget: retry.Budget{Floor: -1}}
	p.Budget.Take()
	var left context.Context
	leave := map[string]func(){
		"by break": func() {
			for ctx := range p.Attempts(t.Context()) {
				left = ctx
				break
			}
		},
		"by return": func() {
			for ctx := range p.Attempts(t.Context()) {
				left = ctx
				return
			}
		},
		"by a label": func() {
		outer:
			for range 2 {
				for ctx := range p.Attempts(t.Context()) {
					left = ctx
					continue outer
				}
			}
		},
		"by going on without a word": func() {
			n := 0
			for ctx := range p.Attempts(t.Context()) {
				left = ctx
				if n++; n > 1 {
					t.Error("another attempt, and nobody asked for it")
					break
				}
			}
		},
	}
	for name, f := range leave {
		left = nil
		f()
		if left == nil || left.Err() == nil {
			t.Errorf("%s: the attempt's context is alive", name)
		}
		tokens(t, &p.Budget, 2) // nothing learned
	}
}

// A panic in the loop's body must not leave the attempt's timer running for an hour:
// a server that recovers does so for every request.
func TestAttemptsBodyThatPanics(t *testing.T) {
	p := with(plain(), func(p *retry.Policy) { p.AttemptTimeout = time.Hour })
	var inner context.Context
	func() {
		defer func() {
			if v := recover(); v != "bug" {
				t.Errorf("recovered %v", v)
			}
		}()
		for ctx := range p.Attempts(t.Context()) {
			inner = ctx
			panic("bug")
		}
	}()
	if inner.Err() == nil {
		t.Error("the attempt's context is alive")
	}
}

func TestAttemptsContexts(t *testing.T) {
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		p.AttemptTimeout = 3 * time.Second
		type key struct{}
		outer := context.WithValue(t.Context(), key{}, "the caller's")
		var seen []context.Context
		for ctx, try := range p.Attempts(outer) {
			if n := retry.Attempt(ctx); n != len(seen)+1 {
				t.Errorf("attempt %d says it is %d", len(seen)+1, n)
			}
			deadline, _ := ctx.Deadline()
			if ctx.Value(key{}) == nil || time.Until(deadline) != 3*time.Second {
				t.Errorf("an attempt has %v", time.Until(deadline))
			}
			for _, earlier := range seen {
				if earlier.Err() == nil {
					t.Error("the context of an earlier attempt is alive")
				}
			}
			seen = append(seen, ctx)
			<-ctx.Done()
			again := try.Again(ctx.Err())
			if again != (len(seen) < 3) {
				t.Errorf("again %t after attempt %d", again, len(seen))
			}
			if again && try.Err() != nil {
				t.Errorf("goes on with %v", try.Err())
			}
			if !again && !errors.Is(try.Err(), retry.ErrExhausted) {
				t.Errorf("ends with %v", try.Err())
			}
		}
		if len(seen) != 3 {
			t.Errorf("%d attempts", len(seen))
		}
	})
}

// Again ends the attempt before it waits: what the attempt holds, a connection say, is
// not held through the wait.
func TestAgainEndsTheAttemptBeforeItWaits(t *testing.T) {
	p := with(hasty(), func(p *retry.Policy) { p.AttemptTimeout = time.Hour })
	var inner context.Context
	p.OnRetry = func(context.Context, retry.Event) {
		if inner.Err() == nil {
			t.Error("the attempt's context is alive in the wait")
		}
	}
	for ctx, try := range p.Attempts(t.Context()) {
		inner = ctx
		try.Again(errBoom)
	}
}

// The same sequence, ranged over twice, is two calls.
func TestAttemptsTwice(t *testing.T) {
	seq := hasty().Attempts(t.Context())
	for range 2 {
		n := 0
		for ctx, try := range seq {
			if n++; retry.Attempt(ctx) != n {
				t.Errorf("attempt %d says it is %d", n, retry.Attempt(ctx))
			}
			try.Again(errBoom)
		}
		if n != 3 {
			t.Errorf("%d attempts", n)
		}
	}
}

func TestAttemptsCancelledInTheWait(t *testing.T) {
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		c := loop(ctx, p, errBoom)
		c.made(t, 1, 100*time.Millisecond)
		c.matches(t, errBoom, context.Canceled)
	})
}
