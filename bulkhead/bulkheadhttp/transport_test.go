package bulkheadhttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/bulkhead/bulkheadhttp"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/retryhttp"
)

var errBoom = errors.New("boom")

// roundTrip is a base of a Transport without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer returns a base that answers with a status and a body.
func answer(status int, body io.ReadCloser) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Header: http.Header{}, Body: body, Request: r,
		}, nil
	}
}

func text(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

func unused(t *testing.T) roundTrip {
	t.Helper()
	return func(*http.Request) (*http.Response, error) {
		t.Error("a refused request was sent")
		return nil, errBoom
	}
}

// narrow returns a bulkhead for one call at a time, and by what a Transport or a
// Middleware takes.
func narrow() *bulkhead.Bulkhead {
	return bulkhead.New(bulkhead.Config{Name: "prices", MaxConcurrent: 1})
}

func by(b *bulkhead.Bulkhead) func(*http.Request) *bulkhead.Bulkhead {
	return func(*http.Request) *bulkhead.Bulkhead { return b }
}

func wantInUse(t *testing.T, b *bulkhead.Bulkhead, want int) {
	t.Helper()
	if got := b.Stats().InUse; got != want {
		t.Errorf("%d slots in use, want %d", got, want)
	}
}

// fill takes the slots of b, for as long as the test takes.
func fill(t *testing.T, b *bulkhead.Bulkhead) *bulkhead.Permit {
	t.Helper()
	p, ok := b.TryAcquireN(b.Stats().MaxConcurrent)
	if !ok {
		t.Fatalf("not empty: %+v", b.Stats())
	}
	return &p
}

func request(ctx context.Context, t *testing.T, method string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "http://prices.test/", body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func get(t *testing.T) *http.Request {
	t.Helper()
	return request(t.Context(), t, http.MethodGet, http.NoBody)
}

// send sends a request and is done with the response.
func send(rt http.RoundTripper, r *http.Request) error {
	resp, err := rt.RoundTrip(r)
	if resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
	return err
}

// fetch is send by a client.
func fetch(client *http.Client) error {
	resp, err := client.Get("http://prices.test/")
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// The slot is held until the body ends, and is then free, once.
func TestTransportHoldsUntilBodyEnds(t *testing.T) {
	closes := func(b io.ReadCloser) { b.Close() }
	reads := func(b io.ReadCloser) { io.Copy(io.Discard, b) }
	readsSome := func(b io.ReadCloser) { io.CopyN(io.Discard, b, 2) }
	for _, test := range []struct {
		name  string
		body  io.ReadCloser
		use   []func(io.ReadCloser)
		inUse []int
	}{
		{"read", text("text"), []func(io.ReadCloser){readsSome, reads}, []int{1, 0}},
		{"closed", text("text"), []func(io.ReadCloser){readsSome, closes}, []int{1, 0}},
		{"closed twice", text("text"), []func(io.ReadCloser){closes, closes}, []int{0, 0}},
		{"read and closed", text("text"), []func(io.ReadCloser){reads, closes}, []int{0, 0}},
		{
			"fails",
			io.NopCloser(io.MultiReader(strings.NewReader("te"), iotest.ErrReader(errBoom))),
			[]func(io.ReadCloser){readsSome, reads, closes},
			[]int{1, 0, 0},
		},
		{"empty", text(""), []func(io.ReadCloser){reads, closes}, []int{0, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := narrow()
			transport := &bulkheadhttp.Transport{Base: answer(200, test.body), Bulkhead: by(b)}
			resp, err := transport.RoundTrip(get(t))
			if err != nil {
				t.Fatal(err)
			}
			wantInUse(t, b, 1)
			if err := send(transport, get(t)); !errors.Is(err, bulkhead.ErrFull) {
				t.Errorf("while the body is there: %v", err)
			}
			for i, use := range test.use {
				use(resp.Body)
				wantInUse(t, b, test.inUse[i])
			}
			// The slot is another's now.
			fill(t, b)
			resp.Body.Close()
			reads(resp.Body)
			wantInUse(t, b, 1)
		})
	}
}

// A response after which nothing comes holds nothing, though nobody closes it.
func TestTransportWithoutBody(t *testing.T) {
	for _, test := range []struct {
		name, method string
		status       int
		body         io.ReadCloser
	}{
		{"NoBody", http.MethodGet, 200, http.NoBody},
		{"nil", http.MethodGet, 200, nil},
		{"HEAD", http.MethodHead, 200, text("")},
		{"204", http.MethodGet, 204, text("")},
		{"304", http.MethodGet, 304, text("")},
	} {
		b := narrow()
		transport := &bulkheadhttp.Transport{Base: answer(test.status, test.body), Bulkhead: by(b)}
		for range 3 {
			resp, err := transport.RoundTrip(request(t.Context(), t, test.method, http.NoBody))
			if err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			wantInUse(t, b, 0)
			if resp.Body != test.body {
				t.Errorf("%s: another body", test.name)
			}
			if resp.Body != nil {
				resp.Body.Close()
			}
		}
	}
}

func TestTransportFreesTheSlot(t *testing.T) {
	resp := &http.Response{StatusCode: http.StatusOK, Body: text("text")}
	for name, test := range map[string]struct {
		resp *http.Response
		err  error
		exit func()
	}{
		"error":           {nil, errBoom, func() {}},
		"error, response": {resp, errBoom, func() {}},
		"nothing":         {nil, nil, func() {}},
		"panic":           {nil, nil, func() { panic("boom") }},
		"goexit":          {nil, nil, runtime.Goexit},
	} {
		b := narrow()
		transport := &bulkheadhttp.Transport{
			Base: roundTrip(func(*http.Request) (*http.Response, error) {
				test.exit()
				return test.resp, test.err
			}),
			Bulkhead: by(b),
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil && v != "boom" {
					t.Errorf("%s: recovered %v", name, v)
				}
			}()
			got, err := transport.RoundTrip(get(t))
			wantInUse(t, b, 0)
			if got != test.resp || err != test.err {
				t.Errorf("%s: got %v and %v", name, got, err)
			}
			if got != nil {
				got.Body.Close()
			}
		})
		wg.Wait()
		wantInUse(t, b, 0)
		fill(t, b)
	}
}

// requestBody counts how often it is closed.
type requestBody struct {
	io.Reader
	closed int
}

func (b *requestBody) Close() error { b.closed++; return nil }

// A RoundTripper closes the body of a request that it does not send.
func TestTransportRefuses(t *testing.T) {
	left, cancel := context.WithCancel(t.Context())
	cancel()
	b := narrow()
	fill(t, b)
	for _, test := range []struct {
		name  string
		ctx   context.Context
		from  func(*http.Request) *bulkhead.Bulkhead
		check func(error) bool
	}{
		{"full", t.Context(), by(b), func(err error) bool {
			full, ok := errors.AsType[*bulkhead.FullError](err)
			return ok && full.Name == "prices" && stormjib.NotAttempted(err)
		}},
		{"left", left, by(b), func(err error) bool {
			return errors.Is(err, context.Canceled) && stormjib.NotAttempted(err)
		}},
		{"no function", t.Context(), nil, func(err error) bool {
			return err.Error() == "bulkheadhttp: Transport.Bulkhead is nil"
		}},
	} {
		body := &requestBody{Reader: strings.NewReader("text")}
		transport := &bulkheadhttp.Transport{Base: unused(t), Bulkhead: test.from}
		err := send(transport, request(test.ctx, t, http.MethodPost, body))
		if err == nil || !test.check(err) {
			t.Errorf("%s: got %v", test.name, err)
		}
		if body.closed != 1 {
			t.Errorf("%s: the request's body closed %d times", test.name, body.closed)
		}
		if err := send(transport, &http.Request{URL: &url.URL{}}); err == nil { // has no body
			t.Errorf("%s: no error", test.name)
		}
	}
}

// Clients find it below what http.Client makes of it.
func TestTransportInClient(t *testing.T) {
	b := narrow()
	fill(t, b)
	client := &http.Client{Transport: &bulkheadhttp.Transport{Base: unused(t), Bulkhead: by(b)}}
	err := fetch(client)
	if !errors.Is(err, bulkhead.ErrFull) || !stormjib.NotAttempted(err) {
		t.Errorf("got %v", err)
	}
}

func TestTransportWithoutBulkhead(t *testing.T) {
	body := text("text")
	transport := &bulkheadhttp.Transport{Base: answer(200, body), Bulkhead: by(nil)}
	resp, err := transport.RoundTrip(get(t))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Body != body {
		t.Error("another body")
	}
}

func TestTransportLeavesRequest(t *testing.T) {
	r := request(t.Context(), t, http.MethodPost, strings.NewReader("text"))
	before := r.Clone(t.Context())
	before.Body, before.GetBody = r.Body, nil
	transport := &bulkheadhttp.Transport{
		Base: roundTrip(func(got *http.Request) (*http.Response, error) {
			if got != r {
				t.Error("another request was sent")
			}
			return answer(200, text("text"))(got)
		}),
		Bulkhead: by(narrow()),
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Request != r {
		t.Error("the response is to another request")
	}
	after := *r
	after.GetBody = nil
	if !reflect.DeepEqual(after.Header, before.Header) || after.Body != before.Body ||
		after.ContentLength != before.ContentLength || after.URL.String() != before.URL.String() {
		t.Errorf("the request has changed: %+v", after)
	}
}

func TestTransportWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1, MaxQueue: 2, MaxWait: time.Minute})
		transport := &bulkheadhttp.Transport{Base: answer(200, text("text")), Bulkhead: by(b)}
		first, err := transport.RoundTrip(get(t))
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(30*time.Second, func() { first.Body.Close() })
		start := time.Now()
		second, err := transport.RoundTrip(get(t))
		if err != nil || time.Since(start) != 30*time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		err = send(transport, get(t))
		full, ok := errors.AsType[*bulkhead.FullError](err)
		if !ok || full.Reason != bulkhead.WaitedTooLong {
			t.Errorf("got %v", err)
		}
		second.Body.Close()
	})
}

