package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stormjib/stormjib"
)

// The usual kinds of request and the sources of an answer, as they cross the wire.
const (
	kindLocal     = "local"
	kindDependent = "dependent"
	kindPanel     = "panel" // the optional part of any other
	kindFill      = "fill"  // before the run, what nodes are to have; it is no work
	kindPing      = "ping"  // of a check, and no work either

	sourceLive   = "live"
	sourceStale  = "stale"
	sourceDimmed = "dimmed"
)

// The transports.
const (
	transportHTTP = "http"
	transportGRPC = "grpc"
)

// clientField is the header field that says who asks.
const clientField = "Client-Id"

// request is what a user asks.
type request struct {
	ID     uint64
	Kind   string
	Client string
}

// call is both ends of the wire: what a client offers and a server is given.
// The result is the source of the answer.
type call func(ctx context.Context, r request) (source string, err error)

// errDropped, returned by a handler, ends the connection without an answer.
var errDropped = errors.New("dropped")

// refusal is the error of a call that the other side turned away: the request was one
// too many, and nothing has failed.
type refusal struct {
	status int  // 429 or 503
	told   bool // it is a 429 that says what the limit is, and when to come back
	after  time.Duration
}

// RetryAfter returns for how long it asks to stay away.
func (r *refusal) RetryAfter() time.Duration { return r.after }

func (r *refusal) Error() string { return fmt.Sprintf("status %d", r.status) }

// wire is a transport: how a call gets from one process to another. The
// scenario names it; another one is another case of wireOf.
type wire struct {
	serve func(l net.Listener, handle call, p Protection, open *atomic.Int64) (stop func() error)
	dial  func(address string, p Protection, d dialer) call
}

// wireOf returns the transport of a topology.
func wireOf(t Topology) (wire, error) {
	switch t.Transport {
	case transportHTTP:
		return wire{serve: serveHTTP, dial: dialHTTP}, nil
	case transportDeploy:
		return wire{serve: serveHTTP, dial: dialDeploy}, nil
	case transportGRPC:
		return wire{serve: serveGRPC, dial: dialGRPC}, nil
	default:
		return wire{}, fmt.Errorf("no transport %q", t.Transport)
	}
}

// serveHTTP answers POST /kind with the request's number as the body.
func serveHTTP(
	l net.Listener, handle call, p Protection, open *atomic.Int64,
) (stop func() error) {
	handler := handlerOf(handle, p)
	if p.Replicas != nil {
		return p.Replicas.serve(l, handler, open)
	}
	return serveHandler(l, handler, open)
}

func serveHandler(l net.Listener, handler http.Handler, open *atomic.Int64) (stop func() error) {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: time.Minute,
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			}
		},
	}
	go func() { _ = server.Serve(l) }() // Ends with stop; the listener reports trouble.
	return server.Close
}

func handlerOf(handle call, p Protection) http.Handler {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, handle)
	})
	if p.Server != nil {
		return p.Server(handler)
	}
	return handler
}

// answer serves one request. The body is read to its end first: only then does
// net/http watch the connection, and cancel the context of a caller that left.
func answer(w http.ResponseWriter, r *http.Request, handle call) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id, err := strconv.ParseUint(string(body), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	source, err := handle(r.Context(), request{
		ID: id, Kind: strings.TrimPrefix(r.URL.Path, "/"), Client: r.Header.Get(clientField),
	})
	switch {
	case errors.Is(err, errDropped):
		panic(http.ErrAbortHandler) // What net/http offers for closing without an answer.
	case err != nil:
		http.Error(w, err.Error(), statusOf(err))
	default:
		_, _ = io.WriteString(w, source)
	}
}

// statusOf tells a server that turns a request away from one that failed at it: 503
// from 502. What asks to stay away was turned away too, further in.
func statusOf(err error) int {
	if errors.Is(err, errUnavailable) || errors.Is(err, errFull) ||
		stormjib.NotAttempted(err) || stormjib.RetryAfter(err) > 0 {
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// dialHTTP returns a client for the address. It keeps as many idle connections
// as can be in flight: with the default of two per host, a burst would leave
// its connections in TIME_WAIT and the run would measure ports. It POSTs,
// since net/http quietly repeats what is idempotent when a connection dies.
func dialHTTP(address string, p Protection, d dialer) call {
	return clientOf(&http.Transport{
		DialContext:         d.dial,
		MaxIdleConns:        d.idle,
		MaxIdleConnsPerHost: d.idle,
		DisableCompression:  true,
	}, address, p)
}

func clientOf(transport http.RoundTripper, address string, p Protection) call {
	if p.HTTP != nil {
		transport = p.HTTP(transport)
	}
	client := &http.Client{Transport: transport, Timeout: p.Timeout}
	return func(ctx context.Context, r request) (string, error) {
		body := strings.NewReader(strconv.FormatUint(r.ID, 10))
		url := "http://" + address + "/" + r.Kind
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
		if err != nil {
			return "", err
		}
		req.Header.Set(clientField, r.Client)
		res, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer func() { _ = res.Body.Close() }()
		source, err := io.ReadAll(res.Body)
		if err != nil {
			return "", err
		}
		return string(source), failure(res)
	}
}

// failure returns the error that a response stands for, nil for a good one.
func failure(res *http.Response) error {
	switch res.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return &refusal{
			status: res.StatusCode,
			told:   res.StatusCode == http.StatusTooManyRequests && tells(res.Header),
			after:  time.Duration(seconds) * time.Second,
		}
	}
	return fmt.Errorf("status %d", res.StatusCode)
}

// dialer opens the connections of a client, counts those that are open and
// shows every failure to trouble: the pool hides the error of a dial whose
// request has meanwhile found another connection. A client that gives up closes its
// connection, and with retries that is a thousand a second: they are reset, since
// each would else keep its port for a minute, and the run would measure ports.
//
// Nodes it knows by name, with the port that HTTP has: names do not change from run to
// run as ports do, and who has a key by its hash is not to change either.
type dialer struct {
	idle    int
	open    *atomic.Int64
	trouble *trouble
	names   map[string]string
}

func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if known := d.names[address]; known != "" {
		address = known
	}
	var plain net.Dialer
	conn, err := plain.DialContext(ctx, network, address)
	if err != nil {
		d.trouble.see(err)
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	d.open.Add(1)
	return &countedConn{Conn: conn, open: d.open}, nil
}

// countedConn leaves the count when it is closed, however often.
type countedConn struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// listen opens a free port on host, or on 127.0.0.1 where the platform has no
// other loopback address. An address for each listener keeps one server's
// connections out of the port range of the others.
func listen(host string, t *trouble) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("no free port on loopback: %w", err)
	}
	return watchedListener{l, t}, nil
}

// watchedListener shows the errors of Accept to trouble; net/http only logs
// those that it takes for passing ones.
type watchedListener struct {
	net.Listener
	trouble *trouble
}

func (l watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		l.trouble.see(err)
	}
	return conn, err
}

// trouble collects what makes a run invalid, and how often each was met.
type trouble struct {
	mu   sync.Mutex
	seen map[string]int
}

// see notes err if it is a limit of the machine, not of the service.
func (t *trouble) see(err error) {
	for _, limit := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, limit) {
			t.note(limit.Error())
		}
	}
}

func (t *trouble) note(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = make(map[string]int)
	}
	t.seen[what]++
}

func (t *trouble) all() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.seen)
}
