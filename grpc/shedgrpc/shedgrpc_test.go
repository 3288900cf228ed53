package shedgrpc_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/grpc/internal/echo"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/grpc/shedgrpc"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/throttle"
)

// slots returns a shedder of so many slots and places to wait.
func slots(n, queue int) *shed.Shedder {
	return shed.New(shed.Config{
		Name: "api", Initial: n, Max: n, Queue: queue, Algorithm: shed.Fixed, MaxWait: time.Minute,
	})
}

func guarded(s *shed.Shedder) *shedgrpc.Server {
	return &shedgrpc.Server{
		Shedder: func(context.Context, string) *shed.Shedder { return s },
	}
}

func behind(s *shedgrpc.Server, more ...grpc.ServerOption) []grpc.ServerOption {
	return append(more,
		grpc.ChainUnaryInterceptor(s.Unary()), grpc.ChainStreamInterceptor(s.Stream()))
}

func through(c *shedgrpc.Client) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(c.Unary()), grpc.WithChainStreamInterceptor(c.Stream()),
	}
}

func text(s shed.Stats) string {
	return fmt.Sprint(s.Admitted, " admitted, ", s.Ignored, " ignored, ", s.Overloaded,
		" overloaded, ", s.InUse, " in use")
}

func code(c codes.Code) error { return status.Error(c, "text") }

func mark(method, reason, scope string) error {
	return wire.Status(codes.Unavailable, method, "text",
		hop.Refusal{Reason: reason, Scope: scope}, 0).Err()
}

type notAttempted struct{}

func (notAttempted) Error() string      { return "refused here" }
func (notAttempted) NotAttempted() bool { return true }

// What the end of a handler says of the load.
func TestOutcome(t *testing.T) {
	const ok, ignored, overloaded = "1 admitted, 0 ignored, 0 overloaded, 0 in use",
		"1 admitted, 1 ignored, 0 overloaded, 0 in use",
		"1 admitted, 0 ignored, 1 overloaded, 0 in use"
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"OK", nil, ok},
		{"NotFound", code(codes.NotFound), ok},
		{"AlreadyExists", code(codes.AlreadyExists), ok},
		{"Aborted", code(codes.Aborted), ok},
		{"FailedPrecondition", code(codes.FailedPrecondition), ok},
		{"DeadlineExceeded", code(codes.DeadlineExceeded), overloaded},
		{"a deadline as it is", context.DeadlineExceeded, overloaded},
		{"InvalidArgument", code(codes.InvalidArgument), ignored},
		{"OutOfRange", code(codes.OutOfRange), ignored},
		{"PermissionDenied", code(codes.PermissionDenied), ignored},
		{"Unauthenticated", code(codes.Unauthenticated), ignored},
		{"Unimplemented", code(codes.Unimplemented), ignored},
		{"ResourceExhausted", code(codes.ResourceExhausted), ignored},
		{"Canceled", code(codes.Canceled), ignored},
		{"Unavailable", code(codes.Unavailable), ignored},
		{"Internal", code(codes.Internal), ignored},
		{"DataLoss", code(codes.DataLoss), ignored},
		{"plain", errors.New("boom"), ignored},
		{"refused here", notAttempted{}, ignored},
		{"both", errors.Join(context.DeadlineExceeded, notAttempted{}), overloaded},
		{"shed behind", mark("/other/Method", hop.Shed, hop.Replica), overloaded},
		{"shed by another of the kind", mark(echo.Unary, hop.Shed, hop.Replica), overloaded},
		{"full behind", mark("/other/Method", hop.Full, hop.Replica), ignored},
		{"full here", mark(echo.Unary, hop.Full, hop.Replica), ignored},
		{"open behind", mark("/other/Method", hop.Open, hop.Service), ignored},
	}
	for _, test := range tests {
		s := slots(1, 0)
		conn := echo.Service{
			Call:   func(context.Context, string) (string, error) { return "", test.err },
			Stream: func(grpc.ServerStream) error { return test.err },
		}.Listen(t, behind(guarded(s)))
		_, err := echo.Ask(t.Context(), conn, "x")
		want := status.Code(test.err)
		if _, ok := status.FromError(test.err); !ok {
			want = status.FromContextError(test.err).Code()
		}
		if status.Code(err) != want {
			t.Errorf("%s: %v", test.name, err)
		}
		if got := text(s.Stats()); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		before := s.Stats()
		stream, err := conn.NewStream(t.Context(), echo.Desc(echo.BothStream), echo.BothStream)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = echo.Receive(stream)
		after := s.Stats()
		if after.Ignored-before.Ignored != before.Ignored ||
			after.Overloaded-before.Overloaded != before.Overloaded {
			t.Errorf("%s, as a stream: %s after %s", test.name, text(after), text(before))
		}
	}
}

