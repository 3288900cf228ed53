package hashring

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// BalancerConfig says how much load a [Balancer] lets a node have.
type BalancerConfig struct {
	// Name is carried in errors and Stats. It is for people, and need not be unique.
	Name string

	// Factor bounds the load of a node: it has at most so many times what would be its
	// share by weight. At 1 there would be no room for chance: it must be at least 1.001,
	// and at most 100. If zero, 1.25, by which of keys that are equally busy hardly any
	// leave their owner; see the table in [Balancer] for what a smaller one costs. If
	// negative, there is no bound, and loads are only counted.
	Factor float64

	// MinCap is how much load each node may have in any case. If zero, 8. With little to
	// do the share of a node is less than one request, and a bound that followed it down
	// there would send a client's second request elsewhere than its first, to save a node
	// that has nothing to do. Of 50 clients that ask 100 nodes twice a second, for
	// requests of a second, so many percent go to their owner:
	//
	//	MinCap   1   2   4   8
	//	         39  40  77  98
	//
	// A node that cannot do 8 at a time needs less.
	MinCap int

	// Exact has all callers share one count of the load of all nodes. If zero, there are
	// eight, which are summed up when the bound needs it: with many processors that is
	// several times faster. The bound then goes by a sum that may be off by the requests
	// that begin or end while it is taken. In both cases no race lets a node above its
	// bound.
	Exact bool

	// Eligible reports whether a node may have load at this moment: whether it is
	// healthy, for example. It is called on the caller's goroutine, under no lock, and
	// should look up and not ask. The keys of a node that is not eligible go to the next
	// in their own order, and come back with it; the placement stays as it is. If nil,
	// all nodes are eligible.
	Eligible func(Node) bool

	// FailureHold is for how long a failure, as [Lease.Done] is told, counts as load of
	// its node. If zero, for as long as a success takes on average, which is found out by
	// timing one lease in 64, and at most 10s. If negative, not at all.
	FailureHold time.Duration
}

const (
	maxFactor  = 100
	stripesMax = 8
	longHold   = 10 * time.Second
	firstHold  = 100 * time.Millisecond // until something has succeeded
)

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [NewBalancer] panics with the same text.
func (c BalancerConfig) Validate() error {
	var bad []string
	if !(c.Factor <= 0 || c.Factor >= 1.001 && c.Factor <= maxFactor) {
		bad = append(bad, fmt.Sprintf(
			"Factor is %v, but must be at least 1.001 and at most %d, or negative",
			c.Factor, maxFactor))
	}
	if c.MinCap < 0 || c.MinCap > math.MaxInt32 {
		bad = append(bad, fmt.Sprintf(
			"MinCap is %d, but must be from 1 to %d", c.MinCap, math.MaxInt32))
	}
	if bad == nil {
		return nil
	}
	return errors.New("hashring: BalancerConfig" + quoted(c.Name) + ": " +
		strings.Join(bad, "; "))
}

// bound is the rule by which a node has room. Loads are counted in requests, the factor
// in thousandths: whether a node is full should not hang on how a product rounds.
type bound struct {
	factor uint64 // in thousandths; 0: none
	minCap uint64
}

func (c BalancerConfig) bound() bound {
	b := bound{minCap: uint64(cmp.Or(c.MinCap, 8))}
	if c.Factor >= 0 {
		b.factor = uint64(math.Round(cmp.Or(c.Factor, 1.25) * 1000))
	}
	return b
}
