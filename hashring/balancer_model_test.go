package hashring_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

// balancerModel does what a Balancer does, one step at a time and in plain arithmetic.
type balancerModel struct {
	factor int64 // in thousandths
	minCap int64
	p      hashring.Placement
	epoch  map[string]int // of the nodes that are there: which time they are
	loads  map[string]int64
	epochs int
}

func (m *balancerModel) set(p hashring.Placement) {
	m.p = p
	epoch, loads := map[string]int{}, map[string]int64{}
	for _, n := range p.Nodes() {
		m.epochs++
		epoch[n.ID] = m.epochs
		if e, ok := m.epoch[n.ID]; ok {
			epoch[n.ID], loads[n.ID] = e, m.loads[n.ID]
		}
	}
	m.epoch, m.loads = epoch, loads
}

// limit is factor * total * weight / all, rounded up.
func (m *balancerModel) limit(weight uint32, all, total int64) int64 {
	n := big.NewInt(m.factor)
	n.Mul(n, big.NewInt(total)).Mul(n, big.NewInt(int64(weight)))
	d := new(big.Int).Mul(big.NewInt(all), big.NewInt(1000))
	n.Add(n, d).Sub(n, big.NewInt(1))
	return max(m.minCap, n.Div(n, d).Int64())
}

// acquire returns the node that has room for a key, or "", by those that are eligible.
func (m *balancerModel) acquire(key string, down map[string]bool) string {
	nodes := m.p.AppendHash(nil, m.p.Hash(key), len(m.epoch))
	if id := m.room(nodes, nodes, down); id != "" {
		return id
	}
	up := slices.DeleteFunc(slices.Clone(nodes), func(n hashring.Node) bool { return down[n.ID] })
	return m.room(up, up, nil)
}

// room returns the first that has some, by the load of among.
func (m *balancerModel) room(nodes, among []hashring.Node, down map[string]bool) string {
	all, total := int64(0), int64(1)
	for _, n := range among {
		all += int64(n.Weight)
		total += m.loads[n.ID]
	}
	for _, n := range nodes {
		if !down[n.ID] && m.loads[n.ID] < m.limit(n.Weight, all, total) {
			m.loads[n.ID]++
			return n.ID
		}
	}
	return ""
}

type modelLease struct {
	*hashring.Lease
	epoch int
}

// play takes what to do from data, and compares.
func play(t *testing.T, exact bool, minCap int, data []byte) {
	t.Helper()
	down := map[string]bool{}
	cfg := hashring.BalancerConfig{MinCap: minCap, Exact: exact}
	if len(data)%4 < 2 { // the others go the faster way
		cfg.Eligible = func(n hashring.Node) bool { return !down[n.ID] }
	}
	b := hashring.NewBalancer(nil, cfg)
	m := &balancerModel{factor: 1250, minCap: int64(minCap)}
	set := func(members byte) {
		var nodes []hashring.Node
		for i := range 8 {
			if members>>i&1 == 1 {
				nodes = append(nodes, hashring.Node{ID: fmt.Sprint(i), Weight: uint32(i%3 + 1)})
			}
		}
		if nodes == nil {
			return
		}
		r := ringOf(t, nodes)
		if err := b.Set(r); err != nil {
			t.Fatal(err)
		}
		m.set(r)
	}
	set(0xff)
	var leases []modelLease
	for i := 0; i+1 < len(data); i += 2 {
		arg := data[i+1]
		switch do := data[i] % 16; {
		case do == 0:
			set(arg)
		case do == 1:
			clear(down)
			if cfg.Eligible == nil {
				break
			}
			for i := range 8 {
				down[fmt.Sprint(i)] = arg>>i&1 == 1
			}
		case do < 6 && len(leases) > 0:
			l := leases[int(arg)%len(leases)] // which may have ended before
			id := l.Node().ID
			if m.epoch[id] == l.epoch && l.epoch != 0 {
				m.loads[id]--
			}
			leases[int(arg)%len(leases)].epoch = 0
			l.Release()
		default:
			key := fmt.Sprint("key", arg%16)
			want := m.acquire(key, down)
			l, err := b.Acquire(key)
			if l.Node().ID != want || (err == nil) != (want != "") {
				t.Fatalf("step %d: key %s: got %q, %v, want %q", i/2, key, l.Node().ID, err, want)
			}
			if err == nil {
				leases = append(leases, modelLease{&l, m.epoch[want]})
			}
		}
		for id, n := range loads(t, b) {
			if int64(n) != m.loads[id] {
				t.Fatalf("step %d: %s has %d, want %d", i/2, id, n, m.loads[id])
			}
		}
	}
}

func TestBalancerModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		data := make([]byte, 600+round%4)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		play(t, round%2 == 0, round/4%4+1, data)
	}
}

func FuzzBalancer(f *testing.F) {
	f.Add(true, byte(1), []byte("key by key, until nothing fits"))
	f.Add(false, byte(3), []byte{9, 1, 9, 1, 9, 1, 0, 3, 9, 1, 2, 0, 0, 255, 1, 7, 9, 1})
	f.Fuzz(func(t *testing.T, exact bool, minCap byte, data []byte) {
		play(t, exact, int(minCap%8)+1, data[:min(len(data), 2000)])
	})
}
