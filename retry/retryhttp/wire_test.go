package retryhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/retryhttp"
)

var nolog = log.New(io.Discard, "", 0)

// counted counts the connections that a server accepts.
func counted(server *http.Server) *atomic.Int64 {
	var opened atomic.Int64
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	return &opened
}

// pipes is a listener to which one dials without a network, so that time in a bubble
// does not wait for it.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.ErrClosed}
	}
}

// serve returns a transport to a server in memory, and counts its connections.
func serve(t *testing.T, h http.HandlerFunc) (*http.Transport, *atomic.Int64) {
	t.Helper()
	l := newPipes()
	server := &http.Server{Handler: h, ErrorLog: nolog}
	opened := counted(server)
	go server.Serve(l)
	transport := &http.Transport{DialContext: l.dial, ExpectContinueTimeout: time.Second}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return transport, opened
}

// fetch sends a request by a client and returns its status, body and error as text.
func fetch(client *http.Client, r *http.Request) string {
	resp, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Sprint(resp.StatusCode, " ", err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(text))
}

// unlimited retries at once, whatever the budget.
func unlimited() *retry.Policy {
	return &retry.Policy{Budget: retry.Budget{Off: true}}
}

func TestWireReusesConnections(t *testing.T) {
	for name, test := range map[string]struct {
		statuses []int
		policy   *retry.Policy
		want     string
	}{
		"503, 503, 200":                {[]int{503, 503, 200}, unlimited(), "200 page"},
		"always 503":                   {[]int{503}, unlimited(), "503 page"},
		"always 503, without a budget": {[]int{503}, nil, "503 page"},
		"503, 503, 200, with a timeout": {[]int{503, 503, 200}, &retry.Policy{
			Budget: retry.Budget{Off: true}, AttemptTimeout: time.Minute,
		}, "200 page"},
	} {
		bubble(t, name, func(t *testing.T) {
			n := 0
			transport, opened := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.statuses[n%len(test.statuses)])
				n++
				io.WriteString(w, "page")
			})
			client := &http.Client{
				Transport: &retryhttp.Transport{Base: transport, Policy: test.policy},
			}
			for range 50 {
				if got := fetch(client, get(t)); got != test.want {
					t.Fatalf("got %q, want %q", got, test.want)
				}
			}
			if got := opened.Load(); got != 1 {
				t.Errorf("%d connections opened for 50 calls, want 1", got)
			}
		})
	}
}

// The same over a real network.
func TestWireReusesConnectionsOfTCP(t *testing.T) {
	var n atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			if n.Add(1)%3 != 0 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			io.WriteString(w, strings.Repeat("page", 4000))
		}))
	opened := counted(server.Config)
	server.Start()
	defer server.Close()
	policy := unlimited()
	policy.Backoff = retry.Constant(0)
	client := &http.Client{Transport: &retryhttp.Transport{
		Base: server.Client().Transport, Policy: policy,
	}}
	for range 50 {
		resp, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusOK || len(text) != 16000 {
			t.Errorf("%d with %d bytes, %v", resp.StatusCode, len(text), err)
		}
		resp.Body.Close()
	}
	if got := opened.Load(); got != 1 {
		t.Errorf("%d connections opened for 50 calls, want 1", got)
	}
}

// dies answers with the beginning of a response and breaks the connection.
func dies(w http.ResponseWriter, beginning string) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	rw.WriteString(beginning)
	rw.Flush()
	conn.Close()
}

// The server may have done what the request asked for when its connection breaks.
func TestWireConnectionDies(t *testing.T) {
	for _, test := range []struct {
		name, method, key string
		beginning         string
		want              int
	}{
		{"GET", "GET", "", "HTTP/1.1 200 OK\r\nConte", 3},
		{"GET, before a word", "GET", "", "", 3},
		{"POST", "POST", "", "HTTP/1.1 200 OK\r\nConte", 1},
		{"POST, before a word", "POST", "", "", 1},
		{"POST with a key", "POST", "k1", "HTTP/1.1 200 OK\r\nConte", 3},
		// Part of the answer has been read by then, or may have.
		{"in the body", "GET", "", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody", 1},
		{
			"in the body of a retried response", "GET", "",
			"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\nbody", 3,
		},
	} {
		bubble(t, test.name, func(t *testing.T) {
			var orders []string
			transport, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				text, _ := io.ReadAll(r.Body)
				orders = append(orders, string(text)+r.Header.Get("Idempotency-Key"))
				dies(w, test.beginning)
			})
			client := &http.Client{Transport: &retryhttp.Transport{Base: transport}}
			r := request(t.Context(), t, test.method, strings.NewReader("order "))
			if test.key != "" {
				r.Header.Set("Idempotency-Key", test.key)
			}
			if got := fetch(client, r); !strings.Contains(got, "EOF") &&
				!strings.Contains(got, "connection broken") && !strings.HasPrefix(got, "503") {
				t.Errorf("got %q", got)
			}
			want := slices.Repeat([]string{"order " + test.key}, test.want)
			if !slices.Equal(orders, want) {
				t.Errorf("the server executed %q, want %q", orders, want)
			}
		})
	}
}

