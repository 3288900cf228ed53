package retry_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/retry"
)

// take takes n tokens, and fails the test unless there are so many and no more.
func take(t *testing.T, b *retry.Budget, n int) {
	t.Helper()
	for i := range n {
		if !b.Take() {
			t.Fatalf("%d tokens, want %d", i, n)
		}
	}
	if b.Take() {
		t.Fatalf("more than %d tokens", n)
	}
}

// succeed tells b of n successes.
func succeed(b *retry.Budget, n int) {
	for range n {
		b.Success()
	}
}

// What is in the doc of each field, with the retries it allows.
func TestBudget(t *testing.T) {
	off := float64(-1) // no floor
	tests := []struct {
		name      string
		budget    *retry.Budget
		burst     int
		successes int           // after it was empty
		idle      time.Duration // after that
		tokens    int           // then
	}{
		{"the zero budget", &retry.Budget{}, 3, 0, 0, 0},
		{"a success puts back a tenth", &retry.Budget{}, 3, 9, 0, 0},
		{"ten a token", &retry.Budget{}, 3, 10, 0, 1},
		{"and thirty all", &retry.Budget{}, 3, 30, 0, 3},
		{"but no more", &retry.Budget{}, 3, 1000, 0, 3},
		{"ten seconds are a token", &retry.Budget{}, 3, 0, 10 * time.Second, 1},
		{"and not a moment less", &retry.Budget{}, 3, 0, 10*time.Second - time.Millisecond, 0},
		{"half a minute is all", &retry.Budget{}, 3, 0, 30 * time.Second, 3},
		{"a month is no more", &retry.Budget{}, 3, 0, 30 * 24 * time.Hour, 3},
		{"a century overflows nothing", &retry.Budget{Floor: 1e18}, 3, 0, math.MaxInt64 / 2, 3},
		{"both", &retry.Budget{}, 3, 5, 5 * time.Second, 1},
		{"a ratio", &retry.Budget{Ratio: .25, Floor: off}, 3, 4, time.Hour, 1},
		{"a ratio of one", &retry.Budget{Ratio: 1, Floor: off}, 3, 2, time.Hour, 2},
		{"a burst of one", &retry.Budget{Burst: 1, Floor: off}, 1, 100, time.Hour, 1},
		{"a burst", &retry.Budget{Burst: 50, Floor: off}, 50, 100, time.Hour, 10},
		{"a floor", &retry.Budget{Floor: 2}, 3, 0, time.Second, 2},
		{"a floor of next to nothing", &retry.Budget{Floor: 1. / 86400}, 3, 0, 24 * time.Hour, 1},
		{"no floor", &retry.Budget{Floor: off}, 3, 0, 24 * time.Hour, 0},
		{"no floor, and successes", &retry.Budget{Floor: off}, 3, 20, time.Hour, 2},
		{"refund alone changes nothing", &retry.Budget{Refund: true}, 3, 10, 10 * time.Second, 2},

		// What has no meaning is read as zero.
		{"a ratio above one", &retry.Budget{Ratio: 7}, 3, 10, 0, 1},
		{"a negative ratio", &retry.Budget{Ratio: -1}, 3, 10, 0, 1},
		{"no ratio", &retry.Budget{Ratio: math.NaN()}, 3, 10, 0, 1},
		{"no number", &retry.Budget{Floor: math.NaN()}, 3, 0, 10 * time.Second, 1},
		{"an endless floor", &retry.Budget{Floor: math.Inf(1)}, 3, 0, 10 * time.Second, 1},
		{"and below zero", &retry.Budget{Floor: math.Inf(-1)}, 3, 0, 10 * time.Second, 1},
		{"a negative burst", &retry.Budget{Burst: -5}, 3, 30, 0, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := test.budget
				tokens(t, b, float64(test.burst))
				take(t, b, test.burst)
				tokens(t, b, 0)
				succeed(b, test.successes)
				time.Sleep(test.idle)
				take(t, b, test.tokens)
			})
		})
	}
}

// A burst that no counter holds is one that has no meaning.
func TestBudgetBurstBeyondReason(t *testing.T) {
	burst := math.MaxInt
	if burst == math.MaxInt32 {
		t.Skip("an int holds no such number here")
	}
	b := &retry.Budget{Burst: burst, Floor: -1}
	if b.Validate() == nil {
		t.Error("it is valid")
	}
	tokens(t, b, 3)
	take(t, b, 3)

	b = &retry.Budget{Burst: math.MaxInt32, Floor: -1}
	if !b.Take() || b.Tokens() != math.MaxInt32-1 {
		t.Errorf("%v tokens", b.Tokens())
	}
}

