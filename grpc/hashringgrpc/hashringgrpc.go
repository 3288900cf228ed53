// Package hashringgrpc sends each call to the server that its key belongs to: a balancer
// for clients of gRPC.
//
//	balancer.Register(hashringgrpc.NewBuilder(hashringgrpc.Config{}))
//	conn, err := grpc.NewClient("dns:///sessions:443",
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [
//			{"stormjib_hashring": {"header": "session"}}]}`))
//	ctx = metadata.AppendToOutgoingContext(ctx, "session", id)
//
// Use it where servers keep something for a key, such as a cache or a session, and work
// without it too, only slower. Do not use it to pick one of several equal servers: that
// is what round_robin and least_request are for; nor to decide who may write.
//
// # Algorithm
//
// The endpoints that the resolver has found are the nodes of a [hashring.Table], or of a
// [hashring.Ring], and a [hashring.Balancer] bounds the load of each: a call is a part of
// it until it has ended. A call goes to the first node in its key's own order that is
// connected and has room. What is not connected changes nobody's order: its keys go to
// the next in theirs, and come back with it. See package hashring for the rest.
//
// # Service config
//
//	header     the key of metadata whose value, the first, is the key of a call; required if
//	           there is no Config.Key
//	placement  "table", or "ring"; if not there, "table"
//	slots      of a table; a power of two
//	vnodes     of a ring, for each unit of weight
//	seed       another placement of the same nodes
//	factor     the bound of load, as BalancerConfig.Factor; negative: none
//	minCap     the load that each may have, as BalancerConfig.MinCap
//	owners     how many nodes of a key take turns; if not there, 1
//
// What is not there has the default of package hashring. Another name is an error:
// NewClient returns it, and one that a resolver delivers is refused, and the config
// before it stays.
//
// # Nodes
//
// The ID of a node is its first address. That is a bad one where addresses change when a
// server is restarted: its keys are then everybody's for once. A resolver that knows
// names, zones and weights sets them by [WithNode].
//
// # Defaults
//
// The key has none. A call without one, or with an empty one, goes to a node at random.
// Connections are made to all nodes, and kept: for up to some hundred of them.
//
// What fails counts as load for a while: Unavailable, DeadlineExceeded,
// ResourceExhausted, Internal and DataLoss, see [hashring.Lease.Done].
//
// # Failure modes
//
//   - An empty list of endpoints never replaces a full one, nor does one with two
//     endpoints of one ID. The resolver is asked again.
//   - While the first connections are made, calls go to those that were fastest.
//   - Where no node is connected, calls wait while one is being connected to, and fail
//     otherwise; those that wait for ready wait on.
//   - A retry, gRPC's own too, goes to the same node while that is connected and has
//     room.
//
// Experimental: the API may change with a minor version.
package hashringgrpc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/internal/endpoints"
	"github.com/stormjib/stormjib/hashring"
)

// Config is what a service config cannot say. The zero Config is good for most.
type Config struct {
	// Name is the name of the balancer in service configs, in lower case. If zero,
	// "stormjib_hashring".
	Name string

	// Key returns the key of a call, by its context and its method. It is called for each
	// attempt, and should look up and not ask. If nil, the key is in the metadata, under the
	// header of the service config.
	Key func(ctx context.Context, method string) string

	// Hash hashes keys, as [hashring.TableConfig] has it. If nil, xxhash. Where clients choose
	// keys and might mean harm, use [hashring.SipHash].
	Hash func(key string) uint64
}

// NewBuilder returns what [balancer.Register] registers. That has to be done before any
// connection is made, since it is not safe for concurrent use; gRPC's own balancers do it
// in their init.
func NewBuilder(cfg Config) balancer.Builder {
	return &builder{cfg}
}

// WithNode returns attributes that say which node an endpoint is. They are for the
// Attributes of a [google.golang.org/grpc/resolver.Endpoint], or for those of its first
// address:
//
//	endpoint.Attributes = hashringgrpc.WithNode(endpoint.Attributes, hashring.Node{
//		ID: "cache-7", Zone: "b", Weight: 2,
//	})
//
// An empty ID is the address.
func WithNode(a *attributes.Attributes, n hashring.Node) *attributes.Attributes {
	return endpoints.WithNode(a, endpoints.Node(n))
}

type builder struct{ cfg Config }

func (b *builder) Name() string { return cmp.Or(b.cfg.Name, "stormjib_hashring") }

func (b *builder) Build(
	cc balancer.ClientConn, opts balancer.BuildOptions,
) balancer.Balancer {
	return endpoints.New(cc, opts, &policy{cfg: b.cfg})
}

