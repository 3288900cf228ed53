package loadsim

import (
	"math"
	"time"
)

// Backend is what serves: so many workers, in order of arrival or shared by all.
type Backend struct {
	Shared  bool                      // by all calls at once, as by goroutines
	Workers func(t time.Duration) int // how many there are at t
	Changes []time.Duration           // when Workers changes

	// The process stands still for StallFor at the beginning of every StallEvery: so do its
	// workers, its timers and those who come.
	StallEvery, StallFor time.Duration
}

// serve is for what happens at the backend.
func (s *Sim) serve(e event) {
	switch e.kind {
	case served:
		s.busy--
		s.next()
		s.complete(e.r)
	case sharedServed:
		if e.epoch == s.epoch {
			s.completeShared()
		}
	case change:
		s.settle()
		s.workers = s.Backend.Workers(s.now)
		s.next()
		s.arm()
	}
}

// work gives a request to the backend.
func (s *Sim) work(r *Request) {
	if s.Backend.Shared {
		s.settle()
		r.finish = s.attained + float64(r.Work)
		s.shared.push(r)
		s.arm()
		return
	}
	s.waiting = append(s.waiting, r)
	s.next()
}

// next gives free workers something to do.
func (s *Sim) next() {
	for s.busy < s.workers && len(s.waiting) > 0 {
		r := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.busy++
		s.events.push(event{at: s.Backend.end(s.now, r.Work), kind: served, r: r})
	}
}

// running returns for how much of the time up to t the process has been running.
func (b *Backend) running(t time.Duration) time.Duration {
	if b.StallEvery == 0 {
		return t
	}
	stalls := int64(t / b.StallEvery)
	return time.Duration(stalls*int64(b.StallEvery-b.StallFor)) + max(0, t%b.StallEvery-b.StallFor)
}

// end returns when work that is begun at from ends.
func (b *Backend) end(from, work time.Duration) time.Duration {
	if b.StallEvery == 0 {
		return from + work
	}
	run, each := b.running(from)+work, b.StallEvery-b.StallFor
	return time.Duration(int64(run/each)*int64(b.StallEvery)) + b.StallFor + run%each
}

// awake returns when the process runs that may stand still now.
func (b *Backend) awake(now time.Duration) time.Duration {
	if b.StallEvery == 0 || now%b.StallEvery >= b.StallFor {
		return now
	}
	return now - now%b.StallEvery + b.StallFor
}

// settle brings the attained service up to now.
func (s *Sim) settle() {
	if n := len(s.shared); n > 0 {
		s.attained += float64(s.Backend.running(s.now)-s.Backend.running(s.asOf)) * s.share(n)
	}
	s.asOf = s.now
}

func (s *Sim) share(n int) float64 { return min(1, float64(s.workers)/float64(n)) }

// arm schedules the next completion of the shared backend.
func (s *Sim) arm() {
	s.epoch++
	n := len(s.shared)
	if n == 0 || s.workers == 0 {
		return
	}
	left := max(0, s.shared[0].finish-s.attained) / s.share(n)
	at := s.Backend.end(s.now, time.Duration(math.Ceil(left)))
	s.events.push(event{at: at, kind: sharedServed, epoch: s.epoch})
}

func (s *Sim) completeShared() {
	s.settle()
	var done []*Request
	for len(s.shared) > 0 && s.shared[0].finish <= s.attained+1 {
		done = append(done, s.shared.pop())
	}
	for _, r := range done {
		s.complete(r)
	}
	s.settle()
	s.arm()
}
