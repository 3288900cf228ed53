package breaker_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/breaker"
)

// model is a breaker as one would write it down, without a thought for speed: a
// list of all calls, a list of the probes under way, one number for each permit.
// What the breaker draws by lot it takes from it, and checks the bounds of.
type model struct {
	cfg   breaker.Config
	began time.Time
	state breaker.State
	mode  string
	epoch int // counts the changes; a permit of an earlier one is late
	since time.Time
	until time.Time
	steps int

	calls     []call
	succeeded int // probes
	probes    map[int]time.Time
	lastProbe int

	ignored, refused, unrefused, opened uint64
	total                               breaker.Counts
}

type call struct {
	at      time.Time
	outcome breaker.Outcome
	slow    bool
}

type permit struct {
	breaker.Permit
	epoch, probe int
	start        time.Time
	void         bool // of a disabled breaker
}

func (m *model) enter(s breaker.State) {
	m.state, m.since, m.until = s, time.Now(), time.Time{}
	m.epoch++
	m.calls, m.probes, m.succeeded = nil, map[int]time.Time{}, 0
}

// open enters Open and takes over the time that b has drawn.
func (m *model) open(t *testing.T, b *breaker.Breaker, after time.Duration) {
	t.Helper()
	most := m.cfg.OpenFor
	for range m.steps {
		most += most / 2
	}
	if m.steps++; most >= m.cfg.MaxOpenFor {
		most = m.cfg.MaxOpenFor
		m.steps--
	}
	after = min(after, m.cfg.MaxOpenFor)
	m.enter(breaker.Open)
	m.opened++
	m.until = b.Stats().Until
	if d := time.Until(m.until); d < max(most*4/5, after) || d > max(most, after) {
		t.Fatalf("opens for %v, want %v to %v, or %v", d, most*4/5, most, after)
	}
}

// pass lets what time brings happen when a call comes.
func (m *model) pass() {
	if m.state == breaker.Open && m.mode != "forced open" && !time.Now().Before(m.until) {
		m.enter(breaker.HalfOpen)
	}
}

func (m *model) allow() (p permit, ok bool) {
	p = permit{start: time.Now(), void: m.mode == "disabled"}
	m.pass()
	p.epoch = m.epoch
	if m.state == breaker.Closed {
		return p, true
	}
	if m.state == breaker.HalfOpen {
		for id, lease := range m.probes {
			if !time.Now().Before(lease) {
				delete(m.probes, id)
				break
			}
		}
		if len(m.probes)+m.succeeded < m.cfg.Probes {
			m.lastProbe++
			p.probe = m.lastProbe
			m.probes[p.probe] = time.Now().Add(m.cfg.ProbeTimeout)
			return p, true
		}
	}
	if m.mode == "shadow" {
		m.unrefused++
		return p, true
	}
	m.refused++
	return p, false
}

func (m *model) finish(
	t *testing.T, b *breaker.Breaker, p permit, o breaker.Outcome, after time.Duration,
) {
	t.Helper()
	if p.void {
		return
	}
	slow := time.Since(p.start) >= m.cfg.SlowCall
	switch o {
	case breaker.Success:
		m.total.Succeeded++
	case breaker.Failure:
		m.total.Failed++
	case breaker.Ignored:
		m.ignored++
	}
	if slow {
		m.total.Slow++
	}
	isProbe := p.probe != 0 && p.epoch == m.epoch
	held := isProbe && time.Now().Before(m.probes[p.probe]) // zero: given to another
	if isProbe {
		delete(m.probes, p.probe)
	}
	switch {
	case p.epoch == m.epoch && m.state == breaker.Closed:
		m.calls = append(m.calls, call{time.Now(), o, slow})
		if m.broken(o, slow) {
			m.steps = max(0, m.steps-int(time.Since(m.since)/m.cfg.Window))
			m.open(t, b, after)
		}
	case isProbe:
		switch {
		case o == breaker.Failure || slow:
			m.open(t, b, after)
		case o == breaker.Success && held: // a late one is slow as well, in this Config
			if m.succeeded++; m.succeeded == m.cfg.Probes {
				m.enter(breaker.Closed)
			}
		}
	case m.state == breaker.Open && m.mode != "forced open" && o == breaker.Failure && after > 0:
		until := time.Now().Add(after)
		if most := m.since.Add(m.cfg.MaxOpenFor); until.After(most) {
			until = most
		}
		if until.After(m.until) {
			m.until = until
			m.epoch++ // nobody can tell: permits of an open breaker are late anyhow
		}
	}
}

