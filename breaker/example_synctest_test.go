package breaker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/breaker"
)

// comesBack is a test of yours. In a bubble of testing/synctest the breaker's time is
// the bubble's, and half a minute of it takes none. Make the breaker inside.
func comesBack(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{Consecutive: 1})
		call := func(err error) error {
			return b.Do(t.Context(), func(context.Context) error { return err })
		}
		_ = call(errors.New("connection refused"))
		if err := call(nil); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("got %v, want a refusal", err)
		}
		time.Sleep(30 * time.Second)
		if err := call(nil); err != nil {
			t.Errorf("after half a minute: %v", err)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestComesBack(t *testing.T)
	if t != nil {
		comesBack(t)
	}
	// Output:
}
