package breakergrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/grpc/breakergrpc"
	"github.com/stormjib/stormjib/grpc/internal/echo"
)

// counting returns a breaker that counts and never opens.
func counting() *breaker.Breaker {
	return breaker.New(breaker.Config{FailureRate: 1, MinCalls: 1e6})
}

// brittle returns a breaker that the first failure opens, for 8 to 10 seconds, and one
// success of a probe closes.
func brittle() *breaker.Breaker {
	return breaker.New(breaker.Config{
		Name: "prices", Consecutive: 1, OpenFor: 10 * time.Second, Probes: 1, RampUp: -1,
	})
}

func outcomes(b *breaker.Breaker) string {
	s := b.Stats()
	var parts []string
	for _, part := range []struct {
		n    uint64
		what string
	}{
		{s.Total.Succeeded, "succeeded"},
		{s.Total.Failed, "failed"},
		{s.Ignored, "ignored"},
		{s.Refused, "refused"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprint(part.n, " ", part.what))
		}
	}
	return strings.Join(parts, ", ")
}

func wantOutcomes(t *testing.T, b *breaker.Breaker, want string) {
	t.Helper()
	if got := outcomes(b); got != want {
		t.Errorf("the breaker counted %q, want %q", got, want)
	}
}

func client(b *breaker.Breaker) *breakergrpc.Client {
	return &breakergrpc.Client{
		Breaker: func(context.Context, string, string) *breaker.Breaker { return b },
	}
}

func server(b *breaker.Breaker) *breakergrpc.Server {
	return &breakergrpc.Server{
		Breaker: func(context.Context, string) *breaker.Breaker { return b },
	}
}

func nobody(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody") }

func retryInfo(d time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
}

// healthy returns a connection to a server that has gRPC's service of health.
func healthy(
	t *testing.T, options []grpc.ServerOption, client ...grpc.DialOption,
) *grpc.ClientConn {
	t.Helper()
	return echo.Service{Register: func(s *grpc.Server) {
		healthpb.RegisterHealthServer(s, health.NewServer())
	}}.Listen(t, options, client...)
}

// calling is the options of a client that asks a breaker.
func calling(c *breakergrpc.Client) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(c.Unary()),
		grpc.WithChainStreamInterceptor(c.Stream()),
	}
}

func serving(s *breakergrpc.Server) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.Unary()), grpc.ChainStreamInterceptor(s.Stream()),
	}
}

// What a call counts as, on the side of the client and on that of the server alike.
func TestOutcome(t *testing.T) {
	plain := errors.New("boom")
	tests := []struct {
		name    string
		err     error // of the handler
		unknown bool  // CountUnknown
		want    string
	}{
		{"OK", nil, false, "1 succeeded"},
		{"Canceled", status.Error(codes.Canceled, ""), false, "1 ignored"},
		{"a plain error", plain, false, "1 succeeded"},
		{"a plain error, counted", plain, true, "1 failed"},
		{"InvalidArgument", status.Error(codes.InvalidArgument, ""), true, "1 succeeded"},
		{"DeadlineExceeded", status.Error(codes.DeadlineExceeded, ""), false, "1 failed"},
		{"NotFound", status.Error(codes.NotFound, ""), false, "1 succeeded"},
		{"AlreadyExists", status.Error(codes.AlreadyExists, ""), false, "1 succeeded"},
		{"PermissionDenied", status.Error(codes.PermissionDenied, ""), false, "1 succeeded"},
		{"ResourceExhausted", status.Error(codes.ResourceExhausted, ""), false, "1 ignored"},
		{"FailedPrecondition", status.Error(codes.FailedPrecondition, ""), false, "1 succeeded"},
		{"Aborted", status.Error(codes.Aborted, ""), false, "1 succeeded"},
		{"OutOfRange", status.Error(codes.OutOfRange, ""), false, "1 succeeded"},
		{"Unimplemented", status.Error(codes.Unimplemented, ""), false, "1 succeeded"},
		{"Internal", status.Error(codes.Internal, ""), false, "1 failed"},
		{"Unavailable", status.Error(codes.Unavailable, ""), false, "1 failed"},
		{"DataLoss", status.Error(codes.DataLoss, ""), false, "1 failed"},
		{"Unauthenticated", status.Error(codes.Unauthenticated, ""), false, "1 succeeded"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ours, theirs := counting(), counting()
			c, s := client(ours), server(theirs)
			c.CountUnknown, s.CountUnknown = test.unknown, test.unknown
			conn := echo.Service{
				Call: func(context.Context, string) (string, error) { return "", test.err },
			}.Listen(t, serving(s), calling(c)...)
			_, err := echo.Ask(t.Context(), conn, "")
			if status.Code(err) != status.Code(test.err) {
				t.Errorf("the call ends with %v", err)
			}
			wantOutcomes(t, ours, test.want)
			wantOutcomes(t, theirs, test.want)
		})
	}
}

