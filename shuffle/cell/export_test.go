package cell

import (
	"context"
	"time"
)

// Pace is when to pull.
type Pace struct{ p pace }

// NewPace returns one for a period.
func NewPace(period time.Duration) *Pace { return &Pace{pace{period: period}} }

// Pulled and Soon are its methods; Due its field.
func (p *Pace) Pulled(now time.Time, random time.Duration) { p.p.pulled(now, random) }

// Soon is when a pull may be that was asked for.
func (p *Pace) Soon() time.Time { return p.p.soon() }

// Due is when the next one is due.
func (p *Pace) Due() time.Time { return p.p.due }

// Bounds are what maps may move.
type Bounds struct{ b bounds }

// NewBounds returns those of a Config for a number of slots.
func NewBounds(cfg Config, slots int) *Bounds {
	return &Bounds{newBounds(cfg.withDefaults(), slots)}
}

// Take is its method.
func (b *Bounds) Take(now, unseen time.Duration, slots, tenants int) error {
	return b.b.take(now, unseen, slots, tenants)
}

// Seal puts the header and checksum before what should be a map.
func Seal(body []byte) []byte { return seal(body) }

// Pull pulls once, as Run does.
func (r *Router) Pull(ctx context.Context) { r.pull(ctx) }

// Rules are what a replica may do by a map, without a clock and a lock.
type Rules struct{ st *standing }

// RulesOf returns those of a replica; own says that the map is its own.
func RulesOf(s *Snapshot, cell, replica string, own bool) Rules {
	return Rules{newStanding(&view{table: newTable(s, [32]byte{}), own: own}, cell, replica)}
}

// Write says whether a write with an epoch may begin, and whether that takes a lease.
func (r Rules) Write(tenant string, epoch uint64) (leased, ok bool) {
	i, _ := r.st.view.table.find(tenant, "")
	k, refusal := r.st.decide(&r.st.view.table.entries[i], epoch, true)
	return k == leasedWrite, refusal == admitted
}

// Allows says whether a write that is under way may go on, for all that is settled.
func (r Rules) Allows(tenant string, leased bool) bool {
	k := freeWrite
	if leased {
		k = leasedWrite
	}
	return r.st.allowsAll(flightKey{tenant: tenant}, k)
}

// GateShards is how many locks a gate has, by the upper bits of a tenant's hash.
const GateShards = gateShards
