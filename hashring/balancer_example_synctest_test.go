package hashring_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/hashring"
)

// failsOver is a test of yours. In a bubble of testing/synctest the balancer's time is the
// bubble's, and failures fade without anybody waiting for it. Make the balancer inside.
func failsOver(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ring, err := hashring.NewRing(
			[]hashring.Node{{ID: "cache-1"}, {ID: "cache-2"}}, hashring.RingConfig{})
		if err != nil {
			t.Fatal(err)
		}
		balancer := hashring.NewBalancer(ring, hashring.BalancerConfig{
			MinCap: 2, FailureHold: time.Second,
		})
		owner, _ := ring.Owner("user:42")
		goesToOwner := func(want bool, err error) {
			t.Helper()
			lease, refused := balancer.Acquire("user:42")
			if refused != nil {
				t.Fatal(refused)
			}
			lease.Done(t.Context(), err)
			if got := lease.Node() == owner; got != want {
				t.Errorf("goes to the owner: %t, want %t", got, want)
			}
		}
		goesToOwner(true, errors.New("connection refused"))
		goesToOwner(true, errors.New("connection refused"))
		goesToOwner(false, nil)
		time.Sleep(3 * time.Second)
		goesToOwner(true, nil)
	})
}

// Testing your code.
func ExampleBalancer_testing() {
	var t *testing.T // that of func TestFailsOver(t *testing.T)
	if t != nil {
		failsOver(t)
	}
	// Output:
}

func TestFailsOver(t *testing.T) { failsOver(t) }
