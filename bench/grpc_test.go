package bench

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	gmwretry "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/stormjib/stormjib/breaker"
	ourbulkhead "github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/grpc/breakergrpc"
	"github.com/stormjib/stormjib/grpc/bulkheadgrpc"
	"github.com/stormjib/stormjib/grpc/limitergrpc"
	"github.com/stormjib/stormjib/grpc/retrygrpc"
	"github.com/stormjib/stormjib/grpc/shedgrpc"
	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/throttle"
)

func BenchmarkGRPCBreaker(b *testing.B)  { serial(b, grpcBreakers()) }
func BenchmarkGRPCRetry(b *testing.B)    { serial(b, grpcRetries()) }
func BenchmarkGRPCThrottle(b *testing.B) { serial(b, grpcThrottles()) }
func BenchmarkGRPCShed(b *testing.B)     { serial(b, grpcShedders()) }
func BenchmarkGRPCBulkhead(b *testing.B) { serial(b, grpcBulkheads()) }
func BenchmarkGRPCLimiter(b *testing.B)  { serial(b, grpcLimiters()) }
func BenchmarkGRPCEcho(b *testing.B)     { serial(b, echoes(b)) }

const (
	grpcBreaker  = "gRPC: what a client's breaker adds"
	grpcRetry    = "gRPC: what a client's retries add, to a first attempt that succeeds"
	grpcThrottle = "gRPC: what a client's throttle adds"
	grpcShed     = "gRPC: what a server's shedder adds"
	grpcBulkhead = "gRPC: what a server's bulkhead adds"
	grpcLimiter  = "gRPC: what a server's limiter adds"
	grpcEcho     = "gRPC: a unary call in memory"
)

// addGRPC adds the interceptors alone, since a call takes so long that what they add is lost
// in it, and a call with and without them.
func addGRPC(tb testing.TB, rs *rows) {
	tb.Helper()
	half := func(section, peer string) goal { return partOf(2, "½", section, peer) }
	rs.add(grpcBreaker, 0, grpcBreakers(), half(grpcBreaker, "failsafe"))
	rs.add(grpcRetry, 0, grpcRetries(), half(grpcRetry, "failsafe"))
	rs.add(grpcThrottle, 0, grpcThrottles())
	rs.add(grpcShed, 0, grpcShedders())
	rs.add(grpcBulkhead, 0, grpcBulkheads(), half(grpcBulkhead, "failsafe"))
	rs.add(grpcLimiter, 0, grpcLimiters())
	rs.add(grpcEcho, 0, echoes(tb), noMoreThan(grpcEcho, "failsafe"))
}

const echoMethod = "/grpc.health.v1.Health/Check"

func ourBreaker() *breakergrpc.Client {
	b := breaker.New(breaker.Config{})
	return &breakergrpc.Client{
		Breaker: func(context.Context, string, string) *breaker.Breaker { return b },
		Skip:    []string{},
	}
}

func ourRetry() *retrygrpc.Client { return &retrygrpc.Client{Skip: []string{}} }

func ourThrottle() *shedgrpc.Client {
	t := throttle.New(throttle.Config{})
	return &shedgrpc.Client{
		Throttle: func(context.Context, string, string) *throttle.Throttle { return t },
		Skip:     []string{},
	}
}

func ourShed() *shedgrpc.Server {
	s := shed.New(shed.Config{})
	return &shedgrpc.Server{
		Shedder: func(context.Context, string) *shed.Shedder { return s }, Skip: []string{},
	}
}

func ourBulkhead() *bulkheadgrpc.Server {
	b := ourbulkhead.New(ourbulkhead.Config{MaxConcurrent: 100})
	return &bulkheadgrpc.Server{
		Bulkhead: func(context.Context, string) *ourbulkhead.Bulkhead { return b },
		Skip:     []string{},
	}
}

func ourLimiter() *limitergrpc.Server {
	q := quota{1_000_000_000, 1000 * time.Second}
	return &limitergrpc.Server{
		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{}),
		Key:   func(context.Context, string) (string, bool) { return "key", true },
		Limit: q.limit(), Skip: []string{},
	}
}

func gmwRetry() grpc.UnaryClientInterceptor {
	return gmwretry.UnaryClientInterceptor(
		gmwretry.WithMax(3), gmwretry.WithCodes(codes.Unavailable))
}

func failsafeBreaker() failsafe.Policy[any] { return circuitbreaker.NewWithDefaults[any]() }

// The interceptors of clients are around calls that succeed at once.
func grpcBreakers() []contender {
	return []contender{
		{"stormjib", invoked(ourBreaker().Unary())},
		{"failsafe", invoked(failsafegrpc.NewUnaryClientInterceptor(failsafeBreaker()))},
	}
}

