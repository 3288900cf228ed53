package shuffle_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stormjib/stormjib/shuffle"
)

// These shards and fingerprints were the same on all machines from the first version of this
// layout on. If one of them changes, tenants move all over a fleet while a release is rolled
// out: that is another layout, a new number for the constant of this name, and a line in the
// changelog that says so in its first words.
func TestGolden(t *testing.T) {
	for _, test := range []struct {
		name   string
		nodes  []shuffle.Node
		cfg    shuffle.Config
		print  uint64
		shards string // of four tenants, and what is picked for a key
		sum    uint64 // over those of many
	}{
		{
			"plain", fleet(9, 1),
			shuffle.Config{},
			0x7cac79bbc778e168, "5,3,7,5 5,1,4,1 0,3,6,3 3,6,7,7",
			0x2452b82a8bd295a4,
		},
		{
			"zones", fleet(9, 3),
			shuffle.Config{Size: 4, Seed: 7},
			0x9123be0aca9bb800, "7,8,3,3 1,2,0,4 7,0,5,7 5,3,4,3",
			0xf001b7572a2f418e,
		},
		{
			"weights", fleet(9, 2, 1, 2, 5, 4294967, 0),
			shuffle.Config{Size: 2},
			0xa8f574361bb90018, "3,8,8 8,3,3 3,8,8 3,8,8",
			0xfde2c2cce6500756,
		},
		{
			"large", fleet(300, 3, 1, 2),
			shuffle.Config{Size: 20},
			0xf2244a6926d88f48, "13,279,83,171 185,31,258,79 181,36,56,119 185,105,199,111",
			0x3a6536f0be846ee9,
		},
		{
			"overrides", fleet(9, 1), shuffle.Config{
				Overrides: map[string][]string{"acme": {"node-1", "node-2"}},
				Dedicated: map[string][]string{"whale": {"node-3"}},
				Hash:      func(name string) uint64 { return uint64(len(name)) },
			}, 0xb4fce625cb4c78a3, "1,5,2,5 1,2,2 3,3 1,6,5,5", 0x48935e9f4e94648a,
		},
	} {
		s := newSharder(t, test.nodes, test.cfg)
		if got := s.Fingerprint(); got != test.print {
			t.Errorf("%s: fingerprint %#x, want %#x", test.name, got, test.print)
		}
		var got []string
		for _, name := range []string{"", "acme", "whale", strings.Repeat("long", 100)} {
			shard := ""
			for _, n := range s.Shard(name)[:min(3, len(s.Shard(name)))] {
				shard += strings.TrimPrefix(n.ID, "node-") + ","
			}
			picked, _ := s.Pick(name, "key")
			got = append(got, shard+strings.TrimPrefix(picked.ID, "node-"))
		}
		if got := strings.Join(got, " "); got != test.shards {
			t.Errorf("%s: got nodes %s, want %s", test.name, got, test.shards)
		}
		sum := xxhash.New()
		for i := range 3000 {
			for _, n := range s.Shard(tenant(i)) {
				sum.WriteString(n.ID)
			}
			picked, _ := s.Pick(tenant(i), "key")
			sum.WriteString(picked.ID)
		}
		if got := sum.Sum64(); got != test.sum {
			t.Errorf("%s: got nodes with sum %#x, want %#x", test.name, got, test.sum)
		}
	}
}

// What a registry assigns must not change either: a process that restores one goes on from
// there.
func TestGoldenRegistry(t *testing.T) {
	r := newRegistry(t, fleet(20, 2, 1, 3), shuffle.RegistryConfig{Size: 5, MaxOverlap: 2})
	for i := range 100 {
		_, _ = r.Assign(tenant(i)) // the last ones find none
	}
	data, err := r.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if got := xxhash.Sum64(data); got != 0xf3e617bb551cd9d8 {
		t.Errorf("got %#x", got)
	}
}

// Who has which nodes must not depend on how a machine rounds.
func TestNoFloats(t *testing.T) {
	for _, file := range []string{
		"node.go", "shuffle.go", "fingerprint.go", "registry.go", "packing.go", "restore.go",
		"../internal/rendezvous/bid.go", "../internal/rendezvous/nodes.go",
		"../internal/rendezvous/sieve.go",
	} {
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				if slices.Contains([]string{"float64", "float32", "complex128"}, n.Name) {
					t.Errorf("%v: %s", fset.Position(n.Pos()), n.Name)
				}
			case *ast.BasicLit:
				if n.Kind == token.FLOAT {
					t.Errorf("%v: %s", fset.Position(n.Pos()), n.Value)
				}
			}
			return true
		})
	}
}
