package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/shuffle/cell"
)

// Goal is what a plan is made for. Its fields can be combined.
type Goal struct {
	// Add are new cells. Each gets an even part, by Capacity, of what the others have.
	// If empty, there are none.
	Add []cell.Cell

	// Drain are the cells that give away what they have; all tenants, or Percent of them.
	// If empty, none does.
	Drain []string

	// Percent is how much of the tenants a drain concerns, from above 0 to 100: always the
	// same ones, so 5 adds to what 1 has moved, and a canary that grows moves nobody twice.
	// It is a share of units, by their hash, and never of somebody's requests. If zero,
	// 100, and the cells are cordoned.
	Percent float64

	// To are the cells that may get what is drained: one, for a canary. If empty, all that
	// are not cordoned.
	To []string

	// Remove takes the drained cells off the map at the end. If zero, they stay.
	Remove bool

	// Even has cells that are fuller than the others give to those. If zero, they do not:
	// every move is a risk, and to be uneven is none while nobody is full.
	Even bool
}

// Plan is what would be done. It has changed nothing: print it, and give it to
// [Controller.Run] if it is good.
type Plan struct {
	Version uint64 // of the map that it was made from
	Goal    Goal   // what it was made for
	Moves   []Move // the largest first

	// Unplaced are the units that had to be moved, but that no cell has room for, or that
	// are being moved at present. Their To is empty.
	Unplaced []Move

	Before []Load // of each cell
	After  []Load // the same, with the new ones, once all Moves are done
}

// String returns the plan for people, a line for each cell.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d moves, %d without a place, from version %d\n",
		len(p.Moves), len(p.Unplaced), p.Version)
	for i, l := range p.After {
		was := Load{}
		if i < len(p.Before) {
			was = p.Before[i]
		}
		mark := ""
		if l.Alarm {
			mark = ", which is above the headroom"
		}
		fmt.Fprintf(&b, "%s: load %d to %d of %d, %.2f to %.2f%s\n",
			l.Cell, was.Load, l.Load, l.Capacity, was.Utilisation, l.Utilisation, mark)
	}
	return b.String()
}

// Plan returns how to reach a goal from the map as it is, and changes nothing. Nobody is
// moved who need not be, nobody twice, and no cell is filled beyond its Capacity; where no
// cell has one, they are all of one size and without a bound, and where some have, the
// others are given nothing. A tenant with an entry of its own moves only if its cell is
// drained, and what a prefix stands for does not move at all.
func (c *Controller) Plan(ctx context.Context, g Goal) (Plan, error) {
	return c.plan(ctx, g, false)
}

// Simulate returns what it would be like without some cells: who would go where, for whom
// there is no room, and how full the others would be. It is a plan that nobody has to
// follow; who is in the midst of a move to those cells counts as well.
func (c *Controller) Simulate(ctx context.Context, dead ...string) (Plan, error) {
	return c.plan(ctx, Goal{Drain: dead}, true)
}

func (c *Controller) plan(ctx context.Context, g Goal, all bool) (Plan, error) {
	s, err := c.Snapshot(ctx)
	if err != nil {
		return Plan{}, err
	}
	if err := g.check(s); err != nil {
		return Plan{}, err
	}
	n, err := c.census(ctx, s)
	if err != nil {
		return Plan{}, err
	}
	p := newPlanner(n, g)
	plan := Plan{Version: s.Version, Goal: g, Before: n.loads(c.cfg.Headroom)}
	p.drain(all)
	p.share()
	plan.Moves, plan.Unplaced = p.moves, p.unplaced
	plan.After = tally(p.cells, s, p.items, n.fixed, c.cfg.Headroom)
	return plan, nil
}

