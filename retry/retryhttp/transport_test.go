package retryhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/retryhttp"
)

var errBoom = errors.New("boom")

// base is a Base without a network. It keeps to the contract of a RoundTripper: it reads
// and closes the body of the request.
type base struct {
	answer func(attempt int, r *http.Request) (*http.Response, error)

	sent    int
	bodies  []string   // of the requests
	numbers []string   // their Stormjib-Attempt
	drained []*watched // bodies of the responses
}

func (b *base) RoundTrip(r *http.Request) (*http.Response, error) {
	b.sent++
	b.numbers = append(b.numbers, r.Header.Get("Stormjib-Attempt"))
	if r.Body != nil {
		text, _ := io.ReadAll(r.Body)
		b.bodies = append(b.bodies, string(text))
		r.Body.Close()
	}
	resp, err := b.answer(b.sent, r)
	if err == nil && resp != nil {
		body := &watched{Reader: resp.Body}
		b.drained = append(b.drained, body)
		resp.Body = body
	}
	return resp, err
}

// watched is a body that knows what happened to it.
type watched struct {
	io.Reader
	read   int
	eof    bool
	closed int
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.read += n
	w.eof = w.eof || err == io.EOF
	return n, err
}

func (w *watched) Close() error { w.closed++; return nil }

func response(r *http.Request, status int, fields ...string) *http.Response {
	resp := &http.Response{
		StatusCode:    status,
		Header:        http.Header{},
		Body:          io.NopCloser(strings.NewReader("body")),
		ContentLength: 4,
		Request:       r,
	}
	for i := 0; i < len(fields); i += 2 {
		resp.Header.Set(fields[i], fields[i+1])
	}
	return resp
}

// always answers each attempt with the same.
func always(status int, fields ...string) *base {
	return &base{answer: func(_ int, r *http.Request) (*http.Response, error) {
		return response(r, status, fields...), nil
	}}
}

// inTurn answers the attempts with one status after the other, the last one for ever.
func inTurn(statuses ...int) *base {
	return &base{answer: func(attempt int, r *http.Request) (*http.Response, error) {
		return response(r, statuses[min(attempt, len(statuses))-1]), nil
	}}
}

// failing fails each attempt.
func failing(err error) *base {
	return &base{answer: func(int, *http.Request) (*http.Response, error) { return nil, err }}
}

func request(ctx context.Context, t *testing.T, method string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "http://prices.test/", body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func get(t *testing.T) *http.Request {
	t.Helper()
	return request(t.Context(), t, http.MethodGet, nil)
}

// outcome sends a request and tells what came of it: a status or an error.
func outcome(rt http.RoundTripper, r *http.Request) string {
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	resp.Body.Close()
	return fmt.Sprint(resp.StatusCode)
}

// bubble runs a test where time passes only while everything waits.
func bubble(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestTransportStatus(t *testing.T) {
	tests := []struct {
		name   string
		status int
		fields []string
		want   int // requests sent
	}{
		{"200", 200, nil, 1},
		{"301", 301, nil, 1},
		{"404", 404, nil, 1},
		{"409", 409, nil, 1},
		{"408", 408, nil, 3},
		{"425", 425, nil, 3},
		{"500", 500, nil, 1},
		{"500 that asks for it", 500, []string{"Retry-After", "1"}, 1},
		{"501", 501, nil, 1},
		{"502", 502, nil, 3},
		{"503", 503, nil, 3},
		{"503 with a delay", 503, []string{"Retry-After", "1"}, 3},
		{"504", 504, nil, 3},

		// Most often a quota that is used up: only the server knows for how long.
		{"429", 429, nil, 1},
		{"429 with a delay", 429, []string{"Retry-After", "1"}, 3},
		{"429 with none", 429, []string{"Retry-After", "0"}, 3},
		{"429 with garbage", 429, []string{"Retry-After", "soon"}, 1},
		{"429 of one replica", 429, []string{"Stormjib-Refusal", "limit"}, 3},
		{"429 of the service", 429, []string{"Stormjib-Refusal", "limit;scope=service"}, 1},

		{"refused by a replica", 503, []string{"Stormjib-Refusal", "shed;scope=replica"}, 3},
		{"refused by the service", 503, []string{"Stormjib-Refusal", "open;scope=service"}, 3},
		{"do not retry", 503, []string{"Stormjib-Refusal", "failed;scope=service;retry=?0"}, 1},
		{"a refusal that is none", 503, []string{"Stormjib-Refusal", "?!;retry=?0"}, 3},
		{"Envoy's breaker", 503, []string{"X-Envoy-Overloaded", "true"}, 1},
		{"Envoy's breaker, by presence", 503, []string{"X-Envoy-Overloaded", ""}, 1},
		{"Envoy's limit", 429, []string{"X-Envoy-Ratelimited", "1", "Retry-After", "1"}, 1},
	}
	for _, test := range tests {
		bubble(t, test.name, func(t *testing.T) {
			b := always(test.status, test.fields...)
			got := outcome(&retryhttp.Transport{Base: b}, get(t))
			if want := fmt.Sprint(test.status); got != want || b.sent != test.want {
				t.Errorf("%s after %d requests, want %s after %d", got, b.sent, want, test.want)
			}
		})
	}
}

// TestTransportMethod tells what may be executed twice.
func TestTransportMethod(t *testing.T) {
	tests := []struct {
		method, field string
		want          int
	}{
		{"", "", 3},
		{"GET", "", 3},
		{"HEAD", "", 3},
		{"OPTIONS", "", 3},
		{"TRACE", "", 3},
		{"PUT", "", 3},
		{"DELETE", "", 3},
		{"QUERY", "", 3},
		{"POST", "", 1},
		{"PATCH", "", 1},
		{"CONNECT", "", 1},
		{"get", "", 1},
		{"LOCK", "", 1},
		{"POST", "Idempotency-Key", 3},
		{"PATCH", "X-Idempotency-Key", 3},
	}
	for _, test := range tests {
		bubble(t, test.method+test.field, func(t *testing.T) {
			for _, b := range []*base{always(503), failing(errBoom)} {
				r := get(t)
				r.Method = test.method
				if test.field != "" {
					r.Header.Set(test.field, "k1")
				}
				outcome(&retryhttp.Transport{Base: b}, r)
				if b.sent != test.want {
					t.Errorf("%d requests sent, want %d", b.sent, test.want)
				}
			}
		})
	}
	bubble(t, "a field of one's own", func(t *testing.T) {
		b := always(503)
		transport := &retryhttp.Transport{Base: b, Idempotent: func(r *http.Request) bool {
			return r.URL.Path == "/search" || retryhttp.Idempotent(r)
		}}
		r := request(t.Context(), t, http.MethodPost, strings.NewReader("words"))
		if outcome(transport, r); b.sent != 1 {
			t.Errorf("a POST was sent %d times, want 1", b.sent)
		}
		r.URL.Path = "/search"
		if outcome(transport, r); b.sent != 1+3 {
			t.Errorf("a search was sent %d times, want 3", b.sent-1)
		}
	})
}

// refusal is an error of a policy on this side.
type refusal struct{}

func (refusal) Error() string      { return "refused" }
func (refusal) NotAttempted() bool { return true }

// A POST that nobody has seen can be sent again.
func TestTransportNotSent(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errBoom}
	read := &net.OpError{Op: "read", Net: "tcp", Err: errBoom}
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"refused here", refusal{}, 3},
		{"no connection", dial, 3},
		{"no connection, wrapped", fmt.Errorf("wrapped: %w", dial), 3},
		{"no proxy", &net.OpError{Op: "proxyconnect", Net: "tcp", Err: dial}, 3},
		{"connection broke", read, 1},
		{"anything else", errBoom, 1},
		// Sent to two replicas, one of which cannot be reached: the other may have
		// charged the card.
		{"one of two not reached", errors.Join(dial, read), 1},
		{"one of two refused", errors.Join(refusal{}, read), 1},
		{"retried further in", &retry.Error{Errs: []error{dial}, Reason: errBoom, Attempts: 3}, 1},
	}
	for _, test := range tests {
		bubble(t, test.name, func(t *testing.T) {
			b := failing(test.err)
			r := request(t.Context(), t, http.MethodPost, strings.NewReader("order"))
			outcome(&retryhttp.Transport{Base: b}, r)
			if b.sent != test.want {
				t.Errorf("%d requests sent, want %d", b.sent, test.want)
			}
			if want := slices.Repeat([]string{"order"}, test.want); !slices.Equal(b.bodies, want) {
				t.Errorf("the bodies were %q, want %q", b.bodies, want)
			}
		})
	}
}

