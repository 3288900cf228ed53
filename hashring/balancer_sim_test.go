package hashring_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

// What the documentation says of loads, found out by simulation. To see the tables:
//
//	go test ./hashring -run Loads -v -table

func printf(format string, args ...any) {
	if *table {
		fmt.Printf(format, args...)
	}
}

// within fails unless a figure is in the band that is promised.
func within(t *testing.T, what string, got, from, to float64) {
	t.Helper()
	if !(got >= from && got <= to) {
		t.Errorf("%s is %.4f, want from %.4f to %.4f", what, got, from, to)
	}
}

// closedLoop has so many requests under way all the time: one begins whenever another, any of
// them, has ended.
type closedLoop struct {
	*rand.Rand
	p        hashring.Placement
	b        *hashring.Balancer
	key      func() string
	owners   func(key string) int // nil: 1
	inFlight int
	steps    int
}

type loopResult struct {
	probes  float64 // nodes that were asked for room, on average
	most    int     // and at most
	spilled float64 // share of requests that no owner got
	busiest float64 // load of the busiest node over the average, on average
	misses  float64 // share of requests whose node had not seen the key before
}

func (c *closedLoop) run(t *testing.T) (r loopResult) {
	t.Helper()
	var leases []*hashring.Lease
	met := map[[2]string]bool{}
	n, samples := len(c.p.Nodes()), 0
	for step := range c.inFlight + c.steps {
		key, owners := c.key(), 1
		if c.owners != nil {
			owners = c.owners(key)
		}
		if step >= c.inFlight {
			i := c.IntN(len(leases))
			leases[i].Release()
			leases[i] = leases[len(leases)-1]
			leases = leases[:len(leases)-1]
		}
		l, err := c.b.AcquireSpread(key, owners, nil)
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, &l)
		seen := met[[2]string{key, l.Node().ID}]
		met[[2]string{key, l.Node().ID}] = true
		if step < c.inFlight {
			continue
		}
		if !seen {
			r.misses += 1 / float64(c.steps)
		}
		probes := c.placeOf(key, l.Node().ID, n)
		r.probes += float64(probes) / float64(c.steps)
		r.most = max(r.most, probes)
		if probes > owners {
			r.spilled += 1 / float64(c.steps)
		}
		if step%1000 == 0 {
			samples++
			r.busiest += busiest(c.b.Stats())
		}
	}
	r.busiest /= float64(samples)
	return r
}

// placeOf returns the place of a node in a key's order, counted from 1: how many nodes had to
// be asked.
func (c *closedLoop) placeOf(key, id string, n int) int {
	h := c.p.Hash(key)
	for _, few := range []int{3, n} {
		nodes := c.p.AppendHash(nil, h, few)
		if i := slices.IndexFunc(nodes, func(n hashring.Node) bool { return n.ID == id }); i >= 0 {
			return i + 1
		}
	}
	panic("a node that is not there")
}

func busiest(s hashring.BalancerStats) float64 {
	most := 0
	for _, n := range s.Nodes {
		most = max(most, n.InFlight)
	}
	return float64(most) * float64(len(s.Nodes)) / float64(max(1, s.InFlight))
}

// placedOnce is the setting of the paper: so many keys are placed one by one, with the bound
// known from the beginning, and stay. It is the mean of several times.
func placedOnce(p hashring.Placement, keys int, factor float64) (r loopResult) {
	const times = 8
	asked, spilled := 0, 0
	for seed := range uint64(times) {
		asks, most, spills := placeOnce(p, keys, factor, rand.New(rand.NewPCG(7, seed)))
		asked += asks
		spilled += spills
		r.most = max(r.most, most)
	}
	r.probes = float64(asked) / float64(times*keys)
	r.spilled = float64(spilled) / float64(times*keys)
	return r
}

func placeOnce(
	p hashring.Placement, keys int, factor float64, rnd *rand.Rand,
) (asked, most, spilled int) {
	n := len(p.Nodes())
	limit := hashring.Limit(hashring.BalancerConfig{Factor: factor, MinCap: 1},
		1, uint64(n), int64(keys))
	loads := map[string]uint64{}
	for range keys {
		h, probes := rnd.Uint64(), 0
		for _, few := range []int{3, n} {
			for i, node := range p.AppendHash(nil, h, few) {
				if probes == 0 && loads[node.ID] < limit {
					loads[node.ID]++
					probes = i + 1
				}
			}
			if probes > 0 {
				break
			}
		}
		asked += probes
		most = max(most, probes)
		if probes > 1 {
			spilled++
		}
	}
	return asked, most, spilled
}

