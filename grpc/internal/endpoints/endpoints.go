// Package endpoints is what balancers have in common that choose among all endpoints of a
// service by what a call is: a connection to each of them, and the list of nodes that
// they are.
package endpoints

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// Node is an endpoint as a placement knows it. It is what the patterns have as a Node.
type Node struct {
	ID     string // tells nodes apart
	Zone   string // what it fails together with
	Weight uint32 // 0: 1
}

type nodeKey struct{}

// WithNode returns attributes that say which node an endpoint, or its first address, is.
func WithNode(a *attributes.Attributes, n Node) *attributes.Attributes {
	return a.WithValue(nodeKey{}, n)
}

// nodeOf returns the node that an endpoint is: what its attributes say, or those of its
// first address, whose text is the ID if none is said.
func nodeOf(e resolver.Endpoint) Node {
	first := e.Addresses[0]
	n, ok := e.Attributes.Value(nodeKey{}).(Node)
	if !ok {
		n, _ = first.Attributes.Value(nodeKey{}).(Node)
	}
	if n.ID == "" {
		n.ID = first.Addr
	}
	return n
}

// Policy chooses among endpoints. Its methods are not called at the same time, but for
// Pick.
type Policy interface {
	// Update has the policy go by a config and nodes, or return why it does not.
	Update(config serviceconfig.LoadBalancingConfig, nodes []Node) error

	// Pick picks the endpoint of a call.
	Pick(info balancer.PickInfo, all States) (balancer.PickResult, error)
}

// States are the endpoints that there are at a moment, by the IDs of their nodes.
type States map[string]balancer.State

// Ready reports whether a call can be sent to a node at once.
func (s States) Ready(id string) bool {
	return s[id].ConnectivityState == connectivity.Ready
}

// None returns what a pick comes to where none of these nodes is ready: it is made again
// when something has changed, if one of them is being connected to, and else fails with
// what connecting to one of them has come to.
func (s States) None(info balancer.PickInfo, ids []string) (balancer.PickResult, error) {
	var down balancer.Picker
	for _, id := range ids {
		state, ok := s[id]
		if !ok || state.ConnectivityState != connectivity.TransientFailure {
			return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
		}
		down = state.Picker
	}
	if down == nil {
		return balancer.PickResult{}, errNoNodes
	}
	return down.Pick(info)
}

var errNoNodes = errors.New("there are no endpoints")

// New returns a balancer that connects to all endpoints, and has a policy choose among
// them.
func New(cc balancer.ClientConn, opts balancer.BuildOptions, p Policy) balancer.Balancer {
	b := &all{ClientConn: cc, policy: p}
	first := balancer.Get(pickfirst.Name)
	b.child = endpointsharding.NewBalancer(b, opts, first.Build, endpointsharding.Options{})
	return b
}

// all is such a balancer. It is the ClientConn of its child, which has a child for each
// endpoint.
type all struct {
	balancer.ClientConn
	child  balancer.Balancer
	policy Policy

	mu     sync.Mutex
	nodes  []Node // that the policy goes by
	config serviceconfig.LoadBalancingConfig
}

// UpdateClientConnState takes a list of endpoints. What is empty, or contradicts itself,
// never replaces a list that was neither: it is most often the resolver that is broken
// then.
func (b *all) UpdateClientConnState(s balancer.ClientConnState) error {
	endpoints := slices.DeleteFunc(slices.Clone(s.ResolverState.Endpoints),
		func(e resolver.Endpoint) bool { return len(e.Addresses) == 0 })
	err := b.update(s.BalancerConfig, endpoints)
	if err != nil {
		b.failed(err)
		return fmt.Errorf("%w: %w", balancer.ErrBadResolverState, err)
	}
	s.ResolverState.Endpoints = endpoints
	s.BalancerConfig = nil // it is not the children's
	s.ResolverState = pickfirst.EnableHealthListener(s.ResolverState)
	return b.child.UpdateClientConnState(s)
}

// update tells the policy, if there is anything new.
func (b *all) update(
	config serviceconfig.LoadBalancingConfig, endpoints []resolver.Endpoint,
) error {
	if len(endpoints) == 0 {
		return errNoNodes
	}
	nodes := make([]Node, 0, len(endpoints))
	seen := make(map[string]bool)
	for _, e := range endpoints {
		if first := e.Addresses[0].Addr; !seen[first] { // some resolvers say things twice
			seen[first] = true
			nodes = append(nodes, nodeOf(e))
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Equal(nodes, b.nodes) && config == b.config {
		return nil
	}
	if err := b.policy.Update(config, nodes); err != nil {
		return err
	}
	b.nodes, b.config = nodes, config
	return nil
}

// failed has calls fail if there was no list yet.
func (b *all) failed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.nodes == nil {
		b.ClientConn.UpdateState(balancer.State{
			ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(err),
		})
	}
}

// ResolverError is told that there is no list.
func (b *all) ResolverError(err error) {
	b.failed(err)
	b.child.ResolverError(err)
}

// UpdateState is called by the child, which knows the state of each endpoint.
func (b *all) UpdateState(s balancer.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.nodes == nil {
		return // failed has said so
	}
	states := make(States)
	for _, child := range endpointsharding.ChildStatesFromPicker(s.Picker) {
		states[nodeOf(child.Endpoint).ID] = child.State
	}
	s.Picker = &picker{b.policy, states}
	b.ClientConn.UpdateState(s)
}

// UpdateSubConnState is not called: the children listen for themselves.
func (*all) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

func (b *all) Close() { b.child.Close() }

func (b *all) ExitIdle() { b.child.ExitIdle() }

type picker struct {
	policy Policy
	states States
}

func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	return p.policy.Pick(info, p.states)
}
