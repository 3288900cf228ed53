package limiterhttp_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
)

// refusesGuesses is a test of yours. In a bubble of testing/synctest the Store's time is the
// bubble's, and a minute of it takes none. Make the Store inside.
func refusesGuesses(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		login := (&limiterhttp.Middleware{
			Store: limiter.NewKeyed(limiter.KeyedConfig[string]{}),
			Key:   limiterhttp.RemoteAddr,
			Limit: limiter.Limit{Rate: 0.1, Burst: 3},
		}).Handler(http.NotFoundHandler())
		guess := func() int {
			w := httptest.NewRecorder()
			login.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/login", http.NoBody))
			return w.Code
		}
		for range 3 {
			guess()
		}
		if got := guess(); got != http.StatusTooManyRequests {
			t.Errorf("the fourth guess: %d", got)
		}
		time.Sleep(time.Minute)
		if got := guess(); got == http.StatusTooManyRequests {
			t.Errorf("after a minute: %d", got)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestRefusesGuesses(t *testing.T)
	if t != nil {
		refusesGuesses(t)
	}
	// Output:
}

func TestExampleForTesting(t *testing.T) { refusesGuesses(t) }
