package shed_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

// model is a Shedder with a given limit as one would write it down, without a thought for
// speed or for several who come at once.
type model struct {
	queue int
	stats shed.Stats
	lines [shed.CriticalPlus + 1]modelLine

	grants, ended int
}

// modelLine is what waits of a class.
type modelLine struct {
	active []*modelFlow // those with somebody in line
	flows  map[string]*modelFlow
	since  time.Time     // from when on it was not empty
	base   time.Duration // served of the flow that was served last
}

type modelFlow struct {
	guests []*guest
	served time.Duration
}

// guest is a call of the model's, and of the Shedder's.
type guest struct {
	class  shed.Criticality
	tenant string
	since  time.Time
	ends   time.Time // of its context; zero: it does not
	over   time.Time // when it has waited for as long as it may
	want   string    // what became of it; "": it waits

	line    *modelLine
	flow    *modelFlow // if it had to wait
	started time.Time

	cancel context.CancelFunc
	got    string
	permit shed.Permit
	done   bool
}

const granted = "granted"

func newModel(limit, queue int) *model {
	m := &model{queue: queue}
	m.stats.Limit = limit
	for i := range m.lines {
		m.lines[i].flows = map[string]*modelFlow{}
	}
	return m
}

func (m *model) enter(g *guest) {
	now := time.Now()
	if m.stats.Offered++; g.want != "" { // its context was done
		m.stats.GaveUp++
		return
	}
	if m.stats.Waiting == 0 && m.stats.InUse < m.stats.Limit {
		m.admit(g, now)
		return
	}
	if m.stats.Waiting >= m.queue {
		m.grant(now)
	}
	if m.stats.Waiting >= m.queue {
		victim := m.victim(g, now)
		if victim == nil {
			m.refuse(g, shed.QueueFull)
			return
		}
		m.leave(victim)
		m.refuse(victim, shed.Evicted)
	}
	m.push(g, now)
	m.grant(now)
}

func (m *model) admit(g *guest, now time.Time) {
	g.want, g.started = granted, now
	m.stats.InUse++
	m.stats.Admitted++
}

func (m *model) refuse(g *guest, why shed.Reason) {
	g.want = string(why)
	m.stats.Refused[g.class]++
}

func (m *model) push(g *guest, now time.Time) {
	l := &m.lines[g.class]
	f := l.flows[g.tenant]
	if f == nil {
		f = &modelFlow{}
		l.flows[g.tenant] = f
	}
	if len(l.active) == 0 {
		l.since = now
	}
	if len(f.guests) == 0 {
		f.served = max(f.served, l.base)
		l.active = append(l.active, f)
	}
	g.line, g.flow = l, f
	f.guests = append(f.guests, g)
	m.stats.Waiting++
}

// leave takes a guest out of its line.
func (m *model) leave(g *guest) {
	f, l := g.flow, g.line
	f.guests = slices.DeleteFunc(f.guests, func(other *guest) bool { return other == g })
	m.stats.Waiting--
	if len(f.guests) == 0 {
		i, last := slices.Index(l.active, f), len(l.active)-1
		l.active[i] = l.active[last]
		l.active = l.active[:last]
	}
}

func (m *model) grant(now time.Time) {
	for g := m.next(now); g != nil; g = m.next(now) {
		switch {
		case m.stale(g, now):
			m.leave(g)
			m.refuse(g, shed.QueueFull)
		case m.stats.InUse >= m.stats.Limit:
			return
		default:
			m.let(g, now)
		}
	}
}

// let has one who waits in.
func (m *model) let(g *guest, now time.Time) {
	g.line.base = g.flow.served
	g.flow.served++ // a nanosecond: nothing is known of how long it will take
	m.grants++
	m.leave(g)
	m.admit(g, now)
}

func (m *model) stale(g *guest, now time.Time) bool {
	patience := g.over.Sub(g.since)
	return g.line == m.lineOf(true) &&
		now.Sub(g.line.since) > patience && now.Sub(g.since) > patience/2
}

// lineOf returns the lowest line with somebody in it, or the highest.
func (m *model) lineOf(lowest bool) (found *modelLine) {
	for i := range m.lines {
		if l := &m.lines[i]; len(l.active) > 0 {
			if found = l; lowest {
				return l
			}
		}
	}
	return found
}

func (m *model) next(now time.Time) *guest {
	l := m.lineOf((m.grants+1)%shed.EveryNth == 0)
	if l == nil {
		return nil
	}
	f := slices.MinFunc(l.active, func(a, b *modelFlow) int { return int(a.served - b.served) })
	if l == m.lineOf(true) && now.Sub(l.since) > shed.Standing {
		return f.guests[len(f.guests)-1]
	}
	return f.guests[0]
}

func (m *model) victim(g *guest, now time.Time) *guest {
	l := m.lineOf(true)
	crowded := slices.MaxFunc(l.active, func(a, b *modelFlow) int {
		return len(a.guests) - len(b.guests)
	})
	oldest := crowded.guests[0]
	mine := 0
	if f := l.flows[g.tenant]; f != nil {
		mine = len(f.guests)
	}
	switch {
	case oldest.class > g.class:
		return nil
	case oldest.class < g.class, m.stale(oldest, now), mine+1 < len(crowded.guests):
		return oldest
	}
	return nil
}

// end ends a call.
func (m *model) end(g *guest) {
	g.done = true
	m.stats.InUse--
	m.stats.Ignored++
	if g.flow != nil {
		g.flow.served += time.Since(g.started) - 1
	}
	// Where the limit was lowered below what is under way, every second end lets one in.
	m.ended++
	over := m.stats.InUse >= m.stats.Limit && m.ended%2 == 0
	if next := m.next(time.Now()); over && next != nil {
		m.let(next, time.Now())
	}
	m.grant(time.Now())
}

