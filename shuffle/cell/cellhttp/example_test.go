package cellhttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/cellhttp"
)

// An edge in front of one cell, on real connections.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var inside http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside.ServeHTTP(w, r)
	}))
	defer server.Close()

	pulled := make(chan struct{}, 1)
	router := cell.New(cell.Config{
		Replica: "cell-1-a",
		Source: func(context.Context) ([]byte, error) { // most often of a control plane
			s := cell.Snapshot{
				Version: 1, Lease: 15 * time.Second,
				Cells: []cell.Cell{{
					ID: "cell-1", Address: server.URL, Replicas: []string{"cell-1-a"},
				}},
				Slots: []cell.Assignment{{Cell: "cell-1", Epoch: 1}},
			}
			return s.Encode()
		},
		OnEvent: func(cell.Event) { pulled <- struct{}{} },
	})
	go router.Run(ctx)
	<-pulled

	gate := cell.NewGate(cell.GateConfig{Cell: "cell-1", Router: router})
	middleware := &cellhttp.Middleware{Gate: gate}
	inside = middleware.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s by %s", r.URL.Path, gate.Stats().Cell)
	}))

	transport := &cellhttp.Transport{Router: router}
	edge := transport.Handler()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant := r.URL.Query().Get("tenant") // as if it had been authenticated
		edge.ServeHTTP(w, r.WithContext(stormjib.WithTenant(r.Context(), tenant)))
	}))
	defer front.Close()

	for _, path := range []string{"/orders?tenant=acme", "/orders"} {
		resp, err := http.Get(front.URL + path)
		if err != nil {
			fmt.Println(err)
			return
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, string(text[:min(24, len(text))]))
	}
	// Output:
	// 200 /orders by cell-1
	// 400 {"type":"about:blank","t
}