// A certificate is not better at the next attempt.
func TestTransportUntrusted(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = nolog
	opened := counted(server.Config)
	server.StartTLS()
	defer server.Close()
	resp, err := (&http.Client{Transport: &retryhttp.Transport{}}).Get(server.URL)
	if err == nil {
		resp.Body.Close()
		t.Fatal("the certificate is trusted")
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections opened, want 1: %v", n, err)
	}
}

func TestTransportRetryAfter(t *testing.T) {
	const s = time.Second
	in := func(d time.Duration) string {
		return time.Now().UTC().Add(d).Format(http.TimeFormat)
	}
	tests := []struct {
		name     string
		after    string
		in       time.Duration // a date; with it Date
		ahead    time.Duration
		want     int
		from, to time.Duration
	}{
		{"seconds", "2", 0, 0, 3, 4 * s, 4*s + 150*time.Millisecond},
		{"too many", "3", 0, 0, 1, 0, 0},
		{"a year", "31536000", 0, 0, 1, 0, 0},
		{"more than a duration holds", "10000000000", 0, 0, 1, 0, 0},
		{"more than an int64 holds", "99999999999999999999", 0, 0, 1, 0, 0},
		// Never at once, time and again: the backoff is there.
		{"zero", "0", 0, 0, 3, 1, 150 * time.Millisecond},
		{"negative", "-5", 0, 0, 3, 1, 150 * time.Millisecond},
		{"garbage", "in a while", 0, 0, 3, 1, 150 * time.Millisecond},
		{"a fraction", "1.5", 0, 0, 3, 1, 150 * time.Millisecond},
		{"a date", "", s, 0, 2, s, s + 50*time.Millisecond},
		{"a date by a clock that is ahead", "", s, time.Hour, 2, s, s + 50*time.Millisecond},
		{"a date in the past", "", -time.Hour, 0, 3, 1, 150 * time.Millisecond},
		{"a date far away", "Fri, 31 Dec 9999 23:59:59 GMT", 0, 0, 1, 0, 0},
	}
	for _, test := range tests {
		bubble(t, test.name, func(t *testing.T) {
			start := time.Now()
			fields := []string{"Retry-After", test.after}
			if test.in != 0 {
				fields = []string{"Date", in(test.ahead), "Retry-After", in(test.in + test.ahead)}
			}
			b := always(503, fields...)
			if test.in > 0 {
				b.answer = func(attempt int, r *http.Request) (*http.Response, error) {
					if attempt > 1 {
						return response(r, 200), nil
					}
					return response(r, 503, fields...), nil
				}
			}
			outcome(&retryhttp.Transport{Base: b}, get(t))
			took := time.Since(start)
			if b.sent != test.want || took < test.from || took > test.to {
				t.Errorf("%d requests in %v, want %d in %v to %v",
					b.sent, took, test.want, test.from, test.to)
			}
		})
	}
	bubble(t, "within MaxRetryAfter, beyond the deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), s)
		defer cancel()
		start := time.Now()
		b := always(503, "Retry-After", "2")
		got := outcome(&retryhttp.Transport{Base: b}, request(ctx, t, http.MethodGet, nil))
		if took := time.Since(start); took != 0 || got != "503" || b.sent != 1 {
			t.Errorf("%s in %v, want the 503 at once", got, took)
		}
	})
	bubble(t, "within MaxRetryAfter, beyond the client's timeout", func(t *testing.T) {
		start := time.Now()
		client := &http.Client{
			Timeout:   s,
			Transport: &retryhttp.Transport{Base: always(503, "Retry-After", "2")},
		}
		resp, err := client.Do(get(t))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("%v, want the 503 at once", took)
		}
	})
	bubble(t, "beyond MaxElapsed", func(t *testing.T) {
		start := time.Now()
		transport := &retryhttp.Transport{
			Base:   always(503, "Retry-After", "2"),
			Policy: &retry.Policy{MaxElapsed: s},
		}
		got := outcome(transport, get(t))
		if took := time.Since(start); took != 0 || got != "503" {
			t.Errorf("%s in %v, want the 503 at once", got, took)
		}
	})
	bubble(t, "any, with MaxRetryAfter below zero", func(t *testing.T) {
		b := always(503, "Retry-After", "1")
		transport := &retryhttp.Transport{
			Base: b, Policy: &retry.Policy{MaxRetryAfter: -1},
		}
		if outcome(transport, get(t)); b.sent != 1 {
			t.Errorf("%d requests sent, want 1", b.sent)
		}
	})
}

