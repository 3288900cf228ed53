package retry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// refusal is the error of a breaker or a limiter, which made no call.
type refusal struct{ delay time.Duration }

func (refusal) Error() string               { return "refused" }
func (refusal) NotAttempted() bool          { return true }
func (r refusal) RetryAfter() time.Duration { return r.delay }

// forbidding is an error of somebody else's that joins in.
type forbidding struct{ error }

func (forbidding) Retryable() bool { return false }

// typedNil is the mistake that everybody has made once.
type typedNil struct{ text string }

func (e *typedNil) Error() string { return e.text }

// A mark that gets lost in a wrap is a duplicate payment.
func TestMarksAreSeenThroughWrapsAndJoins(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("layer: %w", err) }
	permanent := retry.Permanent(errBoom)
	tests := []struct {
		name     string
		err      error
		attempts int
		took     time.Duration
	}{
		{"no mark", errBoom, 3, 2 * time.Second},
		{"permanent", permanent, 1, 0},
		{"three wraps", wrap(wrap(wrap(permanent))), 1, 0},
		{"a join", errors.Join(errConflict, permanent), 1, 0},
		{"a join, the other way", errors.Join(permanent, errConflict), 1, 0},
		{"a wrap of a join of a wrap", wrap(errors.Join(errBoom, wrap(permanent))), 1, 0},
		{"somebody else's", wrap(forbidding{errBoom}), 1, 0},
		{"permanent over a delay", retry.Permanent(retry.After(time.Second, errBoom)), 1, 0},
		{"a delay over permanent", retry.After(time.Second, permanent), 1, 0},
		{"a delay", retry.After(time.Second, errBoom), 3, 4 * time.Second},
		{"a delay in wraps", wrap(wrap(retry.After(time.Second, errBoom))), 3, 4 * time.Second},
		{
			"the longest delay of a join",
			errors.Join(retry.After(time.Second, errBoom), retry.After(2*time.Second, errBoom)),
			3, 6 * time.Second,
		},
		{"the outer delay", retry.After(0, retry.After(time.Hour, errBoom)), 3, 2 * time.Second},
		{"a nil in an interface", (*typedNil)(nil), 3, 2 * time.Second},
		{"and permanent", retry.Permanent((*typedNil)(nil)), 1, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
				c := play(t.Context(), p, same(test.err, 3)...)
				c.made(t, test.attempts, test.took)
				if !errors.Is(c.err, test.err) {
					t.Errorf("%v does not match %v", c.err, test.err)
				}
				if got := retry.Retryable(test.err); got != (test.attempts > 1) {
					t.Errorf("Retryable(%v) = %t", test.err, got)
				}
			})
		})
	}
}

func TestMarksAreTheErrorInEverythingElse(t *testing.T) {
	if retry.Permanent(nil) != nil || retry.After(time.Second, nil) != nil {
		t.Error("nil is an error now")
	}
	for _, err := range []error{
		retry.Permanent(refusal{}), retry.After(time.Hour, refusal{}),
	} {
		_, is := errors.AsType[refusal](err)
		if !is || err.Error() != "refused" || !errors.Is(err, refusal{}) {
			t.Errorf("%v is not what it marks", err)
		}
	}
}

// Whoever compares errors with == has done so before there was a policy, and the first
// attempt is nearly always the only one.
func TestSingleAttemptsErrorIsUnchanged(t *testing.T) {
	permanent := retry.Permanent(errBoom)
	ended, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, test := range map[string]struct {
		change func(*retry.Policy)
		ctx    context.Context
		err    error
	}{
		"permanent":        {func(*retry.Policy) {}, t.Context(), permanent},
		"a single attempt": {func(p *retry.Policy) { p.MaxAttempts = 1 }, t.Context(), errBoom},
		"not by RetryIf": {
			func(p *retry.Policy) { p.RetryIf = func(error) bool { return false } },
			t.Context(), errBoom,
		},
		"once":             {func(*retry.Policy) {}, retry.Once(t.Context()), errBoom},
		"the caller's end": {func(*retry.Policy) {}, ended, context.Canceled},
	} {
		p := with(hasty(), test.change)
		err := p.Do(test.ctx, func(context.Context) error {
			if name == "the caller's end" {
				cancel()
			}
			return test.err
		})
		if err != test.err {
			t.Errorf("%s: got %v, want the error itself", name, err)
		}
	}
}

