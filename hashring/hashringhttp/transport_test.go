package hashringhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/hashring"
	"github.com/stormjib/stormjib/hashring/hashringhttp"
	"github.com/stormjib/stormjib/retry"
)

var _ hashringhttp.Budget = (*retry.Budget)(nil)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var (
	errBoom    = errors.New("boom")
	errDial    = &net.OpError{Op: "dial", Net: "tcp", Err: errBoom}
	errRead    = &net.OpError{Op: "read", Net: "tcp", Err: errBoom}
	errRefused = notAttempted{errBoom}
)

type notAttempted struct{ error }

func (notAttempted) NotAttempted() bool { return true }

// content is a body that counts how often it is closed.
type content struct {
	io.Reader
	closed int
}

func (c *content) Close() error { c.closed++; return nil }

func text(s string) *content { return &content{Reader: strings.NewReader(s)} }

func response(status int, field string, body io.ReadCloser) *http.Response {
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: body, ProtoMajor: 1}
	if field != "" {
		resp.Header.Set("Stormjib-Refusal", field)
	}
	return resp
}

// three is a balancer of three nodes, and key one that they have in the order of their names.
func three(t *testing.T, cfg hashring.BalancerConfig) (b *hashring.Balancer, key string) {
	t.Helper()
	ring, err := hashring.NewRing([]hashring.Node{{ID: "a:1"}, {ID: "b:1"}, {ID: "c:1"}},
		hashring.RingConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		key = fmt.Sprint("key-", i)
		nodes := ring.AppendHash(nil, ring.Hash(key), 3)
		if nodes[0].ID == "a:1" && nodes[1].ID == "b:1" {
			return hashring.NewBalancer(ring, cfg), key
		}
	}
}

// transport sends to what base says, by field Key.
func transport(b *hashring.Balancer, base roundTrip) *hashringhttp.Transport {
	return &hashringhttp.Transport{
		Base:     base,
		Balancer: func(*http.Request) *hashring.Balancer { return b },
		Key:      hashringhttp.Header("Key"),
	}
}

func request(t *testing.T, method, key string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://sessions/basket?of=1", body)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Key", key)
	}
	return r
}

// send sends a request, and is done with the response.
func send(tr http.RoundTripper, r *http.Request) (status int, err error) {
	resp, err := tr.RoundTrip(r)
	if resp == nil {
		return 0, err
	}
	if resp.Body != nil {
		resp.Body.Close()
	}
	return resp.StatusCode, err
}

func inFlight(t *testing.T, b *hashring.Balancer, want int) {
	t.Helper()
	if got := b.Stats().InFlight; got != want {
		t.Errorf("%d in flight, want %d", got, want)
	}
}

func failures(b *hashring.Balancer) (counts [3]int) {
	for i, n := range b.Stats().Nodes {
		counts[i] = n.Failures
	}
	return counts
}

// The node gets the request, as it is but for where it goes, and has the load until the body
// ends.
func TestTransport(t *testing.T) {
	for name, end := range map[string]func(io.ReadCloser){
		"closed":      func(c io.ReadCloser) { c.Close(); c.Close() },
		"read":        func(c io.ReadCloser) { io.ReadAll(c) },
		"read, close": func(c io.ReadCloser) { io.ReadAll(c); c.Close() },
	} {
		b, key := three(t, hashring.BalancerConfig{})
		r := request(t, http.MethodPost, key, strings.NewReader("order"))
		r.Host = "" // then it is that of the URL
		before := r.URL.String()
		tr := transport(b, func(got *http.Request) (*http.Response, error) {
			if got.URL.String() != "http://a:1/basket?of=1" || got.Host != "sessions" ||
				got.Header.Get("Stormjib-Attempt") != "" || got.Body != r.Body {
				t.Errorf("%s: sent to %s, %s: %v", name, got.URL, got.Host, got.Header)
			}
			inFlight(t, b, 1)
			resp := response(http.StatusOK, "", text("basket"))
			resp.Request = got
			return resp, nil
		})
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		inFlight(t, b, 1)
		end(resp.Body)
		inFlight(t, b, 0)
		resp.Body.Close()
		if resp.Request != r || r.URL.String() != before || r.Host != "" {
			t.Errorf("%s: the request has changed, or the response is to another", name)
		}
	}
}

