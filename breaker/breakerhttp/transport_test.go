package breakerhttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
)

var errBoom = errors.New("boom")

// roundTrip is a base of a Transport without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer returns a base that answers with a status and header fields, given as names
// and values in turn.
func answer(status int, fields ...string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		return response(r, status, fields...), nil
	}
}

func response(r *http.Request, status int, fields ...string) *http.Response {
	resp := &http.Response{
		StatusCode: status,
		Header:     http.Header{},
		Body:       io.NopCloser(strings.NewReader("body")),
		Request:    r,
	}
	for i := 0; i < len(fields); i += 2 {
		resp.Header.Set(fields[i], fields[i+1])
	}
	return resp
}

func fail(*http.Request) (*http.Response, error) { return nil, errBoom }

// counting returns a breaker that counts every outcome and does not open.
func counting() *breaker.Breaker {
	return breaker.New(breaker.Config{FailureRate: 1, MinCalls: 1e6})
}

// brittle returns a breaker that the first failure opens, for 8 to 10 seconds, and
// one success of a probe closes.
func brittle() *breaker.Breaker {
	return breaker.New(breaker.Config{
		Name: "prices", Consecutive: 1, OpenFor: 10 * time.Second, Probes: 1, RampUp: -1,
	})
}

// by returns what a Transport or a Middleware takes.
func by(b *breaker.Breaker) func(*http.Request) *breaker.Breaker {
	return func(*http.Request) *breaker.Breaker { return b }
}

// outcomes tells what a breaker has counted, such as "1 failed".
func outcomes(b *breaker.Breaker) string {
	s := b.Stats()
	var parts []string
	for _, part := range []struct {
		n    uint64
		what string
	}{
		{s.Total.Succeeded, "succeeded"},
		{s.Total.Failed, "failed"},
		{s.Ignored, "ignored"},
		{s.Refused, "refused"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprint(part.n, " ", part.what))
		}
	}
	return strings.Join(parts, ", ")
}

func wantOutcomes(t *testing.T, b *breaker.Breaker, want string) {
	t.Helper()
	if got := outcomes(b); got != want {
		t.Errorf("the breaker counted %q, want %q", got, want)
	}
}

func wantState(t *testing.T, b *breaker.Breaker, want breaker.State) {
	t.Helper()
	if got := b.State(); got != want {
		t.Errorf("the breaker is %v, want %v", got, want)
	}
}

