package hop_test

import (
	"context"
	"testing"

	"github.com/stormjib/stormjib/internal/hop"
)

func TestSender(t *testing.T) {
	if got := hop.SenderOf(t.Context()); got != (hop.Sender{}) {
		t.Errorf("of a context without one: %+v", got)
	}
	want := hop.Sender{Criticality: 2, Attempt: 3, Tenant: "t"}
	ctx := hop.WithSender(t.Context(), hop.Sender{Tenant: "other"})
	ctx, cancel := context.WithCancel(hop.WithSender(ctx, want))
	defer cancel()
	if got := hop.SenderOf(ctx); got != want {
		t.Errorf("SenderOf = %+v, want %+v", got, want)
	}
	// The attempt that a request came in with is not that of the requests it makes.
	if got := hop.Attempt(ctx); got != 1 {
		t.Errorf("Attempt = %d, want 1", got)
	}
}
