package shuffle

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/stormjib/stormjib/internal/rendezvous"
)

// layout is the version of how shards are chosen. Whatever changes a node of any shard, or
// what is picked in it, changes the layout, and with it every fingerprint.
const layout = 1

// digest writes what it is given so that no two texts run together.
type digest struct{ xxhash.Digest }

func (d *digest) number(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	_, _ = d.Write(b[:])
}

func (d *digest) text(s string) {
	d.number(uint64(len(s)))
	_, _ = d.WriteString(s)
}

func (d *digest) lists(lists map[string][]string) {
	d.number(uint64(len(lists)))
	for _, tenant := range slices.Sorted(maps.Keys(lists)) {
		d.text(tenant)
		d.number(uint64(len(lists[tenant])))
		for _, id := range lists[tenant] {
			d.text(id)
		}
	}
}

// fingerprint is of what goes in, and not of shards: so it takes no time, and it tells
// apart what has the same shards today by chance.
func fingerprint(s *Sharder, byID []Node) uint64 {
	var d digest
	d.Reset()
	d.number(layout)
	d.text("shuffle")
	size := s.cfg.Size
	switch {
	case size == 0:
		size = defaultSize
	case size < 0:
		size = 0 // all
	}
	d.number(uint64(size))
	d.number(s.cfg.Seed)
	var sum uint64 // tells functions that hash tenants apart, by trying them
	for _, name := range [...]string{"", "a", "shuffle", "0123456789abcdef0123456789abcdef"} {
		sum = rendezvous.Mix(sum ^ s.hash(name))
	}
	d.number(sum)
	d.lists(s.cfg.Overrides)
	d.lists(s.cfg.Dedicated)
	for _, n := range byID {
		d.text(n.ID)
		d.text(n.Zone)
		d.number(uint64(n.Weight))
	}
	return d.Sum64()
}