func get(ctx context.Context, t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://prices.test/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// send sends a request and is done with the response.
func send(t *testing.T, rt http.RoundTripper) error {
	t.Helper()
	resp, err := rt.RoundTrip(get(t.Context(), t))
	if err == nil {
		resp.Body.Close()
	}
	return err
}

func toSuccess(*http.Response) breaker.Outcome { return breaker.Success }
func toFailure(*http.Response) breaker.Outcome { return breaker.Failure }
func toIgnored(*http.Response) breaker.Outcome { return breaker.Ignored }
func toNothing(*http.Response) breaker.Outcome { return 99 }

func TestTransportOutcome(t *testing.T) {
	tests := []struct {
		name      string
		transport breakerhttp.Transport
		want      string
	}{
		{"200", breakerhttp.Transport{Base: answer(200)}, "1 succeeded"},
		{"304", breakerhttp.Transport{Base: answer(304)}, "1 succeeded"},
		// A server that answers 404 works: a crawler of dead links must not
		// open it.
		{"404", breakerhttp.Transport{Base: answer(404)}, "1 succeeded"},
		{"499", breakerhttp.Transport{Base: answer(499)}, "1 succeeded"},
		{"501", breakerhttp.Transport{Base: answer(501)}, "1 succeeded"},
		{"transport error", breakerhttp.Transport{Base: roundTrip(fail)}, "1 failed"},
		{"502", breakerhttp.Transport{Base: answer(502)}, "1 failed"},
		{"503", breakerhttp.Transport{Base: answer(503)}, "1 failed"},
		{"504", breakerhttp.Transport{Base: answer(504)}, "1 failed"},

		// One request that a server has a bug for is not the server's end.
		{"500", breakerhttp.Transport{Base: answer(500)}, "1 succeeded"},
		{"500, counted", breakerhttp.Transport{Base: answer(500), Count500: true}, "1 failed"},
		{
			"Count500 counts no 501",
			breakerhttp.Transport{Base: answer(501), Count500: true},
			"1 succeeded",
		},
		{
			"Count500 leaves 503",
			breakerhttp.Transport{Base: answer(503), Count500: true},
			"1 failed",
		},

		// A server that sheds two thirds is well: counted as failures, its
		// refusals would take the last third too.
		{"429", breakerhttp.Transport{Base: answer(429)}, "1 ignored"},
		{"shed", breakerhttp.Transport{
			Base: answer(503, "Stormjib-Refusal", "shed;scope=replica"),
		}, "1 ignored"},
		{"refused by a breaker behind it", breakerhttp.Transport{
			Base: answer(503, "Stormjib-Refusal", "open;scope=service;retry=?0"),
		}, "1 ignored"},
		{"refused, by a later version", breakerhttp.Transport{
			Base: answer(503, "Stormjib-Refusal", "drain;scope=zone"),
		}, "1 ignored"},
		{"shed by Envoy", breakerhttp.Transport{
			Base: answer(503, "X-Envoy-Overloaded", "true"),
		}, "1 ignored"},
		{"not shed by Envoy", breakerhttp.Transport{
			Base: answer(503, "X-Envoy-Overloaded", "false"),
		}, "1 failed"},
		{"a refusal that is none", breakerhttp.Transport{
			Base: answer(503, "Stormjib-Refusal", "?!"),
		}, "1 failed"},
		{"an empty refusal", breakerhttp.Transport{
			Base: answer(503, "Stormjib-Refusal", ""),
		}, "1 failed"},
		// A gateway in front that cannot reach the server is not the server.
		{"502 with a refusal", breakerhttp.Transport{
			Base: answer(502, "Stormjib-Refusal", "shed"),
		}, "1 failed"},

		{"Classify: failure", breakerhttp.Transport{
			Base: answer(200), Classify: toFailure,
		}, "1 failed"},
		{"Classify: success", breakerhttp.Transport{
			Base: answer(503), Classify: toSuccess,
		}, "1 succeeded"},
		{"Classify: ignored", breakerhttp.Transport{
			Base: answer(200), Classify: toIgnored,
		}, "1 ignored"},
		{"Classify goes before Count500", breakerhttp.Transport{
			Base: answer(500), Classify: toSuccess, Count500: true,
		}, "1 succeeded"},
		{"Classify: none of the three", breakerhttp.Transport{
			Base: answer(200), Classify: toNothing,
		}, "1 failed"},
		{"Classify gets no errors", breakerhttp.Transport{
			Base: roundTrip(fail), Classify: toSuccess,
		}, "1 failed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := counting()
			test.transport.Breaker = by(b)
			send(t, &test.transport)
			wantOutcomes(t, b, test.want)
		})
	}
}

// Who ended a request says what it means: a deadline is how a dependency that hangs
// is seen, a caller that left says nothing of it.
func TestTransportContext(t *testing.T) {
	hang := roundTrip(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	tests := []struct {
		name string
		base roundTrip
		end  func(context.Context) (context.Context, context.CancelFunc)
		want string
	}{
		{"deadline", hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, "1 failed"},
		{"cancelled", hang, cancelAfter(time.Second), "1 ignored"},
		{"cancelled, and an error of another kind", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, errBoom
		}, cancelAfter(time.Second), "1 ignored"},
		{"cancelled, but answered", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return response(r, 200), nil
		}, cancelAfter(time.Second), "1 succeeded"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := test.end(t.Context())
				defer cancel()
				b := counting()
				transport := &breakerhttp.Transport{Base: test.base, Breaker: by(b)}
				if resp, err := transport.RoundTrip(get(ctx, t)); err == nil {
					resp.Body.Close()
				}
				wantOutcomes(t, b, test.want)
			})
		})
	}
}

