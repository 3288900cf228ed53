package cell

import "math/bits"

// index finds names by their XXH64, which whoever looks has at hand for the slot. A map
// would hash them again, which is a third of what a route costs. It is open addressing,
// at most half full, over numbers that take no more room than a cache has.
type index struct {
	shift   uint
	buckets []uint32 // a number of a name, and 1 more; 0: none
	names   []indexed
}

type indexed struct {
	name string
	hash uint64
	span span
}

// newIndex returns an index with room for n names.
func newIndex(n int) index {
	width := max(1, bits.Len(uint(2*n)))
	return index{uint(64 - width), make([]uint32, 1<<width), make([]indexed, 0, n)}
}

// add is for names that are not there yet.
func (x *index) add(name string, at span) {
	h := xxh64(name)
	x.names = append(x.names, indexed{name, h, at})
	i := h >> x.shift
	for x.buckets[i] != 0 {
		i = (i + 1) & uint64(len(x.buckets)-1)
	}
	x.buckets[i] = uint32(len(x.names))
}

func (x *index) find(name string, h uint64) (span, bool) {
	mask := uint64(len(x.buckets) - 1)
	for i := h >> x.shift & mask; ; i = (i + 1) & mask {
		n := x.buckets[i]
		if n == 0 {
			return span{}, false
		}
		if e := &x.names[n-1]; e.hash == h && e.name == name {
			return e.span, true
		}
	}
}
