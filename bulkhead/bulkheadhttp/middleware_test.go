package bulkheadhttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/bulkhead/bulkheadhttp"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/retryhttp"
)

// serve has a handler answer one request on a goroutine of its own, which a handler
// may end, and returns the answer and what was recovered.
func serve(
	h http.Handler, r *http.Request,
) (answer *httptest.ResponseRecorder, recovered any, stack string) {
	answer = httptest.NewRecorder()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			if recovered = recover(); recovered != nil {
				stack = string(debug.Stack())
			}
		}()
		h.ServeHTTP(answer, r)
	}()
	<-ended
	return answer, recovered, stack
}

func incoming() *http.Request { return httptest.NewRequest(http.MethodGet, "/", http.NoBody) }

func uncalled(t *testing.T) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the handler was called for a refused request")
	})
}

// The handler has the slot, and the request and writer as they are.
func TestMiddleware(t *testing.T) {
	b := narrow()
	m := &bulkheadhttp.Middleware{Bulkhead: by(b)}
	w, r := httptest.NewRecorder(), incoming()
	m.Handler(http.HandlerFunc(func(gotW http.ResponseWriter, gotR *http.Request) {
		wantInUse(t, b, 1)
		if gotW != http.ResponseWriter(w) || gotR != r {
			t.Error("the handler gets another writer or request")
		}
		answer, _, _ := serve(m.Handler(uncalled(t)), incoming())
		wantRefusal(t, answer.Result(), 1, 1)
		io.WriteString(gotW, "text")
	})).ServeHTTP(w, r)
	wantInUse(t, b, 0)
	if w.Code != http.StatusOK || w.Body.String() != "text" {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
}

// The handlers that one Middleware makes share what it bounds.
func TestMiddlewareOfSeveralHandlers(t *testing.T) {
	b := narrow()
	m := &bulkheadhttp.Middleware{Bulkhead: by(b)}
	one := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		answer, _, _ := serve(m.Handler(uncalled(t)), incoming())
		wantRefusal(t, answer.Result(), 1, 1)
	}))
	serve(one, incoming())
	wantInUse(t, b, 0)
}

func TestMiddlewareWithoutBulkhead(t *testing.T) {
	m := &bulkheadhttp.Middleware{Bulkhead: by(nil)}
	w, r := httptest.NewRecorder(), incoming()
	called := false
	m.Handler(http.HandlerFunc(func(gotW http.ResponseWriter, gotR *http.Request) {
		called = gotW == http.ResponseWriter(w) && gotR == r
	})).ServeHTTP(w, r)
	if !called {
		t.Error("the handler gets nothing, or another writer or request")
	}
	defer func() {
		if got, want := recover(), "bulkheadhttp: Middleware.Bulkhead is nil"; got != want {
			t.Errorf("without Bulkhead the panic is %v, want %v", got, want)
		}
	}()
	new(bulkheadhttp.Middleware).Handler(http.NotFoundHandler())
}

func explode(http.ResponseWriter, *http.Request) { panic("boom") }

func TestMiddlewarePanic(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    any
	}{
		"a panic": {explode, "boom"},
		"abort": {func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}, http.ErrAbortHandler},
		"goexit": {func(http.ResponseWriter, *http.Request) { runtime.Goexit() }, nil},
	} {
		b := narrow()
		m := &bulkheadhttp.Middleware{Bulkhead: by(b)}
		_, recovered, stack := serve(m.Handler(test.handler), incoming())
		if recovered != test.want {
			t.Errorf("%s: recovered %v", name, recovered)
		}
		if test.want == "boom" && !strings.Contains(stack, "bulkheadhttp_test.explode") {
			t.Errorf("the stack has lost the handler that panicked:\n%s", stack)
		}
		wantInUse(t, b, 0)
	}
}

// wantRefusal asks of a refusal all that other programs read in it.
func wantRefusal(t *testing.T, resp *http.Response, from, to int) {
	t.Helper()
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the status is %d, want 503", resp.StatusCode)
	}
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || after < from || after > to {
		t.Errorf("Retry-After is %q, want %d to %d seconds",
			resp.Header.Get("Retry-After"), from, to)
	}
	for field, want := range map[string]string{
		"Stormjib-Refusal": "full;scope=replica",
		"Content-Type":     "application/problem+json",
		"Cache-Control":    "no-store",
	} {
		if got := resp.Header.Get(field); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	if got := breakerhttp.Classify(resp); got != breaker.Ignored {
		t.Errorf("breakers make %v of it, want Ignored", got)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Request != nil && resp.Request.Method == http.MethodHead {
		if len(body) != 0 {
			t.Errorf("a HEAD request is answered with %q", body)
		}
		return
	}
	var problem struct {
		Type, Title, Detail string
		Status              int
	}
	err = json.Unmarshal(body, &problem)
	if err != nil || problem.Status != 503 || problem.Title != "Service Unavailable" ||
		problem.Type != "about:blank" || problem.Detail == "" ||
		strings.Contains(problem.Detail, "prices") {
		t.Errorf("the body is %s, %v", body, err)
	}
}

// Through a real server, which knows what HEAD leaves out.
func TestMiddlewareRefusesOverNetwork(t *testing.T) {
	b := narrow()
	fill(t, b)
	m := &bulkheadhttp.Middleware{Bulkhead: by(b)}
	server := httptest.NewServer(m.Handler(uncalled(t)))
	defer server.Close()
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL,
			strings.NewReader("request"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, resp, 1, 1)
	}
}

