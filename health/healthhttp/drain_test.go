package healthhttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
	"github.com/stormjib/stormjib/health/healthhttp"
)

// drained returns a Drain that is over.
func drained(t *testing.T) *health.Drain {
	t.Helper()
	d := health.NewDrain(health.DrainConfig{Delay: -1})
	if err := d.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

func request(method string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "/", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestLongLived(t *testing.T) {
	const accept, upgrade = "Accept", "Upgrade"
	tests := []struct {
		r      *http.Request
		long   bool
		closes bool
	}{
		{request("GET"), false, true},
		{request("GET", accept, "text/html"), false, true},
		{request("GET", accept, "text/event-stream"), true, true},
		{request("GET", accept, "application/json, text/event-stream"), true, true},
		{request("POST", accept, "text/event-stream"), false, true},
		{request("GET", upgrade, "websocket", "Connection", "Upgrade"), true, false},
		{request("POST", upgrade, "example"), true, false},
		{request("CONNECT"), true, false},
		{request("GET", upgrade, "h2c"), false, true},
		{request("GET", upgrade, "H2C"), false, true},
	}
	m := &healthhttp.Middleware{Drain: drained(t)}
	for _, test := range tests {
		name := fmt.Sprint(test.r.Method, " ", test.r.Header)
		if got := healthhttp.LongLived(test.r); got != test.long {
			t.Errorf("%s: long-lived %v", name, got)
		}
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(inner http.ResponseWriter, r *http.Request) {
			if inner != w {
				t.Errorf("%s: the ResponseWriter is another", name)
			}
			if joined := r.Context().Err() != nil; joined != test.long || joined == (r == test.r) {
				t.Errorf("%s: joined %v", name, joined)
			}
		})).ServeHTTP(w, test.r)
		if got := w.Header().Get("Connection") == "close"; got != test.closes {
			t.Errorf("%s: Connection: %q", name, w.Header().Get("Connection"))
		}
		if test.r.Context().Err() != nil {
			t.Errorf("%s: what is outside has ended too", name)
		}
	}
}

func TestMiddlewareBefore(t *testing.T) {
	m := &healthhttp.Middleware{
		Drain:     health.NewDrain(health.DrainConfig{}),
		LongLived: func(r *http.Request) bool { return r.Method == http.MethodPost },
	}
	for method, long := range map[string]bool{"GET": false, "POST": true} {
		r, w := request(method, "Accept", "text/event-stream"), httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, inner *http.Request) {
			if (inner != r) != long || inner.Context().Err() != nil {
				t.Errorf("%s: joined %v, %v", method, inner != r, inner.Context().Err())
			}
		})).ServeHTTP(w, r)
		if len(w.Header()) != 0 {
			t.Errorf("%s: %v", method, w.Header())
		}
	}
	defer func() {
		if r := recover(); r != "healthhttp: Middleware.Drain is nil" {
			t.Errorf("panic: %v", r)
		}
	}()
	(&healthhttp.Middleware{}).Handler(http.NotFoundHandler())
}

