package shuffle

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/stormjib/stormjib/internal/rendezvous"
)

// ErrNoShard is matched by the error of [Registry.Assign] where no shard was found. That
// is a [*NoShardError].
var ErrNoShard = errors.New("shuffle: no shard")

// NoShardError says that no shard was found that keeps the promise of a [Registry], and
// what comes closest.
type NoShardError struct {
	Name       string // of the registry
	Tenant     string // for whom
	Size       int    // how many nodes it was to have
	MaxOverlap int    // how many of them another tenant might have too

	// Best is the shard with the least overlap that was found. It is not assigned.
	Best []Node

	// Overlap is how many nodes of Best another tenant has too.
	Overlap int

	// None reports that there is no shard at all that keeps the promise, as things are:
	// all were tried. Otherwise there may be one, for a higher Effort.
	None bool
}

// Error says for whom there is no shard, and how close the best comes.
func (e *NoShardError) Error() string {
	s := fmt.Sprintf("shuffle: Registry%s: no shard of %d nodes for %.100q with at most %d "+
		"that another tenant has", quoted(e.Name), e.Size, e.Tenant, e.MaxOverlap)
	if !e.None {
		s += " was found in time"
	}
	return fmt.Sprintf("%s; the best has %d", s, e.Overlap)
}

// Is reports whether target is [ErrNoShard].
func (e *NoShardError) Is(target error) bool { return target == ErrNoShard }

// RegistryConfig says what a [Registry] promises.
type RegistryConfig struct {
	// Name is carried in errors. It is for people.
	Name string

	// Size and SizeOf are how many nodes a tenant has, as in [Config]. If zero, 3.
	Size int

	// SizeOf returns how many nodes a tenant has, where that differs, as in [Config]. It
	// is called by Assign alone. If nil, Size is for all.
	SizeOf func(tenant string) int

	// MaxOverlap is how many nodes two tenants may both have at most. It must be less than
	// Size, or there would be nothing to promise. The higher it is, the more tenants there
	// is room for: [Design.MaxTenants] says how many at the very most, and about half of
	// them find a shard in time. If zero, 1, so that of a shard of three two are left,
	// whatever one other tenant does; and 0 for shards of one node. If negative, 0: no two
	// tenants have any node in common.
	MaxOverlap int

	// Effort is how many nodes of other shards Assign looks at, at the most, in search of
	// a shard. It looks at few while there is room. If zero, a million: that takes some
	// milliseconds, for which others wait.
	Effort int

	// Seed makes other shards of the same nodes. If zero, that is the seed: the first
	// choice for a tenant is then the shard that a [Sharder] has for it.
	Seed uint64

	// Hash hashes tenants, as in [Config]. If nil, xxhash.
	Hash func(tenant string) uint64
}

