package cell

import (
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stormjib/stormjib/internal/hop"
)

const (
	maxSlots = 1 << 16
	maxCells = math.MaxUint16 - 1
	maxLease = time.Hour

	// maxVersion is what a header field can carry, and what is exact in the JSON of others.
	maxVersion = 999_999_999_999_999
)

// Validate returns an error that says what is wrong with s by itself, or nil. It matches
// [ErrInvalid]. [Snapshot.Encode] and [Decode] call it.
func (s *Snapshot) Validate() error {
	var c checker
	c.check(s.Version > 0, "Version is 0")
	c.check(s.Version <= maxVersion, "Version is %d, but may have 15 digits", s.Version)
	c.check(s.Forced <= s.Version, "Forced is %d, after Version %d", s.Forced, s.Version)
	c.check(s.Lease > 0 && s.Lease <= maxLease,
		"Lease is %v, but must be above 0 and at most 1h", s.Lease)
	c.check(bits.OnesCount(uint(len(s.Slots))) == 1 && len(s.Slots) <= maxSlots,
		"%d slots, but there must be a power of two up to 65536", len(s.Slots))
	c.cells(s.Cells)
	for i, a := range s.Slots {
		c.assignment(a, s.Version, "slot", fmt.Sprint(i))
	}
	c.named(s.Tenants, s.Version, sourceTenant)
	c.named(s.Prefixes, s.Version, sourcePrefix)
	for _, tenant := range slices.Sorted(maps.Keys(s.Splits)) {
		c.split(s, tenant)
	}
	return c.err()
}

// maxBad is how many mistakes are told of. A map that is wrong is most often wrong all
// over.
const maxBad = 5

type checker struct {
	known map[string]bool // IDs of cells
	bad   []string
	more  int
}

func (c *checker) check(ok bool, format string, args ...any) {
	switch {
	case ok:
	case len(c.bad) == maxBad:
		c.more++
	default:
		c.bad = append(c.bad, fmt.Sprintf(format, args...))
	}
}

func (c *checker) err() error {
	if c.bad == nil {
		return nil
	}
	text := strings.Join(c.bad, "; ")
	if c.more > 0 {
		text += fmt.Sprintf("; and %d more", c.more)
	}
	return fmt.Errorf("%w: %s", ErrInvalid, text)
}

func (c *checker) cells(cells []Cell) {
	c.check(len(cells) > 0, "no cells")
	c.check(len(cells) <= maxCells, "%d cells, but there may be at most %d", len(cells), maxCells)
	c.known = make(map[string]bool, len(cells))
	for _, cell := range cells {
		c.name("cell", cell.ID)
		c.check(!c.known[cell.ID], "two cells %.100q", cell.ID)
		c.known[cell.ID] = true
		c.check(cell.Capacity >= 0, "cell %.100q: Capacity is %d", cell.ID, cell.Capacity)
		c.check(utf8.ValidString(cell.Address), "cell %.100q: Address is no text", cell.ID)
		seen := map[string]bool{}
		for _, r := range cell.Replicas {
			c.name("replica", r)
			c.check(!seen[r], "cell %.100q: two replicas %.100q", cell.ID, r)
			seen[r] = true
		}
	}
}

// name holds the names that are in a map to what a header field can carry, and to what
// JSON can: in a string that is not UTF-8 it would put something else without a word.
func (c *checker) name(kind, name string) {
	c.check(name != "" && len(name) <= hop.MaxTenant && utf8.ValidString(name),
		"%s %.100q, but it must be UTF-8 of 1 to %d bytes", kind, name, hop.MaxTenant)
}

func (c *checker) assignment(a Assignment, version uint64, kind, name string) {
	fail := func(ok bool, format string, args ...any) {
		if !ok {
			c.check(false, "%s %.100q: %s", kind, name, fmt.Sprintf(format, args...))
		}
	}
	fail(c.known[a.Cell], "no cell %.100q", a.Cell)
	fail(a.Epoch > 0 && a.Epoch <= version, "Epoch is %d at version %d", a.Epoch, version)
	fail(a.Phase < phases, "no phase %d", uint8(a.Phase))
	if a.Phase == Stable {
		fail(a.Peer == "", "Peer is %.100q, but it is stable", a.Peer)
		return
	}
	fail(c.known[a.Peer], "no cell %.100q for a Peer", a.Peer)
	fail(a.Peer != a.Cell, "moves from %.100q to itself", a.Cell)
}

func (c *checker) named(all map[string]Assignment, version uint64, kind string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c.name(kind, name)
		c.assignment(all[name], version, kind, name)
		if kind == sourcePrefix {
			c.check(all[name].Phase == Stable, "prefix %.100q is moved, and cannot be", name)
		}
	}
}

func (c *checker) split(s *Snapshot, tenant string) {
	parts := s.Splits[tenant]
	c.name(sourceTenant, tenant)
	c.check(bits.OnesCount(uint(len(parts))) == 1 && len(parts) <= maxSlots,
		"tenant %.100q: %d parts, but there must be a power of two up to 65536",
		tenant, len(parts))
	_, twice := s.Tenants[tenant]
	c.check(!twice, "tenant %.100q is split, and is not", tenant)
	for _, a := range parts {
		c.assignment(a, s.Version, sourceTenant, tenant)
	}
}
