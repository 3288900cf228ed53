package shedgrpc_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/shedgrpc"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/throttle"
)

// serve serves on a free port. Any service will do, and gRPC brings that of health.
func serve(options ...grpc.ServerOption) (address string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer(options...)
	healthpb.RegisterHealthServer(s, health.NewServer())
	go s.Serve(l)
	return l.Addr().String(), s.Stop
}

// check asks the server at an address.
func check(ctx context.Context, address string, options ...grpc.DialOption) error {
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// A server that has one slot, and no place to wait, to show what is refused.
func ExampleServer() {
	shedder := shed.New(shed.Config{
		Name: "api", Initial: 1, Max: 1, Queue: -1, Algorithm: shed.Fixed,
	})
	guard := &shedgrpc.Server{
		Shedder: func(context.Context, string) *shed.Shedder { return shedder },
		Skip:    []string{}, // health is what is guarded here
	}
	address, stop := serve(
		grpc.ChainUnaryInterceptor(guard.Unary()), grpc.ChainStreamInterceptor(guard.Stream()))
	defer stop()

	fmt.Println(check(context.Background(), address))
	permit, _ := shedder.TryAcquire(context.Background()) // it is busy
	defer permit.Record(shed.OK)
	fmt.Println(check(context.Background(), address))
	// Output:
	// <nil>
	// rpc error: code = Unavailable desc = this server has more to do than it can
}

// The same, decided before gRPC does anything for a call.
func ExampleServer_Tap() {
	shedder := shed.New(shed.Config{Name: "api"})
	guard := &shedgrpc.Server{
		Shedder: func(context.Context, string) *shed.Shedder { return shedder },
		Skip:    []string{},
	}
	address, stop := serve(
		grpc.InTapHandle(guard.Tap()),
		grpc.ChainUnaryInterceptor(guard.Unary()), grpc.ChainStreamInterceptor(guard.Stream()))
	defer stop()

	fmt.Println(check(context.Background(), address))
	// Output: <nil>
}

// A client that says that its calls are for later, and sends less to servers that shed.
func ExampleClient() {
	guard := &shedgrpc.Server{
		Shedder: func(context.Context, string) *shed.Shedder { return nil },
		Skip:    []string{},
	}
	address, stop := serve(grpc.ChainUnaryInterceptor(guard.Unary(), func(
		ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler,
	) (any, error) {
		fmt.Println(shed.CriticalityOf(ctx))
		return next(ctx, req)
	}))
	defer stop()

	throttles := throttle.NewGroup[string](throttle.GroupConfig{})
	client := &shedgrpc.Client{
		Throttle: func(_ context.Context, target, _ string) *throttle.Throttle {
			return throttles.Get(target)
		},
		Skip: []string{},
	}
	ctx := shed.WithCriticality(context.Background(), shed.Sheddable)
	err := check(ctx, address,
		grpc.WithChainUnaryInterceptor(client.Unary()),
		grpc.WithChainStreamInterceptor(client.Stream()))
	fmt.Println(err)
	// Output:
	// sheddable
	// <nil>
}

func ExampleClassify() {
	fmt.Println(shedgrpc.Classify("/users.Users/Get", status.Error(codes.NotFound, "")) == shed.OK)
	fmt.Println(shedgrpc.Classify("/users.Users/Get", context.DeadlineExceeded) == shed.Overloaded)
	// Output:
	// true
	// true
}
