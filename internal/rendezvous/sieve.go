package rendezvous

import "math/bits"

// hope returns how many of a zone's nodes are hopeful on average, for the first k to be
// among them but for three times in a hundred.
func hope(k int) uint64 { return uint64(3*k+5) / 2 }

// sieve has the nodes of a zone whose scores are hopeful. There is room for more than
// twice as many as there are on average.
type sieve struct {
	n      int
	scores [sieveSize]uint64
	places [sieveSize]uint16 // in the zone
}

const sieveSize = 32

// sift finds the nodes with a score of least or more, of which the upper bits count. It
// takes down one bit for each node and looks at those that are set afterwards: who will be
// in is a matter of chance, and to guess it wrong costs a processor more than a score does.
func (s *sieve) sift(hashes []uint64, key, least uint64) {
	far := key * golden // of Score; a compiler does not take it out of the loop
	for start := 0; len(hashes) > 0; start += 64 {
		block := hashes[:min(64, len(hashes))]
		hashes = hashes[len(block):]
		misses, rest := uint64(0), block
		for ; len(rest) >= 4; rest = rest[4:] { // four at a time take three quarters of it
			_, a := bits.Sub64(stir(rest[0]+far), least, 0)
			_, b := bits.Sub64(stir(rest[1]+far), least, 0)
			_, c := bits.Sub64(stir(rest[2]+far), least, 0)
			_, d := bits.Sub64(stir(rest[3]+far), least, 0)
			misses = misses<<4 | a<<3 | b<<2 | c<<1 | d
		}
		for _, h := range rest {
			_, a := bits.Sub64(stir(h+far), least, 0)
			misses = misses<<1 | a
		}
		for hits := ^misses << (64 - len(block)); hits != 0; { // the first has the highest bit
			i := bits.LeadingZeros64(hits)
			hits &^= 1 << 63 >> i
			s.scores[s.n%sieveSize] = Mix(block[i] + far)
			s.places[s.n%sieveSize] = uint16(start + i)
			s.n++
		}
	}
}

// raceHopeful finds the first of those with a hopeful score, and reports whether they are
// enough. All weights are the same.
func (g *group) raceHopeful(zone *podium, key uint64) bool {
	var s sieve
	s.sift(g.hashes, key, g.hopeful[zone.size])
	zone.n = min(zone.size, len(g.members))
	if s.n < zone.n || s.n > sieveSize {
		zone.n = 0
		return false
	}
	// Each is put behind as many as are ahead. That is more comparisons than it takes to
	// sort them, but none of them has to be guessed either.
	scores := s.scores[:s.n]
	var ranks [sieveSize]uint8
	for i, score := range scores {
		rank := uint8(i) // among equals the lower index is ahead
		for j, other := range scores[:i] {
			_, less := bits.Sub64(other, score, 0)
			rank -= uint8(less)
			ranks[j] += uint8(less)
		}
		ranks[i] = rank
	}
	for i, rank := range ranks[:s.n] {
		if int(rank) < zone.n {
			zone.bids[rank] = bid{score: scores[i], node: g.members[s.places[i]]}
		}
	}
	return true
}
