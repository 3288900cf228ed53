package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/retry"
	"github.com/stormjib/stormjib/shuffle"
	"github.com/stormjib/stormjib/shuffle/shufflehttp"
)

// One of 57 tenants sends what hangs the worker that gets it, ten times a second, and a
// worker that hangs is restarted after 3 s. All variants do the same about it: an attempt
// may take 250 ms, a worker that fails five times in a row is left alone for 3 s, and there
// is a second attempt with another one.
//
// Where any worker will do, that spreads the poison: it has eight workers to go to, and of
// those no more than three come back in a second. In shards of two it has two of them, and
// the tenants who have the same, a fourth of all, are down. In shuffle shards it has two as
// well; but of the 28 pairs that there are of eight workers only one is the very same. Who
// has one worker in common with the poison is served by the other.
const (
	poisonWorkers = 8
	poisonShard   = 2
	poisonPlaces  = 16 // of a worker
	poisonTenants = 56
	poisonBegins  = 3 * time.Second
	poisonEnds    = 21 * time.Second
	poisonTimeout = 250 * time.Millisecond
	poisonTrips   = 5
	poisonFine    = 99. // percent of a tenant's requests that are answered in time
)

var _ = register(&Scenario{
	Name: "poison",
	Shows: "eight workers, 56 tenants, and one more whose requests hang the worker that gets " +
		"them for 3 s",

	Topology: Topology{
		Transport: "http",
		Slots:     16,
		Service:   20 * time.Millisecond,
		Patience:  time.Second,
		InFlight:  1500,
		Kinds: []Kind{
			{Name: "team", Share: 0.97, Clients: poisonTenants},
			{Name: "poison", Share: 0.03},
		},
		Nodes:  poisonWorkers,
		Places: poisonPlaces,
	},
	Calibration: 1500 * time.Millisecond,
	Warmup:      2 * time.Second,
	Duration:    26 * time.Second,
	Needs:       poisonEnds,
	Tick:        500 * time.Millisecond,

	Load:   []Load{{Multiple: 0.42}}, // 6 a second of each tenant, and 10 of the poison
	Faults: []Fault{{Mode: Poison, Kind: "poison", From: poisonBegins, Until: poisonEnds}},

	Variants: []Variant{
		{"bare", "any of the workers", barePoison},
		{"tuned", "shards of two workers, by a hash of the tenant", tunedPoison},
		{"stormjib", "shufflehttp.Transport with two workers for each tenant", stormjibPoison},
	},
	Promises: []Promise{{
		Text: "tenants with 99 % of their requests answered in time, of those that have not " +
			"the very\n     same pair of workers as the poison",
		Unit:    "%",
		AtLeast: 100,
		Value: func(own, _ *Record) float64 {
			fine, all := 0, 0
			for _, t := range own.tenants() {
				if overlap(shuffled, t.name) < poisonShard {
					all++
					fine += t.fine()
				}
			}
			return percent(fine, all)
		},
	}, {
		Text:    "tenants with 99 % of their requests answered in time, of all",
		Unit:    "%",
		AtMost:  5,
		Premise: true,
		Value: func(own, _ *Record) float64 {
			fine, all := 0, own.tenants()
			for _, t := range all {
				fine += t.fine()
			}
			return percent(fine, len(all))
		},
	}},
})

// tenant is what became of a tenant's requests in the poison's time.
type tenant struct {
	name         string
	offered, got int
}

// fine is 1 for a tenant that nothing has happened to, and else 0.
func (t tenant) fine() int {
	if percent(t.got, t.offered) >= poisonFine {
		return 1
	}
	return 0
}

// tenants returns all but the poison, in the order of their numbers.
func (r *Record) tenants() []tenant {
	kinds := r.Scenario.Topology.kinds()
	all := make([]tenant, kinds[0].Clients)
	for i := range all {
		all[i].name = kinds[0].client(uint64(i))
	}
	for _, o := range r.settled(poisonBegins, poisonEnds, kinds[0].Name) {
		t := &all[o.Index%len(all)]
		t.offered++
		if o.Result.good() {
			t.got++
		}
	}
	return all
}

// sharding says which workers, by name, have a tenant's requests.
type sharding func(tenant string) []string

func everybody(string) []string {
	var names []string
	for i := range poisonWorkers {
		names = append(names, nodeName(i))
	}
	return names
}

// plain divides the workers into shards.
func plain(tenant string) []string {
	workers := everybody(tenant)
	first := poisonShard * int(hashOf(tenant)%uint64(len(workers)/poisonShard))
	return workers[first : first+poisonShard]
}

func shuffled(tenant string) []string {
	var names []string
	for _, n := range sharder().Shard(tenant) {
		names = append(names, n.ID)
	}
	return names
}

