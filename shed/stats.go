package shed

import "time"

// Stats is what a Shedder knows of itself at one moment.
type Stats struct {
	Name    string // Config.Name
	Limit   int    // slots
	InUse   int    // calls under way
	Waiting int    // calls that wait

	// Latency and Throughput are those of the last window, in calls a second.
	Latency    time.Duration // 0 if no call has ended
	Throughput float64       // of those that were OK

	// The others only grow. An autoscaler should look at Offered: load that is refused does
	// not show in what the processors do.
	Offered    uint64 // calls that asked for a slot
	Admitted   uint64 // of those, the ones that got one
	Ignored    uint64 // of those, the ones that ended so
	Overloaded uint64 // and so
	GaveUp     uint64 // calls whose context ended before they had a slot; else they are Ignored

	// Refused is how many calls were refused, by class: Refused[Sheddable], say.
	Refused [CriticalPlus + 1]uint64
}

// Stats returns a snapshot. It takes the lock that those who wait take. Its figures are
// those of moments that lie close together: Admitted may be one ahead of Offered.
func (s *Shedder) Stats() Stats {
	s.mu.Lock()
	waits := s.queue.length
	s.mu.Unlock()
	m := s.measured.Load() // before the word, which is ahead of it then
	word := s.word.Load()
	stats := Stats{
		Name:       s.cfg.Name,
		Limit:      int(s.limit.Load()),
		InUse:      int(word & inUse),
		Waiting:    waits,
		Ignored:    s.meter.ignored.Load(),
		Overloaded: s.meter.overloaded.Load(),
		GaveUp:     s.gaveUp.Load(),
	}
	if m == nil {
		m = &measured{}
	} else {
		stats.Latency, stats.Throughput = m.window.Latency(), m.window.Throughput()
	}
	stats.Admitted = m.ended + (word/oneCall-m.counted)&mostEnded + word&inUse
	stats.Offered = stats.Admitted + stats.GaveUp + uint64(waits)
	for c := range s.refused {
		stats.Refused[c] = s.refused[c].Load()
		stats.Offered += stats.Refused[c]
	}
	return stats
}

// measured is what the last update has to tell others.
type measured struct {
	window  Window
	counted uint64 // calls that have ended, as the word has it, which wraps around
	ended   uint64 // and as it would if it did not
	learned Snapshot
}

// Snapshot returns what was learned so far, for Config.Learned of the Shedder that takes
// over: without it a replica that is restarted during an overload takes that for normal.
// It is zero if the algorithm learns nothing, or has not yet.
func (s *Shedder) Snapshot() Snapshot {
	if m := s.measured.Load(); m != nil {
		return m.learned
	}
	return s.cfg.Learned
}

// publish tells Stats and Snapshot of a window.
func (s *Shedder) publish(w Window, counted uint64) {
	m := &measured{window: w, counted: counted}
	if last := s.measured.Load(); last != nil {
		m.ended = last.ended + (counted-last.counted)&mostEnded
	} else {
		m.ended = counted
	}
	if a, ok := s.algorithm.(interface{ Snapshot() Snapshot }); ok {
		m.learned = a.Snapshot()
	}
	s.measured.Store(m)
}