// What handlers leave in their request is found where net/http and telemetry look, and who
// panics has left.
func TestMiddlewareOfACopiedRequest(t *testing.T) {
	d := health.NewDrain(health.DrainConfig{Delay: -1})
	m := &healthhttp.Middleware{
		Drain:     d,
		LongLived: func(*http.Request) bool { return true },
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /upload", func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(0); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	})
	body := "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n" +
		strings.Repeat("x", 1000) + "\r\n--x--\r\n"
	r := httptest.NewRequest(http.MethodPost, "/upload", strings.NewReader(body))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler {
				t.Errorf("panic: %v", v)
			}
		}()
		m.Handler(mux).ServeHTTP(httptest.NewRecorder(), r)
	}()
	if r.MultipartForm == nil || r.Pattern != "POST /upload" {
		t.Errorf("form %v, pattern %q", r.MultipartForm, r.Pattern)
	} else {
		r.MultipartForm.RemoveAll()
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMiddlewareAllocates(t *testing.T) {
	m := &healthhttp.Middleware{Drain: health.NewDrain(health.DrainConfig{})}
	h := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w, r := httptest.NewRecorder(), request("GET", "Accept", "text/html")
	if n := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A pod is a server with everything.
type pod struct {
	*network
	health *health.Health
	drain  *health.Drain
	srv    *http.Server
}

func newPod(work http.Handler) *pod {
	h := health.New(health.Config{})
	r := &pod{
		network: newNetwork(),
		health:  h,
		drain:   health.NewDrain(health.DrainConfig{Health: h, Signals: []os.Signal{}}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !h.Ready() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.Handle("/", work)
	r.srv = &http.Server{
		Handler:   (&healthhttp.Middleware{Drain: r.drain}).Handler(mux),
		Protocols: new(http.Protocols),
	}
	r.srv.Protocols.SetHTTP1(true)
	r.srv.Protocols.SetUnencryptedHTTP2(true)
	r.drain.Serve("http", r.srv, func() error { return r.srv.Serve(r.network) })
	return r
}

// run runs it until it is drained or, if it is to end bare, shut down, as one does without.
func (r *pod) run(ctx context.Context, bare bool) error {
	if !bare {
		return health.Run(ctx, r.drain)
	}
	r.health.Start(context.WithoutCancel(ctx))
	go r.srv.Serve(r.network)
	<-ctx.Done()
	r.health.Stop()
	return r.srv.Shutdown(context.WithoutCancel(ctx))
}

// ready is what a load balancer asks.
func (r *pod) ready(ctx context.Context) bool {
	conn, err := r.dial(ctx, "", "")
	if err != nil {
		return false
	}
	defer conn.Close()
	io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// A client posts over a connection that it keeps for as long as it may.
type client interface {
	post(ctx context.Context) error
	close()
}

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

// raw is one of HTTP/1 that never tries again, as balancers and net/http do with what they
// take to be safe.
type raw struct {
	dial dial
	conn net.Conn
	from *bufio.Reader
}

func (c *raw) post(ctx context.Context) error {
	if c.conn == nil {
		conn, err := c.dial(ctx, "", "")
		if err != nil {
			return err
		}
		c.conn, c.from = conn, bufio.NewReader(conn)
	}
	const ask = "POST /work HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nwork"
	_, err := io.WriteString(c.conn, ask)
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.from, nil)
	if err != nil {
		return err
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.Close {
		c.close()
	}
	return outcome(resp)
}

func (c *raw) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func outcome(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// http2 is one of HTTP/2, with bodies that cannot be sent twice.
type http2 struct{ transport *http.Transport }

func newHTTP2(d dial) *http2 {
	c := &http2{&http.Transport{DialContext: d, Protocols: new(http.Protocols)}}
	c.transport.Protocols.SetUnencryptedHTTP2(true)
	return c
}

func (c *http2) post(ctx context.Context) error {
	body := io.NopCloser(strings.NewReader("work"))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://api.test/work", body)
	if err != nil {
		return err
	}
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return outcome(resp)
}

func (c *http2) close() { c.transport.CloseIdleConnections() }

// roll has two pods serve two hundred requests a second from twenty clients, and ends the
// first one after a while. Between them is a balancer of connections: it gives new ones to
// the first pod until that was not ready twice in a row, of which it asks once in a
// second, and leaves those that there are alone. It returns how many requests each of the
// pods has answered, and how many were dropped.
func roll(t *testing.T, bare bool, newClient func(dial) client) (served [2]int64, dropped int64) {
	t.Helper()
	var counts [2]atomic.Int64
	var pods [2]*pod
	var running sync.WaitGroup
	for i, after := range [...]time.Duration{10300 * time.Millisecond, 40 * time.Second} {
		pods[i] = newPod(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			time.Sleep(50 * time.Millisecond)
			counts[i].Add(1)
		}))
		ctx, cancel := context.WithTimeout(t.Context(), after)
		defer cancel()
		running.Go(func() {
			if err := pods[i].run(ctx, bare); err != nil {
				t.Errorf("pod %d: %v", i, err)
			}
		})
	}
	synctest.Wait()
	var chosen atomic.Pointer[pod]
	chosen.Store(pods[0])
	running.Go(func() {
		for fails := 0; fails < 2; time.Sleep(time.Second) {
			fails++
			if pods[0].ready(t.Context()) {
				fails = 0
			}
		}
		chosen.Store(pods[1])
	})
	var drops atomic.Int64
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			time.Sleep(time.Duration(i) * 7 * time.Millisecond)
			c := newClient(func(ctx context.Context, _, _ string) (net.Conn, error) {
				return chosen.Load().dial(ctx, "", "")
			})
			defer c.close()
			for range 200 {
				if c.post(t.Context()) != nil {
					drops.Add(1)
					c.close()
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	clients.Wait()
	running.Wait()
	return [2]int64{counts[0].Load(), counts[1].Load()}, drops.Load()
}

// A rollout, with the pod that goes drained and, for comparison, shut down.
func TestRollout(t *testing.T) {
	for name, newClient := range map[string]func(dial) client{
		"HTTP/1": func(d dial) client { return &raw{dial: d} },
		"HTTP/2": func(d dial) client { return newHTTP2(d) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				served, dropped := roll(t, false, newClient)
				if dropped != 0 || served[0]+served[1] != 4000 || served[0] == 0 || served[1] == 0 {
					t.Errorf("drained: %d were dropped, %v served", dropped, served)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				served, dropped := roll(t, true, newClient)
				if dropped == 0 {
					t.Errorf("bare: nothing was dropped, %v served: this shows nothing", served)
				}
				t.Logf("bare: %d of 4000 were dropped", dropped)
			})
		})
	}
}

// An event stream ends with its context, in its turn, though its handler knows nothing of
// drains; a connection that was hijacked is waited for, which net/http does not do.
func TestLongLivedAreAsked(t *testing.T) {
	for _, hijacks := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			var ended time.Duration
			p := newPod(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(w)
				rc.Flush()
				if hijacks {
					conn, _, err := rc.Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
				}
				<-r.Context().Done()
				time.Sleep(time.Second) // to say good-bye
				ended = time.Since(begin)
			}))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			over := make(chan error)
			go func() { over <- p.run(ctx, false) }()
			synctest.Wait()
			conn, err := p.dial(ctx, "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			field := "Accept: text/event-stream"
			if hijacks {
				field = "Connection: Upgrade\r\nUpgrade: example"
			}
			io.WriteString(conn, "GET /stream HTTP/1.1\r\nHost: api.test\r\n"+field+"\r\n\r\n")
			if err := <-over; err != nil {
				t.Error(err)
			}
			asked := ended - time.Minute - time.Second
			if asked <= 0 || asked > 5*time.Second || time.Since(begin) < ended {
				t.Errorf("asked %v after the signal, over after %v", asked, time.Since(begin))
			}
		})
	}
}

