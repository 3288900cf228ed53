// Package echo is a service for tests: methods of each kind, over loopback or in memory.
package echo

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The methods. A request and a reply are strings.
const (
	Unary        = "/echo.Echo/Unary"
	ServerStream = "/echo.Echo/ServerStream"
	ClientStream = "/echo.Echo/ClientStream"
	BothStream   = "/echo.Echo/BothStream"
)

// Service is what the methods do. Where a func is nil, Call returns its request, and Stream
// sends back each message that it receives.
type Service struct {
	Call   func(ctx context.Context, in string) (string, error) // Unary
	Stream func(grpc.ServerStream) error                        // the others

	// Register adds other services. If nil, there are none.
	Register func(*grpc.Server)
}

// Listen serves on a free port until the test ends, and returns a connection to it.
func (s Service) Listen(
	tb testing.TB, server []grpc.ServerOption, client ...grpc.DialOption,
) *grpc.ClientConn {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return s.serve(tb, l, l.Addr().String(), server, client)
}

// Pipe serves in memory, so that it can be in a bubble of testing/synctest, until the test
// ends, and returns a connection.
func (s Service) Pipe(
	tb testing.TB, server []grpc.ServerOption, client ...grpc.DialOption,
) *grpc.ClientConn {
	tb.Helper()
	l := bufconn.Listen(1 << 20)
	dial := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return l.DialContext(ctx)
	})
	return s.serve(tb, l, "pipe", server, append(client, dial))
}

// On registers the methods with a server of somebody else's.
func (s Service) On(server *grpc.Server) { server.RegisterService(s.desc(), nil) }

func (s Service) serve(
	tb testing.TB, l net.Listener, address string,
	server []grpc.ServerOption, client []grpc.DialOption,
) *grpc.ClientConn {
	tb.Helper()
	srv := grpc.NewServer(server...)
	srv.RegisterService(s.desc(), nil)
	if s.Register != nil {
		s.Register(srv)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l) // ends with Stop
	}()
	secure := grpc.WithTransportCredentials(insecure.NewCredentials())
	conn, err := grpc.NewClient("passthrough:///"+address, append(client, secure)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
		<-served
	})
	return conn
}

// Desc returns the description of a stream method.
func Desc(method string) *grpc.StreamDesc {
	return &grpc.StreamDesc{
		ServerStreams: method == ServerStream || method == BothStream,
		ClientStreams: method == ClientStream || method == BothStream,
	}
}

// Ask calls Unary.
func Ask(
	ctx context.Context, conn *grpc.ClientConn, in string, opts ...grpc.CallOption,
) (string, error) {
	out := &wrapperspb.StringValue{}
	err := conn.Invoke(ctx, Unary, wrapperspb.String(in), out, opts...)
	return out.GetValue(), err
}

// Send and Receive are for streams of either side.
func Send(s interface{ SendMsg(any) error }, text string) error {
	return s.SendMsg(wrapperspb.String(text))
}

// Receive returns the next message.
func Receive(s interface{ RecvMsg(any) error }) (string, error) {
	out := &wrapperspb.StringValue{}
	err := s.RecvMsg(out)
	return out.GetValue(), err
}

func (s Service) desc() *grpc.ServiceDesc {
	stream := func(name, method string) grpc.StreamDesc {
		desc := *Desc(method)
		desc.StreamName = name
		desc.Handler = func(_ any, ss grpc.ServerStream) error { return s.stream(ss) }
		return desc
	}
	return &grpc.ServiceDesc{
		ServiceName: "echo.Echo",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: s.unary}},
		Streams: []grpc.StreamDesc{
			stream("ServerStream", ServerStream),
			stream("ClientStream", ClientStream),
			stream("BothStream", BothStream),
		},
	}
}

func (s Service) unary(
	_ any, ctx context.Context, //nolint:revive // the form that gRPC wants
	decode func(any) error, around grpc.UnaryServerInterceptor,
) (any, error) {
	in := &wrapperspb.StringValue{}
	if err := decode(in); err != nil {
		return nil, err
	}
	handler := func(ctx context.Context, in any) (any, error) {
		message, _ := in.(*wrapperspb.StringValue)
		text := message.GetValue()
		if s.Call == nil {
			return wrapperspb.String(text), nil
		}
		out, err := s.Call(ctx, text)
		if err != nil {
			return nil, err
		}
		return wrapperspb.String(out), nil
	}
	if around == nil {
		return handler(ctx, in)
	}
	return around(ctx, in, &grpc.UnaryServerInfo{FullMethod: Unary}, handler)
}

func (s Service) stream(ss grpc.ServerStream) error {
	if s.Stream != nil {
		return s.Stream(ss)
	}
	for {
		text, err := Receive(ss)
		if err != nil {
			return nil //nolint:nilerr // the client has sent all
		}
		if err := Send(ss, text); err != nil {
			return err
		}
	}
}
