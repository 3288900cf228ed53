package breakerhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
)

// unavailable is a server that answers 503 to everything.
func unavailable() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "starting", http.StatusServiceUnavailable)
	}))
}

// A client whose third failure in a row opens the breaker: until then it gets the
// server's answers, from then on a refusal.
func ExampleTransport() {
	server := unavailable()
	defer server.Close()

	prices := breaker.New(breaker.Config{Name: "prices", Consecutive: 3})
	client := &http.Client{Transport: &breakerhttp.Transport{
		Breaker: func(*http.Request) *breaker.Breaker { return prices },
	}}
	for range 4 {
		resp, err := client.Get(server.URL)
		if errors.Is(err, breaker.ErrOpen) {
			fmt.Println("refused; sent:", !stormjib.NotAttempted(err))
			continue
		}
		if err != nil {
			fmt.Println(err)
			continue
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	// Output:
	// 503 Service Unavailable
	// 503 Service Unavailable
	// 503 Service Unavailable
	// refused; sent: false
}

// A breaker for each host, of which one is down.
func ExampleTransport_perHost() {
	down := unavailable()
	defer down.Close()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "at your service")
	}))
	defer up.Close()

	hosts := breaker.NewGroup[string](breaker.GroupConfig{
		Breaker: breaker.Config{Consecutive: 1},
	})
	client := &http.Client{Transport: &breakerhttp.Transport{
		Breaker: func(r *http.Request) *breaker.Breaker { return hosts.Get(r.URL.Host) },
	}}
	for _, url := range []string{down.URL, down.URL, up.URL} {
		resp, err := client.Get(url)
		if err != nil {
			fmt.Println("open:", errors.Is(err, breaker.ErrOpen))
			continue
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	// Output:
	// 503 Service Unavailable
	// open: true
	// 200 OK
}

// A Classify of your own for what is special, and the package's for the rest: here a
// gateway that answers 520 when it cannot reach the server behind it.
func ExampleClassify() {
	transport := &breakerhttp.Transport{
		Classify: func(resp *http.Response) breaker.Outcome {
			if resp.StatusCode == 520 {
				return breaker.Failure
			}
			return breakerhttp.Classify(resp)
		},
	}
	for _, status := range []int{200, 404, 429, 503, 520} {
		outcome := transport.Classify(&http.Response{StatusCode: status})
		fmt.Println(status, [...]string{"success", "failure", "ignored"}[outcome])
	}
	// Output:
	// 200 success
	// 404 success
	// 429 ignored
	// 503 failure
	// 520 failure
}

// The breaker's own Classify, which sees errors of every kind of call, finds the
// responses that failed among them.
func ExampleStatusError() {
	classify := func(ctx context.Context, err error) breaker.Outcome {
		if status, ok := errors.AsType[*breakerhttp.StatusError](err); ok {
			fmt.Println(status.StatusCode, "asks for", status.RetryAfter())
		}
		return breaker.Classify(ctx, err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()

	prices := breaker.New(breaker.Config{Name: "prices", Classify: classify})
	client := &http.Client{Transport: &breakerhttp.Transport{
		Breaker: func(*http.Request) *breaker.Breaker { return prices },
	}}
	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	// Output: 503 asks for 30s
}

// A gateway in front of a backend that is down: the second request does not reach it.
func ExampleMiddleware() {
	backend := breaker.New(breaker.Config{Name: "backend", Consecutive: 1})
	guard := &breakerhttp.Middleware{
		Breaker: func(*http.Request) *breaker.Breaker { return backend },
	}
	gateway := guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Println("asking the backend")
		w.WriteHeader(http.StatusBadGateway)
	}))

	for range 2 {
		w := httptest.NewRecorder()
		gateway.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
		fmt.Printf("%d %q\n", w.Code, w.Header().Get("Stormjib-Refusal"))
	}
	// Output:
	// asking the backend
	// 502 ""
	// 503 "open;scope=service"
}

// A refusal of your own, such as an old copy where there is one; the package's where
// there is none.
func ExampleRefuse() {
	copies := map[string]string{"/prices": "yesterday's prices"}
	backend := breaker.New(breaker.Config{Name: "backend"})
	guard := &breakerhttp.Middleware{
		Breaker: func(*http.Request) *breaker.Breaker { return backend },
		Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
			if old, ok := copies[r.URL.Path]; ok {
				w.Header().Set("Warning", `110 - "Response is Stale"`)
				io.WriteString(w, old)
				return
			}
			breakerhttp.Refuse(w, r, err)
		},
	}
	h := guard.Handler(http.NotFoundHandler())

	backend.ForceOpen()
	for _, path := range []string{"/prices", "/orders"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		fmt.Println(w.Code, w.Result().Header.Get("Content-Type"))
	}
	// Output:
	// 200 text/plain; charset=utf-8
	// 503 application/problem+json
}

// Testing your code: what it does without the dependency is what happens while the
// breaker is forced open. No server has to fail, and nothing waits.
func Example_testing() {
	prices := breaker.New(breaker.Config{Name: "prices"})
	client := &http.Client{Transport: &breakerhttp.Transport{
		Breaker: func(*http.Request) *breaker.Breaker { return prices },
	}}
	page := func() string { // the code under test
		resp, err := client.Get("http://prices.invalid/")
		if err != nil {
			return "prices are not available right now"
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}

	prices.ForceOpen()
	fmt.Println(page())
	// Output: prices are not available right now
}
