package bulkhead

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
)

// Bulkhead bounds how many calls are under way at a time. Make it with [New], use it
// from any number of goroutines, and let the garbage collector have it: it has no
// goroutine, and nothing to close.
//
// Most callers want [Bulkhead.Do] or the generic [Do]. Adapters, where the call and its
// end are in different places, use [Bulkhead.Acquire] and [Permit.Release].
//
// While there is room, a call costs one compare-and-swap when it begins and one atomic
// addition when it ends; it takes no lock, reads no clock and allocates nothing. A
// refusal reads the clock and allocates nothing either, but for one error in ten
// milliseconds. A call that waits takes a lock and allocates what it waits with. A
// bulkhead takes about 230 bytes.
type Bulkhead struct {
	word atomic.Uint64 // see below
	max  atomic.Uint64 // MaxConcurrent, as last resized
	set  *settings
	name string

	waiters atomic.Int64 // queue.Len, for those without the lock
	refused [reasons]atomic.Uint64
	gaveUp  atomic.Uint64
	drained drain

	mu      sync.Mutex // held to wait, and to leave the queue
	queue   list.List  // of *waiter, first come first
	longest time.Duration

	shared    bool             // by the keys without a place in a group
	successor func() *Bulkhead // of a key whose bulkhead was retired; nil without a group
}

// The word of a bulkhead. That all of it changes in one step is what makes the fast
// path right: who takes a slot has seen that nobody waits and that nothing was retired,
// and the end of a call is counted by the addition that gives back its slot.
const (
	inUse   = 1<<31 - 1 // the weight of the calls under way
	guard   = 1 << 31   // always set: what is released too often borrows from here
	waiting = 1 << 32   // somebody waits: nobody passes, and who releases comes by
	retired = 1 << 33   // the group has given the key's place to another
	oneCall = 1 << 34   // the rest counts the calls that have ended, and wraps around
)

// New returns an empty bulkhead. It panics if cfg is not valid; see [Config.Validate].
func New(cfg Config) *Bulkhead {
	return newBulkhead(cfg.Name, cfg.settings())
}

func newBulkhead(name string, set *settings) *Bulkhead {
	b := &Bulkhead{set: set, name: name}
	b.word.Store(guard)
	b.max.Store(set.maxConcurrent)
	return b
}

// clock returns nanoseconds since the settings were made; see package breaker.
func (b *Bulkhead) clock() int64 { return max(0, int64(time.Since(b.set.base))) }

// Do calls fn when there is a slot for it, and returns what fn returned. If there is
// none, and none in time, the error is a [*FullError] and fn is not called; if ctx ends
// before there is, the error matches what ctx says and its cause. The slot is free again
// when fn returns, panics or ends its goroutine.
func (b *Bulkhead) Do(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		panic("bulkhead: Do: nil function")
	}
	p, err := b.Acquire(ctx)
	if err != nil {
		return err
	}
	defer p.Release()
	return fn(ctx)
}

// Do is [Bulkhead.Do] for a function with a result. The result is returned untouched
// too, beside an error or not.
func Do[R any](
	ctx context.Context, b *Bulkhead, fn func(context.Context) (R, error),
) (R, error) {
	if fn == nil {
		panic("bulkhead: Do: nil function")
	}
	p, err := b.Acquire(ctx)
	if err != nil {
		var zero R
		return zero, err
	}
	defer p.Release()
	return fn(ctx)
}

// Permit is a slot for one call, from [Bulkhead.Acquire]. Release it once; a second
// Release does nothing, and neither does that of the zero Permit. It must not be copied:
// a copy could be released again.
//
// A permit that is never released is a slot that is gone. That is on purpose: a call that
// hangs still holds what it holds, and a bulkhead that lets another in for it protects
// nothing. Give calls a timeout.
type Permit struct {
	b *Bulkhead // nil: released
	n uint32
}

// Acquire returns a permit when there is a slot, waiting for one as the Config allows. A
// context that is done is refused, whether there is a slot or not. If the error is nil,
// release the permit when the call has ended, whatever became of it.
func (b *Bulkhead) Acquire(ctx context.Context) (Permit, error) {
	return b.AcquireN(ctx, 1)
}

// AcquireN is Acquire for a call that weighs as much as n. Those who wait are served in
// the order in which they came, so a heavy one is not overtaken by light ones for ever.
// A weight below 1, or above MaxConcurrent, is refused at once.
func (b *Bulkhead) AcquireN(ctx context.Context, n int) (Permit, error) {
	if ctx.Err() != nil {
		b.gaveUp.Add(1)
		return Permit{}, ended.New(ctx, "bulkhead", true)
	}
	if n > 0 && b.take(uint64(n)) {
		return Permit{b, uint32(n)}, nil
	}
	return b.acquireSlowly(ctx, n)
}

// TryAcquire returns a permit if there is a slot at this moment and nobody waits for it.
func (b *Bulkhead) TryAcquire() (Permit, bool) { return b.TryAcquireN(1) }

// TryAcquireN is TryAcquire for a call that weighs as much as n.
func (b *Bulkhead) TryAcquireN(n int) (Permit, bool) {
	if n > 0 && b.take(uint64(n)) {
		return Permit{b, uint32(n)}, true
	}
	if next := b.current(); next != b {
		return next.TryAcquireN(n)
	}
	b.refused[index(b.tooHeavy(n))].Add(1)
	return Permit{}, false
}

