package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// Controller changes the map of a [Store], and drives moves through it. Make it with
// [New], and use it from any number of goroutines. It has no goroutine of its own but
// those of Run and Resume, which they wait for, and nothing to close.
//
// What it knows beside the map is what replicas have reported, which they do again with
// each pull. So any number of controllers may share a store, and one that was killed is
// replaced by a new one: see [Controller.Resume].
type Controller struct {
	cfg  Config
	base time.Time
	last atomic.Pointer[versioned] // what the store had

	mu      sync.Mutex
	settled map[replica]uint64 // by the reports; only of those that are listed
	driven  map[Unit]*drive
	limits  pace
	stats   Stats
}

type replica struct{ cell, name string }

// Stats is what a [Controller] has done since New. Counters only grow.
type Stats struct {
	Name      string // Config.Name
	Pulls     uint64 // answered
	Listed    uint64 // replicas that were added to the map
	Changes   uint64 // versions that were stored
	Conflicts uint64 // versions that were not, since somebody else was first
	Begun     uint64 // moves that were begun here
	Flipped   uint64 // units that were given to another cell
	Aborted   uint64 // moves that were given up before that
	Driven    int    // moves that are driven now; a gauge
}

// New returns a controller. It reads nothing yet. It panics if cfg is not valid; see
// [Config.Validate].
func New(cfg Config) *Controller {
	cfg = cfg.withDefaults()
	return &Controller{
		cfg: cfg, base: time.Now(),
		settled: map[replica]uint64{}, driven: map[Unit]*drive{},
	}
}

// Stats returns what the controller has done.
func (c *Controller) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Name, s.Driven = c.cfg.Name, len(c.driven)
	return s
}

func (c *Controller) count(counter *uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*counter++
}

// load returns the map as the store has it now.
func (c *Controller) load(ctx context.Context) (*versioned, error) {
	r, err := c.cfg.Store.Load(ctx)
	if err != nil {
		return nil, err
	}
	if r.Version == 0 {
		return nil, ErrEmpty
	}
	v, err := decode(r, c.last.Load())
	if err != nil {
		return nil, err
	}
	c.last.Store(v)
	return v, nil
}

// Snapshot returns the map as the store has it now. It must not be changed.
func (c *Controller) Snapshot(ctx context.Context) (*cell.Snapshot, error) {
	v, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	return v.snapshot, nil
}

// Create stores the first map. If there is one already, the error matches [ErrConflict].
func (c *Controller) Create(ctx context.Context, s *cell.Snapshot) error {
	b, err := s.Encode()
	if err != nil {
		return err
	}
	return c.cfg.Store.CompareAndSwap(ctx, 0, Record{s.Version, b})
}

// Update stores what change makes of the map, as the next version, and returns it. It is
// how anything is changed that is no move: cells are added, renamed in their address and
// removed, tenants split, and Forced set, to s.Version. Change is given a copy that has
// the version already, and is called again whenever somebody else was first. If it
// returns an error, nothing has changed, and so if what it made cannot follow
// ([cell.Snapshot.Follows]).
//
// An assignment that gets another cell by an Update has it at once, without its data, and
// while others may write: that is for tenants who have none.
func (c *Controller) Update(
	ctx context.Context, change func(s *cell.Snapshot) error,
) (*cell.Snapshot, error) {
	v, err := c.update(ctx, change)
	if err != nil {
		return nil, err
	}
	return v.snapshot, nil
}

func (c *Controller) update(
	ctx context.Context, change func(*cell.Snapshot) error,
) (*versioned, error) {
	for {
		old, err := c.load(ctx)
		if err != nil {
			return nil, err
		}
		next, err := successor(old.snapshot, change)
		if err != nil {
			return nil, err
		}
		err = c.cfg.Store.CompareAndSwap(ctx, old.record.Version, next.record)
		if err == nil {
			c.count(&c.stats.Changes)
			return next, nil
		}
		if !errors.Is(err, ErrConflict) || ctx.Err() != nil {
			return nil, err
		}
		c.count(&c.stats.Conflicts)
	}
}

// successor returns what change makes of a map.
func successor(old *cell.Snapshot, change func(*cell.Snapshot) error) (*versioned, error) {
	s := old.Clone()
	s.Version, s.Issued = old.Version+1, time.Now().UTC().Round(0)
	if err := change(s); err != nil {
		return nil, err
	}
	s.Version = old.Version + 1
	if err := s.Validate(); err != nil { // Follows relies on it
		return nil, err
	}
	if err := s.Follows(old); err != nil {
		return nil, err
	}
	b, err := s.Encode()
	if err != nil {
		return nil, err
	}
	return &versioned{Record{s.Version, b}, s}, nil
}

// Report is what a replica says along with a pull. An edge says nothing: its Report is
// zero.
type Report struct {
	// Cell and Replica are whose it is. If Replica is empty, nobody's.
	Cell, Replica string

	// Settled is what [cell.Gate.Settled] returned before the pull. If zero, nothing yet.
	Settled uint64
}

