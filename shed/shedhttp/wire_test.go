package shedhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/retry/retryhttp"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/shedhttp"
	"github.com/stormjib/stormjib/shed/throttle"
)

// dial opens a connection to a server, to write what no client of net/http would.
func dial(t *testing.T, server *httptest.Server) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

// answered reads a response and all of its body.
func answered(t *testing.T, from *bufio.Reader) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp
}

// A refused request whose body nobody reads costs its connection only where to read it would
// cost more.
func TestRefusalKeepsConnection(t *testing.T) {
	s := narrow()
	fill(t, s)
	server := httptest.NewServer(guard(s).Handler(uncalled(t)))
	defer server.Close()
	chunked := func(n int) string {
		return fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
			n, strings.Repeat("x", n))
	}
	sized := func(n, sent int) string {
		return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, strings.Repeat("x", sent))
	}
	for _, test := range []struct {
		name, rest string
		kept       bool
	}{
		{"no body", "\r\n", true},
		{"a small one", sized(100, 100), true},
		{"a small one in chunks", chunked(100), true},
		{"200 KiB", sized(200<<10, 200<<10), true},
		{"200 KiB in chunks", chunked(200 << 10), true},
		// Of which not a byte has to come before the answer does.
		{"a gigabyte", sized(1<<30, 0), false},
		{"more than is read, in chunks", chunked(256<<10 + 1), false},
		{"one that waits to be asked for", "Expect: 100-continue\r\n" + sized(100, 0), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, from := dial(t, server)
			go io.WriteString(conn, "POST / HTTP/1.1\r\nHost: api.test\r\n"+test.rest)
			resp := answered(t, from)
			defer resp.Body.Close()
			wantRefusal(t, resp, 1, 2)
			if resp.Close == test.kept {
				t.Errorf("the connection is to be closed: %t", resp.Close)
			}
			if !test.kept {
				return
			}
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
			resp = answered(t, from) // to this one, and not to a rest of the first
			defer resp.Body.Close()
			wantRefusal(t, resp, 1, 2)
		})
	}
}

// What a client of net/http makes of that.
func TestRefusalKeepsClientsConnection(t *testing.T) {
	s := narrow()
	fill(t, s)
	server := httptest.NewServer(guard(s).Handler(uncalled(t)))
	defer server.Close()
	reused := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if info.Reused {
				reused++
			}
		},
	})
	for range 5 {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL,
			strings.NewReader(strings.Repeat("x", 10<<10)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, resp, 1, 2)
	}
	if reused != 4 {
		t.Errorf("the connection was used again %d times, of 4", reused)
	}
}

// A header of a megabyte gets through net/http, and no further.
func TestTenantOfAMegabyte(t *testing.T) {
	m := &shedhttp.Middleware{Shedder: by(narrow()), Trust: anybody}
	server := httptest.NewUnstartedServer(m.Handler(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if n := len(r.Header.Get("Stormjib-Tenant")); n < 1<<20 {
				t.Errorf("%d bytes came", n)
			}
			fmt.Fprintf(w, "%q", stormjib.Tenant(r.Context()))
		})))
	server.Config.MaxHeaderBytes = 4 << 20
	server.Start()
	defer server.Close()
	r := get(t.Context(), t, server.URL)
	r.Header.Set("Stormjib-Tenant", `"`+strings.Repeat("x", 1<<20)+`"`)
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); string(text) != `""` {
		t.Errorf("the tenant is %.40s", text)
	}
}

