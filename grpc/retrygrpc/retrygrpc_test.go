package retrygrpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/grpc/internal/echo"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/grpc/retrygrpc"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/hedge"
)

func always(context.Context, string) bool { return true }
func never(context.Context, string) bool  { return false }

// at returns a client whose waits are of a length that can be told, and whose budget does
// not matter.
func at(backoff time.Duration) *retrygrpc.Client {
	return &retrygrpc.Client{Idempotent: always, Policy: &retry.Policy{
		Backoff: retry.Constant(backoff), Budget: retry.Budget{Off: true},
	}}
}

func through(c *retrygrpc.Client) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(c.Unary()), grpc.WithChainStreamInterceptor(c.Stream()),
	}
}

// failing is a handler that fails so many times, and answers then.
type failing struct {
	times int
	with  func(ctx context.Context) error
	calls atomic.Int64
}

func (f *failing) call(ctx context.Context, in string) (string, error) {
	if n := f.calls.Add(1); int(n) <= f.times {
		return "", f.with(ctx)
	}
	return in, nil
}

// is returns what fails with a status, and with a trailer of keys and values.
func is(err error, trailer ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		if trailer != nil {
			_ = grpc.SetTrailer(ctx, metadata.Pairs(trailer...))
		}
		return err
	}
}

func code(c codes.Code) error { return status.Error(c, "text") }

func with(c codes.Code, after time.Duration) error {
	st, err := status.New(c, "text").WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// refused is what a server of this module answers where it refuses.
func refused(c codes.Code, reason, scope string, after time.Duration) error {
	r := hop.Refusal{Reason: reason, Scope: scope}
	return wire.Status(c, echo.Unary, "text", r, after).Err()
}

func pushed(values ...string) []string {
	var pairs []string
	for _, v := range values {
		pairs = append(pairs, wire.PushbackKey, v)
	}
	return pairs
}

// What is retried, for what is and what is not idempotent, and how long is waited: the
// backoff is a second.
func TestWhatIsRetried(t *testing.T) {
	const none = -1
	unavailable := code(codes.Unavailable)
	tests := []struct {
		name      string
		with      func(context.Context) error
		wait, not time.Duration // of an idempotent method, and of another; none: no retry
	}{
		{"unavailable", is(unavailable), time.Second, none},
		{"quota that says nothing", is(code(codes.ResourceExhausted)), none, none},
		{
			"quota that says when", is(with(codes.ResourceExhausted, time.Second)),
			2 * time.Second, none,
		},
		{"not soon", is(with(codes.Unavailable, 3*time.Second)), none, none},
		{"the server's deadline", is(code(codes.DeadlineExceeded)), none, none},
		{"the handler's error", is(errors.New("boom")), none, none},
		{"not found", is(with(codes.NotFound, time.Millisecond)), none, none},
		{"cancelled at the server", is(code(codes.Canceled)), none, none},

		{
			"one replica sheds", is(refused(codes.Unavailable, hop.Shed, hop.Replica, time.Second)),
			50 * time.Millisecond, 50 * time.Millisecond,
		},
		{
			"the service refuses",
			is(refused(codes.Unavailable, hop.Open, hop.Service, time.Second)),
			2 * time.Second, 2 * time.Second,
		},
		{
			"a quota", is(refused(codes.ResourceExhausted, hop.Limit, hop.Service, time.Second)),
			2 * time.Second, 2 * time.Second,
		},
		{
			"a share of one replica",
			is(refused(codes.ResourceExhausted, hop.Shed, hop.Replica, 0)),
			50 * time.Millisecond, 50 * time.Millisecond,
		},
		{
			"it has given up", is(refused(codes.Unavailable, hop.Failed, hop.Service, 0)),
			time.Second, none,
		},
		{
			"somebody behind it refuses", is(wire.Status(codes.Unavailable, "/other/Method", "text",
				hop.Refusal{Reason: hop.Shed, Scope: hop.Replica}, 0).Err()),
			time.Second, none,
		},

		// The vectors of gRFC A6.
		{"pushback", is(unavailable, pushed("500")...), 1500 * time.Millisecond, none},
		{"pushback of nothing", is(unavailable, pushed("0")...), time.Second, none},
		{
			"pushback of a quota", is(code(codes.ResourceExhausted), pushed("0")...),
			time.Second, none,
		},
		{"never", is(unavailable, pushed("-1")...), none, none},
		{"no number", is(unavailable, pushed("xxx")...), none, none},
		{"two numbers", is(unavailable, pushed("1", "2")...), none, none},
		{"Envoy", is(unavailable, "x-envoy-overloaded", "true"), none, none},
	}
	for _, test := range tests {
		for _, idempotent := range []bool{true, false} {
			c, want := at(time.Second), test.wait
			if !idempotent {
				c.Idempotent, want = never, test.not
			}
			t.Run(fmt.Sprint(test.name, " ", idempotent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &failing{times: 1, with: test.with}
					conn := echo.Service{Call: f.call}.Pipe(t, nil, through(c)...)
					began := time.Now()
					_, err := echo.Ask(t.Context(), conn, "x")
					if want == none {
						if f.calls.Load() != 1 || err == nil || time.Since(began) != 0 {
							t.Errorf("%d calls in %v: %v", f.calls.Load(), time.Since(began), err)
						}
						return
					}
					if f.calls.Load() != 2 || err != nil || time.Since(began) != want {
						t.Errorf("%d calls in %v: %v; want 2 in %v",
							f.calls.Load(), time.Since(began), err, want)
					}
				})
			})
		}
	}
}

