package health_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
)

var errBroken = errors.New("broken")

// noSignals is for drains in a bubble: what watches signals would stay in it.
func noSignals() []os.Signal { return []os.Signal{} }

// A drainLog has what happened, and how long after it was begun.
type drainLog struct {
	mu    sync.Mutex
	base  time.Time
	lines []string
}

func newDrainLog() *drainLog { return &drainLog{base: time.Now()} }

func (d *drainLog) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf("%v %s", time.Since(d.base), what))
}

func (d *drainLog) want(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("got:\n\t%s\nwant:\n\t%s",
			strings.Join(d.lines, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// A server is one as its functions have it. Without them it stops at once.
type server struct {
	shutdown func(context.Context) error
	close    func() error
}

func (s *server) Shutdown(ctx context.Context) error {
	if s.shutdown == nil {
		return nil
	}
	return s.shutdown(ctx)
}

func (s *server) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// after returns a function that takes its time, unless its context ends.
func after(d time.Duration, end func()) func(context.Context) error {
	return func(ctx context.Context) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			end()
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func wantText(t *testing.T, err error, want ...string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != strings.Join(want, "\n") {
		t.Errorf("got the error\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestDrainConfigValidate(t *testing.T) {
	tests := []struct {
		cfg  health.DrainConfig
		want string // "" if valid
	}{
		{health.DrainConfig{}, ""},
		{health.DrainConfig{GracePeriod: 27 * time.Second}, ""},
		{health.DrainConfig{Delay: -1, GracePeriod: 22 * time.Second}, ""},
		{health.DrainConfig{Delay: 24 * time.Hour, Timeout: 24 * time.Hour}, ""},
		{health.DrainConfig{Delay: -1, Timeout: time.Second, Signals: noSignals()}, ""},
		{
			health.DrainConfig{GracePeriod: 27*time.Second - 1},
			"health: DrainConfig: GracePeriod is 26.999999999s, " +
				"but must be at least 27s, Delay and Timeout and two seconds",
		},
		{
			health.DrainConfig{Delay: time.Minute, GracePeriod: 30 * time.Second},
			"health: DrainConfig: GracePeriod is 30s, " +
				"but must be at least 1m22s, Delay and Timeout and two seconds",
		},
		{
			health.DrainConfig{GracePeriod: -1},
			"health: DrainConfig: GracePeriod is -1ns, " +
				"but must be at least 27s, Delay and Timeout and two seconds",
		},
		{
			health.DrainConfig{Name: "api", Delay: 1 << 62, Timeout: -1, Signals: []os.Signal{nil}},
			`health: DrainConfig "api": Delay is 1281023h53m38.427387904s, ` +
				"but must be at most 24h; " +
				"Timeout is -1ns, but must not be negative, and be at most 24h; " +
				"Signals is [<nil>], but must have no nil in it",
		},
		{
			health.DrainConfig{Timeout: 24*time.Hour + 1},
			"health: DrainConfig: Timeout is 24h0m0.000000001s, " +
				"but must not be negative, and be at most 24h",
		},
	}
	for _, test := range tests {
		got := ""
		if err := test.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("got %s\nwant %s", got, test.want)
		}
		wantPanic(t, test.want, func() { health.NewDrain(test.cfg) })
	}
}

// wantPanic checks what fn panics with; "" is that it does not.
func wantPanic(t *testing.T, want string, fn func()) {
	t.Helper()
	defer func() {
		if r := recover(); want != "" && r != want || want == "" && r != nil {
			t.Errorf("panic: %v\nwant %s", r, want)
		}
	}()
	fn()
}

func TestDrainNeedsThem(t *testing.T) {
	d := health.NewDrain(health.DrainConfig{})
	wantPanic(t, "health: Drain.Serve: nil server", func() { d.Serve("http", nil, nil) })
	wantPanic(t, "health: Drain.Defer: nil function", func() { d.Defer("db", nil) })
}

func TestDrainSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, log := started(t, health.Config{}), newDrainLog()
		var d *health.Drain
		state := func(what string) {
			log.note(fmt.Sprintf("%s: %s, live %v, ready %v, draining %v, ended %v", what,
				h.Report().Phase, h.Live(), h.Ready(), d.Draining(), d.Context().Err() != nil))
		}
		d = health.NewDrain(health.DrainConfig{
			Name:    "api",
			Health:  h,
			OnBegin: func() { state("OnBegin") },
		})
		d.Defer("pool", func(context.Context) error { state("pool"); return nil })
		d.Defer("buffer", func(ctx context.Context) error {
			state("buffer")
			return after(time.Second, func() {})(ctx)
		})
		for i, name := range []string{"grpc", "http"} {
			wait := after(time.Duration(i+1)*time.Second, func() { state(name) })
			d.Serve(name, &server{shutdown: wait}, nil)
		}
		state("before")
		if err := d.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		state("over")
		log.want(
			t,
			"0s before: ready, live true, ready true, draining false, ended false",
			"0s OnBegin: draining, live true, ready false, draining true, ended false",
			"6s grpc: draining, live true, ready false, draining true, ended false",
			"7s http: draining, live true, ready false, draining true, ended false",
			"7s buffer: stopped, live true, ready false, draining true, ended true",
			"8s pool: stopped, live true, ready false, draining true, ended true",
			"8s over: stopped, live true, ready false, draining true, ended true",
		)
	})
}

// A replica that has never been ready gets no requests that it had to wait for.
func TestDrainDuringStartup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New(health.Config{Gates: []string{"warm"}})
		h.Start(t.Context())
		d := health.NewDrain(health.DrainConfig{Health: h})
		begin := time.Now()
		if err := d.Shutdown(t.Context()); err != nil || time.Since(begin) != 0 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		h.Gate("warm")()
		if h.Ready() {
			t.Error("ready, after the end")
		}
	})
}

func TestDrainWithoutDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := false
		d := health.NewDrain(health.DrainConfig{Delay: -1, OnBegin: func() { told = true }})
		begin := time.Now()
		if err := d.Shutdown(t.Context()); err != nil || time.Since(begin) != 0 || !told {
			t.Errorf("%v after %v, told %v", err, time.Since(begin), told)
		}
	})
}

// Servers that hang are closed by force before Timeout is over; their handlers are warned,
// and hooks have what was kept for them.
func TestDrainByForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newDrainLog()
		d := health.NewDrain(health.DrainConfig{})
		context.AfterFunc(d.Context(), func() {
			log.note("warned: " + context.Cause(d.Context()).Error())
		})
		d.Serve("polite", &server{
			shutdown: after(time.Hour, func() {}),
			close:    func() error { log.note("close polite"); return nil },
		}, nil)
		d.Serve("deaf", &server{
			shutdown: hang(t),
			close:    func() error { return errBroken },
		}, nil)
		d.Serve("dead", &server{
			shutdown: hang(t),
			close:    func() error { return hang(t)(context.Background()) },
		}, nil)
		d.Serve("broken", &server{shutdown: func(context.Context) error { return errBroken }}, nil)
		d.Defer("pool", func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			log.note("pool has " + time.Until(deadline).String())
			return nil
		})
		err := d.Shutdown(t.Context())
		log.note("over")
		const late = "context deadline exceeded"
		wantText(
			t, err,
			"health: drain: polite: "+late,
			"health: drain: deaf: "+late, "broken",
			"health: drain: dead: "+late, ""+late,
			"health: drain: broken: broken",
		)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errBroken) {
			t.Error("it does not match what has failed")
		}
		log.want(
			t,
			"18s warned: health: draining",
			"20s close polite",
			"21s pool has 4s",
			"21s over",
		)
	})
}

// Without hooks the servers have all of the time but what closing may take.
func TestDrainByForceWithoutHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newDrainLog()
		d := health.NewDrain(health.DrainConfig{Delay: -1})
		context.AfterFunc(d.Context(), func() { log.note("warned") })
		d.Serve("http", &server{
			shutdown: hang(t),
			close:    func() error { log.note("close"); return nil },
		}, nil)
		if err := d.Shutdown(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		log.want(t, "17s warned", "19s close")
	})
}

