package hashring

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Balancer gives keys to nodes as a [Placement] says, but to none of them much more than
// its share of the load at the moment. A key whose owner has too much goes to the next
// node in its own order that has room, and comes back when the owner has. Make it with
// [NewBalancer], use it from any number of goroutines, and let the garbage collector have
// it: it has no goroutine, and nothing to close.
//
//	lease, err := balancer.Acquire(key)
//	if err != nil {
//		return err // no node is there, or eligible
//	}
//	defer lease.Release()
//	resp, err := ask(ctx, lease.Node().ID, key)
//	lease.Done(ctx, err)
//
// Use it where a key should most often meet the same node, as with caches and sessions,
// and where any other node can do the work too. Do not use it to decide who may write: at
// the same moment two callers may be sent to different nodes. It is no protection from
// too much load either: when all nodes have a lot, the bounds rise with it.
//
// # Algorithm
//
// Consistent hashing with bounded loads, of Mirrokni, Thorup and Zadimoghaddam (2016):
// with T requests under way, the new one among them, a node of weight w among nodes of
// weight W has room below Factor·T·w/W, rounded up, and below MinCap in any case. So as
// long as Factor is above 1 some node has room. What has no room at its owner walks along
// the key's own order, not to the owner's neighbour on a ring: a neighbour would get all
// that a hot node spills, be full next, and so would its own neighbour.
//
// Of 100 nodes with 100 requests each, every one with a key of its own, so many are asked
// on average, and so many requests are not with their owner; "once" is for keys that are
// placed once and stay, as in the paper:
//
//	             Factor 1.05                Factor 1.25
//	             asked  spill %   once %    asked  spill %   once %
//	Table        1.16   14        2.7       1.002   0.2       0.04
//	Ring         1.18   15        3.8       1.008   0.8       0.2
//	Ring of 1    4.4    68       45         2.3    47        36
//
// In the last row each node has one point on the ring, so that all its keys go on to the
// same neighbour.
//
// While owners have room, Acquire and Release cost four atomic operations and no lock,
// and allocate nothing.
//
// # What a balance of keys does not promise
//
// A placement shares out keys, not load. Where 100,000 keys have a Zipf distribution, one
// of them has a twelfth of all requests, and so has its owner, however even the slots
// are. With 100 nodes and 10,000 requests at a time:
//
//	                 busiest/average  spill %  misses %
//	owners alone     9.0               0       25
//	bounded loads    1.25             31       27
//	hot keys spread  2.2               0       25
//	both             1.25              9       27
//
// The bound holds whatever the keys are, but a third of the requests go elsewhere for it.
// [HotKeys] spreads the few keys that are the reason, here above half a percent of all
// requests, and leaves little for the bound to do. Misses are those of caches that begin
// empty and keep everything: what was spilled is most often a hot key, and is soon
// everywhere.
//
// # Many clients
//
// The loads are those of this process. Of n clients that each hold to their own bound,
// all together hold to it too, as long as each has several requests under way for each
// node. But each may have MinCap with any node, and all of them with the same one: a node
// may have up to n times MinCap. With 5,000 requests and Zipf keys, the busiest of 100
// nodes has so many times the average:
//
//	clients   1     5     50    500
//	MinCap 8  1.26  1.30  7.1   8.8
//	MinCap 1  1.26  1.30  1.8   6.1
//
// Where that is too much set MinCap lower, at the price of affinity, or have the nodes
// refuse for themselves: they alone know what all clients ask of them.
//
// # Failure modes
//
//   - A node that fails fast has few requests under way, and would look idle. Tell Done
//     of failures: they count as load for a while, as if the calls were still under way.
//     When all nodes fail, keys go to other nodes than their own for that time, but are
//     not refused.
//   - A lease that is never finished is load for ever, until its node is removed. A call
//     that hangs is load indeed.
//   - A node that is removed takes its load along, and what is still under way there ends
//     without a trace. A node that is added again begins with none.
//   - If no node is eligible, Acquire says so: see [ErrUnavailable].
type Balancer struct {
	name     string
	base     time.Time
	bound    bound
	eligible func(Node) bool
	hold     time.Duration

	view    atomic.Pointer[view]
	latency atomic.Int64  // of a success, on average, in nanoseconds; 0: not known
	turn    atomic.Uint64 // of keys with several owners
	refused atomic.Uint64

	none, unfit *unavailable
	stripes     []stripe

	mu    sync.Mutex // held to replace the view
	seats uint       // made so far
}

// view is a placement and who has which load in it. It is never changed.
type view struct {
	placement Placement
	nodes     []Node
	seats     []*seat  // of the nodes
	shares    []uint64 // of the load, as bound.share has them
}

// NewBalancer returns a balancer without load. It panics if cfg is not valid; see
// [BalancerConfig.Validate]. A placement that is nil or has no nodes is none yet: until
// there is one, from [Balancer.Set], every key is refused.
func NewBalancer(p Placement, cfg BalancerConfig) *Balancer {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	b := &Balancer{
		name:     cfg.Name,
		base:     time.Now(),
		bound:    cfg.bound(),
		eligible: cfg.Eligible,
		hold:     cfg.FailureHold,
		none:     &unavailable{"hashring" + quoted(cfg.Name) + ": no nodes"},
		unfit:    &unavailable{"hashring" + quoted(cfg.Name) + ": no eligible node"},
		stripes:  make([]stripe, stripesMax),
	}
	if cfg.Exact {
		b.stripes = b.stripes[:1]
	}
	_ = b.Set(p)
	return b
}

