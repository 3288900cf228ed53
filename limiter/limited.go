package limiter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// ErrLimited is matched by every [LimitedError].
var ErrLimited = errors.New("limiter: limited")

// Reason is why a call was refused. It is made for people and for labels.
type Reason string

// The reasons.
const (
	RateExceeded     Reason = "rate exceeded"      // too few tokens, and no waiting allowed
	QueueFull        Reason = "queue full"         // MaxQueue others wait already
	DeadlineTooShort Reason = "deadline too short" // the tokens would come after the deadline
	Never            Reason = "never possible"     // a number below 1 or above the Burst
)

// LimitedError is the error of a call that was refused, and not made. It matches
// [ErrLimited]; with the reason DeadlineTooShort it matches [context.DeadlineExceeded] too,
// for that is what it would have become.
type LimitedError struct {
	Name   string // of the limiter
	Reason Reason // which of the four it was
	Limit  Limit  // what the bucket goes by

	after time.Duration
}

// Error names the limiter, the reason and the limit.
func (e *LimitedError) Error() string {
	return fmt.Sprintf("limiter%s: %s (%v)", quoted(e.Name), e.Reason, e.Limit)
}

// Is reports whether target is [ErrLimited], or the [context.DeadlineExceeded] of a
// deadline that was too short.
func (e *LimitedError) Is(target error) bool {
	return target == ErrLimited ||
		target == context.DeadlineExceeded && e.Reason == DeadlineTooShort
}

// Timeout reports whether it was for a deadline, for those who ask as package net does.
func (e *LimitedError) Timeout() bool { return e.Reason == DeadlineTooShort }

// NotAttempted returns true: the call was not made.
func (e *LimitedError) NotAttempted() bool { return true }

// RetryAfter returns in how long there would be tokens for the call, if no others come
// before. It is [rate.InfDuration] if waiting does not help.
func (e *LimitedError) RetryAfter() time.Duration { return e.after }

// Retryable reports whether waiting helps.
func (e *LimitedError) Retryable() bool { return e.after != rate.InfDuration }

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}
