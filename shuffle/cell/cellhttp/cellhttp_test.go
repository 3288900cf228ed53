package cellhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/cellhttp"
)

// snapshot is a map of two cells, all of whose tenants are in one.
func snapshot(version uint64, active, peer string, phase cell.Phase,
	addresses ...string,
) *cell.Snapshot {
	s := &cell.Snapshot{
		Version: version, Lease: 15 * time.Second,
		Cells: []cell.Cell{
			{ID: "a", Address: addresses[0], Replicas: []string{"a-1"}},
			{ID: "b", Address: addresses[1], Replicas: []string{"b-1"}},
		},
		Slots: []cell.Assignment{{Cell: active, Epoch: 1, Phase: phase, Peer: peer}},
	}
	if version > 1 {
		s.Slots[0].Epoch = version
	}
	return s
}

// router returns one that has a map, and no other.
func router(t *testing.T, s *cell.Snapshot, replica string) *cell.Router {
	t.Helper()
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	applied := make(chan struct{}, 1)
	r := cell.New(cell.Config{
		Source:  func(context.Context) ([]byte, error) { return b, nil },
		Replica: replica, Period: time.Hour,
		OnEvent: func(cell.Event) { applied <- struct{}{} },
	})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go r.Run(ctx)
	<-applied
	return r
}

