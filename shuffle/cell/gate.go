package cell

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// Gate lets into a replica of a cell what belongs there, by the map of its router. Make it
// with [NewGate], and use it from any number of goroutines. It has no goroutine, and
// nothing to close.
//
//	permit, err := gate.Enter(cell.Request{Tenant: tenant, Epoch: epoch, Write: true})
//	if err != nil {
//		return err // the tenant is elsewhere, or nobody writes for it now
//	}
//	defer permit.Leave()
//
// What may be read and written, and why no write is accepted by two cells, is under
// "Moves" in the package's documentation. It holds for what the gate lets in, as long as
// that ends with its permit's deadline. A process that is stopped in the midst of a write
// and goes on a minute later holds to no deadline: so the data must refuse, too, what
// comes with an earlier epoch than it has seen.
//
// # Memory
//
// A gate keeps what is under way and nothing else. Names of a million tenants that do not
// exist leave no trace.
type Gate struct {
	name   string
	cell   string
	router *Router

	standing atomic.Pointer[standing]
	settled  atomic.Uint64
	shards   [gateShards]shard
}

// GateConfig says whose gate it is.
type GateConfig struct {
	// Name is carried in errors and Stats. It is for people, and need not be unique. If
	// empty, they do without.
	Name string

	// Cell is the ID of the cell. It is required.
	Cell string

	// Router has the map, and in its Config the name of this replica. It is required.
	Router *Router
}

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [NewGate] panics with the same text.
func (c GateConfig) Validate() error {
	var bad []string
	if c.Cell == "" {
		bad = append(bad, `Cell is "", but must be set`)
	}
	if c.Router == nil {
		bad = append(bad, "Router is nil, but must be set")
	}
	if bad == nil {
		return nil
	}
	return errors.New("cell: GateConfig" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

// NewGate returns a gate. It panics if cfg is not valid; see [GateConfig.Validate].
func NewGate(cfg GateConfig) *Gate {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	return &Gate{name: cfg.Name, cell: cfg.Cell, router: cfg.Router}
}

// Request is what wants to begin.
type Request struct {
	// Tenant is whose it is, and Key which part of it, if the tenant is split.
	Tenant, Key string

	// Epoch is what the Route of whoever sent the request said. If zero, it is an early
	// one, and refused: nothing shows that the sender knows where the tenant is.
	Epoch uint64

	// Write says that it may change something, or that what it reads must not be old. If
	// zero, it only reads. In a replica that is cut off, one that reads may see what was
	// there before the tenant moved.
	Write bool
}

// Permit is leave for one request. It must not be copied.
type Permit struct {
	shard *shard // nil: finished
	key   flightKey
	kind  kind
	until time.Time
}

// Deadline returns when a request must have ended, if it is one that writes under a lease.
// What goes on after it may write at the same time as another cell.
func (p *Permit) Deadline() (time.Time, bool) { return p.until, !p.until.IsZero() }

// Leave ends the request. A second call does nothing, nor does that of the zero Permit. A
// permit that is never finished holds up the moves of its tenant.
func (p *Permit) Leave() {
	if s := p.shard; s != nil {
		p.shard = nil
		s.leave(p.key, p.kind)
	}
}

// Enter returns a permit, or one of these: a [*MovedError], if the tenant is elsewhere or
// the request late; a [*PausedError], if it may be served here, but not now;
// [ErrNoSnapshot]. Only an error allocates.
func (g *Gate) Enter(req Request) (Permit, error) {
	s := &g.shards[xxh64(req.Tenant)>>(64-gateShardBits)]
	permit, refusal, st := g.enter(s, req)
	if refusal == admitted {
		return permit, nil
	}
	return Permit{}, g.refuse(req, refusal, st)
}

// enter decides, and counts the request in, under the lock of its shard: whoever has put
// another map in force, and then looks through the shards, finds all that was let in by
// the one before.
func (g *Gate) enter(s *shard, req Request) (Permit, refusal, *standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := g.router.view.Load()
	if v == nil {
		s.paused++
		return Permit{}, noMap, nil
	}
	st := g.stand(v)
	i, source := v.table.find(req.Tenant, req.Key)
	e := &v.table.entries[i]
	kind, refusal := st.decide(e, req.Epoch, req.Write)
	if refusal == admitted && kind == leasedWrite && !v.leased(time.Now()) {
		refusal = noLease
	}
	switch refusal {
	case admitted:
		s.entered++
	case elsewhere, late:
		s.moved++
		return Permit{}, refusal, st
	default:
		s.paused++
		return Permit{}, refusal, st
	}
	key := flightKey{tenant: req.Tenant}
	if source == sourceSplit {
		key.hash, key.part = xxh64(req.Key), true
	}
	s.enter(key, kind)
	p := Permit{shard: s, key: key, kind: kind}
	if kind == leasedWrite {
		p.until = v.confirmed.Add(v.table.snapshot.Lease)
	}
	return p, admitted, st
}

// leased reports whether the lease holds that came with the last good pull. It goes by
// both clocks of the machine, the one that never goes back and the one on the wall, and
// whichever says so first ends it: one stands still while a machine is suspended, and the
// other can be set back.
func (v *view) leased(now time.Time) bool {
	if v.confirmed.IsZero() {
		return false
	}
	lease := v.table.snapshot.Lease
	return now.Sub(v.confirmed) < lease && now.Round(0).Sub(v.confirmed.Round(0)) < lease
}

// Do calls fn if the request may begin, with a context that ends with the permit's
// deadline, and returns what it returns. Else the error is that of [Gate.Enter].
func (g *Gate) Do(ctx context.Context, req Request, fn func(context.Context) error) error {
	permit, err := g.Enter(req)
	if err != nil {
		return err
	}
	defer permit.Leave()
	if until, ok := permit.Deadline(); ok {
		timed, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		ctx = timed
	}
	return fn(ctx)
}

// Do is [Gate.Do] for functions with a result.
func Do[R any](
	ctx context.Context, g *Gate, req Request, fn func(context.Context) (R, error),
) (R, error) {
	var result R
	err := g.Do(ctx, req, func(ctx context.Context) error {
		var err error
		result, err = fn(ctx)
		return err
	})
	return result, err
}

// ErrMoved is matched by every [MovedError].
var ErrMoved = errors.New("cell: the tenant is elsewhere")

// MovedError is the error of a request that came to the wrong cell, or to the right one
// with an epoch that is over. It matches [ErrMoved].
type MovedError struct {
	Name   string // GateConfig.Name
	Tenant string // whose request it was
	Epoch  uint64 // the current one
	Cell   string // the active cell, maybe this one
}

// Error names the tenant and where it is.
func (e *MovedError) Error() string {
	return fmt.Sprintf("cell%s: tenant %.100q is in cell %q as of epoch %d",
		quoted(e.Name), e.Tenant, e.Cell, e.Epoch)
}

// Is reports whether target is [ErrMoved].
func (e *MovedError) Is(target error) bool { return target == ErrMoved }

// NotAttempted returns true: the request was not let in.
func (e *MovedError) NotAttempted() bool { return true }

// Retryable returns false: it would be the same again, here and with this epoch.
func (e *MovedError) Retryable() bool { return false }

// ErrPaused is matched by every [PausedError].
var ErrPaused = errors.New("cell: paused")

// PausedError is the error of a request that came to the right cell at the wrong time. It
// matches [ErrPaused].
type PausedError struct {
	Name   string // GateConfig.Name
	Tenant string // whose request it was

	// Reason is for people and labels: "flipping" while the tenant changes cells, "no
	// lease" if this replica has not heard from the control plane for too long, "not
	// listed" if the map names others that may write, and "behind" if the request knows
	// of a later epoch than this replica.
	Reason string

	after time.Duration
}

// Error names the tenant and the reason.
func (e *PausedError) Error() string {
	return fmt.Sprintf("cell%s: paused for tenant %.100q: %s", quoted(e.Name), e.Tenant, e.Reason)
}

// Is reports whether target is [ErrPaused].
func (e *PausedError) Is(target error) bool { return target == ErrPaused }

// NotAttempted returns true: the request was not let in.
func (e *PausedError) NotAttempted() bool { return true }

// RetryAfter returns in how long this replica hears of the next map at the earliest.
func (e *PausedError) RetryAfter() time.Duration { return e.after }

// refuse makes the error of a request. If the replica is behind, it asks for the map.
func (g *Gate) refuse(req Request, why refusal, st *standing) error {
	switch why {
	case noMap:
		return ErrNoSnapshot
	case elsewhere, late:
		i, _ := st.view.table.find(req.Tenant, req.Key)
		e := &st.view.table.entries[i]
		return &MovedError{g.name, req.Tenant, e.epoch, st.view.table.snapshot.Cells[e.cell].ID}
	}
	g.router.Refresh()
	period := g.router.cfg.Period
	if why == behind {
		period /= refreshShare
	}
	return &PausedError{g.name, req.Tenant, why.String(), period}
}
