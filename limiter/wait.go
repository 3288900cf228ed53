package limiter

import (
	"container/list"
	"context"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"golang.org/x/time/rate"
)

// Wait takes n tokens, and waits for them if it must. Those who wait are served in the
// order in which they came, and hold no tokens meanwhile: one who gives up leaves none
// taken, and those behind move up.
//
// It returns a [*LimitedError] at once if n is below 1 or above the Burst, if MaxQueue
// others wait, or if the tokens would come only after ctx's deadline. If ctx ends while it
// waits, or had ended before, the error matches what ctx says and its cause.
func (l *Limiter) Wait(ctx context.Context, n int) error {
	if ctx.Err() != nil {
		l.gaveUp.Add(1)
		return ended.New(ctx, "limiter", true)
	}
	v, debt, ok := l.take(n)
	if ok || l.spared() {
		return nil
	}
	if int64(n) > v.burst || n < 1 {
		return l.limited(v, Never, debt, int64(n), 0)
	}
	if l.maxQueue == 0 {
		return l.limited(v, RateExceeded, debt, int64(n), 0)
	}
	deadline, hurried := ctx.Deadline()
	w, refused := l.enqueue(waiter{n: int64(n), deadline: deadline, hurried: hurried})
	if refused != nil {
		return refused
	}
	return l.stand(ctx, w)
}

// limited returns the error of a refusal, with ahead tokens to be taken before. It is the
// last one, if that says the same: a caller who is refused should not have the garbage
// collector to pay. So that it says the same often enough, the time that it names is
// rounded up to milliseconds.
func (l *Limiter) limited(v *level, why Reason, debt, n, ahead int64) *LimitedError {
	after := v.wait(debt, n, ahead)
	if rest := after % time.Millisecond; rest != 0 && after != rate.InfDuration {
		after += time.Millisecond - rest
	}
	e := l.last.Load()
	if e == nil || e.after != after || e.Reason != why || e.Limit != v.limit {
		e = &LimitedError{Name: l.name, Reason: why, Limit: v.limit, after: after}
		l.last.Store(e)
	}
	return e
}

// waiter is a caller in Wait. Its limiter's lock is held around element and refused.
type waiter struct {
	n        int64
	deadline time.Time
	hurried  bool          // it has a deadline
	wake     chan struct{} // sent to when there is something to look at

	element *list.Element // its place in the queue; nil: it has left it
	refused *LimitedError // why it was put out of it
}

// enqueue puts one like w at the end of the queue, or says why not.
func (l *Limiter) enqueue(w waiter) (*waiter, *LimitedError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ahead := l.level.Load(), l.queued.Load()
	debt := v.debt(l.clock())
	if l.queue.Len() >= l.maxQueue {
		l.queueFull.Add(1)
		return nil, l.limited(v, QueueFull, debt, w.n, ahead)
	}
	if e := l.hopeless(v, debt, w, ahead); e != nil {
		return nil, e
	}
	w.wake = make(chan struct{}, 1)
	waits := new(w)
	waits.element = l.queue.PushBack(waits)
	l.queued.Add(w.n)
	return waits, nil
}

// stand returns when w has its tokens, or will not get them. Only the one at the head
// of the queue has a timer. A context that is done wins over tokens: select would take
// either.
func (l *Limiter) stand(ctx context.Context, w *waiter) error {
	defer l.giveUp(w) // which does nothing to one that has left
	done := ctx.Done()
	var timer *time.Timer
	var due <-chan time.Time
	for {
		delay, over, refused := l.turn(w)
		switch {
		case refused != nil:
			return refused
		case over:
			return nil
		case delay == 0:
		case timer == nil:
			timer = time.NewTimer(delay)
			defer timer.Stop()
			due = timer.C
		default:
			timer.Reset(delay)
		}
		select {
		case <-done:
		case <-w.wake:
		case <-due:
		}
		if ctx.Err() != nil {
			return ended.New(ctx, "limiter", true)
		}
	}
}

// turn looks how things are for w: over, when it has its tokens; how long to wait for
// them, if it is at the head.
func (l *Limiter) turn(w *waiter) (delay time.Duration, over bool, refused *LimitedError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.refused != nil || w.element != l.queue.Front() {
		return 0, false, w.refused
	}
	v := l.level.Load()
	debt, ok := v.take(l.clock(), w.n)
	if !ok {
		return v.wait(debt, w.n, 0), false, nil
	}
	l.leave(w)
	return 0, true, nil
}

// giveUp takes w out of the queue, if it is still there.
func (l *Limiter) giveUp(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.element != nil {
		l.gaveUp.Add(1)
		l.leave(w)
	}
}

// leave takes w out of the queue, and has the next at the head look. The lock is held.
func (l *Limiter) leave(w *waiter) {
	head := w.element == l.queue.Front()
	l.queue.Remove(w.element)
	w.element = nil
	l.queued.Add(-w.n)
	if head {
		l.wakeHead()
	}
}

// wakeHead has the one at the head of the queue, if any, look. The lock is held.
func (l *Limiter) wakeHead() {
	if e := l.queue.Front(); e != nil {
		waiterAt(e).look()
	}
}

func waiterAt(e *list.Element) *waiter {
	w, _ := e.Value.(*waiter) // the queue holds nothing else
	return w
}

// look wakes w. One wake is as good as two.
func (w *waiter) look() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// rearm holds those who wait against a new level: out with those for whom it has too
// little, or too late. The lock is held.
func (l *Limiter) rearm(v *level, now int64) {
	var ahead int64
	for e := l.queue.Front(); e != nil; {
		w := waiterAt(e)
		e = e.Next()
		if w.refused = l.hopeless(v, v.debt(now), *w, ahead); w.refused == nil {
			ahead += w.n
			continue
		}
		l.leave(w)
		w.look()
	}
	l.wakeHead()
}

// hopeless returns an error if w, with so many tokens to be taken before its own, would
// never get them, or only when its deadline is over.
func (l *Limiter) hopeless(v *level, debt int64, w waiter, ahead int64) *LimitedError {
	after := v.wait(debt, w.n, ahead)
	switch {
	case after == rate.InfDuration:
		return l.limited(v, Never, debt, w.n, ahead)
	case w.hurried && after >= time.Until(w.deadline):
		l.tooShort.Add(1)
		return l.limited(v, DeadlineTooShort, debt, w.n, ahead)
	}
	return nil
}
