package pressure

import (
	"bytes"
	"io"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strconv"
	"time"
)

// CPU returns a signal of how much of the time the process's cgroup, of version 2, has
// waited for a processor. It is off on anything but Linux, where there is version 1 alone,
// and where neither cpu.stat tells of throttling nor cpu.pressure of pressure. Where
// version 1 has the cpu controller, but 2 is there too, it goes by cpu.pressure.
//
// It keeps these two files open, and the runtime closes them when the signal is garbage.
//
// Start is 0.2 and Full 0.6 if zero. Neighbours take a tenth on a good day. When threads
// are held up for most of the time, everything takes more than twice as long as it should.
func CPU(cfg Config) *Signal {
	return newCPU(cfg, os.DirFS("/"), func() int { return runtime.GOMAXPROCS(0) })
}

func newCPU(cfg Config, root fs.FS, procs func() int) *Signal {
	c := &cpu{procs: procs}
	if dir, ok := cgroupDir(root); ok {
		c.throttled.file = open(root, dir+"/cpu.stat")
		c.stalled.file = open(root, dir+"/cpu.pressure")
	}
	return newSignal(cfg.filled("cpu", 0.2, 0.6), c)
}

// open returns nil if there is no such file, or none that can be read again and again.
func open(root fs.FS, name string) io.ReaderAt {
	file, err := root.Open(name)
	if err != nil {
		return nil
	}
	again, ok := file.(io.ReaderAt)
	if !ok {
		_ = file.Close()
		return nil
	}
	return again
}

// A cpu reads its files from the beginning each time, into memory that it keeps. To open
// them anew would cost more than to read them, and allocate; a cgroup that is removed
// under its process has files that can no longer be read.
type cpu struct {
	throttled, stalled counter
	procs              func() int
	clock              clock
	recent             float64
	buf                [4096]byte
}

func (c *cpu) sample(now time.Duration) (value float64, off string) {
	passed, ok := c.clock.since(now)
	throttled, hasThrottled := c.throttled.delta(c.read(c.throttled.file, throttledIn))
	stalled, hasStalled := c.stalled.delta(c.read(c.stalled.file, stalledIn))
	if !hasThrottled && !hasStalled {
		c.recent = 0
		return 0, "no cpu.stat or cpu.pressure of a cgroup v2"
	}
	if !ok {
		c.recent = 0
		return 0, ""
	}
	// Throttling counts for each of the processors that the group would have run on.
	micros := max(throttled/float64(c.procs()), stalled)
	share := min(micros*float64(time.Microsecond)/float64(passed), 1)
	c.recent = toward(c.recent, share, passed, recently)
	return c.recent, ""
}

// read returns what find finds in the file.
func (c *cpu) read(file io.ReaderAt, find func([]byte) (uint64, bool)) (uint64, bool) {
	if file == nil {
		return 0, false
	}
	n, err := file.ReadAt(c.buf[:], 0)
	if err != nil && err != io.EOF {
		return 0, false
	}
	return find(c.buf[:n])
}

// A counter is one that the kernel has, in microseconds.
type counter struct {
	file io.ReaderAt // nil: there is none
	last uint64
	ok   bool // last is known
}

// delta returns by how much the counter has grown since the last call, 0 if that is not
// known, and false if the counter itself is not.
func (c *counter) delta(total uint64, ok bool) (micros float64, known bool) {
	if ok && c.ok && total >= c.last {
		micros = float64(total - c.last)
	}
	c.last, c.ok = total, ok
	return micros, ok
}

// throttledIn finds the microseconds in cpu.stat:
//
//	nr_throttled 17
//	throttled_usec 35000
func throttledIn(text []byte) (uint64, bool) {
	return numberAfter(text, "throttled_usec ")
}

// stalledIn finds the microseconds in cpu.pressure:
//
//	some avg10=1.53 avg60=0.87 avg300=0.73 total=1088168194
//	full avg10=0.00 avg60=0.00 avg300=0.00 total=0
func stalledIn(text []byte) (uint64, bool) {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("some ")) {
			_, total, _ := bytes.Cut(line, []byte(" total="))
			return number(total)
		}
	}
	return 0, false
}

func numberAfter(text []byte, prefix string) (uint64, bool) {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(prefix)); ok {
			return number(rest)
		}
	}
	return 0, false
}

// number reads a line with a number and nothing else.
func number(line []byte) (uint64, bool) {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 64)
	return n, err == nil && n <= math.MaxInt64
}
