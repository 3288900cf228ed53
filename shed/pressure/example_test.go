package pressure_test

import (
	"fmt"
	"strings"

	"github.com/stormjib/stormjib/shed/pressure"
)

// The highest of several, for a shedder or a dimmer.
func ExampleMax() {
	memory := pressure.Memory(pressure.Config{})
	cpu := pressure.CPU(pressure.Config{})
	connections := func() float64 { return 37. / 100 } // of a pool, say

	highest := pressure.Max(memory.Level, cpu.Level, connections)
	fmt.Println(highest() >= 0.37)
	// Output: true
}

// After the start, a look at which signals there are. What is below Start is there too: it
// is what thresholds of one's own are found with.
func ExampleSignal_Stats() {
	signals := []*pressure.Signal{
		pressure.Memory(pressure.Config{}),
		pressure.CPU(pressure.Config{Start: 0.3, Full: 0.8}),
		pressure.Scheduler(pressure.Config{}),
	}
	for _, signal := range signals {
		s := signal.Stats()
		on := s.Off == ""
		_ = on // log it, with s.Value or s.Off
		fmt.Println(s.Name, s.Level)
	}
	// Output:
	// memory 0
	// cpu 0
	// scheduler 0
}

// A configuration from a file is checked before a signal is made of it.
func ExampleConfig_Validate() {
	cfg := pressure.Config{Start: 80, Full: -1}
	for problem := range strings.SplitSeq(cfg.Validate().Error(), "; ") {
		fmt.Println(problem)
	}
	// Output: pressure: Config: Full is -1, but must be above 0 and finite
}

// Testing your code. A signal is a function, and in a test one that says what it is told
// to: neither memory nor processors need to be short.
func Example_testing() {
	level := 0.0
	overloaded := func(signal func() float64) bool { return signal() > 0.9 } // yours

	signal := func() float64 { return level }
	fmt.Println(overloaded(signal))
	level = 1
	fmt.Println(overloaded(signal))
	// Output:
	// false
	// true
}
