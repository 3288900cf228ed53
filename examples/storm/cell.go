package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/cellhttp"
)

// Ten stacks of a service, each with data of its own, and 200 users. One of the stacks dies,
// and takes along what knows where everybody is: it is with such a change that control
// planes go down. What is in the stack that died is gone until somebody mends it, in every
// variant. What they differ in is who feels it.
//
// Where the data of each user is spread over all stacks, a tenth of what everybody asks for
// is gone, and after a dozen seconds hardly anybody has seen nothing. Where each user has
// one stack, that is up to who remembers which one it is.
const (
	cellStacks  = 10
	cellUsers   = 200
	cellDead    = 3
	cellDies    = 3 * time.Second
	cellEnds    = 15 * time.Second
	cellPeriod  = 500 * time.Millisecond
	cellRemains = 5 * time.Second // for how long tuned believes what it was told
)

var _ = register(&Scenario{
	Name: "cell",
	Shows: "ten stacks with the data of 200 users; one dies, and the control plane with it, for " +
		"12 s",
	Note: "tuned is as good while the control plane is there; with a cache that never forgets " +
		"it would be\n  as good for users that it has seen, and send those who have moved to " +
		"the wrong place",

	Topology: Topology{
		Transport: "http",
		Slots:     16,
		Service:   20 * time.Millisecond,
		Patience:  2 * time.Second,
		InFlight:  1500,
		Kinds:     []Kind{{Name: "user", Share: 1, Clients: cellUsers}},
		Nodes:     cellStacks,
		Places:    16,
	},
	Calibration: 1500 * time.Millisecond,
	Warmup:      2 * time.Second,
	Duration:    cellEnds,
	Needs:       10 * time.Second,
	Tick:        500 * time.Millisecond,

	Load:     []Load{{Multiple: 0.55}}, // 2 a second of each user
	Turnover: []Turnover{{At: cellDies, Node: cellDead}},

	Variants: []Variant{
		{"bare", "each user's data over all stacks", bareCell},
		{"tuned", "a stack for each user, from a directory, with a cache of 5 s", tunedCell},
		{"stormjib", "cellhttp.Transport with a cell.Router", stormjibCell},
	},
	Promises: []Promise{{
		Text:    "users for whom all was answered in time, from when the stack dies to the end",
		Unit:    "%",
		AtLeast: 100 - 100./cellStacks,
		Value:   func(own, _ *Record) float64 { return own.untouched() },
	}, {
		Text:    "the same, where everybody's data is everywhere",
		Unit:    "%",
		AtMost:  30,
		Premise: true,
		Value:   func(own, _ *Record) float64 { return own.untouched() },
	}},
})

// untouched returns the share of users for whom nothing failed once the stack had died.
func (r *Record) untouched() float64 {
	var hurt [cellUsers]bool
	for _, o := range r.settled(cellDies, r.Length) {
		if !o.Result.good() {
			hurt[o.Index%cellUsers] = true
		}
	}
	fine := 0
	for _, h := range hurt {
		if !h {
			fine++
		}
	}
	return percent(fine, cellUsers)
}

var errNoControl = errors.New("the control plane is down")

// controlPlane knows who is where, until a stack dies.
type controlPlane struct {
	down  atomic.Bool
	where *cell.Snapshot
}

// newControlPlane has the users placed evenly, as a planner would have done it.
func newControlPlane() *controlPlane {
	s := &cell.Snapshot{
		Version: 1, Issued: time.Now(), Lease: 15 * time.Second,
		Tenants: make(map[string]cell.Assignment),
	}
	for i := range cellStacks {
		s.Cells = append(s.Cells, cell.Cell{ID: nodeName(i), Address: nodeName(i)})
	}
	for i := range 16 {
		s.Slots = append(s.Slots, cell.Assignment{Cell: nodeName(i % cellStacks), Epoch: 1})
	}
	users := find("cell").Topology.Kinds[0]
	for i := range cellUsers {
		home := cell.Assignment{Cell: nodeName(i % cellStacks), Epoch: 1}
		s.Tenants[users.client(uint64(i))] = home
	}
	return &controlPlane{where: s}
}

// told is how the control plane learns of a stack that died: not at all, for it is gone.
func (c *controlPlane) told(names []string) error {
	c.down.Store(len(names) < cellStacks)
	return nil
}

// pull returns the whole map, and find where one user is.
func (c *controlPlane) pull(context.Context) ([]byte, error) {
	if c.down.Load() {
		return nil, errNoControl
	}
	return c.where.Encode()
}

func (c *controlPlane) find(user string) (stack string, err error) {
	if c.down.Load() {
		return "", errNoControl
	}
	return c.where.Tenants[user].Cell, nil
}

// bareCell asks any of the stacks: which one has what a request is for is as good as chance.
func bareCell(Topology) Protection {
	return stacked(newControlPlane(), func(string) (string, error) {
		return nodeName(rand.IntN(cellStacks)), nil
	})
}

// tunedCell asks the directory, and believes for a while what it said.
func tunedCell(Topology) Protection {
	control := newControlPlane()
	return stacked(control, (&directory{
		find: control.find, known: make(map[string]entry),
	}).stack)
}

// stacked is a transport that goes where choose says for a user.
func stacked(control *controlPlane, choose func(user string) (string, error)) Protection {
	return Protection{
		Nodes: control.told,
		HTTP: func(base http.RoundTripper) http.RoundTripper {
			return chosen{base, choose}
		},
	}
}

type chosen struct {
	base   http.RoundTripper
	choose func(user string) (string, error)
}

func (c chosen) RoundTrip(r *http.Request) (*http.Response, error) {
	stack, err := c.choose(r.Header.Get(clientField))
	if err != nil {
		return nil, err
	}
	return c.base.RoundTrip(toNode(r, stack))
}

// directory is a cache before a control plane, as it is written most: an entry has its
// time, and then it is asked for again.
type directory struct {
	find func(user string) (string, error)

	mu    sync.Mutex
	known map[string]entry
}

type entry struct {
	stack string
	until time.Time
}

func (d *directory) stack(user string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.known[user]; time.Now().Before(e.until) {
		return e.stack, nil
	}
	stack, err := d.find(user)
	if err == nil {
		d.known[user] = entry{stack, time.Now().Add(cellRemains)}
	}
	return stack, err
}

// stormjibCell has the map of its last good pull. The seed is that of the release, for the
// requests before the first one.
func stormjibCell(Topology) Protection {
	control := newControlPlane()
	seed, err := control.pull(context.Background())
	if err != nil {
		panic(err) // There is nothing in it that could be an error.
	}
	router := cell.New(cell.Config{
		Name: "edge", Source: control.pull, Period: cellPeriod, Seed: seed, AllowSeed: true,
	})
	return Protection{
		Nodes: control.told,
		Stats: func() any {
			s := router.Stats()
			return map[string]string{
				"version": strconv.FormatUint(s.Version, 10),
				"origin":  s.Origin,
				"stale":   strconv.FormatBool(s.Stale),
			}
		},
		HTTP: func(base http.RoundTripper) http.RoundTripper {
			go func() { _ = router.Run(context.Background()) }() // Ends with the process.
			return &cellhttp.Transport{
				Base:   base,
				Router: router,
				Tenant: func(r *http.Request) string { return r.Header.Get(clientField) },
			}
		},
	}
}