// requestBody is the body of a request, and counts.
type requestBody struct {
	io.Reader
	closed int
}

func (b *requestBody) Close() error { b.closed++; return nil }

// Whoever gave a body waits for its Close, and may free what is behind it then.
func TestTransportClosesBodies(t *testing.T) {
	cancelled := func(ctx context.Context) context.Context {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx
	}
	soon := func(ctx context.Context) context.Context {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Microsecond, cancel)
		return ctx
	}
	same := func(ctx context.Context) context.Context { return ctx }
	open := breaker.New(breaker.Config{})
	open.ForceOpen()
	tests := []struct {
		name   string
		base   http.RoundTripper
		ctx    func(context.Context) context.Context
		policy *retry.Policy
		want   int // bodies made
	}{
		{"first attempt succeeds", always(200), same, nil, 1},
		{"second succeeds", inTurn(503, 200), same, nil, 2},
		{"all fail", always(503), same, nil, 3},
		{"all end in errors", failing(errBoom), same, nil, 3},
		{"with a timeout", inTurn(503, 200), same, &retry.Policy{AttemptTimeout: time.Hour}, 2},
		{"not retryable", always(500), same, nil, 1},
		{"done before the first", always(200), cancelled, nil, 1},
		{
			"done before the first, with a timeout", always(200), cancelled,
			&retry.Policy{AttemptTimeout: time.Hour, MaxElapsed: time.Hour}, 1,
		},
		{"cancelled while it waits", always(503), soon, &retry.Policy{
			Backoff: retry.Constant(time.Hour),
		}, 1},
		{"refused by a breaker", &breakerhttp.Transport{
			Breaker: func(*http.Request) *breaker.Breaker { return open },
		}, same, &retry.Policy{MaxRetryAfter: time.Hour}, 3},
	}
	for _, test := range tests {
		bubble(t, test.name, func(t *testing.T) {
			var made []*requestBody
			body := func() (io.ReadCloser, error) {
				b := &requestBody{Reader: strings.NewReader("text")}
				made = append(made, b)
				return b, nil
			}
			r := request(test.ctx(t.Context()), t, http.MethodPut, nil)
			r.Body, _ = body()
			r.GetBody = body
			outcome(&retryhttp.Transport{Base: test.base, Policy: test.policy}, r)
			if len(made) != test.want {
				t.Errorf("%d bodies made, want %d", len(made), test.want)
			}
			for i, b := range made {
				if b.closed != 1 {
					t.Errorf("the body of attempt %d closed %d times, want once", i+1, b.closed)
				}
			}
		})
	}
}

func TestTransportReplaysBody(t *testing.T) {
	bubble(t, "through GetBody", func(t *testing.T) {
		b := inTurn(503, 503, 200)
		lengths := []int64{}
		answer := b.answer
		b.answer = func(attempt int, r *http.Request) (*http.Response, error) {
			lengths = append(lengths, r.ContentLength)
			return answer(attempt, r)
		}
		r := request(t.Context(), t, http.MethodPut, strings.NewReader("text"))
		outcome(&retryhttp.Transport{Base: b}, r)
		if !slices.Equal(b.bodies, []string{"text", "text", "text"}) ||
			!slices.Equal(lengths, []int64{4, 4, 4}) {
			t.Errorf("the bodies were %q, with lengths %v", b.bodies, lengths)
		}
	})
	bubble(t, "not without GetBody", func(t *testing.T) {
		for _, b := range []*base{always(503), failing(errBoom), failing(refusal{})} {
			r := request(t.Context(), t, http.MethodPut, io.NopCloser(strings.NewReader("text")))
			if r.GetBody != nil {
				t.Fatal("there is a GetBody")
			}
			if outcome(&retryhttp.Transport{Base: b}, r); b.sent != 1 {
				t.Errorf("%d requests sent, want 1", b.sent)
			}
		}
	})
	bubble(t, "none to replay", func(t *testing.T) {
		for _, body := range []io.ReadCloser{nil, http.NoBody} {
			r, b := get(t), always(503)
			r.Body, r.GetBody = body, nil
			if outcome(&retryhttp.Transport{Base: b}, r); b.sent != 3 {
				t.Errorf("body %v: %d requests sent, want 3", body, b.sent)
			}
		}
	})
	bubble(t, "a GetBody that fails", func(t *testing.T) {
		r, b := request(t.Context(), t, http.MethodPut, strings.NewReader("text")), always(503)
		asked := 0
		r.GetBody = func() (io.ReadCloser, error) {
			asked++
			return nil, errBoom
		}
		resp, err := (&retryhttp.Transport{Base: b}).RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		if !errors.Is(err, errBoom) || b.sent != 1 || asked != 1 {
			t.Errorf("%v after %d requests and %d calls of GetBody", err, b.sent, asked)
		}
	})
}

