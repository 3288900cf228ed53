package shufflehttp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/shuffle"
	"github.com/stormjib/stormjib/shuffle/shufflehttp"
)

// startWorkers starts some servers.
func startWorkers(n int) (nodes []shuffle.Node, stop func()) {
	var servers []*httptest.Server
	for range n {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "done for %s", r.Header.Get("Tenant"))
		}))
		servers = append(servers, s)
		nodes = append(nodes, shuffle.Node{ID: s.Listener.Addr().String()})
	}
	return nodes, func() {
		for _, s := range servers {
			s.Close()
		}
	}
}

// A client whose requests go to the workers of the tenant that they are for.
func ExampleTransport() {
	workers, stop := startWorkers(8)
	defer stop()
	shards, err := shuffle.New(workers, shuffle.Config{Size: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: &shufflehttp.Transport{
		Sharder: func(*http.Request) *shuffle.Sharder { return shards },
		Tenant:  shufflehttp.Header("Tenant"),
	}}
	r, _ := http.NewRequest(http.MethodGet, "http://workers/job", http.NoBody)
	r.Header.Set("Tenant", "acme")
	resp, err := client.Do(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	fmt.Println(string(text))
	// Output: done for acme
}

// A timeout for each worker finds those that hang, and a breaker for each remembers: what it
// refuses goes on to the next member of the shard at once.
func ExampleTransport_breakers() {
	workers, stop := startWorkers(8)
	defer stop()
	shards, _ := shuffle.New(workers, shuffle.Config{})
	breakers := breaker.NewGroup[string](breaker.GroupConfig{})
	base := &http.Transport{ResponseHeaderTimeout: 2 * time.Second}
	defer base.CloseIdleConnections()

	client := &http.Client{Transport: &shufflehttp.Transport{
		Base: &breakerhttp.Transport{
			Base:    base,
			Breaker: func(r *http.Request) *breaker.Breaker { return breakers.Get(r.URL.Host) },
		},
		Sharder: func(*http.Request) *shuffle.Sharder { return shards },
	}}
	breakers.Get(shards.Shard("acme")[0].ID).ForceOpen()
	ctx := stormjib.WithTenant(context.Background(), "acme")
	for range 3 {
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://workers/job", http.NoBody)
		resp, err := client.Do(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	// Output:
	// 200 OK
	// 200 OK
	// 200 OK
}

// Testing your code: a Base of your own plays the nodes, and a node that cannot be reached is
// one whose error says so.
func Example_testing() {
	shards, _ := shuffle.New([]shuffle.Node{{ID: "a:80"}, {ID: "b:80"}, {ID: "c:80"}},
		shuffle.Config{Size: 2})
	down := shards.Shard("acme")[0].ID
	client := &http.Client{Transport: &shufflehttp.Transport{
		Sharder: func(*http.Request) *shuffle.Sharder { return shards },
		Tenant:  func(*http.Request) string { return "acme" },
		Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == down {
				return nil, &net.OpError{Op: "dial", Err: fmt.Errorf("no route to host")}
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}),
	}}
	resp, err := client.Get("http://workers/job")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)
	// Output: 200
}
