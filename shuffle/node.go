package shuffle

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/stormjib/stormjib/internal/rendezvous"
)

// What can be wrong with a list of nodes. The errors of [New], [Sharder.With],
// [NewRegistry] and [Registry.Set] match one of these, and say where, unless it is the
// config that is wrong.
var (
	// ErrNoNodes says that there would be no node for a tenant: none at all, or none that
	// is not dedicated to another.
	ErrNoNodes = errors.New("shuffle: no nodes")

	// ErrNoID says that a node has an empty ID, most often one that was not filled in.
	ErrNoID = errors.New("shuffle: node without an ID")

	// ErrDuplicateNode says that two nodes have one ID, or the same hash.
	ErrDuplicateNode = errors.New("shuffle: duplicate node")

	// ErrUnknownNode says that a node to be removed is not there.
	ErrUnknownNode = errors.New("shuffle: unknown node")

	// ErrTooMany says that there are more nodes than 16 bits can tell apart.
	ErrTooMany = errors.New("shuffle: too many nodes")
)

// Node is one of those who do the work of tenants: a server, a queue, a worker.
type Node struct {
	// ID tells nodes apart, and decides which tenants a node gets. A name that stays with
	// a node is better than its address: who comes back under another ID gets other
	// tenants. It must not be empty.
	ID string

	// Zone is what the node fails together with: a rack, or a data centre. The nodes of a
	// tenant are spread over zones, as evenly as can be. If empty, the node is in one zone
	// with all others that name none.
	Zone string

	// Weight says of how many tenants the node is one, in proportion to the weights of
	// others, as far as that goes: nobody is twice in a shard, so where shards are large,
	// weights tell less. Within a shard all are equals. If zero, 1: who is on the list is
	// there to have tenants.
	Weight uint32
}

// maxNodes is what 16 bits can tell apart.
const maxNodes = 1<<16 - 1

// roster is a list of nodes as it is needed to choose among them.
type roster struct {
	nodes   []Node // by ID
	hashes  []uint64
	zones   []uint16
	ranking *rendezvous.Nodes
}

// newRoster returns a roster of nodes. The slice is its own from now on.
func newRoster(nodes []Node, salt uint64) (roster, error) {
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	switch {
	case len(nodes) == 0:
		return roster{}, ErrNoNodes
	case len(nodes) > maxNodes:
		return roster{}, fmt.Errorf("%w: %d, but there may be at most %d",
			ErrTooMany, len(nodes), maxNodes)
	case nodes[0].ID == "":
		return roster{}, ErrNoID
	}
	r := roster{nodes: nodes}
	weights, numbers := make([]uint32, len(nodes)), map[string]uint16{}
	seen := make(map[uint64]string, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		if i > 0 && nodes[i-1].ID == n.ID {
			return roster{}, fmt.Errorf("%w: %.100q", ErrDuplicateNode, n.ID)
		}
		h := rendezvous.Mix(xxhash.Sum64String(n.ID) ^ salt)
		if other, ok := seen[h]; ok { // one of the two would never have a tenant
			return roster{}, fmt.Errorf("%w: %.100q has the hash of %.100q",
				ErrDuplicateNode, n.ID, other)
		}
		seen[h] = n.ID
		zone, ok := numbers[n.Zone]
		if !ok {
			zone = uint16(len(numbers))
			numbers[n.Zone] = zone
		}
		n.Weight = max(1, n.Weight)
		weights[i] = n.Weight
		r.hashes, r.zones = append(r.hashes, h), append(r.zones, zone)
	}
	r.ranking = rendezvous.New(r.hashes, weights, r.zones)
	return r, nil
}

// find returns the index of a node.
func (r *roster) find(id string) (int, bool) {
	return slices.BinarySearchFunc(r.nodes, id, func(n Node, id string) int {
		return strings.Compare(n.ID, id)
	})
}

// defaultSize is the Size of a shard where none is given.
const defaultSize = 3

// sizeOf returns how many of n nodes a tenant has.
func sizeOf(tenant string, size int, of func(string) int, n int) int {
	if of != nil {
		if own := of(tenant); own != 0 {
			size = own
		}
	}
	switch {
	case size == 0:
		return min(defaultSize, n)
	case size < 0:
		return n
	}
	return min(size, n)
}

// hashOf returns the hash of a tenant. What a function of a user's returns is mixed too.
func hashOf(tenant string, sum func(string) uint64, salt uint64) uint64 {
	if sum != nil {
		return rendezvous.Mix(sum(tenant) ^ salt)
	}
	return rendezvous.Mix(xxhash.Sum64String(tenant) ^ salt)
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}
