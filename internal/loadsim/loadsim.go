// Package loadsim simulates services under load in virtual time: who asks, who waits at a
// gate, and who shares the workers of a backend. The gates are the code that ships.
//
// It is a discrete-event simulation. Nothing in it sleeps or reads a clock, and equal seeds
// give equal runs.
package loadsim

import (
	"math/rand/v2"
	"time"
)

// Gate is what stands between those who ask and the backend. For every Request that is
// offered it calls Admit or Refuse of the Sim once, at once or later.
type Gate interface {
	// Offer is called with each Request that comes.
	Offer(now time.Duration, r *Request)

	// Done is called when one that was admitted has ended.
	Done(now time.Duration, r *Request, o Outcome)

	// Tick comes when it was asked for by Sim.Wake.
	Tick(now time.Duration)
}

// Outcome is how a request ended for the one who served it.
type Outcome int

// The outcomes.
const (
	OK      Outcome = iota
	Failed          // a fast failure, of the request's own
	Timeout         // its time was over
	Left            // the client left
)

// Request is one attempt of one call.
type Request struct {
	Class    int           // how important it is
	Tenant   int           // for whom it is; 0: not said
	Attempt  int           // from 1 on
	Gate     int           // which gate it goes to
	Arrived  time.Duration // when it came
	Deadline time.Duration // when its time is over; 0: never
	Work     time.Duration // time of a worker
	Delay    time.Duration // time of nobody, such as of a dependency
	Outcome  Outcome       // how it is to end
	Detached bool          // it tells the gate at once that how long it takes means nothing
	Token    any           // the gate's own

	first  time.Duration // arrival of the call's first attempt
	finish float64       // in a shared backend: of attained service
	source *Source
	begun  time.Duration // admitted
	dead   bool          // the client has given up
}

// Source is a stream of calls, arriving at random.
type Source struct {
	Rate  func(t time.Duration) float64    // calls a second at t
	Peak  float64                          // the most that Rate returns
	Make  func(rnd *rand.Rand, r *Request) // fills in what one is
	Tries int                              // attempts of a call at most; 0 is 1
	Wait  time.Duration                    // before the second attempt at most, doubled for each
	Limit time.Duration                    // after which the client gives up an attempt; 0: never

	patience []*Request
}

// Sim is one run.
type Sim struct {
	Gates   []Gate    // one for each replica
	Backend Backend   // of all gates
	Sources []*Source // who asks

	// Observe is told what happens.
	Observe func(r *Request, what Event, now time.Duration)

	// Each is called every Every, to look at the gates.
	Each  func(now time.Duration)
	Every time.Duration // above 0

	now    time.Duration
	events heap
	rnd    *rand.Rand

	// The backend.
	workers  int
	waiting  []*Request // first come, first served
	busy     int
	attained float64 // service that each of the shared ones has got so far, in ns
	asOf     time.Duration
	shared   sharedHeap
	epoch    int // of the next completion's event
}

// Event is what happens to a request.
type Event int

// The events.
const (
	Arrived   Event = iota
	Admitted        // by the gate
	Refused         // by the gate
	Completed       // an answer came
)

type eventKind int

const (
	arrival eventKind = iota
	served            // by a worker of its own
	delayed           // its delay is over
	sharedServed
	change
	tick
	each
	retry
	giveUp
	deliver
)

// Run simulates until a time, from a seed.
func (s *Sim) Run(until time.Duration, seed uint64) {
	s.rnd = rand.New(rand.NewPCG(seed, 1))
	s.workers = s.Backend.Workers(0)
	for _, src := range s.Sources {
		s.schedule(src)
	}
	for _, at := range s.Backend.Changes {
		s.events.push(event{at: at, kind: change})
	}
	if s.Each != nil {
		s.events.push(event{at: s.Every, kind: each})
	}
	for len(s.events) > 0 {
		e := s.events.pop()
		if e.at > until {
			return
		}
		s.now = e.at
		s.handle(e)
	}
}

// Wake asks for a Tick of a gate, the one with this index.
func (s *Sim) Wake(at time.Duration, gate int) {
	s.events.push(event{at: at, kind: tick, gate: gate})
}

