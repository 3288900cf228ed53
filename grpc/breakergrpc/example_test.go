package breakergrpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/grpc/breakergrpc"
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

// unavailable has a server fail each call.
func unavailable(
	context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler,
) (any, error) {
	return nil, status.Error(codes.Unavailable, "starting")
}

// A client whose third failure in a row opens the breaker: until then it gets the server's
// answers, from then on a refusal. Skip is empty since here it is the service of health that
// is called; by default it passes.
func ExampleClient() {
	address, stop := serve(grpc.ChainUnaryInterceptor(unavailable))
	defer stop()

	prices := breaker.New(breaker.Config{Name: "prices", Consecutive: 3})
	guard := &breakergrpc.Client{
		Breaker: func(context.Context, string, string) *breaker.Breaker { return prices },
		Skip:    []string{},
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(guard.Unary()),
		grpc.WithChainStreamInterceptor(guard.Stream()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	for range 4 {
		_, err := client.Check(context.Background(), &healthpb.HealthCheckRequest{})
		if errors.Is(err, breaker.ErrOpen) {
			fmt.Println("refused; sent:", !stormjib.NotAttempted(err), status.Code(err))
			continue
		}
		fmt.Println(status.Convert(err).Message())
	}
	// Output:
	// starting
	// starting
	// starting
	// refused; sent: false Unavailable
}

// A proxy in front of a backend that is down: the second call does not reach it.
func ExampleServer() {
	backend := breaker.New(breaker.Config{Name: "backend", Consecutive: 1})
	guard := &breakergrpc.Server{
		Breaker: func(context.Context, string) *breaker.Breaker { return backend },
		Skip:    []string{}, // see ExampleClient
	}
	ask := func(
		context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler,
	) (any, error) {
		fmt.Println("asking the backend")
		return nil, status.Error(codes.Unavailable, "no backend")
	}
	address, stop := serve(grpc.ChainUnaryInterceptor(guard.Unary(), ask))
	defer stop()

	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	for range 2 {
		_, err := healthpb.NewHealthClient(conn).Check(
			context.Background(), &healthpb.HealthCheckRequest{})
		fmt.Println(status.Convert(err).Message())
	}
	// Output:
	// asking the backend
	// no backend
	// something that this service depends on is unavailable
}

// A Classify of your own for what is special, and the package's for the rest: here a service
// that answers Aborted when it has lost its database.
func ExampleClassify() {
	guard := &breakergrpc.Client{Classify: func(code codes.Code) breaker.Outcome {
		if code == codes.Aborted {
			return breaker.Failure
		}
		return breakergrpc.Classify(code)
	}}
	for _, code := range []codes.Code{
		codes.NotFound, codes.ResourceExhausted, codes.Unavailable, codes.Aborted,
	} {
		outcome := guard.Classify(code)
		fmt.Println(code, [...]string{"success", "failure", "ignored"}[outcome])
	}
	// Output:
	// NotFound success
	// ResourceExhausted ignored
	// Unavailable failure
	// Aborted failure
}

// Testing your code: what it does without the dependency is what happens while the breaker
// is forced open. No server has to run, and nothing waits.
func Example_testing() {
	prices := breaker.New(breaker.Config{Name: "prices"})
	guard := &breakergrpc.Client{
		Breaker: func(context.Context, string, string) *breaker.Breaker { return prices },
		Skip:    []string{},
	}
	conn, err := grpc.NewClient("passthrough:///prices.invalid:443",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(guard.Unary()))
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

	prices.ForceOpen()
	fmt.Println(page())
	// Output: prices are not available right now
}
