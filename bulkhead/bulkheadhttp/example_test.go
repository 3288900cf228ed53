package bulkheadhttp_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/bulkhead/bulkheadhttp"
)

// A client with one request at a time. It is under way until its body is closed.
func ExampleTransport() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "at your service")
	}))
	defer server.Close()

	prices := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 1})
	client := &http.Client{Transport: &bulkheadhttp.Transport{
		Bulkhead: func(*http.Request) *bulkhead.Bulkhead { return prices },
	}}
	first, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		next, err := client.Get(server.URL)
		if err != nil { // for the first is not closed yet
			fmt.Println("full:", errors.Is(err, bulkhead.ErrFull))
			fmt.Println("sent:", !stormjib.NotAttempted(err))
			first.Body.Close()
			continue
		}
		next.Body.Close()
		fmt.Println(next.Status)
	}
	// Output:
	// full: true
	// sent: false
	// 200 OK
}

// A bulkhead for each host: one that hangs holds its own slots, and no others.
func ExampleTransport_perHost() {
	hosts := bulkhead.NewGroup[string](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{Name: "hosts", MaxConcurrent: 20},
	})
	client := &http.Client{Transport: &bulkheadhttp.Transport{
		Bulkhead: func(r *http.Request) *bulkhead.Bulkhead { return hosts.Get(r.URL.Host) },
	}}
	hosts.Get("slow.invalid").TryAcquireN(20) // all of them hang

	resp, err := client.Get("http://slow.invalid/")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	// Output: Get "http://slow.invalid/": bulkhead "hosts/slow.invalid": full
}

// A bulkhead for each tenant, behind what has found out who it is. One tenant's long
// reports take none of the other tenants' slots.
func ExampleMiddleware() {
	tenants := bulkhead.NewGroup[string](bulkhead.GroupConfig{
		Bulkhead: bulkhead.Config{Name: "reports", MaxConcurrent: 2},
	})
	guard := &bulkheadhttp.Middleware{
		Bulkhead: func(r *http.Request) *bulkhead.Bulkhead {
			return tenants.Get(r.Header.Get("Tenant")) // as checked before
		},
	}
	reports := guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "report")
	}))
	tenants.Get("acme").TryAcquireN(2) // two that take a while

	for _, tenant := range []string{"acme", "globex"} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("Tenant", tenant)
		reports.ServeHTTP(w, r)
		fmt.Printf("%s: %d %q\n", tenant, w.Code, w.Header().Get("Stormjib-Refusal"))
	}
	// Output:
	// acme: 503 "full;scope=replica"
	// globex: 200 ""
}

// A refusal of your own, such as a page for people; the package's for programs.
func ExampleRefuse() {
	reports := bulkhead.New(bulkhead.Config{Name: "reports", MaxConcurrent: 1})
	guard := &bulkheadhttp.Middleware{
		Bulkhead: func(*http.Request) *bulkhead.Bulkhead { return reports },
		Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Header.Get("Accept") == "text/html" {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				w.WriteHeader(http.StatusServiceUnavailable)
				io.WriteString(w, "<p>One moment, please.")
				return
			}
			bulkheadhttp.Refuse(w, r, err)
		},
	}
	h := guard.Handler(http.NotFoundHandler())
	reports.TryAcquire() // somebody's

	for _, accept := range []string{"text/html", "application/json"} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("Accept", accept)
		h.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Result().Header.Get("Content-Type"))
	}
	// Output:
	// 503 text/html; charset=utf-8
	// 503 application/problem+json
}

// Testing your code: what it does without a slot is what happens while somebody else has
// it. No server has to be slow, and nothing waits.
func Example_testing() {
	prices := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 1})
	client := &http.Client{Transport: &bulkheadhttp.Transport{
		Bulkhead: func(*http.Request) *bulkhead.Bulkhead { return prices },
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

	permit, _ := prices.TryAcquire()
	defer permit.Release()
	fmt.Println(page())
	// Output: prices are not available right now
}
