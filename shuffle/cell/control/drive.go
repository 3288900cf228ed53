package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/shuffle/cell"
)

// ErrAborted is matched by the error of a move that ended in the cell where it began.
var ErrAborted = errors.New("control: the move was aborted")

// ErrBusy is matched by the error of a call that the present phase of a unit does not
// allow, or that somebody else in this process is driving.
var ErrBusy = errors.New("control: busy")

// errChanged says that somebody else has changed what was to be changed.
var errChanged = errors.New("control: it was changed meanwhile")

// errNotYet says that a replica was listed that has to be waited for.
var errNotYet = errors.New("control: not yet")

// Move moves a unit to a cell, from phase to phase, and returns nil when it is there and
// has left nothing behind; also if it was there from the beginning. If the cell does not
// exist or is cordoned, or the unit is moved already, nothing has happened. For all else
// see [Controller.Drive].
func (c *Controller) Move(ctx context.Context, u Unit, to string) error {
	d, err := c.claim(u)
	if err != nil {
		return err
	}
	defer c.release(d)
	if err := c.begin(ctx, u, to); err != nil {
		return err
	}
	return d.run(ctx)
}

func (c *Controller) begin(ctx context.Context, u Unit, to string) error {
	if err := c.cfg.Hooks.ready(); err != nil {
		return err
	}
	var was, is cell.Assignment
	v, err := c.update(ctx, func(s *cell.Snapshot) error {
		var err error
		if was, _, err = find(s, u); err != nil {
			return err
		}
		target, err := findCell(s, to)
		switch {
		case err != nil:
			return err
		case was.Phase != cell.Stable:
			return fmt.Errorf("%w: %v is %v", ErrBusy, u, was.Phase)
		case was.Cell == to:
			return errChanged
		case target.Cordoned:
			return fmt.Errorf("control: cell %q is cordoned", to)
		}
		is = was
		is.Phase, is.Peer = cell.Replicating, to
		assign(s, u, is)
		return nil
	})
	if errors.Is(err, errChanged) {
		return nil
	}
	if err != nil {
		return err
	}
	c.count(&c.stats.Begun)
	c.changed(u, was, is, v.record.Version)
	return nil
}

// Resume drives all moves that are in the map, Parallel of them at a time, and returns when
// each is at rest, with what came of those that are not where they were to go. It is what
// to call when a controller starts, and now and then: moves are what a crash leaves
// behind, and the only tenants that an outage of this process does harm to. A unit that is
// driven in this process already is left alone.
func (c *Controller) Resume(ctx context.Context) error {
	v, err := c.load(ctx)
	if err != nil {
		return err
	}
	var moving []Unit
	units(v.snapshot, func(u Unit, a cell.Assignment) {
		if a.Phase != cell.Stable {
			moving = append(moving, u)
		}
	})
	slices.SortFunc(moving, compareUnits)
	return each(c.cfg.Parallel, moving, func(u Unit) error {
		if err := c.Drive(ctx, u); !errors.Is(err, errDriven) {
			return err
		}
		return nil
	})
}

