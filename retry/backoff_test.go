package retry_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// kinds are the constructors, with the same arguments for each.
var kinds = []struct {
	name string
	make func(base, most time.Duration, rnd func(int64) int64) retry.Backoff
}{
	{"Exponential", func(base, most time.Duration, _ func(int64) int64) retry.Backoff {
		return retry.Exponential(base, most)
	}},
	{"FullJitter", retry.FullJitter},
	{"EqualJitter", retry.EqualJitter},
	{"Decorrelated", retry.Decorrelated},
}

// lot returns a source of random numbers that is the same in every run, for one
// goroutine.
func lot(seed uint64) func(int64) int64 { return rand.New(rand.NewPCG(seed, 1)).Int64N }

func lowest(int64) int64    { return 0 }
func highest(n int64) int64 { return n - 1 }

func TestBackoffs(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name    string
		backoff retry.Backoff
		want    []time.Duration // of attempts 1, 2, ..., each with the one before
	}{
		{"constant", retry.Constant(5 * ms), []time.Duration{5 * ms, 5 * ms, 5 * ms}},
		{"constant below zero", retry.Constant(-1), []time.Duration{0, 0}},
		{
			"exponential", retry.Exponential(50*ms, 500*ms),
			[]time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 500 * ms, 500 * ms},
		},
		{
			"a cap below the base", retry.Exponential(50*ms, 20*ms),
			[]time.Duration{20 * ms, 20 * ms},
		},
		{"a base of none", retry.Exponential(0, time.Second), []time.Duration{0, 0, 0}},
		{"a base below zero", retry.Exponential(-1, time.Second), []time.Duration{0, 0, 0}},
		{"a cap below zero", retry.Exponential(time.Second, -1), []time.Duration{0, 0, 0}},
		{"full jitter at its least", retry.FullJitter(50*ms, 80*ms, lowest), []time.Duration{0, 0}},
		{
			"full jitter at its most", retry.FullJitter(50*ms, 80*ms, highest),
			[]time.Duration{50 * ms, 80 * ms, 80 * ms},
		},
		{
			"equal jitter at its least", retry.EqualJitter(50*ms, 80*ms, lowest),
			[]time.Duration{25 * ms, 40 * ms},
		},
		{
			"equal jitter at its most", retry.EqualJitter(50*ms, 80*ms, highest),
			[]time.Duration{50 * ms, 80 * ms},
		},
		{"equal jitter, odd", retry.EqualJitter(3, 3, highest), []time.Duration{3}},
		{"equal jitter, odd, at its least", retry.EqualJitter(3, 3, lowest), []time.Duration{1}},
		{
			"decorrelated at its least", retry.Decorrelated(50*ms, time.Second, lowest),
			[]time.Duration{50 * ms, 50 * ms, 50 * ms},
		},
		{
			"decorrelated at its most", retry.Decorrelated(50*ms, time.Second, highest),
			[]time.Duration{150 * ms, 450 * ms, time.Second, time.Second},
		},
		{
			"decorrelated, a cap below the base", retry.Decorrelated(50*ms, 20*ms, highest),
			[]time.Duration{20 * ms, 20 * ms},
		},
		{
			"decorrelated, the base is the cap", retry.Decorrelated(ms, ms, highest),
			[]time.Duration{ms, ms},
		},
		{"decorrelated from none", retry.Decorrelated(0, ms, highest), []time.Duration{0, 0}},
		{"decorrelated below zero", retry.Decorrelated(-1, -1, highest), []time.Duration{0, 0}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var prev time.Duration
			for i, want := range test.want {
				if prev = test.backoff(i+1, prev); prev != want {
					t.Fatalf("wait %d is %v, want %v", i+1, prev, want)
				}
			}
		})
	}
}

// An attempt below the first is the first: who counts from 0 waits no longer for it.
func TestBackoffBelowTheFirstAttempt(t *testing.T) {
	for _, attempt := range []int{1, 0, -1, -64, math.MinInt + 1, math.MinInt} {
		for _, k := range kinds {
			d := k.make(time.Millisecond, time.Hour, highest)(attempt, 0)
			want := time.Millisecond
			if k.name == "Decorrelated" {
				want *= 3
			}
			if d != want {
				t.Errorf("%s waits %v after attempt %d, want %v", k.name, d, attempt, want)
			}
		}
	}
}

// doubled is what Exponential should be, without a shift.
func doubled(base, most time.Duration, attempt int) time.Duration {
	d := max(min(base, most), 0)
	for i := 1; i < attempt && d > 0 && d < most; i++ {
		if d > most-d {
			return most
		}
		d += d
	}
	return d
}

// inBounds fails the test unless all kinds keep their bounds for these arguments.
func inBounds(
	t *testing.T, base, most time.Duration, attempt int, prev time.Duration, seed uint64,
) {
	t.Helper()
	grown := doubled(base, most, attempt)
	for _, rnd := range []func(int64) int64{lot(seed), lowest, highest, nil} {
		for _, k := range kinds {
			d := k.make(base, most, rnd)(attempt, prev)
			least, limit := time.Duration(0), grown
			switch k.name {
			case "Exponential":
				least = grown
			case "EqualJitter":
				least = grown / 2
			case "Decorrelated":
				least = max(min(base, most), 0)
				limit = max(most, 0)
				if from := max(prev, least); from < math.MaxInt64/3 {
					limit = min(limit, 3*from)
				}
			}
			if d < 0 || d < least || d > limit {
				t.Fatalf("%s(%d, %d) is %d after attempt %d and %d, want %d to %d",
					k.name, base, most, d, attempt, prev, least, limit)
			}
		}
	}
}

