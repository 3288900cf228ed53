package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// Cordon says whether a cell is given nothing more: by plans, and by Move. Who is there
// stays, and moves that have begun go on.
func (c *Controller) Cordon(ctx context.Context, cellID string, cordoned bool) error {
	_, err := c.update(ctx, func(s *cell.Snapshot) error {
		at, err := findCell(s, cellID)
		if err != nil {
			return err
		}
		at.Cordoned = cordoned
		return nil
	})
	return err
}

// Pin gives a tenant an entry of its own where it is, so that it stays when its slot is
// moved. A tenant that is split cannot be pinned, and need not be; nor one whose slot is
// being moved at the moment.
func (c *Controller) Pin(ctx context.Context, tenant string) error {
	_, err := c.update(ctx, func(s *cell.Snapshot) error {
		u := Unit{Tenant: tenant}
		a, own, err := find(s, u)
		switch {
		case err != nil, own:
			return err
		case a.Phase != cell.Stable:
			return fmt.Errorf("%w: what has %v is %v", ErrBusy, u, a.Phase)
		}
		assign(s, u, a)
		return nil
	})
	return err
}

// Unpin takes the entry from a tenant. What it would be by without it, its prefix or its
// slot, must have it in the same cell: move one of them first. If their epochs differ,
// that gets a new one, so requests of all tenants there are sent again once.
func (c *Controller) Unpin(ctx context.Context, tenant string) error {
	_, err := c.update(ctx, func(s *cell.Snapshot) error { return unpin(s, tenant) })
	return err
}

func unpin(s *cell.Snapshot, tenant string) error {
	own, pinned := s.Tenants[tenant]
	if !pinned {
		return fmt.Errorf("control: %v has no entry", Unit{Tenant: tenant})
	}
	delete(s.Tenants, tenant)
	a, source := s.Lookup(tenant, "")
	switch {
	case own.Phase != cell.Stable || a.Phase != cell.Stable:
		return fmt.Errorf("%w: %v is %v, and its %s %v", ErrBusy, Unit{Tenant: tenant},
			own.Phase, source, a.Phase)
	case own.Cell != a.Cell:
		return fmt.Errorf("control: %v is in cell %q, but by its %s would be in %q",
			Unit{Tenant: tenant}, own.Cell, source, a.Cell)
	case own.Epoch == a.Epoch:
		return nil
	}
	a.Epoch = s.Version
	if source == "slot" {
		s.Slots[s.Slot(tenant)] = a
		return nil
	}
	for n := len(tenant); n > 0; n-- {
		if _, ok := s.Prefixes[tenant[:n]]; ok {
			s.Prefixes[tenant[:n]] = a
			break
		}
	}
	return nil
}

// Explanation is why a tenant is where it is.
type Explanation struct {
	Version    uint64          // of the map
	Slot       int             // of the tenant, whether or not it counts
	Source     string          // what counts: "tenant", "split", "prefix" or "slot"
	Unit       Unit            // that would be moved
	Assignment cell.Assignment // what it says
	Cell       cell.Cell       // the active one

	// Waiting is what holds up its move, if there is one, as [Status] has it.
	Waiting []string
}

// Explain returns why a tenant is where it is; if it is split, its part that has the key.
func (c *Controller) Explain(ctx context.Context, tenant, key string) (Explanation, error) {
	s, err := c.Snapshot(ctx)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Version: s.Version, Slot: s.Slot(tenant), Unit: Unit{Tenant: tenant}}
	e.Assignment, e.Source = s.Lookup(tenant, key)
	switch e.Source {
	case "slot":
		e.Unit = Unit{Index: e.Slot}
	case "split":
		e.Unit.Index = partOf(s, tenant, key)
	}
	if at, err := findCell(s, e.Assignment.Cell); err == nil {
		e.Cell = *at
	}
	e.Waiting = c.waiting(s, e.Assignment)
	return e, nil
}

// Status is a move that is under way.
type Status struct {
	Move // as hooks are given it

	// Waiting are the replicas that have not settled this version of the map, of the cell
	// that the move has to wait for in this phase. It is what this controller has heard:
	// those who pull from another one may have told that.
	Waiting []string
}

// Moves returns the moves that are in the map, in the order of their units.
func (c *Controller) Moves(ctx context.Context) ([]Status, error) {
	s, err := c.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return c.moves(s), nil
}

func (c *Controller) moves(s *cell.Snapshot) []Status {
	var all []Status
	units(s, func(u Unit, a cell.Assignment) {
		if a.Phase != cell.Stable {
			all = append(all, Status{newMove(u, a, s.Version), c.waiting(s, a)})
		}
	})
	slices.SortFunc(all, func(a, b Status) int { return compareUnits(a.Unit, b.Unit) })
	return all
}

// waiting goes by an epoch if the driver is not at hand, that has waited since an earlier
// version perhaps.
func (c *Controller) waiting(s *cell.Snapshot, a cell.Assignment) []string {
	if a.Phase == cell.Stable || a.Phase == cell.Replicating {
		return nil
	}
	p := progress{a: a, version: s.Version, began: s.Version}
	id, version := p.needs()
	at, err := findCell(s, id)
	if err != nil {
		return nil // a valid map has it
	}
	return c.silent(at, version)
}

func compareUnits(a, b Unit) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Index, b.Index))
}