// each calls fn with each of all, on so many goroutines at most, and waits for them. If fn
// panics the program ends, as it does for each panic that nobody above can recover.
func each[T any](parallel int, all []T, fn func(T) error) error {
	var wait sync.WaitGroup
	places := make(chan struct{}, parallel)
	errs := make([]error, len(all))
	for i := range all {
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			errs[i] = fn(all[i])
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Drive takes the move of a unit from wherever it is to its end, and returns nil if there
// is nothing to do any more. Each step is stored before it counts, if the unit is still
// what it was when the step was decided, so that it does not matter how many drive. An
// error that matches [ErrAborted] says that the unit is at rest, but where it came from.
//
// If a replica does not settle, a hook fails too often, or CatchUp takes too long, the move
// is aborted before the flip. After it nothing is given up: the unit stays in phase
// Cleaning, in which it can stay for as long as it likes, and Drive returns why. A store
// that fails is tried again until ctx ends.
//
// If ctx ends, the error matches why, and the move is where it was. That is no place to
// leave it, but in Cleaning: in all other phases writes end with a lease if the source
// cannot pull, and in Flipping there are none. So resume it, or abort it.
func (c *Controller) Drive(ctx context.Context, u Unit) error {
	d, err := c.claim(u)
	if err != nil {
		return err
	}
	defer c.release(d)
	return d.run(ctx)
}

// drive is one who drives a move. Most of it is of one goroutine.
type drive struct {
	c      *Controller
	u      Unit
	p      progress
	want   string // where it is to end
	failed int    // hooks, since the move began or flipped
	why    error  // it was aborted

	// Under the lock of the controller:
	cancel context.CancelCauseFunc // of the hook that is running
	turned bool                    // by Abort or Rollback, since the map was last looked at
}

var errDriven = fmt.Errorf("%w: it is being driven", ErrBusy)

// claim lets one goroutine of this process drive a unit. It is no lock against others:
// that is the store.
func (c *Controller) claim(u Unit) (*drive, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.driven[u] != nil {
		return nil, fmt.Errorf("%w: %v", errDriven, u)
	}
	d := &drive{c: c, u: u}
	c.driven[u] = d
	return d, nil
}

func (c *Controller) release(d *drive) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.driven, d.u)
}

func (d *drive) run(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return ended.New(ctx, "control", false)
		}
		done, err := d.step(ctx)
		switch {
		case done:
			return err
		case ctx.Err() != nil:
			return stopped(ctx, err)
		case err == nil, errors.Is(err, errChanged), errors.Is(err, errNotYet):
			continue
		}
		if err := wait(ctx, d.c.cfg.Poll); err != nil { // the store has failed
			return err
		}
	}
}

// stopped is the error of work that a context ended, whatever else went wrong then.
func stopped(ctx context.Context, err error) error {
	why := ended.New(ctx, "control", false)
	if err == nil || why.SaidBy(err) {
		return why
	}
	return errors.Join(why, err)
}

// step does what is to be done next, and returns true when nothing is. An error with false
// is that of the store.
func (d *drive) step(ctx context.Context) (done bool, err error) {
	d.straight()
	v, err := d.c.load(ctx)
	if err != nil {
		return hopeless(err), err
	}
	a, own, err := find(v.snapshot, d.u)
	if err != nil {
		return true, err
	}
	if d.want == "" {
		d.want = newMove(d.u, a, 0).To
	}
	if !own || a.Phase == cell.Stable {
		return true, d.result(a)
	}
	if err := d.c.cfg.Hooks.ready(); err != nil {
		return true, err
	}
	d.p.see(d.c.now(), a, v.record.Version, v.snapshot.Lease)
	outcome, silent := d.c.look(&d.p, v.snapshot)
	switch outcome {
	case hold:
		return false, wait(ctx, d.c.cfg.Poll)
	case expired:
		err := fmt.Errorf("control: %v is %v, but not settled by %s", d.u, a.Phase,
			strings.Join(silent, ", "))
		return d.giveUp(ctx, a, err)
	}
	if done, err = d.call(ctx, newMove(d.u, a, v.record.Version)); done || err != nil {
		return done, err
	}
	err = d.c.advance(ctx, d.u, a, after, d.settled)
	return hopeless(err), err
}

// hopeless reports whether it is of no use to try again.
func hopeless(err error) bool {
	return errors.Is(err, cell.ErrInvalid) || errors.Is(err, ErrEmpty)
}

func (c *Controller) now() time.Duration { return time.Since(c.base) }

// look says whether a phase may end by a map, and who is silent.
func (c *Controller) look(p *progress, s *cell.Snapshot) (outcome, []string) {
	id, version := p.needs()
	at, err := findCell(s, id)
	if err != nil {
		return hold, nil // a valid map has both cells of a move
	}
	silent := c.silent(at, version)
	return p.look(c.now(), len(at.Replicas), len(silent), &c.cfg), silent
}

// settled looks again, by the map that is replaced: a replica may have been listed.
func (d *drive) settled(s *cell.Snapshot) error {
	if outcome, _ := d.c.look(&d.p, s); outcome != ready {
		return errNotYet
	}
	return nil
}

