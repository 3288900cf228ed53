package shufflegrpc_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/grpc/shufflegrpc"
	"github.com/stormjib/stormjib/shuffle"
)

// worker is a server that says who it is. Any service will do, and gRPC brings that of
// health.
type worker struct {
	healthpb.UnimplementedHealthServer
	name string
}

func (w *worker) Check(
	context.Context, *healthpb.HealthCheckRequest,
) (*healthpb.HealthCheckResponse, error) {
	fmt.Println("served by", w.name)
	return &healthpb.HealthCheckResponse{}, nil
}

// start starts workers on free ports, and returns what a resolver finds.
func start(names ...string) (state resolver.State, stop func()) {
	var servers []*grpc.Server
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		s := grpc.NewServer()
		healthpb.RegisterHealthServer(s, &worker{name: name})
		go s.Serve(l)
		servers = append(servers, s)
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{
			Addresses: []resolver.Address{{Addr: l.Addr().String()}},
			// By their names they keep their tenants, whatever their addresses are.
			Attributes: shufflegrpc.WithNode(nil, shuffle.Node{ID: name}),
		})
	}
	return state, func() {
		for _, s := range servers {
			s.Stop()
		}
	}
}

func ExampleNewBuilder() {
	found, stop := start("anna", "bert", "carl")
	defer stop()
	discovery := manual.NewBuilderWithScheme("workers")
	discovery.InitialState(found)

	balancer.Register(shufflegrpc.NewBuilder(shufflegrpc.Config{}))
	conn, err := grpc.NewClient("workers:///all", grpc.WithResolvers(discovery),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [
			{"stormjib_shuffle": {"size": 1}}]}`))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	client := healthpb.NewHealthClient(conn)
	for range 3 {
		ctx := stormjib.WithTenant(context.Background(), "acme")
		_, err := client.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		if err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// served by carl
	// served by carl
	// served by carl
}