const defaultEffort = 1_000_000

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [NewRegistry] and [RestoreRegistry] return the same.
func (c RegistryConfig) Validate() error {
	var bad []string
	if size := cmp.Or(c.Size, defaultSize); size > 0 && c.MaxOverlap > 0 && c.MaxOverlap >= size {
		bad = append(bad, fmt.Sprintf("MaxOverlap is %d, but must be less than Size, %d",
			c.MaxOverlap, size))
	}
	if c.Effort < 0 {
		bad = append(bad, fmt.Sprintf("Effort is %d, but must be at least 1", c.Effort))
	}
	if bad == nil {
		return nil
	}
	return errors.New("shuffle: RegistryConfig" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

func (c RegistryConfig) overlap() int {
	switch {
	case c.MaxOverlap < 0, c.MaxOverlap == 0 && c.Size == 1:
		return 0
	case c.MaxOverlap == 0:
		return 1
	}
	return c.MaxOverlap
}

// Registry assigns nodes to tenants so that no two of them have more than a few in common.
// A [Sharder] makes that likely, and a Registry certain: for tenants who pay for it, or
// who are known to do harm. The price is that there is a list to keep, and an end to how
// many tenants fit. Make it with [NewRegistry], and use it from any number of goroutines.
//
// It is where assignments are made, and not where requests are routed: give what it has
// to a Sharder, as Overrides, and keep it as JSON. Assign a tenant when it signs up. A
// registry does not forget tenants by itself, so do not assign whoever comes with a
// request.
type Registry struct {
	cfg  RegistryConfig
	salt uint64

	mu      sync.Mutex
	roster  roster
	tenants map[string][]string // IDs of nodes that are in the roster
}

// NewRegistry returns a registry of nodes without any tenant. It keeps nothing of the
// slice. The error is that of Validate, or matches one of the package's.
func NewRegistry(nodes []Node, cfg RegistryConfig) (*Registry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Registry{cfg: cfg, salt: rendezvous.Mix(cfg.Seed), tenants: map[string][]string{}}
	return r, r.Set(nodes)
}

// Set replaces the list of nodes. Tenants keep those of their nodes that stay, and lack
// the others until they are assigned again. If the list is not valid, nothing changes.
func (r *Registry) Set(nodes []Node) error {
	next, err := newRoster(slices.Clone(nodes), r.salt)
	if err != nil {
		if r.cfg.Name != "" {
			return fmt.Errorf("%w (in %q)", err, r.cfg.Name)
		}
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.roster = next
	for tenant, ids := range r.tenants {
		r.tenants[tenant] = slices.DeleteFunc(ids, func(id string) bool {
			_, ok := next.find(id)
			return !ok
		})
	}
	return nil
}

// Assign returns the nodes of a tenant. One that has none yet gets some; one that lacks
// some, because they have gone or its size has grown, gets more and keeps what it has, if
// that can be; and one that has too many gives up the last.
//
// If there is no shard that has at most MaxOverlap nodes in common with that of any other
// tenant, or none is found in time, the error is a [*NoShardError], and the tenant has
// what it had. It is the same in every process whose registry has the same assignments.
func (r *Registry) Assign(tenant string) ([]Node, error) {
	h := hashOf(tenant, r.cfg.Hash, r.salt)
	own := 0
	if r.cfg.SizeOf != nil {
		own = r.cfg.SizeOf(tenant)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	size := sizeOf(tenant, cmp.Or(own, r.cfg.Size), nil, len(r.roster.nodes))
	kept := r.indexes(r.tenants[tenant])
	kept = kept[:min(size, len(kept))]
	if len(kept) == size {
		r.put(tenant, kept)
		return r.nodesAt(kept), nil
	}
	p := r.packing(tenant, size)
	found, none := p.find(h, kept, r.cfg.overlap(), cmp.Or(r.cfg.Effort, defaultEffort))
	if found != nil {
		r.put(tenant, found)
		return r.nodesAt(found), nil
	}
	best, overlap := p.best(h, r.cfg.overlap(), cmp.Or(r.cfg.Effort, defaultEffort))
	return nil, &NoShardError{
		Name: r.cfg.Name, Tenant: tenant, Size: size, MaxOverlap: r.cfg.overlap(),
		Best: r.nodesAt(best), Overlap: overlap, None: none,
	}
}

// Release takes its nodes from a tenant, for others to have, and reports whether it had
// any.
func (r *Registry) Release(tenant string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.tenants[tenant]
	delete(r.tenants, tenant)
	return ok
}

// Assignments returns the IDs of the nodes of all tenants who have any: what Overrides in
// a [Config] takes.
func (r *Registry) Assignments() map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lists := cloneLists(r.tenants)
	maps.DeleteFunc(lists, func(_ string, ids []string) bool { return len(ids) == 0 })
	return lists
}

func (r *Registry) put(tenant string, shard []uint16) {
	ids := make([]string, len(shard))
	for i, node := range shard {
		ids[i] = r.roster.nodes[node].ID
	}
	r.tenants[tenant] = ids
}

func (r *Registry) indexes(ids []string) []uint16 {
	shard := make([]uint16, len(ids))
	for i, id := range ids {
		at, _ := r.roster.find(id)
		shard[i] = uint16(at)
	}
	return shard
}

func (r *Registry) nodesAt(shard []uint16) []Node {
	nodes := make([]Node, len(shard))
	for i, node := range shard {
		nodes[i] = r.roster.nodes[node]
	}
	return nodes
}

// packing returns the shards of all tenants but one, for whom there is to be another of
// some size.
func (r *Registry) packing(but string, size int) *packing {
	p := &packing{
		ranking: r.roster.ranking, zones: r.roster.zones, size: size,
		on: make([][]uint32, len(r.roster.nodes)),
	}
	// In any order: a search looks at all who have a node.
	for tenant, ids := range r.tenants {
		if tenant == but {
			continue
		}
		for _, node := range r.indexes(ids) {
			p.on[node] = append(p.on[node], p.tenants)
		}
		p.tenants++
	}
	return p
}