// A body that stalls is given up, while it is being read.
func TestWireStalledBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		transport, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if n++; n > 1 {
				return
			}
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "some of it")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		client := &http.Client{Transport: &retryhttp.Transport{
			Base: transport, Policy: &retry.Policy{Backoff: retry.Constant(0)},
		}}
		start := time.Now()
		got := fetch(client, get(t))
		if took := time.Since(start); got != "200 " || took != 100*time.Millisecond {
			t.Errorf("%q after %v", got, took)
		}
	})
}

// A context that ends with RoundTrip would leave the first few kilobytes of this.
func TestWireLongBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := bytes.Repeat([]byte("0123456789abcdef"), 512<<10/16)
		n := 0
		transport, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if n++; n < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			w.Write(long)
		})
		client := &http.Client{Transport: &retryhttp.Transport{
			Base: transport, Policy: &retry.Policy{AttemptTimeout: time.Second},
		}}
		resp, err := client.Do(get(t))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		time.Sleep(time.Second / 2)
		if got, err := io.ReadAll(resp.Body); !bytes.Equal(got, long) || err != nil {
			t.Errorf("%d: read %d bytes of %d, %v", resp.StatusCode, len(got), len(long), err)
		}
	})
}

// AttemptTimeout is for bodies too.
func TestWireSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		client := &http.Client{Transport: &retryhttp.Transport{
			Base: transport, Policy: &retry.Policy{AttemptTimeout: time.Second},
		}}
		start := time.Now()
		got := fetch(client, get(t))
		if !strings.Contains(got, "deadline exceeded") || time.Since(start) != time.Second {
			t.Errorf("%q after %v", got, time.Since(start))
		}
	})
}

// A WebSocket client writes to the body of the response to its upgrade, for as long as it
// likes.
func TestWireUpgrade(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"": 0, "with a timeout": time.Second} {
		bubble(t, name, func(t *testing.T) {
			n := 0
			transport, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if n++; n == 1 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				conn, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n" +
					"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				rw.Flush()
				line, _ := rw.ReadString('\n')
				rw.WriteString("echo " + line)
				rw.Flush()
			})
			client := &http.Client{Transport: &retryhttp.Transport{
				Base: transport, Policy: &retry.Policy{AttemptTimeout: timeout},
			}}
			r := get(t)
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "echo")
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, ok := resp.Body.(io.ReadWriteCloser)
			if !ok {
				t.Fatalf("the body of the %d is a %T", resp.StatusCode, resp.Body)
			}
			time.Sleep(time.Hour)
			if _, err := io.WriteString(body, "hello\n"); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(body).ReadString('\n'); line != "echo hello\n" {
				t.Errorf("read %q, %v", line, err)
			}
		})
	}
}

func TestWireHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		transport, opened := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000") // of a GET
			if n++; n < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		client := &http.Client{Transport: &retryhttp.Transport{Base: transport}}
		resp, err := client.Do(request(t.Context(), t, http.MethodHead, nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || n != 3 || opened.Load() != 1 {
			t.Errorf("%d after %d requests by %d connections", resp.StatusCode, n, opened.Load())
		}
	})
}

// A client that expects a 100 keeps its body until it is asked for.
func TestWireExpectContinue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bodies []string
		n := 0
		transport, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if n++; n == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			text, _ := io.ReadAll(r.Body)
			bodies = append(bodies, r.Header.Get("Expect")+" "+string(text))
		})
		client := &http.Client{Transport: &retryhttp.Transport{Base: transport}}
		r := request(t.Context(), t, http.MethodPut, strings.NewReader("text"))
		r.Header.Set("Expect", "100-continue")
		if got := fetch(client, r); got != "200 " {
			t.Errorf("got %q", got)
		}
		if !slices.Equal(bodies, []string{"100-continue text"}) {
			t.Errorf("the server read %q", bodies)
		}
	})
}

