package bench

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var table = flag.Bool("table", false, "measure for a minute and print the README's table")

// A row is one contender in the table, and what was measured of it.
type row struct {
	contender
	section string
	goals   []goal
	most    uint64       // allocations that its goals allow
	n       int          // calls in one round
	rounds  [2][]float64 // ns per call; on one processor, and on two
	ns      [2]float64   // medians of the rounds
	allocs  uint64
}

// A goal is what a row has to reach: a text, and the most nanoseconds.
type goal func(rows []*row) (text string, most float64)

// TestTable prints the table if -table is set. Otherwise it goes through it once,
// so that it keeps working.
func TestTable(t *testing.T) {
	rounds, target := 1, 10*time.Microsecond
	if *table {
		rounds, target = 21, 20*time.Millisecond
	}
	rows := tableRows()
	measure(rows, rounds, target)
	text := markdown(rows)
	if *table {
		fmt.Fprint(os.Stdout, text)
	}
	for _, r := range rows {
		if !strings.Contains(text, r.name) {
			t.Errorf("the table lacks %s: %s", r.section, r.name)
		}
	}
}

const (
	baseline    = "The floor"
	closed      = "Closed, a window of time"
	consecutive = "Closed, failures in a row"
	refusal     = "Open: a refusal"
	failure     = "Closed, the call fails"
	first       = "Retry: success at the first attempt"
	second      = "Retry: success at the second, no wait"
	hedging     = "Hedge: not needed"
)

func tableRows() []*row {
	var rows []*row
	add := func(section string, contenders []contender, goals ...goal) {
		for _, c := range contenders {
			r := &row{contender: c, section: section}
			if strings.HasPrefix(c.name, "stormjib") && c.name != "stormjib-slowcall" {
				r.goals = goals
			}
			rows = append(rows, r)
		}
	}
	add(baseline, baselines())
	add(closed, closedWindow(), nearTheClock, partOf(3, "⅓", closed, "gobreaker-rolling"))
	add(consecutive, closedConsecutive(), atMost(5))
	add(refusal, refusing(), atMost(30))
	add(failure, failing())
	add(first, firstTry(), atMost(6))
	add(second, oneRetry(), partOf(2, "½", second, "cenkalti-v7"))
	add(hedging, unhedged())
	find(rows, hedging, "stormjib").goals = []goal{partOf(3, "⅓", hedging, "failsafe-hedge")}
	find(rows, hedging, "stormjib-fixed").goals = []goal{
		partOf(3, "⅓", hedging, "failsafe-hedge-fixed"),
	}
	for _, r := range rows {
		switch r.section {
		case second:
			r.most = math.MaxUint64
		case hedging:
			r.most = 4
		}
	}
	return rows
}

func atMost(ns float64) goal {
	return func([]*row) (string, float64) { return fmt.Sprintf("%.0f ns", ns), ns }
}

func nearTheClock(rows []*row) (text string, most float64) {
	return "1.5 × time.Since + 5 ns", 1.5*find(rows, baseline, "time.Since").ns[0] + 5
}

// partOf is met by what takes at most one n-th of what a peer does.
func partOf(n float64, share, section, name string) goal {
	return func(rows []*row) (text string, most float64) {
		return share + " of " + name, find(rows, section, name).ns[0] / n
	}
}

func find(rows []*row, section, name string) *row {
	i := slices.IndexFunc(rows, func(r *row) bool { return r.section == section && r.name == name })
	return rows[i]
}

// measure takes the rows in turn, as often as rounds says, beginning with another
// one each time. Each turn is about as long as target.
func measure(rows []*row, rounds int, target time.Duration) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for i, procs := range [2]int{1, 2} {
		runtime.GOMAXPROCS(procs)
		for _, r := range rows {
			r.calibrate(target)
		}
		for round := range rounds {
			for j := range rows {
				rows[(j+round*len(rows)/rounds)%len(rows)].run(i, procs)
			}
		}
	}
	for _, r := range rows {
		r.ns = [2]float64{median(r.rounds[0]), median(r.rounds[1])}
		r.count()
	}
}

// calibrate finds how many calls take as long as target.
func (r *row) calibrate(target time.Duration) {
	for r.n = 100; ; r.n *= 2 {
		start := time.Now()
		_ = r.loop(r.n)
		if time.Since(start) >= target/2 {
			return
		}
	}
}

func (r *row) run(i, procs int) {
	start := time.Now()
	spread(procs, r.n, r.loop)
	r.rounds[i] = append(r.rounds[i], float64(time.Since(start))/float64(r.n))
}

// count counts allocations. The few of hundred thousand calls that belong to a
// new bucket are rounded away, as in a benchmark.
func (r *row) count() {
	const calls = 100_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_ = r.loop(min(r.n, calls))
	runtime.ReadMemStats(&after)
	r.allocs = (after.Mallocs - before.Mallocs) / uint64(min(r.n, calls))
}

func median(values []float64) float64 {
	slices.SortFunc(values, cmp.Compare)
	return values[len(values)/2]
}

func markdown(rows []*row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s/%s, %d CPUs. Medians, the contenders in turn.\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	since := find(rows, baseline, "time.Since")
	section := ""
	for _, r := range rows {
		if r.section != section {
			section = r.section
			fmt.Fprintf(&b, "\n| %s | ns | ns, 2 procs | × time.Since | × stormjib | allocs |"+
				" goal |\n|---|--:|--:|--:|--:|--:|---|\n", section)
		}
		ratio := "" // of the floor to nothing
		if section != baseline {
			ratio = fmt.Sprintf("%.1f", r.ns[0]/find(rows, section, "stormjib").ns[0])
		}
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %.2f | %s | %d | %s |\n", r.name,
			r.ns[0], r.ns[1], r.ns[0]/since.ns[0], ratio, r.allocs, r.verdicts(rows))
	}
	return b.String()
}

// verdicts says of each goal whether the row reaches it on one processor.
func (r *row) verdicts(rows []*row) string {
	var all []string
	for _, g := range r.goals {
		text, most := g(rows)
		verdict := "met"
		if over := r.ns[0] - most; over > 0 {
			verdict = fmt.Sprintf("**missed by %.1f**", over)
		}
		all = append(all, fmt.Sprintf("≤ %s (%.1f): %s", text, most, verdict))
	}
	if r.goals != nil && r.allocs > r.most {
		all = append(all, fmt.Sprintf("%d allocs: **missed**", r.most))
	}
	return strings.Join(all, "; ")
}
