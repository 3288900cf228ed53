package shed_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

// heap returns what is in use when all that is not has been collected.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// tenants returns a Shedder in which tenants a to d have flows of their own.
func tenants(cfg shed.Config) *shed.Shedder {
	for {
		s := shed.New(cfg)
		shared := false
		for _, pair := range []string{"ab", "ac", "ad", "bc", "bd", "cd", "a", "b", "c", "d"} {
			shared = shared || s.ShareFlow(pair[:1], pair[1:])
		}
		if !shared {
			return s
		}
	}
}

func as(t *testing.T, tenant string) context.Context {
	t.Helper()
	return sender(t, hop.Sender{Tenant: tenant})
}

// serveAll ends one call after the other, each after as long, and returns the order in which
// they were served.
func (l *line) serveAll(first *shed.Permit, each time.Duration) string {
	var order []string
	first.Record(shed.OK)
	for {
		synctest.Wait()
		if len(l.told) == 0 {
			return strings.Join(order, " ")
		}
		served := l.told
		l.told = nil
		order = append(order, served...)
		time.Sleep(each)
		for _, name := range served {
			if p := l.permits[name]; p != nil {
				p.Record(shed.OK)
			}
		}
	}
}

func TestClassesGoFirst(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		l := stand(s)
		for round := range 2 {
			for _, c := range []shed.Criticality{
				shed.Sheddable, shed.CriticalPlus, shed.BestEffort, shed.Critical,
				shed.SheddablePlus,
			} {
				l.join(of(t, c), fmt.Sprint(int(c), ".", round))
			}
		}
		if got, want := l.serveAll(p, 0), "5.0 5.1 4.0 4.1 3.0 3.1 2.0 2.1 1.0 1.1"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

func TestFirstComeFirstServed(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		l := stand(s)
		for i := range 9 {
			l.join(t.Context(), fmt.Sprint(i))
			time.Sleep(time.Millisecond)
		}
		if got, want := l.serveAll(p, 0), "0 1 2 3 4 5 6 7 8"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

// In a class in which somebody has been waiting for 100ms without a break the newest goes
// first; in one that has just come to be, the oldest, still.
func TestLastComeFirstServedInAQueueThatStands(t *testing.T) {
	bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		l := stand(s)
		soon, cancel := context.WithTimeout(t.Context(), 90*time.Millisecond)
		defer cancel()
		l.join(soon, "old")
		time.Sleep(80 * time.Millisecond)
		for i := range 3 {
			l.join(t.Context(), fmt.Sprint(i))
			time.Sleep(8 * time.Millisecond)
		}
		l.join(of(t, shed.CriticalPlus), "plus 0")
		l.join(of(t, shed.CriticalPlus), "plus 1")
		l.want(t, "old:left")
		if got, want := l.serveAll(p, 0), "plus 0 plus 1 2 1 0"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		// It has been empty: it is as any.
		p = take(t, s)
		for i := range 3 {
			l.join(t.Context(), fmt.Sprint(i))
		}
		if got, want := l.serveAll(p, 0), "0 1 2"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

// Exactly at 100ms it is not yet over.
func TestQueueStandsAfter100ms(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		99 * time.Millisecond: "0 1", shed.Standing: "0 1", 101 * time.Millisecond: "1 0",
	} {
		bubble(t, fixed(1), func(t *testing.T, s *shed.Shedder) {
			p := take(t, s)
			l := stand(s)
			soon, cancel := context.WithTimeout(t.Context(), 90*time.Millisecond)
			defer cancel()
			l.join(soon, "old")
			time.Sleep(80 * time.Millisecond)
			l.join(t.Context(), "0")
			l.join(t.Context(), "1")
			time.Sleep(wait - 80*time.Millisecond)
			synctest.Wait()
			l.want(t, "old:left")
			if got := l.serveAll(p, 0); got != want {
				t.Errorf("after %v: %s, want %s", wait, got, want)
			}
		})
	}
}

func TestFullQueueEvictsTheOldestOfTheLowestClass(t *testing.T) {
	cfg := fixed(1)
	cfg.Queue = 4
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		l := stand(s)
		l.join(of(t, shed.Critical), "critical")
		l.join(of(t, shed.Sheddable), "old")
		l.join(of(t, shed.Sheddable), "young")
		l.join(of(t, shed.SheddablePlus), "plus")
		l.join(of(t, shed.BestEffort), "best effort")
		l.want(t, "best effort:queue") // nobody is below it
		l.join(of(t, shed.Sheddable), "another")
		l.want(t, "another:queue") // nor below this one
		l.join(of(t, shed.CriticalPlus), "1")
		l.want(t, "old:evicted")
		l.join(of(t, shed.Critical), "2")
		l.want(t, "young:evicted")
		l.join(of(t, shed.Critical), "3")
		l.want(t, "plus:evicted")
		l.join(of(t, shed.Critical), "4")
		l.want(t, "4:queue")
		l.join(of(t, shed.CriticalPlus), "5")
		l.want(t, "critical:evicted")
		wantUse(t, s, 1, 4)
		got := s.Stats().Refused
		if want := [...]uint64{0, 1, 3, 1, 2, 0}; got != want {
			t.Errorf("refused %v, want %v", got, want)
		}
		if got, want := l.serveAll(p, 0), "1 5 2 3"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

// Who is evicted has an error to go elsewhere with.
func TestEvictedIsToldWhenToComeBack(t *testing.T) {
	cfg := fixed(1)
	cfg.Queue = 1
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		take(t, s)
		failed := make(chan error, 1)
		go func() { failed <- s.Do(of(t, shed.Sheddable), ok) }()
		synctest.Wait()
		stand(s).join(t.Context(), "higher")
		e := refusedFor(t, <-failed, shed.Evicted)
		if e.Class != shed.Sheddable || e.RetryAfter() <= 0 || !e.NotAttempted() {
			t.Errorf("%+v", e)
		}
	})
}

// Within a class the tenant with the most in line makes room for one with less.
func TestFullQueueEvictsOfTheMostCrowdedTenant(t *testing.T) {
	cfg := fixed(1)
	cfg.Queue = 4
	synctest.Test(t, func(t *testing.T) {
		s := tenants(cfg)
		take(t, s)
		l := stand(s)
		for i := range 4 {
			l.join(as(t, "a"), fmt.Sprint("a", i))
		}
		l.join(as(t, "a"), "a4")
		l.want(t, "a4:queue")
		l.join(as(t, "b"), "b0")
		l.want(t, "a0:evicted")
		l.join(as(t, "b"), "b1")
		l.want(t, "a1:evicted")
		l.join(as(t, "b"), "b2")
		l.want(t, "b2:queue") // it would have more than a
		l.join(as(t, "a"), "a5")
		l.want(t, "a5:queue")
		l.join(as(t, "c"), "c0")
		l.join(as(t, "d"), "d0") // now all have one
		if got := s.Stats().Waiting; got != 4 || len(l.told) != 2 {
			t.Errorf("%d wait, and it told %v", got, l.told)
		}
		for _, what := range l.told {
			if !strings.HasSuffix(what, ":evicted") {
				t.Errorf("%s", what)
			}
		}
		l.told = nil
		l.join(as(t, "c"), "c1")
		l.want(t, "c1:queue")
	})
}

// Tenants take turns, however many calls one of them has in line.
func TestTenantsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tenants(fixed(1))
		p := take(t, s)
		l := stand(s)
		for i := range 6 {
			l.join(as(t, "a"), fmt.Sprint("a", i))
		}
		for _, name := range []string{"b0", "b1", "c0", "b2"} {
			l.join(as(t, name[:1]), name)
		}
		got := strings.Fields(l.serveAll(p, time.Millisecond))
		// Which of them is first is nobody's business. Of a first turn each has one.
		for turn, want := range []string{"abc", "ab", "ab"} {
			have := ""
			for range want {
				have += got[0][:1]
				got = got[1:]
			}
			for _, tenant := range want {
				if !strings.ContainsRune(have, tenant) {
					t.Errorf("turn %d was of %s, want %s", turn, have, want)
				}
			}
		}
	})
}

