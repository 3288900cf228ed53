package stormjib_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib"
)

// Every row is a call under Timeout(1s).
func TestTimeout(t *testing.T) {
	const ms = time.Millisecond
	boom := func(context.Context) error { return errBoom }
	ctxErr := func(ctx context.Context) error { return ctx.Err() }
	cause := context.Cause
	tests := []struct {
		name     string
		cancel   time.Duration // when the caller leaves; 0: never
		deadline time.Duration // the caller's own; 0: none
		takes    time.Duration // below 0: until its context is done
		err      call          // what the call returns then
		wrapped  bool          // in an error that says that it was late
	}{
		{name: "success in time", takes: 500 * ms},
		{name: "failure in time", takes: 500 * ms, err: boom},
		{name: "failure just in time", takes: 999 * ms, err: boom},
		// An answer that has come is used, however late: a payment reported as
		// failed after it was made is made twice.
		{name: "success too late", takes: 3000 * ms},
		{name: "failure too late", takes: 3000 * ms, err: boom, wrapped: true},
		{name: "heeds its context", takes: -1, err: ctxErr, wrapped: true},
		{name: "fails for another reason because of it", takes: -1, err: boom, wrapped: true},
		{name: "says so itself", takes: -1, err: cause},
		{name: "says so itself, wrapped", takes: -1, err: func(ctx context.Context) error {
			return fmt.Errorf("read: %w", cause(ctx))
		}},
		{name: "says so itself, joined", takes: -1, err: func(ctx context.Context) error {
			return errors.Join(errBoom, cause(ctx))
		}},
		{
			name: "a deadline exceeded that is not this one", takes: 500 * ms,
			err: func(context.Context) error { return context.DeadlineExceeded },
		},

		{name: "the caller leaves first", cancel: 500 * ms, takes: -1, err: ctxErr},
		{
			name: "the caller leaves first, and the call is late", cancel: 500 * ms,
			takes: 3000 * ms, err: boom,
		},
		{
			name: "the caller leaves after the timeout", cancel: 2000 * ms,
			takes: 3000 * ms, err: boom, wrapped: true,
		},
		// Reported as a timeout of ours, this would send people to raise a limit
		// that has nothing to do with it.
		{name: "the caller's deadline is earlier", deadline: 500 * ms, takes: -1, err: ctxErr},
		{
			name: "the caller's deadline is earlier, and the call is late", deadline: 500 * ms,
			takes: 3000 * ms, err: boom,
		},
		{
			name: "the caller's deadline is later", deadline: 2000 * ms,
			takes: -1, err: ctxErr, wrapped: true,
		},
		{
			name:     "the caller's deadline is later, and the call later still",
			deadline: 2000 * ms, takes: 3000 * ms, err: boom, wrapped: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.deadline > 0 {
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, test.deadline)
					defer cancel()
				}
				if test.cancel > 0 {
					var cancel func()
					ctx, cancel = context.WithCancel(ctx)
					defer time.AfterFunc(test.cancel, cancel).Stop()
				}
				var returned, cause error
				got := stormjib.Timeout(time.Second).Do(ctx, func(ctx context.Context) error {
					if test.takes < 0 {
						<-ctx.Done()
					}
					time.Sleep(test.takes)
					cause = context.Cause(ctx)
					if test.err != nil {
						returned = test.err(ctx)
					}
					return returned
				})
				if !test.wrapped {
					if !same(got, returned) {
						t.Errorf("the call returned %#v, and Timeout %#v", returned, got)
					}
					return
				}
				wantTimedOut(t, got, returned, cause)
			})
		})
	}
}

// wantTimedOut asks of an error that Timeout(1s) has wrapped all that it promises.
func wantTimedOut(t *testing.T, got, returned, cause error) {
	t.Helper()
	for _, target := range []error{returned, context.DeadlineExceeded, cause} {
		if !errors.Is(got, target) {
			t.Errorf("%v does not match %v", got, target)
		}
	}
	var timeout *stormjib.TimeoutError
	if !errors.As(got, &timeout) || timeout.After != time.Second {
		t.Errorf("%v has TimeoutError %+v", got, timeout)
	}
	// As package net's callers ask.
	if e, ok := got.(interface{ Timeout() bool }); !ok || !e.Timeout() {
		t.Errorf("%v is not a timeout by its Timeout method", got)
	}
	if stormjib.NotAttempted(got) {
		t.Errorf("%v says that the call was not made", got)
	}
	if want := "stormjib: timed out after 1s: " + returned.Error(); got.Error() != want {
		t.Errorf("the error is %q, want %q", got, want)
	}
}

// What a context that a timeout has ended says to the code inside, which may pass
// it on without any wrap.
func TestTimeoutError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := stormjib.Timeout(time.Second).Do(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			if !same(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("the context's error is %v", ctx.Err())
			}
			return context.Cause(ctx)
		})
		var timeout *stormjib.TimeoutError
		if !errors.As(err, &timeout) || timeout.After != time.Second || !timeout.Timeout() {
			t.Errorf("the cause is %#v", err)
		}
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("%v matches the wrong one of the context's errors", err)
		}
		if got, want := err.Error(), "stormjib: timed out after 1s"; got != want {
			t.Errorf("the error is %q, want %q", got, want)
		}
	})
}

