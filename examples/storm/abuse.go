package main

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
)

// One of 21 clients sends fifty times its share, and the others pay for it: the dependency
// does what comes first, and 250 of 350 requests a second are that client's. It could do
// 188, so a queue forms, and soon no answer comes in time, for anybody.
//
// A limit for each client is not about capacity. 20 polite ones, who send half of what they
// may, and one who gets its quota and no more are 110 requests a second, as planned for.
const (
	abuseShare  = 5.  // requests a second of a client
	abuseQuota  = 10  // what a client may send a second
	abuseBurst  = 10  // a second's worth: Poisson traffic of half the quota is never refused
	abusePolite = 20  // clients
	abuseTimes  = 50. // of its share
	abuseBegins = 4 * time.Second
	abuseEnds   = 18 * time.Second
	abuseSpent  = abuseBegins + time.Second // the abuser's burst is spent
)

var _ = register(&Scenario{
	Name: "abuse",
	Shows: "one of 21 clients sends 50 times its share; each may send 10 requests a second, " +
		"and\n  usually sends half of it",
	Note: "tuned does as well here; its map of rate.Limiters grows with the clients that come, " +
		"or\nforgets what they have used",

	Topology: Topology{
		Transport: "http",
		Slots:     4,
		Service:   20 * time.Millisecond,
		Patience:  2 * time.Second,
		InFlight:  1500,
		Kinds: []Kind{
			{Name: "polite", Share: abusePolite / (abusePolite + 1.), Clients: abusePolite},
			{Name: "abuser", Share: 1 / (abusePolite + 1.)},
		},
	},
	Calibration: 2 * time.Second,
	Warmup:      2 * time.Second,
	Duration:    20 * time.Second,
	Needs:       abuseEnds,
	Tick:        500 * time.Millisecond,

	Load: []Load{{Multiple: 0.56}}, // 105 of some 188 a second
	Faults: []Fault{
		{Mode: Surge, Kind: "abuser", From: abuseBegins, Until: abuseEnds, Times: abuseTimes},
	},

	Variants: []Variant{
		{"bare", "http.Client with a timeout of 2 s", bareAbuse},
		{"tuned", "a rate.Limiter for each client in a map, and the fields by hand", tunedAbuse},
		{"stormjib", "limiterhttp.Middleware with a limiter.Keyed", stormjibAbuse},
	},
	Promises: []Promise{{
		Text:    "answered in time of the polite clients' requests, during the abuse",
		Unit:    "%",
		AtLeast: 99,
		Value: func(own, _ *Record) float64 {
			t := own.span(abuseBegins, abuseEnds, "polite")
			return percent(t.Good, t.Offered)
		},
	}, {
		Text:   "by how much the abuser gets more or less than its quota, once its burst is spent",
		Unit:   "%",
		AtMost: 2,
		Value: func(own, _ *Record) float64 {
			t := own.span(abuseSpent, abuseEnds, "abuser")
			quota := abuseQuota * (abuseEnds - abuseSpent).Seconds()
			return 100 * math.Abs(float64(t.Good)/quota-1)
		},
	}, {
		Text: "429 with Retry-After, RateLimit and RateLimit-Policy that agree, of all answers " +
			"to the\n     abuser's surplus",
		Unit:    "%",
		AtLeast: 100,
		Value:   func(own, _ *Record) float64 { return own.told(abuseBegins, abuseEnds, "abuser") },
	}},
})

// told returns how many percent of those whose request was not served were told why and
// until when.
func (r *Record) told(from, until time.Duration, kind string) float64 {
	not, told := 0, 0
	for _, o := range r.settled(from, until, kind) {
		if o.Result == Live || o.Result == Stale {
			continue
		}
		not++
		if o.Told {
			told++
		}
	}
	return percent(told, not)
}

func bareAbuse(Topology) Protection { return Protection{Timeout: 2 * time.Second} }

func tunedAbuse(Topology) Protection {
	q := &quotas{clients: make(map[string]*rate.Limiter)}
	return Protection{Timeout: 2 * time.Second, Server: q.handler}
}

// quotas has a limiter for each client.
type quotas struct {
	mu      sync.Mutex
	clients map[string]*rate.Limiter
}

// of returns the limiter of a client. When there are too many it begins anew: that is
// simple, and bounded, and who can make up names can use it to be given a new quota.
func (q *quotas) of(client string) *rate.Limiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.clients[client]
	if l == nil {
		if len(q.clients) >= 10_000 {
			clear(q.clients)
		}
		l = rate.NewLimiter(abuseQuota, abuseBurst)
		q.clients[client] = l
	}
	return l
}

func (q *quotas) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l := q.of(r.Header.Get(clientField))
		if l.Allow() {
			next.ServeHTTP(w, r)
			return
		}
		wait := max(1, int(math.Ceil((1-l.Tokens())/abuseQuota)))
		w.Header().Set("Retry-After", strconv.Itoa(wait))
		w.Header().Set("RateLimit", fmt.Sprintf(`"client";r=0;t=%d`, wait))
		w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"client";q=%d;w=1`, abuseQuota))
		http.Error(w, "too many requests", http.StatusTooManyRequests)
	})
}

// stormjibAbuse takes the client for who it says it is: that is what an earlier handler
// would have found out.
func stormjibAbuse(Topology) Protection {
	clients := &limiterhttp.Middleware{
		Name:  "client",
		Store: limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "client"}),
		Key: func(r *http.Request) (key string, ok bool) {
			key = r.Header.Get(clientField)
			return key, key != ""
		},
		Limit: limiter.Limit{Rate: abuseQuota, Burst: abuseBurst},
	}
	return Protection{Timeout: 2 * time.Second, Server: clients.Handler}
}
