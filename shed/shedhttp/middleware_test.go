package shedhttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/bulkhead/bulkheadhttp"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/shedhttp"
)

var errBoom = errors.New("boom")

// narrow returns a shedder with one slot, and no place to wait.
func narrow() *shed.Shedder { return slots(1, -1) }

// slots returns a shedder whose limit stays, with a queue.
func slots(n, queue int) *shed.Shedder {
	return shed.New(shed.Config{
		Name: "api", Initial: n, Max: max(n, 1), Queue: queue, Algorithm: shed.Fixed,
	})
}

// fill takes all slots of a shedder.
func fill(t *testing.T, s *shed.Shedder) {
	t.Helper()
	for {
		if _, err := s.TryAcquire(t.Context()); err != nil {
			return
		}
	}
}

// by returns what a Middleware takes.
func by(s *shed.Shedder) func(*http.Request) *shed.Shedder {
	return func(*http.Request) *shed.Shedder { return s }
}

func anybody(*http.Request) bool { return true }

func guard(s *shed.Shedder) *shedhttp.Middleware { return &shedhttp.Middleware{Shedder: by(s)} }

// outcomes tells what a shedder has counted, such as "1 OK".
func outcomes(s *shed.Shedder) string {
	stats := s.Stats()
	refused := uint64(0)
	for _, n := range stats.Refused {
		refused += n
	}
	var parts []string
	for _, part := range []struct {
		n    uint64
		what string
	}{
		{stats.Admitted - stats.Ignored - stats.Overloaded - uint64(stats.InUse), "OK"},
		{stats.Overloaded, "overloaded"},
		{stats.Ignored, "ignored"},
		{uint64(stats.InUse), "under way"},
		{refused, "refused"},
		{stats.GaveUp, "gave up"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprint(part.n, " ", part.what))
		}
	}
	return strings.Join(parts, ", ")
}

func wantOutcomes(t *testing.T, s *shed.Shedder, want string) {
	t.Helper()
	if got := outcomes(s); got != want {
		t.Errorf("the shedder counted %q, want %q", got, want)
	}
}

// serve has a handler answer one request on a goroutine of its own, which a handler may
// end, and returns the answer and what was recovered.
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

// incoming returns a request with header fields, given as names and values in turn.
func incoming(fields ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

func uncalled(t *testing.T) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the handler is called")
	})
}

// statuses returns a handler that writes each status in turn.
func statuses(all ...int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, status := range all {
			w.WriteHeader(status)
		}
	}
}

// marked returns a handler that answers 503 with a header field.
func marked(field, value string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(field, value)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func TestMiddlewareOutcome(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"writes nothing", statuses(), "1 OK"},
		{"writes a body alone", func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte("text"))
		}, "1 OK"},
		{"200", statuses(200), "1 OK"},
		{"304", statuses(304), "1 OK"},
		{"404", statuses(404), "1 OK"},
		{"409", statuses(409), "1 OK"},
		{"410", statuses(410), "1 OK"},
		{"412", statuses(412), "1 OK"},

		// What is answered before any work must not seem to be quick work.
		{"400", statuses(400), "1 ignored"},
		{"401", statuses(401), "1 ignored"},
		{"403", statuses(403), "1 ignored"},
		{"429", statuses(429), "1 ignored"},
		{"500", statuses(500), "1 ignored"},
		{"502", statuses(502), "1 ignored"},
		{"503, of maintenance", statuses(503), "1 ignored"},
		{"503 with a delay", marked("Retry-After", "60"), "1 ignored"},
		{"504", statuses(504), "1 overloaded"},
		{"shed behind", marked("Stormjib-Refusal", "shed;scope=replica"), "1 overloaded"},
		{"shed by Envoy", marked("X-Envoy-Overloaded", "true"), "1 overloaded"},
		{"full", marked("Stormjib-Refusal", "full;scope=replica"), "1 ignored"},
		{"limited", marked("Stormjib-Refusal", "limit;scope=service"), "1 ignored"},
		{"open", marked("Stormjib-Refusal", "open;scope=service"), "1 ignored"},
		{"marked as nothing known", marked("Stormjib-Refusal", "?1"), "1 ignored"},
		{"marked as shed, but a 200", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Stormjib-Refusal", "shed")
		}, "1 OK"},

		{"103, then 500", statuses(103, 500), "1 ignored"},
		{"100, then 504", statuses(100, 504), "1 overloaded"},
		{"two statuses", statuses(200, 504), "1 OK"},
		{"two statuses, the other way", statuses(504, 200), "1 overloaded"},
		{"a status after a body", func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte("text"))
			w.WriteHeader(http.StatusGatewayTimeout)
		}, "1 OK"},
		{"a status after a string", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "text")
			w.WriteHeader(http.StatusGatewayTimeout)
		}, "1 OK"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := narrow()
			_, recovered, _ := serve(guard(s).Handler(test.handler), incoming())
			if recovered != nil {
				t.Errorf("recovered %v", recovered)
			}
			wantOutcomes(t, s, test.want)
		})
	}
}

