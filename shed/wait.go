package shed

import (
	"cmp"
	"context"
	"hash/maphash"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/internal/hop"
)

// Acquire returns a permit when there is a slot, waiting for one as the Config allows, in
// the order of class, tenant and arrival; see the package's documentation. A context that
// is done is refused, whether there is a slot or not. If the error is nil, finish the
// permit when the call has ended, whatever became of it.
func (s *Shedder) Acquire(ctx context.Context) (Permit, error) {
	if ctx.Err() != nil {
		s.gaveUp.Add(1)
		return Permit{}, ended.New(ctx, "shed", true)
	}
	if s.take() {
		return s.begin(s.clock()), nil
	}
	return s.acquireSlowly(ctx)
}

func (s *Shedder) acquireSlowly(ctx context.Context) (Permit, error) {
	c := s.callOf(ctx)
	done := ctx.Done() // of a user's, perhaps: not while w waits
	w, d := s.offer(s.clock(), c)
	if w == nil {
		return Permit{}, s.refuse(d, c.class)
	}
	w.wait(done, s.cfg.MaxWait)
	if ctx.Err() != nil { // it wins over a slot: select would take either
		if p, _ := s.admit(s.clock(), w); p.s != nil {
			p.Record(Ignored) // it was admitted, and counts as that
		} else {
			s.gaveUp.Add(1)
		}
		return Permit{}, ended.New(ctx, "shed", true)
	}
	p, d := s.admit(s.clock(), w)
	if p.s == nil {
		return Permit{}, s.refuse(d, c.class)
	}
	return p, nil
}

// call is what the queue needs to know of a call.
type call struct {
	class    Criticality // which the queue goes by
	tenant   uint64      // a hash; 0: not said
	deadline int64       // never if it has none
}

// callOf returns the call made in ctx. One that is tried again counts for one class less:
// what was refused before and does not come again would otherwise be the fresh work, of
// which a refusal brings more.
func (s *Shedder) callOf(ctx context.Context) call {
	sender := hop.SenderOf(ctx)
	c := call{Criticality(sender.Criticality).known(), 0, never}
	if sender.Tenant != "" {
		c.tenant = maphash.String(s.seed, sender.Tenant)
	}
	if sender.Attempt > 1 && c.class > BestEffort {
		c.class--
	}
	if t, ok := ctx.Deadline(); ok {
		c.deadline = int64(t.Sub(s.base))
	}
	return c
}

// wait returns when w has its answer, or has waited for long enough.
func (w *waiter) wait(done <-chan struct{}, atMost time.Duration) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-w.ready:
	case <-done:
	case <-timer.C:
	}
}

// offer puts a call into the queue, or says why not.
func (s *Shedder) offer(now int64, c call) (*waiter, denial) {
	s.update(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.word.Load()&closed != 0 {
		return nil, denial{why: Closed}
	}
	s.meter.waited.Add(1)
	if s.revive(now) {
		w := s.queue.push(now, c)
		s.word.Or(waiting)
		s.give(now, cmp.Or(s.queue.next(now), w)) // who waits goes first
		return w, denial{}
	}
	switch {
	case s.cfg.Queue < 0:
		return nil, denial{why: LimitReached}
	case s.queue.late(now, &c):
		return nil, denial{why: TooLate}
	}
	if s.queue.length >= s.room(now) {
		s.grant(now) // who is late or has waited for too long makes room
	}
	if s.queue.length >= s.room(now) && s.queue.length > 0 {
		victim := s.queue.victim(now, c)
		if victim == nil {
			return nil, denial{QueueFull, s.queue.overShare(c, 1)}
		}
		over := victim.class == c.class && s.queue.overShare(victim.call, 0)
		s.dismiss(now, victim, denial{Evicted, over})
	}
	w := s.queue.push(now, c)
	// From here on whoever gives back a slot comes by. Those who did so just before do
	// not: grant looks what they left.
	s.word.Or(waiting)
	s.grant(now)
	return w, denial{}
}

// room is how many may wait: about as many as there are slots, and twice as many in a
// burst, or after a pause of the process, as long as it passes.
func (s *Shedder) room(now int64) int {
	if s.cfg.Queue != 0 {
		return max(0, s.cfg.Queue)
	}
	room := max(8, int(s.limit.Load()))
	if !s.queue.stands(now) {
		room *= 2
	}
	return room
}

// grant gives free slots to those who go next. The lock is held.
func (s *Shedder) grant(now int64) {
	s.queue.shares.grow(now, int(s.limit.Load()))
	s.grantAll(now)
	w := s.word.Load()
	if s.queue.length == 0 && w&waiting != 0 {
		s.word.And(^uint64(waiting))
	}
	switch keeps := s.queue.shares.kept; {
	case keeps && w&kept == 0:
		s.word.Or(kept)
	case !keeps && w&kept != 0:
		s.word.And(^uint64(kept))
	}
}

func (s *Shedder) grantAll(now int64) {
	for w := s.queue.next(now); w != nil; w = s.queue.next(now) {
		switch {
		case s.queue.late(now, &w.call):
			s.dismiss(now, w, denial{why: TooLate})
		case s.queue.stale(now, w):
			s.dismiss(now, w, denial{why: QueueFull})
		case !s.takeFor():
			return
		default:
			s.give(now, w)
		}
	}
}

// takeFor takes a slot for one who waits.
func (s *Shedder) takeFor() bool {
	for {
		w := s.word.Load()
		if w&inUse >= s.limit.Load() {
			return false
		}
		if s.word.CompareAndSwap(w, w+1) {
			return true
		}
	}
}

// give gives w the slot that was taken for it.
func (s *Shedder) give(now int64, w *waiter) {
	s.meter.begin(now)
	w.started = now
	s.queue.grant(now, w)
	close(w.ready)
}

func (s *Shedder) dismiss(now int64, w *waiter, d denial) {
	w.refused = d
	s.queue.remove(now, w)
	close(w.ready)
}

// admit ends the wait of w.
func (s *Shedder) admit(now int64, w *waiter) (Permit, denial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case w.element != nil:
		s.queue.remove(now, w)
		s.grant(now)
		return Permit{}, denial{why: QueueFull}
	case w.refused.why != "":
		return Permit{}, w.refused
	}
	return Permit{s: s, start: w.started, w: w}, denial{}
}

// probe lets a call through when none has ended for a second, so that hanging calls do
// not shut a server for good.
type probe struct {
	ended uint64
	since int64
}

func (p *probe) stuck(now int64, ended uint64) bool {
	const second = int64(time.Second)
	if ended != p.ended {
		p.ended, p.since = ended, now
		return false
	}
	if now-p.since < second {
		return false
	}
	p.since = now
	return true
}

// revive takes a slot beyond the limit if the probe says so. The lock is held.
func (s *Shedder) revive(now int64) bool {
	w := s.word.Load()
	if w&inUse < s.limit.Load() || w&inUse >= mostCalls || !s.alive.stuck(now, w/oneCall) {
		return false
	}
	s.word.Add(1)
	return true
}

// Close has everything refused from now on, and those who wait at once. Calls under way
// go on, and end as always.
func (s *Shedder) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.word.Or(closed)
	now := s.clock()
	s.queue.shares = shares{}
	for w := s.queue.next(now); w != nil; w = s.queue.next(now) {
		s.dismiss(now, w, denial{why: Closed})
		s.queue.shares = shares{} // or some would stay
	}
	s.word.And(^uint64(waiting))
}