// take takes n for a call, if nobody waits.
func (b *Bulkhead) take(n uint64) bool {
	for {
		w := b.word.Load()
		if w&(waiting|retired) != 0 || w&inUse+n > b.max.Load() {
			return false
		}
		if b.word.CompareAndSwap(w, w+n) {
			return true
		}
	}
}

// Release gives the slot back, to those who wait for it if there are any.
func (p *Permit) Release() {
	b, n := p.b, uint64(p.n)
	if b == nil {
		return
	}
	p.b = nil
	w := b.word.Add(oneCall - n)
	if w&guard == 0 {
		b.word.Add(n - oneCall)
		panic("bulkhead: a copy of a Permit was released too")
	}
	if w&waiting != 0 {
		b.mu.Lock()
		b.grant()
		b.mu.Unlock()
	}
}

// acquireSlowly is for a call that finds no slot, or somebody waiting for one.
func (b *Bulkhead) acquireSlowly(ctx context.Context, n int) (Permit, error) {
	if next := b.current(); next != b {
		return next.AcquireN(ctx, n)
	}
	if b.tooHeavy(n) == TooHeavy {
		return Permit{}, b.refuse(TooHeavy)
	}
	if b.noRoom(n) {
		return Permit{}, b.refuse(QueueFull)
	}
	w := &waiter{n: uint64(n), done: ctx.Done(), ready: make(chan struct{})}
	switch b.enqueue(w) {
	case changedMeanwhile:
		return b.acquireSlowly(ctx, n)
	case noPlace:
		return Permit{}, b.refuse(QueueFull)
	}
	w.wait(b.set.maxWait)
	return b.admit(ctx, w)
}

// admit ends the wait of w.
func (b *Bulkhead) admit(ctx context.Context, w *waiter) (Permit, error) {
	state, left := b.conclude(ctx, w)
	switch {
	case left:
		b.gaveUp.Add(1)
		return Permit{}, ended.New(ctx, "bulkhead", true)
	case state == granted:
		return Permit{b, uint32(w.n)}, nil
	case state == refused:
		return Permit{}, b.refuse(TooHeavy)
	}
	return Permit{}, b.refuse(WaitedTooLong)
}

// conclude takes w out of the queue. A context that is done wins over a slot, whichever
// came first: select would take either.
func (b *Bulkhead) conclude(ctx context.Context, w *waiter) (state waiterState, left bool) {
	left = true // a context of the user's may panic: then too nobody wants the slot
	defer func() { state = b.leave(w, left) }()
	left = ctx.Err() != nil
	return state, left
}

// fits reports whether n would fit if nobody waited.
func (b *Bulkhead) fits(n int) bool {
	return b.word.Load()&inUse+uint64(n) <= b.max.Load()
}

// noRoom reports whether there is neither a slot for n nor a place to wait for one.
func (b *Bulkhead) noRoom(n int) bool {
	if b.waiters.Load() < int64(b.set.maxQueue) {
		return false
	}
	// Nobody needs the lock to find that all slots are taken. That is when the lock
	// would be in the way most.
	if !b.fits(n) {
		return true
	}
	// Some are left for the heavy one at the head of the queue, or somebody is just
	// being served.
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grant()
	return b.queue.Len() >= max(1, b.set.maxQueue)
}

// tooHeavy returns TooHeavy for a weight that can never be had, else QueueFull.
func (b *Bulkhead) tooHeavy(n int) Reason {
	if n < 1 || uint64(n) > b.max.Load() {
		return TooHeavy
	}
	return QueueFull
}

// current returns the bulkhead that is now that of b's key: b, unless its group has
// retired it.
func (b *Bulkhead) current() *Bulkhead {
	for b.word.Load()&retired != 0 {
		b = b.successor()
	}
	return b
}

// Resize sets MaxConcurrent. With more, those who wait get their slots now. With less,
// calls under way go on, and none is let through until there are fewer of them; who
// waits with a weight that is now too heavy is refused. The bulkhead that the keys without
// a place in a [Group] share keeps its size: it is not that of one key.
func (b *Bulkhead) Resize(maxConcurrent int) error {
	if maxConcurrent < 1 || maxConcurrent > maxWeight {
		return fmt.Errorf("bulkhead%s: Resize to %d: must be from 1 to %d",
			quoted(b.name), maxConcurrent, maxWeight)
	}
	for {
		next := b.current()
		if next.shared {
			return fmt.Errorf("bulkhead%s: Resize: the group is full, "+
				"and its other keys share this one", quoted(b.name))
		}
		if next.resize(uint64(maxConcurrent)) {
			return nil
		}
	}
}

func (b *Bulkhead) resize(maxConcurrent uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.word.Load()&retired != 0 {
		return false
	}
	b.max.Store(maxConcurrent)
	for e := b.queue.Front(); e != nil; {
		next := e.Next()
		if waiterIn(e).n > maxConcurrent {
			b.dismiss(e, refused)
		}
		e = next
	}
	b.grant()
	return true
}
