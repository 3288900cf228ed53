// Package body watches the body of a response for its end.
package body

import (
	"errors"
	"io"
	"sync/atomic"
)

// EndWith returns a body that reads as b does, and calls end once: when b has been read
// to its end, when reading it fails, or when it is closed, whatever is first. One that
// is never closed, nor read to its end, has no end.
//
// The body of a 101, which is upgraded, is a connection to which one can write. It ends
// when it is closed, and no sooner: the other side may have said its last word, and still
// be listening. Others that happen to have a Write are no connections.
func EndWith(b io.ReadCloser, upgraded bool, end func()) io.ReadCloser {
	if rw, ok := b.(io.ReadWriteCloser); ok && upgraded {
		return &connection{ReadWriteCloser: rw, end: end}
	}
	return &watched{ReadCloser: b, end: end}
}

type watched struct {
	io.ReadCloser
	ended atomic.Bool // Close may come while another goroutine reads
	end   func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil {
		w.once()
	}
	return n, err
}

func (w *watched) Close() error {
	defer w.once()
	return w.ReadCloser.Close()
}

func (w *watched) once() {
	if !w.ended.Swap(true) {
		w.end()
	}
}

type connection struct {
	io.ReadWriteCloser
	ended atomic.Bool
	end   func()
}

func (c *connection) Close() error {
	defer func() {
		if !c.ended.Swap(true) {
			c.end()
		}
	}()
	return c.ReadWriteCloser.Close()
}

// CloseWrite is what a reverse proxy looks for when its client has said its last word;
// without it, it would close the connection, and cut off the answer.
func (c *connection) CloseWrite() error {
	if w, ok := c.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
