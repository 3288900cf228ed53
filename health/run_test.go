package health_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
)

var errServerClosed = errors.New("server closed")

// A listener is a server that serves until it is shut down, which takes it some time.
type listener struct {
	server
	down chan struct{}
}

func newListener(takes time.Duration) *listener {
	l := &listener{down: make(chan struct{})}
	l.shutdown = after(takes, func() { close(l.down) })
	return l
}

// serve returns what that of an http.Server would.
func (l *listener) serve() error {
	<-l.down
	return errServerClosed
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newDrainLog()
		h := health.New(health.Config{Checks: []health.Check{{
			Name: "ping", Class: health.Local, Interval: time.Second, Failures: 1,
			Func: func(ctx context.Context) error { return ctx.Err() },
		}}})
		d := health.NewDrain(health.DrainConfig{
			Health:  h,
			Signals: noSignals(),
			OnBegin: func() { log.note("begin") },
		})
		for i, name := range []string{"http", "grpc"} {
			l := newListener(time.Duration(i+1) * time.Second)
			d.Serve(name, l, func() error {
				log.note("serve")
				defer log.note("served " + name)
				return l.serve()
			})
		}
		d.Serve("elsewhere", &server{}, nil)
		d.Defer("pool", func(context.Context) error {
			log.note("pool, " + h.Report().Phase)
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for _, at := range []time.Duration{10 * time.Second, 34 * time.Second} {
			time.AfterFunc(at, func() {
				// The checks go on in the drain.
				log.note(h.Report().Phase + ", " + h.Report().Checks[0].Status.String())
			})
		}
		if err := health.Run(ctx, d); err != nil {
			t.Error(err)
		}
		log.note("over")
		log.want(
			t,
			"0s serve", "0s serve",
			"10s ready, pass",
			"30s begin",
			"34s draining, pass",
			"36s served http",
			"37s served grpc",
			"37s pool, stopped",
			"37s over",
		)
		wantText(t, health.Run(ctx, d), "health: drain: Run: was called before")
	})
}

// A server that ends takes the others with it, after the delay that they have work for.
func TestRunEndsWithAServer(t *testing.T) {
	tests := []struct {
		name  string
		serve func() error
		want  string
	}{
		{"fails", func() error { return errBroken }, "health: drain: admin: broken"},
		{"ends", func() error { return nil }, ""},
		{
			"panics", func() error { panic("at the disco") },
			"health: drain: admin: panic: at the disco",
		},
		{
			"exits", func() error { runtime.Goexit(); return nil },
			"health: drain: admin: has ended its goroutine",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := health.NewDrain(health.DrainConfig{Signals: noSignals()})
				l := newListener(time.Second)
				d.Serve("http", l, l.serve)
				d.Serve("admin", &server{}, func() error {
					time.Sleep(time.Minute)
					return test.serve()
				})
				begin := time.Now()
				err := health.Run(t.Context(), d)
				if err != nil { // without a stack
					text, _, _ := strings.Cut(err.Error(), "\n")
					err = errors.New(text)
				}
				wantText(t, err, test.want)
				if took := time.Since(begin); took != 66*time.Second {
					t.Errorf("over after %v", took)
				}
			})
		})
	}
}

// A server that cannot start ends everything at once if it was the only one, or if the
// replica has never been ready.
func TestRunFailsAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := health.NewDrain(health.DrainConfig{Signals: noSignals()})
		pool := false
		d.Serve("http", &server{}, func() error { return errBroken })
		d.Defer("pool", func(context.Context) error { pool = true; return errServerClosed })
		begin := time.Now()
		err := health.Run(t.Context(), d)
		wantText(t, err, "health: drain: http: broken", "health: drain: pool: server closed")
		if !errors.Is(err, errBroken) || !errors.Is(err, errServerClosed) {
			t.Errorf("it does not match: %v", err)
		}
		if !pool || time.Since(begin) != 0 {
			t.Errorf("pool %v, over after %v", pool, time.Since(begin))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := health.New(health.Config{Gates: []string{"warm"}})
		d := health.NewDrain(health.DrainConfig{Signals: noSignals(), Health: h})
		l := newListener(0)
		d.Serve("admin", l, l.serve)
		d.Serve("http", &server{}, func() error { return errBroken })
		begin := time.Now()
		err := health.Run(t.Context(), d)
		wantText(t, err, "health: drain: http: broken")
		if time.Since(begin) != 0 {
			t.Errorf("over after %v", time.Since(begin))
		}
	})
}

// What a server says while it still has to serve is told; what it says because it was shut
// down is not.
func TestRunReportsEndsInTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := health.NewDrain(health.DrainConfig{Signals: noSignals()})
		l := newListener(time.Second)
		d.Serve("http", l, l.serve)
		d.Serve("grpc", &server{}, func() error { time.Sleep(3 * time.Second); return errBroken })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantText(t, health.Run(ctx, d), "health: drain: grpc: broken")
	})
}