// A number of the server's begins the backoff anew.
func TestPushbackResetsBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := at(0)
		c.Policy.MaxAttempts = 5
		c.Policy.Backoff = retry.Exponential(time.Second, time.Hour)
		var at []time.Duration
		began := time.Now()
		conn := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
			at = append(at, time.Since(began))
			if len(at) == 2 {
				_ = grpc.SetTrailer(ctx, metadata.Pairs(pushed("100")...))
			}
			return "", code(codes.Unavailable)
		}}.Pipe(t, nil, through(c)...)
		_, err := echo.Ask(t.Context(), conn, "x")
		if !errors.Is(err, retry.ErrExhausted) {
			t.Error(err)
		}
		const s = time.Second
		want := []time.Duration{0, s, 2*s + s/10, 4*s + s/10, 8*s + s/10}
		if !slices.Equal(at, want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
	})
}

// The number of an attempt is told from the second on.
func TestAttemptNumber(t *testing.T) {
	tests := []struct {
		name string
		ctx  func(context.Context) context.Context
		want string
	}{
		{"plain", func(ctx context.Context) context.Context { return ctx }, "[] [1] [2]"},
		{"the caller counts", func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(ctx, wire.PreviousAttemptsKey, "4", "k", "v")
		}, "[4] [5] [6]"},
		{"the caller writes nonsense", func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(ctx, wire.PreviousAttemptsKey, "-1")
		}, "[-1] [1] [2]"},
		{"a retry of somebody outside", func(ctx context.Context) context.Context {
			return hop.WithAttempt(ctx, 3)
		}, "[2] [3] [4]"},
	}
	for _, test := range tests {
		var got []string
		conn := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			got = append(got, fmt.Sprint(md.Get(wire.PreviousAttemptsKey)))
			return "", code(codes.Unavailable)
		}}.Listen(t, nil, through(at(0))...)
		ctx := test.ctx(t.Context())
		before, _ := metadata.FromOutgoingContext(ctx)
		_, _ = echo.Ask(ctx, conn, "x")
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v, want %s", test.name, got, test.want)
		}
		if after, _ := metadata.FromOutgoingContext(ctx); len(after) != len(before) {
			t.Errorf("%s: the caller's metadata was changed", test.name)
		}
	}
}

