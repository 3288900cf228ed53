package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// advance stores what a function makes of an assignment, if that is still what it was, and
// check has nothing against it.
func (c *Controller) advance(
	ctx context.Context, u Unit, from cell.Assignment,
	to func(cell.Assignment, uint64) cell.Assignment, check func(*cell.Snapshot) error,
) error {
	var is cell.Assignment
	v, err := c.update(ctx, func(s *cell.Snapshot) error {
		a, own, err := find(s, u)
		if err != nil || !own || a != from {
			return errors.Join(errChanged, err)
		}
		if check != nil {
			if err := check(s); err != nil {
				return err
			}
		}
		is = to(a, s.Version)
		assign(s, u, is)
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case is.Cell != from.Cell:
		c.count(&c.stats.Flipped)
	case is.Epoch != from.Epoch:
		c.count(&c.stats.Aborted)
	}
	c.changed(u, from, is, v.record.Version)
	return nil
}

// Abort gives up the move of a unit before its flip, and returns when that is stored; if
// it is after the flip or there is no move, the error matches [ErrBusy]. What was copied
// is cleaned by who drives: if nobody does, Resume.
func (c *Controller) Abort(ctx context.Context, u Unit) error {
	return c.turn(ctx, u, aborted, cell.Replicating, cell.Flipping)
}

// Rollback turns a move round after its flip: the unit goes back by a move of its own, with
// all its phases and a later epoch, since what was written after the flip is in the target
// alone. It returns when that is stored; if there is no move that has flipped, the error
// matches [ErrBusy]. If nobody drives, Resume does.
func (c *Controller) Rollback(ctx context.Context, u Unit) error {
	if err := c.cfg.Hooks.ready(); err != nil {
		return err
	}
	return c.turn(ctx, u, repeated, cell.Draining, cell.Cleaning)
}

func (c *Controller) turn(
	ctx context.Context, u Unit, to func(cell.Assignment, uint64) cell.Assignment,
	first, last cell.Phase,
) error {
	for {
		v, err := c.load(ctx)
		if err != nil {
			return err
		}
		a, own, err := find(v.snapshot, u)
		if err != nil {
			return err
		}
		if !own || a.Phase < first || a.Phase > last {
			return fmt.Errorf("%w: %v is %v", ErrBusy, u, a.Phase)
		}
		err = c.advance(ctx, u, a, to, nil)
		if !errors.Is(err, errChanged) {
			c.interrupt(u)
			return err
		}
	}
}

// Change is one step of a move, as [Config].OnChange gets it.
type Change struct {
	Name    string          // Config.Name
	Unit    Unit            // what is moved
	From    cell.Assignment // before
	To      cell.Assignment // as of Version
	Version uint64          // of the map that has it
}

func (c *Controller) changed(u Unit, from, to cell.Assignment, version uint64) {
	if c.cfg.OnChange != nil {
		c.cfg.OnChange(Change{c.cfg.Name, u, from, to, version})
	}
}
