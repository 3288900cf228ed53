package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib"
)

// protected returns the protections of a scenario's variants but for bare, which has none.
func protected(t *testing.T, scenario string) map[string]func() Protection {
	t.Helper()
	s := find(scenario)
	made := make(map[string]func() Protection)
	for _, v := range s.Variants {
		if v.Name != bareName {
			made[v.Name] = func() Protection { return v.Protect(s.Topology) }
		}
	}
	if len(made) != len(s.Variants)-1 {
		t.Fatalf("%s has no variant %s", scenario, bareName)
	}
	return made
}

// through returns next as the variant calls it, by HTTP where that is what it protects.
func through(p Protection, next call) call {
	if p.HTTP != nil {
		transport := p.HTTP(overCall(next))
		next = func(ctx context.Context, r request) (string, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://dep/"+r.Kind, nil)
			if err != nil {
				return "", err
			}
			res, err := transport.RoundTrip(req)
			if err == nil {
				err = res.Body.Close()
			}
			return sourceLive, err
		}
	}
	if p.Around != nil {
		next = p.Around(next)
	}
	return next
}

// overCall is a transport that asks a call.
type overCall call

func (c overCall) RoundTrip(r *http.Request) (*http.Response, error) {
	_, err := c(r.Context(), request{Kind: r.URL.Path[1:]})
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, err
}

// One dependency that hangs takes its own places and nobody else's.
func TestSlowdepVariants(t *testing.T) {
	for name, protect := range protected(t, "slowdep") {
		synctest.Test(t, func(t *testing.T) {
			ask := through(protect(), func(ctx context.Context, r request) (string, error) {
				if r.Kind == "search" {
					<-ctx.Done()
				}
				return sourceLive, ctx.Err()
			})
			users, leave := context.WithCancel(t.Context())
			for range slowBulkhead {
				go ask(users, request{Kind: "search"})
			}
			synctest.Wait()
			_, err := ask(users, request{Kind: "search"})
			if statusOf(err) != http.StatusServiceUnavailable {
				t.Errorf("%s: one too many is answered with %v", name, err)
			}
			if _, err := ask(users, request{Kind: "prices"}); err != nil {
				t.Errorf("%s: the others are answered with %v", name, err)
			}
			leave()
			synctest.Wait()
			gone, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = ask(gone, request{Kind: "search"})
			if stormjib.NotAttempted(err) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: when the places are free again it is answered with %v", name, err)
			}
		})
	}
}

// A client gets its burst and then its quota, is told so, and is in nobody's way.
func TestAbuseVariants(t *testing.T) {
	for name, protect := range protected(t, "abuse") {
		synctest.Test(t, func(t *testing.T) {
			served := func(http.ResponseWriter, *http.Request) {}
			handler := protect().Server(http.HandlerFunc(served))
			ask := func(client string) *httptest.ResponseRecorder {
				w := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodPost, "/", nil)
				r.Header.Set(clientField, client)
				handler.ServeHTTP(w, r)
				return w
			}
			passed := 0
			for range 20 * abuseQuota { // ten seconds
				w := ask("abuser")
				switch {
				case w.Code == http.StatusOK:
					passed++
				case w.Code != http.StatusTooManyRequests || !tells(w.Header()):
					t.Fatalf("%s: it is told %d %v", name, w.Code, w.Header())
				}
				time.Sleep(time.Second / 2 / abuseQuota)
			}
			if want := abuseBurst + 10*abuseQuota; passed < want-1 || passed > want {
				t.Errorf("%s: %d have passed, want %d", name, passed, want)
			}
			if w := ask("polite"); w.Code != http.StatusOK {
				t.Errorf("%s: another client is told %d", name, w.Code)
			}
		})
	}
}

// Twice the slots are let through, and one more is told so at once.
func TestOverloadTuned(t *testing.T) {
	topology := find("overload").Topology
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		handler := tunedOverload(topology).Server(http.HandlerFunc(
			func(http.ResponseWriter, *http.Request) { <-release }))
		var refused, served atomic.Int64
		ask := func() {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/page", nil))
			if w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") != "" {
				refused.Add(1)
			} else {
				served.Add(1)
			}
		}
		for range 2*topology.Slots + 3 {
			go ask()
		}
		synctest.Wait()
		if refused.Load() != 3 {
			t.Errorf("%d are refused, want 3", refused.Load())
		}
		close(release)
		synctest.Wait()
		if ask(); served.Load() != int64(2*topology.Slots+1) {
			t.Errorf("%d were served", served.Load())
		}
	})
}

// Whoever else is there takes no place of the checkouts.
func TestTwoRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		handler := twoRooms(Topology{Slots: 4})(http.HandlerFunc(
			func(http.ResponseWriter, *http.Request) { <-release }))
		refused := make(map[string]int)
		for _, kind := range []string{"browse", "prefetch", "checkout"} {
			var n atomic.Int64
			for range 10 {
				go func() {
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/"+kind, nil))
					if w.Code == http.StatusServiceUnavailable {
						n.Add(1)
					}
				}()
			}
			synctest.Wait()
			refused[kind] = int(n.Load())
		}
		if got := fmt.Sprint(refused); got != "map[browse:5 checkout:2 prefetch:10]" {
			t.Errorf("of ten each are refused %s", got)
		}
	})
}

