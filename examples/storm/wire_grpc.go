package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/stormjib/stormjib"
)

// Over gRPC a request is a call of one method. Its number is the message; what it is and
// who asks are metadata, as they are a path and a header field over HTTP.
const (
	askService = "storm.Storm"
	askMethod  = "Ask"
	askPath    = "/" + askService + "/" + askMethod

	kindKey   = "kind"
	clientKey = "client-id"
)

// serveGRPC answers calls until it is stopped. A server of gRPC cannot end the connection
// of one caller alone: who is dropped gets an Internal instead.
func serveGRPC(
	l net.Listener, handle call, p Protection, open *atomic.Int64,
) (stop func() error) {
	server := grpc.NewServer(p.Serve...)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: askService,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: askMethod, Handler: answerGRPC(handle)}},
	}, nil)
	go func() { _ = server.Serve(countedListener{l, open}) }() // as serveHTTP
	return func() error {
		server.Stop()
		return nil
	}
}

// answerGRPC returns what generated code would: it decodes a request and has it handled
// behind the server's interceptors.
func answerGRPC(handle call) grpc.MethodHandler {
	return func(
		_ any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor,
	) (any, error) {
		in := &wrapperspb.UInt64Value{}
		if err := decode(in); err != nil {
			return nil, err
		}
		handler := func(ctx context.Context, in any) (any, error) {
			id, _ := in.(*wrapperspb.UInt64Value)
			md, _ := metadata.FromIncomingContext(ctx)
			source, err := handle(ctx, request{
				ID: id.GetValue(), Kind: only(md, kindKey), Client: only(md, clientKey),
			})
			if err != nil {
				return nil, status.Error(codeOf(err), err.Error())
			}
			return wrapperspb.String(source), nil
		}
		if around == nil {
			return handler(ctx, in)
		}
		return around(ctx, in, &grpc.UnaryServerInfo{FullMethod: askPath}, handler)
	}
}

func only(md metadata.MD, key string) string {
	if values := md.Get(key); len(values) == 1 {
		return values[0]
	}
	return ""
}

// codeOf tells a server that turns a request away from one that failed at it, as statusOf.
func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, errDropped):
		return codes.Internal
	case statusOf(err) == http.StatusServiceUnavailable:
		return codes.Unavailable
	}
	return codes.Unknown
}

// dialGRPC returns a client for the address, with one connection for all of its calls.
func dialGRPC(address string, p Protection, d dialer) call {
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return d.dial(ctx, "tcp", address)
		}),
	}, p.Dial...)
	conn, err := grpc.NewClient("passthrough:///"+address, options...)
	return func(ctx context.Context, r request) (string, error) {
		if err != nil {
			return "", err
		}
		if p.Timeout > 0 {
			timed, cancel := context.WithTimeout(ctx, p.Timeout)
			defer cancel()
			ctx = timed
		}
		ctx = metadata.AppendToOutgoingContext(ctx, kindKey, r.Kind, clientKey, r.Client)
		out := &wrapperspb.StringValue{}
		err := conn.Invoke(ctx, askPath, wrapperspb.UInt64(r.ID), out)
		return out.GetValue(), failureGRPC(err)
	}
}

// failureGRPC returns what the error of a call stands for. One that says Unavailable was
// turned away, or there is no connection: gRPC has one code for both.
func failureGRPC(err error) error {
	if err == nil || stormjib.NotAttempted(err) {
		return err // of the client's own protection, which says it all
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	case codes.Canceled:
		return fmt.Errorf("%w: %w", context.Canceled, err)
	case codes.Unavailable:
		return &refusal{status: http.StatusServiceUnavailable, after: delayOf(st)}
	case codes.ResourceExhausted:
		after := delayOf(st)
		return &refusal{status: http.StatusTooManyRequests, told: after > 0, after: after}
	}
	return err
}

// delayOf returns for how long a status asks to stay away.
func delayOf(st *status.Status) time.Duration {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// countedListener counts the connections that are open.
type countedListener struct {
	net.Listener
	open *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	return &countedConn{Conn: conn, open: l.open}, nil
}
