package bulkhead

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
)

// Queue keeps items until one of a fixed number of workers has time for them, so that a
// burst waits instead of hitting what can only take a steady load. Azure's catalogue of
// patterns calls it queue-based load leveling. Make it with [NewQueue], use it from any
// number of goroutines, and end it with [Queue.Drain].
//
//	mails := bulkhead.NewQueue(bulkhead.QueueConfig[Mail]{
//		Name: "mails", Capacity: 3300, Workers: 10, Handle: send,
//	})
//	if err := mails.Put(ctx, mail); err != nil {
//		return err // it is full, or draining: say so while the sender is still there
//	}
//
// It is memory. A crash loses what is in it, and so does a restart that does not wait for
// Drain: acknowledge nothing to the outside because it is in the queue. What must not be
// lost belongs into a store, or a broker, before it comes here; or use [Queue.Do], which
// returns when the work is done.
//
// # Sizes
//
// The workers bound how much is under way, so by Little's law their number is the rate
// times the time that one item takes: 100 a second that take 100ms each are 10 workers.
//
// Capacity is what a burst brings beyond that: (peak rate - service rate) x its length.
// 200 a second for 30s, against those 100, leave 3000, and a tenth more since no two
// bursts are alike. Who comes last then waits for capacity / service rate, here 33s, and
// that has to fit the patience of whoever waits for the result. Where it does not, more
// capacity is worse than none: the workers would be busy with what nobody wants any more.
// And what has piled up goes away only as fast as the service rate exceeds the usual one:
// with 80 a second in quiet times 3000 take 150s, in which there is no room for a second
// burst. [QueueStats] has the rates as they are.
//
// Workers bound concurrency and not a rate: ten of them may do ten items a second or ten
// thousand. For a steady rate into a store, let the handler wait for a rate limiter first,
// with enough workers to reach the rate:
//
//	Handle: func(ctx context.Context, r Row) error {
//		if err := writes.Wait(ctx, 1); err != nil {
//			return err
//		}
//		return store.Insert(ctx, r)
//	},
//
// # Workers
//
// A worker is a goroutine. It is started by an item that comes while fewer than Workers
// are at work, and ends when there is nothing left to do: an idle queue has none, and one
// that is forgotten may be collected. An item for which there is a worker does not count
// as queued, not even before that has begun.
//
// Items are handed to the workers first come, first served, and so is room to callers that
// wait for it. With one worker they are also finished in that order.
//
// # Failure modes
//
//   - A handler that panics, or ends its goroutine, loses its item and nothing else; see
//     [PanicError]. The worker goes on, in a new goroutine if need be.
//   - A handler that hangs holds its worker; when all are held so the queue fills up, and
//     refuses. Give it a timeout.
//   - A handler that puts into its own queue waits for itself when that is full and says
//     [Block]. One that calls Drain waits for itself until the context ends, and so does a
//     hook. An OnDrop that puts its item back, under [DropOldest], has the next one
//     dropped, and never comes to an end.
//
// A Put into a queue with room takes a lock and reads the clock, and allocates only while
// the queue is longer than it has ever been; that memory it keeps. For each item the
// worker allocates a context.
type Queue[T any] struct {
	cfg    QueueConfig[T]
	base   time.Time       // what its times count from
	ctx    context.Context //nolint:containedctx // what all handlers' contexts end with
	cancel context.CancelCauseFunc
	run    func()         // q.work; made once, since each mention of it would allocate
	closed *drainingError // what callers get from Drain on
	over   chan struct{}  // closed when Drain has nothing left to wait for

	mu       sync.Mutex     // of all that follows
	items    line[entry[T]] // accepted; the first ones are for the workers that start
	queue    line[entry[T]] // those of callers that wait for room; none while there is some
	running  int            // workers
	starting int            // those of them that have not begun
	busy     int            // those of them that have an item
	draining bool
	full     *FullError // that refusals share

	arrived, completed meter

	accepted, rejected, gaveUp, late, hookPanics uint64
	ends                                         [outcomes]uint64 // of what was accepted
}

// Overflow says what becomes of an item that finds the queue full.
type Overflow int

const (
	// Reject refuses it at once, with a [*FullError]. Its RetryAfter is the time in which
	// one item was done lately, on average over all workers.
	Reject Overflow = iota

	// Block has its caller wait for room, for as long as the caller's context lets it.
	// It is for callers that are few and should slow down, such as readers of a file or
	// of a broker. Where each request brings a caller of its own it bounds nothing: they
	// and what they hold become the queue.
	Block

	// DropOldest drops the oldest item that no worker has, and takes the new one. It is
	// for items that supersede each other, such as readings of a gauge.
	DropOldest
)

