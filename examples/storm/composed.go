package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib"
	"github.com/stormjib/stormjib/breaker"
	"github.com/stormjib/stormjib/breaker/breakerhttp"
	"github.com/stormjib/stormjib/bulkhead"
	"github.com/stormjib/stormjib/bulkhead/bulkheadhttp"
	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
	"github.com/stormjib/stormjib/retry/retryhttp"
	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/shedhttp"
	"github.com/stormjib/stormjib/shed/throttle"
)

// Everything together, since what helps alone may harm in company. A service at three times
// its load turns two of three requests away, and that is the best it can do. But a breaker
// that takes this for failure opens, and the third that was served is gone as well; a retry
// policy that does makes nine times the load of three; and a gateway that hears about its
// checkouts only that the service has too much to do turns those away too.
//
// Here the front service is a gateway, with all that a client should have, and the
// dependency is the service behind it, with all that a server should have.
const (
	allBegins  = 5 * time.Second
	allSettled = allBegins + time.Second
	allEnds    = 28 * time.Second
	allTimeout = 2 * time.Second

	// Neither is to be met here. What they are there for is in abuse and in slowdep.
	allQuota = 100 // requests a second of a client
	allRoom  = 500 // requests that there is memory for
)

var _ = register(&Scenario{
	Name: "composed",
	Shows: "a gateway before a service, at three times the load; they have all that clients " +
		"and\n  servers should have",
	Note: "tuned has no breaker, and so none that opens",

	Topology: Topology{
		Transport: "http",
		Slots:     24,
		Service:   100 * time.Millisecond,
		Patience:  2 * time.Second,
		InFlight:  2000,
		Kinds: []Kind{
			{Name: "checkout", Share: 1 - prioBrowse - prioFetch, Clients: 20},
			{Name: "browse", Share: prioBrowse, Clients: 100},
			{Name: "prefetch", Share: prioFetch, Clients: 100},
		},
	},
	Calibration: 4 * time.Second,
	Warmup:      2 * time.Second,
	Duration:    allEnds,
	Needs:       allBegins + 10*time.Second,
	Tick:        500 * time.Millisecond,
	OneByOne:    true, // bare alone makes 2000 requests a second

	Load: []Load{{Multiple: 0.6}, {From: allBegins, Multiple: 3}},

	Variants: []Variant{
		{"bare", "3 attempts of 500 ms, exponential backoff with full jitter", bareComposed},
		{"tuned", "no attempt after a refusal, and two semaphores in the service", tunedComposed},
		{
			"stormjib", "retry, breaker and throttle; limiter, shedder and bulkhead in the service",
			stormjibComposed,
		},
	},
	Promises: []Promise{{
		Text:    "answered in time of the checkouts, from the beginning of the storm",
		Unit:    "%",
		AtLeast: 99.9,
		Value: func(own, _ *Record) float64 {
			t := own.span(allBegins, own.Length, "checkout")
			return percent(t.Good, t.Offered)
		},
	}, {
		Text:    "answered in time of everything, of the capacity (goal: 90)",
		Unit:    "%",
		AtLeast: 80, // what is reached, with room for the machine
		Value:   func(own, _ *Record) float64 { return own.rate(allSettled, own.Length) },
	}, {
		Text:    "of the run in which no breaker has left Closed",
		Unit:    "%",
		AtLeast: 100,
		Value:   func(own, _ *Record) float64 { return own.closed() },
	}, {
		Text:   "attempts for each call",
		Unit:   "attempts",
		AtMost: 1.15,
		Value:  func(own, _ *Record) float64 { return attemptsOf(own.Stats) },
	}},
})

// closed returns in how many percent of the ticks the breaker was closed all the time, if
// there was one.
func (r *Record) closed() float64 {
	shut, ticks := 0, r.ticks()
	for _, t := range ticks {
		if len(t.Breaker) == 0 || len(t.Breaker) == 1 && t.Breaker[0] == breaker.Closed.String() {
			shut++
		}
	}
	return percent(shut, len(ticks))
}

// tally counts calls, and the attempts that are made for them.
type tally struct {
	calls, attempts atomic.Int64
	next            http.RoundTripper
}

