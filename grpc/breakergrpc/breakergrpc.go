// Package breakergrpc puts circuit breakers around gRPC: a [Client] around the calls that a
// process makes, and a [Server] for the rare server that needs one.
//
//	prices := breaker.New(breaker.Config{Name: "prices"})
//	guard := &breakergrpc.Client{
//		Breaker: func(context.Context, string, string) *breaker.Breaker { return prices },
//	}
//	conn, err := grpc.NewClient(target,
//		grpc.WithChainUnaryInterceptor(guard.Unary()),
//		grpc.WithChainStreamInterceptor(guard.Stream()))
//
// With a breaker for each target, or for each method of each, give it a group's Get:
//
//	methods := breaker.NewGroup[string](breaker.GroupConfig{})
//	guard := &breakergrpc.Client{
//		Breaker: func(_ context.Context, target, method string) *breaker.Breaker {
//			return methods.Get(target + method)
//		},
//	}
//
// # Algorithm
//
// A call is over when its interceptor's invoker returns, and a stream when it has really
// ended: with an error or io.EOF received, with the one message of a reply that is not a
// stream, or with its context or connection, whether anybody receives then or not. See
// package breaker for the rest.
//
// # Defaults
//
// What fails: Unavailable, DeadlineExceeded, Internal and DataLoss. Unknown is what a
// handler's plain error becomes, most often an answer to one request; CountUnknown counts
// it. What is ignored: ResourceExhausted, which is about the caller; Canceled, for somebody
// has left; and an Unavailable that says that it is a refusal, as those of servers with this
// module's packages and of Envoy's overload manager do. A server at three times its load
// that sheds two thirds is well, and a breaker that took that for failure would cost it the
// last third. Everything else succeeds: a server that answers NotFound works.
//
// The services by which others look at a server, health and reflection, pass.
//
// # Failure modes
//
// A call whose context was cancelled is ignored, one that ran into a deadline has failed.
// To a Server the deadline of a client most often looks as if the client had left.
// A stream that was opened while the breaker was closed, and breaks when it is not any
// more, counts for nothing. One that stays open for hours holds its place as a probe until
// ProbeTimeout; and SlowCall takes it for slow: give streams that stay a breaker of their
// own. gRPC retries by its service config below the interceptors, so that a breaker sees
// what came of all attempts.
//
// Experimental: the API may change with a minor version.
package breakergrpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/grpc/internal/stream"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/verdict"
)

// Client asks a breaker before each call. It is safe for concurrent use; set its fields
// before the first.
//
// The error of a call is returned as it is. If the breaker refuses, the error is a
// [*breaker.OpenError] by errors.As, and Unavailable by package status, with a RetryInfo
// that says when the breaker lets the next call through.
type Client struct {
	// Breaker returns the breaker of a call, by its context, the target of its
	// connection, such as "dns:///prices:443", and its method, such as
	// "/package.Service/Method". Where it returns nil, the call passes without one. It is
	// required.
	Breaker func(ctx context.Context, target, method string) *breaker.Breaker

	// Skip names the methods that pass, as "/package.Service/Method", or all of a service,
	// as "/package.Service/". If nil, those of health and reflection; if empty but not
	// nil, none.
	Skip []string

	// CountUnknown makes Unknown a failure. If zero, it is a success.
	CountUnknown bool

	// Classify tells what a code means for the breaker. It is not asked about calls that
	// were not made, nor about what says that it is a refusal. If nil, [Classify], with
	// CountUnknown.
	Classify func(codes.Code) breaker.Outcome
}

// Unary returns the interceptor of calls with one message each way. It panics if Breaker is
// nil, or a name in Skip is none.
func (c *Client) Unary() grpc.UnaryClientInterceptor {
	c.check()
	return func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		b := c.breaker(ctx, cc, method)
		if b == nil {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		permit, err := b.Allow()
		if err != nil {
			return wire.Local(err, codes.Unavailable)
		}
		defer permit.Record(breaker.Failure) // of a panic; otherwise finished by then
		var trailer metadata.MD
		err = invoker(ctx, method, req, reply, cc, stream.With(opts, grpc.Trailer(&trailer))...)
		c.finish(ctx, &permit, method, err, trailer)
		return err
	}
}

// Stream returns the interceptor of streams. It panics as Unary does.
func (c *Client) Stream() grpc.StreamClientInterceptor {
	c.check()
	return func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		streamer grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		b := c.breaker(ctx, cc, method)
		if b == nil {
			return streamer(ctx, desc, cc, method, opts...)
		}
		permit, err := b.Allow()
		if err != nil {
			return nil, wire.Local(err, codes.Unavailable)
		}
		return stream.Open(ctx, desc, cc, method, streamer, opts,
			func(err error, trailer metadata.MD) {
				defer permit.Record(breaker.Failure) // of a panic; otherwise finished by then
				if err != stream.ErrAbandoned {      //nolint:errorlint // it is no answer
					c.finish(ctx, &permit, method, err, trailer)
				}
			})
	}
}

func (c *Client) check() {
	if c.Breaker == nil {
		panic("breakergrpc: Client.Breaker is nil")
	}
	methods.Check("breakergrpc: Client.Skip", c.Skip)
}

func (c *Client) breaker(
	ctx context.Context, cc *grpc.ClientConn, method string,
) *breaker.Breaker {
	if methods.Skipped(c.Skip, method) {
		return nil
	}
	target := ""
	if cc != nil {
		target = cc.Target()
	}
	return c.Breaker(ctx, target, method)
}

func (c *Client) finish(
	ctx context.Context, permit *breaker.Permit, method string, err error, trailer metadata.MD,
) {
	if err == nil {
		permit.Record(breaker.Success)
		return
	}
	finish(ctx, permit, wire.Read(method, err, trailer), c.Classify, c.CountUnknown)
}

// finish finishes a permit by an answer that is an error.
func finish(
	ctx context.Context, permit *breaker.Permit, a *wire.Answer,
	classify func(codes.Code) breaker.Outcome, countUnknown bool,
) {
	outcome := Classify(a.Code)
	switch {
	case a.Refused(), verdict.NotAttempted(a):
		outcome = breaker.Ignored
	case classify != nil:
		outcome = classify(a.Code)
	case countUnknown && a.Code == codes.Unknown:
		outcome = breaker.Failure
	}
	if outcome == breaker.Failure {
		permit.Done(ctx, a) // which finds that the caller has left
		return
	}
	permit.Record(outcome)
}

// Classify is what a [Client] and a [Server] without a Classify go by: see Defaults in the
// package's documentation.
func Classify(code codes.Code) breaker.Outcome {
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.DataLoss:
		return breaker.Failure
	case codes.Canceled, codes.ResourceExhausted:
		return breaker.Ignored
	}
	return breaker.Success
}
