package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead/coalesce"
)

// A model says in the plainest words what becomes of callers: it goes from one event to
// the next. There is no time at which there are two; see plan.
type model struct {
	cfg     coalesce.Config
	callers []caller
	forgets []forgetting
	kinds   []kind // of the calls, in the order in which they begin

	events  []event
	keys    [2]modelKey
	calls   []*modelCall
	answers []answer // by caller
	stats   coalesce.Stats
	tie     bool // two events at the same time: no model
}

type caller struct {
	key    int
	comes  time.Duration
	leaves time.Duration // after it came; 0: never
	late   bool          // by a deadline
}

type forgetting struct {
	key int
	at  time.Duration
}

// kind is what a call does: it takes some time, or until its context ends unless it is
// deaf, and ends with a value or otherwise.
type kind struct {
	takes time.Duration
	deaf  bool
	ends  string // value, error, refusal, delay, panic or exit
}

type answer struct {
	at   time.Duration
	what string // one of the above with the number of the call, or left, or timeout
}

type event struct {
	at time.Duration
	do func(now time.Duration)
}

type modelKey struct {
	has      string // a result, or ""
	since    time.Duration
	isError  bool
	failed   bool
	retryAt  time.Duration
	call     *modelCall
	panicked string
}

type modelCall struct {
	n       int
	key     int
	kind    kind
	waiters []int
	refresh bool // goes on without waiters
	settled bool
	gone    bool // the function has returned
}

const delayAsked = 23 * ms

func (m *model) run() {
	m.answers = make([]answer, len(m.callers))
	for i, c := range m.callers {
		m.at(c.comes, func(now time.Duration) { m.come(i, now) })
	}
	for _, f := range m.forgets {
		m.at(f.at, func(time.Duration) { m.forget(f.key) })
	}
	for len(m.events) > 0 {
		next := m.events[0]
		m.events = m.events[1:]
		m.tie = m.tie || len(m.events) > 0 && m.events[0].at == next.at
		next.do(next.at)
	}
}

func (m *model) at(at time.Duration, do func(time.Duration)) {
	m.events = append(m.events, event{at, do})
	slices.SortStableFunc(m.events, func(a, b event) int { return int(a.at - b.at) })
}

// until returns when the result of a key is fresh, served and of use no more.
func (m *model) until(k *modelKey) (fresh, served, use time.Duration) {
	if k.isError {
		end := k.since + m.cfg.ErrorTTL
		return end, end, end
	}
	fresh = k.since + m.cfg.TTL
	use = fresh + max(m.cfg.Stale, m.cfg.StaleOnError)
	if k.failed {
		return fresh, use, use
	}
	return fresh, fresh + m.cfg.Stale, use
}

func (m *model) come(i int, now time.Duration) {
	c := m.callers[i]
	k := &m.keys[c.key]
	if k.panicked != "" {
		m.answers[i] = answer{now, k.panicked}
		k.panicked = ""
		return
	}
	fresh, served, _ := m.until(k)
	switch {
	case k.has != "" && now < fresh:
		m.stats.Hits++
		m.answers[i] = answer{now, k.has}
		return
	case k.has != "" && now < served:
		m.stats.StaleHits++
		m.answers[i] = answer{now, k.has}
		if k.call == nil && now >= k.retryAt {
			m.begin(c.key, now).refresh = true
		}
		return
	case k.call != nil:
		m.stats.Shared++
	default:
		m.begin(c.key, now)
	}
	call := k.call
	call.waiters = append(call.waiters, i)
	if c.leaves != 0 {
		m.at(now+c.leaves, func(now time.Duration) { m.leave(i, call, now) })
	}
}

func (m *model) begin(key int, now time.Duration) *modelCall {
	c := &modelCall{n: len(m.calls) + 1, key: key, kind: m.kinds[len(m.calls)]}
	m.calls = append(m.calls, c)
	m.keys[key].call = c
	m.stats.Calls++
	m.at(now+c.kind.takes, func(now time.Duration) { m.returns(c, now) })
	m.at(now+m.cfg.Timeout, func(now time.Duration) {
		if !c.settled {
			m.settle(c, "timeout", 0, now)
			c.gone = c.gone || !c.kind.deaf
		}
	})
	return c
}