// Of deadlines only our own, for one attempt, is worth another.
func TestAttemptTimeout(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration // of an attempt
		call    time.Duration // of the call
		want    int64
		code    codes.Code
		took    time.Duration
	}{
		{"of an attempt", time.Second, 10 * time.Second, 2, codes.OK, time.Second},
		{"of the call", 0, time.Second, 1, codes.DeadlineExceeded, time.Second},
		{"the call's first", 2 * time.Second, time.Second, 1, codes.DeadlineExceeded, time.Second},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			f := &failing{times: 1, with: func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			}}
			c := at(0)
			c.Policy.AttemptTimeout = test.timeout
			conn := echo.Service{Call: f.call}.Pipe(t, nil, through(c)...)
			ctx, cancel := context.WithTimeout(t.Context(), test.call)
			defer cancel()
			began := time.Now()
			_, err := echo.Ask(ctx, conn, "x")
			calls, took := f.calls.Load(), time.Since(began)
			if calls != test.want || status.Code(err) != test.code || took != test.took {
				t.Errorf("%s: %d calls in %v: %v", test.name, calls, took, err)
			}
			synctest.Wait()
		})
	}
}

// The server counts to the end of an attempt as well, and its answer may be there first.
func TestServersClockIsFirst(t *testing.T) {
	for after, want := range map[time.Duration]int{
		500 * time.Millisecond: 1, 995 * time.Millisecond: 3,
	} {
		synctest.Test(t, func(t *testing.T) {
			c, calls := at(0), 0
			c.Policy.AttemptTimeout = time.Second
			err := c.Unary()(t.Context(), echo.Unary, nil, nil, nil, func(
				context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption,
			) error {
				calls++
				time.Sleep(after)
				return code(codes.DeadlineExceeded)
			})
			if calls != want || status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("after %v: %d calls, want %d: %v", after, calls, want, err)
			}
		})
	}
}

// A caller that leaves in a wait gets what package status calls that, and its cause.
func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{times: 9, with: is(code(codes.Unavailable))}
		conn := echo.Service{Call: f.call}.Pipe(t, nil, through(at(time.Hour))...)
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(cause) })
		_, err := echo.Ask(ctx, conn, "x")
		if status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) ||
			!errors.Is(err, cause) || f.calls.Load() != 1 {
			t.Errorf("%d calls: %v", f.calls.Load(), err)
		}
		_, err = echo.Ask(ctx, conn, "x")
		if status.Code(err) != codes.Canceled || f.calls.Load() != 1 {
			t.Errorf("a call that nobody waits for: %d calls, %v", f.calls.Load(), err)
		}
		// One for which the deadline is too near does not wait for it.
		ctx, cancel2 := context.WithTimeout(t.Context(), time.Minute)
		defer cancel2()
		began := time.Now()
		_, err = echo.Ask(ctx, conn, "x")
		if status.Code(err) != codes.Unavailable || !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(began) != 0 {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// What was given up is a retry.Error, and by its status what came last.
func TestErrors(t *testing.T) {
	f := &failing{times: 9, with: is(with(codes.Unavailable, 1))}
	conn := echo.Service{Call: f.call}.Listen(t, nil, through(at(0))...)
	_, err := echo.Ask(t.Context(), conn, "x")
	e, ok := errors.AsType[*retry.Error](err)
	if !ok || e.Attempts != 3 || !errors.Is(err, retry.ErrExhausted) || retry.Retryable(err) {
		t.Errorf("%v", err)
	}
	st, ok := status.FromError(err)
	if !ok || st.Code() != codes.Unavailable || len(st.Details()) != 1 {
		t.Errorf("its status: %v", st)
	}
	_, err = echo.Ask(retry.Once(t.Context()), conn, "x")
	if _, ok = errors.AsType[*retry.Error](err); ok || status.Code(err) != codes.Unavailable {
		t.Errorf("of a single attempt: %v", err)
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); !ok {
		t.Errorf("of a single attempt: %T", err)
	}
	if got := f.calls.Load(); got != 4 {
		t.Errorf("%d calls", got)
	}
}

// Where no connection came about, or this side refused, nothing can have been executed.
func TestNotSent(t *testing.T) {
	nobody := func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody") }
	tests := []struct {
		name   string
		refuse error
	}{
		{"no connection", nil},
		{"refused here", wire.Local(notAttempted{}, codes.Unavailable)},
	}
	for _, test := range tests {
		c, attempts := at(0), 0
		c.Idempotent = never
		options := append(through(c), grpc.WithContextDialer(nobody),
			grpc.WithChainUnaryInterceptor(func(
				ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
				invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
			) error {
				attempts++
				if test.refuse != nil {
					return test.refuse
				}
				return invoker(ctx, method, req, reply, cc, opts...)
			}))
		conn := echo.Service{}.Listen(t, nil, options...)
		_, err := echo.Ask(t.Context(), conn, "x")
		if attempts != 3 || status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %d attempts, %v", test.name, attempts, err)
		}
		if got := stormjib.NotAttempted(err); got != (test.refuse != nil) {
			t.Errorf("%s: not attempted: %t", test.name, got)
		}
	}
}

