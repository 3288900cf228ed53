package retry_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// collapse is the model of Brooker, Metastability and Distributed Systems, 2021: 40 calls
// a second reach a server that is the slower the more it has to do, and that finishes what
// its clients have given up. For five seconds there are more of them.
type collapse struct {
	policy *retry.Policy
	spike  int // calls a second from 20 to 25 s

	inFlight atomic.Int64
}

const callRate = 40

// serve is one attempt: the client waits for 3 s at most, the server works to the end.
func (c *collapse) serve(ctx context.Context) error {
	n := c.inFlight.Add(1)
	latency := time.Second + time.Duration(n)*10*time.Millisecond
	time.AfterFunc(latency, func() { c.inFlight.Add(-1) })
	answer := time.NewTimer(latency)
	defer answer.Stop()
	select {
	case <-answer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run returns the goodput from 25 to 40 s and from 60 to 80 s, and what is under way at
// the end.
func (c *collapse) run(t *testing.T, seed uint64) (soon, late float64, left int64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 2021))
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var answered, called [80]atomic.Int64
		var wg sync.WaitGroup
		for {
			at := time.Since(began).Seconds()
			rate := float64(callRate)
			if at >= 20 && at < 25 {
				rate = float64(c.spike)
			}
			time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
			second := int(time.Since(began).Seconds())
			if second >= 80 {
				break
			}
			called[second].Add(1)
			wg.Go(func() {
				if c.policy.Do(ctx, c.serve) == nil {
					answered[min(79, int(time.Since(began).Seconds()))].Add(1)
				}
			})
		}
		left = c.inFlight.Load()
		soon = share(&answered, &called, 25, 40)
		late = share(&answered, &called, 60, 80)
		cancel()
		wg.Wait()
	})
	return soon, late, left
}

func share(answered, called *[80]atomic.Int64, from, to int) float64 {
	var a, c int64
	for s := from; s < to; s++ {
		a += answered[s].Load()
		c += called[s].Load()
	}
	return float64(a) / float64(c)
}

// A spike of five seconds, long gone: with retries the server never gets to the calls that
// somebody still waits for. Long waits only make it take a larger spike; a budget makes it
// as if there were no retries.
func TestSimMetastableCollapse(t *testing.T) {
	tries := func(change func(*retry.Policy)) func() *retry.Policy {
		return func() *retry.Policy {
			return with(hasty(), func(p *retry.Policy) {
				p.AttemptTimeout = 3 * time.Second
				change(p)
			})
		}
	}
	ours := func(change func(*retry.Policy)) func() *retry.Policy {
		return func() *retry.Policy {
			return with(&retry.Policy{AttemptTimeout: 3 * time.Second}, change)
		}
	}
	type band struct{ least, most float64 }
	up, down, chance := band{.95, 1.15}, band{0, .05}, band{0, 1.2}
	t.Log("the share of calls answered, at 25 to 40 s and at 60 to 80 s; in flight at the end")
	t.Logf("%-31s  %-17s  %-17s  %-17s", "40 calls/s, and from 20 to 25 s",
		"80 calls/s", "120 calls/s", "200 calls/s")
	for _, test := range []struct {
		name   string
		policy func() *retry.Policy
		late   [3]band // by spike
	}{
		{"no retries", tries(func(p *retry.Policy) { p.MaxAttempts = 1 }), [3]band{up, up, up}},
		{"3 tries", tries(func(*retry.Policy) {}), [3]band{chance, down, down}},
		{
			"3 tries, 20 to 40 s of jitter",
			tries(func(p *retry.Policy) {
				p.Backoff = retry.EqualJitter(40*time.Second, 40*time.Second, nil)
			}),
			[3]band{up, chance, down},
		},
		{
			"3 tries, our backoff", tries(func(p *retry.Policy) { p.Backoff = nil }),
			[3]band{chance, down, down},
		},
		{"3 tries, backoff and budget", ours(func(*retry.Policy) {}), [3]band{up, up, up}},
		{
			"the same with refund", ours(func(p *retry.Policy) { p.Budget.Refund = true }),
			[3]band{up, up, up},
		},
	} {
		var soon, late [3]float64
		var left [3]int64
		for i, spike := range []int{80, 120, 200} {
			sim := &collapse{policy: test.policy(), spike: spike}
			soon[i], late[i], left[i] = sim.run(t, uint64(i))
			within(t, test.name, late[i], test.late[i].least, test.late[i].most)
		}
		t.Logf("%-31s  %.2f  %.2f  %5d  %.2f  %.2f  %5d  %.2f  %.2f  %5d", test.name,
			soon[0], late[0], left[0], soon[1], late[1], left[1], soon[2], late[2], left[2])
	}
}