func (d *drive) result(a cell.Assignment) error {
	switch {
	case a.Cell == d.want || d.want == "":
		return nil
	case d.why != nil:
		return fmt.Errorf("%w: %v is in cell %q: %w", ErrAborted, d.u, a.Cell, d.why)
	}
	return fmt.Errorf("%w: %v is in cell %q", ErrAborted, d.u, a.Cell)
}

// giveUp aborts a move before its flip, and leaves one after it where it is.
func (d *drive) giveUp(ctx context.Context, a cell.Assignment, why error) (bool, error) {
	if a.Phase > cell.Flipping {
		return true, why
	}
	d.why, d.failed = why, 0
	err := d.c.advance(ctx, d.u, a, aborted, nil)
	return hopeless(err), err
}

// call calls the hook of a phase. It returns false and nil if that went well, and
// otherwise what comes of it.
func (d *drive) call(ctx context.Context, m Move) (done bool, err error) {
	hook, timeout := d.hook(m.Phase)
	if hook == nil {
		return false, nil
	}
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	timed, abort := context.WithCancelCause(timed)
	defer abort(nil)
	d.interruptible(abort)
	defer d.interruptible(nil)
	if m.Phase == cell.Flipping {
		defer d.watch(ctx, timeout)()
	}
	err = hook(timed, m)
	switch {
	case err == nil:
		if m.Phase == cell.Flipping {
			d.failed, d.why = 0, context.Cause(timed) // which counts if it was aborted
		}
		return false, nil
	case ctx.Err() != nil:
		return true, stopped(ctx, err)
	case errors.Is(context.Cause(timed), errChanged):
		return false, errChanged
	}
	return d.fail(ctx, m, fmt.Errorf("control: %v, %v: %w", d.u, m.Phase, err))
}

func (d *drive) hook(p cell.Phase) (func(context.Context, Move) error, time.Duration) {
	h, timeout := &d.c.cfg.Hooks, d.c.cfg.StepTimeout
	switch p {
	case cell.Replicating:
		return h.Copy, timeout
	case cell.Verifying:
		return h.Verify, timeout
	case cell.Flipping:
		return h.CatchUp, d.c.cfg.FlipTimeout
	case cell.Cleaning:
		return h.Clean, timeout
	}
	return nil, 0
}

func (d *drive) interruptible(cancel context.CancelCauseFunc) {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	d.cancel = cancel
	if cancel != nil && d.turned {
		cancel(errChanged)
	}
}

// straight says that the map is looked at from now on: what was turned before shows there.
func (d *drive) straight() {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	d.turned = false
}

// interrupt ends the context of a hook that is running for a unit.
func (c *Controller) interrupt(u Unit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.driven[u]
	if d == nil {
		return
	}
	d.turned = true
	if d.cancel != nil {
		d.cancel(errChanged)
	}
}

// watch aborts a move that is still in the same flip after the timeout. Its context alone
// would not do: a hook that does not look at it would hold up all writes. What is returned
// ends the watch.
func (d *drive) watch(ctx context.Context, timeout time.Duration) (stop func()) {
	a, over := d.p.a, make(chan struct{})
	timer := time.AfterFunc(timeout, func() {
		defer close(over)
		for ctx.Err() == nil {
			err := d.c.advance(ctx, d.u, a, aborted, nil)
			if err == nil || errors.Is(err, errChanged) || hopeless(err) {
				return
			}
			_ = wait(ctx, d.c.cfg.Poll) // the loop says if it has ended
		}
	})
	return func() {
		if !timer.Stop() {
			<-over
		}
	}
}

// fail is what comes of a hook that has failed.
func (d *drive) fail(ctx context.Context, m Move, err error) (bool, error) {
	d.failed++
	if m.Phase == cell.Flipping || d.failed >= d.c.cfg.Attempts {
		return d.giveUp(ctx, d.p.a, err)
	}
	if err := wait(ctx, d.c.cfg.Poll<<min(d.failed, 6)); err != nil {
		return true, err
	}
	if m.Phase == cell.Verifying {
		return false, d.c.advance(ctx, d.u, d.p.a, repeated, nil)
	}
	return false, errChanged // look again
}
