package rendezvous

import (
	"slices"
)

// bid is what a node offers for a key.
type bid struct {
	score  uint64
	cost   uint64 // of the score; where all weights are the same, it is left 0
	weight uint32 // and so is this
	node   uint16

	// rank is one more than the number of nodes ahead in the zone. One that is put before
	// all others has 0.
	rank uint16
}

func (n *Nodes) bid(key uint64, i int, rank uint16) bid {
	return n.bidOf(n.Score(key, i), uint16(i), rank)
}

func (n *Nodes) bidOf(score uint64, node, rank uint16) bid {
	b := bid{score: score, node: node, rank: rank}
	if n.mixed {
		b.weight, b.cost = n.weights[node], cost(score)
	}
	return b
}

// before is the order that spreads over zones, and within one rank the plain order.
// Between nodes of one weight the scores tell, for a cost never grows with the score.
func (b *bid) before(c *bid) bool {
	if b.rank != c.rank {
		return b.rank < c.rank
	}
	if b.weight != c.weight {
		if order := compareCosts(b.cost, b.weight, c.cost, c.weight); order != 0 {
			return order < 0
		}
	}
	return b.score > c.score || b.score == c.score && b.node < c.node
}

func sortBids(bids []bid) {
	slices.SortFunc(bids, func(b, c bid) int {
		if b.before(&c) {
			return -1
		}
		return 1
	})
}

// MaxTop is the most nodes that Top and Among can choose.
const MaxTop = 8

// podium keeps the first few of the bids that it is offered. They are so few that to sort
// them in is all that is needed.
type podium struct {
	n    int
	size int
	bids [MaxTop + 1]bid
}

func (p *podium) offer(b bid) {
	i := p.n
	if i < p.size {
		p.n++
	} else {
		i--
		if i < 0 || !b.before(&p.bids[i]) {
			return
		}
	}
	for ; i > 0 && b.before(&p.bids[i-1]); i-- {
		p.bids[i] = p.bids[i-1]
	}
	p.bids[i] = b
}

func (p *podium) appendTo(dst []uint16) []uint16 {
	for i := range p.n {
		dst = append(dst, p.bids[i].node)
	}
	return dst
}

// crowd keeps the first of the bids that it is offered, as many as there is room for,
// where that is more than on a podium. It is a heap, and the last of them is on top.
type crowd struct {
	n    int
	bids []bid
}

func (c *crowd) full() bool { return c.n == len(c.bids) }

func (c *crowd) offer(b bid) {
	if c.full() {
		if b.before(&c.bids[0]) {
			c.replaceLast(b)
		}
		return
	}
	i := c.n
	c.n++
	for c.bids[i] = b; i > 0; {
		up := (i - 1) / 2
		if !c.bids[up].before(&c.bids[i]) {
			return
		}
		c.bids[i], c.bids[up] = c.bids[up], c.bids[i]
		i = up
	}
}

func (c *crowd) replaceLast(b bid) {
	c.bids[0] = b
	for i, down := 0, 1; down < c.n; down = 2*i + 1 {
		if right := down + 1; right < c.n && c.bids[down].before(&c.bids[right]) {
			down = right
		}
		if !c.bids[i].before(&c.bids[down]) {
			return
		}
		c.bids[i], c.bids[down] = c.bids[down], c.bids[i]
		i = down
	}
}
