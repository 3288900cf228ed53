package shedhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/shedhttp"
	"github.com/stormjib/stormjib/shed/throttle"
)

// roundTrip is a base of a Transport without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer returns a base that answers with a status and header fields, given as names and
// values in turn.
func answer(status int, fields ...string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		resp := &http.Response{
			StatusCode: status, Header: http.Header{}, Request: r,
			Body: io.NopCloser(strings.NewReader("body")),
		}
		for i := 0; i < len(fields); i += 2 {
			resp.Header.Set(fields[i], fields[i+1])
		}
		return resp, nil
	}
}

// failing returns a base that fails.
func failing(err error) roundTrip {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

func throttled(t *throttle.Throttle) func(*http.Request) *throttle.Throttle {
	return func(*http.Request) *throttle.Throttle { return t }
}

// tracked is a body that knows whether it was closed.
type tracked struct {
	io.Reader
	closed int
}

func (b *tracked) Close() error { b.closed++; return nil }

func TestTransportOutcome(t *testing.T) {
	for _, test := range []struct {
		name string
		base roundTrip
		want string
	}{
		{"200", answer(200), "accepted"},
		{"404", answer(404), "accepted"},
		{"500", answer(500), "accepted"},
		{"502", answer(502), "accepted"},
		{"503", answer(503), "accepted"},
		{"504", answer(504), "accepted"},
		{"429", answer(429), "rejected"},
		{"429 with a delay", answer(429, "Retry-After", "3"), "rejected"},
		{"503 with a delay", answer(503, "Retry-After", "3"), "rejected"},
		{"503 with a date", answer(503, "Retry-After", "Sun Nov  6 08:49:37 1994"), "rejected"},
		{"503 with no delay", answer(503, "Retry-After", "soon"), "accepted"},
		{"500 with a delay", answer(500, "Retry-After", "3"), "accepted"},
		{"shed", answer(503, "Stormjib-Refusal", "shed;scope=replica"), "rejected"},
		{"full", answer(503, "Stormjib-Refusal", "full;scope=replica"), "rejected"},
		{"limit", answer(503, "Stormjib-Refusal", "limit;scope=service"), "rejected"},
		{
			"a dependency that is down",
			answer(503, "Stormjib-Refusal", "open;scope=service", "Retry-After", "3"), "accepted",
		},
		{
			"given up",
			answer(503, "Stormjib-Refusal", "failed;retry=?0", "Retry-After", "3"), "accepted",
		},
		{"marked, but a 200", answer(200, "Stormjib-Refusal", "shed"), "accepted"},
		{"marked as nothing known", answer(503, "Stormjib-Refusal", "?1"), "accepted"},
		{"Envoy", answer(503, "X-Envoy-Overloaded", "true"), "rejected"},
		{"an error", failing(errBoom), "accepted"},
		{"not sent, for a refusal further in", failing(&throttle.ThrottledError{}), "ignored"},
	} {
		t.Run(test.name, func(t *testing.T) {
			th := throttle.New(throttle.Config{})
			client := &shedhttp.Transport{Base: test.base, Throttle: throttled(th)}
			r := get(t.Context(), t, "http://api.test/")
			resp, err := client.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
				if resp.Request != r {
					t.Error("the response is to another request")
				}
			}
			if got := counted(th); got != test.want {
				t.Errorf("the throttle counted %q, want %q", got, test.want)
			}
		})
	}
}

// send sends a request and is done with the response.
func send(rt http.RoundTripper, r *http.Request) error {
	resp, err := rt.RoundTrip(r)
	if err == nil && resp.Body != nil {
		resp.Body.Close()
	}
	return err
}

func counted(th *throttle.Throttle) string {
	s := th.Stats().Total
	var parts []string
	for what, n := range map[string]uint64{
		"accepted": s.Accepted, "rejected": s.Rejected, "ignored": s.Ignored, "refused": s.Refused,
	} {
		if n > 0 {
			parts = append(parts, what)
		}
	}
	return strings.Join(parts, ", ")
}

