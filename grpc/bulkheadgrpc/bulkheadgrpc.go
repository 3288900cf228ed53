// Package bulkheadgrpc puts bulkheads around gRPC: a [Client] bounds how many calls are
// under way to others, and a [Server] how many a handler has.
//
//	prices := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 20})
//	wall := &bulkheadgrpc.Client{
//		Bulkhead: func(context.Context, string, string) *bulkhead.Bulkhead { return prices },
//	}
//	conn, err := grpc.NewClient(target,
//		grpc.WithChainUnaryInterceptor(wall.Unary()),
//		grpc.WithChainStreamInterceptor(wall.Stream()))
//
// With a bulkhead for each target, or for each method of each, give it a group's Get:
//
//	targets := bulkhead.NewGroup[string](bulkhead.GroupConfig{
//		Bulkhead: bulkhead.Config{MaxConcurrent: 20},
//	})
//	wall := &bulkheadgrpc.Client{
//		Bulkhead: func(_ context.Context, target, _ string) *bulkhead.Bulkhead {
//			return targets.Get(target)
//		},
//	}
//
// In a client, put it below the breaker, which is spared its refusals, and around the
// timeout of the attempt, which need not pay for the wait. In a server, put it next to the
// handler: what is refused further out takes no slot.
//
// It is not gRPC's MaxConcurrentStreams: that is the bound of one connection, of which a
// server has as many as it has clients, and a client waits for it without a bound.
//
// # Algorithm
//
// A call holds its slot for as long as the other side has work with it. For a server that is
// until the handler returns. For a client it is until its interceptor's invoker returns, and
// of a stream until it has really ended: with an error or io.EOF received, with the one
// message of a reply that is not a stream, or with its context or connection, whether
// anybody receives then or not. See package bulkhead for the rest.
//
// # Defaults
//
// There are none: which bulkhead a call belongs to is for you to say. A server's refusal is
// Unavailable, and says of itself that it is one, of this replica alone: a
// breakergrpc.Client on the other side does not take it for a failure, and what retries can
// try another replica at once, within its budget. The delay that goes with it, if one is
// known, is a RetryInfo and no pushback, which would have a client of gRPC's own wait
// though other replicas are idle.
//
// The services by which others look at a server, health and reflection, pass, or a full
// server would look like a dead one.
//
// # Failure modes
//
//   - A stream that its client neither cancels nor receives to its end holds its slot for
//     ever, as it holds what gRPC has for it. Streams that stay should have a bulkhead of
//     their own, since they keep others out for as long.
//   - A call whose context ends while it waits is not made. The deadline of a call counts
//     the wait.
//   - gRPC retries by its service config below the interceptors: all attempts of a call are
//     one slot, its pauses included.
//   - A server has read the message of a call that is no stream by the time it waits.
//   - An invoker or a handler that panics, or ends its goroutine, gives back its slot. A
//     handler that returns and leaves work to another goroutine gives it back too.
//
// Experimental: the API may change with a minor version.
package bulkheadgrpc

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/grpc/internal/stream"
	"github.com/stormjib/stormjib/grpc/internal/wire"
)

// Client bounds how many calls are under way at a time. It is safe for concurrent use; set
// its fields before the first.
//
// If the bulkhead refuses, the error is a [*bulkhead.FullError] by errors.As, and
// Unavailable by package status. If the context ends while the call waits, it is Canceled or
// DeadlineExceeded, and matches the context's. The call was not made in either case.
type Client struct {
	// Bulkhead returns the bulkhead of a call, by its context, the target of its
	// connection, such as "dns:///prices:443", and its method, such as
	// "/package.Service/Method". Where it returns nil, the call passes without one. It is
	// required.
	Bulkhead func(ctx context.Context, target, method string) *bulkhead.Bulkhead

	// Skip names the methods that pass, as "/package.Service/Method", or all of a service,
	// as "/package.Service/". If nil, those of health and reflection; if empty but not
	// nil, none.
	Skip []string
}

// Unary returns the interceptor of calls with one message each way. It panics if Bulkhead is
// nil, or a name in Skip is none.
func (c *Client) Unary() grpc.UnaryClientInterceptor {
	c.check()
	return func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		b := c.bulkhead(ctx, cc, method)
		if b == nil {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		permit, err := b.Acquire(ctx)
		if err != nil {
			return wire.Local(err, code(ctx, err))
		}
		defer permit.Release()
		return invoker(ctx, method, req, reply, cc, opts...)
	}
}

// Stream returns the interceptor of streams. It panics as Unary does.
func (c *Client) Stream() grpc.StreamClientInterceptor {
	c.check()
	return func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		streamer grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		b := c.bulkhead(ctx, cc, method)
		if b == nil {
			return streamer(ctx, desc, cc, method, opts...)
		}
		permit, err := b.Acquire(ctx)
		if err != nil {
			return nil, wire.Local(err, code(ctx, err))
		}
		return stream.Open(ctx, desc, cc, method, streamer, opts,
			func(error, metadata.MD) { permit.Release() })
	}
}

func (c *Client) check() {
	if c.Bulkhead == nil {
		panic("bulkheadgrpc: Client.Bulkhead is nil")
	}
	methods.Check("bulkheadgrpc: Client.Skip", c.Skip)
}

func (c *Client) bulkhead(
	ctx context.Context, cc *grpc.ClientConn, method string,
) *bulkhead.Bulkhead {
	if methods.Skipped(c.Skip, method) {
		return nil
	}
	target := ""
	if cc != nil {
		target = cc.Target()
	}
	return c.Bulkhead(ctx, target, method)
}

// code returns that of a call which has got no slot, because of err.
func code(ctx context.Context, err error) codes.Code {
	if errors.Is(err, bulkhead.ErrFull) {
		return codes.Unavailable
	}
	return status.FromContextError(ctx.Err()).Code() // it has ended
}
