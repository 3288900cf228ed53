package breakerhttp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/internal/hop"
)

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

func request() *http.Request { return httptest.NewRequest(http.MethodGet, "/", http.NoBody) }

func TestMiddlewareOutcome(t *testing.T) {
	write := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "text") }
	tests := []struct {
		name     string
		handler  http.HandlerFunc
		count500 bool
		want     string
	}{
		{"writes nothing", statuses(), false, "1 succeeded"},
		{"writes a body alone", write, false, "1 succeeded"},
		{"200", statuses(200), false, "1 succeeded"},
		{"404", statuses(404), false, "1 succeeded"},
		{"429", statuses(429), false, "1 ignored"},
		{"500", statuses(500), false, "1 succeeded"},
		{"500, counted", statuses(500), true, "1 failed"},
		{"502", statuses(502), false, "1 failed"},
		{"503", statuses(503), false, "1 failed"},
		{"504", statuses(504), false, "1 failed"},
		{"shed", marked("Stormjib-Refusal", "shed;scope=replica"), false, "1 ignored"},
		{"shed by Envoy", marked("X-Envoy-Overloaded", "true"), false, "1 ignored"},
		{"marked as nothing known", marked("Stormjib-Refusal", "?1"), false, "1 failed"},

		// An early hint is no answer yet.
		{"103 alone", statuses(103), false, "1 succeeded"},
		{"103, then 503", statuses(103, 103, 503), false, "1 failed"},
		{"100, then 429", statuses(100, 429), false, "1 ignored"},
		{"101", statuses(101), false, "1 succeeded"},

		// net/http drops the second, so clients saw the first.
		{"two statuses", statuses(200, 503), false, "1 succeeded"},
		{"two statuses, the other way", statuses(503, 200), false, "1 failed"},
		{"a status after the body", func(w http.ResponseWriter, r *http.Request) {
			write(w, r)
			w.WriteHeader(http.StatusServiceUnavailable)
		}, false, "1 succeeded"},
		{"a status after a flush", func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.WriteHeader(http.StatusServiceUnavailable)
		}, false, "1 succeeded"},
		{"a status after a copy", func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, strings.NewReader("text"))
			w.WriteHeader(http.StatusServiceUnavailable)
		}, false, "1 succeeded"},
		// How a proxy answers whose backend breaks off before the first byte.
		{"a status after a copy of nothing", func(w http.ResponseWriter, _ *http.Request) {
			n, err := io.Copy(w, iotest.ErrReader(errBoom))
			if n == 0 && err != nil {
				w.WriteHeader(http.StatusBadGateway)
			}
		}, false, "1 failed"},
		{"a hijack that cannot be", func(w http.ResponseWriter, _ *http.Request) {
			if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
				w.WriteHeader(http.StatusBadGateway)
			}
		}, false, "1 failed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := counting()
			m := &breakerhttp.Middleware{Breaker: by(b), Count500: test.count500}
			_, recovered, _ := serve(m.Handler(test.handler), request())
			if recovered != nil {
				t.Errorf("recovered %v", recovered)
			}
			wantOutcomes(t, b, test.want)
		})
	}
}

// What a real server sends after an informational status is not changed by being
// watched.
func TestMiddlewareEarlyHints(t *testing.T) {
	b := counting()
	m := &breakerhttp.Middleware{Breaker: by(b)}
	server := httptest.NewServer(m.Handler(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusBadGateway)
		})))
	defer server.Close()
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if hints != 1 || resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%d hints and a %d, want 1 and 502", hints, resp.StatusCode)
	}
	wantOutcomes(t, b, "1 failed")
}

func explode(http.ResponseWriter, *http.Request) { panic("boom") }

// A handler that panics: net/http and what stands around it decide what to do, and
// need the value and the stack as they were.
func TestMiddlewarePanic(t *testing.T) {
	wrapped := fmt.Errorf("proxy: %w", http.ErrAbortHandler)
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    any // what is recovered outside
		counted string
	}{
		{"a panic", explode, "boom", "1 failed"},
		{"a panic with an error", func(http.ResponseWriter, *http.Request) {
			panic(errBoom)
		}, errBoom, "1 failed"},
		{"a panic after the header", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			explode(w, r)
		}, "boom", "1 succeeded"},
		{"a panic after an early hint", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			explode(w, r)
		}, "boom", "1 failed"},
		// The client is gone, which says nothing of the dependency.
		{"ErrAbortHandler", func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}, http.ErrAbortHandler, "1 ignored"},
		{"ErrAbortHandler after the header", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			panic(http.ErrAbortHandler)
		}, http.ErrAbortHandler, "1 failed"},
		{
			"ErrAbortHandler wrapped is a panic to net/http too",
			func(http.ResponseWriter, *http.Request) { panic(wrapped) }, wrapped, "1 failed",
		},
		{"Goexit", func(http.ResponseWriter, *http.Request) { runtime.Goexit() }, nil, "1 failed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := counting()
			m := &breakerhttp.Middleware{Breaker: by(b)}
			_, recovered, stack := serve(m.Handler(test.handler), request())
			if recovered != test.want {
				t.Errorf("recovered %#v, want %#v", recovered, test.want)
			}
			if test.want == "boom" && !strings.Contains(stack, "breakerhttp_test.explode") {
				t.Errorf("the stack has lost the handler that panicked:\n%s", stack)
			}
			wantOutcomes(t, b, test.counted)
		})
	}
}

