package retry

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"
)

// Budget bounds retries by what succeeds. It is a bucket of tokens: a retry takes
// one, a call that succeeds at its first attempt puts a part of one back, and a
// trickle comes with time. So in good times single failures are retried freely, and
// when everything fails, retries add next to nothing to a load that already is too
// much. It is this, not backoff, that keeps a short overload from lasting: backoff
// delays retries, and a system that cannot serve the load cannot serve it later.
//
// The zero Budget is ready to use, full, and safe for concurrent use. Don't copy it
// after that. Each [Policy] has one of its own; share one between the policies that
// call the same dependency. Success costs one atomic load while the bucket is full,
// and never reads the clock.
//
// The bucket is small on purpose. One that begins with a hundred tokens lets a
// thousand clients double the load before it binds.
//
// It counts what failed, not what is under way: a budget on the share of calls in
// flight, as some libraries have it, does not bind when attempts fail in a
// millisecond, since hardly any are in flight.
type Budget struct {
	// Ratio is what a success at the first attempt puts back, in tokens. If zero,
	// 0.1: retries add at most a tenth to the load. At most 1.
	Ratio float64

	// Burst is how many tokens the bucket holds. If zero, 3: the retries of one call.
	Burst int

	// Floor is how many tokens come back in a second, whatever succeeds: without any
	// a client that calls once a minute could hardly ever retry. If zero, 0.1. If
	// negative, none.
	Floor float64

	// Refund puts a token back when the retry that it paid for succeeds. Then retries
	// that help are free: success holds out to higher failure rates, but the load
	// may grow by a quarter instead of a tenth while some fail and some do not. In a
	// total outage the bound is the same. If zero, there is no refund.
	Refund bool

	// Off lets every retry through. The number of attempts is the only bound then.
	Off bool

	spent atomic.Int64              // millionths of a token missing from a full bucket
	base  atomic.Pointer[time.Time] // what the times count from; nil until the first retry
	last  atomic.Int64              // when the floor was last paid, in nanoseconds
}

const token = 1_000_000

// Validate returns an error that names every field that has no meaning, with its
// value, or nil. Where it is not called such a field is read as zero.
func (b *Budget) Validate() error {
	var bad []string
	if !(b.Ratio >= 0 && b.Ratio <= 1) {
		bad = append(bad, fmt.Sprintf("Ratio is %v, but must be from 0 to 1", b.Ratio))
	}
	if b.Burst < 0 || b.Burst > math.MaxInt32 {
		bad = append(bad, fmt.Sprintf("Burst is %d, but must be from 0 to 2147483647", b.Burst))
	}
	if math.IsNaN(b.Floor) || math.IsInf(b.Floor, 0) {
		bad = append(bad, fmt.Sprintf("Floor is %v, but must be a number", b.Floor))
	}
	if bad == nil {
		return nil
	}
	return errors.New("retry: Budget: " + strings.Join(bad, "; "))
}

// Success tells the budget of a call that succeeded at its first attempt. [Do] does.
func (b *Budget) Success() {
	if b.spent.Load() > 0 {
		b.put(b.perSuccess())
	}
}

// Take takes a token for a retry, and reports whether there was one. [Do] does, before
// it waits.
func (b *Budget) Take() bool {
	if b.Off {
		return true
	}
	b.payFloor()
	most := b.most()
	for {
		spent := b.spent.Load()
		if spent+token > most {
			return false
		}
		if b.spent.CompareAndSwap(spent, spent+token) {
			return true
		}
	}
}

// Return puts back a token that was taken for a retry that was not made. [Do] does when
// the wait for it is cancelled.
func (b *Budget) Return() {
	if !b.Off {
		b.put(token)
	}
}

// Tokens returns how many tokens are in the bucket now. It is for exporters and tests.
func (b *Budget) Tokens() float64 {
	b.payFloor()
	return float64(b.most()-b.spent.Load()) / token
}

// put puts back what fits.
func (b *Budget) put(n int64) {
	for {
		spent := b.spent.Load()
		if b.spent.CompareAndSwap(spent, max(spent-n, 0)) {
			return
		}
	}
}

// most returns what a full bucket holds.
func (b *Budget) most() int64 {
	if b.Burst > 0 && b.Burst <= math.MaxInt32 {
		return int64(b.Burst) * token
	}
	return 3 * token
}

func (b *Budget) perSuccess() int64 {
	if b.Ratio > 0 && b.Ratio <= 1 {
		return int64(b.Ratio * token)
	}
	return token / 10
}

// payFloor puts back what has come with time. The clock begins with the first retry:
// until then the bucket is full.
func (b *Budget) payFloor() {
	perSecond := b.Floor
	if perSecond == 0 || math.IsNaN(perSecond) || math.IsInf(perSecond, 0) {
		perSecond = 0.1
	}
	if perSecond < 0 {
		return
	}
	base := b.base.Load()
	if base == nil {
		now := time.Now()
		b.base.CompareAndSwap(nil, &now)
		return
	}
	last, now := b.last.Load(), int64(time.Since(*base))
	perNano := perSecond * token / float64(time.Second)
	gained := math.Floor(float64(now-last)*perNano + 1e-6) // a day of 1/86400 is a token
	switch most := float64(b.most()); {
	case gained >= most || gained < 0: // below zero: a test's time, and another test's
		if b.last.CompareAndSwap(last, now) {
			b.put(int64(max(0, min(gained, most))))
		}
	case gained > 0:
		// The clock goes on by what was paid for, so that no fraction is lost however
		// often somebody asks.
		if b.last.CompareAndSwap(last, last+int64(gained/perNano)) {
			b.put(int64(gained))
		}
	}
}
