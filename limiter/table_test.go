package limiter_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stormjib/stormjib/limiter"
)

const tableSecond = limiter.TicksPerSecond

// perSecond is a limit of one token in a second.
func perSecond(burst int) limiter.Limit { return limiter.Limit{Rate: 1, Burst: burst} }

func newTableRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// spendFrom has a key take n tokens, and fails unless it gets them.
func spendFrom(t *testing.T, table limiter.Table, hash uint64, now int64, l limiter.Limit, n int) {
	t.Helper()
	if _, _, o := table.Take(hash, now, l, n, n); o != limiter.Granted {
		t.Fatalf("key %d: no %d tokens at %d", hash, n, now)
	}
}

// leftOf returns how many tokens a key could take.
func leftOf(table limiter.Table, hash uint64, now int64, l limiter.Limit) float64 {
	debt, _, _ := table.Take(hash, now, l, 0, 0)
	return float64(l.Burst) - float64(debt)/float64(tableSecond)
}

func TestTableMemory(t *testing.T) {
	if limiter.StripeSize != 64 {
		t.Errorf("a stripe takes %d bytes, and not a cache line", limiter.StripeSize)
	}
	for _, keys := range []int{1000, 4096, 1 << 16, 1 << 20} {
		table := limiter.NewTable(keys)
		if each := float64(table.Bytes()) / float64(keys); each > 24 {
			t.Errorf("%d keys: %.1f bytes for each", keys, each)
		}
		if have := table.Sets() * limiter.TableSlots; have < keys*4/3 {
			t.Errorf("%d keys: %d slots", keys, have)
		}
	}
}

func TestTablePairs(t *testing.T) {
	random := newTableRandom(t)
	for _, keys := range []int{1, 13, 600, 1 << 16} {
		table := limiter.NewTable(keys)
		sets := table.Sets()
		seen := make([]int, sets)
		for range sets * 200 {
			a, b := table.Pair(random.Uint64())
			if a == b || a < 0 || b < 0 || a >= sets || b >= sets {
				t.Fatalf("%d keys: sets %d and %d of %d", keys, a, b, sets)
			}
			seen[a]++
			seen[b]++
		}
		for i, n := range seen {
			if n < 250 || n > 600 { // 400, with a standard deviation of 20
				t.Errorf("%d keys: set %d has %d of %d choices", keys, i, n, sets*400)
			}
		}
		a, b := table.Pair(1<<64 - 1)
		if a == b || a >= sets || b >= sets {
			t.Errorf("%d keys: sets %d and %d of %d", keys, a, b, sets)
		}
	}
}

// A table has room for as many keys as it was made for, as good as all of them, wherever
// their hashes put them.
func TestTableFills(t *testing.T) {
	const keys = 1 << 14
	random := newTableRandom(t)
	table := limiter.NewTable(keys)
	for round := range int64(3) { // the first on a table that is new, the others on a used one
		now := round * 100 * tableSecond
		before, _ := table.Counts()
		for range keys {
			spendFrom(t, table, random.Uint64(), now, perSecond(10), 1)
		}
		if evicted, _ := table.Counts(); evicted-before > 10 {
			t.Errorf("round %d: %d of %d lost their place", round, evicted-before, keys)
		}
		if n := table.Owing(now); n < keys-10 {
			t.Errorf("round %d: %d of %d are there", round, n, keys)
		}
	}
}