// What serves has to end before what it needs is closed.
func TestRunWaitsForServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, deaf := newDrainLog(), hang(t)
		d := health.NewDrain(health.DrainConfig{Signals: noSignals(), Delay: -1})
		down := make(chan struct{})
		d.Serve("slow", &server{shutdown: after(0, func() { close(down) })}, func() error {
			<-down
			time.Sleep(3 * time.Second)
			log.note("served")
			return nil
		})
		d.Serve("deaf", &server{
			close: func() error { log.note("close"); return nil },
		}, func() error { return deaf(t.Context()) })
		d.Defer("pool", func(context.Context) error { log.note("pool"); return nil })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		wantText(t, health.Run(ctx, d), "health: drain: deaf: context deadline exceeded")
		log.want(t, "4s served", "16s close", "16s pool")
	})
}

// When the last server has ended there is nothing to delay for.
func TestRunDelayEndsWithTheLastServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := health.NewDrain(health.DrainConfig{Signals: noSignals()})
		for i := range 2 {
			d.Serve("batch", &server{}, func() error {
				time.Sleep(time.Duration(i+1) * 2 * time.Second)
				return nil
			})
		}
		begin := time.Now()
		if err := health.Run(t.Context(), d); err != nil {
			t.Error(err)
		}
		if time.Since(begin) != 4*time.Second {
			t.Errorf("over after %v", time.Since(begin))
		}
	})
}

// Somebody else may begin, before or while it runs.
func TestRunAfterShutdown(t *testing.T) {
	serve := func(t *testing.T) func() error {
		t.Helper()
		return func() error { t.Error("started"); return nil }
	}
	synctest.Test(t, func(t *testing.T) {
		d := health.NewDrain(health.DrainConfig{Signals: noSignals()})
		d.Serve("http", &server{}, serve(t))
		d.Defer("pool", func(context.Context) error { return errBroken })
		done := make(chan error)
		go func() { done <- d.Shutdown(t.Context()) }()
		synctest.Wait()
		begin := time.Now()
		wantText(t, health.Run(t.Context(), d), "health: drain: pool: broken")
		if time.Since(begin) != 5*time.Second {
			t.Errorf("over after %v", time.Since(begin))
		}
		<-done
	})
	synctest.Test(t, func(t *testing.T) {
		d := health.NewDrain(health.DrainConfig{Signals: noSignals()})
		l := newListener(time.Second)
		d.Serve("http", l, l.serve)
		time.AfterFunc(time.Minute, func() { d.Shutdown(t.Context()) })
		begin := time.Now()
		if err := health.Run(t.Context(), d); err != nil {
			t.Error(err)
		}
		if time.Since(begin) != 66*time.Second {
			t.Errorf("over after %v", time.Since(begin))
		}
	})
	synctest.Test(t, func(t *testing.T) { // nothing begins where all has ended
		h := health.New(health.Config{})
		d := health.NewDrain(health.DrainConfig{Signals: noSignals(), Health: h})
		d.Serve("http", &server{}, serve(t))
		closed := false
		d.Defer("pool", func(ctx context.Context) error { closed = true; return ctx.Err() })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begin := time.Now()
		if err := health.Run(ctx, d); err != nil {
			t.Error(err)
		}
		if !closed || h.Report().Phase != "stopped" || time.Since(begin) != 0 {
			t.Errorf("closed %v, %s, after %v", closed, h.Report().Phase, time.Since(begin))
		}
	})
}

// Signals are those of the process, so that these are without a bubble, and without delays.
func interrupt(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send itself a signal")
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

func TestRunUntilASignal(t *testing.T) {
	d := health.NewDrain(health.DrainConfig{Delay: -1})
	l := newListener(0)
	d.Serve("http", l, func() error {
		interrupt(t) // while the servers start
		return l.serve()
	})
	if err := health.Run(t.Context(), d); err != nil {
		t.Error(err)
	}
}

// The process of TestSecondSignal, which it starts from this very test.
func TestSecondSignalProcess(t *testing.T) {
	if os.Getenv("STORMJIB_TEST_DRAIN") == "" {
		t.Skip("not the process")
	}
	d := health.NewDrain(health.DrainConfig{
		Delay:   time.Hour,
		OnBegin: func() { os.Stdout.WriteString("draining\n") },
	})
	l := newListener(0)
	d.Serve("http", l, func() error {
		os.Stdout.WriteString("serving\n")
		return l.serve()
	})
	t.Error(health.Run(t.Context(), d))
}

func TestSecondSignal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no signals to send")
	}
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSecondSignalProcess$")
	process.Env = append(os.Environ(), "STORMJIB_TEST_DRAIN=1")
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for _, want := range []string{"serving\n", "draining\n"} {
		if line, err := lines.ReadString('\n'); line != want {
			t.Fatalf("%q, %v; want %q", line, err, want)
		}
		if err := process.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	rest, _ := io.ReadAll(lines)
	err = process.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() {
		t.Errorf("it ended with %v, and said %q; want a signal", err, rest)
	}
}
