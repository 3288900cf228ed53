// Package breakerhttp puts circuit breakers around HTTP: a [Transport] for clients,
// and a [Middleware] for the rare server that needs one.
//
//	prices := breaker.New(breaker.Config{Name: "prices"})
//	client := &http.Client{
//		Timeout: time.Second,
//		Transport: &breakerhttp.Transport{
//			Breaker: func(*http.Request) *breaker.Breaker { return prices },
//		},
//	}
//
// With a breaker for each host, give it a group's Get:
//
//	hosts := breaker.NewGroup[string](breaker.GroupConfig{})
//	transport := &breakerhttp.Transport{
//		Breaker: func(r *http.Request) *breaker.Breaker { return hosts.Get(r.URL.Host) },
//	}
//
// # Algorithm
//
// A call begins with the request and ends with the response's header, so a slow
// body does not hold the breaker. See package breaker for the rest.
//
// # Defaults
//
// What fails: an error of the transport, 502, 503 and 504. A 500 is most often an
// answer to one request, not the state of the server; Count500 counts it. What is
// ignored: 429, which is about the caller; and a 503 that says that it is a refusal,
// as those of servers with this module's packages and of Envoy's overload manager do. A
// server at three times its load that sheds two thirds is well, and a breaker that
// took that for failure would cost it the last third. Everything else succeeds: a
// server that answers 404 works.
//
// # Failure modes
//
// A request whose context was cancelled is ignored, one that ran into a deadline has
// failed, http.Client's Timeout included. A request cancelled by its old Cancel
// channel looks like a failed one. A request whose own body cannot be read says nothing
// of the server, and is ignored: else a gateway's clients could open its breakers by
// sending broken bodies. To a Middleware that is not known, so there they can: in a
// gateway, use the Transport. An upgraded connection counts when it is upgraded.
//
// Stable: the API changes only with a major version.
package breakerhttp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/internal/hop"
)

// Transport is an [http.RoundTripper] that asks a breaker before each request. It is
// safe for concurrent use; set its fields before the first.
//
// A response is returned as it is, whatever its status. If the breaker refuses, the
// error is a [*breaker.OpenError], which http.Client wraps in a *url.Error.
type Transport struct {
	// Base sends the requests. If nil, http.DefaultTransport.
	Base http.RoundTripper

	// Breaker returns the breaker of a request. Where it returns nil, the request
	// passes without one. It is required.
	Breaker func(*http.Request) *breaker.Breaker

	// Count500 makes a 500 a failure. If zero, a 500 is a success.
	Count500 bool

	// Classify tells what a response means for the breaker. If nil, [Classify], with
	// Count500.
	Classify func(*http.Response) breaker.Outcome
}

var errNoBreaker = errors.New("breakerhttp: Transport.Breaker is nil")

// RoundTrip sends r by way of its breaker.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.Breaker == nil {
		closeBody(r)
		return nil, errNoBreaker
	}
	b := t.Breaker(r)
	if b == nil {
		return t.base().RoundTrip(r)
	}
	permit, err := b.Allow()
	if err != nil {
		closeBody(r)
		return nil, err
	}
	defer permit.Record(breaker.Failure) // of a panic; otherwise finished by then
	sent, body := watchBody(r)
	resp, err := t.base().RoundTrip(sent)
	if resp != nil && resp.Request == sent {
		resp.Request = r
	}
	if err != nil {
		if body != nil && body.failed.Load() {
			permit.Record(breaker.Ignored)
		}
		permit.Done(r.Context(), err)
		return resp, err
	}
	switch outcome := t.classify(resp); outcome {
	case breaker.Success, breaker.Ignored:
		permit.Record(outcome)
	default:
		permit.Done(r.Context(), newStatusError(resp))
	}
	return resp, nil
}

// CloseIdleConnections closes those of Base, if it can.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

func (t *Transport) classify(resp *http.Response) breaker.Outcome {
	if t.Classify != nil {
		return t.Classify(resp)
	}
	if t.Count500 && resp.StatusCode == http.StatusInternalServerError {
		return breaker.Failure
	}
	return Classify(resp)
}

// A RoundTripper closes the body of its request in any case: the client does not.
func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // there is nobody to tell
	}
}

// watchBody returns r, or if it has a body a shallow copy with one that notes whether
// it could be read.
func watchBody(r *http.Request) (*http.Request, *watchedBody) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, nil
	}
	sent := *r
	body := &watchedBody{ReadCloser: r.Body}
	sent.Body = body
	return &sent, body
}

type watchedBody struct {
	io.ReadCloser
	closed, failed atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	// What is read after Close fails for that: the transport has given up already.
	if err != nil && err != io.EOF && !b.closed.Load() {
		b.failed.Store(true)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

// Classify is what a [Transport] without a Classify goes by: see Defaults in the
// package's documentation. It reads the status and header alone.
func Classify(resp *http.Response) breaker.Outcome {
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return breaker.Ignored
	case http.StatusServiceUnavailable:
		if refused(resp.Header) {
			return breaker.Ignored
		}
		return breaker.Failure
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return breaker.Failure
	}
	return breaker.Success
}

// refused reports whether a response says that it is a refusal.
func refused(h http.Header) bool {
	if h.Get("X-Envoy-Overloaded") == "true" {
		return true
	}
	r, ok := hop.ParseRefusal(h.Get(hop.RefusalField))
	return ok && r.Refused()
}

// StatusError stands for a response that counts as a failure where a breaker's
// Classify asks for an error. No caller of [Transport] gets it: callers get the
// response.
type StatusError struct {
	StatusCode int // 502, 503, 504, or what Classify takes for a failure
	after      time.Duration
}

func newStatusError(resp *http.Response) *StatusError {
	e := &StatusError{StatusCode: resp.StatusCode}
	if value := resp.Header.Get("Retry-After"); value != "" {
		e.after, _ = hop.ParseRetryAfter(value, resp.Header.Get("Date"), time.Now())
	}
	return e
}

// Error names the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("breakerhttp: status %d %s", e.StatusCode, http.StatusText(e.StatusCode))
}

// RetryAfter returns what the response's Retry-After field asks for, as seconds or as
// a date, or 0. The breaker bounds it by MaxOpenFor.
func (e *StatusError) RetryAfter() time.Duration { return e.after }
