package control_test

import (
	"testing"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/control"
)

func TestProgress(t *testing.T) {
	const lease = 10 // seconds; over after 11
	var (
		repl  = cell.Assignment{Cell: "a", Epoch: 1, Phase: cell.Replicating, Peer: "b"}
		verif = cell.Assignment{Cell: "a", Epoch: 1, Phase: cell.Verifying, Peer: "b"}
		flip  = cell.Assignment{Cell: "a", Epoch: 1, Phase: cell.Flipping, Peer: "b"}
		drain = cell.Assignment{Cell: "b", Epoch: 9, Phase: cell.Draining, Peer: "a"}
		clean = cell.Assignment{Cell: "b", Epoch: 9, Phase: cell.Cleaning, Peer: "a"}
		back  = cell.Assignment{Cell: "b", Epoch: 9, Phase: cell.Replicating, Peer: "a"}
		backV = cell.Assignment{Cell: "b", Epoch: 9, Phase: cell.Verifying, Peer: "a"}
	)
	type step struct {
		at             int
		a              cell.Assignment
		version        uint64
		listed, silent int
		want           string
		cell           string
		needs          uint64
	}
	for name, steps := range map[string][]step{
		"from the beginning": {
			{0, repl, 3, 2, 2, "ready", "b", 3},
			{5, verif, 4, 2, 1, "hold", "a", 3},
			{6, verif, 5, 2, 0, "hold", "a", 3},
			{10, verif, 5, 2, 0, "hold", "a", 3},
			{11, verif, 5, 2, 0, "ready", "a", 3},
			{12, flip, 6, 2, 1, "hold", "a", 6},
			{22, flip, 7, 2, 1, "hold", "a", 6},
			{13, flip, 7, 2, 0, "ready", "a", 6},
			{23, flip, 7, 2, 1, "ready", "a", 6},
			{24, drain, 9, 2, 1, "hold", "a", 9},
			{24, drain, 9, 2, 0, "ready", "a", 9},
			{35, drain, 9, 2, 1, "ready", "a", 9},
			{36, clean, 10, 2, 0, "hold", "a", 10}, // for Keep
			{40, clean, 10, 2, 0, "hold", "a", 10},
			{41, clean, 10, 2, 0, "ready", "a", 10},
		},
		"nobody is listed": {
			{0, verif, 4, 0, 0, "hold", "a", 4},
			{11, verif, 4, 0, 0, "ready", "a", 4},
			{12, flip, 6, 0, 0, "hold", "a", 6},
			{22, flip, 6, 0, 0, "hold", "a", 6},
			{23, flip, 6, 0, 0, "ready", "a", 6},
			{24, drain, 9, 0, 0, "hold", "a", 9},
			{35, drain, 9, 0, 0, "ready", "a", 9},
			{36, clean, 10, 0, 0, "hold", "a", 10},
			{46, clean, 10, 0, 0, "hold", "a", 10},
			{47, clean, 10, 0, 0, "ready", "a", 10},
		},
		"silence": {
			{0, verif, 4, 1, 1, "hold", "a", 4},
			{29, verif, 5, 1, 1, "hold", "a", 4},
			{31, verif, 5, 1, 1, "expired", "a", 4},
			{32, clean, 10, 1, 1, "hold", "a", 10},
			{62, clean, 10, 1, 1, "expired", "a", 10},
			{63, clean, 10, 1, 0, "ready", "a", 10},
		},
		"copied again": {
			{0, repl, 3, 1, 1, "ready", "b", 3},
			{1, verif, 4, 1, 0, "hold", "a", 3},
			{2, repl, 5, 1, 1, "ready", "b", 5},
			{12, verif, 6, 1, 0, "ready", "a", 3},
		},
		"and back": {
			{0, drain, 9, 1, 1, "hold", "a", 9},
			{20, back, 12, 1, 1, "ready", "a", 12},
			{21, backV, 13, 1, 0, "hold", "b", 12},
			{31, backV, 14, 1, 0, "ready", "b", 12},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var p control.Progress
			cfg := control.Config{SettleTimeout: 30 * time.Second, Keep: 5 * time.Second}
			for i, s := range steps {
				now := time.Duration(s.at) * time.Second
				p.See(now, s.a, s.version, lease*time.Second)
				got, id, version := p.Look(now, s.listed, s.silent, cfg)
				if got != s.want || id != s.cell || version != s.needs {
					t.Errorf("step %d: %s for version %d of %s", i, got, version, id)
				}
			}
		})
	}
}

// A lease that was made shorter counts as long as it was.
func TestProgressKeepsTheLongestLease(t *testing.T) {
	a := cell.Assignment{Cell: "a", Epoch: 1, Phase: cell.Flipping, Peer: "b"}
	var p control.Progress
	p.See(0, a, 3, 20*time.Second)
	p.See(time.Second, a, 4, time.Second)
	if got, _, _ := p.Look(21*time.Second, 0, 0, control.Config{}); got != "hold" {
		t.Error(got)
	}
	if got, _, _ := p.Look(22*time.Second, 0, 0, control.Config{}); got != "ready" {
		t.Error(got)
	}
}
