package retrygrpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/retry"
)

// Stream returns the interceptor of streams. It panics as Unary does.
func (c *Client) Stream() grpc.StreamClientInterceptor {
	c.check()
	return func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		streamer grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		if c.skips(method) {
			return streamer(ctx, desc, cc, method, opts...)
		}
		s := &reopened{
			call: c.newCall(ctx, method, cc, opts), desc: desc, streamer: streamer,
			began: time.Now(), deciding: true, committed: desc.ClientStreams,
		}
		s.policy.RetryIf = s.retryIf
		return s.open()
	}
}

// reopened is a stream that is opened again until its first message has been received. Then
// it is committed; and from the beginning if several messages may be sent into it.
type reopened struct {
	*call
	desc     *grpc.StreamDesc
	streamer grpc.Streamer
	began    time.Time
	attempts int

	mu        sync.Mutex
	current   grpc.ClientStream
	got       *got // by the current one
	sent      any  // the request, while it may have to be sent again
	closed    bool // for sending
	committed bool // there will be no other attempt
	deciding  bool // it is being found out whether there will be
	over      bool // the current one has ended meanwhile
	overBy    error
	told      bool // the caller has been, of the end
	receiving bool // the first message is being received, or has been
}

// open opens the first stream. That it is open says nothing of what will come of it, so the
// budget learns nothing from it.
func (s *reopened) open() (grpc.ClientStream, error) {
	err := s.attempt(s.ctx)
	if err != nil {
		err = s.loop(s.ctx, func(ctx context.Context, first bool) error {
			if first {
				return err
			}
			return s.attempt(ctx)
		})
	}
	if err = s.decided(err); err != nil {
		return nil, err
	}
	return s, nil
}

// attempt opens the next stream, and sends into it what was sent into the last.
func (s *reopened) attempt(ctx context.Context) error {
	s.attempts++
	g := &got{}
	ended := grpc.OnFinish(func(err error) { s.ended(g, err) })
	cs, err := s.streamer(
		s.outgoing(ctx), s.desc, s.cc, s.method, g.options(s.opts, ended)...)
	if err != nil {
		err = s.failed(ctx, g, err)
		s.remember(err)
		return err
	}
	s.mu.Lock()
	s.current, s.got, s.over = cs, g, false
	sent, closed := s.sent, s.closed
	s.mu.Unlock()
	// If one of these fails, RecvMsg says why.
	if sent != nil {
		_ = cs.SendMsg(sent)
	}
	if closed {
		_ = cs.CloseSend()
	}
	return nil
}

// loop has the policy call fn, and tells it of the first time.
func (s *reopened) loop(
	ctx context.Context, fn func(ctx context.Context, first bool) error,
) error {
	first := true
	return s.policy.Do(ctx, func(ctx context.Context) error {
		was := first
		first = false
		return fn(ctx, was)
	})
}

// RecvMsg receives a message. While that is the first, the stream may fail, and another one
// be opened.
func (s *reopened) RecvMsg(m any) error {
	s.mu.Lock()
	committed := s.committed
	if !committed {
		s.deciding, s.receiving = true, true
	}
	s.mu.Unlock()
	if !committed {
		return s.first(m)
	}
	cs, g := s.now()
	err := cs.RecvMsg(m)
	if err != nil || !s.desc.ServerStreams {
		s.finish(g, err) // for streams that are not gRPC's own, and know no OnFinish
	}
	return err
}

func (s *reopened) first(m any) error {
	s.goOn()
	ctx := s.ctx
	if s.attempts > 1 {
		ctx = hop.WithAttempt(ctx, hop.Attempt(ctx)+s.attempts-1)
	}
	var end error // io.EOF if all went well, and there was no message
	err := s.loop(ctx, func(ctx context.Context, first bool) error {
		if !first {
			reset(m)
			if err := s.attempt(ctx); err != nil {
				return err
			}
		}
		cs, g := s.now()
		err := cs.RecvMsg(m)
		if err == nil || err == io.EOF { //nolint:errorlint // gRPC returns it as it is
			end = err
			return nil
		}
		err = s.failed(ctx, g, err)
		s.remember(err)
		return err
	})
	if err = s.decided(s.whole(err)); err != nil {
		return err
	}
	if _, g := s.now(); end != nil || !s.desc.ServerStreams {
		s.finish(g, end)
	}
	return end
}