// A user's Classify decides.
func TestClassify(t *testing.T) {
	s := slots(1, 0)
	g := guarded(s)
	g.Classify = func(method string, err error) shed.Outcome {
		if method != echo.Unary || status.Code(err) != codes.Internal {
			t.Errorf("asked about %v of %s", err, method)
		}
		return shed.Overloaded
	}
	conn := echo.Service{Call: func(context.Context, string) (string, error) {
		return "", code(codes.Internal)
	}}.Listen(t, behind(g))
	_, _ = echo.Ask(t.Context(), conn, "x")
	if got := s.Stats().Overloaded; got != 1 {
		t.Errorf("%d overloaded", got)
	}
}

// A refusal says what it is, and pushes nobody back: nine other replicas may be idle.
func TestRefusal(t *testing.T) {
	for _, tapped := range []bool{false, true} {
		s := slots(1, -1)
		g := guarded(s)
		var options []grpc.ServerOption
		if tapped {
			options = append(options, grpc.InTapHandle(g.Tap()))
		}
		conn := echo.Service{}.Listen(t, behind(g, options...))
		permit, err := s.TryAcquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var trailer metadata.MD
		_, err = echo.Ask(t.Context(), conn, "x", grpc.Trailer(&trailer))
		a := wire.Read(echo.Unary, err, trailer)
		if a.Code != codes.Unavailable || !a.Refused() || a.Refusal.Scope != hop.Replica ||
			a.Refusal.Reason != hop.Shed || a.Pushback || a.NoRetry ||
			a.After < 500*time.Millisecond || a.After > 1500*time.Millisecond {
			t.Errorf("tapped %t: %+v", tapped, a)
		}
		stream, err := conn.NewStream(t.Context(), echo.Desc(echo.BothStream), echo.BothStream)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = echo.Receive(stream); status.Code(err) != codes.Unavailable {
			t.Errorf("tapped %t, a stream: %v", tapped, err)
		}
		permit.Record(shed.Ignored)
		if out, err := echo.Ask(t.Context(), conn, "x"); out != "x" || err != nil {
			t.Errorf("tapped %t, with a slot: %q, %v", tapped, out, err)
		}
		if got := s.Stats(); got.InUse != 0 || got.Admitted != 2 {
			t.Errorf("tapped %t: %s", tapped, text(got))
		}
	}
}

// One replica that sheds does not silence a client of gRPC's own that retries.
func TestServiceConfig(t *testing.T) {
	const config = `{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 4, "initialBackoff": "0.001s", "maxBackoff": "0.001s",
		"backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`
	s := slots(1, -1)
	conn := echo.Service{}.Listen(t, behind(guarded(s)), grpc.WithDefaultServiceConfig(config))
	permit, err := s.TryAcquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer permit.Record(shed.Ignored)
	if _, err := echo.Ask(t.Context(), conn, "x"); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	if got := s.Stats().Offered; got != 1+4 {
		t.Errorf("%d calls were offered", got-1)
	}
}

// A tenant whose calls had to go for others is told that it has had more than its share, and
// one whose context has ended what became of that.
func TestCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		want codes.Code
	}{
		{&shed.OverloadError{Reason: shed.Evicted}, codes.Unavailable},
		{&shed.OverloadError{Reason: shed.QueueFull, OverShare: true}, codes.ResourceExhausted},
		{fmt.Errorf("wrapped: %w", &shed.OverloadError{OverShare: true}), codes.ResourceExhausted},
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		if got := shedgrpc.Code(test.err); got != test.want {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
	}
}

// A call whose time is over while it waits for a slot.
func TestWaitsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slots(1, 5)
		permit, err := s.TryAcquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conn := echo.Service{}.Pipe(t, behind(guarded(s)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := echo.Ask(ctx, conn, "x"); status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
		synctest.Wait()
		permit.Record(shed.OK)
		if got := s.Stats(); got.InUse != 0 || got.Waiting != 0 || got.GaveUp != 1 {
			t.Errorf("%s, %d gave up", text(got), got.GaveUp)
		}
	})
}

