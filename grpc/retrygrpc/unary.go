package retrygrpc

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/hedge"
)

// Unary returns the interceptor of calls with one message each way. It panics if a name in
// Skip is none.
func (c *Client) Unary() grpc.UnaryClientInterceptor {
	c.check()
	return func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		if c.skips(method) {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		u := &unary{c.newCall(ctx, method, cc, opts), req, invoker}
		return u.do(reply)
	}
}

// unary is a call that is no stream.
type unary struct {
	*call
	req     any
	invoker grpc.UnaryInvoker
}

func (u *unary) do(reply any) error {
	u.policy.AttemptTimeout = u.user.AttemptTimeout
	attempt := u.attempt
	if message, p := u.hedge(reply); p != nil {
		attempt = func(ctx context.Context, _ any) (*got, error) {
			return u.hedged(ctx, p, message)
		}
	}
	again := false
	g, err := retry.Do(u.ctx, &u.policy, func(ctx context.Context) (*got, error) {
		if again {
			reset(reply)
		}
		again = true
		g, err := attempt(ctx, reply)
		u.remember(err)
		return g, err
	})
	err = u.end(err)
	u.asked.tell(g, err)
	return err
}

// attempt makes one.
func (u *unary) attempt(ctx context.Context, reply any) (*got, error) {
	g := &got{reply: reply}
	err := u.invoker(u.outgoing(ctx), u.method, u.req, reply, u.cc, g.options(u.opts)...)
	if err != nil {
		return g, u.failed(ctx, g, err)
	}
	return g, nil
}

// hedge returns the policy of hedging, nil if there is none.
func (u *unary) hedge(reply any) (proto.Message, *hedge.Policy) {
	message, ok := reply.(proto.Message)
	if !ok || u.c.Hedge == nil || !u.idempotent() {
		return nil, nil
	}
	return message, u.c.Hedge(u.ctx, u.target(), u.method)
}

// hedged makes an attempt, and another beside it while it is late. Each has a reply of its
// own: the one that loses may still be writing to it.
func (u *unary) hedged(
	ctx context.Context, p *hedge.Policy, reply proto.Message,
) (*got, error) {
	g, err := hedge.Do(ctx, p, func(ctx context.Context) (*got, error) {
		return u.attempt(ctx, reply.ProtoReflect().New().Interface())
	}, nil)
	if err == nil {
		own, _ := g.reply.(proto.Message)
		proto.Reset(reply)
		proto.Merge(reply, own)
		return g, nil
	}
	if _, ok := errors.AsType[*failure](err); !ok { // nobody has answered in time
		g = &got{}
		err = u.failed(ctx, g, wire.Local(err, status.FromContextError(ctx.Err()).Code()))
	}
	return g, err
}

// reset makes a reply as it was, if it is one that knows how to.
func reset(reply any) {
	switch reply := reply.(type) {
	case proto.Message:
		proto.Reset(reply)
	case interface{ Reset() }:
		reply.Reset()
	}
}
