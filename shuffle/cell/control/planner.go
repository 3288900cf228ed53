package control

import (
	"cmp"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// even is by how much cells may differ from an even load before an even one is made: to
// move tenants for less costs more than it is worth.
const even = 0.05

// planner makes plans. It has no lock, no clock and no context, and says the same of the
// same map on every machine.
type planner struct {
	goal  Goal
	cells []cell.Cell // those of the map, and the new ones
	items []item      // as they would be
	index map[string]int
	fill  []fill // of cells

	bounded  bool // by a Capacity of any
	moves    []Move
	unplaced []Move
}

// fill is what a cell has in a plan.
type fill struct {
	load, units int64
	size        float64 // the Capacity, or 1 if no cell has one
	takes       bool    // it may be given something
	drained     bool    // by the goal
	fresh       bool    // it is one of Goal.Add
}

func newPlanner(n *censused, g Goal) *planner {
	p := &planner{
		goal: g, cells: slices.Concat(n.s.Cells, g.Add), items: slices.Clone(n.items),
		index: map[string]int{},
	}
	for i, c := range p.cells {
		p.index[c.ID] = i
		p.bounded = p.bounded || c.Capacity > 0
	}
	p.fill = make([]fill, len(p.cells))
	for i, c := range p.cells {
		f := &p.fill[i]
		f.load, f.size = n.fixed[c.ID], 1
		if p.bounded {
			f.size = float64(c.Capacity)
		}
		f.fresh = i >= len(n.s.Cells)
		f.drained = slices.Contains(g.Drain, c.ID)
		f.takes = !c.Cordoned && !f.drained && f.size > 0
	}
	for _, it := range p.items {
		f := &p.fill[p.index[it.cell]]
		f.load, f.units = f.load+it.load, f.units+1
	}
	return p
}

// place moves an item.
func (p *planner) place(i, to int) {
	it := &p.items[i]
	from := &p.fill[p.index[it.cell]]
	from.load, from.units = from.load-it.load, from.units-1
	p.moves = append(p.moves, Move{Unit: it.unit, From: it.cell, To: p.cells[to].ID})
	it.cell, it.moving = p.cells[to].ID, true
	f := &p.fill[to]
	f.load, f.units = f.load+it.load, f.units+1
}

// order returns the items that a function picks, the largest first: small ones fit into
// what those leave.
func (p *planner) order(pick func(*item) bool) []int {
	var all []int
	for i := range p.items {
		if pick(&p.items[i]) {
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(a, b int) int {
		return cmp.Compare(p.items[b].load, p.items[a].load)
	})
	return all
}

// drain empties the cells that are to be, of those that are within the percentage.
func (p *planner) drain(moving bool) {
	for _, i := range p.order(func(it *item) bool {
		return p.fill[p.index[it.cell]].drained && within(it.unit, p.goal.percent())
	}) {
		it := p.items[i]
		to, ok := p.emptiest(it)
		if !ok || it.moving && !moving {
			p.unplaced = append(p.unplaced, Move{Unit: it.unit, From: it.cell})
			continue
		}
		p.place(i, to)
	}
}

// within reports whether a unit is one of so many percent. It goes by a hash of what the
// unit is called and by nothing else, so that it is the same ones each time.
func within(u Unit, percent float64) bool {
	return float64(xxhash.Sum64String(u.String())>>11) < percent/100*(1<<53)
}

// emptiest returns the cell that is the least full with an item, if it fits anywhere. What
// has no load, as slots without tenants have none, goes where the fewest units are: it
// would all go to one otherwise, and the tenants to come too.
func (p *planner) emptiest(it item) (best int, ok bool) {
	least := math.Inf(1)
	for i := range p.fill {
		f := &p.fill[i]
		only := len(p.goal.To) > 0 && !slices.Contains(p.goal.To, p.cells[i].ID)
		if !f.takes || only || p.bounded && float64(f.load+it.load) > f.size {
			continue
		}
		full := float64(f.load+it.load) / f.size
		if it.load == 0 {
			full = float64(f.units+1) / f.size
		}
		if full < least {
			best, ok, least = i, true, full
		}
	}
	return best, ok
}

// share gives new cells their part, and makes all even if that is asked for. What has a
// load is one thing, and what has none another.
func (p *planner) share() {
	for _, loaded := range []bool{true, false} {
		if len(p.goal.Add) > 0 {
			p.level(loaded, func(f *fill) bool { return f.takes && f.fresh })
		}
		if p.goal.Even && p.uneven(loaded) {
			p.level(loaded, func(f *fill) bool { return f.takes })
		}
	}
}

// amounts returns what each cell has, and what it would have of an even load. What is
// beyond its Capacity in an even one it would not get.
func (p *planner) amounts(loaded bool) (has, part []float64) {
	has, part = make([]float64, len(p.fill)), make([]float64, len(p.fill))
	if loaded {
		for i := range p.fill {
			has[i] = float64(p.fill[i].load)
		}
	} else {
		for _, it := range p.items {
			if it.load == 0 {
				has[p.index[it.cell]]++
			}
		}
	}
	total, size := 0.0, 0.0
	for i := range p.fill {
		if p.fill[i].takes {
			total, size = total+has[i], size+p.fill[i].size
		}
	}
	for i := range p.fill {
		f := &p.fill[i]
		if !f.takes {
			part[i] = has[i] // whoever takes nothing gives nothing either, but by a drain
			continue
		}
		part[i] = total * f.size / size
		if loaded && p.bounded {
			part[i] = min(part[i], f.size)
		}
	}
	return has, part
}

func (p *planner) uneven(loaded bool) bool {
	has, part := p.amounts(loaded)
	for i := range has {
		if math.Abs(has[i]-part[i]) > max(1, even*part[i]) {
			return true
		}
	}
	return false
}

// level moves slots and parts from cells with more than their part to some with less.
// No move leaves its source with less than its part, or its target with more, so none is
// in vain.
func (p *planner) level(loaded bool, takes func(*fill) bool) {
	has, part := p.amounts(loaded)
	for _, i := range p.order(func(it *item) bool {
		free := !it.moving && !it.pinned
		return free && loaded == (it.load > 0)
	}) {
		amount := max(1, float64(p.items[i].load))
		from := p.index[p.items[i].cell]
		if has[from]-amount < math.Floor(part[from]) {
			continue
		}
		best, least := -1, 1.0
		for to := range p.fill {
			f := &p.fill[to]
			if to == from || !takes(f) || has[to]+amount > part[to] {
				continue
			}
			if full := has[to] / part[to]; full < least {
				best, least = to, full
			}
		}
		if best >= 0 {
			p.place(i, best)
			has[from], has[best] = has[from]-amount, has[best]+amount
		}
	}
}
