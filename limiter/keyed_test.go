package limiter_test

import (
	"context"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
)

func keyed(l limiter.Limit) *limiter.Keyed[string] {
	return limiter.NewKeyed(limiter.KeyedConfig[string]{Name: "tenants", Limit: l})
}

// inBubble runs f with a Keyed whose time is that of a bubble.
func inBubble(t *testing.T, l limiter.Limit, f func(*testing.T, *limiter.Keyed[string])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, keyed(l)) })
}

// remains fails unless a key has so many tokens.
func remains[K comparable](t *testing.T, k *limiter.Keyed[K], key K, want int) {
	t.Helper()
	if got := k.Check(key, 0).Remaining; got != want {
		t.Errorf("key %v has %d tokens, want %d", key, got, want)
	}
}

func TestKeyedConfig(t *testing.T) {
	for _, test := range []struct {
		cfg  limiter.KeyedConfig[string]
		want []string
	}{
		{limiter.KeyedConfig[string]{}, nil},
		{limiter.KeyedConfig[string]{MaxKeys: 1, Limit: perSecond(1)}, nil},
		{
			limiter.KeyedConfig[string]{Name: "a", MaxKeys: -1},
			[]string{`KeyedConfig "a"`, "MaxKeys is -1"},
		},
		{limiter.KeyedConfig[string]{MaxKeys: limiter.MaxKeys + 1}, []string{"MaxKeys is"}},
		{
			limiter.KeyedConfig[string]{MaxKeys: -2, Limit: limiter.Limit{Rate: -1, Burst: -3}},
			[]string{"MaxKeys is -2", "Rate is -1", "Burst is -3"},
		},
	} {
		err := test.cfg.Validate()
		if (err == nil) != (test.want == nil) {
			t.Errorf("%+v: %v", test.cfg, err)
		}
		if err == nil {
			limiter.NewKeyed(test.cfg)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %q lacks %q", test.cfg, err, want)
			}
		}
		func() {
			defer func() {
				if got := recover(); got != err.Error() {
					t.Errorf("NewKeyed panics with %v, want %v", got, err)
				}
			}()
			limiter.NewKeyed(test.cfg)
		}()
	}
	if n := keyed(limiter.Limit{}).Stats().Slots; n < 1<<16 || n > 1<<17 {
		t.Errorf("%d slots", n)
	}
}

func TestKeyedKeys(t *testing.T) {
	inBubble(t, perSecond(3), func(t *testing.T, k *limiter.Keyed[string]) {
		long := strings.Repeat("x", 1<<20)
		keys := []string{"", "a", "b", "a\x00", long, long + "y"}
		for i, key := range keys {
			for range i % 3 {
				if !k.Allow(key) {
					t.Errorf("key %d is refused", i)
				}
			}
		}
		for i, key := range keys {
			remains(t, k, key, 3-i%3)
			if b := k.For(key); b.Check(0) != k.Check(key, 0) {
				t.Errorf("key %d has another bucket", i)
			}
		}
	})
}

func TestKeyedStructKeys(t *testing.T) {
	type key struct{ tenant, route string }
	k := limiter.NewKeyed(limiter.KeyedConfig[key]{Limit: limiter.Limit{Rate: 1e-3, Burst: 1}})
	if !k.Allow(key{"a:b", "c"}) || !k.Allow(key{"a", "b:c"}) || k.Allow(key{"a", "b:c"}) {
		t.Error("keys of two parts are taken for each other")
	}
}

func TestKeyedInterfaceKeys(t *testing.T) {
	k := limiter.NewKeyed(limiter.KeyedConfig[any]{Limit: limiter.Limit{Rate: 1e-3, Burst: 1}})
	if !k.Allow(1) || !k.Allow("1") || !k.Allow(int64(7)) || !k.Allow(nil) || k.Allow(1) {
		t.Error("values of several types are taken for each other")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic for a key that can't be compared")
			}
		}()
		k.Allow([]int{1})
	}()
	if !k.Allow(2) {
		t.Error("refused after a panic")
	}
}

// Nobody can find out elsewhere which keys meet here.
func TestKeyedSeeds(t *testing.T) {
	k, l := keyed(perSecond(1)), keyed(perSecond(1))
	a := limiter.HashOf(k, "a")
	if a == limiter.HashOf(l, "a") || a != limiter.HashOf(k, "a") {
		t.Error("two tables know a key by the same hash, or one by two")
	}
}

