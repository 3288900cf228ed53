// Package fleet is servers in memory that come and go, for tests of balancers.
package fleet

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/test/bufconn"

	"github.com/stormjib/stormjib/grpc/internal/echo"
)

// Fleet is servers by their addresses. Each answers a call with its address, after Call.
type Fleet struct {
	// Call is what each server does first. If nil, nothing.
	Call func(ctx context.Context, address, in string) error

	mu      sync.Mutex
	servers map[string]*server
}

type server struct {
	listener *bufconn.Listener
	server   *grpc.Server
}

// Start starts servers at addresses, until the test ends.
func (f *Fleet) Start(tb testing.TB, addresses ...string) {
	tb.Helper()
	for _, address := range addresses {
		s := &server{bufconn.Listen(1 << 16), grpc.NewServer()}
		echo.Service{Call: func(ctx context.Context, in string) (string, error) {
			if f.Call != nil {
				if err := f.Call(ctx, address, in); err != nil {
					return "", err
				}
			}
			return address, nil
		}}.On(s.server)
		f.mu.Lock()
		if f.servers == nil {
			f.servers = make(map[string]*server)
		}
		f.servers[address] = s
		f.mu.Unlock()
		go func() { _ = s.server.Serve(s.listener) }()
		tb.Cleanup(s.server.Stop)
	}
}

// Stop stops the servers at addresses, with what is under way there.
func (f *Fleet) Stop(addresses ...string) {
	for _, address := range addresses {
		f.mu.Lock()
		s := f.servers[address]
		delete(f.servers, address)
		f.mu.Unlock()
		s.server.Stop()
	}
}

func (f *Fleet) dial(ctx context.Context, address string) (net.Conn, error) {
	f.mu.Lock()
	s := f.servers[address]
	f.mu.Unlock()
	if s == nil {
		return nil, errors.New("nobody is at " + address)
	}
	return s.listener.DialContext(ctx)
}

// Connect returns a connection by way of a balancer, and a resolver that says where.
func (f *Fleet) Connect(
	tb testing.TB, b balancer.Builder, config string, endpoints ...resolver.Endpoint,
) (*grpc.ClientConn, *manual.Resolver) {
	tb.Helper()
	balancer.Register(b)
	r := manual.NewBuilderWithScheme("fleet")
	r.InitialState(resolver.State{Endpoints: endpoints})
	conn, err := grpc.NewClient("fleet:///all", grpc.WithResolvers(r),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(f.dial), grpc.WithDefaultServiceConfig(
			`{"loadBalancingConfig": [{"`+b.Name()+`": `+config+`}]}`))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn, r
}

// At returns endpoints of one address each.
func At(addresses ...string) []resolver.Endpoint {
	var all []resolver.Endpoint
	for _, address := range addresses {
		all = append(all, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
	}
	return all
}