// An error that forbids another attempt is heard, whatever its code.
func TestForbidden(t *testing.T) {
	c, attempts := at(0), 0
	err := c.Unary()(t.Context(), echo.Unary, nil, nil, nil, func(
		context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption,
	) error {
		attempts++
		return retry.Permanent(code(codes.Unavailable))
	})
	if attempts != 1 || status.Code(err) != codes.Unavailable {
		t.Errorf("%d attempts: %v", attempts, err)
	}
}

type notAttempted struct{}

func (notAttempted) Error() string      { return "refused here" }
func (notAttempted) NotAttempted() bool { return true }

// A channel that is not gRPC's says nothing of peers.
func TestForeignChannel(t *testing.T) {
	c, attempts := at(0), 0
	c.Idempotent = never
	err := c.Unary()(t.Context(), echo.Unary, nil, nil, nil, func(
		context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption,
	) error {
		attempts++
		return code(codes.Unavailable)
	})
	if attempts != 1 || status.Code(err) != codes.Unavailable {
		t.Errorf("%d attempts: %v", attempts, err)
	}
}

// What a user's RetryIf decides, and what not.
func TestRetryIf(t *testing.T) {
	for _, idempotent := range []bool{true, false} {
		var asked []codes.Code
		c := at(0)
		c.Policy.RetryIf = func(err error) bool {
			asked = append(asked, status.Code(err))
			return true
		}
		c.Idempotent = func(_ context.Context, method string) bool {
			return idempotent && method == echo.Unary
		}
		f := &failing{times: 2, with: is(code(codes.Internal))}
		conn := echo.Service{Call: f.call}.Listen(t, nil, through(c)...)
		_, err := echo.Ask(t.Context(), conn, "x")
		if idempotent && (err != nil || len(asked) != 2 || asked[0] != codes.Internal) ||
			!idempotent && (err == nil || asked != nil || f.calls.Load() != 1) {
			t.Errorf("idempotent %t: asked about %v, %v", idempotent, asked, err)
		}
	}
}

// Without a func, a method is what its proto file says.
func TestIdempotent(t *testing.T) {
	type level = descriptorpb.MethodOptions_IdempotencyLevel
	method := func(l level) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{
			Name: new(l.String()), InputType: new(".test.levels.M"),
			OutputType: new(".test.levels.M"),
			Options:    &descriptorpb.MethodOptions{IdempotencyLevel: l.Enum()},
		}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("test/levels.proto"), Package: new("test.levels"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: new("S"), Method: []*descriptorpb.MethodDescriptorProto{
				method(descriptorpb.MethodOptions_NO_SIDE_EFFECTS),
				method(descriptorpb.MethodOptions_IDEMPOTENT),
				method(descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN),
			},
		}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := protoregistry.GlobalFiles.FindFileByPath(file.Path()); err != nil {
		if err := protoregistry.GlobalFiles.RegisterFile(file); err != nil {
			t.Fatal(err)
		}
	}
	for method, want := range map[string]bool{
		"/test.levels.S/NO_SIDE_EFFECTS":     true,
		"/test.levels.S/IDEMPOTENT":          true,
		"/test.levels.S/IDEMPOTENCY_UNKNOWN": false,
		"/test.levels.S/Nobody":              false,
		"/test.levels.S":                     false, // it is no method
		"/test.levels.M":                     false,
		"/grpc.health.v1.Health/Check":       false,
		"":                                   false,
		"//":                                 false,
	} {
		if got := retrygrpc.Idempotent(t.Context(), method); got != want {
			t.Errorf("%q: %t", method, got)
		}
	}
	f := &failing{times: 1, with: is(code(codes.Unavailable))}
	conn := echo.Service{Call: f.call}.Listen(t, nil, through(&retrygrpc.Client{})...)
	if _, err := echo.Ask(t.Context(), conn, "x"); err == nil || f.calls.Load() != 1 {
		t.Errorf("%d calls: %v", f.calls.Load(), err)
	}
}