func TestKeyedCheck(t *testing.T) {
	limit := limiter.Limit{Rate: 10, Burst: 10}
	inBubble(t, limit, func(t *testing.T, k *limiter.Keyed[string]) {
		const ms = time.Millisecond
		base := limiter.Result{Limit: limit, Name: "tenants"}
		check := func(n int, want limiter.Result) {
			t.Helper()
			want.Limit, want.Name = base.Limit, base.Name
			if got := k.Check("a", n); got != want {
				t.Errorf("Check(%d): %+v, want %+v", n, got, want)
			}
		}
		check(4, limiter.Result{OK: true, Granted: 4, Remaining: 6, ResetAfter: 400 * ms})
		check(7, limiter.Result{Remaining: 6, RetryAfter: 100 * ms, ResetAfter: 400 * ms})
		for _, n := range []int{0, -1, math.MinInt, 11, math.MaxInt} {
			check(n, limiter.Result{
				Remaining: 6, RetryAfter: rate.InfDuration, ResetAfter: 400 * ms,
			})
			if k.For("a").AllowN(n) {
				t.Errorf("AllowN(%d) is true", n)
			}
		}
		time.Sleep(100*ms - time.Nanosecond)
		check(7, limiter.Result{Remaining: 6, RetryAfter: 1, ResetAfter: 300*ms + 1})
		time.Sleep(time.Nanosecond)
		check(7, limiter.Result{OK: true, Granted: 7, ResetAfter: 1000 * ms})
		if r := k.Check("a", 1); r.OK || !errors.Is(r.Err(), limiter.ErrLimited) {
			t.Errorf("%+v: %v", r, r.Err())
		}
		time.Sleep(time.Second)
		if s := k.Stats(); s.Keys != 0 {
			t.Errorf("%d keys owe something", s.Keys)
		}
		if r := k.Check("b", -5); r.Remaining != 10 || k.Stats().Keys != 0 {
			t.Error("who is refused, or looks, gets a place")
		}
	})
}

func TestKeyedWithoutALimitOrARate(t *testing.T) {
	for _, test := range []struct {
		limit limiter.Limit
		ok    bool
	}{
		{limiter.Limit{}, false},
		{limiter.Limit{Burst: 5}, false},
		{limiter.Limit{Rate: rate.Inf}, true},
	} {
		k := keyed(test.limit)
		r := k.Check("a", 100)
		if r.OK != test.ok || k.Allow("a") != test.ok || k.For("a").AllowN(3) != test.ok {
			t.Errorf("%v: %+v", test.limit, r)
		}
		if !test.ok && r.RetryAfter != rate.InfDuration || test.ok && r.Granted != 100 {
			t.Errorf("%v: %+v", test.limit, r)
		}
		if k.Allow("") != test.ok || k.For("a").AllowN(0) || k.For("a").AllowN(-1) {
			t.Errorf("%v: no token is one", test.limit)
		}
		if s := k.Stats(); s.Keys != 0 {
			t.Errorf("%v: %d keys have a place", test.limit, s.Keys)
		}
	}
}

func TestKeyedLimitFor(t *testing.T) {
	limits := map[string]limiter.Limit{
		"paid":  {Rate: 10, Burst: 5},
		"free":  {Rate: 1, Burst: 2},
		"ours":  {Rate: rate.Inf},
		"bad":   {Rate: -1, Burst: 1},
		"worse": {Rate: 1, Burst: 0},
	}
	synctest.Test(t, func(t *testing.T) {
		k := limiter.NewKeyed(limiter.KeyedConfig[string]{
			Limit: perSecond(100),
			LimitFor: func(key string) limiter.Limit {
				if key == "panic" {
					panic(key)
				}
				return limits[key]
			},
		})
		for key, want := range map[string]int{
			"paid": 5, "free": 2, "nobody": 0, "bad": 0, "worse": 0, "ours": 10,
		} {
			got := 0
			for i := range 10 {
				if i%2 == 0 && k.Allow(key) || i%2 == 1 && k.For(key).Allow() {
					got++
				}
			}
			r := k.Check(key, 1)
			if got != want || r.Limit != limits[key] || r.OK != (key == "ours") {
				t.Errorf("%s: %d calls, %+v", key, got, r)
			}
			if want == 0 && r.RetryAfter != rate.InfDuration {
				t.Errorf("%s: %+v", key, r)
			}
		}
		if s := k.Stats(); s.Invalid != 22 || s.Keys != 2 {
			t.Errorf("%+v", s)
		}
		func() {
			defer func() {
				if got := recover(); got != "panic" {
					t.Errorf("LimitFor's panic became %v", got)
				}
			}()
			k.Allow("panic")
		}()
		time.Sleep(time.Second)
		if !k.Allow("paid") {
			t.Error("refused after a panic")
		}
		err := k.SetLimit(perSecond(1))
		if err == nil || !strings.Contains(err.Error(), "LimitFor") {
			t.Errorf("SetLimit beside LimitFor: %v", err)
		}
	})
}

