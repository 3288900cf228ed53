package healthhttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/stormjib/stormjib/health"
	"github.com/stormjib/stormjib/health/healthhttp"
)

// Each reply of a server that drains says that its connection is over.
func ExampleMiddleware() {
	drain := health.NewDrain(health.DrainConfig{Delay: -1})
	draining := &healthhttp.Middleware{Drain: drain}
	site := draining.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "sold")
	}))

	for range 2 {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/buy", http.NoBody))
		fmt.Printf("%d %q %s", w.Code, w.Header().Get("Connection"), w.Body)
		drain.Shutdown(context.Background())
	}
	// Output:
	// 200 "" sold
	// 200 "close" sold
}