// A Classify of one's own gets the final status, and may panic.
func TestMiddlewareClassify(t *testing.T) {
	s := narrow()
	m := guard(s)
	m.Classify = func(r *http.Request, status int, h http.Header) shed.Outcome {
		if r.URL.Path != "/" || h.Get("Field") != "value" {
			t.Errorf("got %v with %v", r.URL, h)
		}
		if status == http.StatusTeapot {
			panic("boom")
		}
		if status == http.StatusOK {
			return shed.Overloaded
		}
		return shed.OK
	}
	for _, status := range []int{0, 500, http.StatusTeapot} {
		h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Field", "value")
			if status != 0 {
				w.WriteHeader(status)
			}
		}))
		_, recovered, _ := serve(h, incoming())
		if (recovered != nil) != (status == http.StatusTeapot) {
			t.Errorf("%d: recovered %v", status, recovered)
		}
	}
	wantOutcomes(t, s, "1 OK, 1 overloaded, 1 ignored")
}

func explode(http.ResponseWriter, *http.Request) { panic("boom") }

// However a handler ends, its slot is free, and the stack is as it was.
func TestMiddlewarePanic(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    any // what is recovered outside
	}{
		{"a panic", explode, "boom"},
		{"a panic after the header", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			explode(w, r)
		}, "boom"},
		{"ErrAbortHandler", func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}, http.ErrAbortHandler},
		{"Goexit", func(http.ResponseWriter, *http.Request) { runtime.Goexit() }, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := narrow()
			for range 3 {
				_, recovered, stack := serve(guard(s).Handler(test.handler), incoming())
				if recovered != test.want {
					t.Errorf("recovered %#v, want %#v", recovered, test.want)
				}
				if test.want == "boom" && !strings.Contains(stack, "shedhttp_test.explode") {
					t.Errorf("the stack has lost the handler that panicked:\n%s", stack)
				}
			}
			wantOutcomes(t, s, "3 ignored")
		})
	}
}

// A client that leaves says nothing of the server, whatever the handler makes of that.
func TestMiddlewareClientLeft(t *testing.T) {
	for _, status := range []int{0, 200, 504} {
		ctx, cancel := context.WithCancel(t.Context())
		s := narrow()
		h := guard(s).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
			if status != 0 {
				w.WriteHeader(status)
			}
		}))
		serve(h, incoming().WithContext(ctx))
		wantOutcomes(t, s, "1 ignored")
	}
}

