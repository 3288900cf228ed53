package cell_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

func TestConfigValidate(t *testing.T) {
	ok := cell.Config{Source: (&plane{}).pull}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
	bad := cell.Config{
		Name: "edge", Period: 1, Timeout: -1, MaxAge: -1, MaxBytes: -1, MaxSlots: math.NaN(),
		Replica: strings.Repeat("x", 257),
	}
	want := `cell: Config "edge": Source is <nil>, but must be set; ` +
		`Period is 1ns, but must be at least 1ms; Timeout is -1ns, but must not be negative; ` +
		`MaxAge is -1ns, but must not be negative; MaxBytes is -1, but must not be negative; ` +
		`MaxSlots is NaN, but must be at most 1; len(Replica) is 257, but must be at most 256`
	if err := bad.Validate(); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	defer func() {
		if got := recover(); got != want {
			t.Errorf("New panics with %v", got)
		}
	}()
	cell.New(bad)
}

// The map is pulled by a fixed beat, whether or not it has changed.
func TestPullsAreConstantWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p, stop := started(t, "", small(1))
		for i := range 100 {
			time.Sleep(5 * time.Second)
			switch {
			case i == 20:
				p.set(nil, errDown)
			case i > 40 && i < 60:
				p.publish(t, small(uint64(i)))
			}
		}
		stop()
		if n := p.count(); n != 101 {
			t.Errorf("%d pulls in 100 periods", n)
		}
		for i := 2; i < len(p.pulls); i++ {
			if d := p.pulls[i].Sub(p.pulls[i-1]); d != 5*time.Second {
				t.Errorf("pull %d comes after %v", i, d)
			}
		}
		if s := r.Stats(); s.Pulls != 101 || s.Version != 59 || s.Failed == 0 || s.Rejected != 0 ||
			s.Applied != 20 {
			t.Errorf("%+v", s)
		}
	})
}

// Whatever the control plane answers, routes stay as they are unless it is a map that may
// follow.
func TestNothingInvalidChangesARoute(t *testing.T) {
	flipped := func(version uint64, n int) *cell.Snapshot {
		s := small(version)
		for i := range n {
			s.Slots[i] = cell.Assignment{Cell: "ba"[i%2:][:1], Epoch: version}
		}
		return s
	}
	synctest.Test(t, func(t *testing.T) {
		var events []cell.Event
		p := &plane{}
		p.publish(t, small(7))
		r := cell.New(cell.Config{
			Name: "edge", Source: p.pull, MaxBytes: 2000,
			OnEvent: func(e cell.Event) { events = append(events, e) },
		})
		defer run(t, r)()
		before := route(t, r, "acme")
		large := small(8)
		large.Cells[0].Address = strings.Repeat("x", 3000)
		unknown := encode(t, small(8))
		unknown = cell.Seal(bytesReplace(unknown, `"cell":"b"`, `"cell":"z"`))
		other := small(7)
		other.Cells[0].Address = "elsewhere"
		for name, b := range map[string][]byte{
			"older (20)":            encode(t, small(6)),
			"the same version (20)": encode(t, other),
			"empty":                 {},
			"nil":                   nil,
			"an error page":         []byte("<html>502 Bad Gateway</html>"),
			"torn":                  encode(t, small(8))[:200],
			"too large":             encode(t, large),
			"an unknown cell":       unknown,
			"a cell without a new epoch": encode(t, with(8, "acme", cell.Assignment{
				Cell:  "b",
				Epoch: 1,
			})),
			"half of all slots": encode(t, flipped(8, 2)),
		} {
			events = nil
			p.set(b, nil)
			rejected := r.Stats().Rejected
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if got := route(t, r, "acme"); got != before || r.Ready() != nil {
				t.Errorf("%s: %s, and before %s; %v", name, got, before, r.Ready())
			}
			s := r.Stats()
			if s.Rejected != rejected+1 || !errors.Is(s.LastError, cell.ErrInvalid) ||
				s.Version != 7 {
				t.Errorf("%s: %+v", name, s)
			}
			if len(events) != 1 || events[0].Kind != "rejected" || events[0].Version != 7 ||
				events[0].Name != "edge" || events[0].Err != s.LastError {
				t.Errorf("%s: events %+v", name, events)
			}
		}
		events = nil
		p.set(nil, errDown)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got, err := r.Route("acme"); err != nil || !got.Stale || got.Age() < time.Minute {
			t.Errorf("%+v, %v, of age %v", got, err, got.Age())
		}
		if s := r.Stats(); s.LastError != errDown || !s.Stale || r.Ready() != nil {
			t.Errorf("%+v, %v", s, r.Ready())
		}
		if len(events) != 12 || events[0].Kind != "failed" {
			t.Errorf("events %+v", events)
		}
		events = nil
		p.publish(t, flipped(8, 1)) // a quarter: the bound of four slots is one
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got, err := r.Route("acme"); err != nil || got.Stale || got.Version() != 8 {
			t.Errorf("%+v, %v", got, err)
		}
		if len(events) != 1 || events[0].Kind != "applied" || events[0].Version != 8 {
			t.Errorf("events %+v", events)
		}
	})
}