func TestTransportContextEndsWhileWaiting(t *testing.T) {
	why := errors.New("the user left")
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1, MaxQueue: 1, MaxWait: -1})
		fill(t, b)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		body := &requestBody{Reader: strings.NewReader("text")}
		transport := &bulkheadhttp.Transport{Base: unused(t), Bulkhead: by(b)}
		err := send(transport, request(ctx, t, http.MethodPut, body))
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || body.closed != 1 {
			t.Errorf("got %v; the body closed %d times", err, body.closed)
		}

		client := &http.Client{Transport: transport, Timeout: time.Minute}
		start := time.Now()
		err = fetch(client)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if s := b.Stats(); s.GaveUp != 2 || s.Waiting != 0 || s.InUse != 1 {
			t.Errorf("%+v", s)
		}
	})
}

type idler struct {
	http.RoundTripper
	closed int
}

func (i *idler) CloseIdleConnections() { i.closed++ }

func TestTransportCloseIdleConnections(t *testing.T) {
	base := &idler{}
	client := &http.Client{Transport: &bulkheadhttp.Transport{Base: base}}
	client.CloseIdleConnections()
	if base.closed != 1 {
		t.Errorf("passed on %d times, want once", base.closed)
	}
	(&bulkheadhttp.Transport{Base: roundTrip(nil)}).CloseIdleConnections() // can't, and need not
}

