package retrygrpc_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/retrygrpc"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/hedge"
)

// prices is a service that fails at first; any will do, and gRPC brings that of health.
type prices struct {
	*health.Server
	fails int
}

func (p *prices) Check(
	ctx context.Context, in *healthpb.HealthCheckRequest,
) (*healthpb.HealthCheckResponse, error) {
	if p.fails--; p.fails >= 0 {
		return nil, status.Error(codes.Unavailable, "one moment")
	}
	return p.Server.Check(ctx, in)
}

// serve serves on a free port.
func serve(p *prices, options ...grpc.ServerOption) (address string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer(options...)
	healthpb.RegisterHealthServer(s, p)
	go s.Serve(l)
	return l.Addr().String(), s.Stop
}

func ExampleClient() {
	address, stop := serve(&prices{Server: health.NewServer(), fails: 2})
	defer stop()

	again := &retrygrpc.Client{
		Policy: &retry.Policy{
			AttemptTimeout: time.Second,
			OnRetry: func(_ context.Context, e retry.Event) {
				fmt.Println("attempt", e.Attempt, "came to", status.Code(e.Err))
			},
		},
		Idempotent: func(_ context.Context, method string) bool {
			return strings.HasSuffix(method, "/Check")
		},
		Skip: []string{}, // health is what is retried here
	}
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(again.Unary()),
		grpc.WithChainStreamInterceptor(again.Stream()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	client := healthpb.NewHealthClient(conn)
	answer, err := client.Check(context.Background(), &healthpb.HealthCheckRequest{})
	fmt.Println(answer.GetStatus(), err)
	// Output:
	// attempt 1 came to Unavailable
	// attempt 2 came to Unavailable
	// SERVING <nil>
}

// A lookup that is late gets another attempt beside it.
func ExampleClient_hedge() {
	var lookups hedge.Policy
	again := &retrygrpc.Client{
		Idempotent: func(_ context.Context, method string) bool {
			return method == "/users.Users/Get"
		},
		Hedge: func(_ context.Context, _, method string) *hedge.Policy {
			if method == "/users.Users/Get" {
				return &lookups // one for each kind of call
			}
			return nil
		},
	}
	fmt.Println(again.Unary() != nil)
	// Output: true
}

// A server that has given up on something behind it says so: its clients retry nothing.
func ExampleServer() {
	gaveUp := &retrygrpc.Server{Skip: []string{}}
	address, stop := serve(&prices{Server: health.NewServer()},
		grpc.ChainUnaryInterceptor(gaveUp.Unary(), func(
			context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler,
		) (any, error) {
			fmt.Println("asked")
			return nil, retry.Permanent(status.Error(codes.Unavailable, "all was tried"))
		}))
	defer stop()

	again := &retrygrpc.Client{
		Idempotent: func(context.Context, string) bool { return true }, Skip: []string{},
	}
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(again.Unary()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	client := healthpb.NewHealthClient(conn)
	_, err = client.Check(context.Background(), &healthpb.HealthCheckRequest{})
	fmt.Println(status.Code(err))
	// Output:
	// asked
	// Unavailable
}
