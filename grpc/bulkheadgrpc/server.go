package bulkheadgrpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/hop"
)

// Server bounds how many calls its handlers have at a time: those of a method that takes a
// lot of memory, or the part of a server that belongs to one tenant. It is no protection
// from too much load; see package bulkhead.
//
// A call that gets no slot is answered with Unavailable, with a RetryInfo if it is known
// when there will be one, and with what says that it is a refusal of this replica. Those
// that are refused together are sent away for up to a fifth longer, so that they do not come
// back together. One whose context has ended while it waited is answered with Canceled or
// DeadlineExceeded, and says the same: a deadline of the server's own may have been the
// reason, and the client still be there.
//
// It is safe for concurrent use; set its fields before the first call.
type Server struct {
	// Bulkhead returns the bulkhead of a call, by its context and its method, such as
	// "/package.Service/Method". Where it returns nil, the call passes without one. It is
	// required.
	Bulkhead func(ctx context.Context, method string) *bulkhead.Bulkhead

	// Skip names the methods that pass, as "/package.Service/Method", or all of a service,
	// as "/package.Service/". If nil, those of health and reflection; if empty but not
	// nil, none.
	Skip []string
}

// Unary returns the interceptor of calls with one message each way. It panics if Bulkhead is
// nil, or a name in Skip is none.
func (s *Server) Unary() grpc.UnaryServerInterceptor {
	s.check()
	return func(
		ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		b := s.bulkhead(ctx, info.FullMethod)
		if b == nil {
			return handler(ctx, req)
		}
		permit, err := b.Acquire(ctx)
		if err != nil {
			return nil, refuse(ctx, info.FullMethod, err)
		}
		defer permit.Release()
		return handler(ctx, req)
	}
}

// Stream returns the interceptor of streams. It panics as Unary does.
func (s *Server) Stream() grpc.StreamServerInterceptor {
	s.check()
	return func(
		srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		b := s.bulkhead(ss.Context(), info.FullMethod)
		if b == nil {
			return handler(srv, ss)
		}
		permit, err := b.Acquire(ss.Context())
		if err != nil {
			return refuse(ss.Context(), info.FullMethod, err)
		}
		defer permit.Release()
		return handler(srv, ss)
	}
}

func (s *Server) check() {
	if s.Bulkhead == nil {
		panic("bulkheadgrpc: Server.Bulkhead is nil")
	}
	methods.Check("bulkheadgrpc: Server.Skip", s.Skip)
}

func (s *Server) bulkhead(ctx context.Context, method string) *bulkhead.Bulkhead {
	if methods.Skipped(s.Skip, method) {
		return nil
	}
	return s.Bulkhead(ctx, method)
}

// refuse answers a call that has got no slot.
func refuse(ctx context.Context, method string, err error) error {
	return wire.Refuse(ctx, code(ctx, err), method,
		"this server has as many of these calls as it can serve",
		hop.Refusal{Reason: hop.Full, Scope: hop.Replica}, wire.Spread(err))
}
