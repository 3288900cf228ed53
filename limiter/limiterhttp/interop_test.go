package limiterhttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/retryhttp"
)

// A client that did too much has a service that works.
func TestBreakerIgnoresRefusals(t *testing.T) {
	shut := (&limiterhttp.Middleware{Store: keyed(), Key: user}).Handler(ok)
	b := breaker.New(breaker.Config{Consecutive: 1})
	client := &http.Client{Transport: &breakerhttp.Transport{
		Base:    answered(shut),
		Breaker: func(*http.Request) *breaker.Breaker { return b },
	}}
	for range 10 {
		r := post(t.Context(), nil)
		r.Header.Set("User", "a")
		status, _, err := send(client.Transport, r)
		if err != nil || status != http.StatusTooManyRequests {
			t.Fatal(status, err)
		}
	}
	if s := b.Stats(); s.State != breaker.Closed || s.Ignored != 10 {
		t.Errorf("%+v", s)
	}

	// Nor is it open for one that keeps to its own limit.
	l := limiter.New(limiter.Config{})
	client.Transport.(*breakerhttp.Transport).Base = &limiterhttp.Transport{Limiter: one(l)}
	for range 10 {
		err := do(client, post(t.Context(), nil))
		if !errors.Is(err, limiter.ErrLimited) {
			t.Fatal(err)
		}
	}
	if s := b.Stats(); s.State != breaker.Closed {
		t.Errorf("%+v", s)
	}
}

// A store that is down is a service that does not work.
func TestBreakerCountsStoreErrors(t *testing.T) {
	down := says(limiter.Result{}, errors.New("connection refused"))
	b := breaker.New(breaker.Config{Consecutive: 1})
	client := &http.Client{Transport: &breakerhttp.Transport{
		Base:    answered((&limiterhttp.Middleware{Store: down, Key: alike}).Handler(ok)),
		Breaker: func(*http.Request) *breaker.Breaker { return b },
	}}
	if err := do(client, post(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	if s := b.Stats(); s.State != breaker.Open {
		t.Errorf("%+v", s)
	}
}

// alike is a KeyFunc of one bucket for everybody.
func alike(*http.Request) (string, bool) { return "everybody", true }

func TestRetryWaitsForRefusals(t *testing.T) {
	tests := []struct {
		name  string
		limit limiter.Limit
		cost  int
		want  string // status and attempts
		after time.Duration
	}{
		{"for the token", limiter.Limit{Rate: 0.5, Burst: 1}, 1, "200 2", 2 * time.Second},
		{"not for what never comes", limiter.Limit{Rate: 0.5, Burst: 1}, 2, "429 1", 0},
		{"not without a limit", limiter.Limit{}, 1, "429 1", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &limiterhttp.Middleware{
					Store: keyed(), Key: alike, Limit: test.limit,
					Cost: func(*http.Request) int { return test.cost },
				}
				h := m.Handler(ok)
				serve(h, request("a"))
				attempts := 0
				client := &http.Client{Transport: &retryhttp.Transport{
					Policy: &retry.Policy{Budget: retry.Budget{Off: true}},
					Base: tripper(func(r *http.Request) (*http.Response, error) {
						attempts++
						return answered(h)(r)
					}),
				}}
				begin := time.Now()
				r, _ := http.NewRequestWithContext(
					t.Context(), http.MethodGet, "http://service.example/", http.NoBody)
				status, _, err := send(client.Transport, r)
				if err != nil {
					t.Fatal(err)
				}
				got := fmt.Sprint(status, " ", attempts)
				// The retry has a jitter of its own.
				if after := time.Since(begin); got != test.want || after < test.after ||
					after > 2*test.after {
					t.Errorf("%s after %v, want %s after %v", got, after, test.want, test.after)
				}
			})
		})
	}
}

