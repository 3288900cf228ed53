package bulkheadgrpc_test

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

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/grpc/breakergrpc"
	"github.com/stormjib/stormjib/grpc/bulkheadgrpc"
	"github.com/stormjib/stormjib/grpc/internal/echo"
)

// wall returns a bulkhead with one slot, and one place to wait.
func wall() *bulkhead.Bulkhead {
	return bulkhead.New(bulkhead.Config{
		Name: "prices", MaxConcurrent: 1, MaxQueue: 1, MaxWait: time.Second,
	})
}

// full returns a bulkhead whose slots are taken, and where nobody waits.
func full(t *testing.T) *bulkhead.Bulkhead {
	t.Helper()
	b := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 1})
	if _, ok := b.TryAcquire(); !ok {
		t.Fatal("it was full before")
	}
	return b
}

func wantInUse(t *testing.T, b *bulkhead.Bulkhead, want int) {
	t.Helper()
	if got := b.Stats().InUse; got != want {
		t.Errorf("%d slots are in use, want %d", got, want)
	}
}

func client(b *bulkhead.Bulkhead) *bulkheadgrpc.Client {
	return &bulkheadgrpc.Client{
		Bulkhead: func(context.Context, string, string) *bulkhead.Bulkhead { return b },
	}
}

func server(b *bulkhead.Bulkhead) *bulkheadgrpc.Server {
	return &bulkheadgrpc.Server{
		Bulkhead: func(context.Context, string) *bulkhead.Bulkhead { return b },
	}
}

func calling(c *bulkheadgrpc.Client) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(c.Unary()),
		grpc.WithChainStreamInterceptor(c.Stream()),
	}
}

func serving(s *bulkheadgrpc.Server) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.Unary()), grpc.ChainStreamInterceptor(s.Stream()),
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

// slow is a service that takes its time.
func slow(d time.Duration) echo.Service {
	wait := func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return echo.Service{
		Call:   func(ctx context.Context, in string) (string, error) { return in, wait(ctx) },
		Stream: func(ss grpc.ServerStream) error { return wait(ss.Context()) },
	}
}

var both = []string{echo.Unary, echo.BothStream}

// Calls have one slot each, on either side; one waits, and a third is refused.
func TestOneAtATime(t *testing.T) {
	for _, method := range both {
		for _, side := range []string{"client", "server"} {
			synctest.Test(t, func(t *testing.T) {
				b := wall()
				var conn *grpc.ClientConn
				if side == "client" {
					conn = slow(500*time.Millisecond).Pipe(t, nil, calling(client(b))...)
				} else {
					conn = slow(500*time.Millisecond).Pipe(t, serving(server(b)))
				}
				began := time.Now()
				ended := make(chan time.Duration, 2)
				for range 2 {
					go func() {
						if _, err := call(t.Context(), conn, method); err != nil {
							t.Error(err)
						}
						ended <- time.Since(began).Round(100 * time.Millisecond)
					}()
				}
				synctest.Wait()
				if stats := b.Stats(); stats.InUse != 1 || stats.Waiting != 1 {
					t.Errorf("%s, %s: %+v", side, method, stats)
				}
				_, err := call(t.Context(), conn, method)
				if took := time.Since(began); status.Code(err) != codes.Unavailable ||
					took > 100*time.Millisecond {
					t.Errorf("%s, %s: the third: %v", side, method, err)
				}
				if first, second := <-ended, <-ended; first != 500*time.Millisecond ||
					second != time.Second {
					t.Errorf("%s, %s: they end after %v and %v", side, method, first, second)
				}
				synctest.Wait()
				wantInUse(t, b, 0)
			})
		}
	}
}

