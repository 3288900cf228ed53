package shuffle

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// Config says how a [Sharder] gives nodes to tenants. All who must agree on shards need
// the same one, but for the Name.
type Config struct {
	// Name is carried in errors. It is for people.
	Name string

	// Size is how many nodes a tenant has. Fewer of them harm fewer others when a tenant
	// ruins them all; more of them bear more load, and are harder to lose together. [Design]
	// has the numbers. As many as there are nodes, or more, is all of them. If zero, 3: one
	// in each of three zones, and when a release takes one away and an outage another,
	// there is one left. It does not grow with the fleet, for then a node more would
	// change all shards at once. If negative, all nodes: tenants are not sharded.
	Size int

	// SizeOf returns how many nodes a tenant has, where that differs: by what it pays, or
	// by its load. 0 stands for Size, and a negative number for all. It is called for each
	// request, so it should look up and not ask. When its answer changes by one, so does
	// the shard. If nil, Size is for all.
	SizeOf func(tenant string) int

	// Overrides are the nodes, by ID, of tenants for whom they are not to be chosen. Others
	// may have them too. What is said here of a node that is not on the list does not
	// count until it is; a tenant all of whose nodes are not has a shard as any other:
	// better there than nowhere, and Missing tells. If nil, there are none.
	Overrides map[string][]string

	// Dedicated are Overrides with nodes that nobody else has: those are no longer among
	// the ones that are shared. Two tenants may have the same, if both are named. If nil,
	// all nodes are shared.
	Dedicated map[string][]string

	// Seed makes other shards of the same nodes, independent of these. Give each tier a
	// seed of its own, or tenants who share a node in one share it in the next too. If
	// zero, that is the seed: different programs then agree without being told.
	Seed uint64

	// Hash hashes tenants. It must return the same in every process, which hash/maphash
	// does not. It may be a bad one: its results are mixed before use. But tenants of one
	// hash have one shard. If nil, xxhash, which is fast, and for which anybody can make
	// names that collide. Where tenants choose their own names, one of them might choose
	// the shard of a competitor: use hashring.SipHash with a secret key.
	Hash func(tenant string) uint64
}

