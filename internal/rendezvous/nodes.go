package rendezvous

import (
	"math"
	"slices"
)

// None stands for no node, where there might be one.
const None = -1

// Nodes are those among whom to choose, each known by its index.
//
// A key has two orders of them. The plain one goes by score, and between nodes of unlike
// weights by cost divided by weight; where these are equal, by index. The one that
// spreads over zones goes by rank first, which is the number of nodes ahead in the same
// zone: the best of each zone, then the second of each, and a zone that has no more is
// passed over.
//
// In both, the first k nodes change by one at most when a node comes or goes. So they
// would not if each zone were given its part of k, rounded up.
type Nodes struct {
	hashes  []uint64
	weights []uint32
	zones   []uint16
	groups  []group // by zone
	sizes   []int   // of the zones, the smallest first
	mixed   bool    // the weights are not all the same

	// depth is, by k, how many of the first k nodes are in one zone at most.
	depth [MaxTop + 1]int
}

// group is the nodes of a zone, by index.
type group struct {
	hashes  []uint64
	members []uint16

	// hopeful is, by k, a score that the best k nodes very probably have: so high that
	// as many nodes have it on average as hope says.
	hopeful [MaxTop + 1]uint64
}

// New returns nodes with indexes from 0 on, of which there may be 65,535. It keeps the
// slices. No weight may be 0, and zones are numbered from 0 on.
func New(hashes []uint64, weights []uint32, zones []uint16) *Nodes {
	n := &Nodes{hashes: hashes, weights: weights, zones: zones}
	for i, z := range zones {
		for int(z) >= len(n.groups) {
			n.groups = append(n.groups, group{})
		}
		g := &n.groups[z]
		g.hashes = append(g.hashes, hashes[i])
		g.members = append(g.members, uint16(i))
		n.mixed = n.mixed || weights[i] != weights[0]
	}
	for z := range n.groups {
		n.sizes = append(n.sizes, len(n.groups[z].members))
	}
	slices.Sort(n.sizes)
	for k := range n.depth {
		n.depth[k] = n.Depth(k)
		for z := range n.groups {
			g := &n.groups[z]
			if hopeful := hope(k); hopeful < uint64(len(g.members)) {
				least := math.MaxUint64 - math.MaxUint64/uint64(len(g.members))*hopeful
				g.hopeful[k] = least & upper
			}
		}
	}
	return n
}

// Depth returns how many of the first k nodes are in one zone at most, and k if there are
// not as many nodes.
func (n *Nodes) Depth(k int) int {
	left := k
	for i, size := range n.sizes {
		zones := len(n.sizes) - i // the others are all in already
		if size*zones >= left {
			return (left + zones - 1) / zones
		}
		left -= size
	}
	return k
}

// Mixed reports whether the weights are not all the same. If they are, the plain order is
// that of the scores.
func (n *Nodes) Mixed() bool { return n.mixed }

// Score returns the score of node i for a key.
func (n *Nodes) Score(key uint64, i int) uint64 { return Score(key, n.hashes[i]) }

// Top appends the first k nodes of a key in the order that spreads over zones, but not
// more than MaxTop. If first is not None, that node is put before all others.
func (n *Nodes) Top(dst []uint16, key uint64, k, first int) []uint16 {
	k = min(k, MaxTop)
	if k <= 0 {
		return dst
	}
	best := podium{size: k}
	if first == None && len(n.groups) == 1 {
		n.race(&best, &n.groups[0], key)
		return best.appendTo(dst)
	}
	if first != None {
		best.offer(n.bid(key, first, 0))
	}
	for z := range n.groups {
		rank := uint16(1)
		if first != None && int(n.zones[first]) == z {
			rank = 2
		}
		zone := podium{size: n.depth[k]}
		n.race(&zone, &n.groups[z], key)
		for i := range zone.n {
			if b := zone.bids[i]; int(b.node) != first {
				b.rank = rank
				best.offer(b)
				rank++
			}
		}
	}
	return best.appendTo(dst)
}

// race offers the nodes of a zone. Nearly all of them have no chance, and are seen off
// after a look at the score.
func (n *Nodes) race(zone *podium, g *group, key uint64) {
	if n.mixed {
		n.raceMixed(zone, g, key)
		return
	}
	if !g.raceHopeful(zone, key) {
		g.raceAll(zone, key)
	}
}

// raceAll offers all who are not behind the last on the podium, once that is full. All
// weights are the same.
func (g *group) raceAll(zone *podium, key uint64) {
	least := uint64(0)
	for i, h := range g.hashes {
		score := Score(key, h)
		if score < least {
			continue
		}
		zone.offer(bid{score: score, node: g.members[i]})
		if zone.n == zone.size {
			least = zone.bids[zone.n-1].score
		}
	}
}

