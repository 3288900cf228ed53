package redislimiter

import "sync/atomic"

// Stats is what a Store knows of itself at one moment.
type Stats struct {
	Name   string // Config.Name
	Up     bool   // whether Redis is asked; false while it is given a rest
	Leases int    // keys that have one

	// The others only grow. These four count decisions by their source, refusals too.
	FromRedis  uint64 // asked for this one
	FromLease  uint64 // by what Redis gave, or said, shortly before
	FromShare  uint64 // by FailLocal
	FromNobody uint64 // by FailOpen
	Errors     uint64 // UnavailableErrors returned
	Calls      uint64 // questions to Redis, for whatever reason
	Failures   uint64 // of those, but for probes
	Outages    uint64 // times that Up became false
}

type counters struct {
	redis, leased, shared, open      atomic.Uint64
	errors, calls, failures, outages atomic.Uint64
}

// Stats returns a snapshot.
func (s *Store) Stats() Stats {
	st := Stats{
		Name: s.cfg.Name, Up: s.failing.Load() == nil,
		FromRedis: s.count.redis.Load(), FromLease: s.count.leased.Load(),
		FromShare: s.count.shared.Load(), FromNobody: s.count.open.Load(),
		Errors: s.count.errors.Load(), Calls: s.count.calls.Load(),
		Failures: s.count.failures.Load(), Outages: s.count.outages.Load(),
	}
	if s.leases != nil {
		for i := range s.leases.stripes {
			stripe := &s.leases.stripes[i]
			stripe.mu.Lock()
			st.Leases += len(stripe.keys)
			stripe.mu.Unlock()
		}
	}
	return st
}
