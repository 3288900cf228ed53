package rendezvous_test

import (
	"encoding/binary"
	"hash/fnv"
	"math/bits"
	"slices"
	"testing"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// These are the numbers that others have for SplitMix64 from 1234567 on. Its first one is
// for key 1.
func TestScoreIsSplitMix64(t *testing.T) {
	for i, want := range []uint64{
		6457827717110365317, 3203168211198807973, 9817491932198370423,
		4593380528125082431, 16408922859458223821,
	} {
		if got := rendezvous.Score(uint64(i+1), 1234567); got != want {
			t.Errorf("%d: got %d, want %d", i+1, got, want)
		}
	}
}

// Each bit that is changed changes half of the bits, and each of them as often.
func TestMixAvalanche(t *testing.T) {
	const rounds = 4000
	for in := range 64 {
		var changed [64]int
		for i := range uint64(rounds) {
			x := i * 0x9e3779b97f4a7c15
			d := rendezvous.Mix(x) ^ rendezvous.Mix(x^1<<in)
			for ; d != 0; d &= d - 1 {
				changed[bits.TrailingZeros64(d)]++
			}
		}
		for out, n := range changed {
			if n < rounds*44/100 || n > rounds*56/100 { // seven standard deviations
				t.Errorf("bit %d changes bit %d in %d of %d", in, out, n, rounds)
			}
		}
	}
}

// By FNV-1a hashes of a key and a name, where names differ in the last byte, two of ten nodes
// would have half of the keys. Mixed, each has its tenth.
func TestMixMakesUpForWeakHashes(t *testing.T) {
	const keys, nodes = 100000, 10
	most := func(mix func(uint64) uint64) int {
		var counts [nodes]int
		for key := range uint64(keys) {
			var scores [nodes]uint64
			best := 0
			for i := range scores {
				h := fnv.New64a()
				h.Write(binary.LittleEndian.AppendUint64(nil, key))
				h.Write([]byte{'n', 'o', 'd', 'e', '0' + byte(i)})
				scores[i] = mix(h.Sum64())
				if scores[i] > scores[best] {
					best = i
				}
			}
			counts[best]++
		}
		return slices.Max(counts[:])
	}
	if got := most(func(h uint64) uint64 { return h }); got < keys/5 {
		t.Errorf("unmixed, a node has only %d of %d keys: this hash shows nothing", got, keys)
	}
	if got := most(rendezvous.Mix); got > keys*104/1000 {
		t.Errorf("mixed, a node has %d of %d keys", got, keys)
	}
}