// Whose deadline it is that is over makes the difference: one of the server's own, or of who
// is trusted, tells of overload; anybody's does not.
func TestMiddlewareRanOut(t *testing.T) {
	const own, said = "the server's", "the request's"
	for _, test := range []struct {
		name    string
		which   string
		trusted bool
		nested  bool // in another Middleware, which has read the same
		want    string
	}{
		{"its own", own, false, false, "1 overloaded"},
		{"its own, nested", own, false, true, "1 overloaded"},
		{"of who is trusted", said, true, false, "1 overloaded"},
		{"of who is trusted, nested", said, true, true, "1 overloaded"},
		{"of anybody", said, false, false, "1 ignored"},
		{"of anybody, nested", said, false, true, "1 ignored"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner, outer := narrow(), narrow()
				m := guard(inner)
				m.Trust = func(*http.Request) bool { return test.trusted }
				h := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					if err := r.Context().Err(); err != context.DeadlineExceeded {
						t.Errorf("ended by %v", err)
					}
				}))
				if test.nested {
					around := *m
					around.Shedder = by(outer)
					h = around.Handler(h)
				}
				r, ctx := incoming(), t.Context()
				if test.which == own {
					limited, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					ctx = limited
					r.Header.Set("Stormjib-Timeout-Ms", "5000") // which does not come to it
				} else {
					r.Header.Set("Stormjib-Timeout-Ms", "500")
				}
				start := time.Now()
				serve(h, r.WithContext(ctx))
				want := map[string]time.Duration{own: time.Second, said: time.Second / 2}
				if took := time.Since(start); took != want[test.which] {
					t.Errorf("took %v", took)
				}
				wantOutcomes(t, inner, test.want)
				if test.nested {
					wantOutcomes(t, outer, test.want)
				}
			})
		})
	}
}

// A request whose time is up costs nothing, and the shedder knows nothing of it.
func TestMiddlewareTimeIsUp(t *testing.T) {
	for _, value := range []string{"0", "-5"} {
		s := narrow()
		m := guard(s)
		var got error
		m.Refuse = func(w http.ResponseWriter, r *http.Request, err error) {
			got = err
			shedhttp.Refuse(w, r, err)
		}
		answer, _, _ := serve(m.Handler(uncalled(t)), incoming("Stormjib-Timeout-Ms", value))
		if !errors.Is(got, context.DeadlineExceeded) || !stormjib.NotAttempted(got) {
			t.Errorf("the error is %v", got)
		}
		wantRefusal(t, answer.Result(), 1, 1)
		if stats := s.Stats(); stats.Offered != 0 {
			t.Errorf("%s: %+v", value, stats)
		}
	}
}

// A request waits for no longer than it has time, and is told how long that is.
func TestMiddlewareTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slots(1, 4)
		fill(t, s)
		var got error
		m := guard(s)
		m.Refuse = func(_ http.ResponseWriter, _ *http.Request, err error) { got = err }
		start := time.Now()
		serve(m.Handler(uncalled(t)), incoming("Stormjib-Timeout-Ms", "30"))
		if took := time.Since(start); took != 30*time.Millisecond {
			t.Errorf("waited for %v", took)
		}
		if !errors.Is(got, context.DeadlineExceeded) {
			t.Errorf("the error is %v", got)
		}
	})
}

// A request that could not be done in its time is refused before it waits.
func TestMiddlewareTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slots(1, 4)
		h := guard(s).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			time.Sleep(40 * time.Millisecond)
		}))
		var wg sync.WaitGroup
		for range 2 { // of the one that waits it is learned how long calls take
			wg.Go(func() { serve(h, incoming()) })
		}
		wg.Wait()
		wg.Go(func() { serve(h, incoming()) })
		synctest.Wait()
		start := time.Now()
		answer, _, _ := serve(h, incoming("Stormjib-Timeout-Ms", "39"))
		if answer.Code != http.StatusServiceUnavailable || time.Since(start) != 0 {
			t.Errorf("%d after %v", answer.Code, time.Since(start))
		}
		answer, _, _ = serve(h, incoming("Stormjib-Timeout-Ms", "90"))
		if answer.Code != http.StatusOK {
			t.Errorf("with time enough: %d", answer.Code)
		}
		wg.Wait()
	})
}