func bytesReplace(encoded []byte, old, text string) []byte {
	_, body, _ := strings.Cut(string(encoded), "\n")
	return []byte(strings.Replace(body, old, text, 1))
}

// A plan that is rejected stays so, however long it is offered, until somebody forces it.
func TestForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p, stop := started(t, "", small(1))
		defer stop()
		s := small(2)
		for i := range s.Slots {
			s.Slots[i] = cell.Assignment{Cell: "b", Epoch: 2}
		}
		p.publish(t, s)
		time.Sleep(24 * time.Hour)
		if v := r.Stats().Version; v != 1 {
			t.Fatalf("version %d", v)
		}
		s = s.Clone()
		s.Version, s.Forced = 4, 3 // nobody saw 3
		p.publish(t, s)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if v := r.Stats().Version; v != 4 {
			t.Errorf("version %d: %v", v, r.Stats().LastError)
		}
	})
}

// What has moved while nobody could see it may be more than an hour's worth, also after
// there was something to reject.
func TestAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p, stop := started(t, "", small(1))
		defer stop()
		p.set([]byte("<html>"), nil)
		time.Sleep(time.Minute)
		older := small(1)
		older.Lease++
		p.publish(t, older) // of the same version: an answer, if no good one
		time.Sleep(time.Minute)
		p.publish(t, small(1))
		time.Sleep(time.Minute)
		p.set(nil, errDown)
		time.Sleep(5 * time.Hour)
		s := small(2)
		for i := range s.Slots {
			s.Slots[i] = cell.Assignment{Cell: "ba"[i%2:][:1], Epoch: 2}
		}
		p.publish(t, s)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if v := r.Stats().Version; v != 2 {
			t.Errorf("version %d: %v", v, r.Stats().LastError)
		}
	})
}

// Epochs that are new move nobody.
func TestNewEpochsAreNoMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p, stop := started(t, "", small(1))
		defer stop()
		s := small(2)
		for i := range s.Slots {
			s.Slots[i].Epoch = 2
		}
		p.publish(t, s)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if v := r.Stats().Version; v != 2 {
			t.Errorf("version %d: %v", v, r.Stats().LastError)
		}
	})
}

// A map is stale when nothing has confirmed it for MaxAge, and not before.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p, stop := started(t, "", small(1))
		defer stop()
		stale := func() bool { rt, _ := r.Route("x"); return rt.Stale }
		for range 100 {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if stale() {
				t.Fatal("stale, and it is confirmed every 5s")
			}
		}
		p.set(nil, errDown)
		time.Sleep(45*time.Second - 1)
		if stale() {
			t.Error("stale too early")
		}
		time.Sleep(5*time.Second + 1)
		synctest.Wait()
		if !stale() {
			t.Error("not stale after 50s")
		}
		p.publish(t, small(1))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if stale() {
			t.Error("stale, and it was confirmed")
		}
	})
}

func TestBounds(t *testing.T) {
	const h = time.Hour
	b := cell.NewBounds(cell.Config{Source: (&plane{}).pull}, 100)
	for i, step := range []struct {
		now, unseen    time.Duration
		slots, tenants int
		ok             bool
	}{
		{0, 0, 20, 0, true},
		{0, 0, 1, 0, false},
		{0, 0, 0, 1000, true},
		{0, 0, 0, 1, false},
		{0, 0, 0, 0, true},
		{h / 20, 0, 1, 50, true},
		{h / 20, 0, 1, 0, false},
		{h / 20, h, 20, 0, true}, // an hour that nobody saw
		{h / 20, h, 1, 0, false},
		{h / 20, 0, 0, 0, true},
		{2 * h, 0, 20, 0, false}, // some of that is left
		{4 * h, 0, 20, 1000, true},
		{5 * h, -h, 20, 1000, true}, // clocks may disagree
		{9 * h, 0, 21, 0, false},
		{9 * h, 0, 0, 1001, false},
		{9 * h, 0, 20, 1000, true},
	} {
		if err := b.Take(step.now, step.unseen, step.slots, step.tenants); (err == nil) != step.ok {
			t.Errorf("step %d: %v", i, err)
		}
	}
	off := cell.NewBounds(cell.Config{Source: (&plane{}).pull, MaxSlots: -1, MaxTenants: -1}, 4)
	if err := off.Take(0, 0, 4, 1<<30); err != nil {
		t.Error(err)
	}
}

func TestPace(t *testing.T) {
	base := time.Unix(1000, 0)
	at := func(s float64) time.Time { return base.Add(time.Duration(s * float64(time.Second))) }
	p := cell.NewPace(10 * time.Second)
	for i, step := range []struct{ pulled, due, soon float64 }{
		{0, 4, 1},
		{2, 4, 3}, // somebody asked
		{3.5, 4, 4},
		{4, 14, 5},
		{15, 24, 16}, // a second late
		{60, 64, 61}, // a pull that hung
		{64, 74, 65}, // on the beat
		{74.5, 84, 75.5},
	} {
		p.Pulled(at(step.pulled), 4*time.Second)
		if p.Due() != at(step.due) || p.Soon() != at(step.soon) {
			t.Errorf("step %d: due %v, soon %v", i, p.Due().Sub(base), p.Soon().Sub(base))
		}
	}
}

