package limiterhttp

import (
	"errors"
	"net/http"

	"github.com/stormjib/stormjib/limiter"
)

// Transport is an [http.RoundTripper] that takes a token for each request before it sends
// it, redirects and retries included. Whether it waits for one, and behind how many
// others, is for the limiter's MaxQueue to say. It is safe for concurrent use; set its
// fields before the first.
//
// If there is no token, or none before the request's deadline, the error is a
// [*limiter.LimitedError], which http.Client wraps in a *url.Error. The Timeout of
// http.Client is such a deadline.
//
// It keeps to a limit that is known beforehand. A 429 does not change it: a
// transport that retries, around this one, waits for as long as that asks for.
type Transport struct {
	// Base sends the requests. If nil, http.DefaultTransport.
	Base http.RoundTripper

	// Limiter returns the limiter of a request. Where it returns nil, the request passes
	// without one. It is required.
	Limiter func(*http.Request) *limiter.Limiter
}

var errNoLimiter = errors.New("limiterhttp: Transport.Limiter is nil")

// RoundTrip sends r when it has a token.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.Limiter == nil {
		closeBody(r)
		return nil, errNoLimiter
	}
	if l := t.Limiter(r); l != nil {
		if err := l.Wait(r.Context(), 1); err != nil {
			closeBody(r)
			return nil, err
		}
	}
	return t.base().RoundTrip(r)
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

// A RoundTripper closes the body of its request in any case: the client does not.
func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // there is nobody to tell
	}
}
