package shedhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/shedhttp"
)

// writer is a ResponseWriter with some of what net/http's can.
type writer struct {
	http.ResponseWriter
	readFrom, strings string // what ReadFrom and WriteString were given
	flushErr          error
}

func (w *writer) ReadFrom(src io.Reader) (int64, error) {
	text, err := io.ReadAll(src)
	w.readFrom += string(text)
	return int64(len(text)), err
}

func (w *writer) WriteString(s string) (int, error) {
	w.strings += s
	return len(s), nil
}

func (w *writer) FlushError() error { return w.flushErr }

// plain has nothing beyond the interface.
type plain struct{ http.ResponseWriter }

// What the writer below can do, and what it cannot, is seen through the middleware.
func TestWriterBelow(t *testing.T) {
	below := &writer{ResponseWriter: httptest.NewRecorder(), flushErr: errBoom}
	bare := plain{httptest.NewRecorder()}
	is := func(got, target error) error {
		if !errors.Is(got, target) {
			return fmt.Errorf("got %w, want %w", got, target)
		}
		return nil
	}
	for _, test := range []struct {
		name  string
		below http.ResponseWriter
		check func(http.ResponseWriter) error
	}{
		{"ReadFrom reaches it", below, func(w http.ResponseWriter) error {
			// Not a strings.Reader, which would write by itself.
			n, err := io.Copy(w, io.LimitReader(strings.NewReader("file"), 99))
			if n != 4 || err != nil || below.readFrom != "file" {
				return fmt.Errorf("copied %d, %w: %q", n, err, below.readFrom)
			}
			return nil
		}},
		{"WriteString reaches it", below, func(w http.ResponseWriter) error {
			n, err := io.WriteString(w, "text")
			if n != 4 || err != nil || below.strings != "text" {
				return fmt.Errorf("wrote %d, %w: %q", n, err, below.strings)
			}
			return nil
		}},
		{"the error of a flush is passed on", below, func(w http.ResponseWriter) error {
			return is(http.NewResponseController(w).Flush(), errBoom)
		}},
		{"a flush that cannot be", bare, func(w http.ResponseWriter) error {
			w.(http.Flusher).Flush() // no way to say so, and no reason to panic
			return is(http.NewResponseController(w).Flush(), http.ErrNotSupported)
		}},
		{"a hijack that cannot be", bare, func(w http.ResponseWriter) error {
			_, _, err := http.NewResponseController(w).Hijack()
			return is(err, http.ErrNotSupported)
		}},
		{"a deadline that cannot be", bare, func(w http.ResponseWriter) error {
			rc := http.NewResponseController(w)
			return is(rc.SetWriteDeadline(time.Time{}), http.ErrNotSupported)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := narrow()
			h := guard(s).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if err := test.check(w); err != nil {
					t.Error(err)
				}
			}))
			h.ServeHTTP(test.below, incoming())
			wantOutcomes(t, s, "1 OK")
		})
	}
}

// What has written the header decides on the status.
func TestWriterStatus(t *testing.T) {
	flushed := func(w http.ResponseWriter) { w.(http.Flusher).Flush() }
	for name, test := range map[string]struct {
		begin func(http.ResponseWriter)
		want  string
	}{
		"a copy": {func(w http.ResponseWriter) {
			io.Copy(w, strings.NewReader("text"))
		}, "1 OK"},
		"a copy by ReadFrom": {func(w http.ResponseWriter) {
			w.(io.ReaderFrom).ReadFrom(strings.NewReader("text"))
		}, "1 OK"},
		// How a proxy answers whose backend breaks off before the first byte.
		"a copy of nothing": {func(w http.ResponseWriter) {
			io.Copy(w, iotest.ErrReader(errBoom))
		}, "1 overloaded"},
		"a flush": {flushed, "1 OK"},
	} {
		s := narrow()
		serve(guard(s).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			test.begin(w)
			w.WriteHeader(http.StatusGatewayTimeout)
		})), incoming())
		if got := outcomes(s); got != test.want {
			t.Errorf("%s: counted %q, want %q", name, got, test.want)
		}
	}
}

// A poll that says when it only waits holds no slot from then on, of any of the shedders
// around it, and however long it takes, the limit knows nothing of it.
func TestStopClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var windows []shed.Window
		inner, outer := narrow(), shed.New(shed.Config{
			Max: 1, Queue: -1,
			Algorithm: func(shed.Config) shed.Algorithm {
				return algorithm(func(w shed.Window) int {
					windows = append(windows, w)
					return 1
				})
			},
		})
		polls := make(chan struct{})
		type key struct{}
		poll := guard(outer).Handler(guard(inner).Handler(http.HandlerFunc(
			func(_ http.ResponseWriter, r *http.Request) {
				shedhttp.StopClock(context.WithValue(r.Context(), key{}, "derived"))
				shedhttp.StopClock(r.Context())
				<-polls
			})))
		for range 30 {
			go serve(poll, incoming())
			synctest.Wait() // it waits; the next finds a slot
		}
		wantOutcomes(t, inner, "30 ignored")
		wantOutcomes(t, outer, "30 ignored")
		time.Sleep(10 * time.Second)
		for range 100 {
			serve(guard(outer).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				time.Sleep(10 * time.Millisecond)
			})), incoming())
		}
		if len(windows) == 0 {
			t.Fatal("no window")
		}
		for _, w := range windows {
			if w.Completed > 0 && w.Latency() > 11*time.Millisecond {
				t.Errorf("the polls are in %+v", w)
			}
		}
		close(polls)
		synctest.Wait()
		wantOutcomes(t, inner, "30 ignored")
		wantOutcomes(t, outer, "100 OK, 30 ignored")
		shedhttp.StopClock(t.Context()) // without a Middleware
	})
}

// What was counted already is not classified.
func TestStopClockIsNotClassified(t *testing.T) {
	s := narrow()
	m := guard(s)
	m.Classify = func(*http.Request, int, http.Header) shed.Outcome {
		t.Error("asked")
		return shed.OK
	}
	serve(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		shedhttp.StopClock(r.Context())
	})), incoming())
	wantOutcomes(t, s, "1 ignored")
}

type algorithm func(shed.Window) int

func (a algorithm) Update(w shed.Window) int { return a(w) }

// What the handler leaves in its request for those outside.
func TestPatternIsSeenOutside(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /boom", explode)
	for path, want := range map[string]string{
		"/orders/1": "GET /orders/{id}", "/boom": "GET /boom", "/none": "",
	} {
		r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
		serve(guard(narrow()).Handler(mux), r)
		if r.Pattern != want {
			t.Errorf("%s: the pattern is %q, want %q", path, r.Pattern, want)
		}
	}
}
