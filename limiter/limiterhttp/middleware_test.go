package limiterhttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
)

// storeFunc is a Store that is a function.
type storeFunc func(
	ctx context.Context, key string, limit limiter.Limit, most, least int,
) (limiter.Result, error)

func (f storeFunc) Take(
	ctx context.Context, key string, limit limiter.Limit, most, least int,
) (limiter.Result, error) {
	return f(ctx, key, limit, most, least)
}

// says is a Store that always says the same.
func says(result limiter.Result, err error) limiter.Store {
	return storeFunc(func(
		context.Context, string, limiter.Limit, int, int,
	) (limiter.Result, error) {
		return result, err
	})
}

// asked is a Store that lets all pass, and writes down what it is asked.
func asked(questions *[]string) limiter.Store {
	return storeFunc(func(
		_ context.Context, key string, limit limiter.Limit, most, least int,
	) (limiter.Result, error) {
		*questions = append(*questions, fmt.Sprintf("%s %v %d-%d", key, limit, least, most))
		return limiter.Result{OK: true}, nil
	})
}

// keyed is a Store as most have it.
func keyed() limiter.Store { return limiter.NewKeyed(limiter.KeyedConfig[string]{}) }

// user is the KeyFunc of these tests.
func user(r *http.Request) (string, bool) { return r.Header.Get("User"), true }

func request(user string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Header.Set("User", user)
	return r
}

// ok is a handler that answers 200.
var ok = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func panicText(f func()) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprint(v)
		}
	}()
	f()
	return ""
}

var tenASecond = limiter.Limit{Rate: 10, Burst: 2}

func TestMiddlewareLimitsByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := (&limiterhttp.Middleware{
			Store: keyed(), Key: user, Limit: limiter.Limit{Rate: 0.1, Burst: 2},
		}).Handler(ok)
		for i, step := range []struct {
			after time.Duration
			user  string
			want  int
		}{
			{0, "a", 200},
			{0, "a", 200},
			{0, "a", 429},
			{0, "b", 200},
			{9 * time.Second, "a", 429},
			{time.Second, "a", 200},
			{0, "a", 429},
			{0, "b", 200},
		} {
			time.Sleep(step.after)
			if w := serve(h, request(step.user)); w.Code != step.want {
				t.Errorf("step %d: %d, want %d", i, w.Code, step.want)
			}
		}
	})
}

func TestMiddlewareAsks(t *testing.T) {
	two := limiter.Limit{Rate: 2, Burst: 2}
	cost := func(n int) func(*http.Request) int { return func(*http.Request) int { return n } }
	tests := []struct {
		name string
		m    limiterhttp.Middleware
		want string
	}{
		{"the limit", limiterhttp.Middleware{Limit: two}, "a 2/s, burst 2 1-1"},
		{"no limit at all", limiterhttp.Middleware{}, "a nothing 1-1"},
		{"a limit by key", limiterhttp.Middleware{
			Limit: limiter.Limit{Rate: -1}, // not needed, so not looked at
			LimitFor: func(r *http.Request, key string) limiter.Limit {
				return limiter.Limit{Rate: rate.Limit(len(key) + len(r.URL.Path)), Burst: 2}
			},
		}, "a 2/s, burst 2 1-1"},
		{"a cost", limiterhttp.Middleware{Limit: two, Cost: cost(2)}, "a 2/s, burst 2 2-2"},
		{"too high", limiterhttp.Middleware{Limit: two, Cost: cost(7)}, "a 2/s, burst 2 7-7"},
		{"no cost", limiterhttp.Middleware{Limit: two, Cost: cost(0)}, "a 2/s, burst 2 1-1"},
		{"negative", limiterhttp.Middleware{Limit: two, Cost: cost(-9)}, "a 2/s, burst 2 1-1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var questions []string
			test.m.Store, test.m.Key = asked(&questions), user
			serve(test.m.Handler(ok), request("a"))
			if got := strings.Join(questions, ", "); got != test.want {
				t.Errorf("asked %q, want %q", got, test.want)
			}
		})
	}
}

