// Package hashringhttp sends each HTTP request to the node that its key belongs to: a
// [Transport] for clients and for reverse proxies.
//
//	nodes := hashring.NewBalancer(table, hashring.BalancerConfig{Name: "sessions"})
//	client := &http.Client{
//		Transport: &hashringhttp.Transport{
//			Balancer: func(*http.Request) *hashring.Balancer { return nodes },
//			Key:      hashringhttp.Header("Session"),
//		},
//	}
//	resp, err := client.Get("http://sessions/basket") // goes to one of the nodes
//
// The host of a request's URL is replaced by the address of a node. The Host field stays
// as it is, so nodes see the name that the client asked for. TLS checks a certificate for
// the address, unless the Base has a ServerName.
//
// Use it where servers keep something for a key, such as a cache or a session, and work
// without it too, only slower. Do not use it to pick one of several equal servers: any
// balancer does that, and evenly.
//
// When nodes come and go, give the Balancer another placement. An empty list of nodes, or
// one that could not be had, never replaces a full one: Set refuses it.
//
//	func update(nodes []hashring.Node, err error) error {
//		if err != nil {
//			return err
//		}
//		table, err := hashring.NewTable(nodes, hashring.TableConfig{})
//		return cmp.Or(err, sessions.Set(table))
//	}
//
// # Algorithm
//
// A request is a part of its node's load until the response's body has been read to its
// end, or fails, or is closed: a download is load for as long as it takes. If the node
// cannot be reached, or refuses for itself alone, the request goes to the next in its
// key's order, at once, and to no third. It does so only where it may, as package retry
// has it: a request whose node answered must be idempotent, and the budget must have a
// token for it; and one with a body must have a GetBody, which http.NewRequest sets for
// the usual readers. See [hashring.Balancer] for the rest.
//
// # Defaults
//
// The key has none: behind a proxy the remote address, say, is one key for everybody. A
// request without a key goes to a node at random. A node's address is its ID. What fails,
// and so counts as load for a while, is what package breakerhttp has for a failure, and
// what refuses: an error, 502, 503 and 504, and any response that says of itself that it
// is a refusal.
//
// # Failure modes
//
//   - A response whose body is neither closed nor read to its end is load for ever, as it
//     holds its connection. A response without a body is none.
//   - An upgraded connection is load until it is closed.
//   - When Down says that all nodes are down, it is not believed: it is most often the
//     one who looks that is cut off. Requests then go as if none were.
//   - A node that is overloaded and says nothing of it, but is slow, keeps its keys up to
//     its bound. Put a timeout and a breaker for each node around it: as Base, by
//     URL.Host.
//   - A retryhttp.Transport around it tries again after a wait, and each of its attempts
//     may go to two nodes. The budgets of both bound that.
//   - A Base that panics, or ends its goroutine, ends the load.
//
// Stable: the API changes only with a major version.
package hashringhttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"

	"github.com/stormjib/stormjib/hashring"
	"github.com/stormjib/stormjib/internal/body"
	"github.com/stormjib/stormjib/internal/secondhttp"
)

// Transport is an [http.RoundTripper] that sends a request to a node of its key. Use it
// by pointer, from any number of goroutines; set its fields before the first use.
//
// A response is returned as it is, whatever its status. If there is no node for a
// request, the error matches [hashring.ErrUnavailable], and http.Client wraps it in a
// *url.Error.
type Transport struct {
	// Base sends the requests. If nil, http.DefaultTransport.
	Base http.RoundTripper

	// Balancer returns the balancer of a request. Where it returns nil, the request goes
	// where its URL says. It is required.
	Balancer func(*http.Request) *hashring.Balancer

	// Key returns the key of a request, by which it has its node; see [Header], [Cookie]
	// and [PathSegment]. Where it returns "", any node will do. It is required.
	Key func(*http.Request) string

	// Owners returns how many nodes have the key of a request, which then take turns: the
	// result of [hashring.HotKeys.Observe], for what is only read. If nil, one.
	Owners func(r *http.Request, key string) int

	// Address returns the host and port of a node. If nil, they are its ID.
	Address func(hashring.Node) string

	// Down reports whether a node is known to be down. Its requests go to the next one in
	// their keys' order. It should look up and not ask. If nil, none is.
	Down func(hashring.Node) bool

	// Budget pays for the second node of a request: a *retry.Budget, which only this
	// transport has or others for the same nodes have too. Where a retry policy around it
	// has the same one, a success is counted twice. If nil, ten requests that succeed at
	// their first node pay for one that does not, and three are paid for from the
	// beginning: more would be a second load on nodes that all have too much.
	Budget Budget

	// Idempotent reports whether a request may be executed twice. If nil, [Idempotent].
	Idempotent func(*http.Request) bool

	// Failed reports whether a response is a failure of its node. If nil, 502, 503 and
	// 504 are, and what says that it is a refusal.
	Failed func(*http.Response) bool

	purse secondhttp.Purse
}