// What a call says of itself, and what of that is believed.
func TestSender(t *testing.T) {
	type md = map[string]string
	tests := []struct {
		name    string
		said    md
		trusted bool
		want    string // class, tenant, attempt
	}{
		{"nothing", nil, false, "critical known 0"},
		{"higher", md{"stormjib-criticality": "critical-plus"}, false, "critical known 0"},
		{"trusted", md{"stormjib-criticality": "critical-plus"}, true, "critical-plus known 0"},
		{"lower", md{"stormjib-criticality": "sheddable"}, false, "sheddable known 0"},
		{"no class", md{"stormjib-criticality": "x"}, true, "critical known 0"},
		{"a tenant", md{"stormjib-tenant": `"acme"`}, false, "critical known 0"},
		{"a tenant, trusted", md{"stormjib-tenant": `"acme"`}, true, "critical acme 0"},
		{"an attempt", md{"grpc-previous-rpc-attempts": "2"}, false, "critical known 3"},
		{"no attempt", md{"grpc-previous-rpc-attempts": "-2"}, false, "critical known 0"},
		{"Envoy's", md{"x-envoy-attempt-count": "4"}, false, "critical known 4"},
		{
			"both",
			md{"grpc-previous-rpc-attempts": "4", "x-envoy-attempt-count": "2"},
			false,
			"critical known 5",
		},
	}
	for _, test := range tests {
		got := ""
		g := guarded(nil)
		g.Shedder = func(context.Context, string) *shed.Shedder { return nil }
		g.Tenant = func(context.Context, string) string { return "known" }
		g.Trust = func(ctx context.Context, method string) bool {
			if p, ok := peer.FromContext(ctx); !ok || p.Addr == nil || method != echo.Unary {
				t.Errorf("asked about %s of %v", method, p)
			}
			return test.trusted
		}
		conn := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
			s := hop.SenderOf(ctx)
			got = fmt.Sprint(shed.CriticalityOf(ctx), " ", stormjib.Tenant(ctx), " ", s.Attempt)
			return "", nil
		}}.Listen(t, behind(g))
		if _, err := echo.Ask(metadata.NewOutgoingContext(t.Context(), metadata.New(test.said)),
			conn, "x"); err != nil {
			t.Error(err)
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// A class of the server's own is the highest for who is not trusted.
func TestCriticality(t *testing.T) {
	var got shed.Criticality
	g := guarded(slots(1, 0))
	g.Criticality = func(_ context.Context, method string) shed.Criticality {
		if method == echo.Unary {
			return shed.SheddablePlus
		}
		return 0
	}
	conn := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
		got = shed.CriticalityOf(ctx)
		return "", nil
	}}.Listen(t, behind(g))
	for said, want := range map[string]shed.Criticality{
		"": shed.SheddablePlus, "critical": shed.SheddablePlus, "best-effort": shed.BestEffort,
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), wire.CriticalityKey, said)
		if _, err := echo.Ask(ctx, conn, "x"); err != nil || got != want {
			t.Errorf("%q: %v, %v", said, got, err)
		}
	}
}

// What came in goes on, but for the attempt; what else a caller has written does not.
func TestGoesOn(t *testing.T) {
	var got metadata.MD
	last := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
		got, _ = metadata.FromIncomingContext(ctx)
		return "", nil
	}}.Listen(t, nil, through(&shedgrpc.Client{})...)
	g := guarded(slots(1, 0))
	g.Trust = func(context.Context, string) bool { return true }
	first := echo.Service{Call: func(ctx context.Context, in string) (string, error) {
		if in == "copies" { // as a proxy does
			md, _ := metadata.FromIncomingContext(ctx)
			md.Set(wire.TenantKey, `"forged"`)
			ctx = metadata.NewOutgoingContext(stormjib.WithTenant(ctx, ""), md)
		}
		return echo.Ask(ctx, last, in)
	}}.Listen(t, behind(g), through(&shedgrpc.Client{})...)
	ctx := shed.WithCriticality(t.Context(), shed.Sheddable)
	ctx = stormjib.WithTenant(hop.WithAttempt(ctx, 3), "größe")
	if _, err := echo.Ask(ctx, first, "x"); err != nil {
		t.Fatal(err)
	}
	tenant, _ := hop.ParseTenant(strings.Join(got[wire.TenantKey], ""))
	if tenant != "größe" || fmt.Sprint(got[wire.CriticalityKey]) != "[sheddable]" ||
		got[wire.PreviousAttemptsKey] != nil {
		t.Errorf("the last was told %v", got)
	}
	if _, err := echo.Ask(ctx, first, "copies"); err != nil {
		t.Fatal(err)
	}
	if got[wire.TenantKey] != nil {
		t.Errorf("the last was told %v", got)
	}
}

