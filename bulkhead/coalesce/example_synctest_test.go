package coalesce_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead/coalesce"
)

// isRefreshed is a test of yours. In a bubble of testing/synctest the group's time is the
// bubble's, and a slow store takes none. Make the group inside, and end what is in flight
// there: a refresh does when its function returns, or after Timeout.
func isRefreshed(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		prices := coalesce.New[string, int](coalesce.Config{
			TTL: time.Minute, Stale: time.Minute, Jitter: -1,
		})
		price := 0
		ask := func() int {
			got, _ := prices.Do(t.Context(), "tea", func(context.Context) (int, error) {
				time.Sleep(time.Second)
				price++
				return price, nil
			})
			return got
		}
		if got := ask(); got != 1 {
			t.Errorf("at first: %d, want 1", got)
		}
		time.Sleep(time.Minute)
		if got := ask(); got != 1 {
			t.Errorf("after a minute: %d, want the old 1 at once", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := ask(); got != 2 {
			t.Errorf("after the refresh: %d, want 2", got)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestIsRefreshed(t *testing.T)
	if t != nil {
		isRefreshed(t)
	}
	// Output:
}

func TestExample(t *testing.T) { isRefreshed(t) }
