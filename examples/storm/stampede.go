package main

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/stormjib/stormjib/bulkhead/coalesce"
)

// A cache takes its store down at the moment when it is needed most. One page is asked for
// 300 times a second and kept for 5 s; the store takes 250 ms for it, and can do that for 8
// at a time.
//
// When the page expires, nobody has it for 250 ms, and 75 requests ask the store. It serves
// them 8 by 8, all with the same answer: the last after 9 x 250 ms, when its user has left.
// With one call for all of them nobody waits for longer than 250 ms; but that is everybody
// for a twentieth of the time, and five times the p99 of the calm. It takes an old page to
// have nobody wait, and another call beside.
//
// Then the store is gone for 10 s, twice as long as the page is kept: first it hangs, then
// it answers 503.
const (
	pageLoad      = 9.4 // of what the store could do: some 300 a second
	pageTTL       = 5 * time.Second
	pageStale     = time.Minute
	pageCalm      = 1500 * time.Millisecond // it was filled in the warm-up, and is fresh
	pageTimeout   = time.Second
	storeBegins   = 9 * time.Second
	storeAnswers  = 14 * time.Second // with 503 from here on
	storeEnds     = 19 * time.Second
	stampedeWarms = 3 * time.Second // bare's first stampede is over by then
)

var _ = register(&Scenario{
	Name: "stampede",
	Shows: "a page that 300 requests a second ask for expires every 5 s, and its store takes " +
		"250 ms;\n  then the store is gone for 10 s",

	Topology: Topology{
		Transport: "http",
		Slots:     8,
		Service:   250 * time.Millisecond,
		Steady:    true, // it is the same page
		Patience:  2 * time.Second,
		InFlight:  1500,
		Kinds:     []Kind{{Name: "page", Share: 1, Work: 10 * time.Millisecond}},
	},
	Calibration: 4 * time.Second,
	Warmup:      stampedeWarms,
	Duration:    24 * time.Second,
	Needs:       storeEnds + 3*time.Second,
	Tick:        500 * time.Millisecond,

	Load: []Load{{Multiple: pageLoad}},
	Faults: []Fault{
		{Mode: Hang, From: storeBegins, Until: storeAnswers},
		{Mode: Unavailable, From: storeAnswers, Until: storeEnds},
	},

	Variants: []Variant{
		{"bare", "a map with a time to live of 5 s", bareStampede},
		{"tuned", "the same, behind x/sync/singleflight, and the old page on error", tunedStampede},
		{"stormjib", "coalesce.Group with the same TTL, stale for a minute", stormjibStampede},
	},
	Promises: []Promise{{
		Text:   "calls of the store for the page that are under way together",
		Unit:   "call",
		AtMost: 1,
		Value:  func(own, _ *Record) float64 { return float64(own.atOnce()) },
	}, {
		Text:   "p99 of all later requests, of that in the calm",
		Unit:   "times",
		AtMost: 1.5,
		Value: func(own, _ *Record) float64 {
			calm, storm := own.span(0, pageCalm), own.span(pageCalm, own.Length)
			return ratio(float64(storm.P99), float64(calm.P99))
		},
	}, {
		Text:    "answered in time, while the store is gone",
		Unit:    "%",
		AtLeast: 99,
		Value: func(own, _ *Record) float64 {
			t := own.span(storeBegins, storeEnds)
			return percent(t.Good, t.Offered)
		},
	}},
})

// page is what the cache keeps; at is when the store has answered.
type page struct{ at time.Time }

// source says whether the page is one that should have expired.
func (p page) source() string {
	if time.Since(p.at) > pageTTL {
		return sourceStale
	}
	return sourceLive
}

// fetch asks the store.
func fetch(ctx context.Context, next call, r request) (page, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	_, err := next(ctx, r)
	return page{time.Now()}, err
}

// cache is a map with a time to live.
type cache struct {
	mu    sync.Mutex
	pages map[string]page
}

func newCache() *cache { return &cache{pages: make(map[string]page)} }

func (c *cache) get(key string) (p page, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.pages[key]
	return p, ok && p.source() == sourceLive
}

func (c *cache) put(key string, p page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pages[key] = p
}

// bareStampede waits for the store as long as its users do: a timeout below the time that
// a stampede takes would only have it begin again.
func bareStampede(Topology) Protection {
	pages := newCache()
	return Protection{Timeout: 2 * time.Second, Around: func(next call) call {
		return func(ctx context.Context, r request) (string, error) {
			if p, fresh := pages.get(r.Kind); fresh {
				return p.source(), nil
			}
			if _, err := next(ctx, r); err != nil {
				return "", err
			}
			pages.put(r.Kind, page{time.Now()})
			return sourceLive, nil
		}
	}}
}

// tunedStampede has one call for all, which is nobody's in particular: were it its first
// user's, it would end for all when that one leaves. What it lacks is a refresh that
// nobody waits for.
func tunedStampede(Topology) Protection {
	pages := newCache()
	var flights singleflight.Group
	return Protection{Around: func(next call) call {
		return func(ctx context.Context, r request) (string, error) {
			old, fresh := pages.get(r.Kind)
			if fresh {
				return sourceLive, nil
			}
			flight := flights.DoChan(r.Kind, func() (any, error) {
				p, err := fetch(context.WithoutCancel(ctx), next, r)
				if err == nil {
					pages.put(r.Kind, p)
				}
				return nil, err
			})
			select {
			case f := <-flight:
				if f.Err == nil {
					return sourceLive, nil
				}
				if !old.at.IsZero() && time.Since(old.at) < pageTTL+pageStale {
					return sourceStale, nil
				}
				return "", f.Err
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}
	}}
}

// stormjibStampede serves a page that is too old by up to a minute while one call gets a
// new one, and as long when it cannot.
func stormjibStampede(Topology) Protection {
	pages := coalesce.New[string, page](coalesce.Config{
		Name:    "pages",
		TTL:     pageTTL,
		Stale:   pageStale,
		Timeout: pageTimeout,
	})
	return Protection{
		Stats: func() any { return pages.Stats() },
		Around: func(next call) call {
			return func(ctx context.Context, r request) (string, error) {
				p, err := pages.Do(ctx, r.Kind, func(ctx context.Context) (page, error) {
					_, err := next(ctx, r)
					return page{time.Now()}, err
				})
				return p.source(), err
			}
		},
	}
}