// The deadline of a client nobody trusts is not the server's fault.
func TestDeadline(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := slots(1, 0)
			g := guarded(s)
			g.Trust = func(context.Context, string) bool { return trusted }
			conn := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
				<-ctx.Done()
				return "", ctx.Err()
			}}.Pipe(t, behind(g))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := echo.Ask(ctx, conn, "x"); status.Code(err) != codes.DeadlineExceeded {
				t.Error(err)
			}
			synctest.Wait()
			got := s.Stats()
			if got.Ignored+got.Overloaded != 1 || trusted != (got.Overloaded == 1) {
				t.Errorf("trusted %t: %s", trusted, text(got))
			}
		})
	}
}

// A client that leaves says nothing, and its call has a slot while its handler goes on.
func TestClientLeaves(t *testing.T) {
	for _, tapped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := slots(1, -1)
			g := guarded(s)
			var options []grpc.ServerOption
			if tapped {
				options = append(options, grpc.InTapHandle(g.Tap()))
			}
			conn := echo.Service{Call: func(context.Context, string) (string, error) {
				time.Sleep(time.Minute) // it does not look at its context
				return "", nil
			}}.Pipe(t, behind(g, options...))
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if _, err := echo.Ask(ctx, conn, "x"); status.Code(err) != codes.Canceled {
				t.Error(err)
			}
			time.Sleep(time.Second)
			if got := s.Stats(); got.InUse != 1 {
				t.Errorf("tapped %t, while the handler runs: %s", tapped, text(got))
			}
			time.Sleep(time.Minute)
			if got := s.Stats(); got.InUse != 0 || got.Ignored != 1 {
				t.Errorf("tapped %t: %s", tapped, text(got))
			}
		})
	}
}

// Whatever becomes of a call that the tap has let in, its slot comes back.
func TestTapGivesBack(t *testing.T) {
	refusing := func(
		context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler,
	) (any, error) {
		return nil, code(codes.Unauthenticated)
	}
	tests := []struct {
		name string
		more []grpc.ServerOption // before the interceptor of the same Server
		call func(t *testing.T, conn *grpc.ClientConn) error
		want codes.Code
	}{
		{"a call", nil, func(t *testing.T, conn *grpc.ClientConn) error {
			_, err := echo.Ask(t.Context(), conn, "x")
			return err
		}, codes.OK},
		{"of no method", nil, func(t *testing.T, conn *grpc.ClientConn) error {
			in := wrapperspb.String("x")
			return conn.Invoke(t.Context(), "/echo.Echo/None", in, in)
		}, codes.Unimplemented},
		{"of no service", nil, func(t *testing.T, conn *grpc.ClientConn) error {
			in := wrapperspb.String("x")
			return conn.Invoke(t.Context(), "/none/None", in, in)
		}, codes.Unimplemented},
		{
			"refused before",
			[]grpc.ServerOption{grpc.ChainUnaryInterceptor(refusing)},
			func(t *testing.T, conn *grpc.ClientConn) error {
				_, err := echo.Ask(t.Context(), conn, "x")
				return err
			}, codes.Unauthenticated,
		},
		{
			"a message that is too large",
			[]grpc.ServerOption{grpc.MaxRecvMsgSize(100)},
			func(t *testing.T, conn *grpc.ClientConn) error {
				_, err := echo.Ask(t.Context(), conn, strings.Repeat("x", 1000))
				return err
			}, codes.ResourceExhausted,
		},
		{"left before its message", nil, func(t *testing.T, conn *grpc.ClientConn) error {
			ctx, cancel := context.WithCancel(t.Context())
			s, err := conn.NewStream(ctx, echo.Desc(echo.ClientStream), echo.Unary)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			cancel()
			_, err = echo.Receive(s)
			return err
		}, codes.Canceled},
		{"its connection ends", nil, func(t *testing.T, conn *grpc.ClientConn) error {
			s, err := conn.NewStream(t.Context(), echo.Desc(echo.ClientStream), echo.Unary)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			conn.Close()
			_, err = echo.Receive(s)
			return err
		}, codes.Canceled},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			s := slots(1, -1)
			g := guarded(s)
			options := append([]grpc.ServerOption{grpc.InTapHandle(g.Tap())}, test.more...)
			conn := echo.Service{}.Pipe(t, behind(g, options...))
			if err := test.call(t, conn); status.Code(err) != test.want {
				t.Errorf("%s: %v", test.name, err)
			}
			synctest.Wait()
			if got := s.Stats(); got.InUse != 0 || got.Admitted != 1 {
				t.Errorf("%s: %s", test.name, text(got))
			}
		})
	}
}

