package hashring_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stormjib/stormjib/hashring"
)

// zipf returns a source of keys of which the nth comes 1/n^s times as often as the first.
func zipf(rnd *rand.Rand, s float64, keys int) func() int {
	sums := make([]float64, keys)
	sum := 0.0
	for i := range sums {
		sum += math.Pow(float64(i+1), -s)
		sums[i] = sum
	}
	return func() int {
		i, _ := slices.BinarySearch(sums, rnd.Float64()*sum)
		return min(i, keys-1)
	}
}

// checkSketch plays a stream and compares with what has come in truth: no key is counted too
// low, none is believed to be more than it is, and each that is more than its part has a place.
func checkSketch(t *testing.T, size, ageEvery int, hashes []uint64) {
	t.Helper()
	s := hashring.NewSketch(size)
	truth, total := map[uint64]float64{}, 0.0
	for i, h := range hashes {
		s.Count(h, fmt.Sprint(h))
		truth[h]++
		total++
		if (i+1)%ageEvery == 0 {
			s.Age()
			total /= 2
			for h := range truth {
				truth[h] /= 2
			}
		}
		if !s.Valid() {
			t.Fatalf("step %d: not a heap", i)
		}
	}
	const rounding = 1e-4
	rest := map[uint64]float64{}
	for h, n := range truth {
		rest[h] = n / total
	}
	s.Bounds(func(h uint64, least, most float64) {
		if share := rest[h]; share < least-rounding || share > most+rounding {
			t.Errorf("key %d has %v, and is said to have %v to %v", h, share, least, most)
		}
		delete(rest, h)
	})
	for h, share := range rest {
		if share > 1/float64(size)+rounding {
			t.Errorf("key %d has %v, and no place", h, share)
		}
	}
}

func TestSketch(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		next := zipf(rnd, 0.5+float64(seed)/20, 300)
		var hashes []uint64
		for range 4000 {
			hashes = append(hashes, uint64(next())*0x9e3779b97f4a7c15)
		}
		checkSketch(t, 1+int(seed)*3, 900, hashes)
	}
}

// One that comes later gets a place as soon as it has come as often as the least of the others.
func TestSketchNewcomer(t *testing.T) {
	s := hashring.NewSketch(4)
	for range 10 {
		for h := range uint64(4) {
			s.Count(h<<60, "old")
		}
	}
	for i := range 10 {
		s.Count(9<<60, "new")
		found := false
		s.Bounds(func(h uint64, _, _ float64) { found = found || h == 9<<60 })
		if found != (i == 9) {
			t.Errorf("after %d times it has a place: %t", i+1, found)
		}
	}
}

func FuzzSketch(f *testing.F) {
	f.Add(byte(3), byte(9), []byte("abracadabra, simsalabim"))
	f.Fuzz(func(t *testing.T, size, age byte, data []byte) {
		var hashes []uint64
		for _, c := range data[:min(len(data), 3000)] { // some fall into the same cell
			hashes = append(hashes, uint64(c)<<59|uint64(c))
		}
		checkSketch(t, int(size%20)+1, int(age)+1, hashes)
	})
}

// A flood of keys that come once each takes no place from those that come often, and no
// memory.
func TestHotKeysFlood(t *testing.T) {
	h := hashring.NewHotKeys(hashring.HotKeysConfig{Window: 10_000})
	hot := 0
	for i := range 100_000 {
		h.Observe(fmt.Sprint("once ", i))
		if i%10 == 0 { // one in eleven
			hot = h.Observe("hot")
		}
	}
	keys := h.Hot()
	if hot != 8 || len(keys) != 1 || keys[0].Key != "hot" || keys[0].Owners != 8 {
		t.Errorf("%d owners; %+v", hot, keys)
	}
	if k := keys[0]; math.Abs(k.Least-1/11.) > 0.001 || k.Most < k.Least || k.Most-k.Least > 0.01 {
		t.Errorf("a share of 0.091 is said to be %v to %v", k.Least, k.Most)
	}
	n := 0
	keysOf := make([]string, 1000)
	for i := range keysOf {
		keysOf[i] = fmt.Sprint("later ", i)
	}
	if got := testing.AllocsPerRun(900, func() { h.Observe(keysOf[n]); n++ }); got > 0 {
		t.Errorf("%v allocations for a key that comes once", got)
	}
	if got := testing.AllocsPerRun(900, func() { h.Observe("hot") }); got > 0 {
		t.Errorf("%v allocations for a hot key", got)
	}
}