// Each target has a budget of its own.
func TestBudgets(t *testing.T) {
	tests := []struct {
		name   string
		policy *retry.Policy
		want   int64 // calls at two servers together, of 10 asked for at each
	}{
		{"the default", &retry.Policy{}, 26},
		{"its own settings", &retry.Policy{Budget: retry.Budget{Burst: 5, Floor: -1}}, 30},
		{"none", &retry.Policy{Budget: retry.Budget{Off: true}}, 60},
		{"not valid", &retry.Policy{Budget: retry.Budget{Burst: -5}}, 26},
		{"shared", &retry.Policy{SharedBudget: &retry.Budget{Burst: 4, Floor: -1}}, 24},
	}
	for _, test := range tests {
		f := &failing{times: 1e6, with: is(code(codes.Unavailable))}
		test.policy.Backoff = retry.Constant(0)
		c := &retrygrpc.Client{Policy: test.policy, Idempotent: always}
		for range 2 {
			conn := echo.Service{Call: f.call}.Listen(t, nil, through(c)...)
			for range 10 {
				_, _ = echo.Ask(t.Context(), conn, "x")
			}
		}
		if got := f.calls.Load(); got != test.want {
			t.Errorf("%s: %d calls, want %d", test.name, got, test.want)
		}
	}
}

// The caller's options are about the last attempt, and its OnFinish about the call.
func TestOptions(t *testing.T) {
	var calls atomic.Int64
	conn := echo.Service{Call: func(ctx context.Context, in string) (string, error) {
		n := fmt.Sprint(calls.Add(1))
		_ = grpc.SetHeader(ctx, metadata.Pairs("n", n))
		_ = grpc.SetTrailer(ctx, metadata.Pairs("n", n))
		if in == "bad" || n == "1" {
			return "", code(codes.Unavailable)
		}
		return in, nil
	}}.Listen(t, nil, through(at(0))...)
	for _, in := range []string{"x", "bad"} {
		calls.Store(0)
		var header, trailer metadata.MD
		var from peer.Peer
		var ends []error
		out, err := echo.Ask(t.Context(), conn, in,
			grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from),
			grpc.OnFinish(func(err error) { ends = append(ends, err) }))
		last := fmt.Sprint(calls.Load())
		if got := fmt.Sprint(header["n"], trailer["n"]); got != "["+last+"] ["+last+"]" {
			t.Errorf("%s: %s after %s attempts", in, got, last)
		}
		if from.Addr == nil || len(ends) != 1 || !errors.Is(err, ends[0]) {
			t.Errorf("%s: from %v, ended %v", in, from.Addr, ends)
		}
		if (in == "x") != (out == "x" && err == nil) {
			t.Errorf("%s: %q, %v", in, out, err)
		}
	}
}

// A reply that is received is that of one attempt.
func TestReplyIsReset(t *testing.T) {
	first := true
	reply := wrapperspb.String("")
	err := at(0).Unary()(t.Context(), echo.Unary, nil, reply, nil, func(
		_ context.Context, _ string, _, reply any, _ *grpc.ClientConn, _ ...grpc.CallOption,
	) error {
		if !first {
			return nil
		}
		first = false
		reply.(*wrapperspb.StringValue).Value = "half"
		return code(codes.Unavailable)
	})
	if err != nil || reply.GetValue() != "" {
		t.Errorf("%v, %q", err, reply.GetValue())
	}
}