func (m *model) broken(o breaker.Outcome, slow bool) bool {
	c, slowIgnored := m.recent()
	if o == breaker.Failure {
		run := 0
		for i := len(m.calls) - 1; i >= 0 && m.calls[i].outcome != breaker.Success; i-- {
			if m.calls[i].outcome == breaker.Failure {
				run++
			}
		}
		if run >= m.cfg.Consecutive {
			return true
		}
		all := c.Succeeded + c.Failed
		if all >= uint64(m.cfg.MinCalls) && float64(c.Failed) >= m.cfg.FailureRate*float64(all) {
			return true
		}
	}
	all := c.Succeeded + c.Failed + slowIgnored
	return slow && all >= uint64(m.cfg.MinCalls) && float64(c.Slow) >= m.cfg.SlowRate*float64(all)
}

func (m *model) recent() (c breaker.Counts, slowIgnored uint64) {
	width := m.cfg.Window / 10
	bucket := func(at time.Time) int64 { return int64(at.Sub(m.began) / width) }
	for _, call := range m.calls {
		if bucket(call.at) <= bucket(time.Now())-10 {
			continue
		}
		switch {
		case call.outcome == breaker.Success:
			c.Succeeded++
		case call.outcome == breaker.Failure:
			c.Failed++
		case call.slow:
			slowIgnored++
		}
		if call.slow {
			c.Slow++
		}
	}
	return c, slowIgnored
}

func (m *model) control(t *testing.T, b *breaker.Breaker, op int) {
	t.Helper()
	set := func(mode string, s breaker.State) {
		if s == breaker.Open && m.state != breaker.Open {
			m.opened++
		}
		m.mode, m.steps = mode, 0
		m.enter(s)
	}
	switch op {
	case 0:
		b.ForceOpen()
		set("forced open", breaker.Open)
	case 1:
		b.Disable()
		set("disabled", breaker.Closed)
	case 2:
		b.Shadow()
		set("shadow", breaker.Closed)
	case 3:
		b.Auto()
		if m.mode != "auto" {
			set("auto", breaker.Closed)
		}
	default:
		b.Reset()
		if m.mode == "auto" || m.mode == "shadow" {
			set(m.mode, breaker.Closed)
		}
	}
}

func (m *model) compare(t *testing.T, b *breaker.Breaker) {
	t.Helper()
	s := b.Stats()
	want := m.state
	if want == breaker.Open && m.mode != "forced open" && !time.Now().Before(m.until) {
		want = breaker.HalfOpen
	}
	if s.State != want || s.Mode != m.mode || !s.Until.Equal(m.until) {
		t.Fatalf("is %+v, want %v %s until %v", s, want, m.mode, m.until)
	}
	if s.Total != m.total || s.Ignored != m.ignored || s.Refused != m.refused ||
		s.Unrefused != m.unrefused || s.Opened != m.opened {
		t.Fatalf("is %+v, want %+v", s, m)
	}
	if recent, _ := m.recent(); m.state == breaker.Closed && s.Recent != recent {
		t.Fatalf("recent is %+v, want %+v", s.Recent, recent)
	}
}

// FuzzModel plays a script, two bytes a step, on a breaker and on the model.
func FuzzModel(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		script := make([]byte, 600)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	cfg := breaker.Config{
		Window: 10 * time.Second, MinCalls: 5, FailureRate: .5, Consecutive: 4,
		SlowCall: 2 * time.Second, SlowRate: .6, OpenFor: time.Second, MaxOpenFor: 5 * time.Second,
		Probes: 2, ProbeTimeout: 3 * time.Second, RampUp: -1,
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		synctest.Test(t, func(t *testing.T) { play(t, cfg, script) })
	})
}

func play(t *testing.T, cfg breaker.Config, script []byte) {
	t.Helper()
	b := breaker.New(cfg)
	m := &model{cfg: cfg, began: time.Now(), mode: "auto"}
	m.enter(breaker.Closed)
	m.epoch = 0
	var open []permit
	for ; len(script) >= 2; script = script[2:] {
		op, arg := script[0], int(script[1])
		switch {
		case op < 90:
			p, err := b.Allow()
			mp, ok := m.allow()
			if (err == nil) != ok {
				t.Fatalf("allow: %v, the model says %v: %+v", err, ok, m)
			}
			if ok {
				mp.Permit = p
				open = append(open, mp)
			}
		case op < 190 && len(open) > 0:
			i := arg % len(open)
			p := open[i]
			open = append(open[:i], open[i+1:]...)
			o := []breaker.Outcome{breaker.Success, breaker.Failure, breaker.Ignored}[int(op)%3]
			finish(t, b, m, p, o, time.Duration(arg/32)*time.Second)
		case op < 250:
			time.Sleep(time.Duration(arg*arg) * time.Millisecond / 4)
		case op == 250:
			m.control(t, b, arg%5)
		}
		m.compare(t, b)
	}
}

// finish ends a call on both. Every other failure asks for a while of peace.
func finish(
	t *testing.T, b *breaker.Breaker, m *model, p permit, o breaker.Outcome, after time.Duration,
) {
	t.Helper()
	if o == breaker.Failure && after > 0 {
		p.Done(t.Context(), pushback{after})
	} else {
		p.Record(o)
		after = 0
	}
	m.finish(t, b, p, o, after)
}
