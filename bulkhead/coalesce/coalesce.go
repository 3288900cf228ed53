package coalesce

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
)

// Group coalesces the calls for each key, and keeps their results. Make it with [New], use
// it from any number of goroutines, and let the garbage collector have it: it has no
// goroutine and no timer but those of calls under way, and nothing to close.
//
// It is a Group and not a cache by name, for there is nothing to put in or take out: what
// it has is what calls have brought, and with a TTL of zero nothing.
//
// A result that is kept costs a lookup under a read lock, a reading of the clock and an
// atomic addition, and allocates nothing. It is one lock, since sharding would not help
// where it is needed most: with a hot key.
type Group[K comparable, V any] struct {
	set settings

	mu    sync.RWMutex
	table table[K, V]
	count counters // written under the lock

	hits, staleHits atomic.Uint64
}

// New returns an empty group. It panics if cfg is not valid; see [Config.Validate].
func New[K comparable, V any](cfg Config) *Group[K, V] {
	g := &Group[K, V]{set: cfg.settings()}
	g.table = table[K, V]{set: &g.set, entries: make(map[K]*entry[K, V])}
	return g
}

// clock returns nanoseconds since the group was made. It is monotonic, and half the price
// of time.Now. A group made inside a testing/synctest bubble and used outside would see a
// time before that; it sees 0.
func (g *Group[K, V]) clock() int64 { return max(0, int64(time.Since(g.set.base))) }

// Do returns the result that is kept for key, or else what fn returns, which is called
// once for all callers that ask for key meanwhile. Results are returned untouched, beside
// an error or not, and to all the same: treat them as read-only.
//
// The context of fn has the values of the first caller, a deadline by Config.Timeout, and
// is cancelled when nobody waits any more; the goroutine is one of its own. So fn must not
// be of use to its caller alone. What it returns after its context has ended is dropped.
//
// When ctx ends, Do returns at once, with an error that matches ctx.Err and
// [context.Cause]; or with the stale result, if it was ctx's deadline and StaleOnError
// allows it: a store that is too slow for a caller has failed it. When ctx is done
// already Do returns the error, even if there is a result: what becomes of a caller who has
// left should not depend on what happens to be kept.
//
// If fn panics, Do panics with a [*PanicError]. If fn ends its goroutine by
// [runtime.Goexit], Do does likewise.
//
// Since fn goes to another goroutine, a function literal with variables of yours is
// allocated each time it is evaluated, also if the result is there.
func (g *Group[K, V]) Do(
	ctx context.Context, key K, fn func(context.Context) (V, error),
) (V, error) {
	if fn == nil {
		panic("coalesce: Do: nil function")
	}
	if ctx.Err() != nil {
		var zero V
		return zero, ended.New(ctx, "coalesce", true)
	}
	if g.set.ttl != 0 {
		if r, ok := g.hit(key); ok {
			return r.value, r.err
		}
	}
	c, o := g.join(ctx, key, fn)
	if c != nil {
		o = g.wait(ctx, c)
	}
	return o.deliver()
}

// hit returns the result for key if there is nothing to do but to serve it. Unlocking is
// deferred, here and elsewhere, because a key can panic: an interface with a slice in it.
func (g *Group[K, V]) hit(key K) (r result[V], ok bool) {
	now := g.clock()
	g.mu.RLock()
	defer g.mu.RUnlock()
	e := g.table.entries[key]
	if e == nil || !e.ready(now) {
		return r, false
	}
	e.use()
	g.served(e, now)
	return e.result, true
}

// served counts a caller that got the entry's result.
func (g *Group[K, V]) served(e *entry[K, V], now int64) {
	if now < e.expires {
		g.hits.Add(1)
		return
	}
	g.staleHits.Add(1)
}

// join returns the call for key to wait for, or if it is nil what to return without.
func (g *Group[K, V]) join(
	ctx context.Context, key K, fn func(context.Context) (V, error),
) (*call[K, V], outcome[V]) {
	// A NaN, which no map finds again: it would stay in there for good.
	lost := key != key
	now := g.clock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if lost {
		return g.begin(ctx, key, fn, nil, 1), outcome[V]{}
	}
	// One whose time is up is not to be joined. Its timer may be late, and most so when
	// there is most to do.
	if e := g.table.entries[key]; e != nil && e.call != nil && now >= e.call.until {
		g.conclude(e.call, outcome[V]{result: result[V]{err: g.set.tookTooLong}}, now)
	}
	e := g.table.entry(key)
	if p := e.panicked; p != nil {
		e.panicked = nil
		return nil, outcome[V]{panicked: p}
	}
	if e.serves(now) { // since a moment ago perhaps, or there is a refresh to begin
		e.use()
		g.served(e, now)
		if e.due(now) {
			g.begin(ctx, key, fn, e, 0)
		}
		return nil, outcome[V]{result: e.result}
	}
	if c := e.call; c != nil {
		c.waiters++
		c.joined++
		g.count.shared++
		return c, outcome[V]{}
	}
	return g.begin(ctx, key, fn, e, 1), outcome[V]{}
}

// wait returns what has become of the call, or of ctx.
func (g *Group[K, V]) wait(ctx context.Context, c *call[K, V]) outcome[V] {
	select {
	case <-c.done:
		return c.outcome
	case <-ctx.Done():
	}
	left := false
	defer func() {
		if !left { // a context of the user's has panicked
			g.leave(c, false)
		}
	}()
	late := errors.Is(ctx.Err(), context.DeadlineExceeded)
	left = true
	o, ok := g.leave(c, late)
	if !ok {
		o.err = ended.New(ctx, "coalesce", false)
	}
	return o
}

// leave ends the wait of one whose context has ended. It may be that there is something to
// return all the same.
func (g *Group[K, V]) leave(c *call[K, V], late bool) (o outcome[V], ok bool) {
	last := false
	defer func() {
		if last {
			c.end()
		}
	}()
	now := g.clock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.settled {
		return c.outcome, true
	}
	c.waiters--
	if late && c.entry != nil && c.entry.covers(now) {
		// It goes on without waiters, as a refresh: whether it fails is still to be seen.
		c.refresh = true
		o.result = c.entry.result
		g.staleHits.Add(1)
		return o, true
	}
	if c.waiters == 0 && !c.refresh {
		g.dismiss(c)
		g.count.abandoned++
		last = true
	}
	return o, false
}

// Forget drops what is kept for key, and has the next caller start a new call. One that is
// under way goes on for those who wait for it, but its result is not kept: it may be from
// before whatever made you forget. A refresh that nobody waits for is cancelled.
func (g *Group[K, V]) Forget(key K) {
	if c := g.forget(key); c != nil {
		c.end()
	}
}

// forget returns the call to cancel, if there is one.
func (g *Group[K, V]) forget(key K) *call[K, V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.table.entries[key]
	if e == nil {
		return nil
	}
	g.table.remove(e)
	c := e.call
	if c == nil {
		return nil
	}
	c.entry = nil
	c.refresh = false
	if c.waiters > 0 {
		return nil
	}
	c.settled = true
	return c
}