// QueueConfig says how much a [Queue] keeps and what it does with it.
type QueueConfig[T any] struct {
	// Name is carried in errors and Stats. It is for people, and need not be unique.
	Name string

	// Capacity is how many items may wait for a worker. It is required: it is the time
	// that the last of them waits, and only you know whose patience that must fit. See
	// [Queue] for how to find it. Memory is taken as it is needed, not in advance.
	Capacity int

	// Workers is how many items are handled at a time. If zero, 1: that keeps the items
	// in order, and is the least load that gets them done.
	Workers int

	// Overflow says what happens when the queue is full. If zero, [Reject]: what is
	// full by a burst that is larger than planned stays bounded, and callers hear of it
	// while they can still tell somebody.
	Overflow Overflow

	// Handle does the work. It is required. Its context has the values of the caller's
	// and ends when a Drain has run out of time; for an item of Do, also with the
	// caller's. For an item of Put it does not end with the handler: cancel what is
	// derived from it. Its error goes to the caller of Do, else to OnError.
	Handle func(ctx context.Context, item T) error

	// OnDrop is called for each item that was accepted and will not be handled, with a
	// [*FullError] when a newer one took its place under [DropOldest], or with an error
	// that says why its caller's context ended when that was before a worker had it. The
	// latter are of Do only, and in both cases a caller of Do gets the error too. What
	// Drain returns is not dropped.
	//
	// It runs under no lock, on the goroutine of the one who waits in Do for the item or
	// has put the newer one, and so may run several times at once; else what it costs
	// would pile up unseen. A panic goes to that caller, after the queue has done its
	// part. If the caller has left just as a worker took the item, it runs there as
	// OnError does. If nil, drops are only counted.
	OnDrop func(item T, why error)

	// OnError is called with the error of an item that nobody waits for: one of Put, or
	// of a Do whose caller has left. If the handler panicked, that is a [*PanicError].
	//
	// It runs under no lock, on the goroutine of the worker, which goes on with the next
	// item after it; Drain waits for it too. If it panics the worker goes on all the
	// same, and Stats counts it. If nil, errors are only counted.
	OnError func(item T, err error)
}

