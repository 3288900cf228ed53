package bulkheadgrpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/grpc/bulkheadgrpc"
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

// A stream that watches a service holds one slot until it is cancelled, and another two
// find no third. Skip is empty since here it is the service of health that is called; by
// default it passes.
func ExampleClient() {
	address, stop := serve()
	defer stop()

	watches := bulkhead.New(bulkhead.Config{Name: "watches", MaxConcurrent: 2})
	wall := &bulkheadgrpc.Client{
		Bulkhead: func(context.Context, string, string) *bulkhead.Bulkhead { return watches },
		Skip:     []string{},
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(wall.Unary()),
		grpc.WithChainStreamInterceptor(wall.Stream()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 3 {
		_, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
		if errors.Is(err, bulkhead.ErrFull) {
			fmt.Println("not sent:", status.Code(err))
			continue
		}
		fmt.Println(watches.Stats().InUse, "in use")
	}
	// Output:
	// 1 in use
	// 2 in use
	// not sent: Unavailable
}

// A method that takes a lot of memory, and the others, which pass.
func ExampleServer() {
	reports := bulkhead.New(bulkhead.Config{Name: "reports", MaxConcurrent: 1})
	wall := &bulkheadgrpc.Server{
		Bulkhead: func(_ context.Context, method string) *bulkhead.Bulkhead {
			if method == "/shop.Reports/Make" {
				return reports
			}
			return nil
		},
	}
	intercept := wall.Unary()
	call := func(method string, handler grpc.UnaryHandler) {
		_, err := intercept(context.Background(), nil,
			&grpc.UnaryServerInfo{FullMethod: method}, handler)
		fmt.Println(method, status.Convert(err).Code())
	}
	nothing := func(context.Context, any) (any, error) { return nil, nil }
	call("/shop.Reports/Make", func(context.Context, any) (any, error) {
		call("/shop.Reports/Make", nothing) // while the other one is made
		call("/shop.Cart/Add", nothing)
		return nil, nil
	})
	// Output:
	// /shop.Reports/Make Unavailable
	// /shop.Cart/Add OK
	// /shop.Reports/Make OK
}

// Testing your code: what it does without a slot is what happens while a permit is held. No
// server has to run, and nothing waits.
func Example_testing() {
	prices := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 1})
	wall := &bulkheadgrpc.Client{
		Bulkhead: func(context.Context, string, string) *bulkhead.Bulkhead { return prices },
		Skip:     []string{},
	}
	conn, err := grpc.NewClient("passthrough:///prices.invalid:443",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(wall.Unary()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	page := func() string { // the code under test
		_, err := healthpb.NewHealthClient(conn).Check(
			context.Background(), &healthpb.HealthCheckRequest{})
		if err != nil {
			return "prices are not available right now"
		}
		return "at your service"
	}

	permit, _ := prices.TryAcquire()
	defer permit.Release()
	fmt.Println(page())
	// Output: prices are not available right now
}
