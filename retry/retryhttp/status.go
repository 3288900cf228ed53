package retryhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/problem"
	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/retry"
)

// Idempotent is what a [Transport] without an Idempotent goes by: it reports whether
// the method is one of GET, HEAD, OPTIONS, TRACE, PUT, DELETE and QUERY, or the
// request has a field Idempotency-Key or X-Idempotency-Key.
func Idempotent(r *http.Request) bool {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		http.MethodPut, http.MethodDelete, "QUERY":
		return true
	}
	_, key := r.Header["Idempotency-Key"]
	_, xKey := r.Header["X-Idempotency-Key"]
	return key || xKey
}

// notSent reports whether err says that nothing of the request was sent.
func notSent(err error) bool {
	if verdict.NotAttempted(err) {
		return true
	}
	// Not by errors.As, which would let one branch of a join answer for the others.
	for err != nil {
		if op, ok := err.(*net.OpError); ok { //nolint:errorlint // see above
			return op.Op == "dial" || op.Op == "proxyconnect"
		}
		err = errors.Unwrap(err)
	}
	return false
}

// untrusted reports whether err is that of a certificate. No attempt makes it better.
func untrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// StatusError stands for a response that is a failure where a policy asks for an error:
// its RetryIf and OnRetry get it, and it is among the Errs of a [*retry.Error]. Callers of
// [Transport] get the response instead.
type StatusError struct {
	StatusCode int // 408, 425, 429, or 500 and above

	after     time.Duration
	elsewhere bool // another replica may answer
	retryable bool
}

// CheckResponse returns nil for a response by which the server shows that it works,
// such as a 404, and otherwise a [*StatusError]: for loops of your own, and for servers
// that pass a failure on, to [Fail].
func CheckResponse(resp *http.Response) error {
	if e := newStatusError(resp); e != nil {
		return e
	}
	return nil
}

// newStatusError returns nil if the response is no failure.
func newStatusError(resp *http.Response) *StatusError {
	status := resp.StatusCode
	if status < 500 && status != http.StatusTooManyRequests && !transient(status) {
		return nil
	}
	e := &StatusError{StatusCode: status}
	after, asks := hop.ParseRetryAfter(
		resp.Header.Get("Retry-After"), resp.Header.Get("Date"), time.Now())
	refusal, marked := hop.ParseRefusal(resp.Header.Get(hop.RefusalField))
	e.elsewhere = marked && refusal.Refused() && refusal.Scope == hop.Replica
	if !e.elsewhere { // how long one replica needs is no matter to the others
		e.after = after
	}
	switch {
	case refusal.NoRetry, refusedByEnvoy(resp.Header):
	case status == http.StatusTooManyRequests:
		e.retryable = asks || e.elsewhere
	default:
		e.retryable = transient(status)
	}
	return e
}

// transient reports whether a status is one that passes.
func transient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// refusedByEnvoy reports whether Envoy, by its circuit breaker or its rate limit, refused
// for all of what is behind it. It goes by the presence of the field, as Envoy does.
func refusedByEnvoy(h http.Header) bool {
	return len(h["X-Envoy-Overloaded"]) > 0 || len(h["X-Envoy-Ratelimited"]) > 0
}

// Error names the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("retryhttp: status %d %s", e.StatusCode, http.StatusText(e.StatusCode))
}

// RetryAfter returns what the response's Retry-After field asks for, as seconds or as a
// date, or 0. It is 0 also for a refusal that holds for one replica alone.
func (e *StatusError) RetryAfter() time.Duration { return e.after }

// Retryable reports whether the response is worth another attempt: see Defaults in the
// package's documentation.
func (e *StatusError) Retryable() bool { return e.retryable }

// markGivenUp has a response say that it is not to be retried, if err, with which its
// call ended, is more than that of a single attempt. What else it says of itself stays:
// for a breaker, a refusal is still one.
func markGivenUp(resp *http.Response, err error) {
	if _, ok := errors.AsType[*retry.Error](err); !ok {
		return
	}
	refusal, ok := hop.ParseRefusal(resp.Header.Get(hop.RefusalField))
	if !ok {
		refusal = hop.Refusal{Reason: hop.Failed, Scope: hop.Service}
	}
	refusal.NoRetry = true
	if resp.Header == nil {
		resp.Header = make(http.Header)
	}
	resp.Header.Set(hop.RefusalField, refusal.String())
}

// Fail answers a request that failed because of err, what a policy, a [Transport] or
// [CheckResponse] returned: 503, or 504 if err matches [context.DeadlineExceeded], with
// a body of application/problem+json (RFC 9457). Where err forbids a retry, as one does
// that was retried already, the response says so to the client's transport; where it
// asks for a delay, there is a Retry-After. What exactly failed it does not say: that is
// for logs, not for clients.
func Fail(w http.ResponseWriter, _ *http.Request, err error) {
	status := http.StatusServiceUnavailable
	if errors.Is(err, context.DeadlineExceeded) {
		status = http.StatusGatewayTimeout
	}
	h := w.Header()
	if after := verdict.RetryAfter(err); after > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(after.Seconds())), 10))
	}
	if !verdict.Retryable(err) {
		failed := hop.Refusal{Reason: hop.Failed, Scope: hop.Service, NoRetry: true}
		h.Set(hop.RefusalField, failed.String())
	}
	problem.Write(w, status,
		"Something that this service depends on has failed. Try again later.")
}