// A thousand requests that were sent wrong ask for one pull, and not at once for another.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p, stop := started(t, "", small(1))
		defer stop()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		before := p.count()
		for range 1000 { // over a second
			for range 10 {
				r.Refresh()
			}
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if n := p.count() - before; n < 2 || n > 4 {
			t.Errorf("%d pulls in a second", n)
		}
	})
}

func TestSourceThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := encode(t, small(1))
		hang := make(chan struct{})
		first := true
		r := cell.New(cell.Config{Source: func(context.Context) ([]byte, error) {
			if !first {
				<-hang // whatever the context says
			}
			first = false
			return body, nil
		}})
		defer run(t, r)()
		time.Sleep(time.Hour)
		if got, err := r.Route("x"); err != nil || !got.Stale || got.Age() != time.Hour {
			t.Errorf("%+v, %v, of age %v", got, err, got.Age())
		}
		close(hang)
		synctest.Wait()
		if got, _ := r.Route("x"); got.Age() < time.Hour-5*time.Second {
			t.Errorf("what was asked for an hour ago is of age %v", got.Age())
		}
	})
}

func TestSourceTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := cell.New(cell.Config{
			Timeout: time.Second,
			Source: func(ctx context.Context) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		})
		stop := run(t, r)
		time.Sleep(time.Second)
		synctest.Wait()
		if s := r.Stats(); s.Failed != 1 || !errors.Is(s.LastError, context.DeadlineExceeded) {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// That Run is ended is no failure of the control plane.
func TestEndedWhileItPulls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := cell.New(cell.Config{Source: func(ctx context.Context) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		run(t, r)()
		if s := r.Stats(); s.Pulls != 0 || s.Failed != 0 || s.LastError != nil {
			t.Errorf("%+v", s)
		}
	})
}

// A panic of what is the user's is for the user to see; the map stays, and Run can go on.
func TestSourceThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := encode(t, small(1))
		n := 0
		r := cell.New(cell.Config{Source: func(context.Context) ([]byte, error) {
			n++
			switch n {
			case 2:
				panic("source")
			case 4:
				runtime.Goexit()
			}
			return body, nil
		}})
		for range 2 {
			done := make(chan any)
			go func() {
				defer func() { done <- recover() }()
				_ = r.Run(t.Context())
			}()
			got := <-done
			if want := any("source"); n == 2 && got != want || n == 4 && got != nil {
				t.Errorf("after %d pulls: %v", n, got)
			}
			if rt, err := r.Route("x"); err != nil || !rt.Stale {
				t.Errorf("%+v, %v: nobody pulls any more", rt, err)
			}
		}
		run(t, r)()
		if n != 5 {
			t.Errorf("%d pulls", n)
		}
	})
}

func TestHookThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		p.publish(t, small(1))
		panics := true
		var r *cell.Router
		r = cell.New(cell.Config{Source: p.pull, OnEvent: func(cell.Event) {
			_ = r.Stats() // and may call back
			r.Refresh()
			if panics {
				panic("hook")
			}
		}})
		func() {
			defer func() {
				if got := recover(); got != "hook" {
					t.Error(got)
				}
			}()
			_ = r.Run(t.Context())
		}()
		if r.Stats().Version != 1 {
			t.Errorf("%+v", r.Stats())
		}
		panics = false
		run(t, r)()
	})
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, stop := started(t, "", small(1))
		if err := r.Run(t.Context()); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("the second Run: %v", err)
		}
		stop()
		if rt, _ := r.Route("x"); !rt.Stale {
			t.Error("not stale, and nobody pulls")
		}
		cause := errors.New("shutdown")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if err := r.Run(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
			t.Error(err)
		}
	})
}

// Readers while maps come and go: for the race detector, and for halves of maps.
func TestRoutesWhileMapsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, p, stop := started(t, "a-1", small(1))
		g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					rt, err := r.Route("acme")
					if err != nil || rt.Epoch != 1 && rt.Epoch != rt.Version() {
						t.Errorf("%+v, %v", rt, err)
					}
					if p, err := g.Enter(cell.Request{
						Tenant: "acme", Epoch: rt.Epoch,
						Write: i%2 == 0,
					}); err == nil {
						p.Leave()
					}
					_, _, _ = r.Stats(), g.Stats(), g.Settled()
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		for v := uint64(2); v < 50; v++ {
			p.publish(t, with(v, "acme", cell.Assignment{Cell: "ab"[v%2:][:1], Epoch: v}))
			r.Refresh()
			time.Sleep(time.Second)
		}
		cancel()
		wg.Wait()
		stop()
		if s := r.Stats(); s.Version != 49 || s.Rejected != 0 {
			t.Errorf("%+v", s)
		}
		if s := g.Stats(); s.InFlight != 0 || s.Entered == 0 {
			t.Errorf("%+v", s)
		}
	})
}

func ExampleConfig_Validate() {
	fmt.Println(cell.Config{Name: "edge"}.Validate())
	// Output: cell: Config "edge": Source is <nil>, but must be set
}