func (m *model) returns(c *modelCall, now time.Duration) {
	if c.gone {
		return
	}
	c.gone = true
	what := fmt.Sprint(c.kind.ends, " ", c.n)
	if c.kind.ends == "panic" {
		m.stats.Panics++
		if c.settled || len(c.waiters) == 0 {
			m.keys[c.key].panicked = what
		}
	}
	if c.settled {
		return
	}
	asked := time.Duration(0)
	if c.kind.ends == "delay" {
		asked = delayAsked
	}
	m.settle(c, what, asked, now)
}

func (m *model) settle(c *modelCall, what string, asked, now time.Duration) {
	c.settled = true
	is := func(kinds ...string) bool { return slices.Contains(kinds, strings.Fields(what)[0]) }
	good, broken := is("value"), is("panic", "exit")
	if !good {
		m.stats.Errors++
	}
	k := &m.keys[c.key]
	if k.call == c {
		k.call = nil
		_, _, use := m.until(k)
		switch {
		case good:
			if m.cfg.TTL != 0 {
				k.has, k.since, k.isError, k.failed, k.retryAt = what, now, false, false, 0
			}
		case k.has != "" && now < use:
			m.stats.RefreshErrors++
			k.failed = true
			k.retryAt = now + max(asked, m.cfg.TTL/10)
			if !broken {
				m.stats.StaleHits += uint64(len(c.waiters))
				what = k.has
			}
		case m.cfg.ErrorTTL != 0 && !broken && !is("refusal"):
			k.has, k.since, k.isError, k.failed, k.retryAt = what, now, true, false, 0
		}
	}
	for _, i := range c.waiters {
		m.answers[i] = answer{now, what}
	}
	c.waiters = nil
}

func (m *model) leave(i int, c *modelCall, now time.Duration) {
	if c.settled {
		return
	}
	c.waiters = slices.DeleteFunc(c.waiters, func(w int) bool { return w == i })
	m.answers[i] = answer{now, "left"}
	k := &m.keys[c.key]
	_, _, use := m.until(k)
	if m.callers[i].late && k.call == c && k.has != "" && now < use {
		c.refresh = true
		m.stats.StaleHits++
		m.answers[i].what = k.has
	}
	if len(c.waiters) == 0 && !c.refresh {
		m.stats.Abandoned++
		m.cancel(c)
		if k.call == c {
			k.call = nil
		}
	}
}

func (m *model) cancel(c *modelCall) {
	c.settled = true
	c.gone = c.gone || !c.kind.deaf
}

func (m *model) forget(key int) {
	c := m.keys[key].call
	m.keys[key] = modelKey{}
	if c == nil {
		return
	}
	c.refresh = false
	if len(c.waiters) == 0 {
		m.cancel(c)
	}
}

// plan makes up a config and what happens to a group of it. All times are random to the
// nanosecond, so that two events at the same time are rare.
func plan(seed uint64) *model {
	random := rand.New(rand.NewPCG(seed, 1))
	upTo := func(d time.Duration) time.Duration {
		return 1 + time.Duration(random.Int64N(int64(d)))
	}
	some := func(d time.Duration) time.Duration {
		if random.IntN(2) == 0 {
			return 0
		}
		return upTo(d)
	}
	m := &model{cfg: coalesce.Config{Jitter: -1, Timeout: upTo(60 * ms)}}
	if random.IntN(4) > 0 {
		m.cfg.TTL = upTo(50 * ms)
		m.cfg.Stale, m.cfg.StaleOnError = some(50*ms), some(100*ms)
		m.cfg.ErrorTTL = some(30 * ms)
	}
	for range 40 {
		c := caller{key: random.IntN(2), comes: upTo(400 * ms), late: random.IntN(2) == 0}
		if random.IntN(2) == 0 {
			c.leaves = upTo(30 * ms)
		}
		m.callers = append(m.callers, c)
		ends := []string{"value", "value", "value", "error", "refusal", "delay", "panic", "exit"}
		m.kinds = append(m.kinds, kind{
			upTo(50 * ms), random.IntN(3) == 0, ends[random.IntN(len(ends))],
		})
	}
	for range random.IntN(6) {
		m.forgets = append(m.forgets, forgetting{random.IntN(2), upTo(400 * ms)})
	}
	return m
}