// With room for all, it does the same as a map of buckets.
func TestTableModel(t *testing.T) {
	random := newTableRandom(t)
	limits := []limiter.Limit{
		{Rate: 1, Burst: 10}, {Rate: 7, Burst: 3}, {Rate: 0.1, Burst: 1}, {Rate: 1e6, Burst: 1e6},
	}
	table := limiter.NewTable(4096)
	type bucket struct {
		level *limiter.Level
		limit limiter.Limit
	}
	model := map[uint64]bucket{}
	hashes := make([]uint64, 500)
	for i := range hashes {
		hashes[i] = random.Uint64()
		limit := limits[i%len(limits)]
		level, _ := limiter.NewLevel(limit)
		model[hashes[i]] = bucket{level, limit}
	}
	now := int64(0)
	for step := range 200_000 {
		now += random.Int64N(tableSecond / 1000)
		hash := hashes[random.IntN(len(hashes))]
		b := model[hash]
		least := random.IntN(b.limit.Burst + 2)
		most := least + random.IntN(3)
		debt, n, o := table.Take(hash, now, b.limit, most, least)

		want, wantDebt := int64(-1), int64(0)
		for tokens := int64(most); tokens >= int64(least) && want < 0; tokens-- {
			d, ok := b.level.Take(now, tokens)
			wantDebt = d
			if ok {
				want = tokens
			}
		}
		if ok := want >= 0; ok != (o == limiter.Granted) || n != max(want, 0) || debt != wantDebt {
			t.Fatalf("step %d: from %d to %d of %v: got %d, debt %d; want %d, debt %d",
				step, least, most, b.limit, n, debt, want, wantDebt)
		}
	}
	if evicted, crowded := table.Counts(); evicted != 0 || crowded != 0 {
		t.Errorf("evicted %d, crowded %d", evicted, crowded)
	}
}

// fullTable returns a table of two sets, so that all keys share its 16 slots, in each of which
// a key owes so many of its ten tokens; keys are numbered from 1.
func fullTable(t *testing.T, owed func(key uint64) int) limiter.Table {
	t.Helper()
	table := limiter.NewTable(1)
	for key := uint64(1); key <= 16; key++ {
		// Half of them prefer the one set, half the other.
		spendFrom(t, table, hashed(key), 0, perSecond(10), owed(key))
	}
	if n := table.Owing(0); n != 16 {
		t.Fatalf("%d keys", n)
	}
	return table
}

func hashed(key uint64) uint64 { return key | key<<63 }

func TestTableForgetsTheLeastDebt(t *testing.T) {
	table := fullTable(t, func(key uint64) int { return int(key+6)%16/2 + 2 }) // 2 to 9
	// Keys 10 and 11 owe two tokens.
	spendFrom(t, table, hashed(100), 0, perSecond(10), 9)
	spendFrom(t, table, hashed(101), 0, perSecond(10), 9)
	if evicted, crowded := table.Counts(); evicted != 2 || crowded != 0 {
		t.Errorf("evicted %d, crowded %d", evicted, crowded)
	}
	for key := uint64(1); key <= 16; key++ {
		want := 10 - float64(int(key+6)%16/2+2)
		if key == 10 || key == 11 {
			want = 10
		}
		if got := leftOf(table, hashed(key), 0, perSecond(10)); got != want {
			t.Errorf("key %d has %v tokens, want %v", key, got, want)
		}
	}
}

func TestTablePassesOnGreatDebts(t *testing.T) {
	table := fullTable(t, func(key uint64) int { return 8 - int(key%2) }) // all above a half
	// What is asked for is more than what those who owe least have.
	if _, _, o := table.Take(hashed(100), 0, perSecond(10), 4, 4); o != limiter.Refused {
		t.Fatal("a newcomer got what nobody had")
	}
	// And so would it anywhere.
	if _, _, o := table.Take(hashed(100), 0, perSecond(10), 11, 11); o != limiter.Refused {
		t.Fatal("a newcomer got what nobody can have")
	}
	evicted, crowded := table.Counts()
	if evicted != 0 || crowded != 1 {
		t.Errorf("evicted %d, crowded %d", evicted, crowded)
	}
	for key := uint64(1); key <= 16; key++ {
		if got := leftOf(table, hashed(key), 0, perSecond(10)); got != 2+float64(key%2) {
			t.Errorf("key %d has %v tokens", key, got)
		}
	}
	// To look is not to be refused.
	if got := leftOf(table, hashed(100), 0, perSecond(10)); got != 3 {
		t.Errorf("a newcomer would have %v tokens", got)
	}
	// However many come, they get what was there.
	var total int64
	for key := uint64(100); key < 1000; key++ {
		_, n, _ := table.Take(hashed(key), 0, perSecond(10), 10, 1)
		total += n
	}
	if total != 16*10-(8*7+8*8) {
		t.Errorf("newcomers got %d tokens", total)
	}
	if got := leftOf(table, hashed(1), 0, perSecond(10)); got != 0 {
		t.Errorf("who comes back has %v tokens", got)
	}
}

