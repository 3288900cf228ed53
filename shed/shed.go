package shed

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// Shedder bounds how many calls are under way, by a limit that it finds itself. Make it
// with [New] and use it from any number of goroutines. It has no goroutine and no timer;
// [Shedder.Close] is for those who want everything refused from then on.
//
// Most callers want [Shedder.Do] or the generic [Do]. Adapters, where the call and its
// end are in different places, use [Shedder.Acquire] and [Permit.Done].
//
// While there is room, a call costs two readings of the clock and four atomic operations;
// it takes no lock and allocates nothing. A refusal by TryAcquire costs one, and one by
// Acquire a lock besides; neither allocates. A call that waits allocates what it waits
// with. A Shedder takes two kilobytes, and 14 more for each class of which somebody
// has waited, however many tenants there are.
type Shedder struct {
	word  atomic.Uint64 // see below
	limit atomic.Uint64
	meter meter

	cfg  Config
	base time.Time
	seed maphash.Seed

	errors   [classes + 1][reasons]error // by class and reason
	crowders [classes + 1][reasons]error // of who is over its share

	refused [classes + 1]atomic.Uint64
	gaveUp  atomic.Uint64
	pressed atomic.Bool // Config.Pressure takes something

	updating  atomic.Bool // somebody is in update, who alone uses:
	algorithm Algorithm
	pressure  float64
	pressedAt int64

	measured atomic.Pointer[measured]

	mu    sync.Mutex // held to wait, and to leave the queue
	queue queue
	alive probe
}

// The word of a Shedder. That all of it changes in one step is what makes the fast path
// right: who takes a slot has seen that nobody waits, and the end of a call is counted by
// the addition that gives back its slot.
const (
	inUse   = 1<<31 - 1 // calls under way
	guard   = 1 << 31   // always set: what is finished too often borrows from here
	waiting = 1 << 32   // somebody waits: nobody passes, and who is done comes by
	kept    = 1 << 33   // slots are kept for high classes: everybody is looked at
	closed  = 1 << 34
	oneCall = 1 << 35 // the rest counts the calls that have ended, and wraps around

	mostEnded = 1<<64/oneCall - 1
)

// New returns a Shedder. It panics if cfg is not valid; see [Config.Validate].
func New(cfg Config) *Shedder {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	cfg = cfg.filled()
	s := &Shedder{
		cfg: cfg, base: time.Now(), seed: maphash.MakeSeed(), algorithm: cfg.Algorithm(cfg),
	}
	if s.algorithm == nil {
		panic("shed: Config.Algorithm returned nil")
	}
	for class := range s.errors {
		for i, why := range allReasons {
			c := Criticality(class).known()
			s.errors[class][i] = &OverloadError{cfg.Name, why, c, false}
			s.crowders[class][i] = &OverloadError{cfg.Name, why, c, true}
		}
	}
	s.alive.ended = 1 << 63 // no number of calls: it counts from the first refusal
	s.queue.patience = int64(cfg.MaxWait)
	s.word.Store(guard)
	s.limit.Store(uint64(cfg.Initial))
	s.meter.init()
	return s
}

// clock returns nanoseconds since the Shedder was made. It is monotonic, and half the
// price of time.Now.
func (s *Shedder) clock() int64 { return max(0, int64(time.Since(s.base))) }

// Do calls fn when there is a slot for it, and returns what fn returned. If there is none
// the error is an [*OverloadError] and fn is not called; if ctx ends before there is one,
// the error matches what ctx says and its cause. A panic or runtime.Goexit of fn gives
// back the slot and goes on with its stack untouched.
func (s *Shedder) Do(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("shed: Do: nil function")
	}
	p, err := s.Acquire(ctx)
	if err != nil {
		return err
	}
	defer p.Record(Ignored) // what a panic or Goexit left open; Done clears p
	err = fn(ctx)
	p.Done(ctx, err)
	return err
}

// Do is [Shedder.Do] for a function with a result. The result is returned untouched too,
// beside an error or not.
func Do[R any](
	ctx context.Context, s *Shedder, fn func(context.Context) (R, error),
) (R, error) {
	if fn == nil {
		panic("shed: Do: nil function")
	}
	p, err := s.Acquire(ctx)
	if err != nil {
		var zero R
		return zero, err
	}
	defer p.Record(Ignored) // as in Shedder.Do
	result, err := fn(ctx)
	p.Done(ctx, err)
	return result, err
}

// Permit is a slot for one call, from [Shedder.Acquire]. Finish it once, with Done,
// Record or StopClock; a second finish does nothing, and neither does finishing the zero
// Permit. It must not be copied: a copy could be finished again.
//
// A permit that is never finished is a slot that is gone.
type Permit struct {
	s     *Shedder // nil: finished
	start int64
	w     *waiter // of a call that waited, to charge its tenant
}

// take takes a slot, if there is one and nobody waits.
func (s *Shedder) take() bool {
	for {
		w := s.word.Load()
		if w&(waiting|kept|closed) != 0 || w&inUse >= s.limit.Load() {
			return false
		}
		if s.word.CompareAndSwap(w, w+1) {
			return true
		}
	}
}

func (s *Shedder) begin(now int64) Permit {
	s.meter.begin(now)
	return Permit{s: s, start: now}
}

