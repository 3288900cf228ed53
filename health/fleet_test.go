package health_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
)

// A fleet is a hundred replicas that share a database, in virtual time.
type fleet struct {
	db       dependency
	replicas []*health.Health

	mu      sync.Mutex
	unready []int // in the past, every tenth of a second
	lag     int   // of what Peers knows, in tenths of a second
}

const fleetSize = 100

// newFleet starts the replicas. A deploy takes them a quarter of a minute, or none.
func newFleet(t *testing.T, cfg health.Config, check health.Check, rollout time.Duration) *fleet {
	t.Helper()
	f := &fleet{}
	check.Name, check.Func = "db", f.db.check
	cfg.Checks, cfg.Peers = []health.Check{check}, f.peers
	for range fleetSize {
		h := health.New(cfg)
		f.replicas = append(f.replicas, h)
		h.Start(t.Context())
		time.Sleep(rollout / fleetSize)
	}
	synctest.Wait()
	return f
}

// peers knows what was so some time ago.
func (f *fleet) peers() (total, unready int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.unready) <= f.lag {
		return fleetSize, 0
	}
	return fleetSize, f.unready[len(f.unready)-1-f.lag]
}

func (f *fleet) ready() int {
	n := 0
	for _, h := range f.replicas {
		if h.Ready() {
			n++
		}
	}
	return n
}

// pass lets time pass and returns the fewest and the most that were ready in it.
func (f *fleet) pass(d time.Duration) (fewest, most int) {
	const tick = 100 * time.Millisecond
	fewest = fleetSize
	for range d / tick {
		time.Sleep(tick)
		synctest.Wait()
		n := f.ready()
		f.mu.Lock()
		f.unready = append(f.unready, fleetSize-n)
		f.mu.Unlock()
		fewest, most = min(fewest, n), max(most, n)
	}
	return fewest, most
}

// The database is gone for half a minute.
func TestFleetBlip(t *testing.T) {
	tests := []struct {
		name   string
		cfg    health.Config
		check  health.Check
		lag    int
		fewest int
		most   int // of the fewest: the bare one must show something
	}{
		{"a plain deep check", health.Config{}, health.Check{Class: health.Local}, 0, 0, 0},
		{"classes", health.Config{}, health.Check{}, 0, 100, 100},
		{"shed with the guard", health.Config{}, health.Check{Shed: true}, 0, 67, 99},
		{"peers known late", health.Config{}, health.Check{Shed: true}, 20, 60, 99},
		{
			"shed without a guard",
			health.Config{HoldDown: -1, MaxUnready: 1},
			health.Check{Shed: true},
			0, 0, 5,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for range 3 {
				synctest.Test(t, func(t *testing.T) {
					f := newFleet(t, test.cfg, test.check, 20*time.Second)
					f.lag = test.lag
					if fewest, _ := f.pass(time.Minute); fewest != fleetSize {
						t.Errorf("%d ready before", fewest)
					}
					f.db.down.Store(true)
					fewest, _ := f.pass(30 * time.Second)
					f.db.down.Store(false)
					after, _ := f.pass(30 * time.Second)
					fewest = min(fewest, after)
					t.Logf("at least %d ready", fewest)
					if fewest < test.fewest || fewest > test.most {
						t.Errorf("%d ready, want %d to %d", fewest, test.fewest, test.most)
					}
					if n := f.ready(); n != fleetSize {
						t.Errorf("%d ready half a minute later", n)
					}
				})
			}
		})
	}
}

// The database is gone for a while: those who left come back, and nobody else leaves then.
func TestFleetOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, health.Config{}, health.Check{Shed: true}, 0)
		f.lag = 20
		f.pass(time.Minute)
		f.db.down.Store(true)
		fewest, _ := f.pass(10 * time.Minute)
		t.Logf("at least %d ready", fewest)
		if fewest < 60 {
			t.Errorf("%d ready", fewest)
		}
		if n := f.ready(); n != fleetSize {
			t.Errorf("%d ready in the end", n)
		}
	})
}

// Without anybody to ask, about a third leaves.
func TestFleetWithoutPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := 0
		const fleets = 4
		for range fleets {
			f := &fleet{}
			for range fleetSize {
				h := health.New(shedding(&f.db, nil))
				h.Start(t.Context())
				f.replicas = append(f.replicas, h)
			}
			synctest.Wait()
			f.db.down.Store(true)
			fewest, _ := f.pass(time.Minute)
			left += fleetSize - fewest
		}
		if share := float64(left) / fleets / fleetSize; share < 0.23 || share > 0.44 {
			t.Errorf("%.2f of all left, want about a third", share)
		}
	})
}

// All are restarted while the database is down.
func TestFleetRestart(t *testing.T) {
	tests := []struct {
		name  string
		check health.Check
		least int
		most  int
	}{
		{"a plain deep check", health.Check{Class: health.Local}, 0, 0},
		{"classes", health.Check{}, 90, 100},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fleet{}
				f.db.down.Store(true)
				test.check.Name, test.check.Func = "db", f.db.check
				for range fleetSize {
					h := health.New(health.Config{Checks: []health.Check{test.check}})
					h.Start(t.Context())
					f.replicas = append(f.replicas, h)
					time.Sleep(100 * time.Millisecond) // ten seconds for all of them
				}
				f.pass(65 * time.Second)
				t.Logf("%d ready within 75 s", f.ready())
				if n := f.ready(); n < test.least || n > test.most {
					t.Errorf("%d ready within 75 s", n)
				}
			})
		})
	}
}

// A fleet that comes up with the database down does not leave in step when it may leave.
func TestFleetRestartShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{lag: 10}
		f.db.down.Store(true)
		for range fleetSize {
			h := health.New(shedding(&f.db, func() (int, int) {
				total, unready := f.peers()
				if unready == fleetSize {
					unready = 0 // the worst that is known: that all are well, when none was yet
				}
				return total, unready
			}))
			h.Start(t.Context())
			f.replicas = append(f.replicas, h)
		}
		f.pass(time.Minute)
		fewest, _ := f.pass(5 * time.Minute)
		t.Logf("at least %d ready", fewest)
		if fewest < 60 {
			t.Errorf("%d ready", fewest)
		}
	})
}
