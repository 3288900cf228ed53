// Package secondhttp has what it takes to send an HTTP request to a second server: what
// may be sent again, what came of the first, and what pays for it.
package secondhttp

import (
	"cmp"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/verdict"
)

// Purse is a budget for those who have none. It counts tenths of the tokens that are
// missing, of three, so the zero Purse is full.
type Purse struct{ missing atomic.Int32 }

const (
	purseToken = 10
	purseSize  = 3 * purseToken
)

// Take reports whether there is a token, and takes it.
func (p *Purse) Take() bool {
	for {
		n := p.missing.Load()
		if n+purseToken > purseSize {
			return false
		}
		if p.missing.CompareAndSwap(n, n+purseToken) {
			return true
		}
	}
}

// Success puts a tenth of a token in.
func (p *Purse) Success() {
	for {
		n := p.missing.Load()
		if n == 0 || p.missing.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// Idempotent reports whether the method of r is idempotent, or the request has a field
// that makes it so.
func Idempotent(r *http.Request) bool {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		http.MethodPut, http.MethodDelete, "QUERY":
		return true
	}
	_, key := r.Header["Idempotency-Key"]
	_, xKey := r.Header["X-Idempotency-Key"]
	return key || xKey
}

// Replayable reports whether the body of r, if there is one, can be had again.
func Replayable(r *http.Request) bool { return !hasContent(r) || r.GetBody != nil }

func hasContent(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

// NotSent reports whether err says that nothing of the request was sent.
func NotSent(err error) bool {
	if verdict.NotAttempted(err) {
		return true
	}
	// Not by errors.As, which would let one branch of a join answer for the others.
	for err != nil {
		if op, ok := err.(*net.OpError); ok { //nolint:errorlint // see above
			return op.Op == "dial"
		}
		err = errors.Unwrap(err)
	}
	return false
}

// Failed reports whether resp is a failure of its server: 502, 503 and 504 are, and what
// says that it is a refusal.
func Failed(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	refusal, ok := hop.ParseRefusal(resp.Header.Get(hop.RefusalField))
	return ok && refusal.Refused()
}

// To returns r for another host. It is a shallow copy, but for the URL.
func To(r *http.Request, host string) *http.Request {
	sent, u := *r, *r.URL
	sent.Host = cmp.Or(sent.Host, u.Host)
	u.Host = host
	sent.URL = &u
	return &sent
}

// Again is To for attempt n of those that are made of r here, which the server is told if
// it is not the first to be sent. It reports false if the body cannot be had again.
func Again(r *http.Request, host string, n int) (*http.Request, bool) {
	sent := To(r, host)
	if n > 1 {
		sent.Header = numbered(sent, n)
	}
	if hasContent(sent) {
		b, err := sent.GetBody()
		if err != nil {
			return nil, false
		}
		sent.Body = b
	}
	return sent, true
}

// numbered returns the header of r with the number of attempt n.
func numbered(r *http.Request, n int) http.Header {
	header := r.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	number := hop.Attempt(r.Context())
	if said, err := strconv.ParseUint(header.Get(hop.AttemptField), 10, 16); err == nil {
		number = int(said)
	}
	header.Set(hop.AttemptField, strconv.Itoa(number+n-1))
	return header
}

// How much of a response that nobody wants is read, and for how long, to keep its
// connection. A refusal fits, and comes along with its header.
const (
	drainBytes = 4 << 10
	drainTime  = 100 * time.Millisecond
)

// Discard is done with a response. Closing a body is what ends a read of it that hangs.
func Discard(resp *http.Response) {
	if resp.Body == nil {
		return
	}
	if resp.ContentLength <= drainBytes {
		hangs := time.AfterFunc(drainTime, func() { _ = resp.Body.Close() })
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, drainBytes))
		hangs.Stop()
	}
	_ = resp.Body.Close() // there is nobody to tell
}

// CloseBody closes the body of r. A RoundTripper does so in any case: the client does not.
func CloseBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // there is nobody to tell
	}
}