// Owners follow the share, at most MaxOwners, and one for what is not hot.
func TestHotKeysOwners(t *testing.T) {
	h := hashring.NewHotKeys(hashring.HotKeysConfig{Share: 0.05, MaxOwners: 6, Window: 2000})
	for i := range 4000 {
		switch {
		case i%100 < 50:
			h.Observe("half")
		case i%100 < 62:
			h.Observe("eighth")
		case i%100 < 66:
			h.Observe("little")
		default:
			h.Observe(fmt.Sprint("once ", i))
		}
	}
	for key, want := range map[string]int{"half": 6, "eighth": 3, "little": 1, "never": 1} {
		if got := h.Owners(key); got != want {
			t.Errorf("%s: %d owners, want %d", key, got, want)
		}
	}
	if got := h.Hot(); len(got) != 2 || got[0].Key != "half" || got[1].Key != "eighth" {
		t.Errorf("%+v", got)
	}
}

// A key that gets less keeps its owners until it has clearly less, and is forgotten in the
// end.
func TestHotKeysForgets(t *testing.T) {
	h := hashring.NewHotKeys(hashring.HotKeysConfig{Share: 0.1, Window: 1000})
	stream := func(percent, n int) int {
		for i := range n {
			if i*37%100 < percent { // evenly
				h.Observe("key")
			} else {
				h.Observe(fmt.Sprint("other ", i))
			}
		}
		return h.Owners("key")
	}
	for _, test := range []struct{ percent, want int }{
		{25, 3}, {18, 3}, {15, 2}, {9, 2}, {7, 1}, {9, 1}, {12, 2}, {0, 1},
	} {
		if got := stream(test.percent, 20_000); got != test.want {
			t.Errorf("at %d %%: %d owners, want %d", test.percent, got, test.want)
		}
	}
	if got := h.Hot(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// What is kept of a key is bounded, and two that begin alike are two.
func TestHotKeysLongKeys(t *testing.T) {
	h := hashring.NewHotKeys(hashring.HotKeysConfig{Window: 160})
	long := strings.Repeat("k", 1<<20)
	for range 100 {
		h.Observe(long + "a")
		h.Observe(long + "b")
		h.Observe("")
	}
	keys := h.Hot()
	if len(keys) != 3 || h.Owners(long+"a") != 8 || h.Owners(long) != 1 || h.Owners("") != 8 {
		t.Fatalf("%d are hot", len(keys))
	}
	for _, k := range keys {
		if n := len(k.Key); n != 256 && n != 0 {
			t.Errorf("%d bytes of a key", n)
		}
	}
}

func TestHotKeysConcurrently(t *testing.T) {
	h := hashring.NewHotKeys(hashring.HotKeysConfig{Window: 1000})
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				h.Observe("hot")
				h.Observe(fmt.Sprint(c, " ", i))
				if i%100 == 0 {
					h.Hot()
				}
			}
		})
	}
	wg.Wait()
	if h.Owners("hot") != 8 {
		t.Errorf("%+v", h.Hot())
	}
}

func TestHotKeysConfigValidate(t *testing.T) {
	for _, test := range []struct {
		cfg  hashring.HotKeysConfig
		want string
	}{
		{hashring.HotKeysConfig{}, ""},
		{hashring.HotKeysConfig{Share: 1, MaxOwners: 65535, Window: 1, Keys: 1}, ""},
		{hashring.HotKeysConfig{Share: 1e-300}, ""},
		{
			hashring.HotKeysConfig{Name: "a", Share: 1.5, MaxOwners: -1, Window: -2, Keys: 1 << 21},
			`hashring: HotKeysConfig "a": Share is 1.5, but must be above 0 and at most 1; ` +
				"MaxOwners is -1, but must be from 1 to 65535; " +
				"Window is -2, but must be from 1 to 2147483647; " +
				"Keys is 2097152, but must be from 1 to 1048576",
		},
		{
			hashring.HotKeysConfig{Share: math.NaN()},
			"hashring: HotKeysConfig: Share is NaN, but must be above 0 and at most 1",
		},
	} {
		got := ""
		if err := test.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
		func() {
			defer func() {
				if v := recover(); (v != nil) != (test.want != "") || v != nil && v != test.want {
					t.Errorf("New panics with %v, want %q", v, test.want)
				}
			}()
			hashring.NewHotKeys(test.cfg).Observe("key")
		}()
	}
}