// A hook that hangs has its share of the time and no more; one that is quick leaves its
// share to the others.
func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newDrainLog()
		d := health.NewDrain(health.DrainConfig{Delay: -1, Timeout: 30 * time.Second})
		d.Defer("first", func(context.Context) error { log.note("first"); return errBroken })
		d.Defer("deaf", hang(t))
		d.Defer("slow", after(time.Hour, func() {}))
		d.Defer("panics", func(context.Context) error { panic("at the disco") })
		d.Defer("leaves", func(context.Context) error {
			defer log.note("leaves")
			runtime.Goexit()
			return nil
		})
		d.Defer("adds", func(context.Context) error {
			d.Defer("added", func(context.Context) error { log.note("added"); return nil })
			return nil
		})
		err := d.Shutdown(t.Context())
		log.note("over")
		if err == nil {
			t.Fatal("no error")
		}
		text := err.Error()
		stack := strings.Index(text, "\n\n")
		if stack < 0 || !strings.Contains(text[stack:], "drain_test.go") {
			t.Fatalf("no stack in %s", text)
		}
		end := strings.Index(text, "\nhealth: drain: slow")
		wantText(
			t, errors.New(text[:stack]+text[end:]),
			"health: drain: leaves: has ended its goroutine",
			"health: drain: panics: panic: at the disco",
			"health: drain: slow: context deadline exceeded",
			"health: drain: deaf: context deadline exceeded",
			"health: drain: first: broken",
		)
		log.want(t, "0s added", "0s leaves", "20s first", "20s over")
	})
}

// What goes wrong in a server, or in OnBegin, does not keep the rest from being done.
func TestDrainContains(t *testing.T) {
	for name, fn := range map[string]func(){
		"panic: 7":                func() { panic(7) },
		"has ended its goroutine": runtime.Goexit,
	} {
		synctest.Test(t, func(t *testing.T) {
			log := newDrainLog()
			d := health.NewDrain(health.DrainConfig{OnBegin: fn})
			d.Serve("http", &server{
				shutdown: func(context.Context) error { fn(); return nil },
				close:    func() error { fn(); return nil },
			}, nil)
			d.Serve("grpc", &server{
				shutdown: func(context.Context) error { log.note("grpc"); return nil },
			}, nil)
			d.Defer("pool", func(context.Context) error { log.note("pool"); return nil })
			err := d.Shutdown(t.Context())
			for _, who := range []string{"http", "OnBegin"} {
				if !strings.Contains(err.Error(), "health: drain: "+who+": "+name) {
					t.Errorf("%s is not in:\n%v", who, err)
				}
			}
			log.want(t, "5s grpc", "5s pool")
		})
	}
}

func TestOnBeginHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, wait := newDrainLog(), hang(t)
		d := health.NewDrain(health.DrainConfig{OnBegin: func() { wait(t.Context()) }})
		d.Serve("http", &server{
			shutdown: func(context.Context) error { log.note("http"); return nil },
		}, nil)
		err := d.Shutdown(t.Context())
		wantText(t, err,
			"health: drain: OnBegin: context deadline exceeded")
		log.note("over")
		log.want(t, "5s http", "24s over")
	})
}

func TestSecondShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := health.NewDrain(health.DrainConfig{Name: "api"})
		d.Defer("pool", func(context.Context) error { return errBroken })
		var wg sync.WaitGroup
		begin := time.Now()
		for range 3 {
			wg.Go(func() {
				err := d.Shutdown(t.Context())
				wantText(t, err, `health: drain "api": pool: broken`)
				if time.Since(begin) != 5*time.Second {
					t.Errorf("over after %v", time.Since(begin))
				}
			})
		}
		synctest.Wait()
		cause := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		err := d.Shutdown(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
		if time.Since(begin) != time.Second {
			t.Errorf("gave up after %v", time.Since(begin))
		}
		wg.Wait()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 { // what is over is known, whatever the context says
			if err := d.Shutdown(ended); !errors.Is(err, errBroken) {
				t.Fatalf("got %v", err)
			}
		}
	})
}

