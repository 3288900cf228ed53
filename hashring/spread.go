package hashring

import (
	"iter"
	"strconv"
)

// Spread yields the n parts into which a key that is written too often for one node can
// be divided, for readers: each part is a key of its own, with its own owner. A writer
// chooses one of them, by [SubKey], and whoever reads asks for all and sums up, or
// merges. That is for what can be summed or merged, such as counters and sets.
//
// The first part is the key itself, so that what was written before the key was divided
// is still read; an n below 1 is 1. The parts are spread as any n keys are: with 8 parts
// and 100 nodes all have different owners three times in four. When a node goes, only its
// own parts move. If instead part i were put on the ith node of the key's order, so would
// all those behind it.
//
// All readers and writers must have the same n. To have more parts, let the readers know
// first; to have fewer, the writers, and then move what the parts that go hold.
func Spread(key string, n int) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range max(1, n) {
			if !yield(SubKey(key, i)) {
				return
			}
		}
	}
}

// SubKey returns part i of a key, for a write, counted from 0: the key itself. A writer
// takes them in turn, or one at random. Different keys and parts have different names,
// but a key of your own that ends as a part does, by # and a number, may be the part of
// another.
func SubKey(key string, i int) string {
	if i <= 0 {
		return key
	}
	return key + "#" + strconv.Itoa(i)
}
