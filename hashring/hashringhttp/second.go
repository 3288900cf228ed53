package hashringhttp

import (
	"net/http"

	"github.com/stormjib/stormjib/hashring"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/secondhttp"
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

// Idempotent is what a [Transport] without an Idempotent goes by: it reports whether the
// method is one of GET, HEAD, OPTIONS, TRACE, PUT, DELETE and QUERY, or the request has a
// field Idempotency-Key or X-Idempotency-Key.
func Idempotent(r *http.Request) bool { return secondhttp.Idempotent(r) }

// worthAnother reports whether what came of a request, a failure, may be other at another
// node, and whether the request may be sent there.
func (c *call) worthAnother(resp *http.Response, err error) bool {
	switch {
	case c.request.Context().Err() != nil, !secondhttp.Replayable(c.request):
		return false
	case err != nil:
		return resp == nil && secondhttp.NotSent(err) && verdict.Retryable(err)
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

// address returns where a node is.
func (c *call) address(n hashring.Node) string {
	if c.t.Address != nil {
		return c.t.Address(n)
	}
	return n.ID
}

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
