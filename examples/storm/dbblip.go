package main

import (
	"context"
	"net/http"
	"time"

	"github.com/stormjib/stormjib/health"
	"github.com/stormjib/stormjib/health/healthhttp"
)

// A database that three replicas share is gone for six seconds: it hangs, and then it
// refuses. Half of the requests need none of it, and for the others there is a stale copy.
//
// Where the readiness of a replica asks the database, as many a guide has it, all three are
// taken out of rotation, and nobody is served: the outage of one part is that of the whole,
// and lasts until the balancer has changed its mind. There is nothing that another replica
// could do better, which is what readiness is to tell.
const (
	blipFrom    = 4 * time.Second
	blipRefuses = 7 * time.Second
	blipEnds    = 10 * time.Second
	blipNoticed = blipFrom + balancerBelieve + 2*balancerPoll

	// blipTimeout is that of each call of the database, in all variants; a check has less,
	// so that the balancer does not wait in vain for what is to tell it something.
	blipTimeout = 500 * time.Millisecond
	blipPing    = balancerPoll / 2
)

var _ = register(&Scenario{
	Name: "dbblip",
	Shows: "the database behind three replicas is gone for 6 s; half the requests need none of " +
		"it, and\n  the others have a stale copy",
	Note: "tuned does as well, for it asks nothing; what it cannot tell is who waits for what, " +
		"and that\n  a replica which has never reached its database has nothing to serve",

	Topology: Topology{
		Transport: "http",
		Slots:     8,
		Service:   20 * time.Millisecond,
		Patience:  2 * time.Second,
		InFlight:  1500,
		Kinds: []Kind{
			{Name: kindDependent, Share: 0.5},
			{Name: kindLocal, Share: 0.5, Local: true, Work: 5 * time.Millisecond},
		},
		Stale: true,
	},
	Calibration: 1500 * time.Millisecond,
	Warmup:      2 * time.Second,
	Duration:    14 * time.Second,
	Needs:       blipEnds + 3*time.Second,
	Tick:        500 * time.Millisecond,

	Load: []Load{{Multiple: 0.6}},
	Faults: []Fault{
		{Mode: Hang, From: blipFrom, Until: blipRefuses},
		{Mode: Unavailable, From: blipRefuses, Until: blipEnds},
	},

	Variants: []Variant{
		{"bare", "readiness asks the database each time, for 100 ms", blip((*database).deep)},
		{"tuned", "readiness asks nothing", blip((*database).shallow)},
		{"stormjib", "health.Health, the database a Shared check", blip((*database).shared)},
	},
	Promises: []Promise{{
		Text:    "answered in time, live or stale, while the database is gone",
		Unit:    "%",
		AtLeast: 99.9,
		Value: func(own, _ *Record) float64 {
			t := own.span(blipFrom, blipEnds)
			return percent(t.Good, t.Offered)
		},
	}, {
		Text:   "answered of those that need no database, from the moment that the balancer knows",
		Unit:   "%",
		AtMost: 5,
		Value: func(own, _ *Record) float64 {
			t := own.span(blipNoticed, blipEnds, kindLocal)
			return percent(t.Good, t.Offered)
		},
		Premise: true,
	}},
})

// database is what a replica knows of it.
type database struct{ ask call }

func blip(
	begin func(*database, *http.Server, http.Handler) (http.Handler, retirement),
) func(Topology) Protection {
	return func(Topology) Protection {
		db := &database{}
		r := &replicas{
			perRequest: true,
			begin: func(srv *http.Server, next http.Handler) (http.Handler, retirement) {
				return begin(db, srv, next)
			},
		}
		return Protection{
			Timeout:  blipTimeout,
			Replicas: r,
			Stats:    r.stats,
			Around: func(next call) call {
				db.ask = next
				return next
			},
		}
	}
}

// ping reports whether the database is there.
func (db *database) ping(ctx context.Context) error {
	_, err := db.ask(ctx, request{Kind: kindPing})
	return err
}

func (db *database) deep(srv *http.Server, next http.Handler) (http.Handler, retirement) {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.HandleFunc(readyPath, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), blipPing)
		defer cancel()
		if err := db.ping(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux, srv.Shutdown
}

func (db *database) shallow(srv *http.Server, next http.Handler) (http.Handler, retirement) {
	return shutdownAtOnce(srv, next)
}

// shared asks as often as the balancer does: by default it is each ten seconds, for which
// the blip is too short.
func (db *database) shared(srv *http.Server, next http.Handler) (http.Handler, retirement) {
	state := health.New(health.Config{Checks: []health.Check{{
		Name:     "database",
		Class:    health.Shared,
		Func:     db.ping,
		Interval: balancerPoll,
		Timeout:  blipPing,
	}}})
	state.Start(context.Background())
	probes := &healthhttp.Probes{Health: state}
	return probes.Handler(next), func(ctx context.Context) error {
		state.Stop()
		return srv.Shutdown(ctx)
	}
}
