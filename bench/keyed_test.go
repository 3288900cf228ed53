package bench

import (
	"flag"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/httprate"
	"golang.org/x/time/rate"

	"github.com/stormjib/stormjib/limiter"
)

var keyCount = flag.Int("keys", 10_000, "how many keys the benchmarks of keyed limiters have")

// BenchmarkKeyed makes each contender's keys only when it is run, and has one at a time.
func BenchmarkKeyed(b *testing.B)        { keyedBenchmark(b, serial) }
func BenchmarkKeyedCrowded(b *testing.B) { keyedBenchmark(b, crowded) }

func keyedBenchmark(b *testing.B, run func(*testing.B, []contender)) {
	b.Helper()
	keys := newKeyring(*keyCount)
	for _, s := range stores() {
		run(b, []contender{s.full(keys)})
	}
}

const (
	keyed      = "Keyed: granted, a million keys"
	keyedCrowd = "Keyed: granted, a million keys, 16 goroutines"
	hotKey     = "Keyed: one key, denied, 16 goroutines"

	million = 1_000_000
)

// ample is a limit that grants all of a run to each key, and of which none is full again
// before its next turn.
func ample() quota { return quota{million, million * time.Second} }

func keyedRows(n int) []*row {
	keys := newKeyring(n)
	var full, hot []contender
	for _, s := range stores() {
		full = append(full, s.full(keys))
		hot = append(hot, s.hot(keys))
	}
	var rs rows
	rs.add(keyed, 0, full, atMost(200), partOf(4, "¼", keyed, "mutex-map"))
	rs.add(keyedCrowd, crowd, full, partOf(4, "¼", keyedCrowd, "mutex-map"))
	rs.add(hotKey, crowd, hot)
	return rs
}

// A keyring has the same keys in three forms. Strings come in a random order, and lie in
// memory in the order in which they come, as if they had just been read from the wire.
// What a store has kept of them lies elsewhere, and in another order.
type keyring struct {
	strings []string
	numbers []uint64
	pairs   []pairKey
}

// pairKey is a key of two parts.
type pairKey struct{ tenant, route string }

const keySize = 16

func newKeyring(n int) *keyring {
	random := rand.New(rand.NewPCG(1, 4))
	ring := &keyring{
		strings: make([]string, n),
		numbers: make([]uint64, n),
		pairs:   make([]pairKey, n),
	}
	text := make([]byte, 0, n*keySize)
	for i := range ring.numbers {
		ring.numbers[i] = random.Uint64()
		text = appendKey(text, ring.numbers[i])
	}
	all := string(text)
	for i := range ring.strings {
		key := all[i*keySize : (i+1)*keySize]
		ring.strings[i] = key
		ring.pairs[i] = pairKey{key[:keySize/2], key[keySize/2:]}
	}
	return ring
}

func appendKey(text []byte, n uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		text = append(text, digits[n>>shift&15])
	}
	return text
}

// A store is a limiter of many keys.
type store struct {
	name string
	full func(*keyring) contender // a loop over all keys, each of which it knows
	hot  func(*keyring) contender // a loop over one, which has nothing left
}

func stores() []store {
	text := func(r *keyring) []string { return r.strings }
	return []store{
		newStore("stormjib", text, stormjibKeyed[string]),
		newStore("stormjib-uint64", func(r *keyring) []uint64 { return r.numbers },
			stormjibKeyed[uint64]),
		newStore("stormjib-struct", func(r *keyring) []pairKey { return r.pairs },
			stormjibKeyed[pairKey]),
		newStore("stormjib-check", text, stormjibKeyedCheck),
		newStore("stormjib-for", text, stormjibKeyedFor),
		newStore("mutex-map", text, mutexMap),
		newStore("throttled", text, throttledTake),
		newStore("go-limiter", text, goLimiterTake),
		newStore("httprate", text, httprateTake),
	}
}

