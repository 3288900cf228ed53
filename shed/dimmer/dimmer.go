package dimmer

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Dimmer finds how much optional work there is time for. Make it with [New], use it from
// any number of goroutines, and let the garbage collector have it: it has no goroutine
// and no timer, and nothing to close.
//
// Shares change on the goroutine of a caller that finds the period over. Nobody waits
// for it.
type Dimmer struct {
	cfg      Config
	base     time.Time // what the times count from
	features []*Feature

	end        atomic.Int64 // of the period
	sum, count atomic.Int64 // of what was observed in it, in thousandths of the target
	ignored    atomic.Uint64

	mu       sync.Mutex // held to change shares, never around the user's code
	control  controller
	measured float64 // the last measurement
}

// New returns a dimmer with everything lit. It panics if cfg is not valid; see
// [Config.Validate].
func New(cfg Config) *Dimmer {
	d := &Dimmer{cfg: cfg.filled(), base: time.Now(), control: newController()}
	for _, name := range d.cfg.Features {
		d.features = append(d.features, &Feature{d: d, name: name})
	}
	d.end.Store(int64(d.cfg.Period))
	d.publish()
	return d
}

// clock returns nanoseconds since the dimmer was made. It is monotonic, and half the
// price of time.Now. A dimmer made inside a testing/synctest bubble and used outside
// would see a time before that; it sees 0.
func (d *Dimmer) clock() int64 { return max(0, int64(time.Since(d.base))) }

// Observe tells the dimmer of one delay: how long a request has waited, see the package
// comment. It costs one reading of the clock and two atomic additions, and allocates
// nothing.
func (d *Dimmer) Observe(delay time.Duration) {
	d.tick()
	if delay < 0 {
		d.ignored.Add(1)
		return
	}
	targets := min(float64(delay)/float64(d.cfg.Target), most)
	// Two words that do not change together. One delay that counts in the sum of a period
	// and in the number of the next is nothing to have a lock for.
	d.sum.Add(int64(math.Round(targets * thousandths)))
	d.count.Add(1)
}

const thousandths = 1000

// tick ends the period if it is over.
func (d *Dimmer) tick() {
	now, end, period := d.clock(), d.end.Load(), int64(d.cfg.Period)
	if now < end || !d.end.CompareAndSwap(end, now-now%period+period) {
		return // or another caller is at it
	}
	level, ok := 0.0, false
	// Deferred, since Signal may panic: that is a period without a measurement.
	defer func() { d.step(level, ok, (now-end)/period) }()
	level, ok = d.measure()
}

// step changes the shares after a period with this measurement, if ok, and some more in
// which nobody called.
func (d *Dimmer) step(level float64, ok bool, empty int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ok {
		d.measured = level
		d.control.measured(level)
	} else {
		empty++
	}
	d.control.missed(empty)
	d.publish()
}

// measure returns what the period was like, in targets, and false if nobody can tell. It
// calls Signal, so the lock must not be held.
func (d *Dimmer) measure() (level float64, ok bool) {
	sum, count := d.sum.Swap(0), d.count.Swap(0)
	if count > 0 {
		level, ok = float64(sum)/thousandths/float64(count), true
	}
	if d.cfg.Signal == nil {
		return level, ok
	}
	signal := d.cfg.Signal()
	if math.IsNaN(signal) {
		return level, ok
	}
	return max(level, min(signal, 1)/d.cfg.SetPoint), true
}

// publish gives each feature that is not forced its share. The lock is held, or d is not
// in use yet.
func (d *Dimmer) publish() {
	left := d.control.share * float64(d.automatic())
	for _, f := range slices.Backward(d.features) {
		if f.mode != auto {
			continue
		}
		part := max(0, min(left, 1))
		left -= part
		f.share.Store(uint64(part * whole))
	}
}

// automatic returns how many features are not forced. The lock is held.
func (d *Dimmer) automatic() int {
	n := 0
	for _, f := range d.features {
		if f.mode == auto {
			n++
		}
	}
	return n
}

// Feature returns the feature of that name. It is nil if there is none, and a nil
// Feature is always lit: so a program can ask for all of its features, and a
// configuration says which of them may be dimmed.
func (d *Dimmer) Feature(name string) *Feature {
	for _, f := range d.features {
		if f.name == name {
			return f
		}
	}
	return nil
}
