package shufflegrpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/grpc/internal/echo"
	"github.com/stormjib/stormjib/grpc/internal/fleet"
	"github.com/stormjib/stormjib/grpc/shufflegrpc"
	"github.com/stormjib/stormjib/shuffle"
)

func names(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("node-%02d", i))
	}
	return all
}

func tenant(i int) string { return fmt.Sprint("tenant-", i) }

func ask(t *testing.T, conn *grpc.ClientConn, tenant string) (string, error) {
	t.Helper()
	return echo.Ask(stormjib.WithTenant(t.Context(), tenant), conn, "x")
}

// shard returns the nodes of a tenant, as package shuffle has them.
func shard(t *testing.T, cfg shuffle.Config, tenant string, addresses ...string) []string {
	t.Helper()
	var nodes []shuffle.Node
	for _, address := range addresses {
		nodes = append(nodes, shuffle.Node{ID: address})
	}
	s, err := shuffle.New(nodes, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, n := range s.Shard(tenant) {
		ids = append(ids, n.ID)
	}
	slices.Sort(ids)
	return ids
}

// answers returns who answers for a tenant, of so many calls.
func answers(t *testing.T, conn *grpc.ClientConn, tenant string, n int) []string {
	t.Helper()
	var all []string
	for range n {
		who, err := ask(t, conn, tenant)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, who)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// The calls of a tenant go to its shard, all of it, and to nobody else, whatever becomes of
// that.
func TestShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet.Fleet
		nodes := names(8)
		f.Start(t, nodes...)
		conn, _ := f.Connect(t, shufflegrpc.NewBuilder(shufflegrpc.Config{}), `{"size": 2}`,
			fleet.At(nodes...)...)
		conn.Connect()
		synctest.Wait()
		cfg := shuffle.Config{Size: 2}
		for i := range 30 {
			want := shard(t, cfg, tenant(i), nodes...)
			if got := answers(t, conn, tenant(i), 40); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", tenant(i), got, want)
			}
		}
		ruined := shard(t, cfg, tenant(0), nodes...)
		f.Stop(ruined...)
		time.Sleep(time.Second)
		for i := range 30 {
			own := shard(t, cfg, tenant(i), nodes...)
			left := slices.DeleteFunc(slices.Clone(own), func(id string) bool {
				return slices.Contains(ruined, id)
			})
			if len(left) == 0 {
				if _, err := ask(t, conn, tenant(i)); status.Code(err) != codes.Unavailable {
					t.Errorf("%s, whose shard is down: %v", tenant(i), err)
				}
				continue
			}
			if got := answers(t, conn, tenant(i), 40); !slices.Equal(got, left) {
				t.Errorf("%s: %v, want %v", tenant(i), got, left)
			}
		}
		f.Start(t, ruined...)
		time.Sleep(5 * time.Minute)
		if got := answers(t, conn, tenant(0), 40); !slices.Equal(got, ruined) {
			t.Errorf("when they are back: %v", got)
		}
	})
}

// A node more changes one node of a shard at most, and an empty list nothing.
func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet.Fleet
		nodes := names(9)
		f.Start(t, nodes...)
		conn, r := f.Connect(t, shufflegrpc.NewBuilder(shufflegrpc.Config{}), `{}`,
			fleet.At(nodes[:8]...)...)
		conn.Connect()
		synctest.Wait()
		for _, list := range [][]string{nil, nodes} {
			r.UpdateState(resolver.State{Endpoints: fleet.At(list...)})
			synctest.Wait()
			for i := range 20 {
				before := shard(t, shuffle.Config{}, tenant(i), nodes[:8]...)
				got := answers(t, conn, tenant(i), 60)
				if list == nil && !slices.Equal(got, before) {
					t.Errorf("with an empty list, %s: %v, want %v", tenant(i), got, before)
				}
				kept := slices.DeleteFunc(slices.Clone(got), func(id string) bool {
					return !slices.Contains(before, id)
				})
				if len(got) != 3 || len(kept) < 2 {
					t.Errorf("%s: %v, before %v", tenant(i), got, before)
				}
			}
		}
	})
}

