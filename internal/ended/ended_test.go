package ended_test

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/internal/verdict"
)

func TestError(t *testing.T) {
	why := errors.New("the user left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	err := ended.New(ctx, "pattern", true)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("%v does not match both what the context says and why", err)
	}
	if !err.SaidBy(errors.Join(context.Canceled, why)) ||
		err.SaidBy(context.Canceled) || err.SaidBy(why) {
		t.Error("SaidBy is not whether an error says both")
	}
	if got, want := err.Error(), "pattern: the user left"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if !verdict.NotAttempted(err) || verdict.NotAttempted(ended.New(ctx, "pattern", false)) {
		t.Error("NotAttempted is not what New was told")
	}
	if err.Timeout() {
		t.Error("a user who left is a timeout")
	}
}

// The error is made when the context has ended, and does not change with it; a context
// without a cause of its own has what it says for a cause.
func TestWithoutCause(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	err := ended.New(ctx, "pattern", false)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is not context.DeadlineExceeded", err)
	}
	// As http.Client's error asks, by this method.
	if !(&url.Error{Err: err}).Timeout() {
		t.Error("a deadline is not a timeout")
	}
	if got, want := err.Error(), "pattern: context deadline exceeded"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}
