package shed

import (
	"time"

	"github.com/stormjib/stormjib/internal/loadsim"
)

// simGate drives a Shedder in a simulation: its own code, but for the clock, the context
// and the channel that a waiting caller sleeps on.
type simGate struct {
	s       *Shedder
	sim     *loadsim.Sim
	index   int
	due     time.Duration // of the Tick that is coming; 0: none
	held    []*held
	permits []*Permit
}

type held struct {
	w       *waiter
	r       *loadsim.Request
	expires time.Duration
}

// addGate gives the simulation another gate.
func addGate(sim *loadsim.Sim, cfg Config) *simGate {
	g := &simGate{s: New(cfg), sim: sim, index: len(sim.Gates)}
	sim.Gates = append(sim.Gates, g)
	return g
}

func (g *simGate) permit(p Permit) *Permit {
	if n := len(g.permits); n > 0 {
		q := g.permits[n-1]
		g.permits = g.permits[:n-1]
		*q = p
		return q
	}
	return &p
}

func (g *simGate) Offer(now time.Duration, r *loadsim.Request) {
	if g.s.take() {
		g.admit(now, r, g.s.begin(int64(now)))
		return
	}
	c := call{Criticality(r.Class).known(), uint64(r.Tenant) * 0xbf58476d1ce4e5b9, never}
	if r.Attempt > 1 && c.class > BestEffort {
		c.class--
	}
	if r.Deadline != 0 {
		c.deadline = int64(r.Deadline)
	}
	if w, d := g.s.offer(int64(now), c); w == nil {
		g.s.refuse(d, c.class)
		g.sim.Refuse(r)
	} else {
		g.held = append(g.held, &held{w, r, now + g.s.cfg.MaxWait})
		g.wake()
	}
	g.look(now)
}

func (g *simGate) Done(now time.Duration, r *loadsim.Request, o loadsim.Outcome) {
	p := r.Token.(*Permit)
	if p.s == nil {
		g.permits = append(g.permits, p)
		return
	}
	switch o {
	case loadsim.OK, loadsim.Left: // who left is served all the same, and nobody knows
		p.finish(int64(now), OK)
	case loadsim.Timeout:
		p.finish(int64(now), Overloaded)
	default:
		p.finish(int64(now), Ignored)
	}
	g.permits = append(g.permits, p)
	g.look(now)
}

// look finds who is no longer in line.
func (g *simGate) look(now time.Duration) {
	if len(g.held) == 0 {
		return
	}
	kept := g.held[:0]
	var out []*held
	for _, h := range g.held {
		if h.w.element != nil {
			kept = append(kept, h)
		} else {
			out = append(out, h)
		}
	}
	g.held = kept
	for _, h := range out {
		g.settle(now, h)
	}
}

func (g *simGate) settle(now time.Duration, h *held) {
	p, d := g.s.admit(int64(now), h.w)
	if d.why != "" {
		g.s.refuse(d, h.w.class)
		g.sim.Refuse(h.r)
		return
	}
	g.admit(now, h.r, p)
}

func (g *simGate) admit(now time.Duration, r *loadsim.Request, p Permit) {
	if r.Detached {
		p.finish(int64(now), Ignored)
	}
	r.Token = g.permit(p)
	g.sim.Admit(r)
}

// restart replaces the Shedder by one that has learned what it had, and nothing else. Calls
// under way end with the old one.
func (g *simGate) restart(now time.Duration, cfg Config) {
	g.s.Close()
	g.look(now)
	cfg.Learned = g.s.Snapshot()
	g.s = New(cfg)
	g.s.meter.begun.Store(int64(now))
	g.s.meter.due.Store(int64(now) + shortest)
}

// wake asks for a Tick when the first who waits has waited for long enough.
func (g *simGate) wake() {
	if g.due == 0 && len(g.held) > 0 {
		g.due = g.held[0].expires
		g.sim.Wake(g.due, g.index)
	}
}

func (g *simGate) Tick(now time.Duration) {
	g.due = 0
	for len(g.held) > 0 && g.held[0].expires <= now {
		h := g.held[0]
		g.held = g.held[1:]
		g.settle(now, h)
		g.look(now)
	}
	g.wake()
}

func (g *simGate) Limit() int { return int(g.s.limit.Load()) }
