// Package pressure tells how close a process is to the end of a resource.
//
// A shedder and a dimmer go by how long requests wait. That is what users feel, and it
// covers most of what can become short. But some things are seen late in it: memory, until
// the garbage collector takes all of the time; or not at all: that it is the neighbours'
// load, or a quota of the container, that makes everything slow. A [Signal] measures one
// such thing, as a number from 0, calm, to 1, saturated.
//
// Use one where you know that the resource runs out before requests queue. It is for
// the Signal of a dimmer's Config, or a readiness check:
//
//	var memory = pressure.Memory(pressure.Config{})
//
//	var optional = dimmer.New(dimmer.Config{Signal: memory.Level})
//
// Do not use any without having seen it on your machines: [Stats] has what is measured,
// and thresholds that are right for all do not exist. That is why no package uses one
// by itself. Nor for autoscaling or alerts, which can wait for better numbers than a
// tenth of a second gives.
//
// Vocabulary: what a signal measures is its value. Its level is 0 up to the value Start,
// 1 from Full on, and in proportion between them. A signal that cannot measure is off,
// and its level is 0.
//
// # Algorithm
//
// [Memory] is the heap that was live at the end of the last garbage collection, with stacks
// and what the runtime itself needs, as a part of the limit that GOMEMLIMIT or
// debug.SetMemoryLimit has set. Not what the process has from the system, nor what its
// cgroup counts: garbage and page cache are in those, and both fill what there is.
//
// [CPU] is the part of the time in which a thread of the cgroup was ready to run and did
// not, because its quota was used up or others had the processor. It is the greater of
// throttled_usec in cpu.stat, for each of GOMAXPROCS, and of the total of some in
// cpu.pressure. Both are counters, so that the time over which they are averaged is
// chosen here: a second. The avg10 beside the total is ten seconds old, and a controller
// that goes by it swings, as do those by an average of CPU use over five seconds or
// more. Use itself is not measured at all: at 100 % nothing tells a machine that is just
// busy enough from one with ten times too much to do.
//
// [Scheduler] is how many goroutines are ready to run for each of GOMAXPROCS, averaged over
// a second, in multiples of what that was over five minutes, or of 1 if it was less. A
// multiple, because how many are usual depends on the program: for one that wakes all
// of a thousand goroutines at a time, hundreds are. While it is above Start the average
// follows twelve times as slowly, or an overload would soon be usual. Not the latencies that
// the runtime has a histogram of: those are sampled, a few dozen in a second, and
// thresholds on them broke when a release of Go sampled others.
//
// # Defaults
//
// A zero [Config] has Start and Full of 0.8 and 0.95 for Memory, 0.2 and 0.6 for CPU, and
// 4 and 16 for Scheduler. Each of these functions says why.
//
// # Failure modes
//
//   - A file or a metric that is not there, or holds what nobody expected, and cgroups of
//     version 1 alone: the signal is off, and never an error. A server without a signal
//     is as it was before. [Stats].Off says why; look at it once after a start.
//   - It is tried again at each poll: what can be read again is used again. The files are
//     looked for only once.
//   - After a pause of more than five seconds without a poll the measurement begins anew,
//     and the level is 0 until the next one. A counter that goes backwards counts for
//     nothing in that poll.
//   - The live heap is as old as the last garbage collection. Near the limit they follow
//     each other closely, as long as anything is done at all: a service that refuses every
//     request because of its memory would never get to see it freed. Package shed lets
//     some through.
//   - In a virtual machine, time that the host gives to others is not pressure that Linux
//     sees.
//   - The quota of a cgroup further up, as that of a pod around its containers, is in
//     cpu.pressure but not in cpu.stat.
//   - After hours of overload Scheduler takes it for usual.
//   - A poll is done by a caller, who takes some microseconds for it, at most ten times in
//     a second. The others have the last level.
//
// Experimental: the API may change with a minor version.
package pressure
