package hashring

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"strings"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// TableConfig says how a table places keys. All who must agree on owners need the same
// one, but for the Name.
type TableConfig struct {
	// Name is carried in errors and reports. It is for people.
	Name string

	// Slots is the number of slots, a power of two. All keys of a slot have the same nodes,
	// and Excess is kept in whole slots. With fewer than a hundred for each node, more keys
	// move than have to when nodes come and go; there must be 32 for each. If zero, 65,536,
	// which is good for 600 nodes. They take 10 bytes each, of which lookups read two: so
	// what they read fits into a processor's second cache.
	Slots int

	// Replicas is how many nodes of each slot are in the table. Append finds those behind
	// them too, but has to look at all nodes for it. If zero, 3: a copy in each of three
	// zones, or an owner and two more to ask.
	Replicas int

	// Excess is by how many percent a node's share may exceed what its weight comes to. The
	// lower, the more keys move between other nodes when one comes or goes: of 100 nodes, in
	// percent of the keys,
	//
	//	Excess  10   5    2    1
	//	moved   1.0  1.0  1.1  1.2
	//
	// If zero, 5: below the difference there is between two machines. If negative, there
	// is no limit, and not one key moves between nodes that stay.
	Excess int

	// Seed makes another table of the same nodes, independent of this one. Where servers
	// that were chosen by hash choose by hash again, the second needs another Seed, or a
	// server would choose among few. If zero, that is the seed: tables of different
	// programs then agree without being told.
	Seed uint64

	// Hash hashes keys. It must return the same in every process, which hash/maphash does
	// not. It may be a bad one: its results are mixed before use. But keys of one hash
	// have one owner. If nil, xxhash, which is fast, and for which anybody can make keys
	// that collide. If others choose the keys and might mean harm, use SipHash.
	Hash func(key string) uint64
}

