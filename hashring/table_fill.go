package hashring

import (
	"slices"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// fill finds the row of each slot as if there were no limit to shares. The rows of an
// older table are a good start, as long as there are nodes that stay: moved has their
// indexes.
func (t *Table) fill(old *Table, moved []int) {
	t.rows = make([]uint16, t.slots*t.width)
	stays := slices.ContainsFunc(moved, func(i int) bool { return i >= 0 })
	if !stays || old.width != t.width {
		if !t.ranking.Mixed() {
			t.edges = make([]uint16, t.slots)
		}
		for slot := range t.slots {
			t.fillSlot(slot)
		}
		return
	}
	present := t.adopt(old, moved)
	// One after the other: a row of k nodes and one more have the new row among them.
	for _, i := range t.newcomers(moved) {
		t.enter(i, present[t.zones[i]] < t.width)
		present[t.zones[i]]++
	}
}

// fillSlot looks at all nodes, whether they are new or not.
func (t *Table) fillSlot(slot int) {
	t.ranking.Top(t.row(uint64(slot))[:0], uint64(slot), t.width, rendezvous.None)
	t.setEdge(slot)
}

// setEdge comes after each change of a row.
func (t *Table) setEdge(slot int) {
	if t.edges == nil {
		return
	}
	least := ^uint64(0)
	for _, i := range t.row(uint64(slot)) {
		least = min(least, t.ranking.Score(uint64(slot), int(i)))
	}
	t.edges[slot] = uint16(least >> 48)
}

// adopt takes over the rows of old. Those with a node that is gone are found anew. It
// returns how many nodes of each zone have stayed.
func (t *Table) adopt(old *Table, moved []int) (present []int) {
	index := make([]uint16, len(moved))
	present = make([]int, len(t.sizes))
	for i, to := range moved {
		if to < 0 {
			index[i] = vacant
			continue
		}
		index[i] = uint16(to)
		present[t.zones[to]]++
	}
	var lost []int // slots
	for i, node := range old.rows {
		to := index[node]
		t.rows[i] = to
		if to == vacant {
			lost = append(lost, i/t.width)
		}
	}
	for i, slot := range old.wished {
		row := t.row(uint64(slot))
		for j, node := range old.wishes[i*t.width:][:t.width] {
			row[j] = index[node]
		}
		if slices.Contains(row, vacant) {
			lost = append(lost, int(slot))
		}
	}
	// A row that has lost a node needs one that is in no row. Those are looked at anew, all
	// nodes for each: of 100 nodes in rows of three, that is for one row in thirty.
	t.adoptEdges(old)
	for _, slot := range lost {
		t.fillSlot(slot)
	}
	return present
}

// vacant is no index: there are never as many nodes.
const vacant = maxNodes

func (t *Table) adoptEdges(old *Table) {
	switch {
	case t.ranking.Mixed():
	case old.edges != nil:
		t.edges = slices.Clone(old.edges)
	default: // until now there were nodes of another weight
		t.edges = make([]uint16, t.slots)
		for slot := range t.slots {
			if !slices.Contains(t.row(uint64(slot)), vacant) {
				t.setEdge(slot)
			}
		}
	}
}

// enter puts a node into the rows where it belongs: those in which it is ahead of another
// one. While its zone is all in them, it may belong into any, as one more of its zone.
func (t *Table) enter(node int, everywhere bool) {
	for slot := range t.slots {
		key := uint64(slot)
		switch {
		case everywhere:
		case t.edges == nil:
			if !t.ranking.Beats(key, node, t.row(key)) {
				continue
			}
		case t.ranking.Score(key, node)>>48 < uint64(t.edges[slot]):
			continue // nearly always
		}
		t.enterSlot(slot, uint16(node))
	}
}

func (t *Table) enterSlot(slot int, node uint16) {
	row := t.row(uint64(slot))
	if slices.Contains(row, node) {
		return // it was found anew
	}
	var buf [rendezvous.MaxTop + 1]uint16
	from := append(append(buf[:0], row...), node)
	t.ranking.Among(row[:0], uint64(slot), t.width, from)
	t.setEdge(slot)
}
