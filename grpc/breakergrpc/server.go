package breakergrpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/hop"
)

// Server guards handlers that front a dependency: a proxy, or a method that does nothing
// but ask one backend. Where a handler fails by itself, a breaker before it only turns its
// errors into other errors; put the breaker around the call that fails instead.
//
// A call counts when its handler returns, by the code of its error. A handler that panics
// has failed.
//
// A call that the breaker refuses is answered with Unavailable, a RetryInfo, and what says
// that it is a refusal of the whole service, and when to come back: clients that retry by
// their service config (gRFC A6) understand that too.
//
// It is safe for concurrent use; set its fields before the first call.
type Server struct {
	// Breaker returns the breaker of a call, by its context and its method, such as
	// "/package.Service/Method". Where it returns nil, the call passes without one. It is
	// required.
	Breaker func(ctx context.Context, method string) *breaker.Breaker

	// Skip names the methods that pass, as "/package.Service/Method", or all of a service,
	// as "/package.Service/". If nil, those of health and reflection; if empty but not
	// nil, none.
	Skip []string

	// CountUnknown makes Unknown a failure. If zero, it is a success.
	CountUnknown bool

	// Classify tells what a code means for the breaker. If nil, [Classify], with
	// CountUnknown.
	Classify func(codes.Code) breaker.Outcome
}

// Unary returns the interceptor of calls with one message each way. It panics if Breaker is
// nil, or a name in Skip is none.
func (s *Server) Unary() grpc.UnaryServerInterceptor {
	s.check()
	return func(
		ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		b := s.breaker(ctx, info.FullMethod)
		if b == nil {
			return handler(ctx, req)
		}
		permit, err := b.Allow()
		if err != nil {
			return nil, refuse(ctx, info.FullMethod, err)
		}
		defer permit.Record(breaker.Failure) // of a panic; otherwise finished by then
		resp, err := handler(ctx, req)
		s.finish(ctx, &permit, info.FullMethod, err)
		return resp, err
	}
}

// Stream returns the interceptor of streams. It panics as Unary does.
func (s *Server) Stream() grpc.StreamServerInterceptor {
	s.check()
	return func(
		srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		b := s.breaker(ss.Context(), info.FullMethod)
		if b == nil {
			return handler(srv, ss)
		}
		permit, err := b.Allow()
		if err != nil {
			return refuse(ss.Context(), info.FullMethod, err)
		}
		defer permit.Record(breaker.Failure) // as in Unary
		err = handler(srv, ss)
		s.finish(ss.Context(), &permit, info.FullMethod, err)
		return err
	}
}

func (s *Server) check() {
	if s.Breaker == nil {
		panic("breakergrpc: Server.Breaker is nil")
	}
	methods.Check("breakergrpc: Server.Skip", s.Skip)
}

func (s *Server) breaker(ctx context.Context, method string) *breaker.Breaker {
	if methods.Skipped(s.Skip, method) {
		return nil
	}
	return s.Breaker(ctx, method)
}

func (s *Server) finish(
	ctx context.Context, permit *breaker.Permit, method string, err error,
) {
	if err == nil {
		permit.Record(breaker.Success)
		return
	}
	finish(ctx, permit, wire.Read(method, err, nil), s.Classify, s.CountUnknown)
}

// refuse answers a call that the breaker refused. What exactly is unavailable it does not
// say: that is for logs, not for clients.
func refuse(ctx context.Context, method string, err error) error {
	return wire.Refuse(ctx, codes.Unavailable, method,
		"something that this service depends on is unavailable",
		hop.Refusal{Reason: hop.Open, Scope: hop.Service}, err)
}