// What a key owes is time, so a limit that changes leaves it as much of that; but never
// more than what makes an empty bucket of the new one.
func TestKeyedLimitForChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := perSecond(3600)
		k := limiter.NewKeyed(limiter.KeyedConfig[string]{
			LimitFor: func(string) limiter.Limit { return limit },
		})
		k.Check("a", 3600) // owes an hour
		limit = limiter.Limit{Rate: 10, Burst: 10}
		if r := k.Check("a", 1); r.OK || r.RetryAfter != 100*time.Millisecond {
			t.Errorf("%+v", r)
		}
		time.Sleep(100 * time.Millisecond)
		if !k.Allow("a") {
			t.Error("an hour's debt stays with a bucket that fills in a second")
		}
		limit = perSecond(20) // to which a debt of a second is one token
		remains(t, k, "a", 19)
	})
}

func TestKeyedSetLimit(t *testing.T) {
	ten := limiter.Limit{Rate: 10, Burst: 10}
	for _, test := range []struct {
		before, after     limiter.Limit
		used, want, fresh int
	}{
		{ten, limiter.Limit{Rate: 1, Burst: 10}, 4, 6, 10},
		{ten, limiter.Limit{Rate: 100, Burst: 10}, 4, 6, 10},
		{ten, limiter.Limit{Rate: 20, Burst: 20}, 4, 16, 20},
		{ten, limiter.Limit{Rate: 10, Burst: 20}, 4, 16, 20},
		{ten, limiter.Limit{Rate: 5, Burst: 3}, 4, 0, 3},
		{ten, limiter.Limit{Rate: 10, Burst: 3}, 4, 0, 3},
		{ten, limiter.Limit{}, 4, 0, 0},
		{ten, limiter.Limit{Rate: rate.Inf}, 4, math.MaxInt, math.MaxInt},
		{limiter.Limit{}, perSecond(10), 4, 10, 10},
		{limiter.Limit{Rate: rate.Inf}, perSecond(10), 4, 10, 10},
		{ten, limiter.Limit{Rate: 7, Burst: 10}, 4, 6, 10},
		// The products need more than 64 bits, and the quotients too.
		{limiter.Limit{Rate: 1e-7, Burst: 6}, limiter.Limit{Rate: 1e-6, Burst: 60}, 4, 56, 60},
		{limiter.Limit{Rate: 1e8, Burst: 1e9}, limiter.Limit{Rate: 1e-6, Burst: 50}, 1e9, 0, 50},
	} {
		inBubble(t, test.before, func(t *testing.T, k *limiter.Keyed[string]) {
			k.Check("a", test.used)
			if err := k.SetLimit(test.after); err != nil {
				t.Fatal(err)
			}
			if r := k.Check("a", 0); r.Remaining != test.want || r.Limit != test.after {
				t.Errorf("%v to %v: %+v, want %d", test.before, test.after, r, test.want)
			}
			remains(t, k, "b", test.fresh)
			if got := k.Stats().Limit; got != test.after {
				t.Errorf("the limit is %v", got)
			}
		})
	}
}

