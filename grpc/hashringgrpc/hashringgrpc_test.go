package hashringgrpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/hashringgrpc"
	"github.com/stormjib/stormjib/grpc/internal/echo"
	"github.com/stormjib/stormjib/grpc/internal/fleet"
	"github.com/stormjib/stormjib/hashring"
)

func names(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("node-%02d", i))
	}
	return all
}

func key(i int) string { return fmt.Sprint("key-", i) }

// ask returns who answers for a key.
func ask(ctx context.Context, conn *grpc.ClientConn, key string) (string, error) {
	return echo.Ask(metadata.AppendToOutgoingContext(ctx, "session", key), conn, key)
}

// owners returns who answers for each of n keys.
func owners(t *testing.T, conn *grpc.ClientConn, n int) []string {
	t.Helper()
	all := make([]string, n)
	for i := range n {
		owner, err := ask(t.Context(), conn, key(i))
		if err != nil {
			t.Fatal(err)
		}
		all[i] = owner
	}
	return all
}

// ordered tells the nodes of a key in its own order.
type ordered interface {
	Append(dst []hashring.Node, key string, n int) []hashring.Node
}

// placed returns nodes as package hashring places them.
func placed(t *testing.T, ring bool, addresses ...string) ordered {
	t.Helper()
	var nodes []hashring.Node
	for _, address := range addresses {
		nodes = append(nodes, hashring.Node{ID: address})
	}
	if ring {
		r, err := hashring.NewRing(nodes, hashring.RingConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	table, err := hashring.NewTable(nodes, hashring.TableConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func configOf(ring bool) string {
	if ring {
		return `{"header": "session", "placement": "ring"}`
	}
	return `{"header": "session"}`
}

// A key goes to the first node in its own order that is connected, and to no other, while
// nodes go and come back.
func TestOrder(t *testing.T) {
	for _, ring := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var f fleet.Fleet
			nodes := names(6)
			f.Start(t, nodes...)
			conn, _ := f.Connect(t, hashringgrpc.NewBuilder(hashringgrpc.Config{}), configOf(ring),
				fleet.At(nodes...)...)
			conn.Connect()
			synctest.Wait()
			order := placed(t, ring, nodes...)
			want := func(when string, down ...string) {
				t.Helper()
				for i, got := range owners(t, conn, 60) {
					for _, n := range order.Append(nil, key(i), len(nodes)) {
						if strings.Contains(fmt.Sprint(down), n.ID) {
							continue
						}
						if got != n.ID {
							t.Errorf("ring %t, %s: %s went to %s, want %s",
								ring, when, key(i), got, n.ID)
						}
						break
					}
				}
			}
			want("all are there")
			f.Stop("node-02", "node-04")
			synctest.Wait()
			want("two are down", "node-02", "node-04")
			f.Start(t, "node-02", "node-04")
			time.Sleep(5 * time.Minute) // what was down is tried again after a while
			want("they are back")
		})
	}
}

// A list with a node more, or one less, changes the keys of that node alone.
func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet.Fleet
		nodes := names(9)
		f.Start(t, nodes...)
		conn, r := f.Connect(t, hashringgrpc.NewBuilder(hashringgrpc.Config{}), configOf(true),
			fleet.At(nodes[:8]...)...)
		conn.Connect()
		synctest.Wait()
		before := owners(t, conn, 200)
		r.UpdateState(resolver.State{Endpoints: fleet.At(nodes...)})
		synctest.Wait()
		moved := 0
		for i, owner := range owners(t, conn, 200) {
			if owner != before[i] {
				moved++
				if owner != "node-08" {
					t.Errorf("%s moved from %s to %s", key(i), before[i], owner)
				}
			}
		}
		if moved == 0 || moved > 60 {
			t.Errorf("%d of 200 keys moved to one of nine", moved)
		}
		r.UpdateState(resolver.State{Endpoints: fleet.At(nodes[:8]...)})
		synctest.Wait()
		if after := owners(t, conn, 200); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Error("keys moved for good")
		}
	})
}

// A list that is empty, or contradicts itself, is none.
func TestBadUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet.Fleet
		nodes := names(4)
		f.Start(t, nodes...)
		conn, r := f.Connect(t, hashringgrpc.NewBuilder(hashringgrpc.Config{}), configOf(false),
			fleet.At(nodes...)...)
		conn.Connect()
		synctest.Wait()
		before := owners(t, conn, 50)
		twice := fleet.At(nodes...)
		twice[0].Attributes = hashringgrpc.WithNode(nil, hashring.Node{ID: "node-01"})
		for name, list := range map[string][]resolver.Endpoint{
			"empty": {}, "of endpoints without an address": {{}, {}}, "one ID twice": twice,
			"one address twice": append(fleet.At(nodes...), fleet.At(nodes...)...),
		} {
			r.UpdateState(resolver.State{Endpoints: list})
			synctest.Wait()
			if after := owners(t, conn, 50); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("%s: keys moved", name)
			}
		}
		if r.CC() != nil {
			r.CC().ReportError(errors.New("no answer"))
		}
		synctest.Wait()
		if after := owners(t, conn, 50); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Error("an error of the resolver: keys moved")
		}
	})
}