// send returns the status alone; 0: there was no response.
func send(edge *cellhttp.Transport, r *http.Request) (status int, err error) {
	resp, err := edge.RoundTrip(r)
	if resp == nil {
		return 0, err
	}
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// misdirected is what a cell answers that no longer has the tenant.
func misdirected(epoch, cell string) *http.Response {
	h := http.Header{hop.EpochField: {epoch}, hop.CellField: {cell}}
	return &http.Response{StatusCode: http.StatusMisdirectedRequest, Header: h, Body: http.NoBody}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// cells are two replicas, each behind a gate, that play the network.
type cells struct {
	handlers map[string]http.Handler // by host
	asked    []string
}

func (c *cells) RoundTrip(r *http.Request) (*http.Response, error) {
	c.asked = append(c.asked, r.URL.Host)
	h, ok := c.handlers[r.URL.Host]
	if !ok {
		return nil, fmt.Errorf("no route to %s", r.URL.Host)
	}
	w := httptest.NewRecorder()
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	h.ServeHTTP(w, in)
	if r.Body != nil {
		r.Body.Close()
	}
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// echo answers with the cell, and the body.
func echo(id string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %q %v", id, r.Host, r.URL, body, err)
	})
}

func newCells(t *testing.T, inside *cell.Snapshot) *cells {
	t.Helper()
	c := &cells{handlers: map[string]http.Handler{}}
	for _, id := range []string{"a", "b"} {
		g := cell.NewGate(cell.GateConfig{Cell: id, Router: router(t, inside, id+"-1")})
		c.handlers[id+":80"] = (&cellhttp.Middleware{Gate: g}).Handler(echo(id))
	}
	return c
}

func request(t *testing.T, method, tenant string, body io.Reader) *http.Request {
	t.Helper()
	ctx := stormjib.WithTenant(t.Context(), tenant)
	r, err := http.NewRequestWithContext(ctx, method, "http://service/x?y=z", body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return string(b)
}

// A tenant has moved, and the edge has not heard of it.
func TestMoved(t *testing.T) {
	old := snapshot(1, "a", "", cell.Stable, "a:80", "b:80")
	now := snapshot(3, "b", "a", cell.Draining, "a:80", "b:80")
	length := func(n int64) func(*http.Request) {
		return func(r *http.Request) { r.ContentLength = n }
	}
	for _, test := range []struct {
		name   string
		method string
		body   io.Reader
		change func(*http.Request)
		status int
		asked  string
		answer string
	}{
		{"a read", "GET", nil, nil, 200, "a:80 b:80", `b service http://b:80/x?y=z "" <nil>`},
		{
			"a write whose body can be had again", "POST", strings.NewReader("text"), nil,
			200, "a:80 b:80", `b service http://b:80/x?y=z "text" <nil>`,
		},
		{
			"one that is kept", "POST", io.MultiReader(strings.NewReader("text")), length(4),
			200, "a:80 b:80", `b service http://b:80/x?y=z "text" <nil>`,
		},
		{
			"one without a length", "POST", io.MultiReader(strings.NewReader("text")), length(-1),
			421, "a:80", "",
		},
		{
			"one that is too large", "POST", io.MultiReader(strings.NewReader("text")),
			length(65 << 10),
			421, "a:80", "",
		},
	} {
		c := newCells(t, now)
		edge := &cellhttp.Transport{Base: c, Router: router(t, old, "")}
		r := request(t, test.method, "acme", test.body)
		if test.change != nil {
			test.change(r)
		}
		resp, err := edge.RoundTrip(r)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		got := text(t, resp)
		if resp.StatusCode != test.status || strings.Join(c.asked, " ") != test.asked ||
			test.answer != "" && got != test.answer {
			t.Errorf("%s: %d, asked %s: %s", test.name, resp.StatusCode, c.asked, got)
		}
		if resp.Request != r {
			t.Errorf("%s: another request comes back", test.name)
		}
		if test.status == http.StatusMisdirectedRequest &&
			(resp.Header.Get(hop.EpochField) != "3" ||
				resp.Header.Get(hop.CellField) != `"b"` ||
				resp.Header.Get(hop.RefusalField) != "moved;scope=replica") {
			t.Errorf("%s: %v", test.name, resp.Header)
		}
	}
}

// What is no reason to ask a second cell: each is asked once.
func TestOnce(t *testing.T) {
	here := snapshot(2, "a", "", cell.Stable, "a:80", "b:80")
	for name, answer := range map[string]http.Header{
		"a 421 of somebody else":   {},
		"an epoch that is no news": {hop.EpochField: {"2"}, hop.CellField: {`"b"`}},
		"an earlier one":           {hop.EpochField: {"1"}, hop.CellField: {`"b"`}},
		"a cell that is not known": {hop.EpochField: {"9"}, hop.CellField: {`"c"`}},
		"no cell":                  {hop.EpochField: {"9"}},
		"an epoch that is none":    {hop.EpochField: {"x"}, hop.CellField: {`"b"`}},
	} {
		asked := 0
		edge := &cellhttp.Transport{
			Router: router(t, here, ""),
			Base: roundTrip(func(*http.Request) (*http.Response, error) {
				asked++
				return &http.Response{
					StatusCode: http.StatusMisdirectedRequest, Header: answer,
					Body: http.NoBody,
				}, nil
			}),
		}
		status, err := send(edge, request(t, "GET", "acme", nil))
		if err != nil || status != http.StatusMisdirectedRequest || asked != 1 {
			t.Errorf("%s: %d, %v, asked %d times", name, status, err, asked)
		}
	}

	// Twice at most: cells that send a request back and forth do so once.
	asked := 0
	edge := &cellhttp.Transport{
		Router: router(t, here, ""),
		Base: roundTrip(func(*http.Request) (*http.Response, error) {
			asked++
			h := http.Header{hop.EpochField: {fmt.Sprint(10 + asked)}, hop.CellField: {`"b"`}}
			return &http.Response{
				StatusCode: http.StatusMisdirectedRequest, Header: h,
				Body: http.NoBody,
			}, nil
		}),
	}
	if _, err := send(edge, request(t, "GET", "acme", nil)); err != nil || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}

	// A cell that cannot be reached is no reason to go to another.
	c := &cells{}
	edge.Base = c
	if status, err := send(edge, request(t, "GET", "acme", nil)); err == nil || status != 0 ||
		len(c.asked) != 1 {
		t.Errorf("%d, %v, asked %v", status, err, c.asked)
	}
}

// A 421 has the router asked for a pull; what it knows by then, if it is later, counts for
// more than what the cell has said. The answer that nobody wants is done with.
func TestTheRouterIsAsked(t *testing.T) {
	var s atomic.Pointer[cell.Snapshot]
	s.Store(snapshot(1, "a", "", cell.Stable, "a:80", "b:80"))
	pulled := make(chan struct{})
	r := cell.New(cell.Config{
		Source:  func(context.Context) ([]byte, error) { return s.Load().Encode() },
		OnEvent: func(cell.Event) { pulled <- struct{}{} },
		Period:  10 * time.Millisecond,
	})
	go r.Run(t.Context())
	<-pulled
	answer := &closes{Reader: strings.NewReader("{}")}
	sent := &closes{Reader: strings.NewReader("text")}
	asked := ""
	edge := &cellhttp.Transport{Router: r}
	edge.Base = roundTrip(func(q *http.Request) (*http.Response, error) {
		asked += q.URL.Host + " " + q.Header.Get(hop.EpochField) + " "
		b, err := io.ReadAll(q.Body)
		if string(b) != "text" || err != nil || !sent.closed {
			t.Errorf("%q, %v, and the caller's is closed: %t", b, err, sent.closed)
		}
		if q.URL.Host == "b:80" {
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}
		s.Store(snapshot(5, "b", "", cell.Stable, "a:80", "b:80"))
		r.Refresh()
		<-pulled
		resp := misdirected("3", `"unknown"`)
		resp.Body = answer
		return resp, nil
	})
	q := request(t, "POST", "acme", sent)
	q.ContentLength = 4
	if status, err := send(edge, q); status != http.StatusOK || err != nil || !answer.closed {
		t.Errorf("%d, %v, and the answer is closed: %t", status, err, answer.closed)
	}
	if asked != "a:80 1 b:80 5 " {
		t.Errorf("asked %s", asked)
	}
}

func TestA421AsksForAPull(t *testing.T) {
	s := snapshot(1, "a", "", cell.Stable, "a:80", "b:80")
	synctest.Test(t, func(t *testing.T) {
		applied := make(chan struct{}, 1)
		var pulled atomic.Int32
		r := cell.New(cell.Config{
			Period:  time.Hour,
			Source:  func(context.Context) ([]byte, error) { pulled.Add(1); return s.Encode() },
			OnEvent: func(cell.Event) { applied <- struct{}{} },
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		<-applied
		for pulled.Load() < 2 { // from then on they are an hour apart
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		time.Sleep(10 * time.Minute)
		before := pulled.Load()
		gone, leave := context.WithCancel(stormjib.WithTenant(t.Context(), "acme"))
		asked := 0
		edge := &cellhttp.Transport{Router: r}
		edge.Base = roundTrip(func(*http.Request) (*http.Response, error) {
			if asked++; asked == 2 {
				leave()
			}
			return misdirected("9", `"b"`), nil
		})
		if _, err := send(edge, request(t, "GET", "acme", nil)); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := pulled.Load() - before; n != 1 {
			t.Errorf("%d pulls", n)
		}
		// Who has gone away is not asked for again.
		asked = 1
		q := request(t, "GET", "acme", nil).WithContext(gone)
		if _, err := send(edge, q); err != nil || asked != 2 {
			t.Errorf("%v, asked %d times", err, asked-1)
		}
	})
}

// closes is a body that says whether it was closed.
type closes struct {
	io.Reader
	closed bool
}

func (c *closes) Close() error { c.closed = true; return nil }

func TestErrors(t *testing.T) {
	here := snapshot(2, "a", "", cell.Stable, "a:80/path", "b:80")
	noMap := cell.New(cell.Config{Source: func(context.Context) ([]byte, error) {
		return nil,
			nil
	}})
	for _, test := range []struct {
		name   string
		edge   *cellhttp.Transport
		tenant string
		want   string
	}{
		{"no router", &cellhttp.Transport{}, "acme", "cellhttp: Transport.Router is nil"},
		{"no tenant", &cellhttp.Transport{Router: noMap}, "", cellhttp.ErrNoTenant.Error()},
		{"no map", &cellhttp.Transport{Router: noMap}, "acme", cell.ErrNoSnapshot.Error()},
		{
			"an address with a path", &cellhttp.Transport{Router: router(t, here, "")}, "acme",
			`cellhttp: cell "a" has the address "a:80/path", which is no host`,
		},
	} {
		body := &closes{Reader: strings.NewReader("x")}
		r := request(t, "POST", test.tenant, body)
		if _, err := send(test.edge, r); err == nil || err.Error() != test.want ||
			!body.closed {
			t.Errorf("%s: %v, and the body is closed: %t", test.name, err, body.closed)
		}
	}
	edge := &cellhttp.Transport{Router: noMap}
	if _, err := send(edge, &http.Request{}); err == nil ||
		err.Error() != "cellhttp: nil Request.URL" {
		t.Error(err)
	}
	edge.CloseIdleConnections()

	whole := snapshot(2, "a", "", cell.Stable, "https://a:80", "b:80")
	broken := errors.New("broken")
	edge = &cellhttp.Transport{
		Router: router(t, whole, ""),
		Base: roundTrip(func(*http.Request) (*http.Response, error) {
			t.Error("a request with half a body is sent")
			return nil, broken
		}),
	}
	r := request(t, "POST", "acme", io.MultiReader(strings.NewReader("half"), errorReader{broken}))
	r.ContentLength = 8
	if _, err := send(edge, r); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }

// The request is the caller's, and stays as it is.
func TestRequestIsNotChanged(t *testing.T) {
	s := snapshot(2, "a", "", cell.Stable, "https://a:443", "b:80")
	var sent *http.Request
	edge := &cellhttp.Transport{
		Router: router(t, s, ""),
		Tenant: func(r *http.Request) string { return r.Header.Get("X-Tenant") },
		Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			sent = r
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}),
	}
	r := request(t, "GET", "other", nil)
	r.Header.Set("X-Tenant", `a"b`)
	r.Header.Set(hop.EpochField, "77") // a client's
	r.Header.Set(hop.CellField, `"z"`)
	if _, err := send(edge, r); err != nil {
		t.Fatal(err)
	}
	if r.URL.Host != "service" || r.Header.Get(hop.EpochField) != "77" {
		t.Errorf("it was changed: %v", r)
	}
	if sent.URL.String() != "https://a:443/x?y=z" || sent.Host != "service" ||
		sent.Header.Get(hop.EpochField) != "2" || sent.Header.Get(hop.TenantField) != `"a\"b"` ||
		sent.Header.Get(hop.CellField) != "" {
		t.Errorf("sent %v", sent)
	}
}

// A tenant that is split goes by the key, at the edge and at the gate.
func TestKey(t *testing.T) {
	s := snapshot(2, "a", "", cell.Stable, "a:80", "b:80")
	s.Splits = map[string][]cell.Assignment{"acme": {{Cell: "a", Epoch: 2}, {Cell: "b", Epoch: 2}}}
	user := func(r *http.Request) string { return r.Header.Get("User") }
	c := &cells{handlers: map[string]http.Handler{}}
	for _, id := range []string{"a", "b"} {
		g := cell.NewGate(cell.GateConfig{Cell: id, Router: router(t, s, id+"-1")})
		c.handlers[id+":80"] = (&cellhttp.Middleware{Gate: g, Key: user}).Handler(echo(id))
	}
	edge := &cellhttp.Transport{Base: c, Router: router(t, s, ""), Key: user}
	for key, want := range map[string]string{"user-1": "b", "user-2": "a"} {
		r := request(t, "GET", "acme", nil)
		r.Header.Set("User", key)
		resp, err := edge.RoundTrip(r)
		if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(text(t, resp),
			want) {
			t.Errorf("%s: %v, %v", key, resp, err)
		}
	}
}

// The whole way: client, edge, cells, with what clients get to see.
func TestHandler(t *testing.T) {
	old := snapshot(1, "a", "", cell.Stable, "a:80", "b:80")
	now := snapshot(3, "b", "a", cell.Draining, "a:80", "b:80")
	flipping := snapshot(1, "a", "b", cell.Flipping, "a:80", "b:80")
	for _, test := range []struct {
		name, method string
		tenant       string
		inside, edge *cell.Snapshot
		length       int64
		status       int
		want         string // in the body
	}{
		{"moved", "GET", "acme", now, old, 0, 200, "b service http://b:80/x?y=z"},
		{"a write", "POST", "acme", now, old, 4, 200, `"text"`},
		{"that cannot be sent again", "POST", "acme", now, old, -1, 503, "Not at this moment"},
		{"no tenant", "GET", "", now, now, 0, 400, "whose it is"},
		{"a write in a flip", "POST", "acme", flipping, old, 4, 503, "Not at this moment"},
		{"a read in a flip", "GET", "acme", flipping, old, 0, 200, "a service"},
		{"the cell is behind", "GET", "acme", old, now, 0, 503, ""},
		{
			"no such cell", "GET", "acme", now, snapshot(1, "a", "", 0, "z:80", "z:80"), 0, 502,
			"There is no answer",
		},
	} {
		c := newCells(t, test.inside)
		h := (&cellhttp.Transport{Base: c, Router: router(t, test.edge, "")}).Handler()
		r := httptest.NewRequestWithContext(stormjib.WithTenant(t.Context(), test.tenant),
			test.method, "http://service/x?y=z", strings.NewReader("text"))
		if r.ContentLength = test.length; test.length == 0 {
			r.Body = http.NoBody
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		scope := hop.Replica
		if test.name == "a write in a flip" {
			scope = hop.Service // No other replica would let it in.
		}
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s: %d %s", test.name, w.Code, w.Body)
		}
		if w.Code == 503 && (w.Header().Get("Retry-After") == "" ||
			w.Header().Get(hop.RefusalField) != "paused;scope="+scope) {
			t.Errorf("%s: %v", test.name, w.Header())
		}
		if w.Header().Get(hop.EpochField)+w.Header().Get(hop.CellField) != "" {
			t.Errorf("%s: a client is told of cells: %v", test.name, w.Header())
		}
	}
}

// What a cell says of cells is not for clients, nor what clients say of the way they came.
func TestHandlerKeepsItsOwn(t *testing.T) {
	s := snapshot(1, "a", "", cell.Stable, "a:80", "b:80")
	edge := &cellhttp.Transport{
		Router: router(t, s, ""),
		Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			if got := r.Header.Get("X-Forwarded-Host"); got != "service" || r.Host != "service" {
				t.Errorf("forwarded for %q, host %q", got, r.Host)
			}
			h := http.Header{hop.EpochField: {"9"}, hop.CellField: {`"b"`}}
			return &http.Response{StatusCode: http.StatusOK, Header: h, Body: http.NoBody}, nil
		}),
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(stormjib.WithTenant(t.Context(), "acme"),
		"GET", "http://service/", nil)
	r.Header.Set("X-Forwarded-Host", "elsewhere")
	edge.Handler().ServeHTTP(w, r)
	said := w.Header().Get(hop.EpochField) + w.Header().Get(hop.CellField)
	if w.Code != http.StatusOK || said != "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestHandlersPanicWithoutTheirParts(t *testing.T) {
	for want, build := range map[string]func(){
		"cellhttp: Transport.Router is nil": func() { (&cellhttp.Transport{}).Handler() },
		"cellhttp: Middleware.Gate is nil":  func() { (&cellhttp.Middleware{}).Handler(nil) },
	} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("%v, want %s", got, want)
				}
			}()
			build()
		}()
	}
}

