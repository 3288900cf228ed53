package shedgrpc

import (
	"cmp"
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

// Server sheds the calls that are too much for its handlers, the least critical first. It is
// safe for concurrent use; set its fields before the first call.
type Server struct {
	// Shedder returns the shedder of a call, by its context and its method, such as
	// "/package.Service/Method". Where it returns nil, the call passes without one, and what
	// it says of itself is still in its context. It is required.
	Shedder func(ctx context.Context, method string) *shed.Shedder

	// Criticality returns the class of a call by what the server knows of it, such as its
	// method: that of those who say nothing, and the highest for those who are not trusted.
	// If nil, or for 0, it is that of the call's context, or shed.Critical.
	Criticality func(ctx context.Context, method string) shed.Criticality

	// Tenant returns who is behind a call, as it was authenticated, or "" if that is not
	// known. One of more than 256 bytes is none. A call of those who are trusted may say on
	// whose behalf it is instead. If nil, it is the tenant of the call's context, from
	// stormjib.WithTenant.
	Tenant func(ctx context.Context, method string) string

	// Trust reports whether all that a call says of itself is believed, a higher class and a
	// tenant included, and a deadline: whether it comes from another service of one's own,
	// by what its certificate says ([google.golang.org/grpc/peer]), or by a network where
	// nobody else can be. If nil, no call is trusted, since metadata can come from anybody.
	Trust func(ctx context.Context, method string) bool

	// Skip names the methods that pass, as "/package.Service/Method", or all of a service,
	// as "/package.Service/". If nil, those of health and reflection; if empty but not nil,
	// none.
	Skip []string

	// Classify tells what the error of a handler, nil included, means for the shedder. If
	// nil, [Classify].
	Classify func(method string, err error) shed.Outcome
}

// Unary returns the interceptor of calls with one message each way. It panics if Shedder is
// nil, or a name in Skip is none.
func (s *Server) Unary() grpc.UnaryServerInterceptor {
	s.check()
	return func(
		ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		if methods.Skipped(s.Skip, info.FullMethod) {
			return handler(ctx, req)
		}
		x, err := s.begin(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		defer x.end()
		resp, err := handler(&x.ctx, req)
		x.returned, x.err = true, err
		return resp, err
	}
}

// Stream returns the interceptor of streams. It panics as Unary does.
func (s *Server) Stream() grpc.StreamServerInterceptor {
	s.check()
	return func(
		srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		if methods.Skipped(s.Skip, info.FullMethod) {
			return handler(srv, ss)
		}
		x, err := s.begin(ss.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		defer x.end()
		err = handler(srv, &serverStream{ss, &x.ctx})
		x.returned, x.err = true, err
		return err
	}
}

// serverStream is a stream whose context is that of an exchange.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // it is the stream's
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *Server) check() {
	if s.Shedder == nil {
		panic("shedgrpc: Server.Shedder is nil")
	}
	methods.Check("shedgrpc: Server.Skip", s.Skip)
}

// begin returns the exchange of a call that has a slot, or needs none, or else what the call
// is answered with.
func (s *Server) begin(ctx context.Context, method string) (*exchange, error) {
	x := s.newExchange(ctx, method)
	if r := reservationOf(ctx); r != nil && r.server == s && !r.taken.Swap(true) {
		if !r.keep() { // the call has ended meanwhile, and the slot is somebody else's
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		x.permit = &r.permit
		return x, nil
	}
	shedder := s.Shedder(ctx, method)
	if shedder == nil {
		return x, nil
	}
	permit, err := shedder.Acquire(&x.ctx)
	if err != nil {
		// Where this is behind another Server, that one has had no load from the call, and
		// is not to take the refusal for that of something behind.
		StopClock(ctx)
		code, text := refusal(err)
		return nil, wire.Refuse(ctx, code, method, text,
			hop.Refusal{Reason: hop.Shed, Scope: hop.Replica}, err)
	}
	x.permit = &permit
	return x, nil
}

func (s *Server) newExchange(ctx context.Context, method string) *exchange {
	x := &exchange{server: s, method: method, outside: ctx}
	sender, trusted := s.sender(ctx, method)
	x.trusted = trusted
	x.ctx = scope{ctx, x, sender}
	return x
}

// sender returns what a call says of itself, as far as it is believed, and whether that is
// all of it.
func (s *Server) sender(ctx context.Context, method string) (hop.Sender, bool) {
	sender := s.known(ctx, method)
	md, _ := metadata.FromIncomingContext(ctx)
	said := wire.Said(md)
	sender.Attempt = max(sender.Attempt, said.Attempt)
	_, timed := ctx.Deadline()
	trusted := (timed || said.Criticality != 0 || said.Tenant != "") &&
		s.Trust != nil && s.Trust(ctx, method)
	if trusted && said.Tenant != "" {
		sender.Tenant = said.Tenant
	}
	if said.Criticality != 0 {
		own := cmp.Or(sender.Criticality, uint8(shed.Critical))
		if trusted || said.Criticality < own {
			sender.Criticality = said.Criticality
		}
	}
	return sender, trusted
}

// known returns what the server knows of a call without asking it.
func (s *Server) known(ctx context.Context, method string) hop.Sender {
	known := hop.SenderOf(ctx)
	if s.Criticality != nil {
		if c := s.Criticality(ctx, method); c >= shed.BestEffort && c <= shed.CriticalPlus {
			known.Criticality = uint8(c)
		}
	}
	if s.Tenant != nil {
		if tenant := s.Tenant(ctx, method); tenant != "" {
			known.Tenant = hop.BoundTenant(tenant)
		}
	}
	return known
}

// refusal returns the code and the text of a refusal. Why exactly it does not say: that is
// for logs, not for clients.
func refusal(err error) (codes.Code, string) {
	e, ok := errors.AsType[*shed.OverloadError](err)
	switch {
	case ok && e.OverShare:
		return codes.ResourceExhausted,
			"this server has more to do than it can, and most of it for you"
	case !ok && errors.Is(err, context.Canceled):
		return codes.Canceled, "nobody waits for this call"
	case !ok && errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded, "the time of this call was over before it was begun"
	}
	return codes.Unavailable, "this server has more to do than it can"
}
