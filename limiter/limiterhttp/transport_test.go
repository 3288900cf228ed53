package limiterhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
)

// tripper is a RoundTripper that is a function.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answered returns a RoundTripper that has a handler answer.
func answered(h http.Handler) tripper {
	return func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			defer r.Body.Close()
		}
		resp := serve(h, r).Result()
		resp.Request = r
		return resp, nil
	}
}

// send returns the status of the answer, and the answer's request.
func send(t http.RoundTripper, r *http.Request) (status int, of *http.Request, err error) {
	resp, err := t.RoundTrip(r)
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, resp.Request, resp.Body.Close()
}

// do returns the error of a client.
func do(client *http.Client, r *http.Request) error {
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// body is a request's body that knows whether it was closed.
type body struct {
	io.Reader
	closed int
}

func (b *body) Close() error { b.closed++; return nil }

func newBody() *body { return &body{Reader: strings.NewReader("text")} }

func post(ctx context.Context, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://partner.example/", body)
	if err != nil {
		panic(err)
	}
	return r
}

func one(l *limiter.Limiter) func(*http.Request) *limiter.Limiter {
	return func(*http.Request) *limiter.Limiter { return l }
}

func TestTransportRefuses(t *testing.T) {
	l := limiter.New(limiter.Config{Name: "partner", Limit: limiter.Limit{Rate: 1e-3, Burst: 1}})
	sent := 0
	transport := &limiterhttp.Transport{Limiter: one(l), Base: tripper(
		func(r *http.Request) (*http.Response, error) { sent++; return answered(ok)(r) })}

	first := newBody()
	r := post(t.Context(), first)
	status, of, err := send(transport, r)
	if err != nil || status != http.StatusOK || of != r || first.closed != 1 {
		t.Fatalf("%d, %v; body closed %d times", status, err, first.closed)
	}
	second := newBody()
	_, _, err = send(transport, post(t.Context(), second))
	limited, is := err.(*limiter.LimitedError)
	if !is || limited.Name != "partner" || limited.RetryAfter() <= 0 {
		t.Error(err)
	}
	if sent != 1 || second.closed != 1 {
		t.Errorf("%d sent, body closed %d times", sent, second.closed)
	}
	_, _, err = send(transport, post(t.Context(), nil)) // and there is no body to close
	if !errors.Is(err, limiter.ErrLimited) {
		t.Error(err)
	}

	var wrapped *url.Error
	err = do(&http.Client{Transport: transport}, post(t.Context(), nil))
	if !errors.As(err, &wrapped) || !errors.Is(wrapped.Err, limiter.ErrLimited) {
		t.Errorf("http.Client returns %v", err)
	}
	if _, is := wrapped.Err.(*limiter.LimitedError); !is {
		t.Errorf("in that of http.Client is %#v", wrapped.Err)
	}
}

func TestTransportWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1, Burst: 1}, MaxQueue: 1})
		transport := &limiterhttp.Transport{Limiter: one(l), Base: answered(ok)}
		begin := time.Now()
		for want := range 3 {
			if _, _, err := send(transport, post(t.Context(), newBody())); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(begin); got != time.Duration(want)*time.Second {
				t.Errorf("request %d after %v", want, got)
			}
		}
	})
}

func TestTransportWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 0.1, Burst: 1}, MaxQueue: 1})
		l.Allow()
		transport := &limiterhttp.Transport{Limiter: one(l), Base: tripper(
			func(*http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF })}
		cause := errors.New("the user has left")
		begin := time.Now()

		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		b := newBody()
		_, _, err := send(transport, post(ctx, b))
		if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) || b.closed != 1 {
			t.Errorf("%v; body closed %d times", err, b.closed)
		}
		if got := time.Since(begin); got != time.Second {
			t.Errorf("after %v, want when its context ended", got)
		}

		// Who would wait in vain does not wait at all.
		client := &http.Client{Transport: transport, Timeout: 8 * time.Second}
		b = newBody()
		err = do(client, post(t.Context(), b))
		limited, is := errors.AsType[*limiter.LimitedError](err)
		if !is || limited.Reason != limiter.DeadlineTooShort ||
			!errors.Is(err, context.DeadlineExceeded) || b.closed != 1 {
			t.Errorf("%v; body closed %d times", err, b.closed)
		}
		if got := time.Since(begin); got != time.Second {
			t.Errorf("after %v, want at once", got-time.Second)
		}
	})
}

func TestTransportPassesThrough(t *testing.T) {
	r := post(t.Context(), newBody())
	var got *http.Request
	boom := errors.New("boom")
	base := tripper(func(r *http.Request) (*http.Response, error) { got = r; return nil, boom })
	transport := &limiterhttp.Transport{Base: base, Limiter: one(nil)}
	if _, _, err := send(transport, r); err != boom || got != r {
		t.Errorf("%v; %p was sent, want %p", err, got, r)
	}
	got = nil
	transport.Limiter = one(limiter.New(limiter.Config{Limit: tenASecond}))
	if _, _, err := send(transport, r); err != boom || got != r {
		t.Errorf("%v; %p was sent, want %p", err, got, r)
	}
}

func TestTransportWithoutLimiter(t *testing.T) {
	b := newBody()
	_, _, err := send(&limiterhttp.Transport{}, post(t.Context(), b))
	if err == nil || err.Error() != "limiterhttp: Transport.Limiter is nil" || b.closed != 1 {
		t.Errorf("%v; body closed %d times", err, b.closed)
	}
}

// idler is a RoundTripper whose idle connections can be closed.
type idler struct {
	tripper
	closed int
}

func (i *idler) CloseIdleConnections() { i.closed++ }

func TestTransportBase(t *testing.T) {
	base := &idler{}
	client := &http.Client{Transport: &limiterhttp.Transport{Base: base}}
	client.CloseIdleConnections()
	if base.closed != 1 {
		t.Errorf("closed %d times", base.closed)
	}
	client.Transport = &limiterhttp.Transport{Base: answered(ok)}
	client.CloseIdleConnections() // there is nothing to call

	server := httptest.NewServer(ok)
	defer server.Close()
	client.Transport = &limiterhttp.Transport{Limiter: one(nil)}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	if err := do(client, r); err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
}

// A token is all that it costs.
func TestTransportAllocations(t *testing.T) {
	open := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1e9, Burst: 1e9}})
	shut := limiter.New(limiter.Config{})
	r := post(t.Context(), nil)
	base := tripper(func(*http.Request) (*http.Response, error) { return nil, io.EOF })
	for _, l := range []*limiter.Limiter{open, shut} {
		transport := &limiterhttp.Transport{Base: base, Limiter: one(l)}
		if got := testing.AllocsPerRun(100, func() { send(transport, r) }); got != 0 {
			t.Errorf("%v: %v allocations", l.Stats().Limit, got)
		}
	}
}