// The error of an attempt while the caller leaves: both are to be found, unless the one
// says all that the other does.
func TestCallersEndIsMatched(t *testing.T) {
	errGone := errors.New("gone")
	both := errors.Join(context.Canceled, errGone)
	// leaving makes a call whose caller leaves during the last of its attempts.
	leaving := func(errs ...error) error {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		n := 0
		return hasty().Do(ctx, func(context.Context) error {
			if n++; n == len(errs) {
				cancel(errGone)
			}
			return errs[n-1]
		})
	}
	e := call{err: leaving(errBoom)}.matches(t, errBoom, context.Canceled, errGone)
	if e.Attempts != 1 || e.Error() != "boom (1 attempt; retry: gone)" {
		t.Errorf("%+v: %v", e, e)
	}
	// Two errors that say one half each.
	call{err: leaving(context.Canceled)}.matches(t, context.Canceled, errGone)
	call{err: leaving(errGone)}.matches(t, context.Canceled, errGone)
	if err := leaving(both); err != both {
		t.Errorf("got %v, want the error, which says it all", err)
	}
	// In a later attempt there is more to tell.
	e = call{err: leaving(errBoom, both)}.matches(t, context.Canceled, errGone)
	if e.Attempts != 2 || errors.Is(e, errBoom) {
		t.Errorf("%+v: %v", e, e)
	}
}

// A handler maps the unavailable to 503 and the conflict to 409. A call that was
// unavailable first and then found a conflict is a conflict.
func TestEarlierErrorsAreKeptButNotMatched(t *testing.T) {
	errUnavailable := errors.New("unavailable")
	c := play(t.Context(), hasty(), errUnavailable, retry.Permanent(errConflict))
	e := c.matches(t, errConflict)
	if errors.Is(e, errUnavailable) {
		t.Errorf("%v matches what it recovered from", e)
	}
	for _, reason := range []error{
		retry.ErrExhausted, retry.ErrBudget, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(e, reason) {
			t.Errorf("%v matches %v", e, reason)
		}
	}
	if e.Attempts != 2 || len(e.Errs) != 2 || e.Errs[0] != errUnavailable {
		t.Errorf("%+v", e)
	}
}

// Which error came first and what came last is what an operator asks; what the four
// hundredth said is not.
func TestErrorsAreBounded(t *testing.T) {
	for _, n := range []int{2, 7, 8, 9, 10, 100} {
		p := with(hasty(), func(p *retry.Policy) { p.MaxAttempts = n })
		errs := make([]error, n)
		for i := range errs {
			errs[i] = fmt.Errorf("no. %d", i+1)
		}
		e := play(t.Context(), p, errs...).matches(t, errs[n-1], retry.ErrExhausted)
		want := errs
		if n > 8 {
			want = append([]error{errs[0]}, errs[n-7:]...)
		}
		if e.Attempts != n || fmt.Sprint(e.Errs) != fmt.Sprint(want) {
			t.Errorf("of %d attempts %v, want %v", e.Attempts, e.Errs, want)
		}
	}
}

func TestReasons(t *testing.T) {
	all := []error{
		retry.ErrExhausted, retry.ErrBudget, context.Canceled, context.DeadlineExceeded,
	}
	tests := []struct {
		name   string
		change func(*retry.Policy)
		left   time.Duration // of the caller's time
		err    error
		want   error
	}{
		{"attempts", func(p *retry.Policy) { p.MaxAttempts = 2 }, time.Hour, errBoom, all[0]},
		{"time", func(p *retry.Policy) { p.MaxElapsed = 1 }, time.Hour, errBoom, all[0]},
		{
			"asked for too long", func(*retry.Policy) {}, 1,
			retry.After(time.Hour, errBoom), all[0], // whatever time there is
		},
		{
			"budget", func(p *retry.Policy) { p.SharedBudget = drained(t) }, time.Hour,
			errBoom, all[1],
		},
		{"deadline", func(*retry.Policy) {}, time.Second, errBoom, all[3]},
		{
			"the deadline before the budget",
			func(p *retry.Policy) { p.SharedBudget = drained(t) }, time.Second, errBoom, all[3],
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, with(plain(), test.change), func(t *testing.T, p *retry.Policy) {
				ctx, cancel := context.WithTimeout(t.Context(), test.left)
				defer cancel()
				e := play(ctx, p, same(test.err, 9)...).matches(t, errBoom)
				for _, reason := range all {
					if got := errors.Is(e, reason); got != (reason == test.want) {
						t.Errorf("%v matches %v: %t", e, reason, got)
					}
					if got := errors.Is(e.Reason, reason); got != (reason == test.want) {
						t.Errorf("its reason %v matches %v: %t", e.Reason, reason, got)
					}
				}
				if strings.Count(e.Reason.Error(), "retry: ") != 1 {
					t.Errorf("reason %q", e.Reason)
				}
			})
		})
	}
}