func TestOutcomeClassify(t *testing.T) {
	b := counting()
	c := client(b)
	c.Classify = func(code codes.Code) breaker.Outcome {
		if code == codes.NotFound {
			return breaker.Failure
		}
		return breakergrpc.Classify(code)
	}
	conn := echo.Service{Call: func(_ context.Context, in string) (string, error) {
		return in, status.Error(codes.NotFound, "")
	}}.Listen(t, nil, calling(c)...)
	_, _ = echo.Ask(t.Context(), conn, "")
	wantOutcomes(t, b, "1 failed")
}

// Where nobody listens there is a failure, and no refusal.
func TestNobodyThere(t *testing.T) {
	b := counting()
	conn := echo.Service{}.Listen(t, nil, append(calling(client(b)),
		grpc.WithContextDialer(nobody))...)
	_, err := echo.Ask(t.Context(), conn, "")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the call ends with %v", err)
	}
	wantOutcomes(t, b, "1 failed")
}

// A caller who leaves says nothing of the server, a deadline does.
func TestCallerLeaves(t *testing.T) {
	for name, want := range map[string]string{"cancelled": "1 ignored", "deadline": "1 failed"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := counting(), counting()
				conn := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
					<-ctx.Done()
					return "", ctx.Err()
				}}.Pipe(t, serving(server(theirs)), calling(client(ours))...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if name == "cancelled" {
					time.AfterFunc(time.Millisecond, cancel)
				}
				_, err := echo.Ask(ctx, conn, "")
				if err == nil {
					t.Error("the call ends without an error")
				}
				synctest.Wait()
				wantOutcomes(t, ours, want)
				if name == "cancelled" { // the deadline may come as either
					wantOutcomes(t, theirs, want)
				}
			})
		})
	}
}

// A client that is refused gets the breaker's error, and a status for those who know only
// that.
func TestClientRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brittle()
		asked := 0
		conn := echo.Service{Call: func(context.Context, string) (string, error) {
			asked++
			return "", status.Error(codes.Unavailable, "starting")
		}}.Pipe(t, nil, calling(client(b))...)
		if _, err := echo.Ask(t.Context(), conn, ""); errors.Is(err, breaker.ErrOpen) {
			t.Errorf("the first call: %v", err)
		}
		_, err := echo.Ask(t.Context(), conn, "")
		open, ok := errors.AsType[*breaker.OpenError](err)
		if !ok || open.Name != "prices" || !stormjib.NotAttempted(err) || asked != 1 {
			t.Errorf("the second call: %v, and the server was asked %d times", err, asked)
		}
		wantStatus(t, err, stormjib.RetryAfter(err))
		_, err = conn.NewStream(t.Context(), echo.Desc(echo.BothStream), echo.BothStream)
		if !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("a stream: %v", err)
		}
		wantStatus(t, err, stormjib.RetryAfter(err))
	})
}

// wantStatus checks that an error is Unavailable, and says when to come back.
func wantStatus(t *testing.T, err error, after time.Duration) {
	t.Helper()
	st := status.Convert(err)
	var told time.Duration
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			told = info.GetRetryDelay().AsDuration()
		}
	}
	if st.Code() != codes.Unavailable || told != after || after <= 0 || after > 10*time.Second {
		t.Errorf("the status is %v, with a delay of %v, want %v", st, told, after)
	}
}

// What a server's breaker refuses, a client's ignores.
func TestServerRefuses(t *testing.T) {
	for _, method := range []string{echo.Unary, echo.BothStream} {
		ours, theirs := counting(), brittle()
		theirs.ForceOpen()
		conn := echo.Service{
			Call:   func(context.Context, string) (string, error) { panic("it is asked") },
			Stream: func(grpc.ServerStream) error { panic("it is asked") },
		}.Listen(t, serving(server(theirs)), calling(client(ours))...)
		if err := call(t.Context(), conn, method); status.Code(err) != codes.Unavailable ||
			errors.Is(err, breaker.ErrOpen) || strings.Contains(err.Error(), "prices") {
			t.Errorf("%s ends with %v", method, err)
		}
		wantOutcomes(t, ours, "1 ignored")
		wantOutcomes(t, theirs, "1 refused")
	}
}