func TestTableTakesFreeSlotsFirst(t *testing.T) {
	table := fullTable(t, func(key uint64) int { return int(key+6)%16/2 + 2 })
	spendFrom(t, table, hashed(100), 2*tableSecond, perSecond(10), 1) // keys 10 and 11 are full
	spendFrom(t, table, hashed(101), 2*tableSecond, perSecond(10), 1)
	if evicted, _ := table.Counts(); evicted != 0 {
		t.Errorf("evicted %d", evicted)
	}
	spendFrom(t, table, hashed(102), 2*tableSecond, perSecond(10), 1)
	if evicted, _ := table.Counts(); evicted != 1 {
		t.Errorf("evicted %d", evicted)
	}
}

// A clock that goes back mints tokens in a limiter that follows it.
func TestTableStaleClock(t *testing.T) {
	table := limiter.NewTable(10)
	var total int64
	for range 1000 {
		for _, now := range []int64{5 * tableSecond, 0} {
			_, n, o := table.Take(7, now, perSecond(10), 1, 1)
			if o == limiter.Above {
				// The clock is read again, after what was seen.
				table.Lower(7, 15*tableSecond, 5*tableSecond, perSecond(10))
			}
			total += n
		}
	}
	if total != 10 {
		t.Errorf("%d tokens of 10", total)
	}
}

// A key whose limit was a slow one owes more time than its new one knows. Each call
// could take it for an empty bucket, and refuse; it must become one.
func TestTableLower(t *testing.T) {
	table := limiter.NewTable(10)
	fast := limiter.Limit{Rate: 10, Burst: 10}
	spendFrom(t, table, 7, 0, limiter.Limit{Rate: 1. / 360, Burst: 10}, 10) // an hour
	got := 0
	for i := range int64(20) {
		now := i * tableSecond / 10
		debt, _, o := table.Take(7, now, fast, 1, 1)
		if o == limiter.Above {
			table.Lower(7, now+debt, now, fast)
			_, _, o = table.Take(7, now, fast, 1, 1)
		}
		if o == limiter.Granted {
			got++
		}
	}
	if got != 19 {
		t.Errorf("%d of 20 calls, want all but the first", got)
	}
	// What is not there any more is not lowered; nor what is not above.
	table = limiter.NewTable(10)
	spendFrom(t, table, 7, 0, perSecond(10), 10)
	table.Lower(7, 20*tableSecond, 0, perSecond(10))
	table.Lower(7, 10*tableSecond, 0, perSecond(10))
	table.Lower(8, 20*tableSecond, 0, perSecond(10))
	if got := leftOf(table, 7, 0, perSecond(10)); got != 0 {
		t.Errorf("%v tokens", got)
	}
	spendFrom(t, table, 9, 0, perSecond(10), 5)
	table.Lower(9, 20*tableSecond, 0, perSecond(10))
	table.Lower(9, 5*tableSecond, 0, perSecond(10))
	if got := leftOf(table, 9, 0, perSecond(10)); got != 5 {
		t.Errorf("%v tokens", got)
	}
}

func TestTableRefund(t *testing.T) {
	table := fullTable(t, func(key uint64) int { return 5 + int(min(key, 2)) })
	table.Refund(hashed(2), perSecond(10), 7)
	if got := leftOf(table, hashed(2), 0, perSecond(10)); got != 10 {
		t.Errorf("%v tokens after a refund of all", got)
	}
	// Key 2 has its place for nothing now, and then loses it.
	spendFrom(t, table, hashed(100), 0, perSecond(10), 8)
	table.Refund(hashed(2), perSecond(10), 7)
	if got := leftOf(table, hashed(100), 0, perSecond(10)); got != 2 {
		t.Errorf("%v tokens after another's refund", got)
	}
}