// A client that is refused gets the bulkhead's error, and a status for those who know only
// that.
func TestClientRefused(t *testing.T) {
	for _, method := range both {
		conn := echo.Service{
			Call:   func(context.Context, string) (string, error) { panic("it is asked") },
			Stream: func(grpc.ServerStream) error { panic("it is asked") },
		}.Listen(t, nil, calling(client(full(t)))...)
		_, err := call(t.Context(), conn, method)
		refused, ok := errors.AsType[*bulkhead.FullError](err)
		if !ok || refused.Name != "prices" || !stormjib.NotAttempted(err) ||
			status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// What a server's bulkhead refuses, a client's breaker ignores, and what retries does not
// wait for.
func TestServerRefuses(t *testing.T) {
	for _, method := range both {
		synctest.Test(t, func(t *testing.T) {
			b := breaker.New(breaker.Config{Consecutive: 1})
			guard := &breakergrpc.Client{
				Breaker: func(context.Context, string, string) *breaker.Breaker { return b },
			}
			prices := bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 1})
			permit, _ := prices.TryAcquire()
			conn := echo.Service{}.Pipe(t, serving(server(prices)),
				grpc.WithChainUnaryInterceptor(guard.Unary()),
				grpc.WithChainStreamInterceptor(guard.Stream()))
			trailer, err := call(t.Context(), conn, method)
			if st := status.Convert(err); st.Code() != codes.Unavailable ||
				st.Message() != "this server has as many of these calls as it can serve" {
				t.Errorf("%s ends with %v", method, err)
			}
			if back := trailer.Get("grpc-retry-pushback-ms"); back != nil {
				t.Errorf("%s pushes back by %q", method, back)
			}
			if stats := b.Stats(); stats.Ignored != 1 || stats.State != breaker.Closed {
				t.Errorf("the breaker counts %+v", stats)
			}
			permit.Release()
			if _, err := call(t.Context(), conn, method); err != nil {
				t.Errorf("%s with a slot: %v", method, err)
			}
			wantInUse(t, prices, 0)
		})
	}
}

// A call whose context ends while it waits is not made, and says whose doing it was.
func TestContextEndsInQueue(t *testing.T) {
	cause := errors.New("the user has closed the window")
	for _, method := range both {
		for _, code := range []codes.Code{codes.Canceled, codes.DeadlineExceeded} {
			synctest.Test(t, func(t *testing.T) {
				b := wall()
				permit, _ := b.TryAcquire()
				conn := echo.Service{}.Pipe(t, nil, calling(client(b))...)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				want := context.Canceled
				if code == codes.DeadlineExceeded {
					var stop func()
					ctx, stop = context.WithTimeoutCause(ctx, 100*time.Millisecond, cause)
					defer stop()
					want = context.DeadlineExceeded
				} else {
					time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
				}
				_, err := call(ctx, conn, method)
				if !errors.Is(err, want) || !errors.Is(err, cause) || status.Code(err) != code ||
					!stormjib.NotAttempted(err) {
					t.Errorf("%s: %v", method, err)
				}
				permit.Release()
				wantInUse(t, b, 0)
			})
		}
	}
}

// A deadline of the server's own that ends while a call waits is no failure either.
func TestServersDeadlineEndsInQueue(t *testing.T) {
	for _, method := range both {
		synctest.Test(t, func(t *testing.T) {
			guarded := breaker.New(breaker.Config{Consecutive: 1})
			guard := &breakergrpc.Client{
				Breaker: func(context.Context, string, string) *breaker.Breaker { return guarded },
			}
			b := wall()
			permit, _ := b.TryAcquire()
			defer permit.Release()
			hurry := func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 100*time.Millisecond)
			}
			options := append([]grpc.ServerOption{
				grpc.ChainUnaryInterceptor(func(
					ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler,
				) (any, error) {
					ctx, cancel := hurry(ctx)
					defer cancel()
					return next(ctx, req)
				}),
				grpc.ChainStreamInterceptor(func(
					srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo,
					next grpc.StreamHandler,
				) error {
					ctx, cancel := hurry(ss.Context())
					defer cancel()
					return next(srv, inContext{ss, ctx})
				}),
			}, serving(server(b))...)
			conn := echo.Service{}.Pipe(t, options,
				grpc.WithChainUnaryInterceptor(guard.Unary()),
				grpc.WithChainStreamInterceptor(guard.Stream()))
			_, err := call(t.Context(), conn, method)
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("%s: %v", method, err)
			}
			if stats := guarded.Stats(); stats.Ignored != 1 {
				t.Errorf("the breaker counts %+v", stats)
			}
		})
	}
}

// inContext is a stream in another context.
type inContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s inContext) Context() context.Context { return s.ctx }

