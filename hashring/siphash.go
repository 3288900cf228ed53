package hashring

import (
	"encoding/binary"
	"math/bits"
)

// SipHash returns a hash for a Config whose values nobody can tell without the key:
// SipHash-2-4, of Aumasson and Bernstein (2012). With it, who chooses keys cannot choose
// them all for one node, unless they can see where keys go. All processes that must agree
// need the same key, and it should be secret and random. It costs a few times as much as
// the default.
//
//nolint:staticcheck // It is the name that its authors gave it, and no initialism.
func SipHash(key [16]byte) func(string) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
	begin := sipState{
		k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573,
	}
	return func(s string) uint64 {
		v := begin
		return v.sum(s)
	}
}

type sipState struct{ v0, v1, v2, v3 uint64 }

func (v *sipState) sum(s string) uint64 {
	last := uint64(len(s)) << 56
	for ; len(s) >= 8; s = s[8:] {
		v.absorb(uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56)
	}
	for i := range len(s) {
		last |= uint64(s[i]) << (8 * i)
	}
	v.absorb(last)
	v.v2 ^= 0xff
	for range 4 {
		v.round()
	}
	return v.v0 ^ v.v1 ^ v.v2 ^ v.v3
}

func (v *sipState) absorb(word uint64) {
	v.v3 ^= word
	v.round()
	v.round()
	v.v0 ^= word
}

func (v *sipState) round() {
	v.v0 += v.v1
	v.v2 += v.v3
	v.v1 = bits.RotateLeft64(v.v1, 13) ^ v.v0
	v.v3 = bits.RotateLeft64(v.v3, 16) ^ v.v2
	v.v0 = bits.RotateLeft64(v.v0, 32)
	v.v2 += v.v1
	v.v0 += v.v3
	v.v1 = bits.RotateLeft64(v.v1, 17) ^ v.v2
	v.v3 = bits.RotateLeft64(v.v3, 21) ^ v.v0
	v.v2 = bits.RotateLeft64(v.v2, 32)
}