// Redirects are the client's: each hop is a RoundTrip of its own.
func TestWireRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		transport, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			got = append(got, r.URL.Path+r.Header.Get("Stormjib-Attempt")+" "+string(text))
			switch len(got) {
			case 1, 3:
				w.WriteHeader(http.StatusServiceUnavailable)
			case 2:
				http.Redirect(w, r, "/next", http.StatusTemporaryRedirect)
			}
		})
		client := &http.Client{Transport: &retryhttp.Transport{Base: transport}}
		r := request(t.Context(), t, http.MethodPut, strings.NewReader("text"))
		if answer := fetch(client, r); answer != "200 " {
			t.Errorf("answered %q", answer)
		}
		want := []string{"/ text", "/2 text", "/next text", "/next2 text"}
		if !slices.Equal(got, want) {
			t.Errorf("the server got %q, want %q", got, want)
		}
	})
}

// slowBody is the body of a request that is still being read when the answer comes. It
// has no lock: the race detector watches who uses it.
type slowBody struct {
	left   int
	closed atomic.Int64
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Millisecond)
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

func (b *slowBody) Close() error { b.closed.Add(1); return nil }

// A server may answer before it has the whole request; net/http goes on reading it
// when RoundTrip has returned.
func TestWireEarlyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		transport, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			n++
			w.WriteHeader(http.StatusBadGateway)
		})
		var made []*slowBody
		body := func() (io.ReadCloser, error) {
			b := &slowBody{left: 1 << 20}
			made = append(made, b)
			return b, nil
		}
		client := &http.Client{Transport: &retryhttp.Transport{
			Base: transport, Policy: &retry.Policy{Backoff: retry.Constant(0)},
		}}
		r := request(t.Context(), t, http.MethodPut, nil)
		r.Body, _ = body()
		r.GetBody, r.ContentLength = body, 1<<20
		if got := fetch(client, r); got != "502 " || n != 3 || len(made) != 3 {
			t.Errorf("%q; the server got %d requests, with %d bodies", got, n, len(made))
		}
		transport.CloseIdleConnections()
		time.Sleep(time.Minute)
		for i, b := range made {
			if got := b.closed.Load(); got != 1 {
				t.Errorf("the body of attempt %d closed %d times", i+1, got)
			}
		}
	})
}

// One saturated replica of ten costs its callers a quick second try, and not the second
// that it asks for.
func TestWireSaturatedReplica(t *testing.T) {
	replica := func(i int, w http.ResponseWriter) {
		if i%10 == 0 {
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Stormjib-Refusal", "shed;scope=replica")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "shed")
		}
	}
	call := func(t *testing.T, transport *retryhttp.Transport) {
		t.Helper()
		start := time.Now()
		if got := fetch(&http.Client{Transport: transport}, get(t)); got != "200 " {
			t.Errorf("got %q", got)
		}
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Errorf("a call took %v", took)
		}
	}
	bubble(t, "behind a balancer of requests", func(t *testing.T) {
		n := 0
		base, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			replica(n, w)
			n++
		})
		transport := &retryhttp.Transport{Base: base}
		for range 100 {
			call(t, transport)
			time.Sleep(100 * time.Millisecond)
		}
		if n < 110 || n > 112 {
			t.Errorf("100 calls made %d requests, want 111", n)
		}
	})
	// At this rate for long, the default budget does not pay for all of it.
	bubble(t, "behind a balancer of requests, for long", func(t *testing.T) {
		for _, test := range []struct {
			refund bool
			most   int
		}{{false, 60}, {true, 0}} {
			n, lost := 0, 0
			b := &base{answer: func(_ int, r *http.Request) (*http.Response, error) {
				if n++; n%10 == 0 {
					return response(r, 503, "Stormjib-Refusal", "shed"), nil
				}
				return response(r, 200), nil
			}}
			policy := &retry.Policy{}
			policy.Budget.Refund = test.refund
			transport := &retryhttp.Transport{Base: b, Policy: policy}
			for range 3000 {
				if outcome(transport, get(t)) != "200" {
					lost++
				}
				time.Sleep(10 * time.Millisecond)
			}
			if lost > test.most {
				t.Errorf("refund %t: %d calls of 3000 lost, want at most %d",
					test.refund, lost, test.most)
			}
		}
	})
	bubble(t, "behind a balancer of connections", func(t *testing.T) {
		var replicas []*http.Transport
		sent := make([]int, 10)
		for i := range sent {
			transport, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				sent[i]++
				replica(i, w)
			})
			replicas = append(replicas, transport)
		}
		dialed := 0
		base := &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				dialed++
				return replicas[(dialed-1)%10].DialContext(ctx, network, addr)
			},
		}
		t.Cleanup(base.CloseIdleConnections)
		transport := &retryhttp.Transport{Base: base}
		for range 100 {
			call(t, transport)
		}
		if sent[0] != 1 || dialed != 2 {
			t.Errorf("the saturated replica got %d requests, want 1; by %d connections, want 2",
				sent[0], dialed)
		}
	})
}

