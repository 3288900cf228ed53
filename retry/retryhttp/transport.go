// Package retryhttp retries HTTP requests: a [Transport] for clients, and [Fail], by
// which a server tells its clients that enough has been tried.
//
//	client := &http.Client{
//		Timeout:   5 * time.Second,
//		Transport: &retryhttp.Transport{},
//	}
//
// Put it around a breaker, which then sees each attempt: a
// [github.com/stormjib/stormjib/breaker/breakerhttp.Transport] as Base. An open one
// holds no caller up.
//
// # Algorithm
//
// What is retried is what may be executed twice: idempotent methods (RFC 9110, section
// 9.2.2) and requests with an Idempotency-Key; any other only where it is known not to
// have been sent, because it was refused on this side or no connection came about. A
// request with a body is sent again only by way of its GetBody, which
// http.NewRequest sets for the usual readers: nothing is buffered here.
//
// A response that is worth another attempt is read to its end and closed, so that its
// connection serves the next one; but at most 64 KiB of it, for at most 100 ms: beyond,
// a new connection is the cheaper. Giving up returns the last response, as RoundTrip
// should, with its body unread. See package retry for the rest.
//
// One layer retries, the innermost. A response that the transport would retry, but gave up
// on because of its attempts, its budget or the time, says so in its field
// Stormjib-Refusal, by retry=?0, as a [*retry.Error] does by its Retryable. A reverse proxy
// passes that on as it is; for other servers there are [CheckResponse] and [Fail]. What
// says so is not retried, and nothing that a client sends changes it.
//
// # Defaults
//
// The zero [Transport] has the policy of the zero [retry.Policy], and a budget for each
// host: a host that is down should not cost the others their retries.
//
// Retried are errors of the transport, 408, 425, 502, 503 and 504; 429 where it says
// when to come back, since one that does not is most often a quota that is used up.
// A 500 is not: most often the next one is the same. A delay that is longer than
// MaxRetryAfter, or than the time there is, ends the call at once.
//
// A server that refuses for itself alone (scope=replica) is not waited for: the next
// attempt will most likely meet another. It follows after the backoff, of 50 ms at most,
// and by another connection where that is possible, which it is not with HTTP/2 nor
// after a response without a body. What says that the whole service refuses is waited
// for. Responses with X-Envoy-Overloaded or X-Envoy-Ratelimited, whatever the value, are
// not retried: that is what Envoy means by them, and a RetryIf may decide otherwise, as
// Envoy's retry policies may.
//
// # Failure modes
//
//   - A response that is under way when its connection breaks is an error of its body:
//     it is not retried, for part of it has been read.
//   - A caller that leaves during a wait gets an error, not the response before it; so
//     does one whose GetBody fails.
//   - A POST that a server answered by a refusal is not sent again: the server that
//     refused may be one behind it, and the POST halfway through.
//   - Where one replica of ten refuses for long, the default budget does not pay for all
//     the retries: about one call in fifty gets the refusal. Its Refund makes up for that.
//   - AttemptTimeout ends bodies too, as http.Client's Timeout does. It does not end
//     an upgraded connection.
//   - A Base that panics, or ends its goroutine, ends the call.
//
// Stable: the API changes only with a major version.
package retryhttp

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/stormjib/stormjib/internal/body"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/retry"
)

// Transport is an [http.RoundTripper] that sends a request again where it failed and where
// that does no harm. The zero Transport is one for production. Use it by pointer, from any
// number of goroutines; set its fields before the first use.
//
// RoundTrip returns the last response where there is one, whatever its status. Otherwise
// the error is what [retry.Do] would return: that of the Base after a single attempt,
// else a [*retry.Error]. To send a single request once, use [retry.Once] on its
// context.
//
// From the second attempt on the request says which one it is, in Stormjib-Attempt.
type Transport struct {
	// Base sends each attempt. If nil, http.DefaultTransport.
	Base http.RoundTripper

	// Policy says whether, when and how often to try again. It is not a function of the
	// request, as the breaker of a breakerhttp.Transport is, since what differs between
	// hosts is the budget: each has one of its own, with the settings of
	// Policy.Budget, unless there is a SharedBudget. 1024 hosts are kept. RetryIf and
	// OnRetry get a [*StatusError] where the attempt was answered. If nil, the zero
	// Policy.
	Policy *retry.Policy

	// Idempotent reports whether a request may be executed twice: a POST that is a
	// search may. RetryIf is not asked about one that may not. If nil, [Idempotent].
	Idempotent func(*http.Request) bool

	calls   sync.Pool // of *call
	once    sync.Once
	budgets *retry.BudgetGroup[string] // by host; made once
}

