package shed

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	table = flag.Bool("table", false, "print the simulations beside their targets: "+
		"go test ./shed -run Table -v -table")
	seeds     = flag.Int("seeds", 5, "of the table, which has the worst of them")
	only      = flag.String("only", "", "scenarios of the table, by parts of their names")
	algorithm = flag.String("algorithm", "ratevegas", "of the table")
)

var disciplines = [...]string{"FCFS", "PS"}

var algorithms = map[string]func(Config) Algorithm{
	"ratevegas": RateVegas, "vegas": Vegas, "gradient": Gradient, "aimd": AIMD, "fixed": Fixed,
}

// Every scenario in both disciplines, from one seed.
func TestScenarios(t *testing.T) {
	for _, sc := range scenarios() {
		if raced() && sc.gates > 1 {
			continue // ten times as slow, and nothing in it runs concurrently
		}
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			for d, discipline := range disciplines {
				for i, got := range sc.run(RateVegas, d == 1, 1) {
					for m, g := range sc.spans[i].want {
						if !g.printed && !m.met(got[m], g.bound(d)) {
							t.Errorf("%s, %s, %s: %.4f, want %.4f or better",
								sc.spans[i].name, discipline, m, got[m], g.bound(d))
						}
					}
				}
			}
		})
	}
}

// raced reports whether the race detector is at work.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	race := debug.BuildSetting{Key: "-race", Value: "true"}
	return info != nil && slices.Contains(info.Settings, race)
}

// Equal seeds give equal runs, or a table would be of no use.
func TestDeterministic(t *testing.T) {
	sc := priorities()[0]
	sc.spans[0].to, sc.length = 30*second, 30*second
	a, b, c := sc.run(RateVegas, true, 1), sc.run(RateVegas, true, 1), sc.run(RateVegas, true, 2)
	if a[0][p99] != b[0][p99] || a[0][limits] != b[0][limits] {
		t.Errorf("two runs differ: %v, %v", a[0], b[0])
	}
	if a[0][p99] == c[0][p99] {
		t.Errorf("two seeds do not: %v", a[0])
	}
}

// worst returns the worst of each measure over the seeds.
func worst(
	sc *scenario, algorithm func(Config) Algorithm, shared bool, seeds int,
) []map[measure]float64 {
	var all []map[measure]float64
	for seed := range seeds {
		for i, m := range sc.run(algorithm, shared, uint64(seed)+1) {
			if seed == 0 {
				all = append(all, m)
				continue
			}
			for key, value := range m {
				if key.met(all[i][key], value) {
					all[i][key] = value
				}
			}
		}
	}
	return all
}

func TestTable(t *testing.T) {
	if !*table {
		t.Skip("for -table")
	}
	make1 := algorithms[*algorithm]
	if make1 == nil {
		t.Fatalf("no algorithm %q", *algorithm)
	}
	all := scenarios()
	parts := make([]string, len(all))
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	var running sync.WaitGroup
	for i, sc := range all {
		wanted := func(part string) bool { return strings.Contains(sc.name, part) }
		if !slices.ContainsFunc(strings.Split(*only, ","), wanted) {
			continue
		}
		running.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			parts[i] = row(sc, make1)
		})
	}
	running.Wait()
	fmt.Printf("%s, the worst of %d seeds, FCFS / processor sharing\n%s",
		*algorithm, *seeds, strings.Join(parts, ""))
}

// row is a scenario's part of the table.
func row(sc *scenario, algorithm func(Config) Algorithm) string {
	var b strings.Builder
	begun := time.Now()
	f, p := worst(sc, algorithm, false, *seeds), worst(sc, algorithm, true, *seeds)
	fmt.Fprintf(&b, "%s (%.1f s a run)\n", sc.name, time.Since(begun).Seconds()/float64(2**seeds))
	for i, s := range sc.spans {
		f, p := f[i], p[i]
		fmt.Fprintf(&b, "    %-14s goodput %.3f / %.3f  p99 %.2f / %.2f  rejects %5.2f / %5.2f %%"+
			"  limits %.1f / %.1f  refusal %.0f / %.0f ms\n",
			s.name, f[goodput], p[goodput], f[p99], p[p99], 100*f[rejects], 100*p[rejects],
			f[limits], p[limits], f[refusal], p[refusal])
		for m, g := range s.want {
			for d, v := range []float64{f[m], p[m]} {
				if !m.met(v, g.target[d]) {
					fmt.Fprintf(&b, "        gap: %s %s %.4f, wanted %.4f\n",
						disciplines[d], m, v, g.target[d])
				}
			}
		}
	}
	return b.String()
}