// front is a server that asks the one behind it, and passes on what fails.
func front(client *http.Client) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		const behind = "http://behind.test/"
		out, err := http.NewRequestWithContext(r.Context(), http.MethodGet, behind, nil)
		if err != nil {
			panic(err)
		}
		resp, err := client.Do(out)
		if err == nil {
			defer resp.Body.Close()
			err = retryhttp.CheckResponse(resp)
		}
		if err != nil {
			retryhttp.Fail(w, r, err)
			return
		}
		io.Copy(w, resp.Body)
	}
}

func retrying(base http.RoundTripper) *http.Client {
	return &http.Client{Transport: &retryhttp.Transport{Base: base}}
}

// One layer retries: three of three attempts make three calls at the leaf, not 27.
func TestWireLayers(t *testing.T) {
	leaves := map[string]http.HandlerFunc{
		"503": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"503 of a replica": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Stormjib-Refusal", "shed;scope=replica")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"dying": func(w http.ResponseWriter, _ *http.Request) { dies(w, "HTTP/1.1 200") },
	}
	passOn := map[string]func(*http.Client) http.HandlerFunc{
		"Fail": front,
		"a reverse proxy": func(client *http.Client) http.HandlerFunc {
			return (&httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) {
					r.SetURL(&url.URL{Scheme: "http", Host: "behind.test"})
				},
				Transport:    client.Transport,
				ErrorLog:     nolog,
				ErrorHandler: retryhttp.Fail,
			}).ServeHTTP
		},
	}
	for leafName, leaf := range leaves {
		for name, passOn := range passOn {
			bubble(t, leafName+", "+name, func(t *testing.T) {
				calls := 0
				leaf, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
					calls++
					leaf(w, r)
				})
				middle, _ := serve(t, passOn(retrying(leaf)))
				outer, _ := serve(t, passOn(retrying(middle)))
				r := get(t)
				// What a client claims changes nothing.
				r.Header.Set("Stormjib-Attempt", "3")
				r.Header.Set("Stormjib-Refusal", "failed;scope=service;retry=?0")
				got := fetch(retrying(outer), r)
				if !strings.HasPrefix(got, "503") || calls != 3 {
					t.Errorf("%q after %d calls, want 3", got, calls)
				}
			})
		}
	}
	bubble(t, "an outer layer that does not retry", func(t *testing.T) {
		calls := 0
		leaf, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls++; calls < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		middle, _ := serve(t, front(retrying(leaf)))
		r := request(retry.Once(t.Context()), t, http.MethodPost, nil)
		if got := fetch(retrying(middle), r); got != "200 " || calls != 3 {
			t.Errorf("%q after %d calls, want 200 after 3", got, calls)
		}
	})
	bubble(t, "an inner layer that does not retry", func(t *testing.T) {
		calls := 0
		leaf, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			calls++
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		middle, _ := serve(t, front(&http.Client{Transport: leaf}))
		if got := fetch(retrying(middle), get(t)); !strings.HasPrefix(got, "503") || calls != 3 {
			t.Errorf("%q after %d calls, want 3", got, calls)
		}
	})
	bubble(t, "in one process", func(t *testing.T) {
		b := always(503)
		inner := &retryhttp.Transport{Base: b}
		if outcome(&retryhttp.Transport{Base: inner}, get(t)); b.sent != 3 {
			t.Errorf("%d requests sent, want 3", b.sent)
		}
	})
	bubble(t, "a policy around", func(t *testing.T) {
		b := always(503)
		client := retrying(b)
		_, err := retry.Do(t.Context(), &retry.Policy{},
			func(ctx context.Context) (int, error) {
				resp, err := client.Do(request(ctx, t, http.MethodGet, nil))
				if err != nil {
					return 0, err
				}
				defer resp.Body.Close()
				return resp.StatusCode, retryhttp.CheckResponse(resp)
			})
		if _, ok := errors.AsType[*retryhttp.StatusError](err); b.sent != 3 || !ok {
			t.Errorf("%v after %d requests, want 3", err, b.sent)
		}
	})
}
