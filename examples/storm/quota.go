package main

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
	"github.com/stormjib/stormjib/redis/redislimiter"
)

// A tenant may send 100 requests a second, and has ten replicas to send them to. Balancers
// that choose for each connection, and not for each request, give one of the ten two fifths
// of all.
//
// A limiter in each replica lets through what one may, ten times. A tenth of the limit in
// each is exact while all are asked too much, and refuses a tenant who keeps to it: two
// fifths of 80 are 32 a second, of which a replica's tenth lets 10 through.
//
// A limit that all replicas share is neither, as long as they can ask for it. Then Redis
// stands still for six seconds, and what was asked of it hangs.
const (
	quotaRate     = 100
	quotaBurst    = 30
	quotaReplicas = 10
	quotaSkew     = 0.4 // of all requests go to the first replica
	quotaGap      = 50 * time.Millisecond
	quotaBudget   = 100 * time.Millisecond // two processors have all of this to do

	quotaBegins  = 5 * time.Second
	quotaSpent   = quotaBegins + time.Second // the burst is spent
	quotaPauses  = 14 * time.Second
	quotaResumes = 20 * time.Second
	quotaSettled = quotaResumes + 4*time.Second // found again within 3.6 s
	quotaEnds    = 26 * time.Second
)

var _ = register(&Scenario{
	Name: "fleet",
	Shows: "ten replicas share the quota of a tenant who sends eleven times of it; Redis stands " +
		"still\n  for six seconds",
	Note: "tuned is exact while every replica is asked too much, and wrong where the quota is " +
		"kept",

	Topology: Topology{
		Transport: "http",
		Slots:     4,
		Service:   40 * time.Millisecond, // of nothing but the calibration
		Steady:    true,
		Patience:  time.Second,
		InFlight:  1500,
		Kinds: []Kind{
			{Name: "tenant", Share: 1, Local: true, Work: 2 * time.Millisecond},
		},
	},
	Calibration: 2 * time.Second,
	Warmup:      2 * time.Second,
	Duration:    quotaEnds,
	Needs:       quotaEnds,
	Tick:        500 * time.Millisecond,
	OneByOne:    true,

	Load: []Load{{Multiple: 0.8}, {From: quotaBegins, Multiple: 11}},

	Variants: []Variant{
		{"bare", "a limiter.Keyed in each replica, of the whole limit", bareQuota},
		{"tuned", "a tenth of the limit in each replica", tunedQuota},
		{"stormjib", "redislimiter with leases, FailLocal", stormjibQuota},
	},
	Promises: []Promise{{
		Text:    "served of a tenant who keeps to his quota",
		Unit:    "%",
		AtLeast: 99,
		Value: func(own, _ *Record) float64 {
			t := own.span(0, quotaBegins)
			return percent(t.Good, t.Offered)
		},
	}, {
		Text: "by how much he gets more or less than it when he does not, once the burst is " +
			"spent",
		Unit:   "%",
		AtMost: 2,
		Value: func(own, _ *Record) float64 {
			return 100 * math.Abs(own.ofQuota(quotaSpent, quotaPauses, 0)-1)
		},
	}, {
		Text:   "what he gets while Redis stands still, of the quota and a burst",
		Unit:   "%",
		AtMost: 100,
		Value: func(own, _ *Record) float64 {
			return 100 * own.ofQuota(quotaPauses, quotaResumes, 1)
		},
	}, {
		Text:    "the same, of the quota alone",
		Unit:    "%",
		AtLeast: 90,
		Value: func(own, _ *Record) float64 {
			return 100 * own.ofQuota(quotaPauses, quotaResumes, 0)
		},
	}, {
		Text:   "p99 of what he gets then: nobody waits for a Redis that is not there",
		Unit:   "ms",
		AtMost: 150,
		Value: func(own, _ *Record) float64 {
			t := own.span(quotaPauses, quotaResumes)
			return float64(t.AnsweredP99) / float64(time.Millisecond)
		},
	}, {
		Text:   "by how much he gets more or less than the quota when it is found again",
		Unit:   "%",
		AtMost: 5, // two seconds of it are 200 requests
		Value: func(own, _ *Record) float64 {
			return 100 * math.Abs(own.ofQuota(quotaSettled, quotaEnds, 0)-1)
		},
	}, {
		Text:   "questions to Redis in a second, on average",
		Unit:   "",
		AtMost: 200, // replicas / gap
		Value: func(own, _ *Record) float64 {
			var s QuotaStats
			_ = json.Unmarshal(own.Stats, &s) // Without any, there is no Redis.
			return s.PerSecond
		},
	}},
})