// A stream of a client holds its slot until it has really ended, in whichever way.
func TestClientStreamEnds(t *testing.T) {
	hold := func(ss grpc.ServerStream) error { <-ss.Context().Done(); return nil }
	for _, test := range []struct {
		name   string
		method string
		serve  func(grpc.ServerStream) error // nil: it echoes
		use    func(t *testing.T, cs grpc.ClientStream, cancel func(), conn *grpc.ClientConn)
	}{
		{
			"EOF", echo.BothStream, nil,
			func(t *testing.T, cs grpc.ClientStream, _ func(), _ *grpc.ClientConn) {
				_ = cs.CloseSend()
				for range 2 {
					if _, err := echo.Receive(cs); err != io.EOF {
						t.Errorf("it receives %v", err)
					}
				}
			},
		},
		{
			"an error", echo.ServerStream,
			func(grpc.ServerStream) error { return status.Error(codes.DataLoss, "") },
			func(t *testing.T, cs grpc.ClientStream, _ func(), _ *grpc.ClientConn) {
				if _, err := echo.Receive(cs); status.Code(err) != codes.DataLoss {
					t.Errorf("it receives %v", err)
				}
			},
		},
		{
			"the reply that is the only one", echo.ClientStream, nil,
			func(t *testing.T, cs grpc.ClientStream, _ func(), _ *grpc.ClientConn) {
				_ = errors.Join(echo.Send(cs, "a"), cs.CloseSend())
				if _, err := echo.Receive(cs); err != nil {
					t.Errorf("it receives %v", err)
				}
			},
		},
		{
			"cancelled, and nobody receives", echo.BothStream, hold,
			func(_ *testing.T, _ grpc.ClientStream, cancel func(), _ *grpc.ClientConn) { cancel() },
		},
		{
			"the connection is closed, and nobody receives", echo.BothStream, hold,
			func(_ *testing.T, _ grpc.ClientStream, _ func(), conn *grpc.ClientConn) {
				_ = conn.Close()
			},
		},
		{
			"only sent", echo.BothStream, nil,
			func(_ *testing.T, cs grpc.ClientStream, cancel func(), _ *grpc.ClientConn) {
				_ = errors.Join(echo.Send(cs, "a"), cs.CloseSend())
				time.Sleep(time.Hour)
				cancel()
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := wall()
				conn := echo.Service{Stream: test.serve}.Pipe(t, nil, calling(client(b))...)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				cs, err := conn.NewStream(ctx, echo.Desc(test.method), test.method)
				if err != nil {
					t.Fatal(err)
				}
				if test.name != "an error" { // which may be there already
					synctest.Wait()
					wantInUse(t, b, 1)
				}
				test.use(t, cs, cancel, conn)
				synctest.Wait()
				wantInUse(t, b, 0)
				cancel() // a second end gives back nothing more
				permit, err := b.Acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_ = cs.RecvMsg(nil)
				wantInUse(t, b, 1)
				permit.Release()
			})
		})
	}
}

// A stream that cannot be opened holds nothing.
func TestStreamNotOpened(t *testing.T) {
	for name, open := range map[string]func() error{
		"an error":   func() error { return status.Error(codes.Unavailable, "") },
		"a panic":    func() error { panic("boom") },
		"its Goexit": func() error { runtime.Goexit(); return nil },
	} {
		b := wall()
		ended := make(chan any)
		go func() {
			defer func() { ended <- recover() }()
			_, _ = client(b).Stream()(t.Context(), echo.Desc(echo.BothStream), nil, echo.BothStream,
				func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string,
					...grpc.CallOption,
				) (grpc.ClientStream, error) {
					wantInUse(t, b, 1)
					return nil, open()
				})
		}()
		if v := <-ended; (v != nil) != (name == "a panic") {
			t.Errorf("%s: recovered %v", name, v)
		}
		wantInUse(t, b, 0)
	}
}