// sharder returns the sharder of the workers. There is nothing in what it is made of that
// could be an error.
func sharder() *shuffle.Sharder {
	var nodes []shuffle.Node
	for _, name := range everybody("") {
		nodes = append(nodes, shuffle.Node{ID: name})
	}
	s, err := shuffle.New(nodes, shuffle.Config{Size: poisonShard})
	if err != nil {
		panic(err)
	}
	return s
}

// overlap returns how many workers a tenant has in common with the poison.
func overlap(shard sharding, tenant string) int {
	common := 0
	theirs := shard("poison")
	for _, name := range shard(tenant) {
		if slices.Contains(theirs, name) {
			common++
		}
	}
	return common
}

// ShardReport is what became of the tenants that have so many workers in common with the
// poison, in a variant.
type ShardReport struct {
	Common  int `json:"common"`
	Tenants int `json:"tenants"`
	Below   int `json:"below"` // 99 %
	Offered int `json:"offered"`
	Good    int `json:"goodput"`
}

// shards returns the tenants of a variant by what they have in common with the poison,
// those who have least first.
func (r *Record) shards() []ShardReport {
	shard := map[string]sharding{
		bareName: everybody, "tuned": plain, mainName: shuffled,
	}[r.Variant]
	if shard == nil || r.Scenario.Name != "poison" {
		return nil
	}
	var reports []ShardReport
	for _, t := range r.tenants() {
		common := overlap(shard, t.name)
		i := slices.IndexFunc(reports, func(s ShardReport) bool { return s.Common == common })
		if i < 0 {
			i = len(reports)
			reports = append(reports, ShardReport{Common: common})
		}
		reports[i].Tenants++
		reports[i].Below += 1 - t.fine()
		reports[i].Offered += t.offered
		reports[i].Good += t.got
	}
	slices.SortFunc(reports, func(a, b ShardReport) int { return a.Common - b.Common })
	return reports
}

func barePoison(Topology) Protection  { return routed(everybody) }
func tunedPoison(Topology) Protection { return routed(plain) }

// stormjibPoison may send a request twice, for it has its number; that it is a POST is for
// the sake of the measurement, see dialHTTP. When both workers of the poison begin to hang,
// all that is with them goes to others at the same time, and that is more than the three
// which a budget pays for in a row by default.
func stormjibPoison(Topology) Protection {
	shards := sharder()
	return guarded(func(base http.RoundTripper) http.RoundTripper {
		return &shufflehttp.Transport{
			Base:       base,
			Sharder:    func(*http.Request) *shuffle.Sharder { return shards },
			Tenant:     shufflehttp.Header(clientField),
			Idempotent: func(*http.Request) bool { return true },
			Budget:     &retry.Budget{Burst: 2 * poisonPlaces},
		}
	})
}

func routed(shard sharding) Protection {
	return guarded(func(base http.RoundTripper) http.RoundTripper { return &router{shard, base} })
}

// guarded is what all variants have: a time for each attempt, and a breaker for each worker,
// which refuses at once when that is left alone.
func guarded(route func(http.RoundTripper) http.RoundTripper) Protection {
	workers := breaker.NewGroup[string](breaker.GroupConfig{
		Breaker: breaker.Config{
			Name: "worker", Consecutive: poisonTrips,
			OpenFor: restartAfter, MaxOpenFor: restartAfter,
		},
	})
	return Protection{HTTP: func(base http.RoundTripper) http.RoundTripper {
		return route(&breakerhttp.Transport{
			Base:    hurried{base},
			Breaker: func(r *http.Request) *breaker.Breaker { return workers.Get(r.URL.Host) },
		})
	}}
}

// router sends a request to any worker of the tenant's, and if that fails to any other.
// Those that are left alone are passed over.
type router struct {
	shard sharding
	base  http.RoundTripper
}

func (t *router) RoundTrip(r *http.Request) (*http.Response, error) {
	workers := slices.Clone(t.shard(r.Header.Get(clientField)))
	rand.Shuffle(len(workers), func(i, j int) {
		workers[i], workers[j] = workers[j], workers[i]
	})
	var failed error
	attempts := 0
	for _, name := range workers {
		resp, err := t.try(r, name)
		if err == nil {
			return resp, nil
		}
		if failed = err; !stormjib.NotAttempted(err) {
			attempts++
		}
		if attempts == 2 {
			break
		}
	}
	return nil, failed
}

func (t *router) try(r *http.Request, name string) (*http.Response, error) {
	sent := toNode(r, name)
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	sent.Body = body
	return t.base.RoundTrip(sent)
}

// hurried is a transport that gives an attempt poisonTimeout for all of its answer, which
// is a word.
type hurried struct{ base http.RoundTripper }

func (h hurried) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), poisonTimeout)
	defer cancel()
	resp, err := h.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	word, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(word))
	return resp, err
}
