package bulkhead_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
)

// model is a bulkhead as one would write it down, without a thought for speed or for
// several who come at once: a number, and a list of those who wait.
type model struct {
	cfg   bulkhead.Config
	stats bulkhead.Stats
	queue []*guest
}

// guest is a call of the model's, and of the bulkhead's.
type guest struct {
	n              int
	since          time.Time
	deadline, over time.Time // of its context, if it has one, and of MaxWait
	want           string    // what became of it; "": it waits

	cancel context.CancelFunc
	got    string
	permit bulkhead.Permit
	done   bool // and released it
}

func (m *model) enter(g *guest) {
	s := &m.stats
	switch {
	case g.want == "gave up": // it came with a context that was done
		s.GaveUp++
	case g.n < 1 || g.n > s.MaxConcurrent:
		g.want = string(bulkhead.TooHeavy)
		s.RefusedWeight++
	case len(m.queue) == 0 && s.InUse+g.n <= s.MaxConcurrent:
		g.want = "granted"
		s.InUse += g.n
	case len(m.queue) >= m.cfg.MaxQueue:
		g.want = string(bulkhead.QueueFull)
		s.RefusedFull++
	default:
		m.queue = append(m.queue, g)
	}
}

func (m *model) try(n int) bool {
	s := &m.stats
	switch {
	case n < 1 || n > s.MaxConcurrent:
		s.RefusedWeight++
	case len(m.queue) > 0 || s.InUse+n > s.MaxConcurrent:
		s.RefusedFull++
	default:
		s.InUse += n
		return true
	}
	return false
}

// leave has a guest leave the queue at a time, for a reason.
func (m *model) leave(g *guest, now time.Time, why string) {
	g.want = why
	m.stats.LongestWait = max(m.stats.LongestWait, now.Sub(g.since))
	m.queue = slices.DeleteFunc(m.queue, func(other *guest) bool { return other == g })
}

// grant lets in those at the head of the queue, as long as they fit.
func (m *model) grant(now time.Time) {
	for len(m.queue) > 0 && m.stats.InUse+m.queue[0].n <= m.stats.MaxConcurrent {
		m.stats.InUse += m.queue[0].n
		m.leave(m.queue[0], now, "granted")
	}
}

func (m *model) release(n int) {
	m.stats.InUse -= n
	m.grant(time.Now())
}

func (m *model) resize(n int) {
	m.stats.MaxConcurrent = n
	for _, g := range slices.Clone(m.queue) {
		if g.n > n {
			m.leave(g, time.Now(), string(bulkhead.TooHeavy))
			m.stats.RefusedWeight++
		}
	}
	m.grant(time.Now())
}

func (m *model) giveUp(g *guest, now time.Time) {
	m.leave(g, now, "gave up")
	m.stats.GaveUp++
	m.grant(now)
}

// pass lets happen what time has brought, in its order.
func (m *model) pass() {
	for {
		var first *guest
		var when time.Time
		for _, g := range m.queue {
			at := g.over
			if !g.deadline.IsZero() && g.deadline.Before(at) {
				at = g.deadline
			}
			if first == nil || at.Before(when) {
				first, when = g, at
			}
		}
		if first == nil || when.After(time.Now()) {
			return
		}
		if when.Equal(first.deadline) {
			m.giveUp(first, when)
			continue
		}
		m.leave(first, when, string(bulkhead.WaitedTooLong))
		m.stats.RefusedWait++
		m.grant(when)
	}
}

