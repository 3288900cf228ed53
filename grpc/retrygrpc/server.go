package retrygrpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/verdict"
)

// Server tells clients not to retry what the server has retried already, or knows to be of
// no use: a handler's error that forbids it, such as the [*retry.Error] of a [Client] that
// gave up on something behind the server, or [retry.Permanent]. The answer keeps its code
// and its text. A Client reads it back, and one of gRPC's own, which retries by its service
// config, is pushed back (gRFC A6).
//
// It has no state. The zero Server is ready to use.
type Server struct {
	// Skip names the methods that pass, as "/package.Service/Method", or all of a service,
	// as "/package.Service/". If nil, those of health and reflection; if empty but not
	// nil, none.
	Skip []string
}

// Unary returns the interceptor of calls with one message each way. It panics if a name in
// Skip is none.
func (s *Server) Unary() grpc.UnaryServerInterceptor {
	s.check()
	return func(
		ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		resp, err := handler(ctx, req)
		return resp, s.mark(ctx, info.FullMethod, err)
	}
}

// Stream returns the interceptor of streams. It panics as Unary does.
func (s *Server) Stream() grpc.StreamServerInterceptor {
	s.check()
	return func(
		srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		return s.mark(ss.Context(), info.FullMethod, handler(srv, ss))
	}
}

func (s *Server) check() { methods.Check("retrygrpc: Server.Skip", s.Skip) }

// mark returns err, which says to clients what it says to us.
func (s *Server) mark(ctx context.Context, method string, err error) error {
	if err == nil || verdict.Retryable(err) || methods.Skipped(s.Skip, method) {
		return err
	}
	return wire.GivenUp(ctx, method, err)
}