// What is owed by a limit counts until there is another with a rate, and an invalid
// limit changes nothing.
func TestKeyedSetLimitAndBack(t *testing.T) {
	inBubble(t, perSecond(10), func(t *testing.T, k *limiter.Keyed[string]) {
		k.Check("a", 8)
		if err := k.SetLimit(limiter.Limit{Rate: -1}); err == nil {
			t.Error("no error for a limit that is not valid")
		}
		remains(t, k, "a", 2)
		for _, between := range []limiter.Limit{{}, {Rate: rate.Inf}} {
			if err := k.SetLimit(between); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		if err := k.SetLimit(limiter.Limit{Rate: 2, Burst: 10}); err != nil {
			t.Fatal(err)
		}
		remains(t, k, "a", 4)
	})
}

// What was taken by another limit is not a debt of Limit's.
func TestKeyedSetLimitAfterTake(t *testing.T) {
	inBubble(t, limiter.Limit{}, func(t *testing.T, k *limiter.Keyed[string]) {
		if _, err := k.Take(t.Context(), "a", perSecond(10), 4, 4); err != nil {
			t.Fatal(err)
		}
		if err := k.SetLimit(perSecond(10)); err != nil {
			t.Fatal(err)
		}
		remains(t, k, "a", 6)
	})
}

func TestKeyedSetLimitWaitsForSlots(t *testing.T) {
	for range 20 {
		k := limiter.NewKeyed(limiter.KeyedConfig[string]{
			Limit: limiter.Limit{Rate: 1e-2, Burst: 10}, MaxKeys: 1,
		})
		k.Check("a", 4)
		open := limiter.TableOf(k).Find(limiter.HashOf(k, "a")).Close()
		done := make(chan error)
		go func() { done <- k.SetLimit(limiter.Limit{Rate: 1e-3, Burst: 10}) }()
		for range 3 { // each is a time slice, on one processor
			runtime.Gosched()
		}
		if open() {
			t.Error("a slot that was changing hands was written to")
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		remains(t, k, "a", 6)
	}
}

// A call that has begun before a change must not count by the old limit what is owed by
// the new one.
func TestKeyedSetLimitMakesCallsStale(t *testing.T) {
	inBubble(t, limiter.Limit{Rate: 10, Burst: 10}, func(t *testing.T, k *limiter.Keyed[string]) {
		k.Check("old", 9)
		hit, enter := limiter.BeginOf(k, "old"), limiter.BeginOf(k, "new")
		if err := k.SetLimit(perSecond(10)); err != nil {
			t.Fatal(err)
		}
		if !hit.Stale() || !enter.Stale() {
			t.Error("a call went on by a limit that was replaced")
		}
		hit.Lower(9 * limiter.TicksPerSecond)
		remains(t, k, "old", 1)
		remains(t, k, "new", 10)
		if !limiter.BeginOf(k, "old").Stale() && k.Allow("old") {
			t.Error("a second token of one")
		}
	})
}

func TestKeyedRefundAfterSetLimit(t *testing.T) {
	inBubble(t, perSecond(10), func(t *testing.T, k *limiter.Keyed[string]) {
		b := k.For("a")
		r := b.Check(4)
		if err := k.SetLimit(perSecond(5)); err != nil {
			t.Fatal(err)
		}
		limiter.Refund(b, r)
		remains(t, k, "a", 1)
	})
}

func TestDebtFrom(t *testing.T) {
	random := newTableRandom(t)
	for range 100_000 {
		l := limiter.Limit{
			Rate:  rate.Limit(math.Exp(random.Float64()*40 - 20)),
			Burst: 1 + int(math.Exp(random.Float64()*20)),
		}
		if l.Validate() != nil {
			continue
		}
		debt, cost := random.Int64()>>(2+random.IntN(60)), 1+random.Int64()>>(3+random.IntN(59))
		got, own, full := limiter.DebtFrom(l, debt, cost)
		want := new(big.Int).Mul(big.NewInt(debt), big.NewInt(own))
		want.Add(want, big.NewInt(cost-1)).Div(want, big.NewInt(cost))
		if want.Cmp(big.NewInt(full)) > 0 {
			want.SetInt64(full)
		}
		if want.Cmp(big.NewInt(got)) != 0 {
			t.Fatalf("%v: %d by %d is %d, want %v", l, debt, cost, got, want)
		}
	}
}

// While limits change, nobody has more than the greater burst and the higher rate would
// let through.
func TestKeyedSetLimitMeanwhile(t *testing.T) {
	limits := []limiter.Limit{
		{Rate: 1e-3, Burst: 100}, {Rate: 1e-4, Burst: 100}, {Rate: 1e-2, Burst: 100},
	}
	k := keyed(limits[0])
	start := time.Now()
	var wg sync.WaitGroup
	var total [8]atomic.Int64
	var over atomic.Bool
	call := func(i int) bool {
		ok := k.Allow(string(rune('a' + i)))
		if ok {
			total[i].Add(1)
		}
		return ok
	}
	for range 4 {
		wg.Go(func() {
			for !over.Load() {
				call(rand.IntN(8))
				runtime.Gosched() // with one processor the limit would hardly ever change
			}
		})
	}
	for i := range 300 {
		if err := k.SetLimit(limits[i%3]); err != nil {
			t.Error(err)
		}
		runtime.Gosched()
	}
	over.Store(true)
	wg.Wait()
	for i := range total {
		for call(i) { // what is left
		}
	}
	// A key's first call may have been under way at a change.
	most := 104 + int64(time.Since(start).Seconds()/100)
	for i := range total {
		if got := total[i].Load(); got > most || got < 100 {
			t.Errorf("key %d: %d calls, want from 100 to %d", i, got, most)
		}
	}
}

func TestKeyedShadow(t *testing.T) {
	k := limiter.NewKeyed(limiter.KeyedConfig[string]{
		Limit: limiter.Limit{Rate: 1e-3, Burst: 1}, Shadow: true,
	})
	if r := k.Check("a", 1); !r.OK || r.Shadowed || r.Granted != 1 {
		t.Errorf("%+v", r)
	}
	if r := k.Check("a", 1); !r.OK || !r.Shadowed || r.Granted != 0 || r.RetryAfter != 0 {
		t.Errorf("%+v", r)
	}
	r, err := k.Take(t.Context(), "a", limiter.Limit{Rate: 1e-3, Burst: 1}, 1, 1)
	if err != nil || !r.OK || !r.Shadowed {
		t.Errorf("%+v, %v", r, err)
	}
	if !k.Allow("a") || !k.For("a").Allow() || !k.For("a").AllowN(0) {
		t.Error("a shadow refuses")
	}
	if s := k.Stats(); s.Shadowed != 5 {
		t.Errorf("%+v", s)
	}
}

func TestKeyedAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keyed(perSecond(10))
		own := limiter.NewKeyed(limiter.KeyedConfig[int]{
			Name: "own", LimitFor: func(n int) limiter.Limit { return perSecond(n) },
		})
		everybody := limiter.New(limiter.Config{Name: "everybody", Limit: perSecond(3)})
		all := func(n int) limiter.Result {
			return limiter.All(n, own.For(8), k.For("a"), everybody.Bucket())
		}
		if r := all(2); !r.OK || r.Name != "everybody" || r.Remaining != 1 {
			t.Errorf("%+v", r)
		}
		if r := all(2); r.OK || r.Name != "everybody" {
			t.Errorf("%+v", r)
		}
		remains(t, own, 8, 6)
		remains(t, k, "a", 8)
		k.Check("a", 8)
		if r := all(1); r.OK || r.Name != "tenants" {
			t.Errorf("%+v", r)
		}
		remains(t, own, 8, 6)
	})
}

