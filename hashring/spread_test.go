package hashring_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

func TestSpread(t *testing.T) {
	for n, want := range map[int][]string{
		-1: {"a"}, 0: {"a"}, 1: {"a"}, 3: {"a", "a#1", "a#2"},
	} {
		if got := slices.Collect(hashring.Spread("a", n)); !slices.Equal(got, want) {
			t.Errorf("%d: %v", n, got)
		}
	}
	for part := range hashring.Spread("a", math.MaxInt) { // costs nothing ahead
		if part == "a#3" {
			break
		}
	}
	if got := hashring.SubKey("a", -1); got != "a" {
		t.Errorf("part -1 is %q", got)
	}
}

// No two keys and parts have the same name, digits and separators or not.
func TestSubKeyNames(t *testing.T) {
	seen := map[string]string{}
	for _, key := range []string{"", "a", "a1", "1", "a#", "#", "##"} {
		for i := 1; i < 200; i++ {
			name := hashring.SubKey(key, i)
			whose := fmt.Sprintf("part %d of %q", i, key)
			if other, ok := seen[name]; ok {
				t.Errorf("%s is also %s", whose, other)
			}
			seen[name] = whose
		}
	}
}

// When a node goes, the parts that it had move, and no others.
func TestSpreadMoves(t *testing.T) {
	nodes := cluster(20)
	all, less := ringOf(t, nodes), ringOf(t, slices.Delete(slices.Clone(nodes), 7, 8))
	for part := range hashring.Spread("counter", 16) {
		owner, _ := all.OwnerHash(all.Hash(part))
		now, _ := less.OwnerHash(less.Hash(part))
		if now != owner && owner.ID != nodes[7].ID {
			t.Errorf("%s moved from %s to %s, and %s went", part, owner.ID, now.ID, nodes[7].ID)
		}
	}
}
