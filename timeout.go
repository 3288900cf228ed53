package stormjib

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Timeout returns a policy that cancels the context of the call d after its
// start. It panics if d is not positive.
//
// It is cooperative: the call is waited for, and what it returns is returned. A
// result without an error is never replaced, however late. An error is returned
// as it is too, unless it came after the timeout and does not say so itself: then
// it is wrapped, and matches what it matched before, [context.DeadlineExceeded],
// and the [*TimeoutError] that is the cause of the call's context.
//
// A deadline of ctx that is earlier than d stays, and is reported as the
// caller's, not as a timeout. A timeout costs a context with a timer: about half
// a microsecond and four allocations.
//
// For an HTTP call, read the body inside the call: the context that ends with it
// ends the body too.
func Timeout(d time.Duration) Policy {
	if d <= 0 {
		panic(fmt.Sprintf("stormjib: Timeout: %v is not positive", d))
	}
	return &timeout{after: d, cause: &TimeoutError{After: d}}
}

// TimeoutError is the cause of a context that a [Timeout] ended, and matches
// [context.DeadlineExceeded]. Like that error, it has a Timeout method.
type TimeoutError struct {
	After time.Duration // what Timeout was given
}

// Error names the timeout.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("stormjib: timed out after %v", e.After)
}

// Is reports whether target is [context.DeadlineExceeded].
func (*TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout returns true, as that of a net.Error.
func (*TimeoutError) Timeout() bool { return true }

// Temporary returns true. It makes the error a net.Error, as context.DeadlineExceeded
// is one.
func (*TimeoutError) Temporary() bool { return true }

type timeout struct {
	after time.Duration
	cause *TimeoutError
}

func (t *timeout) Do(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, t.after, t.cause)
	defer cancel()
	err := fn(ctx)
	if err == nil || !errors.Is(context.Cause(ctx), t.cause) || errors.Is(err, t.cause) {
		return err
	}
	return &timedOutError{err: err, cause: t.cause}
}

// timedOutError is an error that a call returned after its timeout. It is a chain and
// not a join: what err says about itself holds, and the cause says nothing.
type timedOutError struct {
	err   error
	cause *TimeoutError
}

func (e *timedOutError) Error() string { return e.cause.Error() + ": " + e.err.Error() }
func (e *timedOutError) Unwrap() error { return e.err }
func (e *timedOutError) Timeout() bool { return true }

// Is finds the cause, and what it matches.
func (e *timedOutError) Is(target error) bool { return errors.Is(e.cause, target) }

// As finds the cause. Of nested timeouts that are all over it is the outermost.
func (e *timedOutError) As(target any) bool {
	if t, ok := target.(**TimeoutError); ok {
		*t = e.cause
		return true
	}
	return false
}
