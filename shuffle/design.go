package shuffle

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// Design is a fleet on paper: how far apart it keeps tenants, before it is built. All of
// it is computed exactly and rounded once, at the end, for tenants whose shards are
// independent, and nodes of one weight.
//
//	d := shuffle.Design{Nodes: 8, Size: 2}
//	fmt.Println(d.Combinations(), d.Overlap()) // 28 [0.5357... 0.4285... 0.0357...]
//
// If a design is not valid, Combinations and MaxTenants are 0, and what is a slice is nil.
type Design struct {
	// Nodes is how many nodes there are.
	Nodes int

	// Size is how many of them a tenant has, as in [Config], but not more than 512. If
	// zero, 3. If negative, or more than there are, all.
	Size int

	// Zones is in how many zones the nodes are, as many in each. If zero, 1.
	Zones int
}

// Coverage takes up to a second or so.
const (
	maxSize  = 512
	maxTerms = 1 << 14
)

// Validate returns an error that names every field that has no meaning, with its value,
// or nil.
func (d Design) Validate() error {
	var bad []string
	if d.Nodes < 1 || d.Nodes > maxNodes {
		bad = append(bad, fmt.Sprintf("Nodes is %d, but must be from 1 to %d", d.Nodes, maxNodes))
	}
	if d.Zones < 0 || d.Zones > 1 && d.Nodes%d.Zones != 0 {
		bad = append(bad, fmt.Sprintf("Zones is %d, but must divide Nodes, %d", d.Zones, d.Nodes))
	}
	if size := d.size(); bad == nil && size > maxSize {
		bad = append(bad, fmt.Sprintf("Size comes to %d, but must be at most %d", size, maxSize))
	}
	if bad == nil && d.terms().Cmp(big.NewInt(maxTerms)) > 0 {
		bad = append(bad, fmt.Sprintf("Size comes to %d, which is too large for %d zones",
			d.size(), d.Zones))
	}
	if bad == nil {
		return nil
	}
	return errors.New("shuffle: Design: " + strings.Join(bad, "; "))
}

// shape is a design by what a shard has in each zone.
type shape struct {
	zones int
	nodes int // in each zone
	each  int // of those, how many a shard has in most zones
	more  int // in how many zones it has one more
}

func (d Design) shape() shape {
	zones := max(1, d.Zones)
	k := d.size()
	return shape{zones: zones, nodes: d.Nodes / zones, each: k / zones, more: k % zones}
}

func (d Design) size() int { return sizeOf("", d.Size, nil, d.Nodes) }

// terms returns over how many terms Coverage sums: the ways to divide some of a shard's
// nodes among zones that are alike.
func (d Design) terms() *big.Int {
	s := d.shape()
	return new(big.Int).Mul(
		choose(s.more+s.each+1, s.more), choose(s.zones-s.more+s.each, s.zones-s.more))
}

// choose returns how many ways there are to choose k of n.
func choose(n, k int) *big.Int {
	if k < 0 || k > n {
		return new(big.Int)
	}
	return new(big.Int).Binomial(int64(n), int64(k))
}

func power(x *big.Int, n int) *big.Int { return new(big.Int).Exp(x, big.NewInt(int64(n)), nil) }

// Combinations returns how many different shards there are.
func (d Design) Combinations() *big.Int {
	if d.Validate() != nil {
		return new(big.Int)
	}
	s := d.shape()
	all := choose(s.zones, s.more)
	all.Mul(all, power(choose(s.nodes, s.each+1), s.more))
	return all.Mul(all, power(choose(s.nodes, s.each), s.zones-s.more))
}

// Overlap returns how likely it is that two tenants have 0, 1, 2 and so on up to Size
// nodes in common: without zones, the hypergeometric distribution. Look at all of it. Of
// 8 nodes, one pair of shards in 70 is the same with 4 to a shard and one in 28 with 2;
// but with 4, three in four have half of their nodes in common.
func (d Design) Overlap() []float64 { return d.Coverage(1) }

// Coverage returns how likely it is that 0, 1, 2 and so on up to Size nodes of a tenant
// belong to one or another of some noisy tenants too. The last is how many of all tenants
// go down when the noisy ones ruin whatever node they have.
func (d Design) Coverage(noisy int) []float64 {
	if d.Validate() != nil {
		return nil
	}
	k, spared := d.size(), newSpared(d, max(0, noisy))
	spared.class(0, big.NewInt(1), []*big.Int{big.NewInt(1)}, 0)
	coverage := make([]float64, k+1)
	// Inclusion and exclusion. It takes differences of large numbers, and as many bits.
	for left := range k + 1 {
		sum, term, ways := spared.float(), spared.float(), big.NewInt(1)
		for t := left; t <= k; t++ {
			term.SetInt(ways) // to choose those that are left from t
			sum.Add(sum, term.Mul(term, spared.sums[t]))
			ways.Mul(ways, big.NewInt(int64(-t-1)))
			ways.Quo(ways, big.NewInt(int64(t+1-left)))
		}
		p, _ := sum.Float64()
		coverage[k-left] = max(0, p)
	}
	return coverage
}

// spared computes, by t, how likely it is that t nodes of a shard, all of one choice, are
// none of the noisy tenants', summed over the choices.
type spared struct {
	shape
	all   *big.Int // combinations
	noisy int
	bits  uint
	sums  []*big.Float
}

