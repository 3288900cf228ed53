package healthhttp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

var errRefused = errors.New("connection refused")

// A network is a listener in memory, so that servers can be in a bubble. Unlike those of
// net.Pipe its connections have buffers, as real ones do.
type network struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newNetwork() *network {
	return &network{accepted: make(chan net.Conn), closed: make(chan struct{})}
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.accepted:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	there, back := newHalf(), newHalf()
	select {
	case n.accepted <- &wire{n, there, back}:
		return &wire{n, back, there}, nil
	case <-n.closed:
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A wire is one end of a connection.
type wire struct {
	n       *network
	in, out *half
}

func (w *wire) Read(p []byte) (int, error)        { return w.in.read(p) }
func (w *wire) Write(p []byte) (int, error)       { return w.out.write(p) }
func (w *wire) LocalAddr() net.Addr               { return w.n.Addr() }
func (w *wire) RemoteAddr() net.Addr              { return w.n.Addr() }
func (w *wire) SetReadDeadline(t time.Time) error { return w.in.deadline(t) }
func (w *wire) SetWriteDeadline(time.Time) error  { return nil } // nothing waits to write
func (w *wire) SetDeadline(t time.Time) error     { return w.in.deadline(t) }

func (w *wire) Close() error {
	w.in.close()
	w.out.close()
	return nil
}

// A half is what flows in one direction.
type half struct {
	mu     sync.Mutex
	news   *sync.Cond
	buf    []byte
	closed bool
	until  time.Time
	timer  *time.Timer
}

func newHalf() *half {
	h := &half{}
	h.news = sync.NewCond(&h.mu)
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			return n, nil
		case h.closed:
			return 0, io.EOF
		case !h.until.IsZero() && time.Until(h.until) <= 0:
			return 0, os.ErrDeadlineExceeded
		}
		h.news.Wait()
	}
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, io.ErrClosedPipe
	}
	h.buf = append(h.buf, p...)
	h.news.Broadcast()
	return len(p), nil
}

func (h *half) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.news.Broadcast()
}

func (h *half) deadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until = t
	if h.timer != nil {
		h.timer.Stop()
	}
	if !t.IsZero() {
		h.timer = time.AfterFunc(time.Until(t), h.news.Broadcast)
	}
	h.news.Broadcast()
	return nil
}