// A client that leaves says nothing of the backend, whatever its handler makes of
// that: impatient clients of a backend that hangs must not close the breaker again.
func TestMiddlewareClientLeft(t *testing.T) {
	for name, leave := range map[string]func(http.ResponseWriter){
		"the handler answers nobody": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadGateway)
		},
		"the handler returns":           func(http.ResponseWriter) {},
		"the handler gives up as it is": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			b := counting()
			m := &breakerhttp.Middleware{Breaker: by(b)}
			serve(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				cancel()
				<-r.Context().Done()
				leave(w)
			})), request().WithContext(ctx))
			wantOutcomes(t, b, "1 ignored")
		})
	}
}

func TestMiddlewareRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brittle()
		m := &breakerhttp.Middleware{Breaker: by(b)}
		serve(m.Handler(marked("Retry-After", "30")), request())
		if open := time.Until(b.Stats().Until); open != 30*time.Second {
			t.Errorf("open for %v, want what the dependency asks for", open)
		}
	})
}

// Without a breaker for it, a request passes as if the middleware were not there.
func TestMiddlewareNoBreaker(t *testing.T) {
	m := &breakerhttp.Middleware{Breaker: by(nil)}
	w, r := httptest.NewRecorder(), request()
	m.Handler(http.HandlerFunc(func(gotW http.ResponseWriter, gotR *http.Request) {
		if gotW != http.ResponseWriter(w) || gotR != r {
			t.Error("the handler gets another writer or request")
		}
	})).ServeHTTP(w, r)

	defer func() {
		if got, want := recover(), "breakerhttp: Middleware.Breaker is nil"; got != want {
			t.Errorf("without Breaker the panic is %v, want %v", got, want)
		}
	}()
	new(breakerhttp.Middleware).Handler(http.NotFoundHandler())
}

// A copy of the request would keep the files of a multipart form from net/http, which
// removes them.
func TestMiddlewareLeavesRequest(t *testing.T) {
	m := &breakerhttp.Middleware{Breaker: by(counting())}
	r := request()
	serve(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, got *http.Request) {
		if got != r {
			t.Error("the handler gets another request")
		}
	})), r)
}

// Behind the middleware a handler can do what it can without: server-sent events
// need the flush, WebSockets the hijack, long uploads the deadlines.
func TestMiddlewareWriter(t *testing.T) {
	b := counting()
	m := &breakerhttp.Middleware{Breaker: by(b)}
	received := make(chan struct{})
	server := httptest.NewServer(m.Handler(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			rc := http.NewResponseController(w)
			for name, err := range map[string]error{
				"SetReadDeadline":  rc.SetReadDeadline(time.Time{}),
				"SetWriteDeadline": rc.SetWriteDeadline(time.Time{}),
				"EnableFullDuplex": rc.EnableFullDuplex(),
			} {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, ok := w.(io.ReaderFrom); !ok {
				t.Error("the writer is no io.ReaderFrom")
			}
			io.Copy(w, strings.NewReader("first "))
			if err := rc.Flush(); err != nil {
				t.Errorf("Flush: %v", err)
			}
			<-received
			io.WriteString(w, "second ")
			w.(http.Flusher).Flush()
			<-received
			w.Write([]byte("third"))
		})))
	defer server.Close()

	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	// The stream has begun, so it has counted, and does not hold a probe's place.
	wantOutcomes(t, b, "1 succeeded")
	body := bufio.NewReader(resp.Body)
	for _, want := range []string{"first ", "second "} {
		if got, err := body.ReadString(' '); got != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
		received <- struct{}{}
	}
	if got, err := io.ReadAll(body); string(got) != "third" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	wantOutcomes(t, b, "1 succeeded")
}