// go-grpc-middleware has no budget, and looks at nothing but the error.
func grpcRetries() []contender {
	return []contender{
		{"stormjib", invoked(ourRetry().Unary())},
		{"go-grpc-middleware", invoked(gmwRetry())},
		{"failsafe", invoked(failsafegrpc.NewUnaryClientInterceptor(
			failsafe.Policy[any](failsafegrpc.NewRetryPolicyBuilder[any]().Build())))},
	}
}

func grpcThrottles() []contender {
	return []contender{{"stormjib", invoked(ourThrottle().Unary())}}
}

func invoked(around grpc.UnaryClientInterceptor) func(int) error {
	ctx := context.Background()
	in, out := &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{}
	invoke := func(
		context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption,
	) error {
		return nil
	}
	return func(n int) (err error) {
		for range n {
			err = around(ctx, echoMethod, in, out, nil, invoke)
		}
		return err
	}
}

// unlimited is a limit that lets everything through.
type unlimited struct{}

func (unlimited) Limit(context.Context) error { return nil }

// The interceptors of servers are before handlers that return at once.
func grpcShedders() []contender {
	return []contender{{"stormjib", handled(ourShed().Unary())}}
}

func grpcBulkheads() []contender {
	return []contender{
		{"stormjib", handled(ourBulkhead().Unary())},
		{"failsafe", handled(failsafegrpc.NewUnaryServerInterceptor(
			failsafe.Policy[any](bulkhead.New[any](100))))},
	}
}

// go-grpc-middleware brings no limit, but asks one: so this is as fast as can be.
func grpcLimiters() []contender {
	return []contender{
		{"stormjib", handled(ourLimiter().Unary())},
		{"go-grpc-middleware", handled(ratelimit.UnaryServerInterceptor(unlimited{}))},
	}
}

func handled(around grpc.UnaryServerInterceptor) func(int) error {
	ctx, in := context.Background(), &healthpb.HealthCheckRequest{}
	info := &grpc.UnaryServerInfo{FullMethod: echoMethod}
	handler := func(context.Context, any) (any, error) { return in, nil }
	return func(n int) (err error) {
		for range n {
			_, err = around(ctx, in, info, handler)
		}
		return err
	}
}

// echoes are calls of a server in memory. Each has a server and a connection of its own.
func echoes(tb testing.TB) []contender {
	tb.Helper()
	client := grpc.WithChainUnaryInterceptor(
		ourRetry().Unary(), ourBreaker().Unary(), ourThrottle().Unary())
	guard := ourShed()
	server := grpc.ChainUnaryInterceptor(
		ourLimiter().Unary(), guard.Unary(), ourBulkhead().Unary())
	return []contender{
		{"bare", echoed(tb, nil, nil)},
		{"stormjib-client", echoed(tb, nil, []grpc.DialOption{client})},
		{"stormjib-server", echoed(tb, []grpc.ServerOption{server}, nil)},
		{"stormjib-tap", echoed(tb,
			[]grpc.ServerOption{server, grpc.InTapHandle(guard.Tap())}, nil)},
		{"stormjib", echoed(tb, []grpc.ServerOption{server}, []grpc.DialOption{client})},
		{"go-grpc-middleware", echoed(tb, nil, []grpc.DialOption{
			grpc.WithChainUnaryInterceptor(gmwRetry()),
		})},
		{"failsafe", echoed(tb,
			[]grpc.ServerOption{grpc.ChainUnaryInterceptor(failsafegrpc.NewUnaryServerInterceptor(
				failsafe.Policy[any](bulkhead.New[any](100))))},
			[]grpc.DialOption{grpc.WithChainUnaryInterceptor(
				failsafegrpc.NewUnaryClientInterceptor(
					failsafe.Policy[any](failsafegrpc.NewRetryPolicyBuilder[any]().Build()),
					failsafeBreaker()))})},
	}
}

func echoed(tb testing.TB, server []grpc.ServerOption, client []grpc.DialOption) func(int) error {
	tb.Helper()
	l := bufconn.Listen(1 << 16)
	s := grpc.NewServer(server...)
	healthpb.RegisterHealthServer(s, grpchealth.NewServer())
	go func() { _ = s.Serve(l) }()
	tb.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:///memory", append(client,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.DialContext(ctx)
		}))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	ctx, c := context.Background(), healthpb.NewHealthClient(conn)
	return func(n int) error {
		for range n {
			if _, err := c.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
				return err
			}
		}
		return nil
	}
}