func TestBudgetOff(t *testing.T) {
	b := &retry.Budget{Off: true}
	for range 1000 {
		if !b.Take() {
			t.Fatal("refused")
		}
		b.Return()
		b.Success()
	}
	tokens(t, b, 3)
	// It costs nothing that is not paid: neither would going back pay anything.
	b = &retry.Budget{Floor: -1}
	take(t, b, 3)
	b.Off = true
	b.Return()
	b.Off = false
	tokens(t, b, 0)
}

// A token that comes back makes no more of them than there were.
func TestBudgetReturn(t *testing.T) {
	b := &retry.Budget{Floor: -1}
	b.Return()
	tokens(t, b, 3)
	take(t, b, 3)
	b.Return()
	tokens(t, b, 1)
	take(t, b, 1)
}

// The bucket of a client that calls rarely, or of one whose dependency was down for an
// hour, must be as full afterwards as it was: one widely used library's never was.
func TestBudgetRecovers(t *testing.T) {
	bubble(t, hasty(), func(t *testing.T, p *retry.Policy) {
		p.Budget.Off, p.MaxAttempts = false, 2
		outage := func() (retries int) {
			for range 100 {
				retries += play(t.Context(), p, same(errBoom, 9)...).attempts - 1
			}
			return retries
		}
		for _, heal := range []func(){
			func() {
				for range 30 {
					play(t.Context(), p)
				}
			},
			func() { time.Sleep(30 * time.Second) },
			func() { time.Sleep(1000 * time.Hour) },
		} {
			if n := outage(); n != 3 {
				t.Errorf("%d retries in an outage, want 3", n)
			}
			if n := outage(); n != 0 {
				t.Errorf("%d more", n)
			}
			heal()
		}
		if n := outage(); n != 3 {
			t.Errorf("%d retries at last, want 3", n)
		}
	})
}

// What comes with time is the same however often somebody asks in between: an outage at
// a high rate asks all the time.
func TestBudgetFloorDoesNotDependOnHowOftenItIsAsked(t *testing.T) {
	for _, every := range []time.Duration{
		3 * time.Microsecond, 15 * time.Microsecond, 19 * time.Microsecond, time.Millisecond,
		time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			b := &retry.Budget{}
			take(t, b, 3)
			began, asked := time.Now(), 0
			for ; asked < 30_000 && time.Since(began) < 9*time.Second; asked++ {
				time.Sleep(every)
				if b.Take() {
					t.Fatalf("a token after %v, want one in 10s", time.Since(began))
				}
			}
			want := 0.1 * time.Since(began).Seconds()
			if got := b.Tokens(); got < .98*want || got > 1.001*want+1e-6 {
				t.Errorf("asked every %v, it has %v tokens, want %v", every, got, want)
			}
		})
	}
}

// Tests that follow each other in bubbles begin at the same time, so a budget that is
// shared by them, in a package variable say, sees its clock go back: that may cost what
// the floor has not paid yet, but give nothing, and it goes on from there.
func TestBudgetWhoseClockGoesBack(t *testing.T) {
	for _, floor := range []float64{0, 1, -1} {
		b := &retry.Budget{Floor: floor}
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Hour)
			take(t, b, 3)
			time.Sleep(5 * time.Second)
			b.Tokens()
		})
		for range 3 {
			synctest.Test(t, func(t *testing.T) {
				for b.Take() { // what had come by then
				}
				left := b.Tokens()
				if b.Take() || left >= 1 {
					t.Errorf("floor %v: time going back brings %v tokens", floor, left)
				}
				time.Sleep(10 * time.Second)
				switch floor {
				case 0:
					tokens(t, b, left+1)
				case 1:
					tokens(t, b, 3)
				case -1:
					tokens(t, b, left)
				}
			})
		}
	}
}

func TestBudgetWhoseClockGoesBackGivesNothing(t *testing.T) {
	b := &retry.Budget{Floor: -1}
	synctest.Test(t, func(t *testing.T) {
		take(t, b, 3)
		time.Sleep(time.Hour)
		tokens(t, b, 0)
	})
	synctest.Test(t, func(t *testing.T) { tokens(t, b, 0) })
}

