package healthhttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
	"github.com/stormjib/stormjib/health/healthhttp"
)

func ExampleProbes() {
	h := health.New(health.Config{Gates: []string{"cache"}})
	h.Start(context.Background())
	defer h.Stop()
	probes := &healthhttp.Probes{
		Health:  h,
		Details: func(r *http.Request) bool { return r.Header.Get("X-Operator") != "" },
	}
	site := probes.Handler(http.NotFoundHandler()) // your handler, with all its middleware

	show := func(target string) {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, http.NoBody))
		fmt.Println(w.Code)
		fmt.Print(w.Body)
	}
	show("/readyz")
	h.Gate("cache")()
	show("/readyz")
	show("/readyz?verbose")
	h.SetDraining()
	show("/readyz")
	show("/livez")
	// Output:
	// 503
	// [-]cache fail: reason withheld
	// readyz failed: starting
	// 200
	// ok
	// 200
	// [+]cache pass
	// ok
	// 503
	// readyz failed: draining
	// 200
	// ok
}

// warnsOnly is a test of yours: what your probes say when the database is down, without one
// that is, and without waiting. Make the Health inside.
func warnsOnly(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := health.New(health.Config{Checks: []health.Check{{
			Name: "db", Func: func(context.Context) error { return errors.New("down") },
		}}})
		h.Start(t.Context())
		ready := func() int {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody)
			(&healthhttp.Probes{Health: h}).ServeHTTP(w, r)
			return w.Code
		}
		if got := ready(); got != http.StatusServiceUnavailable {
			t.Errorf("got %d at the start", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := ready(); got != http.StatusOK {
			t.Errorf("got %d a minute later", got)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestWarnsOnly(t *testing.T)
	if t != nil {
		warnsOnly(t)
	}
	// Output:
}

func TestExampleForTesting(t *testing.T) { warnsOnly(t) }