// A refused POST was not sent, and may be sent elsewhere; one attempt that was made is
// enough to have charged the card.
func TestErrorAnswersForTheWholeCall(t *testing.T) {
	no := refusal{}
	tests := []struct {
		name         string
		errs         []error
		notAttempted bool
		after        time.Duration
	}{
		{"all refused", []error{no, no, no}, true, 0},
		{"the first one made", []error{errBoom, no, no}, false, 0},
		{"one between made", []error{no, errBoom, no}, false, 0},
		{"the last one made", []error{no, no, errBoom}, false, 0},
		{"refused, and until when", []error{no, no, refusal{time.Hour}}, true, time.Hour},
		{"asked earlier", []error{refusal{1}, refusal{1}, errBoom}, false, 0},
		{"all made", []error{errBoom, errBoom, retry.After(1, errBoom)}, false, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
				e := play(t.Context(), p, test.errs...).matches(t, test.errs[2])
				if e.NotAttempted() != test.notAttempted || e.RetryAfter() != test.after {
					t.Errorf("not attempted %t, after %v, want %t, %v",
						e.NotAttempted(), e.RetryAfter(), test.notAttempted, test.after)
				}
				if e.Retryable() || retry.Retryable(fmt.Errorf("wrapped: %w", e)) {
					t.Error("an outer layer would retry it")
				}
			})
		})
	}
	// More failures than are kept: what counts is no longer there to be read.
	p := with(hasty(), func(p *retry.Policy) { p.MaxAttempts = 20 })
	errs := same(no, 20)
	errs[1] = errBoom
	if e := play(t.Context(), p, errs...).matches(t, no); e.NotAttempted() {
		t.Errorf("%v says that nothing was attempted", e)
	}
}

// A caller who counts timeouts asks a net.Error, whatever layers there are.
func TestErrorSaysWhetherItWasATimeout(t *testing.T) {
	timeout := &net.DNSError{IsTimeout: true}
	tests := []struct {
		name   string
		reason error
		errs   []error
		want   bool
	}{
		{"the deadline", context.DeadlineExceeded, []error{errBoom}, true},
		{"the last attempt's", retry.ErrExhausted, []error{errBoom, timeout}, true},
		{"in a wrap", retry.ErrExhausted, []error{fmt.Errorf("get: %w", timeout)}, true},
		{"an attempt's own deadline", retry.ErrBudget, []error{context.DeadlineExceeded}, true},
		{"an earlier attempt's", retry.ErrExhausted, []error{timeout, errBoom}, false},
		{"no timeout", retry.ErrExhausted, []error{errBoom}, false},
		{"one that says no", retry.ErrExhausted, []error{&net.DNSError{}}, false},
		{"the caller left", context.Canceled, []error{errBoom}, false},
		{"no attempt", context.Canceled, nil, false},
		{"no attempt in time", context.DeadlineExceeded, nil, true},
	}
	for _, test := range tests {
		e := &retry.Error{Attempts: len(test.errs), Reason: test.reason, Errs: test.errs}
		if got := e.Timeout(); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if e := play(ctx, p, errBoom).matches(t, errBoom); !e.Timeout() {
			t.Errorf("%v is no timeout", e)
		}
	})
}

func TestErrorOfOneAttempt(t *testing.T) {
	p := with(plain(), func(p *retry.Policy) { p.SharedBudget = drained(t) })
	e := play(t.Context(), p, errBoom).matches(t, errBoom, retry.ErrBudget)
	if want := "boom (1 attempt; retry: budget exhausted)"; e.Error() != want || e.Attempts != 1 {
		t.Errorf("%q, want %q", e, want)
	}
}

// An Error that a test double made, or that was decoded somewhere.
func TestErrorFromALiteral(t *testing.T) {
	e := &retry.Error{Attempts: 2, Reason: retry.ErrExhausted, Errs: []error{errBoom, errConflict}}
	if e.Error() != "conflict (2 attempts; retry: attempts exhausted)" ||
		!errors.Is(e, errConflict) || errors.Is(e, errBoom) || e.NotAttempted() || e.Retryable() {
		t.Errorf("%v", e)
	}
	empty := &retry.Error{}
	if empty.Error() == "" || errors.Is(empty, errBoom) || !empty.NotAttempted() ||
		empty.RetryAfter() != 0 {
		t.Errorf("%v", empty)
	}
}