// Who gives up says so to the next, and nobody else retries.
func TestOneLayer(t *testing.T) {
	last := &failing{times: 1e6, with: is(code(codes.Unavailable))}
	conn := echo.Service{Call: last.call}.Listen(t, nil, through(at(0))...)
	var middle atomic.Int64
	for range 2 {
		next := conn
		conn = echo.Service{Call: func(ctx context.Context, in string) (string, error) {
			middle.Add(1)
			return echo.Ask(ctx, next, in)
		}}.Listen(t, []grpc.ServerOption{
			grpc.ChainUnaryInterceptor((&retrygrpc.Server{}).Unary()),
		}, through(at(0))...)
	}
	_, err := echo.Ask(t.Context(), conn, "x")
	if status.Code(err) != codes.Unavailable || last.calls.Load() != 3 || middle.Load() != 2 {
		t.Errorf("%d and %d calls: %v", middle.Load(), last.calls.Load(), err)
	}
	if !strings.Contains(status.Convert(err).Message(), "3 attempts") {
		t.Errorf("the text is lost: %v", err)
	}
}

// A client of gRPC's own that retries by its service config is told as well.
func TestServiceConfig(t *testing.T) {
	const config = `{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 4, "initialBackoff": "0.001s", "maxBackoff": "0.001s",
		"backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`
	s := &retrygrpc.Server{}
	for _, test := range []struct {
		err  error
		want int64
	}{
		{code(codes.Unavailable), 4},
		{retry.Permanent(code(codes.Unavailable)), 1},
		{&retry.Error{Attempts: 3, Reason: retry.ErrExhausted, Errs: []error{
			code(codes.Unavailable),
		}}, 1},
	} {
		f := &failing{times: 1e6, with: is(test.err)}
		conn := echo.Service{
			Call:   f.call,
			Stream: func(ss grpc.ServerStream) error { return f.with(ss.Context()) },
		}.Listen(t, []grpc.ServerOption{
			grpc.ChainUnaryInterceptor(s.Unary()), grpc.ChainStreamInterceptor(s.Stream()),
		}, grpc.WithDefaultServiceConfig(config))
		_, err := echo.Ask(t.Context(), conn, "x")
		if f.calls.Load() != test.want || status.Code(err) != codes.Unavailable {
			t.Errorf("%v: %d calls, want %d: %v", test.err, f.calls.Load(), test.want, err)
		}
	}
}

// What says nothing of retries is left alone.
func TestServerLeavesAlone(t *testing.T) {
	s := &retrygrpc.Server{Skip: []string{"/echo.Echo/ServerStream"}}
	info := &grpc.UnaryServerInfo{FullMethod: echo.Unary}
	for _, err := range []error{nil, code(codes.NotFound), context.Canceled, errors.New("x")} {
		_, got := s.Unary()(t.Context(), nil, info, func(context.Context, any) (any, error) {
			return nil, err
		})
		if got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
	permanent := retry.Permanent(context.DeadlineExceeded)
	_, got := s.Unary()(t.Context(), nil, info, func(context.Context, any) (any, error) {
		return nil, permanent
	})
	if status.Code(got) != codes.DeadlineExceeded || !errors.Is(got, permanent) {
		t.Errorf("%v became %v", permanent, got)
	}
}

// A slow attempt gets another beside it, with a reply of its own.
func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var numbers []string
		c := at(0)
		c.Hedge = func(_ context.Context, target, method string) *hedge.Policy {
			if method != echo.Unary || target == "" {
				t.Errorf("asked about %q of %q", method, target)
			}
			return &hedge.Policy{Delay: time.Second, Extra: 1}
		}
		conn := echo.Service{Call: func(ctx context.Context, in string) (string, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			mu.Lock()
			numbers = append(numbers, fmt.Sprint(md.Get(wire.PreviousAttemptsKey)))
			n := len(numbers)
			mu.Unlock()
			_ = grpc.SetHeader(ctx, metadata.Pairs("n", fmt.Sprint(n)))
			if n == 1 {
				time.Sleep(time.Minute) // it does not look at its context
			}
			return fmt.Sprint(in, n), nil
		}}.Pipe(t, nil, through(c)...)
		began := time.Now()
		var header metadata.MD
		out, err := echo.Ask(t.Context(), conn, "x", grpc.Header(&header))
		if out != "x2" || err != nil || time.Since(began) != time.Second ||
			fmt.Sprint(header["n"]) != "[2]" {
			t.Errorf("%q, %v after %v, header %v", out, err, time.Since(began), header)
		}
		if fmt.Sprint(numbers) != "[[] [1]]" {
			t.Errorf("attempts told %v", numbers)
		}
		time.Sleep(2 * time.Minute)
	})
}