func get(ctx context.Context, t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The files of a form are removed, as they are without a Middleware.
func TestMultipartFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir)
	files := func() int {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	ended := make(chan struct{}, 1)
	h := guard(narrow()).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(0); err != nil || files() != 1 {
			t.Errorf("%d files, %v", files(), err)
		}
	}))
	server := httptest.NewUnstartedServer(h)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateIdle {
			ended <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, _ := form.CreateFormFile("file", "file")
	part.Write(make([]byte, 1<<20))
	form.Close()
	resp, err := server.Client().Post(server.URL, form.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-ended
	if n := files(); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// Behind the middleware a handler can do what it can without: events need the flush, long
// uploads the deadlines. A stream that says so holds no slot while it lasts.
func TestStream(t *testing.T) {
	s := narrow()
	received := make(chan struct{})
	server := httptest.NewServer(guard(s).Handler(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			for name, err := range map[string]error{
				"SetReadDeadline":  rc.SetReadDeadline(time.Time{}),
				"SetWriteDeadline": rc.SetWriteDeadline(time.Time{}),
				"EnableFullDuplex": rc.EnableFullDuplex(),
			} {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			io.WriteString(w, "first ")
			if err := rc.Flush(); err != nil {
				t.Errorf("Flush: %v", err)
			}
			<-received
			wantOutcomes(t, s, "1 under way") // a flush alone is no end of the work
			shedhttp.StopClock(r.Context())
			io.WriteString(w, "second ")
			w.(http.Flusher).Flush()
			<-received
		})))
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	for i, want := range []string{"first ", "second "} {
		if got, err := body.ReadString(' '); got != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
		if i == 1 {
			wantOutcomes(t, s, "1 ignored")
		}
		received <- struct{}{}
	}
	io.Copy(io.Discard, body)
	wantOutcomes(t, s, "1 ignored")
}

// An upgraded connection holds no slot from the upgrade on, whichever way it is done.
func TestUpgrade(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n" +
			"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		io.Copy(conn, rw)
	}))
	defer backend.Close()
	to, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.Handler{
		"hijacked": backend.Config.Handler,
		"by status": &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := narrow()
			server := httptest.NewServer(guard(s).Handler(h))
			defer server.Close()
			conn, from := dial(t, server)
			io.WriteString(conn,
				"GET / HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			resp, err := http.ReadResponse(from, nil)
			if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(resp, err)
			}
			resp.Body.Close()
			wantOutcomes(t, s, "1 ignored") // and the connection is still open
			io.WriteString(conn, "hello\n")
			if line, err := from.ReadString('\n'); line != "hello\n" {
				t.Errorf("read %q, %v", line, err)
			}
			conn.Close()
			wantOutcomes(t, s, "1 ignored")
		})
	}
}

// An early hint is passed on, and no answer yet.
func TestEarlyHints(t *testing.T) {
	s := narrow()
	server := httptest.NewServer(guard(s).Handler(statuses(http.StatusEarlyHints, 504)))
	defer server.Close()
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
	})
	resp, err := server.Client().Do(get(ctx, t, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if hints != 1 || resp.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("%d hints and a %d", hints, resp.StatusCode)
	}
}

// A client that leaves a real server while it waits makes place for another, and one that
// leaves while it is served is not taken for overload.
func TestClientLeaves(t *testing.T) {
	for _, waits := range []bool{true, false} {
		s := shed.New(shed.Config{Max: 1, Queue: 1, MaxWait: time.Hour, Algorithm: shed.Fixed})
		if waits {
			fill(t, s)
		}
		gone := make(chan struct{})
		m := guard(s)
		m.Refuse = func(http.ResponseWriter, *http.Request, error) { close(gone) }
		under := make(chan struct{})
		inside := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(under)
			<-r.Context().Done()
		}))
		ended := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			inside.ServeHTTP(w, r)
		}))
		conn, _ := dial(t, server)
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
		if waits {
			for s.Stats().Waiting == 0 {
				runtime.Gosched()
			}
			conn.Close()
			<-gone
			<-ended
			wantOutcomes(t, s, "1 under way, 1 refused, 1 gave up") // fill was refused
		} else {
			<-under
			conn.Close()
			<-ended
			wantOutcomes(t, s, "1 ignored")
		}
		server.Close()
	}
}

// Two hops: what the client's context says is known in the last handler, but for the attempt,
// which is each hop's own.
func TestHops(t *testing.T) {
	var last hop.Sender
	var left, leftBefore time.Duration
	remaining := func(r *http.Request) time.Duration {
		d, ok := r.Context().Deadline()
		if !ok {
			t.Error("there is no deadline")
		}
		return time.Until(d)
	}
	backend := httptest.NewServer((&shedhttp.Middleware{Shedder: by(narrow()), Trust: anybody}).
		Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			last, left = hop.SenderOf(r.Context()), remaining(r)
		})))
	defer backend.Close()
	client := &http.Client{Transport: &shedhttp.Transport{}}
	var first hop.Sender
	front := httptest.NewServer((&shedhttp.Middleware{Shedder: by(narrow()), Trust: anybody}).
		Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			first, leftBefore = hop.SenderOf(r.Context()), remaining(r)
			resp, err := client.Do(get(r.Context(), t, backend.URL))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})))
	defer front.Close()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx = stormjib.WithTenant(shed.WithCriticality(ctx, shed.CriticalPlus), `café "acme"`)
	r := get(ctx, t, front.URL)
	r.Header.Set("Stormjib-Attempt", "2")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want := hop.Sender{Criticality: criticalPlus, Attempt: 2, Tenant: `café "acme"`}
	if first != want {
		t.Errorf("first: %+v, want %+v", first, want)
	}
	if want.Attempt = 0; last != want {
		t.Errorf("last: %+v, want %+v", last, want)
	}
	if left <= 0 || left > leftBefore || leftBefore > time.Minute {
		t.Errorf("%v is left of %v", left, leftBefore)
	}
}