// A call that is held up after it has found its slot, which is given away meanwhile.
func TestTableLate(t *testing.T) {
	table := limiter.NewTable(1)
	spendFrom(t, table, hashed(1), 0, perSecond(10), 2)
	late := table.Find(hashed(1))

	open := late.Close()
	if late.Take(hashed(1), 0, perSecond(10), 1) {
		t.Error("took from a slot that was changing hands")
	}
	late.Refund(hashed(1), perSecond(10), 2)
	if open() {
		t.Error("wrote to a slot that was changing hands")
	}
	for key := uint64(2); key <= 17; key++ {
		spendFrom(t, table, hashed(key), 0, perSecond(10), 5)
	}
	var owner uint64
	for key := uint64(2); key <= 17; key++ {
		if table.Find(hashed(key)) == late {
			owner = key
		}
	}
	if owner == 0 {
		t.Fatal("the slot was not given away")
	}
	for _, n := range []int64{1, 9} { // of which there is one for the owner, and the other not
		if late.Take(hashed(1), 0, perSecond(10), n) {
			t.Errorf("took, or was refused, %d by what another owes", n)
		}
	}
	late.Refund(hashed(1), perSecond(10), 2)
	if got := leftOf(table, hashed(owner), 0, perSecond(10)); got != 5 {
		t.Errorf("the new owner has %v tokens, want 5", got)
	}
}

// Who comes first comes once, however many at once.
func TestTableNewKeys(t *testing.T) {
	const keys = 2000
	random := newTableRandom(t)
	table := limiter.NewTable(4 * keys)
	var hashes [keys]uint64
	for i := range hashes {
		hashes[i] = random.Uint64()
	}
	var got [keys]atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, hash := range hashes {
				_, n, _ := table.Take(hash, 0, perSecond(1), 1, 1)
				got[i].Add(n)
			}
		})
	}
	wg.Wait()
	for i := range got {
		if n := got[i].Load(); n != 1 {
			t.Fatalf("key %d got %d tokens", i, n)
		}
	}
}

// All owe more than a half, so that slots change hands with their debts. Then there are as
// many tokens as there were, whoever takes them.
func TestTablePassesOnWhileTaken(t *testing.T) {
	for range 200 {
		table := fullTable(t, func(uint64) int { return 6 })
		var total atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 100 {
					_, n, _ := table.Take(hashed(1+rand.Uint64N(32)), 0, perSecond(10), 1, 1)
					total.Add(n)
				}
			})
		}
		wg.Wait()
		if got := total.Load(); got > 16*4 || got < 16*3 {
			t.Fatalf("%d of 64 tokens", got)
		}
	}
}

// Keys come and go while others take tokens from the same slots. Whoever gets a token, a slot
// has given it, and that is bounded: a token for the burst, and one for each half second, by
// which the debt of a token is forgotten.
func TestTableChurn(t *testing.T) {
	for _, keys := range []uint64{20, 1000} {
		table := limiter.NewTable(1)
		var now, total atomic.Int64
		var wg sync.WaitGroup
		const steps, step = 20_000, tableSecond / 500
		for range 8 {
			wg.Go(func() {
				for range steps {
					at := now.Add(step)
					_, n, o := table.Take(hashed(1+rand.Uint64N(keys)), at, perSecond(1), 1, 1)
					total.Add(n)
					if (n == 1) != (o == limiter.Granted) {
						t.Errorf("%d tokens, outcome %d", n, o)
					}
				}
			})
		}
		wg.Wait()
		most := 16 * (1 + 2*8*steps*step/tableSecond)
		if got := total.Load(); got > most || got < most/4 {
			t.Errorf("%d keys: %d tokens, want at most %d and not far fewer", keys, got, most)
		}
		if n := table.Owing(now.Load() + tableSecond); n != 0 {
			t.Errorf("%d slots are stuck", n)
		}
	}
}