func newSpared(d Design, noisy int) *spared {
	all, k := d.Combinations(), d.size()
	s := &spared{shape: d.shape(), all: all, noisy: noisy}
	// The least probability is one in all combinations, and the sums have up to 4^k times
	// their difference.
	s.bits = uint(128 + all.BitLen() + 2*k + big.NewInt(int64(noisy)).BitLen())
	for range k + 1 {
		s.sums = append(s.sums, s.float())
	}
	return s
}

func (s *spared) float() *big.Float { return new(big.Float).SetPrec(s.bits) }

// class goes on with the zones that are alike: first those with one node more, then the
// others. ways is in how many ways t nodes were divided so far. avoid is in how many ways
// one noisy tenant has none of them, by the number of zones in which it has one more.
func (s *spared) class(class int, ways *big.Int, avoid []*big.Int, t int) {
	switch class {
	case 0:
		s.divide(class, s.each+1, s.more, 0, ways, avoid, t)
	case 1:
		s.divide(class, s.each, s.zones-s.more, 0, ways, avoid, t)
	default:
		if s.more < len(avoid) {
			s.add(ways, avoid[s.more], t)
		}
	}
}

// divide lets some of the zones left have their nodes spared, and goes on with one more.
// Each of the zones has some nodes of the shard.
func (s *spared) divide(
	class, nodes, zones, spare int, ways *big.Int, avoid []*big.Int, t int,
) {
	if zones == 0 {
		s.class(class+1, ways, avoid, t)
		return
	}
	if spare > nodes {
		return
	}
	one := []*big.Int{choose(s.nodes-spare, s.each), choose(s.nodes-spare, s.each+1)}
	choices := choose(nodes, spare)
	for count := range zones + 1 {
		if count > 0 {
			avoid = multiply(avoid, one, s.more)
		}
		now := choose(zones, count)
		now.Mul(now, ways)
		now.Mul(now, power(choices, count))
		s.divide(class, nodes, zones-count, spare+1, now, avoid, t+count*spare)
	}
}

// multiply returns the product of two polynomials, up to some degree.
func multiply(a, b []*big.Int, degree int) []*big.Int {
	product := make([]*big.Int, min(len(a)+len(b)-1, degree+1))
	for i := range product {
		product[i] = new(big.Int)
		for j := max(0, i-len(b)+1); j <= min(i, len(a)-1); j++ {
			product[i].Add(product[i], new(big.Int).Mul(a[j], b[i-j]))
		}
	}
	return product
}

func (s *spared) add(ways, avoid *big.Int, t int) {
	one := s.float().SetInt(avoid)
	one.Quo(one, s.float().SetInt(s.all))
	p := s.float().SetInt(ways)
	for n := s.noisy; n > 0; n >>= 1 {
		if n&1 == 1 {
			p.Mul(p, one)
		}
		one.Mul(one, one)
	}
	if p.MantExp(nil) < -1100-int(s.bits) {
		return // it would be 0 as a float64, and a sum would be as long as it is small
	}
	s.sums[t].Add(s.sums[t], p)
}

// BlastRadius returns which part of the tenants loses 0, 1, 2 and so on up to Size of its
// nodes when some nodes fail, whichever they are. The last is who is down. It is the same
// with zones and without. When all of one zone fails, a tenant loses no more than its part
// there, which is Size by Zones, rounded up.
func (d Design) BlastRadius(failed int) []float64 {
	if d.Validate() != nil {
		return nil
	}
	k := d.size()
	failed = min(max(0, failed), d.Nodes)
	lost := make([]float64, k+1)
	for j := range lost {
		ways := choose(k, j)
		ways.Mul(ways, choose(d.Nodes-k, failed-j))
		lost[j], _ = new(big.Rat).SetFrac(ways, choose(d.Nodes, failed)).Float64()
	}
	return lost
}

// MaxTenants returns how many tenants there can be at the very most if no two have more
// than overlap nodes in common: the bound of Johnson (1962), which not every design comes
// near. An overlap of Size or more is no bound at all; it is taken for one less, so that
// no two tenants have the same nodes.
func (d Design) MaxTenants(overlap int) *big.Int {
	all := d.Combinations()
	k := d.size()
	if all.Sign() == 0 {
		return all
	}
	bound := big.NewInt(1)
	for i := min(max(0, overlap), k-1); i >= 0; i-- {
		bound.Mul(bound, big.NewInt(int64(d.Nodes-i)))
		bound.Quo(bound, big.NewInt(int64(k-i)))
	}
	if bound.Cmp(all) > 0 {
		return all
	}
	return bound
}

// Plan puts shuffle shards beside what else one could do, for some tenants.
func (d Design) Plan(tenants int) Plan {
	p := Plan{Design: d, Tenants: max(0, tenants)}
	if d.Validate() != nil {
		return p
	}
	k := d.size()
	p.Spare = math.Inf(1)
	if k > 1 {
		p.Spare = 1 / float64(k-1)
	}
	p.Plain = d.plain(p.Tenants)
	p.Shuffled = d.shuffled(p.Tenants)
	p.Dedicated = Scheme{
		Nodes: int64(k) * int64(p.Tenants), Shards: big.NewInt(int64(p.Tenants)), PerNode: 1,
		NodeLoss: 1 / float64(max(1, p.Tenants)),
	}
	return p
}