// check returns an error if a goal cannot be one for a map.
func (g *Goal) check(s *cell.Snapshot) error {
	var errs []error
	if !(g.Percent >= 0 && g.Percent <= 100) {
		const text = "control: Percent is %v, but must be from 0 to 100"
		errs = append(errs, fmt.Errorf(text, g.Percent))
	}
	if g.Remove && g.Percent != 0 && g.Percent != 100 {
		const text = "control: Percent is %v, but cells are to be removed"
		errs = append(errs, fmt.Errorf(text, g.Percent))
	}
	added := map[string]bool{}
	for _, a := range g.Add {
		if _, err := findCell(s, a.ID); err == nil || added[a.ID] {
			errs = append(errs, fmt.Errorf("control: there is a cell %.100q already", a.ID))
		}
		added[a.ID] = true
	}
	for _, id := range slices.Concat(g.Drain, g.To) {
		if _, err := findCell(s, id); err != nil && !added[id] {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (g *Goal) percent() float64 {
	if g.Percent == 0 {
		return 100
	}
	return g.Percent
}

// Run does what a plan says: it adds the new cells, cordons those that are drained, moves
// one unit after the other, Parallel of them at a time and so many in an hour as MaxSlots
// and MaxTenants say, and removes cells at last. A unit that is not where it was when the
// plan was made is left alone. What fails does not stop the others; the error has all of
// it. A plan that was interrupted need not be kept: Resume, and make another one.
func (c *Controller) Run(ctx context.Context, p Plan) error {
	if len(p.Moves) > 0 {
		if err := c.cfg.Hooks.ready(); err != nil {
			return err
		}
	}
	if err := c.prepare(ctx, &p.Goal); err != nil {
		return err
	}
	err := each(c.cfg.Parallel, p.Moves, func(m Move) error { return c.follow(ctx, m) })
	if err != nil || !p.Goal.Remove {
		return err
	}
	_, err = c.update(ctx, func(s *cell.Snapshot) error {
		s.Cells = slices.DeleteFunc(s.Cells, func(at cell.Cell) bool {
			return slices.Contains(p.Goal.Drain, at.ID)
		})
		return nil // who is still there has the map refused
	})
	return err
}

// prepare makes the map ready for the moves of a goal.
func (c *Controller) prepare(ctx context.Context, g *Goal) error {
	cordons := len(g.Drain) > 0 && g.percent() == 100
	if len(g.Add) == 0 && !cordons {
		return nil
	}
	_, err := c.update(ctx, func(s *cell.Snapshot) error {
		for _, a := range g.Add {
			if _, err := findCell(s, a.ID); err != nil {
				s.Cells = append(s.Cells, a)
			}
		}
		for i := range s.Cells {
			if cordons && slices.Contains(g.Drain, s.Cells[i].ID) {
				s.Cells[i].Cordoned = true
			}
		}
		return nil
	})
	return err
}

// follow makes one move of a plan when there is time for it.
func (c *Controller) follow(ctx context.Context, m Move) error {
	for {
		if ctx.Err() != nil {
			return ended.New(ctx, "control", true)
		}
		s, err := c.Snapshot(ctx)
		if err != nil {
			return err
		}
		a, _, err := find(s, m.Unit)
		if err != nil {
			return err
		}
		if a.Cell != m.From || a.Phase != cell.Stable {
			return nil
		}
		d := c.take(m.Unit, len(s.Slots))
		if d == 0 {
			return c.Move(ctx, m.Unit, m.To)
		}
		if err := wait(ctx, d); err != nil {
			return err
		}
	}
}

// take returns 0, or in how long to ask again.
func (c *Controller) take(u Unit, slots int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.Tenant != "" {
		return c.limits.tenants.take(c.now(), float64(c.cfg.MaxTenants))
	}
	limit := c.cfg.MaxSlots * float64(slots)
	if limit >= 0 {
		limit = max(1, limit)
	}
	return c.limits.slots.take(c.now(), limit)
}

// pace holds what is begun to so much an hour. It has no clock and no lock.
type pace struct {
	slots, tenants bucket
}

// bucket is filled by moves, and emptied by an hour.
type bucket struct {
	level float64
	at    time.Duration
}

func (b *bucket) take(now time.Duration, limit float64) time.Duration {
	if limit < 0 {
		return 0
	}
	b.level = max(0, b.level-(now-b.at).Hours()*limit)
	b.at = now
	if b.level+1 > limit {
		return max(time.Second, time.Duration((b.level+1-limit)/limit*float64(time.Hour)))
	}
	b.level++
	return 0
}
