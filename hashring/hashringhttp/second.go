package hashringhttp

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/hashring"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/verdict"
)

// Budget bounds how many requests go to a second node, by how many need not. When all
// nodes refuse, to ask two of them for each request would double their load.
//
// The *Budget of package retry is one. It is used from any number of goroutines.
type Budget interface {
	// Take reports whether there is a token for a second node, and takes it.
	Take() bool

	// Success is called for each request that succeeds at its first node.
	Success()
}

// purse is the Budget of a Transport without one. It counts tenths of the tokens that are
// missing, so the zero purse is full.
type purse struct{ missing atomic.Int32 }

const (
	purseToken = 10
	purseSize  = 3 * purseToken
)

func (p *purse) Take() bool {
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

func (p *purse) Success() {
	for {
		n := p.missing.Load()
		if n == 0 || p.missing.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// Idempotent is what a [Transport] without an Idempotent goes by: it reports whether the
// method is one of GET, HEAD, OPTIONS, TRACE, PUT, DELETE and QUERY, or the request has a
// field Idempotency-Key or X-Idempotency-Key.
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

// worthAnother reports whether what came of a request, a failure, may be other at another
// node, and whether the request may be sent there.
func (c *call) worthAnother(resp *http.Response, err error) bool {
	switch {
	case c.request.Context().Err() != nil, hasContent(c.request) && c.request.GetBody == nil:
		return false
	case err != nil:
		return resp == nil && notSent(err) && verdict.Retryable(err)
	case resp == nil:
		return false
	}
	refusal, ok := hop.ParseRefusal(resp.Header.Get(hop.RefusalField))
	return ok && refusal.Refused() && !refusal.NoRetry && refusal.Scope == hop.Replica &&
		c.idempotent()
}

func (c *call) idempotent() bool {
	if c.t.Idempotent != nil {
		return c.t.Idempotent(c.request)
	}
	return Idempotent(c.request)
}

// notSent reports whether err says that nothing of the request was sent.
func notSent(err error) bool {
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

// again returns the request for a second node, which is told that it is not the first. It
// reports false if the body cannot be had again.
func (c *call) again(n hashring.Node) (*http.Request, bool) {
	sent := c.to(n)
	sent.Header = sent.Header.Clone()
	if sent.Header == nil {
		sent.Header = make(http.Header)
	}
	number := hop.Attempt(sent.Context())
	if said, err := strconv.ParseUint(sent.Header.Get(hop.AttemptField), 10, 16); err == nil {
		number = int(said)
	}
	sent.Header.Set(hop.AttemptField, strconv.Itoa(number+1))
	if hasContent(sent) {
		b, err := sent.GetBody()
		if err != nil {
			return nil, false
		}
		sent.Body = b
	}
	return sent, true
}

// How much of a response that nobody wants is read, and for how long, to keep its
// connection. A refusal fits, and comes along with its header.
const (
	drainBytes = 4 << 10
	drainTime  = 100 * time.Millisecond
)

// discard is done with a response. Closing a body is what ends a read of it that hangs.
func discard(resp *http.Response) {
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

// A RoundTripper closes the body of its request in any case: the client does not.
func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // there is nobody to tell
	}
}

func hasContent(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

// hasBody reports whether there is something to come after the header. A length of 0 is
// asked about for HTTP/2 alone, whose empty body is not http.NoBody: a Base of one's own
// may have left it out.
func hasBody(resp *http.Response, r *http.Request) bool {
	if resp.Body == nil || resp.Body == http.NoBody ||
		resp.ProtoMajor == 2 && resp.ContentLength == 0 {
		return false
	}
	return r.Method != http.MethodHead &&
		resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified
}