// When the queue is full, the least critical goes, and is told when to come back.
func TestMiddlewareEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slots(1, 1)
		m := guard(s)
		h := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			time.Sleep(10 * time.Millisecond)
		}))
		var first, low, high *httptest.ResponseRecorder
		var wg sync.WaitGroup
		wg.Go(func() { first, _, _ = serve(h, incoming()) })
		synctest.Wait()
		wg.Go(func() { low, _, _ = serve(h, incoming("Stormjib-Criticality", "sheddable")) })
		synctest.Wait()
		wg.Go(func() { high, _, _ = serve(h, incoming()) })
		synctest.Wait()
		if low == nil {
			t.Fatal("the least critical still waits")
		}
		wantRefusal(t, low.Result(), 1, 2)
		wg.Wait()
		if first.Code != http.StatusOK || high.Code != http.StatusOK {
			t.Errorf("the others got %d and %d", first.Code, high.Code)
		}
	})
}

// wantRefusal checks a refusal with a delay within bounds.
func wantRefusal(t *testing.T, resp *http.Response, from, to int) {
	t.Helper()
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the status is %d", resp.StatusCode)
	}
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || after < from || after > to {
		t.Errorf("Retry-After is %q, want %d to %d", resp.Header.Get("Retry-After"), from, to)
	}
	for field, want := range map[string]string{
		"Stormjib-Refusal": "shed;scope=replica",
		"Content-Type":     "application/problem+json",
		"Cache-Control":    "no-store",
	} {
		if got := resp.Header.Get(field); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	var problem struct {
		Type, Title, Detail string
		Status              int
	}
	body, _ := io.ReadAll(resp.Body)
	err = json.Unmarshal(body, &problem)
	if err != nil || problem.Status != 503 || problem.Title != "Service Unavailable" ||
		problem.Detail == "" || strings.Contains(problem.Detail, "api") {
		t.Errorf("the body is %s, %v", body, err)
	}
}

func TestMiddlewareRefuses(t *testing.T) {
	s := narrow()
	fill(t, s)
	before := s.Stats().Refused[shed.Critical]
	answer, _, _ := serve(guard(s).Handler(uncalled(t)), incoming())
	wantRefusal(t, answer.Result(), 1, 2)
	if n := s.Stats().Refused[shed.Critical] - before; n != 1 {
		t.Errorf("%d counted", n)
	}
}

// Those who are refused together do not come back together.
func TestRefuseRetryAfter(t *testing.T) {
	s := narrow()
	fill(t, s)
	_, err := s.Acquire(t.Context())
	const n = 1000
	seen := map[string]int{}
	for range n {
		w := httptest.NewRecorder()
		shedhttp.Refuse(w, incoming(), err)
		seen[w.Header().Get("Retry-After")]++
	}
	if len(seen) != 2 || seen["1"] < n/3 || seen["2"] < n/3 {
		t.Errorf("the delays are %v", seen)
	}
}

// asking is an error that asks for a delay.
type asking time.Duration

func (asking) Error() string               { return "asking" }
func (a asking) RetryAfter() time.Duration { return time.Duration(a) }

func TestRefuseRetryAfterBounds(t *testing.T) {
	for after, want := range map[time.Duration]string{
		-time.Second: "1", 0: "1", 1: "1", time.Second: "1", time.Second + 1: "2",
		time.Minute: "60", time.Hour: "60", 1<<63 - 1: "60",
	} {
		w := httptest.NewRecorder()
		shedhttp.Refuse(w, incoming(), fmt.Errorf("get: %w", asking(after)))
		if got := w.Header().Get("Retry-After"); got != want {
			t.Errorf("%v: Retry-After is %q, want %q", after, got, want)
		}
	}
}

