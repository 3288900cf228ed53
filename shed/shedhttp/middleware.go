package shedhttp

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/problem"
	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/shed"
)

// Middleware sheds the requests that are too much for a handler, the least critical
// first.
//
// It allocates twice, for the copy of the request that the handler gets and for what goes
// with it, and four times more for a request that has a time.
//
// It is safe for concurrent use; set its fields before the first.
type Middleware struct {
	// Shedder returns the shedder of a request. Where it returns nil, the request passes
	// without one, and what it says of itself is still in its context. It is required.
	Shedder func(*http.Request) *shed.Shedder

	// Criticality returns the class of a request by what the server knows of it, such as
	// its route: that of those who say nothing, and the highest for those who are not
	// trusted. If nil, or for 0, it is that of the request's context, or shed.Critical.
	Criticality func(*http.Request) shed.Criticality

	// Tenant returns who is behind a request, as it was authenticated, or "" if that is
	// not known. One of more than 256 bytes is none. A request of those who are trusted
	// may say on whose behalf it is instead. If nil, it is the tenant of the request's
	// context, from stormjib.WithTenant.
	Tenant func(*http.Request) string

	// Trust reports whether all that a request says of itself is believed, a higher class
	// and a tenant included: whether it comes from another service of one's own, by what
	// its certificate says, or by a network where nobody else can be. A proxy is one only
	// if it removes what its clients have written into these fields. It is asked about
	// requests that say something. If nil, no request is trusted, since a header can come
	// from anybody.
	Trust func(*http.Request) bool

	// Bypass reports whether a request passes as if there were no Middleware. If nil,
	// [Bypass].
	Bypass func(*http.Request) bool

	// Classify tells what a response means for the shedder. The status is the final one.
	// If nil, [Classify].
	Classify func(r *http.Request, status int, header http.Header) shed.Outcome

	// Refuse answers a request that is not served. The error is an [*shed.OverloadError],
	// or one that matches what the request's context says, which ended while it waited,
	// or would have ended at once. If nil, [Refuse].
	Refuse func(http.ResponseWriter, *http.Request, error)
}

// Handler returns next behind the shedder. It panics if Shedder is nil.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	if m.Shedder == nil {
		panic("shedhttp: Middleware.Shedder is nil")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.bypass(r) {
			next.ServeHTTP(w, r)
			return
		}
		m.serve(w, r, next)
	})
}

func (m *Middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	said := m.read(r)
	ctx := r.Context()
	if said.timed {
		if said.left <= 0 {
			m.refuse(w, r, timeUp(ctx))
			return
		}
		if d, ok := ctx.Deadline(); !ok || time.Until(d) > said.left {
			timed, cancel := context.WithTimeout(ctx, said.left)
			defer cancel()
			ctx = timed
		}
	}
	x := &exchange{m: m, w: w, outside: r, hurried: !said.trusted}
	x.ctx = scope{ctx, x, said.Sender}
	if s := m.Shedder(r); s != nil {
		var err error
		if x.permit, err = s.Acquire(&x.ctx); err != nil {
			m.refuse(w, r, err)
			return
		}
	}
	x.r = r.WithContext(&x.ctx)
	defer x.end()
	next.ServeHTTP(x, x.r)
	x.returned = true
}

// timeUp returns the error for a request that came too late. Its context has not ended
// yet, and would have if it had been given the time that is left.
func timeUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 0)
	defer cancel()
	return ended.New(ctx, "shedhttp", true)
}

func (m *Middleware) bypass(r *http.Request) bool {
	if m.Bypass != nil {
		return m.Bypass(r)
	}
	return Bypass(r)
}

// Bypass is what a [Middleware] without a Bypass goes by. It reports true for a GET or
// HEAD of /livez, /readyz, /startupz, /healthz and /metrics, the paths that Kubernetes
// and Prometheus have made customary. To have others:
//
//	Bypass: func(r *http.Request) bool {
//		return shedhttp.Bypass(r) || r.URL.Path == "/-/ready"
//	}
//
// What passes is bounded by nothing, and anybody can ask for it. A server that has other
// things at these paths, such as a proxy, needs a Bypass of its own.
func Bypass(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	switch r.URL.Path {
	case "/livez", "/readyz", "/startupz", "/healthz", "/metrics":
		return true
	}
	return false
}

func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, err error) {
	// Where this Middleware is behind another, that one has had no load from the request,
	// and is not to take the refusal for that of something behind the server.
	StopClock(r.Context())
	if m.Refuse != nil {
		m.Refuse(w, r, err)
		return
	}
	Refuse(w, r, err)
}

// Refuse answers a request that is not served: with 503, or with 429 where its tenant has
// more than its share ([shed.OverloadError]). To that come a Retry-After of whole seconds,
// at least one, the field by which breakers, retries and throttles know a refusal of this
// replica, and a body of application/problem+json (RFC 9457). Why exactly it does not say:
// that is for logs, not for clients.
//
// A request whose time is up gets the same answer. Most often nobody reads it; but it may
// have been a deadline of the server's own, and to write nothing would be a 200.
func Refuse(w http.ResponseWriter, _ *http.Request, err error) {
	h := w.Header()
	h.Set("Retry-After", strconv.Itoa(seconds(verdict.RetryAfter(err))))
	h.Set(hop.RefusalField, hop.Refusal{Reason: hop.Shed, Scope: hop.Replica}.String())
	if e, ok := errors.AsType[*shed.OverloadError](err); ok && e.OverShare {
		problem.Write(w, http.StatusTooManyRequests,
			"This server has more to do than it can, and most of it for you. Try again later.")
		return
	}
	problem.Write(w, http.StatusServiceUnavailable,
		"This server has more to do than it can. Try again later.")
}

// seconds returns a number of them to stay away for, a minute at most. That it is not the
// same for all is up to the error, which asks for another delay each time.
func seconds(d time.Duration) int {
	return max(1, int(math.Ceil(min(d, time.Minute).Seconds())))
}

// Classify is what a [Middleware] without a Classify goes by. In this order:
//
//   - a status below 400 is OK, and so are 404, 409, 410 and 412: to find out took what
//     it takes to serve;
//   - a 503 that says that something behind this server sheds load (see the package's
//     documentation), or is of Envoy's overload manager, is Overloaded, since to send
//     less there is the better answer; and so is a 504, by which something behind it has
//     run out of time;
//   - all else is Ignored. A 400, 401 or 429 is most often given before any work is done,
//     and a 500 or 502 where none can be done. Were they OK, a server that fails, or has
//     much to turn down, would seem to be a fast one; were they Overloaded, one route
//     that is broken would have requests refused on all the others. So are a 503 that
//     says nothing, as in maintenance, and one of a bulkhead, a limiter or an open
//     breaker: it has bounded what it had to.
func Classify(_ *http.Request, status int, header http.Header) shed.Outcome {
	switch status {
	case http.StatusNotFound, http.StatusConflict, http.StatusGone,
		http.StatusPreconditionFailed:
		return shed.OK
	case http.StatusGatewayTimeout:
		return shed.Overloaded
	case http.StatusServiceUnavailable:
		if sheds(header) {
			return shed.Overloaded
		}
	}
	if status < http.StatusBadRequest {
		return shed.OK
	}
	return shed.Ignored
}

// sheds reports whether a response says that a server was overloaded.
func sheds(h http.Header) bool {
	if h.Get("X-Envoy-Overloaded") == "true" {
		return true
	}
	refusal, ok := hop.ParseRefusal(h.Get(hop.RefusalField))
	return ok && refusal.Reason == hop.Shed
}
