package hedge_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/hedge"
)

// isHedged is a test of yours. In a bubble of testing/synctest the time of a hedge is the
// bubble's, and a slow replica takes none. It fails too if an attempt does not end when
// it is cancelled.
func isHedged(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := hedge.Policy{Delay: 50 * time.Millisecond}
		began := time.Now()
		_, err := hedge.Do(t.Context(), &p, func(ctx context.Context) (string, error) {
			takes := 10 * time.Millisecond
			if retry.Attempt(ctx) == 1 {
				takes = time.Hour
			}
			select {
			case <-time.After(takes):
				return "answer", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}, nil)
		if took := time.Since(began); err != nil || took != 60*time.Millisecond {
			t.Errorf("%v after %v, want an answer after 60ms", err, took)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestIsHedged(t *testing.T)
	if t != nil {
		isHedged(t)
	}
	// Output:
}