func cancelAfter(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
	return func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(d, cancel)
		return ctx, cancel
	}
}

// Callers read error pages, and need the status of a 503 as it is.
func TestTransportReturnsResponseUntouched(t *testing.T) {
	for _, status := range []int{200, 429, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			var base *http.Response
			var before http.Response
			transport := &breakerhttp.Transport{
				Base: roundTrip(func(r *http.Request) (*http.Response, error) {
					base = response(r, status, "Retry-After", "1", "X-Other", "x")
					before = *base
					before.Header = base.Header.Clone()
					return base, nil
				}),
				Breaker: by(counting()),
			}
			got, err := transport.RoundTrip(get(t.Context(), t))
			if err != nil {
				t.Fatal(err)
			}
			defer got.Body.Close()
			if got != base || !reflect.DeepEqual(*got, before) {
				t.Errorf("the response is %+v, want %+v", got, before)
			}
			if text, err := io.ReadAll(got.Body); string(text) != "body" || err != nil {
				t.Errorf("the body reads %q, %v", text, err)
			}
		})
	}
	t.Run("error", func(t *testing.T) {
		transport := &breakerhttp.Transport{Base: roundTrip(fail), Breaker: by(counting())}
		if err := send(t, transport); any(err) != any(errBoom) {
			t.Errorf("the error is %#v", err)
		}
	})
}

// closeCounter is a request's body.
type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

// A RoundTripper has to close the body of a request that it does not send, for
// nobody else does: a pipe's writer would wait for ever.
func TestTransportClosesBody(t *testing.T) {
	open := brittle()
	open.ForceOpen()
	sent := func(r *http.Request) (*http.Response, error) {
		r.Body.Close()
		return response(r, 200), nil
	}
	tests := []struct {
		name      string
		transport breakerhttp.Transport
		err       string // "": none
	}{
		{
			"refused",
			breakerhttp.Transport{Base: roundTrip(sent), Breaker: by(open)},
			"breaker: prices: open",
		},
		{
			"without Breaker",
			breakerhttp.Transport{Base: roundTrip(sent)},
			"breakerhttp: Transport.Breaker is nil",
		},
		// These close it in Base, and once is enough.
		{"sent", breakerhttp.Transport{Base: roundTrip(sent), Breaker: by(counting())}, ""},
		{
			"sent without a breaker",
			breakerhttp.Transport{Base: roundTrip(sent), Breaker: by(nil)},
			"",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body := &closeCounter{Reader: strings.NewReader("request")}
			r, err := http.NewRequestWithContext(
				t.Context(), http.MethodPost, "http://prices.test/", body)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			resp, err := test.transport.RoundTrip(r)
			if err != nil {
				got = err.Error()
			} else {
				resp.Body.Close()
			}
			if got != test.err || body.closed != 1 {
				t.Errorf("the error is %q and the body closed %d times; want %q and once",
					got, body.closed, test.err)
			}
		})
	}
	t.Run("refused without a body", func(t *testing.T) {
		r := get(t.Context(), t)
		r.Body = nil
		resp, err := (&breakerhttp.Transport{Breaker: by(open)}).RoundTrip(r)
		if err == nil {
			resp.Body.Close()
			t.Error("the request was sent")
		}
	})
}

