package breakerhttp

import (
	"bufio"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/problem"
)

// Middleware guards a handler that fronts a dependency: a reverse proxy, or a route
// that does nothing but ask one backend. Where a handler fails by itself, a breaker
// before it only turns its errors into other errors; put the breaker around the call
// that fails instead. Nothing in this module uses it by default.
//
// A response counts when its header is written, by the rules of [Classify] for its
// status, so that a stream or an upgraded connection does not hold the breaker. A
// handler that panics before has failed, except with [http.ErrAbortHandler], by
// which a handler gives up on a client: that is ignored.
//
// It is safe for concurrent use; set its fields before the first.
type Middleware struct {
	// Breaker returns the breaker of a request. Where it returns nil, the request
	// passes without one. It is required.
	Breaker func(*http.Request) *breaker.Breaker

	// Count500 makes a 500 a failure. If zero, a 500 is a success.
	Count500 bool

	// Refuse answers a request that the breaker refused; the error is a
	// [*breaker.OpenError]. If nil, [Refuse].
	Refuse func(http.ResponseWriter, *http.Request, error)
}

// Handler returns next behind the breaker. It panics if Breaker is nil.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	if m.Breaker == nil {
		panic("breakerhttp: Middleware.Breaker is nil")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := m.Breaker(r)
		if b == nil {
			next.ServeHTTP(w, r)
			return
		}
		permit, err := b.Allow()
		if err != nil {
			m.refuse(w, r, err)
			return
		}
		rec := &recorder{w: w, r: r, m: m, permit: permit}
		defer rec.end()
		next.ServeHTTP(rec, r)
		rec.wroteNothing()
	})
}

func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if m.Refuse != nil {
		m.Refuse(w, r, err)
		return
	}
	Refuse(w, r, err)
}

// Refuse answers a refused request: 503, a Retry-After of whole seconds, at least
// one, the field by which other breakers know a refusal from a failure, and a body
// of application/problem+json (RFC 9457). What exactly is unavailable it does not
// say: that is for logs, not for clients.
func Refuse(w http.ResponseWriter, _ *http.Request, err error) {
	h := w.Header()
	h.Set("Retry-After", retryAfter(err))
	h.Set(hop.RefusalField, hop.Refusal{Reason: hop.Open, Scope: hop.Service}.String())
	problem.Write(w, http.StatusServiceUnavailable,
		"Something that this service depends on is unavailable. Try again later.")
}

func retryAfter(err error) string {
	var after time.Duration
	if open, ok := errors.AsType[*breaker.OpenError](err); ok {
		after = open.RetryAfter()
	}
	return strconv.FormatInt(int64(max(1, math.Ceil(after.Seconds()))), 10)
}

// recorder is a ResponseWriter that finishes a permit when the response's header is
// written.
type recorder struct {
	w      http.ResponseWriter
	r      *http.Request
	m      *Middleware
	permit breaker.Permit
}

// wrote finishes the permit by a status, the first that is final.
func (rec *recorder) wrote(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	resp := http.Response{StatusCode: status, Header: rec.w.Header()}
	outcome := Classify(&resp)
	if rec.m.Count500 && status == http.StatusInternalServerError {
		outcome = breaker.Failure
	}
	if outcome == breaker.Failure {
		rec.permit.Done(rec.r.Context(), newStatusError(&resp))
		return
	}
	rec.permit.Record(outcome)
}

// wroteNothing finishes the permit of a handler that returned without a word: net/http
// makes a 200 of it, unless nobody waits for it any more: the client has left, which is
// ignored, or a deadline is over, which is not.
func (rec *recorder) wroteNothing() {
	if err := rec.r.Context().Err(); err != nil {
		rec.permit.Done(rec.r.Context(), err)
	}
	rec.wrote(http.StatusOK)
}

// end finishes the permit of a handler that panicked, or ended its goroutine, before
// it wrote anything. Only recover tells the one panic that is ignored; panicking
// again from here keeps the frames of the first on the stack.
func (rec *recorder) end() {
	v := recover()
	if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it like this
		rec.permit.Record(breaker.Ignored)
	}
	rec.permit.Record(breaker.Failure)
	if v != nil {
		panic(v)
	}
}

func (rec *recorder) Header() http.Header { return rec.w.Header() }

func (rec *recorder) WriteHeader(status int) {
	rec.wrote(status)
	rec.w.WriteHeader(status)
}

func (rec *recorder) Write(p []byte) (int, error) {
	rec.wrote(http.StatusOK)
	return rec.w.Write(p)
}

// ReadFrom keeps sendfile for io.Copy where the writer below has it. The first bytes
// go the slow way, since a source that fails before them leaves the header unwritten.
func (rec *recorder) ReadFrom(src io.Reader) (int64, error) {
	first, err := io.CopyN(struct{ io.Writer }{rec}, src, 512)
	if err == io.EOF { //nolint:errorlint // as io.Copy: one that wraps it is an error
		return first, nil
	}
	if err != nil {
		return first, err
	}
	rest, err := io.Copy(rec.w, src)
	return first + rest, err
}

// Flush is for handlers that ask for an http.Flusher.
func (rec *recorder) Flush() { _ = rec.FlushError() }

// FlushError is what http.ResponseController asks for.
func (rec *recorder) FlushError() error {
	err := http.NewResponseController(rec.w).Flush()
	if err == nil {
		rec.wrote(http.StatusOK)
	}
	return err
}

// Hijack takes over the connection. It counts as a success: the handler answered.
func (rec *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(rec.w).Hijack()
	if err == nil {
		rec.wrote(http.StatusSwitchingProtocols)
	}
	return conn, rw, err
}

// Unwrap returns the writer below, for http.ResponseController.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.w }
