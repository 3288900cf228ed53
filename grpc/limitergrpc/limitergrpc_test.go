package limitergrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/grpc/breakergrpc"
	"github.com/stormjib/stormjib/grpc/internal/echo"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/grpc/limitergrpc"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/limiter"
)

// slow lets so many calls through at once, and one each ten seconds.
func slow(burst int) limiter.Limit { return limiter.Limit{Rate: 0.1, Burst: burst} }

func everybody(context.Context, string) (string, bool) { return "everybody", true }

// server returns one with a bucket for all that lets a call through.
func server() *limitergrpc.Server {
	return &limitergrpc.Server{
		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "internal"}),
		Key:   everybody,
		Limit: slow(1),
	}
}

func client(l *limiter.Limiter) *limitergrpc.Client {
	return &limitergrpc.Client{
		Limiter: func(context.Context, string, string) *limiter.Limiter { return l },
	}
}

func serving(s *limitergrpc.Server) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.Unary()), grpc.ChainStreamInterceptor(s.Stream()),
	}
}

func calling(c *limitergrpc.Client) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(c.Unary()),
		grpc.WithChainStreamInterceptor(c.Stream()),
	}
}

// call makes a call of either sort to its end, and returns what came behind it.
func call(ctx context.Context, conn *grpc.ClientConn, method string) (metadata.MD, error) {
	if method == echo.Unary {
		var trailer metadata.MD
		_, err := echo.Ask(ctx, conn, "", grpc.Trailer(&trailer))
		return trailer, err
	}
	cs, err := conn.NewStream(ctx, echo.Desc(method), method)
	if err != nil {
		return nil, err
	}
	if err := cs.CloseSend(); err != nil {
		return nil, err
	}
	if _, err = echo.Receive(cs); err == io.EOF {
		err = nil
	}
	return cs.Trailer(), err
}

// delayOf returns what a RetryInfo says, or 0.
func delayOf(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// What is too much is refused as a quota, by calls and by streams alike, and comes back
// when there is a token.
func TestServerRefuses(t *testing.T) {
	for _, method := range []string{echo.Unary, echo.BothStream} {
		synctest.Test(t, func(t *testing.T) {
			s := server()
			s.Name = "address"
			served := 0
			conn := echo.Service{
				Call:   func(context.Context, string) (string, error) { served++; return "", nil },
				Stream: func(grpc.ServerStream) error { served++; return nil },
			}.Pipe(t, serving(s))
			if _, err := call(t.Context(), conn, method); err != nil {
				t.Errorf("%s: the first: %v", method, err)
			}
			trailer, err := call(t.Context(), conn, method)
			st := status.Convert(err)
			if st.Code() != codes.ResourceExhausted ||
				st.Message() != `too many calls (limit "address")` || served != 1 {
				t.Errorf("%s: the second: %v, and %d are served", method, err, served)
			}
			if a := wire.Read(method, err, trailer); a.Refusal != (hop.Refusal{
				Reason: hop.Limit, Scope: hop.Service,
			}) {
				t.Errorf("%s: it is read as %+v", method, a.Refusal)
			}
			delay := delayOf(err)
			if delay < 10*time.Second-time.Millisecond || delay > 12*time.Second {
				t.Errorf("%s: a delay of %v", method, delay)
			}
			if back := trailer.Get("grpc-retry-pushback-ms"); len(back) != 1 ||
				back[0] != fmt.Sprint((delay+time.Millisecond-1).Milliseconds()) {
				t.Errorf("%s: it pushes back by %q, want %v", method, back, delay)
			}
			time.Sleep(delay)
			if _, err := call(t.Context(), conn, method); err != nil {
				t.Errorf("%s: after the delay: %v", method, err)
			}
		})
	}
}

// Not all come back at once.
func TestDelaysDiffer(t *testing.T) {
	s := server()
	conn := echo.Service{}.Listen(t, serving(s))
	delays := make(map[time.Duration]bool)
	for range 10 {
		_, err := call(t.Context(), conn, echo.Unary)
		delays[delayOf(err).Truncate(100*time.Millisecond)] = true
	}
	if len(delays) < 3 {
		t.Errorf("the delays are %v", delays)
	}
}

// A stream takes one token, however many messages it has.
func TestMessagesAreFree(t *testing.T) {
	conn := echo.Service{}.Listen(t, serving(server()), calling(client(
		limiter.New(limiter.Config{Limit: slow(1)})))...)
	cs, err := conn.NewStream(t.Context(), echo.Desc(echo.BothStream), echo.BothStream)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		text := fmt.Sprint(i)
		if err := echo.Send(cs, text); err != nil {
			t.Fatal(err)
		}
		if got, err := echo.Receive(cs); got != text || err != nil {
			t.Fatalf("message %d: %q, %v", i, got, err)
		}
	}
}

