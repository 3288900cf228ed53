package bulkhead

import (
	"context"
	"runtime/debug"

	"github.com/stormjib/stormjib/internal/ended"
)

// How an item that was accepted ends.
const (
	succeeded = iota
	failed
	panicked
	pushedOut
	abandoned
	givenBack
	outcomes
)

// work is what a worker does. When a handler or a hook ends its goroutine, another takes
// its place.
func (q *Queue[T]) work() {
	returned := false
	defer func() {
		if !returned {
			q.mu.Lock()
			q.start()
			q.admit()
			q.mu.Unlock()
		}
	}()
	e, ok := q.first()
	for ok {
		q.handle(e)
		e, ok = q.next()
	}
	returned = true
}

func (q *Queue[T]) first() (entry[T], bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.starting--
	return q.take()
}

func (q *Queue[T]) next() (entry[T], bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.take()
}

// take takes the next item, or gives up the worker if there is none.
func (q *Queue[T]) take() (entry[T], bool) {
	if q.items.len == 0 {
		q.running--
		q.overIfIdle()
		return entry[T]{}, false
	}
	e := q.pop()
	q.busy++
	q.admit()
	return e, true
}

// pop takes out the first item. From now on it is too late to take it back.
func (q *Queue[T]) pop() entry[T] {
	e := q.items.remove(q.items.first())
	if e.call == nil {
		return e
	}
	e.call.state = forWork
	if !e.call.result {
		q.accepted++
		e.call = nil
	}
	return e
}

// handle has e handled. The outcome is recorded when the handler is left, in whatever way;
// a panic ends here.
func (q *Queue[T]) handle(e entry[T]) {
	outcome, err := panicked, error(nil)
	defer func() {
		if outcome == panicked {
			err = &PanicError{q.cfg.Name, recover(), debug.Stack()}
		}
		q.finish(e, outcome, err)
	}()
	// Its caller is about to leave: that is the time to save the work.
	if e.call != nil && e.ctx.Err() != nil {
		outcome, err = abandoned, ended.New(e.ctx, "bulkhead", true)
		return
	}
	ctx, cancel := handlerContext(q.ctx, e.ctx, e.call != nil)
	defer cancel()
	err = q.cfg.Handle(ctx, e.item)
	outcome = succeeded
	if err != nil {
		outcome = failed
	}
}

// handlerContext returns the context of an item's handler. For an item of Do it is the
// caller's, with a second reason to end: that of the queue. It has no type parameter, or
// the function that does nothing would be allocated.
func handlerContext(queue, caller context.Context, do bool) (context.Context, func()) {
	if !do {
		return &itemContext{queue, caller}, func() {}
	}
	ctx, cancel := context.WithCancelCause(caller)
	stop := context.AfterFunc(queue, func() { cancel(context.Cause(queue)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// itemContext is a queue's context with the values of a caller's.
type itemContext struct {
	context.Context                 //nolint:containedctx // it is a context
	values          context.Context //nolint:containedctx // as above
}

// Value asks the queue's context first. That has no values but what package context finds
// its own types by, and it must not find the caller's: what is derived from this one would
// need a goroutine each.
func (c *itemContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// finish records how e ended, and tells the one who waits for it or else a hook. The caller
// and the hook then find it in Stats. Drain does wait for the hook: a worker that is in
// one is still running.
func (q *Queue[T]) finish(e entry[T], outcome int, err error) {
	hook, state := q.cfg.OnError, answered
	if outcome == abandoned {
		hook, state = q.cfg.OnDrop, dropped
	}
	q.mu.Lock()
	if e.call.there() {
		e.call.answer(state, err)
		hook = nil
	}
	q.busy--
	q.ends[outcome]++
	if outcome != abandoned {
		q.completed.add(q.clock())
	}
	q.mu.Unlock()
	if err != nil && hook != nil {
		q.tell(hook, e.item, err)
	}
}

// tell calls a hook on a worker. Its panic has nobody to go to: the hook is the one who
// would be told.
func (q *Queue[T]) tell(hook func(T, error), item T, err error) {
	returned := false
	defer func() {
		if !returned {
			_ = recover()
			q.mu.Lock()
			q.hookPanics++
			q.mu.Unlock()
		}
	}()
	hook(item, err)
	returned = true
}
