package hashring

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/stormjib/stormjib/internal/rendezvous"
)

// layout is the version of how keys are placed. Whatever changes the owner of any key, or
// the order of those after it, changes the layout, and with it every fingerprint.
const layout = 1

// maxNodes is what 16 bits can tell apart.
const maxNodes = 1<<16 - 1

// roster is what a ring and a table have in common: who takes part, and how keys are
// hashed.
type roster struct {
	name string
	seed uint64
	salt uint64              // of the seed, for keys
	sum  func(string) uint64 // nil: xxhash

	nodes  []Node   // by ID
	hashes []uint64 // of the nodes' IDs
	zones  []uint16 // by node
	sizes  []int    // of the zones

	print uint64
}

func newRoster(name string, seed uint64, sum func(string) uint64) roster {
	return roster{name: name, seed: seed, salt: rendezvous.Mix(seed), sum: sum}
}

// Hash returns the hash of a key, for the methods that take one. It is what Config's Hash
// returns, mixed with its Seed. To mix costs two nanoseconds, also where the hash has no
// need of it; but with a hash that has, few nodes would get keys, and nobody would see
// why.
func (r *roster) Hash(key string) uint64 {
	if r.sum != nil {
		return rendezvous.Mix(r.sum(key) ^ r.salt)
	}
	return rendezvous.Mix(xxhash.Sum64String(key) ^ r.salt)
}

// Nodes returns a copy of the nodes by ID. Their weights are at least 1.
func (r *roster) Nodes() []Node { return slices.Clone(r.nodes) }

// Fingerprint is the same for placements that give all keys to the same nodes in the same
// order. It covers the layout of this version of the package, the config but for its
// Name, and the nodes but for the order in which they were listed. Processes that must
// agree can compare it; of Hash it knows what that makes of a few keys.
func (r *roster) Fingerprint() uint64 { return r.print }

func (r *roster) members() []Node { return r.nodes }

func (r *roster) base() *roster { return r }

// with returns a roster with other nodes. The slice is its own from now on.
func (r *roster) with(nodes []Node) (roster, error) {
	next := newRoster(r.name, r.seed, r.sum)
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	if err := next.check(nodes); err != nil {
		return roster{}, err
	}
	next.nodes = nodes
	next.hashes = make([]uint64, len(nodes))
	next.zones = make([]uint16, len(nodes))
	numbers := map[string]int{}
	for i := range nodes {
		n := &nodes[i]
		n.Weight = max(1, n.Weight)
		zone, ok := numbers[n.Zone]
		if !ok {
			zone = len(numbers)
			numbers[n.Zone] = zone
			next.sizes = append(next.sizes, 0)
		}
		next.sizes[zone]++
		next.zones[i] = uint16(zone)
		next.hashes[i] = rendezvous.Mix(xxhash.Sum64String(n.ID) ^ next.salt)
	}
	return next, next.checkHashes()
}

func (r *roster) check(sorted []Node) error {
	switch {
	case len(sorted) == 0:
		return r.fail(ErrNoNodes, "")
	case len(sorted) > maxNodes:
		return r.fail(ErrTooLarge, fmt.Sprintf(": %d nodes, but there may be at most %d",
			len(sorted), maxNodes))
	case sorted[0].ID == "":
		return r.fail(ErrNoID, "")
	}
	for i := range sorted[1:] {
		if sorted[i].ID == sorted[i+1].ID {
			return r.fail(ErrDuplicateNode, fmt.Sprintf(": %.100q", sorted[i].ID))
		}
	}
	return nil
}

// checkHashes refuses two nodes with one hash: they would want the same keys, and one of
// them would never get any. Between 65,535 nodes that comes about by chance once in nine
// billion times.
func (r *roster) checkHashes() error {
	seen := make(map[uint64]int, len(r.hashes))
	for i, h := range r.hashes {
		if j, ok := seen[h]; ok {
			return r.fail(ErrDuplicateNode, fmt.Sprintf(": %.100q has the hash of %.100q",
				r.nodes[i].ID, r.nodes[j].ID))
		}
		seen[h] = i
	}
	return nil
}

func (r *roster) fail(err error, detail string) error {
	if r.name != "" {
		detail += fmt.Sprintf(" (in %q)", r.name)
	}
	return fmt.Errorf("%w%s", err, detail)
}

// change returns a roster with some nodes more and some less, and for each node of r its
// index there, or -1.
func (r *roster) change(add []Node, remove []string) (roster, []int, error) {
	moved := make([]int, len(r.nodes))
	for _, id := range remove {
		i, ok := r.find(id)
		if !ok {
			return roster{}, nil, r.fail(ErrUnknownNode, fmt.Sprintf(": %.100q", id))
		}
		moved[i] = -1
	}
	nodes := slices.Clone(add)
	for i, n := range r.nodes {
		if moved[i] == 0 { // stays
			nodes = append(nodes, n)
		}
	}
	next, err := r.with(nodes)
	if err != nil {
		return roster{}, nil, err
	}
	for i := range moved {
		if moved[i] == 0 {
			moved[i], _ = next.find(r.nodes[i].ID)
		}
	}
	return next, moved, nil
}

// newcomers returns the indexes of the nodes to which none has moved.
func (r *roster) newcomers(moved []int) []int {
	stays := make([]bool, len(r.nodes))
	for _, i := range moved {
		if i >= 0 {
			stays[i] = true
		}
	}
	var fresh []int
	for i, stays := range stays {
		if !stays {
			fresh = append(fresh, i)
		}
	}
	return fresh
}

func (r *roster) find(id string) (int, bool) {
	return slices.BinarySearchFunc(r.nodes, id, func(n Node, id string) int {
		return strings.Compare(n.ID, id)
	})
}

// seal makes the fingerprint. The numbers are those of the config that decide about
// owners. It is of what goes in, and not of the owners: so it takes no time, and it tells
// apart what has the same owners today by chance.
func (r *roster) seal(kind string, numbers ...uint64) {
	d := xxhash.New()
	number := func(n uint64) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], n)
		_, _ = d.Write(b[:])
	}
	text := func(s string) { // its length goes first, so that no two texts run together
		number(uint64(len(s)))
		_, _ = d.WriteString(s)
	}
	number(layout)
	text(kind)
	for _, n := range numbers {
		number(n)
	}
	number(r.seed)
	number(r.hashing())
	for _, n := range r.nodes {
		text(n.ID)
		text(n.Zone)
		number(uint64(n.Weight))
	}
	r.print = d.Sum64()
}

// hashing tells functions that hash keys apart, by trying them.
func (r *roster) hashing() uint64 {
	var sum uint64
	for _, key := range [...]string{"", "a", "hashring", "0123456789abcdef0123456789abcdef"} {
		sum = rendezvous.Mix(sum ^ r.Hash(key))
	}
	return sum
}

// weight returns the sum of all weights.
func (r *roster) weight() uint64 {
	sum := uint64(0)
	for _, n := range r.nodes {
		sum += uint64(n.Weight)
	}
	return sum
}