// raceMixed looks at the cost only of those that are not behind in both score and weight:
// a cost takes longer than all else.
func (n *Nodes) raceMixed(zone *podium, g *group, key uint64) {
	var last bid // of those on the podium, once it is full
	for i, h := range g.hashes {
		score, node := Score(key, h), g.members[i]
		if score < last.score && n.weights[node] <= last.weight {
			continue
		}
		zone.offer(n.bidOf(score, node, 0))
		if zone.n == zone.size {
			last = zone.bids[zone.n-1]
		}
	}
}

// Best is Top for any k: it appends the first k nodes of a key, or all if they are not as
// many. It allocates only for more than 60 nodes, or dozens of zones.
func (n *Nodes) Best(dst []uint16, key uint64, k int) []uint16 {
	k = min(k, len(n.hashes))
	if k <= MaxTop {
		return n.Top(dst, key, k, None)
	}
	var buf [64]bid
	bids := buf[:]
	if most := k + len(n.groups); most > len(buf) {
		bids = make([]bid, most)
	}
	end, depth := 0, n.Depth(k)
	for z := range n.groups {
		zone := bids[end:][:min(depth, len(n.groups[z].members))]
		n.fill(zone, &n.groups[z], key)
		sortBids(zone)
		for i := range zone {
			zone[i].rank = uint16(i + 1)
		}
		end += len(zone)
	}
	if len(n.groups) > 1 {
		sortBids(bids[:end])
	}
	for i := range bids[:k] {
		dst = append(dst, bids[i].node)
	}
	return dst
}

// fill finds the first nodes of a zone, as many as there are places, in any order.
func (n *Nodes) fill(places []bid, g *group, key uint64) {
	zone := crowd{bids: places}
	var last bid // of those in the crowd, once it is full
	for i, h := range g.hashes {
		score, node := Score(key, h), g.members[i]
		if score < last.score && (!n.mixed || n.weights[node] <= last.weight) {
			continue
		}
		zone.offer(n.bidOf(score, node, 0))
		if zone.full() {
			last = zone.bids[0]
		}
	}
}

// Among is Top for a few nodes, at most one more than MaxTop: the first k of those in
// from.
func (n *Nodes) Among(dst []uint16, key uint64, k int, from []uint16) []uint16 {
	plain, best := podium{size: len(from)}, podium{size: min(k, MaxTop)}
	for _, node := range from {
		plain.offer(n.bid(key, int(node), 1))
	}
	for i := range plain.n {
		b := plain.bids[i]
		for j := range i {
			if n.zones[plain.bids[j].node] == n.zones[b.node] {
				b.rank++
			}
		}
		best.offer(b)
	}
	return best.appendTo(dst)
}

// Beats reports whether a node is ahead of any of others in the plain order.
func (n *Nodes) Beats(key uint64, i int, others []uint16) bool {
	b := n.bid(key, i, 0)
	for _, other := range others {
		if o := n.bid(key, int(other), 0); b.before(&o) {
			return true
		}
	}
	return false
}

// Order returns all nodes in the order that spreads over zones: sorted once to have the
// ranks, and then by them. If first is not None,
// that node is put before all others.
func (n *Nodes) Order(key uint64, first int) []uint16 {
	bids := make([]bid, len(n.hashes))
	for i := range bids {
		bids[i] = n.bid(key, i, 1)
	}
	if first != None {
		bids[first].rank = 0
	}
	sortBids(bids)
	ranks := make([]uint16, len(n.groups))
	for i := range bids {
		zone := n.zones[bids[i].node]
		bids[i].rank += ranks[zone] // which for the first is 0
		ranks[zone]++
	}
	sortBids(bids)
	order := make([]uint16, len(bids))
	for i := range bids {
		order[i] = bids[i].node
	}
	return order
}

// Next returns the node that follows after in the plain order of a key, or is the first
// of it if after is None, leaving out those to skip. It returns None if none does.
func (n *Nodes) Next(key uint64, after int, skip []uint16) int {
	var last, best bid
	if after != None {
		last = n.bid(key, after, 0)
	}
	next := None
	for i := range n.hashes {
		b := n.bid(key, i, 0)
		if after != None && !last.before(&b) || next != None && !b.before(&best) {
			continue
		}
		if !slices.Contains(skip, uint16(i)) {
			next, best = i, b
		}
	}
	return next
}
