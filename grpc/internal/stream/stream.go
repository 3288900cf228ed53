// Package stream tells when the calls of a client have ended.
package stream

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// ErrAbandoned stands for the outcome of a stream whose opening panicked, or ended its
// goroutine.
var ErrAbandoned = errors.New("stream: the opening of a stream did not return")

// Open opens a stream by way of streamer and calls end once, when it has ended: when it
// could not be opened, with an error or its last message received, or when its context or
// its connection has ended, whether anybody receives or not. Then end gets what the call
// came to, nil if all went well, and what came behind the last message.
//
// It learns of the end from gRPC, by [grpc.OnFinish], and not only from what the caller
// receives: a caller that has cancelled often receives no more. What it sees of that
// itself is for streams that are not gRPC's own, such as those of a channel inside the
// process, which know no such option. A stream of that kind that nobody receives from, and
// nobody cancels, never ends; no more does one of gRPC's.
//
// end must not use the stream, since it may be called from within its methods.
func Open(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	streamer grpc.Streamer, opts []grpc.CallOption, end func(error, metadata.MD),
) (grpc.ClientStream, error) {
	w := &watched{end: end, reply: !desc.ServerStreams}
	returned := false
	defer func() {
		if !returned {
			w.finish(ErrAbandoned)
		}
	}()
	opts = With(opts, grpc.Trailer(&w.trailer), grpc.OnFinish(w.finish))
	cs, err := streamer(ctx, desc, cc, method, opts...)
	returned = true
	if err != nil {
		w.finish(err)
		return nil, err
	}
	w.ClientStream = cs
	return w, nil
}

// With returns opts and more in a slice of its own: what lies behind the caller's may be
// another call's.
func With(opts []grpc.CallOption, more ...grpc.CallOption) []grpc.CallOption {
	return append(slices.Clip(opts), more...)
}

// watched is a stream whose end is told once.
type watched struct {
	grpc.ClientStream
	end     func(error, metadata.MD)
	once    sync.Once
	trailer metadata.MD // gRPC sets it before it calls finish
	reply   bool        // there is one message in return, and it is the end
}

// RecvMsg receives a message, and tells of the end.
func (w *watched) RecvMsg(m any) error {
	err := w.ClientStream.RecvMsg(m)
	if err != nil || w.reply {
		w.finish(err)
	}
	return err
}

func (w *watched) finish(err error) {
	w.once.Do(func() {
		if err == io.EOF { //nolint:errorlint // gRPC returns it as it is
			err = nil
		}
		w.end(err, w.trailer)
	})
}
