package control_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stormjib/stormjib/shuffle/cell/control"
)

// hooksAreCalled is a test of yours. In a bubble of testing/synctest the leases that a move
// waits for take no time. Make the controller inside.
func hooksAreCalled(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		copied := 0
		hooks := control.Hooks{Verify: nothing, CatchUp: nothing}
		hooks.Copy = func(context.Context, control.Move) error {
			copied++
			return nil
		}
		controller := control.New(control.Config{Store: newStore(), Hooks: hooks})
		err := controller.Move(t.Context(), control.Unit{Tenant: "acme"}, "cell-1")
		if err != nil || copied != 1 {
			t.Errorf("copied %d times, %v", copied, err)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestHooksAreCalled(t *testing.T)
	if t != nil {
		hooksAreCalled(t)
	}
	// Output:
}

func TestHooksAreCalled(t *testing.T) { hooksAreCalled(t) }
