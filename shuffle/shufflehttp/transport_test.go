package shufflehttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/shuffle"
	"github.com/stormjib/stormjib/shuffle/shufflehttp"
)

var _ shufflehttp.Budget = (*retry.Budget)(nil)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var (
	errBoom    = errors.New("boom")
	errDial    = &net.OpError{Op: "dial", Net: "tcp", Err: errBoom}
	errRead    = &net.OpError{Op: "read", Net: "tcp", Err: errBoom}
	errRefused = notAttempted{errBoom}
	errFinal   = final{errDial}
)

type notAttempted struct{ error }

func (notAttempted) NotAttempted() bool { return true }

type final struct{ error }

func (e final) Unwrap() error { return e.error }

func (final) Retryable() bool { return false }

// content is a body that counts how often it is closed.
type content struct {
	io.Reader
	closed int
}

func (c *content) Close() error { c.closed++; return nil }

func response(status int, field string) *http.Response {
	body := &content{Reader: strings.NewReader("x")}
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: body, ProtoMajor: 1}
	if field != "" {
		resp.Header.Set("Stormjib-Refusal", field)
	}
	return resp
}

func closedTimes(resp *http.Response) int {
	c, ok := resp.Body.(*content)
	if !ok {
		return -1
	}
	return c.closed
}

