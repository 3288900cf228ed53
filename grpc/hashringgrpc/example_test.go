package hashringgrpc_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/stormjib/stormjib/grpc/hashringgrpc"
	"github.com/stormjib/stormjib/hashring"
)

// worker is a server that says who it is. Any service will do, and gRPC brings that of
// health.
type worker struct {
	healthpb.UnimplementedHealthServer
	name string
}

func (w *worker) Check(
	ctx context.Context, _ *healthpb.HealthCheckRequest,
) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{}, grpc.SetHeader(ctx, metadata.Pairs("name", w.name))
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
			// By their names they keep their keys, whatever their addresses are.
			Attributes: hashringgrpc.WithNode(nil, hashring.Node{ID: name}),
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

	balancer.Register(hashringgrpc.NewBuilder(hashringgrpc.Config{}))
	conn, err := grpc.NewClient("workers:///all", grpc.WithResolvers(discovery),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [
			{"stormjib_hashring": {"header": "session"}}]}`))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	client := healthpb.NewHealthClient(conn)
	ask := func(ctx context.Context) string {
		var header metadata.MD
		_, err := client.Check(ctx, &healthpb.HealthCheckRequest{},
			grpc.Header(&header), grpc.WaitForReady(true))
		if err != nil {
			log.Fatal(err)
		}
		return header.Get("name")[0]
	}
	for connected := map[string]bool{}; len(connected) < 3; { // that takes a moment
		connected[ask(context.Background())] = true // without a key: anybody
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), "session", "42")
	for range 3 {
		fmt.Println("served by", ask(ctx))
	}
	// Output:
	// served by carl
	// served by carl
	// served by carl
}