// A call that has ended on its way from the tap to the interceptor is not handled: its slot is
// somebody else's by then.
func TestEndsAfterTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slots(1, -1)
		g := guarded(s)
		late := grpc.ChainUnaryInterceptor(func(
			ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler,
		) (any, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			return next(ctx, req)
		})
		conn := echo.Service{Call: func(context.Context, string) (string, error) {
			t.Error("the handler was called")
			return "", nil
		}}.Pipe(t, behind(g, grpc.InTapHandle(g.Tap()), late))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := echo.Ask(ctx, conn, "x"); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		if got := text(s.Stats()); got != "1 admitted, 1 ignored, 0 overloaded, 0 in use" {
			t.Error(got)
		}
	})
}

// What is too long is no tenant.
func TestLongTenant(t *testing.T) {
	got := "?"
	g := guarded(slots(1, 0))
	g.Tenant = func(context.Context, string) string { return strings.Repeat("x", 300) }
	conn := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
		got = stormjib.Tenant(ctx)
		return "", nil
	}}.Listen(t, behind(g))
	if _, err := echo.Ask(t.Context(), conn, "x"); err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
}

// What a tap lets through is counted by what came of it, and once.
func TestTapAndInterceptors(t *testing.T) {
	s := slots(1, -1)
	g := guarded(s)
	twice := behind(g, grpc.InTapHandle(g.Tap()))
	conn := echo.Service{Call: func(_ context.Context, in string) (string, error) {
		if s.Stats().InUse != 1 {
			t.Errorf("in the handler: %s", text(s.Stats()))
		}
		return in, code(codes.DeadlineExceeded)
	}}.Listen(t, twice)
	_, _ = echo.Ask(t.Context(), conn, "x")
	if got := text(s.Stats()); got != "1 admitted, 0 ignored, 1 overloaded, 0 in use" {
		t.Error(got)
	}
	// A tap of another Server's is not this one's.
	other := slots(9, -1)
	conn = echo.Service{}.Listen(t, behind(g, grpc.InTapHandle(guarded(other).Tap())))
	if _, err := echo.Ask(t.Context(), conn, "x"); err != nil {
		t.Error(err)
	}
	for range 1000 {
		if other.Stats().InUse == 0 {
			break
		}
		runtime.Gosched()
	}
	if s.Stats().Admitted != 2 || other.Stats().Admitted != 1 {
		t.Errorf("%s, %s", text(s.Stats()), text(other.Stats()))
	}
}

// A stream has its slot until its handler has returned, or has said that it waits.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, outer := slots(1, -1), slots(1, -1)
		waits := make(chan bool)
		stops := false
		conn := echo.Service{Stream: func(ss grpc.ServerStream) error {
			if stops {
				shedgrpc.StopClock(ss.Context())
				shedgrpc.StopClock(ss.Context())
			}
			<-waits
			return nil
		}}.Pipe(t, append(behind(guarded(outer)), behind(guarded(s))...))
		for _, stops = range []bool{false, true} {
			stream, err := conn.NewStream(t.Context(), echo.Desc(echo.BothStream), echo.BothStream)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := s.Stats().InUse + outer.Stats().InUse; stops != (got == 0) {
				t.Errorf("StopClock %t: %d in use", stops, got)
			}
			waits <- true
			_, _ = echo.Receive(stream)
			synctest.Wait()
		}
		for _, s := range []*shed.Shedder{s, outer} {
			if got := text(s.Stats()); got != "2 admitted, 1 ignored, 0 overloaded, 0 in use" {
				t.Error(got)
			}
		}
		shedgrpc.StopClock(t.Context()) // without a Server
	})
}

