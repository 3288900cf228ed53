package shedhttp

import (
	"net/http"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed/throttle"
)

// Transport is an [http.RoundTripper] that says with each request what it is, by its
// context: the class, from [github.com/stormjib/stormjib/shed.WithCriticality] or as it
// came in with the request that this one is made for; the tenant, likewise; and the time
// that is left. With a Throttle it sends less to a server that sheds. The zero Transport
// does the first alone. It is safe for concurrent use; set its fields before the first.
//
// It belongs on a client for services of one's own. To strangers it would name one's
// customers, and so it would to where a redirect leads: unlike the fields that a caller
// sets, which http.Client drops for another domain, these come with each request. Let its
// CheckRedirect follow none that leads away.
//
// Put it below what retries, so that each attempt has its own time and is asked for: it
// is each attempt that a server has to turn away. With the refusal of a throttle the
// error is a [*throttle.ThrottledError], which http.Client wraps in a *url.Error; the
// request was not sent then. A response is returned as it is, whatever its status.
type Transport struct {
	// Base sends the requests. If nil, http.DefaultTransport.
	Base http.RoundTripper

	// Throttle returns the throttle of a request, such as a group's, by its host. Where
	// it returns nil, the request passes without one. If nil, all do.
	Throttle func(*http.Request) *throttle.Throttle

	// Classify tells what a response means for the throttle. If nil, [ClassifyResponse].
	Classify func(*http.Response) throttle.Outcome
}

// RoundTrip sends r, by way of its throttle if it has one.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if ctx.Err() != nil {
		closeBody(r)
		return nil, ended.New(ctx, "shedhttp", true) // it has told the throttle nothing
	}
	var permit throttle.Permit
	if guard := t.throttle(r); guard != nil {
		var err error
		if permit, err = guard.Allow(ctx); err != nil {
			closeBody(r)
			return nil, err
		}
	}
	defer permit.Record(throttle.Ignored) // of a panic; otherwise finished by then
	sent := tell(r)
	resp, err := t.base().RoundTrip(sent)
	if resp != nil && resp.Request == sent {
		resp.Request = r
	}
	if err != nil {
		permit.Done(ctx, err)
		return resp, err
	}
	permit.Record(t.classify(resp))
	return resp, nil
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

func (t *Transport) throttle(r *http.Request) *throttle.Throttle {
	if t.Throttle == nil {
		return nil
	}
	return t.Throttle(r)
}

func (t *Transport) classify(resp *http.Response) throttle.Outcome {
	if t.Classify != nil {
		return t.Classify(resp)
	}
	return ClassifyResponse(resp)
}

// A RoundTripper closes the body of its request in any case: the client does not.
func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // there is nobody to tell
	}
}

// tell returns r with what its context says in its header: r itself where there is
// nothing to change, otherwise a copy, shallow but for the header. What r has in these
// fields is not sent. In a reverse proxy it would be what a client has written, and those
// behind it believe the proxy.
func tell(r *http.Request) *http.Request {
	sender := hop.SenderOf(r.Context())
	timeout := ""
	if deadline, ok := r.Context().Deadline(); ok {
		timeout = hop.FormatTimeout(max(1, time.Until(deadline))) // if it is over, Base will see
	}
	sent := r
	for _, field := range [...]struct{ name, value string }{
		{hop.CriticalityField, hop.FormatCriticality(sender.Criticality)},
		{hop.TenantField, hop.FormatTenant(sender.Tenant)},
		{hop.TimeoutField, timeout},
	} {
		_, there := r.Header[field.name]
		if !there && field.value == "" {
			continue
		}
		if sent == r {
			sent = r.WithContext(r.Context())
			sent.Header = r.Header.Clone()
		}
		if sent.Header == nil {
			sent.Header = make(http.Header)
		}
		sent.Header.Del(field.name)
		if field.value != "" {
			sent.Header.Set(field.name, field.value)
		}
	}
	return sent
}

// ClassifyResponse is what a [Transport] without a Classify goes by. Rejected are
//
//   - a 429, whatever it says: a quota is turned away too;
//   - a response which says that the server sheds load, or has as many requests as it
//     takes, or that a limit is reached: those of servers with this module's packages,
//     and of Envoy's overload manager;
//   - a 503 with a Retry-After, which says nothing of the kind.
//
// All else is Accepted, an error of the server's included: it was work, and a client that
// sent less for a bug would make it an outage. So is a 503 by which a server tells of a
// dependency that is down: it has had the request.
func ClassifyResponse(resp *http.Response) throttle.Outcome {
	if resp.StatusCode == http.StatusTooManyRequests ||
		resp.Header.Get("X-Envoy-Overloaded") == "true" {
		return throttle.Rejected
	}
	if resp.StatusCode != http.StatusServiceUnavailable {
		return throttle.Accepted
	}
	refusal, ok := hop.ParseRefusal(resp.Header.Get(hop.RefusalField))
	switch refusal.Reason {
	case hop.Shed, hop.Limit, hop.Full:
		return throttle.Rejected
	}
	_, asks := hop.ParseRetryAfter(
		resp.Header.Get("Retry-After"), resp.Header.Get("Date"), time.Now())
	if !ok && asks {
		return throttle.Rejected
	}
	return throttle.Accepted
}
