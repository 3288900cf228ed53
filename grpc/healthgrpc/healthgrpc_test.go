package healthgrpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // clients that watch
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/stormjib/stormjib/grpc/healthgrpc"
	"github.com/stormjib/stormjib/grpc/internal/echo"
	"github.com/stormjib/stormjib/health"
)

const (
	serving = healthpb.HealthCheckResponse_SERVING
	not     = healthpb.HealthCheckResponse_NOT_SERVING
	unknown = healthpb.HealthCheckResponse_SERVICE_UNKNOWN
)

// switches are checks that can be turned off and on.
type switches struct{ disk, queue, database, live atomic.Bool }

func (s *switches) config() health.Config {
	check := func(off *atomic.Bool) func(context.Context) error {
		return func(context.Context) error {
			if off.Load() {
				return errors.New("off")
			}
			return nil
		}
	}
	return health.Config{
		Checks: []health.Check{
			{Name: "disk", Class: health.Local, Func: check(&s.disk), Interval: time.Second},
			{Name: "queue", Class: health.Local, Func: check(&s.queue), Interval: time.Second},
			{Name: "database", Func: check(&s.database), Interval: time.Second},
			{Name: "loop", Class: health.Liveness, Func: check(&s.live), Interval: time.Second},
		},
		Gates: []string{"cache"},
	}
}

var groups = map[string][]string{"orders": {"queue", "cache", "database"}, "all": nil}

func ask(t *testing.T, conn *grpc.ClientConn, service string) any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	answer, err := healthpb.NewHealthClient(conn).Check(
		ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return status.Code(err)
	}
	return answer.GetStatus()
}

// A replica and its services, from before the start to after the end.
func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off switches
		h := health.New(off.config())
		s := &healthgrpc.Server{Health: h, Services: groups}
		conn := echo.Service{Register: func(r *grpc.Server) { s.Register(r) }}.Pipe(t, nil)
		want := func(when string, replica, orders any) {
			t.Helper()
			time.Sleep(10 * time.Second)
			for service, want := range map[string]any{
				"": replica, "all": replica, "orders": orders, "none": codes.NotFound,
			} {
				if got := ask(t, conn, service); got != want {
					t.Errorf("%s: %q is %v, want %v", when, service, got, want)
				}
			}
			list, err := healthpb.NewHealthClient(conn).List(
				t.Context(), &healthpb.HealthListRequest{})
			if err != nil || len(list.GetStatuses()) != 3 ||
				list.GetStatuses()[""].GetStatus() != replica ||
				list.GetStatuses()["orders"].GetStatus() != orders {
				t.Errorf("%s: %v, %v", when, list, err)
			}
		}
		want("before the start", not, not)
		h.Start(t.Context())
		want("with a gate shut", not, not)
		h.Gate("cache")()
		want("ready", serving, serving)
		off.disk.Store(true)
		want("without what orders do not need", not, serving)
		off.disk.Store(false)
		off.queue.Store(true)
		want("without what they need", not, not)
		off.queue.Store(false)
		off.database.Store(true)
		want("without what all share", serving, serving)
		off.database.Store(false)
		off.live.Store(true)
		want("dead", not, not)
		off.live.Store(false)
		want("ready again", serving, serving)
		h.SetDraining()
		want("draining", not, not)
		h.Stop()
		want("stopped", not, not)
	})
}

// watch returns what a stream says until it ends, and that.
func watch(t *testing.T, conn *grpc.ClientConn, service string) (chan any, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := healthpb.NewHealthClient(conn).Watch(
		ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan any, 100)
	go func() {
		defer close(said)
		for {
			answer, err := stream.Recv()
			if err != nil {
				said <- status.Code(err)
				return
			}
			said <- answer.GetStatus()
		}
	}()
	return said, cancel
}

func collect(said chan any) string {
	var all []string
	for len(said) > 0 {
		all = append(all, fmt.Sprint(<-said))
	}
	return strings.Join(all, " ")
}

// Who watches is told of each change of the service, and of nothing else.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off switches
		h := health.New(off.config())
		s := &healthgrpc.Server{Health: h, Services: groups}
		conn := echo.Service{Register: func(r *grpc.Server) { s.Register(r) }}.Pipe(t, nil)
		replica, _ := watch(t, conn, "")
		orders, leave := watch(t, conn, "orders")
		nobody, _ := watch(t, conn, "none")
		synctest.Wait()
		h.Start(t.Context())
		h.Gate("cache")()
		time.Sleep(10 * time.Second)
		off.disk.Store(true)
		time.Sleep(10 * time.Second)
		off.disk.Store(false)
		time.Sleep(10 * time.Second)
		if got := collect(replica); got != "NOT_SERVING SERVING NOT_SERVING SERVING" {
			t.Errorf("of the replica: %s", got)
		}
		if got := collect(orders); got != "NOT_SERVING SERVING" {
			t.Errorf("of orders: %s", got)
		}
		leave()
		synctest.Wait()
		if got := collect(orders); got != "Canceled" {
			t.Errorf("of orders, when nobody watches: %s", got)
		}
		s.Shutdown()
		s.Shutdown()
		synctest.Wait()
		if got := collect(replica); got != "Unavailable" {
			t.Errorf("of the replica, at the end: %s", got)
		}
		if got := collect(nobody); got != "SERVICE_UNKNOWN Unavailable" {
			t.Errorf("of nobody: %s", got)
		}
		if got := ask(t, conn, ""); got != not {
			t.Errorf("after the end: %v", got)
		}
		h.Stop()
	})
}

