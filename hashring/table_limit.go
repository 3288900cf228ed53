package hashring

import (
	"slices"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// matching gives slots to nodes when some nodes may not have all that they would get. It
// is the deferred acceptance of Gale and Shapley (1962), in which the slots propose: each
// to the nodes in its row, and then to the others in the order of their scores; and a
// node that has reached its limit keeps those for which its score is highest. What comes
// of it does not depend on the order of proposals: it is the one stable matching that is
// best for all slots. So it is a function of the nodes, and not of how they came.
type matching struct {
	table  *Table
	limits []int
	counts []int

	// claims of a node are the slots that it has, as a heap with the weakest at the top.
	// They are there from when the node is full, which it then always is.
	claims [][]claim

	refused []uint32 // slots, by one node or by several
}

// claim is a slot that a node has, with its score. With one node, no two slots have the
// same.
type claim struct {
	score uint64
	slot  uint32
}

func (c claim) weaker(d claim) bool { return c.score < d.score }

// limit gives each slot its owner. In most it is the first of the row; in the others it
// is put first.
//
// To go through the slots and skip nodes that are full would be simpler. But then the
// first slots would have what they want and the last ones what is left, and a slot that
// one node more takes from the first would be felt by all behind it.
func (t *Table) limit() {
	t.owners = make([]uint16, t.slots)
	m := matching{
		table: t, limits: t.limits(),
		counts: make([]int, len(t.nodes)), claims: make([][]claim, len(t.nodes)),
	}
	for slot := range t.owners {
		owner := t.rows[slot*t.width]
		t.owners[slot] = owner
		m.counts[owner]++
	}
	m.settle()
	slices.Sort(m.refused)
	t.wished = slices.Compact(m.refused)
	for _, slot := range t.wished {
		row := t.row(uint64(slot))
		t.wishes = append(t.wishes, row...)
		t.ranking.Top(row[:0], uint64(slot), t.width, int(t.owners[slot]))
	}
}

// limits returns how many slots each node may have. In all it is at least as many as
// there are. No product is above 2^61.
func (t *Table) limits() []int {
	all := t.weight()
	limits := make([]int, len(t.nodes))
	for i, n := range t.nodes {
		share := uint64(t.slots) * uint64(n.Weight)
		limits[i] = t.slots
		if t.excess >= 0 {
			limits[i] = int(max((share+all-1)/all, share*uint64(100+t.excess)/(100*all)))
		}
	}
	return limits
}

// settle has the nodes that have too many slots give some back. Those go to others, who
// may have to give back some in turn.
func (m *matching) settle() {
	m.collect()
	for node := range m.counts {
		for m.counts[node] > m.limits[node] {
			m.counts[node]--
			m.place(m.drop(node), node)
		}
	}
}

// collect makes the heaps of the nodes that are full from the beginning.
func (m *matching) collect() {
	for node, count := range m.counts {
		if count >= m.limits[node] {
			m.claims[node] = make([]claim, 0, count)
		}
	}
	for slot, node := range m.table.owners {
		if m.claims[node] != nil {
			m.claims[node] = append(m.claims[node], m.claim(slot, int(node)))
		}
	}
	for _, claims := range m.claims {
		heapify(claims)
	}
}

func (m *matching) claim(slot, node int) claim {
	return claim{m.table.ranking.Score(uint64(slot), node), uint32(slot)}
}

// place finds an owner for a slot that a node has refused, and for whatever slot has to
// make room for it. It ends: no slot proposes to a node twice, and there is room for all.
func (m *matching) place(slot, refused int) {
	for slot >= 0 {
		m.refused = append(m.refused, uint32(slot))
		refused = m.after(slot, refused)
		slot = m.propose(slot, refused)
	}
}

// after returns the node to which a slot proposes after one: the next in its row, and
// behind the row the next by score.
func (m *matching) after(slot, node int) int {
	row := m.table.row(uint64(slot))
	for i, other := range row {
		if int(other) != node {
			continue
		}
		if i+1 < len(row) {
			return int(row[i+1])
		}
		node = rendezvous.None
		break
	}
	return m.table.ranking.Next(uint64(slot), node, row)
}

// propose offers a slot to a node. It returns the slot that the node refuses, which may
// be this or another, or -1 if none.
func (m *matching) propose(slot, node int) int {
	if m.counts[node] < m.limits[node] {
		m.counts[node]++
		m.table.owners[slot] = uint16(node)
		return -1
	}
	m.collectOne(node)
	claims := m.claims[node]
	offer := m.claim(slot, node)
	if offer.weaker(claims[0]) {
		return slot
	}
	weakest := claims[0]
	claims[0] = offer
	siftDown(claims, 0)
	m.table.owners[slot] = uint16(node)
	return int(weakest.slot)
}

// collectOne makes the heap of a node that has become full, if it is not there.
func (m *matching) collectOne(node int) {
	if m.claims[node] != nil {
		return
	}
	claims := make([]claim, 0, m.counts[node])
	for slot, owner := range m.table.owners {
		if int(owner) == node {
			claims = append(claims, m.claim(slot, node))
		}
	}
	heapify(claims)
	m.claims[node] = claims
}

// drop takes the weakest claim from a node.
func (m *matching) drop(node int) (slot int) {
	claims := m.claims[node]
	slot = int(claims[0].slot)
	last := len(claims) - 1
	claims[0] = claims[last]
	m.claims[node] = claims[:last]
	siftDown(m.claims[node], 0)
	return slot
}

// The heap is one of package container/heap, without its interface: With is in a hurry.

func heapify(claims []claim) {
	for i := len(claims)/2 - 1; i >= 0; i-- {
		siftDown(claims, i)
	}
}

func siftDown(claims []claim, i int) {
	for {
		child := 2*i + 1
		if child >= len(claims) {
			return
		}
		if child+1 < len(claims) && claims[child+1].weaker(claims[child]) {
			child++
		}
		if !claims[child].weaker(claims[i]) {
			return
		}
		claims[i], claims[child] = claims[child], claims[i]
		i = child
	}
}
