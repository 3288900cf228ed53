package shed_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

var errBoom = errors.New("boom")

// The verbs of the tests. Time is that of a synctest bubble, so that waiting is exact and
// costs nothing.

func ok(context.Context) error   { return nil }
func boom(context.Context) error { return errBoom }

// fixed is a Config whose limit stays as it is, and under which calls may wait for long.
func fixed(limit int) shed.Config {
	return shed.Config{
		Algorithm: shed.Fixed, Initial: limit, Max: max(1000, limit),
		Queue: 100, MaxWait: time.Minute,
	}
}

// without is a fixed limit without a queue.
func without(limit int) shed.Config {
	cfg := fixed(limit)
	cfg.Queue = -1
	return cfg
}

// bubble runs f with a Shedder of cfg in a synctest bubble.
func bubble(t *testing.T, cfg shed.Config, f func(*testing.T, *shed.Shedder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, shed.New(cfg)) })
}

// steered is an algorithm that finds what it is told to, and keeps what it was shown.
type steered struct {
	limit atomic.Int64

	mu      sync.Mutex
	windows []shed.Window
	at      []time.Time
}

func steer(cfg *shed.Config) *steered {
	a := &steered{}
	cfg.Algorithm = func(c shed.Config) shed.Algorithm {
		a.limit.Store(int64(c.Initial))
		return a
	}
	return a
}

func (a *steered) Update(w shed.Window) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.windows = append(a.windows, w)
	a.at = append(a.at, time.Now())
	return int(a.limit.Load())
}

// last returns the window that was seen last, and how many there were.
func (a *steered) last() (shed.Window, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.windows) == 0 {
		return shed.Window{}, 0
	}
	return a.windows[len(a.windows)-1], len(a.windows)
}

// endWindow has time pass and a call end, so that there is an update. There must be a slot.
func endWindow(t *testing.T, s *shed.Shedder) {
	t.Helper()
	time.Sleep(2 * time.Second)
	take(t, s).Record(shed.OK)
}

func of(t *testing.T, c shed.Criticality) context.Context {
	t.Helper()
	return shed.WithCriticality(t.Context(), c)
}

func sender(t *testing.T, s hop.Sender) context.Context {
	t.Helper()
	return hop.WithSender(t.Context(), s)
}

// verbs are the two ways to ask for a slot.
var verbs = map[string]func(*shed.Shedder, context.Context) (shed.Permit, error){
	"Acquire": (*shed.Shedder).Acquire, "TryAcquire": (*shed.Shedder).TryAcquire,
}

// take takes a slot that must be there.
func take(t *testing.T, s *shed.Shedder) *shed.Permit {
	t.Helper()
	p, err := s.TryAcquire(t.Context())
	if err != nil {
		t.Fatalf("refused: %v; %+v", err, s.Stats())
	}
	return &p
}

func takeAll(t *testing.T, s *shed.Shedder) []*shed.Permit {
	t.Helper()
	permits := make([]*shed.Permit, s.Stats().Limit)
	for i := range permits {
		permits[i] = take(t, s)
	}
	return permits
}

// refusedFor fails the test if err is not a refusal for a reason.
func refusedFor(t *testing.T, err error, why shed.Reason) *shed.OverloadError {
	t.Helper()
	refusal, ok := errors.AsType[*shed.OverloadError](err)
	if !ok || !errors.Is(err, shed.ErrOverloaded) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if refusal.Reason != why {
		t.Errorf("refused for %q, want %q", refusal.Reason, why)
	}
	return refusal
}

func wantUse(t *testing.T, s *shed.Shedder, inUse, waiting int) {
	t.Helper()
	if s := s.Stats(); s.InUse != inUse || s.Waiting != waiting {
		t.Errorf("%d in use and %d waiting, want %d and %d", s.InUse, s.Waiting, inUse, waiting)
	}
}

// line is a Shedder and those who come to it, each by a name, in a bubble.
type line struct {
	*shed.Shedder
	mu      sync.Mutex
	told    []string // who has had an answer
	permits map[string]*shed.Permit
}

func stand(s *shed.Shedder) *line {
	return &line{Shedder: s, permits: map[string]*shed.Permit{}}
}

// join has somebody ask for a slot, and returns when they have an answer or wait for it.
func (l *line) join(ctx context.Context, name string) {
	go func() {
		p, err := l.Acquire(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.permits[name] = &p
		l.told = append(l.told, name+told(ctx, err))
	}()
	synctest.Wait()
}

// told says what became of a call: nothing if it has its slot.
func told(ctx context.Context, err error) string {
	refusal, isRefusal := errors.AsType[*shed.OverloadError](err)
	switch {
	case err == nil:
		return ""
	case isRefusal:
		return ":" + string(refusal.Reason)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return ":left"
	}
	return ":" + err.Error()
}

// end ends the calls of some, one after the other.
func (l *line) end(names ...string) {
	for _, name := range names {
		l.mu.Lock()
		p := l.permits[name]
		l.mu.Unlock()
		p.Record(shed.OK)
		synctest.Wait()
	}
}

// want compares who has had an answer since the last time, in the order of their names. Of
// several that are answered at once, each finds out when its goroutine runs.
func (l *line) want(t *testing.T, want string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.told)
	if got := strings.Join(l.told, " "); got != want {
		t.Fatalf("answered %q, want %q; %+v", got, want, l.Stats())
	}
	l.told = nil
}

func TestBoundsCalls(t *testing.T) {
	bubble(t, without(3), func(t *testing.T, s *shed.Shedder) {
		permits := takeAll(t, s)
		err := s.Do(t.Context(), func(context.Context) error {
			t.Error("a refused call was made")
			return nil
		})
		refusedFor(t, err, shed.LimitReached)
		_, err = s.TryAcquire(t.Context())
		refusedFor(t, err, shed.LimitReached)
		wantUse(t, s, 3, 0)
		permits[0].Done(t.Context(), nil)
		if err := s.Do(t.Context(), func(context.Context) error {
			wantUse(t, s, 3, 0)
			return nil
		}); err != nil {
			t.Error(err)
		}
		take(t, s).Done(t.Context(), errBoom)
		wantUse(t, s, 2, 0)
	})
}

func TestReturnsUntouched(t *testing.T) {
	s := shed.New(without(1))
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, 1)
	if err := s.Do(ctx, boom); err != errBoom {
		t.Errorf("got %v", err)
	}
	got, err := shed.Do(ctx, s, func(got context.Context) (int, error) {
		if got != ctx {
			t.Error("the call got another context")
		}
		return 7, errBoom
	})
	if got != 7 || err != errBoom {
		t.Errorf("got %v and %v", got, err)
	}
	take(t, s)
	got, err = shed.Do(ctx, s, func(context.Context) (int, error) { return 7, nil })
	if got != 0 {
		t.Errorf("refused: got %v and %v", got, err)
	}
	refusedFor(t, err, shed.LimitReached)
}

func TestDoNeedsAFunction(t *testing.T) {
	s := shed.New(shed.Config{})
	for name, do := range map[string]func(){
		"method":   func() { _ = s.Do(t.Context(), nil) },
		"function": func() { _, _ = shed.Do[int](t.Context(), s, nil) },
	} {
		if got := panicOf(do); got != "shed: Do: nil function" {
			t.Errorf("%s: %v", name, got)
		}
	}
	wantUse(t, s, 0, 0)
}

// panicOf returns what f panics with, or nil.
func panicOf(f func()) (what any) {
	defer func() { what = recover() }()
	f()
	return nil
}