// What never passes is not to be sent again.
func TestNever(t *testing.T) {
	heavy := server()
	heavy.Cost = func(context.Context, string) int { return 2 }
	closed := server()
	closed.Limit = limiter.Limit{}
	for _, s := range []*limitergrpc.Server{heavy, closed} {
		conn := echo.Service{}.Listen(t, serving(s))
		trailer, err := call(t.Context(), conn, echo.Unary)
		if st := status.Convert(err); st.Code() != codes.ResourceExhausted ||
			st.Message() != "the call is more than its limit lets through at any time" ||
			delayOf(err) != 0 ||
			strings.Join(trailer.Get("grpc-retry-pushback-ms"), ",") != "-1" {
			t.Errorf("it is answered with %v, %v", err, trailer)
		}
	}
}

// A client of gRPC's own that retries by its service config comes back when there is a
// token, and not before.
func TestStockClientObeysPushback(t *testing.T) {
	const config = `{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 2, "initialBackoff": "0.01s", "maxBackoff": "0.01s",
		"backoffMultiplier": 1, "retryableStatusCodes": ["RESOURCE_EXHAUSTED"]}}]}`
	for _, burst := range []int{1, 0} {
		synctest.Test(t, func(t *testing.T) {
			s := server()
			if burst == 0 {
				s.Limit = limiter.Limit{}
			}
			asked := 0
			s.Key = func(context.Context, string) (string, bool) { asked++; return "all", true }
			conn := echo.Service{}.Pipe(t, serving(s), grpc.WithDefaultServiceConfig(config))
			if burst == 1 {
				_, _ = call(t.Context(), conn, echo.Unary)
				asked = 0
			}
			began := time.Now()
			_, err := call(t.Context(), conn, echo.Unary)
			took := time.Since(began)
			if burst == 0 {
				if asked != 1 || status.Code(err) != codes.ResourceExhausted {
					t.Errorf("it is asked %d times, and says %v", asked, err)
				}
				return
			}
			if err != nil || asked != 2 || took < 10*time.Second || took > 13*time.Second {
				t.Errorf("asked %d times it says %v, after %v", asked, err, took)
			}
		})
	}
}

// A breaker on the other side does not take a quota for a failure.
func TestBreakerIgnoresRefusals(t *testing.T) {
	b := breaker.New(breaker.Config{Consecutive: 1})
	guard := &breakergrpc.Client{
		Breaker: func(context.Context, string, string) *breaker.Breaker { return b },
	}
	s := server()
	s.Limit = limiter.Limit{}
	conn := echo.Service{}.Listen(t, serving(s), grpc.WithChainUnaryInterceptor(guard.Unary()))
	for range 3 {
		_, _ = call(t.Context(), conn, echo.Unary)
	}
	if stats := b.Stats(); stats.Ignored != 3 || stats.State != breaker.Closed {
		t.Errorf("the breaker counts %+v", stats)
	}
}