func (m *model) compare(t *testing.T, b *bulkhead.Bulkhead, guests []*guest) {
	t.Helper()
	synctest.Wait()
	m.pass()
	for i, g := range guests {
		if g.got != g.want {
			t.Fatalf("guest %d of %d, with %d: %q, want %q; %+v",
				i, len(guests), g.n, g.got, g.want, b.Stats())
		}
	}
	want := m.stats
	if want.Waiting = len(m.queue); want.Waiting > 0 {
		want.OldestWait = time.Since(m.queue[0].since)
	}
	if got := b.Stats(); got != want {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// come has a guest ask the bulkhead for its slots.
func (g *guest) come(ctx context.Context, b *bulkhead.Bulkhead) {
	p, err := b.AcquireN(ctx, g.n)
	full, isFull := errors.AsType[*bulkhead.FullError](err)
	switch {
	case err == nil:
		g.got, g.permit = "granted", p
	case isFull:
		g.got = string(full.Reason)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		g.got = "gave up"
	default:
		g.got = err.Error()
	}
}

// FuzzModel plays a script, two bytes a step, on a bulkhead and on the model.
func FuzzModel(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 60 {
		script := make([]byte, 600)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		cfg := bulkhead.Config{MaxConcurrent: 5, MaxQueue: 4, MaxWait: 50 * time.Millisecond}
		if len(script) > 2000 {
			return // so many that two of them would end at the same time
		}
		synctest.Test(t, func(t *testing.T) { play(t, cfg, script) })
		cfg.MaxQueue = 0
		synctest.Test(t, func(t *testing.T) { play(t, cfg, script) })
	})
}

func play(t *testing.T, cfg bulkhead.Config, script []byte) {
	t.Helper()
	b := bulkhead.New(cfg)
	m := &model{cfg: cfg, stats: bulkhead.Stats{MaxConcurrent: cfg.MaxConcurrent}}
	var guests []*guest
	for ; len(script) >= 2; script = script[2:] {
		op, arg := script[0], int(script[1])
		switch {
		case op < 110:
			guests = append(guests, visit(t, b, m, arg))
		case op < 125:
			n := arg%7 - 1
			p, got := b.TryAcquireN(n)
			if want := m.try(n); got != want {
				t.Fatalf("TryAcquireN(%d) is %v, want %v; %+v", n, got, want, b.Stats())
			}
			if got {
				guests = append(guests, &guest{n: n, want: "granted", got: "granted", permit: p})
			}
		case op < 200:
			step(m, guests, arg, "granted")
		case op < 225:
			step(m, guests, arg, "")
		case op < 245:
			time.Sleep(time.Duration(arg%64) * time.Millisecond)
		default:
			if err := b.Resize(1 + arg%8); err != nil {
				t.Fatal(err)
			}
			m.resize(1 + arg%8)
		}
		m.compare(t, b, guests)
	}
}

// visit has a new guest come. Each comes a microsecond after the one before, and no
// deadline is a whole number of them away, so that of all that ends no two end at once.
func visit(t *testing.T, b *bulkhead.Bulkhead, m *model, arg int) *guest {
	t.Helper()
	time.Sleep(time.Microsecond)
	m.pass()
	synctest.Wait()
	now := time.Now()
	g := &guest{n: arg%8 - 1, since: now, over: now.Add(m.cfg.MaxWait)}
	ctx, cancel := context.WithCancel(t.Context())
	g.cancel = cancel
	switch arg / 8 % 4 {
	case 0:
		g.deadline = now.Add(time.Duration(arg)*time.Millisecond/4 + 500)
		ctx, g.cancel = context.WithDeadline(t.Context(), g.deadline)
		cancel()
	case 1:
		if arg > 200 {
			cancel()
			g.want = "gave up"
		}
	}
	go g.come(ctx, b)
	synctest.Wait()
	m.enter(g)
	return g
}

// step ends the call, or the wait, of one of the guests.
func step(m *model, guests []*guest, arg int, state string) {
	guests = slices.DeleteFunc(slices.Clone(guests), func(g *guest) bool {
		return g.want != state || g.done
	})
	if len(guests) == 0 {
		return
	}
	g := guests[arg%len(guests)]
	if state == "granted" {
		g.permit.Release()
		g.done = true
		m.release(g.n)
		return
	}
	g.cancel()
	m.giveUp(g, time.Now())
}