// A transport that retries, around one that keeps to a limit: it waits for what the limiter
// says, and a POST was not sent, so it may be sent again.
func TestRetryWaitsForTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 0.5, Burst: 1}})
		client := &http.Client{Transport: &retryhttp.Transport{
			Policy: &retry.Policy{Budget: retry.Budget{Off: true}},
			Base:   &limiterhttp.Transport{Limiter: one(l), Base: answered(ok)},
		}}
		begin := time.Now()
		for range 2 {
			if err := do(client, post(t.Context(), strings.NewReader("text"))); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Since(begin); got < 2*time.Second || got > 3*time.Second {
			t.Errorf("after %v", got)
		}
	})
}

// Frameworks take a middleware as a function from Handler to Handler.
func TestChain(t *testing.T) {
	addresses := &limiterhttp.Middleware{
		Name: "address", Store: keyed(), Key: limiterhttp.RemoteAddr,
		Limit: limiter.Limit{Rate: 1e-3, Burst: 3},
	}
	users := &limiterhttp.Middleware{
		Name: "user", Store: keyed(), Key: user, Limit: limiter.Limit{Rate: 1e-3, Burst: 2},
	}
	h := http.Handler(ok)
	for _, wrap := range []func(http.Handler) http.Handler{users.Handler, addresses.Handler} {
		h = wrap(h)
	}
	for i, step := range []struct {
		user, violated string
		status         int
	}{
		{"a", "", 200},
		{"a", "", 200},
		{"a", `"violated-policies":["user"]`, 429},
		{"b", `"violated-policies":["address"]`, 429}, // the third had a token of it
	} {
		w := serve(h, request(step.user))
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.violated) {
			t.Errorf("step %d: %d %s", i, w.Code, w.Body)
		}
		members := 2
		if i == 3 {
			members = 1 // it did not get to the second
		}
		if got := strings.Count(w.Header().Get("RateLimit"), ";r="); got != members {
			t.Errorf("step %d: %d members, want %d", i, got, members)
		}
	}
}

// What a reverse proxy passes on of the servers behind it is added to what is there.
func TestReverseProxy(t *testing.T) {
	m := func(name string) *limiterhttp.Middleware {
		return &limiterhttp.Middleware{Name: name, Store: keyed(), Key: alike, Limit: tenASecond}
	}
	target, _ := url.Parse("http://backend.example/")
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = answered(m("backend").Handler(ok))
	w := serve(m("gateway").Handler(proxy), request("a"))
	got := strings.Join(w.Header().Values("RateLimit"), ", ")
	if got != `"gateway";r=1;t=1, "backend";r=1;t=1` {
		t.Error(got)
	}
}

// whole is a handler that uses what a ResponseWriter of net/http can do.
func whole(t *testing.T) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done() // the event is there before the response ends
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, _ *http.Request) {
		if _, ok := w.(io.ReaderFrom); !ok {
			t.Error("no io.ReaderFrom")
		}
		io.Copy(w, strings.NewReader("file"))
	})
	mux.HandleFunc("/socket", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
			"Upgrade: echo\r\n\r\nhello")
		rw.Flush()
	})
	return mux
}

func TestMiddlewareOverTheWire(t *testing.T) {
	m := &limiterhttp.Middleware{
		Store: keyed(), Key: limiterhttp.RemoteAddr, Limit: limiter.Limit{Rate: 10, Burst: 50},
	}
	server := httptest.NewServer(m.Handler(whole(t)))
	defer server.Close()
	get := func(path string) (*http.Response, context.CancelFunc) {
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, http.NoBody)
		if path == "/socket" {
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "echo")
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp, cancel
	}

	resp, cancel := get("/events")
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "data: 1\n" {
		t.Errorf("%q, %v", line, err)
	}
	if got := resp.Header.Get("RateLimit-Policy"); got != `"default";q=50;w=5` {
		t.Error(got)
	}
	cancel()
	resp.Body.Close()

	for path, want := range map[string]string{"/file": "file", "/socket": "hello"} {
		resp, cancel := get(path)
		if text, err := io.ReadAll(resp.Body); string(text) != want {
			t.Errorf("%s: %q, %v", path, text, err)
		}
		resp.Body.Close()
		cancel()
	}
}