// Each key has a bucket; a limit may be the key's own; a call may cost more.
func TestKeysLimitsAndCosts(t *testing.T) {
	s := server()
	type tenant struct{}
	s.Key = func(ctx context.Context, method string) (string, bool) {
		name, ok := ctx.Value(tenant{}).(string)
		return name + method, ok
	}
	s.LimitFor = func(ctx context.Context, method, key string) limiter.Limit {
		if name, _ := ctx.Value(tenant{}).(string); key != name+method {
			t.Errorf("the limit of %q, %q is asked for", method, key)
		}
		if strings.HasPrefix(key, "large") {
			return slow(4)
		}
		return slow(1)
	}
	s.Cost = func(_ context.Context, method string) int {
		if method == "/Heavy" {
			return 3
		}
		return -1
	}
	serve := s.Unary()
	for i, test := range []struct {
		tenant, method string
		passes         bool
	}{
		{"small", "/Light", true},
		{"small", "/Light", false},
		{"other", "/Light", true},
		{"large", "/Light", true},
		{"large", "/Light", true},
		{"large", "/Heavy", true},
		{"large", "/Heavy", false},
		{"small", "/Heavy", false},
	} {
		called := false
		_, err := serve(context.WithValue(t.Context(), tenant{}, test.tenant), nil,
			&grpc.UnaryServerInfo{FullMethod: test.method},
			func(context.Context, any) (any, error) { called = true; return nil, nil })
		if called != test.passes || (err == nil) != test.passes {
			t.Errorf("%d: it passes: %t, %v", i, called, err)
		}
	}
}

// Who has no key is refused, unless that is asked for.
func TestUnkeyed(t *testing.T) {
	for _, pass := range []bool{false, true} {
		for _, ok := range []bool{false, true} {
			s := server()
			s.PassUnkeyed = pass
			s.Key = func(context.Context, string) (string, bool) { return "", ok }
			conn := echo.Service{}.Listen(t, serving(s))
			for range 3 {
				want := codes.PermissionDenied
				if pass {
					want = codes.OK
				}
				if _, err := call(t.Context(), conn, echo.BothStream); status.Code(err) != want {
					t.Errorf("passing: %t: %v", pass, err)
				}
			}
		}
	}
	s := server()
	s.Key = func(context.Context, string) (string, bool) { return "key", false }
	if _, err := call(t.Context(), echo.Service{}.Listen(t, serving(s)), echo.Unary); err == nil {
		t.Error("a key that is reported as none is one")
	}
}

// storeFunc is a Store.
type storeFunc func(ctx context.Context) error

func (f storeFunc) Take(
	ctx context.Context, _ string, _ limiter.Limit, _, _ int,
) (limiter.Result, error) {
	return limiter.Result{}, f(ctx)
}

// openError is what a store behind a breaker says.
type openError struct{ error }

func (openError) RetryAfter() time.Duration { return 3 * time.Second }

// A store that fails is no limit that is reached.
func TestStoreFails(t *testing.T) {
	down := errors.New("connection refused to 10.0.0.7")
	refused := limiter.Result{Name: "store"}.Err() // of a store that limits its own calls
	for _, test := range []struct {
		name     string
		err      error
		failOpen bool
		code     codes.Code
		delay    time.Duration
	}{
		{"down", down, false, codes.Unavailable, 0},
		{"with a breaker", openError{down}, false, codes.Unavailable, 3 * time.Second},
		{"limited", refused, false, codes.Unavailable, 0},
		{"open", down, true, codes.OK, 0},
	} {
		var told error
		s := server()
		s.Store = storeFunc(func(context.Context) error { return test.err })
		s.FailOpen = test.failOpen
		s.OnError = func(ctx context.Context, method string, err error) {
			if _, ok := peer.FromContext(ctx); !ok || method != echo.Unary {
				t.Errorf("%s: it is told of %q", test.name, method)
			}
			told = err
		}
		conn := echo.Service{}.Listen(t, serving(s))
		_, err := call(t.Context(), conn, echo.Unary)
		if status.Code(err) != test.code || delayOf(err) != test.delay ||
			err != nil && strings.Contains(err.Error(), "10.0.0.7") {
			t.Errorf("%s: %v", test.name, err)
		}
		if told != test.err {
			t.Errorf("%s: OnError gets %v", test.name, told)
		}
		s.OnError = nil
		if _, err := call(t.Context(), conn, echo.Unary); status.Code(err) != test.code {
			t.Errorf("%s, and nobody is told: %v", test.name, err)
		}
	}
}

