package hop_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stormjib/stormjib/internal/hop"
)

func TestAttempt(t *testing.T) {
	type key struct{}
	type lower struct{}
	base := context.WithValue(t.Context(), key{}, "kept")
	second := hop.WithAttempt(base, 2)
	below := context.WithValue(context.WithoutCancel(second), lower{}, "set")
	for _, test := range []struct {
		name string
		ctx  context.Context
		want int
	}{
		{"none", base, 1},
		{"the second", second, 2},
		{"what is derived from it", below, 2},
		{"a policy in a policy: the innermost", hop.WithAttempt(below, 3), 3},
		{"it does not change the outer one", second, 2},
	} {
		if got := hop.Attempt(test.ctx); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
		if test.ctx.Value(key{}) != "kept" {
			t.Errorf("%s: another value is lost", test.name)
		}
	}
	if second.Value(lower{}) != nil || second.Value([1]int{}) != nil {
		t.Error("there is a value that nobody set")
	}
}

// It is a context like any other: it ends with the caller's, and what is derived from it
// needs no goroutine to hear of that, as with the context types of other packages.
func TestAttemptContextEnds(t *testing.T) {
	base, cancel := context.WithCancel(t.Context())
	ctx := hop.WithAttempt(base, 2)
	before := runtime.NumGoroutine()
	for range 1000 {
		_, stop := context.WithCancel(ctx)
		defer stop()
	}
	if n := runtime.NumGoroutine() - before; n > 500 {
		t.Errorf("%d goroutines for 1000 contexts", n)
	}
	cancel()
	select {
	case <-ctx.Done():
	default:
		t.Error("it outlives the caller's")
	}
	if ctx.Err() != context.Canceled {
		t.Errorf("ends with %v", ctx.Err())
	}
}

func TestAttemptAllocatesOnce(t *testing.T) {
	base := t.Context()
	var n int
	allocs := testing.AllocsPerRun(100, func() { n += hop.Attempt(hop.WithAttempt(base, 5000)) })
	if allocs > 2 { // the context, and its number in an interface
		t.Errorf("a retry's context allocates %v times", allocs)
	}
	if allocs := testing.AllocsPerRun(100, func() { n += hop.Attempt(base) }); allocs != 0 {
		t.Errorf("looking for a number allocates %v times", allocs)
	}
}