// TryAcquire returns a permit if there is a slot at this moment and nobody waits for one.
func (s *Shedder) TryAcquire(ctx context.Context) (Permit, error) {
	if s.take() {
		return s.begin(s.clock()), nil
	}
	class, why := CriticalityOf(ctx), LimitReached
	switch w := s.word.Load(); {
	case w&closed != 0:
		why = Closed
	case w&(waiting|kept) == kept:
		if p := s.takeShare(s.clock(), class); p.s != nil {
			return p, nil
		}
	case s.refused[class].Load()%16 == 15:
		if now := s.clock(); s.knock(now) {
			return s.begin(now), nil
		}
	}
	return Permit{}, s.refuse(denial{why: why}, class)
}

// takeShare is take where slots are kept.
func (s *Shedder) takeShare(now int64, c Criticality) Permit {
	s.update(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grant(now)
	if s.queue.length > 0 || !s.queue.shares.allow(c) || !s.takeFor() {
		return Permit{}
	}
	w := s.queue.push(now, call{c, 0, never})
	s.give(now, w)
	return Permit{s: s, start: now, w: w}
}

// knock is for where all calls hang and nobody comes by to see to it. It reports whether
// one more may be let through. Now and then will do, for what is refused should cost
// nothing.
func (s *Shedder) knock(now int64) bool {
	s.update(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revive(now)
}

// Done finishes the permit with the error of the call, nil included, and takes it for
// what Config.Classify, or [Classify], makes of it.
func (p *Permit) Done(ctx context.Context, err error) {
	if p.s != nil {
		p.Record(p.s.cfg.Classify(ctx, err))
	}
}

// Record finishes the permit with an outcome that the caller has judged itself.
func (p *Permit) Record(o Outcome) {
	if p.s != nil {
		p.finish(p.s.clock(), o)
	}
}

// StopClock finishes the permit of a call that goes on: a stream that has begun, or a
// poll that now waits for news. It holds no slot any more, and how long it takes counts
// for nothing. What long ones there may be at a time is for a bulkhead to say.
func (p *Permit) StopClock() { p.Record(Ignored) }

func (p *Permit) finish(now int64, o Outcome) {
	s, start, waited := p.s, p.start, p.w
	p.s = nil
	w := s.word.Add(oneCall - 1)
	if w&guard == 0 {
		s.word.Add(1<<64 - (oneCall - 1))
		panic("shed: a copy of a Permit was finished too")
	}
	s.meter.end(start, now, o)
	if o == OK && w/oneCall%4 == 0 {
		s.meter.sample(now - start)
	}
	if waited != nil || w&(waiting|kept) != 0 {
		over := w&inUse >= s.limit.Load() && w/oneCall%2 == 0
		s.pass(now, waited, now-start, o, over)
	}
	if now >= s.meter.due.Load() {
		s.update(now)
	}
}

// pass settles with a call that had waited, if this was one, and gives the slot to who
// waits.
func (s *Shedder) pass(now int64, w *waiter, took int64, o Outcome, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w != nil {
		s.queue.settle(w, took, o)
	}
	if s.word.Load()&(waiting|kept) == 0 {
		return
	}
	// The limit was lowered below what is under way. If nobody were let in until that has
	// drained, the most important would wait for as long as calls take, and be refused. So
	// every other slot is handed on.
	if over {
		if next := s.queue.next(now); next != nil {
			s.word.Add(1)
			s.give(now, next)
		}
	}
	s.grant(now)
}

// update ends the window if it is time to, and asks the algorithm. One goroutine does so
// at a time; the others do not wait for it.
func (s *Shedder) update(now int64) {
	if now < s.meter.due.Load() || !s.updating.CompareAndSwap(false, true) {
		return
	}
	defer s.updating.Store(false)
	word := s.word.Load()
	w, ok := s.meter.window(now, word/oneCall, s.allRefused())
	if !ok {
		return
	}
	from := int(s.limit.Load())
	w.Limit = from
	found := s.bounded(s.algorithm.Update(w))
	to := s.bounded(int(float64(found) * (1 - s.press(now))))
	s.limit.Store(uint64(to))
	s.publish(w, word/oneCall)
	if to > from+2 && 4*to > 5*from {
		s.meter.settle(now, w.Latency())
	}
	if to > from && s.word.Load()&(waiting|kept) != 0 {
		s.pass(now, nil, 0, OK, false)
	}
	if from != to && s.cfg.OnChange != nil {
		s.cfg.OnChange(Change{s.cfg.Name, from, to, w})
	}
}

func (s *Shedder) bounded(limit int) int { return max(s.cfg.Min, min(s.cfg.Max, limit)) }

// press asks Config.Pressure, ten times a second at most. Some slots are always left.
func (s *Shedder) press(now int64) float64 {
	const every = int64(100 * time.Millisecond)
	if s.cfg.Pressure == nil {
		return 0
	}
	if s.pressedAt == 0 || now-s.pressedAt >= every {
		s.pressedAt = now
		p := s.cfg.Pressure()
		if !(p > 0) { // NaN is no number to go by
			p = 0
		}
		s.pressure = min(0.9, p)
		s.pressed.Store(p > 0)
	}
	return s.pressure
}