// A request belongs to its caller, who may send it again, or be sending it at the
// same time by way of another transport.
func TestTransportLeavesRequest(t *testing.T) {
	open := brittle()
	open.ForceOpen()
	for name, b := range map[string]*breaker.Breaker{
		"sent": counting(), "sent without a breaker": nil, "refused": open,
	} {
		t.Run(name, func(t *testing.T) {
			r := get(t.Context(), t)
			r.Header.Set("X-Own", "own")
			r.Trailer = http.Header{"X-Trailer": nil}
			before := r.Clone(r.Context())
			transport := &breakerhttp.Transport{
				Base: roundTrip(func(got *http.Request) (*http.Response, error) {
					if got != r {
						t.Error("the base gets another request than the caller's")
					}
					return response(got, 200), nil
				}),
				Breaker: by(b),
			}
			if resp, err := transport.RoundTrip(r); err == nil {
				resp.Body.Close()
			}
			if !reflect.DeepEqual(r, before) {
				t.Errorf("the request was %+v, and is %+v", before, r)
			}
		})
	}
}

// What a caller sees through http.Client, which wraps the refusal.
func TestTransportRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		b := brittle()
		client := &http.Client{Transport: &breakerhttp.Transport{
			Base: roundTrip(func(r *http.Request) (*http.Response, error) {
				sent++
				return response(r, 503), nil
			}),
			Breaker: by(b),
		}}
		resp, err := client.Do(get(t.Context(), t))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()

		resp, err = client.Do(get(t.Context(), t))
		if err == nil {
			resp.Body.Close()
		}
		var open *breaker.OpenError
		if !errors.Is(err, breaker.ErrOpen) || !errors.As(err, &open) || open.Name != "prices" {
			t.Errorf("the error is %v", err)
		}
		if !stormjib.NotAttempted(err) {
			t.Errorf("%v does not say that the request was not sent", err)
		}
		after := stormjib.RetryAfter(err)
		if after < 8*time.Second || after > 10*time.Second {
			t.Errorf("the error says to wait %v, want what is left of the open time", after)
		}
		if sent != 1 {
			t.Errorf("%d requests were sent, want 1", sent)
		}
		wantOutcomes(t, b, "1 failed, 1 refused")
	})
}

// A server says how long it needs. Without a bound, one that says a year takes its
// clients down for a year.
func TestTransportRetryAfter(t *testing.T) {
	const s = time.Second
	clock := func(d time.Duration) string { // in a bubble, where the clock stands
		return time.Now().UTC().Add(d).Format(http.TimeFormat)
	}
	text := func(value string) func() []string {
		return func() []string { return []string{"Retry-After", value} }
	}
	tests := []struct {
		name     string
		status   int
		fields   func() []string
		from, to time.Duration // of the open time; 0: the breaker stays closed
	}{
		{"none", 503, func() []string { return nil }, 8 * s, 10 * s},
		{"seconds", 503, text("30"), 30 * s, 30 * s},
		{"fewer than the breaker's own", 503, text("3"), 8 * s, 10 * s},
		{"zero", 503, text("0"), 8 * s, 10 * s},
		{"negative", 503, text("-30"), 8 * s, 10 * s},
		{"huge", 503, text("31536000"), 60 * s, 60 * s},
		{"more than there are", 503, text("99999999999999999999"), 60 * s, 60 * s},
		{"garbage", 503, text("in a while"), 8 * s, 10 * s},
		{"empty", 503, text(""), 8 * s, 10 * s},
		{"date", 503, func() []string {
			return []string{"Retry-After", clock(30 * s)}
		}, 30 * s, 30 * s},
		{"date, by a clock that is ahead", 503, func() []string {
			return []string{"Date", clock(time.Hour), "Retry-After", clock(time.Hour + 30*s)}
		}, 30 * s, 30 * s},
		{"date in the past", 503, func() []string {
			return []string{"Retry-After", clock(-30 * s)}
		}, 8 * s, 10 * s},
		{"date far away", 503, func() []string {
			return []string{"Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"}
		}, 60 * s, 60 * s},
		{"of another status", 502, text("30"), 30 * s, 30 * s},
		// About the caller, or a success: nothing that opens a breaker.
		{"of a 429", 429, text("30"), 0, 0},
		{"of a 301", 301, text("30"), 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brittle()
				if err := send(t, &breakerhttp.Transport{
					Base: answer(test.status, test.fields()...), Breaker: by(b),
				}); err != nil {
					t.Fatal(err)
				}
				open := time.Duration(0)
				if until := b.Stats().Until; !until.IsZero() {
					open = time.Until(until)
				}
				if open < test.from || open > test.to {
					t.Errorf("open for %v, want %v to %v", open, test.from, test.to)
				}
			})
		})
	}
}

