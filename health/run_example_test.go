package health_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/stormjib/stormjib/health"
	"github.com/stormjib/stormjib/health/healthhttp"
)

// A main. Yours has context.Background() for ctx, leaves Delay and Signals as they are, and
// serves by srv.ListenAndServe.
func ExampleRun() {
	ctx, terminate := context.WithCancel(context.Background())

	state := health.New(health.Config{Name: "shop"})
	drain := health.NewDrain(health.DrainConfig{
		Health:      state,
		GracePeriod: 30 * time.Second,
		Delay:       -1,
		Signals:     []os.Signal{},
	})
	drain.Defer("db", func(context.Context) error {
		fmt.Println("the pool is closed")
		return nil
	})
	shop := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		terminate() // in the midst of a request
		io.WriteString(w, "sold")
	})
	probes := &healthhttp.Probes{Health: state}
	draining := &healthhttp.Middleware{Drain: drain}
	srv := &http.Server{Handler: probes.Handler(draining.Handler(shop))}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	drain.Serve("http", srv, func() error { return srv.Serve(listener) })
	go buy(listener.Addr().String())
	fmt.Println("ended with", health.Run(ctx, drain))
	// Output:
	// the pool is closed
	// ended with <nil>
}

// buy is a customer.
func buy(address string) {
	resp, err := http.Get("http://" + address)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
}
