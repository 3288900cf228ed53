package cell

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Follows returns an error unless s can come after old, with any number of versions
// between them that nobody saw. It matches [ErrInvalid]. Both are valid by themselves. A
// [Router] takes no other, and neither should a store.
//
// What it holds is that an epoch has one cell: every tenant either keeps its epoch and
// its cell, or gets an epoch that is later than all that old could have given. So an
// entry can only be taken from Tenants where the slot has the same, or is given a new
// epoch along with it; the data of a cell that knows of a later epoch would refuse an
// earlier one.
func (s *Snapshot) Follows(old *Snapshot) error {
	if s.Version == old.Version {
		return fmt.Errorf("%w: there is another one of version %d", ErrInvalid, s.Version)
	}
	if s.Version < old.Version {
		return fmt.Errorf("%w: version %d is not after %d", ErrInvalid, s.Version, old.Version)
	}
	var c checker
	c.check(len(s.Slots) == len(old.Slots), "%d slots, but there have been %d",
		len(s.Slots), len(old.Slots))
	// A replica that is cut off goes by the longer one.
	c.check(s.Lease >= old.Lease || s.Forced > old.Version,
		"Lease is %v, but has been %v, and would have to be Forced", s.Lease, old.Lease)
	if c.bad == nil {
		d := difference{c: &c, old: old, new: s}
		d.walk()
	}
	return c.err()
}

// moved counts the slots that have another cell in s than in old, which comes before it,
// and the same of all entries that have a name.
func (s *Snapshot) moved(old *Snapshot) (slots, named int) {
	d := difference{c: &checker{}, old: old, new: s}
	d.walk()
	return d.slots, d.named
}

// difference is what is not the same in two snapshots.
type difference struct {
	c            *checker
	old, new     *Snapshot
	slots, named int // that have another cell
}

func (d *difference) walk() {
	for i := range d.new.Slots {
		if d.differs(d.old.Slots[i], d.new.Slots[i], sourceSlot, "%d", i) {
			d.slots++
		}
	}
	for _, tenant := range union(d.old.Tenants, d.new.Tenants) {
		if d.old.Splits[tenant] == nil && d.new.Splits[tenant] == nil { // else below
			d.tenant(tenant)
		}
	}
	for _, tenant := range union(d.old.Splits, d.new.Splits) {
		d.tenant(tenant)
	}
	for _, prefix := range union(d.old.Prefixes, d.new.Prefixes) {
		d.prefix(prefix)
	}
}

// differs reports whether a name has another cell, and complains if it may not.
func (d *difference) differs(was, is Assignment, kind, format string, name any) bool {
	if was.Epoch == is.Epoch && was.Cell == is.Cell {
		return false
	}
	d.c.check(is.Epoch > d.old.Version, "%s "+format+": %.100q with epoch %d after %.100q with "+
		"epoch %d, but a new epoch must be above version %d",
		kind, name, is.Cell, is.Epoch, was.Cell, was.Epoch, d.old.Version)
	return was.Cell != is.Cell
}

// tenant compares the parts of a tenant, of which there is one unless it is split.
func (d *difference) tenant(tenant string) {
	was, is := d.old.parts(tenant), d.new.parts(tenant)
	n := max(len(was), len(is))
	differs := false
	for i := range n {
		// Powers of two: the parts of one are parts of the other's.
		a, b := was[i*len(was)/n], is[i*len(is)/n]
		differs = d.differs(a, b, sourceTenant, "%.100q", tenant) || differs
	}
	if differs {
		d.named++
	}
}

func (s *Snapshot) parts(tenant string) []Assignment {
	if parts := s.Splits[tenant]; len(parts) > 0 {
		return parts
	}
	a, _ := s.Lookup(tenant, "")
	return []Assignment{a}
}

// prefix compares what the tenants have that only this prefix is for. When there is none
// in one of the snapshots, they have a shorter prefix, or any slot.
func (d *difference) prefix(prefix string) {
	was, had := d.old.Prefixes[prefix]
	is, has := d.new.Prefixes[prefix]
	switch {
	case had && has:
	case had:
		if is, has = d.new.shorter(prefix); !has {
			d.released(prefix)
			return
		}
	default:
		if was, had = d.old.shorter(prefix); !had {
			was = Assignment{} // of any cell, so no epoch of old will do
		}
	}
	if d.differs(was, is, sourcePrefix, "%.100q", prefix) {
		d.named++
	}
}

// released is for a prefix whose tenants go back to their slots.
func (d *difference) released(prefix string) {
	least := slices.MinFunc(d.new.Slots, func(a, b Assignment) int {
		return cmp.Compare(a.Epoch, b.Epoch)
	})
	d.named++
	d.c.check(least.Epoch > d.old.Version, "prefix %.100q is gone, so the epochs of all slots "+
		"must be above version %d, but one is %d", prefix, d.old.Version, least.Epoch)
}

func (s *Snapshot) shorter(prefix string) (Assignment, bool) {
	for n := len(prefix) - 1; n > 0; n-- {
		if a, ok := s.Prefixes[prefix[:n]]; ok {
			return a, true
		}
	}
	return Assignment{}, false
}

// union returns the keys of both, sorted, so that complaints are in order.
func union[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(make([]string, 0, len(a)+len(b)), maps.Keys(a))
	keys = slices.AppendSeq(keys, maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}
