package shedhttp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/shedhttp"
)

// keepsCheckout is a test of yours. In a bubble of testing/synctest the shedder's time is the
// bubble's, and a test that waits does not. Make the shedder inside.
func keepsCheckout(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		shedder := shed.New(shed.Config{
			Max: 1, Queue: 1, Algorithm: shed.Fixed,
		})
		h := (&shedhttp.Middleware{
			Shedder: func(*http.Request) *shed.Shedder { return shedder },
			Criticality: func(r *http.Request) shed.Criticality {
				if r.URL.Path == "/checkout" {
					return shed.CriticalPlus
				}
				return shed.Critical
			},
		}).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			time.Sleep(20 * time.Millisecond) // the work
		}))
		ask := func(path string) (status chan int) {
			status = make(chan int, 1)
			go func() {
				w := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
				h.ServeHTTP(w, r.WithContext(context.WithoutCancel(t.Context())))
				status <- w.Code
			}()
			synctest.Wait() // it is served, waits or was refused
			return status
		}
		first, waiting, checkout := ask("/"), ask("/"), ask("/checkout")
		if got := <-waiting; got != http.StatusServiceUnavailable {
			t.Errorf("who had to make room got %d", got)
		}
		for _, status := range []chan int{first, checkout} {
			if got := <-status; got != http.StatusOK {
				t.Errorf("got %d", got)
			}
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestKeepsCheckout(t *testing.T)
	if t != nil {
		keepsCheckout(t)
	}
	// Output:
}

func TestExampleForTesting(t *testing.T) { keepsCheckout(t) }
