package retrygrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/internal/echo"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/grpc/retrygrpc"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/retry"
)

// broken is the handler of a stream that fails so many times, after so many replies, and
// then echoes.
type broken struct {
	times, after int
	opened       atomic.Int64
	heard        []string // what the attempts said and told
}

func (b *broken) stream(ss grpc.ServerStream) error {
	n := int(b.opened.Add(1))
	in, err := echo.Receive(ss)
	md, _ := metadata.FromIncomingContext(ss.Context())
	b.heard = append(b.heard, fmt.Sprint(in, md.Get(wire.PreviousAttemptsKey)))
	if err != nil {
		return err
	}
	_ = ss.SetHeader(metadata.Pairs("n", fmt.Sprint(n)))
	ss.SetTrailer(metadata.Pairs("n", fmt.Sprint(n)))
	for i := range 3 {
		if n <= b.times && i == b.after {
			return code(codes.Unavailable)
		}
		if err := echo.Send(ss, fmt.Sprint(in, i)); err != nil {
			return err
		}
	}
	return nil
}

// open opens a stream of replies, as generated code does.
func open(
	ctx context.Context, conn *grpc.ClientConn, in string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	s, err := conn.NewStream(ctx, echo.Desc(echo.ServerStream), echo.ServerStream, opts...)
	if err != nil {
		return nil, err
	}
	if err := echo.Send(s, in); err != nil {
		return nil, err
	}
	return s, s.CloseSend()
}

// all receives all messages.
func all(s grpc.ClientStream) (string, error) {
	var got []string
	for {
		text, err := echo.Receive(s)
		if err == io.EOF {
			return strings.Join(got, " "), nil
		}
		if err != nil {
			return strings.Join(got, " "), err
		}
		got = append(got, text)
	}
}

// A stream of replies is opened again until the first of them is there, and not after.
func TestStreamOfReplies(t *testing.T) {
	tests := []struct {
		times, after int
		opened       int64
		got          string
		code         codes.Code
	}{
		{0, 0, 1, "x0 x1 x2", codes.OK},
		{1, 0, 2, "x0 x1 x2", codes.OK},
		{2, 0, 3, "x0 x1 x2", codes.OK},
		{3, 0, 3, "", codes.Unavailable},
		{1, 1, 1, "x0", codes.Unavailable},
	}
	for _, test := range tests {
		b := &broken{times: test.times, after: test.after}
		conn := echo.Service{Stream: b.stream}.Listen(t, nil, through(at(0))...)
		var header, trailer metadata.MD
		var ends []error
		s, err := open(t.Context(), conn, "x", grpc.Header(&header), grpc.Trailer(&trailer),
			grpc.OnFinish(func(err error) { ends = append(ends, err) }))
		if err != nil {
			t.Fatal(err)
		}
		if len(ends) != 0 {
			t.Errorf("%+v: it has ended when it was opened", test)
		}
		got, err := all(s)
		if got != test.got || status.Code(err) != test.code || b.opened.Load() != test.opened {
			t.Errorf("%+v: %q, %v, opened %d times", test, got, err, b.opened.Load())
		}
		n := fmt.Sprint("[", test.opened, "]")
		if fmt.Sprint(trailer["n"]) != n || fmt.Sprint(s.Trailer()["n"]) != n {
			t.Errorf("%+v: header %v, trailer %v", test, header, trailer)
		}
		if len(ends) != 1 || !errors.Is(err, ends[0]) {
			t.Errorf("%+v: ended %v", test, ends)
		}
		want := []string{"x[]", "x[1]", "x[2]"}[:test.opened]
		if !slices.Equal(b.heard, want) {
			t.Errorf("%+v: the server heard %v", test, b.heard)
		}
		if _, err := echo.Receive(s); err == nil {
			t.Errorf("%+v: a message after the end", test)
		}
	}
}

// Nothing is an answer too.
func TestStreamWithoutReplies(t *testing.T) {
	f := &failing{times: 1, with: is(code(codes.Unavailable))}
	conn := echo.Service{Stream: func(ss grpc.ServerStream) error {
		_, err := f.call(ss.Context(), "")
		return err
	}}.Listen(t, nil, through(at(0))...)
	ends := 0
	s, err := open(t.Context(), conn, "x", grpc.OnFinish(func(error) { ends++ }))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := all(s); got != "" || err != nil || f.calls.Load() != 2 || ends != 1 {
		t.Errorf("%q, %v, opened %d times, ended %d times", got, err, f.calls.Load(), ends)
	}
}

