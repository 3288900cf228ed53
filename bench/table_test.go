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

var table = flag.Bool("table", false, "measure for minutes and print the README's table")

// A row is one contender in the table, and what was measured of it.
type row struct {
	contender
	section string
	crowd   int // goroutines; 0: one for each processor
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
	rounds, target, keys := 1, 10*time.Microsecond, 1000
	if *table {
		rounds, target, keys = 21, 20*time.Millisecond, million
	}
	rows := tableRows(t)
	measure(rows, rounds, target)
	// Apart from the others: what the collector has to do with a million keys, it does
	// on the time of whoever allocates.
	keyed := keyedRows(keys)
	measure(keyed, rounds, target)
	rows = append(rows, keyed...)
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

// rows collects the rows of a table.
type rows []*row

// add adds a section. The goals are those of ours in it, but for the one row that does
// more than its peers.
func (rs *rows) add(section string, crowd int, contenders []contender, goals ...goal) {
	for _, c := range contenders {
		r := &row{contender: c, section: section, crowd: crowd}
		if strings.HasPrefix(c.name, "stormjib") && c.name != "stormjib-slowcall" {
			r.goals = goals
		}
		*rs = append(*rs, r)
	}
}

func tableRows(tb testing.TB) []*row {
	tb.Helper()
	var rs rows
	rs.add(baseline, 0, baselines())
	rs.add(closed, 0, closedWindow(), nearTheClock, partOf(3, "⅓", closed, "gobreaker-rolling"))
	rs.add(consecutive, 0, closedConsecutive(), atMost(5))
	rs.add(refusal, 0, refusing(), atMost(30))
	rs.add(failure, 0, failing())
	rs.add(first, 0, firstTry(), atMost(6))
	rs.add(second, 0, oneRetry(), partOf(2, "½", second, "cenkalti-v7"))
	rs.add(hedging, 0, unhedged())
	find(rs, hedging, "stormjib").goals = []goal{partOf(3, "⅓", hedging, "failsafe-hedge")}
	find(rs, hedging, "stormjib-fixed").goals = []goal{
		partOf(3, "⅓", hedging, "failsafe-hedge-fixed"),
	}
	addBulkheads(&rs)
	addQueues(&rs)
	addLimiters(&rs)
	addCoalescers(&rs)
	addShedders(&rs)
	addPlacements(tb, &rs)
	addIsolation(tb, &rs)
	addHealth(tb, &rs)
	addGRPC(tb, &rs)
	addShared(tb, &rs)
	for _, r := range rs {
		switch r.section {
		case second, handedOn, stampede, queueing, queueingCrowd,
			grpcBreaker, grpcRetry, grpcBulkhead, grpcEcho, sharedLimit:
			r.most = math.MaxUint64
		case hedging, probed:
			r.most = 4
		}
	}
	return rs
}

func atMost(ns float64) goal {
	return func([]*row) (string, float64) { return fmt.Sprintf("%.0f ns", ns), ns }
}

func nearTheClock(rows []*row) (text string, most float64) {
	return "1.5 × time.Since + 5 ns", 1.5*find(rows, baseline, "time.Since").ns[0] + 5
}

// clockPlus is met by what reads the clock once and then takes so long.
func clockPlus(ns float64) goal {
	return func(rows []*row) (text string, most float64) {
		return fmt.Sprintf("time.Since + %.0f ns", ns),
			find(rows, baseline, "time.Since").ns[0] + ns
	}
}

// clocksPlus is met by what reads the clock so many times and then takes so long.
func clocksPlus(clocks, ns float64) goal {
	return func(rows []*row) (text string, most float64) {
		return fmt.Sprintf("%.0f × time.Since + %.0f ns", clocks, ns),
			clocks*find(rows, baseline, "time.Since").ns[0] + ns
	}
}

// partOf is met by what takes at most one n-th of what a peer does.
func partOf(n float64, share, section, name string) goal {
	return func(rows []*row) (text string, most float64) {
		return share + " of " + name, find(rows, section, name).judged() / n
	}
}

// noMoreThan is met by what takes at most as long as a peer.
func noMoreThan(section, name string) goal {
	return func(rows []*row) (text string, most float64) {
		return name, find(rows, section, name).judged()
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
			r.calibrate(procs, target)
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
func (r *row) calibrate(procs int, target time.Duration) {
	for r.n = 100; ; r.n *= 2 {
		start := time.Now()
		spread(r.goroutines(procs), r.n, r.loop)
		if time.Since(start) >= target/2 {
			return
		}
	}
}

func (r *row) run(i, procs int) {
	start := time.Now()
	spread(r.goroutines(procs), r.n, r.loop)
	r.rounds[i] = append(r.rounds[i], float64(time.Since(start))/float64(r.n))
}

func (r *row) goroutines(procs int) int {
	if r.crowd > 0 {
		return r.crowd
	}
	return procs
}

// judged returns the time that the goals and the ratios go by: on one processor, or on
// two where it is a crowd.
func (r *row) judged() float64 { return r.ns[r.column()] }

func (r *row) column() int {
	if r.crowd > 1 {
		return 1
	}
	return 0
}

// count counts allocations. The few of hundred thousand calls that belong to a
// new bucket are rounded away, as in a benchmark.
func (r *row) count() {
	const calls = 100_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	spread(r.goroutines(1), min(r.n, calls), r.loop)
	runtime.ReadMemStats(&after)
	r.allocs = (after.Mallocs - before.Mallocs) / uint64(min(r.n, calls))
}

func median(values []float64) float64 {
	slices.SortFunc(values, cmp.Compare)
	return values[len(values)/2]
}

func markdown(rows []*row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s/%s, %d CPUs. Medians, the contenders in turn. The goals and ratios"+
		" of a crowd are those on two processors.\n",
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
			ratio = fmt.Sprintf("%.1f", r.judged()/find(rows, section, "stormjib").judged())
		}
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %.2f | %s | %d | %s |\n", r.name,
			r.ns[0], r.ns[1], r.judged()/since.ns[r.column()], ratio, r.allocs, r.verdicts(rows))
	}
	return b.String()
}

// verdicts says of each goal whether the row reaches it.
func (r *row) verdicts(rows []*row) string {
	var all []string
	for _, g := range r.goals {
		text, most := g(rows)
		verdict := "met"
		if over := r.judged() - most; over > 0 {
			verdict = fmt.Sprintf("**missed by %.1f**", over)
		}
		all = append(all, fmt.Sprintf("≤ %s (%.1f): %s", text, most, verdict))
	}
	if r.goals != nil && r.allocs > r.most {
		all = append(all, fmt.Sprintf("%d allocs: **missed**", r.most))
	}
	return strings.Join(all, "; ")
}