// A response without a body is no load, whatever its body is.
func TestTransportWithoutBody(t *testing.T) {
	for _, test := range []struct {
		method string
		status int
		body   io.ReadCloser
	}{
		{http.MethodHead, 200, text("")},
		{http.MethodGet, 204, text("")},
		{http.MethodGet, 304, text("")},
		{http.MethodGet, 200, http.NoBody},
		{http.MethodGet, 200, nil},
	} {
		b, key := three(t, hashring.BalancerConfig{})
		resp, err := transport(b, func(*http.Request) (*http.Response, error) {
			return response(test.status, "", test.body), nil
		}).RoundTrip(request(t, test.method, key, http.NoBody))
		if err != nil || resp.Body != test.body {
			t.Errorf("%+v: %v, another body", test, err)
		}
		inFlight(t, b, 0)
		if resp.Body != nil {
			resp.Body.Close()
		}
	}
}

// One without a key goes to any node.
func TestTransportWithoutKey(t *testing.T) {
	b, _ := three(t, hashring.BalancerConfig{})
	seen := map[string]int{}
	tr := transport(b, func(r *http.Request) (*http.Response, error) {
		seen[r.URL.Host]++
		return response(http.StatusOK, "", nil), nil
	})
	for range 300 {
		if _, err := send(tr, request(t, http.MethodGet, "", nil)); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 3 || seen["a:1"] < 30 || seen["b:1"] < 30 || seen["c:1"] < 30 {
		t.Errorf("%v", seen)
	}
}

// result is what a node makes of a request.
type result struct {
	status int
	field  string
	err    error
}

const replica, service = "full;scope=replica", "open;scope=service"

func TestTransportSecondNode(t *testing.T) {
	ok := result{status: http.StatusOK}
	refused := result{status: http.StatusServiceUnavailable, field: replica}
	for _, test := range []struct {
		name   string
		method string
		body   string // "-": one that cannot be had again
		first  result
		second bool
	}{
		{"success", "GET", "", ok, false},
		{"not found", "GET", "", result{status: 404}, false},
		{"cannot be reached", "GET", "", result{err: errDial}, true},
		{"cannot be reached, wrapped", "GET", "", result{err: fmt.Errorf("a: %w", errDial)}, true},
		{"POST, cannot be reached", "POST", "", result{err: errDial}, true},
		{"POST with a body, cannot be reached", "POST", "order", result{err: errDial}, true},
		{"POST with a body that is gone", "POST", "-", result{err: errDial}, false},
		{"not sent", "POST", "order", result{err: errRefused}, true},
		{"breaks", "GET", "", result{err: errRead}, false},
		{"one of two breaks", "GET", "", result{err: errors.Join(errRead, errDial)}, false},
		{"fails", "GET", "", result{err: errBoom}, false},
		{"permanent", "GET", "", result{err: retry.Permanent(errRefused)}, false},
		{"refused", "GET", "", refused, true},
		{"refused with a body", "PUT", "order", refused, true},
		{"refused with a body that is gone", "PUT", "-", refused, false},
		{"POST refused", "POST", "", refused, false},
		{"429 refused", "GET", "", result{status: 429, field: "limit;scope=replica"}, true},
		{"by the service", "GET", "", result{status: 503, field: service}, false},
		{"forbidden", "GET", "", result{status: 503, field: replica + ";retry=?0"}, false},
		{"given up", "GET", "", result{status: 503, field: "failed;scope=replica"}, false},
		{"503", "GET", "", result{status: 503}, false},
		{"nothing", "GET", "", result{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, key := three(t, hashring.BalancerConfig{FailureHold: time.Hour})
			var hosts, bodies, numbers []string
			refusal := text("come later")
			tr := transport(b, func(r *http.Request) (*http.Response, error) {
				hosts = append(hosts, r.URL.Host)
				numbers = append(numbers, r.Header.Get("Stormjib-Attempt"))
				if r.Body != nil {
					sent, _ := io.ReadAll(r.Body)
					r.Body.Close()
					bodies = append(bodies, string(sent))
				}
				switch {
				case len(hosts) > 1:
					return response(http.StatusOK, "", text("basket")), nil
				case test.first.status == 0:
					return nil, test.first.err
				}
				return response(test.first.status, test.first.field, refusal), nil
			})
			r := request(t, test.method, key, nil)
			switch test.body {
			case "":
			case "-":
				r.Body = text("order")
			default:
				r = request(t, test.method, key, strings.NewReader(test.body))
			}
			resp, err := tr.RoundTrip(r)
			want := 1
			if test.second {
				want = 2
			}
			if len(hosts) != want || hosts[0] != "a:1" || test.second && hosts[1] != "b:1" {
				t.Fatalf("asked %v", hosts)
			}
			if test.second && (numbers[1] != "2" || err != nil || resp.Body == refusal) {
				t.Errorf("attempt %q: %v, %v", numbers[1], resp, err)
			}
			for _, got := range bodies {
				if test.body != "-" && got != test.body {
					t.Errorf("sent %q, want %q", got, test.body)
				}
			}
			if !test.second && test.first.err != err {
				t.Errorf("got %v, want %v untouched", err, test.first.err)
			}
			if test.second && test.first.status != 0 && refusal.closed != 1 {
				t.Errorf("the refusal was closed %d times", refusal.closed)
			}
			if resp != nil {
				resp.Body.Close()
			}
			inFlight(t, b, 0)
			failed := 1
			if s := test.first.status; s == http.StatusOK || s == http.StatusNotFound {
				failed = 0
			}
			if got := failures(b); got != [3]int{failed, 0, 0} {
				t.Errorf("the nodes have %v failures, want %d", got, failed)
			}
			if r.Header.Get("Stormjib-Attempt") != "" {
				t.Error("the caller's header has changed")
			}
		})
	}
}

// Two nodes are asked and no third; what the second says is the answer.
func TestTransportNoThirdNode(t *testing.T) {
	b, key := three(t, hashring.BalancerConfig{})
	var hosts []string
	tr := transport(b, func(r *http.Request) (*http.Response, error) {
		hosts = append(hosts, r.URL.Host)
		return nil, fmt.Errorf("%s: %w", r.URL.Host, errDial)
	})
	r := request(t, http.MethodGet, key, nil)
	r.Header.Set("Stormjib-Attempt", "3") // of a retry around it
	_, err := send(tr, r)
	if err == nil || !strings.HasPrefix(err.Error(), "b:1") || len(hosts) != 2 {
		t.Errorf("asked %v: %v", hosts, err)
	}
	inFlight(t, b, 0)
}

func TestTransportAttemptNumber(t *testing.T) {
	b, key := three(t, hashring.BalancerConfig{})
	last := ""
	tr := transport(b, func(r *http.Request) (*http.Response, error) {
		last = r.Header.Get("Stormjib-Attempt")
		return nil, errDial
	})
	r := request(t, http.MethodGet, key, nil)
	r.Header.Set("Stormjib-Attempt", "3")
	_, _ = send(tr, r)
	if last != "4" {
		t.Errorf("the second node is told attempt %q", last)
	}
}

// Without tokens the first answer is the last. In a total outage a tenth more is all there is.
func TestTransportBudget(t *testing.T) {
	for _, given := range []hashringhttp.Budget{nil, &retry.Budget{Floor: -1}} {
		b, key := three(t, hashring.BalancerConfig{FailureHold: -1})
		asked, down := 0, true
		tr := transport(b, func(*http.Request) (*http.Response, error) {
			if asked++; down {
				return nil, errDial
			}
			return response(http.StatusOK, "", nil), nil
		})
		tr.Budget = given
		ask := func(n int) int {
			asked = 0
			for range n {
				_, _ = send(tr, request(t, http.MethodGet, key, nil))
			}
			return asked - n
		}
		if got := ask(100); got != 3 {
			t.Errorf("%T: %d second nodes in an outage, want 3", given, got)
		}
		down = false
		ask(9)
		down = true
		if got := ask(10); got != 0 {
			t.Errorf("%T: %d second nodes after 9 successes", given, got)
		}
		down = false
		ask(1)
		down = true
		if got := ask(10); got != 1 {
			t.Errorf("%T: %d second nodes after 10 successes", given, got)
		}
		down = false
		ask(1000)
		down = true
		if got := ask(10); got != 3 {
			t.Errorf("%T: %d second nodes, of a full budget", given, got)
		}
		inFlight(t, b, 0)
	}
}

// What is down is passed over, and costs no budget. That all are down is not believed.
func TestTransportDown(t *testing.T) {
	b, key := three(t, hashring.BalancerConfig{})
	down, dead := map[string]bool{}, ""
	var hosts []string
	tr := transport(b, func(r *http.Request) (*http.Response, error) {
		hosts = append(hosts, r.URL.Host)
		if r.URL.Host == dead {
			return nil, errDial
		}
		return response(http.StatusOK, "", nil), nil
	})
	tr.Down = func(n hashring.Node) bool { return down[n.ID] }
	for _, test := range []struct{ down, dead, want string }{
		{"", "", "a:1"},
		{"a:1", "", "b:1"},
		{"a:1 b:1", "", "c:1"},
		{"a:1 b:1 c:1", "", "a:1"},
		{"b:1", "a:1", "a:1 c:1"},
		{"b:1 c:1", "a:1", "a:1"},
		{"", "a:1", "a:1 b:1"},
	} {
		clear(down)
		for id := range strings.FieldsSeq(test.down) {
			down[id] = true
		}
		hosts, dead = nil, test.dead
		_, _ = send(tr, request(t, http.MethodGet, key, nil))
		if got := strings.Join(hosts, " "); got != test.want {
			t.Errorf("with %q down and %q dead asked %q, want %q",
				test.down, test.dead, got, test.want)
		}
	}
}

// An empty or failed list of nodes leaves what there is.
func TestTransportKeepsNodes(t *testing.T) {
	b, key := three(t, hashring.BalancerConfig{})
	empty, err := hashring.NewTable(nil, hashring.TableConfig{})
	if !errors.Is(err, hashring.ErrNoNodes) || !errors.Is(b.Set(empty), hashring.ErrNoNodes) {
		t.Fatal("the list was taken")
	}
	host := ""
	_, err = send(transport(b, func(r *http.Request) (*http.Response, error) {
		host = r.URL.Host
		return response(http.StatusOK, "", nil), nil
	}), request(t, http.MethodGet, key, nil))
	if err != nil || host != "a:1" {
		t.Errorf("%q, %v", host, err)
	}
}

// What is hot has several nodes, and addresses are what Address says.
func TestTransportOwnersAndAddress(t *testing.T) {
	b, key := three(t, hashring.BalancerConfig{})
	seen := map[string]int{}
	tr := transport(b, func(r *http.Request) (*http.Response, error) {
		seen[r.URL.Host]++
		return response(http.StatusOK, "", nil), nil
	})
	tr.Owners = func(_ *http.Request, got string) int {
		if got != key {
			t.Errorf("asked about %q", got)
		}
		return 2
	}
	tr.Address = func(n hashring.Node) string { return n.ID[:1] + ".internal:8080" }
	for range 10 {
		_, _ = send(tr, request(t, http.MethodGet, key, nil))
	}
	if len(seen) != 2 || seen["a.internal:8080"] != 5 || seen["b.internal:8080"] != 5 {
		t.Errorf("%v", seen)
	}
}

func TestTransportRefuses(t *testing.T) {
	b, _ := three(t, hashring.BalancerConfig{Eligible: func(hashring.Node) bool { return false }})
	unused := roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("it was sent")
		return nil, errBoom
	})
	get := func(*http.Request) *hashring.Balancer { return b }
	for _, test := range []struct {
		tr   *hashringhttp.Transport
		url  *url.URL
		want string
	}{
		{transport(b, unused), &url.URL{}, "hashring: no eligible node"},
		{
			&hashringhttp.Transport{Key: hashringhttp.Header("Key")}, &url.URL{},
			"hashringhttp: Transport.Balancer is nil",
		},
		{&hashringhttp.Transport{Balancer: get}, &url.URL{}, "hashringhttp: Transport.Key is nil"},
		{transport(b, unused), nil, "hashringhttp: nil Request.URL"},
	} {
		body := text("order")
		_, err := send(test.tr, &http.Request{URL: test.url, Body: body})
		if err == nil || err.Error() != test.want || body.closed != 1 {
			t.Errorf("got %v, and closed %d times, want %s", err, body.closed, test.want)
		}
	}
	client := &http.Client{Transport: transport(b, unused)}
	resp, err := client.Get("http://sessions/")
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, hashring.ErrUnavailable) || !stormjib.NotAttempted(err) {
		t.Errorf("got %v", err)
	}
}

