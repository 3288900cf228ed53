// Package rendezvous chooses nodes for keys by the highest score, in whole numbers only,
// so that every machine chooses the same ones. It knows hashes, weights and zones, and
// nothing of what they stand for.
package rendezvous

// golden is 2^64 divided by the golden ratio, and odd.
const golden = 0x9e3779b97f4a7c15

// Mix turns a number into one that looks random: each bit of x changes half of the bits
// of the result, and no two x have the same. It is variant 13 of Stafford's finalizers.
//
// Hashes of a user's own choice go through it as well. Those of FNV-1a, for names that
// differ in the last byte, are so close to each other that without it most of the names
// would get no keys at all.
func Mix(x uint64) uint64 {
	x = stir(x)
	return x ^ x>>31
}

// stir is Mix but for the last step, which leaves the upper 31 bits as they are.
func stir(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	return x * 0x94d049bb133111eb
}

// upper are the bits that stir has right.
const upper = 1<<64 - 1<<33

// Score is how much the node with this hash wants a key. With keys 1, 2, 3 and so on, it
// is the stream of SplitMix64 (Steele, Lea and Flood, 2014) that begins at node, and as
// random.
//
// The hash of a node must look random. Hashes of nodes that are close to each other would
// have the same stream a few keys apart.
func Score(key, node uint64) uint64 { return Mix(node + key*golden) }
