package throttle_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed/throttle"
)

// holdsBack is a test of yours. In a bubble of testing/synctest the throttle's time is
// the bubble's, and half a minute of it takes none. Make the throttle inside. Which calls
// are refused is drawn by lot: have many rejected, and it is nearly all.
func holdsBack(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x := throttle.New(throttle.Config{})
		call := func(err error) error {
			return x.Do(t.Context(), func(context.Context) error { return err })
		}
		throttled := 0
		for range 1000 {
			if errors.Is(call(overloadedError{}), throttle.ErrThrottled) {
				throttled++
			}
		}
		if throttled < 900 {
			t.Errorf("%d of 1000 calls were refused", throttled)
		}
		time.Sleep(30 * time.Second) // the Window
		for range 1000 {
			if err := call(nil); err != nil {
				t.Fatalf("after half a minute: %v", err)
			}
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestHoldsBack(t *testing.T)
	if t != nil {
		holdsBack(t)
	}
	// Output:
}

func TestHoldsBack(t *testing.T) { holdsBack(t) }