// RoundTrip counts an attempt, whether or not it is sent.
func (t *tally) RoundTrip(r *http.Request) (*http.Response, error) {
	t.attempts.Add(1)
	return t.next.RoundTrip(r)
}

// around counts a call.
func (t *tally) around(next call) call {
	return func(ctx context.Context, r request) (string, error) {
		t.calls.Add(1)
		return next(ctx, r)
	}
}

// tallied is what a tally leaves in the report.
type tallied struct{ Calls, Attempts int64 }

func (t *tally) stats() any { return tallied{t.calls.Load(), t.attempts.Load()} }

// attemptsOf returns how many attempts there were for each call. Without a tally it is not
// a number.
func attemptsOf(stats json.RawMessage) float64 {
	var own tallied
	_ = json.Unmarshal(stats, &own)
	return float64(own.Attempts) / float64(own.Calls)
}

func bareComposed(Topology) Protection {
	count := &tally{}
	return Protection{
		Stats:  count.stats,
		HTTP:   count.over,
		Around: func(next call) call { return count.around(textbook(next)) },
	}
}

// over has the attempts go on to base.
func (t *tally) over(base http.RoundTripper) http.RoundTripper {
	t.next = base
	return t
}

// tunedComposed has learned that a refusal is not to be answered by another attempt.
func tunedComposed(t Topology) Protection {
	count := &tally{}
	return Protection{
		Behind: twoRooms(t),
		Stats:  count.stats,
		HTTP:   count.over,
		Around: func(next call) call {
			return count.around(textbook(func(ctx context.Context, r request) (string, error) {
				source, err := next(ctx, r)
				if isRefusal(err) {
					err = errors.Join(errFull, err)
				}
				return source, err
			}))
		},
	}
}

// stormjibComposed has the order of the README on both sides, and all defaults there are. A
// request has its number, so that it may be sent twice; that it is a POST is for the sake of
// the measurement, see dialHTTP.
func stormjibComposed(Topology) Protection {
	b := breaker.New(breaker.Config{Name: "shop"})
	guard := throttle.New(throttle.Config{Name: "shop"})
	total := stormjib.Timeout(allTimeout)
	count := &tally{}
	return Protection{
		Breaker: b,
		Behind:  shop(),
		Stats:   count.stats,
		HTTP: func(base http.RoundTripper) http.RoundTripper {
			attempts := count.over(&breakerhttp.Transport{
				Base: &shedhttp.Transport{
					Base:     base,
					Throttle: func(*http.Request) *throttle.Throttle { return guard },
				},
				Breaker: func(*http.Request) *breaker.Breaker { return b },
			})
			return &retryhttp.Transport{
				Base:       attempts,
				Idempotent: func(*http.Request) bool { return true },
			}
		},
		Around: func(next call) call {
			return count.around(func(ctx context.Context, r request) (string, error) {
				ctx = shed.WithCriticality(ctx, classOf(r.Kind))
				return stormjib.Do(ctx, total, func(ctx context.Context) (string, error) {
					return next(ctx, r)
				})
			})
		},
	}
}

// shop returns what is before the handler of the service.
func shop() func(http.Handler) http.Handler {
	clients := &limiterhttp.Middleware{
		Name:  "client",
		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "client"}),
		Key: func(r *http.Request) (key string, ok bool) {
			key = r.Header.Get(clientField)
			return key, key != ""
		},
		Limit: limiter.Limit{Rate: allQuota, Burst: allQuota},
	}
	shedder := shed.New(shed.Config{Name: "shop"})
	guard := &shedhttp.Middleware{
		Shedder: func(*http.Request) *shed.Shedder { return shedder },
		Trust:   func(*http.Request) bool { return true }, // only the gateway gets here
	}
	memory := bulkhead.New(bulkhead.Config{Name: "memory", MaxConcurrent: allRoom})
	room := &bulkheadhttp.Middleware{
		Bulkhead: func(*http.Request) *bulkhead.Bulkhead { return memory },
	}
	return func(next http.Handler) http.Handler {
		return clients.Handler(guard.Handler(room.Handler(next)))
	}
}