func TestMiddlewarePanicsUnlessComplete(t *testing.T) {
	store := keyed()
	tests := []struct {
		name, want string
		m          limiterhttp.Middleware
	}{
		{
			"no store", "limiterhttp: Middleware.Store is nil",
			limiterhttp.Middleware{Key: user},
		},
		{
			"no key", "limiterhttp: Middleware.Key is nil",
			limiterhttp.Middleware{Store: store},
		},
		{
			"a limit that is none", "limiterhttp: Middleware.Limit is not valid: " +
				"limiter: Limit: Rate is -1, but must not be negative",
			limiterhttp.Middleware{
				Store: store, Key: user, Limit: limiter.Limit{Rate: -1, Burst: 1},
			},
		},
	}
	for _, test := range tests {
		got := panicText(func() { test.m.Handler(ok) })
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// What a handler gets is what net/http made: nothing it can do is lost, and a
// MultipartForm that it parses is cleaned up.
func TestMiddlewarePassesOnWhatItGets(t *testing.T) {
	w, r := httptest.NewRecorder(), request("a")
	called := false
	h := (&limiterhttp.Middleware{Store: keyed(), Key: user, Limit: tenASecond}).Handler(
		http.HandlerFunc(func(gotW http.ResponseWriter, gotR *http.Request) {
			called = gotW == http.ResponseWriter(w) && gotR == r
		}))
	h.ServeHTTP(w, r)
	if !called {
		t.Error("the handler gets another ResponseWriter or Request")
	}
}

func TestMiddlewareWithoutKey(t *testing.T) {
	for name, key := range map[string]limiterhttp.KeyFunc{
		"none":                       func(*http.Request) (string, bool) { return "", false },
		"one that it has doubts of":  func(*http.Request) (string, bool) { return "a", false },
		"an empty one":               func(*http.Request) (string, bool) { return "", true },
		"a header that is not there": user,
	} {
		t.Run(name, func(t *testing.T) {
			var questions []string
			m := limiterhttp.Middleware{Store: asked(&questions), Key: key, Limit: tenASecond}
			r := request("")
			w := serve(m.Handler(ok), r)
			want := `{"type":"about:blank","title":"Forbidden","status":403,` +
				`"detail":"It is not known by whose limit this request is to be held."}` + "\n"
			if w.Code != 403 || w.Body.String() != want {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			for _, field := range []string{"Retry-After", "Stormjib-Refusal", "RateLimit"} {
				if got := w.Header().Values(field); got != nil {
					t.Errorf("%s: %q", field, got)
				}
			}

			m.PassUnkeyed = true
			if w := serve(m.Handler(ok), r); w.Code != 200 || len(w.Header()["Ratelimit"]) != 0 {
				t.Errorf("passed unkeyed: %d %v", w.Code, w.Header())
			}
			if questions != nil {
				t.Errorf("the store was asked about %q", questions)
			}
		})
	}
}

func TestMiddlewareStoreFails(t *testing.T) {
	errDown := errors.New("connection refused")
	limited := limiter.Result{RetryAfter: 7 * time.Second}.Err() // of the store's own limit
	tests := []struct {
		name       string
		err        error
		limit      limiter.Limit // zero: a valid one
		retryAfter string
		want       string
	}{
		{name: "it is down", err: errDown, want: "limiterhttp: store: connection refused"},
		{
			name: "it knows for how long", err: limiter.Result{RetryAfter: time.Second}.Err(),
			retryAfter: "1", want: "limiterhttp: store: limiter: rate exceeded (nothing)",
		},
		{
			name: "for ever", err: limiter.Result{RetryAfter: rate.InfDuration}.Err(),
			want: "limiterhttp: store: limiter: never possible (nothing)",
		},
		{
			name: "its error is a refusal", err: fmt.Errorf("redis: %w", limited),
			retryAfter: "[78]", want: "limiterhttp: store: redis: limiter: rate exceeded (nothing)",
		},
		{
			name: "its error is a context's", err: context.DeadlineExceeded,
			want: "limiterhttp: store: context deadline exceeded",
		},
		{
			name: "the limit is not valid", limit: limiter.Limit{Rate: -1, Burst: 1},
			want: "limiterhttp: store: limiter: Limit: Rate is -1, but must not be negative",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := request("a")
			var heard []string
			m := limiterhttp.Middleware{
				Store: says(limiter.Result{OK: true}, test.err), Key: user,
				LimitFor: func(*http.Request, string) limiter.Limit {
					if test.limit != (limiter.Limit{}) {
						return test.limit
					}
					return tenASecond
				},
				OnError: func(got *http.Request, err error) {
					if got != r || errors.Is(err, limiter.ErrLimited) {
						t.Errorf("OnError(%p, %v), want %p and no refusal", got, err, r)
					}
					heard = append(heard, err.Error())
				},
			}
			w := serve(m.Handler(ok), r)
			if w.Code != 503 || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %v, want a problem of 503", w.Code, w.Header())
			}
			if got := w.Header().Get("Retry-After"); !matches(t, test.retryAfter, got) {
				t.Errorf("Retry-After %q, want %q", got, test.retryAfter)
			}
			for _, field := range []string{"Stormjib-Refusal", "RateLimit", "RateLimit-Policy"} {
				if got := w.Header().Values(field); got != nil {
					t.Errorf("%s: %q", field, got)
				}
			}
			if strings.Contains(w.Body.String(), "store") {
				t.Errorf("tells clients %s", w.Body)
			}

			m.FailOpen = true
			if w := serve(m.Handler(ok), r); w.Code != 200 || w.Body.String() != "ok" {
				t.Errorf("fails open: %d %s", w.Code, w.Body)
			}
			if want := []string{test.want, test.want}; !reflect.DeepEqual(heard, want) {
				t.Errorf("heard %q, want %q", heard, want)
			}

			m.FailOpen, m.OnError = false, nil
			m.Refuse = func(_ http.ResponseWriter, _ *http.Request, err error) {
				failure, ok := errors.AsType[*limiterhttp.StoreError](err)
				if !ok || errors.Is(err, limiter.ErrLimited) {
					t.Errorf("Refuse gets %v", err)
					return
				}
				if test.err != nil && failure.Err != test.err {
					t.Errorf("of the store's %v there is %v", test.err, failure.Err)
				}
			}
			serve(m.Handler(ok), r)
		})
	}
}

// A context that has ended is no failure of the store, which most often says so just
// because of it. The answer is not a 200.
func TestMiddlewareContextEnds(t *testing.T) {
	for _, failOpen := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		m := limiterhttp.Middleware{
			Store: storeFunc(func(
				ctx context.Context, _ string, _ limiter.Limit, _, _ int,
			) (limiter.Result, error) {
				cancel()
				return limiter.Result{}, ctx.Err()
			}),
			Key: user, FailOpen: failOpen,
			OnError: func(_ *http.Request, err error) { t.Errorf("OnError(%v)", err) },
			Refuse: func(_ http.ResponseWriter, _ *http.Request, err error) {
				t.Errorf("Refuse(%v)", err)
			},
		}
		h := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			t.Error("the handler is called")
		}))
		if w := serve(h, request("a").WithContext(ctx)); w.Code != 503 || w.Body.Len() > 0 {
			t.Errorf("%d %q, want 503 and no body", w.Code, w.Body)
		}
	}
}