// A limit that is not valid is like a store that fails, and is not asked for.
func TestInvalidLimit(t *testing.T) {
	s := server()
	s.Store = storeFunc(func(context.Context) error { panic("it is asked") })
	s.LimitFor = func(context.Context, string, string) limiter.Limit {
		return limiter.Limit{Rate: -1}
	}
	var told error
	s.OnError = func(_ context.Context, _ string, err error) { told = err }
	conn := echo.Service{}.Listen(t, serving(s))
	if _, err := call(t.Context(), conn, echo.Unary); status.Code(err) != codes.Unavailable ||
		told == nil {
		t.Errorf("it is answered with %v, and told is %v", err, told)
	}
}

// A client that leaves while a store thinks is no failure of the store.
func TestContextEndsInStore(t *testing.T) {
	for _, failOpen := range []bool{false, true} {
		s := server()
		s.FailOpen = failOpen
		s.OnError = func(_ context.Context, _ string, err error) { t.Errorf("told of %v", err) }
		ctx, cancel := context.WithCancel(t.Context())
		s.Store = storeFunc(func(context.Context) error { cancel(); return ctx.Err() })
		_, err := s.Unary()(ctx, nil, &grpc.UnaryServerInfo{},
			func(context.Context, any) (any, error) { t.Error("it is passed on"); return nil, nil })
		if status.Code(err) != codes.Canceled {
			t.Errorf("it is answered with %v", err)
		}
	}
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

func TestPeerAddr(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.1:4711":           "192.0.2.1",
		"192.0.2.1:4712":           "192.0.2.1",
		"[::ffff:192.0.2.1]:1":     "192.0.2.1",
		"[2001:db8::1]:4711":       "2001:db8::/64",
		"[2001:db8::ffff:1:2]:1":   "2001:db8::/64",
		"[2001:db8:0:1::1]:1":      "2001:db8:0:1::/64",
		"[fe80::1%eth0]:1":         "fe80::/64",
		"/run/server.sock":         "",
		"@":                        "",
		"":                         "",
		"example.com:443":          "",
		"192.0.2.1":                "",
		"192.0.2.1:4711, 10.0.0.1": "",
	} {
		ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: address(from)})
		if got, ok := limitergrpc.PeerAddr(ctx, ""); got != want || ok != (want != "") {
			t.Errorf("%q is %q, %t; want %q", from, got, ok, want)
		}
	}
	for name, ctx := range map[string]context.Context{
		"no peer":    t.Context(),
		"no address": peer.NewContext(t.Context(), &peer.Peer{}),
	} {
		if key, ok := limitergrpc.PeerAddr(ctx, ""); key != "" || ok {
			t.Errorf("%s is %q, %t", name, key, ok)
		}
	}
	s := server()
	s.Key = func(ctx context.Context, method string) (string, bool) {
		key, ok := limitergrpc.PeerAddr(ctx, method)
		if key != "127.0.0.1" || !ok {
			t.Errorf("over loopback it is %q, %t", key, ok)
		}
		return key, ok
	}
	_, _ = call(t.Context(), echo.Service{}.Listen(t, serving(s)), echo.Unary)
}

// A client waits for its token, in the limiter's queue.
func TestClientWaits(t *testing.T) {
	for _, method := range []string{echo.Unary, echo.BothStream} {
		synctest.Test(t, func(t *testing.T) {
			l := limiter.New(limiter.Config{Limit: slow(1), MaxQueue: 1})
			conn := echo.Service{}.Pipe(t, nil, calling(client(l))...)
			began := time.Now()
			for range 3 {
				if _, err := call(t.Context(), conn, method); err != nil {
					t.Error(err)
				}
			}
			if took := time.Since(began); took < 20*time.Second || took > 21*time.Second {
				t.Errorf("%s: three calls take %v", method, took)
			}
		})
	}
}

