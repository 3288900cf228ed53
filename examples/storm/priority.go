package main

import (
	"net/http"
	"time"

	"github.com/stormjib/stormjib/shed"
	"github.com/stormjib/stormjib/shed/shedhttp"
)

// Three times as much as the service can do, and a tenth of that is what it lives of. The
// checkouts are 0.3 of the capacity, so all of them could be served; the pages that are
// browsed are 1.8 of it, and 0.9 is what clients fetch in case somebody should want it.
//
// Who refuses whatever comes when there is no room refuses two of three checkouts too. A
// checkout should be refused when everything else has been.
const (
	prioBegins  = 5 * time.Second
	prioSettled = prioBegins + time.Second
	prioEnds    = 25 * time.Second
	prioBrowse  = 0.6
	prioFetch   = 0.3
)

var _ = register(&Scenario{
	Name: "priority",
	Shows: "three times as much as the service can do: 1 of 10 requests is a checkout, 6 are " +
		"pages,\n  and 3 are prefetched",
	Note: "tuned keeps the checkouts too, with a room of their own, for as long as they are " +
		"no more\nthan that has places",

	Topology: Topology{
		Transport: "http",
		Slots:     24,
		Service:   100 * time.Millisecond,
		Patience:  2 * time.Second,
		InFlight:  2000,
		Kinds: []Kind{
			{Name: "checkout", Share: 1 - prioBrowse - prioFetch},
			{Name: "browse", Share: prioBrowse},
			{Name: "prefetch", Share: prioFetch},
		},
	},
	Calibration: 4 * time.Second,
	Warmup:      2 * time.Second,
	Duration:    prioEnds,
	Needs:       prioBegins + 10*time.Second,
	Tick:        500 * time.Millisecond,
	OneByOne:    true, // three at once would be 2200 requests a second

	Load: []Load{{Multiple: 0.6}, {From: prioBegins, Multiple: 3}},

	Variants: []Variant{
		{"bare", "everything is taken on", func(Topology) Protection { return Protection{} }},
		{"tuned", "a semaphore for checkouts and one for all else", tunedPriority},
		{"stormjib", "shedhttp.Middleware with a class for each route", stormjibPriority},
	},
	Promises: []Promise{{
		Text:    "answered in time of the checkouts, from the beginning of the storm",
		Unit:    "%",
		AtLeast: 99.9,
		Value: func(own, _ *Record) float64 {
			t := own.span(prioBegins, own.Length, "checkout")
			return percent(t.Good, t.Offered)
		},
	}, {
		Text:    "answered in time of everything, of the capacity (goal: 90)",
		Unit:    "%",
		AtLeast: 80, // what is reached, with room for the machine
		Value:   func(own, _ *Record) float64 { return own.rate(prioSettled, own.Length) },
	}, {
		Text:    "answers that were pages, of all but the checkouts",
		Unit:    "%",
		AtLeast: 90,
		Value: func(own, _ *Record) float64 {
			pages := own.span(prioSettled, own.Length, "browse")
			others := own.span(prioSettled, own.Length, "browse", "prefetch")
			return percent(pages.Good, others.Good)
		},
	}},
})

func tunedPriority(t Topology) Protection { return Protection{Server: twoRooms(t)} }

// twoRooms has a room for the checkouts in which they are never short of a place: a third
// of the slots is what they take on average, and there are twice as many places as slots.
// The others have a few more places than there are slots: so many are seldom needed in the
// calm, and in the storm it is not long until one of so few has a slot, and a checkout then.
func twoRooms(t Topology) func(http.Handler) http.Handler {
	checkouts, others := make(chan struct{}, 2*t.Slots), make(chan struct{}, t.Slots*5/4)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			room := others
			if r.URL.Path == "/checkout" {
				room = checkouts
			}
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
				next.ServeHTTP(w, r)
			default:
				turnAway(w)
			}
		})
	}
}

func stormjibPriority(Topology) Protection {
	shedder := shed.New(shed.Config{Name: "shop"})
	guard := &shedhttp.Middleware{
		Shedder:     func(*http.Request) *shed.Shedder { return shedder },
		Criticality: func(r *http.Request) shed.Criticality { return classOf(r.URL.Path[1:]) },
	}
	return Protection{
		Server: guard.Handler,
		Stats:  func() any { return shedder.Stats() },
	}
}

// classOf returns what a kind of request is worth. What nothing is said of is critical.
func classOf(kind string) shed.Criticality {
	switch kind {
	case "checkout":
		return shed.CriticalPlus
	case "prefetch":
		return shed.BestEffort
	}
	return shed.Critical
}
