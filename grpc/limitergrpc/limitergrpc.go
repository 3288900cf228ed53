// Package limitergrpc holds gRPC to rate limits: a [Server] with a bucket for each client or
// tenant, and a [Client] that keeps to somebody else's limit.
//
//	addresses := &limitergrpc.Server{
//		Name:  "address",
//		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "address"}),
//		Key:   limitergrpc.PeerAddr,
//		Limit: limiter.Limit{Rate: 10, Burst: 50},
//	}
//	server := grpc.NewServer(
//		grpc.ChainUnaryInterceptor(addresses.Unary()),
//		grpc.ChainStreamInterceptor(addresses.Stream()))
//
// A chain may have several: one by address before anybody is asked who they are, for that
// costs something too, and one by tenant after. A call that the second refuses has used its
// token of the first.
//
// Do not use it against overload: it does not know how much the server can do.
//
// # Algorithm
//
// A call takes a token before it is made, and so does a stream before it is opened. Its
// messages take none: a limit on these is for the handler to keep, which knows what one is
// worth.
//
// A call without a token is answered with ResourceExhausted, and with a RetryInfo that says
// when there would be one, up to a fifth later, but no more than a minute: all who are
// refused by a bucket would come back for the same token. The answer says too that it is a
// refusal of the whole service, and pushes retries back (gRFC A6): a client of gRPC's own
// that retries ResourceExhausted by its service config comes back when it should, and never
// where waiting does not help.
//
// What is left of a limit is not told: gRPC has no form for it that clients know.
//
// # Defaults
//
// There is none for the key: the address is that of everybody where there is a proxy. A call
// without a key is refused, and so is every call while the Store fails: a limit on tries at
// a password is not one if it can be had out of the way. Both can be changed.
//
// The services by which others look at a server, health and reflection, pass.
//
// # Failure modes
//
//   - A Store that fails or is asked with an invalid limit: Unavailable, never
//     ResourceExhausted, which would tell clients that they did too much. See FailOpen and
//     OnError.
//   - A Store that hangs holds its calls up until their contexts end: one that goes over a
//     network should have a timeout of its own, of milliseconds.
//   - A call whose context ends meanwhile is not passed on.
//   - A call that was let through and fails has used its token. So has each attempt that
//     gRPC makes by a service config, at the server; a Client, which is above these, takes
//     one token for all of them.
//   - A server has read the message of a call that is no stream by the time it is asked.
//   - Each replica with a [limiter.Keyed] of its own lets the whole limit through. A refusal
//     is of the whole service all the same: to ask the next replica for more is what a limit
//     is against.
//
// Experimental: the API may change with a minor version.
package limitergrpc

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/limiter"
)

// Client takes a token for each call before it makes it. Whether it waits for one, and
// behind how many others, is for the limiter's MaxQueue to say. It is safe for concurrent
// use; set its fields before the first.
//
// If there is no token, or none before the call's deadline, the error is a
// [*limiter.LimitedError] by errors.As, and ResourceExhausted by package status, with a
// RetryInfo if waiting helps. If the context ends while the call waits, the error is
// Canceled or DeadlineExceeded, and matches the context's.
//
// It keeps to a limit that is known beforehand. A ResourceExhausted does not change it.
type Client struct {
	// Limiter returns the limiter of a call, by its context, the target of its connection,
	// such as "dns:///prices:443", and its method, such as "/package.Service/Method". Where
	// it returns nil, the call passes without one. It is required.
	Limiter func(ctx context.Context, target, method string) *limiter.Limiter

	// Skip names the methods that pass, as "/package.Service/Method", or all of a service,
	// as "/package.Service/". If nil, those of health and reflection; if empty but not
	// nil, none.
	Skip []string
}

// Unary returns the interceptor of calls with one message each way. It panics if Limiter is
// nil, or a name in Skip is none.
func (c *Client) Unary() grpc.UnaryClientInterceptor {
	c.check()
	return func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		if err := c.wait(ctx, cc, method); err != nil {
			return err
		}
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
		if err := c.wait(ctx, cc, method); err != nil {
			return nil, err
		}
		return streamer(ctx, desc, cc, method, opts...)
	}
}

func (c *Client) check() {
	if c.Limiter == nil {
		panic("limitergrpc: Client.Limiter is nil")
	}
	methods.Check("limitergrpc: Client.Skip", c.Skip)
}

// wait returns nil when the call may be made.
func (c *Client) wait(ctx context.Context, cc *grpc.ClientConn, method string) error {
	if methods.Skipped(c.Skip, method) {
		return nil
	}
	target := ""
	if cc != nil {
		target = cc.Target()
	}
	l := c.Limiter(ctx, target, method)
	if l == nil {
		return nil
	}
	err := l.Wait(ctx, 1)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, limiter.ErrLimited):
		return wire.Local(err, codes.ResourceExhausted)
	}
	return wire.Local(err, status.FromContextError(ctx.Err()).Code())
}