// A client that is refused gets the limiter's error, and a status for those who know only
// that.
func TestClientRefused(t *testing.T) {
	never := limiter.Limit{}
	for _, method := range []string{echo.Unary, echo.BothStream} {
		for _, test := range []struct {
			name     string
			limit    limiter.Limit
			maxQueue int
			timeout  time.Duration
			reason   limiter.Reason
			delay    time.Duration
		}{
			{"no queue", slow(1), 0, time.Minute, limiter.RateExceeded, 10 * time.Second},
			{"never", never, 1, time.Minute, limiter.Never, 0},
			{"no time", slow(1), 1, time.Second, limiter.DeadlineTooShort, 10 * time.Second},
		} {
			synctest.Test(t, func(t *testing.T) {
				l := limiter.New(limiter.Config{
					Name: "partner", Limit: test.limit, MaxQueue: test.maxQueue,
				})
				l.Allow()
				conn := echo.Service{
					Call:   func(context.Context, string) (string, error) { panic("it is asked") },
					Stream: func(grpc.ServerStream) error { panic("it is asked") },
				}.Pipe(t, nil, calling(client(l))...)
				ctx, cancel := context.WithTimeout(t.Context(), test.timeout)
				defer cancel()
				_, err := call(ctx, conn, method)
				limited, ok := errors.AsType[*limiter.LimitedError](err)
				if !ok || limited.Name != "partner" || limited.Reason != test.reason ||
					!stormjib.NotAttempted(err) || status.Code(err) != codes.ResourceExhausted {
					t.Errorf("%s: %v", test.name, err)
				}
				if delay := delayOf(err); delay.Round(time.Millisecond) != test.delay {
					t.Errorf("%s: a delay of %v, want %v", test.name, delay, test.delay)
				}
			})
		}
	}
}

// A call whose context ends while it waits is not made.
func TestClientContextEnds(t *testing.T) {
	cause := errors.New("the user has closed the window")
	for _, method := range []string{echo.Unary, echo.BothStream} {
		synctest.Test(t, func(t *testing.T) {
			l := limiter.New(limiter.Config{Limit: slow(1), MaxQueue: 1})
			l.Allow()
			conn := echo.Service{}.Pipe(t, nil, calling(client(l))...)
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			_, err := call(ctx, conn, method)
			if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) ||
				status.Code(err) != codes.Canceled || !stormjib.NotAttempted(err) {
				t.Errorf("it ends with %v", err)
			}
			if stats := l.Stats(); stats.Waiting != 0 || stats.GaveUp != 1 {
				t.Errorf("the limiter has %+v", stats)
			}
		})
	}
}

// The keys are the target and the method; without a limiter a call passes.
func TestClientKeys(t *testing.T) {
	var keys []string
	c := &limitergrpc.Client{
		Limiter: func(_ context.Context, target, method string) *limiter.Limiter {
			target, _, _ = strings.Cut(target, ":")
			keys = append(keys, target+method)
			return nil
		},
	}
	conn := echo.Service{}.Listen(t, nil, calling(c)...)
	for _, method := range []string{echo.Unary, echo.BothStream} {
		if _, err := call(t.Context(), conn, method); err != nil {
			t.Error(err)
		}
	}
	err := c.Unary()(t.Context(), "/x/y", nil, nil, nil,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			return io.EOF
		})
	if err != io.EOF {
		t.Errorf("without a connection: %v", err)
	}
	want := "[passthrough" + echo.Unary + " passthrough" + echo.BothStream + " /x/y]"
	if got := fmt.Sprint(keys); got != want {
		t.Errorf("the keys are %s, want %s", got, want)
	}
}