func TestMiddleware(t *testing.T) {
	s := snapshot(5, "a", "b", cell.Verifying, "a:80", "b:80")
	g := cell.NewGate(cell.GateConfig{Cell: "a", Router: router(t, s, "a-1")})
	var refused error
	m := &cellhttp.Middleware{
		Gate:   g,
		Refuse: func(_ http.ResponseWriter, _ *http.Request, err error) { refused = err },
	}
	serve := func(method, tenant, epoch string) (deadline, served bool) {
		r := httptest.NewRequestWithContext(t.Context(), method, "/", nil)
		r.Header.Set(hop.TenantField, tenant)
		r.Header.Set(hop.EpochField, epoch)
		refused = nil
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			served = true
			_, deadline = r.Context().Deadline()
			if n := g.Stats().InFlight; n != 1 {
				t.Errorf("%d under way", n)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
		return deadline, served
	}
	for _, test := range []struct {
		method, tenant, epoch string
		deadline, served      bool
		want                  error
	}{
		{"GET", `"acme"`, "5", false, true, nil},
		{"HEAD", `"acme"`, "5", false, true, nil},
		{"QUERY", `"acme"`, "5", false, true, nil},
		{"POST", `"acme"`, "5", true, true, nil},
		{"DELETE", `"acme"`, "5", true, true, nil},
		{"GET", "", "5", false, false, cellhttp.ErrNoTenant},
		{"GET", "a b", "5", false, false, cellhttp.ErrNoTenant},
		{"GET", `"acme"`, "", false, false, cell.ErrMoved},
		{"GET", `"acme"`, "4", false, false, cell.ErrMoved},
		{"GET", `"acme"`, "6", false, false, cell.ErrPaused},
	} {
		deadline, served := serve(test.method, test.tenant, test.epoch)
		if deadline != test.deadline || served != test.served || !errors.Is(refused, test.want) {
			t.Errorf("%+v: %t, %t, %v", test, deadline, served, refused)
		}
	}
	m.Write = func(*http.Request) bool { return false }
	m.Tenant = func(*http.Request) string { return "other" }
	if deadline, served := serve("POST", "", "5"); deadline || !served {
		t.Errorf("with functions of one's own: %t, %t, %v", deadline, served, refused)
	}
	if s := g.Stats(); s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

func TestMiddlewareLeavesOnPanic(t *testing.T) {
	s := snapshot(5, "a", "", cell.Stable, "a:80", "b:80")
	g := cell.NewGate(cell.GateConfig{Cell: "a", Router: router(t, s, "a-1")})
	h := (&cellhttp.Middleware{Gate: g}).Handler(http.HandlerFunc(
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	))
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	r.Header.Set(hop.TenantField, "acme")
	r.Header.Set(hop.EpochField, "5")
	func() {
		defer func() {
			if got := recover(); got != http.ErrAbortHandler {
				t.Error(got)
			}
		}()
		h.ServeHTTP(httptest.NewRecorder(), r)
	}()
	if got := g.Stats().InFlight; got != 0 {
		t.Errorf("%d under way", got)
	}
}