// A proxy says of a request what it knows, and not what the client has written.
func TestProxyDoesNotLaunder(t *testing.T) {
	var got http.Header
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
	}))
	defer backend.Close()
	to, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	m := &shedhttp.Middleware{
		Shedder: by(narrow()), Tenant: func(*http.Request) string { return "acme" },
	}
	proxy := httptest.NewServer(m.Handler(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &shedhttp.Transport{},
	}))
	defer proxy.Close()
	r := get(t.Context(), t, proxy.URL)
	r.Header.Set("Stormjib-Criticality", "critical-plus")
	r.Header.Set("Stormjib-Tenant", "globex")
	r.Header.Set("Stormjib-Timeout-Ms", "999999999")
	resp, err := proxy.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for field, want := range map[string]string{
		"Stormjib-Criticality": "", "Stormjib-Tenant": `"acme"`, "Stormjib-Timeout-Ms": "",
	} {
		if value := got.Get(field); value != want {
			t.Errorf("%s is %q, want %q", field, value, want)
		}
	}
}

// Two replicas, of which one sheds: its clients' breakers see a server that works, their
// throttles one that has too much to do, and their retries get the answer of the other,
// without the wait that it asks for.
func TestRefusalIsReadByClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := narrow()
		fill(t, busy)
		replicas := []http.Handler{
			guard(busy).Handler(uncalled(t)),
			guard(narrow()).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})),
		}
		br := breaker.New(breaker.Config{Consecutive: 1})
		th := throttle.New(throttle.Config{})
		for range 10 { // in better times
			p, _ := th.Allow(t.Context())
			p.Record(throttle.Accepted)
		}
		n := 0
		transport := &retryhttp.Transport{Base: &breakerhttp.Transport{
			Breaker: func(*http.Request) *breaker.Breaker { return br },
			Base: &shedhttp.Transport{
				Throttle: func(*http.Request) *throttle.Throttle { return th },
				Base: roundTrip(func(r *http.Request) (*http.Response, error) {
					w := httptest.NewRecorder()
					replicas[n%2].ServeHTTP(w, r)
					n++
					return w.Result(), nil
				}),
			},
		}}
		start := time.Now()
		resp, err := transport.RoundTrip(get(t.Context(), t, "http://api.test/"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Errorf("took %v, want at once", took)
		}
		if resp.StatusCode != http.StatusOK || n != 2 {
			t.Errorf("%d after %d requests", resp.StatusCode, n)
		}
		if s := br.Stats(); s.State != breaker.Closed || s.Ignored != 1 || s.Total.Failed != 0 {
			t.Errorf("%+v", s)
		}
		if s := th.Stats().Total; s.Accepted != 11 || s.Rejected != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// At many times what a server can do, a client with a throttle sends twice that, and the
// critical requests are served.
func TestThrottledClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served, refused [2]atomic.Int64
		server := guard(shed.New(shed.Config{Max: 1, Algorithm: shed.Fixed})).Handler(
			http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				time.Sleep(10 * time.Millisecond)
				served[index(r.Context())].Add(1)
			}))
		th := throttle.New(throttle.Config{})
		sent := atomic.Int64{}
		client := &shedhttp.Transport{
			Throttle: func(*http.Request) *throttle.Throttle { return th },
			Base: roundTrip(func(r *http.Request) (*http.Response, error) {
				sent.Add(1)
				w := httptest.NewRecorder()
				server.ServeHTTP(w, r.WithContext(context.WithoutCancel(t.Context())))
				return w.Result(), nil
			}),
		}
		// 50 critical ones a second, of 100 that can be served, and 950 others.
		for i := range 20 * 1000 {
			class := shed.Sheddable
			if i%20 == 0 {
				class = shed.Critical
			}
			go func() {
				ctx := shed.WithCriticality(t.Context(), class)
				resp, err := client.RoundTrip(get(ctx, t, "http://api.test/"))
				if err != nil || resp.StatusCode != http.StatusOK {
					refused[index(ctx)].Add(1)
				}
				if err == nil {
					resp.Body.Close()
				}
			}()
			time.Sleep(time.Millisecond)
			if i == 10*1000 { // it has learned
				sent.Store(0)
				refused[0].Store(0)
			}
		}
		time.Sleep(time.Second)
		if n := sent.Load(); n > 3000 {
			t.Errorf("%d requests were sent in 10 s, to a server that can do 1000", n)
		}
		if n := refused[0].Load(); n > 5 {
			t.Errorf("%d of 500 critical requests were refused", n)
		}
	})
}

func index(ctx context.Context) int {
	if shed.CriticalityOf(ctx) == shed.Critical {
		return 0
	}
	return 1
}