// Who looks at a server is not held to its limits, unless that is asked for.
func TestSkip(t *testing.T) {
	for _, test := range []struct {
		name    string
		skip    []string
		refused bool
	}{
		{"by default", nil, false},
		{"nothing", []string{}, true},
		{"by service", []string{"/grpc.health.v1.Health/"}, false},
		{"another", []string{"/grpc.health.v1.Health/Watch"}, true},
	} {
		c, s := client(limiter.New(limiter.Config{})), server()
		s.Limit = limiter.Limit{}
		c.Skip, s.Skip = test.skip, test.skip
		service := echo.Service{Register: func(s *grpc.Server) {
			healthpb.RegisterHealthServer(s, health.NewServer())
		}}
		for _, conn := range []*grpc.ClientConn{
			service.Listen(t, nil, calling(c)...), service.Listen(t, serving(s)),
		} {
			_, err := healthpb.NewHealthClient(conn).Check(
				t.Context(), &healthpb.HealthCheckRequest{})
			if (err != nil) != test.refused {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	}
}

func TestPanicsOnWrongFields(t *testing.T) {
	var none limitergrpc.Client
	var nowhere limitergrpc.Server
	c, s := client(nil), server()
	c.Skip, s.Skip = []string{"Health/Check"}, []string{"/Health"}
	unkeyed, invalid, unused := server(), server(), server()
	unkeyed.Key = nil
	invalid.Limit = limiter.Limit{Rate: 1}
	unused.Limit = invalid.Limit
	unused.LimitFor = func(context.Context, string, string) limiter.Limit { return slow(1) }
	unused.Unary()
	const neither = " is neither \"/package.Service/Method\" nor \"/package.Service/\""
	for want, build := range map[string]func(){
		"limitergrpc: Client.Limiter is nil":                 func() { none.Unary() },
		"limitergrpc: Server.Store is nil":                   func() { nowhere.Stream() },
		"limitergrpc: Server.Key is nil":                     func() { unkeyed.Unary() },
		"limitergrpc: Server.Limit is not valid: ":           func() { invalid.Stream() },
		`limitergrpc: Client.Skip: "Health/Check"` + neither: func() { c.Stream() },
		`limitergrpc: Server.Skip: "/Health"` + neither:      func() { s.Unary() },
	} {
		func() {
			defer func() {
				got, _ := recover().(string)
				if !strings.HasPrefix(got, want) {
					t.Errorf("the panic is %q, want %s", got, want)
				}
			}()
			build()
		}()
	}
}

// A limit of all that there is lets all through.
func TestInfinite(t *testing.T) {
	s := server()
	s.Limit = limiter.Limit{Rate: rate.Inf}
	conn := echo.Service{}.Listen(t, serving(s))
	for range 100 {
		if _, err := call(t.Context(), conn, echo.Unary); err != nil {
			t.Fatal(err)
		}
	}
}

// A limit costs a call that passes no allocation.
func TestAllocations(t *testing.T) {
	s, c := server(), client(limiter.New(limiter.Config{Limit: limiter.Limit{Rate: rate.Inf}}))
	s.Limit = limiter.Limit{Rate: 1e6, Burst: 1e6}
	serve, ask := s.Unary(), c.Unary()
	info := &grpc.UnaryServerInfo{FullMethod: echo.Unary}
	ctx := t.Context()
	handler := func(context.Context, any) (any, error) { return nil, nil }
	invoker := func(
		context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption,
	) error {
		return nil
	}
	for name, f := range map[string]func(){
		"server": func() { _, _ = serve(ctx, nil, info, handler) },
		"client": func() { _ = ask(ctx, echo.Unary, nil, nil, nil, invoker) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// What was there before is there after.
func TestNoGoroutineIsLeft(t *testing.T) {
	s := server()
	l := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1e4, Burst: 1}, MaxQueue: 1})
	conn := echo.Service{}.Listen(t, serving(s), calling(client(l))...)
	_, _ = call(t.Context(), conn, echo.BothStream)
	before := runtime.NumGoroutine()
	for range 100 {
		_, _ = call(t.Context(), conn, echo.BothStream)
	}
	for range 1000 { // those that end are on their way
		if runtime.NumGoroutine() <= before+5 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines became %d", before, runtime.NumGoroutine())
}