// A Server behind another that refuses is not overload to that.
func TestNested(t *testing.T) {
	outer, inner := slots(1, -1), slots(1, -1)
	conn := echo.Service{}.Listen(t, append(behind(guarded(outer)), behind(guarded(inner))...))
	permit, err := inner.TryAcquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer permit.Record(shed.Ignored)
	if _, err := echo.Ask(t.Context(), conn, "x"); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	if got := text(outer.Stats()); got != "1 admitted, 1 ignored, 0 overloaded, 0 in use" {
		t.Error(got)
	}
}

// However a handler ends, its slot comes back.
func TestHandlerBreaks(t *testing.T) {
	s := slots(1, -1)
	info := &grpc.UnaryServerInfo{FullMethod: echo.Unary}
	for name, broken := range map[string]func(){
		"panic": func() { panic("boom") }, "Goexit": runtime.Goexit,
	} {
		done := make(chan any)
		go func() {
			defer func() { done <- recover() }()
			guard := guarded(s).Unary()
			_, _ = guard(t.Context(), nil, info, func(context.Context, any) (any, error) {
				broken()
				return nil, nil
			})
		}()
		if got := <-done; got == nil && name == "panic" {
			t.Error("the panic is lost")
		}
		if got := s.Stats(); got.InUse != 0 {
			t.Errorf("%s: %s", name, text(got))
		}
	}
	if got := s.Stats().Ignored; got != 2 {
		t.Errorf("%d ignored", got)
	}
}

// What the throttle of a client learns from an answer.
func TestThrottle(t *testing.T) {
	asks, err := status.New(codes.Unavailable, "text").WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		err     error
		trailer string // a key, and "=", and a value
		want    string // accepted, rejected, ignored
	}{
		{"OK", nil, "", "1 0 0"},
		{"a bug", code(codes.Internal), "", "1 0 0"},
		{"down", code(codes.Unavailable), "", "1 0 0"},
		{"too large", code(codes.ResourceExhausted), "", "1 0 0"},
		{"sheds", mark(echo.Unary, hop.Shed, hop.Replica), "", "0 1 0"},
		{"full", mark(echo.Unary, hop.Full, hop.Replica), "", "0 1 0"},
		{"a quota", mark(echo.Unary, hop.Limit, hop.Service), "", "0 1 0"},
		{"open", mark(echo.Unary, hop.Open, hop.Service), "", "1 0 0"},
		{"asks", asks.Err(), "", "0 1 0"},
		{"pushes back", code(codes.ResourceExhausted), wire.PushbackKey + "=5", "0 1 0"},
		{"Envoy", code(codes.Unavailable), "x-envoy-overloaded=true", "0 1 0"},
		{"refused here", notAttempted{}, "", "0 0 1"},
	}
	for _, test := range tests {
		for _, stream := range []bool{false, true} {
			limit := throttle.New(throttle.Config{Name: "prices"})
			c := &shedgrpc.Client{
				Throttle: func(_ context.Context, target, _ string) *throttle.Throttle {
					if target == "" {
						t.Error("no target")
					}
					return limit
				},
			}
			options := through(c)
			if _, here := test.err.(notAttempted); here {
				options = append(options,
					grpc.WithChainUnaryInterceptor(func(
						context.Context, string, any, any, *grpc.ClientConn,
						grpc.UnaryInvoker, ...grpc.CallOption,
					) error {
						return test.err
					}),
					grpc.WithChainStreamInterceptor(func(
						context.Context, *grpc.StreamDesc, *grpc.ClientConn, string,
						grpc.Streamer, ...grpc.CallOption,
					) (grpc.ClientStream, error) {
						return nil, test.err
					}))
			}
			handle := func(ctx context.Context) error {
				if key, value, ok := strings.Cut(test.trailer, "="); ok {
					_ = grpc.SetTrailer(ctx, metadata.Pairs(key, value))
				}
				return test.err
			}
			conn := echo.Service{
				Call: func(ctx context.Context, _ string) (string, error) {
					return "", handle(ctx)
				},
				Stream: func(ss grpc.ServerStream) error {
					_, _ = echo.Receive(ss)
					if test.err == nil {
						return nil
					}
					return handle(ss.Context())
				},
			}.Listen(t, nil, options...)
			if stream {
				// Marks name the method that they are about, and so it is that.
				s, err := conn.NewStream(t.Context(), echo.Desc(echo.ServerStream), echo.Unary)
				if err == nil {
					_ = errors.Join(echo.Send(s, "x"), s.CloseSend())
					for err == nil {
						_, err = echo.Receive(s)
					}
				}
			} else {
				_, _ = echo.Ask(t.Context(), conn, "x")
			}
			total := limit.Stats().Classes[shed.Critical-1].Counts
			got := fmt.Sprint(total.Accepted, total.Rejected, total.Ignored)
			if got != test.want {
				t.Errorf("%s, stream %t: %s, want %s", test.name, stream, got, test.want)
			}
		}
	}
}

