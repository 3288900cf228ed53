package main

// bitmap is a set of requests by number, small enough to cross in one line.
type bitmap []byte

func (b *bitmap) set(n uint64) {
	for uint64(len(*b)) <= n/8 {
		*b = append(*b, 0)
	}
	(*b)[n/8] |= 1 << (n % 8)
}

func (b *bitmap) has(n uint64) bool {
	return n/8 < uint64(len(*b)) && (*b)[n/8]&(1<<(n%8)) != 0
}
