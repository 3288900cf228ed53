package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/bulkhead"
)

type queueConfig = bulkhead.QueueConfig[int]

// queueModel is a queue as one would write it down: a list of what is handled, one of
// what waits for a worker, one of who waits for room, and how each call has ended.
type queueModel struct {
	cfg     queueConfig
	busy    []int
	queue   []int
	waiting []int
	do      map[int]bool // else Put
	came    map[int]time.Time
	left    map[int]bool // the caller of a Do that is handled
	answers map[int]string
	begun   []int
	dropped []string
	failed  []string
	stats   bulkhead.QueueStats
}

func (m *queueModel) arrive(i int, do, done bool) {
	m.do[i], m.came[i] = do, time.Now()
	switch {
	case done:
		m.answers[i] = "left early"
		m.stats.GaveUp++
	case m.stats.Draining:
		m.answers[i] = "draining"
		m.stats.TooLate++
	case m.room():
		m.accept(i)
	case m.cfg.Overflow == bulkhead.Block:
		m.waiting = append(m.waiting, i)
	case m.cfg.Overflow == bulkhead.DropOldest:
		old := m.queue[0]
		m.queue = m.queue[1:]
		m.dropped = append(m.dropped, fmt.Sprint(old, " full"))
		m.stats.PushedOut++
		if m.do[old] {
			m.answers[old] = "full"
		}
		m.accept(i)
	default:
		m.answers[i] = "full"
		m.stats.Rejected++
	}
}

func (m *queueModel) room() bool {
	return len(m.busy) < m.cfg.Workers || len(m.queue) < m.cfg.Capacity
}

func (m *queueModel) accept(i int) {
	m.stats.Accepted++
	if !m.do[i] {
		m.answers[i] = "ok"
	}
	m.queue = append(m.queue, i)
	m.proceed()
}

func (m *queueModel) proceed() {
	for len(m.queue) > 0 && len(m.busy) < m.cfg.Workers {
		m.busy = append(m.busy, m.queue[0])
		m.begun = append(m.begun, m.queue[0])
		m.queue = m.queue[1:]
	}
	if len(m.waiting) > 0 && m.room() {
		i := m.waiting[0]
		m.waiting = m.waiting[1:]
		m.accept(i)
	}
}

func (m *queueModel) cancel(i int) {
	at := slices.Index(m.queue, i)
	switch {
	case slices.Contains(m.waiting, i):
		m.waiting = slices.DeleteFunc(m.waiting, func(j int) bool { return j == i })
		m.answers[i] = "left early"
		m.stats.GaveUp++
	case !m.do[i]:
	case at >= 0:
		m.queue = slices.Delete(m.queue, at, at+1)
		m.answers[i] = "left early"
		m.dropped = append(m.dropped, fmt.Sprint(i, " left early"))
		m.stats.Abandoned++
		m.proceed()
	case slices.Contains(m.busy, i) && !m.left[i]:
		m.left[i] = true
		m.answers[i] = "left"
	}
}

func (m *queueModel) finish(i int, how string) {
	m.busy = slices.DeleteFunc(m.busy, func(j int) bool { return j == i })
	switch how {
	case "ok":
		m.stats.Succeeded++
	case "failed":
		m.stats.Failed++
	default:
		m.stats.Panicked++
	}
	if m.do[i] && !m.left[i] {
		m.answers[i] = how
	} else if how != "ok" {
		m.failed = append(m.failed, fmt.Sprint(i, " ", how))
	}
	m.proceed()
}

func (m *queueModel) drain() {
	m.stats.Draining = true
	for _, i := range m.waiting {
		m.answers[i] = "draining"
		m.stats.TooLate++
	}
	m.waiting = nil
}

func (m *queueModel) giveUp() (left []int) {
	for _, i := range m.queue {
		m.stats.Returned++
		if m.do[i] {
			m.answers[i] = "draining"
		} else {
			left = append(left, i)
		}
	}
	m.queue = nil
	return left
}

// queueRun plays on a queue and on the model. Its handler waits to be told how to end.
type queueRun struct {
	t       *testing.T
	q       *bulkhead.Queue[int]
	m       *queueModel
	items   int
	cancels []context.CancelFunc
	gates   map[int]chan func() error
	begun   []int
	dropped []string
	failed  []string

	mu      sync.Mutex // Drain ends many calls in one step; the rest happens one by one
	answers map[int]string
}

