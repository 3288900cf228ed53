package hashring

import (
	"slices"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// Walk returns what walk yields, n of it at most.
func Walk(p Placement, h uint64, n int) []int {
	var order []int
	p.walk(h, func(i int) bool {
		order = append(order, i)
		return len(order) < n
	})
	return order
}

// WalkAll is Walk without an end, and yields to a callback that has been there before.
func WalkAll(p Placement, h uint64, yield func(i int) bool) { p.walk(h, yield) }

// First is what walk yields first.
func First(p Placement, h uint64) int { return p.first(h) }

// RingOf returns a ring of nodes with the points given, each a place and a node's index.
func RingOf(nodes []Node, points ...[2]uint64) *Ring {
	r := &Ring{vnodes: 1}
	roster, err := r.with(slices.Clone(nodes))
	if err != nil {
		panic(err)
	}
	r.roster = roster
	r.lone = len(r.sizes) == 1
	for _, p := range points {
		r.points = append(r.points, p[0]&placeBits|p[1])
	}
	slices.Sort(r.points)
	r.finish()
	return r
}

// Points returns the places of the points and the indexes of their nodes.
func (r *Ring) Points() (places []uint64, nodes []int) {
	for _, p := range r.own() {
		places = append(places, p&placeBits)
		nodes = append(nodes, int(p&nodeBits))
	}
	return places, nodes
}

// Slots returns the indexes of the owners of slots.
func (t *Table) Slots() []uint16 { return t.owners }

// Limits returns how many slots each node may have.
func (t *Table) Limits() []int { return t.limits() }

// Moved returns how many slots are not with the node of the highest score.
func (t *Table) Moved() int { return len(t.wished) }

// Equal reports whether two tables are the same in all that they are made of.
func (t *Table) Equal(u *Table) bool {
	return slices.Equal(t.nodes, u.nodes) && slices.Equal(t.owners, u.owners) &&
		slices.Equal(t.rows, u.rows) && slices.Equal(t.wished, u.wished) &&
		slices.Equal(t.wishes, u.wishes) && slices.Equal(t.edges, u.edges) &&
		t.print == u.print
}

// Equal reports whether two rings are the same in all that they are made of.
func (r *Ring) Equal(s *Ring) bool {
	return slices.Equal(r.nodes, s.nodes) && slices.Equal(r.points, s.points) &&
		slices.Equal(r.index, s.index) && r.rounds == s.rounds && r.print == s.print
}

// Score returns the score of a node for a slot.
func (t *Table) Score(slot, i int) uint64 { return t.ranking.Score(uint64(slot), i) }

// Preference returns all nodes in the order in which a slot proposes to them.
func (t *Table) Preference(slot int) []uint16 {
	order := t.ranking.Order(uint64(slot), rendezvous.None)[:t.width]
	for at := rendezvous.None; ; {
		at = t.ranking.Next(uint64(slot), at, order[:t.width])
		if at == rendezvous.None {
			return order
		}
		order = append(order, uint16(at))
	}
}
