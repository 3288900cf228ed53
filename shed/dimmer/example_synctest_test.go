package dimmer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed/dimmer"
)

// goesDark is a test of yours. In a bubble of testing/synctest the dimmer's time is the
// bubble's, and ten seconds of it take none. Make the dimmer inside.
func goesDark(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := dimmer.New(dimmer.Config{})
		for range 20 {
			d.Observe(time.Second)
			time.Sleep(500 * time.Millisecond)
		}
		if d.Feature("optional").Allow(t.Context()) {
			t.Error("lit, with a wait of a second")
		}
	})
}

// Testing your code. For one answer without a load, there is [dimmer.Feature.ForceOff].
func Example_testing() {
	var t *testing.T // that of func TestGoesDark(t *testing.T)
	if t != nil {
		goesDark(t)
	}
	// Output:
}
