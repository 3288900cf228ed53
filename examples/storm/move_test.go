package main

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"
)

// What is told, lost and stray is counted from what was accepted, where and when.
func TestMoveStats(t *testing.T) {
	m := newMoving()
	write := func(where int, id uint64, told bool) {
		m.accept(where, id)
		if told {
			m.told = append(m.told, id)
		}
	}
	write(0, 1, true)
	m.moves = append(m.moves, passage{0, 1, len(m.log)})
	write(0, 2, false)
	m.level(0, 1)
	write(0, 3, true) // after the copy: lost
	write(1, 4, true)
	write(0, 5, false) // after the target's first: stray, though nobody was told
	if got := m.stats().Moves; got != 0 {
		t.Errorf("%d moves before the first has ended", got)
	}
	m.home = 1
	m.moves = append(m.moves, passage{1, 0, len(m.log)})
	write(1, 6, true)
	want := MoveStats{Moves: 1, Accepted: 6, Told: 4, Lost: 3, Stray: 1}
	if m.home = 0; m.stats() == want {
		t.Error("it counts by a cell that the tenant is not in")
	}
	m.home = 1
	want.Lost = 1
	if got := m.stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Both moves are made at their times, and the second has a replica that is deaf.
func TestMoving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, zero := newMoving(), time.Now()
		var times []time.Duration
		m.relocate = func(ctx context.Context, from, to int) error {
			times = append(times, time.Since(zero))
			m.silence()
			if got := m.deaf(1, 0); got != (from == 1) || m.deaf(1, 1) || m.deaf(0, 0) {
				t.Errorf("from %d: the replica is deaf: %t", from, got)
			}
			m.accept(from, uint64(from))
			return m.copy(ctx, from, to)
		}
		if err := m.start(t.Context(), zero); err != nil {
			t.Fatal(err)
		}
		if len(times) != 2 || times[0] != moveThere || times[1] != moveBack {
			t.Errorf("moves at %v", times)
		}
		if s := m.stats(); s.Moves != 2 || !m.data[0][0] || !m.data[0][1] {
			t.Errorf("%+v, and the data %v", s, m.data)
		}
	})
}

// The promises are judged by what the variant says, and a run without moves keeps none.
func TestMovePromises(t *testing.T) {
	s := find("move")
	for _, tt := range []struct {
		stats MoveStats
		kept  [3]bool
	}{
		{MoveStats{Moves: 2, Accepted: 1001, Told: 1000}, [3]bool{true, true, true}},
		{MoveStats{Moves: 2, Accepted: 1001, Told: 1000, Lost: 1}, [3]bool{false, true, true}},
		{MoveStats{Moves: 2, Accepted: 1001, Told: 1000, Stray: 1}, [3]bool{true, false, true}},
		{MoveStats{Moves: 1, Accepted: 1001, Told: 1000}, [3]bool{true, true, false}},
		{MoveStats{}, [3]bool{false, false, false}},
	} {
		r := newRecord(s, mainName, []Arrival{{At: time.Second}}, s.Duration)
		r.Outcomes[0] = Outcome{Result: Live}
		var err error
		if r.Stats, err = json.Marshal(tt.stats); err != nil {
			t.Fatal(err)
		}
		for i, p := range s.Promises {
			if got := p.kept(p.Value(r, nil)); got != tt.kept[i] {
				t.Errorf("%+v keeps promise %d: %t", tt.stats, i+1, got)
			}
		}
	}
}
