package hashring_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stormjib/stormjib/hashring"
)

// These owners and fingerprints were the same on all machines from the first version of this
// layout on. If one of them changes, keys move all over a fleet while a release is rolled out:
// that is another layout, a new number for the constant of this name, and a line in the
// changelog that says so in its first words.
func TestGolden(t *testing.T) {
	weighted := fleet(9, 3, 1, 2, 5, 4294967, 0)
	for _, test := range []struct {
		name   string
		make   func() (placement, error)
		print  uint64
		owners string // the first three nodes of each of four keys
		sum    uint64 // over the first four of many
	}{
		{
			"ring", func() (placement, error) {
				return hashring.NewRing(fleet(9, 3), hashring.RingConfig{})
			}, 0x7bc6f7b387d83fb5, "018 027 531 105", 0xa08de6576ce6a66b,
		},
		{
			"weighted ring", func() (placement, error) {
				cfg := hashring.RingConfig{VNodes: 40, Seed: 7}
				return hashring.NewRing(fleet(9, 2, 1, 2, 5), cfg)
			}, 0x8693b06f24d7f950, "583 814 543 385", 0xf2f4f63df660a6cd,
		},
		{
			"table", func() (placement, error) {
				return hashring.NewTable(fleet(9, 3), hashring.TableConfig{})
			}, 0x874ae45856db800a, "813 375 042 018", 0x215cba09850b115e,
		},
		{
			"weighted table", func() (placement, error) {
				cfg := hashring.TableConfig{Slots: 512, Excess: 1, Seed: 7}
				return hashring.NewTable(weighted, cfg)
			}, 0x876b89da61f85cf1, "381 387 837 837", 0x45ef5b38e8621e17,
		},
		{
			"table, SipHash", func() (placement, error) {
				return hashring.NewTable(fleet(9, 1), hashring.TableConfig{
					Slots: 512, Excess: -1, Hash: hashring.SipHash([16]byte{15: 1}),
				})
			}, 0x5646260971f5bcf3, "016 650 032 135", 0x8b5a1db763fbd40c,
		},
	} {
		p, err := test.make()
		if err != nil {
			t.Fatal(err)
		}
		if p.Fingerprint() != test.print {
			t.Errorf("%s: fingerprint %#x, want %#x", test.name, p.Fingerprint(), test.print)
		}
		var got []string
		for _, key := range []string{"", "a", "user:42", strings.Repeat("long", 100)} {
			three := ""
			for _, n := range p.Append(nil, key, 3) {
				three += strings.TrimPrefix(n.ID, "node-")
			}
			got = append(got, three)
		}
		if got := strings.Join(got, " "); got != test.owners {
			t.Errorf("%s: got nodes %s, want %s", test.name, got, test.owners)
		}
		sum := xxhash.New()
		for key := range keys(3000) {
			for _, n := range p.Append(nil, key, 4) {
				sum.WriteString(n.ID)
			}
		}
		if got := sum.Sum64(); got != test.sum {
			t.Errorf("%s: got nodes with sum %#x, want %#x", test.name, got, test.sum)
		}
	}
}

// Where keys go must not depend on how a machine rounds. So there is no floating-point number
// on the way, not even where it would do no harm.
func TestNoFloatsInPlacement(t *testing.T) {
	for _, file := range []string{
		"placement.go", "roster.go", "ring.go", "ring_walk.go", "table.go", "table_fill.go",
		"table_limit.go", "siphash.go", "../internal/rendezvous/rendezvous.go",
		"../internal/rendezvous/cost.go", "../internal/rendezvous/logs.go",
		"../internal/rendezvous/bid.go", "../internal/rendezvous/nodes.go",
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
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "math" &&
					!strings.HasPrefix(n.Sel.Name, "Max") {
					t.Errorf("%v: math.%s", fset.Position(n.Pos()), n.Sel.Name)
				}
			}
			return true
		})
	}
}