// The retries of a hedged call, and what its attempts come to when their time is over.
func TestHedgeOfARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := at(0)
		c.Policy.AttemptTimeout = 10 * time.Second
		c.Policy.MaxAttempts = 2
		c.Hedge = func(context.Context, string, string) *hedge.Policy {
			return &hedge.Policy{Delay: time.Second, Extra: 1}
		}
		var asked []codes.Code
		c.Policy.RetryIf = func(err error) bool {
			asked = append(asked, status.Code(err))
			return retry.Retryable(err)
		}
		var calls atomic.Int64
		conn := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
			calls.Add(1)
			<-ctx.Done()
			return "", ctx.Err()
		}}.Pipe(t, nil, through(c)...)
		began := time.Now()
		_, err := echo.Ask(t.Context(), conn, "x")
		if calls.Load() != 4 || time.Since(began) != 20*time.Second ||
			status.Code(err) != codes.DeadlineExceeded || !errors.Is(err, retry.ErrExhausted) {
			t.Errorf("%d calls in %v: %v", calls.Load(), time.Since(began), err)
		}
		if fmt.Sprint(asked) != "[DeadlineExceeded DeadlineExceeded]" {
			t.Errorf("asked about %v", asked)
		}
		synctest.Wait()
	})
}

// Where both could have an effect, or the reply cannot be had twice, there is no hedging.
func TestNoHedge(t *testing.T) {
	c := at(0)
	c.Hedge = func(context.Context, string, string) *hedge.Policy {
		t.Error("the policy was asked for")
		return nil
	}
	invoke := func(
		context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption,
	) error {
		return nil
	}
	if err := c.Unary()(t.Context(), echo.Unary, nil, new([]byte), nil, invoke); err != nil {
		t.Error(err)
	}
	c.Idempotent = never
	reply := wrapperspb.String("")
	if err := c.Unary()(t.Context(), echo.Unary, nil, reply, nil, invoke); err != nil {
		t.Error(err)
	}
}

func TestSkip(t *testing.T) {
	c := at(0)
	c.Skip = []string{"/echo.Echo/"}
	f := &failing{times: 1, with: is(code(codes.Unavailable))}
	conn := echo.Service{Call: f.call}.Listen(t, nil, through(c)...)
	if _, err := echo.Ask(t.Context(), conn, "x"); err == nil || f.calls.Load() != 1 {
		t.Errorf("%d calls: %v", f.calls.Load(), err)
	}
	for name, interceptor := range map[string]func(){
		"Client.Unary":  func() { (&retrygrpc.Client{Skip: []string{"x"}}).Unary() },
		"Client.Stream": func() { (&retrygrpc.Client{Skip: []string{"x"}}).Stream() },
		"Server.Unary":  func() { (&retrygrpc.Server{Skip: []string{"x"}}).Unary() },
		"Server.Stream": func() { (&retrygrpc.Server{Skip: []string{"x"}}).Stream() },
	} {
		func() {
			defer func() {
				if got := recover(); got == nil || !strings.Contains(fmt.Sprint(got), "Skip") {
					t.Errorf("%s panicked with %v", name, got)
				}
			}()
			interceptor()
		}()
	}
}
