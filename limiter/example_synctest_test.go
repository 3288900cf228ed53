package limiter_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/limiter"
	"golang.org/x/time/rate"
)

// oneMail is a test of yours. In a bubble of testing/synctest the limiter's time is the
// bubble's, and an hour of it takes none. Make the limiter inside.
func oneMail(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		mails := limiter.New(limiter.Config{
			Limit: limiter.Limit{Rate: rate.Every(time.Hour), Burst: 1},
		})
		if !mails.Allow() {
			t.Error("the first mail was refused")
		}
		time.Sleep(time.Hour - 1)
		if mails.Allow() {
			t.Error("a second mail before the hour was over")
		}
		time.Sleep(time.Nanosecond)
		if err := mails.Wait(t.Context(), 1); err != nil {
			t.Errorf("after an hour: %v", err)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestOneMail(t *testing.T)
	if t != nil {
		oneMail(t)
	}
	// Output:
}
