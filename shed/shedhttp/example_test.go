package shedhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/shedhttp"
	"github.com/stormjib/stormjib/shed/throttle"
)

// A server that knows what its routes are worth, and who asks. Here it has no slot left.
func ExampleMiddleware() {
	shedder := shed.New(shed.Config{Name: "shop", Max: 1, Queue: -1})
	guard := &shedhttp.Middleware{
		Shedder: func(*http.Request) *shed.Shedder { return shedder },
		Criticality: func(r *http.Request) shed.Criticality {
			switch {
			case strings.HasPrefix(r.URL.Path, "/checkout"):
				return shed.CriticalPlus
			case strings.HasPrefix(r.URL.Path, "/recommended"):
				return shed.SheddablePlus
			}
			return 0 // what the request says, or else critical
		},
	}
	h := guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, shed.CriticalityOf(r.Context()).String())
	}))
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		return w
	}
	for _, path := range []string{"/checkout", "/recommended/7", "/orders/1"} {
		fmt.Printf("%s: %s\n", path, ask(path).Body)
	}

	permit, _ := shedder.TryAcquire(context.Background()) // somebody's
	defer permit.Done(context.Background(), nil)
	refused := ask("/orders/1")
	fmt.Println("/orders/1:", refused.Code, refused.Header().Get("Stormjib-Refusal"))
	fmt.Println("/livez:", ask("/livez").Code)
	// Output:
	// /checkout: critical-plus
	// /recommended/7: sheddable-plus
	// /orders/1: critical
	// /orders/1: 503 shed;scope=replica
	// /livez: 200
}

// Who is believed. A request of anybody may make itself less important, and no more.
func ExampleMiddleware_trust() {
	shedder := shed.New(shed.Config{Name: "ledger"})
	guard := &shedhttp.Middleware{
		Shedder: func(*http.Request) *shed.Shedder { return shedder },
		Trust: func(r *http.Request) bool { // a service with a certificate of ours
			return r.TLS != nil && len(r.TLS.VerifiedChains) > 0
		},
	}
	h := guard.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		fmt.Printf("%v, tenant %q\n", shed.CriticalityOf(ctx), stormjib.Tenant(ctx))
	}))
	for _, class := range []string{"critical-plus", "sheddable"} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("Stormjib-Criticality", class)
		r.Header.Set("Stormjib-Tenant", `"acme"`)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	// Output:
	// critical, tenant ""
	// sheddable, tenant ""
}

// A client for services of one's own: they get to know what it is that they are asked for.
func ExampleTransport() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Header.Get("Stormjib-Criticality"), r.Header.Get("Stormjib-Tenant"))
	}))
	defer server.Close()

	hosts := throttle.NewGroup[string](throttle.GroupConfig{})
	client := &http.Client{Transport: &shedhttp.Transport{
		Throttle: func(r *http.Request) *throttle.Throttle { return hosts.Get(r.URL.Host) },
	}}
	ctx := shed.WithCriticality(context.Background(), shed.Sheddable) // a batch job
	ctx = stormjib.WithTenant(ctx, "acme")
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Do(r)
	if errors.Is(err, throttle.ErrThrottled) {
		fmt.Println("the server has too much to do: later")
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	fmt.Print(string(text))
	// Output: sheddable "acme"
}

// A long poll, and a proxy for streams: the slot is for the work, and not for the wait.
func ExampleStopClock() {
	news := make(chan string, 1)
	news <- "42"
	poll := func(w http.ResponseWriter, r *http.Request) {
		shedhttp.StopClock(r.Context())
		select {
		case text := <-news:
			io.WriteString(w, text)
		case <-r.Context().Done():
		}
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "events.internal"})
		},
		ModifyResponse: func(resp *http.Response) error {
			if resp.Header.Get("Content-Type") == "text/event-stream" {
				shedhttp.StopClock(resp.Request.Context())
			}
			return nil
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /poll", poll)
	mux.Handle("GET /events", proxy)

	shedder := shed.New(shed.Config{Name: "news"})
	guard := &shedhttp.Middleware{
		Shedder: func(*http.Request) *shed.Shedder { return shedder },
	}
	w := httptest.NewRecorder()
	guard.Handler(mux).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/poll", http.NoBody))
	fmt.Println(w.Body, shedder.Stats().Ignored)
	// Output: 42 1
}