// call makes a call of either sort to its end.
func call(ctx context.Context, conn *grpc.ClientConn, method string) error {
	if method == echo.Unary {
		_, err := echo.Ask(ctx, conn, "")
		return err
	}
	cs, err := conn.NewStream(ctx, echo.Desc(method), method)
	if err != nil {
		return err
	}
	if err := cs.CloseSend(); err != nil {
		return err
	}
	for {
		if _, err := echo.Receive(cs); err != nil {
			return err
		}
	}
}

// A server that hands on what another has refused has not refused: its own work has failed.
func TestRefusalHandedOn(t *testing.T) {
	ours, theirs := counting(), brittle()
	theirs.ForceOpen()
	behind := echo.Service{}.Listen(t, serving(server(theirs)))
	conn := echo.Service{Stream: func(ss grpc.ServerStream) error {
		return call(ss.Context(), behind, echo.Unary)
	}}.Listen(t, nil, calling(client(ours))...)
	if err := call(t.Context(), conn, echo.BothStream); status.Code(err) != codes.Unavailable {
		t.Errorf("the call ends with %v", err)
	}
	wantOutcomes(t, ours, "1 failed")
}

// Envoy's overload manager says so in its own way.
func TestRefusedByEnvoy(t *testing.T) {
	b := counting()
	conn := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-envoy-overloaded", "true"))
		return "", status.Error(codes.Unavailable, "")
	}}.Listen(t, nil, calling(client(b))...)
	_, _ = echo.Ask(t.Context(), conn, "")
	wantOutcomes(t, b, "1 ignored")
}

// A client of gRPC's own that retries by its service config comes back when the breaker
// lets it, and not before.
func TestStockClientObeysPushback(t *testing.T) {
	const config = `{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 2, "initialBackoff": "0.01s", "maxBackoff": "0.01s",
		"backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`
	synctest.Test(t, func(t *testing.T) {
		b := brittle()
		conn := echo.Service{}.Pipe(t, serving(server(b)), grpc.WithDefaultServiceConfig(config))
		permit, err := b.Allow()
		if err != nil {
			t.Fatal(err)
		}
		permit.Record(breaker.Failure)
		opens := time.Until(b.Stats().Until)
		began := time.Now()
		text, err := echo.Ask(t.Context(), conn, "hello")
		took := time.Since(began)
		if text != "hello" || err != nil || took < opens || took > opens+time.Second {
			t.Errorf("it is answered with %q, %v after %v; the breaker opens after %v",
				text, err, took, opens)
		}
	})
}

// A dependency that says when to come back is heard.
func TestRetryInfoOpensLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brittle()
		conn := echo.Service{Call: func(context.Context, string) (string, error) {
			st, err := status.New(codes.Unavailable, "").WithDetails(retryInfo(30 * time.Second))
			if err != nil {
				return "", err
			}
			return "", st.Err()
		}}.Pipe(t, nil, calling(client(b))...)
		_, _ = echo.Ask(t.Context(), conn, "")
		if open := time.Until(b.Stats().Until); open != 30*time.Second {
			t.Errorf("open for %v, want what the dependency asks for", open)
		}
	})
}

