package cell_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stormjib/stormjib/shuffle/cell"
)

// The slots of all tenants depend on it, for ever.
func TestSlotsAreThoseOfXXH64(t *testing.T) {
	s := &cell.Snapshot{Slots: make([]cell.Assignment, 1<<16)}
	r := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 300)
	for i := range text {
		text[i] = byte(r.Uint32())
	}
	for n := range text {
		tenant := string(text[:n])
		if got, want := s.Slot(tenant), int(xxhash.Sum64String(tenant)>>48); got != want {
			t.Fatalf("%d bytes: slot %d, want %d", n, got, want)
		}
	}
	for tenant, want := range map[string]int{
		"": 0xef46, "a": 0xd24e, "acme": 0xbb18, "stormjib": 0xd696,
		strings.Repeat("tenant-", 10): 0xe045,
	} {
		if got := s.Slot(tenant); got != want {
			t.Errorf("slot of %q is %#x, want %#x", tenant, got, want)
		}
	}
	one := &cell.Snapshot{Slots: make([]cell.Assignment, 1)}
	if got := one.Slot("acme"); got != 0 {
		t.Errorf("of one slot: %d", got)
	}
	two := &cell.Snapshot{Slots: make([]cell.Assignment, 2)}
	if two.Slot("a") != 1 || two.Slot("tenant-0") != 0 {
		t.Errorf("of two slots: %d, %d", two.Slot("a"), two.Slot("tenant-0"))
	}
}
