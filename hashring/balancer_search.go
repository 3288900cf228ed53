package hashring

// Acquire returns a lease for a key: on its owner, or if that has no room or is not
// eligible, on the next node in the key's order. The error matches [ErrUnavailable].
func (b *Balancer) Acquire(key string) (Lease, error) {
	return b.AcquireSpread(key, 1, nil)
}

// AcquireSpread is Acquire for a key that has n owners, the first n nodes in its order:
// the owners are tried in turn, then the others. That is for reads of a key too hot for
// one node, where what is read can be kept on several; see [HotKeys]. An n below 1 is 1.
//
// Only nodes for which eligible reports true are taken, beside the Eligible of the
// Config; a second attempt leaves out the node of the first by it. If nil, all are.
func (b *Balancer) AcquireSpread(
	key string, n int, eligible func(Node) bool,
) (Lease, error) {
	v := b.view.Load()
	if v == nil {
		b.refused.Add(1)
		return Lease{}, b.none
	}
	h := v.placement.Hash(key)
	if n <= 1 && eligible == nil && b.eligible == nil {
		if l, ok := b.acquireOwner(v, h); ok {
			return l, nil
		}
	}
	s := search{b: b, view: v, hash: h, eligible: eligible}
	s.owners = max(1, min(n, len(v.nodes)))
	if !s.regular() && !s.thorough(key) {
		b.refused.Add(1)
		return Lease{}, b.unfit
	}
	return b.lease(s.seat, s.node, s.nth), nil
}

// acquireOwner does what a search would do, where that ends with the owner. Nearly all
// do, and this takes half the time.
func (b *Balancer) acquireOwner(v *view, h uint64) (Lease, bool) {
	i := v.placement.first(h)
	s, most := v.seats[i], b.bound.minCap
	if s.held.Load() != 0 {
		return Lease{}, false
	}
	if s.load() >= most {
		most = b.bound.limit(v.shares[i], b.total()+1)
	}
	nth, ok := s.take(most)
	if !ok {
		return Lease{}, false
	}
	return b.lease(s, &v.nodes[i], nth), true
}

// walk is that of the placement. It is called by type, for then the compiler sees that
// yield need not be on the heap.
func (v *view) walk(h uint64, yield func(i int) bool) {
	switch p := v.placement.(type) {
	case *Ring:
		p.walk(h, yield)
	case *Table:
		p.walk(h, yield)
	}
}

func (b *Balancer) lease(s *seat, n *Node, nth uint64) Lease {
	l := Lease{seat: s, node: n}
	if nth%timedOne == 0 {
		l.began = b.clock() + 1
	}
	return l
}

const timedOne = 64 // lease of a node's so many is timed

// search looks for a node for one key.
type search struct {
	b        *Balancer
	view     *view
	hash     uint64
	owners   int
	eligible func(Node) bool

	from, to int     // the places in the key's order that are looked at
	place    int     // of the node that is next
	first    *stripe // of the node in the first place
	total    int64   // requests, the one who asks among them; 0: not known yet
	weight   uint64  // of all eligible nodes, where they alone count; 0: all nodes do

	seat *seat // what was found
	node *Node
	nth  uint64
}

// regular looks for a node with room, in the key's order. Owners come in turn.
func (s *search) regular() bool {
	all := len(s.view.nodes)
	if s.owners == 1 {
		return s.walk(0, all)
	}
	turn := int(s.b.turn.Add(1) % uint64(s.owners))
	return s.walk(turn, s.owners) || s.walk(0, turn) || s.walk(s.owners, all)
}

// thorough is for when the nodes with room are not eligible, or failures make them look
// busy. It goes by the load and weight of the eligible nodes alone, failures included, as
// if there were no others: then one of them has room, but for a race that somebody else
// has won, or when the nodes were all replaced meanwhile. It asks all nodes, which the
// usual case cannot afford.
func (s *search) thorough(key string) bool {
	const enough = 64
	for range enough {
		s.view = s.b.view.Load()
		s.hash = s.view.placement.Hash(key)
		s.total, s.weight = 1, 0
		for i := range s.view.nodes {
			if n := &s.view.nodes[i]; s.fit(n) {
				s.weight += uint64(n.Weight)
				s.total += int64(s.view.seats[i].load() + s.view.seats[i].failures())
			}
		}
		if s.weight == 0 {
			return false
		}
		if s.walk(0, len(s.view.nodes)) {
			return true
		}
	}
	return false
}

// walk tries the nodes from one place to another.
func (s *search) walk(from, to int) bool {
	s.from, s.to, s.place = from, to, 0
	s.view.walk(s.hash, s.next)
	return s.seat != nil
}

// next tries a node, and reports whether to go on.
func (s *search) next(i int) bool {
	place := s.place
	s.place++
	seat := s.view.seats[i]
	if place == 0 {
		s.first = seat.sum
	}
	if place >= s.from && place < s.to && s.try(i, seat) {
		if place >= s.owners {
			s.first.spilled.Add(1)
		}
		return false
	}
	return s.place < s.to
}

// try takes a place with node i if it has room and is eligible. Room is asked for first:
// it costs less.
func (s *search) try(i int, seat *seat) bool {
	most := s.most(i, seat)
	if seat.load() >= most || !s.fit(&s.view.nodes[i]) {
		return false
	}
	nth, ok := seat.take(most)
	if ok {
		s.seat, s.node, s.nth = seat, &s.view.nodes[i], nth
	}
	return ok
}

// most returns the load that node i may have, to which its failures are added. The sum of
// all loads is taken only where there is enough to do for it to matter.
func (s *search) most(i int, seat *seat) uint64 {
	b, failures := s.b.bound, seat.failures()
	most := b.minCap
	switch {
	case s.weight > 0:
		most = b.limit(b.share(s.view.nodes[i].Weight, s.weight), s.total)
	case seat.load()+failures >= most:
		if s.total == 0 {
			s.total = s.b.total() + 1
		}
		most = b.limit(s.view.shares[i], s.total)
	}
	return most - min(most, failures)
}

func (s *search) fit(n *Node) bool {
	return (s.eligible == nil || s.eligible(*n)) && (s.b.eligible == nil || s.b.eligible(*n))
}