// A numbered error is that of a call; some ask for a delay.
type numbered struct {
	text  string
	asks  time.Duration
	spare bool
}

func (e *numbered) Error() string             { return e.text }
func (e *numbered) RetryAfter() time.Duration { return e.asks }
func (e *numbered) NotAttempted() bool        { return e.spare }

// trial has a group do what a model was made for.
type trial struct {
	*model
	group *coalesce.Group[int, string]

	mu    sync.Mutex
	begun int
}

// fn is the function of the call that begins next.
func (r *trial) fn(ctx context.Context) (string, error) {
	r.mu.Lock()
	k := r.kinds[r.begun]
	r.begun++
	what := fmt.Sprint(k.ends, " ", r.begun)
	r.mu.Unlock()
	done := ctx.Done()
	if k.deaf {
		done = nil
	}
	select {
	case <-time.After(k.takes):
	case <-done:
		return "", context.Cause(ctx)
	}
	switch k.ends {
	case "panic":
		panic(what)
	case "exit":
		runtime.Goexit()
	case "error":
		return "", &numbered{text: what}
	case "refusal":
		return "", &numbered{text: what, spare: true}
	case "delay":
		return "", &numbered{text: what, asks: delayAsked}
	}
	return what, nil
}

// call has one caller come, and returns what it got.
func (r *trial) call(ctx context.Context, c caller) (what string) {
	if c.leaves != 0 && c.late {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.leaves)
		defer cancel()
	} else if c.leaves != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer time.AfterFunc(c.leaves, cancel).Stop()
	}
	what = "exit"
	defer func() {
		if p, ok := recover().(*coalesce.PanicError); ok {
			what = fmt.Sprint(p.Value)
		}
	}()
	value, err := r.group.Do(ctx, c.key, r.fn)
	switch {
	case err == nil:
		return value
	case strings.Contains(err.Error(), "took longer"):
		return "timeout"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "left"
	}
	return err.Error()
}

func FuzzModel(f *testing.F) {
	for seed := range uint64(400) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		m := plan(seed)
		if m.run(); m.tie {
			t.Skip()
		}
		synctest.Test(t, func(t *testing.T) { compare(t, m) })
		if t.Failed() {
			t.Logf("%+v\ncallers %+v\nforgets %v\ncalls %+v", m.cfg, m.callers, m.forgets, m.kinds)
		}
	})
}

func compare(t *testing.T, m *model) {
	t.Helper()
	r := &trial{model: m, group: coalesce.New[int, string](m.cfg)}
	began := time.Now()
	got := make([]answer, len(m.callers))
	for i, c := range m.callers {
		got[i].what = "exit"
		go func() {
			defer func() { got[i].at = time.Since(began) }()
			time.Sleep(c.comes)
			got[i].what = r.call(t.Context(), c)
		}()
	}
	for _, f := range m.forgets {
		time.AfterFunc(f.at, func() { r.group.Forget(f.key) })
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	for i, want := range m.answers {
		// That a waiter was ended by Goexit is told without the number of the call.
		if strings.HasPrefix(want.what, "exit ") {
			want.what = "exit"
		}
		if got[i] != want {
			t.Errorf("caller %d: got %v, want %v", i, got[i], want)
		}
	}
	stats := r.group.Stats()
	entries := coalesce.Len(r.group)
	if stats.InFlight != 0 || stats.Entries > len(m.keys) || stats.Entries != entries {
		t.Errorf("Stats() = %+v, %d entries", stats, entries)
	}
	if stats.Entries = 0; stats != m.stats {
		t.Errorf("Stats() = %+v, want %+v", stats, m.stats)
	}
}
