package redislimiter_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stormjib/stormjib/redis/redislimiter"
)

// server is a real Redis of the test's own, without a disk.
type server struct {
	addr string
	args []string
	cmd  *exec.Cmd
}

// realRedis starts one on a port that was free a moment ago. Where there is none to be
// started the test is skipped, but not where STORMJIB_REDIS says that there must be one.
func realRedis(t *testing.T) *server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("STORMJIB_REDIS") != "" {
			t.Fatal(err)
		}
		t.Skip("redis-server is not in PATH: install it to run this test")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String()}
	_, port, _ := net.SplitHostPort(s.addr)
	l.Close()
	s.args = []string{
		path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(),
	}
	t.Cleanup(func() { s.kill(t) })
	s.start(t)
	return s
}

// start returns when the server answers.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	defer c.Close()
	for range 1000 {
		if c.Ping(t.Context()).Err() == nil {
			return
		}
		time.Sleep(10 * time.Millisecond) // for a process to start
	}
	t.Fatal("redis-server does not answer: " + filepath.Base(s.args[0]))
}

func (s *server) kill(t *testing.T) {
	t.Helper()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *server) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// The script, on what it was written for.
func TestRealRedis(t *testing.T) {
	r := realRedis(t)
	s := open(t, r.addr, redislimiter.Config{})
	c := client(t, r.addr)
	for i := range 12 {
		d := decide(t, s, "k", of(1e-3, 10), 1, 1)
		if d.OK != (i < 10) || d.Remaining != max(0, 9-i) || d.Source != redislimiter.FromRedis {
			t.Errorf("%d: %+v", i, d)
		}
		switch i {
		case 3:
			c.ScriptFlush(t.Context())
		case 5:
			if ttl := c.PTTL(t.Context(), "limiter:k").Val(); ttl <= 0 || ttl > 6000*time.Second {
				t.Errorf("the key expires in %v", ttl)
			}
		}
	}
	if c.FlushAll(t.Context()); !decide(t, s, "k", of(1e-3, 10), 10, 10).OK {
		t.Error("a flush does not fill the bucket")
	}
}

// Whatever befalls Redis under load, each decision is made, within a Budget and what the
// machine is late; and when it is over Redis is asked again.
func TestRealOutages(t *testing.T) {
	for name, befall := range map[string]func(*testing.T, *server){
		"kill":  func(t *testing.T, r *server) { t.Helper(); r.kill(t) },
		"pause": func(t *testing.T, r *server) { t.Helper(); r.signal(t, syscall.SIGSTOP) },
	} {
		for _, gap := range []time.Duration{0, 50 * time.Millisecond} {
			t.Run(name+", gap "+gap.String(), func(t *testing.T) {
				r := realRedis(t)
				s := open(t, r.addr, redislimiter.Config{Gap: gap, Budget: 50 * time.Millisecond})
				stop := make(chan struct{})
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
								decide(t, s, strconv.Itoa(i%3), of(1000, 300), 1, 1)
							}
						}
					})
				}
				time.Sleep(100 * time.Millisecond) // of load
				befall(t, r)
				await(t, func() bool { return !s.Stats().Up })
				st := s.Stats()
				time.Sleep(300 * time.Millisecond) // of outage
				after := s.Stats()
				if after.FromShare == st.FromShare || after.Calls > st.Calls+20 {
					t.Errorf("%+v, then %+v", st, after)
				}
				if name == "kill" {
					r.start(t)
				} else {
					r.signal(t, syscall.SIGCONT)
				}
				await(t, func() bool { return s.Stats().Up })
				st = s.Stats()
				await(t, func() bool { return s.Stats().FromRedis > st.FromRedis })
				close(stop)
				wg.Wait()
			})
		}
	}
}

// await waits for what a real process does.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it does not happen")
}

// Ten limiters on one Redis let through what one would, with a question a gap each.
func TestRealFleet(t *testing.T) {
	r := realRedis(t)
	c := client(t, r.addr)
	var g grants
	var wg sync.WaitGroup
	var all []*redislimiter.Store
	begun := time.Now()
	for range 10 {
		s := open(t, r.addr, redislimiter.Config{Client: c, Gap: 50 * time.Millisecond})
		all = append(all, s)
		wg.Go(func() {
			for time.Since(begun) < 2*time.Second {
				if decide(t, s, "k", of(1000, 200), 1, 1).OK {
					g.add(1)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	wg.Wait()
	took, calls := time.Since(begun), uint64(0)
	for _, s := range all {
		calls += s.Stats().Calls
	}
	legal := 1000*took.Seconds() + 200
	t.Logf("%.3f of what is legal, %.0f calls/s",
		float64(g.sum())/legal, float64(calls)/took.Seconds())
	if n := float64(g.sum()); n > 1.01*legal || n < .5*legal {
		t.Errorf("%v let through, %v are legal", n, legal)
	}
}