// A call is over when the header is there: a download of an hour that a probe began
// must not keep the breaker half-open for it.
func TestTransportSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brittle()
		status := 503
		transport := &breakerhttp.Transport{
			Base: roundTrip(func(r *http.Request) (*http.Response, error) {
				resp := response(r, status)
				resp.Body, _ = io.Pipe() // nothing comes, and no end
				return resp, nil
			}),
			Breaker: by(b),
		}
		begin := func() {
			t.Helper()
			resp, err := transport.RoundTrip(get(t.Context(), t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { resp.Body.Close() })
		}
		begin()
		time.Sleep(10 * time.Second)
		wantState(t, b, breaker.HalfOpen)

		// There is one place. An ignored answer gives it back and proves nothing.
		status = 429
		begin()
		begin()
		wantState(t, b, breaker.HalfOpen)
		status = 200
		begin()
		wantState(t, b, breaker.Closed)
	})
}

// hanging returns a transport whose connections are accepted and never answered, and
// which has no network: a bubble's time stands still while a real one is waited for.
func hanging(t *testing.T) *http.Transport {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				io.Copy(io.Discard, server)
				server.Close()
			}()
			return client, nil
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// Behind nothing but http.Client.Timeout, as most code is, a dependency that hangs
// must open the breaker within seconds, whatever it did before.
func TestTransportHangingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{})
		hangs := false
		hang := hanging(t)
		client := &http.Client{
			Timeout: time.Second,
			Transport: &breakerhttp.Transport{
				Base: roundTrip(func(r *http.Request) (*http.Response, error) {
					if !hangs {
						return response(r, 200), nil
					}
					return hang.RoundTrip(r)
				}),
				Breaker: by(b),
			},
		}
		fetch := func() error {
			resp, err := client.Do(get(t.Context(), t))
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		for range 600 { // half a minute of good times
			if err := fetch(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}

		hangs = true
		start := time.Now()
		var callers sync.WaitGroup
		for range 5 {
			callers.Go(func() {
				for !errors.Is(fetch(), breaker.ErrOpen) {
					if time.Since(start) > time.Minute {
						t.Error("the breaker has not opened in a minute")
						return
					}
				}
			})
		}
		callers.Wait()
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("the breaker opened after %v", took)
		}
	})
}

// Users who close the page say nothing of the server, however many they are.
func TestTransportCallersThatCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{})
		client := &http.Client{
			Timeout:   10 * time.Second,
			Transport: &breakerhttp.Transport{Base: hanging(t), Breaker: by(b)},
		}
		for range 200 {
			ctx, cancel := cancelAfter(time.Second)(t.Context())
			resp, err := client.Do(get(ctx, t))
			if err == nil {
				resp.Body.Close()
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("the error is %v", err)
			}
			cancel()
		}
		wantOutcomes(t, b, "200 ignored")
		wantState(t, b, breaker.Closed)
	})
}

// With SlowCall set, a deadline that is shorter says more of the caller than of the
// server. An http.Client's Timeout is such a deadline.
func TestTransportHurriedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{SlowCall: 10 * time.Second})
		client := &http.Client{
			Timeout:   time.Second,
			Transport: &breakerhttp.Transport{Base: hanging(t), Breaker: by(b)},
		}
		for range 100 {
			resp, err := client.Do(get(t.Context(), t))
			if err == nil {
				resp.Body.Close()
			}
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Fatalf("the error is %v", err)
			}
		}
		wantOutcomes(t, b, "100 ignored")
	})
}

