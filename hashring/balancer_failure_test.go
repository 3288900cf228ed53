package hashring_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/hashring"
)

var errBoom = errors.New("boom")

func TestHeld(t *testing.T) {
	const hold = 1_000_000
	for _, test := range []struct {
		name  string
		every uint64 // microseconds
		times int
		after uint64
		want  uint64
	}{
		{"one", 1, 1, 0, 1},
		{"one, a little later", 1, 1, hold / 2, 1},
		{"one, when it has faded", 1, 1, hold, 0},
		{"eight at once", 0, 8, 0, 8},
		{"eight, a hold later", 0, 8, hold, 3},
		{"eight, three holds later", 0, 8, 3 * hold, 0},
		{"100 a second for a minute", 10_000, 6000, 0, 100},
		{"as many as it can count", 0, 100_000, 0, 1 << 16},
		{"12 days later", 0, 8, 1e12, 0},
	} {
		var h hashring.Held
		now := uint64(1<<40 - 5) // the time wraps around on the way
		for range test.times {
			now += test.every
			h = h.Add(now, hold)
		}
		if got := h.At(now+test.after, hold); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
	if got := hashring.Held(0).Add(7, 0).At(7, 0); got != 1 {
		t.Errorf("without a hold: got %d", got)
	}
}

// idler is a cluster in which every call takes 100 ms, but for those of one node, which fails
// at once. It returns the share of all calls that the node got.
func idler(t *testing.T, cfg hashring.BalancerConfig) (share float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		nodes := cluster(10)
		b := hashring.NewBalancer(tableOf(t, nodes), cfg)
		rnd := rand.New(rand.NewPCG(1, 2))
		broken, calls := 0, 0
		for range 3000 { // one a millisecond: 100 at a time, 10 to a node
			time.Sleep(time.Millisecond)
			l, err := b.Acquire(fmt.Sprint(rnd.Uint64()))
			if err != nil {
				t.Fatal(err)
			}
			calls++
			if l.Node().ID == nodes[3].ID {
				broken++
				l.Done(t.Context(), errBoom)
				continue
			}
			time.AfterFunc(100*time.Millisecond, func() { l.Done(t.Context(), nil) })
		}
		share = float64(broken) / float64(calls)
		time.Sleep(time.Second)
	})
	return share
}

// A node that fails fast does not get more calls than the others for looking idle.
func TestBalancerFailsFast(t *testing.T) {
	own := 0.0 // what the node gets where all are well: its share of keys
	p := tableOf(t, cluster(10))
	for i := range 100_000 {
		if n, _ := p.OwnerHash(p.Hash(fmt.Sprint(i))); n.ID == cluster(10)[3].ID {
			own += 1e-5
		}
	}
	tight := hashring.BalancerConfig{Factor: 1.01, MinCap: 1}
	held := idler(t, tight)
	tight.FailureHold = -1
	idle := idler(t, tight)
	if idle < 2*own {
		t.Errorf("looking idle the node gets %.3f, its share of keys is %.3f: "+
			"the test shows nothing", idle, own)
	}
	if held > 1.1*own {
		t.Errorf("the failing node gets %.3f, its share of keys is %.3f", held, own)
	}
	t.Logf("share of keys %.3f, of calls %.3f; without failures held %.3f", own, held, idle)
}

// When all fail, their failures are shared out as load is, and nothing is refused.
func TestBalancerAllFail(t *testing.T) {
	b := hashring.NewBalancer(tableOf(t, cluster(3)), hashring.BalancerConfig{
		FailureHold: 10 * time.Second,
	})
	for range 300 {
		l := acquire(t, b, "key")
		l.Done(t.Context(), errBoom)
	}
	for _, n := range b.Stats().Nodes {
		if n.Failures > 125 {
			t.Errorf("%s has %d of 300 failures", n.Node.ID, n.Failures)
		}
	}
}

// A node whose failures have faded gets its keys back, and costs no more than before.
func TestBalancerFailuresFade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tableOf(t, cluster(10))
		order := orderOf(p, "key")
		b := hashring.NewBalancer(p, hashring.BalancerConfig{FailureHold: time.Second})
		fail := func(want string) {
			t.Helper()
			l := acquire(t, b, "key")
			if l.Node().ID != want {
				t.Errorf("got %s, want %s", l.Node().ID, want)
			}
			l.Done(t.Context(), errBoom)
		}
		for range 8 {
			fail(order[0])
		}
		fail(order[1])
		time.Sleep(300 * time.Millisecond) // 8 are 5.9 now
		if got := b.Stats().Nodes; got[0].Failures+got[1].Failures+got[2].Failures+got[3].Failures+
			got[4].Failures+got[5].Failures+got[6].Failures+got[7].Failures+got[8].Failures+
			got[9].Failures != 7 {
			t.Errorf("%+v", got)
		}
		fail(order[0])
		time.Sleep(10 * time.Second)
		for _, n := range b.Stats().Nodes {
			if n.Failures != 0 {
				t.Errorf("%+v", n)
			}
		}
	})
}

// A failure is held for as long as successes take, which is found out on the way.
func TestBalancerLearnsHold(t *testing.T) {
	for _, takes := range []time.Duration{time.Millisecond, 300 * time.Millisecond, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b := hashring.NewBalancer(ringOf(t, cluster(1)), hashring.BalancerConfig{})
			if b.Latency() != 0 {
				t.Fatal("knows it before")
			}
			for range 130 {
				l := acquire(t, b, "key")
				time.Sleep(takes)
				l.Done(t.Context(), nil)
			}
			if got := b.Latency(); got != takes {
				t.Fatalf("believes that %v take %v", takes, got)
			}
			for range 8 {
				l := acquire(t, b, "key")
				l.Done(t.Context(), errBoom)
			}
			hold := min(takes, 10*time.Second)
			time.Sleep(hold)
			if got := b.Stats().Nodes[0].Failures; got != 3 { // 8/e
				t.Errorf("after %v, of 8 failures %d are left", hold, got)
			}
		})
	}
}

// One success that is timed out of many is enough to follow a change.
func TestBalancerLatencyFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := hashring.NewBalancer(ringOf(t, cluster(1)), hashring.BalancerConfig{})
		call := func(takes time.Duration) {
			l := acquire(t, b, "key")
			time.Sleep(takes)
			l.Done(t.Context(), nil)
		}
		call(time.Millisecond)
		for range 64 * 20 {
			call(time.Second)
		}
		if got := b.Latency().Seconds(); math.Abs(got-0.93) > 0.02 { // 1 - (7/8)^20
			t.Errorf("believes in %v s", got)
		}
	})
}
