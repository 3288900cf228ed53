package hedge

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// latency follows the delay that a given share of calls exceeds. It does so by
// stochastic approximation: each call that takes longer than the delay moves it up by
// a step, each that does not moves it down by a step that is smaller by the ratio of
// the shares, so that it rests where the share is as wanted. Steps are factors, for
// the scale of latencies is not known.
//
// It needs to know of a call only on which side of the delay it was. That is why it is
// here, and no histogram: of a call that was cancelled because a hedge had answered,
// one knows just that. In a histogram it would have to be left out, or guessed; and
// what the histogram then says is not the share that there will be.
type latency struct {
	// bits is the delay in nanoseconds as the bits of a float64, 0 while it is not
	// known. To add to the bits of a float is to multiply it, near enough: a step is one
	// addition, and none of them can be lost to rounding.
	bits atomic.Uint64

	mu    sync.Mutex
	first []time.Duration // the calls until the delay is known
}

const (
	// warmup is how many calls begin it: enough for a start that is not far off. It is
	// where twice the share exceed it: a start too low is mended in a few calls, one too
	// high, for which a few slow calls by chance would do, in hundreds.
	warmup = 64

	octave = 1 << 52 // that many added to its bits double a float

	// gain is the sum of a step up and one down. At a share of a twentieth it goes
	// tenfold up in 50 calls and down in 950, and strays by a tenth when it rests.
	gain = octave / 14
)

func (l *latency) delay() time.Duration {
	return time.Duration(math.Float64frombits(l.bits.Load()))
}

// observe learns from a call that has taken so long: exactly, or at least. share is
// that of the calls that should exceed the delay; least is the least delay.
func (l *latency) observe(took time.Duration, exactly bool, share float64, least time.Duration) {
	at := math.Float64bits(float64(took))
	for {
		bits := l.bits.Load()
		next := bits
		switch {
		case bits == 0:
			if exactly {
				l.begin(took, share, least)
			}
			return
		case at > bits:
			next += uint64(gain * (1 - share))
		case exactly:
			next -= uint64(gain * share)
		}
		next = max(next, math.Float64bits(float64(least)))
		if next == bits || l.bits.CompareAndSwap(bits, next) {
			return
		}
	}
}

// begin collects calls until there are enough to begin with.
func (l *latency) begin(took time.Duration, share float64, least time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bits.Load() != 0 {
		return // while waiting for the lock
	}
	l.first = append(l.first, took)
	if len(l.first) < warmup {
		return
	}
	slices.Sort(l.first)
	d := l.first[min(int(warmup*max(1-2*share, 0)), warmup-1)]
	l.bits.Store(math.Float64bits(float64(max(d, least))))
	l.first = nil
}