// A client whose server sheds nearly all sends less, and says so.
func TestThrottled(t *testing.T) {
	limit := throttle.New(throttle.Config{Name: "prices"})
	c := &shedgrpc.Client{
		Throttle: func(context.Context, string, string) *throttle.Throttle { return limit },
	}
	var calls atomic.Int64
	conn := echo.Service{Call: func(context.Context, string) (string, error) {
		calls.Add(1)
		return "", mark(echo.Unary, hop.Shed, hop.Replica)
	}}.Listen(t, nil, through(c)...)
	var refused error
	for range 200 {
		if _, err := echo.Ask(t.Context(), conn, "x"); stormjib.NotAttempted(err) {
			refused = err
		}
	}
	if _, ok := errors.AsType[*throttle.ThrottledError](refused); !ok ||
		status.Code(refused) != codes.Unavailable || calls.Load() > 100 {
		t.Errorf("%d of 200 calls, %v", calls.Load(), refused)
	}
	_, err := conn.NewStream(t.Context(), echo.Desc(echo.BothStream), echo.BothStream)
	for range 100 {
		if err != nil {
			break
		}
		_, err = conn.NewStream(t.Context(), echo.Desc(echo.BothStream), echo.BothStream)
	}
	if !stormjib.NotAttempted(err) {
		t.Errorf("100 streams, %v", err)
	}
}

func TestSkip(t *testing.T) {
	s := slots(1, -1)
	g := guarded(s)
	g.Skip = []string{"/echo.Echo/Unary"}
	permit, err := s.TryAcquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer permit.Record(shed.Ignored)
	conn := echo.Service{}.Listen(t, behind(g, grpc.InTapHandle(g.Tap())))
	if _, err := echo.Ask(t.Context(), conn, "x"); err != nil {
		t.Error(err)
	}
	stream, err := conn.NewStream(t.Context(), echo.Desc(echo.BothStream), echo.BothStream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := echo.Receive(stream); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	bad := guarded(s)
	bad.Skip = []string{"x"}
	for name, interceptor := range map[string]func(){
		"Shedder is nil": func() { (&shedgrpc.Server{}).Unary() },
		"Server.Shedder": func() { (&shedgrpc.Server{}).Stream() },
		"Shedder":        func() { (&shedgrpc.Server{}).Tap() },
		"Server.Skip":    func() { bad.Tap() },
		"Client.Skip":    func() { (&shedgrpc.Client{Skip: []string{"x"}}).Unary() },
		"Skip":           func() { (&shedgrpc.Client{Skip: []string{"/x"}}).Stream() },
	} {
		func() {
			defer func() {
				if got := recover(); got == nil || !strings.Contains(fmt.Sprint(got), name) {
					t.Errorf("%s: panicked with %v", name, got)
				}
			}()
			interceptor()
		}()
	}
}

// A connection that nobody answers is no overload, and leaves nothing behind.
func TestNoGoroutines(t *testing.T) {
	s := slots(4, 4)
	g := guarded(s)
	conn := echo.Service{}.Listen(t, behind(g, grpc.InTapHandle(g.Tap())))
	round := func() {
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() { _, _ = echo.Ask(context.Background(), conn, "x") })
		}
		wg.Wait()
	}
	round()
	before := runtime.NumGoroutine()
	for range 20 {
		round()
	}
	for range 10000 {
		if runtime.NumGoroutine() <= before+2 && s.Stats().InUse == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines, %d before; %s", runtime.NumGoroutine(), before, text(s.Stats()))
}
