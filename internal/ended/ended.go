// Package ended has the error of work that a context ended.
package ended

import (
	"cmp"
	"context"
	"errors"
)

// Error matches, by errors.Is, both what the context says and why it ended. Either
// alone would do for some callers only: those that look for context.Canceled, and those
// that gave a cause to look for.
type Error struct {
	text         string
	err, cause   error
	notAttempted bool
}

// New returns the error for ctx, which has ended, in the name of a package.
// NotAttempted is for work that had not begun.
func New(ctx context.Context, pkg string, notAttempted bool) *Error {
	cause := cmp.Or(context.Cause(ctx), ctx.Err())
	return &Error{pkg + ": " + cause.Error(), ctx.Err(), cause, notAttempted}
}

// Error names the package and the cause.
func (e *Error) Error() string { return e.text }

// Unwrap returns what the context says and its cause.
func (e *Error) Unwrap() []error { return []error{e.err, e.cause} }

// NotAttempted reports whether the work had not begun.
func (e *Error) NotAttempted() bool { return e.notAttempted }

// SaidBy reports whether err says as much by itself.
func (e *Error) SaidBy(err error) bool {
	return errors.Is(err, e.err) && errors.Is(err, e.cause)
}

// Timeout reports whether it was a deadline, for those who ask as package net does.
func (e *Error) Timeout() bool { return errors.Is(e.err, context.DeadlineExceeded) }
