package bulkhead_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
)

// waitsItsTurn is a test of yours. In a bubble of testing/synctest the bulkhead's time is
// the bubble's, and calls that take minutes take none. Make the bulkhead inside.
func waitsItsTurn(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New(bulkhead.Config{
			MaxConcurrent: 1, MaxQueue: 1, MaxWait: 3 * time.Minute,
		})
		var others sync.WaitGroup
		defer others.Wait()
		report := func() error {
			return b.Do(t.Context(), func(context.Context) error {
				time.Sleep(2 * time.Minute)
				return nil
			})
		}
		start := time.Now()
		others.Go(func() { _ = report() })
		synctest.Wait() // it is under way
		if err := report(); err != nil {
			t.Errorf("the second in line: %v", err)
		}
		if took := time.Since(start); took != 4*time.Minute {
			t.Errorf("the two took %v, want one after the other", took)
		}
		for range 2 {
			others.Go(func() { _ = report() })
		}
		synctest.Wait()
		if err := report(); !errors.Is(err, bulkhead.ErrFull) {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestWaitsItsTurn(t *testing.T)
	if t != nil {
		waitsItsTurn(t)
	}
	// Output:
}

func TestExampleOfTesting(t *testing.T) { waitsItsTurn(t) }