var errQueued = errors.New("failed")

// said returns what an error of the queue, or of the handler above, says.
func said(err error) string {
	full, isFull := errors.AsType[*bulkhead.FullError](err)
	_, panicked := errors.AsType[*bulkhead.PanicError](err)
	notAttempted := func() bool {
		e, ok := err.(interface{ NotAttempted() bool })
		return ok && e.NotAttempted()
	}
	switch {
	case err == nil:
		return "ok"
	case err == errQueued:
		return "failed"
	case panicked:
		return "panicked"
	case isFull && full.Reason == bulkhead.QueueFull && notAttempted():
		return "full"
	case errors.Is(err, bulkhead.ErrDraining) && notAttempted():
		return "draining"
	case errors.Is(err, context.Canceled) && notAttempted():
		return "left early"
	case errors.Is(err, context.Canceled):
		return "left"
	}
	return err.Error()
}

func newQueueRun(t *testing.T, cfg queueConfig) *queueRun {
	t.Helper()
	r := &queueRun{t: t, gates: map[int]chan func() error{}, answers: map[int]string{}}
	cfg.Handle = func(_ context.Context, i int) error {
		gate := make(chan func() error)
		r.gates[i] = gate // one at a time: each step of the script begins one at most
		r.begun = append(r.begun, i)
		return (<-gate)()
	}
	cfg.OnDrop = func(i int, why error) {
		r.dropped = append(r.dropped, fmt.Sprint(i, " ", said(why)))
	}
	cfg.OnError = func(i int, err error) {
		r.failed = append(r.failed, fmt.Sprint(i, " ", said(err)))
	}
	r.q = bulkhead.NewQueue(cfg)
	r.m = &queueModel{
		cfg: cfg, do: map[int]bool{}, came: map[int]time.Time{}, left: map[int]bool{},
		answers: map[int]string{},
		stats: bulkhead.QueueStats{
			Name: cfg.Name, Capacity: cfg.Capacity, Workers: cfg.Workers,
		},
	}
	return r
}

func (r *queueRun) arrive(do, done bool) {
	i := r.items
	r.items++
	ctx, cancel := context.WithCancel(context.Background())
	r.cancels = append(r.cancels, cancel)
	if done {
		cancel()
	}
	call := r.q.Put
	if do {
		call = r.q.Do
	}
	go func() {
		err := call(ctx, i)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.answers[i] = said(err)
	}()
	r.m.arrive(i, do, done)
	synctest.Wait()
}

func (r *queueRun) cancel(i int) {
	r.cancels[i]()
	r.m.cancel(i)
	synctest.Wait()
}

func (r *queueRun) finish(i int, how string) {
	r.gates[i] <- map[string]func() error{
		"ok":       func() error { return nil },
		"failed":   func() error { return errQueued },
		"panicked": func() error { panic("boom") },
		"exited":   func() error { runtime.Goexit(); return nil },
	}[how]
	if how == "exited" {
		how = "panicked"
	}
	r.m.finish(i, how)
	synctest.Wait()
}

func (r *queueRun) compare() {
	r.t.Helper()
	want := r.m.stats
	want.Depth, want.Busy, want.Waiting = len(r.m.queue), len(r.m.busy), len(r.m.waiting)
	if want.Depth > 0 {
		want.OldestAge = time.Since(r.m.came[r.m.queue[0]])
	}
	s := r.q.Stats()
	s.ArrivalRate, s.CompletionRate = 0, 0
	if s != want {
		r.t.Fatalf("is\n%+v, want\n%+v", s, want)
	}
	ended := s.Succeeded + s.Failed + s.Panicked + s.PushedOut + s.Abandoned + s.Returned
	if s.Accepted != ended+uint64(s.Depth+s.Busy) {
		r.t.Fatalf("%d accepted is not what became of them: %+v", s.Accepted, s)
	}
	if !slices.Equal(r.begun, r.m.begun) {
		r.t.Fatalf("began\n%v, want\n%v", r.begun, r.m.begun)
	}
	if !slices.Equal(r.dropped, r.m.dropped) || !slices.Equal(r.failed, r.m.failed) {
		r.t.Fatalf("hooks got %v and %v, want %v and %v",
			r.dropped, r.failed, r.m.dropped, r.m.failed)
	}
	for i := range r.items {
		if r.answers[i] != r.m.answers[i] {
			r.t.Fatalf("item %d: %q, want %q", i, r.answers[i], r.m.answers[i])
		}
	}
}

