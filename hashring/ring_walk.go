package hashring

import "slices"

// The order of a key is that in which its nodes come on the ring, spread over zones:
// first the nodes that are the first of their zone, then those that are the second of
// theirs, and so on. A zone that has no more is passed over. So the first n nodes are in
// as many zones as can be, and in no zone are there two more than in another that has one
// left.

// ringWalk finds the nodes of a key one by one, without an allocation, as long as there
// are so few of them that it does not take long to look through them.
type ringWalk struct {
	ring  *Ring
	start int // the owner's point
	next  int // point to look at
	round int // the rank of the nodes that are looked for
	left  int // how many zones have one of them still
	n     int
	found [walkable]uint16
}

const walkable = 16

// from sets out for the nodes of the keys with a hash.
func (w *ringWalk) from(r *Ring, h uint64) {
	w.ring, w.start = r, r.at(h)
	w.begin(0)
}

func (r *Ring) walk(h uint64, yield func(i int) bool) {
	if len(r.points) == 0 {
		return
	}
	var w ringWalk
	w.from(r, h)
	for w.more() {
		if !yield(w.step()) {
			return
		}
	}
	if w.n == len(r.nodes) {
		return
	}
	for _, i := range r.order(w.start)[w.n:] {
		if !yield(int(i)) {
			return
		}
	}
}

// more reports whether step can find another node.
func (w *ringWalk) more() bool { return w.n < min(walkable, len(w.ring.nodes)) }

// begin looks for nodes of a rank, from the owner's point on.
func (w *ringWalk) begin(round int) {
	w.round, w.next, w.left = round, w.start, w.ring.rounds[round]
	if w.ring.lone {
		w.left = len(w.ring.nodes) // all ranks at once
	}
}

// step finds the next node. It ends where more holds: every node has a point.
func (w *ringWalk) step() int {
	if w.left == 0 {
		w.begin(w.round + 1)
	}
	points := w.ring.points
	for i := w.next; ; i++ {
		if i == len(points) {
			i = 0
		}
		if node := uint16(points[i]); w.fits(node) {
			w.next = i + 1
			w.found[w.n] = node
			w.n++
			w.left--
			return int(node)
		}
	}
}

// fits reports whether a node is a new one, of the rank that is looked for. To look
// through a few is faster than any set, which would have to be cleared for each key.
func (w *ringWalk) fits(node uint16) bool {
	zones, rank := w.ring.zones, 0
	for _, other := range w.found[:w.n] {
		if other == node {
			return false
		}
		if zones[other] == zones[node] {
			rank++
		}
	}
	return rank == w.round || w.ring.lone
}

// order returns all nodes in the order of the keys that belong to a point. Ranks are
// known only when all nodes of a zone that come before are, and so this cannot be lazy.
func (r *Ring) order(start int) []uint16 {
	own := r.own()
	seen := make([]bool, len(r.nodes))
	ranks := make([]int, len(r.nodes))
	sizes := make([]int, len(r.sizes))
	order := make([]uint16, 0, len(r.nodes))
	for i := start; len(order) < len(r.nodes); i++ {
		node := uint16(own[i%len(own)])
		if !seen[node] {
			seen[node] = true
			ranks[node] = sizes[r.zones[node]]
			sizes[r.zones[node]]++
			order = append(order, node)
		}
	}
	slices.SortStableFunc(order, func(a, b uint16) int { return ranks[a] - ranks[b] })
	return order
}

// An arc of a ring ends with its point. What is behind the last point belongs to the
// first.

func (r *Ring) arcs() int { return len(r.points) }

func (r *Ring) arc(i int) (last uint64, owner int) {
	p := r.points[i]
	return p | nodeBits, int(p & nodeBits)
}