var (
	errNoBalancer = errors.New("hashringhttp: Transport.Balancer is nil")
	errNoKey      = errors.New("hashringhttp: Transport.Key is nil")
	errNoURL      = errors.New("hashringhttp: nil Request.URL")
)

// RoundTrip sends r to a node of its key, and perhaps to a second one.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	b, err := t.balancer(r)
	if err != nil {
		secondhttp.CloseBody(r)
		return nil, err
	}
	if b == nil {
		return t.base().RoundTrip(r)
	}
	c := call{t: t, balancer: b, request: r}
	if c.key = t.Key(r); c.key == "" {
		c.key = strconv.FormatUint(rand.Uint64(), 36)
	}
	if t.Owners != nil {
		c.owners = t.Owners(r, c.key)
	}
	return c.do()
}

func (t *Transport) balancer(r *http.Request) (*hashring.Balancer, error) {
	switch {
	case t.Balancer == nil:
		return nil, errNoBalancer
	case t.Key == nil:
		return nil, errNoKey
	case r.URL == nil:
		return nil, errNoURL
	}
	return t.Balancer(r), nil
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
	balancer *hashring.Balancer
	request  *http.Request
	key      string
	owners   int
	failed   bool // the last attempt
}

func (c *call) do() (*http.Response, error) {
	first, err := c.first()
	if err != nil {
		secondhttp.CloseBody(c.request)
		return nil, err
	}
	defer first.Release() // if a function of the user's panics
	node := first.Node()
	resp, err := c.exchange(secondhttp.To(c.request, c.address(node)), &first)
	if !c.failed {
		c.t.budget().Success()
		return resp, err
	}
	if !c.worthAnother(resp, err) {
		return resp, err
	}
	second, unavailable := c.acquire(node.ID, c.t.Down)
	if unavailable != nil {
		return resp, err
	}
	defer second.Release()
	if !c.t.budget().Take() {
		return resp, err
	}
	again, ok := secondhttp.Again(c.request, c.address(second.Node()), 2)
	if !ok {
		return resp, err
	}
	if resp != nil {
		secondhttp.Discard(resp)
	}
	return c.exchange(again, &second)
}

// first returns a lease of the key's node. That all are down, Down is not believed.
func (c *call) first() (hashring.Lease, error) {
	l, err := c.acquire("", c.t.Down)
	if err != nil && c.t.Down != nil {
		return c.acquire("", nil)
	}
	return l, err
}

// acquire returns a lease of a node other than not, which is no node's ID if empty.
func (c *call) acquire(not string, down func(hashring.Node) bool) (hashring.Lease, error) {
	if not == "" && down == nil {
		return c.balancer.AcquireSpread(c.key, c.owners, nil)
	}
	return c.balancer.AcquireSpread(c.key, c.owners, func(n hashring.Node) bool {
		return n.ID != not && (down == nil || !down(n))
	})
}

// exchange has the Base send r, a copy of the caller's. The lease is that of the
// response's body then, or finished.
func (c *call) exchange(r *http.Request, lease *hashring.Lease) (*http.Response, error) {
	c.failed = true
	resp, err := c.t.base().RoundTrip(r)
	if resp != nil && resp.Request == r {
		resp.Request = c.request
	}
	if err != nil || resp == nil {
		lease.Done(r.Context(), cmp.Or(err, errNoResponse))
		return resp, err
	}
	failure := c.t.failure(resp)
	c.failed = failure != nil
	if !hasBody(resp, r) {
		lease.Done(context.Background(), failure)
		return resp, nil
	}
	held := *lease
	*lease = hashring.Lease{}
	upgraded := resp.StatusCode == http.StatusSwitchingProtocols
	resp.Body = body.EndWith(resp.Body, upgraded, func() {
		// Not the request's context: what came of it is known, and many are cancelled
		// when the body is closed.
		held.Done(context.Background(), failure)
	})
	return resp, nil
}

var errNoResponse = errors.New("hashringhttp: neither a response nor an error")

// failure returns nil for a response that is none.
func (t *Transport) failure(resp *http.Response) error {
	if t.Failed != nil {
		if !t.Failed(resp) {
			return nil
		}
	} else if !secondhttp.Failed(resp) {
		return nil
	}
	return fmt.Errorf("hashringhttp: status %d", resp.StatusCode)
}
