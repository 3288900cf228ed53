package redislimiter_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
	"github.com/stormjib/stormjib/redis/redislimiter"
)

// newClient returns a client of a Redis for examples.
func newClient() (*redis.Client, func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	client := redis.NewClient(&redis.Options{
		Addr:                  server.Addr(),
		ContextTimeoutEnabled: true, // or it would wait for longer than the Budget
		MaxRetries:            -1,   // none
	})
	return client, func() { client.Close(); server.Close() }
}

func ExampleStore() {
	client, stop := newClient()
	defer stop()
	store := redislimiter.New(redislimiter.Config{
		Name:     "tenants",
		Client:   client,
		Replicas: func() int { return 10 },
	})
	defer store.Close()

	limit := limiter.Limit{Rate: 1, Burst: 2}
	for range 3 {
		result, err := store.Take(context.Background(), "acme", limit, 1, 1)
		fmt.Println(result.OK, result.Remaining, err)
	}
	// Output:
	// true 1 <nil>
	// true 0 <nil>
	// false 0 <nil>
}

func ExampleStore_Decide() {
	client, stop := newClient()
	store := redislimiter.New(redislimiter.Config{
		Client: client, Replicas: func() int { return 10 },
	})
	defer store.Close()
	stop() // and Redis is gone

	limit := limiter.Limit{Rate: 100, Burst: 50}
	decision, err := store.Decide(context.Background(), "acme", limit, 1, 1)
	fmt.Println(decision.OK, decision.Source, decision.Limit, err)
	// Output: true share 10/s, burst 5 <nil>
}

func ExampleUnavailableError() {
	client, stop := newClient()
	store := redislimiter.New(redislimiter.Config{
		Name: "logins", Client: client, Fail: redislimiter.FailClosed,
	})
	stop() // and Redis is gone
	store.Close()

	_, err := store.Take(context.Background(), "acme", limiter.Limit{Rate: 1, Burst: 1}, 1, 1)
	fmt.Println(err)
	// Output: redislimiter "logins": unavailable: store is closed
}

// A config from a file is checked before it is used.
func ExampleConfig_Validate() {
	cfg := redislimiter.Config{Name: "tenants", Budget: -1, Fail: redislimiter.FailOpen}
	for bad := range strings.SplitSeq(cfg.Validate().Error(), "; ") {
		fmt.Println(bad)
	}
	// Output:
	// redislimiter: Config "tenants": Client is nil, but is required
	// Budget is -1ns, but must not be negative
}

// A limit for each tenant, for all replicas of an HTTP service together.
func Example_http() {
	client, stop := newClient()
	defer stop()
	store := redislimiter.New(redislimiter.Config{
		Client: client, Replicas: func() int { return 10 },
	})
	defer store.Close()

	tenants := &limiterhttp.Middleware{
		Name:  "tenant",
		Store: store,
		Key:   func(*http.Request) (string, bool) { return "acme", true },
		Limit: limiter.Limit{Rate: 0.01, Burst: 1},
	}
	replica := func() http.Handler {
		return tenants.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	}
	for _, handler := range []http.Handler{replica(), replica()} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		fmt.Println(w.Code, w.Header().Get("RateLimit"))
	}
	// Output:
	// 200 "tenant";r=0;t=100
	// 429 "tenant";r=0;t=100
}