// Bounded loads with as many keys as requests: what the bound costs, by where that which is
// spilled goes. Where requests come and go it costs more than where keys are placed once, for
// what was spilled fills up nodes that then spill their own.
func TestLoadsBounded(t *testing.T) {
	nodes := cluster(100)
	ring1, err := hashring.NewRing(nodes, hashring.RingConfig{VNodes: 1})
	if err != nil {
		t.Fatal(err)
	}
	type band [2]float64
	printf("%18s  %25s  %35s\n%-11s %6s  %11s %4s %8s  %11s %4s %8s %11s\n",
		"", "placed once", "coming and going", "10,000 keys", "factor",
		"nodes asked", "most", "spill %", "nodes asked", "most", "spill %", "busiest/avg")
	for _, test := range []struct {
		name                         string
		p                            hashring.Placement
		factor                       float64
		probes, spill, asked, spills band
	}{
		{
			"table", tableOf(t, nodes), 1.05,
			band{1, 1.045},
			band{0, 0.03},
			band{1, 1.25},
			band{0, 0.2},
		},
		{
			"table", tableOf(t, nodes), 1.25,
			band{1, 1.0005},
			band{0, 0.0005},
			band{1, 1.004},
			band{0, 0.004},
		},
		{
			"ring, 160", ringOf(t, nodes), 1.05,
			band{1.02, 1.06},
			band{0.02, 0.05},
			band{1.1, 1.3},
			band{0.1, 0.25},
		},
		{
			"ring, 160", ringOf(t, nodes), 1.25,
			band{1, 1.004},
			band{0, 0.004},
			band{1, 1.02},
			band{0, 0.02},
		},
		{
			"ring, 1", ring1, 1.05,
			band{3, 12},
			band{0.3, 0.6},
			band{3, 12},
			band{0.5, 0.8},
		},
		{
			"ring, 1", ring1, 1.25,
			band{1.5, 5},
			band{0.2, 0.5},
			band{1.8, 5},
			band{0.3, 0.6},
		},
	} {
		once := placedOnce(test.p, 10_000, test.factor)
		rnd := rand.New(rand.NewPCG(7, 7))
		r := (&closedLoop{
			Rand: rnd, p: test.p, inFlight: 10_000, steps: 20_000,
			b: hashring.NewBalancer(test.p, hashring.BalancerConfig{
				Factor: test.factor, MinCap: 1,
			}),
			key: func() string { return fmt.Sprint(rnd.Uint64()) },
		}).run(t)
		printf("%-11s %6.2f  %11.4f %4d %8.3f  %11.4f %4d %8.3f %11.3f\n",
			test.name, test.factor, once.probes, once.most, 100*once.spilled,
			r.probes, r.most, 100*r.spilled, r.busiest)
		what := fmt.Sprintf("%s, %v: ", test.name, test.factor)
		within(t, what+"nodes asked", once.probes, test.probes[0], test.probes[1])
		within(t, what+"spill", once.spilled, test.spill[0], test.spill[1])
		within(t, what+"nodes asked later", r.probes, test.asked[0], test.asked[1])
		within(t, what+"spill later", r.spilled, test.spills[0], test.spills[1])
		within(t, what+"busiest over average", r.busiest, 1, test.factor+0.0101)
	}
}

// Zipf keys: what a balance of slots does not promise, and what bounds and spreading bring.
func TestLoadsZipf(t *testing.T) {
	nodes := cluster(100)
	p := tableOf(t, nodes)
	hot := hashring.HotKeysConfig{Share: 0.005, MaxOwners: 20, Window: 20_000}
	printf("%-17s %11s %8s %8s\n", "100,000 Zipf keys", "busiest/avg", "spill %", "misses %")
	for _, test := range []struct {
		name    string
		factor  float64
		spread  bool
		busiest [2]float64
		spill   [2]float64
	}{
		{"owners alone", -1, false, [2]float64{8, 10}, [2]float64{0, 0}},
		{"bounded by 1.25", 1.25, false, [2]float64{1.2, 1.26}, [2]float64{0.2, 0.4}},
		{"hot keys spread", -1, true, [2]float64{1.6, 3}, [2]float64{0, 0}},
		{"both", 1.25, true, [2]float64{1.2, 1.26}, [2]float64{0.02, 0.15}},
	} {
		rnd := rand.New(rand.NewPCG(3, 3))
		next := zipf(rnd, 1, 100_000)
		c := &closedLoop{
			Rand: rnd, p: p, inFlight: 10_000, steps: 60_000,
			b:   hashring.NewBalancer(p, hashring.BalancerConfig{Factor: test.factor}),
			key: func() string { return fmt.Sprint("key-", next()) },
		}
		if test.spread {
			c.owners = hashring.NewHotKeys(hot).Observe
		}
		r := c.run(t)
		printf("%-17s %11.2f %8.2f %8.2f\n", test.name, r.busiest, 100*r.spilled, 100*r.misses)
		within(t, test.name+": busiest over average", r.busiest, test.busiest[0], test.busiest[1])
		within(t, test.name+": spill", r.spilled, test.spill[0], test.spill[1])
	}
}

