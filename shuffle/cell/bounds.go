package cell

import (
	"fmt"
	"math"
	"time"
)

// bounds holds what maps move to so much an hour: a bucket that an hour empties. It has no
// clock and no lock.
type bounds struct {
	slots, tenants bucket
}

// bucket is filled by what moves.
type bucket struct {
	limit float64 // an hour; infinite if there is none
	level float64
	at    time.Duration // of the level
}

func newBounds(cfg Config, slots int) bounds {
	b := bounds{bucket{limit: math.Inf(1)}, bucket{limit: math.Inf(1)}}
	if cfg.MaxSlots >= 0 {
		b.slots.limit = max(1, cfg.MaxSlots*float64(slots))
	}
	if cfg.MaxTenants >= 0 {
		b.tenants.limit = float64(cfg.MaxTenants)
	}
	return b
}

// take returns an error if so much is more than may be moved at now. Unseen is for how
// long nobody could have seen what has been moved; it may have been a limit each hour.
func (b *bounds) take(now, unseen time.Duration, slots, tenants int) error {
	if !b.slots.fits(now, unseen, slots) || !b.tenants.fits(now, unseen, tenants) {
		return fmt.Errorf("%w: it moves %d slots and %d tenants, beside %.0f and %.0f of late, "+
			"but an hour's bounds are %.0f and %.0f; it would have to be Forced", ErrInvalid,
			slots, tenants, b.slots.level, b.tenants.level, b.slots.limit, b.tenants.limit)
	}
	b.slots.level += float64(slots)
	b.tenants.level += float64(tenants)
	return nil
}

func (b *bucket) fits(now, unseen time.Duration, n int) bool {
	if math.IsInf(b.limit, 1) { // of which no time is no number
		return true
	}
	b.level = max(0, b.level-(now-b.at).Hours()*b.limit)
	b.at = now
	return n == 0 || b.level+float64(n) <= b.limit*(1+max(0, unseen).Hours())
}