// asking is an error that asks for a delay.
type asking time.Duration

func (asking) Error() string               { return "asking" }
func (a asking) RetryAfter() time.Duration { return time.Duration(a) }

// The delay is in whole seconds, never less than what is asked for, never more than a
// fifth more, and not the same for all.
func TestRefuseRetryAfter(t *testing.T) {
	for _, test := range []struct {
		after    time.Duration
		from, to int
	}{
		{-time.Second, 1, 1},
		{0, 1, 1},
		{1, 1, 1},
		{time.Second, 1, 1},
		{time.Second + 1, 2, 2},
		{4 * time.Second, 4, 4},
		{4*time.Second + 1, 5, 6},
		{10 * time.Second, 10, 12},
		{29*time.Second + 1, 30, 36},
		{time.Minute, 60, 72},
		{time.Hour, 60, 72},
		{1<<63 - 1, 60, 72},
	} {
		seen := map[string]bool{}
		err := fmt.Errorf("get: %w", asking(test.after))
		w := httptest.NewRecorder()
		for range 400 {
			bulkheadhttp.Refuse(w, incoming(), err)
			seen[w.Header().Get("Retry-After")] = true
		}
		for field := range seen {
			if s, err := strconv.Atoi(field); err != nil || s < test.from || s > test.to {
				t.Errorf("%v: Retry-After is %q", test.after, field)
			}
		}
		if want := test.to - test.from + 1; len(seen) != want {
			t.Errorf("%v: %d delays, want %d", test.after, len(seen), want)
		}
	}
}

// The delay is that which the bulkhead has found out.
func TestMiddlewareRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := narrow()
		fill(t, b)
		h := (&bulkheadhttp.Middleware{Bulkhead: by(b)}).Handler(uncalled(t))
		for range 30 {
			serve(h, incoming())
			time.Sleep(time.Second)
		}
		answer, _, _ := serve(h, incoming())
		wantRefusal(t, answer.Result(), 30, 36)
	})
}

// One that is too heavy for the bulkhead will be as heavy next time.
func TestRefuseForGood(t *testing.T) {
	b := narrow()
	_, err := b.AcquireN(t.Context(), 2)
	w := httptest.NewRecorder()
	bulkheadhttp.Refuse(w, incoming(), err)
	h := w.Result().Header
	if got := h.Get("Stormjib-Refusal"); got != "full;scope=replica;retry=?0" {
		t.Errorf("the refusal is %q", got)
	}
	if h.Get("Retry-After") != "" || retry.Retryable(retryhttp.CheckResponse(w.Result())) {
		t.Errorf("it is to be retried: %v", h)
	}
}

// A refusal of one's own.
func TestMiddlewareRefuseField(t *testing.T) {
	b := narrow()
	fill(t, b)
	m := &bulkheadhttp.Middleware{
		Bulkhead: by(b),
		Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.URL.Path != "/" || !errors.Is(err, bulkhead.ErrFull) {
				t.Errorf("%v: %v", r.URL, err)
			}
			w.WriteHeader(http.StatusTeapot)
		},
	}
	answer, _, _ := serve(m.Handler(uncalled(t)), incoming())
	if answer.Code != http.StatusTeapot {
		t.Errorf("answered %d", answer.Code)
	}
}

// A request whose context ends while it waits is refused too: to write nothing would be
// a 200, which lies to a client that is still there, and in the log.
func TestMiddlewareContextEndsWhileWaiting(t *testing.T) {
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		synctest.Test(t, func(t *testing.T) {
			b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1, MaxQueue: 1, MaxWait: -1})
			fill(t, b)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if end == context.Canceled {
				time.AfterFunc(time.Second, cancel)
			}
			var got error
			m := &bulkheadhttp.Middleware{
				Bulkhead: by(b),
				Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
					got = err
					bulkheadhttp.Refuse(w, r, err)
				},
			}
			answer, _, _ := serve(m.Handler(uncalled(t)), incoming().WithContext(ctx))
			if !errors.Is(got, end) {
				t.Errorf("the error is %v, want %v", got, end)
			}
			wantRefusal(t, answer.Result(), 1, 1)
			if s := b.Stats(); s.GaveUp != 1 || s.Waiting != 0 || s.InUse != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A client that leaves a real server while it waits makes place for another.