// Validate returns an error that names everything that has no meaning, with its value, or
// nil. [New] returns the same.
func (c Config) Validate() error {
	owners := map[string]bool{} // of dedicated nodes
	for _, ids := range c.Dedicated {
		for _, id := range ids {
			owners[id] = true
		}
	}
	var bad []string
	check := func(field string, overrides map[string][]string) {
		for _, tenant := range slices.Sorted(maps.Keys(overrides)) {
			ids := overrides[tenant]
			name := fmt.Sprintf("%s[%.100q]", field, tenant)
			if len(ids) == 0 {
				bad = append(bad, name+" names no node")
			}
			for i, id := range ids {
				if slices.Contains(ids[:i], id) {
					bad = append(bad, fmt.Sprintf("%s names %.100q twice", name, id))
				}
				if field == "Overrides" && owners[id] {
					bad = append(bad, fmt.Sprintf("%s names %.100q, which is dedicated", name, id))
				}
			}
			if _, ok := c.Dedicated[tenant]; ok && field == "Overrides" {
				bad = append(bad, name+" is in Dedicated too")
			}
		}
	}
	check("Overrides", c.Overrides)
	check("Dedicated", c.Dedicated)
	if bad == nil {
		return nil
	}
	return errors.New("shuffle: Config" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

// Sharder gives each tenant a shard: a few of the nodes, and nearly every tenant other
// ones. Make it with [New].
//
// The zero Sharder has no nodes, and no shard for anybody. A Sharder never changes; to go
// from one to the next, keep it in an atomic.Pointer.
type Sharder struct {
	cfg    Config // its maps are the Sharder's own
	salt   uint64 // of the seed, for tenants
	shared roster

	// nodes are those that are shared, by ID, and then those that are dedicated.
	nodes   []Node
	hashes  []uint64
	fixed   map[string][]uint16 // indexes into nodes, by tenant
	missing []string
	print   uint64
}

// New returns a sharder of nodes. It keeps nothing of the slice, nor of the maps in cfg,
// and the order of nodes does not matter. The error is that of Validate, or matches one of
// the package's.
func New(nodes []Node, cfg Config) (*Sharder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Overrides, cfg.Dedicated = cloneLists(cfg.Overrides), cloneLists(cfg.Dedicated)
	none := &Sharder{cfg: cfg}
	return none.With(nodes)
}

func cloneLists(lists map[string][]string) map[string][]string {
	clone := maps.Clone(lists)
	for tenant, ids := range clone {
		clone[tenant] = slices.Clone(ids)
	}
	return clone
}

// With returns a sharder of the same config with nodes more and others less: the same as
// [New] would return. Each of them changes one node of a shard at most, and only of those
// shards in which it is. A node that is to be removed and added is replaced, by one of
// another Weight for example. s remains as it is.
func (s *Sharder) With(add []Node, remove ...string) (*Sharder, error) {
	next, err := s.with(add, remove)
	if err != nil && s.cfg.Name != "" {
		return nil, fmt.Errorf("%w (in %q)", err, s.cfg.Name)
	}
	return next, err
}

func (s *Sharder) with(add []Node, remove []string) (*Sharder, error) {
	gone := map[string]bool{}
	for _, id := range remove {
		if !slices.ContainsFunc(s.nodes, func(n Node) bool { return n.ID == id }) {
			return nil, fmt.Errorf("%w: %.100q", ErrUnknownNode, id)
		}
		gone[id] = true
	}
	nodes := slices.Clone(add)
	for _, n := range s.nodes {
		if !gone[n.ID] {
			nodes = append(nodes, n)
		}
	}
	next := &Sharder{cfg: s.cfg, salt: rendezvous.Mix(s.cfg.Seed)}
	all, err := newRoster(nodes, next.salt)
	if err != nil {
		return nil, err
	}
	if err := next.divide(&all); err != nil {
		return nil, err
	}
	next.resolve()
	next.print = fingerprint(next, all.nodes)
	return next, nil
}

// divide takes those that are dedicated out of those that are shared.
func (s *Sharder) divide(all *roster) error {
	if len(s.cfg.Dedicated) == 0 {
		s.shared, s.nodes, s.hashes = *all, all.nodes, all.hashes
		return nil
	}
	taken := make([]bool, len(all.nodes))
	for _, ids := range s.cfg.Dedicated {
		for _, id := range ids {
			if i, ok := all.find(id); ok {
				taken[i] = true
			}
		}
	}
	var shared, dedicated []Node
	var hashes []uint64
	for i, n := range all.nodes {
		if taken[i] {
			dedicated, hashes = append(dedicated, n), append(hashes, all.hashes[i])
			continue
		}
		shared = append(shared, n)
	}
	if len(shared) == 0 {
		return fmt.Errorf("%w: all %d are dedicated", ErrNoNodes, len(dedicated))
	}
	rest, err := newRoster(shared, s.salt)
	s.shared = rest
	s.nodes = slices.Concat(rest.nodes, dedicated)
	s.hashes = slices.Concat(rest.hashes, hashes)
	return err
}

// resolve finds the nodes that overrides name.
func (s *Sharder) resolve() {
	index := make(map[string]uint16, len(s.nodes))
	for i, n := range s.nodes {
		index[n.ID] = uint16(i)
	}
	s.fixed = map[string][]uint16{}
	missing := map[string]bool{}
	for _, lists := range []map[string][]string{s.cfg.Overrides, s.cfg.Dedicated} {
		for tenant, ids := range lists {
			for _, id := range ids {
				i, ok := index[id]
				if !ok {
					missing[id] = true
					continue
				}
				s.fixed[tenant] = append(s.fixed[tenant], i)
			}
		}
	}
	s.missing = slices.Sorted(maps.Keys(missing))
}

// Missing returns the IDs of the nodes that Overrides and Dedicated name, and that are not
// on the list: those that were mistyped, and those that are away. See to it that somebody
// hears of them.
func (s *Sharder) Missing() []string { return slices.Clone(s.missing) }

// Nodes returns a copy of the nodes by ID, those that are dedicated too. Their weights are
// at least 1.
func (s *Sharder) Nodes() []Node {
	nodes := slices.Clone(s.nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	return nodes
}

// Fingerprint is the same for sharders that give all tenants the same nodes. It covers the
// layout of this version of the package, the config but for its Name, and the nodes but
// for the order in which they were listed. Processes that must agree can compare it; of
// Hash it knows what that makes of a few names, and of SizeOf nothing.
func (s *Sharder) Fingerprint() uint64 { return s.print }

// Shard returns the nodes of a tenant. Which comes first has no meaning, but that a shard
// of one node less has the same ones without the last.
func (s *Sharder) Shard(tenant string) []Node { return s.Append(nil, tenant) }

// Append appends the nodes of a tenant. It allocates nothing but what dst lacks, up to a
// shard of 60 nodes.
func (s *Sharder) Append(dst []Node, tenant string) []Node {
	var buf [inPlace]uint16
	for _, i := range s.members(buf[:0], tenant, s.hash(tenant)) {
		dst = append(dst, s.nodes[i])
	}
	return dst
}

// inPlace is how many nodes a shard may have for its indexes to be on the stack.
const inPlace = 64

func (s *Sharder) hash(name string) uint64 { return hashOf(name, s.cfg.Hash, s.salt) }

// members appends the indexes of a tenant's nodes, of which the hash is h.
func (s *Sharder) members(dst []uint16, tenant string, h uint64) []uint16 {
	if len(s.fixed) > 0 {
		if fixed, ok := s.fixed[tenant]; ok {
			return append(dst, fixed...)
		}
	}
	n := len(s.shared.nodes)
	if n == 0 {
		return dst
	}
	return s.shared.ranking.Best(dst, h, sizeOf(tenant, s.cfg.Size, s.cfg.SizeOf, n))
}

// Pick returns the node of a tenant's shard that has a key, for what should meet the same
// node again: a cache, or a queue that keeps an order. It reports false if there are no
// nodes at all. When the shard loses a node, the keys of that one go to the others, and
// no others do.
func (s *Sharder) Pick(tenant, key string) (Node, bool) {
	var buf [inPlace]uint16
	h := s.hash(tenant)
	// Not the hash of the key alone: a key that all tenants have would be with the same
	// few nodes then.
	spot := rendezvous.Score(h, s.hash(key))
	best, most := -1, uint64(0)
	for _, i := range s.members(buf[:0], tenant, h) {
		score := rendezvous.Score(spot, s.hashes[i])
		if best < 0 || score > most {
			best, most = int(i), score
		}
	}
	if best < 0 {
		return Node{}, false
	}
	return s.nodes[best], true
}

// Route yields the nodes of a tenant's shard that are healthy, each once, in a new random
// order for each loop. The first is where a request goes, and the next ones are where it
// goes if that fails. It never yields a node outside of the shard: that is the point of
// it, for what ruins this tenant's nodes would ruin the next ones too. So it yields none
// at all if none is healthy, and the caller decides: to fail, or to believe healthy no
// longer, and ask all of them with nil.
//
// healthy is asked about each node when its turn has come. It should look up and not ask.
// If it is nil, all are.
func (s *Sharder) Route(tenant string, healthy func(Node) bool) iter.Seq[Node] {
	return func(yield func(Node) bool) {
		var buf [inPlace]uint16
		shard := s.members(buf[:0], tenant, s.hash(tenant))
		for i := range shard {
			// Not the next one in some fixed order: the load of a node that is down would
			// all be with the one behind it.
			j := i + rand.IntN(len(shard)-i)
			shard[i], shard[j] = shard[j], shard[i]
			n := s.nodes[shard[i]]
			if (healthy == nil || healthy(n)) && !yield(n) {
				return
			}
		}
	}
}

// Union returns the nodes that a tenant has, and after them those that it had before and
// has no longer: for readers, while what was written before a change is still where it
// was. Write to the shard of after alone. How long to look back follows from how long
// data stays on a node: a shard that is made smaller too early loses what nobody looks
// for. Each is nil, or the zero Sharder, if there was none. Of a node that is in both, it
// returns what after knows.
func Union(before, after *Sharder, tenant string) []Node {
	var nodes []Node
	if after != nil {
		nodes = after.Shard(tenant)
	}
	if before == nil {
		return nodes
	}
	now := len(nodes)
	for _, n := range before.Shard(tenant) {
		if !slices.ContainsFunc(nodes[:now], func(m Node) bool { return m.ID == n.ID }) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}