// goOn takes from the policy what was used up when the stream was opened.
func (s *reopened) goOn() {
	if s.policy.MaxAttempts == 0 {
		s.policy.MaxAttempts = 3
	}
	if s.policy.MaxAttempts > 0 {
		s.policy.MaxAttempts -= s.attempts - 1
	}
	if s.policy.MaxElapsed > 0 {
		s.policy.MaxElapsed = max(1, s.policy.MaxElapsed-time.Since(s.began))
	}
}

// whole returns what the loop ended with as the end of all attempts: it knows of none before
// the stream was open.
func (s *reopened) whole(err error) error {
	switch e := err.(type) { //nolint:errorlint // what the loop returns is one of these
	case *retry.Error:
		e.Attempts = s.attempts
	case *failure:
		if s.attempts > 1 {
			reason := retry.ErrExhausted
			if e.final || e.once {
				reason = errNotRetried
			}
			return &retry.Error{Attempts: s.attempts, Reason: reason, Errs: []error{e}}
		}
	}
	return err
}

var errNotRetried = errors.New("retrygrpc: not to be retried")

// retryIf is the call's, but for what is committed.
func (s *reopened) retryIf(err error) bool {
	s.mu.Lock()
	// A stream into which several messages may be sent is committed, but only when it
	// has been opened.
	committed := s.committed && s.current != nil
	s.mu.Unlock()
	return !committed && s.call.retryIf(err)
}

// decided ends the deciding with what the loop ended with, and returns what the caller gets.
func (s *reopened) decided(err error) error {
	err = s.end(err)
	s.mu.Lock()
	s.deciding = false
	over, overBy, g := s.over, s.overBy, s.got
	if s.receiving {
		s.committed, s.sent = true, nil
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		s.finish(g, err)
	case over:
		s.finish(g, overBy)
	}
	return err
}

// ended is told by gRPC that an attempt has ended.
func (s *reopened) ended(g *got, err error) {
	s.mu.Lock()
	deciding := s.deciding
	if deciding {
		s.over, s.overBy = true, err
	}
	s.mu.Unlock()
	if !deciding {
		s.finish(g, err)
	}
}

// finish tells the caller of the end, once.
func (s *reopened) finish(g *got, err error) {
	s.mu.Lock()
	told := s.told
	s.told = true
	s.mu.Unlock()
	if told {
		return
	}
	if err == io.EOF { //nolint:errorlint // gRPC returns it as it is
		err = nil
	}
	s.asked.tell(g, err)
}

// now returns the current stream.
func (s *reopened) now() (grpc.ClientStream, *got) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.got
}

// SendMsg sends a message, and keeps it while it may have to be sent again: gRPC forbids
// its callers to change it.
func (s *reopened) SendMsg(m any) error {
	s.mu.Lock()
	if !s.committed {
		s.sent = m
	}
	cs := s.current
	s.mu.Unlock()
	return cs.SendMsg(m)
}

// CloseSend ends the sending.
func (s *reopened) CloseSend() error {
	s.mu.Lock()
	s.closed = true
	cs := s.current
	s.mu.Unlock()
	return cs.CloseSend()
}

// Header waits for the header, and takes the attempt as it is: another one would have
// another header.
func (s *reopened) Header() (metadata.MD, error) {
	s.mu.Lock()
	s.committed = true
	cs := s.current
	s.mu.Unlock()
	return cs.Header()
}

// Trailer returns that of the last attempt.
func (s *reopened) Trailer() metadata.MD {
	cs, _ := s.now()
	return cs.Trailer()
}

// Context returns that of the last attempt.
func (s *reopened) Context() context.Context {
	cs, _ := s.now()
	return cs.Context()
}
