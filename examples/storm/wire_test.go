package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
)

// overWire returns a call of handle that takes the way over loopback.
func overWire(t *testing.T, transport string, handle call, p Protection) call {
	t.Helper()
	w, err := wireOf(Topology{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	var limits trouble
	l, err := listen("127.0.0.1", &limits)
	if err != nil {
		t.Fatal(err)
	}
	var in, out atomic.Int64
	stop := w.serve(l, handle, p, &in)
	t.Cleanup(func() {
		_ = stop()
		if met := limits.all(); len(met) > 0 {
			t.Errorf("met %v", met)
		}
	})
	return w.dial(l.Addr().String(), Protection{}, dialer{1, &out, &limits, nil})
}

// What a server turns away is told from what it failed at, whatever the transport.
func TestAnswers(t *testing.T) {
	tests := []struct {
		err     error
		result  Result
		refused int // the status
	}{
		{nil, Live, 0},
		{errFull, Refused, http.StatusServiceUnavailable},
		{fmt.Errorf("front: %w", &bulkhead.FullError{}), Refused, http.StatusServiceUnavailable},
		{errUnavailable, Refused, http.StatusServiceUnavailable},
		{&refusal{status: http.StatusServiceUnavailable}, Failed, 0}, // of what it asked
		{&refusal{status: 503, after: time.Second}, Refused, http.StatusServiceUnavailable},
		{errors.New("failed"), Failed, 0},
		{errDropped, Failed, 0},
	}
	for _, transport := range []string{transportHTTP, transportGRPC} {
		for _, tt := range tests {
			asked := make(chan request, 1)
			ask := overWire(t, transport, func(_ context.Context, r request) (string, error) {
				asked <- r
				return sourceLive, tt.err
			}, Protection{})
			want := request{ID: 7, Kind: "page", Client: "page-1"}
			source, err := ask(t.Context(), want)
			if got := <-asked; got != want {
				t.Errorf("%s: it was asked %+v, want %+v", transport, got, want)
			}
			g := &generator{patience: time.Minute}
			if result := g.result(source, err, 0); result != tt.result {
				t.Errorf("%s: %v is answered with %v, which is %q, want %q",
					transport, tt.err, err, result, tt.result)
			}
			r, ok := errors.AsType[*refusal](err)
			if ok != (tt.refused != 0) || ok && (r.status != tt.refused || r.told) {
				t.Errorf("%s: %v is answered with %+v, want status %d",
					transport, tt.err, r, tt.refused)
			}
		}
	}
}

// A user who leaves is seen on the other side.
func TestLeaving(t *testing.T) {
	for _, transport := range []string{transportHTTP, transportGRPC} {
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan struct{})
		ask := overWire(t, transport, func(ctx context.Context, _ request) (string, error) {
			leave()
			<-ctx.Done()
			close(left)
			return "", ctx.Err()
		}, Protection{})
		if _, err := ask(ctx, request{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: it ends with %v", transport, err)
		}
		<-left
	}
}

// The variant's own handler is before the front's, and what it says arrives.
func TestServerProtection(t *testing.T) {
	for _, retryAfter := range []string{"1", ""} {
		ask := overWire(t, transportHTTP, func(context.Context, request) (string, error) {
			t.Error("it was asked")
			return "", nil
		}, Protection{Server: func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("RateLimit", `"client";r=0;t=1`)
				w.Header().Set("RateLimit-Policy", `"client";q=10;w=1`)
				w.Header().Set("Retry-After", retryAfter)
				w.WriteHeader(http.StatusTooManyRequests)
			})
		}})
		_, err := ask(t.Context(), request{})
		r, _ := errors.AsType[*refusal](err)
		if r == nil || r.status != http.StatusTooManyRequests || r.told != (retryAfter != "") {
			t.Errorf("with Retry-After %q it is %+v, %v", retryAfter, r, err)
		}
	}
}
