// Package bulkheadhttp puts bulkheads around HTTP: a [Transport] for clients, and a
// [Middleware] for servers.
//
//	prices := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 20})
//	client := &http.Client{
//		Timeout: time.Second,
//		Transport: &bulkheadhttp.Transport{
//			Bulkhead: func(*http.Request) *bulkhead.Bulkhead { return prices },
//		},
//	}
//
// With a bulkhead for each host, or for each tenant, give it a group's Get:
//
//	hosts := bulkhead.NewGroup[string](bulkhead.GroupConfig{
//		Bulkhead: bulkhead.Config{MaxConcurrent: 20},
//	})
//	transport := &bulkheadhttp.Transport{
//		Bulkhead: func(r *http.Request) *bulkhead.Bulkhead { return hosts.Get(r.URL.Host) },
//	}
//
// In a client, put it below the breaker, which is spared its refusals, and around the
// timeout of the attempt, which need not pay for the wait. In a server, put it next to
// the handler: what is refused further out takes no slot. Leave out what answers probes
// of health, or a full server looks like a dead one.
//
// The MaxConnsPerHost of an http.Transport bounds connections, and lets requests wait for
// them without a bound; with HTTP/2 a hundred and more share one.
//
// # Algorithm
//
// A call holds its slot for as long as the other side has work with it. For a client
// that is until the response's body has been read to its end, or fails, or is closed;
// for a server until the handler returns. See package bulkhead for the rest.
//
// # Defaults
//
// There are none: which bulkhead a request belongs to is for you to say. A server's
// refusal is a 503 with a Retry-After, and says of itself that it is one, of this
// replica alone: a breakerhttp.Transport on the other side does not take it for a
// failure, and a retryhttp.Transport tries another replica at once, within its budget.
//
// # Failure modes
//
//   - A response whose body is neither closed nor read to its end holds its slot for
//     ever, as it holds its connection. A response without a body, such as one to HEAD,
//     holds nothing.
//   - An upgraded connection holds its slot until it is closed. On the server's side the
//     handler holds it: one that leaves the connection to another goroutine and returns
//     gives the slot back.
//   - A request whose context ends while it waits is not sent. http.Client's Timeout counts
//     the wait. The old Cancel channel of a request does not end it.
//   - A client that leaves while its request waits in a server is noticed at once where
//     the request has no body. Where it has one, net/http finds out when the body is
//     read: until then it waits, for MaxWait at most.
//   - A Base or a handler that panics, or ends its goroutine, gives back its slot.
//
// Stable: the API changes only with a major version.
package bulkheadhttp

import (
	"errors"
	"io"
	"net/http"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/internal/body"
)

// Transport is an [http.RoundTripper] with a bound on how many requests are under way at
// a time, their responses' bodies included. It is safe for concurrent use; set its fields
// before the first.
//
// If the bulkhead refuses, the error is a [*bulkhead.FullError], which http.Client wraps
// in a *url.Error. The request was not sent then, whatever its method.
type Transport struct {
	// Base sends the requests. If nil, http.DefaultTransport.
	Base http.RoundTripper

	// Bulkhead returns the bulkhead of a request. Where it returns nil, the request
	// passes without one. It is required.
	Bulkhead func(*http.Request) *bulkhead.Bulkhead
}

var errNoBulkhead = errors.New("bulkheadhttp: Transport.Bulkhead is nil")

// RoundTrip sends r when there is a slot for it.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.Bulkhead == nil {
		closeBody(r)
		return nil, errNoBulkhead
	}
	b := t.Bulkhead(r)
	if b == nil {
		return t.base().RoundTrip(r)
	}
	permit, err := b.Acquire(r.Context())
	if err != nil {
		closeBody(r)
		return nil, err
	}
	defer permit.Release() // unless a body holds it by then
	resp, err := t.base().RoundTrip(r)
	if err == nil && hasBody(resp, r) {
		upgraded := resp.StatusCode == http.StatusSwitchingProtocols
		resp.Body = hold(resp.Body, upgraded, permit)
		permit = bulkhead.Permit{}
	}
	return resp, err
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

// hold returns a body that has the permit, which its caller has no more.
func hold(b io.ReadCloser, upgraded bool, permit bulkhead.Permit) io.ReadCloser {
	return body.EndWith(b, upgraded, func() { permit.Release() })
}

// hasBody reports whether there is something to come after the header. A length of 0 is
// asked about for HTTP/2 alone, whose empty body is not http.NoBody: a Base of one's own
// may have left it out.
func hasBody(resp *http.Response, r *http.Request) bool {
	if resp == nil || resp.Body == nil || resp.Body == http.NoBody ||
		resp.ProtoMajor == 2 && resp.ContentLength == 0 {
		return false
	}
	return r.Method != http.MethodHead &&
		resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified
}

// A RoundTripper closes the body of its request in any case: the client does not.
func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // there is nobody to tell
	}
}