// Validate returns an error that names every field that has no meaning, with its
// value, or nil. [NewQueue] panics with the same text.
func (c QueueConfig[T]) Validate() error {
	var bad []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Sprintf(format, args...))
		}
	}
	check(c.Capacity >= 1, "Capacity is %d, but must be at least 1", c.Capacity)
	check(c.Workers >= 0, "Workers is %d, but must be at least 1", c.Workers)
	check(c.Overflow >= Reject && c.Overflow <= DropOldest,
		"Overflow is %d, but must be Reject, Block or DropOldest", c.Overflow)
	check(c.Handle != nil, "Handle is nil, but must be a function")
	if bad == nil {
		return nil
	}
	return errors.New("bulkhead: QueueConfig" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

// NewQueue returns an empty queue. It panics if cfg is not valid; see
// [QueueConfig.Validate].
func NewQueue[T any](cfg QueueConfig[T]) *Queue[T] {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	cfg.Workers = cmp.Or(cfg.Workers, 1)
	q := &Queue[T]{
		cfg:    cfg,
		base:   time.Now(),
		closed: &drainingError{"bulkhead" + quoted(cfg.Name) + ": draining"},
		over:   make(chan struct{}),
	}
	q.ctx, q.cancel = context.WithCancelCause(context.Background())
	q.run = q.work
	return q
}

func (q *Queue[T]) clock() int64 { return max(0, int64(time.Since(q.base))) }

// Put hands item over and returns. If the error is nil the item was accepted: it will be
// handled, or dropped and given to OnDrop, or returned by Drain, one of them and once.
// Otherwise it was not, and the error is a [*FullError], or matches [ErrDraining], or what
// ctx says and its cause.
//
// The context bounds the wait for room, and nothing after it: that of an HTTP handler is
// cancelled as soon as it has answered. Its values go to the handler. A context that is
// done is refused, whether there is room or not.
func (q *Queue[T]) Put(ctx context.Context, item T) error {
	if ctx.Err() != nil {
		return q.tooLate(ctx)
	}
	c, old, err := q.offer(entry[T]{item: item, ctx: ctx})
	if old.why != nil {
		q.drop(old, nil, item)
	}
	if c == nil {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	// Select takes either; a context that is done wins over room.
	if q.placed(c, ctx.Err() != nil) {
		return c.err
	}
	return ended.New(ctx, "bulkhead", true)
}

// Do hands item over, waits until it has been handled, and returns the handler's error. If
// it is not accepted the error is as that of [Queue.Put].
//
// When ctx ends Do returns at once, with an error that matches what ctx says and its
// cause. An item that no worker has by then is not handled, and gives its place to
// another; the error says that it was not attempted. Otherwise the handler's context is
// cancelled, and what comes of it goes to OnError. If the handler panics, Do returns a
// [*PanicError].
//
// What Do hands over still belongs to its caller. So a Drain that runs out of time does not
// return the item, but has Do return an error that matches [ErrDraining].
func (q *Queue[T]) Do(ctx context.Context, item T) error {
	if ctx.Err() != nil {
		return q.tooLate(ctx)
	}
	c := &call{done: make(chan struct{}), result: true}
	_, old, err := q.offer(entry[T]{item: item, ctx: ctx, call: c})
	if err != nil {
		return err
	}
	if old.why != nil {
		q.drop(old, c, item)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	return q.end(ctx, c, item)
}

// Drain ends the queue: from now on nothing is accepted, and callers that wait for room
// are refused, with errors that match [ErrDraining]. It waits until everything that was
// accepted has been handled, and returns nil.
//
// If ctx ends first, the contexts of the handlers under way are cancelled, and what no
// worker has is returned in the order in which it came, with an error that matches what ctx
// says and its cause; only items of [Queue.Do] go back to their callers. Those handlers
// are not waited for. Call Drain again, with another context, to do that: a worker whose
// handler ignores its context is a goroutine that stays.
//
// Drain may be called more than once, also at the same time. What is left is returned by
// the first whose context ends.
func (q *Queue[T]) Drain(ctx context.Context) ([]T, error) {
	done := ctx.Done()
	q.close()
	select {
	case <-q.over:
	case <-done:
	}
	left, over := q.rest()
	if over {
		return nil, nil
	}
	// Not before there is nothing left: the workers would go through all of it with a
	// context that has ended.
	q.cancel(q.closed)
	return left, ended.New(ctx, "bulkhead", false)
}

// ErrDraining is matched by the error of what came, or still waited for room, when
// [Queue.Drain] was called. That error has NotAttempted.
var ErrDraining = errors.New("bulkhead: draining")

type drainingError struct{ text string }

// Error names the queue.
func (e *drainingError) Error() string { return e.text }

// Is reports whether target is [ErrDraining].
func (*drainingError) Is(target error) bool { return target == ErrDraining }

// NotAttempted returns true: the item was not handled.
func (*drainingError) NotAttempted() bool { return true }

// PanicError is the error of an item whose handler has panicked, or has ended its
// goroutine. A panic is caught, as an http.Server does: one item should not take down
// those that others were told are accepted.
type PanicError struct {
	Name  string // QueueConfig.Name
	Value any    // what the handler panicked with; nil: it called runtime.Goexit
	Stack []byte // of the handler
}

// Error returns the value, but not the stack: an error may be shown to a client.
func (e *PanicError) Error() string {
	if e.Value == nil {
		return "bulkhead" + quoted(e.Name) + ": the handler ended its goroutine"
	}
	return fmt.Sprintf("bulkhead%s: the handler panicked: %v", quoted(e.Name), e.Value)
}

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// QueueStats is what a queue knows of itself at one moment.
type QueueStats struct {
	Name     string // QueueConfig.Name
	Depth    int    // items that wait for a worker
	Capacity int    // QueueConfig.Capacity
	Workers  int    // QueueConfig.Workers
	Busy     int    // items that are being handled
	Waiting  int    // callers that wait for room
	Draining bool   // Drain was called

	// OldestAge is for how long the first of the items that wait has done so.
	OldestAge time.Duration

	// ArrivalRate and CompletionRate are items a second: those that came, accepted or
	// not, and those that were handled, however that ended. They are averages in which an
	// item counts for less the longer ago it was, after 10s for a third (1/e) of what it
	// did, and so follow a change by two thirds in 10s. A queue that is younger than that
	// has the average of its life, or of a second.
	ArrivalRate, CompletionRate float64

	// The others only grow. What was accepted is in one of the next six, or waits, or is
	// being handled.
	Accepted  uint64
	Succeeded uint64 // handled without an error
	Failed    uint64 // handled with one
	Panicked  uint64 // handled by a handler that panicked, or ended its goroutine
	PushedOut uint64 // dropped for a newer one
	Abandoned uint64 // dropped since their caller left Do before a worker had them
	Returned  uint64 // by Drain, or to the callers of Do

	// Not accepted.
	Rejected uint64 // for want of room
	GaveUp   uint64 // since the context had ended before there was room
	TooLate  uint64 // since the queue was draining

	// HookPanics are calls of OnError or OnDrop that panicked on a worker.
	HookPanics uint64
}

// Stats returns a snapshot. It takes the lock that Put takes.
func (q *Queue[T]) Stats() QueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock()
	s := QueueStats{
		Name:           q.cfg.Name,
		Depth:          q.depth(),
		Capacity:       q.cfg.Capacity,
		Workers:        q.cfg.Workers,
		Waiting:        q.queue.len,
		Draining:       q.draining,
		ArrivalRate:    q.arrived.rate(now),
		CompletionRate: q.completed.rate(now),
		Accepted:       q.accepted,
		Succeeded:      q.ends[succeeded],
		Failed:         q.ends[failed],
		Panicked:       q.ends[panicked],
		PushedOut:      q.ends[pushedOut],
		Abandoned:      q.ends[abandoned],
		Returned:       q.ends[givenBack],
		Rejected:       q.rejected,
		GaveUp:         q.gaveUp,
		TooLate:        q.late,
		HookPanics:     q.hookPanics,
	}
	s.Busy = q.busy + q.items.len - s.Depth
	if s.Depth > 0 {
		s.OldestAge = time.Duration(now - q.items.at(q.items.first()).since)
	}
	return s
}
