// Package shufflegrpc sends each call to a server of its tenant's shard: a balancer for
// clients of gRPC.
//
//	balancer.Register(shufflegrpc.NewBuilder(shufflegrpc.Config{}))
//	conn, err := grpc.NewClient("dns:///workers:443",
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [
//			{"stormjib_shuffle": {"size": 2}}]}`))
//	ctx = stormjib.WithTenant(ctx, tenant)
//
// Use it where one tenant's calls can ruin what serves them: crash it, hang it, fill it.
// Do not use it to limit how much a tenant asks for, which is for a limiter at the door.
//
// # Algorithm
//
// The endpoints that the resolver has found are the nodes of a [shuffle.Sharder]. A call
// goes to a node of its tenant's shard, a random one of those that are connected, and
// never to one outside of the shard: what ruins this tenant's nodes would ruin the next
// ones too. See package shuffle for the rest.
//
// A call that fails is not sent to another node by itself: a retrygrpc.Client around it
// does that, or a retryPolicy in the service config, and each of their attempts is picked
// anew.
//
// # Service config
//
//	size    how many nodes a tenant has; if not there, 3; if negative, all
//	header  the key of metadata whose value, the first, is the tenant; if not there, the
//	        tenant is that of the call's context, by stormjib.WithTenant
//	seed    other shards of the same nodes
//
// Another name is an error: NewClient returns it, and one that a resolver delivers is
// refused, and the config before it stays.
//
// # Nodes
//
// The ID of a node is its first address. That is a bad one where addresses change when a
// server is restarted: other tenants get it then. A resolver that knows names, zones and
// weights sets them by [WithNode].
//
// # Failure modes
//
//   - Calls that name no tenant are those of one tenant more, with a shard of its own.
//   - Where no node of a shard is connected, calls wait while one is being connected to,
//     and fail otherwise; those that wait for ready wait on.
//   - An empty list of endpoints never replaces a full one, nor does one with two
//     endpoints of one ID. The resolver is asked again.
//   - A node that hangs stays connected. Give calls a deadline, and put a breaker around
//     what is behind it.
//   - Whoever may choose a tenant's name chooses a shard to ruin. Have the tenant from
//     what was authenticated.
//
// Experimental: the API may change with a minor version.
package shufflegrpc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/serviceconfig"

	"github.com/stormjib/stormjib/grpc/internal/endpoints"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shuffle"
)

// Config is what a service config cannot say. The zero Config is good for most.
type Config struct {
	// Name is the name of the balancer in service configs, in lower case. If zero,
	// "stormjib_shuffle".
	Name string

	// Tenant returns the tenant of a call, by its context and its method. It is called for
	// each attempt, and should look up and not ask. If nil, it is in the metadata or in the
	// context, as the service config says.
	Tenant func(ctx context.Context, method string) string

	// Shards is what else there is to say of shards: overrides, dedicated nodes, sizes by
	// tenant, a hash. A size and a seed of the service config come before its Size and Seed.
	// If zero, the defaults of package shuffle.
	Shards shuffle.Config
}

// NewBuilder returns what [balancer.Register] registers. That has to be done before any
// connection is made, since it is not safe for concurrent use; gRPC's own balancers do it
// in their init. It panics if Shards is not valid; see [shuffle.Config.Validate].
func NewBuilder(cfg Config) balancer.Builder {
	if err := cfg.Shards.Validate(); err != nil {
		panic("shufflegrpc: Config.Shards is not valid: " + err.Error())
	}
	return &builder{cfg}
}

// WithNode returns attributes that say which node an endpoint is. They are for the
// Attributes of a [google.golang.org/grpc/resolver.Endpoint], or for those of its first
// address. An empty ID is the address.
func WithNode(a *attributes.Attributes, n shuffle.Node) *attributes.Attributes {
	return endpoints.WithNode(a, endpoints.Node(n))
}

type builder struct{ cfg Config }

func (b *builder) Name() string { return cmp.Or(b.cfg.Name, "stormjib_shuffle") }

func (b *builder) Build(
	cc balancer.ClientConn, opts balancer.BuildOptions,
) balancer.Balancer {
	return endpoints.New(cc, opts, &policy{cfg: b.cfg})
}

// config is the service config of a balancer.
type config struct {
	serviceconfig.LoadBalancingConfig `json:"-"`

	Header string `json:"header"`
	Size   int    `json:"size"`
	Seed   uint64 `json:"seed"`
}

// ParseConfig reads a service config.
func (b *builder) ParseConfig(
	data json.RawMessage,
) (serviceconfig.LoadBalancingConfig, error) {
	c := &config{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(c); err != nil {
		return nil, fmt.Errorf("shufflegrpc: %w", err)
	}
	if err := c.shards(b.cfg.Shards).Validate(); err != nil {
		return nil, fmt.Errorf("shufflegrpc: %w", err)
	}
	return c, nil
}

// shards returns s with what the service config says.
func (c *config) shards(s shuffle.Config) shuffle.Config {
	s.Size = cmp.Or(c.Size, s.Size)
	s.Seed = cmp.Or(c.Seed, s.Seed)
	return s
}

// policy chooses the endpoint of a call.
type policy struct {
	cfg     Config
	current atomic.Pointer[sharded]
}

// sharded is what a policy goes by.
type sharded struct {
	config *config
	shards *shuffle.Sharder
}

// Update has the policy go by a config and nodes.
func (p *policy) Update(
	cfg serviceconfig.LoadBalancingConfig, nodes []endpoints.Node,
) error {
	c, ok := cfg.(*config)
	if !ok {
		return fmt.Errorf("shufflegrpc: a config of type %T", cfg)
	}
	list := make([]shuffle.Node, 0, len(nodes))
	for _, n := range nodes {
		list = append(list, shuffle.Node(n))
	}
	shards, err := shuffle.New(list, c.shards(p.cfg.Shards))
	if err == nil {
		p.current.Store(&sharded{c, shards})
	}
	return err
}

// Pick picks the endpoint of a call.
func (p *policy) Pick(
	info balancer.PickInfo, all endpoints.States,
) (balancer.PickResult, error) {
	now := p.current.Load()
	tenant := p.tenant(info, now.config.Header)
	for n := range now.shards.Route(tenant, func(n shuffle.Node) bool { return all.Ready(n.ID) }) {
		return all[n.ID].Picker.Pick(info)
	}
	var ids []string
	for _, n := range now.shards.Shard(tenant) {
		ids = append(ids, n.ID)
	}
	return all.None(info, ids)
}

func (p *policy) tenant(info balancer.PickInfo, header string) string {
	if p.cfg.Tenant != nil {
		return p.cfg.Tenant(info.Ctx, info.FullMethodName)
	}
	if header == "" {
		return hop.SenderOf(info.Ctx).Tenant
	}
	md, _ := metadata.FromOutgoingContext(info.Ctx)
	if values := md.Get(header); len(values) > 0 {
		return values[0]
	}
	return ""
}
