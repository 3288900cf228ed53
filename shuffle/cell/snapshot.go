package cell

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ErrInvalid is matched by the error of a snapshot that cannot be used: it is damaged,
// contradicts itself, or is not what can come after the one before.
var ErrInvalid = errors.New("cell: invalid snapshot")

// Snapshot is the whole map: which cells there are, and which of them has whom. Whoever
// plans makes one, and whoever routes pulls it whole; there are no updates to lose or to
// get in the wrong order. Once it has been encoded, or a [Router] has it, nobody may
// change it: [Snapshot.Clone] is what to change.
type Snapshot struct {
	// Version grows by at least one with each change. Two maps of one version are a
	// mistake that nobody resolves by taking either.
	Version uint64

	// Issued is when this version was made, by the clock of who made it.
	Issued time.Time

	// Lease is for how long a replica may go on writing for a tenant that is being moved
	// after the last pull that it sent and had a good answer to. It is in the map because
	// replicas and whoever flips must have the same: a gate that believed in a longer one
	// than the flip waits for would write after it. At most an hour.
	Lease time.Duration

	// Forced is the last version whose moves an operator has let pass without the bounds
	// of [Config]. It is a version and not a flag since those who pull do not see each
	// one: who comes from before it, and sees the one after it, must let them pass too.
	Forced uint64

	// Cells are all cells, also those that have nobody.
	Cells []Cell

	// Slots are who has which part of all tenants: a power of two of them, from 1 to
	// 65,536, and the same number for ever. 16,384 are right for up to a thousand cells.
	Slots []Assignment

	// Tenants are those that have a cell whatever their slot says.
	Tenants map[string]Assignment

	// Prefixes are of names of tenants. The longest that fits counts, after Tenants and
	// Splits, and before Slots. They are for tenants yet to come: there is no move for all
	// that a prefix stands for, and tenants who are there already would change cells
	// without their data.
	Prefixes map[string]Assignment

	// Splits are the tenants that are too big for one cell. Each is a table of its own, a
	// power of two of parts, which have what [Router.RouteKey] is given as the key.
	Splits map[string][]Assignment
}

// Cell is one copy of the service, with data of its own.
type Cell struct {
	// ID tells cells apart. It must not be empty, and stays with the data.
	ID string

	// Address is where an edge finds the cell, as host and port or as a URL. Those who
	// do not need one leave it empty.
	Address string

	// Capacity is how much the cell holds at most, in what the planner counts.
	Capacity int

	// Cordoned says that a planner gives the cell nothing more. It changes no route.
	Cordoned bool

	// Replicas are the processes of the cell that may write for a tenant at rest without
	// a lease, which is what lets them go on through an outage of the control plane. Where
	// there are any, nobody else may write in this cell. Where there are none, anybody
	// may who has a lease. A move has to wait for each of them, so a name may only be
	// taken out when its process has ended.
	Replicas []string
}

// Assignment is who has a tenant, a part of one, or a slot. There is one active cell, at
// any time and by construction.
type Assignment struct {
	// Cell is the ID of the active one.
	Cell string

	// Epoch is the version of the map with which Cell became the active one. To give it
	// the current version without a change of cells is always allowed. What was sent with
	// an earlier epoch is refused then.
	Epoch uint64

	// Phase is how far a move has come. If zero, Stable.
	Phase Phase

	// Peer is the other cell of a move: where it goes up to Flipping, and where it came
	// from as of Draining. It is empty in phase Stable.
	Peer string
}

// Phase is how far a move of an assignment has come.
type Phase uint8

// The phases, in the order of a move. Up to Flipping the source is the active cell, and as
// of Draining the target.
const (
	Stable      Phase = iota // at rest
	Replicating              // the target gets a copy; the source has reads and writes
	Verifying                // the copy is compared; the source has reads and writes
	Flipping                 // the source has reads; nobody writes
	Draining                 // the target has all; what began at the source ends
	Cleaning                 // the target has all; the source can be emptied
	phases
)

// String returns the name in lower case.
func (p Phase) String() string {
	if p >= phases {
		return fmt.Sprintf("phase(%d)", uint8(p))
	}
	return [...]string{
		"stable", "replicating", "verifying", "flipping", "draining", "cleaning",
	}[p]
}

// MarshalText returns what String does.
func (p Phase) MarshalText() ([]byte, error) {
	if p >= phases {
		return nil, fmt.Errorf("%w: no phase %d", ErrInvalid, uint8(p))
	}
	return []byte(p.String()), nil
}

// UnmarshalText takes the name of a phase.
func (p *Phase) UnmarshalText(text []byte) error {
	for q := range phases {
		if string(text) == q.String() {
			*p = q
			return nil
		}
	}
	return fmt.Errorf("%w: no phase %.100q", ErrInvalid, text)
}

// leased reports whether nobody writes without a lease. In Cleaning the target may write
// without one, since the source can be kept for days, and no outage should stop a tenant
// whose move is as good as over: to go back from there is a move from its beginning.
func (p Phase) leased() bool { return p != Stable && p != Cleaning }

// Clone returns a copy that can be changed.
func (s *Snapshot) Clone() *Snapshot {
	c := *s
	c.Cells = slices.Clone(s.Cells)
	for i := range c.Cells {
		c.Cells[i].Replicas = slices.Clone(c.Cells[i].Replicas)
	}
	c.Slots = slices.Clone(s.Slots)
	c.Tenants = maps.Clone(s.Tenants)
	c.Prefixes = maps.Clone(s.Prefixes)
	c.Splits = maps.Clone(s.Splits)
	for tenant, parts := range c.Splits {
		c.Splits[tenant] = slices.Clone(parts)
	}
	return &c
}

// Slot returns the index of a tenant's slot: the upper bits of the XXH64 of its name, as
// many as it takes. Each name has one, also those that never had a tenant.
func (s *Snapshot) Slot(tenant string) int { return part(xxh64(tenant), len(s.Slots)) }

// Lookup returns who has a tenant, or of one that is split the part of the key, and what
// says so: "tenant", "split", "prefix" or "slot". A [Router] says the same, and faster.
// Where there is no slot either, the result is zero.
func (s *Snapshot) Lookup(tenant, key string) (Assignment, string) {
	if a, ok := s.Tenants[tenant]; ok {
		return a, sourceTenant
	}
	if parts := s.Splits[tenant]; len(parts) > 0 {
		return parts[part(xxh64(key), len(parts))], sourceSplit
	}
	for n := len(tenant); n > 0; n-- {
		if a, ok := s.Prefixes[tenant[:n]]; ok {
			return a, sourcePrefix
		}
	}
	if len(s.Slots) == 0 {
		return Assignment{}, ""
	}
	return s.Slots[s.Slot(tenant)], sourceSlot
}

// What says who has a tenant.
const (
	sourceTenant = "tenant"
	sourceSplit  = "split"
	sourcePrefix = "prefix"
	sourceSlot   = "slot"
)
