package limiterhttp

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/problem"
	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/limiter"
)

// Middleware refuses requests for which there is no token in their bucket. It has no state
// but its Store's, so that a Handler may be made of it for each of many routes.
//
// It is safe for concurrent use; set its fields before the first call of Handler.
type Middleware struct {
	// Name names the limit to clients, in the RateLimit fields and in refusals. Those of
	// a chain should differ. If zero, "default", and not the name that the Store goes by,
	// which may not be for clients.
	Name string

	// Store keeps the buckets. It finds them by their keys alone: two limits that have
	// the same keys need a Store each, or one for which the keys are made to differ.
	// It is required.
	Store limiter.Store

	// Key says whose bucket a request takes from. It is required.
	Key KeyFunc

	// Limit is what a bucket lets through. If zero, nothing.
	Limit limiter.Limit

	// LimitFor returns the limit of a request, such as that of its tenant's plan. It is
	// made for one limit a key, which may change; see [limiter.Store] for what becomes of
	// its tokens. One that is not valid is an error, as the Store's are. If nil, Limit.
	LimitFor func(r *http.Request, key string) limiter.Limit

	// Cost returns how many tokens a request takes. Less than 1 counts as 1: what is
	// free is better left outside. More than the Burst never passes. If nil, 1.
	Cost func(*http.Request) int

	// PassUnkeyed lets requests without a key pass, without a limit. If zero, they are
	// refused, with a 403: a limit that is not for those who withhold who they are is
	// for nobody.
	PassUnkeyed bool

	// FailOpen lets requests pass while the Store fails: for a limit that is there for
	// fairness, and not for safety. If zero, they are refused, with a 503.
	FailOpen bool

	// OnError is told of each failure of the Store, whether or not the request passes.
	// If nil, nobody is.
	OnError func(*http.Request, error)

	// HideFields leaves out RateLimit and RateLimit-Policy: for clients who should not
	// know how far they can go, or while a limit is tried out in its Store's Shadow. If
	// zero, they are sent: a client that knows can slow down before it is refused.
	HideFields bool

	// Refuse answers a request that does not pass. The error is a
	// [*limiter.LimitedError] with Name if it has no tokens, [ErrNoKey], or a
	// [*StoreError]. If nil, [Refuse].
	Refuse func(http.ResponseWriter, *http.Request, error)
}

// ErrNoKey says that a request has no key, and so no limit to be held to.
var ErrNoKey = errors.New("limiterhttp: no key")

// StoreError says that the Store failed: nobody knows whether the request is within its
// limit. It has no Unwrap, since Err may well match [limiter.ErrLimited], as that of a
// Store that limits its own calls does, and yet is not about the request.
type StoreError struct {
	Err error // what the Store returned, or why the limit is not valid
}

// Error quotes Err.
func (e *StoreError) Error() string { return "limiterhttp: store: " + e.Err.Error() }

// RetryAfter returns what Err says, such as how long the breaker before a store is open,
// or 0.
func (e *StoreError) RetryAfter() time.Duration { return verdict.RetryAfter(e.Err) }

// Handler returns next behind the limit. It panics if Store or Key is nil, or if Limit is
// needed and not valid.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	switch {
	case m.Store == nil:
		panic("limiterhttp: Middleware.Store is nil")
	case m.Key == nil:
		panic("limiterhttp: Middleware.Key is nil")
	}
	if err := m.Limit.Validate(); err != nil && m.LimitFor == nil {
		panic(fmt.Sprintf("limiterhttp: Middleware.Limit is not valid: %v", err))
	}
	policy := policyItem(m.name(), m.Limit)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.admit(w, r, policy) {
			next.ServeHTTP(w, r)
		}
	})
}