func (s *Sim) handle(e event) {
	switch e.kind {
	case arrival:
		s.arrive(e.source)
	case delayed:
		s.work(e.r)
	case served, sharedServed, change:
		s.serve(e)
	case retry:
		s.offer(e.r)
	case giveUp:
		s.giveUps(e.source)
	case deliver:
		s.deliver(e.r)
	case tick:
		s.tick(e.gate)
	case each:
		s.Each(s.now)
		s.events.push(event{at: s.now + s.Every, kind: each})
	}
}

func (s *Sim) tick(gate int) {
	if at := s.Backend.awake(s.now); at > s.now {
		s.Wake(at, gate)
		return
	}
	s.Gates[gate].Tick(s.now)
}

// schedule draws the next arrival of a source: thinned from a stream at its peak.
func (s *Sim) schedule(src *Source) {
	at := s.now
	for {
		at += time.Duration(s.rnd.ExpFloat64() / src.Peak * 1e9)
		if s.rnd.Float64()*src.Peak < src.Rate(at) {
			s.events.push(event{at: at, kind: arrival, source: src})
			return
		}
		if at > 24*time.Hour {
			return
		}
	}
}

func (s *Sim) arrive(src *Source) {
	s.schedule(src)
	r := &Request{source: src, Attempt: 1, first: s.now}
	src.Make(s.rnd, r)
	s.offer(r)
}

func (s *Sim) offer(r *Request) {
	r.Arrived = s.now
	if s.Observe != nil {
		s.Observe(r, Arrived, s.now)
	}
	if src := r.source; src.Limit > 0 {
		if src.patience = append(src.patience, r); len(src.patience) == 1 {
			s.events.push(event{at: s.now + src.Limit, kind: giveUp, source: src})
		}
	}
	s.deliver(r)
}

// deliver gives a request to its gate, or, while the process stands still, to its socket.
func (s *Sim) deliver(r *Request) {
	if at := s.Backend.awake(s.now); at > s.now {
		s.events.push(event{at: at, kind: deliver, r: r})
		return
	}
	s.Gates[r.Gate].Offer(s.now, r)
}

// Admit starts the work of a request.
func (s *Sim) Admit(r *Request) {
	r.begun = s.now
	if s.Observe != nil {
		s.Observe(r, Admitted, s.now)
	}
	if r.Delay > 0 {
		s.events.push(event{at: s.now + r.Delay, kind: delayed, r: r})
		return
	}
	s.work(r)
}

// Refuse ends a request.
func (s *Sim) Refuse(r *Request) {
	if r.dead {
		return
	}
	r.dead = true
	if s.Observe != nil {
		s.Observe(r, Refused, s.now)
	}
	s.retry(r)
}

// giveUps has the clients of a source leave whose time is over. They are patient for as long
// as each other, so the first who came is the first to leave, and one event is enough for
// all.
func (s *Sim) giveUps(src *Source) {
	for len(src.patience) > 0 {
		r := src.patience[0]
		if at := r.Arrived + src.Limit; !r.dead && at > s.now {
			s.events.push(event{at: at, kind: giveUp, source: src})
			return
		}
		src.patience = src.patience[1:]
		s.giveUp(r)
	}
	src.patience = nil
}

// giveUp has the client leave. What has been begun is finished all the same.
func (s *Sim) giveUp(r *Request) {
	if r.dead {
		return
	}
	r.dead = true
	s.retry(r)
}

func (s *Sim) retry(r *Request) {
	src := r.source
	if r.Attempt >= src.Tries {
		return
	}
	again := &Request{source: src, first: r.first}
	src.Make(s.rnd, again)
	again.Attempt, again.Class, again.Tenant, again.Gate = r.Attempt+1, r.Class, r.Tenant, r.Gate
	wait := time.Duration(s.rnd.Float64() * float64(src.Wait<<(r.Attempt-1)))
	s.events.push(event{at: s.now + wait, kind: retry, r: again})
}

// complete answers a request.
func (s *Sim) complete(r *Request) {
	outcome := r.Outcome
	if r.Deadline > 0 && s.now > r.Deadline {
		outcome = Timeout
	} else if r.dead {
		outcome = Left
	}
	s.Gates[r.Gate].Done(s.now, r, outcome)
	if !r.dead {
		r.dead = true
		if s.Observe != nil {
			s.Observe(r, Completed, s.now)
		}
	}
}

// Latency returns how long the attempt took, to the client.
func (r *Request) Latency(now time.Duration) time.Duration { return now - r.Arrived }

// First returns when the first attempt of the call came.
func (r *Request) First() time.Duration { return r.first }