const (
	minSlots = 32
	maxSlots = 1 << 18

	slotsPerNode = 32
	maxExcess    = 1000
)

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [NewTable] returns the same.
func (c TableConfig) Validate() error {
	var bad []string
	check := func(ok bool, field string, value int, must string) {
		if !ok {
			bad = append(bad, fmt.Sprintf("%s is %d, but must %s", field, value, must))
		}
	}
	check(c.Slots == 0 || c.Slots >= minSlots && c.Slots <= maxSlots &&
		bits.OnesCount(uint(c.Slots)) == 1, "Slots", c.Slots,
		fmt.Sprintf("be a power of two from %d to %d", minSlots, maxSlots))
	check(c.Replicas >= 0 && c.Replicas <= rendezvous.MaxTop, "Replicas", c.Replicas,
		fmt.Sprintf("be from 1 to %d", rendezvous.MaxTop))
	check(c.Excess <= maxExcess, "Excess", c.Excess, fmt.Sprintf("be at most %d", maxExcess))
	if bad == nil {
		return nil
	}
	return errors.New("hashring: TableConfig" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

// Table places keys by rendezvous hashing of slots. The circle of hashes is cut into
// slots of one size. A slot belongs to the node with the highest score for it, unless
// that has reached its share and Excess; then to the next. To look a key up is to load
// one number.
//
// The zero Table has no nodes, and no owner for any key. A Table never changes.
type Table struct {
	roster
	slots, replicas, excess int

	shift   int // from a hash to its slot
	ranking *rendezvous.Nodes

	owners []uint16 // of the slots
	rows   []uint16 // for each slot the first nodes in its order, width of them
	width  int

	// The rest is for With. wished are the slots whose owner is not the node of the highest
	// score, and wishes the rows that they would have without the limit: when that changes,
	// they are where to begin from. edges are the upper 16 bits of the lowest score in each
	// row, where scores alone decide. Of 100 nodes a new one comes into one row in thirty,
	// and to find out which from the rows would take the scores of all who are in them.
	wished []uint32
	wishes []uint16
	edges  []uint16
}

// NewTable returns a table of nodes. It keeps nothing of the slice, and the order of it
// does not matter. The error is that of Validate, or matches one of the package's. It
// takes about 4 ns for each slot and node: 30 ms for 100 nodes, and some seconds for the
// most that there can be.
func NewTable(nodes []Node, cfg TableConfig) (*Table, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	none := &Table{
		roster: newRoster(cfg.Name, cfg.Seed, cfg.Hash),
		slots:  cfg.Slots, replicas: cfg.Replicas, excess: cfg.Excess,
	}
	return none.With(nodes)
}

// With returns a table of the same config with nodes more and others less: the same as
// [NewTable] would return, in a small part of the time. A node that is to be removed and
// added is replaced, by one of another Weight for example. t remains as it is.
func (t *Table) With(add []Node, remove ...string) (*Table, error) {
	changed, moved, err := t.change(add, remove)
	if err != nil {
		return nil, err
	}
	next := &Table{
		roster:   changed,
		slots:    cmp.Or(t.slots, 1<<16),
		replicas: cmp.Or(t.replicas, 3),
		excess:   cmp.Or(t.excess, 5),
	}
	if most := next.slots / slotsPerNode; len(next.nodes) > most {
		return nil, next.fail(ErrTooLarge, fmt.Sprintf(
			": %d nodes, but with %d slots there may be at most %d",
			len(next.nodes), next.slots, most))
	}
	next.shift = 64 - bits.Len(uint(next.slots-1))
	next.width = min(next.replicas, len(next.nodes))
	weights := make([]uint32, len(next.nodes))
	for i, n := range next.nodes {
		weights[i] = n.Weight
	}
	next.ranking = rendezvous.New(next.hashes, weights, next.zones)
	next.fill(t, moved)
	next.limit()
	next.seal("table", uint64(next.slots), uint64(next.replicas), uint64(max(-1, next.excess)))
	return next, nil
}

// Owner returns the node that has a key, and false if there are no nodes at all.
func (t *Table) Owner(key string) (Node, bool) {
	i := t.first(t.Hash(key))
	if i < 0 {
		return Node{}, false
	}
	return t.nodes[i], true
}

// OwnerHash returns the node that has the keys with a hash, and false if there are no
// nodes at all.
func (t *Table) OwnerHash(h uint64) (Node, bool) {
	i := t.first(h)
	if i < 0 {
		return Node{}, false
	}
	return t.nodes[i], true
}

// First returns the first node in the order of a key that is eligible, and false if none
// is. When a node that was passed over is eligible again, it has its keys again.
func (t *Table) First(key string, eligible func(Node) bool) (Node, bool) {
	found := -1
	t.walk(t.Hash(key), func(i int) bool {
		if eligible(t.nodes[i]) {
			found = i
		}
		return found < 0
	})
	if found < 0 {
		return Node{}, false
	}
	return t.nodes[found], true
}

// Append appends the first n nodes in the order of a key, or all if they are not as many.
// The first is its owner. Up to the Replicas it allocates nothing but what dst lacks.
func (t *Table) Append(dst []Node, key string, n int) []Node {
	return t.AppendHash(dst, t.Hash(key), n)
}

// AppendHash is Append for the keys with a hash.
func (t *Table) AppendHash(dst []Node, h uint64, n int) []Node {
	if n <= 0 {
		return dst
	}
	if n <= t.width {
		row := t.row(h >> t.shift)
		for _, i := range row[:n] {
			dst = append(dst, t.nodes[i])
		}
		return dst
	}
	t.walk(h, func(i int) bool {
		dst = append(dst, t.nodes[i])
		n--
		return n > 0
	})
	return dst
}

// Candidates yields all nodes in the order of a key: those that Append appends.
func (t *Table) Candidates(key string) iter.Seq[Node] {
	return func(yield func(Node) bool) {
		t.walk(t.Hash(key), func(i int) bool { return yield(t.nodes[i]) })
	}
}

// row returns the first nodes of a slot.
func (t *Table) row(slot uint64) []uint16 {
	end := int(slot+1) * t.width
	return t.rows[end-t.width : end : end]
}

func (t *Table) first(h uint64) int {
	if len(t.owners) == 0 {
		return -1
	}
	return int(t.owners[h>>(t.shift&63)])
}

func (t *Table) walk(h uint64, yield func(i int) bool) {
	if len(t.owners) == 0 {
		return
	}
	slot := h >> t.shift
	for _, i := range t.row(slot) {
		if !yield(int(i)) {
			return
		}
	}
	if t.width == len(t.nodes) {
		return
	}
	for _, i := range t.ranking.Order(slot, int(t.owners[slot]))[t.width:] {
		if !yield(int(i)) {
			return
		}
	}
}

// An arc of a table is a slot.

func (t *Table) arcs() int { return len(t.owners) }

func (t *Table) arc(i int) (last uint64, owner int) {
	return (uint64(i)+1)<<t.shift - 1, int(t.owners[i])
}