// admit reports whether r passes; if not, it is answered.
func (m *Middleware) admit(w http.ResponseWriter, r *http.Request, policy string) bool {
	key, ok := m.Key(r)
	if !ok || key == "" {
		if !m.PassUnkeyed {
			m.refuse(w, r, ErrNoKey)
		}
		return m.PassUnkeyed
	}
	result, err := m.take(r, key)
	if err != nil {
		return m.failed(w, r, err)
	}
	if !m.HideFields {
		if result.Limit != m.Limit {
			policy = policyItem(result.Name, result.Limit)
		}
		setFields(w.Header(), policy, &result)
	}
	if !result.OK {
		m.refuse(w, r, result.Err())
	}
	return result.OK
}

func (m *Middleware) name() string { return cmp.Or(m.Name, "default") }

// take asks the Store. The result is of the limit as clients know it.
func (m *Middleware) take(r *http.Request, key string) (limiter.Result, error) {
	limit, cost := m.Limit, 1
	if m.LimitFor != nil {
		limit = m.LimitFor(r, key)
		if err := limit.Validate(); err != nil {
			return limiter.Result{}, err
		}
	}
	if m.Cost != nil {
		cost = max(1, m.Cost(r))
	}
	result, err := m.Store.Take(r.Context(), key, limit, cost, cost)
	result.Name, result.Limit = m.name(), limit
	return result, err
}

// failed is admit for a request about which nobody knows.
func (m *Middleware) failed(w http.ResponseWriter, r *http.Request, err error) bool {
	if r.Context().Err() != nil {
		// Most often the client has left, which is no failure of the Store, and nobody
		// hears the answer. But a deadline or a shutdown ends a context too, and of
		// silence net/http makes a 200.
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	}
	failure := &StoreError{err}
	if m.OnError != nil {
		m.OnError(r, failure)
	}
	if !m.FailOpen {
		m.refuse(w, r, failure)
	}
	return m.FailOpen
}

func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if m.Refuse != nil {
		m.Refuse(w, r, err)
		return
	}
	Refuse(w, r, err)
}

// Refuse answers a request that does not pass, with a body of application/problem+json (RFC
// 9457):
//
// For a [*limiter.LimitedError] it is a 429 with the problem type quota-exceeded and the
// limit's name; a Retry-After, unless waiting does not help; and the field by which retries
// and breakers know a refusal from a failure. Retry-After is in whole seconds, rounded
// up, and up to a fifth longer, but no more than a minute, since all who are refused by
// a bucket would come back for the same token.
//
// [ErrNoKey] is a 403: not a 400, since nothing may be wrong with the request; nor a 401,
// which has to say how to do better; nor anything that is worth another try.
//
// For any other error it is a 503, with a Retry-After if the error has one. What exactly
// failed it does not say: that is for logs, not for clients.
func Refuse(w http.ResponseWriter, _ *http.Request, err error) {
	if limited, ok := errors.AsType[*limiter.LimitedError](err); ok {
		refuseLimited(w, limited)
		return
	}
	if errors.Is(err, ErrNoKey) {
		problem.Write(w, http.StatusForbidden,
			"It is not known by whose limit this request is to be held.")
		return
	}
	setRetryAfter(w.Header(), verdict.RetryAfter(err))
	problem.Write(w, http.StatusServiceUnavailable,
		"Something that this service depends on is unavailable. Try again later.")
}

func refuseLimited(w http.ResponseWriter, err *limiter.LimitedError) {
	h := w.Header()
	refusal := hop.Refusal{Reason: hop.Limit, Scope: hop.Service, NoRetry: !err.Retryable()}
	h.Set(hop.RefusalField, refusal.String())
	setRetryAfter(h, err.RetryAfter())
	p := problem.Problem{
		Type:   "https://iana.org/assignments/http-problem-types#quota-exceeded",
		Title:  "Request cannot be satisfied as assigned quota has been exceeded",
		Status: http.StatusTooManyRequests,
		Detail: "Too many requests. Try again later.",
	}
	if refusal.NoRetry {
		p.Detail = "This request is more than its limit lets through at any time."
	}
	if err.Name != "" {
		p.ViolatedPolicies = []string{printable(err.Name)} // as the fields have it
	}
	p.Write(w)
}