// ofQuota returns what was served in [from, until), of the quota and so many bursts.
func (r *Record) ofQuota(from, until time.Duration, bursts float64) float64 {
	t := r.span(from, until)
	return float64(t.Good) / (quotaRate*(until-from).Seconds() + bursts*quotaBurst)
}

func bareQuota(Topology) Protection {
	return quotaReplicated(limiter.Limit{Rate: quotaRate, Burst: quotaBurst}, local)
}

func tunedQuota(Topology) Protection {
	tenth := limiter.Limit{Rate: quotaRate / quotaReplicas, Burst: quotaBurst / quotaReplicas}
	return quotaReplicated(tenth, local)
}

func local() limiter.Store {
	return limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "quota"})
}

// quotaReplicated has ten replicas, each with a store of its own, in one process.
func quotaReplicated(limit limiter.Limit, store func() limiter.Store) Protection {
	return Protection{Server: func(next http.Handler) http.Handler {
		var replicas [quotaReplicas]http.Handler
		for i := range replicas {
			guard := &limiterhttp.Middleware{
				Name:  "quota",
				Store: store(),
				Key:   func(*http.Request) (key string, ok bool) { return "tenant", true },
				Limit: limit,
			}
			replicas[i] = guard.Handler(next)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			i := 0
			if rand.Float64() >= quotaSkew {
				i = 1 + rand.IntN(quotaReplicas-1)
			}
			replicas[i].ServeHTTP(w, r)
		})
	}}
}

// stormjibQuota has a store in each replica, with connections of its own, to one Redis. They
// lead through what can hold up all that is on its way.
func stormjibQuota(t Topology) Protection {
	valve := &valve{}
	begun := time.Now()
	var stores []*redislimiter.Store
	address, err := valve.listen(t.Redis)
	p := quotaReplicated(limiter.Limit{Rate: quotaRate, Burst: quotaBurst}, func() limiter.Store {
		store := redislimiter.New(redislimiter.Config{
			Name: "quota",
			Client: redis.NewClient(&redis.Options{
				Addr: address, ContextTimeoutEnabled: true, MaxRetries: -1, PoolSize: 20,
			}),
			Budget:   quotaBudget,
			Gap:      quotaGap,
			Replicas: func() int { return quotaReplicas },
		})
		stores = append(stores, store)
		return store
	})
	p.Start = func(ctx context.Context, zero time.Time) error {
		if err != nil {
			return err
		}
		if sleep(ctx, time.Until(zero.Add(quotaPauses))) != nil {
			return nil // The run is over.
		}
		valve.shut()
		defer valve.open()
		_ = sleep(ctx, time.Until(zero.Add(quotaResumes)))
		return nil
	}
	p.Stats = func() any { return quotaStats(stores, begun) }
	return p
}

// QuotaStats is what the stores of the replicas have done, all together.
type QuotaStats struct {
	PerSecond float64 // questions to Redis
	Failures  uint64  // of those
	FromRedis uint64  // decisions by what decided, as in redislimiter.Stats
	FromLease uint64
	FromShare uint64
}

func quotaStats(stores []*redislimiter.Store, begun time.Time) QuotaStats {
	var sum QuotaStats
	calls := uint64(0)
	for _, store := range stores {
		s := store.Stats()
		calls += s.Calls
		sum.Failures += s.Failures
		sum.FromRedis += s.FromRedis
		sum.FromLease += s.FromLease
		sum.FromShare += s.FromShare
	}
	sum.PerSecond = float64(calls) / time.Since(begun).Seconds()
	return sum
}
