package cell

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
)

// table is a snapshot made ready for lookups. It is never changed.
type table struct {
	snapshot *Snapshot
	sum      [32]byte // of its encoding
	cells    []Cell   // of the snapshot

	shift    uint    // of a hash, and 1 more, for a slot
	entries  []entry // those of the slots, and then all others
	names    index   // tenants, split or not
	prefixes prefixes
}

// entry is an Assignment with indexes of cells.
type entry struct {
	epoch      uint64
	cell, peer uint16
	phase      Phase
}

const noPeer = math.MaxUint16

// span is where the parts of a tenant are, of which there is one if it is not split.
type span struct {
	first, n uint32
	split    bool
}

func newTable(s *Snapshot, sum [32]byte) *table {
	t := &table{
		snapshot: s, sum: sum, cells: s.Cells,
		shift: uint(63 - bits.TrailingZeros(uint(len(s.Slots)))),
	}
	number := make(map[string]uint16, len(s.Cells)+1)
	for i := range s.Cells {
		number[s.Cells[i].ID] = uint16(i)
	}
	number[""] = noPeer
	add := func(all ...Assignment) span {
		first := uint32(len(t.entries))
		for _, a := range all {
			t.entries = append(t.entries, entry{a.Epoch, number[a.Cell], number[a.Peer], a.Phase})
		}
		return span{first: first, n: uint32(len(all))}
	}
	t.entries = make([]entry, 0, len(s.Slots)+len(s.Tenants)+len(s.Prefixes))
	t.names = newIndex(len(s.Tenants) + len(s.Splits))
	add(s.Slots...)
	for tenant, a := range s.Tenants {
		t.names.add(tenant, add(a))
	}
	for tenant, parts := range s.Splits {
		at := add(parts...)
		at.split = true
		t.names.add(tenant, at)
	}
	t.prefixes = newPrefixes(slices.Sorted(maps.Keys(s.Prefixes)))
	t.prefixes.first = uint32(len(t.entries))
	for _, name := range t.prefixes.names {
		add(s.Prefixes[name])
	}
	return t
}

// find returns the entry of a tenant, or of its part that has the key, and what says so.
func (t *table) find(tenant, key string) (uint32, string) {
	h := xxh64(tenant)
	if at, ok := t.names.find(tenant, h); ok {
		if !at.split {
			return at.first, sourceTenant
		}
		return at.first + uint32(part(xxh64(key), int(at.n))), sourceSplit
	}
	if i, ok := t.prefixes.longest(tenant); ok {
		return t.prefixes.first + uint32(i), sourcePrefix
	}
	return uint32(h >> 1 >> t.shift), sourceSlot
}

// prefixes finds the longest of some names that a tenant begins with. That is a search
// among those that share its first byte, of which there are most often none.
type prefixes struct {
	names  []string
	parent []int32 // the longest of the others that the name begins with, or -1
	byte1  [257]int32
	first  uint32 // entry
}

func newPrefixes(sorted []string) prefixes {
	p := prefixes{names: sorted, parent: make([]int32, len(sorted))}
	for i, name := range sorted {
		p.byte1[int(name[0])+1]++
		p.parent[i] = int32(p.fit(i-1, name))
	}
	for b := range 256 {
		p.byte1[b+1] += p.byte1[b]
	}
	return p
}

// longest needs to try only the last name that does not come after the tenant, and what
// that begins with: whatever lies between a prefix of the tenant and the tenant begins
// with the same.
func (p *prefixes) longest(tenant string) (int, bool) {
	if tenant == "" {
		return 0, false
	}
	low, high := p.byte1[tenant[0]], p.byte1[int(tenant[0])+1]
	if low == high {
		return 0, false
	}
	i, found := slices.BinarySearch(p.names[low:high], tenant)
	if !found {
		i--
	}
	i = p.fit(int(low)+i, tenant)
	return i, i >= 0
}

// fit returns the first of i, its parent, and so on that s begins with, or -1.
func (p *prefixes) fit(i int, s string) int {
	for i >= 0 && !strings.HasPrefix(s, p.names[i]) {
		i = int(p.parent[i])
	}
	return i
}
