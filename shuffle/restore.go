package shuffle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// ErrRestore is matched by the errors of [RestoreRegistry] that are about the data: it is
// torn, of another version, or says what no registry with this config would.
var ErrRestore = errors.New("shuffle: registry cannot be restored")

// saved is the JSON of a registry. Readers accept no version that they do not know, and
// no field either: a promise that is half understood is not kept.
type saved struct {
	Version int           `json:"version"`
	Nodes   []savedNode   `json:"nodes"`
	Tenants []savedTenant `json:"tenants"`
}

type savedNode struct {
	ID     text   `json:"id"`
	Zone   text   `json:"zone"`
	Weight uint32 `json:"weight"`
}

// savedTenant is an element of a list, and not a member of an object: of two members with
// one name, one would be lost without a word.
type savedTenant struct {
	Tenant text   `json:"tenant"`
	Nodes  []text `json:"nodes"`
}

// text is a string of any bytes. JSON has no place for those that are not UTF-8: written
// as they are, some would be replaced, and two tenants might become one.
type text string

type encoded struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON returns a string, or an object where that cannot be one.
func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(encoded{[]byte(t)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (t *text) UnmarshalJSON(data []byte) error {
	if data[0] != '{' {
		return json.Unmarshal(data, (*string)(t))
	}
	var e encoded
	err := json.Unmarshal(data, &e)
	*t = text(e.Base64)
	return err
}

const savedVersion = 1

// MarshalJSON returns the nodes and the assignments, for [RestoreRegistry]: the same bytes
// for the same ones. Write them before you act on a new assignment.
func (r *Registry) MarshalJSON() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := saved{Version: savedVersion, Nodes: []savedNode{}, Tenants: []savedTenant{}}
	for _, n := range r.roster.nodes {
		s.Nodes = append(s.Nodes, savedNode{text(n.ID), text(n.Zone), n.Weight})
	}
	for _, tenant := range slices.Sorted(maps.Keys(r.tenants)) {
		t := savedTenant{text(tenant), []text{}}
		for _, id := range r.tenants[tenant] {
			t.Nodes = append(t.Nodes, text(id))
		}
		s.Tenants = append(s.Tenants, t)
	}
	return json.Marshal(s)
}

// RestoreRegistry returns the registry of which data is the JSON, with its nodes and its
// assignments as they were. If the nodes are others by now, tell it by Set. The error
// matches [ErrRestore], or is that of Validate. Data in which two tenants have more nodes
// in common than MaxOverlap is an error too: it is that of another config, or was changed
// by hand.
func RestoreRegistry(data []byte, cfg RegistryConfig) (*Registry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r, err := restore(data, cfg)
	if err != nil {
		return nil, fmt.Errorf("%w%s: %w", ErrRestore, quoted(cfg.Name), err)
	}
	return r, nil
}

func restore(data []byte, cfg RegistryConfig) (*Registry, error) {
	s, err := parse(data)
	if err != nil {
		return nil, err
	}
	nodes := make([]Node, len(s.Nodes))
	for i, n := range s.Nodes {
		nodes[i] = Node{ID: string(n.ID), Zone: string(n.Zone), Weight: n.Weight}
	}
	name := cfg.Name
	cfg.Name = "" // it is in the error already
	r, err := NewRegistry(nodes, cfg)
	if err != nil {
		return nil, err
	}
	r.cfg.Name = name
	if err := r.load(s.Tenants); err != nil {
		return nil, err
	}
	return r, nil
}

func parse(data []byte) (*saved, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, err
	}
	if version.Version != savedVersion {
		return nil, fmt.Errorf("version %d, but only %d is known", version.Version, savedVersion)
	}
	s, d := new(saved), json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return s, d.Decode(s)
}

// load puts in what is known to be no promise broken.
func (r *Registry) load(tenants []savedTenant) error {
	on := make([][]int, len(r.roster.nodes))
	for number, t := range tenants {
		name, ids := string(t.Tenant), []string{}
		if _, ok := r.tenants[name]; ok {
			return fmt.Errorf("tenant %.100q is there twice", name)
		}
		common := map[int]int{}
		for _, id := range t.Nodes {
			at, ok := r.roster.find(string(id))
			if !ok || slices.Contains(ids, string(id)) {
				return fmt.Errorf("tenant %.100q: no node %.100q, or twice", name, id)
			}
			for _, other := range on[at] {
				if common[other]++; common[other] > r.cfg.overlap() {
					return fmt.Errorf("tenants %.100q and %.100q have more than %d nodes in common",
						tenants[other].Tenant, name, r.cfg.overlap())
				}
			}
			on[at] = append(on[at], number)
			ids = append(ids, string(id))
		}
		r.tenants[name] = ids
	}
	return nil
}