// Everything fails in the same moment, and a thousand requests ask for what there is.
func TestBudgetUnderContention(t *testing.T) {
	b := &retry.Budget{Burst: 50, Floor: -1}
	for round := range 20 {
		var taken atomic.Int64
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if b.Take() {
					taken.Add(1)
				}
			})
		}
		wg.Wait()
		if taken.Load() != 50 {
			t.Fatalf("round %d: %d of 1000 got a token, want 50", round, taken.Load())
		}
		for range 500 {
			wg.Go(b.Success)
		}
		wg.Wait()
		tokens(t, b, 50)
	}
	// A few that ask as fast as they can get each one once.
	const many = 1_000_000
	large := &retry.Budget{Burst: many, Floor: -1}
	var taken atomic.Int64
	var all sync.WaitGroup
	begin := make(chan struct{})
	for range 8 {
		all.Go(func() {
			<-begin
			n := int64(0)
			for large.Take() {
				n++
			}
			taken.Add(n)
		})
	}
	close(begin)
	all.Wait()
	if taken.Load() != many {
		t.Fatalf("%d tokens of %d", taken.Load(), many)
	}
	for range 8 { // and so on the way back
		all.Go(func() {
			for range many / 8 {
				large.Return()
			}
		})
	}
	all.Wait()
	tokens(t, large, many)
	// Taken, returned and paid back at once, nothing is lost and nothing made.
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if b.Take() {
				b.Return()
			}
		})
	}
	wg.Wait()
	tokens(t, b, 50)
}

// The first retries of all come together too; the clock begins with one of them.
func TestBudgetFirstRetriesTogether(t *testing.T) {
	for range 200 {
		b := &retry.Budget{}
		var taken atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if b.Take() {
					taken.Add(1)
				}
			})
		}
		wg.Wait()
		if taken.Load() != 3 {
			t.Fatalf("%d retries, want 3", taken.Load())
		}
	}
}

// A denied retry tells both what went wrong and that there was no budget for another: an
// operator who sees only the one looks for it in the wrong place.
func TestBudgetDenialKeepsTheError(t *testing.T) {
	bubble(t, plain(), func(t *testing.T, p *retry.Policy) {
		p.SharedBudget = drained(t)
		c := play(t.Context(), p, errBoom)
		c.made(t, 1, 0)
		e := c.matches(t, errBoom, retry.ErrBudget)
		if errors.Is(e, retry.ErrExhausted) || !strings.HasPrefix(e.Error(), "boom") {
			t.Errorf("%v", e)
		}
	})
}

// A hundred requests wait to try again when their callers leave: nothing was sent, so
// nothing is owed.
func TestBudgetIsPaidBeforeTheWaitAndGetsItBack(t *testing.T) {
	bubble(t, &retry.Policy{}, func(t *testing.T, p *retry.Policy) {
		p.Backoff = retry.Constant(time.Minute)
		p.Budget.Burst, p.Budget.Floor = 100, -1
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 120 {
			wg.Go(func() { play(ctx, p, errBoom) })
		}
		synctest.Wait()
		tokens(t, &p.Budget, 0) // taken, while not one retry is made
		cancel()
		wg.Wait()
		tokens(t, &p.Budget, 100)
	})
}

// What pays, in each way that a call can go.
func TestWhatTheBudgetLearns(t *testing.T) {
	tests := []struct {
		name   string
		refund bool
		errs   []error
		want   float64 // of two tokens in a burst of three
	}{
		{"a first success", false, nil, 2.1},
		{"a success after a retry", false, same(errBoom, 1), 1},
		{"after two", false, same(errBoom, 2), 0},
		{"a failure", false, same(errBoom, 3), 0},
		{"an error that is not retried", false, []error{retry.Permanent(errBoom)}, 2},
		{"with refund, a first success", true, nil, 2.1},
		{"with refund, a success after a retry", true, same(errBoom, 1), 2},
		{"with refund, after two: the one that helped", true, same(errBoom, 2), 1},
		{"with refund, a failure", true, same(errBoom, 3), 0},
	}
	for _, test := range tests {
		for _, timeout := range []time.Duration{0, time.Hour} {
			p := &retry.Policy{Backoff: retry.Constant(0), AttemptTimeout: timeout}
			p.Budget.Floor, p.Budget.Refund = -1, test.refund
			p.Budget.Take()
			play(t.Context(), p, test.errs...)
			if got := p.Budget.Tokens(); math.Abs(got-test.want) > 1e-6 {
				t.Errorf("%s: %v tokens, want %v", test.name, got, test.want)
			}
		}
	}
}