// A result is a result, also when the client has left meanwhile.
func TestMiddlewareContextEndedWithResult(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := limiterhttp.Middleware{Store: says(limiter.Result{OK: true}, nil), Key: user}
	if w := serve(m.Handler(ok), request("a").WithContext(ctx)); w.Code != 200 {
		t.Errorf("%d, want what the handler says", w.Code)
	}
}

func TestRefuseLimited(t *testing.T) {
	problem := func(detail, more string) string {
		return `{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded",` +
			`"title":"Request cannot be satisfied as assigned quota has been exceeded",` +
			`"status":429,"detail":"` + detail + `"` + more + "}\n"
	}
	const (
		later = "Too many requests. Try again later."
		never = "This request is more than its limit lets through at any time."
	)
	tests := []struct {
		name       string
		err        error
		retryAfter string // a set of possible values, as a pattern
		refusal    string
		body       string
	}{
		{
			"soon", limiter.Result{Name: "tenant", RetryAfter: time.Millisecond}.Err(),
			"1", "limit;scope=service", problem(later, `,"violated-policies":["tenant"]`),
		},
		{
			"a full second", limiter.Result{Name: "tenant", RetryAfter: time.Second}.Err(),
			"1", "limit;scope=service", problem(later, `,"violated-policies":["tenant"]`),
		},
		{
			"and a bit", limiter.Result{Name: `t"\`, RetryAfter: time.Second + 1}.Err(),
			"2", "limit;scope=service", problem(later, `,"violated-policies":["t\"\\"]`),
		},
		{
			"without a name", limiter.Result{RetryAfter: 4 * time.Second}.Err(),
			"4", "limit;scope=service", problem(later, ""),
		},
		{
			"a name that no field can have", limiter.Result{
				Name: "größe", RetryAfter: 5 * time.Second,
			}.Err(),
			"[56]", "limit;scope=service",
			problem(later, `,"violated-policies":["gr%c3%b6%c3%9fe"]`),
		},
		{
			"never", limiter.Result{Name: "tenant", RetryAfter: rate.InfDuration}.Err(),
			"", "limit;scope=service;retry=?0", problem(never, `,"violated-policies":["tenant"]`),
		},
		{
			"the longest there is", limiter.Result{RetryAfter: rate.InfDuration - 1}.Err(),
			`9223372\d{3}`, "limit;scope=service", problem(later, ""),
		},
		{
			"wrapped", fmt.Errorf("again: %w", limiter.Result{RetryAfter: 1}.Err()),
			"1", "limit;scope=service", problem(later, ""),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			limiterhttp.Refuse(w, request("a"), test.err)
			if w.Code != 429 || w.Body.String() != test.body || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%d %s, want %s", w.Code, w.Body, test.body)
			}
			h := w.Header()
			if got := h.Get("Retry-After"); !matches(t, test.retryAfter, got) {
				t.Errorf("Retry-After %q, want %q", got, test.retryAfter)
			}
			if got := h.Get("Stormjib-Refusal"); got != test.refusal {
				t.Errorf("refusal %q, want %q", got, test.refusal)
			}
			if h.Get("Cache-Control") != "no-store" {
				t.Error("the refusal may be cached")
			}
		})
	}
}

// What differs from client to client is at most a fifth, and a minute, and there is
// something of it.
func TestRefuseSpreads(t *testing.T) {
	for _, test := range []struct{ after, most int64 }{
		{4, 4}, {10, 12}, {299, 358}, {86400, 86460},
	} {
		err := limiter.Result{RetryAfter: time.Duration(test.after) * time.Second}.Err()
		seen := map[int64]bool{}
		for range 2000 {
			w := httptest.NewRecorder()
			limiterhttp.Refuse(w, request("a"), err)
			s, convErr := strconv.ParseInt(w.Header().Get("Retry-After"), 10, 64)
			if convErr != nil || s < test.after || s > test.most {
				t.Fatalf("Retry-After %q, want %d to %d", w.Header(), test.after, test.most)
			}
			seen[s] = true
		}
		// The chance that one of 61 is missing is below 61 * (60/61)^2000.
		if want := int(test.most - test.after + 1); len(seen) != want {
			t.Errorf("after %ds: %d different values, want %d", test.after, len(seen), want)
		}
	}
}

func TestMiddlewareRefuse(t *testing.T) {
	r := request("a")
	m := limiterhttp.Middleware{
		Name: "tenant", Store: says(limiter.Result{Name: "store", RetryAfter: 9}, nil), Key: user,
		Limit: tenASecond,
		Refuse: func(w http.ResponseWriter, got *http.Request, err error) {
			limited, ok := errors.AsType[*limiter.LimitedError](err)
			if !ok || got != r || limited.Name != "tenant" || limited.Limit != tenASecond {
				t.Errorf("Refuse(%p, %#v)", got, err)
			}
			w.WriteHeader(http.StatusTeapot)
		},
	}
	w := serve(m.Handler(ok), r)
	if w.Code != http.StatusTeapot || w.Header().Get("RateLimit") != `"tenant";r=0;t=1` {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	m.Refuse = nil
	if w := serve(m.Handler(ok), r); w.Code != 429 ||
		!strings.Contains(w.Body.String(), `"violated-policies":["tenant"]`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A panic of the user's is the user's: nothing is held that would stay so.
func TestMiddlewareLetsPanicsThrough(t *testing.T) {
	for name, m := range map[string]limiterhttp.Middleware{
		"Key":     {Key: func(*http.Request) (string, bool) { panic("boom") }},
		"Cost":    {Cost: func(*http.Request) int { panic("boom") }},
		"OnError": {OnError: func(*http.Request, error) { panic("boom") }},
		"Refuse":  {Refuse: func(http.ResponseWriter, *http.Request, error) { panic("boom") }},
		"LimitFor": {
			LimitFor: func(*http.Request, string) limiter.Limit { panic("boom") },
		},
	} {
		m.Store = says(limiter.Result{}, errors.New("down"))
		if m.Key == nil {
			m.Key = user
		}
		if got := panicText(func() { serve(m.Handler(ok), request("a")) }); got != "boom" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Of many at once as many get through as there are tokens, by however many handlers.
func TestMiddlewareConcurrently(t *testing.T) {
	m := &limiterhttp.Middleware{
		Store: keyed(), Key: user, Limit: limiter.Limit{Rate: 1e-5, Burst: 100},
	}
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		h := m.Handler(ok)
		wg.Go(func() {
			for range 50 {
				if serve(h, request("a")).Code == 200 {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := passed.Load(); got != 100 {
		t.Errorf("%d of 400 passed, want 100", got)
	}
}

// discard is a ResponseWriter that costs nothing.
type discard http.Header

func (d discard) Header() http.Header         { return http.Header(d) }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func TestMiddlewareAllocations(t *testing.T) {
	granted := limiter.Result{OK: true, Granted: 1, Remaining: 1}
	refused := limiter.Result{RetryAfter: 10 * time.Second}
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	m := func(result limiter.Result, hide bool) limiterhttp.Middleware {
		return limiterhttp.Middleware{
			Store: says(result, nil), Key: alike, Limit: tenASecond, HideFields: hide,
		}
	}
	own := m(refused, true)
	own.Refuse = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(420) }
	for _, test := range []struct {
		name string
		m    limiterhttp.Middleware
		most float64
	}{
		{"granted, without fields", m(granted, true), 0},
		{"granted", m(granted, false), 3}, // the value of RateLimit, and a slice for each
		{"refused, by a Refuse of one's own", own, 1},
		{"refused", m(refused, false), 16}, // 11, but for what sync.Pool loses under -race
	} {
		h, w, r := test.m.Handler(nothing), discard{}, request("a")
		got := testing.AllocsPerRun(100, func() { clear(w); h.ServeHTTP(w, r) })
		if got > test.most {
			t.Errorf("%s: %v allocations, want %v at most", test.name, got, test.most)
		}
	}
}