// config is the service config of a balancer.
type config struct {
	serviceconfig.LoadBalancingConfig `json:"-"`

	Header    string  `json:"header"`
	Placement string  `json:"placement"`
	Slots     int     `json:"slots"`
	VNodes    int     `json:"vnodes"`
	Seed      uint64  `json:"seed"`
	Factor    float64 `json:"factor"`
	MinCap    int     `json:"minCap"`
	Owners    int     `json:"owners"`
}

// ParseConfig reads a service config.
func (b *builder) ParseConfig(
	data json.RawMessage,
) (serviceconfig.LoadBalancingConfig, error) {
	c := &config{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(c); err != nil {
		return nil, fmt.Errorf("hashringgrpc: %w", err)
	}
	var bad []error
	if c.Header == "" && b.cfg.Key == nil {
		bad = append(bad, errors.New("there is no header, and no Config.Key"))
	}
	switch c.Placement {
	case "", "table", "ring":
	default:
		const text = "placement is %q, but must be \"table\" or \"ring\""
		bad = append(bad, fmt.Errorf(text, c.Placement))
	}
	if c.Owners < 0 {
		bad = append(bad, fmt.Errorf("owners is %d, but must not be negative", c.Owners))
	}
	bad = append(bad, c.table(nil).Validate(), c.ring(nil).Validate(), c.bounds().Validate())
	if err := errors.Join(bad...); err != nil {
		return nil, fmt.Errorf("hashringgrpc: %w", err)
	}
	return c, nil
}

func (c *config) table(hash func(string) uint64) hashring.TableConfig {
	return hashring.TableConfig{Slots: c.Slots, Seed: c.Seed, Hash: hash}
}

func (c *config) ring(hash func(string) uint64) hashring.RingConfig {
	return hashring.RingConfig{VNodes: c.VNodes, Seed: c.Seed, Hash: hash}
}

func (c *config) bounds() hashring.BalancerConfig {
	return hashring.BalancerConfig{Factor: c.Factor, MinCap: c.MinCap}
}

// policy chooses the endpoint of a call.
type policy struct {
	cfg     Config
	current atomic.Pointer[placed]
}

// placed is what a policy goes by.
type placed struct {
	config *config
	nodes  *hashring.Balancer
	ids    []string
}

// Update has the policy go by a config and nodes. The loads stay, unless it is the bound
// that has changed.
func (p *policy) Update(
	cfg serviceconfig.LoadBalancingConfig, nodes []endpoints.Node,
) error {
	c, ok := cfg.(*config)
	if !ok {
		return fmt.Errorf("hashringgrpc: a config of type %T", cfg)
	}
	next := &placed{config: c}
	list := make([]hashring.Node, 0, len(nodes))
	for _, n := range nodes {
		list = append(list, hashring.Node(n))
		next.ids = append(next.ids, n.ID)
	}
	placement, err := c.place(list, p.cfg.Hash)
	if err != nil {
		return err
	}
	now := p.current.Load()
	if now != nil && now.config.Factor == c.Factor && now.config.MinCap == c.MinCap {
		next.nodes = now.nodes
		err = next.nodes.Set(placement)
	} else {
		next.nodes = hashring.NewBalancer(placement, c.bounds())
	}
	if err == nil {
		p.current.Store(next)
	}
	return err
}

func (c *config) place(
	nodes []hashring.Node, hash func(string) uint64,
) (hashring.Placement, error) {
	if c.Placement == "ring" {
		return hashring.NewRing(nodes, c.ring(hash))
	}
	return hashring.NewTable(nodes, c.table(hash))
}

// Pick picks the endpoint of a call.
func (p *policy) Pick(
	info balancer.PickInfo, all endpoints.States,
) (balancer.PickResult, error) {
	now := p.current.Load()
	lease, err := now.nodes.AcquireSpread(p.key(info, now.config.Header), now.config.Owners,
		func(n hashring.Node) bool { return all.Ready(n.ID) })
	if err != nil {
		return all.None(info, now.ids)
	}
	result, err := all[lease.Node().ID].Picker.Pick(info)
	if err != nil {
		lease.Release()
		return result, err
	}
	done := result.Done
	result.Done = func(end balancer.DoneInfo) {
		if done != nil {
			done(end)
		}
		lease.Done(info.Ctx, failure(end.Err))
	}
	return result, nil
}

// key returns the key of a call, a random one if it has none.
func (p *policy) key(info balancer.PickInfo, header string) string {
	key := ""
	if p.cfg.Key != nil {
		key = p.cfg.Key(info.Ctx, info.FullMethodName)
	} else if md, ok := metadata.FromOutgoingContext(info.Ctx); ok {
		if values := md.Get(header); len(values) > 0 {
			key = values[0]
		}
	}
	if key == "" {
		return strconv.FormatUint(rand.Uint64(), 36)
	}
	return key
}

// failure returns err if it is of the node, or of the way there, and nil if it is an
// answer.
func failure(err error) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted,
		codes.Internal, codes.DataLoss:
		return err
	}
	return nil
}