func TestKeyedTake(t *testing.T) {
	inBubble(t, limiter.Limit{}, func(t *testing.T, k *limiter.Keyed[string]) {
		var store limiter.Store = k
		ctx, limit := t.Context(), limiter.Limit{Rate: 10, Burst: 10}
		take := func(
			l limiter.Limit, most, least int, ok bool, granted, remaining int, after time.Duration,
		) {
			t.Helper()
			r, err := store.Take(ctx, "a", l, most, least)
			if err != nil || r.OK != ok || r.Granted != granted || r.Remaining != remaining ||
				r.RetryAfter != after || r.Limit != l || r.Name != "tenants" {
				t.Errorf("Take %d to %d: %+v, %v", least, most, r, err)
			}
		}
		const ms = time.Millisecond
		take(limit, 0, 0, true, 0, 10, 0)
		if s := k.Stats(); s.Keys != 0 {
			t.Error("a look takes a place")
		}
		take(limit, 3, 3, true, 3, 7, 0)
		take(limit, 0, 0, true, 0, 7, 0)
		take(limit, 8, 8, false, 0, 7, 100*ms)
		take(limit, 11, 11, false, 0, 7, rate.InfDuration)
		take(limit, math.MaxInt, 8, false, 0, 7, 100*ms)
		take(limit, 5, 1, true, 5, 2, 0)
		take(limit, math.MaxInt, 1, true, 2, 0, 0) // more than the burst: what there is
		take(limit, 50, 0, true, 0, 0, 0)
		take(limit, 0, 0, true, 0, 0, 0)
		take(limit, 1, 1, false, 0, 0, 100*ms)
		take(limiter.Limit{}, 1, 1, false, 0, 0, rate.InfDuration)
		take(limiter.Limit{}, 0, 0, true, 0, 0, 0)
		take(limiter.Limit{Rate: rate.Inf}, 9, 1, true, 9, math.MaxInt, 0)
		// The other key's limit is its own.
		if r, err := store.Take(ctx, "b", perSecond(5), 9, 2); err != nil || r.Granted != 5 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestKeyedTakeErrors(t *testing.T) {
	inBubble(t, perSecond(10), func(t *testing.T, k *limiter.Keyed[string]) {
		for _, test := range []struct {
			limit       limiter.Limit
			most, least int
		}{
			{limiter.Limit{Rate: -1, Burst: 1}, 1, 1},
			{limiter.Limit{Rate: rate.Limit(math.NaN()), Burst: 1}, 1, 1},
			{limiter.Limit{Rate: 1}, 1, 1},
			{perSecond(10), 1, 2},
			{perSecond(10), 1, -1},
			{perSecond(10), -1, -1},
			{perSecond(10), -5, -7},
			{limiter.Limit{Rate: rate.Inf}, -5, -7},
			{limiter.Limit{}, -1, -1},
		} {
			r, err := k.Take(t.Context(), "a", test.limit, test.most, test.least)
			if err == nil || r != (limiter.Result{}) || errors.Is(err, limiter.ErrLimited) ||
				!strings.HasPrefix(err.Error(), "limiter: ") {
				t.Errorf("%+v: %+v, %v", test, r, err)
			}
		}
		cause := errors.New("left")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		r, err := k.Take(ctx, "a", perSecond(10), 1, 1)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) || r.OK {
			t.Errorf("%+v, %v", r, err)
		}
		remains(t, k, "a", 10)
	})
}

// However many ask at once, and for whatever, a key gets its burst and its rate and no more.
func TestKeyedConformance(t *testing.T) {
	limit := limiter.Limit{Rate: 50_000, Burst: 100}
	k := limiter.NewKeyed(limiter.KeyedConfig[int]{Limit: limit, MaxKeys: 64})
	var got [16]atomic.Int64
	start := time.Now()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20_000 {
				key, n := rand.IntN(len(got)), 1+rand.IntN(5)
				switch rand.IntN(3) {
				case 0:
					got[key].Add(int64(k.Check(key, n).Granted))
				case 1:
					r, err := k.Take(context.Background(), key, limit, n, 1)
					if err != nil {
						t.Error(err)
					}
					got[key].Add(int64(r.Granted))
				default:
					if k.Allow(key) {
						got[key].Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	most := int64(100 + 50_000*time.Since(start).Seconds() + 1)
	for key := range got {
		if n := got[key].Load(); n > most || n < 100 {
			t.Errorf("key %d: %d tokens, want from 100 to %d", key, n, most)
		}
	}
	if s := k.Stats(); s.Evicted != 0 {
		t.Errorf("%+v", s)
	}
}

func TestKeyedCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := limiter.NewKeyed(limiter.KeyedConfig[int]{Limit: perSecond(1), MaxKeys: 1})
		for key := range 100 {
			k.Allow(key)
		}
		if s := k.Stats(); s.Keys != 16 || s.Slots != 16 || s.Crowded != 84 || s.Evicted != 0 {
			t.Errorf("%+v", s)
		}
		if r := k.Check(99, 1); r.OK || r.RetryAfter != time.Second {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Second / 2)
		for key := range 8 {
			if !k.Allow(100 + key) {
				t.Error("the debt of half a token counts")
			}
		}
		if s := k.Stats(); s.Keys != 16 || s.Evicted != 8 {
			t.Errorf("%+v", s)
		}
	})
}

func TestKeyedAllocates(t *testing.T) {
	type pair struct{ tenant, route string }
	slow := limiter.Limit{Rate: 1e-3, Burst: 1}
	k, fast := keyed(slow), keyed(limiter.Limit{Rate: 1e9, Burst: 1000})
	own := limiter.NewKeyed(limiter.KeyedConfig[pair]{
		LimitFor: func(pair) limiter.Limit { return slow },
	})
	crowd := limiter.NewKeyed(limiter.KeyedConfig[int]{Limit: slow, MaxKeys: 1})
	everybody := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1e9, Burst: 1000}})
	nobody := limiter.New(limiter.Config{})
	ctx, key := t.Context(), 0
	for name, f := range map[string]func(){
		"granted":  func() { fast.Allow("a") },
		"refused":  func() { k.Allow("a") },
		"Check":    func() { k.Check("a", 1) },
		"own":      func() { own.Allow(pair{"a", "b"}) },
		"own For":  func() { own.For(pair{"a", "b"}).Check(1) },
		"new keys": func() { key++; crowd.Allow(key) },
		"Take":     func() { _, _ = fast.Take(ctx, "a", slow, 5, 1) },
		"All":      func() { limiter.All(1, fast.For("a"), everybody.Bucket()) },
		"All refused": func() {
			limiter.All(1, fast.For("a"), own.For(pair{"a", "b"}), nobody.Bucket())
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
