package health_test

import (
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/health"
)

// shedding has a check with Shed, and Peers.
func shedding(db *dependency, peers func() (int, int)) health.Config {
	return health.Config{
		Checks: []health.Check{{Name: "db", Func: db.check, Shed: true}},
		Peers:  peers,
	}
}

// How a replica leaves for a check with Shed, and comes back.
func TestShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db dependency
		var asked atomic.Int64
		h := started(t, shedding(&db, func() (int, int) { asked.Add(1); return 30, 0 }))
		wantPhase(t, h, "ready")
		db.down.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		wantPhase(t, h, "unready")
		if r := result(t, h, "db"); r.Status != fail || asked.Load() != 1 || !h.Live() {
			t.Errorf("asked %d times: %+v", asked.Load(), r)
		}
		time.Sleep(2 * time.Minute)
		wantPhase(t, h, "ready") // that is long enough
		if r := result(t, h, "db"); r.Status != warn || asked.Load() != 1 {
			t.Errorf("asked %d times: %+v", asked.Load(), r)
		}
		db.down.Store(false)
		time.Sleep(time.Minute)
		db.down.Store(true)
		time.Sleep(time.Minute)
		wantPhase(t, h, "unready")
		db.down.Store(false)
		time.Sleep(10 * time.Second)
		wantPhase(t, h, "ready")
	})
}

// Every way in which Peers does not say that one may leave.
func TestPeersSayNo(t *testing.T) {
	for name, peers := range map[string]func() (int, int){
		"too many":  func() (int, int) { return 30, 10 },
		"nobody":    func() (int, int) { return 0, 0 },
		"nonsense":  func() (int, int) { return -1, -1 },
		"panic":     func() (int, int) { panic("no peers") },
		"goexit":    func() (int, int) { runtime.Goexit(); return 100, 0 },
		"for ever":  func() (int, int) { select {} },
		"and panic": func() (total, unready int) { defer func() { panic(1) }(); return 100, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var db dependency
				var asked atomic.Int64
				over := make(chan struct{})
				defer close(over)
				cfg := shedding(&db, func() (int, int) {
					asked.Add(1)
					if name == "for ever" {
						<-over
						return 0, 0
					}
					return peers()
				})
				cfg.OnChange = func(c health.Change) {
					if c.Phase == "unready" {
						t.Errorf("left: %+v", c)
					}
				}
				if name == "nonsense" {
					cfg.MaxUnready = 0.999 // the chance of who has no Peers
				}
				h := started(t, cfg)
				db.down.Store(true)
				time.Sleep(time.Hour)
				synctest.Wait()
				wantPhase(t, h, "ready")
				most := 1
				if name == "for ever" {
					most = 2
				}
				if wantGoroutines(t, most); asked.Load() != 1 {
					t.Errorf("asked %d times", asked.Load())
				}
				want := name == "panic" || name == "and panic"
				if got := h.Report().Notes; slices.Contains(got, "panics of Peers: 1") != want {
					t.Errorf("notes %q", got)
				}
				db.down.Store(false)
				time.Sleep(time.Minute)
				if got := result(t, h, "db").Status; got != pass {
					t.Errorf("back, and %v", got)
				}
				h.Stop()
			})
		})
	}
}

// An answer that comes when the outage is over is no answer.
func TestPeersLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db dependency
		cfg := shedding(&db, func() (int, int) {
			db.down.Store(false)
			time.Sleep(time.Minute)
			return 100, 0
		})
		cfg.OnChange = func(c health.Change) {
			if c.Phase == "unready" {
				t.Errorf("left: %+v", c)
			}
		}
		h := started(t, cfg)
		db.down.Store(true)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		wantPhase(t, h, "ready")
	})
}

// Nor is one that comes after Stop.
func TestPeersAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db dependency
		asked := make(chan struct{})
		h := started(t, shedding(&db, func() (int, int) {
			close(asked)
			time.Sleep(time.Minute)
			return 100, 0
		}))
		db.down.Store(true)
		<-asked
		h.Stop()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := result(t, h, "db").Status; got != warn {
			t.Errorf("%v after Stop", got)
		}
	})
}

// A check that hangs is one that is down, for Peers too.
func TestShedHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, health.Config{
			Checks: []health.Check{{Name: "db", Func: hang(t), Shed: true}},
			Peers:  func() (int, int) { return 10, 0 },
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		wantPhase(t, h, "ready")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		wantPhase(t, h, "unready")
		if r := result(t, h, "db"); r.Status != fail || !r.Stuck {
			t.Errorf("%+v", r)
		}
		time.Sleep(2 * time.Minute)
		wantPhase(t, h, "ready")
	})
}