// Fifty clients that ask twice a second keep their nodes, of 100, as long as their requests are
// not too long.
func TestLoadsAffinity(t *testing.T) {
	p := tableOf(t, cluster(100))
	printf("%-8s %18s\n%-8s %8s %8s %8s\n", "MinCap", "% with their owner", "",
		"0.1 s", "0.5 s", "1 s")
	for _, minCap := range []int{1, 2, 4, 8} {
		printf("%-8d", minCap)
		for _, takes := range []float64{0.1, 0.5, 1} { // seconds, on average
			got := affinity(t, p, minCap, takes)
			printf(" %8.2f", 100*got)
			if minCap == 8 {
				within(t, fmt.Sprintf("affinity with %v s", takes), got, 0.95, 1)
			}
			if minCap == 1 && takes == 1 {
				within(t, "affinity without a MinCap", got, 0.3, 0.8)
			}
		}
		printf("\n")
	}
}

// affinity returns the share of requests that their owners get. Time is simulated: requests
// come at random, and take times of an exponential distribution.
func affinity(t *testing.T, p hashring.Placement, minCap int, takes float64) float64 {
	t.Helper()
	const clients, perSecond, requests = 50, 100, 20_000
	type request struct {
		ends  float64
		lease *hashring.Lease
	}
	rnd := rand.New(rand.NewPCG(5, 5))
	b := hashring.NewBalancer(p, hashring.BalancerConfig{MinCap: minCap})
	var under []request
	now, kept := 0.0, 0
	for range requests {
		now += rnd.ExpFloat64() / perSecond
		under = slices.DeleteFunc(under, func(r request) bool {
			if r.ends <= now {
				r.lease.Release()
			}
			return r.ends <= now
		})
		key := fmt.Sprint("client-", rnd.IntN(clients))
		l := acquire(t, b, key)
		if owner, _ := p.OwnerHash(p.Hash(key)); owner == l.Node() {
			kept++
		}
		under = append(under, request{now + rnd.ExpFloat64()*takes, l})
	}
	return float64(kept) / requests
}

// Many clients, each of which knows its own load alone: MinCap is for each of them.
func TestLoadsOfManyClients(t *testing.T) {
	p := tableOf(t, cluster(100))
	const inFlight = 5000
	printf("%-8s %36s\n%-8s %8s %8s\n", "clients",
		"busiest/avg of 5,000 Zipf requests", "", "MinCap 8", "MinCap 1")
	for _, clients := range []int{1, 5, 50, 500} {
		printf("%-8d", clients)
		for _, minCap := range []int{8, 1} {
			rnd := rand.New(rand.NewPCG(9, 9))
			next := zipf(rnd, 1, 100_000)
			sums := map[string]int{}
			for range clients {
				b := hashring.NewBalancer(p, hashring.BalancerConfig{MinCap: minCap})
				for range inFlight / clients {
					sums[acquire(t, b, fmt.Sprint("key-", next())).Node().ID]++
				}
			}
			most := 0
			for _, n := range sums {
				most = max(most, n)
			}
			got := float64(most) * 100 / inFlight
			printf(" %8.2f", got)
			bound := 100 * float64(clients) / inFlight * float64(max(minCap, inFlight/clients/80+1))
			within(t, fmt.Sprintf("%d clients, MinCap %d", clients, minCap), got, 1, bound)
			if clients == 500 && minCap == 8 {
				within(t, "500 clients: busiest over average", got, 3, 10)
			}
		}
		printf("\n")
	}
}