// Who has asked for the header has seen an attempt.
func TestHeaderCommits(t *testing.T) {
	b := &broken{times: 1}
	conn := echo.Service{Stream: b.stream}.Listen(t, nil, through(at(0))...)
	ends := 0
	s, err := open(t.Context(), conn, "x", grpc.OnFinish(func(error) { ends++ }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		t.Error(err)
	}
	_, err = all(s)
	if status.Code(err) != codes.Unavailable || b.opened.Load() != 1 || ends != 1 {
		t.Errorf("%v, opened %d times, ended %d times", err, b.opened.Load(), ends)
	}
}

// What was sent into a stream that may have several messages is not sent again.
func TestStreamOfRequests(t *testing.T) {
	for _, method := range []string{echo.BothStream, echo.ClientStream} {
		var opened atomic.Int64
		conn := echo.Service{Stream: func(grpc.ServerStream) error {
			opened.Add(1)
			return code(codes.Unavailable)
		}}.Listen(t, nil, through(at(0))...)
		ends := 0
		s, err := conn.NewStream(t.Context(), echo.Desc(method), method,
			grpc.OnFinish(func(error) { ends++ }))
		if err != nil {
			t.Fatal(err)
		}
		_, err = echo.Receive(s)
		if status.Code(err) != codes.Unavailable || opened.Load() != 1 || ends != 1 {
			t.Errorf("%s: %v, opened %d times, ended %d times", method, err, opened.Load(), ends)
		}
	}
}

// opening has the first streams that are opened fail with an error, below a client.
func opening(times int, with error) (grpc.DialOption, *int) {
	n := 0
	return grpc.WithChainStreamInterceptor(func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		streamer grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		if n++; n <= times {
			return nil, with
		}
		return streamer(ctx, desc, cc, method, opts...)
	}), &n
}

// A stream that can't be opened is opened again, of whatever kind. What that takes is taken
// from the attempts that there are.
func TestOpening(t *testing.T) {
	refused := wire.Local(notAttempted{}, codes.Unavailable)
	for _, method := range []string{echo.ServerStream, echo.BothStream} {
		for times := range 4 {
			below, opened := opening(times, refused)
			b := &broken{times: 9}
			c := at(0)
			conn := echo.Service{Stream: b.stream}.Listen(t, nil, append(through(c), below)...)
			var ends []error
			s, err := conn.NewStream(t.Context(), echo.Desc(method), method,
				grpc.OnFinish(func(err error) { ends = append(ends, err) }))
			if times == 3 {
				if s != nil || status.Code(err) != codes.Unavailable || len(ends) != 1 ||
					!errors.Is(err, retry.ErrExhausted) || *opened != 3 {
					t.Errorf("%s: %v after %d, ended %v", method, err, *opened, ends)
				}
				continue
			}
			if err != nil || len(ends) != 0 {
				t.Fatalf("%s, %d: %v", method, times, err)
			}
			if err := errors.Join(echo.Send(s, "x"), s.CloseSend()); err != nil {
				t.Fatal(err)
			}
			_, err = all(s)
			want := 3
			if method == echo.BothStream {
				want = times + 1
			}
			if status.Code(err) != codes.Unavailable || *opened != want || len(ends) != 1 {
				t.Errorf("%s, %d: %v, opened %d times, ended %v", method, times, err, *opened, ends)
			}
			if method == echo.ServerStream {
				e, ok := errors.AsType[*retry.Error](err)
				if !ok || e.Attempts != 3 || retry.Retryable(err) {
					t.Errorf("%d: %#v", times, err)
				}
			}
		}
	}
}

// What was not attempted is attempted again even if it is not idempotent, but what was is not.
func TestStreamNotIdempotent(t *testing.T) {
	below, opened := opening(1, wire.Local(notAttempted{}, codes.Unavailable))
	b := &broken{times: 1}
	c := at(0)
	c.Idempotent = never
	conn := echo.Service{Stream: b.stream}.Listen(t, nil, append(through(c), below)...)
	s, err := open(t.Context(), conn, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = all(s); status.Code(err) != codes.Unavailable || *opened != 2 {
		t.Errorf("%v, opened %d times", err, *opened)
	}
}

// However the end of a stream comes about, the caller is told once, and nothing stays.
func TestStreamEnds(t *testing.T) {
	hang := func(ss grpc.ServerStream) error {
		<-ss.Context().Done()
		return ss.Context().Err()
	}
	tests := []struct {
		name   string
		stream func(grpc.ServerStream) error
		do     func(t *testing.T, s grpc.ClientStream, cancel func())
	}{
		{
			"nobody receives, and it is cancelled", hang,
			func(_ *testing.T, _ grpc.ClientStream, cancel func()) { cancel() },
		},
		{
			"cancelled in the first receive", hang,
			func(t *testing.T, s grpc.ClientStream, cancel func()) {
				time.AfterFunc(time.Second, cancel)
				if _, err := echo.Receive(s); status.Code(err) != codes.Canceled {
					t.Error(err)
				}
			},
		},
		{
			"cancelled in a wait", func(grpc.ServerStream) error { return code(codes.Unavailable) },
			func(t *testing.T, s grpc.ClientStream, cancel func()) {
				time.AfterFunc(time.Second, cancel)
				_, err := echo.Receive(s)
				if status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			},
		},
		{
			"cancelled after a message", nil,
			func(t *testing.T, s grpc.ClientStream, cancel func()) {
				if _, err := echo.Receive(s); err != nil {
					t.Error(err)
				}
				cancel()
			},
		},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			ends := make(chan error, 9)
			conn := echo.Service{Stream: test.stream}.Pipe(t, nil, through(at(time.Hour))...)
			ctx, cancel := context.WithCancel(t.Context())
			s, err := open(ctx, conn, "x", grpc.OnFinish(func(err error) { ends <- err }))
			if err != nil {
				t.Fatal(err)
			}
			test.do(t, s, cancel)
			synctest.Wait()
			if len(ends) != 1 {
				t.Errorf("%s: ended %d times", test.name, len(ends))
			}
			cancel()
		})
	}
}

