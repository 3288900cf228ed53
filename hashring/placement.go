package hashring

import "errors"

// What can be wrong with a list of nodes. The errors of [NewRing], [NewTable] and the
// With methods match one of these, and say where, unless it is the config that is wrong.
var (
	// ErrNoNodes says that there would be nobody to own anything.
	ErrNoNodes = errors.New("hashring: no nodes")

	// ErrNoID says that a node has an empty ID, most often one that was not filled in.
	ErrNoID = errors.New("hashring: node without an ID")

	// ErrDuplicateNode says that two nodes have one ID, or the same hash.
	ErrDuplicateNode = errors.New("hashring: duplicate node")

	// ErrUnknownNode says that a node to be removed is not there.
	ErrUnknownNode = errors.New("hashring: unknown node")

	// ErrTooLarge says that there are more nodes than fit, or too much weight.
	ErrTooLarge = errors.New("hashring: too large")
)

// Node is one of those who own keys.
type Node struct {
	// ID tells nodes apart, and decides which keys a node gets. A name that stays with a
	// node is better than its address: who comes back under another ID gets other keys.
	// It must not be empty.
	ID string

	// Zone is what the node fails together with: a rack, or a data centre. Those who have
	// a key in turn are in different zones as far as there are any. If empty, the node is
	// in one zone with all others that name none.
	Zone string

	// Weight is the node's share of keys, in proportion to the weights of others. If
	// zero, 1: who is on the list is there to have keys. To give a node none, leave it
	// out, or pass it over for a while with First.
	Weight uint32
}

// Placement says which nodes have a key, in which order: a [Ring] or a [Table]. Nobody
// else can implement it. Its values never change; to go from one to the next, keep it in
// an atomic.Pointer.
type Placement interface { //nolint:interfacebloat // Sealed: there is nobody to be bothered.
	// OwnerHash returns the first node of the keys with a hash, and false if there are
	// no nodes at all.
	OwnerHash(h uint64) (Node, bool)

	// AppendHash appends the first n nodes of the keys with a hash, or all if they are
	// not as many.
	AppendHash(dst []Node, h uint64, n int) []Node

	// Hash returns the hash of a key, for the methods that take one.
	Hash(key string) uint64

	// Nodes returns a copy of the nodes by ID. Their weights are at least 1.
	Nodes() []Node

	// Fingerprint is the same for placements that give all keys to the same nodes in the
	// same order.
	Fingerprint() uint64

	// walk calls yield with indexes into members, in the order of the keys with a hash,
	// each once, until it returns false. The first few cost no allocation, unless yield
	// itself does: to call walk of an interface makes it escape.
	walk(h uint64, yield func(i int) bool)

	// first returns what walk yields first, or -1 if there are no nodes.
	first(h uint64) int

	// members returns the placement's own nodes. They are not to be written to.
	members() []Node

	// base returns what all placements have in common.
	base() *roster

	// arcs returns how many arcs the circle of hashes consists of.
	arcs() int

	// arc returns the last hash of an arc and the index of its owner. An arc may be empty,
	// and then it has the last hash of the one before it.
	arc(i int) (last uint64, owner int)
}
