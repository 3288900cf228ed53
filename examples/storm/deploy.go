package main

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/health"
	"github.com/stormjib/stormjib/health/healthhttp"
)

// Three replicas are replaced one after another while about 500 requests a second come.
// What begins a connection goes to the next replica that is ready, by a balancer that looks
// at readiness each 200 ms and believes what it saw twice.
//
// Who stops listening at once refuses what the balancer still sends. Who closes connections
// that are idle closes some that have a request on its way: the fewer, the shorter the way,
// and on loopback it is as short as can be.
const (
	deployFrom  = 2 * time.Second
	deployEvery = 3 * time.Second
	deployTakes = time.Second // for people: the delay, and a little for what is under way

	// deployDelay is what DrainConfig.Delay asks for: the interval of the checks times
	// the number that must fail, and the timeout of one. Tuned waits as long.
	deployDelay = balancerBelieve + balancerPoll
)

// The kinds of requests, by how they come.
const (
	kindHTTP1 = "http1"
	kindHTTP2 = "http2"
)

var _ = register(&Scenario{
	Name: "deploy",
	Shows: "three replicas behind a balancer are replaced one after another, at 500 requests " +
		"a second",
	Note: "the balancer polls each 200 ms and believes two polls, so the delay of tuned and " +
		"stormjib\n  is 600 ms; another balancer needs another delay. Tuned drops a few in " +
		"most runs, and none in\n  some: those whose request meets the end of their connection",

	Topology: Topology{
		Transport: transportDeploy,
		Slots:     20,
		Service:   20 * time.Millisecond,
		Steady:    true,
		Patience:  3 * time.Second,
		InFlight:  1500,
		Kinds: []Kind{
			{Name: kindHTTP1, Share: 0.5, Local: true, Work: 30 * time.Millisecond},
			{Name: kindHTTP2, Share: 0.5, Local: true, Work: 30 * time.Millisecond},
		},
	},
	Calibration: time.Second,
	Warmup:      2 * time.Second,
	Duration:    12 * time.Second,
	Needs:       deployFrom + frontReplicas*deployEvery,
	Tick:        500 * time.Millisecond,

	Load: []Load{{Multiple: 0.5}},
	Faults: []Fault{
		replaced(deployFrom),
		replaced(deployFrom + deployEvery),
		replaced(deployFrom + 2*deployEvery),
	},

	Variants: []Variant{
		{"bare", "http.Server.Shutdown at once", replicated(shutdownAtOnce)},
		{"close", "http.Server.Close at once", replicated(closeAtOnce)},
		{"tuned", "readiness off, 600 ms, then http.Server.Shutdown", replicated(waitAndShutdown)},
		{"stormjib", "health.Drain with a Delay of 600 ms, and healthhttp", replicated(drained)},
	},
	Promises: []Promise{{
		Text:    "requests that were answered, from the first replacement on: none is dropped",
		Unit:    "%",
		AtLeast: 100,
		Value: func(own, _ *Record) float64 {
			t := own.span(deployFrom, own.Length)
			return percent(t.Good, t.Offered)
		},
	}},
})

func replaced(at time.Duration) Fault {
	return Fault{Mode: Replace, From: at, Until: at + deployTakes}
}

func replicated(begin life) func(Topology) Protection {
	return func(Topology) Protection {
		r := &replicas{begin: begin}
		return Protection{Replicas: r, Stats: r.stats}
	}
}

func shutdownAtOnce(srv *http.Server, next http.Handler) (http.Handler, retirement) {
	return probed(new(atomic.Bool), next), srv.Shutdown
}

func closeAtOnce(srv *http.Server, next http.Handler) (http.Handler, retirement) {
	return probed(new(atomic.Bool), next), func(context.Context) error { return srv.Close() }
}

// waitAndShutdown is what is written most: a time between readiness and the listeners. What
// it leaves open are the connections that are kept, until Shutdown closes those that are
// idle just then.
func waitAndShutdown(srv *http.Server, next http.Handler) (http.Handler, retirement) {
	leaving := new(atomic.Bool)
	return probed(leaving, next), func(ctx context.Context) error {
		leaving.Store(true)
		if err := sleep(ctx, deployDelay); err != nil {
			return err
		}
		return srv.Shutdown(ctx)
	}
}

// probed answers the balancer's checks.
func probed(leaving *atomic.Bool, next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.HandleFunc(readyPath, func(w http.ResponseWriter, _ *http.Request) {
		if leaving.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return mux
}

// drained ends by Shutdown and not by health.Run, since the process is not to end with one
// of its replicas.
func drained(srv *http.Server, next http.Handler) (http.Handler, retirement) {
	state := health.New(health.Config{})
	state.Start(context.Background())
	drain := health.NewDrain(health.DrainConfig{Health: state, Delay: deployDelay})
	drain.Serve("http", srv, nil)
	probes := &healthhttp.Probes{Health: state}
	draining := &healthhttp.Middleware{Drain: drain}
	return probes.Handler(draining.Handler(next)), drain.Shutdown
}
