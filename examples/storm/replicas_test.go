package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The balancer believes what it has seen twice, and what passes at once.
func TestReplicaSaw(t *testing.T) {
	var p replica
	for i, step := range []struct{ passed, ready bool }{
		{true, true},
		{false, true},
		{true, true},
		{false, true},
		{false, false},
		{false, false},
		{true, true},
		{false, true},
	} {
		if p.saw(step.passed); p.ready.Load() != step.ready {
			t.Fatalf("after check %d it is ready: %t", i, p.ready.Load())
		}
	}
}

func TestReplicasChoose(t *testing.T) {
	var r replicas
	for i := range r.all {
		r.all[i] = new(replica)
	}
	if r.choose() != nil || r.unready.Load() != 1 {
		t.Errorf("one is chosen of none that is ready, %d times none", r.unready.Load())
	}
	for i := range r.all {
		r.all[i].ready.Store(true)
	}
	chosen := make(map[*replica]int)
	for range 2 * frontReplicas {
		chosen[r.choose()]++
	}
	for i, p := range r.all {
		if chosen[p] != 2 {
			t.Errorf("replica %d is chosen %d times of %d", i, chosen[p], 2*frontReplicas)
		}
	}
	r.all[1].ready.Store(false)
	for range 10 {
		if p := r.choose(); p == nil || p == r.all[1] {
			t.Fatal("one is chosen that is not ready, or none")
		}
	}
}

// A run in which not all replicas were replaced shows nothing.
func TestReplicasCheck(t *testing.T) {
	faults := []Fault{{Mode: Hang}, replaced(0), replaced(1)}
	for n, want := range []int{1, 1, 0} {
		var r replicas
		var limits trouble
		r.replaced.Store(int64(n))
		if r.check(faults, &limits); len(limits.all()) != want {
			t.Errorf("%d replaced of 2: %v", n, limits.all())
		}
	}
}

// Whatever replicas say of themselves, and however they end, all requests are answered that
// they have when that begins.
func TestReplaced(t *testing.T) {
	for _, scenario := range []string{"deploy", "dbblip"} {
		s := find(scenario)
		for _, v := range s.Variants {
			if v.Name == "close" {
				continue // it is there to drop them
			}
			t.Run(scenario+"/"+v.Name, func(t *testing.T) {
				t.Parallel() // they wait, most of the time
				p := v.Protect(s.Topology)
				entered, leave := make(chan struct{}, 3*frontReplicas), make(chan struct{})
				if p.Around != nil {
					p.Around(func(context.Context, request) (string, error) {
						return sourceLive, nil
					})
				}
				ask := overWire(t, transportDeploy, func(context.Context, request) (string, error) {
					entered <- struct{}{}
					<-leave
					return sourceLive, nil
				}, p)
				answers := make(chan error, 3*frontReplicas)
				for i := range cap(answers) {
					kind := []string{kindHTTP1, "other", kindHTTP2}[i%3]
					if p.Replicas.perRequest && kind == kindHTTP2 {
						kind = kindHTTP1 // which is all that the balancer speaks
					}
					go func() {
						_, err := ask(t.Context(), request{ID: uint64(i), Kind: kind})
						answers <- err
					}()
				}
				for range cap(answers) {
					select {
					case <-entered:
					case err := <-answers:
						close(leave)
						t.Fatal(err)
					}
				}
				followed := make(chan error)
				go func() {
					now := time.Now()
					followed <- p.Replicas.follow(t.Context(), now, []Fault{replaced(0)})
				}()
				close(leave)
				for range cap(answers) {
					if err := <-answers; err != nil {
						t.Error(err)
					}
				}
				if err := <-followed; err != nil || p.Replicas.replaced.Load() != 1 {
					t.Errorf("%d are replaced, %v", p.Replicas.replaced.Load(), err)
				}
				res, err := http.Get("http://" + p.Replicas.at(0).address + readyPath)
				if err != nil {
					t.Fatalf("the new one does not answer: %v", err)
				}
				_ = res.Body.Close()
			})
		}
	}
}

// Only the variant that asks the database is out of rotation while that is gone.
func TestBlip(t *testing.T) {
	s := find("dbblip")
	for _, v := range s.Variants {
		synctest.Test(t, func(t *testing.T) {
			p := v.Protect(s.Topology)
			var gone atomic.Bool
			p.Around(func(context.Context, request) (string, error) {
				if gone.Load() {
					return "", errUnavailable
				}
				return sourceLive, nil
			})
			server := &http.Server{ReadHeaderTimeout: time.Minute}
			handler, retire := p.Replicas.begin(server, http.NotFoundHandler())
			for _, now := range []bool{false, true, false} {
				gone.Store(now)
				time.Sleep(blipEnds - blipFrom)
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, readyPath, http.NoBody))
				want := http.StatusOK
				if now && v.Name == bareName {
					want = http.StatusServiceUnavailable
				}
				if w.Code != want {
					t.Errorf("%s: with the database gone %t it is %d", v.Name, now, w.Code)
				}
			}
			if err := retire(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// socketServer answers so many requests of a connection, and then closes it, without an
// answer to what comes after.
func socketServer(t *testing.T, each int, last string) (address string, served *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	served = new(atomic.Int64)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				reader := bufio.NewReader(conn)
				for i := range each {
					req, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					served.Add(1)
					field := ""
					if i == each-1 {
						field = last
					}
					_, _ = io.WriteString(conn,
						"HTTP/1.1 200 OK\r\n"+field+"Content-Length: 4\r\n\r\nlive")
				}
				if last == "" {
					_, _ = http.ReadRequest(reader) // which is not answered
				}
			}()
		}
	}()
	return l.Addr().String(), served
}

// A connection is used again, but not after its end, and what gets no answer is not sent
// twice.
func TestSocketPool(t *testing.T) {
	tests := []struct {
		name   string
		last   string // a field of the last answer of a connection
		failed []int  // which of nine requests, with three answers to each connection
	}{
		{"the end is announced", "Connection: close\r\n", nil},
		{"it is not", "", []int{3, 7}},
	}
	for _, tt := range tests {
		address, served := socketServer(t, 3, tt.last)
		var open atomic.Int64
		var limits trouble
		pool := &socketPool{address: address, dialer: dialer{1, &open, &limits, nil}}
		var failed []int
		for i := range 9 {
			source, err := pool.ask(t.Context(), request{ID: uint64(i), Kind: kindHTTP1})
			switch {
			case errors.Is(err, io.ErrUnexpectedEOF):
				failed = append(failed, i)
			case err != nil || source != sourceLive:
				t.Errorf("%s: request %d: %q, %v", tt.name, i, source, err)
			}
		}
		if !slices.Equal(failed, tt.failed) || served.Load() != int64(9-len(failed)) {
			t.Errorf("%s: %v failed, %d were served", tt.name, failed, served.Load())
		}
	}
}

func TestSocketPoolLeaves(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var open atomic.Int64
	var limits trouble
	pool := &socketPool{address: l.Addr().String(), dialer: dialer{1, &open, &limits, nil}}
	ctx, leave := context.WithTimeout(t.Context(), time.Millisecond)
	defer leave()
	_, err = pool.ask(ctx, request{Kind: kindHTTP1})
	if !errors.Is(err, context.DeadlineExceeded) || open.Load() != 0 {
		t.Errorf("it ends with %v, and %d connections are open", err, open.Load())
	}
}