func TestMiddlewareClientLeaves(t *testing.T) {
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1, MaxQueue: 1, MaxWait: -1})
	fill(t, b)
	gone := make(chan error, 1)
	m := &bulkheadhttp.Middleware{
		Bulkhead: by(b),
		Refuse:   func(_ http.ResponseWriter, _ *http.Request, err error) { gone <- err },
	}
	server := httptest.NewServer(m.Handler(uncalled(t)))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: prices.test\r\n\r\n")
	for b.Stats().Waiting == 0 {
		runtime.Gosched()
	}
	conn.Close()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s := b.Stats(); s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

// An upgraded connection has its slot as long as its handler runs.
func TestMiddlewareUpgrade(t *testing.T) {
	b := narrow()
	m := &bulkheadhttp.Middleware{Bulkhead: by(b)}
	ended := make(chan struct{})
	h := m.Handler(echo(t))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		h.ServeHTTP(w, r)
	}))
	defer server.Close()
	resp, err := server.Client().Do(upgrade(t, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	wantInUse(t, b, 1)
	converse(t, resp)
	<-ended
	wantInUse(t, b, 0)
}

func TestMiddlewareAllocatesNothing(t *testing.T) {
	b := narrow()
	h := (&bulkheadhttp.Middleware{Bulkhead: by(b)}).Handler(http.HandlerFunc(
		func(http.ResponseWriter, *http.Request) {}))
	w, r := httptest.NewRecorder(), incoming()
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	fill(t, b)
	h = (&bulkheadhttp.Middleware{
		Bulkhead: by(b), Refuse: func(http.ResponseWriter, *http.Request, error) {},
	}).Handler(uncalled(t))
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n != 0 {
		t.Errorf("a refusal: %v allocations", n)
	}
}

func TestMiddlewareConcurrently(t *testing.T) {
	const most = 3
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: most, MaxQueue: 2})
	var now, made atomic.Int64
	h := (&bulkheadhttp.Middleware{Bulkhead: by(b)}).Handler(http.HandlerFunc(
		func(http.ResponseWriter, *http.Request) {
			if n := now.Add(1); n > most {
				t.Errorf("%d requests at a time, of %d", n, most)
			}
			made.Add(1)
			runtime.Gosched()
			now.Add(-1)
		}))
	var wg sync.WaitGroup
	var refused atomic.Int64
	const goroutines, requests = 8, 200
	for range goroutines {
		wg.Go(func() {
			for range requests {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, incoming())
				if w.Code == http.StatusServiceUnavailable {
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	wantInUse(t, b, 0)
	if made.Load()+refused.Load() != goroutines*requests {
		t.Errorf("%d served and %d refused", made.Load(), refused.Load())
	}
}

// Two replicas, of which one is full: its clients' breakers see a server that works, and
// their retries get the answer of the other, without the wait that it asks for.
func TestRefusalIsReadByClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := narrow()
		fill(t, full)
		ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "at your service")
		})
		replicas := []http.Handler{
			(&bulkheadhttp.Middleware{Bulkhead: by(full)}).Handler(uncalled(t)),
			(&bulkheadhttp.Middleware{Bulkhead: by(narrow())}).Handler(ok),
		}
		br := breaker.New(breaker.Config{Consecutive: 1})
		n := 0
		transport := &retryhttp.Transport{Base: &breakerhttp.Transport{
			Breaker: func(*http.Request) *breaker.Breaker { return br },
			Base: roundTrip(func(r *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				replicas[n%2].ServeHTTP(w, r)
				n++
				return w.Result(), nil
			}),
		}}
		start := time.Now()
		resp, err := transport.RoundTrip(get(t))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Errorf("took %v, want at once", took)
		}
		if resp.StatusCode != http.StatusOK || n != 2 {
			t.Errorf("%d after %d requests", resp.StatusCode, n)
		}
		s := br.Stats()
		if s.State != breaker.Closed || s.Ignored != 1 || s.Total.Failed != 0 {
			t.Errorf("%+v", s)
		}

		// Within the budget: where all are full, nobody hammers them.
		replicas[1] = replicas[0]
		n = 0
		for range 100 {
			resp, err := transport.RoundTrip(get(t))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%d", resp.StatusCode)
			}
		}
		if n > 115 {
			t.Errorf("100 calls made %d requests", n)
		}
	})
}

// What stands in the field is what the module's packages read.
func TestRefusalField(t *testing.T) {
	w := httptest.NewRecorder()
	bulkheadhttp.Refuse(w, incoming(), bulkhead.ErrFull)
	got, ok := hop.ParseRefusal(w.Header().Get(hop.RefusalField))
	if want := (hop.Refusal{Reason: hop.Full, Scope: hop.Replica}); !ok || got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