// Where a tenant is found, and what Config says of shards.
func TestTenant(t *testing.T) {
	type key struct{}
	nodes := names(8)
	lookUp := func(ctx context.Context, method string) string {
		if method != echo.Unary {
			t.Errorf("asked about %s", method)
		}
		name, _ := ctx.Value(key{}).(string)
		return name
	}
	shards := shuffle.Config{
		Size: 2, Seed: 3, Dedicated: map[string][]string{"whale": {"node-01"}},
	}
	tests := []struct {
		name   string
		cfg    shufflegrpc.Config
		config string
		shards shuffle.Config
		ctx    func(ctx context.Context, tenant string) context.Context
	}{
		{"context", shufflegrpc.Config{}, `{}`, shuffle.Config{}, stormjib.WithTenant},
		{
			"metadata",
			shufflegrpc.Config{},
			`{"header": "Who", "seed": 5}`,
			shuffle.Config{Seed: 5},
			func(ctx context.Context, tenant string) context.Context {
				return metadata.AppendToOutgoingContext(ctx, "who", tenant)
			},
		},
		{
			"func",
			shufflegrpc.Config{Name: "by_func", Tenant: lookUp, Shards: shards},
			`{}`, shards,
			func(ctx context.Context, tenant string) context.Context {
				return context.WithValue(ctx, key{}, tenant)
			},
		},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			var f fleet.Fleet
			f.Start(t, nodes...)
			conn, _ := f.Connect(t, shufflegrpc.NewBuilder(test.cfg), test.config,
				fleet.At(nodes...)...)
			conn.Connect()
			synctest.Wait()
			for _, tenant := range []string{"a", "b", "whale", ""} {
				want := shard(t, test.shards, tenant, nodes...)
				for range 20 {
					got, err := echo.Ask(test.ctx(t.Context(), tenant), conn, "x")
					if err != nil || !slices.Contains(want, got) {
						t.Errorf("%s: %q went to %s, want one of %v: %v",
							test.name, tenant, got, want, err)
					}
				}
			}
		})
	}
}

// Names and zones are in attributes.
func TestNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet.Fleet
		addresses := names(6)
		f.Start(t, addresses...)
		list := fleet.At(addresses...)
		zones := map[string]string{}
		for i := range list {
			n := shuffle.Node{ID: fmt.Sprint("worker-", i), Zone: fmt.Sprint("zone-", i%2)}
			list[i].Attributes = shufflegrpc.WithNode(nil, n)
			zones[addresses[i]] = n.Zone
		}
		conn, _ := f.Connect(t, shufflegrpc.NewBuilder(shufflegrpc.Config{}), `{"size": 2}`,
			list...)
		conn.Connect()
		synctest.Wait()
		for i := range 20 {
			got := answers(t, conn, tenant(i), 40)
			if len(got) != 2 || zones[got[0]] == zones[got[1]] {
				t.Errorf("%s: %v", tenant(i), got)
			}
		}
	})
}

// While a shard is being connected to its calls wait.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet.Fleet
		conn, _ := f.Connect(t, shufflegrpc.NewBuilder(shufflegrpc.Config{}), `{"size": -1}`,
			fleet.At("a", "b")...)
		if _, err := ask(t, conn, "x"); status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
		time.AfterFunc(time.Minute, func() { f.Start(t, "a", "b") })
		if _, err := echo.Ask(t.Context(), conn, "x", grpc.WaitForReady(true)); err != nil {
			t.Error(err)
		}
	})
}

func TestParseConfig(t *testing.T) {
	b, ok := shufflegrpc.NewBuilder(shufflegrpc.Config{}).(balancer.ConfigParser)
	if !ok {
		t.Fatal("it parses no config")
	}
	for config, want := range map[string]string{
		`{}`: "", `{"size": -1, "header": "who", "seed": 18446744073709551615}`: "",
		`{"sizes": 2}`: "sizes", `{"size": "2"}`: "size", `[]`: "shufflegrpc",
	} {
		_, err := b.ParseConfig(json.RawMessage(config))
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, "Config.Shards") {
			t.Errorf("panicked with %s", got)
		}
	}()
	shufflegrpc.NewBuilder(shufflegrpc.Config{Shards: shuffle.Config{
		Overrides: map[string][]string{"a": {}}, Dedicated: map[string][]string{"a": {""}},
	}})
	t.Error("it did not panic")
}
