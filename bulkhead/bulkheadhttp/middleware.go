package bulkheadhttp

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/problem"
	"github.com/stormjib/stormjib/internal/verdict"
)

// Middleware bounds how many requests a handler has at a time: one that takes a lot of
// memory, or the part of a server that belongs to one tenant. It is no protection from
// too much load; see package bulkhead.
//
// The handler gets the request and the writer as they are, so that it can flush, hijack
// and whatever else the writer is able to.
//
// It is safe for concurrent use; set its fields before the first.
type Middleware struct {
	// Bulkhead returns the bulkhead of a request. Where it returns nil, the request
	// passes without one. It is required.
	Bulkhead func(*http.Request) *bulkhead.Bulkhead

	// Refuse answers a request that has got no slot. The error is a
	// [*bulkhead.FullError], or one that matches what the request's context says, which
	// ended while it waited. If nil, [Refuse].
	Refuse func(http.ResponseWriter, *http.Request, error)
}

// Handler returns next behind the bulkhead. It panics if Bulkhead is nil.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	if m.Bulkhead == nil {
		panic("bulkheadhttp: Middleware.Bulkhead is nil")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := m.Bulkhead(r)
		if b == nil {
			next.ServeHTTP(w, r)
			return
		}
		permit, err := b.Acquire(r.Context())
		if err != nil {
			m.refuse(w, r, err)
			return
		}
		defer permit.Release()
		next.ServeHTTP(w, r)
	})
}

func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if m.Refuse != nil {
		m.Refuse(w, r, err)
		return
	}
	Refuse(w, r, err)
}

// Refuse answers a request that has got no slot: 503, a Retry-After of whole seconds, at
// least one, the field by which breakers and retries know a refusal of this replica, and
// a body of application/problem+json (RFC 9457). Those that are refused together are
// sent away for up to a fifth longer than err asks for, so that they do not come back
// together. If err forbids a retry, as that of a call which is too heavy does, the
// answer forbids it too.
//
// A request whose context has ended gets the same answer. If its client has left, nobody
// reads it; if it was a deadline of the server's own that ended, the client is still
// there. To write nothing would be a 200 to both, and in the log.
func Refuse(w http.ResponseWriter, _ *http.Request, err error) {
	refusal := hop.Refusal{Reason: hop.Full, Scope: hop.Replica, NoRetry: !verdict.Retryable(err)}
	h := w.Header()
	h.Set(hop.RefusalField, refusal.String())
	if !refusal.NoRetry {
		h.Set("Retry-After", strconv.Itoa(seconds(verdict.RetryAfter(err))))
	}
	problem.Write(w, http.StatusServiceUnavailable,
		"This server has as many of these requests as it can serve. Try again later.")
}

// seconds returns a number of them to stay away for, at least d, but no more than a
// minute or a fifth more than that.
func seconds(d time.Duration) int {
	s := int(math.Ceil(min(d, time.Minute).Seconds()))
	return max(1, s+rand.IntN(s/5+1))
}