// A request belongs to its caller, who may be sending it elsewhere at the same time.
func TestTransportLeavesRequest(t *testing.T) {
	for name, b := range map[string]*base{
		"first succeeds": always(200), "third succeeds": inTurn(503, 503, 200),
		"fails": failing(errBoom),
	} {
		bubble(t, name, func(t *testing.T) {
			r := request(t.Context(), t, http.MethodPut, strings.NewReader("text"))
			r.Header.Set("X-Own", "own")
			r.Trailer = http.Header{"X-Trailer": nil}
			body := r.Body
			before := r.Clone(r.Context())
			outcome(&retryhttp.Transport{
				Base: b, Policy: &retry.Policy{AttemptTimeout: time.Hour},
			}, r)
			if r.Body != body {
				t.Error("the request has another body")
			}
			r.Body, before.Body, r.GetBody, before.GetBody = nil, nil, nil, nil
			if !reflect.DeepEqual(r, before) {
				t.Errorf("the request was %+v, and is %+v", before, r)
			}
		})
	}
	t.Run("no header at all", func(t *testing.T) {
		r, b := get(t), inTurn(503, 200)
		r.Header = nil
		outcome(&retryhttp.Transport{
			Base: b, Policy: &retry.Policy{Backoff: retry.Constant(0)},
		}, r)
		if r.Header != nil || !slices.Equal(b.numbers, []string{"", "2"}) {
			t.Errorf("the header is %v; attempts %q", r.Header, b.numbers)
		}
	})
}

// A caller fills in a trailer while the body is read, in the map it knows.
func TestTransportTrailer(t *testing.T) {
	var sums []string
	b := inTurn(503, 200)
	answer := b.answer
	b.answer = func(attempt int, r *http.Request) (*http.Response, error) {
		sums = append(sums, r.Trailer.Get("X-Sum"))
		return answer(attempt, r)
	}
	r := request(t.Context(), t, http.MethodPut, nil)
	r.Trailer = http.Header{"X-Sum": nil}
	reads := 0
	r.GetBody = func() (io.ReadCloser, error) {
		return io.NopCloser(readFunc(func([]byte) (int, error) {
			reads++
			r.Trailer.Set("X-Sum", fmt.Sprint("read ", reads))
			return 0, io.EOF
		})), nil
	}
	r.Body, _ = r.GetBody()
	outcome(&retryhttp.Transport{
		Base: b, Policy: &retry.Policy{Backoff: retry.Constant(0)},
	}, r)
	if want := []string{"read 1", "read 2"}; !slices.Equal(sums, want) {
		t.Errorf("the trailers were %q, want %q", sums, want)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestTransportAttemptNumber(t *testing.T) {
	tests := []struct {
		name  string
		outer int    // the number of an attempt around
		set   string // by the caller
		want  []string
	}{
		{"absent on the first", 1, "", []string{"", "2", "3"}},
		{"the caller's is kept", 1, "7", []string{"7", "8", "9"}},
		{"the caller's, garbage", 1, "x", []string{"x", "2", "3"}},
		{"the caller's, huge", 1, "9223372036854775807", []string{
			"9223372036854775807", "2", "3",
		}},
		{"the caller's, out of reach", 1, "70000", []string{"70000", "2", "3"}},
		{"within an attempt of another layer", 2, "", []string{"2", "3", "4"}},
		{"within another layer's that has set it", 2, "2", []string{"2", "3", "4"}},
	}
	for _, test := range tests {
		bubble(t, test.name, func(t *testing.T) {
			ctx := t.Context()
			outer := retry.Policy{Backoff: retry.Constant(0)}
			outer.Do(ctx, func(inner context.Context) error {
				ctx = inner
				if retry.Attempt(inner) < test.outer {
					return errBoom
				}
				return nil
			})
			r, b := request(ctx, t, http.MethodGet, nil), always(503)
			if test.set != "" {
				r.Header.Set("Stormjib-Attempt", test.set)
			}
			before := maps.Clone(r.Header)
			outcome(&retryhttp.Transport{Base: b}, r)
			if !slices.Equal(b.numbers, test.want) {
				t.Errorf("the attempts say %q, want %q", b.numbers, test.want)
			}
			if !reflect.DeepEqual(r.Header, before) {
				t.Errorf("the caller's header was %v, and is %v", before, r.Header)
			}
		})
	}
	bubble(t, "seen by RoundTrippers below", func(t *testing.T) {
		var seen []int
		b := always(503)
		b.answer = func(_ int, r *http.Request) (*http.Response, error) {
			seen = append(seen, retry.Attempt(r.Context()))
			return response(r, 503), nil
		}
		outcome(&retryhttp.Transport{Base: b}, get(t))
		if !slices.Equal(seen, []int{1, 2, 3}) {
			t.Errorf("the contexts say %v", seen)
		}
	})
}

// What giving up returns: the response as it is, its body unread.
func TestTransportReturnsLastResponse(t *testing.T) {
	bubble(t, "and is done with those before", func(t *testing.T) {
		b := always(503)
		resp, err := (&retryhttp.Transport{Base: b}).RoundTrip(get(t))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); string(text) != "body" || err != nil {
			t.Errorf("the body reads %q, %v", text, err)
		}
		resp.Body.Close()
		for i, body := range b.drained {
			if !body.eof || body.closed != 1 {
				t.Errorf("response %d: read to its end is %t, closed %d times",
					i+1, body.eof, body.closed)
			}
		}
	})
	bubble(t, "not one before an error", func(t *testing.T) {
		b := &base{answer: func(attempt int, r *http.Request) (*http.Response, error) {
			if attempt == 3 {
				return nil, errBoom
			}
			return response(r, 503), nil
		}}
		resp, err := (&retryhttp.Transport{Base: b}).RoundTrip(get(t))
		if err == nil {
			resp.Body.Close()
		}
		var e *retry.Error
		if !errors.As(err, &e) || !errors.Is(err, errBoom) || e.Attempts != 3 {
			t.Fatalf("the error is %#v", err)
		}
		if _, ok := errors.AsType[*retryhttp.StatusError](e.Errs[0]); !ok {
			t.Errorf("the first error is %v", e.Errs[0])
		}
	})
	t.Run("the plain error of a single attempt", func(t *testing.T) {
		r := request(t.Context(), t, http.MethodPost, nil)
		resp, err := (&retryhttp.Transport{Base: failing(errBoom)}).RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		if any(err) != any(errBoom) {
			t.Errorf("the error is %#v", err)
		}
	})
	t.Run("nothing at all, as a broken Base does", func(t *testing.T) {
		b := &base{answer: func(int, *http.Request) (*http.Response, error) { return nil, nil }}
		policy := &retry.Policy{AttemptTimeout: time.Hour}
		resp, err := (&retryhttp.Transport{Base: b, Policy: policy}).RoundTrip(get(t))
		if err != nil {
			t.Error(err)
		}
		if resp != nil {
			resp.Body.Close()
			t.Error("a response")
		}
	})
	bubble(t, "without a body or a header", func(t *testing.T) {
		sent := 0
		bare := roundTrip(func(*http.Request) (*http.Response, error) {
			sent++
			return &http.Response{StatusCode: http.StatusServiceUnavailable}, nil
		})
		transport := &retryhttp.Transport{
			Base: bare, Policy: &retry.Policy{AttemptTimeout: time.Hour},
		}
		resp, err := transport.RoundTrip(get(t)) //nolint:bodyclose // there is none
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || sent != 3 {
			t.Errorf("%v, %v after %d requests", resp, err, sent)
		}
	})
	bubble(t, "an error to who leaves during a wait", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		b := always(503)
		transport := &retryhttp.Transport{
			Base: b, Policy: &retry.Policy{Backoff: retry.Constant(time.Hour)},
		}
		start := time.Now()
		resp, err := transport.RoundTrip(request(ctx, t, http.MethodGet, nil))
		if err == nil {
			resp.Body.Close()
		}
		_, status := errors.AsType[*retryhttp.StatusError](err)
		if !errors.Is(err, context.Canceled) || !status || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if b.drained[0].closed != 1 {
			t.Error("the response is not closed")
		}
	})
}