func TestMiddlewareHijack(t *testing.T) {
	b := counting()
	m := &breakerhttp.Middleware{Breaker: by(b)}
	server := httptest.NewServer(m.Handler(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			wantOutcomes(t, b, "1 succeeded") // and not when the connection ends
			rw.WriteString("HTTP/1.1 503 Own Words\r\nContent-Length: 0\r\n\r\n")
			rw.Flush()
		})))
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Status != "503 Own Words" {
		t.Errorf("the status is %q", resp.Status)
	}
	wantOutcomes(t, b, "1 succeeded")
}

// writer is a ResponseWriter with some of what net/http's can.
type writer struct {
	http.ResponseWriter
	readFrom string // what ReadFrom was given
	flushErr error
}

func (w *writer) ReadFrom(src io.Reader) (int64, error) {
	text, err := io.ReadAll(src)
	w.readFrom += string(text)
	return int64(len(text)), err
}

func (w *writer) FlushError() error { return w.flushErr }

// plain has nothing beyond the interface.
type plain struct{ http.ResponseWriter }

// What the writer below can do, and what it cannot, is seen through the middleware.
func TestMiddlewareWriterBelow(t *testing.T) {
	file := strings.Repeat("0123456789abcdef", 4096)
	tests := []struct {
		name  string
		below http.ResponseWriter
		check func(http.ResponseWriter) error
	}{
		{
			// The bulk of it at least: a part may be looked at first.
			"ReadFrom reaches it", &writer{ResponseWriter: httptest.NewRecorder()},
			func(w http.ResponseWriter) error {
				// Not a strings.Reader, which would write by itself.
				n, err := io.Copy(w, io.LimitReader(strings.NewReader(file), 1<<20))
				below := w.(interface{ Unwrap() http.ResponseWriter }).Unwrap().(*writer)
				if n != int64(len(file)) || err != nil ||
					below.readFrom == "" || !strings.HasSuffix(file, below.readFrom) {
					return fmt.Errorf("copied %d, %w; %d by ReadFrom", n, err, len(below.readFrom))
				}
				return nil
			},
		},
		{
			// A stream of events learns by it that its client has gone.
			"the error of a flush is passed on",
			&writer{ResponseWriter: httptest.NewRecorder(), flushErr: errBoom},
			func(w http.ResponseWriter) error {
				return want(http.NewResponseController(w).Flush(), errBoom)
			},
		},
		{
			"a flush that cannot be",
			plain{httptest.NewRecorder()},
			func(w http.ResponseWriter) error {
				w.(http.Flusher).Flush() // no way to say so, and no reason to panic
				return want(http.NewResponseController(w).Flush(), http.ErrNotSupported)
			},
		},
		{
			"a hijack that cannot be",
			plain{httptest.NewRecorder()},
			func(w http.ResponseWriter) error {
				_, _, err := http.NewResponseController(w).Hijack()
				return want(err, http.ErrNotSupported)
			},
		},
		{
			"a deadline that cannot be",
			plain{httptest.NewRecorder()},
			func(w http.ResponseWriter) error {
				rc := http.NewResponseController(w)
				return want(rc.SetWriteDeadline(time.Time{}), http.ErrNotSupported)
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := counting()
			m := &breakerhttp.Middleware{Breaker: by(b)}
			h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if err := test.check(w); err != nil {
					t.Error(err)
				}
			}))
			h.ServeHTTP(test.below, request())
			wantOutcomes(t, b, "1 succeeded")
		})
	}
}

// want returns an error if got does not match target.
func want(got, target error) error {
	if errors.Is(got, target) {
		return nil
	}
	return fmt.Errorf("the error is %v, want %w", got, target)
}

func TestMiddlewareRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brittle()
		calls := 0
		m := &breakerhttp.Middleware{Breaker: by(b)}
		h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls++
			w.WriteHeader(http.StatusBadGateway)
		}))
		serve(h, request())
		answer, _, _ := serve(h, request())
		if calls != 1 {
			t.Errorf("the handler was called %d times, want once", calls)
		}
		wantOutcomes(t, b, "1 failed, 1 refused")
		wantRefusal(t, answer.Result(), 8, 10)
		if body := answer.Body.String(); strings.Contains(body, "prices") {
			t.Errorf("the refusal tells clients what is down: %s", body)
		}
	})
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
	want := hop.Refusal{Reason: hop.Open, Scope: hop.Service}
	if got, ok := hop.ParseRefusal(resp.Header.Get(hop.RefusalField)); got != want || !ok {
		t.Errorf("%s is %+v, want %+v", hop.RefusalField, got, want)
	}
	if got := breakerhttp.Classify(resp); got != breaker.Ignored {
		t.Errorf("other breakers make %v of it, want Ignored", got)
	}
	for field, want := range map[string]string{
		"Content-Type": "application/problem+json", "Cache-Control": "no-store",
	} {
		if got := resp.Header.Get(field); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
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
		problem.Type != "about:blank" || problem.Detail == "" {
		t.Errorf("the body is %s, %v", body, err)
	}
}

