package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// The stale copy is the service's, not the variant's.
func TestHandlerFallsBack(t *testing.T) {
	failed := errors.New("failed")
	f := newFront(Topology{}, 0, Protection{})
	f.ask = func(context.Context, request) (string, error) { return "", failed }
	r := request{ID: 1, Kind: kindDependent}
	if source, err := f.handle(t.Context(), r); source != "" || !errors.Is(err, failed) {
		t.Errorf("without a copy: %q, %v; want what the call failed with", source, err)
	}
	f.stale = true
	if source, err := f.handle(t.Context(), r); source != sourceStale || err != nil {
		t.Errorf("with a copy: %q, %v; want the stale one", source, err)
	}
}

// A page goes without its panel if it is not lit, or if there is none; without the rest there
// is no page.
func TestPage(t *testing.T) {
	failed := errors.New("failed")
	tests := []struct {
		name   string
		lit    func(context.Context) bool
		fails  string
		source string
		asked  string
	}{
		{"lit", nil, "", sourceLive, "[page panel]"},
		{"still lit", func(context.Context) bool { return true }, "", sourceLive, "[page panel]"},
		{"dark", func(context.Context) bool { return false }, "", sourceDimmed, "[page]"},
		{"no panel", nil, kindPanel, sourceDimmed, "[page panel]"},
		{"no page", nil, "page", "", "[page]"},
	}
	for _, tt := range tests {
		topology := Topology{Panel: true, Kinds: []Kind{{Name: "page"}}}
		f := newFront(topology, 0, Protection{Panel: tt.lit})
		var asked []string
		f.ask = func(_ context.Context, r request) (string, error) {
			asked = append(asked, r.Kind)
			if r.Kind == tt.fails {
				return "", failed
			}
			return sourceLive, nil
		}
		source, err := f.handle(t.Context(), request{ID: 1, Kind: "page"})
		if source != tt.source || (err != nil) != (tt.source == "") ||
			fmt.Sprint(asked) != tt.asked {
			t.Errorf("%s: %q, %v after asking for %v", tt.name, source, err, asked)
		}
	}
}

// The handler's time is that of what it answers.
func TestHandlerTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(Topology{}, 0, Protection{})
		f.ask = func(ctx context.Context, r request) (string, error) {
			if r.ID == 1 {
				return "", errUnavailable
			}
			return sourceLive, sleep(ctx, time.Duration(r.ID)*time.Second)
		}
		for id := range uint64(4) {
			f.handle(t.Context(), request{ID: 3 - id})
		}
		if got := fmt.Sprint(f.took.all()); got != "[0 0 2000000 3000000]" {
			t.Errorf("they took %s", got)
		}
	})
}

// A kind that is local asks nobody, and each works for as long as it is drawn to.
func TestHandlerWorks(t *testing.T) {
	for _, local := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			kinds := []Kind{{Name: "k", Local: local, Work: time.Second}}
			f := newFront(Topology{Kinds: kinds}, 5, Protection{})
			asked := false
			f.ask = func(context.Context, request) (string, error) {
				asked = true
				return sourceLive, nil
			}
			began := time.Now()
			_, err := f.handle(t.Context(), request{ID: 3, Kind: "k"})
			want := work(5, streamLocal, 3, time.Second)
			if took := time.Since(began); took != want || err != nil {
				t.Errorf("it took %v, %v; want %v", took, err, want)
			}
			if asked == local {
				t.Errorf("local is %t, and it asked: %t", local, asked)
			}
		})
	}
}

// Who finds no room waits for it, whatever it is for, and goes with the user.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kinds := []Kind{{Name: "slow"}, {Name: "fast"}}
		f := newFront(Topology{Room: 1, Kinds: kinds}, 0, Protection{})
		f.ask = f.counted(func(ctx context.Context, r request) (string, error) {
			if r.Kind == "slow" {
				return sourceLive, sleep(ctx, time.Second)
			}
			return sourceLive, nil
		})
		began := time.Now()
		go f.handle(t.Context(), request{Kind: "slow"})
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		_, err := f.handle(impatient, request{Kind: "fast"})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second/2 {
			t.Errorf("who leaves got %v after %v", err, time.Since(began))
		}
		_, err = f.handle(t.Context(), request{Kind: "fast"})
		if err != nil || time.Since(began) != time.Second {
			t.Errorf("who stays got %v after %v, want an answer after 1s", err, time.Since(began))
		}
		if peak := f.asking.peak(); peak != 1 {
			t.Errorf("%d calls were under way at a time, want 1", peak)
		}
	})
}

func TestGauge(t *testing.T) {
	var g gauge
	g.enter()
	g.enter()
	g.leave()
	if got := g.peak(); got != 2 {
		t.Errorf("the peak is %d, want 2", got)
	}
	if got := g.peak(); got != 1 {
		t.Errorf("since then the peak is %d, want the one that is still there", got)
	}
	g.leave()
	if got := g.peak(); got != 0 {
		t.Errorf("in the end the peak is %d", got)
	}
}

// What a variant has accepted is done before its process ends, and its figures are taken
// after that.
func TestDrain(t *testing.T) {
	left := 3
	p := Protection{
		Drain: func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("it may take for ever")
			}
			left = 0
			return nil
		},
		Stats: func() any { return left },
	}
	var a actor
	if err := errors.Join(drain(p), a.keep(p)); err != nil || string(a.final.Stats) != "0" {
		t.Errorf("%s are left, %v", a.final.Stats, err)
	}
	if err := errors.Join(drain(Protection{}), a.keep(Protection{})); err != nil {
		t.Errorf("without anything to drain: %v", err)
	}
}