// A refusal of the whole service is waited for, in a stream too, within the time of the
// policy.
func TestStreamWaits(t *testing.T) {
	for _, elapsed := range []time.Duration{0, 3 * time.Second, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c := at(0)
			c.Policy.MaxElapsed = elapsed
			refusal := hop.Refusal{Reason: hop.Open, Scope: hop.Service}
			f := &failing{times: 1, with: is(wire.Status(
				codes.Unavailable, echo.ServerStream, "text", refusal, 2*time.Second).Err())}
			conn := echo.Service{Stream: func(ss grpc.ServerStream) error {
				_, err := f.call(ss.Context(), "")
				return err
			}}.Pipe(t, nil, through(c)...)
			began := time.Now()
			s, err := open(t.Context(), conn, "x")
			if err != nil {
				t.Fatal(err)
			}
			_, err = all(s)
			want, ok := 2*time.Second, err == nil
			if elapsed == time.Second {
				want, ok = 0, errors.Is(err, retry.ErrExhausted) && f.calls.Load() == 1
			}
			if !ok || time.Since(began) != want {
				t.Errorf("MaxElapsed %v: %v after %v", elapsed, err, time.Since(began))
			}
		})
	}
}

// foreign is a stream that knows nothing of options.
type foreign struct {
	grpc.ClientStream
	replies []error
}

func (*foreign) SendMsg(any) error { return nil }
func (*foreign) CloseSend() error  { return nil }
func (f *foreign) RecvMsg(any) error {
	err := f.replies[0]
	f.replies = f.replies[1:]
	return err
}

func TestForeignStream(t *testing.T) {
	tests := []struct {
		method  string
		replies []error
		ends    string
	}{
		{echo.ServerStream, []error{nil, io.EOF}, "[<nil>]"},
		{echo.ServerStream, []error{io.EOF}, "[<nil>]"},
		{echo.ServerStream, []error{nil, io.ErrUnexpectedEOF}, "[unexpected EOF]"},
		{echo.ClientStream, []error{nil}, "[<nil>]"},
		{echo.Unary, []error{nil}, "[<nil>]"},
	}
	for _, test := range tests {
		var ends []error
		s, err := at(0).Stream()(t.Context(), echo.Desc(test.method), nil, test.method,
			func(
				context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				return &foreign{replies: test.replies}, nil
			}, grpc.OnFinish(func(err error) { ends = append(ends, err) }))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range test.replies {
			if len(ends) != 0 {
				t.Errorf("%v: ended before its end", test)
			}
			if _, err := echo.Receive(s); err != want {
				t.Errorf("%v: %v, want %v", test, err, want)
			}
		}
		if fmt.Sprint(ends) != test.ends {
			t.Errorf("%v: ended %v", test, ends)
		}
	}
}

// Success fills the budget once, and what was opened only does not.
func TestStreamBudget(t *testing.T) {
	budget := &retry.Budget{Burst: 10, Ratio: 0.5, Floor: -1}
	c := &retrygrpc.Client{
		Idempotent: always, Policy: &retry.Policy{SharedBudget: budget, Backoff: retry.Constant(0)},
	}
	for budget.Take() {
	}
	b := &broken{}
	conn := echo.Service{Stream: b.stream}.Listen(t, nil, through(c)...)
	s, err := open(t.Context(), conn, "x")
	if err != nil {
		t.Fatal(err)
	}
	if got := budget.Tokens(); got != 0 {
		t.Errorf("%v tokens for a stream that is open", got)
	}
	if _, err := all(s); err != nil || budget.Tokens() != 0.5 {
		t.Errorf("%v, %v tokens", err, budget.Tokens())
	}
}

// Attempts that failed leave nothing behind.
func TestNoGoroutines(t *testing.T) {
	b := &broken{times: 1e6}
	conn := echo.Service{Stream: b.stream}.Listen(t, nil, through(at(0))...)
	round := func() {
		s, err := open(context.Background(), conn, "x")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = all(s)
	}
	round()
	before := runtime.NumGoroutine()
	for range 50 {
		round()
	}
	for range 1000 {
		if runtime.NumGoroutine() <= before+2 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}