var errNoURL = errors.New("retryhttp: nil Request.URL")

// RoundTrip sends r, and again as the policy says.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL == nil {
		closeBody(r)
		return nil, errNoURL
	}
	c, ok := t.calls.Get().(*call)
	if !ok {
		c = newCall(t)
	}
	c.request, c.policy.SharedBudget = r, t.budget(r)
	resp, err := c.do()
	c.request, c.resp, c.elsewhere, c.attempts, c.number = nil, nil, false, 0, 0
	t.calls.Put(c) // not by defer: a call that panicked is in no state to go on
	return resp, err
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

// budget returns the budget of the host that r goes to.
func (t *Transport) budget(r *http.Request) *retry.Budget {
	if p := t.Policy; p != nil {
		if p.SharedBudget != nil {
			return p.SharedBudget
		}
		if p.Budget.Off {
			return &p.Budget
		}
	}
	t.once.Do(t.makeBudgets)
	return t.budgets.Get(r.URL.Host)
}

// makeBudgets makes the group with the settings of the Policy. If they are not valid, it
// has the default ones: a server that is up should not panic at its first request.
func (t *Transport) makeBudgets() {
	var cfg retry.BudgetGroupConfig
	if p := t.Policy; p != nil {
		b := &p.Budget
		cfg.Ratio, cfg.Burst, cfg.Floor, cfg.Refund = b.Ratio, b.Burst, b.Floor, b.Refund
	}
	if cfg.Validate() != nil {
		cfg = retry.BudgetGroupConfig{}
	}
	t.budgets = retry.NewBudgetGroup[string](cfg)
}

// call is one RoundTrip. Its policy has the settings of the Transport's, but for what
// takes an HTTP request to decide. Both are used again by later calls, or else each
// would allocate them, and most calls succeed at the first attempt.
type call struct {
	t       *Transport
	user    *retry.Policy // what the Transport goes by
	policy  retry.Policy  // what the loop goes by
	wait    retry.Backoff // the user's, or that of the zero Policy
	request *http.Request // the caller's

	resp      *http.Response // of the last attempt, if it was answered and not drained
	elsewhere bool           // the next attempt need not wait for the server of the last
	attempts  int
	number    int // of the attempt, as the server is told
}

func newCall(t *Transport) *call {
	c := &call{t: t, user: t.Policy}
	if c.user == nil {
		c.user = &retry.Policy{}
	}
	c.policy.MaxAttempts = c.user.MaxAttempts
	c.policy.MaxElapsed = c.user.MaxElapsed
	c.policy.MaxRetryAfter = c.user.MaxRetryAfter
	c.policy.RetryIf = c.retryIf
	c.policy.OnRetry = c.onRetry
	c.policy.Backoff = c.backoff
	if c.wait = c.user.Backoff; c.wait == nil {
		c.wait = retry.FullJitter(50*time.Millisecond, 2*time.Second, nil)
	}
	// AttemptTimeout is left to exchange: an attempt is over when its body is, and
	// the loop would end it when it returns.
	return c
}

// do makes the attempts.
func (c *call) do() (*http.Response, error) {
	returned := false
	defer func() {
		if !returned && c.resp != nil {
			closeResponse(c.resp) // a function of the user's has panicked
		}
	}()
	resp, err := retry.Do(c.request.Context(), &c.policy, c.attempt)
	returned = true
	if err == nil {
		return resp, nil
	}
	if c.resp != nil {
		markGivenUp(c.resp, err)
		return c.resp, nil
	}
	if c.attempts == 0 {
		closeBody(c.request) // the Base never saw it
	}
	return nil, err
}

