package health_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
)

// staysReady is a test of yours. In a bubble of testing/synctest checks run in the bubble's
// time, and minutes take none. Make the Health inside, and have it stopped before the bubble
// ends, as the test's context does.
func staysReady(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		h := health.New(health.Config{Checks: []health.Check{{
			Name: "db",
			Func: func(context.Context) error {
				if down.Load() {
					return errors.New("down")
				}
				return nil
			},
		}}})
		h.Start(t.Context())
		synctest.Wait() // for the first run
		if !h.Ready() {
			t.Error("not ready")
		}
		down.Store(true)
		time.Sleep(time.Minute)
		if r := h.Report(); !r.Ready || r.Status != health.Warn {
			t.Errorf("%v, want to stay and warn", r.Status)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestStaysReady(t *testing.T)
	if t != nil {
		staysReady(t)
	}
	// Output:
}

func TestExampleForTesting(t *testing.T) { staysReady(t) }