// The end of its context hurries a drain, in each of its steps, and takes no hook's time.
func TestShutdownInAHurry(t *testing.T) {
	for _, test := range []struct{ at, over time.Duration }{
		{0, 0},
		{3 * time.Second, 3 * time.Second},
		{7 * time.Second, 7 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			log := newDrainLog()
			d := health.NewDrain(health.DrainConfig{})
			d.Serve("http", &server{
				shutdown: after(time.Hour, func() {}),
				close:    func() error { log.note("close"); return nil },
			}, nil)
			d.Defer("pool", func(ctx context.Context) error {
				deadline, _ := ctx.Deadline()
				log.note(fmt.Sprint("pool ", ctx.Err(), " ", time.Until(deadline) > 4*time.Second))
				return nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), test.at)
			defer cancel()
			if err := d.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			log.want(t, test.over.String()+" close", test.over.String()+" pool <nil> true")
		})
	}
}

// Those who stay long are asked one after the other over Delay, the oldest first, those who
// come meanwhile too.
func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newDrainLog()
		d := health.NewDrain(health.DrainConfig{Delay: 10 * time.Second})
		var wg sync.WaitGroup
		join := func(name string) {
			ctx, leave := d.Join(t.Context())
			wg.Go(func() {
				<-ctx.Done()
				if context.Cause(ctx).Error() != "health: draining" {
					t.Error(context.Cause(ctx))
				}
				log.note(name)
				leave()
				leave() // which does nothing
			})
			synctest.Wait()
		}
		for i := range 5 {
			join(fmt.Sprint("stream ", i))
		}
		_, leave := d.Join(t.Context())
		leave() // by itself
		done := make(chan error)
		go func() { done <- d.Shutdown(t.Context()) }()
		time.Sleep(9*time.Second + 950*time.Millisecond)
		join("late")
		if err := <-done; err != nil {
			t.Error(err)
		}
		join("later")
		wg.Wait()
		log.want(
			t,
			"1.9s stream 0", "3.7s stream 1", "5.5s stream 2", "7.3s stream 3", "9s stream 4",
			"10s late", "10s later",
		)
	})
}

// Those who have not left are waited for, as long as there is time.
func TestJoinedAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := health.NewDrain(health.DrainConfig{Delay: -1})
		for i := range 2 {
			_, leave := d.Join(t.Context())
			time.AfterFunc(time.Duration(4+3*i)*time.Second, leave)
		}
		begin := time.Now()
		if err := d.Shutdown(t.Context()); err != nil || time.Since(begin) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		d := health.NewDrain(health.DrainConfig{Delay: -1})
		for i := range 3 {
			_, leave := d.Join(t.Context())
			if i == 0 {
				defer leave()
			} else {
				defer time.AfterFunc(time.Hour, leave).Stop()
			}
		}
		begin := time.Now()
		err := d.Shutdown(t.Context())
		wantText(t, err, "health: drain: Join: 3 have not left: context deadline exceeded")
		if time.Since(begin) != 19*time.Second {
			t.Errorf("over after %v", time.Since(begin))
		}
	})
}

// A context of Join ends with its parent too, and when its caller has left.
func TestJoinedContexts(t *testing.T) {
	d := health.NewDrain(health.DrainConfig{Delay: -1})
	type key struct{}
	parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
	a, leaveA := d.Join(parent)
	b, leaveB := d.Join(t.Context())
	if a.Value(key{}) != "value" || a.Err() != nil {
		t.Errorf("value %v, error %v", a.Value(key{}), a.Err())
	}
	cancel(errBroken)
	if context.Cause(a) != errBroken || b.Err() != nil {
		t.Errorf("the one: %v, the other: %v", context.Cause(a), b.Err())
	}
	leaveA()
	leaveB()
	if b.Err() == nil || context.Cause(b) != context.Canceled {
		t.Errorf("who has left: %v", context.Cause(b))
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestJoinConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := health.NewDrain(health.DrainConfig{Delay: time.Second})
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 7 * time.Millisecond)
				ctx, leave := d.Join(t.Context())
				defer leave()
				if i%3 == 0 {
					return
				}
				<-ctx.Done()
			})
		}
		time.Sleep(100 * time.Millisecond)
		if err := d.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

func TestDrainingAllocates(t *testing.T) {
	d := health.NewDrain(health.DrainConfig{})
	if n := testing.AllocsPerRun(100, func() { d.Draining() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