// Set has the balancer go by another placement from now on. Nodes with an ID that was
// there before keep their load; what is new has none. One that is nil or without nodes is
// refused, with an error that matches [ErrNoNodes], and the balancer stays as it is: a
// list that could not be had is no reason to have none. So the error of what made p can
// be looked at later:
//
//	table, err := hashring.NewTable(nodes, hashring.TableConfig{})
//	return cmp.Or(err, balancer.Set(table))
func (b *Balancer) Set(p Placement) error {
	if empty(p) {
		return &unset{"hashring" + quoted(b.name) + ": Set: no nodes, so the old ones stay"}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.view.Load()
	if old == nil {
		old = &view{}
	}
	next, left := b.succeed(old, p)
	b.view.Store(next)
	for _, s := range left { // only now: before, keys would find them gone, and no other
		s.remove()
	}
	return nil
}

func empty(p Placement) bool {
	switch p := p.(type) {
	case nil:
		return true
	case *Ring:
		return p == nil || len(p.members()) == 0
	case *Table:
		return p == nil || len(p.members()) == 0
	}
	return false
}

// succeed returns the view of p, and the seats of those that are not in it any more. Both
// lists of nodes are by ID.
func (b *Balancer) succeed(old *view, p Placement) (next *view, left []*seat) {
	nodes := p.members()
	next = &view{p, nodes, make([]*seat, len(nodes)), make([]uint64, len(nodes))}
	all, o := p.base().weight(), 0
	for i := range nodes {
		for o < len(old.nodes) && old.nodes[o].ID < nodes[i].ID {
			left = append(left, old.seats[o])
			o++
		}
		if o < len(old.nodes) && old.nodes[o].ID == nodes[i].ID {
			next.seats[i] = old.seats[o]
			o++
		} else {
			next.seats[i] = b.newSeat()
		}
		next.shares[i] = b.bound.share(nodes[i].Weight, all)
	}
	return next, append(left, old.seats[o:]...)
}

func (b *Balancer) newSeat() *seat {
	s := &seat{owner: b, sum: &b.stripes[b.seats%uint(len(b.stripes))]}
	s.word.Store(guard)
	b.seats++
	return s
}

// total returns how many requests are under way, all nodes together.
func (b *Balancer) total() int64 {
	n := int64(0)
	for i := range b.stripes {
		n += b.stripes[i].load.Load()
	}
	return max(0, n)
}

// clock returns nanoseconds since the balancer was made; see package breaker.
func (b *Balancer) clock() int64 { return max(0, int64(time.Since(b.base))) }

// ErrUnavailable is matched by the error of a key for which there is no node: there are
// none at all, or none that is eligible. The error has a method NotAttempted, which
// returns true.
var ErrUnavailable = errors.New("hashring: unavailable")

type unavailable struct{ text string }

func (e *unavailable) Error() string        { return e.text }
func (e *unavailable) Is(target error) bool { return target == ErrUnavailable }
func (e *unavailable) NotAttempted() bool   { return true }

type unset struct{ text string }

func (e *unset) Error() string { return e.text }
func (e *unset) Unwrap() error { return ErrNoNodes }

// Lease is leave to send one request to a node, whose load it is a part of until it is
// finished, by [Lease.Done] or [Lease.Release]. Both do nothing after either of them, nor
// does the zero Lease. It must not be copied: a copy could be finished again.
type Lease struct {
	seat  *seat // nil: finished
	node  *Node
	began int64 // a nanosecond late; 0: not timed
}

// Node returns the node the request should go to, also when the lease is finished. That
// of the zero Lease is the zero Node.
func (l *Lease) Node() Node {
	if l.node == nil {
		return Node{}
	}
	return *l.node
}

// Release ends the load of the request, whatever came of it. Deferred behind Acquire, it
// sees to what panics and what returns early; how it went, Done should be told before.
func (l *Lease) Release() {
	if s := l.seat; s != nil {
		l.seat = nil
		s.release()
	}
}

// Done ends the load of the request, which has succeeded if err is nil. Otherwise the
// node counts it as load for a while: see FailureHold. Else one that fails faster than
// others succeed would have fewer requests under way, look idle, and get what others
// spill.
//
// So it does not matter what failed, nor whether the request was sent at all: a breaker
// that refuses for the node is fast too. What ctx says was cancelled is not the node's
// doing.
func (l *Lease) Done(ctx context.Context, err error) {
	s := l.seat
	if s == nil {
		return
	}
	switch {
	case err == nil && l.began > 0:
		s.owner.timed(s.owner.clock() + 1 - l.began)
	case err != nil && !errors.Is(ctx.Err(), context.Canceled):
		s.fail()
	}
	l.Release()
}

// timed tells of a success that took d nanoseconds. Should two at once be told of, one of
// them may be lost: there are others.
func (b *Balancer) timed(d int64) {
	mean := b.latency.Load()
	if mean == 0 {
		mean = d
	}
	b.latency.Store(max(1, mean+(d-mean)/8))
}

// holdTime returns for how long a failure is held, in microseconds.
func (b *Balancer) holdTime() uint64 {
	d := b.hold
	if d == 0 {
		d = time.Duration(b.latency.Load())
	}
	if d == 0 {
		d = firstHold
	}
	return uint64(max(1, min(d, longHold).Microseconds()))
}

func (s *seat) fail() {
	if s.owner.hold < 0 {
		return
	}
	now, hold := uint64(s.owner.clock()/1000), s.owner.holdTime()
	for {
		h := s.held.Load()
		if s.held.CompareAndSwap(h, uint64(held(h).add(now, hold))) {
			return
		}
	}
}

// failures returns how many failures still count. They are cleared when none does, so
// that nobody need read the clock for them any more.
func (s *seat) failures() uint64 {
	h := s.held.Load()
	if h == 0 {
		return 0
	}
	n := held(h).at(uint64(s.owner.clock()/1000), s.owner.holdTime())
	if n == 0 {
		s.held.CompareAndSwap(h, 0)
	}
	return n
}
