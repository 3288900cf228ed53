package cell

import "slices"

// standing is what a replica may do by a map. It is never changed.
type standing struct {
	view *view
	cell uint16 // the index of its cell; noPeer if the map has none of that ID
	rank rank
}

// rank is by which right a replica writes.
type rank uint8

const (
	unlisted rank = iota // others are listed: by none
	lessee               // nobody is listed, or who knows when this map was in force
	listed               // moves wait for it
)

// kind is what a request that was let in does. A write that began without a lease is
// another thing than one with: nobody can have waited for its end.
type kind uint8

const (
	read kind = iota
	leasedWrite
	freeWrite
	kinds
)

// refusal is why a request may not begin.
type refusal uint8

const (
	admitted refusal = iota
	noMap
	elsewhere
	late
	behind
	flipping
	noLease
	notListed
)

func (r refusal) String() string {
	return [...]string{
		"admitted", "no map", "elsewhere", "late", "behind", "flipping", "no lease", "not listed",
	}[r]
}

func newStanding(v *view, cell, replica string) *standing {
	st := &standing{view: v, cell: noPeer}
	for i := range v.table.snapshot.Cells {
		c := &v.table.snapshot.Cells[i]
		if c.ID != cell {
			continue
		}
		st.cell = uint16(i)
		st.rank = rankOf(c.Replicas, replica, v.own)
	}
	return st
}

// rankOf: a replica that is listed has been waited for by all moves up to the version that
// it has acknowledged. By an earlier map it could not know what it has agreed to; so that
// has to be its own, from a pull or as it was written by itself.
func rankOf(replicas []string, replica string, own bool) rank {
	switch {
	case len(replicas) > 0 && !slices.Contains(replicas, replica):
		return unlisted
	case len(replicas) > 0 && own:
		return listed
	}
	return lessee
}

// decide says whether a request may begin. As a leasedWrite it may only if there is a
// lease, which is for those to look who have a clock.
func (s *standing) decide(e *entry, epoch uint64, write bool) (kind, refusal) {
	switch {
	case epoch > e.epoch:
		// It may be that the tenant is here; but to believe a request that it is, of what
		// was sent wrong one would be the second cell to take it.
		return read, behind
	case e.cell != s.cell:
		return read, elsewhere
	case epoch < e.epoch:
		return read, late
	case !write:
		return read, admitted
	case e.phase == Flipping:
		return read, flipping
	case s.rank == unlisted:
		return read, notListed
	case e.phase.leased() || s.rank == lessee:
		return leasedWrite, admitted
	}
	return freeWrite, admitted
}

// allows reports whether what has begun might begin now, but for its epoch and its lease.
// What might not is what a move waits for.
func (s *standing) allows(e *entry, k kind) bool {
	now, refusal := s.decide(e, e.epoch, k != read)
	return refusal == admitted && (k != freeWrite || now == freeWrite)
}

// stand returns what g may do by v, which changes with each pull.
func (g *Gate) stand(v *view) *standing {
	if st := g.standing.Load(); st != nil && st.view == v {
		return st
	}
	st := newStanding(v, g.cell, g.router.cfg.Replica)
	g.standing.Store(st)
	return st
}
