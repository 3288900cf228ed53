package rendezvous_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// log2 returns log2(x) times 2^56, to the nearest whole number, for x from 1 to 2. It takes
// one bit after another, by squaring: twice the logarithm begins with the next one.
func log2(x *big.Float) uint64 {
	if x.Cmp(big.NewFloat(2)) == 0 {
		return 1 << 56
	}
	two, bits := big.NewFloat(2), uint64(0)
	for range 57 {
		x.Mul(x, x)
		bits <<= 1
		if x.Cmp(two) >= 0 {
			x.Quo(x, two)
			bits |= 1
		}
	}
	return (bits + 1) >> 1
}

// The constants are what they say they are.
func TestLogs(t *testing.T) {
	if len(rendezvous.Logs) != 257 {
		t.Fatalf("%d logarithms", len(rendezvous.Logs))
	}
	for i, got := range rendezvous.Logs {
		x := new(big.Float).SetPrec(400).SetInt64(256 + int64(i))
		x.Quo(x, big.NewFloat(256))
		if want := log2(x); got != want {
			t.Errorf("log2(1+%d/256): got %#x, want %#x", i, got, want)
		}
	}
}

func TestCost(t *testing.T) {
	const one = rendezvous.One
	for _, test := range []struct{ score, want uint64 }{
		{0, 64 * one},
		{1, 64 * one},
		{2, 63 * one},
		{3, 63*one - rendezvous.Logs[128]},
		{1 << 62, 2 * one},
		{1 << 63, one},
		{3 << 62, one - rendezvous.Logs[128]},
		{511 << 55, one - rendezvous.Logs[255]},
		{511<<55 + 1<<54, one - (rendezvous.Logs[255]+one)/2},
		{math.MaxUint64 - 1, 1},
		{math.MaxUint64, 1},
	} {
		if got := rendezvous.Cost(test.score); got != test.want {
			t.Errorf("cost(%#x): got %#x, want %#x", test.score, got, test.want)
		}
	}
}

// A cost is close to the logarithm, and where it is small it is not far off in proportion.
func TestCostIsLog(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100000 {
		score := rnd.Uint64() >> rnd.IntN(64)
		if rnd.IntN(2) == 0 {
			score = ^score
		}
		want := -math.Log2(max(float64(score), 1) / 0x1p64)
		if score>>63 == 1 { // where float64 has no bits left for the difference from 1
			want = -math.Log1p(-float64(-score)/0x1p64) / math.Ln2
		}
		got := float64(rendezvous.Cost(score)) / rendezvous.One
		if d := math.Abs(got - want); d > 3e-6 || d > .003*want+0x1p-55 {
			t.Fatalf("cost(%#x): got %v, want %v", score, got, want)
		}
	}
}

func FuzzCost(f *testing.F) {
	for _, score := range []uint64{0, 1, 255, 1 << 55, 1<<55 - 1, 1<<63 - 1, 1 << 63, 511 << 55} {
		f.Add(score)
	}
	f.Fuzz(func(t *testing.T, score uint64) {
		got := rendezvous.Cost(score)
		if got == 0 || score < math.MaxUint64 && rendezvous.Cost(score+1) > got {
			t.Errorf("cost(%#x) is %#x, and %#x of one more",
				score, got, rendezvous.Cost(score+1))
		}
	})
}

func TestCompareCosts(t *testing.T) {
	const most = math.MaxUint32
	for _, test := range []struct {
		a    uint64
		aw   uint32
		b    uint64
		bw   uint32
		want int
	}{
		{1, 1, 1, 1, 0},
		{1, 1, 2, 1, -1},
		{2, 1, 1, 1, 1},
		{3, 3, 5, 5, 0},
		{3, 3, 5, 6, 1},
		{5, 6, 3, 3, -1},
		{1 << 62, most, 1 << 62, most, 0},
		{1 << 62, most, 1<<62 - 1, most, 1},
		{1 << 62, most - 1, 1 << 62, most, 1},
		{1 << 62, 1, 1, most, 1},
		{1, most, 1 << 62, 1, -1},
		{1 << 62, 3 << 30, 1<<62 + 1, 3 << 30, -1}, // told apart by the lower 64 bits
	} {
		if got := rendezvous.CompareCosts(test.a, test.aw, test.b, test.bw); got != test.want {
			t.Errorf("%d/%d and %d/%d: got %d, want %d",
				test.a, test.aw, test.b, test.bw, got, test.want)
		}
	}
}
