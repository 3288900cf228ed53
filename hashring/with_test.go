package hashring_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

// Whatever list a placement came by, it is the one that the list makes. Nodes that go and
// come again have the keys that they had.
func TestWithIsNew(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		rnd := rand.New(rand.NewPCG(2, 2))
		for round := range 10 {
			all := fleet(40, 1+round%5, []uint32{1, 1, 3, 0, 7}[:1+round%5]...)
			there := map[string]hashring.Node{}
			for _, n := range all[:1+rnd.IntN(20)] {
				there[n.ID] = n
			}
			p := k.of(t, slices.Collect(maps.Values(there)))
			for range 4 {
				add, remove := change(rnd, all, there)
				next, err := k.with(p, add, remove...)
				if err != nil {
					t.Fatal(err)
				}
				p = next
				agree(t, p, k.of(t, slices.Collect(maps.Values(there))))
			}
		}
	})
}

// A node that goes and comes back finds everything as it was, the only one and the last by ID
// among them.
func TestThereAndBack(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		nodes := fleet(8, 2, 1, 2)
		p := k.of(t, nodes)
		for i, n := range nodes {
			less, err := k.with(p, nil, n.ID)
			if err != nil {
				t.Fatal(err)
			}
			back, err := k.with(less, nodes[i:i+1])
			if err != nil {
				t.Fatal(err)
			}
			agree(t, back, p)
		}
		one := k.of(t, nodes[:1])
		other, err := k.with(one, nodes[1:2], nodes[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		agree(t, other, k.of(t, nodes[1:2]))
	})
}

// change picks some nodes to add and to remove, and to replace by heavier ones.
func change(
	rnd *rand.Rand, all []hashring.Node, there map[string]hashring.Node,
) (add []hashring.Node, remove []string) {
	for _, n := range all {
		_, is := there[n.ID]
		switch rnd.IntN(12) {
		case 0:
			if is {
				remove = append(remove, n.ID)
				n.Weight += 2
			}
			add = append(add, n)
			there[n.ID] = n
		case 1:
			if is && len(there) > 1 {
				remove = append(remove, n.ID)
				delete(there, n.ID)
			}
		}
	}
	return add, remove
}

func FuzzPlacement(f *testing.F) {
	f.Add(byte(3), byte(2), []byte("abcabc"), "key")
	f.Add(byte(0), byte(0), []byte{0, 1, 0, 1}, "")
	f.Add(byte(9), byte(1), []byte("\xff\xfe\xff\xfd\xfc"), "\x00")
	f.Fuzz(func(t *testing.T, zones, weights byte, script []byte, key string) {
		script = script[:min(len(script), 12)]
		for _, k := range kinds() {
			fuzzPlacement(t, k, int(zones), uint32(weights), script, key)
		}
	})
}

// fuzzPlacement adds a node for each byte of a script, or removes it if it is there.
func fuzzPlacement(t *testing.T, k kind, zones int, weights uint32, script []byte, key string) {
	t.Helper()
	there := map[string]hashring.Node{"0": {ID: "0"}}
	p := k.of(t, []hashring.Node{{ID: "0"}})
	for _, b := range script {
		n := hashring.Node{
			ID: fmt.Sprint(b), Zone: fmt.Sprint(int(b) % (zones + 1)),
			Weight: uint32(b) % (weights + 1),
		}
		_, is := there[n.ID]
		var next placement
		var err error
		switch {
		case !is:
			there[n.ID] = n
			next, err = k.with(p, []hashring.Node{n})
		case len(there) > 1:
			delete(there, n.ID)
			next, err = k.with(p, nil, n.ID)
		default:
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		p = next
	}
	fresh := k.of(t, slices.Collect(maps.Values(there)))
	if p.Fingerprint() != fresh.Fingerprint() {
		t.Fatal("fingerprints differ")
	}
	a, b := p.Append(nil, key, 300), fresh.Append(nil, key, 300)
	if !slices.Equal(a, b) || len(a) != len(there) {
		t.Fatalf("%q: %v, and made at once %v", key, a, b)
	}
	d := hashring.Diff(p, fresh)
	if d.Moved != 0 {
		t.Fatalf("%v of the keys have moved", d.Moved)
	}
}
