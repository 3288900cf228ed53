package limitergrpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/limitergrpc"
	"github.com/stormjib/stormjib/limiter"
)

// serve has a server of health on a free port, which stands for any other service.
func serve(options ...grpc.ServerOption) (address string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer(options...)
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(l)
	return l.Addr().String(), server.Stop
}

// A limit for each address. Skip is empty since here it is the service of health that is
// called; by default it passes.
func ExampleServer() {
	addresses := &limitergrpc.Server{
		Name:  "address",
		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "address"}),
		Key:   limitergrpc.PeerAddr,
		Limit: limiter.Limit{Rate: rate.Every(time.Minute), Burst: 2},
		Skip:  []string{},
	}
	address, stop := serve(
		grpc.ChainUnaryInterceptor(addresses.Unary()),
		grpc.ChainStreamInterceptor(addresses.Stream()))
	defer stop()

	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	for range 3 {
		_, err := healthpb.NewHealthClient(conn).Check(
			context.Background(), &healthpb.HealthCheckRequest{})
		if err != nil {
			fmt.Println(status.Convert(err).Message())
			continue
		}
		fmt.Println("served")
	}
	// Output:
	// served
	// served
	// too many calls (limit "address")
}

// A limit for each tenant, by its plan. It stands behind the interceptor that finds out who
// the tenant is; who has no plan is refused.
func ExampleKeyFunc() {
	plans := map[string]limiter.Limit{
		"small": {Rate: 1, Burst: 1},
		"large": {Rate: 100, Burst: 1000},
	}
	tenants := &limitergrpc.Server{
		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "tenant"}),
		Key: func(ctx context.Context, _ string) (string, bool) {
			names := metadata.ValueFromIncomingContext(ctx, "tenant") // once it was checked
			if len(names) != 1 {
				return "", false
			}
			return names[0], true
		},
		LimitFor: func(_ context.Context, _, tenant string) limiter.Limit {
			return plans[tenant]
		},
	}
	intercept := tenants.Unary()
	call := func(tenant string) codes.Code {
		ctx := metadata.NewIncomingContext(
			context.Background(), metadata.Pairs("tenant", tenant))
		_, err := intercept(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/shop.Cart/Add"},
			func(context.Context, any) (any, error) { return "added", nil })
		return status.Code(err)
	}
	for _, tenant := range []string{"small", "small", "large", "large", "unknown"} {
		fmt.Println(tenant, call(tenant))
	}
	// Output:
	// small OK
	// small ResourceExhausted
	// large OK
	// large OK
	// unknown ResourceExhausted
}

// A client that keeps to the ten calls a minute that a partner allows.
func ExampleClient() {
	address, stop := serve()
	defer stop()

	partner := limiter.New(limiter.Config{
		Name:     "partner",
		Limit:    limiter.Limit{Rate: 10 * rate.Every(time.Minute), Burst: 1},
		MaxQueue: 100,
	})
	brake := &limitergrpc.Client{
		Limiter: func(context.Context, string, string) *limiter.Limiter { return partner },
		Skip:    []string{}, // see ExampleServer
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(brake.Unary()),
		grpc.WithChainStreamInterceptor(brake.Stream()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for range 2 {
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if limited, ok := errors.AsType[*limiter.LimitedError](err); ok {
			fmt.Println("not sent:", limited.Reason) // it would be, after six seconds
			continue
		}
		fmt.Println(status.Code(err))
	}
	// Output:
	// OK
	// not sent: deadline too short
}

// refusesGuesses is a test of yours. In a bubble of testing/synctest the Store's time is the
// bubble's, and a minute of it takes none. Make the Store inside.
func refusesGuesses(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		intercept := (&limitergrpc.Server{
			Store: limiter.NewKeyed(limiter.KeyedConfig[string]{}),
			Key:   func(context.Context, string) (string, bool) { return "192.0.2.1", true },
			Limit: limiter.Limit{Rate: 0.1, Burst: 3},
		}).Unary()
		guess := func() codes.Code {
			_, err := intercept(t.Context(), nil,
				&grpc.UnaryServerInfo{FullMethod: "/shop.Users/LogIn"},
				func(context.Context, any) (any, error) { return nil, nil })
			return status.Code(err)
		}
		for range 3 {
			guess()
		}
		if got := guess(); got != codes.ResourceExhausted {
			t.Errorf("the fourth guess: %v", got)
		}
		time.Sleep(time.Minute)
		if got := guess(); got != codes.OK {
			t.Errorf("after a minute: %v", got)
		}
	})
}

// Testing your code.
func Example_testing() {
	var t *testing.T // that of func TestRefusesGuesses(t *testing.T)
	if t != nil {
		refusesGuesses(t)
	}
	// Output:
}

func TestExampleForTesting(t *testing.T) { refusesGuesses(t) }