// Two timeouts around one call: the one that ended it is named, and each once.
func TestTimeoutNested(t *testing.T) {
	tests := []struct {
		name         string
		outer, inner time.Duration
		takes        time.Duration // below 0: until its context is done
		want         string
		byOuter      bool
		byInner      bool
	}{
		{
			name: "the inner one", outer: 9 * time.Second, inner: time.Second, takes: -1,
			want: "stormjib: timed out after 1s: boom", byInner: true,
		},
		{
			name: "the outer one", outer: time.Second, inner: 9 * time.Second, takes: -1,
			want: "stormjib: timed out after 1s: boom", byOuter: true,
		},
		{
			name:  "the inner one, and the call goes on past the outer",
			outer: 2 * time.Second, inner: time.Second, takes: 5 * time.Second,
			want:    "stormjib: timed out after 2s: stormjib: timed out after 1s: boom",
			byOuter: true, byInner: true,
		},
		{
			name:  "the outer one, and the call goes on past the inner",
			outer: time.Second, inner: 2 * time.Second, takes: 5 * time.Second,
			want: "stormjib: timed out after 1s: boom", byOuter: true,
		},
		{
			name: "none", outer: 2 * time.Second, inner: time.Second, takes: time.Second / 2,
			want: "boom",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				outer, inner := stormjib.Timeout(test.outer), stormjib.Timeout(test.inner)
				var outside, inside context.Context
				err := outer.Do(t.Context(), func(ctx context.Context) error {
					outside = ctx
					return inner.Do(ctx, func(ctx context.Context) error {
						inside = ctx
						if test.takes < 0 {
							<-ctx.Done()
						}
						time.Sleep(test.takes)
						return errBoom
					})
				})
				if err.Error() != test.want || !errors.Is(err, errBoom) {
					t.Errorf("the error is %q, want %q", err, test.want)
				}
				timedOut := test.byOuter || test.byInner
				if errors.Is(err, context.DeadlineExceeded) != timedOut {
					t.Errorf("%v: DeadlineExceeded should match: %t", err, timedOut)
				}
				for _, policy := range []struct {
					ctx   context.Context
					after time.Duration
					ended bool
				}{{outside, test.outer, test.byOuter}, {inside, test.inner, test.byInner}} {
					var cause *stormjib.TimeoutError
					errors.As(context.Cause(policy.ctx), &cause)
					ended := cause != nil && cause.After == policy.after
					if ended != policy.ended || ended && !errors.Is(err, cause) {
						t.Errorf("%v, and the cause is %v", err, cause)
					}
				}
			})
		})
	}
}

// A refusal inside keeps what it says although it came too late: the timeout must
// not turn "never sent" into "perhaps sent".
func TestTimeoutKeepsVerdicts(t *testing.T) {
	tests := []struct {
		name         string
		err          error
		notAttempted bool
		retryAfter   time.Duration
	}{
		{"a failure", errBoom, false, 0},
		{"a refusal", refusal{}, true, time.Minute},
		{"a refusal and a failure", errors.Join(refusal{}, errBoom), false, time.Minute},
		{"two refusals", errors.Join(refusal{}, refusal{}), true, time.Minute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := stormjib.Timeout(time.Second).Do(t.Context(),
					func(ctx context.Context) error {
						<-ctx.Done()
						return test.err
					})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("%v is no timeout", err)
				}
				// What a caller looks for in it is found as before.
				_, found := errors.AsType[refusal](err)
				if _, want := errors.AsType[refusal](test.err); found != want {
					t.Errorf("a refusal is found: %t, want %t", found, want)
				}
				if got := stormjib.NotAttempted(err); got != test.notAttempted {
					t.Errorf("NotAttempted = %t, want %t", got, test.notAttempted)
				}
				if got := stormjib.RetryAfter(err); got != test.retryAfter {
					t.Errorf("RetryAfter = %v, want %v", got, test.retryAfter)
				}
			})
		})
	}
}

type refusal struct{}

func (refusal) Error() string             { return "refused" }
func (refusal) NotAttempted() bool        { return true }
func (refusal) RetryAfter() time.Duration { return time.Minute }

// A timer that outlives its call is a leak of an hour each, and a panic whose stack
// is lost is a bug that nobody finds.
func TestTimeoutLeavesNothing(t *testing.T) {
	var inside context.Context
	tests := []struct {
		name  string
		leave call
		want  any // what is recovered outside
	}{
		{"returns", func(context.Context) error { return nil }, nil},
		{"panics", boomPanic, "boom"},
		{"exits its goroutine", func(context.Context) error { runtime.Goexit(); return nil }, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var recovered any
			var stack string
			exited := make(chan struct{})
			go func() {
				defer close(exited)
				defer func() {
					if recovered = recover(); recovered != nil {
						stack = string(debug.Stack())
					}
				}()
				stormjib.Timeout(time.Hour).Do(t.Context(), func(ctx context.Context) error {
					inside = ctx
					return test.leave(ctx)
				})
			}()
			<-exited
			if recovered != test.want {
				t.Errorf("recovered %v, want %v", recovered, test.want)
			}
			if test.want != nil && !strings.Contains(stack, "boomPanic") {
				t.Errorf("the stack has lost where the panic began:\n%s", stack)
			}
			if !same(inside.Err(), context.Canceled) {
				t.Errorf("the context's error is %v: its timer runs on", inside.Err())
			}
		})
	}
}

func boomPanic(context.Context) error { panic("boom") }

func TestTimeoutNotPositive(t *testing.T) {
	wantPanic(t, "stormjib: Timeout: 0s is not positive", func() { stormjib.Timeout(0) })
	wantPanic(t, "stormjib: Timeout: -1s is not positive", func() {
		stormjib.Timeout(-time.Second)
	})
}
