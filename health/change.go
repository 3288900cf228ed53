package health

import "time"

// Change is a change of a status, as [Config].OnChange gets it.
type Change struct {
	Name string // Config.Name

	// Check is the name of a check or gate, or empty where it is the replica as a whole that
	// has changed. That comes after the changes which it is because of.
	Check string

	// From and To are the same where only the phase is another, as when a replica that was
	// not ready begins to drain.
	From, To Status

	Phase  string    // of the replica from then on; see [Report]
	Live   bool      // whether the replica lives from then on
	At     time.Time // when
	Output string    // see [Result]; empty for the replica as a whole
}

// changes are the changes not yet reported.
type changes struct {
	queue   []Change
	running bool // a goroutine is at it
}

const maxChanges = 256

// tell has the differences between two snapshots reported. The lock is held.
func (h *Health) tell(s, before *snapshot, now time.Duration) {
	if h.cfg.OnChange == nil {
		return
	}
	change := Change{Name: h.cfg.Name, Phase: s.Phase, Live: s.Live, At: h.wall(now)}
	for i, r := range s.Checks {
		if from := before.Checks[i].Status; from != r.Status {
			change.Check, change.Output = r.Name, r.Output
			change.From, change.To = from, r.Status
			h.enqueue(change)
		}
	}
	if s.Phase != before.Phase || s.Status != before.Status || s.Live != before.Live {
		change.Check, change.Output = "", ""
		change.From, change.To = before.Status, s.Status
		h.enqueue(change)
	}
	if !h.changes.running && len(h.changes.queue) > 0 {
		h.changes.running = true
		persist(h.deliver, func(any) { h.fault(&h.faults.onChange) })
	}
}

func (h *Health) enqueue(c Change) {
	if len(h.changes.queue) >= maxChanges {
		h.changes.queue = h.changes.queue[1:]
		h.faults.forgotten++
	}
	h.changes.queue = append(h.changes.queue, c)
}

// deliver calls OnChange once, and reports whether to go on.
func (h *Health) deliver() bool {
	h.mu.Lock()
	if len(h.changes.queue) == 0 {
		h.changes.running = false
		h.mu.Unlock()
		return false
	}
	next := h.changes.queue[0]
	h.changes.queue = h.changes.queue[1:]
	h.mu.Unlock()
	h.cfg.OnChange(next)
	return true
}