func TestTransportWithoutBalancer(t *testing.T) {
	r := request(t, http.MethodGet, "", nil)
	_, err := send(transport(nil, func(got *http.Request) (*http.Response, error) {
		if got != r {
			t.Error("another request")
		}
		return response(http.StatusOK, "", nil), nil
	}), r)
	if err != nil {
		t.Error(err)
	}
}

// However an attempt ends, the load of it does.
func TestTransportEnds(t *testing.T) {
	for name, end := range map[string]func(){
		"panic": func() { panic("boom") }, "goexit": runtime.Goexit,
	} {
		for at := 1; at <= 2; at++ {
			b, key := three(t, hashring.BalancerConfig{})
			asked := 0
			tr := transport(b, func(*http.Request) (*http.Response, error) {
				if asked++; asked == at {
					end()
				}
				return nil, errDial
			})
			var wg sync.WaitGroup
			wg.Go(func() {
				defer func() {
					if v := recover(); v != nil && v != "boom" {
						t.Errorf("%s: recovered %v", name, v)
					}
				}()
				_, _ = send(tr, request(t, http.MethodGet, key, nil))
				t.Errorf("%s: it returned", name)
			})
			wg.Wait()
			inFlight(t, b, 0)
		}
	}
}

// A body that cannot be had again leaves the first answer, and nothing behind.
func TestTransportGetBodyFails(t *testing.T) {
	for _, end := range []func(){func() {}, func() { panic("boom") }} {
		b, key := three(t, hashring.BalancerConfig{})
		r := request(t, http.MethodPut, key, strings.NewReader("order"))
		r.GetBody = func() (io.ReadCloser, error) { end(); return nil, errBoom }
		func() {
			defer func() { _ = recover() }()
			_, err := send(transport(b, func(*http.Request) (*http.Response, error) {
				return nil, errDial
			}), r)
			if err != errDial {
				t.Errorf("got %v", err)
			}
		}()
		inFlight(t, b, 0)
	}
}

