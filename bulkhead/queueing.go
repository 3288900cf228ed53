package bulkhead

import (
	"container/list"
	"time"
)

// waiter is a call that waits. Its bulkhead's lock is held around element, state and
// since.
type waiter struct {
	n     uint64
	done  <-chan struct{} // of its context, which a user may have written: asked for before
	ready chan struct{}   // closed when state is granted or refused

	element *list.Element // its place in the queue; nil: it has left it
	state   waiterState
	since   int64
}

func waiterIn(e *list.Element) *waiter {
	w, _ := e.Value.(*waiter) // the queue holds nothing else
	return w
}

type waiterState int

const (
	inLine  waiterState = iota
	granted             // it has its slot
	refused             // it can't have it any more
)

// What becomes of a call that wants to wait.
const (
	lined = iota
	noPlace
	changedMeanwhile // the bulkhead has been retired or resized
)

// enqueue puts w at the end of the queue. It may be granted at once.
func (b *Bulkhead) enqueue(w *waiter) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	// One that is too heavy since a Resize would wait for ever, and all behind it.
	if b.word.Load()&retired != 0 || w.n > b.max.Load() {
		return changedMeanwhile
	}
	w.since = b.clock()
	w.element = b.queue.PushBack(w)
	b.waiters.Add(1)
	// From here on whoever gives back a slot comes by. Those who did so just before
	// do not: grant looks what they left.
	b.word.Or(waiting)
	b.grant()
	if w.element != nil && b.queue.Len() > b.set.maxQueue {
		b.dismiss(w.element, inLine)
		b.grant() // takes back the mark, if w was the only one
		return noPlace
	}
	return lined
}

// wait returns when w has its answer, or has waited for long enough.
func (w *waiter) wait(atMost time.Duration) {
	var over <-chan time.Time
	if atMost >= 0 {
		timer := time.NewTimer(atMost)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-w.ready:
	case <-w.done:
	case <-over:
	}
}

// leave ends the wait of w and returns its state. If it no longer wants its slot, the
// next in line gets it.
func (b *Bulkhead) leave(w *waiter, unwanted bool) waiterState {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.longest = max(b.longest, time.Duration(b.clock()-w.since))
	if w.element != nil {
		b.dismiss(w.element, inLine)
	}
	if unwanted && w.state == granted {
		b.word.Add(-w.n)
	}
	if w.state != granted || unwanted {
		b.grant() // a lighter one may have stood behind it
	}
	return w.state
}

// grant gives the free slots to those at the head of the queue. The lock is held.
func (b *Bulkhead) grant() {
	for e := b.queue.Front(); e != nil; e = b.queue.Front() {
		if !b.takeFor(waiterIn(e).n) {
			return
		}
		b.dismiss(e, granted)
	}
	b.word.And(^uint64(waiting))
}

// takeFor takes n for one who waits.
func (b *Bulkhead) takeFor(n uint64) bool {
	for {
		w := b.word.Load()
		if w&inUse+n > b.max.Load() {
			return false
		}
		if b.word.CompareAndSwap(w, w+n) {
			return true
		}
	}
}

// dismiss takes a waiter out of the queue. The lock is held.
func (b *Bulkhead) dismiss(e *list.Element, state waiterState) {
	w := waiterIn(e)
	b.queue.Remove(e)
	w.element, w.state = nil, state
	b.waiters.Add(-1)
	if state != inLine {
		close(w.ready)
	}
}
