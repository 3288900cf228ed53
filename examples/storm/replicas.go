package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// readyPath is where a balancer asks whether a replica is ready.
const readyPath = "/readyz"

// How a balancer looks at replicas.
const (
	balancerPoll    = 200 * time.Millisecond // the interval of its checks, and their timeout
	balancerMisses  = 2                      // so many in a row must fail
	frontReplicas   = 3
	balancerBelieve = balancerMisses * balancerPoll
)

// replicas are a front service in several of them, and a balancer before them. One process
// plays all, and each replica has a listener of its own. The balancer is the same in every
// variant, which decides what a replica says of itself, and how it ends.
type replicas struct {
	begin life

	// perRequest has the balancer choose for each request, as those of HTTP do. Otherwise
	// it chooses for each connection and passes on bytes; it does not try another replica
	// for one that is refused.
	perRequest bool

	next     http.Handler
	host     string
	open     *atomic.Int64
	turn     atomic.Uint64
	replaced atomic.Int64
	unready  atomic.Int64 // requests and connections for which there was none
	quit     chan struct{}

	mu    sync.Mutex
	all   [frontReplicas]*replica
	conns map[net.Conn]struct{} // nil: no more
}

// life returns the handler of a replica that begins, and what has it end.
type (
	life       func(srv *http.Server, next http.Handler) (http.Handler, retirement)
	retirement func(context.Context) error
)

// replica is one of them, and what the balancer thinks of it.
type replica struct {
	address string
	server  *http.Server
	retire  retirement
	ready   atomic.Bool
	misses  int // in a row, of the checks
}

func (r *replicas) stats() any {
	return map[string]int64{"replaced": r.replaced.Load(), "none_ready": r.unready.Load()}
}

// serve starts the replicas, and the balancer on l.
func (r *replicas) serve(l net.Listener, next http.Handler, open *atomic.Int64) func() error {
	r.next, r.open, r.quit = next, open, make(chan struct{})
	r.conns = make(map[net.Conn]struct{})
	r.host, _, _ = net.SplitHostPort(l.Addr().String())
	for i := range r.all {
		if err := r.replace(i); err != nil {
			return func() error { return errors.Join(err, l.Close()) }
		}
		r.all[i].ready.Store(true)
		go r.poll(i)
	}
	stop := l.Close
	if r.perRequest {
		stop = serveHandler(l, r.proxy(), open)
	} else {
		go r.accept(l)
	}
	return func() error {
		close(r.quit)
		return errors.Join(stop(), r.cut())
	}
}

// cut closes all that is open.
func (r *replicas) cut() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, p := range r.all {
		errs = append(errs, p.server.Close())
	}
	for conn := range r.conns {
		_ = conn.Close()
	}
	r.conns = nil
	return errors.Join(errs...)
}

// replace starts a replica. The balancer has it when its first check has passed.
func (r *replicas) replace(i int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(r.host, "0"))
	if err != nil {
		return err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	p := &replica{address: l.Addr().String()}
	p.server = &http.Server{Protocols: protocols, ReadHeaderTimeout: time.Minute}
	p.server.Handler, p.retire = r.begin(p.server, r.next)
	go func() { _ = p.server.Serve(l) }() // Ends with the replica.
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[i] = p
	return nil
}

// follow replaces replicas as the fault curve says, one after another.
func (r *replicas) follow(ctx context.Context, zero time.Time, faults []Fault) error {
	next := 0
	for _, f := range faults {
		if r == nil || f.Mode != Replace {
			continue
		}
		if sleep(ctx, time.Until(zero.Add(f.From))) != nil {
			return nil //nolint:nilerr // The run is over.
		}
		i := next % frontReplicas
		err := r.at(i).retire(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // As above.
		case err != nil:
			return err
		}
		if err := r.replace(i); err != nil {
			return err
		}
		r.replaced.Add(1)
		next++
	}
	return nil
}

// check notes that not all were replaced that should have been: such a run shows nothing.
func (r *replicas) check(faults []Fault, t *trouble) {
	var want int64
	for _, f := range faults {
		if f.Mode == Replace {
			want++
		}
	}
	if r != nil && r.replaced.Load() < want {
		t.note("a replica was not replaced")
	}
}

func (r *replicas) at(i int) *replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[i]
}

// poll checks the replica in a place, whichever it is, until the balancer ends. A check
// has a connection of its own, as those of balancers do.
func (r *replicas) poll(i int) {
	client := &http.Client{
		Timeout:   balancerPoll,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	ticker := time.NewTicker(balancerPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-r.quit:
			return
		}
		p := r.at(i)
		res, err := client.Get("http://" + p.address + readyPath)
		if err == nil {
			_ = res.Body.Close()
		}
		p.saw(err == nil && res.StatusCode == http.StatusOK)
	}
}

// saw takes the result of a check.
func (p *replica) saw(passed bool) {
	if passed {
		p.misses = 0
		p.ready.Store(true)
		return
	}
	if p.misses++; p.misses >= balancerMisses {
		p.ready.Store(false)
	}
}

// choose returns the next replica that is ready, nil if none is.
func (r *replicas) choose() *replica {
	for range frontReplicas {
		p := r.at(int(r.turn.Add(1) % frontReplicas))
		if p.ready.Load() {
			return p
		}
	}
	r.unready.Add(1)
	return nil
}

// proxy is a balancer that chooses for each request.
func (r *replicas) proxy() http.Handler {
	transport := &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p := r.choose()
		if p == nil {
			http.Error(w, "no replica is ready", http.StatusServiceUnavailable)
			return
		}
		proxy := httputil.ReverseProxy{
			Transport: transport,
			Rewrite: func(pr *httputil.ProxyRequest) {
				pr.SetURL(&url.URL{Scheme: "http", Host: p.address})
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				http.Error(w, err.Error(), http.StatusBadGateway)
			},
		}
		proxy.ServeHTTP(w, req)
	})
}

func (r *replicas) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go r.pass(conn)
	}
}

// pass joins a client's connection to one of a replica, until either ends. What the replica
// has sent reaches the client, and then the end.
func (r *replicas) pass(client net.Conn) {
	defer func() { _ = client.Close() }()
	p := r.choose()
	if p == nil {
		return
	}
	server, err := net.DialTimeout("tcp", p.address, balancerPoll)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !r.keep(client, server) {
		return
	}
	defer r.forget(client, server)
	r.open.Add(1)
	defer r.open.Add(-1)
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close() // The client has left.
	}()
	_, _ = io.Copy(client, server)
}

// keep notes connections that are to be closed in the end; false: it has come.
func (r *replicas) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		return false
	}
	for _, conn := range conns {
		r.conns[conn] = struct{}{}
	}
	return true
}

func (r *replicas) forget(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range conns {
		delete(r.conns, conn)
	}
}
