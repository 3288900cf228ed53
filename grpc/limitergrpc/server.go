package limitergrpc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/limiter"
)

// KeyFunc returns the key of the bucket that a call takes from, such as the tenant that an
// earlier interceptor has authenticated, by the call's context and its method, such as
// "/package.Service/Method". It reports false if there is none.
//
// An empty key is none, whatever it reports: metadata that is not there would be one bucket
// for all who leave it out. Who wants one for everybody returns a constant. Nor should it
// return what the client can choose at will, such as a token that nobody has checked: each
// new one is a full bucket. A key of several parts needs a separator that none of them can
// contain.
type KeyFunc func(ctx context.Context, method string) (key string, ok bool)

// PeerAddr is the KeyFunc for the address that a call comes from: for servers whose clients
// connect to them, and not to a proxy. Of an IPv6 address it is the /64, since that is what
// a client has, and it can choose among the rest. An IPv4 address is the same in whatever
// form it comes. It reports false where there is no address, as with a Unix socket.
func PeerAddr(ctx context.Context, _ string) (key string, ok bool) {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "", false
	}
	from, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return "", false
	}
	ip := from.Addr().Unmap()
	if ip.Is4() {
		return ip.String(), true
	}
	network, err := ip.Prefix(64)
	return network.String(), err == nil
}

// Server refuses calls for which there is no token in their bucket. It has no state but its
// Store's. It is safe for concurrent use; set its fields before the first call.
type Server struct {
	// Name names the limit to clients, in refusals. Those of a chain should differ. If
	// zero, it has none, and not the name that the Store goes by, which may not be for
	// clients.
	Name string

	// Store keeps the buckets. It finds them by their keys alone: two limits that have
	// the same keys need a Store each, or one for which the keys are made to differ.
	// It is required.
	Store limiter.Store

	// Key says whose bucket a call takes from. It is required.
	Key KeyFunc

	// Limit is what a bucket lets through. If zero, nothing.
	Limit limiter.Limit

	// LimitFor returns the limit of a call, such as that of its tenant's plan. It is made
	// for one limit a key, which may change; see [limiter.Store] for what becomes of its
	// tokens. One that is not valid is an error, as the Store's are. If nil, Limit.
	LimitFor func(ctx context.Context, method, key string) limiter.Limit

	// Cost returns how many tokens a call takes. Less than 1 counts as 1: what is free
	// is better named in Skip. More than the Burst never passes. If nil, 1.
	Cost func(ctx context.Context, method string) int

	// Skip names the methods that pass, as "/package.Service/Method", or all of a service,
	// as "/package.Service/". If nil, those of health and reflection; if empty but not
	// nil, none.
	Skip []string

	// PassUnkeyed lets calls without a key pass, without a limit. If zero, they are
	// refused, with PermissionDenied: a limit that is not for those who withhold who
	// they are is for nobody.
	PassUnkeyed bool

	// FailOpen lets calls pass while the Store fails: for a limit that is there for
	// fairness, and not for safety. If zero, they are refused, with Unavailable.
	FailOpen bool

	// OnError is told of each failure of the Store, and of each limit that is not valid,
	// whether or not the call passes. If nil, nobody is.
	OnError func(ctx context.Context, method string, err error)
}

// Unary returns the interceptor of calls with one message each way. It panics if Store or
// Key is nil, if Limit is needed and not valid, or if a name in Skip is none.
func (s *Server) Unary() grpc.UnaryServerInterceptor {
	s.check()
	return func(
		ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		if err := s.admit(ctx, info.FullMethod); err != nil {
			return nil, err
		}
		return handler(ctx, req)
	}
}

// Stream returns the interceptor of streams. It panics as Unary does.
func (s *Server) Stream() grpc.StreamServerInterceptor {
	s.check()
	return func(
		srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		if err := s.admit(ss.Context(), info.FullMethod); err != nil {
			return err
		}
		return handler(srv, ss)
	}
}

func (s *Server) check() {
	switch {
	case s.Store == nil:
		panic("limitergrpc: Server.Store is nil")
	case s.Key == nil:
		panic("limitergrpc: Server.Key is nil")
	}
	if err := s.Limit.Validate(); err != nil && s.LimitFor == nil {
		panic(fmt.Sprintf("limitergrpc: Server.Limit is not valid: %v", err))
	}
	methods.Check("limitergrpc: Server.Skip", s.Skip)
}

// admit returns nil if the call passes, or else what it is answered with.
func (s *Server) admit(ctx context.Context, method string) error {
	if methods.Skipped(s.Skip, method) {
		return nil
	}
	key, ok := s.Key(ctx, method)
	if !ok || key == "" {
		if s.PassUnkeyed {
			return nil
		}
		return status.Error(codes.PermissionDenied,
			"it is not known by whose limit this call is to be held")
	}
	result, err := s.take(ctx, method, key)
	if err != nil {
		return s.failed(ctx, method, err)
	}
	return s.refuse(ctx, method, result.Err())
}

func (s *Server) take(ctx context.Context, method, key string) (limiter.Result, error) {
	limit, cost := s.Limit, 1
	if s.LimitFor != nil {
		limit = s.LimitFor(ctx, method, key)
		if err := limit.Validate(); err != nil {
			return limiter.Result{}, err
		}
	}
	if s.Cost != nil {
		cost = max(1, s.Cost(ctx, method))
	}
	return s.Store.Take(ctx, key, limit, cost, cost)
}

// failed is admit for a call about which nobody knows. What exactly failed it does not say:
// that is for logs, not for clients.
func (s *Server) failed(ctx context.Context, method string, err error) error {
	if ended := ctx.Err(); ended != nil { // which is no failure of the Store
		return status.FromContextError(ended).Err()
	}
	if s.OnError != nil {
		s.OnError(ctx, method, err)
	}
	if s.FailOpen {
		return nil
	}
	return wire.Later(status.New(codes.Unavailable,
		"something that this service depends on is unavailable"), err).Err()
}

// refuse returns what a call that its limit refuses is answered with.
func (s *Server) refuse(ctx context.Context, method string, err error) error {
	limited, ok := errors.AsType[*limiter.LimitedError](err)
	if !ok {
		return nil
	}
	text := "too many calls"
	never := !limited.Retryable()
	if never {
		text = "the call is more than its limit lets through at any time"
	}
	if s.Name != "" {
		text += fmt.Sprintf(" (limit %q)", s.Name)
	}
	return wire.Refuse(ctx, codes.ResourceExhausted, method, text,
		hop.Refusal{Reason: hop.Limit, Scope: hop.Service, NoRetry: never},
		wire.Spread(limited))
}
