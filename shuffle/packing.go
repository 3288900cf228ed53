package shuffle

import (
	"slices"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// packing finds a shard that has few nodes in common with each of those there are. It
// tries nodes in the order in which a tenant prefers them, and goes back where that leads
// nowhere. To find the most shards that fit is a hard problem; a search that is given up
// and begun anew, with another order, finds one sooner than one that goes on.
type packing struct {
	ranking *rendezvous.Nodes
	zones   []uint16
	size    int
	on      [][]uint32 // by node, who has it
	tenants uint32
}

// find returns a shard of which at most overlap nodes are with any other tenant, and nil
// if it finds none; then none reports whether it has tried all. It begins with those that
// are kept, and if nothing can be added to those, without.
func (p *packing) find(key uint64, kept []uint16, overlap, effort int) (shard []uint16, none bool) {
	if len(kept) > 0 {
		s := p.search(p.ranking.Order(key, rendezvous.None), overlap, effort/2)
		s.begin(kept)
		if s.extend(0) {
			return s.chosen, false
		}
		effort -= effort/2 - max(0, s.effort)
	}
	turn := effort/64 + 1
	for try := uint64(0); ; try++ {
		order := key // at first, the tenant's own
		if try > 0 {
			order = rendezvous.Mix(key + try)
		}
		turn = min(turn, effort)
		s := p.search(p.ranking.Order(order, rendezvous.None), overlap, turn)
		if s.extend(0) {
			return s.chosen, false
		}
		if s.effort > 0 {
			return nil, true
		}
		if effort -= turn; effort <= 0 {
			return nil, false
		}
		turn += turn * int(try%2) // for the last ones nearly all that is left
	}
}

// best returns a shard of which as few nodes as it finds are with another tenant, more
// than overlap.
func (p *packing) best(key uint64, overlap, effort int) (shard []uint16, most int) {
	for most = overlap + 1; most < p.size; most++ {
		if shard, _ = p.find(key, nil, most, effort); shard != nil {
			return shard, most
		}
	}
	return p.ranking.Best(nil, key, p.size), p.size
}

func (p *packing) search(order []uint16, overlap, effort int) *search {
	depth := p.ranking.Depth(p.size)
	s := &search{
		packing: p, order: order, overlap: overlap, effort: effort,
		common: make([]int, p.tenants), counts: map[uint16]int{}, depth: depth, deep: p.size,
	}
	sizes := map[uint16]int{}
	for _, zone := range p.zones {
		sizes[zone]++
	}
	for _, size := range sizes {
		s.deep -= min(size, depth-1)
	}
	return s
}

// search is one try.
type search struct {
	*packing
	order   []uint16
	overlap int
	effort  int // that is left
	chosen  []uint16
	common  []int // by tenant, how many of the nodes chosen it has

	// counts is how many of the nodes chosen are in a zone: depth of them at most, and
	// that in as many zones as deep says. So they are spread as those of any shard.
	counts map[uint16]int
	depth  int
	deep   int
}

// begin chooses nodes without a look at zones, for they were spread over those there were.
func (s *search) begin(kept []uint16) {
	for _, node := range kept {
		s.take(node, 1)
	}
	s.order = slices.DeleteFunc(s.order, func(n uint16) bool { return slices.Contains(kept, n) })
	s.chosen = slices.Clip(kept)
}

// extend adds nodes from some place of the order on, until they are enough.
func (s *search) extend(from int) bool {
	missing := s.size - len(s.chosen)
	if missing == 0 {
		return true
	}
	for i := from; i <= len(s.order)-missing && s.effort > 0; i++ {
		node := s.order[i]
		if !s.fits(node) {
			continue
		}
		s.take(node, 1)
		s.chosen = append(s.chosen, node)
		if s.extend(i + 1) {
			return true
		}
		s.chosen = s.chosen[:len(s.chosen)-1]
		s.take(node, -1)
	}
	return false
}

func (s *search) fits(node uint16) bool {
	s.effort--
	in := s.counts[s.zones[node]]
	if in >= s.depth || in == s.depth-1 && s.deep <= 0 {
		return false
	}
	s.effort -= len(s.on[node])
	for _, tenant := range s.on[node] {
		if s.common[tenant] >= s.overlap {
			return false
		}
	}
	return true
}

// take puts a node in, or out again if by is -1.
func (s *search) take(node uint16, by int) {
	zone := s.zones[node]
	s.counts[zone] += by
	if s.counts[zone] == s.depth+min(by, 0) { // it has come to depth, or was there
		s.deep -= by
	}
	for _, tenant := range s.on[node] {
		s.common[tenant] += by
	}
}
