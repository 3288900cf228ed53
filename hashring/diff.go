package hashring

import (
	"iter"
	"math"
	"strings"
)

// Delta says what becomes of keys when one placement follows another. It looks at owners,
// and not at the nodes that come after them.
type Delta struct {
	// Moved is the share of all keys that get another owner. Like all shares of keys here
	// it is no estimate: it is exact.
	Moved float64

	// Necessary is the part of Moved that leaves nodes which have gone or weigh less, or
	// comes to nodes which are new or weigh more.
	Necessary float64

	// Rebalancing is the other part: keys that move between nodes which stay as they are.
	// It is 0 between two rings.
	Rebalancing float64

	// Least is the share that has to move if all nodes have what their weight comes to,
	// before and after. Moved can be less than this, since no placement is quite even.
	Least float64

	// Rehashed is true if the two do not agree on what the hash of a key is. Then there are
	// no ranges that move, and the shares are those of chance.
	Rehashed bool

	// Nodes are the nodes of both, by ID.
	Nodes []Flow

	from, to Placement
}

// Flow is what a node gets and gives away.
type Flow struct {
	// Node is the node as it is, or as it was if it has gone.
	Node Node

	// In and Out are shares of all keys.
	In, Out float64
}

// Move is a range of hashes whose keys get another owner.
type Move struct {
	// Lo and Hi are the first and the last hash of the range, as Hash returns them.
	Lo, Hi uint64

	// From is the node that had them, and To the one that has them now. One of them is
	// zero if there were, or are, no nodes at all.
	From, To Node
}

// Share returns how much of all keys the move is about.
func (m Move) Share() float64 { return units(m.Lo, m.Hi) }

// units returns the share of a range. All of them begin and end at multiples of 2^16, and
// so their shares, and sums of those, have 48 bits at most: a float64 holds them exactly.
func units(lo, hi uint64) float64 { return float64(hi>>16-lo>>16+1) / (1 << 48) }

// Diff compares two placements. They need not be of one kind.
func Diff(from, to Placement) *Delta {
	d := &Delta{from: from, to: to, Rehashed: from.base().hashing() != to.base().hashing()}
	c := d.census()
	if d.Rehashed {
		d.byChance(c)
	} else {
		d.byArcs(c)
	}
	d.Rebalancing = d.Moved - d.Necessary
	return d
}

// census is who was and is there, all by indexes into the Nodes of a Delta.
type census struct {
	was, is         []int  // those of the nodes before and after
	leaving, coming []bool // gone or lighter; new or heavier
}

// census lists all nodes, and reckons Least. A weight of 0 stands for a node that is not
// there: who comes is heavier than nothing, and who goes is lighter than something.
func (d *Delta) census() census {
	from, to := d.from.members(), d.to.members()
	before, after := float64(d.from.base().weight()), float64(d.to.base().weight())
	var c census
	for len(from) > 0 || len(to) > 0 {
		order := 0
		switch {
		case len(from) == 0:
			order = 1
		case len(to) == 0:
			order = -1
		default:
			order = strings.Compare(from[0].ID, to[0].ID)
		}
		var old, now Node
		if order <= 0 {
			old, from = from[0], from[1:]
			c.was = append(c.was, len(d.Nodes))
		}
		if order >= 0 {
			now, to = to[0], to[1:]
			c.is = append(c.is, len(d.Nodes))
		}
		c.leaving = append(c.leaving, now.Weight < old.Weight)
		c.coming = append(c.coming, now.Weight > old.Weight)
		d.Least += max(0, part(now.Weight, after)-part(old.Weight, before))
		if order < 0 {
			now = old
		}
		d.Nodes = append(d.Nodes, Flow{Node: now})
	}
	return c
}

func part(weight uint32, all float64) float64 {
	if weight == 0 {
		return 0
	}
	return float64(weight) / all
}

// byArcs adds up what moves.
func (d *Delta) byArcs(c census) {
	for m := range d.changes {
		share := units(m.lo, m.hi)
		d.Moved += share
		if m.from < 0 || m.to < 0 || c.leaving[c.was[m.from]] || c.coming[c.is[m.to]] {
			d.Necessary += share
		}
		if m.from >= 0 {
			d.Nodes[c.was[m.from]].Out += share
		}
		if m.to >= 0 {
			d.Nodes[c.is[m.to]].In += share
		}
	}
}

// byChance is for placements that have nothing to do with each other: a key that a node
// had comes to another as likely as any key.
func (d *Delta) byChance(c census) {
	had, has := make([]float64, len(d.Nodes)), make([]float64, len(d.Nodes))
	for i, share := range shares(d.from) {
		had[c.was[i]] = share
	}
	for i, share := range shares(d.to) {
		has[c.is[i]] = share
	}
	// What is not necessary goes from one of those that need not give to one of those that
	// need not take.
	giving, taking, both := 0.0, 0.0, 0.0
	for i := range d.Nodes {
		d.Nodes[i].Out, d.Nodes[i].In = had[i]*(1-has[i]), has[i]*(1-had[i])
		d.Moved += d.Nodes[i].Out
		if !c.leaving[i] {
			giving += had[i]
		}
		if !c.coming[i] {
			taking += has[i]
		}
		if !c.leaving[i] && !c.coming[i] {
			both += had[i] * has[i]
		}
	}
	d.Necessary = d.Moved - (giving*taking - both)
}

// Moves yields what moves, from the lowest hash to the highest. No two ranges that follow
// each other have the same nodes.
func (d *Delta) Moves() iter.Seq[Move] {
	return func(yield func(Move) bool) {
		if d.Rehashed {
			return
		}
		var last change // not yielded yet
		for c := range d.changes {
			switch {
			case last == (change{}):
				last = c
			case c.from == last.from && c.to == last.to && c.lo == last.hi+1:
				last.hi = c.hi
			default:
				if !yield(d.move(last)) {
					return
				}
				last = c
			}
		}
		if last != (change{}) {
			yield(d.move(last))
		}
	}
}

func (d *Delta) move(c change) Move {
	m := Move{Lo: c.lo, Hi: c.hi}
	if c.from >= 0 {
		m.From = d.from.members()[c.from]
	}
	if c.to >= 0 {
		m.To = d.to.members()[c.to]
	}
	return m
}

// change is a range with the indexes of its two owners, -1 where there are no nodes.
type change struct {
	lo, hi   uint64
	from, to int
}

// changes yields the ranges with another owner, as they come out of the arcs.
func (d *Delta) changes(yield func(change) bool) {
	from, to := d.from.members(), d.to.members()
	lo := uint64(0)
	for i, j := 0, 0; ; {
		a, was := arc(d.from, i)
		b, is := arc(d.to, j)
		hi := min(a, b)
		if hi >= lo { // neither is empty
			same := was < 0 && is < 0 || was >= 0 && is >= 0 && from[was].ID == to[is].ID
			if !same && !yield(change{lo, hi, was, is}) {
				return
			}
			if hi == math.MaxUint64 {
				return
			}
			lo = hi + 1
		}
		if a == hi {
			i++
		}
		if b == hi {
			j++
		}
	}
}

// arc is Placement's, but without nodes the whole circle is one arc of nobody.
func arc(p Placement, i int) (last uint64, owner int) {
	if p.arcs() == 0 {
		return math.MaxUint64, -1
	}
	return p.arc(i)
}
