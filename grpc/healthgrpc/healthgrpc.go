// Package healthgrpc answers the health checks of gRPC (grpc.health.v1) by what package
// health knows, and drains gRPC servers.
//
//	h := health.New(health.Config{Checks: checks})
//	drain := health.NewDrain(health.DrainConfig{Health: h})
//	server := grpc.NewServer()
//	status := &healthgrpc.Server{Health: h}
//	status.Register(server)
//	status.Serve(drain, "grpc", server, listener)
//	if err := health.Run(context.Background(), drain); err != nil {
//		log.Fatal(err)
//	}
//
// A kubelet with a grpc probe, grpc-health-probe, load balancers, and clients of gRPC
// with a healthCheckConfig in their service config all ask by it.
//
// # Algorithm
//
// The service without a name, "", is the replica as a whole: SERVING while it is ready.
// Others are those named in Services, each with the checks it stands for: it is SERVING
// from when the replica has been ready first until it drains, while none of these checks,
// and none of class Liveness, keeps the replica from being ready. What else is down does
// not matter to it. A check that only warns, as one of something that all replicas share,
// does not make a service NOT_SERVING either: see package health.
//
// A drain goes as package health has it. While it delays, all are NOT_SERVING, which ends
// no stream of a Watch: a client that watches asks again at once where one ends after an
// answer. When the server is shut down these streams are ended first, and then
// GracefulStop tells all clients to go, and waits for the calls under way. It would wait
// for a Watch for ever. What has not ended when the time is over is stopped.
//
// # Failure modes
//
//   - A service that is not known is NOT_FOUND to a Check, and SERVICE_UNKNOWN to a
//     Watch.
//   - A Watch that its client does not read waits, and gets what holds then.
//   - A GracefulStop by anybody else hangs while somebody watches, unless
//     [Server.Shutdown] is called before.
//
// Experimental: the API may change with a minor version.
package healthgrpc

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/health"
)

// Server is the service grpc.health.v1.Health. Use it by pointer, from any number of
// goroutines; set its fields before Register.
type Server struct {
	healthpb.UnimplementedHealthServer // for what gRPC may add to the service

	// Health is asked. It is required.
	Health *health.Health

	// Services are the services that can be asked about, by the names that clients use, such
	// as "prices.Prices", each with the names of the checks and gates that it stands for. One
	// with none is as the replica is. If nil, there is only the replica itself, "".
	Services map[string][]string

	once sync.Once
	over chan struct{} // closed by Shutdown
	stop sync.Once
}

// Register registers the service. It panics if Health is nil, or if one of Services names
// a check that Health does not have: it would be SERVING for ever.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	if s.Health == nil {
		panic("healthgrpc: Server.Health is nil")
	}
	var known []string
	for _, result := range s.Health.Report().Checks {
		known = append(known, result.Name)
	}
	for service, checks := range s.Services {
		for _, name := range checks {
			if !slices.Contains(known, name) {
				const text = "healthgrpc: Server.Services: %q stands for %q, which is no check"
				panic(fmt.Sprintf(text, service, name))
			}
		}
	}
	healthpb.RegisterHealthServer(r, s)
}

// Serve adds a gRPC server to a drain, which serves it on l when it is run. It is called
// with the server that this is registered with, and again for others of the same process.
func (s *Server) Serve(d *health.Drain, name string, server *grpc.Server, l net.Listener) {
	d.Serve(name, &drained{s, server}, func() error { return server.Serve(l) })
}

// Shutdown has all services be NOT_SERVING, and ends the streams of all who watch them,
// for good. A drain that knows the server by Serve does so itself.
func (s *Server) Shutdown() {
	s.stop.Do(func() { close(s.ended()) })
}

func (s *Server) ended() chan struct{} {
	s.once.Do(func() { s.over = make(chan struct{}) })
	return s.over
}

func (s *Server) isOver() bool {
	select {
	case <-s.ended():
		return true
	default:
		return false
	}
}

// Check answers for one service.
func (s *Server) Check(
	_ context.Context, in *healthpb.HealthCheckRequest,
) (*healthpb.HealthCheckResponse, error) {
	report := s.Health.Report()
	now := s.status(&report, in.GetService())
	if now == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	return &healthpb.HealthCheckResponse{Status: now}, nil
}

// List answers for all of them.
func (s *Server) List(
	context.Context, *healthpb.HealthListRequest,
) (*healthpb.HealthListResponse, error) {
	report := s.Health.Report()
	all := make(map[string]*healthpb.HealthCheckResponse, len(s.Services)+1)
	all[""] = &healthpb.HealthCheckResponse{Status: s.status(&report, "")}
	for service := range s.Services {
		all[service] = &healthpb.HealthCheckResponse{Status: s.status(&report, service)}
	}
	return &healthpb.HealthListResponse{Statuses: all}, nil
}

// Watch answers for one service, at once and whenever the answer changes.
func (s *Server) Watch(
	in *healthpb.HealthCheckRequest,
	stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse],
) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-s.ended():
			cancel()
		case <-ctx.Done():
		}
	}()
	last := healthpb.HealthCheckResponse_ServingStatus(-1)
	for report := range s.Health.Watch(ctx) {
		now := s.status(&report, in.GetService())
		if now == last {
			continue
		}
		last = now
		if err := stream.Send(&healthpb.HealthCheckResponse{Status: now}); err != nil {
			return err
		}
	}
	if err := stream.Context().Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, "the server shuts down")
}

// status returns what a report says of a service.
func (s *Server) status(
	report *health.Report, service string,
) healthpb.HealthCheckResponse_ServingStatus {
	checks, known := s.Services[service]
	if !known && service != "" {
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
	}
	serving := report.Ready
	if len(checks) > 0 {
		serving = serves(report, checks)
	}
	if serving && !s.isOver() {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

// serves reports whether what stands for these checks can be served.
func serves(report *health.Report, checks []string) bool {
	if !report.Started || report.Phase == "draining" || report.Phase == "stopped" {
		return false
	}
	for _, result := range report.Checks {
		counts := result.Class == health.Liveness || slices.Contains(checks, result.Name)
		if counts && result.Status == health.Fail {
			return false
		}
	}
	return true
}

// drained is a gRPC server as a drain sees it.
type drained struct {
	s      *Server
	server *grpc.Server
}

// Shutdown waits until all calls have ended, but for those who watch.
func (d *drained) Shutdown(ctx context.Context) error {
	d.s.Shutdown()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.server.GracefulStop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close ends what has not ended.
func (d *drained) Close() error {
	d.server.Stop()
	return nil
}