// attempt makes one. An answer that is a failure is returned as an error too, which is
// what the loop goes by.
func (c *call) attempt(ctx context.Context) (*http.Response, error) {
	r, err := c.next(ctx)
	if err != nil {
		return nil, retry.Permanent(err)
	}
	resp, err := c.exchange(r)
	if err != nil || resp == nil {
		return nil, err
	}
	if status := newStatusError(resp); status != nil {
		c.resp, c.elsewhere = resp, status.elsewhere
		return resp, status
	}
	return resp, nil
}

// next returns the request of the next attempt. The first is the caller's own, if it can
// be: it costs nothing.
//
// The others are shallow copies but for the header. A Clone would have a Trailer of its
// own, and callers fill in the one they know while the body is read.
func (c *call) next(ctx context.Context) (*http.Request, error) {
	c.resp, c.elsewhere = nil, false
	c.attempts++
	if c.attempts == 1 {
		return c.first(ctx), nil
	}
	r := c.request.WithContext(ctx)
	if hasBody(r) {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		r.Body = body
	}
	c.setNumber(r, max(hop.Attempt(ctx), c.number+1))
	return r, nil
}

// first returns the request of the first attempt, which is a later one where a policy
// outside of this one makes another.
func (c *call) first(ctx context.Context) *http.Request {
	c.number = hop.Attempt(ctx)
	if value := c.request.Header.Get(hop.AttemptField); value != "" {
		set, err := strconv.ParseUint(value, 10, 16)
		if err == nil {
			c.number = int(set) // the caller knows better; the next counts on
		}
		return c.request
	}
	if c.number == 1 {
		return c.request
	}
	r := c.request.WithContext(ctx)
	c.setNumber(r, c.number)
	return r
}

// setNumber has r, a copy, tell its attempt.
func (c *call) setNumber(r *http.Request, n int) {
	c.number = n
	r.Header = r.Header.Clone()
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	r.Header.Set(hop.AttemptField, strconv.Itoa(n))
}

// exchange has the Base send r, within the attempt's time.
func (c *call) exchange(r *http.Request) (*http.Response, error) {
	if c.user.AttemptTimeout <= 0 {
		return c.t.base().RoundTrip(r)
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.user.AttemptTimeout)
	ends := false // with the response's body
	defer func() {
		if !ends {
			cancel()
		}
	}()
	resp, err := c.t.base().RoundTrip(r.WithContext(ctx))
	if err == nil && resp != nil && resp.Body != nil {
		// A context that ended with RoundTrip would cut long bodies short.
		upgraded := resp.StatusCode == http.StatusSwitchingProtocols
		resp.Body, ends = body.EndWith(resp.Body, upgraded, cancel), true
	}
	return resp, err
}

// retryIf is asked by the loop about each error.
func (c *call) retryIf(err error) bool {
	if !c.repeatable(err) {
		return false
	}
	if c.user.RetryIf != nil {
		return c.user.RetryIf(err)
	}
	return retry.Retryable(err) && !untrusted(err)
}

// repeatable reports whether the request can be sent again, and do no harm.
func (c *call) repeatable(err error) bool {
	if hasBody(c.request) && c.request.GetBody == nil {
		return false
	}
	if c.resp == nil && notSent(err) {
		return true
	}
	if c.t.Idempotent != nil {
		return c.t.Idempotent(c.request)
	}
	return Idempotent(c.request)
}

// backoff is the user's, but short where the next attempt goes elsewhere.
func (c *call) backoff(attempt int, prev time.Duration) time.Duration {
	d := c.wait(attempt, prev)
	if c.elsewhere {
		return min(d, 50*time.Millisecond)
	}
	return d
}

// onRetry is called by the loop when it has decided to go on, and before it waits: a
// connection that is free again meanwhile can serve somebody else.
//
// One on which a replica refused for itself is closed instead. Behind a balancer of
// connections it leads to that replica for as long as it lives, and would be the first
// to be taken for the next attempt. There are few of these: the budget sees to that.
func (c *call) onRetry(ctx context.Context, event retry.Event) {
	if c.resp != nil {
		discard(c.resp, c.elsewhere)
		c.resp = nil
	}
	if c.user.OnRetry != nil {
		c.user.OnRetry(ctx, event)
	}
}
