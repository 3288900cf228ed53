package main

import (
	"context"
	"math"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stormjib/stormjib/grpc/shedgrpc"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/shedhttp"
)

// A service that is asked for more than it can do serves nobody. It can do 120 requests a
// second, 24 at a time; three of four take 160 ms, and one takes 320 ms. Its users wait for
// two seconds.
//
// At twice of that the queue grows by 120 requests each second, and has two seconds' work
// in it after two. From then on whoever's turn it is has waited for so long that nothing is
// left of his patience: the service works as hard as it can, for users who have gone. At
// ten times it gets there in a fifth of a second.
//
// To admit 24 at a time and no more serves 120 a second at any load, as fast as ever.
// Whoever has measured the 24 needs no library. So that in the calm nobody is refused by
// chance, and the workers stay busy, one takes twice as many: that doubles what is under
// way, and by Little's law the time that it takes, from 0.2 s to 0.4 s. That is in order
// still.
//
// Then the service has half of its workers, as when a neighbour takes half of the cores, or
// another replica half of the connections. Now the 48 are too many: at 60 a second they take
// 0.8 s. A number that was right once does no better.
const (
	overSlots    = 24
	overPatience = 2 * time.Second
	overBegins   = 5 * time.Second
	overTenfold  = 12 * time.Second
	overDouble   = 17 * time.Second
	overHalved   = 19 * time.Second
	overEnds     = 30 * time.Second

	// What there is when the load or the capacity changes is not what is promised of the
	// time after. A shedder that sees all get slower tries first whether it is something
	// behind it that has got slow. To find out that it is not takes some hundreds of
	// requests, of which there are 60 a second; until then these are as slow as tuned's.
	overSettles  = 2 * time.Second
	overRelearns = 8 * time.Second
)

// overStorms are the stretches of too much load, without their beginnings.
func overStorms() [3]stretch {
	return [3]stretch{
		{overBegins + overSettles, overTenfold},
		{overTenfold + overSettles, overDouble},
		{overHalved + overRelearns, overEnds},
	}
}

// stretch is a part of the run.
type stretch struct{ from, until time.Duration }

var _ = register(&Scenario{
	Name: "overload",
	Shows: "twice as much as the service can do, then ten times as much, and then it can do " +
		"half",
	Note: "tuned does as well until the capacity changes, for it was told the right number",
	GRPC: true,

	Topology: Topology{
		Transport:  "http",
		Slots:      overSlots,
		Service:    160 * time.Millisecond,
		Steady:     true,
		SlowShare:  0.25,
		SlowFactor: 2,
		Patience:   overPatience,
		InFlight:   4000,
		Kinds:      []Kind{{Name: "page", Share: 1}},
	},
	Calibration: 4 * time.Second,
	Warmup:      2 * time.Second,
	Duration:    overEnds,
	Needs:       overEnds,
	Tick:        500 * time.Millisecond,
	OneByOne:    true, // ten times as much of three at once would be 3600 a second

	Load: []Load{
		{Multiple: 0.6},
		{From: overBegins, Multiple: 2},
		{From: overTenfold, Multiple: 10},
		{From: overDouble, Multiple: 2},
	},
	Faults: []Fault{{Mode: Weak, From: overHalved, Until: overEnds, Slots: overSlots / 2}},

	Variants: []Variant{
		{"bare", "everything is taken on", func(Topology) Protection { return Protection{} }},
		{"tuned", "a semaphore of twice the slots, the others are refused", tunedOverload},
		{"stormjib", "shedhttp.Middleware with a shed.Shedder on its defaults", stormjibOverload},
	},
	Promises: []Promise{{
		Text:    "answered in time, of the capacity, at twice and at ten times of it, the lesser",
		Unit:    "%",
		AtLeast: 90,
		Value: func(own, _ *Record) float64 {
			double, tenfold := overStorms()[0], overStorms()[1]
			return min(own.rate(double.from, double.until), own.rate(tenfold.from, tenfold.until))
		},
	}, {
		Text:    "the same, of what is left of the capacity when it is halved, 8 s after",
		Unit:    "%",
		AtLeast: 90,
		Value: func(own, _ *Record) float64 {
			halved := overStorms()[2]
			return 2 * own.rate(halved.from, halved.until)
		},
	}, {
		Text:   "p99 of these answers, of that in the calm, the worst of the three",
		Unit:   "times",
		AtMost: 2,
		Value:  func(own, _ *Record) float64 { return own.worst(ofCalm) },
	}, {
		Text:   "p99 of these answers, of the handler's own, the worst of the three",
		Unit:   "times",
		AtMost: 1.2,
		Value:  func(own, _ *Record) float64 { return own.worst(ofHandler) },
	}, {
		Text:   "median of the time until those who get no answer know, the worst of the three",
		Unit:   "ms",
		AtMost: 120, // for 100 of which a shedder lets a request wait
		Value: func(own, _ *Record) float64 {
			return own.worst(func(storm, _ Span) float64 {
				return float64(storm.UnansweredP50) / float64(time.Millisecond)
			})
		},
	}},
})

// worst returns the highest of a figure in the three storms.
func (r *Record) worst(figure func(storm, calm Span) float64) float64 {
	calm, worst := r.span(0, overBegins), math.Inf(-1)
	for _, s := range overStorms() {
		worst = max(worst, figure(r.span(s.from, s.until), calm))
	}
	return worst
}

// ofCalm is infinite where nothing is answered.
func ofCalm(storm, calm Span) float64 {
	if storm.Good == 0 {
		return math.Inf(1)
	}
	return ratio(float64(storm.AnsweredP99), float64(calm.AnsweredP99))
}

func ofHandler(storm, _ Span) float64 {
	if storm.Good == 0 {
		return math.Inf(1)
	}
	return ratio(float64(storm.AnsweredP99), float64(storm.HandlerP99))
}

// tunedOverload is what to write against overload without a library, if the number is known.
// A queue before it would be a second one: there is that of the slots.
func tunedOverload(t Topology) Protection {
	room := make(chan struct{}, 2*t.Slots)
	return Protection{
		Server: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case room <- struct{}{}:
					defer func() { <-room }()
					next.ServeHTTP(w, r)
				default:
					turnAway(w)
				}
			})
		},
		Serve: []grpc.ServerOption{grpc.ChainUnaryInterceptor(func(
			ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler,
		) (any, error) {
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
				return next(ctx, req)
			default:
				return nil, status.Error(codes.Unavailable, "too much to do")
			}
		})},
	}
}

// turnAway refuses a request by hand.
func turnAway(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, "too much to do", http.StatusServiceUnavailable)
}

func stormjibOverload(Topology) Protection {
	shedder := shed.New(shed.Config{Name: "pages"})
	guard := &shedhttp.Middleware{
		Shedder: func(*http.Request) *shed.Shedder { return shedder },
	}
	calls := &shedgrpc.Server{
		Shedder: func(context.Context, string) *shed.Shedder { return shedder },
	}
	return Protection{
		Server: guard.Handler,
		Serve:  []grpc.ServerOption{grpc.ChainUnaryInterceptor(calls.Unary())},
		Stats:  func() any { return shedder.Stats() },
	}
}
