// Package shufflehttp sends each HTTP request to a node of its tenant's shard: a
// [Transport] for clients and for reverse proxies.
//
//	client := &http.Client{
//		Transport: &shufflehttp.Transport{
//			Sharder: func(*http.Request) *shuffle.Sharder { return shards.Load() },
//			Tenant:  shufflehttp.Header("Tenant"),
//		},
//	}
//	resp, err := client.Get("http://workers/job") // goes to one of the tenant's nodes
//
// The host of a request's URL is replaced by the address of a node. The Host field stays
// as it is, so nodes see the name that the client asked for. TLS checks a certificate for
// the address, unless the Base has a ServerName.
//
// Use it where one tenant's requests can ruin what serves them: crash it, hang it, fill
// it. Do not use it to limit how much a tenant asks for, which is for a limiter at the
// door; nor to find what is kept for a key: that is package hashringhttp.
//
// # Algorithm
//
// A request goes to a member of the shard at random. If that fails, and the request may be
// sent again, it goes to another, at once, until all have failed; never to a node outside
// of the shard. It may be sent again if nothing of it was sent yet, or if it is
// idempotent; if it has a body, GetBody must be set, which http.NewRequest does for the
// usual readers; and once something was sent, the budget must have a token for each
// further node. Where nothing was sent, no node has had any work by it, and it costs none.
//
// # Defaults
//
// The tenant is that of the request's context, by stormjib.WithTenant. Requests that name
// none are those of one tenant more, with a shard of its own. A node's address is its ID.
// What fails is an error, 502, 503 and 504, and any response that says of itself that it
// is a refusal.
//
// # Failure modes
//
//   - A node that hangs fails when the Base gives it up, and no sooner. Give the Base a
//     timeout for each node: ResponseHeaderTimeout in an http.Transport. The deadline of a
//     request's context ends all of it.
//   - To find out again with each request that a node is down takes time, and tokens. Have
//     Down look up what is known, or put a breaker for each node around the Base, by
//     URL.Host: what a breaker refuses goes on to the next member at once, and free.
//   - When Down says that all members are down, it is not believed: it is most often the
//     one who looks that is cut off. Requests then go to the shard as if none were.
//   - A response that says that the whole service refuses, or that nobody should try
//     again, is returned at once.
//   - When no member is left to ask, or no token, what the last one answered is returned.
//   - A retryhttp.Transport around it tries again after a wait, and each of its attempts
//     may go to all members. The budgets of both bound that.
//   - Whoever may choose a tenant's name chooses a shard to ruin. Have the tenant from what
//     was authenticated.
//   - A Base that panics, or ends its goroutine, leaves nothing behind.
//
// Stable: the API changes only with a major version.
package shufflehttp

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/secondhttp"
	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/shuffle"
)

// Transport is an [http.RoundTripper] that sends a request to a node of its tenant's
// shard. Use it by pointer, from any number of goroutines; set its fields before the first
// use.
//
// A response is returned as it is, whatever its status, and an error of the Base is too.
type Transport struct {
	// Base sends the requests. If nil, http.DefaultTransport, which waits for a node that
	// hangs as long as the request's context lets it.
	Base http.RoundTripper

	// Sharder returns the sharder of a request: what is in an atomic.Pointer, for one. Where
	// it returns nil, the request goes where its URL says. It is required.
	Sharder func(*http.Request) *shuffle.Sharder

	// Tenant returns the tenant of a request; see [Header]. Those for which it returns ""
	// share the shard of a tenant of that name. If nil, it is the tenant of the request's
	// context, by stormjib.WithTenant.
	Tenant func(*http.Request) string

	// Address returns the host and port of a node. If nil, they are its ID.
	Address func(shuffle.Node) string

	// Down reports whether a node is known to be down. It gets no requests while another
	// member of the shard is up. It should look up and not ask. If nil, none is.
	Down func(shuffle.Node) bool

	// Budget pays for each node of a request but the first that got any of it: a
	// *retry.Budget, which only this transport has or others for the same nodes have too.
	// Where a retry policy around it has the same one, a success is counted twice. If nil,
	// ten requests that succeed at their first node pay for one that does not, and three
	// are paid for from the beginning: more would be a second load on nodes that all have
	// too much.
	Budget Budget

	// Idempotent reports whether a request may be executed twice. If nil, [Idempotent].
	Idempotent func(*http.Request) bool

	// Failed reports whether a response is a failure of its node. If nil, 502, 503 and
	// 504 are, and what says that it is a refusal.
	Failed func(*http.Response) bool

	purse secondhttp.Purse
}

// Budget bounds how many requests go to further nodes, by how many need not. When all
// nodes fail, to ask all of a shard for each request would be a multiple of their load.
//
// The *Budget of package retry is one. It is used from any number of goroutines.
type Budget interface {
	// Take reports whether there is a token for another node, and takes it.
	Take() bool

	// Success is called for each request that succeeds at its first node.
	Success()
}

