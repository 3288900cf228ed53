package breaker

// probes are the places for probes in a half-open breaker. A probe has its place
// for the time of a lease only: after that the place may be given to another. So a
// probe that hangs, or whose caller forgot it, cannot keep the breaker half-open for
// ever.
//
// It has no lock and no clock; the breaker's lock is held around it.
type probes struct {
	want      int // successes that close the breaker, and the most places
	succeeded int
	lastID    uint64
	length    int64 // of a lease
	leases    []lease
}

type lease struct {
	id    uint64
	since int64
}

func (p *probes) over(l lease, now int64) bool { return now-l.since >= p.length }

// admit gives a place to one more probe, or reports false where all are taken. No
// more probes are under way than are still wanted.
func (p *probes) admit(now int64) (id uint64, ok bool) {
	place := -1
	for i, l := range p.leases {
		if p.over(l, now) {
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
	p.leases[place] = lease{id: p.lastID, since: now}
	return p.lastID, true
}

// release gives back the place of a probe and reports whether it still held it.
func (p *probes) release(id uint64, now int64) bool {
	for i, l := range p.leases {
		if l.id == id {
			p.leases[i] = p.leases[len(p.leases)-1]
			p.leases = p.leases[:len(p.leases)-1]
			return !p.over(l, now)
		}
	}
	return false
}

// lengthen makes the leases, those under way included, long enough for calls that
// take so long: one has succeeded, but after its lease. If all answers take longer
// than a lease, and each late one were just dropped, the breaker would never close.
func (p *probes) lengthen(took, most int64) {
	p.length = max(p.length, min(later(took, took), most))
}

// busyUntil returns when the next lease ends if no probe can be admitted before
// that, else 0.
func (p *probes) busyUntil() int64 {
	if len(p.leases) == 0 || len(p.leases)+p.succeeded < p.want {
		return 0
	}
	first := p.leases[0].since
	for _, l := range p.leases {
		first = min(first, l.since)
	}
	return later(first, p.length)
}
