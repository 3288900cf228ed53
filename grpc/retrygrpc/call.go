package retrygrpc

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/retry"
)

// call is a call of any kind, over its attempts. Its policy has the settings of the
// Client's, but for what takes a gRPC call to decide.
type call struct {
	c      *Client
	user   *retry.Policy // what the Client goes by
	policy retry.Policy  // what the loop goes by

	ctx    context.Context //nolint:containedctx // of the caller, for whom the call is
	method string
	cc     *grpc.ClientConn
	opts   []grpc.CallOption // of an attempt
	asked  asked             // what the other options ask for

	last   *failure // of the last attempt
	anew   int      // the number of the attempt before the backoff began anew
	before int      // how many attempts the caller says that there were before
}

func (c *Client) newCall(
	ctx context.Context, method string, cc *grpc.ClientConn, opts []grpc.CallOption,
) *call {
	l := &call{c: c, user: c.Policy, ctx: ctx, method: method, cc: cc}
	if l.user == nil {
		l.user = &retry.Policy{}
	}
	l.opts, l.asked = split(opts)
	l.before = attemptsBefore(ctx)
	l.policy.MaxAttempts = l.user.MaxAttempts
	l.policy.MaxElapsed = l.user.MaxElapsed
	l.policy.MaxRetryAfter = l.user.MaxRetryAfter
	l.policy.OnRetry = l.user.OnRetry
	l.policy.RetryIf = l.retryIf
	l.policy.Backoff = l.backoff
	l.policy.SharedBudget = c.budget(l.target())
	return l
}

func (l *call) target() string {
	if l.cc == nil {
		return ""
	}
	return l.cc.Target()
}

func (l *call) idempotent() bool {
	if l.c.Idempotent != nil {
		return l.c.Idempotent(l.ctx, l.method)
	}
	return Idempotent(l.ctx, l.method)
}

// attemptsBefore returns what the caller itself says of attempts.
func attemptsBefore(ctx context.Context) int {
	md, _ := metadata.FromOutgoingContext(ctx)
	values := md.Get(wire.PreviousAttemptsKey)
	if len(values) == 0 {
		return 0
	}
	n, _ := strconv.ParseUint(values[0], 10, 16)
	return int(n)
}

// outgoing returns the context of an attempt, which says which one it is.
func (l *call) outgoing(ctx context.Context) context.Context {
	attempt := hop.Attempt(ctx)
	if attempt == 1 {
		return ctx
	}
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	md.Set(wire.PreviousAttemptsKey, strconv.Itoa(l.before+attempt-1))
	return metadata.NewOutgoingContext(ctx, md)
}

// retryIf is asked by the loop about each error.
func (l *call) retryIf(err error) bool {
	if l.last != nil && l.last.once {
		return false
	}
	if l.user.RetryIf != nil {
		return l.user.RetryIf(err)
	}
	return retry.Retryable(err)
}

// backoff is the user's, but short where the next attempt goes elsewhere, and from the
// beginning when the server has said when it wants the next.
func (l *call) backoff(attempt int, prev time.Duration) time.Duration {
	wait := l.user.Backoff
	if wait == nil {
		wait = retry.FullJitter(50*time.Millisecond, 2*time.Second, nil)
	}
	if l.last != nil && l.last.Pushback {
		l.anew, prev = attempt-1, 0
	}
	d := wait(attempt-l.anew, prev)
	if l.last != nil && l.last.elsewhere {
		return min(d, 50*time.Millisecond)
	}
	return d
}

// end returns what the caller gets for what the loop ended with.
func (l *call) end(err error) error {
	if f, ok := err.(*failure); ok { //nolint:errorlint // that of the only attempt
		return f.Err
	}
	if err == nil || l.ctx.Err() == nil {
		return err // which is that of the last attempt to package status
	}
	return wire.Local(err, status.FromContextError(l.ctx.Err()).Code())
}

// remember keeps the failure of an attempt, for what the loop asks next.
func (l *call) remember(err error) {
	l.last, _ = errors.AsType[*failure](err)
}