// A Health that stops ends the streams too.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New(health.Config{})
		s := &healthgrpc.Server{Health: h}
		conn := echo.Service{Register: func(r *grpc.Server) { s.Register(r) }}.Pipe(t, nil)
		h.Start(t.Context())
		said, _ := watch(t, conn, "")
		synctest.Wait()
		h.Stop()
		synctest.Wait()
		if got := collect(said); got != "SERVING NOT_SERVING Unavailable" {
			t.Error(got)
		}
	})
}

// drained is a server that is drained, in memory.
func drained(
	t *testing.T, call func(context.Context, string) (string, error),
) (*health.Drain, *grpc.ClientConn, chan error) {
	t.Helper()
	h := health.New(health.Config{})
	drain := health.NewDrain(health.DrainConfig{Health: h, Signals: []os.Signal{}})
	l := bufconn.Listen(1 << 20)
	s := &healthgrpc.Server{Health: h}
	server := grpc.NewServer()
	s.Register(server)
	echo.Service{Call: call}.On(server)
	s.Serve(drain, "grpc", server, l)
	ran := make(chan error, 1)
	go func() { ran <- health.Run(t.Context(), drain) }()
	conn, err := grpc.NewClient("passthrough:///pipe",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.DialContext(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	synctest.Wait()
	return drain, conn, ran
}

// A drain serves while it delays, and is over as soon as the calls are: who watches is not
// waited for.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain, conn, ran := drained(t, func(_ context.Context, in string) (string, error) {
			time.Sleep(7 * time.Second)
			return in, nil
		})
		said, _ := watch(t, conn, "")
		synctest.Wait()
		began := time.Now()
		go func() { _ = drain.Shutdown(context.Background()) }()
		time.Sleep(time.Second)
		if got := collect(said); got != "SERVING NOT_SERVING" {
			t.Errorf("while it delays: %s", got)
		}
		if got := ask(t, conn, ""); got != not {
			t.Errorf("while it delays: %v", got)
		}
		out, err := echo.Ask(t.Context(), conn, "x") // from second 1 to 8
		if out != "x" || err != nil {
			t.Errorf("a call in the delay: %q, %v", out, err)
		}
		if err := <-ran; err != nil || time.Since(began) != 8*time.Second {
			t.Errorf("the drain ended after %v: %v", time.Since(began), err)
		}
		synctest.Wait()
		if got := collect(said); got != "Unavailable" {
			t.Errorf("at the end: %s", got)
		}
	})
}

// What does not end is ended by force, when the time for it is over.
func TestForcedStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain, conn, _ := drained(t, func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		})
		ended := make(chan error)
		go func() {
			_, err := echo.Ask(t.Context(), conn, "x")
			ended <- err
		}()
		synctest.Wait()
		began := time.Now()
		done := make(chan error)
		go func() { done <- drain.Shutdown(context.Background()) }()
		if err := <-ended; status.Code(err) != codes.Unavailable {
			t.Errorf("the call: %v", err)
		}
		if took := time.Since(began); took < 20*time.Second || took > 25*time.Second {
			t.Errorf("it was ended after %v", took)
		}
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the drain: %v", err)
		}
	})
}

// A client of gRPC's own that watches leaves a replica that is not ready, and comes back.
func TestClientWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off switches
		h := health.New(off.config())
		s := &healthgrpc.Server{Health: h}
		conn := echo.Service{Register: func(r *grpc.Server) { s.Register(r) }}.Pipe(t, nil,
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}],
				"healthCheckConfig": {"serviceName": ""}}`))
		h.Gate("cache")()
		h.Start(t.Context())
		time.Sleep(10 * time.Second)
		if _, err := echo.Ask(t.Context(), conn, "x"); err != nil {
			t.Error(err)
		}
		off.disk.Store(true)
		time.Sleep(10 * time.Second)
		if _, err := echo.Ask(t.Context(), conn, "x"); status.Code(err) != codes.Unavailable {
			t.Errorf("while it is not ready: %v", err)
		}
		off.disk.Store(false)
		time.Sleep(10 * time.Second)
		if _, err := echo.Ask(t.Context(), conn, "x"); err != nil {
			t.Error(err)
		}
		h.Stop()
	})
}

func TestRegister(t *testing.T) {
	h := health.New(health.Config{Gates: []string{"cache"}})
	for want, s := range map[string]*healthgrpc.Server{
		"Health is nil": {},
		`"a" stands for "b", which is no check`: {
			Health: h, Services: map[string][]string{"a": {"b"}},
		},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("panicked with %s, want %s", got, want)
				}
			}()
			s.Register(grpc.NewServer())
		}()
	}
}

// Streams that end leave nothing behind.
func TestNoGoroutines(t *testing.T) {
	h := health.New(health.Config{})
	s := &healthgrpc.Server{Health: h}
	conn := echo.Service{Register: func(r *grpc.Server) { s.Register(r) }}.Listen(t, nil)
	h.Start(t.Context())
	defer h.Stop()
	round := func() {
		said, leave := watch(t, conn, "")
		<-said
		leave()
		for range said {
		}
	}
	round()
	before := runtime.NumGoroutine()
	for range 50 {
		round()
	}
	for range 100000 {
		if runtime.NumGoroutine() <= before+2 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}
