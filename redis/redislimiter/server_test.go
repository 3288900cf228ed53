package redislimiter_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/redis/redislimiter"
)

// server is a real Redis of the test's own, without a disk.
type server struct {
	addr string
	args []string
	cmd  *exec.Cmd
}

// realRedis starts one on a port that was free a moment ago, with further arguments, of which
// the first may be a file with its configuration. Where there is none to be
// started the test is skipped, but not where STORMJIB_REDIS says that there must be one.
func realRedis(t *testing.T, args ...string) *server {
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
	s.args = []string{path}
	if len(args) > 0 && !strings.HasPrefix(args[0], "--") { // a file comes first
		s.args, args = append(s.args, args[0]), args[1:]
	}
	s.args = append(s.args,
		"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	s.args = append(s.args, args...)
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

// A flush fills buckets, and takes the script with it. Under load that is no failure.
func TestRealFlush(t *testing.T) {
	r := realRedis(t)
	c := client(t, r.addr)
	for _, gap := range []time.Duration{0, 50 * time.Millisecond} {
		s := open(t, r.addr, redislimiter.Config{Gap: gap, Budget: time.Second})
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
		for range 20 {
			before := s.Stats().Calls
			c.FlushAll(t.Context())
			c.ScriptFlush(t.Context())
			await(t, func() bool { return s.Stats().Calls > before+2 })
		}
		close(stop)
		wg.Wait()
		if st := s.Stats(); st.Failures != 0 || st.Outages != 0 || st.FromShare != 0 {
			t.Errorf("gap %v: %+v", gap, st)
		}
	}
}

// A clock that goes back, as that of another master may, gives nothing away, and holds
// nothing back: the bucket goes on from what was in it.
func TestRealClockStep(t *testing.T) {
	r := realRedis(t)
	c := client(t, r.addr)
	s := open(t, r.addr, redislimiter.Config{})
	limit := of(1e-3, 10)
	decide(t, s, "k", limit, 7, 7)
	stored := strings.Fields(c.Get(t.Context(), "limiter:k").Val())
	stamp, err := strconv.ParseInt(stored[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	ahead := strconv.FormatInt(stamp+int64(time.Hour/time.Microsecond), 10)
	c.Set(t.Context(), "limiter:k", ahead+" "+stored[1], 0)
	for i := range 4 {
		if d := decide(t, s, "k", limit, 1, 1); d.OK != (i < 3) {
			t.Errorf("%d: %+v", i, d)
		}
	}
	now, _, _ := strings.Cut(c.Get(t.Context(), "limiter:k").Val(), " ")
	if got, err := strconv.ParseInt(now, 10, 64); err != nil || got > stamp+60e6 {
		t.Errorf("the step is not noted: %s, before %d: %v", now, stamp, err)
	}
}

// A cluster, though one of a single node: the key is where its hash says, and each script
// has one key.
func TestRealCluster(t *testing.T) {
	r := realRedis(t, "--cluster-enabled", "yes")
	c := client(t, r.addr)
	if err := c.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		return strings.Contains(c.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	cluster := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{r.addr}, ContextTimeoutEnabled: true,
	})
	defer cluster.Close()
	for _, gap := range []time.Duration{0, 50 * time.Millisecond} {
		s := redislimiter.New(redislimiter.Config{
			Client: cluster, Gap: gap, Budget: time.Second, Fail: redislimiter.FailClosed,
		})
		for i := range 20 {
			key := gap.String() + strconv.Itoa(i)
			for j := range 3 {
				if d := decide(t, s, key, of(1e-3, 2), 1, 1); d.OK != (j < 2) {
					t.Errorf("gap %v, %s, %d: %+v", gap, key, j, d)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A client that finds its master by a Sentinel.
func TestRealSentinel(t *testing.T) {
	r := realRedis(t)
	_, port, _ := net.SplitHostPort(r.addr)
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := "sentinel monitor limits 127.0.0.1 " + port + " 1\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := realRedis(t, config, "--sentinel")
	c := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: "limits", SentinelAddrs: []string{sentinel.addr},
		ContextTimeoutEnabled: true, MaxRetries: -1,
	})
	defer c.Close()
	s := redislimiter.New(redislimiter.Config{
		Client: c, Budget: 10 * time.Second, Fail: redislimiter.FailClosed,
	})
	for i := range 4 {
		if d := decide(t, s, "k", of(1e-3, 3), 1, 1); d.OK != (i < 3) {
			t.Errorf("%d: %+v", i, d)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// What ten replicas let through, of what is legal: with the whole limit in each, a tenth of
// it in each, and one that they share by leases; while all are asked, and while all
// connections lead to one of them.
func TestRealFleet(t *testing.T) {
	r := realRedis(t)
	c := client(t, r.addr)
	local := func(share int) func() limiter.Store {
		return func() limiter.Store {
			return scaled{limiter.NewKeyed(limiter.KeyedConfig[string]{}), share}
		}
	}
	var leased []*redislimiter.Store
	leases := func() limiter.Store {
		s := open(t, r.addr, redislimiter.Config{Client: c, Gap: 50 * time.Millisecond})
		leased = append(leased, s)
		return s
	}
	for _, test := range []struct {
		name        string
		store       func() limiter.Store
		asked       int // replicas
		least, most float64
	}{
		{"the whole limit in each", local(1), 10, 2, 11},
		{"the whole limit in each, sticky", local(1), 1, .5, 1.01},
		{"a tenth in each", local(10), 10, .5, 1.01},
		{"a tenth in each, sticky", local(10), 1, 0, .2},
		{"leases", leases, 10, .5, 1.01},
		{"leases, sticky", leases, 1, .5, 1.01},
	} {
		c.FlushAll(t.Context())
		leased = nil
		var replicas []limiter.Store
		for range 10 {
			replicas = append(replicas, test.store())
		}
		got, took := admitted(t, replicas[:test.asked])
		calls := uint64(0)
		for _, s := range leased {
			calls += s.Stats().Calls
		}
		share := got / (1000*took.Seconds() + 200)
		t.Logf("%-32s %6.3f of what is legal, %4.0f calls/s",
			test.name, share, float64(calls)/took.Seconds())
		if share < test.least || share > test.most {
			t.Errorf("%s: %.3f of what is legal", test.name, share)
		}
	}
}

// admitted returns what replicas let through of 1000 a second and a burst of 200, in which
// time.
func admitted(t *testing.T, replicas []limiter.Store) (n float64, took time.Duration) {
	t.Helper()
	var g grants
	var wg sync.WaitGroup
	begun := time.Now()
	for _, s := range replicas {
		for range 20 / len(replicas) {
			wg.Go(func() {
				for time.Since(begun) < 1500*time.Millisecond {
					r, err := s.Take(t.Context(), "k", of(1000, 200), 1, 1)
					if err != nil {
						t.Error(err)
						return
					}
					if r.OK {
						g.add(1)
					}
					time.Sleep(time.Millisecond) // for the next call to come
				}
			})
		}
	}
	wg.Wait()
	return float64(g.sum()), time.Since(begun)
}

// scaled is a share of each limit.
type scaled struct {
	limiter.Store

	share int
}

func (s scaled) Take(
	ctx context.Context, key string, l limiter.Limit, most, least int,
) (limiter.Result, error) {
	l = limiter.Limit{Rate: l.Rate / rate.Limit(s.share), Burst: l.Burst / s.share}
	return s.Store.Take(ctx, key, l, most, least)
}