// Without any list calls fail, unless they wait.
func TestNoList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet.Fleet
		f.Start(t, "a")
		conn, r := f.Connect(t, hashringgrpc.NewBuilder(hashringgrpc.Config{}), configOf(false))
		if _, err := ask(t.Context(), conn, "x"); status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
		time.AfterFunc(time.Minute, func() {
			r.UpdateState(resolver.State{Endpoints: fleet.At("a")})
		})
		got, err := echo.Ask(t.Context(), conn, "x", grpc.WaitForReady(true))
		if got != "a" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// While all are down calls fail, unless they wait.
func TestAllDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet.Fleet
		conn, _ := f.Connect(t, hashringgrpc.NewBuilder(hashringgrpc.Config{}), configOf(false),
			fleet.At("a", "b")...)
		_, err := ask(t.Context(), conn, "x")
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "nobody is at") {
			t.Error(err)
		}
		time.AfterFunc(time.Minute, func() { f.Start(t, "a", "b") })
		if _, err := echo.Ask(t.Context(), conn, "x", grpc.WaitForReady(true)); err != nil {
			t.Error(err)
		}
	})
}

// What is too much for the owner of a hot key goes to others, and comes back. A call is load
// until it has ended, however that came about.
func TestBoundedLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		busy, most := map[string]int{}, map[string]int{}
		f := fleet.Fleet{Call: func(ctx context.Context, address, in string) error {
			mu.Lock()
			busy[address]++
			most[address] = max(most[address], busy[address])
			mu.Unlock()
			defer func() { mu.Lock(); busy[address]--; mu.Unlock() }()
			if in == "hot" {
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
			return nil
		}}
		nodes := names(4)
		f.Start(t, nodes...)
		conn, _ := f.Connect(t, hashringgrpc.NewBuilder(hashringgrpc.Config{}),
			`{"header": "session", "factor": 1.25, "minCap": 2}`, fleet.At(nodes...)...)
		conn.Connect()
		synctest.Wait()
		owner, err := ask(t.Context(), conn, "hot")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 80 {
			wg.Go(func() {
				if i%2 == 0 {
					_, _ = ask(ctx, conn, "hot")
				} else {
					_, _ = ask(t.Context(), conn, "hot")
				}
			})
		}
		time.Sleep(time.Second / 2)
		cancel()
		wg.Wait()
		synctest.Wait()
		for address, n := range most {
			if n > 25 {
				t.Errorf("%s had %d of 80 at a time", address, n)
			}
		}
		for range 50 {
			if got, err := ask(t.Context(), conn, "hot"); got != owner || err != nil {
				t.Fatalf("with nothing to do, %s went to %s: %v", "hot", got, err)
			}
		}
	})
}

// A node that fails fast is not idle.
func TestFailuresAreLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, code := range []codes.Code{codes.NotFound, codes.Unavailable} {
			owner := ""
			f := fleet.Fleet{Call: func(_ context.Context, address, _ string) error {
				time.Sleep(time.Millisecond)
				if address == owner {
					return status.Error(code, "text")
				}
				return nil
			}}
			nodes := names(4)
			f.Start(t, nodes...)
			conn, _ := f.Connect(t, hashringgrpc.NewBuilder(hashringgrpc.Config{}),
				`{"header": "session", "minCap": 2}`, fleet.At(nodes...)...)
			conn.Connect()
			synctest.Wait()
			for range 500 { // so that it is known how long a success takes
				if _, err := ask(t.Context(), conn, "other"); err != nil {
					t.Fatal(err)
				}
			}
			owner, _ = ask(t.Context(), conn, "hot")
			elsewhere := 0
			for range 20 {
				if got, err := ask(t.Context(), conn, "hot"); err == nil && got != owner {
					elsewhere++
				}
			}
			if (code == codes.Unavailable) != (elsewhere > 0) {
				t.Errorf("%v: %d of 20 calls went elsewhere", code, elsewhere)
			}
		}
	})
}