// A refusal of one's own.
func TestMiddlewareRefuseField(t *testing.T) {
	s := narrow()
	fill(t, s)
	m := guard(s)
	m.Refuse = func(w http.ResponseWriter, r *http.Request, err error) {
		if r.URL.Path != "/" || !errors.Is(err, shed.ErrOverloaded) {
			t.Errorf("%v: %v", r.URL, err)
		}
		w.WriteHeader(http.StatusTeapot)
	}
	answer, _, _ := serve(m.Handler(uncalled(t)), incoming())
	if answer.Code != http.StatusTeapot {
		t.Errorf("answered %d", answer.Code)
	}
}

// Probes and scrapes pass, however much there is to do, and count for nothing.
func TestMiddlewareBypass(t *testing.T) {
	s := narrow()
	fill(t, s)
	before := s.Stats()
	passed := false
	h := guard(s).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		passed = true
	}))
	for _, test := range []struct {
		method, path string
		want         bool
	}{
		{http.MethodGet, "/livez", true},
		{http.MethodGet, "/readyz", true},
		{http.MethodGet, "/startupz", true},
		{http.MethodGet, "/healthz", true},
		{http.MethodGet, "/metrics", true},
		{http.MethodHead, "/livez", true},
		{http.MethodGet, "/metrics?name[]=up", true},
		{http.MethodPost, "/livez", false},
		{http.MethodGet, "/livez/", false},
		{http.MethodGet, "/livez/../orders", false},
		{http.MethodGet, "/api/healthz", false},
		{http.MethodGet, "/", false},
	} {
		passed = false
		r := httptest.NewRequest(test.method, test.path, http.NoBody)
		serve(h, r)
		if passed != test.want || shedhttp.Bypass(r) != test.want {
			t.Errorf("%s %s: passed is %t", test.method, test.path, passed)
		}
		if test.want && s.Stats() != before {
			t.Errorf("%s %s is counted: %+v", test.method, test.path, s.Stats())
		}
		before = s.Stats()
	}
}

// What passes gets the writer and the request as they are; a Bypass of one's own takes the
// place of the default, and an Upgrade field, which anybody can write, is none.
func TestMiddlewareBypassField(t *testing.T) {
	s := narrow()
	fill(t, s)
	m := guard(s)
	m.Bypass = func(r *http.Request) bool { return r.URL.Path == "/-/ready" }
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/-/ready", http.NoBody)
	m.Handler(http.HandlerFunc(func(gotW http.ResponseWriter, gotR *http.Request) {
		if gotW != http.ResponseWriter(w) || gotR != r {
			t.Error("the handler gets another writer or request")
		}
	})).ServeHTTP(w, r)
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/livez", http.NoBody),
		incoming("Connection", "Upgrade", "Upgrade", "websocket"),
	} {
		if answer, _, _ := serve(m.Handler(uncalled(t)), r); answer.Code != 503 {
			t.Errorf("%v: %d", r.URL, answer.Code)
		}
	}
}

// Without a shedder for it, a request passes, and what it says is still in its context.
func TestMiddlewareNoShedder(t *testing.T) {
	m := guard(nil)
	called := false
	serve(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		called = true
		shedhttp.StopClock(r.Context())
		if c := shed.CriticalityOf(r.Context()); c != shed.Sheddable {
			t.Errorf("it is %v", c)
		}
	})), incoming("Stormjib-Criticality", "sheddable"))
	if !called {
		t.Error("the handler is not called")
	}

	defer func() {
		if got, want := recover(), "shedhttp: Middleware.Shedder is nil"; got != want {
			t.Errorf("without Shedder the panic is %v, want %v", got, want)
		}
	}()
	new(shedhttp.Middleware).Handler(http.NotFoundHandler())
}