// What is fair is time, not calls: one whose calls take four times as long gets a fourth of
// them. There is one slot.
func TestTenantsGetTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tenants(fixed(1))
		begun := time.Now()
		var used [2]time.Duration
		var wg sync.WaitGroup
		for i, takes := range []time.Duration{4 * time.Millisecond, time.Millisecond} {
			for range 4 {
				wg.Go(func() {
					ctx := as(t, "ab"[i:i+1])
					for time.Since(begun) < 10*time.Second {
						err := s.Do(ctx, func(context.Context) error {
							time.Sleep(takes)
							used[i] += takes // one slot: one at a time
							return nil
						})
						if err != nil { // the newest goes first: some wait for too long
							time.Sleep(time.Millisecond)
						}
					}
				})
			}
		}
		wg.Wait()
		for i, u := range used {
			if u < 4500*time.Millisecond || u > 5500*time.Millisecond {
				t.Errorf("tenant %c had %v of 10s", "ab"[i], u)
			}
		}
	})
}

// A tenant that was away has no claim to what it did not use then.
func TestAwayTenantHasNoClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tenants(fixed(1))
		p := take(t, s)
		l := stand(s)
		for i := range 20 { // a alone has its calls, each of a millisecond
			l.join(as(t, "a"), fmt.Sprint(i))
			p.Record(shed.OK)
			synctest.Wait()
			l.want(t, fmt.Sprint(i))
			p = l.permits[fmt.Sprint(i)]
			time.Sleep(time.Millisecond)
		}
		for i := range 6 {
			l.join(as(t, "a"), fmt.Sprint("a", i))
			l.join(as(t, "b"), fmt.Sprint("b", i))
		}
		p.Record(shed.OK)
		run, longest := 0, 0
		for range 12 {
			synctest.Wait()
			name := l.told[0]
			l.told = nil
			if run++; name[0] == 'a' {
				run = 0
			}
			longest = max(longest, run)
			time.Sleep(time.Millisecond)
			l.permits[name].Record(shed.OK)
		}
		if longest > 2 {
			t.Errorf("b had %d calls in a row for having been away", longest)
		}
	})
}

