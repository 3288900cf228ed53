package hashring

import (
	"cmp"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// RingConfig says how a ring places keys. All who must agree on owners need the same one,
// but for the Name.
type RingConfig struct {
	// Name is carried in errors and reports. It is for people.
	Name string

	// VNodes is how many points a node has on the ring for each unit of its Weight. With
	// more of them shares are more even: their standard deviation is one over the square
	// root of VNodes. Of 100 nodes, in percent of an even share,
	//
	//	VNodes                  1   16   40  100  160  256  512 1000
	//	standard deviation     97   26   16   10    8    6    4    3
	//	the most that one has 510  170  140  130  120  115  112  108
	//
	// What others take follows from what they need. Caches have many: 160 is Ketama's, and
	// memcached's clients have it from there. Databases have few, Cassandra 16 where it
	// once had 256, since with many any two nodes keep copies of something together, and
	// no two may be lost. HAProxy has 16 for a unit of weight. Envoy and gRPC have 1,024
	// points on a ring, however many nodes: that is 10 for each of 100, and when there is
	// a node more, all others have points less, and keys move between them too.
	//
	// If zero, 160: most nodes are within a tenth of an even share, for 12 to 16 bytes a
	// point. More of them do not fit into a processor's caches, and are not the way to be
	// within 5 %: that is a [Table].
	VNodes int

	// Seed makes another ring of the same nodes, independent of this one. Where servers
	// that were chosen by hash choose by hash again, the second needs another Seed, or a
	// server would choose among few. If zero, that is the seed: rings of different
	// programs then agree without being told.
	Seed uint64

	// Hash hashes keys. It must return the same in every process, which hash/maphash does
	// not. It may be a bad one: its results are mixed before use. But keys of one hash
	// have one owner. If nil, xxhash, which is fast, and for which anybody can make keys
	// that collide. If others choose the keys and might mean harm, use SipHash.
	Hash func(key string) uint64
}

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [NewRing] returns the same.
func (c RingConfig) Validate() error {
	if c.VNodes >= 0 && c.VNodes <= maxPoints {
		return nil
	}
	return fmt.Errorf("hashring: RingConfig%s: VNodes is %d, but must be from 1 to %d",
		quoted(c.Name), c.VNodes, maxPoints)
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}

// maxPoints is the most points on a ring. They take 256 MB.
const maxPoints = 1 << 24

// Ring places keys by consistent hashing. Each node has many points on a circle, and a
// key belongs to the node of the first point from its own on. When a node comes, it takes
// keys from others; when it goes, they get them; and no key moves between two that stay.
//
// The zero Ring has no nodes, and no owner for any key. A Ring never changes.
type Ring struct {
	roster
	vnodes int
	lone   bool // all nodes are in one zone

	// points are sorted. The upper 48 bits are the place on the circle, and the lower 16
	// the index of the node: so of points in the same place that of the lower ID comes
	// first, in whatever order the nodes were listed. Behind the last point the first is
	// there again, in the last place of all.
	points []uint64

	// index has for each value of the upper bits of a hash the first point from there on,
	// and at least one value for each point: from there it is a step, or none. A binary
	// search among 16,000 points has fourteen, and no processor can guess where it goes.
	index []uint32
	shift int

	// rounds has for each rank how many zones have a node of that rank.
	rounds [walkable]int
}

const (
	placeBits = ^uint64(0xffff)
	nodeBits  = 0xffff
)

// NewRing returns a ring of nodes. It keeps nothing of the slice, and the order of it
// does not matter. The error is that of Validate, or matches one of the package's.
func NewRing(nodes []Node, cfg RingConfig) (*Ring, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	none := &Ring{roster: newRoster(cfg.Name, cfg.Seed, cfg.Hash), vnodes: cfg.VNodes}
	return none.With(nodes)
}

// With returns a ring of the same config with nodes more and others less: the same as
// [NewRing] would return, in a small part of the time. A node that is to be removed and
// added is replaced, by one of another Weight for example. r remains as it is.
func (r *Ring) With(add []Node, remove ...string) (*Ring, error) {
	changed, moved, err := r.change(add, remove)
	if err != nil {
		return nil, err
	}
	next := &Ring{roster: changed, vnodes: cmp.Or(r.vnodes, 160), lone: len(changed.sizes) == 1}
	fresh, err := next.fresh(moved)
	if err != nil {
		return nil, err
	}
	next.points = merge(r.own(), moved, fresh)
	next.finish()
	return next, nil
}

// own returns the points without the one at the end that is there twice.
func (r *Ring) own() []uint64 { return r.points[:max(1, len(r.points))-1] }

// fresh returns the points of the nodes that are not among those moved here, sorted.
func (r *Ring) fresh(moved []int) ([]uint64, error) {
	if total := r.weight(); total > maxPoints/uint64(r.vnodes) {
		return nil, r.fail(ErrTooLarge, fmt.Sprintf(
			": a weight of %d in all, but with %d points each there may be at most %d",
			total, r.vnodes, maxPoints/r.vnodes))
	}
	var points []uint64
	for _, i := range r.newcomers(moved) {
		// The number of the point is not written behind the ID: node1 with 23 and node12
		// with 3 would be one and the same.
		for v := range uint64(r.vnodes) * uint64(r.nodes[i].Weight) {
			points = append(points, rendezvous.Score(v, r.hashes[i])&placeBits|uint64(i))
		}
	}
	slices.Sort(points)
	return points, nil
}

// merge returns the points of nodes that stay, under their new indexes, and the fresh
// ones. Who stays, stays in the order of IDs, and so the points stay sorted.
func merge(old []uint64, moved []int, fresh []uint64) []uint64 {
	points := make([]uint64, 0, len(old)+len(fresh)+1)
	for _, p := range old {
		i := moved[p&nodeBits]
		if i < 0 {
			continue
		}
		p = p&placeBits | uint64(i)
		for len(fresh) > 0 && fresh[0] < p {
			points = append(points, fresh[0])
			fresh = fresh[1:]
		}
		points = append(points, p)
	}
	return append(points, fresh...)
}

// finish makes what is derived from the points. That the first of them is there again at
// the end spares at a look at where the circle closes.
func (r *Ring) finish() {
	width := bits.Len(uint(len(r.points)))
	r.shift = 64 - width
	r.points = append(r.points, placeBits|r.points[0]&nodeBits)
	r.index = make([]uint32, 1<<width)
	i := 0
	for top := range r.index {
		for r.points[i] < uint64(top)<<r.shift {
			i++
		}
		r.index[top] = uint32(i)
	}
	for rank := range r.rounds {
		for _, size := range r.sizes {
			if size > rank {
				r.rounds[rank]++
			}
		}
	}
	r.seal("ring", uint64(r.vnodes))
}

// at returns the index of the first point from h on.
func (r *Ring) at(h uint64) int {
	i := int(r.index[h>>(r.shift&63)])
	for r.points[i] < h&placeBits {
		i++
	}
	return i
}

// Owner returns the node that has a key, and false if there are no nodes at all.
func (r *Ring) Owner(key string) (Node, bool) {
	i := r.first(r.Hash(key))
	if i < 0 {
		return Node{}, false
	}
	return r.nodes[i], true
}

// OwnerHash returns the node that has the keys with a hash, and false if there are no
// nodes at all.
func (r *Ring) OwnerHash(h uint64) (Node, bool) {
	i := r.first(h)
	if i < 0 {
		return Node{}, false
	}
	return r.nodes[i], true
}

// First returns the first node in the order of a key that is eligible, and false if none
// is. When a node that was passed over is eligible again, it has its keys again.
func (r *Ring) First(key string, eligible func(Node) bool) (Node, bool) {
	found := -1
	r.walk(r.Hash(key), func(i int) bool {
		if eligible(r.nodes[i]) {
			found = i
		}
		return found < 0
	})
	if found < 0 {
		return Node{}, false
	}
	return r.nodes[found], true
}

// Append appends the first n nodes in the order of a key, or all if they are not as many.
// The first is its owner. Up to n = 16 it allocates nothing but what dst lacks.
func (r *Ring) Append(dst []Node, key string, n int) []Node {
	return r.AppendHash(dst, r.Hash(key), n)
}

// AppendHash is Append for the keys with a hash.
func (r *Ring) AppendHash(dst []Node, h uint64, n int) []Node {
	n = min(n, len(r.nodes))
	if n <= 0 {
		return dst
	}
	var w ringWalk
	w.from(r, h)
	for w.more() && w.n < n {
		dst = append(dst, r.nodes[w.step()])
	}
	if w.n < n {
		for _, i := range r.order(w.start)[w.n:n] {
			dst = append(dst, r.nodes[i])
		}
	}
	return dst
}

// Candidates yields all nodes in the order of a key: those that Append appends.
func (r *Ring) Candidates(key string) iter.Seq[Node] {
	return func(yield func(Node) bool) {
		r.walk(r.Hash(key), func(i int) bool { return yield(r.nodes[i]) })
	}
}

func (r *Ring) first(h uint64) int {
	if len(r.points) == 0 {
		return -1
	}
	return int(r.points[r.at(h)] & nodeBits)
}