// Two policies that call one dependency share what it can bear.
func TestSharedBudget(t *testing.T) {
	b := &retry.Budget{Floor: -1}
	get, list := hasty(), hasty()
	get.SharedBudget, list.SharedBudget = b, b
	if c := play(t.Context(), get, same(errBoom, 9)...); c.attempts != 3 {
		t.Errorf("%d attempts", c.attempts)
	}
	if c := play(t.Context(), list, same(errBoom, 9)...); c.attempts != 2 {
		t.Errorf("%d attempts", c.attempts)
	}
	for range 20 {
		play(t.Context(), get)
	}
	tokens(t, b, 2)
	tokens(t, &get.Budget, 3)
}

func TestBudgetValidate(t *testing.T) {
	for _, b := range []*retry.Budget{
		{}, {Ratio: 1}, {Floor: -1}, {Burst: math.MaxInt32, Off: true},
	} {
		if err := b.Validate(); err != nil {
			t.Errorf("%+v: %v", b, err)
		}
	}
	for _, test := range []struct {
		budget *retry.Budget
		want   string
	}{
		{&retry.Budget{Ratio: -.1}, "retry: Budget: Ratio is -0.1, but must be from 0 to 1"},
		{&retry.Budget{Ratio: 1.1}, "retry: Budget: Ratio is 1.1, but must be from 0 to 1"},
		{&retry.Budget{Burst: -1}, "retry: Budget: Burst is -1, but must be from 0 to 2147483647"},
		{&retry.Budget{Floor: math.Inf(-1)}, "retry: Budget: Floor is -Inf, but must be a number"},
		{
			&retry.Budget{Ratio: math.NaN(), Floor: math.NaN()},
			"retry: Budget: Ratio is NaN, but must be from 0 to 1; " +
				"Floor is NaN, but must be a number",
		},
	} {
		if err := test.budget.Validate(); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

// FuzzBudget plays a script, two bytes a step, on a budget and on a model that is as one
// would write it down: one number, and the sums of what went in and out. At every step
// the failed retries are within the burst, the ratio of the successes and the floor.
func FuzzBudget(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		script := make([]byte, 400)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script, byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32()))
	}
	f.Fuzz(func(t *testing.T, script []byte, ratio, burst, floor byte) {
		b := &retry.Budget{
			Ratio:  float64(1+ratio%100) / 100,
			Burst:  1 + int(burst%12),
			Floor:  float64(1+floor%100) / 100,
			Refund: true,
		}
		if floor > 200 {
			b.Floor = -1
		}
		synctest.Test(t, func(t *testing.T) { playBudget(t, b, script) })
	})
}

func playBudget(t *testing.T, b *retry.Budget, script []byte) {
	t.Helper()
	most, floor := float64(b.Burst), max(b.Floor, 0)
	left := most // what the model has
	began := time.Now()
	var successes, failed, outstanding, steps float64
	put := func(n float64) { left = min(left+n, most) }
	for ; len(script) >= 2; script = script[2:] {
		steps++
		slack := 3e-6 * steps // what integers lose
		switch op, arg := script[0], script[1]; {
		case op < 60:
			successes++
			b.Success()
			put(b.Ratio)
		case op < 160:
			got := b.Take()
			if got && left < 1-slack || !got && left >= 1+slack {
				t.Fatalf("Take is %t where the model has %v", got, left)
			}
			if got {
				left--
				outstanding++
			}
		case op < 180 && outstanding > 0: // the wait was cancelled, or the retry helped
			outstanding--
			b.Return()
			put(1)
		case op < 210 && outstanding > 0:
			outstanding--
			failed++
		default:
			d := time.Duration(arg) * 10 * time.Millisecond
			time.Sleep(d)
			put(floor * d.Seconds())
			if got := b.Tokens(); math.Abs(got-left) > slack {
				t.Fatalf("%v tokens, the model has %v", got, left)
			}
		}
		bound := most + b.Ratio*successes + floor*time.Since(began).Seconds()
		if failed+outstanding > bound+slack {
			t.Fatalf("%v retries, want %v at most", failed+outstanding, bound)
		}
	}
}