// However many of a higher class come, one in 64 is of the lowest that waits.
func TestLowestClassIsNotStarved(t *testing.T) {
	cfg := fixed(1)
	cfg.Queue = 500
	bubble(t, cfg, func(t *testing.T, s *shed.Shedder) {
		p := take(t, s)
		l := stand(s)
		for i := range 200 {
			l.join(of(t, shed.CriticalPlus), fmt.Sprint(i))
			if i < 3 {
				l.join(of(t, shed.BestEffort), fmt.Sprint("low", i))
				l.join(of(t, shed.Critical), fmt.Sprint("mid", i))
			}
		}
		var when []int
		for i, name := range strings.Fields(l.serveAll(p, 0)) {
			if strings.HasPrefix(name, "low") {
				when = append(when, i+1)
			}
		}
		want := []int{shed.EveryNth, 2 * shed.EveryNth, 3 * shed.EveryNth}
		if fmt.Sprint(when) != fmt.Sprint(want) {
			t.Errorf("they were served as %v, want %v", when, want)
		}
	})
}

// In the hash of a tenant there is a seed: which tenants share a flow is not the same
// everywhere, nor to be found out from outside.
func TestTenantsShareFlowsByChance(t *testing.T) {
	together := 0
	for range 4000 {
		if shed.New(shed.Config{}).ShareFlow("mine", "yours") {
			together++
		}
	}
	if together == 0 || together > 200 { // one in 64 to 256 is what is expected
		t.Errorf("two tenants are together in %d of 4000 Shedders", together)
	}
}