// A probe that does not return to its caller gives its place back all the same.
func TestTransportBaseThatDoesNotReturn(t *testing.T) {
	tests := []struct {
		name     string
		base     roundTrip
		classify func(*http.Response) breaker.Outcome
		want     any // what is recovered
	}{
		{"panics", func(*http.Request) (*http.Response, error) { panic("boom") }, nil, "boom"},
		{"exits its goroutine", func(*http.Request) (*http.Response, error) {
			runtime.Goexit()
			return nil, nil
		}, nil, nil},
		{
			"Classify panics", answer(200),
			func(*http.Response) breaker.Outcome { panic("boom") }, "boom",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := brittle()
				transport := &breakerhttp.Transport{Base: roundTrip(fail), Breaker: by(b)}
				send(t, transport)
				time.Sleep(10 * time.Second)
				wantState(t, b, breaker.HalfOpen)

				transport.Base, transport.Classify = test.base, test.classify
				var recovered any
				exited := make(chan struct{})
				go func() {
					defer close(exited)
					defer func() { recovered = recover() }()
					send(t, transport)
				}()
				<-exited
				if recovered != test.want {
					t.Errorf("recovered %v, want %v", recovered, test.want)
				}
				wantState(t, b, breaker.Open)
				wantOutcomes(t, b, "2 failed")

				time.Sleep(20 * time.Second) // the open time has grown
				transport.Base, transport.Classify = answer(200), nil
				if err := send(t, transport); err != nil {
					t.Errorf("the next probe: %v", err)
				}
				wantState(t, b, breaker.Closed)
			})
		})
	}
}

// idler is a base that has connections to close.
type idler struct {
	roundTrip
	closed int
}

func (i *idler) CloseIdleConnections() { i.closed++ }

func TestTransportCloseIdleConnections(t *testing.T) {
	base := &idler{}
	client := &http.Client{Transport: &breakerhttp.Transport{Base: base}}
	client.CloseIdleConnections()
	if base.closed != 1 {
		t.Errorf("the base was told %d times, want once", base.closed)
	}
	client.Transport = &breakerhttp.Transport{Base: answer(200)}
	client.CloseIdleConnections() // and nothing happens
}

// Without a Base, http.DefaultTransport sends.
func TestTransportDefaultBase(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	b := counting()
	client := &http.Client{Transport: &breakerhttp.Transport{Breaker: by(b)}}
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	wantOutcomes(t, b, "1 succeeded")
}

// A WebSocket client writes to the body of the response to its upgrade, and must
// find an io.Writer in it.
func TestTransportUpgrade(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n" +
			"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		line, _ := rw.ReadString('\n')
		rw.WriteString("echo " + line)
		rw.Flush()
	}))
	defer server.Close()
	b := counting()
	client := &http.Client{Transport: &breakerhttp.Transport{
		Base: server.Client().Transport, Breaker: by(b),
	}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "echo")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	wantOutcomes(t, b, "1 succeeded") // while the connection goes on
	body, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("the body of the %d is a %T: it cannot be written to",
			resp.StatusCode, resp.Body)
	}
	if _, err := io.WriteString(body, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(body).ReadString('\n'); line != "echo hello\n" {
		t.Errorf("read %q, %v", line, err)
	}
}

