package control

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// Unit is what can be moved by itself: a slot with all its tenants, a tenant, or one part
// of a tenant that is split. There is no moving of a share of somebody's requests: the
// rest of them would be without its data.
type Unit struct {
	// Tenant is the name of the tenant. If empty, it is the slot of Index.
	Tenant string

	// Index is that of the slot, or of the part. For a tenant that is not split it is 0.
	Index int
}

// String returns "slot/17", "tenant/acme", or "part/3/acme". Part 0 of a tenant that is
// split reads as the tenant: it takes the map to know.
func (u Unit) String() string {
	switch {
	case u.Tenant == "":
		return "slot/" + strconv.Itoa(u.Index)
	case u.Index == 0:
		return "tenant/" + u.Tenant
	}
	return "part/" + strconv.Itoa(u.Index) + "/" + u.Tenant
}

// MarshalText returns what String does.
func (u Unit) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText takes what String returns.
func (u *Unit) UnmarshalText(text []byte) error {
	kind, rest, _ := strings.Cut(string(text), "/")
	if kind == "tenant" && rest != "" {
		*u = Unit{Tenant: rest}
		return nil
	}
	index, tenant, named := strings.Cut(rest, "/")
	n, err := strconv.ParseUint(index, 10, 16)
	good := err == nil && (kind == "slot" && !named || kind == "part" && tenant != "")
	if !good {
		return fmt.Errorf("control: %.100q is no unit", text)
	}
	*u = Unit{tenant, int(n)}
	return nil
}

// Has reports whether what a tenant keeps under a key is in u, by the map s. The key is of
// no consequence where the tenant is not split. It is how a hook that has to copy a slot
// finds whom to copy: those with an entry of their own are elsewhere.
func (u Unit) Has(s *cell.Snapshot, tenant, key string) bool {
	if u.Tenant != "" && u.Tenant != tenant {
		return false
	}
	switch _, source := s.Lookup(tenant, key); source {
	case "tenant":
		return u == Unit{Tenant: tenant}
	case "split":
		return u == Unit{tenant, partOf(s, tenant, key)}
	case "slot":
		return u == Unit{Index: s.Slot(tenant)}
	}
	return false
}

// partOf returns which part of a tenant has a key. A map tells who has it and not which it
// is, so this asks one in which each part says.
func partOf(s *cell.Snapshot, tenant, key string) int {
	parts := make([]cell.Assignment, len(s.Splits[tenant]))
	for i := range parts {
		parts[i].Epoch = uint64(i)
	}
	probe := cell.Snapshot{Splits: map[string][]cell.Assignment{tenant: parts}}
	a, _ := probe.Lookup(tenant, key)
	return int(a.Epoch)
}

// Move is one move, as a plan proposes it and as hooks are given it.
type Move struct {
	// Unit is what is moved.
	Unit Unit

	// From and To are IDs of cells. From is the one that is left with nothing: after an
	// Abort that is where it was going, and after a Rollback where it had been.
	From, To string

	// Phase is how far it has come. In a plan, Stable.
	Phase cell.Phase

	// Epoch is that of the active cell: From up to Flipping, and To as of Draining. In a
	// plan, 0.
	Epoch uint64

	// Version is that of the map by which a hook is called. It grows from phase to phase,
	// so it tells a call that was late on its way from those after it. In a plan, 0.
	Version uint64
}

func newMove(u Unit, a cell.Assignment, version uint64) Move {
	m := Move{u, a.Cell, a.Peer, a.Phase, a.Epoch, version}
	if a.Phase == cell.Draining || a.Phase == cell.Cleaning {
		m.From, m.To = a.Peer, a.Cell
	}
	return m
}

// find returns who has u, and whether u has an entry of its own: of a tenant that has none
// it is what its prefix or its slot says.
func find(s *cell.Snapshot, u Unit) (a cell.Assignment, own bool, err error) {
	parts, split := s.Splits[u.Tenant]
	switch {
	case u.Tenant == "":
		parts = s.Slots
	case !split:
		parts = nil
	}
	if u.Tenant != "" && !split && u.Index == 0 {
		a, own = s.Tenants[u.Tenant]
		if !own {
			a, _ = s.Lookup(u.Tenant, "")
		}
		return a, own, nil
	}
	if u.Index < 0 || u.Index >= len(parts) {
		return a, false, fmt.Errorf("control: there is no %v among %d", u, len(parts))
	}
	return parts[u.Index], true, nil
}

// assign sets who has u, which find has found.
func assign(s *cell.Snapshot, u Unit, a cell.Assignment) {
	switch parts := s.Splits[u.Tenant]; {
	case u.Tenant == "":
		s.Slots[u.Index] = a
	case parts != nil:
		parts[u.Index] = a
	default:
		if s.Tenants == nil {
			s.Tenants = map[string]cell.Assignment{}
		}
		s.Tenants[u.Tenant] = a
	}
}

// units calls yield with each unit of a map, in no order.
func units(s *cell.Snapshot, yield func(Unit, cell.Assignment)) {
	for i, a := range s.Slots {
		yield(Unit{Index: i}, a)
	}
	for tenant, a := range s.Tenants {
		yield(Unit{Tenant: tenant}, a)
	}
	for tenant, parts := range s.Splits {
		for i, a := range parts {
			yield(Unit{tenant, i}, a)
		}
	}
}
