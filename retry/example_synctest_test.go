package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// givesUpInTime is a test of yours. In a bubble of testing/synctest the waits take none of
// your time, and yet are exact. Make the policy inside: its budget reads the bubble's clock.
func givesUpInTime(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		policy := &retry.Policy{Backoff: retry.Constant(time.Minute)}
		began := time.Now()
		err := policy.Do(t.Context(), func(context.Context) error {
			return errors.New("connection refused")
		})
		if !errors.Is(err, retry.ErrExhausted) {
			t.Errorf("got %v, want it to give up", err)
		}
		if took := time.Since(began); took != 2*time.Minute {
			t.Errorf("gave up after %v", took)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestGivesUpInTime(t *testing.T)
	if t != nil {
		givesUpInTime(t)
	}
	// Output:
}

func TestExampleOfTesting(t *testing.T) { givesUpInTime(t) }