// A handler that does not end is warned by its BaseContext and can still answer; one that
// does not listen is cut off, and so the process ends.
func TestHandlersAreWarned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			if r.URL.Path == "/deaf" {
				time.Sleep(time.Minute)
			}
			w.WriteHeader(http.StatusGatewayTimeout)
		}))
		p.srv.BaseContext = func(net.Listener) context.Context { return p.drain.Context() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		over := make(chan error)
		begin := time.Now()
		go func() { over <- p.run(ctx, false) }()
		synctest.Wait()
		ask := func(path string) *bufio.Reader {
			conn, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: api.test\r\n\r\n")
			return bufio.NewReader(conn)
		}
		listens, deaf := ask("/"), ask("/deaf")
		resp, err := http.ReadResponse(listens, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusGatewayTimeout || time.Since(begin) != 82*time.Second {
			t.Errorf("%s after %v", resp.Status, time.Since(begin))
		}
		if _, err := deaf.ReadByte(); err == nil {
			t.Error("the deaf one has answered")
		}
		if err := <-over; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if time.Since(begin) != 84*time.Second {
			t.Errorf("over after %v", time.Since(begin))
		}
		time.Sleep(time.Minute) // the deaf handler is in the bubble
	})
}

// A connection on which nothing was asked yet does not hold the end up for all of Timeout,
// and neither does one that is kept alive.
func TestQuietConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPod(http.NotFoundHandler())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		over := make(chan error)
		begin := time.Now()
		go func() { over <- p.run(ctx, false) }()
		synctest.Wait()
		idle := &raw{dial: p.dial}
		idle.post(ctx)
		time.Sleep(65*time.Second - time.Millisecond) // a moment before the end of Delay
		for range 2 {
			conn, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		if err := <-over; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took < 65*time.Second || took > 71*time.Second {
			t.Errorf("over after %v", took)
		}
		idle.close()
	})
}
