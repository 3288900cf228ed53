package cell

import (
	"context"
	"sync"

	"github.com/stormjib/stormjib/internal/ended"
)

// gateShards divide the lock. All of a tenant is in one of them.
const (
	gateShardBits = 6
	gateShards    = 1 << gateShardBits
)

// shard counts what is under way.
type shard struct {
	mu      sync.Mutex
	flights map[flightKey]flight
	changed chan struct{} // closed when something leaves; nil: nobody waits

	entered, moved, paused uint64

	_ [64]byte // the next one is another processor's
}

// flightKey is a tenant or, of one that is split, what has one hash of a key: which part
// that is may change.
type flightKey struct {
	tenant string
	hash   uint64
	part   bool
}

// flight is how much of each kind is under way.
type flight [kinds]uint32

func (s *shard) enter(key flightKey, k kind) {
	if s.flights == nil {
		s.flights = map[flightKey]flight{}
	}
	f := s.flights[key]
	f[k]++
	s.flights[key] = f
}

func (s *shard) leave(key flightKey, k kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flights[key]
	f[k]--
	if f == (flight{}) {
		delete(s.flights, key)
	} else {
		s.flights[key] = f
	}
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// late counts what is under way and might not begin now. If tenant is not nil, it looks at
// that one alone. The lock is held.
func (s *shard) late(st *standing, tenant *string) int {
	n := 0
	for key, f := range s.flights {
		if tenant != nil && *tenant != key.tenant {
			continue
		}
		for k := range kinds {
			if f[k] > 0 && !st.allowsAll(key, k) {
				n += int(f[k])
			}
		}
	}
	return n
}

// allowsAll is allows for whatever a flight may concern: the part of its key, or all parts
// if the tenant was not split when it began.
func (s *standing) allowsAll(key flightKey, k kind) bool {
	t := s.view.table
	at, named := t.names.find(key.tenant, xxh64(key.tenant))
	if !named {
		i, _ := t.find(key.tenant, "")
		return s.allows(&t.entries[i], k)
	}
	if key.part {
		at.first, at.n = at.first+uint32(part(key.hash, int(at.n))), 1
	}
	for i := range at.n {
		if !s.allows(&t.entries[at.first+i], k) {
			return false
		}
	}
	return true
}

// Settled returns the last version of the map of which this holds: the replica goes by it,
// would go by it, or by a later one, after a restart with its Path, and nothing is under
// way that it would not let begin. It is what a move waits for. Send it with each pull,
// along with the name of the replica:
//
//	Source: func(ctx context.Context) ([]byte, error) {
//		return client.Pull(ctx, replica, gate.Settled())
//	},
//
// Before there is any such version, it is 0.
func (g *Gate) Settled() uint64 {
	// In this order: what was kept cannot be later than what is in force.
	kept := g.router.kept()
	v := g.router.view.Load()
	if v == nil || v.confirmed.IsZero() {
		return g.settled.Load()
	}
	version := v.table.snapshot.Version
	if g.router.cfg.Path != "" && kept < version {
		// Of kept itself nobody has looked whether it has settled.
		return g.settled.Load()
	}
	if g.late(v) > 0 {
		return g.settled.Load()
	}
	for {
		old := g.settled.Load()
		if old >= version || g.settled.CompareAndSwap(old, version) {
			return max(old, version)
		}
	}
}

func (g *Gate) late(v *view) int {
	st, n := newStanding(v, g.cell, g.router.cfg.Replica), 0
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		n += s.late(st, nil)
		s.mu.Unlock()
	}
	return n
}

// Drain waits until nothing of a tenant is under way that the map no longer lets begin: its
// writes while it flips, and all when it is elsewhere. It returns nil then, and otherwise,
// as soon as ctx ends, an error that matches why. What comes in by right does not matter.
func (g *Gate) Drain(ctx context.Context, tenant string) error {
	s := &g.shards[xxh64(tenant)>>(64-gateShardBits)]
	for {
		changed := g.busy(s, tenant)
		if changed == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if g.busy(s, tenant) == nil {
				return nil
			}
			return ended.New(ctx, "cell", false)
		}
	}
}

// busy returns nil, or what is closed when something leaves. It is made and closed under
// the lock under which the counts are read, so that none can leave in between unseen.
func (g *Gate) busy(s *shard, tenant string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := g.router.view.Load()
	if v == nil || s.late(g.stand(v), &tenant) == 0 {
		return nil
	}
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// GateStats is what a [Gate] has seen. Counters are since NewGate, and only grow; the
// others are as of now.
type GateStats struct {
	Name     string // GateConfig.Name
	Cell     string // GateConfig.Cell
	Settled  uint64 // what Settled returns
	InFlight int    // requests that were let in and have not left
	Late     int    // of them, those that might not begin now
	Entered  uint64 // requests that were let in
	Moved    uint64 // that were refused with a MovedError
	Paused   uint64 // that were refused with a PausedError, or for want of a map
}

// Stats returns what the gate has seen.
func (g *Gate) Stats() GateStats {
	st := GateStats{Name: g.name, Cell: g.cell, Settled: g.Settled()}
	if v := g.router.view.Load(); v != nil {
		st.Late = g.late(v)
	}
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		st.Entered, st.Moved, st.Paused = st.Entered+s.entered, st.Moved+s.moved, st.Paused+s.paused
		for _, f := range s.flights {
			st.InFlight += int(f[read] + f[leasedWrite] + f[freeWrite])
		}
		s.mu.Unlock()
	}
	return st
}