// One Transport serves a whole program.
func TestTransportConcurrently(t *testing.T) {
	b := counting()
	transport := &breakerhttp.Transport{
		Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			switch r.Header.Get("X-Want") {
			case "503":
				return response(r, 503, "Retry-After", "1"), nil
			case "error":
				return nil, errBoom
			}
			return response(r, 200), nil
		}),
		Breaker: by(b),
	}
	var wg sync.WaitGroup
	for _, want := range []string{"200", "503", "error", "200", "503", "error"} {
		wg.Go(func() {
			for range 100 {
				r := get(t.Context(), t)
				r.Header.Set("X-Want", want)
				resp, err := transport.RoundTrip(r)
				got := "error"
				if err == nil {
					got = fmt.Sprint(resp.StatusCode)
					resp.Body.Close()
				}
				if got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
	wg.Wait()
	wantOutcomes(t, b, "200 succeeded, 400 failed")
}

func TestStatusError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got error
		b := breaker.New(breaker.Config{
			Classify: func(_ context.Context, err error) breaker.Outcome {
				got = err
				return breaker.Failure
			},
		})
		err := send(t, &breakerhttp.Transport{
			Base: answer(503, "Retry-After", "30"), Breaker: by(b),
		})
		if err != nil {
			t.Fatal(err)
		}
		var status *breakerhttp.StatusError
		if !errors.As(got, &status) || status.StatusCode != http.StatusServiceUnavailable ||
			status.RetryAfter() != 30*time.Second {
			t.Errorf("Classify got %#v", got)
		}
		if want := "breakerhttp: status 503 Service Unavailable"; got.Error() != want {
			t.Errorf("the error is %q, want %q", got, want)
		}
		if stormjib.NotAttempted(got) || stormjib.RetryAfter(got) != 30*time.Second {
			t.Errorf("%v says the wrong things about itself", got)
		}
	})
}

// A gateway's clients must not be able to open its breakers with bodies of their own
// that cannot be read.
func TestTransportBrokenRequestBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	b := breaker.New(breaker.Config{Consecutive: 1})
	client := &http.Client{Transport: &breakerhttp.Transport{
		Base:    server.Client().Transport,
		Breaker: func(*http.Request) *breaker.Breaker { return b },
	}}
	for range 3 {
		body := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("cut off")))
		resp, err := client.Post(server.URL, "text/plain", body)
		if err == nil {
			_ = resp.Body.Close()
			t.Fatal("a broken body was sent")
		}
	}
	if s := b.Stats(); s.State != breaker.Closed || s.Ignored != 3 {
		t.Errorf("%+v", s)
	}
	resp, err := client.Post(server.URL, "text/plain", strings.NewReader("whole"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := b.Stats().Total.Succeeded; got != 1 {
		t.Errorf("%d successes", got)
	}
}

type baseFunc func(*http.Request) (*http.Response, error)

func (f baseFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// afterClose is a body that cannot be read any more when it is closed, as files can't.
type afterClose struct{ closed bool }

func (b *afterClose) Close() error { b.closed = true; return nil }

func (b *afterClose) Read([]byte) (int, error) {
	if b.closed {
		return 0, errors.New("closed")
	}
	return 0, io.EOF
}

// A transport that gives up closes the body, and may be reading it at that moment. What
// it reads then is not why it gave up.
func TestTransportBodyReadAfterClose(t *testing.T) {
	b := breaker.New(breaker.Config{Consecutive: 1})
	transport := &breakerhttp.Transport{
		Breaker: func(*http.Request) *breaker.Breaker { return b },
		Base: baseFunc(func(r *http.Request) (*http.Response, error) {
			_ = r.Body.Close()
			_, _ = r.Body.Read(nil)
			return nil, errBoom
		}),
	}
	r := httptest.NewRequest(http.MethodPost, "http://x/", &afterClose{})
	resp, err := transport.RoundTrip(r) //nolint:bodyclose // there is none
	if resp != nil || err != errBoom || b.State() != breaker.Open {
		t.Errorf("%v, %v, %v", resp, err, b.State())
	}
}

// The response belongs to the request that the caller sent, not to a copy of it.
func TestTransportResponsesRequest(t *testing.T) {
	b := breaker.New(breaker.Config{})
	transport := &breakerhttp.Transport{
		Breaker: func(*http.Request) *breaker.Breaker { return b },
		Base: baseFunc(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
		}),
	}
	r := httptest.NewRequest(http.MethodPost, "http://x/", strings.NewReader("x"))
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.Request != r {
		t.Error("the response has a request of its own")
	}
}