func TestTransportDefaultBase(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "at your service")
	}))
	defer server.Close()
	b := narrow()
	client := &http.Client{Transport: &bulkheadhttp.Transport{Bulkhead: by(b)}}
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	wantInUse(t, b, 1)
	if got, err := io.ReadAll(resp.Body); string(got) != "at your service" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	wantInUse(t, b, 0)
	resp.Body.Close()
	wantInUse(t, b, 0)
}

// echo answers an upgrade: with each line that it gets, and with a last word when the
// other side has said its own.
func echo(t *testing.T) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n" +
			"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				rw.WriteString("good bye\n")
				rw.Flush()
				return
			}
			rw.WriteString("echo " + line)
			rw.Flush()
		}
	}
}

func upgrade(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "echo")
	return r
}

// converse has a conversation over an upgraded connection, up to the last words.
func converse(t *testing.T, resp *http.Response) {
	t.Helper()
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("the body of the %d is a %T: it cannot be written to",
			resp.StatusCode, resp.Body)
	}
	lines := bufio.NewReader(conn)
	io.WriteString(conn, "hello\n")
	if line, err := lines.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("read %q, %v", line, err)
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		t.Fatalf("a %T cannot close one direction", conn)
	}
	if err := half.CloseWrite(); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(lines); string(rest) != "good bye\n" || err != nil {
		t.Errorf("read %q, %v", rest, err)
	}
}