// A Classify of one's own.
func TestTransportClassify(t *testing.T) {
	th := throttle.New(throttle.Config{})
	client := &shedhttp.Transport{
		Base: answer(200), Throttle: throttled(th),
		Classify: func(resp *http.Response) throttle.Outcome {
			if resp.StatusCode != http.StatusOK {
				t.Errorf("asked about a %d", resp.StatusCode)
			}
			return throttle.Rejected
		},
	}
	resp, err := client.RoundTrip(get(t.Context(), t, "http://api.test/"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := counted(th); got != "rejected" {
		t.Errorf("counted %q", got)
	}
}

// Who leaves says nothing; who has left before is not sent, and counts for nothing at all.
func TestTransportCallerLeaves(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	th := throttle.New(throttle.Config{})
	client := &shedhttp.Transport{
		Throttle: throttled(th),
		Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			cancel(errBoom)
			return nil, r.Context().Err()
		}),
	}
	if err := send(client, get(ctx, t, "http://api.test/")); err != context.Canceled {
		t.Errorf("got %v, want what the base returned", err)
	}
	if got := counted(th); got != "ignored" {
		t.Errorf("counted %q", got)
	}

	th = throttle.New(throttle.Config{})
	client.Throttle = throttled(th)
	client.Base = roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("it is sent")
		return nil, errBoom
	})
	body := &tracked{Reader: strings.NewReader("body")}
	r := get(ctx, t, "http://api.test/")
	r.Body = body
	err := send(client, r)
	for _, target := range []error{context.Canceled, errBoom} {
		if !errors.Is(err, target) || !stormjib.NotAttempted(err) {
			t.Errorf("got %v, want %v", err, target)
		}
	}
	if got := counted(th); got != "" || body.closed != 1 {
		t.Errorf("counted %q; the body is closed %d times", got, body.closed)
	}
}

// What the throttle refuses is not sent, its error is returned, and its body closed.
func TestTransportThrottles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := throttle.New(throttle.Config{})
		sent := 0
		client := &shedhttp.Transport{
			Throttle: throttled(th),
			Base: roundTrip(func(r *http.Request) (*http.Response, error) {
				sent++
				return answer(429)(r)
			}),
		}
		refused := 0
		for range 1000 {
			body := &tracked{Reader: strings.NewReader("body")}
			r := get(shed.WithCriticality(t.Context(), shed.Sheddable), t, "http://api.test/")
			r.Body = body
			resp, err := client.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
				continue
			}
			refused++
			e, ok := errors.AsType[*throttle.ThrottledError](err)
			if !ok || e.Class != sheddable || body.closed != 1 {
				t.Fatalf("got %v; the body is closed %d times", err, body.closed)
			}
		}
		if sent+refused != 1000 || sent > 100 {
			t.Errorf("%d sent and %d refused", sent, refused)
		}
	})
}

func TestTransportPanic(t *testing.T) {
	for _, end := range []func(){func() { panic("boom") }, runtime.Goexit} {
		th := throttle.New(throttle.Config{})
		client := &shedhttp.Transport{
			Throttle: throttled(th),
			Base: roundTrip(func(*http.Request) (*http.Response, error) {
				end()
				return nil, errBoom
			}),
		}
		serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			send(client, get(t.Context(), t, "http://api.test/"))
		}), incoming())
		if got := counted(th); got != "ignored" {
			t.Errorf("counted %q", got)
		}
	}
}