// Calls without a key are spread; those of a key that has two owners go to these.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet.Fleet
		nodes := names(4)
		f.Start(t, nodes...)
		conn, _ := f.Connect(t, hashringgrpc.NewBuilder(hashringgrpc.Config{}),
			`{"header": "session", "owners": 2}`, fleet.At(nodes...)...)
		conn.Connect()
		synctest.Wait()
		for key, want := range map[string]int{"": 4, "hot": 2} {
			got := map[string]int{}
			for range 200 {
				who, err := ask(t.Context(), conn, key)
				if err != nil {
					t.Fatal(err)
				}
				got[who]++
			}
			if len(got) != want {
				t.Errorf("%q went to %v, want %d nodes", key, got, want)
			}
			for who, n := range got {
				if n < 20 {
					t.Errorf("%q went to %s %d times of 200", key, who, n)
				}
			}
		}
	})
}

// Weights and names are in attributes, of the endpoint or of its address. Who keeps its name
// keeps its keys, wherever it is.
func TestNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fleet.Fleet
		f.Start(t, "a:1", "b:1", "c:1", "c:2")
		list := fleet.At("a:1", "b:1", "c:1")
		for i, n := range []hashring.Node{{ID: "a", Weight: 6}, {ID: "b"}, {ID: "c", Weight: 2}} {
			if i == 0 {
				list[i].Attributes = hashringgrpc.WithNode(nil, n)
			} else {
				list[i].Addresses[0].Attributes = hashringgrpc.WithNode(nil, n)
			}
		}
		conn, r := f.Connect(t, hashringgrpc.NewBuilder(hashringgrpc.Config{}), configOf(false),
			list...)
		conn.Connect()
		synctest.Wait()
		before := owners(t, conn, 900)
		share := map[string]int{}
		for _, owner := range before {
			share[owner]++
		}
		if share["a:1"] < 520 || share["b:1"] > 160 || share["c:1"] < 130 || share["c:1"] > 270 {
			t.Errorf("by weights of 6, 1 and 2: %v", share)
		}
		list[2].Addresses[0].Addr = "c:2"
		r.UpdateState(resolver.State{Endpoints: list})
		synctest.Wait()
		for i, owner := range owners(t, conn, 900) {
			if strings.ReplaceAll(owner, "c:2", "c:1") != before[i] {
				t.Fatalf("%s moved from %s to %s", key(i), before[i], owner)
			}
		}
	})
}

// A key can be had from anything that a call has.
func TestKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type userKey struct{}
		var f fleet.Fleet
		nodes := names(5)
		f.Start(t, nodes...)
		b := hashringgrpc.NewBuilder(hashringgrpc.Config{
			Name: "by_user",
			Key: func(ctx context.Context, method string) string {
				user, _ := ctx.Value(userKey{}).(string)
				if method != echo.Unary {
					t.Errorf("asked about %s", method)
				}
				return user
			},
		})
		conn, _ := f.Connect(t, b, `{}`, fleet.At(nodes...)...)
		conn.Connect()
		synctest.Wait()
		order := placed(t, false, nodes...)
		for i := range 50 {
			want := order.Append(nil, key(i), 1)[0].ID
			got, err := echo.Ask(context.WithValue(t.Context(), userKey{}, key(i)), conn, "x")
			if got != want || err != nil {
				t.Errorf("%s went to %s, want %s: %v", key(i), got, want, err)
			}
		}
	})
}

func TestParseConfig(t *testing.T) {
	b := hashringgrpc.NewBuilder(hashringgrpc.Config{})
	parser, ok := b.(balancer.ConfigParser)
	if !ok {
		t.Fatal("it parses no config")
	}
	for config, want := range map[string]string{
		`{"header": "a"}`: "",
		`{"header": "a", "placement": "ring", "vnodes": 40, "seed": 7, "factor": -1}`: "",
		`{}`:                                  "no header",
		`{"heder": "a"}`:                      "heder",
		`{"header": 1}`:                       "header",
		`{"header": "a", "placement": "x"}`:   `"x"`,
		`{"header": "a", "slots": 1000}`:      "Slots",
		`{"header": "a", "vnodes": -1}`:       "VNodes",
		`{"header": "a", "factor": 0.5}`:      "Factor",
		`{"header": "a", "minCap": -1}`:       "MinCap",
		`{"header": "a", "owners": -1}`:       "owners",
		`{"owners": -1, "placement": "heap"}`: "heap",
		`[]`:                                  "hashringgrpc",
	} {
		_, err := parser.ParseConfig(json.RawMessage(config))
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
	balancer.Register(b)
	_, err := grpc.NewClient("a", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"stormjib_hashring": {}}]}`))
	if err == nil || !strings.Contains(err.Error(), "no header") {
		t.Errorf("of NewClient: %v", err)
	}
}
