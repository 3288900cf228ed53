package cell

import (
	"errors"
	"time"
)

// ErrNoSnapshot is what a [Router] says before it has any map. There is no default cell:
// a tenant that is sent to a wrong one begins there with no data, and goes on writing.
var ErrNoSnapshot error = &noSnapshotError{"cell: no snapshot yet"}

type noSnapshotError struct{ text string }

func (e *noSnapshotError) Error() string      { return e.text }
func (e *noSnapshotError) NotAttempted() bool { return true }

var errUnconfirmed = errors.New("cell: the map is from the seed, and was not confirmed yet")

// Route is where a tenant's requests go.
type Route struct {
	// Cell is the ID of the active cell, and Address its address.
	Cell, Address string

	// Epoch goes along with each request, so that the cell can tell when it is late.
	Epoch uint64

	// Phase is how far a move of the tenant has come. Nobody writes in phase Flipping.
	Phase Phase

	// Peer is the other cell of a move, for those who mirror what they write.
	Peer string

	// Source is what in the map says so, for people and labels: "tenant", "split",
	// "prefix" or "slot".
	Source string

	// Stale reports whether the map was not confirmed for MaxAge, or not at all. The
	// route is the best there is all the same.
	Stale bool

	view *view
}

// Age returns how long ago the pull was sent that last confirmed the map, or, if none has
// since the process began, how old the map is by the clocks of two machines.
func (r *Route) Age() time.Duration {
	if r.view == nil {
		return 0
	}
	return max(0, time.Since(r.view.since))
}

// Version returns the version of the map.
func (r *Route) Version() uint64 {
	if r.view == nil {
		return 0
	}
	return r.view.table.snapshot.Version
}

// Route returns who has a tenant. The error is [ErrNoSnapshot] or nil. Any name has a
// route, also that of a tenant nobody has heard of: to make sure of tenants is the
// business of those who authenticate them.
//
// It takes no lock, does no I/O and allocates nothing. Of a tenant that is split it
// returns the part of the empty key.
func (r *Router) Route(tenant string) (route Route, err error) {
	v := r.view.Load()
	if v == nil {
		return route, ErrNoSnapshot
	}
	i, source := v.table.find(tenant, "")
	v.fill(&route, i, source)
	return route, nil
}

// RouteKey is Route for a tenant that may be too big for one cell. If it is split, the key,
// such as a user's, decides which of its parts the request is for; else the key does not
// matter.
func (r *Router) RouteKey(tenant, key string) (route Route, err error) {
	v := r.view.Load()
	if v == nil {
		return route, ErrNoSnapshot
	}
	i, source := v.table.find(tenant, key)
	v.fill(&route, i, source)
	return route, nil
}

// fill writes a route to where the caller returns it from. To return it here as well would
// be to copy it twice.
func (v *view) fill(route *Route, i uint32, source string) {
	e := &v.table.entries[i]
	c := &v.table.cells[e.cell]
	route.Cell, route.Address, route.Epoch = c.ID, c.Address, e.epoch
	route.Phase, route.Source, route.Stale, route.view = e.phase, source, v.stale, v
	if e.peer != noPeer {
		route.Peer = v.table.cells[e.peer].ID
	}
}

// Snapshot returns the map that is in force, or nil if there is none. It must not be
// changed.
func (r *Router) Snapshot() *Snapshot {
	if v := r.view.Load(); v != nil {
		return v.table.snapshot
	}
	return nil
}

// Ready returns nil if there is a map to go by that was in force once: confirmed by a
// pull, or read from Path; or the Seed, if AllowSeed says so. Else [ErrNoSnapshot], or an
// error that says that the seed has to be confirmed.
//
// A map that is stale is still ready. Were it not, an outage of the control plane would
// take all edges out of service at the same time.
func (r *Router) Ready() error {
	switch v := r.view.Load(); {
	case v == nil:
		return ErrNoSnapshot
	case v.origin == originSeed && !r.cfg.AllowSeed:
		return errUnconfirmed
	}
	return nil
}