// Handlers and invokers that panic, or end their goroutine, give back their slot.
func TestPanics(t *testing.T) {
	for name, end := range map[string]func(){
		"panic": func() { panic("boom") }, "Goexit": runtime.Goexit,
	} {
		b := wall()
		for _, call := range []func(){
			func() {
				_, _ = server(b).Unary()(t.Context(), nil, &grpc.UnaryServerInfo{},
					func(context.Context, any) (any, error) {
						wantInUse(t, b, 1)
						end()
						return nil, nil
					})
			},
			func() {
				_ = server(b).Stream()(nil, inContext{ctx: t.Context()}, &grpc.StreamServerInfo{},
					func(any, grpc.ServerStream) error { wantInUse(t, b, 1); end(); return nil })
			},
			func() {
				_ = client(b).Unary()(t.Context(), echo.Unary, nil, nil, nil,
					func(context.Context, string, any, any, *grpc.ClientConn,
						...grpc.CallOption,
					) error {
						wantInUse(t, b, 1)
						end()
						return nil
					})
			},
		} {
			ended := make(chan any)
			go func() {
				defer func() { ended <- recover() }()
				call()
				t.Errorf("%s: it returns", name)
			}()
			if v := <-ended; (v == "boom") != (name == "panic") {
				t.Errorf("%s: recovered %v", name, v)
			}
			wantInUse(t, b, 0)
		}
	}
}

// What a call returns is returned as it is.
func TestErrorUntouched(t *testing.T) {
	boom := errors.New("boom")
	_, err := server(wall()).Unary()(t.Context(), nil, &grpc.UnaryServerInfo{},
		func(context.Context, any) (any, error) { return nil, boom })
	if err != boom {
		t.Errorf("a handler's is %v", err)
	}
	err = client(wall()).Unary()(t.Context(), echo.Unary, nil, nil, nil,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			return boom
		})
	if err != boom {
		t.Errorf("an invoker's is %v", err)
	}
}

// Who looks at a server is let through, unless that is asked for.
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
		b := full(t)
		c, s := client(b), server(b)
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

// The keys are the target and the method; without a bulkhead a call passes.
func TestKeys(t *testing.T) {
	var keys []string
	c := &bulkheadgrpc.Client{
		Bulkhead: func(_ context.Context, target, method string) *bulkhead.Bulkhead {
			target, _, _ = strings.Cut(target, ":")
			keys = append(keys, target+method)
			return nil
		},
	}
	s := &bulkheadgrpc.Server{Bulkhead: func(_ context.Context, method string) *bulkhead.Bulkhead {
		keys = append(keys, method)
		return nil
	}}
	conn := echo.Service{}.Listen(t, serving(s), calling(c)...)
	for _, method := range both {
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
	want := fmt.Sprintf("[passthrough%[1]s %[1]s passthrough%[2]s %[2]s /x/y]",
		echo.Unary, echo.BothStream)
	if got := fmt.Sprint(keys); got != want {
		t.Errorf("the keys are %s, want %s", got, want)
	}
}

func TestPanicsOnWrongFields(t *testing.T) {
	var none bulkheadgrpc.Client
	var nobody bulkheadgrpc.Server
	c, s := client(nil), server(nil)
	c.Skip, s.Skip = []string{"Health/Check"}, []string{"/Health"}
	const neither = " is neither \"/package.Service/Method\" nor \"/package.Service/\""
	for want, builds := range map[string][2]func(){
		"bulkheadgrpc: Client.Bulkhead is nil": {
			func() { none.Unary() }, func() { none.Stream() },
		},
		"bulkheadgrpc: Server.Bulkhead is nil": {
			func() { nobody.Unary() }, func() { nobody.Stream() },
		},
		`bulkheadgrpc: Client.Skip: "Health/Check"` + neither: {
			func() { c.Unary() }, func() { c.Stream() },
		},
		`bulkheadgrpc: Server.Skip: "/Health"` + neither: {
			func() { s.Unary() }, func() { s.Stream() },
		},
	} {
		for _, build := range builds {
			func() {
				defer func() {
					if got := recover(); got != want {
						t.Errorf("the panic is %v, want %s", got, want)
					}
				}()
				build()
			}()
		}
	}
}

// A slot costs a call no allocation.
func TestAllocations(t *testing.T) {
	b := wall()
	serve, ask := server(b).Unary(), client(b).Unary()
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
	b := wall()
	conn := echo.Service{}.Listen(t, serving(server(wall())), calling(client(b))...)
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
