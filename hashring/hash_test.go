package hashring_test

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

// A bad hash of keys is as good as any, as long as keys have different ones.
func TestWeakHash(t *testing.T) {
	weak := func(key string) uint64 {
		h := fnv.New32a()
		h.Write([]byte(key))
		return uint64(h.Sum32())
	}
	each(t, func(t *testing.T, k kind) {
		for name, hash := range map[string]func(string) uint64{
			"fnv": weak, "numbers": func(key string) uint64 { return uint64(len(key)) },
		} {
			p, err := k.make(fleet(10, 1), config{hash: hash})
			if err != nil {
				t.Fatal(err)
			}
			counts := map[string]float64{}
			for i := range 100000 {
				key := fmt.Sprintf("user:%d", i)
				if name == "numbers" {
					key = strings.Repeat("x", i%1000)
				}
				n, _ := p.Owner(key)
				counts[n.ID]++
			}
			for _, share := range p.Report().Nodes {
				within := map[string]float64{"fnv": .004, "numbers": .05}[name]
				if d := counts[share.Node.ID]/100000 - share.Share; math.Abs(d) > within {
					t.Errorf("%s: %v of the keys are with %s, whose share is %v",
						name, counts[share.Node.ID]/100000, share.Node.ID, share.Share)
				}
			}
		}
	})
}

// With one hash for all keys there is one order for all keys, and nothing worse. Nodes do not
// have their places by this hash.
func TestConstantHash(t *testing.T) {
	each(t, func(t *testing.T, k kind) {
		p, err := k.make(fleet(10, 2), config{hash: func(string) uint64 { return 0 }})
		if err != nil {
			t.Fatal(err)
		}
		want := p.Append(nil, "", 10)
		spreads(t, want, map[string]int{"zone-0": 5, "zone-1": 5})
		for key := range keys(100) {
			if got := p.Append(nil, key, 10); !slices.Equal(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
		if r := p.Report(); r.MinRatio < .3 {
			t.Errorf("report %+v", r)
		}
	})
}

// IDs and numbers of points are not written one behind the other. If they were, node 1 with
// point 23 and node 12 with point 3 would be one.
func TestNamesDoNotRunTogether(t *testing.T) {
	var nodes []hashring.Node
	for _, id := range []string{"", "0", "1", "11", "-", "-1", "1-1", "#", "\x00", "\x00\x00"} {
		for _, zone := range []string{"", "1", "11"} {
			nodes = append(nodes, hashring.Node{ID: "1" + id + "/" + zone, Zone: zone})
			nodes = append(nodes, hashring.Node{ID: "1" + zone + "//" + id, Zone: id})
		}
	}
	ring, err := hashring.NewRing(nodes, hashring.RingConfig{})
	if err != nil {
		t.Fatal(err)
	}
	places, _ := ring.Points()
	if got := len(slices.Compact(places)); got != 160*len(nodes) {
		t.Errorf("%d places for %d points", got, 160*len(nodes))
	}
	each(t, func(t *testing.T, k kind) {
		prints := map[uint64][]hashring.Node{}
		for _, list := range [][]hashring.Node{
			{{ID: "ab"}, {ID: "c"}},
			{{ID: "a"}, {ID: "bc"}},
			{{ID: "abc"}},
			{{ID: "a", Zone: "bc"}},
			{{ID: "ab", Zone: "c"}},
			{{ID: "a", Zone: "b"}, {ID: "c"}},
		} {
			fingerprint := k.of(t, list).Fingerprint()
			if other, ok := prints[fingerprint]; ok {
				t.Errorf("%v and %v have one fingerprint", list, other)
			}
			prints[fingerprint] = list
		}
	})
}

// Whatever makes a difference to an owner makes one to the fingerprint, and nothing else does.
func TestFingerprint(t *testing.T) {
	prints := map[uint64]string{}
	add := func(name string, p hashring.Placement, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := prints[p.Fingerprint()]; ok {
			t.Errorf("%s and %s have one fingerprint", name, other)
		}
		prints[p.Fingerprint()] = name
	}
	nodes := fleet(5, 2)
	sip := hashring.SipHash([16]byte{1})
	for name, cfg := range map[string]hashring.RingConfig{
		"ring": {}, "ring, seed": {Seed: 1}, "ring, vnodes": {VNodes: 161},
		"ring, hash": {Hash: sip}, "ring, other key": {Hash: hashring.SipHash([16]byte{2})},
	} {
		p, err := hashring.NewRing(nodes, cfg)
		add(name, p, err)
	}
	for name, cfg := range map[string]hashring.TableConfig{
		"table": {}, "table, seed": {Seed: 1}, "table, slots": {Slots: 1024},
		"table, hash": {Hash: sip}, "table, replicas": {Replicas: 2},
		"table, excess": {Excess: 10}, "table, none": {Excess: -1},
	} {
		p, err := hashring.NewTable(nodes, cfg)
		add(name, p, err)
	}
	for name, nodes := range map[string][]hashring.Node{
		"fewer": nodes[1:], "more": fleet(6, 2), "zones": fleet(5, 3), "weights": fleet(5, 2, 1, 2),
		"heavier": fleet(5, 2, 2),
	} {
		p, err := hashring.NewRing(nodes, hashring.RingConfig{})
		add(name, p, err)
	}
	for _, same := range []hashring.TableConfig{
		{Name: "x", Slots: 1 << 16, Replicas: 3, Excess: 5}, {Name: "y"},
	} {
		p, err := hashring.NewTable(nodes, same)
		if err != nil || prints[p.Fingerprint()] != "table" {
			t.Errorf("%+v is another table", same)
		}
	}
	off, err := hashring.NewTable(nodes, hashring.TableConfig{Excess: math.MinInt})
	if err != nil || prints[off.Fingerprint()] != "table, none" {
		t.Errorf("Excess: %v", err)
	}
}