func (m *model) giveUp(g *guest, now time.Time) {
	m.leave(g)
	g.want = "left"
	m.stats.GaveUp++
	m.grant(now)
}

// pass lets happen what time has brought, in its order.
func (m *model) pass() {
	for {
		var first *guest
		var when time.Time
		for i := range m.lines {
			for _, f := range m.lines[i].active {
				for _, g := range f.guests {
					at := g.over
					if !g.ends.IsZero() && g.ends.Before(at) {
						at = g.ends
					}
					if first == nil || at.Before(when) {
						first, when = g, at
					}
				}
			}
		}
		if first == nil || when.After(time.Now()) {
			return
		}
		if when.Equal(first.ends) {
			m.giveUp(first, when)
			continue
		}
		m.leave(first)
		m.refuse(first, shed.QueueFull)
		m.grant(when)
	}
}

func (m *model) compare(t *testing.T, s *shed.Shedder, guests []*guest) {
	t.Helper()
	synctest.Wait()
	m.pass()
	for i, g := range guests {
		if g.got != g.want {
			t.Fatalf("guest %d of %d, %v of %s: %q, want %q; %+v",
				i, len(guests), g.class, g.tenant, g.got, g.want, s.Stats())
		}
	}
	got, want := s.Stats(), m.stats
	want.Offered = want.Admitted + want.GaveUp + uint64(want.Waiting)
	for _, n := range want.Refused {
		want.Offered += n
	}
	got.Latency, got.Throughput = 0, 0
	if got != want || want.Offered != m.stats.Offered {
		t.Fatalf("got  %+v\nwant %+v, %d offered", got, want, m.stats.Offered)
	}
}

func (g *guest) come(ctx context.Context, s *shed.Shedder) {
	p, err := s.Acquire(ctx)
	g.got, g.permit = granted, p
	if err != nil {
		g.got = told(ctx, err)[1:]
	}
}

// kept is an algorithm that leaves the limit where it is.
type kept struct{}

func (kept) Update(w shed.Window) int { return w.Limit }

// FuzzModel plays a script, two bytes a step, on a Shedder and on the model.
func FuzzModel(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 60 {
		script := make([]byte, 800)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 2000 {
			return // so many that two of them would end at the same time
		}
		cfg := shed.Config{
			Algorithm: func(shed.Config) shed.Algorithm { return kept{} },
			Initial:   5, Queue: 6, MaxWait: 40 * time.Millisecond,
		}
		// With many classes, of which nobody waits for so long that others are asked to do
		// with less; and with one, in which some wait for so long that they may as well go.
		synctest.Test(t, func(t *testing.T) { play(t, cfg, 5, script) })
		cfg.MaxWait = 200 * time.Millisecond
		synctest.Test(t, func(t *testing.T) { play(t, cfg, 1, script) })
	})
}

func play(t *testing.T, cfg shed.Config, classes int, script []byte) {
	t.Helper()
	s := tenants(cfg)
	m := newModel(cfg.Initial, cfg.Queue)
	var guests []*guest
	ended := time.Now()
	for ; len(script) >= 2; script = script[2:] {
		op, arg := script[0], int(script[1])
		if time.Since(ended) > 300*time.Millisecond {
			op = 150 // or there would be a probe
		}
		switch {
		case op < 120:
			guests = append(guests, visit(t, s, m, cfg, classes, arg))
		case op < 130:
			m.stats.Offered++
			p, err := s.TryAcquire(t.Context())
			if want := m.stats.Waiting == 0 && m.stats.InUse < m.stats.Limit; (err == nil) != want {
				t.Fatalf("TryAcquire: %v, want %v; %+v", err, want, s.Stats())
			}
			g := &guest{class: shed.Critical, got: granted, permit: p}
			if err != nil {
				m.stats.Refused[shed.Critical]++
				break
			}
			m.admit(g, time.Now())
			guests = append(guests, g)
		case op < 200:
			step(m, guests, arg, granted)
			ended = time.Now()
		case op < 220:
			step(m, guests, arg, "")
		case op < 245:
			time.Sleep(time.Duration(arg%32) * time.Millisecond)
		default:
			limit, before := 1+arg%8, m.stats.Limit
			m.stats.Limit = limit
			s.SetLimit(limit)
			if limit > before {
				m.grant(time.Now())
			}
		}
		m.compare(t, s, guests)
	}
}

// visit has a new guest come. Each comes a microsecond after the one before, and no
// deadline is a whole number of them away, so that of all that ends no two end at once.
func visit(
	t *testing.T, s *shed.Shedder, m *model, cfg shed.Config, classes, arg int,
) *guest {
	t.Helper()
	time.Sleep(time.Microsecond)
	synctest.Wait()
	m.pass()
	now := time.Now()
	g := &guest{
		class:  shed.CriticalPlus - shed.Criticality(arg%classes),
		tenant: "abcd"[arg/8%4 : arg/8%4+1],
		since:  now, over: now.Add(cfg.MaxWait),
	}
	ctx := sender(t, hop.Sender{Criticality: uint8(g.class), Tenant: g.tenant})
	ctx, cancel := context.WithCancel(ctx)
	g.cancel = cancel
	switch arg / 32 {
	case 0:
		g.ends = now.Add(time.Duration(arg%32)*time.Millisecond/2 + 500)
		ctx, g.cancel = context.WithDeadline(ctx, g.ends)
	case 1:
		if arg%32 == 7 {
			cancel()
			g.want = "left"
		}
	}
	go g.come(ctx, s)
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
	if state == granted {
		g.permit.Record(shed.Ignored)
		m.end(g)
		return
	}
	g.cancel()
	m.giveUp(g, time.Now())
}
