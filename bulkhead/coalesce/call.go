package coalesce

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
	"github.com/stormjib/stormjib/internal/verdict"
)

// call is one run of a function, on a goroutine of its own: on that of its first caller
// it would be cheaper, but then that one could not leave.
type call[K comparable, V any] struct {
	key   K
	until int64         // when its time is up
	done  chan struct{} // closed when there is an outcome for those who wait
	end   func()        // cancels the context

	// The fields below are written under the group's lock, the outcome once.
	entry   *entry[K, V] // where callers find it and the result goes; nil: nowhere any more
	waiters int
	joined  uint32 // callers that ever joined it: uses of the result, if it is kept
	refresh bool   // it goes on without waiters
	settled bool   // whatever it comes to is too late
	outcome outcome[V]
}

// outcome is what a call has come to.
type outcome[V any] struct {
	result[V]
	panicked *PanicError
	exited   bool

	refused    bool          // the error says that the call was not attempted
	retryAfter time.Duration // that the error asks for
}

// deliver returns in a caller what the function has returned, or ends it likewise.
func (o *outcome[V]) deliver() (V, error) {
	switch {
	case o.panicked != nil:
		panic(o.panicked)
	case o.exited:
		runtime.Goexit()
	}
	return o.value, o.err
}

func (o *outcome[V]) ok() bool { return o.err == nil && o.panicked == nil && !o.exited }

// returned is the outcome of a function that returned. It asks the error, which is
// user code, so it is called under no lock.
func returned[V any](value V, err error) outcome[V] {
	return outcome[V]{
		result:     result[V]{value, err},
		refused:    verdict.NotAttempted(err),
		retryAfter: verdict.RetryAfter(err),
	}
}

// broken is the outcome of a function that left by a panic, or by Goexit if there is none.
func broken[V any](panicked any) outcome[V] {
	if panicked == nil {
		return outcome[V]{exited: true}
	}
	return outcome[V]{panicked: &PanicError{Value: panicked, Stack: debug.Stack()}}
}

// begin starts a call with so many waiters, for an entry or, if it is nil, for one caller
// alone. It is called with the lock held; nothing in it is user code, for the context that
// all is derived from has no end of the user's.
func (g *Group[K, V]) begin(
	ctx context.Context, key K, fn func(context.Context) (V, error), e *entry[K, V], waiters int,
) *call[K, V] {
	ctx, cancel := g.set.detach(ctx)
	c := &call[K, V]{
		key: key, until: g.set.end(ctx), done: make(chan struct{}),
		entry: e, waiters: waiters, refresh: waiters == 0,
	}
	// A function that ignores its context must not hold up those who wait.
	stop := context.AfterFunc(ctx, func() {
		g.settle(c, outcome[V]{result: result[V]{err: ended.New(ctx, "coalesce", false)}}, false)
	})
	c.end = func() {
		stop()
		cancel()
	}
	if e != nil {
		e.call = c
	}
	g.count.calls++
	g.count.running++
	go g.run(ctx, c, fn)
	return c
}

// run calls the function. It recovers, where others of our packages only note that a call
// did not return: here a panic has callers elsewhere to go to, and would end the program.
func (g *Group[K, V]) run(
	ctx context.Context, c *call[K, V], fn func(context.Context) (V, error),
) {
	var o outcome[V]
	normal := false
	defer func() {
		if !normal {
			o = broken[V](recover())
		}
		g.settle(c, o, true)
	}()
	o = returned(fn(ctx))
	if ctx.Err() != nil { // what it has brought may be part of something
		o = outcome[V]{result: result[V]{err: ended.New(ctx, "coalesce", false)}}
	}
	normal = true
}

// settle takes the first thing that a call has come to: what its function did when that was
// over, or that time was up. Of a later one only a panic matters.
func (g *Group[K, V]) settle(c *call[K, V], o outcome[V], over bool) {
	now := g.clock()
	g.mu.Lock()
	if over {
		g.count.running--
	}
	if o.panicked != nil {
		g.count.panics++
		if c.settled || c.waiters == 0 {
			g.unseen(c, o.panicked, now)
		}
	}
	if !c.settled {
		g.conclude(c, o, now)
	}
	g.mu.Unlock()
	c.end()
}

// conclude gives those who wait what a call has come to. The lock is held.
func (g *Group[K, V]) conclude(c *call[K, V], o outcome[V], now int64) {
	c.settled = true
	if !o.ok() {
		g.count.errors++
	}
	if c.entry != nil {
		o = g.record(c, o, now)
	}
	c.outcome = o
	close(c.done)
}

// record has the table take what the call has come to, and returns what those who wait get:
// the stale result, where that may take the place of an error. It does not take that of a
// panic, which is a bug to be seen.
func (g *Group[K, V]) record(c *call[K, V], o outcome[V], now int64) outcome[V] {
	if o.ok() {
		g.table.keep(c.entry, o.result, now, g.set.lifetime(), c.joined)
		return o
	}
	stale, ok := g.table.fail(c.entry, now, int64(o.retryAfter))
	switch {
	case ok:
		g.count.refreshErrors++
		if o.err != nil {
			g.staleHits.Add(uint64(c.waiters))
			return outcome[V]{result: stale}
		}
	case o.err != nil && g.set.errorTTL != 0 && !o.refused:
		g.table.keepError(c.key, o.result, now, c.joined)
	}
	return o
}

// dismiss takes a call away from its key, for nobody waits for it any more. It is settled
// with that: its function may need a while to see that it was cancelled, and what that
// returns is not an answer to anybody.
func (g *Group[K, V]) dismiss(c *call[K, V]) {
	c.settled = true
	if e := c.entry; e != nil {
		e.call = nil
		if !e.full {
			g.table.remove(e)
		}
	}
}

// unseen keeps a panic that nobody waits for, where the next caller for the key finds it. A
// place for all keys together would be simpler, and have one user's bad key break the
// requests of others.
func (g *Group[K, V]) unseen(c *call[K, V], p *PanicError, now int64) {
	if c.key == c.key { // not a NaN: it would never be found
		g.table.keepPanic(c.key, p, now)
	}
}

// PanicError is what a panic of a call goes on with in its callers. It has happened on
// another goroutine, whose stack would be lost with it.
type PanicError struct {
	Value any    // what the call panicked with
	Stack []byte // of the call
}

// Error returns the value and the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("coalesce: the shared call panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
