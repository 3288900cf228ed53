package hashring

// BalancerStats is what a balancer knows of itself at one moment.
type BalancerStats struct {
	Name     string     // BalancerConfig.Name
	InFlight int        // leases that are not finished, of the nodes that are there
	Nodes    []NodeLoad // by ID

	// The others only grow.
	Spilled uint64 // leases of a node that is not an owner of the key
	Refused uint64 // keys without a lease
}

// NodeLoad is the load of a node.
type NodeLoad struct {
	Node     Node // as in the placement
	InFlight int  // leases that are not finished
	Failures int  // that still count as load
	Cap      int  // what a next request would find its bound to be
}

// Stats returns a snapshot. Under way there are requests that begin and end, so what it
// says of different nodes need not fit together.
func (b *Balancer) Stats() BalancerStats {
	s := BalancerStats{Name: b.name, Refused: b.refused.Load()}
	for i := range b.stripes {
		s.Spilled += b.stripes[i].spilled.Load()
	}
	v := b.view.Load()
	if v == nil {
		return s
	}
	total := b.total()
	s.InFlight = int(total)
	for i, n := range v.nodes {
		s.Nodes = append(s.Nodes, NodeLoad{
			Node:     n,
			InFlight: int(v.seats[i].load()),
			Failures: int(v.seats[i].failures()),
			Cap:      int(b.bound.limit(v.shares[i], total+1)),
		})
	}
	return s
}
