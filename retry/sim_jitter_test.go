package retry_test

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// The simulations print their tables with -v, and assert what the package promises by
// them. All have seeds, and none waits: time is counted, or that of a synctest bubble.

// The experiment of Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015:
// n clients each read the version of one row and write it back, until a write finds the
// version it has read. A message takes |N(10, 2)| ms. Clients that collide back off.

// contender is a client; its next message arrives at a time, with what it has read.
type contender struct {
	at      float64 // ms
	writes  bool
	version int
	attempt int
	prev    time.Duration
}

type contenders []*contender

func (c *contenders) Len() int           { return len(*c) }
func (c *contenders) Less(i, j int) bool { return (*c)[i].at < (*c)[j].at }
func (c *contenders) Swap(i, j int)      { (*c)[i], (*c)[j] = (*c)[j], (*c)[i] }
func (c *contenders) Push(x any)         { *c = append(*c, x.(*contender)) }

func (c *contenders) Pop() any {
	old := *c
	last := old[len(old)-1]
	*c = old[:len(old)-1]
	return last
}

// contend returns how many writes it took, and how many ms, until all have succeeded.
func contend(n int, backoff retry.Backoff, rng *rand.Rand) (writes, ms float64) {
	hop := func() float64 { return math.Abs(rng.NormFloat64()*2 + 10) }
	var all contenders
	for range n {
		all = append(all, &contender{at: hop(), attempt: 1})
	}
	heap.Init(&all)
	version := 0
	for len(all) > 0 {
		c := all[0]
		ms = c.at
		switch {
		case !c.writes: // the server reads; the answer comes back, and the write goes out
			c.version, c.writes = version, true
			c.at += hop() + hop()
		case c.version == version:
			writes++
			version++
			heap.Pop(&all)
			continue
		default:
			writes++
			c.attempt++ // as in the original, the first wait is that of attempt 2
			c.prev = backoff(c.attempt, c.prev)
			c.writes = false
			c.at += hop() + float64(c.prev)/float64(time.Millisecond) + hop()
		}
		heap.Fix(&all, 0)
	}
	return writes, ms
}

func TestSimJitter(t *testing.T) {
	const base, most = 5 * time.Millisecond, 2 * time.Second
	names := []string{"none", "exponential", "equal", "full", "decorrelated"}
	type result struct{ writes, ms float64 }
	at := map[int][]result{}
	t.Logf("%4s  %-17s  %-17s  %-17s  %-17s  %-17s", "n",
		names[0], names[1], names[2], names[3], names[4])
	for _, n := range []int{10, 50, 100, 150, 190} {
		runs := 6
		if n == 100 {
			runs = 20
		}
		rng := rand.New(rand.NewPCG(uint64(n), 2015))
		row := make([]result, len(names))
		for i, backoff := range []retry.Backoff{
			retry.Constant(0),
			retry.Exponential(base, most),
			retry.EqualJitter(base, most, rng.Int64N),
			retry.FullJitter(base, most, rng.Int64N),
			retry.Decorrelated(base, most, rng.Int64N),
		} {
			for range runs {
				writes, ms := contend(n, backoff, rng)
				row[i].writes += writes / float64(runs)
				row[i].ms += ms / float64(runs)
			}
		}
		at[n] = row
		const cell = "  %6.0f %7.0f ms"
		t.Logf("%4d"+cell+cell+cell+cell+cell, n,
			row[0].writes, row[0].ms, row[1].writes, row[1].ms, row[2].writes, row[2].ms,
			row[3].writes, row[3].ms, row[4].writes, row[4].ms)
	}

	r := at[100]
	none, expo, equal, full, decorrelated := r[0], r[1], r[2], r[3], r[4]
	within(t, "calls at 100, full to exponential", full.writes/expo.writes, .40, .46)
	within(t, "calls at 100, full to none", full.writes/none.writes, .31, .35)
	within(t, "time at 100, full to exponential", full.ms/expo.ms, .06, .10)
	within(t, "calls at 100, full to equal", full.writes/equal.writes, .94, 1.02)
	within(t, "calls at 100, decorrelated to full", decorrelated.writes/full.writes, 1.18, 1.34)
	within(t, "time at 100, decorrelated to full", decorrelated.ms/full.ms, .85, 1)
	for n, row := range at {
		if n > 10 && (row[3].writes > row[1].writes || row[3].ms > row[2].ms) {
			t.Errorf("at %d full jitter is not the least: %v", n, row)
		}
	}
}

// within fails the test unless got is from least to most.
func within(t *testing.T, what string, got, least, most float64) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s is %.4f, want %v to %v", what, got, least, most)
	}
}
