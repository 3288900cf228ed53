package health

import "time"

// Status is what a check, or all of them together, says.
type Status int

const (
	// Fail keeps the replica out of rotation, or from being live. It is the zero Status.
	Fail Status = iota

	// Warn is for people: something is wrong, and the replica serves nevertheless.
	Warn

	// Pass says that nothing is wrong.
	Pass
)

// String returns "fail", "warn" or "pass".
func (s Status) String() string {
	switch s {
	case Pass:
		return "pass"
	case Warn:
		return "warn"
	}
	return "fail"
}

// Report is what a replica knows of its health at one moment. It is for reading only: it
// shares its slices with others.
type Report struct {
	Name string // Config.Name

	// Phase is "starting" until the replica is ready first; then "ready" or "unready";
	// "draining" after [Health.SetDraining]; and "stopped" after [Health.Stop].
	Phase string

	// Status is Fail if the replica is not ready, and else the worst of Checks.
	Status Status

	// Live, Ready and Started are the answers to the three probes. Live is false while a
	// check of class [Liveness] is down. Ready is true while the phase is "ready". Started
	// is true once nothing has kept the replica from being ready, and stays so.
	Live, Ready, Started bool

	// Since is when the phase began.
	Since time.Time

	// Slowest is what start-up waits for, the first of Checks if there are several, or
	// what it waited for last.
	Slowest string

	// Startup is how long start-up took, from Start on. It is 0 while it lasts.
	Startup time.Duration

	// Notes are for people: what start-up did not wait for, what became of hooks.
	Notes []string

	// Checks are the gates and then the checks, in the order of Config.
	Checks []Result
}

// Result is what is known of one check or gate.
type Result struct {
	Name   string // Check.Name, or one of Config.Gates
	Class  Class  // of a gate, one whose String is "gate"
	Status Status // Fail only where the replica is not ready, or not live, because of it

	// Since is from when on it has had this Status.
	Since time.Time

	// Time is when the last run ended, or began that has not come back in time; of a gate,
	// when it was opened. It is zero if there is nothing yet.
	Time time.Time

	// Took is how long that run was, or is by now; of a gate, how long it was shut after
	// Start.
	Took time.Duration

	Failures int  // in a row
	Stuck    bool // a run is under way that should have come back
	Stale    bool // see Check.StaleAfter

	// Output says what is wrong, in the words of the check's error, or is empty. It is for
	// those who may know: it can have names and addresses in it.
	Output string
}
