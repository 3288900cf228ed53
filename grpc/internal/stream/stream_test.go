package stream_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/internal/echo"
	"github.com/stormjib/stormjib/grpc/internal/stream"
)

// foreign is a stream that is not gRPC's own and knows none of its options.
type foreign struct {
	grpc.ClientStream
	ends []error // what RecvMsg returns
}

func (f *foreign) RecvMsg(any) error {
	err := f.ends[0]
	f.ends = f.ends[1:]
	return err
}

// Streams that are not gRPC's own are seen by what is received.
func TestForeignStream(t *testing.T) {
	failed := errors.New("boom")
	for _, test := range []struct {
		name   string
		method string
		ends   []error
		after  int // how many are received before it has ended
		want   error
	}{
		{"EOF", echo.BothStream, []error{nil, nil, io.EOF, io.EOF}, 3, nil},
		{"an error", echo.ServerStream, []error{nil, failed, failed}, 2, failed},
		{"the only reply", echo.ClientStream, []error{nil, io.EOF}, 1, nil},
		{"an error instead", echo.ClientStream, []error{failed, failed}, 1, failed},
	} {
		ended, received := 0, 0
		cs, err := stream.Open(t.Context(), echo.Desc(test.method), nil, test.method,
			func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string,
				...grpc.CallOption,
			) (grpc.ClientStream, error) {
				return &foreign{ends: test.ends}, nil
			}, nil, func(err error, _ metadata.MD) {
				if ended++; received != test.after || !errors.Is(err, test.want) {
					t.Errorf("%s: it ends after %d with %v", test.name, received, err)
				}
			})
		if err != nil {
			t.Fatal(err)
		}
		for range test.ends {
			received++
			_ = cs.RecvMsg(nil)
		}
		if ended != 1 {
			t.Errorf("%s: it ended %d times", test.name, ended)
		}
	}
}

// What comes behind the last message is there when the end is told, though nobody has
// received that.
func TestTrailer(t *testing.T) {
	conn := echo.Service{Stream: func(ss grpc.ServerStream) error {
		ss.SetTrailer(metadata.Pairs("key", "value"))
		return status.Error(codes.Unavailable, "text")
	}}.Listen(t, nil)
	var got metadata.MD
	var ended error
	cs, err := stream.Open(t.Context(), echo.Desc(echo.BothStream), conn, echo.BothStream,
		func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
			opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			return cc.NewStream(ctx, desc, method, opts...)
		}, nil, func(err error, trailer metadata.MD) { ended, got = err, trailer })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cs.Header(); err != nil || status.Code(ended) != codes.Unavailable ||
		len(got.Get("key")) != 1 {
		t.Errorf("the header is read, %v, and the end is %v with %v", err, ended, got)
	}
	if _, err := echo.Receive(cs); status.Code(err) != codes.Unavailable {
		t.Errorf("it receives %v", err)
	}
}

// The caller's options are not written behind.
func TestWith(t *testing.T) {
	all := make([]grpc.CallOption, 1, 3)
	all[0] = grpc.WaitForReady(true)
	_ = stream.With(all, grpc.WaitForReady(false))
	if all[:2][1] != nil {
		t.Error("what lies behind the caller's slice was written")
	}
}