func newSharder(t *testing.T, cfg shuffle.Config) *shuffle.Sharder {
	t.Helper()
	var nodes []shuffle.Node
	for i := range 9 {
		nodes = append(nodes, shuffle.Node{ID: fmt.Sprintf("node-%d:80", i)})
	}
	s, err := shuffle.New(nodes, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// transport sends to what base says, by field Tenant.
func transport(s *shuffle.Sharder, base roundTrip) *shufflehttp.Transport {
	return &shufflehttp.Transport{
		Base:    base,
		Sharder: func(*http.Request) *shuffle.Sharder { return s },
		Tenant:  shufflehttp.Header("tenant"),
		Budget:  &purse{tokens: 1 << 30},
	}
}

// purse is a budget that counts.
type purse struct{ tokens, taken, successes int }

func (p *purse) Take() bool {
	if p.tokens == 0 {
		return false
	}
	p.tokens--
	p.taken++
	return true
}

func (p *purse) Success() { p.successes++ }

func request(t *testing.T, method, tenant string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://workers/job?of=1", body)
	if err != nil {
		t.Fatal(err)
	}
	if tenant != "" {
		r.Header.Set("Tenant", tenant)
	}
	return r
}

// send sends a request, and is done with the response.
func send(tr http.RoundTripper, r *http.Request) (status int, err error) {
	resp, err := tr.RoundTrip(r)
	if resp == nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, err
}

func hosts(s *shuffle.Sharder, tenant string) []string {
	var ids []string
	for _, n := range s.Shard(tenant) {
		ids = append(ids, n.ID)
	}
	return slices.Sorted(slices.Values(ids))
}

// A request goes to its tenant's shard, to all of it in turn, and as it is.
func TestTransport(t *testing.T) {
	s := newSharder(t, shuffle.Config{})
	for tenant, tell := range map[string]func(*http.Request) *http.Request{
		"acme": func(r *http.Request) *http.Request { r.Header.Set("Tenant", "acme"); return r },
		"ctx": func(r *http.Request) *http.Request {
			return r.WithContext(stormjib.WithTenant(r.Context(), "ctx"))
		},
		"": func(r *http.Request) *http.Request { return r },
	} {
		seen := map[string]int{}
		tr := transport(s, func(got *http.Request) (*http.Response, error) {
			seen[got.URL.Host]++
			if got.Host != "workers" || got.URL.RequestURI() != "/job?of=1" ||
				got.Header.Get("Stormjib-Attempt") != "" {
				t.Errorf("sent to %s, %s: %v", got.URL, got.Host, got.Header)
			}
			resp := response(http.StatusOK, "")
			resp.Request = got
			return resp, nil
		})
		if tenant == "ctx" {
			tr.Tenant = nil
		}
		for range 300 {
			r := tell(request(t, http.MethodPost, "", strings.NewReader("x")))
			resp, err := tr.RoundTrip(r)
			if err != nil || resp.Request != r || r.URL.Host != "workers" ||
				closedTimes(resp) != 0 {
				t.Fatalf("%v, %v", resp, err)
			}
			resp.Body.Close()
		}
		if len(seen) != 3 {
			t.Errorf("%q: %v", tenant, seen)
		}
		for _, host := range hosts(s, tenant) {
			if seen[host] < 60 {
				t.Errorf("%q: %v, of %v", tenant, seen, hosts(s, tenant))
			}
		}
		if got := tr.Budget; got.(*purse).successes != 300 || got.(*purse).taken != 0 {
			t.Errorf("%q: %+v", tenant, got)
		}
	}
}

// What may go on to another member does, until all have failed; and nothing else.
func TestTransportNext(t *testing.T) {
	post, put, withBody := http.MethodPost, http.MethodPut, "body"
	for _, test := range []struct {
		name, method, body string
		err                error
		status             int
		field              string
		sent, taken        int
	}{
		{"no connection", post, "", errDial, 0, "", 3, 0},
		{"no connection, a body", post, withBody, errDial, 0, "", 3, 0},
		{"no connection, wrapped", put, "", fmt.Errorf("x: %w", errDial), 0, "", 3, 0},
		{"refused here", post, withBody, errRefused, 0, "", 3, 0},
		{"lost", post, "", errRead, 0, "", 1, 0},
		{"lost, idempotent", put, withBody, errRead, 0, "", 3, 2},
		{"forbidden", put, "", errFinal, 0, "", 1, 0},
		{"502", put, withBody, nil, 502, "", 3, 2},
		{"503", put, "", nil, 503, "", 3, 2},
		{"504", http.MethodGet, "", nil, 504, "", 3, 2},
		{"503, not idempotent", post, "", nil, 503, "", 1, 0},
		{"500", put, "", nil, 500, "", 1, 0},
		{"refused there", put, "", nil, 429, "shed;scope=replica", 3, 2},
		{"refused for the service", put, "", nil, 429, "limit;scope=service", 1, 0},
		{"not again", put, "", nil, 503, "shed;scope=replica;retry=?0", 1, 0},
		{"gave up", put, "", nil, 503, "failed;scope=replica;retry=?0", 1, 0},
	} {
		s, budget := newSharder(t, shuffle.Config{}), &purse{tokens: 9}
		var sent []string
		var answers []*http.Response
		tr := transport(s, func(r *http.Request) (*http.Response, error) {
			want := ""
			if n := budget.taken; n > 0 {
				want = fmt.Sprint(n + 1)
			}
			if got := r.Header.Get("Stormjib-Attempt"); got != want {
				t.Errorf("%s: attempt %q, want %q", test.name, got, want)
			}
			if text, _ := io.ReadAll(r.Body); string(text) != test.body {
				t.Errorf("%s: body %q", test.name, text)
			}
			sent = append(sent, r.URL.Host)
			if test.err != nil {
				return nil, test.err
			}
			answers = append(answers, response(test.status, test.field))
			return answers[len(answers)-1], nil
		})
		tr.Budget = budget
		resp, err := tr.RoundTrip(request(t, test.method, "acme", strings.NewReader(test.body)))
		slices.Sort(sent)
		if err != test.err || len(sent) != test.sent || budget.taken != test.taken ||
			(budget.successes != 0) != (test.status == 500) ||
			len(sent) == 3 && !slices.Equal(sent, hosts(s, "acme")) {
			t.Errorf("%s: sent to %v for %+v, got %v", test.name, sent, budget, err)
		}
		for i, answer := range answers {
			last := i == len(answers)-1
			if last != (closedTimes(answer) == 0) || last && answer != resp {
				t.Errorf("%s: answer %d of %d closed %d times",
					test.name, i, len(answers), closedTimes(answer))
			}
		}
		if resp != nil {
			resp.Body.Close()
		}
	}
}

// One member that fails is all that a request notices; the budget has no success for it.
func TestTransportAround(t *testing.T) {
	s := newSharder(t, shuffle.Config{})
	bad := hosts(s, "acme")[1]
	budget, others := &purse{tokens: 1000}, 0
	tr := transport(s, func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == bad {
			return nil, errRead
		}
		others++
		return response(http.StatusOK, ""), nil
	})
	tr.Budget = budget
	for range 600 {
		resp, err := tr.RoundTrip(request(t, http.MethodGet, "acme", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if others != 600 || budget.taken+budget.successes != 600 || budget.taken < 120 ||
		budget.taken > 280 {
		t.Errorf("%d, %+v", others, budget)
	}
}

// Without tokens, what the last one said is what the caller gets.
func TestTransportBudget(t *testing.T) {
	s, sent := newSharder(t, shuffle.Config{}), 0
	tr := transport(s, func(*http.Request) (*http.Response, error) {
		sent++
		return response(http.StatusServiceUnavailable, ""), nil
	})
	tr.Budget = nil // three to begin with
	for i, want := range []int{3, 2, 1, 1} {
		sent = 0
		resp, err := tr.RoundTrip(request(t, http.MethodGet, "acme", nil))
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable ||
			closedTimes(resp) != 0 || sent != want {
			t.Errorf("request %d: sent to %d, want %d: %v, %v", i, sent, want, resp, err)
		}
		resp.Body.Close()
	}
}

// Who is known to be down is passed over, unless that is all of them.
func TestTransportDown(t *testing.T) {
	s := newSharder(t, shuffle.Config{})
	shard, sent := hosts(s, "acme"), map[string]int{}
	down := shard[:1]
	tr := transport(s, func(r *http.Request) (*http.Response, error) {
		sent[r.URL.Host]++
		return response(http.StatusOK, ""), nil
	})
	tr.Address = func(n shuffle.Node) string { return "at." + n.ID }
	tr.Down = func(n shuffle.Node) bool { return slices.Contains(down, n.ID) }
	for range 100 {
		if _, err := send(tr, request(t, http.MethodGet, "acme", nil)); err != nil {
			t.Fatal(err)
		}
	}
	if sent["at."+shard[0]] != 0 || sent["at."+shard[1]]+sent["at."+shard[2]] != 100 {
		t.Errorf("%v", sent)
	}
	down = shard
	clear(sent)
	for range 100 {
		if _, err := send(tr, request(t, http.MethodGet, "acme", nil)); err != nil {
			t.Fatal(err)
		}
	}
	if len(sent) != 3 {
		t.Errorf("%v", sent)
	}
}

// A body that cannot be had again goes nowhere else.
func TestTransportBodyOnce(t *testing.T) {
	s, sent := newSharder(t, shuffle.Config{}), 0
	tr := transport(s, func(*http.Request) (*http.Response, error) {
		sent++
		return nil, errDial
	})
	r := request(t, http.MethodPut, "acme", io.MultiReader(strings.NewReader("x")))
	if _, err := send(tr, r); err != error(errDial) || sent != 1 {
		t.Errorf("sent to %d: %v", sent, err)
	}
	r = request(t, http.MethodPut, "acme", strings.NewReader("x"))
	r.GetBody = func() (io.ReadCloser, error) { return nil, errBoom }
	if _, err := send(tr, r); err != error(errDial) || sent != 2 {
		t.Errorf("sent to %d: %v", sent, err)
	}
}

// What was answered is not thrown away before there is a body for another.
func TestTransportBodyFails(t *testing.T) {
	tr := transport(newSharder(t, shuffle.Config{}), func(*http.Request) (*http.Response, error) {
		return response(http.StatusServiceUnavailable, ""), nil
	})
	r := request(t, http.MethodPut, "acme", strings.NewReader("x"))
	r.GetBody = func() (io.ReadCloser, error) { return nil, errBoom }
	resp, err := tr.RoundTrip(r)
	if err != nil || closedTimes(resp) != 0 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
}

// When the caller has gone, nobody else is asked.
func TestTransportCancelled(t *testing.T) {
	s, sent := newSharder(t, shuffle.Config{}), 0
	ctx, cancel := context.WithCancel(t.Context())
	tr := transport(s, func(*http.Request) (*http.Response, error) {
		sent++
		cancel()
		return nil, errRead
	})
	_, err := send(tr, request(t, http.MethodGet, "acme", nil).WithContext(ctx))
	if err != error(errRead) || sent != 1 {
		t.Errorf("sent to %d: %v", sent, err)
	}
}

// A node that hangs costs what the Base has for a timeout, and no more.
func TestTransportHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSharder(t, shuffle.Config{})
		hangs := hosts(s, "acme")[:2]
		tr := transport(s, func(r *http.Request) (*http.Response, error) {
			if !slices.Contains(hangs, r.URL.Host) {
				return response(http.StatusOK, ""), nil
			}
			select {
			case <-time.After(time.Second): // as ResponseHeaderTimeout
				return nil, errRead
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})
		for range 20 {
			begin := time.Now()
			resp, err := tr.RoundTrip(request(t, http.MethodGet, "acme", nil))
			if took := time.Since(begin); err != nil || took > 2*time.Second {
				t.Fatalf("%v after %v", err, took)
			}
			resp.Body.Close()
		}
		hangs = hosts(s, "acme")
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err := send(tr, request(t, http.MethodGet, "acme", nil).WithContext(ctx))
		if took := time.Since(begin); took != 1500*time.Millisecond ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// The fields decide what a failure is, and what may be sent twice.
func TestTransportFields(t *testing.T) {
	s, sent := newSharder(t, shuffle.Config{}), 0
	tr := transport(s, func(*http.Request) (*http.Response, error) {
		sent++
		return response(http.StatusTeapot, ""), nil
	})
	tr.Failed = func(r *http.Response) bool { return r.StatusCode == http.StatusTeapot }
	tr.Idempotent = func(r *http.Request) bool { return r.Method == http.MethodPost }
	for method, want := range map[string]int{http.MethodPost: 3, http.MethodGet: 1} {
		sent = 0
		resp, err := tr.RoundTrip(request(t, method, "acme", nil))
		if err != nil || sent != want {
			t.Errorf("%s: sent to %d, %v", method, sent, err)
			continue
		}
		resp.Body.Close()
	}
}

// What is missing is an error, and the body of the request is closed.
func TestTransportMisuse(t *testing.T) {
	for name, test := range map[string]struct {
		tr   *shufflehttp.Transport
		want string
	}{
		"no sharder": {&shufflehttp.Transport{}, "shufflehttp: Transport.Sharder is nil"},
		"no nodes": {
			transport(new(shuffle.Sharder), nil), `shufflehttp: tenant "acme": shuffle: no nodes`,
		},
		"no URL": {transport(newSharder(t, shuffle.Config{}), nil), "shufflehttp: nil Request.URL"},
	} {
		r := request(t, http.MethodPost, "acme", nil)
		body := &content{Reader: strings.NewReader("x")}
		if r.Body = body; name == "no URL" {
			r.URL = nil
		}
		_, err := send(test.tr, r)
		if err == nil || err.Error() != test.want || body.closed != 1 {
			t.Errorf("%s: %v, body closed %d times", name, err, body.closed)
		}
	}
	tr := transport(nil, func(r *http.Request) (*http.Response, error) {
		if r.URL.Host != "workers" {
			t.Errorf("sent to %s", r.URL)
		}
		return response(http.StatusOK, ""), nil
	})
	resp, err := tr.RoundTrip(request(t, http.MethodGet, "acme", nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	tr.CloseIdleConnections() // of which the Base knows nothing
	new(shufflehttp.Transport).CloseIdleConnections()
}

// A Base that breaks the rules, or does not come back, leaves nothing that is in the way of the
// next request.
func TestTransportBadBase(t *testing.T) {
	s := newSharder(t, shuffle.Config{})
	how, sent := "nothing", 0
	tr := transport(s, func(*http.Request) (*http.Response, error) {
		sent++
		switch how {
		case "panic":
			panic("boom")
		case "goexit":
			runtime.Goexit()
		case "both":
			return response(http.StatusOK, ""), errRead
		case "nothing":
			return nil, nil
		}
		return response(http.StatusOK, ""), nil
	})
	if status, err := send(tr, request(t, http.MethodGet, "acme", nil)); status != 0 || err != nil {
		t.Errorf("got %v, %v", status, err)
	}
	how = "both"
	resp, err := tr.RoundTrip(request(t, http.MethodGet, "acme", nil))
	if resp == nil || err != error(errRead) || sent != 2 || closedTimes(resp) != 0 {
		t.Fatalf("sent to %d: got %v, %v", sent, resp, err)
	}
	resp.Body.Close()
	for _, how = range []string{"panic", "goexit"} {
		done := make(chan any)
		go func() {
			defer func() { done <- recover() }()
			resp, err := tr.RoundTrip(request(t, http.MethodGet, "acme", nil))
			if err == nil {
				resp.Body.Close()
			}
		}()
		if got := <-done; (how == "panic") != (got == "boom") {
			t.Errorf("%s: recovered %v", how, got)
		}
	}
	how = ""
	if resp, err = tr.RoundTrip(request(t, http.MethodGet, "acme", nil)); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestHeader(t *testing.T) {
	r := request(t, http.MethodGet, "acme", nil)
	r.Header.Add("Tenant", "second")
	if got := shufflehttp.Header("tenant")(r); got != "acme" {
		t.Errorf("got %q", got)
	}
	if got := shufflehttp.Header("other")(r); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestIdempotent(t *testing.T) {
	for method, want := range map[string]bool{
		"GET": true, "HEAD": true, "PUT": true, "DELETE": true, "OPTIONS": true, "TRACE": true,
		"QUERY": true, "POST": false, "PATCH": false,
	} {
		r := request(t, method, "", nil)
		if got := shufflehttp.Idempotent(r); got != want {
			t.Errorf("%s: %v", method, got)
		}
		r.Header.Set("Idempotency-Key", "1")
		if !shufflehttp.Idempotent(r) {
			t.Errorf("%s with a key", method)
		}
	}
}
