package retryhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/retryhttp"
)

// starting is a server that answers 503 to the first n requests.
func starting(n int) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Printf("attempt %q\n", r.Header.Get("Stormjib-Attempt"))
		if n--; n >= 0 {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "at your service")
	}))
}

// The zero Transport is one for production.
func ExampleTransport() {
	server := starting(2)
	defer server.Close()

	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &retryhttp.Transport{},
	}
	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, string(text))
	// Output:
	// attempt ""
	// attempt "2"
	// attempt "3"
	// 200 OK at your service
}

// A policy of your own, around a breaker, which sees each attempt.
func ExampleTransport_policy() {
	server := starting(100)
	defer server.Close()

	prices := breaker.New(breaker.Config{Name: "prices", Consecutive: 3})
	client := &http.Client{Transport: &retryhttp.Transport{
		Base: &breakerhttp.Transport{
			Breaker: func(*http.Request) *breaker.Breaker { return prices },
		},
		Policy: &retry.Policy{
			MaxAttempts:    5,
			AttemptTimeout: time.Second,
			OnRetry: func(_ context.Context, e retry.Event) {
				fmt.Println("again, after:", e.Err)
			},
		},
	}}
	resp, err := client.Get(server.URL)
	if err == nil {
		resp.Body.Close()
	}
	fmt.Println("open:", errors.Is(err, breaker.ErrOpen))
	// Output:
	// attempt ""
	// again, after: retryhttp: status 503 Service Unavailable
	// attempt "2"
	// again, after: retryhttp: status 503 Service Unavailable
	// attempt "3"
	// again, after: retryhttp: status 503 Service Unavailable
	// open: true
}

// A POST that is a search may be executed twice.
func ExampleIdempotent() {
	transport := &retryhttp.Transport{
		Idempotent: func(r *http.Request) bool {
			return r.URL.Path == "/search" || retryhttp.Idempotent(r)
		},
	}
	for _, path := range []string{"/search", "/orders"} {
		r := httptest.NewRequest(http.MethodPost, path, http.NoBody)
		fmt.Println(path, transport.Idempotent(r))
	}
	// Output:
	// /search true
	// /orders false
}

// A server that retries what is behind it: when that does not help, its own clients need
// not try again. Three requests arrive at the backend, and not nine.
func ExampleFail() {
	backend := starting(100)
	defer backend.Close()

	client := &http.Client{Transport: &retryhttp.Transport{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), http.MethodGet, backend.URL, nil)
		if err != nil {
			retryhttp.Fail(w, r, err)
			return
		}
		resp, err := client.Do(out)
		if err == nil {
			defer resp.Body.Close()
			err = retryhttp.CheckResponse(resp)
		}
		if err != nil {
			retryhttp.Fail(w, r, err)
			return
		}
		io.Copy(w, resp.Body)
	}))
	defer server.Close()

	resp, err := (&http.Client{Transport: &retryhttp.Transport{}}).Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	fmt.Println(resp.Header.Get("Stormjib-Refusal"))
	// Output:
	// attempt ""
	// attempt "2"
	// attempt "3"
	// 503 Service Unavailable
	// failed;scope=service;retry=?0
}

// For loops of your own: a response as an error, which says whether and when to retry.
func ExampleCheckResponse() {
	for _, status := range []int{http.StatusNotFound, http.StatusBadGateway} {
		fmt.Println(retryhttp.CheckResponse(&http.Response{StatusCode: status}))
	}
	// Output:
	// <nil>
	// retryhttp: status 502 Bad Gateway
}

// A RetryIf goes by what package retry does, and by the status where there is one.
func ExampleStatusError() {
	policy := &retry.Policy{
		RetryIf: func(err error) bool {
			status, ok := errors.AsType[*retryhttp.StatusError](err)
			return ok && status.StatusCode == http.StatusInternalServerError ||
				retry.Retryable(err)
		},
	}
	for _, status := range []int{http.StatusInternalServerError, http.StatusNotImplemented} {
		err := retryhttp.CheckResponse(&http.Response{StatusCode: status})
		fmt.Println(status, policy.RetryIf(err))
	}
	// Output:
	// 500 true
	// 501 false
}