// Pull returns the encoded map as the store has it now, and takes note of what a replica
// has settled: it is the other side of a router's Source.
//
//	Source: func(ctx context.Context) ([]byte, error) {
//		report := control.Report{Cell: id, Replica: name, Settled: gate.Settled()}
//		return controller.Pull(ctx, report)
//	},
//
// A replica that its cell does not list is listed before it is answered, so that no move
// goes on without it; but not as the first one while the cell is being moved from: others
// write there with a lease, and moves would not wait for those any more. Who calls Pull is
// believed, so it is not for whoever can reach a port.
func (c *Controller) Pull(ctx context.Context, r Report) ([]byte, error) {
	v, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	if r.Settled > v.record.Version {
		return nil, fmt.Errorf("control: replica %.100q has settled version %d, but the "+
			"store has %d: it has gone back in time", r.Replica, r.Settled, v.record.Version)
	}
	if r.Replica != "" {
		if v, err = c.list(ctx, r, v); err != nil {
			return nil, err
		}
		c.note(r, v.snapshot)
	}
	c.count(&c.stats.Pulls)
	return v.record.Map, nil
}

var errListed = errors.New("control: it is listed")

// list returns a map that lists the replica of r, or cannot.
func (c *Controller) list(ctx context.Context, r Report, v *versioned) (*versioned, error) {
	for {
		if at, err := findCell(v.snapshot, r.Cell); err != nil {
			return nil, err
		} else if listed(at, r.Replica) || !mayList(v.snapshot, at) {
			return v, nil
		}
		_, err := c.update(ctx, func(s *cell.Snapshot) error { return c.add(s, r) })
		if err == nil {
			c.count(&c.stats.Listed)
		} else if !errors.Is(err, errListed) {
			return nil, err
		}
		// What was stored is not handed out as it is: it may have been replaced since, and
		// whoever pulls could see that first.
		if v, err = c.load(ctx); err != nil {
			return nil, err
		}
	}
}

// add is a change that lists a replica.
func (c *Controller) add(s *cell.Snapshot, r Report) error {
	at, err := findCell(s, r.Cell)
	switch {
	case err != nil:
		return err
	case listed(at, r.Replica) || !mayList(s, at):
		return errListed
	case len(at.Replicas) >= c.cfg.MaxReplicas:
		return fmt.Errorf("control: cell %q lists %d replicas already, and %.100q would be one "+
			"more: retire those that have ended", at.ID, len(at.Replicas), r.Replica)
	}
	at.Replicas = append(at.Replicas, r.Replica)
	return nil
}

// mayList reports whether a cell may list a replica that it does not. While nobody is
// listed, replicas that nobody knows of write under leases; and a flip must wait for those
// unless somebody has been listed from before the move.
func mayList(s *cell.Snapshot, at *cell.Cell) bool {
	if len(at.Replicas) > 0 {
		return true
	}
	may := true
	units(s, func(_ Unit, a cell.Assignment) {
		moving := a.Phase != cell.Stable && a.Phase != cell.Cleaning && a.Phase != cell.Draining
		may = may && (!moving || a.Cell != at.ID)
	})
	return may
}

func listed(at *cell.Cell, name string) bool { return slices.Contains(at.Replicas, name) }

func findCell(s *cell.Snapshot, id string) (*cell.Cell, error) {
	for i := range s.Cells {
		if s.Cells[i].ID == id {
			return &s.Cells[i], nil
		}
	}
	return nil, fmt.Errorf("control: there is no cell %.100q", id)
}

// note keeps what a replica has settled. What it said once stays true, also when it comes
// again with less after a restart: then it does not write until it has pulled.
func (c *Controller) note(r Report, s *cell.Snapshot) {
	at, err := findCell(s, r.Cell)
	if err != nil || !listed(at, r.Replica) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := replica{r.Cell, r.Replica}
	c.settled[key] = max(c.settled[key], r.Settled)
}

// silent returns the replicas of a cell that have not settled a version.
func (c *Controller) silent(at *cell.Cell, version uint64) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, name := range at.Replicas {
		if c.settled[replica{at.ID, name}] < version {
			names = append(names, name)
		}
	}
	return names
}

// Retire takes a replica off the list of its cell, so that no move waits for it. Call it
// when its process has ended, or cannot reach the data any more, and never because it does
// not answer: one that is merely cut off may go on writing for as long as it likes. A name
// that was retired must not be used again by a process from before.
func (c *Controller) Retire(ctx context.Context, cellID, name string) error {
	_, err := c.update(ctx, func(s *cell.Snapshot) error {
		at, err := findCell(s, cellID)
		if err != nil {
			return err
		}
		if !listed(at, name) {
			return fmt.Errorf("control: cell %q does not list %.100q", cellID, name)
		}
		at.Replicas = slices.DeleteFunc(at.Replicas, func(n string) bool { return n == name })
		return nil
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.settled, replica{cellID, name})
	return nil
}