// A stream counts once, when it has ended, in whichever way that is.
func TestClientStreamEnds(t *testing.T) {
	hold := func(ss grpc.ServerStream) error {
		<-ss.Context().Done()
		return ss.Context().Err()
	}
	receive := func(t *testing.T, cs grpc.ClientStream, want error) {
		t.Helper()
		if _, err := echo.Receive(cs); !errors.Is(err, want) {
			t.Errorf("it receives %v, want %v", err, want)
		}
	}
	tests := []struct {
		name   string
		method string
		serve  func(grpc.ServerStream) error // nil: it echoes
		use    func(t *testing.T, cs grpc.ClientStream, cancel func(), conn *grpc.ClientConn)
		want   string
	}{
		{
			"EOF", echo.BothStream, nil,
			func(t *testing.T, cs grpc.ClientStream, _ func(), _ *grpc.ClientConn) {
				if err := errors.Join(echo.Send(cs, "a"), cs.CloseSend()); err != nil {
					t.Error(err)
				}
				receive(t, cs, nil)
				receive(t, cs, io.EOF)
				receive(t, cs, io.EOF)
			}, "1 succeeded",
		},
		{
			"an error after a message", echo.ServerStream,
			func(ss grpc.ServerStream) error {
				_ = echo.Send(ss, "a")
				return status.Error(codes.DataLoss, "")
			},
			func(t *testing.T, cs grpc.ClientStream, _ func(), _ *grpc.ClientConn) {
				_ = errors.Join(echo.Send(cs, ""), cs.CloseSend())
				receive(t, cs, nil)
				if _, err := echo.Receive(cs); status.Code(err) != codes.DataLoss {
					t.Errorf("it receives %v", err)
				}
			}, "1 failed",
		},
		{
			"the reply that is the only one", echo.ClientStream, nil,
			func(t *testing.T, cs grpc.ClientStream, _ func(), _ *grpc.ClientConn) {
				if err := errors.Join(echo.Send(cs, "a"), cs.CloseSend()); err != nil {
					t.Error(err)
				}
				receive(t, cs, nil)
			}, "1 succeeded",
		},
		{
			"cancelled, and nobody receives", echo.BothStream, hold,
			func(_ *testing.T, _ grpc.ClientStream, cancel func(), _ *grpc.ClientConn) {
				cancel()
			}, "1 ignored",
		},
		{
			"cancelled, and received", echo.BothStream, hold,
			func(t *testing.T, cs grpc.ClientStream, cancel func(), _ *grpc.ClientConn) {
				time.AfterFunc(time.Second, cancel)
				if _, err := echo.Receive(cs); status.Code(err) != codes.Canceled {
					t.Errorf("it receives %v", err)
				}
			}, "1 ignored",
		},
		{
			"the connection is closed, and nobody receives", echo.BothStream, hold,
			func(_ *testing.T, _ grpc.ClientStream, _ func(), conn *grpc.ClientConn) {
				_ = conn.Close()
			}, "1 ignored",
		}, // with Canceled, and by the client itself
		{
			"only sent", echo.BothStream, nil,
			func(t *testing.T, cs grpc.ClientStream, cancel func(), _ *grpc.ClientConn) {
				if err := errors.Join(echo.Send(cs, "a"), cs.CloseSend()); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Hour)
				cancel()
			}, "1 ignored",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := counting()
				conn := echo.Service{Stream: test.serve}.Pipe(t, nil, calling(client(b))...)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				cs, err := conn.NewStream(ctx, echo.Desc(test.method), test.method)
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				wantOutcomes(t, b, "")
				test.use(t, cs, cancel, conn)
				synctest.Wait()
				wantOutcomes(t, b, test.want)
				cancel()
				synctest.Wait()
				wantOutcomes(t, b, test.want)
			})
		})
	}
}

// A stream that cannot be opened has ended, and so has one whose opening panics.
func TestClientStreamDoesNotOpen(t *testing.T) {
	for name, test := range map[string]struct {
		open func() error
		want string
	}{
		"an error":   {func() error { return status.Error(codes.Unavailable, "") }, "1 failed"},
		"a refusal":  {func() error { return &breaker.OpenError{} }, "1 ignored"},
		"a panic":    {func() error { panic("boom") }, "1 failed"},
		"its Goexit": {func() error { runtime.Goexit(); return nil }, "1 failed"},
	} {
		b := counting()
		open := client(b).Stream()
		ended := make(chan any)
		go func() {
			defer func() { ended <- recover() }()
			cs, err := open(t.Context(), echo.Desc(echo.BothStream), nil, echo.BothStream,
				func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string,
					...grpc.CallOption,
				) (grpc.ClientStream, error) {
					return nil, test.open()
				})
			if cs != nil || err == nil {
				t.Errorf("%s: %v, %v", name, cs, err)
			}
		}()
		if v := <-ended; (v != nil) != (name == "a panic") {
			t.Errorf("%s: recovered %v", name, v)
		}
		wantOutcomes(t, b, test.want)
	}
}

// A handler that panics has failed, and its panic goes on as it was.
func TestServerPanics(t *testing.T) {
	for name, end := range map[string]func(){
		"panic": func() { panic("boom") }, "Goexit": runtime.Goexit,
	} {
		b := counting()
		s := server(b)
		unary, stream := s.Unary(), s.Stream()
		for _, serve := range []func(){
			func() {
				_, _ = unary(t.Context(), nil, &grpc.UnaryServerInfo{},
					func(context.Context, any) (any, error) { end(); return nil, nil })
			},
			func() {
				_ = stream(nil, inContext{ctx: t.Context()}, &grpc.StreamServerInfo{},
					func(any, grpc.ServerStream) error { end(); return nil })
			},
		} {
			ended := make(chan any)
			go func() {
				defer func() { ended <- recover() }()
				serve()
				t.Errorf("%s: it returns", name)
			}()
			if v := <-ended; (v == "boom") != (name == "panic") {
				t.Errorf("%s: recovered %v", name, v)
			}
		}
		wantOutcomes(t, b, "2 failed")
	}
}

