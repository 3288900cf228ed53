package shedgrpc

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

// exchange is a call that is served.
type exchange struct {
	server  *Server
	method  string
	outside context.Context //nolint:containedctx // of the call, as it came
	ctx     scope           // that of the handler

	permit   *shed.Permit // nil: it needs none
	finished atomic.Bool  // so is the permit; StopClock may come from another goroutine

	trusted  bool // so is the call, and with it its deadline
	returned bool // so has the handler, with err
	err      error
}

// scope is the context of an exchange, and a part of it: to allocate both at once is
// cheaper, and so is to look through one context instead of three.
type scope struct {
	context.Context //nolint:containedctx // it is a context
	x               *exchange
	sender          hop.Sender
}

type exchangeKey struct{}

// Value has what the call says of itself, and its exchange.
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

// StopClock gives back the slot of the call whose context, or one derived from it, ctx
// is. The call goes on, and how long it takes counts for nothing. It is for handlers that
// wait for news, and for streams that stay open: they would seem to be slow, and be taken
// for overload. Call it when the work is done and the wait begins:
//
//	shedgrpc.StopClock(stream.Context())
//	for event := range events {
//		...
//	}
//
// Without a [Server] around it, or called again, it does nothing. It is safe for
// concurrent use.
func StopClock(ctx context.Context) {
	for x := exchangeOf(ctx); x != nil; x = exchangeOf(x.outside) {
		x.finish(shed.Ignored)
	}
}

// finish gives back the slot, unless that was done already.
func (x *exchange) finish(o shed.Outcome) {
	if x.permit != nil && !x.finished.Swap(true) {
		x.permit.Record(o)
	}
}

// end is the end of the handler, however it came about.
func (x *exchange) end() {
	outcome := shed.Ignored
	defer func() { x.finish(outcome) }() // also if a Classify panics
	if x.returned && x.permit != nil && !x.finished.Load() {
		outcome = x.outcome()
	}
}

// outcome is that of a handler which has returned.
func (x *exchange) outcome() shed.Outcome {
	switch {
	case x.outside.Err() == nil:
	case x.trusted && x.late():
		return shed.Overloaded
	default: // the client has left, or gRPC does not say whose deadline it was
		return shed.Ignored
	}
	if x.server.Classify != nil {
		return x.server.Classify(x.method, x.err)
	}
	return Classify(x.method, x.err)
}

// late reports whether the deadline of the call is over. Clients count to the same
// moment, and when one of them comes to it first, it seems to have left.
func (x *exchange) late() bool {
	const apart = 10 * time.Millisecond
	deadline, ok := x.outside.Deadline()
	return ok && time.Until(deadline) <= apart
}
