package health

import (
	"bytes"
	"maps"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// naiveLedger is the ledger as one would write it down: a list of all events.
type naiveLedger struct {
	objective float64
	window    int64
	newest    int64 // time
	events    []naiveEvent
}

type naiveEvent struct {
	at  int64
	bad bool
	by  string
}

// count takes an event of a caller who was held up for one of the newest time.
func (n *naiveLedger) count(e naiveEvent) {
	n.newest = max(n.newest, e.at)
	e.at = n.newest
	n.events = append(n.events, e)
}

// recent counts those within the newest buckets of a width.
func (n *naiveLedger) recent(width, buckets int64) (r reading) {
	for _, e := range n.events {
		switch {
		case e.at/width <= n.newest/width-buckets:
		case e.bad:
			r.bad++
		default:
			r.good++
		}
	}
	return r
}

func (n *naiveLedger) burn(r reading) float64 {
	if r.bad == 0 {
		return 0
	}
	return float64(r.bad) / float64(r.bad+r.good) / (1 - n.objective)
}

func (n *naiveLedger) spentBy() map[string]float64 {
	r := n.recent(n.window/perSpan, perSpan)
	factor := 1.0
	if n.newest < n.window {
		factor = float64(n.window) / math.Max(float64(n.newest), float64(time.Minute))
	}
	spent := map[string]float64{}
	for _, e := range n.events {
		if !e.bad || e.at/(n.window/perSpan) <= n.newest/(n.window/perSpan)-perSpan {
			continue
		}
		one := 1 / (float64(r.good+r.bad) * factor * (1 - n.objective))
		spent[""] += one
		spent[e.by] += one
	}
	return spent
}

// play adds the events of a script of two bytes a step, how far time goes on and what is
// counted then, to the Budget's ledger and to a naive one, and compares what they say.
func play(t *testing.T, b *Budget, n *naiveLedger, script []byte) {
	t.Helper()
	names := []string{"db", "cache", "mail"}
	now := int64(0)
	for ; len(script) >= 2; script = script[2:] {
		now += leap(script[0], n.window)
		e := naiveEvent{at: now, bad: script[1]%4 == 0, by: names[script[1]/4%3]}
		if script[1] == 255 {
			e.at -= int64(time.Minute) // a caller who was held up
		}
		for range 1 + script[1]/64 {
			if e.at >= b.ledger.rollAt.Load() {
				b.ledger.roll(e.at)
			}
			n.count(e)
			if !e.bad {
				b.ledger.good.Add(1)
				continue
			}
			b.culprit(e.by).bad.Add(1)
			b.ledger.bad.Add(1)
		}
		compare(t, b, n)
	}
}

// leap returns from nothing to some windows.
func leap(code byte, window int64) int64 {
	part := int64(code & 31)
	switch code >> 5 {
	case 0:
		return 0
	case 1:
		return part * int64(time.Second)
	case 2:
		return part*int64(time.Minute) + 1
	case 3:
		return part * int64(10*time.Minute)
	case 4:
		return part * int64(time.Hour)
	case 5:
		return part * window / 120
	case 6:
		return part * window / 12
	}
	return part*window + part
}

func compare(t *testing.T, b *Budget, n *naiveLedger) {
	t.Helper()
	l := b.ledger
	burns := b.burns(l)
	for i, p := range burnPairs() {
		if int64(p.long) > n.window {
			if burns[i] != (Burn{Long: p.long, Short: p.long / 12}) {
				t.Fatalf("%v is longer than the window: %+v", p.long, burns[i])
			}
			continue
		}
		width := int64(p.long) / perSpan
		long, short := n.recent(width, 120), n.recent(width, 10)
		for which, pair := range map[string][2]float64{
			"long":  {burns[i].LongRate, n.burn(long)},
			"short": {burns[i].ShortRate, n.burn(short)},
		} {
			if !alike(pair[0], pair[1]) {
				t.Fatalf("at %v: %s rate of %v is %v, want %v",
					time.Duration(n.newest), which, p.long, pair[0], pair[1])
			}
		}
		raised := burns[i].bad >= uint64(b.cfg.MinBad) &&
			burns[i].LongRate >= burns[i].Threshold && burns[i].ShortRate >= burns[i].Threshold
		if burns[i].bad != long.bad || burns[i].Raised != raised {
			t.Fatalf("%+v: want raised %v", burns[i], raised)
		}
	}
	want := n.spentBy()
	if got := 1 - l.left(n.newest); !alike(got, want[""]) {
		t.Fatalf("at %v: spent %v, want %v", time.Duration(n.newest), got, want[""])
	}
	for name, c := range *l.names.Load() {
		if got := l.spent(n.newest, l.blamed(c)); !alike(got, want[name]) {
			t.Fatalf("at %v: %s has spent %v, want %v",
				time.Duration(n.newest), name, got, want[name])
		}
	}
}

func alike(a, b float64) bool { return math.Abs(a-b) <= 1e-6*(1+math.Abs(b)) }

func FuzzLedger(f *testing.F) {
	rng := rand.New(rand.NewPCG(30, 24))
	for _, days := range []uint8{1, 2, 3, 7, 28, 30, 90} {
		script := make([]byte, 400)
		for i := range script {
			script[i] = byte(rng.Uint32())
			if i%2 == 0 && rng.IntN(8) != 0 {
				script[i] &= 127 // rather shorter times
			}
		}
		f.Add(days, script)
	}
	f.Add(uint8(30), bytes.Repeat([]byte{160 + 1, 0}, 300)) // one in each bucket
	f.Add(uint8(1), bytes.Repeat([]byte{32 + 30, 0}, 300))
	f.Add(uint8(30), []byte{0, 0, 255, 0, 0, 255, 0, 0})
	f.Fuzz(func(t *testing.T, days uint8, script []byte) {
		if days < 1 || len(script) > 1000 {
			t.Skip("not a window, or takes too long")
		}
		window := time.Duration(days)*24*time.Hour + time.Duration(days)
		b := NewBudget(BudgetConfig{Objective: 0.99, Window: window, MinBad: 3})
		play(t, b, &naiveLedger{objective: 0.99, window: int64(window)}, script)
	})
}

func TestThresholds(t *testing.T) {
	tests := []struct {
		days      int
		objective float64
		want      [4]float64 // 0: off
	}{
		{30, 0.999, [4]float64{14.4, 6, 3, 1}}, // the book's
		{30, 0.95, [4]float64{14.4, 6, 3, 1}},
		{28, 0.999, [4]float64{13.44, 5.6, 2.8, 1}},
		{90, 0.999, [4]float64{43.2, 18, 9, 3}},
		{366, 0.9999, [4]float64{175.68, 73.2, 36.6, 12.2}},
		{7, 0.999, [4]float64{3.36, 1.4, 1, 1}},
		{3, 0.999, [4]float64{1.44, 1, 1, 1}},
		{2, 0.999, [4]float64{1, 1, 1}},
		{1, 0.999, [4]float64{1, 1, 1}},
		// An outage burns 10 times as fast as it may, or 2.
		{30, 0.9, [4]float64{9, 6, 3, 1}},
		{90, 0.9, [4]float64{9, 9, 9, 3}},
		{30, 0.5, [4]float64{1.8, 1.8, 1.8, 1}},
	}
	for _, test := range tests {
		b := NewBudget(BudgetConfig{
			Objective: test.objective, Window: time.Duration(test.days) * 24 * time.Hour,
		})
		for i, burn := range b.Stats().Burns {
			if !alike(burn.Threshold, test.want[i]) {
				t.Errorf("%d days of %v: threshold %d is %v, want %v",
					test.days, test.objective, i, burn.Threshold, test.want[i])
			}
		}
	}
}

// Alerts, step by step, with the thresholds of 30 days and 0.99: 14.4, 6, 3 and 1
// percent. There are 1000 events in each step's buckets of half a minute.
func TestAlerts(t *testing.T) {
	const raised1h, raised6h, raised1d, raised3d = 1, 2, 4, 8
	steps := []struct {
		name    string
		lasting time.Duration
		percent float64 // of bad events
		want    int
	}{
		{"calm", 72 * time.Hour, 0.5, 0},
		{"a burst that the hour does not notice", 2 * time.Minute, 100, 0},
		{"and that the day does not either", 2 * time.Hour, 0.5, 0},
		{"an outage begins", 8 * time.Minute, 100, 0},
		{"an outage", 2 * time.Minute, 100, raised1h},
		{"it goes on", 30 * time.Minute, 100, raised1h | raised6h | raised1d | raised3d},
		{"it is over: the minutes say so", 6 * time.Minute, 0, raised6h | raised1d | raised3d},
		{"then the half hour", 25 * time.Minute, 0, raised1d | raised3d},
		{"then the hours", 2 * time.Hour, 0, raised3d},
		{"and more hours", 5 * time.Hour, 0, 0},
		{"a slow burn", 80 * time.Hour, 1.1, raised3d},
	}
	b := NewBudget(BudgetConfig{Objective: 0.99})
	now := int64(0)
	for _, step := range steps {
		for range step.lasting / (30 * time.Second) {
			now += int64(30 * time.Second)
			b.ledger.roll(now)
			bad := uint64(10 * step.percent)
			b.ledger.bad.Add(bad)
			b.ledger.good.Add(1000 - bad)
		}
		got := 0
		burns := b.burns(b.ledger)
		for i, burn := range burns {
			if burn.Raised {
				got |= 1 << i
			}
		}
		if got != step.want {
			t.Errorf("%s: alerts %04b, want %04b\n%+v", step.name, got, step.want, burns)
		}
		if page := got&(raised1h|raised6h) != 0; page != b.frozen(1, burns) {
			t.Errorf("%s: frozen: %v", step.name, !page)
		}
		if page := got&(raised1h|raised6h) != 0; page != (b.level(burns) == 1) {
			t.Errorf("%s: level %v", step.name, b.level(burns))
		}
	}
}

// A rate that reaches the threshold raises the alert, and so does a number that is MinBad.
func TestAlertAtTheThreshold(t *testing.T) {
	b := NewBudget(BudgetConfig{Objective: 0.5, MinBad: 5})
	b.ledger.good.Add(5)
	for n := range 5 {
		if burns := b.burns(b.ledger); burns[3].Raised {
			t.Errorf("raised after %d: %+v", n, burns[3])
		}
		b.ledger.bad.Add(1)
	}
	if burns := b.burns(b.ledger); !burns[3].Raised || burns[3].LongRate != burns[3].Threshold {
		t.Errorf("not raised: %+v", burns[3])
	}
}

// After thousands of windows nothing is left of what was before, and what memory there
// is has not grown.
func TestLedgerAfterManyWindows(t *testing.T) {
	window := 30 * 24 * time.Hour
	b := NewBudget(BudgetConfig{})
	b.ledger.bad.Add(1000)
	b.culprit("db").bad.Add(1000)
	for i := range int64(5000) {
		b.ledger.roll(i * int64(window) / 3)
	}
	now := int64(5000) * int64(window) / 3
	b.ledger.roll(now)
	if got := b.ledger.left(now); got != 1 {
		t.Errorf("left: %v", got)
	}
	b.ledger.bad.Add(7)
	for i := range b.ledger.spans {
		if got := b.ledger.recent(&b.ledger.spans[i], 1); got != (reading{bad: 7}) {
			t.Errorf("span %d: %+v", i, got)
		}
	}
	// In the time that an int64 of nanoseconds has.
	b.ledger.roll(math.MaxInt64 - int64(window))
	if got := b.ledger.left(math.MaxInt64 - int64(window)); got != 1 {
		t.Errorf("left after 292 years: %v", got)
	}
}

func TestNamesAreBounded(t *testing.T) {
	b := NewBudget(BudgetConfig{MaxNames: 2})
	for _, by := range []string{"", "a", "b", "c", "d", "a", "other", "b"} {
		b.Bad(by)
	}
	got := map[string]uint64{}
	for name, c := range *b.ledger.names.Load() {
		got[name] = c.bad.Load()
	}
	want := map[string]uint64{"a": 2, "b": 2, "other": 3}
	if !maps.Equal(got, want) || b.Stats().Bad != 8 {
		t.Errorf("%v of %d, want %v of 8", got, b.Stats().Bad, want)
	}

	b = NewBudget(BudgetConfig{MaxNames: 2})
	for _, by := range []string{"other", "a", "b", "c"} { // takes nobody's place
		b.Bad(by)
	}
	if _, ok := (*b.ledger.names.Load())["b"]; !ok || len(*b.ledger.names.Load()) != 3 {
		t.Errorf("names: %v", *b.ledger.names.Load())
	}
}