// Panels go when as many calls are under way as there are slots.
func TestBrownoutTuned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tunedBrownout(Topology{Slots: 2})
		ask := p.Around(func(ctx context.Context, _ request) (string, error) {
			return sourceLive, sleep(ctx, time.Second)
		})
		for i, want := range []bool{true, true, false} {
			if got := p.Panel(t.Context()); got != want {
				t.Errorf("with %d under way there is a panel: %t", i, got)
			}
			go ask(t.Context(), request{})
			synctest.Wait()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !p.Panel(t.Context()) {
			t.Error("when all is over there is no panel")
		}
	})
}

// What has failed is tried again, what was refused is not, and each time is counted.
func TestComposedTuned(t *testing.T) {
	for err, attempts := range map[error]float64{
		errDropped: 3, &refusal{status: http.StatusServiceUnavailable}: 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			p := tunedComposed(Topology{})
			ask := through(p, func(context.Context, request) (string, error) { return "", err })
			if _, got := ask(t.Context(), request{}); !errors.Is(got, err) {
				t.Errorf("%v becomes %v", err, got)
			}
			var a actor
			if err := a.keep(p); err != nil || attemptsOf(a.final.Stats) != attempts {
				t.Errorf("%v: it counts %s, %v", err, a.final.Stats, err)
			}
		})
	}
}

// The map of the limiters has a bound, whoever comes.
func TestQuotasAreBounded(t *testing.T) {
	q := &quotas{clients: make(map[string]*rate.Limiter)}
	for i := range 25_000 {
		q.of(fmt.Sprint(i))
	}
	if n := len(q.clients); n > 10_000 {
		t.Errorf("it has %d clients", n)
	}
}

// What fits is done at the pace of the store, in the end all of it; the rest is refused.
func TestLevelingVariants(t *testing.T) {
	const more = 100
	for name, protect := range protected(t, "leveling") {
		synctest.Test(t, func(t *testing.T) {
			var done atomic.Int64
			p := protect()
			put := through(p, func(ctx context.Context, _ request) (string, error) {
				done.Add(1)
				return sourceLive, sleep(ctx, time.Second/levelRate)
			})
			accepted, refused := 0, 0
			user, leave := context.WithCancel(t.Context())
			for id := range uint64(levelQueue + levelWorkers + more) {
				_, err := put(user, request{ID: id})
				switch {
				case err == nil:
					accepted++
				case statusOf(err) == http.StatusServiceUnavailable:
					refused++
				default:
					t.Fatalf("%s: %v", name, err)
				}
			}
			leave() // An order is not its user's any more.
			if accepted < levelQueue || refused < more {
				t.Errorf("%s: %d are accepted and %d refused", name, accepted, refused)
			}
			began := time.Now()
			if err := p.Drain(t.Context()); err != nil {
				t.Errorf("%s: draining: %v", name, err)
			}
			took := time.Since(began)
			pace := time.Duration(accepted-1) * time.Second / levelRate
			if int(done.Load()) != accepted || took < pace || took > pace+time.Second {
				t.Errorf("%s: %d of %d are done after %v, want all of them after %v", name,
					done.Load(), accepted, took, pace)
			}
			_, err := put(t.Context(), request{})
			if statusOf(err) != http.StatusServiceUnavailable {
				t.Errorf("%s: when it is over an order is answered with %v", name, err)
			}
			var a actor
			if err := a.keep(p); err != nil || rejected(a.final.Stats) != refused {
				t.Errorf("%s: %d were refused, and it counts %s, %v", name, refused,
					a.final.Stats, err)
			}
		})
	}
}

// An end that takes too long says how much is lost by it.
func TestLevelingEndsAnyway(t *testing.T) {
	for name, protect := range protected(t, "leveling") {
		synctest.Test(t, func(t *testing.T) {
			p := protect()
			release := make(chan struct{})
			put := through(p, func(context.Context, request) (string, error) {
				<-release
				return sourceLive, nil
			})
			for id := range uint64(2 * levelWorkers) {
				put(t.Context(), request{ID: id})
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := p.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			close(release)
			time.Sleep(time.Minute) // Its workers end with their orders.
		})
	}
}

// One call for all who ask, whoever leaves; and the old page when there is no new one.
func TestStampedeVariants(t *testing.T) {
	failed := errors.New("failed")
	for name, protect := range protected(t, "stampede") {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int64
			var down atomic.Bool
			ask := through(protect(), func(ctx context.Context, _ request) (string, error) {
				calls.Add(1)
				if down.Load() {
					return "", failed
				}
				return sourceLive, sleep(ctx, 250*time.Millisecond)
			})
			first, leave := context.WithCancel(t.Context())
			go ask(first, request{Kind: "page"})
			synctest.Wait()
			for range 9 {
				go func() {
					source, err := ask(t.Context(), request{Kind: "page"})
					if source != sourceLive {
						t.Errorf("%s: one of those who wait gets %q, %v", name, source, err)
					}
				}()
			}
			synctest.Wait()
			leave()
			time.Sleep(time.Second)
			if calls.Load() != 1 {
				t.Errorf("%s: %d calls for ten who ask", name, calls.Load())
			}
			down.Store(true)
			time.Sleep(pageTTL)
			for range 10 {
				if source, err := ask(t.Context(), request{Kind: "page"}); source != sourceStale {
					t.Errorf("%s: when the store is down they get %q, %v", name, source, err)
				}
				time.Sleep(time.Second)
			}
			time.Sleep(pageStale)
			if source, err := ask(t.Context(), request{Kind: "page"}); !errors.Is(err, failed) {
				t.Errorf("%s: much later they get %q, %v", name, source, err)
			}
		})
	}
}
