// Package cellhttp brings cells to HTTP: a [Transport], and the reverse proxy that
// [Transport.Handler] makes of it, for an edge; and a [Middleware] for the replicas of a
// cell.
//
//	router := cell.New(cell.Config{Source: pull, Path: "/var/lib/edge/cells"})
//	go router.Run(ctx)
//	edge := &cellhttp.Transport{Router: router}
//	http.ListenAndServe(":80", authenticate(edge.Handler()))
//
// and behind it
//
//	gate := cell.NewGate(cell.GateConfig{Cell: "cell-3", Router: router})
//	inside := &cellhttp.Middleware{Gate: gate}
//	http.ListenAndServe(":8080", inside.Handler(mux))
//
// Use them together: without the gate a request that was late on its way is served where
// the tenant has been. Do not put anything between them that answers from a cache or sends
// requests again by itself.
//
// # Algorithm
//
// The edge replaces the host of a request's URL by the address of the tenant's cell, and
// says in header fields for which tenant and by which epoch it does so. A cell that no
// longer has the tenant answers 421 (Misdirected Request), the one status by which a server
// says that it has done nothing at all, with the current cell and epoch. Then the edge
// asks its router for a pull, and sends the request again, once and without waiting: where
// the answer said, or where the router says by now if that is later. It need not be
// believed, since the gate there looks at the epoch as well.
//
// # Defaults
//
// The tenant is that of the request's context, from stormjib.WithTenant, at the edge, and
// that of the edge's header field in a cell. What writes is all but GET, HEAD, OPTIONS,
// TRACE and QUERY. A body of up to 64 KiB whose length is known is kept at the edge so that
// it can be sent again; a larger one, or one without a length, is not, unless the request
// has a GetBody.
//
// # Failure modes
//
//   - Without a tenant or a map, a request is refused: 400 and 503. There is no default.
//   - A cell that cannot be reached is an error, and 502 from the Handler. To send the
//     request to another cell would be to a place without its data.
//   - While a tenant changes cells its writes are refused, with 503 and a Retry-After: see
//     package retry for who should try again.
//   - A write under a lease has its context end with the lease. What a handler does after
//     that may be done by another cell as well.
//   - A handler that hijacks its connection is under way until it returns, and not longer.
//   - A cell that anybody can reach believes anybody: the header fields are for edges.
//
// Stable: the API changes only with a major version.
package cellhttp

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shuffle/cell"
)

// ErrNoTenant is what a request without a tenant is refused with.
var ErrNoTenant = errors.New("cellhttp: the request has no tenant")

// Transport is an [http.RoundTripper] that sends a request to the cell of its tenant. Use
// it by pointer, from any number of goroutines; set its fields before the first use.
//
// A response is returned as it is, whatever its status, but for the first 421 of a request
// that can be sent again. Without a tenant or a map the error matches [ErrNoTenant] or
// [cell.ErrNoSnapshot], and http.Client wraps it in a *url.Error.
type Transport struct {
	// Base sends the requests. If nil, http.DefaultTransport.
	Base http.RoundTripper

	// Router has the map. It is required.
	Router *cell.Router

	// Tenant returns whose request it is, as it was authenticated. If nil, it is the
	// tenant of the request's context, from stormjib.WithTenant; that of a header field
	// would be whatever a client writes into it.
	Tenant func(*http.Request) string

	// Key returns by which of its parts a tenant that is split has a request, such as the
	// user's. A Middleware must have the same. If nil, it is the empty key.
	Key func(*http.Request) string

	// Buffer is how many bytes of a body are kept to be sent again. If zero, 64 KiB:
	// writes that change something are most often smaller, and an upload is better
	// refused than kept. If negative, none.
	Buffer int64
}

var (
	errNoRouter = errors.New("cellhttp: Transport.Router is nil")
	errNoURL    = errors.New("cellhttp: nil Request.URL")
)

// RoundTrip sends r to the cell of its tenant, and perhaps to where that one says.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	c, err := t.begin(r)
	if err != nil {
		closeBody(r)
		return nil, err
	}
	return c.do()
}

// call is one RoundTrip.
type call struct {
	t           *Transport
	original    *http.Request // the caller's
	request     *http.Request // the same, or with a body that was kept
	tenant, key string
	route       cell.Route
	body        func() (io.ReadCloser, error) // nil: it can be sent once
}

func (t *Transport) begin(r *http.Request) (*call, error) {
	switch {
	case t.Router == nil:
		return nil, errNoRouter
	case r.URL == nil:
		return nil, errNoURL
	}
	c := &call{t: t, original: r, request: r, tenant: hop.BoundTenant(t.tenant(r))}
	if c.tenant == "" {
		return nil, ErrNoTenant
	}
	if t.Key != nil {
		c.key = t.Key(r)
	}
	var err error
	c.route, err = t.Router.RouteKey(c.tenant, c.key)
	return c, err
}

