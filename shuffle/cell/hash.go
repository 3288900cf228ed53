package cell

import "math/bits"

// The primes of XXH64.
const (
	prime1 = 0x9e3779b185ebca87
	prime2 = 0xc2b2ae3d27d4eb4f
	prime3 = 0x165667b19e3779f9
	prime4 = 0x85ebca77c2b2ae63
	prime5 = 0x27d4eb2f165667c5
)

// xxh64 is XXH64 with the seed 0, by its specification. It is written out here since
// which slot a tenant has must never change, not by an upgrade of anything; and it is no
// hash of our own, so that others can find the slot as well.
func xxh64(s string) uint64 {
	h, rest := uint64(prime5), s
	if len(s) >= 32 {
		h, rest = stripes(s)
	}
	h += uint64(len(s))
	for ; len(rest) >= 8; rest = rest[8:] {
		h = bits.RotateLeft64(h^round(0, word(rest)), 27)*prime1 + prime4
	}
	if len(rest) >= 4 {
		four := uint64(rest[0]) | uint64(rest[1])<<8 | uint64(rest[2])<<16 | uint64(rest[3])<<24
		h = bits.RotateLeft64(h^four*prime1, 23)*prime2 + prime3
		rest = rest[4:]
	}
	for i := range len(rest) {
		h = bits.RotateLeft64(h^uint64(rest[i])*prime5, 11) * prime1
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}

// stripes takes in all whole stripes of 32 bytes, and returns what is left.
func stripes(s string) (h uint64, rest string) {
	var seed uint64 // a variable: as constants the sums would not fit
	lanes := [4]uint64{seed + prime1 + prime2, seed + prime2, seed, seed - prime1}
	for ; len(s) >= 32; s = s[32:] {
		for i := range lanes {
			lanes[i] = round(lanes[i], word(s[8*i:]))
		}
	}
	h = bits.RotateLeft64(lanes[0], 1) + bits.RotateLeft64(lanes[1], 7) +
		bits.RotateLeft64(lanes[2], 12) + bits.RotateLeft64(lanes[3], 18)
	for _, lane := range lanes {
		h = (h^round(0, lane))*prime1 + prime4
	}
	return h, s
}

func round(lane, word uint64) uint64 { return bits.RotateLeft64(lane+word*prime2, 31) * prime1 }

// word reads eight bytes in a way that compilers make one load of. To convert them for
// encoding/binary would copy them first.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// part returns which of n parts a hash belongs to, by its upper bits; n is a power of two.
func part(h uint64, n int) int {
	return int(h >> 1 >> (63 - bits.TrailingZeros64(uint64(n))))
}
