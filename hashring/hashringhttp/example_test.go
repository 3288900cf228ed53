package hashringhttp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"

	"github.com/stormjib/stormjib/hashring"
	"github.com/stormjib/stormjib/hashring/hashringhttp"
)

// startCaches starts some servers that tell how often they were asked for a path.
func startCaches(n int) (nodes []hashring.Node, stop func()) {
	var servers []*httptest.Server
	for range n {
		hits := map[string]int{}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hits[r.URL.Path]++
			fmt.Fprintf(w, "%s, hit %d", r.URL.Path, hits[r.URL.Path])
		}))
		servers = append(servers, s)
		nodes = append(nodes, hashring.Node{ID: s.Listener.Addr().String()})
	}
	return nodes, func() {
		for _, s := range servers {
			s.Close()
		}
	}
}

// A client whose requests for one user always go to the same server, while it is there.
func ExampleTransport() {
	nodes, stop := startCaches(3)
	defer stop()
	ring, err := hashring.NewRing(nodes, hashring.RingConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	caches := hashring.NewBalancer(ring, hashring.BalancerConfig{Name: "caches"})
	client := &http.Client{Transport: &hashringhttp.Transport{
		Balancer: func(*http.Request) *hashring.Balancer { return caches },
		Key:      hashringhttp.PathSegment(1),
	}}
	for range 3 {
		resp, err := client.Get("http://caches/users/42")
		if err != nil {
			fmt.Println(err)
			return
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(string(text))
	}
	// Output:
	// /users/42, hit 1
	// /users/42, hit 2
	// /users/42, hit 3
}

// A reverse proxy in front of servers that keep sessions, by the session's cookie.
func ExampleTransport_reverseProxy() {
	nodes, stop := startCaches(3)
	defer stop()
	table, _ := hashring.NewTable(nodes, hashring.TableConfig{})
	sessions := hashring.NewBalancer(table, hashring.BalancerConfig{Name: "sessions"})

	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "sessions"}) // a node's address follows
			r.SetXForwarded()
		},
		Transport: &hashringhttp.Transport{
			Balancer: func(*http.Request) *hashring.Balancer { return sessions },
			Key:      hashringhttp.Cookie("session"),
		},
	}

	front := httptest.NewServer(proxy)
	defer front.Close()
	for range 2 {
		r, _ := http.NewRequestWithContext(context.Background(), http.MethodGet,
			front.URL+"/basket", http.NoBody)
		r.AddCookie(&http.Cookie{Name: "session", Value: "s-7"})
		resp, err := front.Client().Do(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.Status, string(text))
	}
	// Output:
	// 200 OK /basket, hit 1
	// 200 OK /basket, hit 2
}

// Keys that many ask for get several nodes, which must then all have what is asked for.
func ExampleTransport_hotKeys() {
	nodes := []hashring.Node{{ID: "cache-1:80"}, {ID: "cache-2:80"}, {ID: "cache-3:80"}}
	table, _ := hashring.NewTable(nodes, hashring.TableConfig{})
	caches := hashring.NewBalancer(table, hashring.BalancerConfig{Name: "caches"})
	hot := hashring.NewHotKeys(hashring.HotKeysConfig{Share: 0.2, Window: 1000})

	asked := map[string]int{}
	transport := &hashringhttp.Transport{
		Balancer: func(*http.Request) *hashring.Balancer { return caches },
		Key:      hashringhttp.PathSegment(0),
		Owners:   func(_ *http.Request, key string) int { return hot.Observe(key) },
		Base: roundTrip(func(r *http.Request) (*http.Response, error) { // no server is needed
			asked[r.URL.Host]++
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}),
	}
	client := &http.Client{Transport: transport}
	for range 3000 {
		resp, err := client.Get("http://caches/front-page")
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
	}
	fmt.Println("owners:", hot.Owners("front-page"), "nodes asked:", len(asked))
	// Output: owners: 5 nodes asked: 3
}

// Testing your code: a Base of your own plays the nodes, and a node that cannot be reached is
// one whose error says so.
func Example_testing() {
	nodes := []hashring.Node{{ID: "cache-1:80"}, {ID: "cache-2:80"}}
	ring, _ := hashring.NewRing(nodes, hashring.RingConfig{})
	owner, _ := ring.Owner("42")
	caches := hashring.NewBalancer(ring, hashring.BalancerConfig{})
	client := &http.Client{Transport: &hashringhttp.Transport{
		Balancer: func(*http.Request) *hashring.Balancer { return caches },
		Key:      hashringhttp.PathSegment(0),
		Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == owner.ID {
				return nil, &net.OpError{Op: "dial", Err: fmt.Errorf("no route to host")}
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}),
	}}

	resp, err := client.Get("http://caches/42")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)
	// Output: 200
}