// The fields say what the context does, and nothing else.
func TestTransportTells(t *testing.T) {
	timeout := func(d time.Duration) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context {
			ctx, cancel := context.WithTimeout(ctx, d)
			_ = cancel // at the end of the test
			return ctx
		}
	}
	class := func(c shed.Criticality) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context { return shed.WithCriticality(ctx, c) }
	}
	tenant := func(name string) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context { return stormjib.WithTenant(ctx, name) }
	}
	for _, test := range []struct {
		name   string
		with   func(context.Context) context.Context
		field  string // of the request as it is given
		fields map[string]string
	}{
		{"nothing", nil, "", nil},
		{"a class", class(shed.BestEffort), "", map[string]string{"Criticality": "best-effort"}},
		{
			"critical, if it is said",
			class(shed.Critical), "",
			map[string]string{"Criticality": "critical"},
		},
		{"a tenant", tenant("acme"), "", map[string]string{"Tenant": `"acme"`}},
		{"a tenant with a line", tenant("a\r\nb"), "", map[string]string{"Tenant": ":YQ0KYg==:"}},
		{"a tenant of a megabyte", tenant(strings.Repeat("x", 1<<20)), "", nil},
		{"a time", timeout(1500 * time.Millisecond), "", map[string]string{"Timeout-Ms": "1500"}},
		{"hardly any", timeout(1), "", map[string]string{"Timeout-Ms": "1"}},
		{"a long time", timeout(48 * time.Hour), "", nil},
		{"of others", nil, "critical-plus", nil},
		{
			"of others, and a class",
			class(shed.Sheddable), "critical-plus",
			map[string]string{"Criticality": "sheddable"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.with != nil {
					ctx = test.with(ctx)
				}
				r := get(ctx, t, "http://api.test/")
				r.Header.Set("Kept", "yes")
				if test.field != "" {
					r.Header.Set("Stormjib-Criticality", test.field)
				}
				before := r.Header.Clone()
				client := &shedhttp.Transport{Base: roundTrip(
					func(sent *http.Request) (*http.Response, error) {
						want := map[string]string{"Kept": "yes"}
						for field, value := range test.fields {
							want["Stormjib-"+field] = value
						}
						for field := range sent.Header {
							if got := sent.Header.Get(field); got != want[field] {
								t.Errorf("%s is %q, want %q", field, got, want[field])
							}
						}
						if len(sent.Header) != len(want) {
							t.Errorf("sent is %v, want %v", sent.Header, want)
						}
						if len(test.fields) == 0 && test.field == "" && sent != r {
							t.Error("it is copied for nothing")
						}
						return answer(200)(sent)
					})}
				resp, err := client.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.Request != r {
					t.Error("the response is to another request")
				}
				if !reflect.DeepEqual(r.Header, before) {
					t.Errorf("the caller's request has become %v", r.Header)
				}
			})
		})
	}
}

// A deadline that is over, while the context has not noticed yet, is not sent as one: to say
// that the time is up would have the server answer for it.
func TestTransportLate(t *testing.T) {
	client := &shedhttp.Transport{Base: roundTrip(func(r *http.Request) (*http.Response, error) {
		if got := r.Header.Get("Stormjib-Timeout-Ms"); got != "1" {
			t.Errorf("it has %q", got)
		}
		return nil, errBoom
	})}
	if err := send(client, get(late{t.Context()}, t, "http://api.test/")); err != errBoom {
		t.Error(err)
	}
}

type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }

// A request without a header is one.
func TestTransportNilHeader(t *testing.T) {
	r := get(shed.WithCriticality(t.Context(), shed.Sheddable), t, "http://api.test/")
	r.Header = nil
	client := &shedhttp.Transport{Base: roundTrip(func(r *http.Request) (*http.Response, error) {
		if got := r.Header.Get("Stormjib-Criticality"); got != "sheddable" {
			t.Errorf("it is %q", got)
		}
		return answer(200)(r)
	})}
	resp, err := client.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if r.Header != nil {
		t.Errorf("the caller's request has become %v", r.Header)
	}
}

// Without a throttle, or with one for other requests, all pass; http.DefaultTransport sends
// them.
func TestTransportZero(t *testing.T) {
	for _, client := range []*shedhttp.Transport{{}, {Throttle: throttled(nil)}} {
		ctx, cancel := context.WithCancel(t.Context())
		r := get(ctx, t, "http://127.0.0.1:0/")
		err := send(client, r)
		if err == nil || !strings.Contains(err.Error(), "dial") {
			t.Errorf("got %v, want that of a dial", err)
		}
		cancel()
		client.CloseIdleConnections()
	}
	closed := 0
	(&shedhttp.Transport{Base: closing{func() { closed++ }}}).CloseIdleConnections()
	(&shedhttp.Transport{Base: answer(200)}).CloseIdleConnections()
	if closed != 1 {
		t.Errorf("closed %d times", closed)
	}
}

type closing struct{ closed func() }

func (closing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errBoom }
func (c closing) CloseIdleConnections()                         { c.closed() }

func TestTransportAllocations(t *testing.T) {
	th := throttle.New(throttle.Config{})
	resp := &http.Response{StatusCode: http.StatusOK}
	client := &shedhttp.Transport{
		Throttle: throttled(th),
		Base:     roundTrip(func(*http.Request) (*http.Response, error) { return resp, nil }),
	}
	r := get(t.Context(), t, "http://api.test/")
	if n := testing.AllocsPerRun(1000, func() { send(client, r) }); n != 0 {
		t.Errorf("%v allocations where there is nothing to say", n)
	}
	r = get(shed.WithCriticality(t.Context(), shed.Sheddable), t, "http://api.test/")
	if n := testing.AllocsPerRun(1000, func() { send(client, r) }); n > 5 {
		t.Errorf("%v allocations with a class", n)
	}
}