// newStore makes a store of a function that takes a token of a key.
func newStore[K comparable](
	name string, of func(*keyring) []K, newTake func(q quota, keys int) func(K) bool,
) store {
	return store{
		name: name,
		full: func(ring *keyring) contender {
			keys := of(ring)
			take := newTake(ample(), len(keys))
			for _, i := range rand.New(rand.NewPCG(2, 5)).Perm(len(keys)) {
				take(clone(keys[i]))
			}
			return contender{name, storeLoop(keys, take)}
		},
		hot: func(ring *keyring) contender {
			keys := of(ring)[:1]
			take := newTake(quota{1, time.Hour}, 1000)
			take(keys[0])
			return contender{name, storeLoop(keys, take)}
		},
	}
}

// clone copies what a key refers to. A store that keeps a key must not find it in the
// place where the caller's is: that would save it to compare them.
func clone[K comparable](key K) K {
	if text, ok := any(key).(string); ok {
		key, _ = any(strings.Clone(text)).(K)
	}
	return key
}

func newKeyed[K comparable](q quota, keys int) *limiter.Keyed[K] {
	return limiter.NewKeyed(limiter.KeyedConfig[K]{Limit: q.limit(), MaxKeys: keys})
}

func stormjibKeyed[K comparable](q quota, keys int) func(K) bool {
	return newKeyed[K](q, keys).Allow
}

func stormjibKeyedCheck(q quota, keys int) func(string) bool {
	k := newKeyed[string](q, keys)
	return func(key string) bool { return k.Check(key, 1).OK }
}

func stormjibKeyedFor(q quota, keys int) func(string) bool {
	k := newKeyed[string](q, keys)
	return func(key string) bool { return k.For(key).Allow() }
}

// mutexMap is what one writes first: a map of x/time's limiters and a mutex.
func mutexMap(q quota, keys int) func(string) bool {
	var mu sync.Mutex
	limiters := make(map[string]*rate.Limiter, keys)
	limit := q.limit()
	return func(key string) bool {
		mu.Lock()
		l := limiters[key]
		if l == nil {
			l = rate.NewLimiter(limit.Rate, limit.Burst)
			limiters[key] = l
		}
		mu.Unlock()
		return l.Allow()
	}
}

// httprateTake has a request and a response made beforehand, and no headers to write.
func httprateTake(q quota, _ int) func(string) bool {
	l := httprate.NewRateLimiter(q.burst, q.period,
		httprate.WithResponseHeaders(httprate.ResponseHeaders{}))
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	return func(key string) bool { return !l.OnLimit(nil, request, key) }
}

// TestKeyedContenders checks that what is measured is what the name says.
func TestKeyedContenders(t *testing.T) {
	keys := newKeyring(1000)
	for _, s := range stores() {
		if err := s.full(keys).loop(2500); err != nil {
			t.Errorf("%s: granted: the last call returned %v", s.name, err)
		}
		if err := s.hot(keys).loop(100); err == nil {
			t.Errorf("%s: a key that has nothing left gets something", s.name)
		}
	}
}

func TestKeyedAllocations(t *testing.T) {
	keys := newKeyring(1000)
	var all []contender
	for _, s := range stores() {
		all = append(all, s.full(keys), s.hot(keys))
	}
	noAllocations(t, all)
}

// mostForKey is how many bytes a key may take.
const mostForKey = 24

// TestMemoryKeyed weighs stores that are as full as they may be.
func TestMemoryKeyed(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 20_000
	}
	keys := newKeyring(n)
	for _, s := range stores() {
		before := heap()
		loop := s.full(keys).loop
		bytes := float64(heap()-before) / float64(n)
		_ = loop(1)
		t.Logf("%s: %.1f B a key", s.name, bytes)
		if strings.HasPrefix(s.name, "stormjib") && bytes > mostForKey {
			t.Errorf("%s takes %.1f bytes a key, want at most %d", s.name, bytes, mostForKey)
		}
	}
}