// roundTrip is a Base that is a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A server may answer with a body that has no end, or that never comes.
func TestTransportDrainIsBounded(t *testing.T) {
	zeros := readFunc(func(p []byte) (int, error) { return len(p), nil })
	bubble(t, "endless", func(t *testing.T) {
		b := inTurn(503, 200)
		answer := b.answer
		b.answer = func(attempt int, r *http.Request) (*http.Response, error) {
			resp, err := answer(attempt, r)
			if attempt == 1 {
				resp.Body, resp.ContentLength = io.NopCloser(zeros), -1
			}
			return resp, err
		}
		got := outcome(&retryhttp.Transport{Base: b}, get(t))
		if body := b.drained[0]; got != "200" || body.read > 64<<10 || body.closed != 1 {
			t.Errorf("%s; %d bytes read, closed %d times", got, body.read, body.closed)
		}
	})
	bubble(t, "known to be long", func(t *testing.T) {
		b := inTurn(503, 200)
		answer := b.answer
		b.answer = func(attempt int, r *http.Request) (*http.Response, error) {
			resp, err := answer(attempt, r)
			resp.ContentLength = 1 << 20
			return resp, err
		}
		got := outcome(&retryhttp.Transport{Base: b}, get(t))
		if body := b.drained[0]; got != "200" || body.read > 0 || body.closed != 1 {
			t.Errorf("%s; %d bytes read, closed %d times", got, body.read, body.closed)
		}
	})
	bubble(t, "stalled", func(t *testing.T) {
		stalled := &stalledBody{}
		sent := 0
		transport := &retryhttp.Transport{
			Base: roundTrip(func(r *http.Request) (*http.Response, error) {
				if sent++; sent > 1 {
					return response(r, 200), nil
				}
				resp := response(r, 503)
				stalled.PipeReader, _ = io.Pipe()
				resp.Body = stalled
				return resp, nil
			}),
			Policy: &retry.Policy{Backoff: retry.Constant(0)},
		}
		start := time.Now()
		got := outcome(transport, get(t))
		if took := time.Since(start); got != "200" || took != 100*time.Millisecond {
			t.Errorf("%s after %v", got, took)
		}
		if n := stalled.closed.Load(); n != 1 {
			t.Errorf("closed %d times", n)
		}
	})
}

// stalledBody is one that nothing comes from until it is closed.
type stalledBody struct {
	*io.PipeReader
	closed atomic.Int64
}