// Header returns a function that has the value of a header field for the tenant of a
// request: the first one, if there are several. It is for a field that somebody sets who
// has checked it; what a client says of itself is no tenant.
func Header(name string) func(*http.Request) string {
	name = http.CanonicalHeaderKey(name)
	return func(r *http.Request) string {
		if values := r.Header[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
}

// Idempotent is what a [Transport] without an Idempotent goes by: it reports whether the
// method is one of GET, HEAD, OPTIONS, TRACE, PUT, DELETE and QUERY, or the request has a
// field Idempotency-Key or X-Idempotency-Key.
func Idempotent(r *http.Request) bool { return secondhttp.Idempotent(r) }

var (
	errNoSharder = errors.New("shufflehttp: Transport.Sharder is nil")
	errNoURL     = errors.New("shufflehttp: nil Request.URL")
)

// RoundTrip sends r to a node of its tenant's shard, and perhaps to others of them.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.Sharder == nil || r.URL == nil {
		secondhttp.CloseBody(r)
		if t.Sharder == nil {
			return nil, errNoSharder
		}
		return nil, errNoURL
	}
	sharder := t.Sharder(r)
	if sharder == nil {
		return t.base().RoundTrip(r)
	}
	return t.try(r, sharder, t.tenant(r))
}

func (t *Transport) tenant(r *http.Request) string {
	if t.Tenant != nil {
		return t.Tenant(r)
	}
	return hop.SenderOf(r.Context()).Tenant
}

// try asks one member of the shard after another.
func (t *Transport) try(
	r *http.Request, sharder *shuffle.Sharder, tenant string,
) (*http.Response, error) {
	c := call{t: t, request: r}
	for node := range sharder.Route(tenant, t.up()) {
		if !c.next(node) {
			return c.resp, c.err
		}
	}
	if c.attempts == 0 && t.Down != nil {
		for node := range sharder.Route(tenant, nil) {
			if !c.next(node) {
				return c.resp, c.err
			}
		}
	}
	if c.attempts == 0 {
		secondhttp.CloseBody(r)
		return nil, fmt.Errorf("shufflehttp: tenant %.100q: %w", tenant, shuffle.ErrNoNodes)
	}
	return c.resp, c.err
}

func (t *Transport) up() func(shuffle.Node) bool {
	if t.Down == nil {
		return nil
	}
	return func(n shuffle.Node) bool { return !t.Down(n) }
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

func (t *Transport) budget() Budget {
	if t.Budget == nil {
		return &t.purse
	}
	return t.Budget
}

// call is one RoundTrip.
type call struct {
	t        *Transport
	request  *http.Request
	attempts int
	sent     int // of those, how many may have reached a node

	resp *http.Response // of the last attempt
	err  error
}

// next sends the request to a node, if it may, and reports whether another one may be
// asked.
func (c *call) next(n shuffle.Node) bool {
	sent, ok := c.prepare(n)
	if !ok {
		return false
	}
	c.attempts++
	c.resp, c.err = c.exchange(sent) //nolint:bodyclose // The caller does, or prepare.
	if c.err == nil || !secondhttp.NotSent(c.err) {
		c.sent++
	}
	if c.err != nil || c.resp == nil || c.t.failed(c.resp) {
		return c.worthAnother()
	}
	if c.attempts == 1 {
		c.t.budget().Success()
	}
	return false
}

func (c *call) exchange(sent *http.Request) (*http.Response, error) {
	resp, err := c.t.base().RoundTrip(sent)
	if resp != nil && resp.Request == sent {
		resp.Request = c.request
	}
	return resp, err
}

// prepare returns the request for a node, unless there is no token for it, or no body. It
// is done with the response before.
func (c *call) prepare(n shuffle.Node) (*http.Request, bool) {
	if c.attempts == 0 {
		return secondhttp.To(c.request, c.address(n)), true
	}
	if c.sent > 0 && !c.t.budget().Take() {
		return nil, false
	}
	again, ok := secondhttp.Again(c.request, c.address(n), c.sent+1)
	if ok && c.resp != nil {
		secondhttp.Discard(c.resp)
	}
	return again, ok
}

func (c *call) address(n shuffle.Node) string {
	if c.t.Address != nil {
		return c.t.Address(n)
	}
	return n.ID
}

func (t *Transport) failed(resp *http.Response) bool {
	if t.Failed != nil {
		return t.Failed(resp)
	}
	return secondhttp.Failed(resp)
}

// worthAnother reports whether what came of the last attempt, a failure, may be other at
// another node, and whether the request may be sent there.
func (c *call) worthAnother() bool {
	switch {
	case c.request.Context().Err() != nil, !secondhttp.Replayable(c.request):
		return false
	case c.err != nil:
		return c.resp == nil && verdict.Retryable(c.err) &&
			(c.sent == 0 || c.idempotent())
	case c.resp == nil:
		return false
	}
	refusal, ok := hop.ParseRefusal(c.resp.Header.Get(hop.RefusalField))
	if ok && (refusal.NoRetry || refusal.Scope != hop.Replica) {
		return false
	}
	return c.idempotent()
}

func (c *call) idempotent() bool {
	if c.t.Idempotent != nil {
		return c.t.Idempotent(c.request)
	}
	return Idempotent(c.request)
}
