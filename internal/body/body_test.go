package body_test

import (
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stormjib/stormjib/internal/body"
)

var errBoom = errors.New("boom")

// source is a body of a reader, and counts how often it is closed.
type source struct {
	io.Reader
	closed int
	err    error // of Close
}

func (s *source) Close() error { s.closed++; return s.err }

// read reads n bytes, or fewer if there are no more.
func read(n int64) func(io.ReadCloser) {
	return func(b io.ReadCloser) { _, _ = io.CopyN(io.Discard, b, n) }
}

func closes(b io.ReadCloser) { _ = b.Close() }

func TestEndWith(t *testing.T) {
	for _, test := range []struct {
		name  string
		from  io.Reader
		use   []func(io.ReadCloser)
		ended []int // after each use
	}{
		{"untouched", strings.NewReader("text"), nil, nil},
		{
			"read to the end", strings.NewReader("text"),
			[]func(io.ReadCloser){read(3), read(9), read(9), closes},
			[]int{0, 1, 1, 1},
		},
		{
			"the last bytes come with the end", iotest.DataErrReader(strings.NewReader("text")),
			[]func(io.ReadCloser){read(3), read(1), closes},
			[]int{0, 1, 1},
		},
		{
			"closed in the middle", strings.NewReader("text"),
			[]func(io.ReadCloser){read(1), closes, read(9), closes},
			[]int{0, 1, 1, 1},
		},
		{
			"fails", io.MultiReader(strings.NewReader("te"), iotest.ErrReader(errBoom)),
			[]func(io.ReadCloser){read(2), read(1), read(1), closes},
			[]int{0, 1, 1, 1},
		},
		{
			"reads of nothing", iotest.TimeoutReader(strings.NewReader("")),
			[]func(io.ReadCloser){func(b io.ReadCloser) { _, _ = b.Read(nil) }, closes},
			[]int{1, 1},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			ended := 0
			from := &source{Reader: test.from}
			b := body.EndWith(from, false, func() { ended++ })
			if _, ok := b.(io.Writer); ok {
				t.Error("a body that is only read can be written to")
			}
			for i, use := range test.use {
				if use(b); ended != test.ended[i] {
					t.Errorf("ended %d times after use %d, want %d", ended, i, test.ended[i])
				}
			}
			if test.use == nil && ended != 0 {
				t.Error("ended by itself")
			}
		})
	}
}

func TestEndWithPassesOn(t *testing.T) {
	from := &source{
		Reader: io.MultiReader(strings.NewReader("text"), iotest.ErrReader(errBoom)), err: errBoom,
	}
	b := body.EndWith(from, false, func() {
		if from.closed == 1 {
			t.Error("ended again by Close")
		}
	})
	text, err := io.ReadAll(b)
	if string(text) != "text" || err != errBoom {
		t.Errorf("read %q, %v", text, err)
	}
	if err := b.Close(); err != errBoom || from.closed != 1 {
		t.Errorf("%v; closed %d times", err, from.closed)
	}
}

// What comes with the end may wait for what was freed by Close.
func TestEndWithEndsAfterClose(t *testing.T) {
	for _, from := range []io.ReadCloser{&source{}, &wire{}} {
		closed := func() int {
			if w, ok := from.(*wire); ok {
				return w.closed
			}
			return from.(*source).closed
		}
		b := body.EndWith(from, true, func() {
			if closed() != 1 {
				t.Error("ended before it was closed")
			}
		})
		_ = b.Close()
	}
}

// wire is the body of a 101.
type wire struct {
	source
	strings.Builder
}

func (w *wire) Close() error { return w.source.Close() }

// halves can close one of its two directions.
type halves struct {
	wire
	halfClosed int
}

func (h *halves) CloseWrite() error { h.halfClosed++; return errBoom }

func TestEndWithConnection(t *testing.T) {
	ended := 0
	from := &halves{wire: wire{source: source{Reader: strings.NewReader("text"), err: errBoom}}}
	b := body.EndWith(from, true, func() { ended++ })
	text, err := io.ReadAll(b)
	if string(text) != "text" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
	rw, ok := b.(io.ReadWriter)
	if !ok {
		t.Fatalf("a %T cannot be written to", b)
	}
	if _, err := io.WriteString(rw, "answer"); err != nil || from.String() != "answer" {
		t.Errorf("wrote %q, %v", from.String(), err)
	}
	half, ok := b.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("no CloseWrite")
	}
	if err := half.CloseWrite(); err != errBoom || from.halfClosed != 1 {
		t.Errorf("%v; half closed %d times", err, from.halfClosed)
	}
	if ended != 0 {
		t.Error("ended while it can still be read or written")
	}
	for range 2 {
		if err := b.Close(); err != errBoom {
			t.Error(err)
		}
	}
	if ended != 1 || from.closed != 2 {
		t.Errorf("ended %d times, closed %d times", ended, from.closed)
	}

	half, _ = body.EndWith(&wire{}, true, func() {}).(interface{ CloseWrite() error })
	if err := half.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

// Close comes from another goroutine when a client gives up on a read.
func TestEndWithEndsOnce(t *testing.T) {
	for range 1000 {
		var ended atomic.Int64
		b := body.EndWith(io.NopCloser(strings.NewReader("")), false, func() { ended.Add(1) })
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.ReadAll(b) })
		wg.Go(func() { _ = b.Close() })
		wg.Wait()
		if got := ended.Load(); got != 1 {
			t.Fatalf("ended %d times", got)
		}
	}
}

type explosive struct{ io.Reader }

func (explosive) Close() error { panic("boom") }

func TestEndWithPanics(t *testing.T) {
	ended := 0
	b := body.EndWith(explosive{strings.NewReader("")}, false, func() { ended++ })
	func() {
		defer func() {
			if v := recover(); v != "boom" {
				t.Errorf("recovered %v", v)
			}
		}()
		_ = b.Close()
	}()
	if ended != 1 {
		t.Errorf("ended %d times", ended)
	}
}

// A 200 may come from a buffer, which can be written to. It is no connection for that.
func TestEndWithWritable(t *testing.T) {
	ended := 0
	from := &wire{source: source{Reader: strings.NewReader("text")}}
	b := body.EndWith(from, false, func() { ended++ })
	if _, err := io.ReadAll(b); err != nil || ended != 1 {
		t.Errorf("read to its end: %v; ended %d times", err, ended)
	}
}
