// Storm runs real services on loopback TCP into a real fault, or a real surge of
// traffic, and compares what three ways of building one make of it: bare (timeouts, and
// retries or a cache where that is what it is about), tuned (the static code a careful
// engineer writes, such as a semaphore and a short timeout) and stormjib (the library as
// its documentation has it, on its defaults where there are any).
//
//	go run ./examples/storm
//	go run ./examples/storm -list
//	go run ./examples/storm -scenario retrystorm -json retrystorm.json
//	go run ./examples/storm -scenario outage -transport grpc
//	go run ./examples/storm -scenario all
//
// Without -scenario it is a tour of those that -list marks, in under 90 seconds.
// All of them take ten minutes: to see that something never recovers, one has to wait.
//
// # Fairness
//
// Each variant has a generator, a front service and a dependency of its own, and one that
// plays the nodes between those two where a scenario has any: each a process of its own,
// fresh for the run. The traffic is open loop: the arrivals are drawn beforehand from the
// seed, are the same for every variant, and latency counts from the moment a request should
// have left. The front service runs the same handler in every variant, fallback included;
// what differs is only what stands between that handler and the dependency, or between the
// clients and that handler. Where the service has room for so many requests at a time, it
// has the same room in every variant; the others wait, first come, first served, until they
// leave. Of nodes that come and go all variants hear at the same time.
//
// A dependency whose slots are all busy queues, first come, first served; work whose
// caller has left is finished once it has a slot, and skipped while it still queues,
// unless the scenario says that it is done all the same. A request that comes to it
// again, as a retry or a hedge, is drawn anew, and alike in every variant.
//
// A request that is turned away, by 429 or 503, is not a good one, whatever the
// reason: it is counted apart from what failed, since it costs its user less time. One that
// is answered without what is optional is a good one, and counted apart too.
//
// The tuned variant may know what the library does not: how many slots there are, how
// long answers take. It may keep the promise too, or do better; then the scenario
// says so. What must not keep it is the bare one.
//
// A run is invalid, reported and repeated when a generator fell behind its own
// schedule (p99 above 5 ms), reached its cap on requests in flight, or when any
// process met a limit on files or ports: such a run measures the machine.
//
// # Exit codes
//
//	0    every promise was kept
//	1    a promise was broken, or the bare variant kept them all, or did not
//	     suffer what it should, and the scenario shows nothing
//	2    wrong usage, or the environment does not allow a run
//	3    no valid run in three attempts
//	130  interrupted; what was measured so far is printed, marked partial
//
// "go run" itself reports every code but 0 as 1; build the program where the
// difference matters.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The exit codes of the package comment.
const (
	exitKept        = 0
	exitBroken      = 1
	exitUsage       = 2
	exitInvalid     = 3
	exitInterrupted = 130
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == roleArgument {
		// An interrupt at the terminal reaches the whole process group. Actors
		// leave it to their parent, which still wants their last lines.
		signal.Ignore(os.Interrupt)
		os.Exit(act(os.Args[2], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// settings are the flags, checked.
type settings struct {
	scenarios []*Scenario
	duration  time.Duration // zero: each scenario's own
	seed      uint64
	json      string
}

// run is main without the process around it, so that tests can call it.
func run(args []string, stdout, stderr io.Writer) int {
	set, code, err := parse(args, stdout)
	if err != nil {
		complain(stderr, err)
	}
	if set == nil {
		return code
	}
	file, err := openReport(set.json, stdout)
	if err != nil {
		complain(stderr, err)
		return exitUsage
	}
	if set.json == "-" {
		stdout = stderr // The report has stdout to itself.
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report := tour(ctx, set, newScreen(stdout))
	if err := report.write(file); err != nil {
		complain(stderr, err)
		return exitUsage
	}
	if report.Error != "" {
		complain(stderr, report.Error)
	}
	return report.Exit
}

func complain(stderr io.Writer, what any) {
	_, _ = fmt.Fprintln(stderr, "storm:", what)
}

// parse reads the flags. Without settings there is nothing to run and the code
// says why: help and -list are done, anything else was wrong.
func parse(args []string, stdout io.Writer) (set *settings, code int, err error) {
	flags := flag.NewFlagSet("storm", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // Errors are told once, and not with all flags behind them.
	name := flags.String("scenario", nameTour,
		"the `NAME` of one scenario, or all, or tour: those that -list marks")
	transport := flags.String("transport", "",
		"`http`, or grpc for the scenarios that can be run over it (default the scenario's own)")
	list := flags.Bool("list", false, "list the scenarios and what each shows")
	redis := flags.String("redis", "",
		"the `ADDRESS` of a Redis for what needs one (default one in memory)")
	duration := flags.Duration("duration", 0,
		"measured time per scenario (default the scenario's own)")
	seed := flags.Uint64("seed", 1, "seed of arrivals and service times")
	json := flags.String("json", "", "write every figure to `FILE`; - is stdout")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stdout)
		flags.Usage()
		return nil, exitKept, nil
	} else if err != nil {
		return nil, exitUsage, err
	}
	if flags.NArg() > 0 {
		return nil, exitUsage, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *list {
		for _, s := range scenarios {
			mark := ""
			if s.Tour {
				mark = nameTour
			}
			_, _ = fmt.Fprintf(stdout, "%-11s %-5s %s\n", s.Name, mark, s.Shows)
		}
		return nil, exitKept, nil
	}
	chosen, err := choose(*name, *transport, *duration)
	if err != nil {
		return nil, exitUsage, err
	}
	for i, s := range chosen {
		chosen[i] = s.with(*redis)
	}
	return &settings{chosen, *duration, *seed, *json}, exitKept, nil
}

// The names of sets of scenarios.
const (
	nameAll  = "all"
	nameTour = "tour"
)

// choose finds the scenarios by name and reports a duration too short for what
// they promise: the faults keep their times, so a short run would end in one.
func choose(name, transport string, duration time.Duration) ([]*Scenario, error) {
	chosen := named(name)
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no scenario %q; -list shows them", name)
	}
	if duration < 0 {
		return nil, fmt.Errorf("-duration %v is negative", duration)
	}
	for i, s := range chosen {
		var err error
		if chosen[i], err = s.over(transport); err != nil {
			return nil, err
		}
		if duration != 0 && duration < s.Needs {
			return nil, fmt.Errorf("-duration %v is too short: %s needs %v to show its promise",
				duration, s.Name, s.Needs)
		}
	}
	return chosen, nil
}

// named returns the scenarios that a name stands for.
func named(name string) []*Scenario {
	var chosen []*Scenario
	for _, s := range scenarios {
		if name == nameAll || name == nameTour && s.Tour || name == s.Name {
			chosen = append(chosen, s)
		}
	}
	return chosen
}