// Through a real server, which knows what HEAD leaves out.
func TestMiddlewareRefusesOverNetwork(t *testing.T) {
	b := brittle()
	b.ForceOpen()
	m := &breakerhttp.Middleware{Breaker: by(b)}
	server := httptest.NewServer(m.Handler(http.NotFoundHandler()))
	defer server.Close()
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), method, server.URL,
				strings.NewReader("request"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			wantRefusal(t, resp, 1, 1) // forced open, nobody knows until when
		})
	}
}

// Two hops: the front's breaker refuses, and the breakers of its clients see a server
// that does its work.
func TestRefusalIsIgnoredByClients(t *testing.T) {
	inner := brittle()
	inner.ForceOpen()
	m := &breakerhttp.Middleware{Breaker: by(inner)}
	server := httptest.NewServer(m.Handler(http.NotFoundHandler()))
	defer server.Close()
	outer := brittle() // one failure would open it
	client := &http.Client{Transport: &breakerhttp.Transport{
		Base: server.Client().Transport, Breaker: by(outer),
	}}
	for range 5 {
		resp, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	wantOutcomes(t, outer, "5 ignored")
	wantState(t, outer, breaker.Closed)
}

func TestRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func(after time.Duration) error {
			return &breaker.OpenError{State: breaker.Open, Until: time.Now().Add(after)}
		}
		const year = 365 * 24 * time.Hour
		tests := []struct {
			name  string
			err   error
			after string
		}{
			{"not known until when", &breaker.OpenError{State: breaker.HalfOpen}, "1"},
			{"passed", open(-time.Minute), "1"},
			{"now", open(0), "1"},
			// Rounded down, all of them would come back too early.
			{"less than a second", open(time.Millisecond), "1"},
			{"a second", open(time.Second), "1"},
			{"a second and some", open(1001 * time.Millisecond), "2"},
			{"ten seconds", open(10 * time.Second), "10"},
			{"a century", open(100 * year), "3153600000"},
			{"wrapped", fmt.Errorf("prices: %w", open(10*time.Second)), "10"},
			{"another error", errBoom, "1"},
			{"no error", nil, "1"},
		}
		for _, test := range tests {
			w := httptest.NewRecorder()
			w.Header().Set("Content-Length", "5") // of an answer that is not given
			breakerhttp.Refuse(w, request(), test.err)
			if got := w.Header().Get("Retry-After"); got != test.after {
				t.Errorf("%s: Retry-After is %q, want %q", test.name, got, test.after)
			}
			if got := w.Header().Get("Content-Length"); got != "" {
				t.Errorf("%s: Content-Length is %q", test.name, got)
			}
		}
	})
}

func TestMiddlewareOwnRefuse(t *testing.T) {
	b := brittle()
	b.ForceOpen()
	r := request()
	m := &breakerhttp.Middleware{
		Breaker: by(b),
		Refuse: func(w http.ResponseWriter, got *http.Request, err error) {
			var open *breaker.OpenError
			if got != r || !errors.As(err, &open) || open.Name != "prices" {
				t.Errorf("Refuse got %v, %v", got, err)
			}
			io.WriteString(w, "yesterday's prices")
		},
	}
	answer, _, _ := serve(m.Handler(http.NotFoundHandler()), r)
	if answer.Code != 200 || answer.Body.String() != "yesterday's prices" ||
		len(answer.Header()["Retry-After"]) != 0 {
		t.Errorf("the answer is %d, %v, %q", answer.Code, answer.Header(), answer.Body)
	}
}

// A dependency that hangs behind a deadline is seen, though its handler says nothing.
func TestMiddlewareDeadline(t *testing.T) {
	b := breaker.New(breaker.Config{Consecutive: 1})
	m := &breakerhttp.Middleware{Breaker: func(*http.Request) *breaker.Breaker { return b }}
	ctx, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})).ServeHTTP(httptest.NewRecorder(), r)
	if got := b.State(); got != breaker.Open {
		t.Errorf("%v", got)
	}
}

// An error that wraps io.EOF is an error, as it is to io.Copy.
func TestMiddlewareReadFromWrappedEOF(t *testing.T) {
	b := breaker.New(breaker.Config{})
	m := &breakerhttp.Middleware{Breaker: func(*http.Request) *breaker.Breaker { return b }}
	cut := fmt.Errorf("cut off: %w", io.EOF)
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := io.Copy(w, iotest.ErrReader(cut)); !errors.Is(err, cut) {
			t.Errorf("got %v, want %v", err, cut)
		}
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
}
