package healthgrpc_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/stormjib/stormjib/grpc/healthgrpc"
	"github.com/stormjib/stormjib/health"
)

// A replica that is not ready before its cache is full, and that drains.
func ExampleServer() {
	h := health.New(health.Config{Gates: []string{"cache"}})
	drain := health.NewDrain(health.DrainConfig{Health: h, Delay: -1})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	status := &healthgrpc.Server{
		Health:   h,
		Services: map[string][]string{"prices.Prices": {"cache"}},
	}
	status.Register(server)
	status.Serve(drain, "grpc", server, listener)
	ended := make(chan error)
	go func() { ended <- health.Run(context.Background(), drain) }()

	conn, err := grpc.NewClient(listener.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	watch, err := healthpb.NewHealthClient(conn).Watch(
		context.Background(), &healthpb.HealthCheckRequest{Service: "prices.Prices"})
	if err != nil {
		log.Fatal(err)
	}
	answer, _ := watch.Recv()
	fmt.Println(answer.GetStatus())
	h.Gate("cache")()
	answer, _ = watch.Recv()
	fmt.Println(answer.GetStatus())

	go drain.Shutdown(context.Background())
	fmt.Println(<-ended)
	// Output:
	// NOT_SERVING
	// SERVING
	// <nil>
}
