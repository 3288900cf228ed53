package breaker

// probes are the places for probes in a half-open breaker. A probe has its place
// for the time of a lease only: after that the place may be given to another, and
// what the first one still has to say is not heard. So a probe that hangs, or
// whose caller forgot it, cannot keep the breaker half-open for ever.
//
// It has no lock and no clock; the breaker's lock is held around it.
type probes struct {
	want      int // successes that close the breaker, and the most places
	succeeded int
	lastID    uint64
	leases    []lease
}

type lease struct {
	id    uint64
	until int64
}

// admit gives a place to one more probe, or reports false where all are taken. No
// more probes are under way than are still wanted.
func (p *probes) admit(now, until int64) (id uint64, ok bool) {
	place := -1
	for i, l := range p.leases {
		if l.until <= now {
			place = i
		}
	}
	if place < 0 {
		if len(p.leases)+p.succeeded >= p.want {
			return 0, false
		}
		p.leases = append(p.leases, lease{})
		place = len(p.leases) - 1
	}
	p.lastID++
	p.leases[place] = lease{id: p.lastID, until: until}
	return p.lastID, true
}

// release gives back the place of a probe and reports whether it still held it.
func (p *probes) release(id uint64, now int64) bool {
	for i, l := range p.leases {
		if l.id == id {
			p.leases[i] = p.leases[len(p.leases)-1]
			p.leases = p.leases[:len(p.leases)-1]
			return now < l.until
		}
	}
	return false
}

// busyUntil returns when the next lease ends if no probe can be admitted before
// that, else 0.
func (p *probes) busyUntil() int64 {
	if len(p.leases) == 0 || len(p.leases)+p.succeeded < p.want {
		return 0
	}
	next := p.leases[0].until
	for _, l := range p.leases {
		next = min(next, l.until)
	}
	return next
}