func (b *stalledBody) Close() error {
	b.closed.Add(1)
	return b.PipeReader.Close()
}

// The time of an attempt goes on until its body has ended, and no further.
func TestTransportAttemptTimeout(t *testing.T) {
	policy := &retry.Policy{AttemptTimeout: time.Second, Backoff: retry.Constant(0)}
	hangs := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	}
	bubble(t, "a hanging attempt is followed by another", func(t *testing.T) {
		b := &base{answer: func(attempt int, r *http.Request) (*http.Response, error) {
			if attempt == 1 {
				return hangs(r)
			}
			return response(r, 200), nil
		}}
		start := time.Now()
		got := outcome(&retryhttp.Transport{Base: b, Policy: policy}, get(t))
		if took := time.Since(start); got != "200" || took != time.Second {
			t.Errorf("%s after %v", got, took)
		}
	})
	bubble(t, "all hang", func(t *testing.T) {
		transport := &retryhttp.Transport{Base: roundTrip(hangs), Policy: policy}
		resp, err := transport.RoundTrip(get(t))
		if err == nil {
			resp.Body.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, retry.ErrExhausted) {
			t.Errorf("the error is %v", err)
		}
	})
	bubble(t, "the caller's own deadline ends it", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		b := &base{answer: func(_ int, r *http.Request) (*http.Response, error) { return hangs(r) }}
		outcome(&retryhttp.Transport{Base: b, Policy: policy}, request(ctx, t, http.MethodGet, nil))
		if b.sent != 1 {
			t.Errorf("%d requests sent, want 1", b.sent)
		}
	})
	// Each of these leaves the context of its attempt behind, alive, and has to end it.
	for name, end := range map[string]func(*http.Response){
		"Close": func(resp *http.Response) { resp.Body.Close() },
		"EOF":   func(resp *http.Response) { io.Copy(io.Discard, resp.Body) },
		"both": func(resp *http.Response) {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			resp.Body.Close()
		},
		"time": func(*http.Response) {
			time.Sleep(time.Second)
			synctest.Wait()
		},
	} {
		bubble(t, "ends with "+name, func(t *testing.T) {
			var inner context.Context
			transport := &retryhttp.Transport{
				Base: roundTrip(func(r *http.Request) (*http.Response, error) {
					inner = r.Context()
					return response(r, 200), nil
				}),
				Policy: policy,
			}
			resp, err := transport.RoundTrip(get(t))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if inner.Err() != nil {
				t.Error("the attempt's context has ended with RoundTrip")
			}
			if end(resp); inner.Err() == nil {
				t.Error("the attempt's context goes on")
			}
		})
	}
	bubble(t, "ends with a retried response, and with a panic", func(t *testing.T) {
		var inner []context.Context
		transport := &retryhttp.Transport{
			Base: roundTrip(func(r *http.Request) (*http.Response, error) {
				inner = append(inner, r.Context())
				if len(inner) == 2 {
					panic("boom")
				}
				return response(r, 503), nil
			}),
			Policy: policy,
		}
		func() {
			defer func() { recover() }()
			outcome(transport, get(t))
		}()
		for i, ctx := range inner {
			if ctx.Err() == nil {
				t.Errorf("the context of attempt %d goes on", i+1)
			}
		}
	})
}

// A replica that refuses for itself is not what a caller should wait for.
func TestTransportScope(t *testing.T) {
	hour := retry.Constant(time.Hour)
	tests := []struct {
		name     string
		refusal  string
		after    string
		backoff  retry.Backoff
		want     int
		from, to time.Duration
	}{
		{"replica", "shed;scope=replica", "2", nil, 3, 0, 100 * time.Millisecond},
		{"replica, for long", "shed;scope=replica", "3600", nil, 3, 0, 100 * time.Millisecond},
		{"replica, long backoff", "shed;scope=replica", "2", hour, 3, 0, 100 * time.Millisecond},
		{"service", "open;scope=service", "2", nil, 3, 4 * time.Second, 4150 * time.Millisecond},
		{"service, asks for a long time", "open;scope=service", "3600", nil, 1, 0, 0},
		{"none", "", "2", nil, 3, 4 * time.Second, 4150 * time.Millisecond},
		{
			"no refusal, but a failure", "failed;scope=replica", "2", nil,
			3, 4 * time.Second, 4150 * time.Millisecond,
		},
	}
	for _, test := range tests {
		bubble(t, test.name, func(t *testing.T) {
			b := always(503, "Retry-After", test.after, "Stormjib-Refusal", test.refusal)
			start := time.Now()
			outcome(&retryhttp.Transport{
				Base: b, Policy: &retry.Policy{Backoff: test.backoff},
			}, get(t))
			took := time.Since(start)
			if b.sent != test.want || took < test.from || took > test.to {
				t.Errorf("%d requests in %v, want %d in %v to %v",
					b.sent, took, test.want, test.from, test.to)
			}
		})
	}
	bubble(t, "the long backoff is there again after it", func(t *testing.T) {
		b := &base{answer: func(attempt int, r *http.Request) (*http.Response, error) {
			if attempt == 1 {
				return response(r, 503, "Stormjib-Refusal", "shed"), nil
			}
			return nil, errBoom
		}}
		start := time.Now()
		outcome(&retryhttp.Transport{Base: b, Policy: &retry.Policy{Backoff: hour}}, get(t))
		if took := time.Since(start); took != time.Hour+50*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// Over an open breaker a retry holds nobody up.
func TestTransportOverOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{Name: "prices", Consecutive: 2, OpenFor: time.Minute})
		down := always(503)
		transport := &retryhttp.Transport{Base: &breakerhttp.Transport{
			Base: down, Breaker: func(*http.Request) *breaker.Breaker { return b },
		}}
		// It sees each attempt, and opens in the midst of the call.
		if got := outcome(transport, get(t)); !strings.Contains(got, "breaker") || down.sent != 2 {
			t.Errorf("%s after %d requests", got, down.sent)
		}
		for range 10 {
			start := time.Now()
			r := request(t.Context(), t, http.MethodPost, strings.NewReader("order"))
			resp, err := transport.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
			if took := time.Since(start); took != 0 || !errors.Is(err, breaker.ErrOpen) {
				t.Errorf("%v after %v", err, took)
			}
			if !stormjib.NotAttempted(err) || stormjib.RetryAfter(err) == 0 {
				t.Errorf("%v says the wrong things about itself", err)
			}
		}
	})
}