// A caller that has left gets no second node, and its node is not to blame.
func TestTransportCancelled(t *testing.T) {
	b, key := three(t, hashring.BalancerConfig{FailureHold: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	_, err := send(transport(b, func(*http.Request) (*http.Response, error) {
		asked++
		cancel()
		return nil, errDial
	}), request(t, http.MethodGet, key, nil).WithContext(ctx))
	if err != errDial || asked != 1 || failures(b) != [3]int{} {
		t.Errorf("got %v after %d nodes; failures %v", err, asked, failures(b))
	}
}

// What fails can be said otherwise.
func TestTransportFailed(t *testing.T) {
	b, key := three(t, hashring.BalancerConfig{FailureHold: time.Hour})
	status := 0
	tr := transport(b, func(*http.Request) (*http.Response, error) {
		return response(status, "", nil), nil
	})
	tr.Failed = func(resp *http.Response) bool { return resp.StatusCode == http.StatusTeapot }
	for _, status = range []int{503, http.StatusTeapot, 200} {
		_, _ = send(tr, request(t, http.MethodGet, key, nil))
	}
	if got := failures(b); got != [3]int{1, 0, 0} {
		t.Errorf("failures %v", got)
	}
}

// Idempotent is asked only about what a node has answered.
func TestTransportIdempotent(t *testing.T) {
	b, key := three(t, hashring.BalancerConfig{})
	asked := 0
	tr := transport(b, func(*http.Request) (*http.Response, error) {
		if asked++; asked == 1 {
			return response(503, replica, nil), nil
		}
		return response(200, "", nil), nil
	})
	tr.Idempotent = func(r *http.Request) bool { return r.Method == http.MethodPost }
	status, err := send(tr, request(t, http.MethodPost, key, nil))
	if err != nil || status != http.StatusOK {
		t.Errorf("a POST that is idempotent: %v, %v", status, err)
	}
	for method, want := range map[string]bool{
		"": true, "GET": true, "PUT": true, "POST": false,
		"PATCH": false, "QUERY": true,
	} {
		r := request(t, method, "", nil)
		if got := hashringhttp.Idempotent(r); got != want {
			t.Errorf("%s: %t", method, got)
		}
		r.Header.Set("Idempotency-Key", "7")
		if !hashringhttp.Idempotent(r) {
			t.Errorf("%s with a key", method)
		}
	}
}

type idler struct {
	http.RoundTripper
	closed int
}

func (i *idler) CloseIdleConnections() { i.closed++ }

func TestTransportCloseIdleConnections(t *testing.T) {
	base := &idler{}
	(&http.Client{Transport: &hashringhttp.Transport{Base: base}}).CloseIdleConnections()
	if base.closed != 1 {
		t.Errorf("passed on %d times, want once", base.closed)
	}
	(&hashringhttp.Transport{Base: roundTrip(nil)}).CloseIdleConnections() // can't, and need not
}

// A refusal whose body hangs costs a moment, and no more.
func TestTransportDiscards(t *testing.T) {
	b, key := three(t, hashring.BalancerConfig{})
	hanging, stuck := net.Pipe()
	defer stuck.Close()
	asked := 0
	resp, err := transport(b, func(*http.Request) (*http.Response, error) {
		if asked++; asked == 1 {
			return response(503, replica, hanging), nil
		}
		return response(200, "", text("basket")), nil
	}).RoundTrip(request(t, http.MethodGet, key, nil))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	inFlight(t, b, 1)
	resp.Body.Close()
	inFlight(t, b, 0)
}

func TestTransportAllocations(t *testing.T) {
	b, key := three(t, hashring.BalancerConfig{})
	base := func(*http.Request) (*http.Response, error) {
		return response(http.StatusOK, "", nil), nil
	}
	tr, r := transport(b, base), request(t, http.MethodGet, key, nil)
	least := testing.AllocsPerRun(200, func() { _, _ = send(roundTrip(base), r) })
	got := testing.AllocsPerRun(200, func() { _, _ = send(tr, r) })
	if got > least+2 { // the request and its URL
		t.Errorf("%v allocations, want 2", got-least)
	}
}
