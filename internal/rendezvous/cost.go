package rendezvous

import (
	"cmp"
	"math/bits"
)

// oneCost is the cost of a score in the middle, a half.
const oneCost = 1 << 56

// cost is -log2 of a score between 0 and 1, that is of score / 2^64, times 2^56. For
// random scores it has an exponential distribution, and the least of several exponential
// variables, each divided by a weight, is as likely to be each one's as its weight says.
// That is weighted rendezvous hashing, of Schindelhauer and Schomaker (2005).
//
// The usual way to write it, with math.Log, is not the same everywhere: compilers may
// fuse a product and a sum, and on some machines do. Here logs has the logarithm of the
// first eight bits behind the leading one, and the bits after them are interpolated. That
// is off by less than three millionths.
//
// A cost is never 0, and never grows with the score.
func cost(score uint64) uint64 {
	if score == 0 {
		return 64 * oneCost
	}
	zeros := bits.LeadingZeros64(score)
	rest := score << zeros << 1 // what follows the leading one
	i := rest >> 56
	low, high := logs[i], logs[i+1]
	part, _ := bits.Mul64(high-low, rest<<8)
	return uint64(zeros+1)*oneCost - low - part
}

// compareCosts compares cost a over weight aw with cost b over weight bw. It multiplies
// crosswise, in 128 bits: no bit is lost, and a factor that all weights have in common
// changes nothing.
func compareCosts(a uint64, aw uint32, b uint64, bw uint32) int {
	aHi, aLo := bits.Mul64(a, uint64(bw))
	bHi, bLo := bits.Mul64(b, uint64(aw))
	if aHi != bHi {
		return cmp.Compare(aHi, bHi)
	}
	return cmp.Compare(aLo, bLo)
}
