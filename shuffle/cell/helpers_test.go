package cell_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// small returns a map of two cells and four slots, two for each.
func small(version uint64) *cell.Snapshot {
	return &cell.Snapshot{
		Version: version, Issued: time.Unix(1_000_000, 0).UTC(), Lease: 15 * time.Second,
		Cells: []cell.Cell{
			{ID: "a", Address: "a:80", Capacity: 10, Replicas: []string{"a-1", "a-2"}},
			{ID: "b", Address: "b:80", Capacity: 10, Replicas: []string{"b-1"}},
		},
		Slots: []cell.Assignment{
			{Cell: "a", Epoch: 1}, {Cell: "b", Epoch: 1}, {Cell: "a", Epoch: 1}, {
				Cell:  "b",
				Epoch: 1,
			},
		},
	}
}

// with returns small with one tenant's entry.
func with(version uint64, tenant string, a cell.Assignment) *cell.Snapshot {
	s := small(version)
	s.Tenants = map[string]cell.Assignment{tenant: a}
	return s
}

func encode(t *testing.T, s *cell.Snapshot) []byte {
	t.Helper()
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plane is a control plane: what it answers can be set.
type plane struct {
	mu    sync.Mutex
	body  []byte
	err   error
	pulls []time.Time
}

var errDown = errors.New("down")

func (p *plane) pull(context.Context) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulls = append(p.pulls, time.Now())
	return p.body, p.err
}

func (p *plane) set(body []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.body, p.err = body, err
}

func (p *plane) publish(t *testing.T, s *cell.Snapshot) {
	t.Helper()
	p.set(encode(t, s), nil)
}

func (p *plane) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pulls)
}

// run starts the router in a bubble, and has it pull once.
func run(t *testing.T, r *cell.Router) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	synctest.Wait()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returns %v", err)
		}
	}
}

// started is a router that goes by a map, in a bubble, and has pulled it.
func started(t *testing.T, replica string, s *cell.Snapshot) (*cell.Router, *plane, func()) {
	t.Helper()
	p := &plane{}
	p.publish(t, s)
	r := cell.New(cell.Config{Source: p.pull, Replica: replica})
	return r, p, run(t, r)
}

func route(t *testing.T, r *cell.Router, tenant string) string {
	t.Helper()
	got, err := r.Route(tenant)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %d %v %s %s", got.Cell, got.Epoch, got.Phase, got.Source, got.Peer)
}