func TestTransportUpgrade(t *testing.T) {
	server := httptest.NewServer(echo(t))
	defer server.Close()
	b := narrow()
	client := &http.Client{Transport: &bulkheadhttp.Transport{
		Base: server.Client().Transport, Bulkhead: by(b),
	}}
	resp, err := client.Do(upgrade(t, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	converse(t, resp)
	wantInUse(t, b, 1) // while it is open, whatever has been said
	resp.Body.Close()
	wantInUse(t, b, 0)
}

// A reverse proxy ends its side of a conversation only if it can end one direction.
func TestTransportUpgradeInProxy(t *testing.T) {
	backend := httptest.NewServer(echo(t))
	defer backend.Close()
	target, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	b := narrow()
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &bulkheadhttp.Transport{Base: backend.Client().Transport, Bulkhead: by(b)}
	served := make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(served)
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	resp, err := front.Client().Do(upgrade(t, front.URL))
	if err != nil {
		t.Fatal(err)
	}
	converse(t, resp)
	resp.Body.Close()
	<-served
	for b.Stats().InUse != 0 { // the proxy closes from another goroutine
		runtime.Gosched()
	}
}

func TestTransportAllocations(t *testing.T) {
	empty, with := answer(200, http.NoBody), answer(200, text("text"))
	b, full := narrow(), narrow()
	fill(t, full)
	r := get(t)
	for _, test := range []struct {
		name      string
		transport *bulkheadhttp.Transport
		most      float64 // beside those of the Base
	}{
		{"no body", &bulkheadhttp.Transport{Base: empty, Bulkhead: by(b)}, 0},
		{"a body", &bulkheadhttp.Transport{Base: with, Bulkhead: by(b)}, 3},
		{"a refusal", &bulkheadhttp.Transport{Base: with, Bulkhead: by(full)}, 0},
	} {
		base := 0.0
		if test.transport.Bulkhead(r) == b {
			base = testing.AllocsPerRun(100, func() { _ = send(test.transport.Base, r) })
		}
		n := testing.AllocsPerRun(1000, func() {
			_ = send(test.transport, r)
		})
		if n > base+test.most {
			t.Errorf("%s: %v allocations, want %v", test.name, n-base, test.most)
		}
	}
}

// Many requests of one client: never more of them, with their bodies, than there are
// slots.
func TestTransportConcurrently(t *testing.T) {
	const most = 3
	b := bulkhead.New(bulkhead.Config{MaxConcurrent: most, MaxQueue: 100, MaxWait: -1})
	var mu sync.Mutex
	open := 0
	count := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		if open += by; open > most {
			t.Errorf("%d bodies open, of %d", open, most)
		}
	}
	transport := &bulkheadhttp.Transport{
		Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			count(1)
			return answer(200, text("text"))(r)
		}),
		Bulkhead: by(b),
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				resp, err := transport.RoundTrip(get(t))
				if err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
				count(-1)
				if i%2 == 0 {
					io.ReadAll(resp.Body)
				}
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	wantInUse(t, b, 0)
}

// The order of a client's transports: a full bulkhead inside of a breaker is no failure
// of the server's, and a retry outside knows that a POST was not sent.
func TestTransportOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := narrow()
		held := fill(t, b)
		br := breaker.New(breaker.Config{Consecutive: 1})
		transport := &retryhttp.Transport{
			Policy: &retry.Policy{Backoff: retry.Constant(time.Second)},
			Base: &breakerhttp.Transport{
				Breaker: func(*http.Request) *breaker.Breaker { return br },
				Base: &bulkheadhttp.Transport{
					Base: answer(200, text("text")), Bulkhead: by(b),
				},
			},
		}
		err := send(transport, get(t))
		if !errors.Is(err, bulkhead.ErrFull) || br.State() != breaker.Closed {
			t.Errorf("got %v, and the breaker is %v", err, br.State())
		}
		if s := br.Stats(); s.Ignored != 3 || s.Total != (breaker.Counts{}) {
			t.Errorf("three attempts: %+v", s)
		}
		time.AfterFunc(time.Second/2, held.Release)
		resp, err := transport.RoundTrip(request(t.Context(), t, http.MethodPost,
			strings.NewReader("text")))
		if err != nil {
			t.Fatalf("a POST that was refused here: %v", err)
		}
		resp.Body.Close()
		wantInUse(t, b, 0)
	})
}

// A response that is not worth keeping gives back its slot before the next attempt.
func TestTransportUnderRetry(t *testing.T) {
	b := narrow()
	n := 0
	transport := &retryhttp.Transport{
		Policy: &retry.Policy{Backoff: retry.Constant(0)},
		Base: &bulkheadhttp.Transport{Bulkhead: by(b), Base: roundTrip(
			func(r *http.Request) (*http.Response, error) {
				if n++; n < 3 {
					return answer(503, text("starting"))(r)
				}
				return answer(200, text("text"))(r)
			})},
	}
	resp, err := transport.RoundTrip(get(t))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(fmt.Sprint(resp, err))
	}
	wantInUse(t, b, 1)
	resp.Body.Close()
	wantInUse(t, b, 0)
}

// The body of an HTTP/2 response that ends with its header is not http.NoBody.
func TestTransportHTTP2WithoutBody(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
		s.EnableHTTP2 = http2
		s.StartTLS()
		b := bulkhead.New(bulkhead.Config{MaxConcurrent: 1})
		client := &http.Client{Transport: &bulkheadhttp.Transport{
			Base:     s.Client().Transport,
			Bulkhead: func(*http.Request) *bulkhead.Bulkhead { return b },
		}}
		resp, err := client.Post(s.URL, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Stats().InUse; got != 0 {
			t.Errorf("%s: a response without a body holds %d slots", resp.Proto, got)
		}
		_ = resp.Body.Close()
		s.Close()
	}
}
