package shedgrpc

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/tap"

	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/shed"
)

// Tap returns a handle for [google.golang.org/grpc.InTapHandle] that takes a slot for a call
// before gRPC does anything for it, and refuses it where there is none. See the package's
// documentation; the interceptors of the same Server are needed as well.
//
// It calls the Server's functions where the frames of a connection are read, one call after
// the other, and under a lock of gRPC's: they must not wait for anything. The context that
// they get is that of the connection, with the metadata of the call; no interceptor has seen
// it yet. What an interceptor finds out later, such as a tenant, still goes into the context
// of the handler.
//
// It panics as Unary does.
func (s *Server) Tap() tap.ServerInHandle {
	s.check()
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		method := info.FullMethodName
		if methods.Skipped(s.Skip, method) {
			return ctx, nil
		}
		shedder := s.Shedder(ctx, method)
		if shedder == nil {
			return ctx, nil
		}
		x := s.newExchange(ctx, method)
		permit, err := shedder.TryAcquire(&x.ctx)
		if err != nil {
			code, text := refusal(err)
			refused := hop.Refusal{Reason: hop.Shed, Scope: hop.Replica}
			return nil, wire.Status(code, method, text, refused, verdict.RetryAfter(err)).Err()
		}
		r := &reservation{server: s, permit: permit}
		// gRPC ends the context of whatever it has let in, on each way that a call can take.
		// Of one that a tap has refused it does not: so nothing is registered before.
		r.keep = context.AfterFunc(ctx, func() { r.permit.Record(shed.Ignored) })
		return context.WithValue(ctx, reservationKey{}, r), nil
	}
}

// reservation is a slot that a tap has taken, for an interceptor to take over.
type reservation struct {
	server *Server
	permit shed.Permit
	taken  atomic.Bool
	keep   func() (stopped bool) // true: the slot is the caller's from now on
}

type reservationKey struct{}

// reservationOf returns that of a context, or nil.
func reservationOf(ctx context.Context) *reservation {
	r, _ := ctx.Value(reservationKey{}).(*reservation)
	return r
}
