package breaker

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

// naive is the window as one would write it down: a list of all calls. A bucket of
// it counts for as long as window says.
type naive struct {
	width int64
	calls []struct {
		bucket  int64
		outcome Outcome
		slow    bool
	}
}

func (n *naive) count(now int64, o Outcome, slow bool) {
	n.calls = append(n.calls, struct {
		bucket  int64
		outcome Outcome
		slow    bool
	}{now / n.width, o, slow})
}

func (n *naive) recent(now int64) (c counts) {
	for _, call := range n.calls {
		if call.bucket <= now/n.width-buckets {
			continue
		}
		switch {
		case call.outcome == Ignored && call.slow:
			c.slowIgnored++
		case call.outcome == Ignored:
		case call.outcome == Success:
			c.succeeded++
		default:
			c.failed++
		}
		if call.slow && call.outcome != Ignored {
			c.slow++
		}
	}
	return c
}

// FuzzWindow plays scripts of two bytes a step, how far time goes on and what then
// ends, against the naive window.
func FuzzWindow(f *testing.F) {
	f.Add(int64(1), []byte{0, 1, 0, 0, 1, 1, 9, 1, 10, 1, 11, 1, 99, 1})
	f.Add(int64(7), []byte{3, 1, 3, 1, 3, 5, 70, 6, 69, 1, 71, 0, 255, 1})
	f.Add(int64(3e9), []byte{1, 1, 200, 1, 30, 1})
	f.Add(int64(9), bytes.Repeat([]byte{10, 1}, 30)) // one in each bucket
	rng := rand.New(rand.NewPCG(1, 2))
	for _, width := range []int64{1, 2, 10, 1e6} {
		script := make([]byte, 400)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(width, script)
	}
	f.Fuzz(func(t *testing.T, width int64, script []byte) {
		if width < 1 || width > 1<<50 {
			t.Skip("not a width")
		}
		w, n := window{width: width}, naive{width: width}
		now := int64(0)
		for ; len(script) >= 2; script = script[2:] {
			// From a part of a bucket to two and a half windows.
			now += width * int64(script[0]) / 10
			if got, want := w.recent(now), n.recent(now); got != want {
				t.Fatalf("before counting at %d: %+v, want %+v", now, got, want)
			}
			o, slow := Outcome(script[1]%3), script[1]&4 != 0
			w.roll(now)
			w.count(o, slow)
			n.count(now, o, slow)
			if got, want := w.recent(now), n.recent(now); got != want {
				t.Fatalf("at %d: %+v, want %+v", now, got, want)
			}
			marks := 0
			for m := w.newest.Load(); m != nil; m = m.older.Load() {
				marks++
			}
			if marks > buckets {
				t.Fatalf("%d marks are kept", marks)
			}
		}
	})
}

// Nothing is lost over many buckets, with all goroutines at each boundary at once.
func TestWindowConcurrently(t *testing.T) {
	const goroutines, ticks, each = 4, 50, 20
	w := window{width: 10}
	for tick := range int64(ticks) {
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				for i := range int64(each) {
					w.roll(tick*10 + i%10)
					w.count(Failure, false)
				}
			})
		}
		wg.Wait()
		now := tick*10 + 9
		want := min(tick+1, buckets) * goroutines * each
		if got := w.recent(now); got.failed != uint64(want) {
			t.Fatalf("tick %d: %d recent failures, want %d", tick, got.failed, want)
		}
	}
	if got := w.total().failed; got != goroutines*ticks*each {
		t.Errorf("%d failures in all", got)
	}
}

func TestStreak(t *testing.T) {
	const ms = 1e6
	var s streak
	for _, step := range []struct {
		now             int64
		succeed         bool
		length, lasting int64
	}{
		{now: 0, length: 1, lasting: 0},
		{now: 5 * ms, length: 2, lasting: 5 * ms},
		{now: 6 * ms, succeed: true},
		{now: 7 * ms, length: 1, lasting: 0},
		{now: 7*ms + 1, length: 2, lasting: 1},
		{now: 8 * ms, succeed: true},
		{now: 9*ms + 1, length: 1, lasting: 0}, // begins at the next whole one
		{now: 10*ms + 1, length: 2, lasting: 1},
		{now: 9 * ms, length: 3, lasting: 0}, // a caller that was held up
	} {
		if step.succeed {
			s.end()
			continue
		}
		if length, lasting := s.extend(step.now); length != step.length || lasting != step.lasting {
			t.Errorf("at %d: %d lasting %d, want %d lasting %d",
				step.now, length, lasting, step.length, step.lasting)
		}
	}
	s.word.Store(maxLength - 1)
	for range 3 {
		if length, _ := s.extend(ms); length > maxLength {
			t.Errorf("length %d", length)
		}
	}
	if length, lasting := s.extend(2 * ms); length != maxLength || lasting != 2*ms {
		t.Errorf("full: %d lasting %d", length, lasting)
	}
}

func TestReaches(t *testing.T) {
	const most = 1 << 63
	for _, test := range []struct {
		part, all uint64
		rate      float64
		want      bool
	}{
		{1, 2, .5, true},
		{most, most, 1, true},
		{most - 1, most, 1, false},
		{most / 2, most, .5, true},
		{most/2 - 1, most, .5, false},
		{1, 1e9, 1e-9, true},
		{0, 1, 1e-9, false},
		{1, 3, 1.0 / 3, true},
		{7, 9, 7.0 / 9, true},
	} {
		if got := reaches(test.part, test.all, billionths(test.rate)); got != test.want {
			t.Errorf("%d of %d reach %v: %v", test.part, test.all, test.rate, got)
		}
	}
	for n := range uint64(1000) {
		if got := billionths(float64(n) / 1000); got != n*1e6 {
			t.Errorf("%d thousandths are %d billionths", n, got)
		}
	}
	// Every rate of whole numbers is reached exactly by those numbers.
	for all := uint64(1); all <= 200; all++ {
		for part := uint64(1); part <= all; part++ {
			rate := billionths(float64(part) / float64(all))
			if !reaches(part, all, rate) || reaches(part-1, all, rate) {
				t.Fatalf("%d of %d is %d", part, all, rate)
			}
		}
	}
}
