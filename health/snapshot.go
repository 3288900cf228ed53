package health

import (
	"fmt"
	"slices"
	"time"
)

const (
	phaseStarting = "starting"
	phaseReady    = "ready"
	phaseUnready  = "unready"
	phaseDraining = "draining"
	phaseStopped  = "stopped"
)

// A snapshot is what probes read.
type snapshot struct {
	Report
	changed chan struct{} // closed when another says something else
}

// differs reports whether s says anything else than before that is worth to be told. Times
// and numbers change with each run, and are not. The rest follows from what is compared.
func (s *snapshot) differs(before *snapshot) bool {
	return s.Phase != before.Phase || s.Started != before.Started ||
		!slices.Equal(s.Notes, before.Notes) ||
		!slices.EqualFunc(s.Checks, before.Checks, func(a, b Result) bool {
			return a.Status == b.Status
		})
}

// update makes a snapshot of what is known and has changes reported. The lock is held.
func (h *Health) update(now time.Duration) {
	before := h.now.Load()
	next := &snapshot{Report: h.report(now, before), changed: before.changed}
	next.Notes = h.notes(next.Checks)
	differs := next.differs(before)
	if differs {
		next.changed = make(chan struct{})
	}
	h.now.Store(next)
	if differs {
		close(before.changed)
		h.tell(next, before, now)
	}
}

// report puts the results together.
func (h *Health) report(now time.Duration, before *snapshot) Report {
	r := Report{Name: h.cfg.Name, Checks: h.results(now, before), Live: true}
	worst, waitsFor := Pass, ""
	for _, result := range r.Checks {
		worst = min(worst, result.Status)
		switch {
		case result.Status != Fail:
		case result.Class == Liveness:
			r.Live = false
		case waitsFor == "":
			waitsFor = result.Name
		}
	}
	h.startUp(now, before.Started, waitsFor)
	r.Started = before.Started || h.running && waitsFor == ""
	r.Slowest, r.Startup = h.slowest, h.startup
	r.Ready = h.running && !h.draining && !h.stopped && worst != Fail
	if r.Ready {
		h.readyAt.CompareAndSwap(never, int64(now))
		r.Status = worst
	}
	r.Phase, r.Since = h.phase(r.Ready), before.Since
	if r.Phase != before.Phase {
		r.Since = h.wall(now)
	}
	return r
}

// startUp keeps what start-up waits for.
func (h *Health) startUp(now time.Duration, over bool, waitsFor string) {
	switch {
	case over:
	case waitsFor != "":
		h.slowest = waitsFor
	case h.running:
		h.startup = now - h.startedAt
	}
}

func (h *Health) phase(ready bool) string {
	switch {
	case h.stopped:
		return phaseStopped
	case h.draining:
		return phaseDraining
	case ready:
		return phaseReady
	case h.readyAt.Load() != never:
		return phaseUnready
	}
	return phaseStarting
}

// results returns those of the gates and of the checks.
func (h *Health) results(now time.Duration, before *snapshot) []Result {
	all := make([]Result, 0, len(h.gates)+len(h.checks))
	for _, g := range h.gates {
		all = append(all, h.gateResult(g))
	}
	judged := h.judged(now)
	for _, c := range h.checks {
		all = append(all, h.result(c, judged))
	}
	for i := range all {
		r := &all[i]
		r.Since = h.wall(now)
		if before != nil && before.Checks[i].Status == r.Status {
			r.Since = before.Checks[i].Since
		}
	}
	return all
}

// judged is the time by which checks are judged. Before Start none could be late, and what
// nobody looks at after Stop does not get stale either.
func (h *Health) judged(now time.Duration) time.Duration {
	switch {
	case h.stopped:
		return h.stoppedAt
	case !h.running:
		return 0
	}
	return now
}

func (h *Health) gateResult(g gate) Result {
	r := Result{Name: g.name, Class: gateClass, Output: "not open yet"}
	if g.open {
		r.Status, r.Output, r.Time = Pass, "", h.wall(g.at)
		r.Took = max(0, g.at-h.startedAt)
	}
	return r
}

func (h *Health) result(c *checked, now time.Duration) Result {
	r := Result{
		Name: c.Name, Class: c.Class, Status: c.status(now),
		Failures: c.fails, Stuck: c.stuck, Stale: c.stale(now),
		Took: c.took, Output: c.output,
	}
	if c.seen {
		r.Time = h.wall(c.at)
	}
	switch {
	case r.Output != "":
	case r.Stale:
		r.Output = fmt.Sprintf("no result for %v", c.StaleAfter)
	case r.Status != Pass:
		r.Output = "no result yet"
	}
	return r
}

// faults counts what the user's code did that a note should tell of.
type faults struct {
	onChange, apply, peers, forgotten int
}

// notes returns what people should know besides results.
func (h *Health) notes(results []Result) []string {
	var notes []string
	for i, c := range h.checks {
		if h.running && c.Class == Shared && !c.passed && results[len(h.gates)+i].Status != Fail {
			notes = append(notes, fmt.Sprintf("did not wait for %s any longer than %v",
				c.Name, h.cfg.StartupTimeout))
		}
	}
	count := func(n int, text string) {
		if n > 0 {
			notes = append(notes, fmt.Sprintf("%s: %d", text, n))
		}
	}
	count(h.faults.onChange, "panics of OnChange")
	count(h.faults.forgotten, "changes that OnChange was too slow for")
	count(h.faults.apply, "panics of Ramp.Apply")
	count(h.faults.peers, "panics of Peers")
	return notes
}

// fault counts one of them.
func (h *Health) fault(of *int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*of++
	h.update(h.clock())
}