// FuzzQueueModel plays a script, two bytes a step, on a queue and on the model. Every
// item ends in exactly one way.
func FuzzQueueModel(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 90 {
		script := make([]byte, 500)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) < 2 || len(script) > 2000 {
			return
		}
		cfg := queueConfig{
			Name: "model", Capacity: 1 + int(script[0]%4), Workers: 1 + int(script[0]/4%3),
			Overflow: bulkhead.Overflow(script[1] % 3),
		}
		synctest.Test(t, func(t *testing.T) { playQueue(newQueueRun(t, cfg), script[2:]) })
	})
}

func playQueue(r *queueRun, script []byte) {
	r.t.Helper()
	for ; len(script) >= 2; script = script[2:] {
		r.step(script[0], int(script[1]))
		r.compare()
	}
	r.end()
}

func (r *queueRun) step(op byte, arg int) {
	r.t.Helper()
	switch {
	case op < 60:
		r.arrive(false, arg%32 == 0)
	case op < 120:
		r.arrive(true, arg%32 == 0)
	case op < 160 && r.items > 0:
		r.cancel(max(0, r.items-1-arg%12))
	case op < 240 && len(r.m.busy) > 0:
		i := r.m.busy[arg%len(r.m.busy)]
		r.finish(i, []string{"ok", "ok", "failed", "panicked", "exited"}[arg/16%5])
	default:
		time.Sleep(time.Duration(arg) * time.Millisecond)
	}
}

// end drains the queue: what is left comes back in order, and then the last of the
// handlers returns.
func (r *queueRun) end() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	var left []int
	var err error
	returned := false
	go func() {
		left, err = r.q.Drain(ctx)
		returned = true
	}()
	r.m.drain()
	synctest.Wait()
	r.compare()
	r.arrive(false, false)
	if len(r.m.busy) > 0 {
		r.finish(r.m.busy[0], "ok")
		r.compare()
	}
	idle := len(r.m.busy) == 0
	if returned != idle {
		r.t.Fatalf("Drain returned: %t, with %d handlers at work", returned, len(r.m.busy))
	}
	cancel()
	want := r.m.giveUp()
	synctest.Wait()
	r.compare()
	if !slices.Equal(left, want) || (err == nil) != idle {
		r.t.Fatalf("Drain returned %v, %v; want %v", left, err, want)
	}
	for len(r.m.busy) > 0 {
		r.finish(r.m.busy[0], "exited")
		r.compare()
	}
	if left, err := r.q.Drain(r.t.Context()); left != nil || err != nil {
		r.t.Fatalf("a second Drain returned %v, %v", left, err)
	}
	for _, cancel := range r.cancels {
		cancel()
	}
}

// FuzzQueueLine compares a line with a slice.
func FuzzQueueLine(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 0, 2, 3, 0, 1, 1, 1, 1})
	f.Add([]byte("\x00\x00\x01\x01\x00\x00\x00\x00\x05\x00\x07\x01\x01\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		type held struct{ value, at int }
		var line bulkhead.Line[*int]
		var want []held
		most := 0
		for i, op := range script {
			if op%2 == 0 || len(want) == 0 {
				want = append(want, held{i, line.Push(new(i))})
				most = max(most, len(want))
			} else {
				n := int(op/2) % len(want)
				out := want[n]
				if got := *line.Remove(out.at); got != out.value {
					t.Fatalf("removed %d, want %d", got, out.value)
				}
				if *line.At(out.at) != nil {
					t.Fatalf("the place of %d still refers to it", out.value)
				}
				want = slices.Delete(want, n, n+1)
			}
			if line.Len() != len(want) || line.Places() > most+1 {
				t.Fatalf("%d in %d places, want %d; there were at most %d",
					line.Len(), line.Places(), len(want), most)
			}
			at := 0
			for _, w := range want {
				if at = line.Next(at); at != w.at || **line.At(at) != w.value {
					t.Fatalf("%d at %d, want %d at %d", **line.At(at), at, w.value, w.at)
				}
			}
			if line.Next(at) != 0 {
				t.Fatal("the line does not end")
			}
		}
	})
}
