package shedgrpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/grpc/internal/stream"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/verdict"
	"github.com/stormjib/stormjib/shed/throttle"
)

// Client says with each call what it is, by its context: the class, from
// [github.com/stormjib/stormjib/shed.WithCriticality] or as it came in with the call that
// this one is made for, and the tenant, likewise. With a Throttle it sends less to a server
// that sheds. The zero Client does the first alone. It is safe for concurrent use; set its
// fields before the first call.
//
// It belongs on a connection to services of one's own: to strangers it would name one's
// customers.
//
// Put it behind what retries, so that each attempt is asked for: it is each attempt that a
// server has to turn away. With the refusal of a throttle the error is a
// [*throttle.ThrottledError] by errors.As, and Unavailable by package status; the call was
// not made then. Any other error is returned as it is.
type Client struct {
	// Throttle returns the throttle of a call, such as a group's, by its context, the target
	// of its connection, such as "dns:///prices:443", and its method, such as
	// "/package.Service/Method". Where it returns nil, the call passes without one. If nil,
	// all do.
	Throttle func(ctx context.Context, target, method string) *throttle.Throttle

	// Skip names the methods that pass as they are, as "/package.Service/Method", or all of a
	// service, as "/package.Service/". If nil, those of health and reflection; if empty but
	// not nil, none.
	Skip []string
}

// Unary returns the interceptor of calls with one message each way. It panics if a name in
// Skip is none.
func (c *Client) Unary() grpc.UnaryClientInterceptor {
	methods.Check("shedgrpc: Client.Skip", c.Skip)
	return func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		if methods.Skipped(c.Skip, method) {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		guard := c.throttle(ctx, cc, method)
		if guard == nil {
			return invoker(wire.Tell(ctx), method, req, reply, cc, opts...)
		}
		permit, err := guard.Allow(ctx)
		if err != nil {
			return wire.Local(err, codes.Unavailable)
		}
		defer permit.Record(throttle.Ignored) // of a panic; otherwise finished by then
		var trailer metadata.MD
		err = invoker(wire.Tell(ctx), method, req, reply, cc,
			stream.With(opts, grpc.Trailer(&trailer))...)
		finish(ctx, &permit, method, err, trailer)
		return err
	}
}

// Stream returns the interceptor of streams. What a stream says to the throttle it says at
// its end. It panics as Unary does.
func (c *Client) Stream() grpc.StreamClientInterceptor {
	methods.Check("shedgrpc: Client.Skip", c.Skip)
	return func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		streamer grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		if methods.Skipped(c.Skip, method) {
			return streamer(ctx, desc, cc, method, opts...)
		}
		guard := c.throttle(ctx, cc, method)
		if guard == nil {
			return streamer(wire.Tell(ctx), desc, cc, method, opts...)
		}
		permit, err := guard.Allow(ctx)
		if err != nil {
			return nil, wire.Local(err, codes.Unavailable)
		}
		return stream.Open(wire.Tell(ctx), desc, cc, method, streamer, opts,
			func(err error, trailer metadata.MD) {
				if err == stream.ErrAbandoned { //nolint:errorlint // it is no answer
					permit.Record(throttle.Ignored)
					return
				}
				finish(ctx, &permit, method, err, trailer)
			})
	}
}

func (c *Client) throttle(
	ctx context.Context, cc *grpc.ClientConn, method string,
) *throttle.Throttle {
	if c.Throttle == nil {
		return nil
	}
	target := ""
	if cc != nil {
		target = cc.Target()
	}
	return c.Throttle(ctx, target, method)
}

// finish tells a throttle what a call has come to.
func finish(
	ctx context.Context, permit *throttle.Permit, method string, err error, trailer metadata.MD,
) {
	if err == nil {
		permit.Record(throttle.Accepted)
		return
	}
	a := wire.Read(method, err, trailer)
	switch {
	case verdict.NotAttempted(err), ctx.Err() == context.Canceled:
		permit.Record(throttle.Ignored)
	default:
		permit.Record(classifyAnswer(a))
	}
}
