package main

import (
	"math"
	"slices"
	"strings"
	"time"
)

// The nine levels of a timeline's column, from nothing to everything.
const (
	blocks = " ▁▂▃▄▅▆▇█"
	digits = ".12345678"
)

// timelines draws every variant's run, a column per tick.
func (s *screen) timelines(records []*Record) {
	levels := []rune(digits)
	if s.terminal {
		levels = []rune(blocks)
	}
	s.printf("\na column is %v; goodput, errors and refused as a share of what was offered, "+
		"%c is all;\n", s.scenario.Tick, levels[8])
	s.printf("p99 on a log scale from 10ms (%c) to %v (%c); ",
		levels[1], s.scenario.Topology.Patience, levels[8])
	if s.scenario.Topology.Keeps {
		s.printf("hits of the nodes as a share of\nwhat they were asked; calls of the store as a "+
			"share of its capacity, %c is more than that\n\n", tooMuch)
	} else {
		s.printf("calls to the dependency for each\nrequest that needs it, rounded; "+
			"breaker %c closed, O open, H half-open, R ramp\n\n", closedLetter)
	}
	if len(records) > 0 {
		s.printf("%20s%s\n", "", ruler(records[0].ticks()))
	}
	for _, r := range records {
		ticks := r.ticks()
		name := r.Variant
		for _, row := range s.rows(levels, r.Capacity) {
			if row.shown != nil && !slices.ContainsFunc(ticks, row.shown) {
				continue
			}
			s.printf("%-10s%-10s%s\n", name, row.name, columns(ticks, row.draw))
			name = ""
		}
		s.printf("\n")
	}
}

// row is a line of a timeline.
type row struct {
	name  string
	draw  func(Tick) rune
	shown func(Tick) bool // whether a tick has something to see; nil: each has
}

func (s *screen) rows(levels []rune, capacity float64) []row {
	part := func(count func(Tick) int) func(Tick) rune {
		return func(t Tick) rune { return levels[share(count(t), t.Offered)] }
	}
	p99 := func(t Tick) rune {
		return levels[magnitude(time.Duration(t.P99), s.scenario.Topology.Patience)]
	}
	refused := func(t Tick) int { return t.Refused }
	rows := []row{
		{"goodput", part(func(t Tick) int { return t.Good }), nil},
		{"p99", p99, nil},
		{"errors", part(func(t Tick) int { return t.errors() }), nil},
		{"refused", part(refused), func(t Tick) bool { return refused(t) > 0 }},
	}
	if s.scenario.Topology.Keeps {
		room := int(math.Round(capacity * s.scenario.Tick.Seconds()))
		return append(rows,
			row{"hits", func(t Tick) rune { return levels[share(t.Hits, t.Hits+t.Misses)] }, nil},
			row{"store", func(t Tick) rune { return fullness(levels, t.Calls, room) }, nil})
	}
	return append(rows,
		row{"calls", callsDigit, nil},
		row{"breaker", breakerLetter, func(t Tick) bool { return len(t.Breaker) > 0 }})
}

// tooMuch stands for more calls than there is room for.
const tooMuch = '!'

func fullness(levels []rune, calls, room int) rune {
	if calls > room {
		return tooMuch
	}
	return levels[share(calls, room)]
}

func columns(ticks []Tick, draw func(Tick) rune) string {
	var line strings.Builder
	for _, t := range ticks {
		line.WriteRune(draw(t))
	}
	return strings.TrimRight(line.String(), " ")
}

// ruler writes the name of each phase where it begins.
func ruler(ticks []Tick) string {
	line := []byte(strings.Repeat(" ", len(ticks)+10))
	phase := ""
	for i, t := range ticks {
		if t.Phase != phase {
			phase = t.Phase
			copy(line[i:], "|"+phase)
		}
	}
	return strings.TrimRight(string(line), " ")
}

// share returns the level of n out of all. The highest is all and the lowest
// none, exactly: a single error is to be seen.
func share(n, all int) int {
	switch {
	case n == 0 || all == 0:
		return 0
	case n == all:
		return 8
	default:
		return 1 + n*7/all
	}
}

// magnitude returns the level of d on a log scale from 10 ms to top.
func magnitude(d, top time.Duration) int {
	const bottom = 10 * time.Millisecond
	if d == 0 {
		return 0
	}
	span := math.Log(float64(top) / float64(bottom))
	level := 1 + 7*math.Log(float64(d)/float64(bottom))/span
	return int(math.Round(min(max(level, 1), 8)))
}

// callsDigit rounds the calls for each request, from 0 to 9.
func callsDigit(t Tick) rune {
	each := ratio(float64(t.Calls), float64(t.Dependent))
	return '0' + rune(min(math.Round(each), 9))
}

const closedLetter = '.'

// breakerLetter stands for the state that says most about a tick: probing is
// brief and would be lost behind the opens around it.
func breakerLetter(t Tick) rune {
	for _, s := range []struct {
		state  string
		letter rune
	}{{"half-open", 'H'}, {"ramp", 'R'}, {"open", 'O'}, {"closed", closedLetter}} {
		if slices.Contains(t.Breaker, s.state) {
			return s.letter
		}
	}
	return ' '
}