// What is refused further in, in this process, is no overload: it took nothing of what the
// outer shedder guards. One route, or one tenant, must not close all the others.
func TestMiddlewareRefusalFurtherIn(t *testing.T) {
	inner := narrow()
	fill(t, inner)
	full := bulkhead.New(bulkhead.Config{MaxConcurrent: 1})
	full.TryAcquire()
	for name, h := range map[string]http.Handler{
		"a shedder": guard(inner).Handler(uncalled(t)),
		"a bulkhead": (&bulkheadhttp.Middleware{
			Bulkhead: func(*http.Request) *bulkhead.Bulkhead { return full },
		}).Handler(uncalled(t)),
		"a limiter": (&limiterhttp.Middleware{
			Store: limiter.NewKeyed(limiter.KeyedConfig[string]{}), Key: limiterhttp.RemoteAddr,
		}).Handler(uncalled(t)),
	} {
		s := narrow()
		serve(guard(s).Handler(h), incoming())
		if got := outcomes(s); got != "1 ignored" {
			t.Errorf("%s: counted %q", name, got)
		}
	}
}

// Two allocations: the copy of the request, and what goes with it.
func TestMiddlewareAllocations(t *testing.T) {
	s := narrow()
	h := guard(s).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w, r := httptest.NewRecorder(), incoming()
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n != 2 {
		t.Errorf("%v allocations", n)
	}
	said := incoming("Stormjib-Criticality", "sheddable", "Stormjib-Tenant", `"acme"`)
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, said) }); n != 2 {
		t.Errorf("of a request that says something: %v allocations", n)
	}
	passing := httptest.NewRequest(http.MethodGet, "/livez", http.NoBody)
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, passing) }); n != 0 {
		t.Errorf("of one that passes: %v allocations", n)
	}
	s.Close()
	m := guard(s)
	m.Refuse = func(http.ResponseWriter, *http.Request, error) {}
	h = m.Handler(uncalled(t))
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n != 1 {
		t.Errorf("of a refusal: %v allocations", n)
	}
}

func TestMiddlewareConcurrently(t *testing.T) {
	const most = 3
	s := slots(most, 2)
	var now, made atomic.Int64
	h := guard(s).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if n := now.Add(1); n > most {
			t.Errorf("%d requests at a time, of %d", n, most)
		}
		made.Add(1)
		runtime.Gosched()
		now.Add(-1)
		go shedhttp.StopClock(r.Context()) // it may come at any time
	}))
	var wg sync.WaitGroup
	var refused atomic.Int64
	const goroutines, requests = 8, 200
	for range goroutines {
		wg.Go(func() {
			for range requests {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, incoming("Stormjib-Tenant", "acme"))
				if w.Code == http.StatusServiceUnavailable {
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := s.Stats().InUse; n != 0 {
		t.Errorf("%d slots are gone", n)
	}
	if made.Load()+refused.Load() != goroutines*requests {
		t.Errorf("%d served and %d refused", made.Load(), refused.Load())
	}
}

// Who has more waiting than others is answered otherwise than who comes when there is too
// much.
func TestRefuseOverShare(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{&shed.OverloadError{Reason: shed.QueueFull, OverShare: true}, http.StatusTooManyRequests},
		{fmt.Errorf("wrapped: %w", &shed.OverloadError{OverShare: true}), 429},
		{&shed.OverloadError{Reason: shed.QueueFull}, http.StatusServiceUnavailable},
		{shed.ErrOverloaded, http.StatusServiceUnavailable},
	} {
		w := httptest.NewRecorder()
		shedhttp.Refuse(w, incoming(), test.err)
		if w.Code != test.want || w.Header().Get("Retry-After") == "" ||
			w.Header().Get(hop.RefusalField) == "" {
			t.Errorf("%v: %d %v, want %d", test.err, w.Code, w.Header(), test.want)
		}
	}
}

// What stands in the field is what the module's packages read.
func TestRefusalField(t *testing.T) {
	w := httptest.NewRecorder()
	shedhttp.Refuse(w, incoming(), shed.ErrOverloaded)
	got, ok := hop.ParseRefusal(w.Header().Get(hop.RefusalField))
	if want := (hop.Refusal{Reason: hop.Shed, Scope: hop.Replica}); !ok || got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	resp := w.Result()
	resp.Body.Close()
	if got := breakerhttp.Classify(resp); got != breaker.Ignored {
		t.Errorf("breakers make %v of it", got)
	}
}
