package retry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/internal/verdict"
)

// Policy says whether, when and how often to try again. It is used by pointer, from
// any number of goroutines, and must not be changed or copied once it is in use: the
// only thing in it that changes is its budget. The zero Policy is one for production.
//
// Most callers want [Do], or [Policy.Do] where there is no result. [Policy.Attempts]
// is for loops that do not fit into a function.
//
// A field that means nothing, such as a negative duration, is read as zero.
type Policy struct {
	// MaxAttempts is how often the function is called at most, the first time
	// included. If zero, 3: who has failed three times will fail a fourth time. If
	// negative, there is no bound but the context, MaxElapsed and the budget.
	MaxAttempts int

	// Backoff is how long to wait between attempts. If nil, FullJitter from 50ms to
	// 2s: what a person does not notice, and what a request can afford.
	Backoff Backoff

	// AttemptTimeout is the time for each attempt; the context that the function gets
	// ends with it, and so do response bodies. That it is over makes an attempt
	// fail, and the next one is made. If zero, an attempt has as long as the call.
	AttemptTimeout time.Duration

	// MaxElapsed is the time for the call, waits and attempts together. No attempt
	// begins after it, but one that runs is not cut off: that is for the context's
	// deadline to do. If zero, there is none.
	MaxElapsed time.Duration

	// MaxRetryAfter is for how long at most to wait when an error asks for a delay by
	// a RetryAfter method. An error that asks for more ends the call at once: so a
	// retry over an open breaker holds nobody up. If zero, 2s, as the longest backoff.
	// If negative, an error that asks for any delay ends the call.
	MaxRetryAfter time.Duration

	// Budget bounds the retries of this policy by its successes. If zero, retries add
	// at most a tenth to the load. See [Budget]; its field Off turns it off.
	Budget Budget

	// SharedBudget is used instead of Budget where several policies call the same
	// dependency. If nil, Budget is used.
	SharedBudget *Budget

	// RetryIf reports whether an error is worth another attempt; it is not asked when
	// the caller's context has ended. If nil, [Retryable].
	RetryIf func(error) bool

	// OnRetry is called before the wait for each further attempt, on the caller's
	// goroutine, with the caller's context. It is not called for the error that ends
	// the call. If nil, nobody is told.
	OnRetry func(ctx context.Context, event Event)
}

// Event is a retry that is about to be waited for.
type Event struct {
	Attempt int           // the number of the one that failed, from 1
	Err     error         // what it failed with
	Delay   time.Duration // how long the wait will be
}

// Validate returns an error that names every field that has no meaning, with its
// value, or nil. Where it is not called such a field is read as zero.
func (p *Policy) Validate() error {
	var bad []string
	duration := func(field string, d time.Duration) {
		if d < 0 {
			bad = append(bad, fmt.Sprintf("%s is %v, but must not be negative", field, d))
		}
	}
	duration("AttemptTimeout", p.AttemptTimeout)
	duration("MaxElapsed", p.MaxElapsed)
	if err := p.Budget.Validate(); err != nil {
		bad = append(bad, strings.TrimPrefix(err.Error(), "retry: "))
	}
	if p.SharedBudget != nil {
		if err := p.SharedBudget.Validate(); err != nil {
			bad = append(bad, "Shared"+strings.TrimPrefix(err.Error(), "retry: "))
		}
	}
	if bad == nil {
		return nil
	}
	return errors.New("retry: Policy: " + strings.Join(bad, "; "))
}

func (p *Policy) budget() *Budget {
	if p.SharedBudget != nil {
		return p.SharedBudget
	}
	return &p.Budget
}

// Retryable is what a Policy without a RetryIf goes by: it reports whether nothing in
// err forbids another attempt. [Permanent] forbids it, and so does an [*Error]: one
// layer retries, the innermost, and what it has given up on an outer one passes on.
// Any other error may say so too, by a method Retryable() bool.
func Retryable(err error) bool { return verdict.Retryable(err) }

// Permanent returns an error that is err in everything, but is not to be retried.
// Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

type permanent struct{ error }

func (e *permanent) Unwrap() error { return e.error }

// Retryable returns false.
func (*permanent) Retryable() bool { return false }

// After returns an error that is err in everything, but asks for d to pass before
// the next attempt. After(d, nil) is nil.
func After(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &after{err, d}
}

type after struct {
	error
	delay time.Duration
}

func (e *after) Unwrap() error { return e.error }

// RetryAfter returns the delay.
func (e *after) RetryAfter() time.Duration { return e.delay }

// ErrExhausted is matched by an [Error] that ended a call because its attempts, or its
// time, were used up.
var ErrExhausted = errors.New("retry: attempts exhausted")

// ErrBudget is matched by an [Error] that ended a call because too few others succeed.
var ErrBudget = errors.New("retry: budget exhausted")

// Error is what a call ends with when more happened than one attempt and its error:
// there were several, or the next was given up. It matches its last error and its
// reason; the errors of earlier attempts are kept for people, and matched by nothing:
// a call that ended as a conflict did not end as the timeout before it.
type Error struct {
	// Attempts is how often the function was called, possibly not at all.
	Attempts int

	// Reason is why there was no further attempt: [ErrExhausted]; [ErrBudget]; an error
	// that matches [context.DeadlineExceeded] where the wait would not have ended in
	// time; what matches the error and the cause of a context that ended; or else that
	// the last error is not to be retried.
	Reason error

	// Errs are the errors of the attempts, the last one last. Of more than eight, the
	// first and the last seven are kept.
	Errs []error

	notAttempted bool
}

// Error begins with the last error, since that is what went wrong.
func (e *Error) Error() string {
	if len(e.Errs) == 0 {
		return fmt.Sprintf("%v (no attempts)", e.Reason)
	}
	plural := "s"
	if e.Attempts == 1 {
		plural = ""
	}
	return fmt.Sprintf("%v (%d attempt%s; %v)", e.last(), e.Attempts, plural, e.Reason)
}

func (e *Error) last() error {
	if len(e.Errs) == 0 {
		return nil
	}
	return e.Errs[len(e.Errs)-1]
}

// Unwrap returns the last error and the reason.
func (e *Error) Unwrap() []error {
	if last := e.last(); last != nil {
		return []error{last, e.Reason}
	}
	return []error{e.Reason}
}

// Retryable returns false: who wants more attempts says so in this policy, not in one
// around it.
func (*Error) Retryable() bool { return false }

// NotAttempted reports whether no attempt was ever made, or none got beyond a refusal.
func (e *Error) NotAttempted() bool { return e.notAttempted || e.Attempts == 0 }

// RetryAfter returns what the last error asks for.
func (e *Error) RetryAfter() time.Duration { return verdict.RetryAfter(e.last()) }

// Timeout reports whether it was a timeout that ended the last attempt or the call, for
// those who ask a net.Error.
func (e *Error) Timeout() bool {
	if errors.Is(e.Reason, context.DeadlineExceeded) {
		return true
	}
	last, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](e.last())
	return ok && last.Timeout()
}

// stopped is a reason other than the sentinels, and what it matches.
type stopped struct {
	text string
	is   error
}

func (e *stopped) Error() string        { return e.text }
func (e *stopped) Is(target error) bool { return e.is != nil && target == e.is }

// over returns the reason of a context that has ended.
func over(ctx context.Context) error { return ended.New(ctx, "retry", false) }
