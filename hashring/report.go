package hashring

import "math"

// Report says how evenly a placement deals out keys. It looks at owners, and all keys:
// which of them are asked for often is not the placement's business.
type Report struct {
	// Name is that of the config.
	Name string

	// Nodes are the nodes, by ID.
	Nodes []Share

	// MaxRatio and MinRatio are the highest and the lowest Ratio of a node. Among nodes of
	// one weight, MaxRatio is the maximum divided by the average.
	MaxRatio, MinRatio float64

	// CV is the coefficient of variation of the ratios: their standard deviation from 1.
	CV float64

	// ExpectedCV is what CV comes to on average over all seeds. For a Ring it is about one
	// over the square root of VNodes. For a Table it is that without an Excess, and a CV
	// that is much lower says that many slots are not with the node of the highest score.
	ExpectedCV float64
}

// Share is what a node has.
type Share struct {
	// Node is the node.
	Node Node

	// Share is its part of all keys, exactly.
	Share float64

	// Ratio is Share divided by the part of its Weight in all weights.
	Ratio float64
}

// Report says how evenly r deals out keys.
func (r *Ring) Report() Report { return r.report(r, len(r.own())+1) }

// Report says how evenly t deals out keys.
func (t *Table) Report() Report { return t.report(t, t.slots) }

// report is for a placement that deals out the circle at random, in pieces. If the number
// of a node's pieces is random, and their size is not, the variance of its share is that
// of a binomial distribution. If it is the other way round, it is that of a beta
// distribution, as if there were one more of them.
func (r *roster) report(p Placement, pieces int) Report {
	report := Report{Name: r.name}
	all := float64(r.weight())
	squares, expected := 0.0, 0.0
	for i, share := range shares(p) {
		due := float64(r.nodes[i].Weight) / all
		ratio := share / due
		report.Nodes = append(report.Nodes, Share{r.nodes[i], share, ratio})
		report.MaxRatio = max(report.MaxRatio, ratio)
		if i == 0 || ratio < report.MinRatio {
			report.MinRatio = ratio
		}
		squares += (ratio - 1) * (ratio - 1)
		expected += (1 - due) / (due * float64(pieces))
	}
	n := math.Max(1, float64(len(r.nodes)))
	report.CV, report.ExpectedCV = math.Sqrt(squares/n), math.Sqrt(expected/n)
	return report
}

// shares returns the share of each node.
func shares(p Placement) []float64 {
	shares := make([]float64, len(p.members()))
	lo := uint64(0)
	for i := range p.arcs() {
		last, owner := p.arc(i)
		shares[owner] += units(lo, last) // 0 if it is empty
		if last == math.MaxUint64 {
			break
		}
		lo = last + 1
	}
	return shares
}