// The hundredth attempt of a service that was down overnight. Shifts and products that
// overflow are negative, which is no wait at all, or random; both have been released.
func TestBackoffNeverOverflows(t *testing.T) {
	durations := []time.Duration{math.MinInt64, -1, 0, 1, 2, 3}
	for shift := 2; shift < 63; shift += 4 {
		durations = append(durations, 1<<shift-1, 1<<shift, 1<<shift+1)
	}
	durations = append(durations,
		math.MaxInt64/3, math.MaxInt64/3+1, math.MaxInt64-1, math.MaxInt64)
	attempts := []int{
		math.MinInt, -1, 0, 1, 2, 3, 30, 31, 32, 33, 61, 62, 63, 64, 65, 66, 127, 128,
		1 << 20, math.MaxInt,
	}
	for _, base := range durations {
		for _, most := range durations {
			for i, attempt := range attempts {
				prev := durations[(i*7+int(most&15))%len(durations)]
				inBounds(t, base, most, attempt, prev, uint64(i))
			}
		}
	}
	// Doubling, until it is the cap, and never less than before.
	for base := time.Duration(1); base > 0; base *= 5 {
		var last time.Duration
		for attempt := range 1 << 8 {
			d := retry.Exponential(base, math.MaxInt64)(attempt, 0)
			if d < last {
				t.Fatalf("from %d: %d after %d", base, d, last)
			}
			last = d
		}
		if last != math.MaxInt64 {
			t.Fatalf("from %d: %d at last", base, last)
		}
	}
}

func FuzzBackoff(f *testing.F) {
	f.Add(int64(50e6), int64(2e9), 3, int64(0), uint64(1))
	f.Add(int64(1), int64(math.MaxInt64), 64, int64(math.MaxInt64/3), uint64(2))
	f.Add(int64(math.MaxInt64), int64(-1), math.MinInt, int64(-1), uint64(3))
	f.Fuzz(func(t *testing.T, base, most int64, attempt int, prev int64, seed uint64) {
		inBounds(t, time.Duration(base), time.Duration(most), attempt, time.Duration(prev), seed)
	})
}

// A jitter that only ever uses a part of its range keeps clients together.
func TestJitterIsUniform(t *testing.T) {
	const n, most = 100_000, time.Second
	for _, test := range []struct {
		kind     string
		low      time.Duration
		from, to time.Duration
		prev     time.Duration
	}{
		{"FullJitter", 0, 0, most, 0},
		{"EqualJitter", 0, most / 2, most, 0},
		{
			"Decorrelated", 100 * time.Millisecond,
			100 * time.Millisecond, 900 * time.Millisecond, 300 * time.Millisecond,
		},
	} {
		for _, k := range kinds {
			if k.name != test.kind {
				continue
			}
			base := time.Second
			if test.low > 0 {
				base = test.low
			}
			backoff := k.make(base, most, lot(7))
			var tenths [10]int
			var sum float64
			for range n {
				d := backoff(5, test.prev)
				if d < test.from || d > test.to {
					t.Fatalf("%s: %v", k.name, d)
				}
				sum += float64(d)
				tenths[min(9, 10*(d-test.from)/(test.to-test.from))]++
			}
			if mean, want := sum/n, float64(test.from+test.to)/2; math.Abs(mean/want-1) > .01 {
				t.Errorf("%s: the mean is %v, want %v", k.name, mean, want)
			}
			for _, in := range tenths {
				if math.Abs(float64(in)/n-.1) > .005 {
					t.Errorf("%s: tenths of %v", k.name, tenths)
					break
				}
			}
		}
	}
}

// Every call of a process draws from one Backoff, and each has its own prev.
func TestBackoffIsPure(t *testing.T) {
	for _, k := range kinds {
		shared := k.make(time.Millisecond, time.Second, nil)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 500 {
					var prev time.Duration
					for attempt := 1; attempt <= 5; attempt++ {
						bound := time.Millisecond << (attempt - 1)
						if k.name == "Decorrelated" {
							bound = 3 * max(prev, time.Millisecond)
						}
						if prev = shared(attempt, prev); prev > bound {
							t.Errorf("%s: %v, want %v at most", k.name, prev, bound)
							return
						}
					}
				}
			})
		}
		wg.Wait()

		// The same arguments and the same lot give the same wait.
		first := fmt.Sprint(draw(k.make(1000, 1e9, lot(5))))
		if again := fmt.Sprint(draw(k.make(1000, 1e9, lot(5)))); again != first {
			t.Errorf("%s: %s, then %s", k.name, first, again)
		}
	}
}

func draw(b retry.Backoff) (all []time.Duration) {
	var prev time.Duration
	for attempt := range 20 {
		prev = b(attempt+1, prev)
		all = append(all, prev)
	}
	return all
}

// Without a source of its own it must not be the same in every process.
func TestJitterWithoutASourceDiffers(t *testing.T) {
	for _, k := range kinds[1:] {
		b := k.make(time.Hour, 1000*time.Hour, nil)
		if first := fmt.Sprint(draw(b)); first == fmt.Sprint(draw(b)) {
			t.Errorf("%s draws the same twice", k.name)
		}
	}
}
