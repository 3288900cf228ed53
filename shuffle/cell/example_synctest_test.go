package cell_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// outlivesItsControlPlane is a test of yours. In a bubble of testing/synctest a day of an
// outage takes no time. Make the router inside.
func outlivesItsControlPlane(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		router := cell.New(cell.Config{Source: func(context.Context) ([]byte, error) {
			if down.Load() {
				return nil, errors.New("connection refused")
			}
			return newMap().Encode()
		}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go router.Run(ctx)
		synctest.Wait() // for the first pull
		down.Store(true)
		time.Sleep(24 * time.Hour)
		route, err := router.Route("acme")
		if err != nil || route.Cell != "cell-1" || !route.Stale {
			t.Errorf("after a day: %+v, %v", route, err)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestOutlivesItsControlPlane(t *testing.T)
	if t != nil {
		outlivesItsControlPlane(t)
	}
	// Output:
}

func TestOutlivesItsControlPlane(t *testing.T) { outlivesItsControlPlane(t) }
