package cellhttp

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/problem"
	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/shuffle/cell"
)

// Handler returns a reverse proxy to the cells, which answers by [Refuse] where t has no
// response. What a cell says of cells is not for clients, so a 421 that could not be
// helped is a 503 to them, and they can try again. It panics if Router is nil.
//
// For other rewrites, give the Transport to a httputil.ReverseProxy of one's own.
func (t *Transport) Handler() http.Handler {
	if t.Router == nil {
		panic(errNoRouter.Error())
	}
	return &httputil.ReverseProxy{
		Transport: t,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Host = r.In.Host
			r.SetXForwarded()
			r.Out.URL = &url.URL{ // the cell's address follows
				Scheme: "http", Host: "cell", Path: r.In.URL.Path, RawPath: r.In.URL.RawPath,
				RawQuery: r.In.URL.RawQuery, ForceQuery: r.In.URL.ForceQuery,
			}
		},
		ModifyResponse: func(resp *http.Response) error {
			epoch := resp.Header.Get(hop.EpochField)
			resp.Header.Del(hop.EpochField)
			resp.Header.Del(hop.CellField)
			if resp.StatusCode == http.StatusMisdirectedRequest && epoch != "" {
				return errMisdirected
			}
			return nil
		},
		ErrorHandler: Refuse,
	}
}

// errMisdirected is an answer of 421 for which there was no second try.
var errMisdirected error = &misdirectedError{}

type misdirectedError struct{}

func (*misdirectedError) Error() string        { return "cellhttp: the tenant has moved" }
func (*misdirectedError) Is(target error) bool { return target == cell.ErrPaused }

// Middleware serves in a replica what its gate lets in.
//
// It is safe for concurrent use; set its fields before the first.
type Middleware struct {
	// Gate is that of the replica. It is required.
	Gate *cell.Gate

	// Tenant returns whose request it is. If nil, it is what the edge has written into
	// its header field.
	Tenant func(*http.Request) string

	// Key returns what the Key of the edge's Transport does. If nil, it is the empty key.
	Key func(*http.Request) string

	// Write reports whether a request may change something, or must not be answered from
	// what has moved away. If nil, all do but GET, HEAD, OPTIONS, TRACE and QUERY.
	Write func(*http.Request) bool

	// Refuse answers a request that is not served. The error is that of [cell.Gate.Enter]
	// or [ErrNoTenant]. If nil, [Refuse].
	Refuse func(http.ResponseWriter, *http.Request, error)
}

// Handler returns next behind the gate. It panics if Gate is nil.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	if m.Gate == nil {
		panic("cellhttp: Middleware.Gate is nil")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, next) })
}

func (m *Middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	entered := false
	err := m.enter(r, func(r *http.Request) {
		entered = true
		next.ServeHTTP(w, r)
	})
	switch {
	case entered:
	case m.Refuse != nil:
		m.Refuse(w, r, err)
	default:
		Refuse(w, r, err)
	}
}

// enter calls serve if the request is let in. It leaves also when that panics.
func (m *Middleware) enter(r *http.Request, serve func(*http.Request)) error {
	req := cell.Request{Tenant: m.tenant(r), Write: m.write(r)}
	if req.Tenant == "" {
		return ErrNoTenant
	}
	if m.Key != nil {
		req.Key = m.Key(r)
	}
	req.Epoch, _ = hop.ParseEpoch(r.Header.Get(hop.EpochField))
	permit, err := m.Gate.Enter(req)
	if err != nil {
		return err
	}
	defer permit.Leave()
	if until, ok := permit.Deadline(); ok {
		ctx, cancel := context.WithDeadline(r.Context(), until)
		defer cancel()
		r = r.WithContext(ctx)
	}
	serve(r)
	return nil
}

func (m *Middleware) tenant(r *http.Request) string {
	if m.Tenant != nil {
		return hop.BoundTenant(m.Tenant(r))
	}
	tenant, _ := hop.ParseTenant(r.Header.Get(hop.TenantField))
	return tenant
}

func (m *Middleware) write(r *http.Request) bool {
	if m.Write != nil {
		return m.Write(r)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "QUERY":
		return false
	}
	return true
}

// Refuse answers a request that is not served, with a body of application/problem+json
// (RFC 9457): 421 and where the tenant is, for a [cell.MovedError]; 503 and a Retry-After
// of at least a second for a [cell.PausedError] and [cell.ErrNoSnapshot]; 400 for
// [ErrNoTenant]; and 502 for anything else, such as a cell that cannot be reached.
func Refuse(w http.ResponseWriter, _ *http.Request, err error) {
	h := w.Header()
	if moved, ok := errors.AsType[*cell.MovedError](err); ok {
		h.Set(hop.EpochField, hop.FormatEpoch(moved.Epoch))
		h.Set(hop.CellField, hop.FormatTenant(moved.Cell))
		refused(h, hop.Moved, hop.Replica)
		problem.Write(w, http.StatusMisdirectedRequest, "The tenant is elsewhere.")
		return
	}
	switch {
	case errors.Is(err, cell.ErrPaused), errors.Is(err, cell.ErrNoSnapshot):
		h.Set("Retry-After", strconv.Itoa(seconds(verdict.RetryAfter(err))))
		refused(h, hop.Paused, scopeOf(err))
		problem.Write(w, http.StatusServiceUnavailable, "Not at this moment. Try again later.")
	case errors.Is(err, ErrNoTenant):
		problem.Write(w, http.StatusBadRequest, "The request does not say whose it is.")
	default:
		problem.Write(w, http.StatusBadGateway, "There is no answer.")
	}
}

// refused marks a response as a refusal, by this replica alone if another may know better.
func refused(h http.Header, reason, scope string) {
	h.Set(hop.RefusalField, hop.Refusal{Reason: reason, Scope: scope}.String())
}

func seconds(d time.Duration) int {
	return max(1, int(math.Ceil(min(d, time.Minute).Seconds())))
}

// scopeOf tells what one replica can't do now from what none can: then there is no use in
// asking another one at once.
func scopeOf(err error) string {
	paused, ok := errors.AsType[*cell.PausedError](err)
	if ok && paused.Reason == "flipping" {
		return hop.Service
	}
	return hop.Replica
}