func TestTransportHooks(t *testing.T) {
	bubble(t, "RetryIf and OnRetry", func(t *testing.T) {
		var asked, told []string
		b := inTurn(500, 503, 500, 418)
		transport := &retryhttp.Transport{
			Base: b,
			Policy: &retry.Policy{
				MaxAttempts: 9,
				RetryIf: func(err error) bool {
					asked = append(asked, err.Error())
					status, ok := errors.AsType[*retryhttp.StatusError](err)
					return ok && status.StatusCode == http.StatusInternalServerError ||
						retry.Retryable(err)
				},
				OnRetry: func(_ context.Context, e retry.Event) {
					told = append(told, fmt.Sprint(e.Attempt, " ", e.Err))
					if body := b.drained[e.Attempt-1]; body.closed != 1 {
						t.Error("told before the response was done with")
					}
				},
			},
		}
		if got := outcome(transport, get(t)); got != "418" {
			t.Errorf("got %s", got)
		}
		want := []string{
			"retryhttp: status 500 Internal Server Error",
			"retryhttp: status 503 Service Unavailable",
			"retryhttp: status 500 Internal Server Error",
		}
		if !slices.Equal(asked, want) {
			t.Errorf("RetryIf got %q", asked)
		}
		for i := range want {
			want[i] = fmt.Sprint(i+1, " ", want[i])
		}
		if !slices.Equal(told, want) {
			t.Errorf("OnRetry got %q", told)
		}
	})
	t.Run("RetryIf is not asked about what does harm", func(t *testing.T) {
		policy := &retry.Policy{RetryIf: func(error) bool { return true }}
		b := failing(errBoom)
		r := request(t.Context(), t, http.MethodPost, nil)
		if outcome(&retryhttp.Transport{Base: b, Policy: policy}, r); b.sent != 1 {
			t.Errorf("a POST was sent %d times", b.sent)
		}
	})
	t.Run("RetryIf forbids", func(t *testing.T) {
		policy := &retry.Policy{RetryIf: func(error) bool { return false }}
		b := always(503)
		if outcome(&retryhttp.Transport{Base: b, Policy: policy}, get(t)); b.sent != 1 {
			t.Errorf("sent %d times", b.sent)
		}
	})
	t.Run("Once", func(t *testing.T) {
		b := always(503)
		r := request(retry.Once(t.Context()), t, http.MethodGet, nil)
		if outcome(&retryhttp.Transport{Base: b}, r); b.sent != 1 {
			t.Errorf("sent %d times", b.sent)
		}
	})
}

// Every field of a policy is obeyed. A new one has to be copied, left to the transport,
// or forbidden, and then named here.
func TestTransportKnowsPolicy(t *testing.T) {
	known := []string{
		"MaxAttempts", "Backoff", "AttemptTimeout", "MaxElapsed", "MaxRetryAfter", "Budget",
		"SharedBudget", "RetryIf", "OnRetry",
	}
	var fields []string
	for field := range reflect.TypeFor[retry.Policy]().Fields() {
		fields = append(fields, field.Name)
	}
	if !slices.Equal(fields, known) {
		t.Errorf("a Policy has the fields %v, of which the transport knows %v", fields, known)
	}
	known = []string{"Ratio", "Burst", "Floor", "Refund", "Off"}
	fields = nil
	for field := range reflect.TypeFor[retry.Budget]().Fields() {
		if field.IsExported() {
			fields = append(fields, field.Name)
		}
	}
	if !slices.Equal(fields, known) {
		t.Errorf("a Budget has the fields %v, of which the transport knows %v", fields, known)
	}
}

// to returns a request to a host.
func to(t *testing.T, host string) *http.Request {
	t.Helper()
	r := get(t)
	r.URL.Host = host
	return r
}

