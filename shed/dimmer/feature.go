package dimmer

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
)

// Feature is a piece of optional work. It comes from [Dimmer.Feature], and is for any
// number of goroutines.
type Feature struct {
	d    *Dimmer
	name string

	share  atomic.Uint64 // of whole
	dimmed atomic.Uint64
	mode   mode // under the dimmer's lock
}

// whole is the share of a feature that is lit for every request: one more than the
// largest draw.
const whole = 1 << 63

// Allow reports whether the feature is lit for this request. Ask once for each request and
// keep the answer: between two questions the share may change, and the dice fall anew
// unless [WithSeed] has thrown them.
//
// It allocates nothing. While the feature is lit for every request it costs one
// atomic load, and with a Config.Signal a reading of the clock. Otherwise it also
// costs that reading, and a random number.
func (f *Feature) Allow(ctx context.Context) bool {
	if f == nil {
		return true
	}
	// Observe ends the periods. It is here too for a Signal without delays, and for
	// when nobody observes any more.
	if f.d.cfg.Signal != nil || f.share.Load() != whole {
		f.d.tick()
	}
	share := f.share.Load()
	if share == whole || share != 0 && draw(ctx) < share {
		return true
	}
	f.dimmed.Add(1)
	return false
}

// Share returns the part of the requests for which the feature is lit, from 0 to 1.
func (f *Feature) Share() float64 {
	if f == nil {
		return 1
	}
	return float64(f.share.Load()) / whole
}

// A mode is who decides.
type mode int

const (
	auto mode = iota
	forcedOn
	forcedOff
)

func (m mode) String() string {
	switch m {
	case forcedOn:
		return "forced on"
	case forcedOff:
		return "forced off"
	}
	return "auto"
}

// ForceOn lights the feature for every request, until [Feature.Auto] or
// [Feature.ForceOff]. The others then have to bear what it would have borne.
func (f *Feature) ForceOn() { f.force(forcedOn) }

// ForceOff dims the feature for every request, until [Feature.Auto] or
// [Feature.ForceOn]. It is the switch that one wants to have at hand in an incident.
func (f *Feature) ForceOff() { f.force(forcedOff) }

// Auto ends what ForceOn or ForceOff began. What all features together have stays, and is
// dealt out anew: nothing jumps, and a feature that was dark comes back step by step.
func (f *Feature) Auto() { f.force(auto) }

func (f *Feature) force(m mode) {
	if f == nil {
		return
	}
	d := f.d
	d.mu.Lock()
	defer d.mu.Unlock()
	f.mode = m
	switch m {
	case forcedOn:
		f.share.Store(whole)
	case forcedOff:
		f.share.Store(0)
	}
	d.redeal()
	d.publish()
}

// redeal has the features that are not forced keep, all together, what they have: else a
// switch for one would be a jump in the load of the others. The lock is held.
func (d *Dimmer) redeal() {
	n, kept := d.automatic(), 0.0
	for _, f := range d.features {
		if f.mode == auto {
			kept += f.Share()
		}
	}
	if n > 0 {
		d.control.share = kept / float64(n)
	}
}

type seedKey struct{}

// seedContext is a context with a draw: one allocation, where context.WithValue has two.
type seedContext struct {
	context.Context //nolint:containedctx // it is a context
	draw            uint64
}

func (c *seedContext) Value(key any) any {
	if key == (seedKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// WithSeed returns a context in which every answer of every dimmer goes by seed instead of
// by chance: as long as the shares stay, the same question has the same answer. What has
// been dimmed at a lower share is dimmed for it at any still lower one.
//
// With a random number for each request, its parts agree: it gets all optional
// work or none, where two dimmers are both at a half. With a hash of the user, a user
// sees the same page at each click; but then it is the same users each time who go
// without.
func WithSeed(ctx context.Context, seed uint64) context.Context {
	// Seeds may be small numbers. This is the finisher of SplitMix64: each bit of the
	// seed changes half of those of the draw.
	seed += 0x9e3779b97f4a7c15
	seed = (seed ^ seed>>30) * 0xbf58476d1ce4e5b9
	seed = (seed ^ seed>>27) * 0x94d049bb133111eb
	return &seedContext{ctx, (seed ^ seed>>31) >> 1}
}

// draw returns a number below whole.
func draw(ctx context.Context) uint64 {
	if c, ok := ctx.Value(seedKey{}).(*seedContext); ok {
		return c.draw
	}
	return rand.Uint64() >> 1
}
