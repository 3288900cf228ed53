package cell

import (
	"errors"
	"io/fs"
	"time"
)

// Stats is what a [Router] has seen. Counters are since New, and only grow; the others are
// as of now.
type Stats struct {
	Name    string    // Config.Name
	Version uint64    // of the map in force; 0: none
	Issued  time.Time // by who made it
	Cells   int       // in the map
	Slots   int       // in the map

	// Origin is where the map is from: "source", if a pull has confirmed it, "disk",
	// "previous" for Path.1, "seed", or "" if there is none.
	Origin string

	Stale bool          // as in Route
	Age   time.Duration // as Route has it

	// Durable is the version that was last written to Path, or read from it.
	Durable uint64

	Pulls    uint64 // answered or failed
	Failed   uint64 // of them without an answer
	Rejected uint64 // of them with an answer that did not do; and seeds that did not
	Applied  uint64 // maps put in force

	// DiskErrors counts maps that could not be read, other than for want of a file, or
	// could not be written.
	DiskErrors uint64

	// LastError is the latest of the errors that were counted.
	LastError error
}

// Stats returns what the router has seen.
func (r *Router) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Name, s.Durable = r.cfg.Name, r.durable
	v := r.view.Load()
	if v == nil {
		return s
	}
	m := v.table.snapshot
	s.Version, s.Issued, s.Cells, s.Slots = m.Version, m.Issued, len(m.Cells), len(m.Slots)
	s.Origin, s.Stale, s.Age = v.origin, v.stale, max(0, time.Since(v.since))
	return s
}

// Event is what came of a pull, as [Config].OnEvent gets it.
type Event struct {
	Name string // Config.Name

	// Kind is one of these, for people and labels:
	//
	//	applied   there is another map in force
	//	rejected  an answer was no map, or one that may not follow
	//	failed    there was no answer
	//	disk      the map could not be read from Path, or written to it
	Kind string

	Version uint64 // of the map in force
	Err     error  // nil if applied
}

func (r *Router) count(counter *uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*counter++
}

// note counts an event, and has it reported.
func (r *Router) note(e Event, counter *uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*counter++
	if e.Err != nil {
		r.stats.LastError = e.Err
	}
	if r.cfg.OnEvent == nil {
		return
	}
	e.Name = r.cfg.Name
	if v := r.view.Load(); v != nil {
		e.Version = v.table.snapshot.Version
	}
	r.events = append(r.events, e)
}

func (r *Router) diskFailed(err error) {
	if errors.Is(err, fs.ErrNotExist) && r.view.Load() == nil {
		return // the first start of all
	}
	r.note(Event{Kind: "disk", Err: err}, &r.stats.DiskErrors)
}

// report calls OnEvent with what was noted, on the goroutine of Run.
func (r *Router) report() {
	for len(r.events) > 0 {
		e := r.events[0]
		r.events = r.events[1:]
		r.cfg.OnEvent(e)
	}
}