func TestTransportBudget(t *testing.T) {
	// retries counts the retries of ten calls to a host that is down.
	retries := func(t *testing.T, transport *retryhttp.Transport, b *base, host string) int {
		t.Helper()
		before := b.sent
		for range 10 {
			if got := outcome(transport, to(t, host)); got != "503" {
				t.Fatalf("got %s", got)
			}
		}
		return b.sent - before - 10
	}
	zero := retry.Constant(0)
	shared := &retry.Budget{Burst: 1, Floor: -1}
	tests := []struct {
		name   string
		policy *retry.Policy
		a, b   int // retries to each host
	}{
		{"default", nil, 3, 3},
		{"its settings", &retry.Policy{
			Backoff: zero, Budget: retry.Budget{Burst: 5, Floor: -1},
		}, 5, 5},
		{"off", &retry.Policy{Backoff: zero, Budget: retry.Budget{Off: true}}, 20, 20},
		{"shared", &retry.Policy{Backoff: zero, SharedBudget: shared}, 1, 0},
		{"settings that mean nothing", &retry.Policy{
			Backoff: zero, Budget: retry.Budget{Ratio: math.NaN(), Burst: -4},
		}, 3, 3},
	}
	for _, test := range tests {
		bubble(t, test.name, func(t *testing.T) {
			b := always(503)
			transport := &retryhttp.Transport{Base: b, Policy: test.policy}
			gotA := retries(t, transport, b, "a.test")
			gotB := retries(t, transport, b, "b.test")
			if gotA != test.a || gotB != test.b {
				t.Errorf("%d and %d retries, want %d and %d", gotA, gotB, test.a, test.b)
			}
		})
	}

	// A minute of 20 calls a second to a host that is down, and as many to one at which
	// every twentieth attempt fails.
	bubble(t, "an outage", func(t *testing.T) {
		sent := map[string]int{}
		transport := &retryhttp.Transport{
			Base: roundTrip(func(r *http.Request) (*http.Response, error) {
				sent[r.URL.Host]++
				if r.URL.Host == "down.test" || sent[r.URL.Host]%20 == 0 {
					return response(r, 503), nil
				}
				return response(r, 200), nil
			}),
			Policy: &retry.Policy{Backoff: zero},
		}
		lost := 0
		for range 20 * 60 {
			outcome(transport, to(t, "down.test"))
			if outcome(transport, to(t, "up.test")) != "200" {
				lost++
			}
			time.Sleep(time.Second / 20)
		}
		if n := sent["down.test"]; n > 1200*105/100 {
			t.Errorf("1200 calls made %d requests", n)
		}
		if lost > 0 {
			t.Errorf("the host that is up lost %d calls to the other's budget", lost)
		}
	})
	// A 404 is an answer, and earns as much as a 200; a 500 earns nothing.
	bubble(t, "what earns retries", func(t *testing.T) {
		for _, test := range []struct{ status, want int }{{200, 1}, {404, 1}, {500, 0}, {429, 0}} {
			shared := &retry.Budget{Burst: 1, Floor: -1, Ratio: 1}
			shared.Take()
			outcome(&retryhttp.Transport{
				Base: always(test.status), Policy: &retry.Policy{SharedBudget: shared},
			}, get(t))
			if got := shared.Tokens(); got != float64(test.want) {
				t.Errorf("a %d earns %v, want %d", test.status, got, test.want)
			}
		}
	})
}

func TestTransportAllocatesNothing(t *testing.T) {
	var pool sync.Pool
	for range 100 {
		if pool.Put(t); pool.Get() == nil {
			t.Skip("a sync.Pool forgets, as it does under the race detector")
		}
	}
	r := get(t)
	resp := response(r, 200) //nolint:bodyclose // of all calls
	stub := roundTrip(func(*http.Request) (*http.Response, error) { return resp, nil })
	for name, transport := range map[string]*retryhttp.Transport{
		"zero": {Base: stub},
		"with a policy": {Base: stub, Policy: &retry.Policy{
			RetryIf: retry.Retryable, OnRetry: func(context.Context, retry.Event) {},
			MaxElapsed: time.Hour,
		}},
	} {
		allocs := testing.AllocsPerRun(200, func() {
			got, err := transport.RoundTrip(r) //nolint:bodyclose // see above
			if err != nil || got != resp {
				t.Error(got, err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: a success allocates %v times, want 0", name, allocs)
		}
	}
}

func TestTransportBaseThatDoesNotReturn(t *testing.T) {
	for name, answer := range map[string]roundTrip{
		"panics": func(*http.Request) (*http.Response, error) { panic("boom") },
		"exits": func(*http.Request) (*http.Response, error) {
			runtime.Goexit()
			return nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			transport := &retryhttp.Transport{Base: answer}
			exited := make(chan any)
			go func() {
				defer func() { exited <- recover() }()
				outcome(transport, get(t))
			}()
			if v := <-exited; v != nil && v != "boom" {
				t.Errorf("recovered %v", v)
			}
			transport.Base = always(200)
			if got := outcome(transport, get(t)); got != "200" {
				t.Errorf("the next call: %s", got)
			}
		})
	}
}

type idler struct {
	roundTrip
	closed int
}

func (i *idler) CloseIdleConnections() { i.closed++ }

func TestTransportCloseIdleConnections(t *testing.T) {
	b := &idler{}
	client := &http.Client{Transport: &retryhttp.Transport{Base: b}}
	client.CloseIdleConnections()
	if b.closed != 1 {
		t.Errorf("the base was told %d times, want once", b.closed)
	}
	client.Transport = &retryhttp.Transport{Base: always(200)}
	client.CloseIdleConnections() // and nothing happens
}

// One Transport serves a whole program, and what its calls share is nothing but budgets.
func TestTransportConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := &retryhttp.Transport{
			Base: roundTrip(func(r *http.Request) (*http.Response, error) {
				if r.Body != nil {
					text, _ := io.ReadAll(r.Body)
					r.Body.Close()
					if string(text) != r.Header.Get("X-Own") {
						t.Errorf("the body is %q, of the request %q", text, r.Header)
					}
				}
				if retry.Attempt(r.Context()) == 1 {
					return response(r, 503), nil
				}
				return response(r, 200, "X-Own", r.Header.Get("X-Own")), nil
			}),
			Policy: &retry.Policy{Budget: retry.Budget{Off: true}},
		}
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				for j := range 10 {
					own := fmt.Sprint(i, " ", j)
					r := request(t.Context(), t, http.MethodPut, strings.NewReader(own))
					r.Header.Set("X-Own", own)
					resp, err := transport.RoundTrip(r)
					if err != nil {
						t.Error(err)
						continue
					}
					resp.Body.Close()
					got := resp.Header.Get("X-Own")
					if resp.StatusCode != http.StatusOK || got != own {
						t.Errorf("%d for %q, want 200 for %q", resp.StatusCode, got, own)
					}
				}
			})
		}
		wg.Wait()
	})
}