// inContext is a stream without anybody on the other side.
type inContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s inContext) Context() context.Context { return s.ctx }

// An invoker that panics has failed.
func TestClientPanics(t *testing.T) {
	b := counting()
	defer func() {
		if v := recover(); v != "boom" {
			t.Errorf("recovered %v", v)
		}
		wantOutcomes(t, b, "1 failed")
	}()
	_ = client(b).Unary()(t.Context(), echo.Unary, nil, nil, nil,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			panic("boom")
		})
}

// Who looks at a server is not refused, unless that is asked for.
func TestSkip(t *testing.T) {
	for _, test := range []struct {
		name    string
		skip    []string
		refused bool
	}{
		{"by default", nil, false},
		{"nothing", []string{}, true},
		{"by name", []string{"/grpc.health.v1.Health/Check"}, false},
		{"by service", []string{"/grpc.health.v1.Health/"}, false},
		{"another", []string{"/grpc.health.v1.Health/Watch"}, true},
	} {
		b := counting()
		b.ForceOpen()
		c, s := client(b), server(b)
		c.Skip, s.Skip = test.skip, test.skip
		for _, conn := range []*grpc.ClientConn{
			healthy(t, nil, calling(c)...), healthy(t, serving(s)),
		} {
			_, err := healthpb.NewHealthClient(conn).Check(
				t.Context(), &healthpb.HealthCheckRequest{})
			if (err != nil) != test.refused {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	}
}

// The keys are the target and the method; without a breaker a call passes.
func TestKeys(t *testing.T) {
	var keys []string
	c := &breakergrpc.Client{
		Breaker: func(_ context.Context, target, method string) *breaker.Breaker {
			keys = append(keys, target[:len("passthrough:///")]+method)
			return nil
		},
	}
	s := &breakergrpc.Server{Breaker: func(_ context.Context, method string) *breaker.Breaker {
		keys = append(keys, method)
		return nil
	}}
	conn := echo.Service{}.Listen(t, serving(s), calling(c)...)
	if text, err := echo.Ask(t.Context(), conn, "hello"); text != "hello" || err != nil {
		t.Errorf("it is answered with %q, %v", text, err)
	}
	if err := call(t.Context(), conn, echo.BothStream); err != io.EOF {
		t.Error(err)
	}
	want := "[passthrough:///" + echo.Unary + " " + echo.Unary +
		" passthrough:///" + echo.BothStream + " " + echo.BothStream + "]"
	if got := fmt.Sprint(keys); got != want {
		t.Errorf("the keys are %s, want %s", got, want)
	}
}

func TestPanicsOnWrongFields(t *testing.T) {
	b := counting()
	var none breakergrpc.Client
	var nobody breakergrpc.Server
	c, s := client(b), server(b)
	c.Skip, s.Skip = []string{"Health/Check"}, []string{"/Health"}
	const neither = " is neither \"/package.Service/Method\" nor \"/package.Service/\""
	for want, build := range map[string]func(){
		"breakergrpc: Client.Breaker is nil":                 func() { none.Unary() },
		"breakergrpc: Server.Breaker is nil":                 func() { nobody.Stream() },
		`breakergrpc: Client.Skip: "Health/Check"` + neither: func() { c.Stream() },
		`breakergrpc: Server.Skip: "/Health"` + neither:      func() { s.Unary() },
	} {
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

// What was there before is there after.
func TestNoGoroutineIsLeft(t *testing.T) {
	b := counting()
	conn := echo.Service{}.Listen(t, serving(server(b)), calling(client(b))...)
	if err := call(t.Context(), conn, echo.BothStream); err != io.EOF {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 100 {
		if err := call(t.Context(), conn, echo.BothStream); err != io.EOF {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := conn.NewStream(ctx, echo.Desc(echo.BothStream), echo.BothStream); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	for range 1000 { // those that end are on their way
		if runtime.NumGoroutine() <= before+5 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines became %d", before, runtime.NumGoroutine())
}
