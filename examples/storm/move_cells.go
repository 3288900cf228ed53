package main

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/retry/retryhttp"
)

// moving is two cells of two replicas, each replica a server of its own, and the tenant
// that is moved between them. One process plays all; the variant says what replicas let in,
// where an edge sends requests, and how a tenant is moved.
type moving struct {
	relocate func(ctx context.Context, from, to int) error

	hosts  [2][2]string // addresses, by cell and replica
	turn   atomic.Uint64
	store  atomic.Pointer[string] // its host, as the front service knows it
	silent atomic.Bool            // a replica of the second cell hears nothing

	mu    sync.Mutex
	data  [2]map[uint64]bool // the mover's writes, by cell
	told  []uint64           // those that a user was told are done
	log   []int              // the cells that accepted a write, in order
	moves []passage
	home  int
}

// passage is a move, and how many writes had been accepted when it began.
type passage struct{ from, to, begin int }

// MoveStats is what became of the mover's writes.
type MoveStats struct {
	Moves    int `json:"moves"`
	Accepted int `json:"accepted"` // by either cell
	Told     int `json:"told"`     // of which a user was told
	Lost     int `json:"lost"`     // of those: its cell has not got them
	Stray    int `json:"stray"`    // accepted by the cell that it had left
}

func newMoving() *moving {
	return &moving{data: [2]map[uint64]bool{{}, {}}}
}

// protection has the requests go over the edge, and be sent again where that does no harm,
// for as long as users wait, which is alike in all variants: each write has its number.
func (m *moving) protection(
	edge func(http.RoundTripper) http.RoundTripper,
	inside func(where, replica int, next http.Handler) http.Handler,
) Protection {
	return Protection{
		Stats: func() any { return m.stats() },
		Start: m.start,
		HTTP: func(base http.RoundTripper) http.RoundTripper {
			if err := m.serve(base, inside); err != nil {
				panic(err) // There is no free port on loopback.
			}
			return mover{m, &retryhttp.Transport{
				Base:       edge(balanced{m, base}),
				Policy:     &retry.Policy{MaxAttempts: -1, Budget: retry.Budget{Burst: 1000}},
				Idempotent: func(*http.Request) bool { return true },
			}}
		},
	}
}

// serve starts the replicas. They end with the process.
func (m *moving) serve(
	base http.RoundTripper, inside func(where, replica int, next http.Handler) http.Handler,
) error {
	for where := range m.hosts {
		for replica := range m.hosts[where] {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			m.hosts[where][replica] = l.Addr().String()
			handler := inside(where, replica, m.work(where, base))
			server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
			go func() { _ = server.Serve(l) }()
		}
	}
	return nil
}

// start makes both moves.
func (m *moving) start(ctx context.Context, zero time.Time) error {
	for i, at := range []time.Duration{moveThere, moveBack} {
		if sleep(ctx, time.Until(zero.Add(at))) != nil {
			return nil //nolint:nilerr // The run is over.
		}
		from, to := i, 1-i
		m.mu.Lock()
		m.moves = append(m.moves, passage{from, to, len(m.log)})
		m.mu.Unlock()
		err := m.relocate(ctx, from, to)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // As above.
		case err != nil:
			return err
		}
		m.mu.Lock()
		m.home = to
		m.mu.Unlock()
	}
	return nil
}

// silence cuts off a replica, in the second move.
func (m *moving) silence() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent.Store(len(m.moves) == 2)
}

func (m *moving) deaf(where, replica int) bool {
	return m.silent.Load() && where == 1 && replica == 0
}

// copy copies the tenant's data as it is now, which takes its time to be there.
func (m *moving) copy(ctx context.Context, from, to int) error {
	m.mu.Lock()
	rows := maps.Clone(m.data[from])
	m.mu.Unlock()
	if err := sleep(ctx, moveTakes); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[to] = rows
	return nil
}

// level has to have what from has by now: the little that came since it was copied.
func (m *moving) level(from, to int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[to] = maps.Clone(m.data[from])
}

// work is the handler of a replica: the store is asked, and then the write is accepted.
func (m *moving) work(where int, base http.RoundTripper) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		id, bad := strconv.ParseUint(string(body), 10, 64)
		if err != nil || bad != nil {
			http.Error(w, "no number", http.StatusBadRequest)
			return
		}
		status, word, err := m.ask(r, base, body)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		case status == http.StatusOK && r.Header.Get(clientField) == moveTenant:
			m.accept(where, id)
		}
		w.WriteHeader(status)
		_, _ = w.Write(word)
	})
}

// ask sends the request on to the store.
func (m *moving) ask(
	r *http.Request, base http.RoundTripper, body []byte,
) (status int, word []byte, err error) {
	sent, err := http.NewRequestWithContext(r.Context(), http.MethodPost,
		"http://"+*m.store.Load()+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	res, err := base.RoundTrip(sent)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	word, err = io.ReadAll(res.Body)
	if err == nil {
		err = r.Context().Err() // Who may not write any more does not.
	}
	return res.StatusCode, word, err
}

func (m *moving) accept(where int, id uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[where][id] = true
	m.log = append(m.log, where)
}

func (m *moving) stats() MoveStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := MoveStats{Moves: len(m.moves), Accepted: len(m.log), Told: len(m.told)}
	if s.Moves > 0 && m.home != m.moves[s.Moves-1].to {
		s.Moves-- // The last one has not ended.
	}
	for _, id := range m.told {
		if !m.data[m.home][id] {
			s.Lost++
		}
	}
	for i, p := range m.moves {
		end := len(m.log)
		if i+1 < len(m.moves) {
			end = m.moves[i+1].begin
		}
		open := false
		for _, where := range m.log[p.begin:end] {
			open = open || where == p.to
			if open && where == p.from {
				s.Stray++
			}
		}
	}
	return s
}

// mover notes what users are told.
type mover struct {
	m    *moving
	next http.RoundTripper
}

func (t mover) RoundTrip(r *http.Request) (*http.Response, error) {
	host := r.URL.Host
	t.m.store.Store(&host)
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	number, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	id, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil {
		return nil, err
	}
	res, err := t.next.RoundTrip(r)
	if err == nil && res.StatusCode == http.StatusOK && r.Header.Get(clientField) == moveTenant {
		t.m.mu.Lock()
		defer t.m.mu.Unlock()
		t.m.told = append(t.m.told, id)
	}
	return res, err
}

// balanced asks the replicas of a cell in turn.
type balanced struct {
	m    *moving
	next http.RoundTripper
}

func (b balanced) RoundTrip(r *http.Request) (*http.Response, error) {
	replicas := b.m.hosts[numberOf(r.URL.Host)]
	sent := r.Clone(r.Context())
	sent.URL.Host = replicas[b.m.turn.Add(1)%2]
	return b.next.RoundTrip(sent)
}
