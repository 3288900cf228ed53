package control

import (
	"context"
	"math"
	"slices"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// Load is how full a cell is, or would be.
type Load struct {
	Cell string // its ID

	// Slots, Tenants, Parts and Prefixes are how many it has of each. Tenants are those
	// with an entry of their own.
	Slots, Tenants, Parts, Prefixes int

	Load     int64 // of all tenants, as Config.Tenants has it
	Capacity int   // of the map

	// Utilisation is Load as a share of Capacity. Where no cell has a Capacity, it is as a
	// share of all load, by how much it exceeds an even one: 1 is even.
	Utilisation float64

	// Alarm reports that Utilisation is above Config.Headroom, where there is a Capacity.
	Alarm bool

	Cordoned bool // as in the map
}

// Overview is the state of everything, for people and their tools.
type Overview struct {
	Version uint64   // of the map
	Cells   []Load   // in the order of the map
	Moves   []Status // that are under way
}

// Overview returns the state of everything.
func (c *Controller) Overview(ctx context.Context) (Overview, error) {
	s, err := c.Snapshot(ctx)
	if err != nil {
		return Overview{}, err
	}
	n, err := c.census(ctx, s)
	if err != nil {
		return Overview{}, err
	}
	return Overview{s.Version, n.loads(c.cfg.Headroom), c.moves(s)}, nil
}

// census is how much there is of everything in a map.
type census struct {
	s     *cell.Snapshot
	loads map[Unit]int64
	fixed map[string]int64 // by cells: of tenants that have a prefix, which cannot be moved
}

// census counts, by calling Tenants, on the goroutine that asked.
func (c *Controller) census(ctx context.Context, s *cell.Snapshot) (*censused, error) {
	n := census{s, map[Unit]int64{}, map[string]int64{}}
	if c.cfg.Tenants == nil {
		units(s, func(u Unit, _ cell.Assignment) { n.loads[u] = 1 })
		return n.count(), nil
	}
	if err := c.cfg.Tenants(ctx, n.add); err != nil {
		return nil, err
	}
	return n.count(), nil
}

// add adds a tenant. One that is split has as much in each part: nothing says more.
func (n *census) add(tenant string, size int) {
	load := min(max(int64(size), 0), math.MaxInt32) // so that sums fit
	if parts := len(n.s.Splits[tenant]); parts > 0 {
		for i := range parts {
			n.loads[Unit{tenant, i}] += (load + int64(i)) / int64(parts)
		}
		return
	}
	switch a, source := n.s.Lookup(tenant, ""); source {
	case "tenant":
		n.loads[Unit{Tenant: tenant}] += load
	case "slot":
		n.loads[Unit{Index: n.s.Slot(tenant)}] += load
	default:
		n.fixed[a.Cell] += load
	}
}

// item is a unit as plans see it.
type item struct {
	unit   Unit
	load   int64
	cell   string
	moving bool
	pinned bool // by an entry of its own
}

// censused is a census that was counted: what plans go by. It is never changed.
type censused struct {
	s     *cell.Snapshot
	items []item // in the order of their units
	fixed map[string]int64
}

func (n *census) count() *censused {
	c := &censused{s: n.s, fixed: n.fixed}
	units(n.s, func(u Unit, a cell.Assignment) {
		at := a.Cell
		if a.Phase != cell.Stable {
			at = newMove(u, a, 0).To // there it needs a place, however far it has come
		}
		_, pinned := n.s.Tenants[u.Tenant]
		c.items = append(c.items, item{u, n.loads[u], at, a.Phase != cell.Stable, pinned})
	})
	slices.SortFunc(c.items, func(a, b item) int { return compareUnits(a.unit, b.unit) })
	return c
}

func (c *censused) loads(headroom float64) []Load {
	return tally(c.s.Cells, c.s, c.items, c.fixed, headroom)
}

// tally adds up what cells have.
func tally(
	cells []cell.Cell, s *cell.Snapshot, items []item, fixed map[string]int64, headroom float64,
) []Load {
	all := make([]Load, len(cells))
	at := make(map[string]*Load, len(cells))
	for i, c := range cells {
		all[i] = Load{Cell: c.ID, Capacity: c.Capacity, Cordoned: c.Cordoned, Load: fixed[c.ID]}
		at[c.ID] = &all[i]
	}
	for _, it := range items {
		l := at[it.cell]
		if l == nil {
			continue
		}
		l.Load += it.load
		switch {
		case it.unit.Tenant == "":
			l.Slots++
		case len(s.Splits[it.unit.Tenant]) > 0:
			l.Parts++
		default:
			l.Tenants++
		}
	}
	for _, a := range s.Prefixes {
		if l := at[a.Cell]; l != nil {
			l.Prefixes++
		}
	}
	utilise(all, headroom)
	return all
}

func utilise(all []Load, headroom float64) {
	total, bounded := int64(0), false
	for _, l := range all {
		total += l.Load
		bounded = bounded || l.Capacity > 0
	}
	for i := range all {
		l := &all[i]
		switch {
		case l.Capacity > 0:
			l.Utilisation = float64(l.Load) / float64(l.Capacity)
		case !bounded && total > 0:
			l.Utilisation = float64(l.Load) * float64(len(all)) / float64(total)
		case bounded && l.Load > 0:
			l.Utilisation = float64(l.Load) // a Capacity of 0 is exceeded by anything
		}
		l.Alarm = bounded && l.Utilisation > headroom
	}
}
