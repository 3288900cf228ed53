// Package retrygrpc retries gRPC calls: a [Client] that makes a call again where it failed
// and where that does no harm, and a [Server] that tells its clients that enough has been
// tried.
//
//	again := &retrygrpc.Client{
//		Idempotent: func(_ context.Context, method string) bool {
//			return strings.HasPrefix(method, "/prices.Prices/")
//		},
//	}
//	conn, err := grpc.NewClient(target,
//		grpc.WithChainUnaryInterceptor(again.Unary(), guard.Unary()),
//		grpc.WithChainStreamInterceptor(again.Stream(), guard.Stream()))
//
// Put it before a breaker, as here, which then sees each attempt; an open one holds no
// caller up. Do not use it beside a retryPolicy in the service config: gRPC retries below
// the interceptors, and the attempts multiply.
//
// # Algorithm
//
// What is retried is what may be executed twice, which is for Idempotent to say; and what
// shows that it was not executed at all: it was refused on this side, no connection came
// about, or the server refused it instead of calling the handler. See package retry for
// the rest.
//
// A call that is no stream is made again until there is a reply. A stream with one request
// is opened again, and its request sent again, until the first message of its replies has
// been received: what follows belongs to it. Any other stream is opened again, but what was
// sent into it is not sent again: nothing is buffered here.
//
// From the second attempt on a call says how many there have been before, in
// grpc-previous-rpc-attempts. A server that says when it wants the next, in
// grpc-retry-pushback-ms, is obeyed: a number of milliseconds is waited for, with the
// backoff of a first attempt on top, and anything else forbids another (gRFC A6).
//
// One layer retries, the innermost. What it has given up on a [Server] marks as not to be
// retried, and a Client does not retry what is marked so. Nothing that a client sends
// changes it.
//
// # Defaults
//
// The zero [Client] has the policy of the zero [retry.Policy], and a budget for each
// target: a service that is down should not cost the others their retries.
//
// Retried is Unavailable. ResourceExhausted is where the answer says when to come back, by a
// RetryInfo or by pushing back, since one that does not is most often a quota that is used
// up. DeadlineExceeded is where it was the AttemptTimeout that passed, and not what the
// server had for itself. A delay that is longer than MaxRetryAfter, or than the time there
// is, ends the call at once.
//
// A server that refuses for itself alone, as those of this module do when they shed, is not
// waited for: the next attempt will most likely meet another. It follows after the backoff,
// of 50 ms at most. What says that the whole service refuses is waited for. Answers with
// x-envoy-overloaded or x-envoy-ratelimited are not retried: that is what Envoy means by
// them.
//
// The services by which others look at a server, health and reflection, pass: a Watch has
// retries of its own.
//
// # Failure modes
//
//   - A connection that breaks after the first message of a stream is the caller's to see.
//   - AttemptTimeout is not for streams: how long one may be silent nobody knows.
//   - A caller that asks for the Header of a stream takes that attempt as it is.
//   - A server that passes calls on to others of its kind, by the same method, and passes
//     their refusals on as they are, seems to have refused what it has begun.
//   - While one replica of ten refuses for long, the default budget does not pay for all the
//     retries. Its Refund makes up for that.
//   - An invoker that panics, or ends its goroutine, ends the call.
//
// Experimental: the API may change with a minor version.
package retrygrpc

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/stormjib/stormjib/grpc/internal/methods"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/hedge"
)

// Client makes calls again where they fail. The zero Client is one for production. Use it
// by pointer, from any number of goroutines; set its fields before the first call.
//
// The error of a single attempt is returned as it is. That of several is a [*retry.Error]
// by errors.As, and by package status what the last attempt came to, or Canceled or
// DeadlineExceeded if the caller's context has ended. To make a single attempt, use
// [retry.Once] on the context.
//
// What [grpc.Header], [grpc.Trailer] and [grpc.Peer] ask for is that of the last attempt,
// and a [grpc.OnFinish] is called once.
type Client struct {
	// Policy says whether, when and how often to try again. It is not a function of the
	// method since what differs is the budget: each target has one of its own, with the
	// settings of Policy.Budget, unless there is a SharedBudget. RetryIf and OnRetry get
	// errors that package status reads. If nil, the zero Policy.
	Policy *retry.Policy

	// Idempotent reports whether a call of a method may be executed twice. RetryIf is not
	// asked about one that may not, unless it is known not to have been executed. If nil,
	// [Idempotent].
	Idempotent func(ctx context.Context, method string) bool

	// Hedge returns the policy by which a call that is no stream gets a second attempt
	// beside its first while that is late, by its context, the target of its connection
	// and its method. Where it returns nil, where the method is not idempotent, and where
	// the reply is no protobuf message, there is no hedging. Each attempt of the Policy is
	// hedged. If nil, none is.
	Hedge func(ctx context.Context, target, method string) *hedge.Policy

	// Skip names the methods that pass, as "/package.Service/Method", or all of a service,
	// as "/package.Service/". If nil, those of health and reflection; if empty but not
	// nil, none.
	Skip []string

	once    sync.Once
	budgets *retry.BudgetGroup[string] // by target; made once
}

func (c *Client) check() { methods.Check("retrygrpc: Client.Skip", c.Skip) }

func (c *Client) skips(method string) bool { return methods.Skipped(c.Skip, method) }

// Idempotent is what a [Client] without an Idempotent goes by: it reports whether the
// method's proto file declares that it may be executed twice, by an option
// idempotency_level of NO_SIDE_EFFECTS or IDEMPOTENT, and is compiled into the program.
func Idempotent(_ context.Context, method string) bool {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return false
	}
	options, ok := found.Options().(*descriptorpb.MethodOptions)
	return ok && options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}

// budget returns the budget of a target.
func (c *Client) budget(target string) *retry.Budget {
	if p := c.Policy; p != nil {
		if p.SharedBudget != nil {
			return p.SharedBudget
		}
		if p.Budget.Off {
			return &p.Budget
		}
	}
	c.once.Do(c.makeBudgets)
	return c.budgets.Get(target)
}

// makeBudgets makes the group with the settings of the Policy. If they are not valid, it
// has the default ones: a server that is up should not panic at its first call.
func (c *Client) makeBudgets() {
	var cfg retry.BudgetGroupConfig
	if p := c.Policy; p != nil {
		b := &p.Budget
		cfg.Ratio, cfg.Burst, cfg.Floor, cfg.Refund = b.Ratio, b.Burst, b.Floor, b.Refund
	}
	if cfg.Validate() != nil {
		cfg = retry.BudgetGroupConfig{}
	}
	c.budgets = retry.NewBudgetGroup[string](cfg)
}
