package limiterhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
)

// show has a handler answer a request from an address, and prints what a client sees.
func show(h http.Handler, address string) {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.RemoteAddr = address
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(strings.TrimSpace(fmt.Sprint(w.Code, " ", w.Header().Get("RateLimit"))))
}

var page = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, "at your service")
})

// A limit for each address. The last client has gone to another of its 2^64 addresses.
func ExampleMiddleware() {
	addresses := &limiterhttp.Middleware{
		Name:  "address",
		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "address"}),
		Key:   limiterhttp.RemoteAddr,
		Limit: limiter.Limit{Rate: rate.Every(time.Minute), Burst: 2},
	}
	h := addresses.Handler(page)

	show(h, "192.0.2.1:4711")
	show(h, "[2001:db8::1]:4711")
	show(h, "[2001:db8::2]:4711")
	show(h, "[2001:db8::3]:4711")
	// Output:
	// 200 "address";r=1;t=60
	// 200 "address";r=1;t=60
	// 200 "address";r=0;t=60
	// 429 "address";r=0;t=60
}

// A limit for each tenant, by its plan. It stands behind the handler that finds out who
// the tenant is; who has no plan is refused.
func ExampleMiddleware_tenant() {
	type tenant struct{}
	authenticate := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name, _, _ := r.BasicAuth() // and a look at the password
			ctx := context.WithValue(r.Context(), tenant{}, name)
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
	plans := map[string]limiter.Limit{
		"small": {Rate: 1, Burst: 10},
		"large": {Rate: 100, Burst: 1000},
	}
	tenants := &limiterhttp.Middleware{
		Name:  "tenant",
		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "tenant"}),
		Key: func(r *http.Request) (string, bool) {
			name, ok := r.Context().Value(tenant{}).(string)
			return name, ok
		},
		LimitFor: func(_ *http.Request, tenant string) limiter.Limit { return plans[tenant] },
	}
	h := authenticate(tenants.Handler(page))

	for _, name := range []string{"small", "large", "unknown"} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.SetBasicAuth(name, "secret")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Header().Get("RateLimit-Policy"))
	}
	// Output:
	// 200 "tenant";q=10;w=10
	// 200 "tenant";q=1000;w=10
	// 429 "tenant";q=0
}

// Behind two proxies: what counts is the address that the first of them has seen, and not
// what its client has written.
func ExampleForwardedFor() {
	key := limiterhttp.ForwardedFor(netip.MustParsePrefix("10.0.0.0/8"))

	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.RemoteAddr = "10.0.0.1:4711"
	r.Header.Set("X-Forwarded-For", "127.0.0.1, 192.0.2.1, 10.0.0.2")
	fmt.Println(key(r))
	// Output: 192.0.2.1 true
}

// A key of one's own: the address, but for requests from within.
func ExampleKeyFunc() {
	inside := netip.MustParsePrefix("10.0.0.0/8")
	addresses := &limiterhttp.Middleware{
		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{}),
		Key: func(r *http.Request) (string, bool) {
			from, err := netip.ParseAddrPort(r.RemoteAddr)
			if err == nil && inside.Contains(from.Addr()) {
				return "", false
			}
			return limiterhttp.RemoteAddr(r)
		},
		PassUnkeyed: true,
	}
	h := addresses.Handler(page)

	show(h, "10.1.2.3:4711")
	show(h, "192.0.2.1:4711")
	// Output:
	// 200
	// 429 "default";r=0
}

// A refusal of your own, such as a page for people; the package's for everything else.
func ExampleRefuse() {
	addresses := &limiterhttp.Middleware{
		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{}),
		Key:   limiterhttp.RemoteAddr,
		Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, limiter.ErrLimited) && r.Header.Get("Accept") == "text/html" {
				w.Header().Set("Content-Type", "text/html")
				w.WriteHeader(http.StatusTooManyRequests)
				io.WriteString(w, "<p>That was a bit much.")
				return
			}
			limiterhttp.Refuse(w, r, err)
		},
	}
	h := addresses.Handler(page)

	for _, accept := range []string{"text/html", "application/json"} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Result().Header.Get("Content-Type"))
	}
	// Output:
	// 429 text/html
	// 429 application/problem+json
}

// unreachable is a Store that is down.
type unreachable struct{}

func (unreachable) Take(
	context.Context, string, limiter.Limit, int, int,
) (limiter.Result, error) {
	return limiter.Result{}, errors.New("connection refused")
}

// While the store of a limit that is there for fairness is down, requests pass, and
// somebody hears of it.
func ExampleStoreError() {
	fair := &limiterhttp.Middleware{
		Store:    unreachable{},
		Key:      limiterhttp.RemoteAddr,
		Limit:    limiter.Limit{Rate: 10, Burst: 50},
		FailOpen: true,
		OnError:  func(_ *http.Request, err error) { fmt.Println(err) },
	}
	show(fair.Handler(page), "192.0.2.1:4711")
	// Output:
	// limiterhttp: store: connection refused
	// 200
}

// A client that keeps to the ten calls a minute that a partner allows.
func ExampleTransport() {
	partner := httptest.NewServer(page)
	defer partner.Close()

	limit := limiter.New(limiter.Config{
		Name:     "partner",
		Limit:    limiter.Limit{Rate: 10 * rate.Every(time.Minute), Burst: 1},
		MaxQueue: 100,
	})
	client := &http.Client{
		Timeout: 5 * time.Second,
		Transport: &limiterhttp.Transport{
			Limiter: func(*http.Request) *limiter.Limiter { return limit },
		},
	}
	for range 2 {
		resp, err := client.Get(partner.URL)
		if limited, ok := errors.AsType[*limiter.LimitedError](err); ok {
			fmt.Println("not sent:", limited.Reason) // it would be, after six seconds
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
	// 200 OK
	// not sent: deadline too short
}
