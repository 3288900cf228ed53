package shedhttp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

// exchange is a request that is served, and the ResponseWriter of its handler.
type exchange struct {
	m       *Middleware
	w       http.ResponseWriter
	outside *http.Request // as it came
	r       *http.Request // as the handler has it, in ctx
	ctx     scope

	permit   shed.Permit
	finished atomic.Bool // so is the permit; StopClock may come from another goroutine

	hurried  bool // its time, if it has one, is that of a client nobody trusts
	returned bool // so has the handler
	status   int  // 0: not written yet
}

// scope is the context of an exchange. It is a part of it, since to allocate both at once
// is cheaper; and one context for all that is in it, since each takes a step more to look
// through.
type scope struct {
	context.Context //nolint:containedctx // it is a context
	x               *exchange
	sender          hop.Sender
}

type exchangeKey struct{}

// Value has what the request says of itself, and its exchange.
func (s *scope) Value(key any) any {
	if key == (exchangeKey{}) {
		return s.x
	}
	if sender := s.sender.Asked(key); sender != nil {
		return sender
	}
	return s.Context.Value(key)
}

// exchangeOf returns that of a context, or nil.
func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// StopClock gives back the slot of the request whose context, or one derived from it, ctx
// is. The request goes on, and how long it takes counts for nothing. It is for handlers
// that wait for news, or begin a stream: they would seem to be slow, and be taken for
// overload. Call it when the work is done and the wait begins:
//
//	shedhttp.StopClock(r.Context())
//	select {
//	case <-news:
//	case <-r.Context().Done():
//	}
//
// A connection that is upgraded needs no call. Streams do: what is streamed may be all of
// the work. In a reverse proxy, ModifyResponse can see what it is, and has the context in
// resp.Request.
//
// Without a Middleware around it, or called again, it does nothing. It is safe for
// concurrent use.
func StopClock(ctx context.Context) {
	for x := exchangeOf(ctx); x != nil; x = exchangeOf(x.outside.Context()) {
		x.finish(shed.Ignored)
	}
}

// finish gives back the slot, unless that was done already.
func (x *exchange) finish(o shed.Outcome) {
	if !x.finished.Swap(true) {
		x.permit.Record(o)
	}
}

// end is the end of the handler, however it came about. net/http removes the files of the
// form that it finds in its own request, and telemetry looks at the pattern there.
func (x *exchange) end() {
	x.outside.MultipartForm, x.outside.Pattern = x.r.MultipartForm, x.r.Pattern
	outcome := shed.Ignored
	defer func() { x.finish(outcome) }() // also if a Classify panics
	if x.returned && !x.finished.Load() {
		outcome = x.outcome()
	}
}

// outcome is that of a handler which has returned.
func (x *exchange) outcome() shed.Outcome {
	if err := x.ctx.Err(); err != nil {
		if errors.Is(err, context.Canceled) {
			return shed.Ignored // the client has left, and the handler knows
		}
		return x.ranOut()
	}
	status := x.status
	if status == 0 {
		status = http.StatusOK // net/http makes one of it
	}
	if x.m.Classify != nil {
		return x.m.Classify(x.outside, status, x.w.Header())
	}
	return Classify(x.outside, status, x.w.Header())
}

// ranOut returns the outcome of a request whose time is over, by whose time it was: its
// own, or one that it got outside of here, perhaps by another Middleware.
func (x *exchange) ranOut() shed.Outcome {
	before := x.outside.Context()
	if before.Err() == nil {
		if x.hurried {
			return shed.Ignored
		}
		return shed.Overloaded
	}
	if outer := exchangeOf(before); outer != nil {
		return outer.ranOut()
	}
	return shed.Overloaded
}

// wrote notes a status, the first that is final. From a 101 on it is a connection.
func (x *exchange) wrote(status int) {
	switch {
	case status == http.StatusSwitchingProtocols:
		x.finish(shed.Ignored)
	case status < 200, x.status != 0:
		return
	}
	x.status = status
}

// Header returns that of the response.
func (x *exchange) Header() http.Header { return x.w.Header() }

// WriteHeader writes it.
func (x *exchange) WriteHeader(status int) {
	x.wrote(status)
	x.w.WriteHeader(status)
}

// Write writes a part of the body.
func (x *exchange) Write(p []byte) (int, error) {
	x.wrote(http.StatusOK)
	return x.w.Write(p)
}

// WriteString is for io.WriteString, which would copy the string.
func (x *exchange) WriteString(s string) (int, error) {
	x.wrote(http.StatusOK)
	return io.WriteString(x.w, s)
}

// ReadFrom keeps sendfile for io.Copy where the writer below has it. A source that fails
// before the first byte leaves the header unwritten.
func (x *exchange) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(x.w, src)
	if n > 0 {
		x.wrote(http.StatusOK)
	}
	return n, err
}

// Flush is for handlers that ask for an http.Flusher.
func (x *exchange) Flush() { _ = x.FlushError() }

// FlushError is what http.ResponseController asks for.
func (x *exchange) FlushError() error {
	err := http.NewResponseController(x.w).Flush()
	if err == nil {
		x.wrote(http.StatusOK)
	}
	return err
}

// Hijack takes over the connection.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(x.w).Hijack()
	if err == nil {
		x.wrote(http.StatusSwitchingProtocols)
	}
	return conn, rw, err
}

// Unwrap returns the writer below, for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.w }