func (t *Transport) tenant(r *http.Request) string {
	if t.Tenant != nil {
		return t.Tenant(r)
	}
	return hop.SenderOf(r.Context()).Tenant
}

func (c *call) do() (*http.Response, error) {
	if err := c.keepBody(); err != nil {
		return nil, err
	}
	first, err := c.to(c.request.Body)
	if err != nil {
		closeBody(c.request)
		return nil, err
	}
	resp, err := c.send(first)
	if err != nil || !c.reroute(resp) {
		return resp, err
	}
	second, ok := c.again()
	if !ok {
		return resp, nil
	}
	discard(resp)
	return c.send(second)
}

func (c *call) send(r *http.Request) (*http.Response, error) {
	base := c.t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(r)
	if resp != nil && resp.Request == r {
		resp.Request = c.original
	}
	return resp, err
}

// CloseIdleConnections closes those of Base, if it can.
func (t *Transport) CloseIdleConnections() {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if b, ok := base.(interface{ CloseIdleConnections() }); ok {
		b.CloseIdleConnections()
	}
}

// reroute reports whether a 421 says that the tenant is elsewhere than where the request
// went, and has the call go there.
func (c *call) reroute(resp *http.Response) bool {
	if resp == nil || resp.StatusCode != http.StatusMisdirectedRequest ||
		c.request.Context().Err() != nil {
		return false
	}
	epoch, ok := hop.ParseEpoch(resp.Header.Get(hop.EpochField))
	if !ok || epoch <= c.route.Epoch {
		return false
	}
	c.t.Router.Refresh()
	if fresh, err := c.t.Router.RouteKey(c.tenant, c.key); err == nil && fresh.Epoch >= epoch {
		c.route = fresh
		return true
	}
	id, ok := hop.ParseTenant(resp.Header.Get(hop.CellField)) // of the same syntax
	if !ok {
		return false
	}
	for _, known := range c.t.Router.Snapshot().Cells {
		if known.ID == id {
			c.route = cell.Route{Cell: id, Address: known.Address, Epoch: epoch}
			return true
		}
	}
	return false // of a later map: a new cell
}

// to returns the request for the cell of the route. It is a copy but for what it shares.
func (c *call) to(body io.ReadCloser) (*http.Request, error) {
	sent, u := *c.request, *c.request.URL
	scheme, host, found := strings.Cut(c.route.Address, "://")
	if !found {
		scheme, host = u.Scheme, cmp.Or(c.route.Address, c.route.Cell)
	}
	host, path, _ := strings.Cut(host, "/")
	if host == "" || path != "" {
		return nil, fmt.Errorf("cellhttp: cell %q has the address %q, which is no host",
			c.route.Cell, c.route.Address)
	}
	sent.Host = cmp.Or(sent.Host, u.Host)
	u.Scheme, u.Host = cmp.Or(scheme, "http"), host
	sent.URL, sent.Body = &u, body
	sent.Header = sent.Header.Clone()
	if sent.Header == nil {
		sent.Header = make(http.Header)
	}
	sent.Header.Del(hop.CellField)
	sent.Header.Set(hop.EpochField, hop.FormatEpoch(c.route.Epoch))
	sent.Header.Set(hop.TenantField, hop.FormatTenant(c.tenant))
	return &sent, nil
}

func (c *call) again() (*http.Request, bool) {
	body := c.request.Body
	if hasContent(c.request) {
		if c.body == nil {
			return nil, false
		}
		var err error
		if body, err = c.body(); err != nil {
			return nil, false
		}
	}
	r, err := c.to(body)
	if err != nil && body != nil {
		_ = body.Close() // there is nobody to tell
	}
	return r, err == nil
}

// keepBody makes sure that the body can be had again, if it is not too large.
func (c *call) keepBody() error {
	r := c.request
	most := cmp.Or(c.t.Buffer, 64<<10)
	switch {
	case !hasContent(r):
		return nil
	case r.GetBody != nil:
		c.body = r.GetBody
		return nil
	case r.ContentLength <= 0 || r.ContentLength > most:
		return nil
	}
	kept := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, kept)
	closeBody(r)
	if err != nil {
		return fmt.Errorf("cellhttp: the request's body: %w", err)
	}
	c.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(kept)), nil }
	copied := *r
	copied.Body, _ = c.body()
	c.request = &copied
	return nil
}

// How much of a response that nobody wants is read, and for how long, to keep its
// connection.
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
