package shuffle

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

// Plan is what [Design.Plan] returns: three ways to give Size nodes to each tenant, side
// by side. Its String is a table.
type Plan struct {
	// Design is what the plan is for.
	Design Design

	// Tenants is how many there are to be.
	Tenants int

	// Spare is how much more load than its own each node must bear, for a tenant to lose
	// a node without harm, in all three: half of it where a tenant has three nodes.
	Spare float64

	// Plain are shards of Size nodes that have none in common, with tenants divided among
	// them by hash. Nodes that are left over do nothing.
	Plain Scheme

	// Shuffled are the shards of a [Sharder].
	Shuffled Scheme

	// Dedicated are Size nodes for each tenant alone.
	Dedicated Scheme
}

// Scheme is one way to give nodes to tenants.
type Scheme struct {
	// Nodes is how many it takes.
	Nodes int64

	// Shards is how many different ones there are.
	Shards *big.Int

	// PerNode is how many tenants a node has, on average.
	PerNode float64

	// Twins is how many others have the very same nodes as a tenant, on average.
	Twins float64

	// NodeLoss is the part of the tenants that loses a node when one fails.
	NodeLoss float64

	// Down is the part of the other tenants that has no node left when noisy ones ruin all
	// the nodes that they have: 1, 4 and 16 of them.
	Down [3]float64

	// Hit is the part of the other tenants that has lost a node or more then.
	Hit [3]float64
}

// noisy are the numbers of noisy tenants in a plan.
func noisy() [3]int { return [3]int{1, 4, 16} }

func (d Design) plain(tenants int) Scheme {
	k := d.size()
	shards := d.Nodes / k
	s := Scheme{
		Nodes: int64(d.Nodes), Shards: big.NewInt(int64(shards)),
		PerNode:  float64(tenants) / float64(shards),
		Twins:    float64(max(0, tenants-1)) / float64(shards),
		NodeLoss: 1 / float64(shards),
	}
	for i, n := range noisy() {
		s.Down[i] = 1 - math.Pow(1-1/float64(shards), float64(n))
		s.Hit[i] = s.Down[i]
	}
	return s
}

func (d Design) shuffled(tenants int) Scheme {
	k, shards := d.size(), d.Combinations()
	all, _ := new(big.Float).SetInt(shards).Float64()
	s := Scheme{
		Nodes: int64(d.Nodes), Shards: shards,
		PerNode:  float64(tenants) * float64(k) / float64(d.Nodes),
		Twins:    float64(max(0, tenants-1)) / all,
		NodeLoss: float64(k) / float64(d.Nodes),
	}
	for i, n := range noisy() {
		coverage := d.Coverage(n)
		s.Down[i], s.Hit[i] = coverage[k], 1-coverage[0]
	}
	return s
}

// String returns a table for people. Do not take it apart: it may look different in the
// next version.
func (p Plan) String() string {
	if err := p.Design.Validate(); err != nil {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d nodes", p.Design.Nodes)
	zones := max(1, p.Design.Zones)
	if zones > 1 {
		fmt.Fprintf(&b, " in %d zones", zones)
	}
	k := p.Design.size()
	fmt.Fprintf(&b, ", %d to a tenant, %d tenants\n\n", k, p.Tenants)
	row := func(name string, cell func(Scheme) string) {
		cells := fmt.Sprintf(" %14s %14s %14s", cell(p.Plain), cell(p.Shuffled), cell(p.Dedicated))
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-33s", name)+cells, " ") + "\n")
	}
	fmt.Fprintf(&b, "%-33s %14s %14s %14s\n", "", "plain shards", "shuffled", "dedicated")
	row("nodes", func(s Scheme) string { return fmt.Sprint(s.Nodes) })
	row("different shards", func(s Scheme) string { return count(s.Shards) })
	row("tenants to a node", func(s Scheme) string { return fmt.Sprintf("%.4g", s.PerNode) })
	row("others with the same nodes", func(s Scheme) string { return fmt.Sprintf("%.3g", s.Twins) })
	row("one node fails: lose a node", func(s Scheme) string { return part(s.NodeLoss) })
	for i, n := range noisy() {
		row(fmt.Sprintf("noisy tenants: %d", n), func(Scheme) string { return "" })
		row("  others with no node left", func(s Scheme) string { return part(s.Down[i]) })
		row("  others that lose a node or more", func(s Scheme) string { return part(s.Hit[i]) })
	}
	if zones > 1 {
		fmt.Fprintf(&b, "\nA zone that fails leaves each tenant %d of its %d nodes or more.\n",
			k-(k+zones-1)/zones, k)
	}
	fmt.Fprintf(&b, "\nTo lose a node without harm, each must have room for %s of its load more.\n",
		part(p.Spare))
	return b.String()
}

// count writes a number that may be very large.
func count(n *big.Int) string {
	if n.BitLen() <= 46 {
		return n.String()
	}
	return new(big.Float).SetInt(n).Text('g', 4)
}

// part writes a part of all. Of small ones percentages have too many zeros.
func part(p float64) string {
	switch {
	case p == 0:
		return "none"
	case math.IsInf(p, 1):
		return "any amount"
	case p < 1e-4:
		return fmt.Sprintf("1 in %.3g", 1/p)
	}
	return fmt.Sprintf("%.4g %%", 100*p)
}
