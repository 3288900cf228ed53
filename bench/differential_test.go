package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/stormjib/stormjib/breaker"
)

// The differential tests give random scripts to a stormjib breaker and to a peer,
// and compare after each step whether a call was let through, and the state.
// differences_test.go has what they cannot compare, because the two differ on
// purpose. To keep clear of that:
//
//   - stormjib takes a random part of up to a fifth off its open time. No step
//     looks at a breaker between four fifths of that time and its end.
//   - MaxOpenFor is OpenFor, so that it does not double; RampUp is off; and a
//     probe's lease is longer than any script.
//   - For the rules over a window, calls take no time, and time moves by whole
//     parts of the window, on which the parts of all breakers begin. stormjib counts
//     a call where it ends, gobreaker where it began, and each has its own parts.
//   - failsafe-go knows no permits: a result goes to whatever state it meets, and in
//     half-open a success makes room for one more probe. So its calls come one
//     after the other. Nor does its breaker alone know of calls to be ignored.

// A rival is a breaker in the hands of a script. A call is let through or not;
// what is done with it later finishes it.
type rival interface {
	allow() (done func(breaker.Outcome), ok bool)
	state() breaker.State
}

// errOf is what a call returns for it to count as each outcome.
var errOf = [...]error{breaker.Failure: errFailed, breaker.Ignored: context.Canceled}

type ours struct{ b *breaker.Breaker }

func (o ours) allow() (func(breaker.Outcome), bool) {
	permit, err := o.b.Allow()
	return func(outcome breaker.Outcome) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if outcome == breaker.Ignored {
			cancel() // the caller has left
		}
		permit.Done(ctx, errOf[outcome])
	}, err == nil
}

func (o ours) state() breaker.State { return o.b.State() }

type sony struct {
	cb *gobreaker.TwoStepCircuitBreaker[int]
}

// newSony makes a gobreaker that, like ours, does not count what is ignored.
func newSony(settings gobreaker.Settings) sony {
	settings.IsExcluded = func(err error) bool { return err == context.Canceled }
	return sony{gobreaker.NewTwoStepCircuitBreaker[int](settings)}
}

func (s sony) allow() (func(breaker.Outcome), bool) {
	done, err := s.cb.Allow()
	return func(outcome breaker.Outcome) { done(errOf[outcome]) }, err == nil
}

func (s sony) state() breaker.State {
	switch s.cb.State() {
	case gobreaker.StateOpen:
		return breaker.Open
	case gobreaker.StateHalfOpen:
		return breaker.HalfOpen
	}
	return breaker.Closed
}

type fsafe struct {
	cb circuitbreaker.CircuitBreaker[int]
}

func (f fsafe) allow() (func(breaker.Outcome), bool) {
	ok := f.cb.TryAcquirePermit()
	return func(outcome breaker.Outcome) {
		if outcome == breaker.Success {
			f.cb.RecordSuccess()
		} else {
			f.cb.RecordFailure()
		}
	}, ok
}

// state takes a breaker whose open time is over for half-open; failsafe-go itself
// does so only when the next call comes.
func (f fsafe) state() breaker.State {
	switch f.cb.State() {
	case circuitbreaker.OpenState:
		if f.cb.RemainingDelay() == 0 {
			return breaker.HalfOpen
		}
		return breaker.Open
	case circuitbreaker.HalfOpenState:
		return breaker.HalfOpen
	}
	return breaker.Closed
}

// A script drives two rivals through the same steps.
type script struct {
	t          *testing.T
	random     *rand.Rand
	mine, peer rival
	log        []string

	openFor time.Duration
	opened  time.Time // when they were last seen to open
	before  breaker.State

	inFlight []pair // calls let through and not yet finished

	seen [3]int // steps that ended in each state
}

type pair struct{ mine, peer func(breaker.Outcome) }

func (s *script) note(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

// call asks both for leave, and reports whether both gave it.
func (s *script) call() (pair, bool) {
	mine, ok := s.mine.allow()
	peer, peerOK := s.peer.allow()
	s.note("call: let through %v", ok)
	if ok != peerOK {
		s.fatal("stormjib lets a call through: %v, the peer: %v", ok, peerOK)
	}
	return pair{mine, peer}, ok
}

func (s *script) finish(p pair, outcome breaker.Outcome) {
	s.note("finish: %v", [...]string{"success", "failure", "ignored"}[outcome])
	p.mine(outcome)
	p.peer(outcome)
}

func (s *script) fatal(format string, args ...any) {
	s.t.Helper()
	tail := s.log[max(0, len(s.log)-40):]
	s.t.Fatalf("%s\nafter\n  %s", fmt.Sprintf(format, args...), strings.Join(tail, "\n  "))
}

// check compares the states.
func (s *script) check() {
	mine, peer := s.mine.state(), s.peer.state()
	if mine != peer {
		s.fatal("stormjib is %v, the peer %v", mine, peer)
	}
	if mine == breaker.Open && s.before != breaker.Open {
		s.opened = time.Now()
	}
	if mine != s.before {
		s.note("-> %v", mine)
	}
	s.before = mine
	s.seen[mine]++
}

// sleep moves the clock, but while the breakers are open not to where the random
// part of stormjib's open time decides.
func (s *script) sleep(d time.Duration) {
	if s.before == breaker.Open {
		since := time.Since(s.opened) + d
		if since >= s.openFor*4/5 && since <= s.openFor {
			d += s.openFor - since + s.openFor/10
		}
	}
	s.note("sleep %v", d)
	time.Sleep(d)
}

// outcome is a failure more often than not; else there is little to see.
func (s *script) outcome(ignoring bool) breaker.Outcome {
	switch n := s.random.IntN(10); {
	case n < 4:
		return breaker.Success
	case n < 9 || !ignoring:
		return breaker.Failure
	}
	return breaker.Ignored
}

// overlapping makes a step in which calls begin and end in any order, late ones
// among them.
func (s *script) overlapping() {
	switch n := s.random.IntN(10); {
	case n < 4:
		if p, ok := s.call(); ok {
			s.inFlight = append(s.inFlight, p)
		}
	case n < 8 && len(s.inFlight) > 0:
		i := s.random.IntN(len(s.inFlight))
		s.finish(s.inFlight[i], s.outcome(true))
		s.inFlight = slices.Delete(s.inFlight, i, i+1)
	default:
		s.sleep(time.Duration(s.random.Int64N(int64(s.openFor))))
	}
}

// sequential makes a step of calls that take no time.
func (s *script) sequential(ignoring bool, part time.Duration) {
	switch n := s.random.IntN(8); {
	case n < 2:
		s.sleep(time.Duration(s.random.IntN(4)) * part)
		return
	case n < 5 && s.before == breaker.Open: // there is little to see
		s.sleep(s.openFor)
		return
	}
	if p, ok := s.call(); ok {
		s.finish(p, s.outcome(ignoring))
	}
}

// duel runs a step again and again in a bubble, for many seeds, and checks that all
// states were met.
func duel(t *testing.T, newScript func(seed uint64) *script, step func(*script)) {
	t.Helper()
	seeds, steps := 300, 500
	if testing.Short() {
		seeds = 30
	}
	var seen [3]int
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			s := newScript(seed)
			s.t, s.random = t, rand.New(rand.NewPCG(seed, 1))
			s.note("seed %d", seed)
			for range steps {
				step(s)
				s.check()
			}
			for i := range seen {
				seen[i] += s.seen[i]
			}
		})
	}
	t.Logf("%d scripts of %d steps; %d steps ended closed, %d open, %d half-open",
		seeds, steps, seen[breaker.Closed], seen[breaker.Open], seen[breaker.HalfOpen])
	for state, n := range seen {
		if n < seeds {
			t.Errorf("only %d steps ended %v: the scripts show too little", n, breaker.State(state))
		}
	}
}

const scriptOpenFor = 10 * time.Second

// scripted returns what all configurations have in common.
func scripted(probes int) breaker.Config {
	return breaker.Config{
		OpenFor:      scriptOpenFor,
		MaxOpenFor:   scriptOpenFor,
		Probes:       probes,
		ProbeTimeout: 1 << 60,
		RampUp:       -1,
	}
}

// TestSameAsGobreakerConsecutive has calls that overlap, so that late results and
// the places of probes are compared too.
func TestSameAsGobreakerConsecutive(t *testing.T) {
	duel(t, func(seed uint64) *script {
		failures, probes := 1+seed%5, 1+seed/5%4
		cfg := scripted(int(probes))
		cfg.Consecutive = int(failures)
		return &script{
			openFor: scriptOpenFor,
			mine:    ours{breaker.New(cfg)},
			peer: newSony(gobreaker.Settings{
				MaxRequests: uint32(probes),
				Timeout:     scriptOpenFor,
				ReadyToTrip: func(c gobreaker.Counts) bool {
					return uint64(c.ConsecutiveFailures) >= failures
				},
			}),
		}
	}, (*script).overlapping)
}

// TestSameAsGobreakerRolling compares the failure rate over a rolling window.
func TestSameAsGobreakerRolling(t *testing.T) {
	const part = 2 * time.Second
	duel(t, func(seed uint64) *script {
		minimum, tenths, probes := 1+seed%12, 1+seed/12%10, 1+seed/120%3
		cfg := scripted(int(probes))
		cfg.Window, cfg.MinCalls = buckets*part, int(minimum)
		cfg.FailureRate = float64(tenths) / 10
		return &script{
			openFor: scriptOpenFor,
			mine:    ours{breaker.New(cfg)},
			peer: newSony(gobreaker.Settings{
				MaxRequests:  uint32(probes),
				Timeout:      scriptOpenFor,
				Interval:     buckets * part,
				BucketPeriod: part,
				ReadyToTrip: func(c gobreaker.Counts) bool {
					all := uint64(c.TotalFailures + c.TotalSuccesses)
					return all >= minimum && 10*uint64(c.TotalFailures) >= tenths*all
				},
			}),
		}
	}, func(s *script) {
		s.sequential(true, part)
		s.align(part)
	})
}

// align brings a clock that a long sleep moved off the parts of the window back to
// the beginning of one.
func (s *script) align(part time.Duration) {
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of every bubble
	for time.Since(start)%part != 0 {                    // once more if it had to sleep longer
		s.sleep(part - time.Since(start)%part)
	}
}

// TestSameAsFailsafeConsecutive compares failures in a row, the calls too.
func TestSameAsFailsafeConsecutive(t *testing.T) {
	duel(t, func(seed uint64) *script {
		failures, probes := 1+seed%5, 1+seed/5%4
		cfg := scripted(int(probes))
		cfg.Consecutive = int(failures)
		return &script{
			openFor: scriptOpenFor,
			mine:    ours{breaker.New(cfg)},
			peer: fsafe{circuitbreaker.NewBuilder[int]().
				WithFailureThreshold(uint(failures)).
				WithSuccessThreshold(uint(probes)).
				WithDelay(scriptOpenFor).Build()},
		}
	}, func(s *script) { s.sequential(false, time.Second) })
}

// TestSameAsFailsafeRate compares the failure rate over a window, at the one rate
// that failsafe-go's rounding and its look at successes leave alone: all calls.
func TestSameAsFailsafeRate(t *testing.T) {
	const part = 2 * time.Second
	duel(t, func(seed uint64) *script {
		minimum, probes := 1+seed%6, 1+seed/6%4
		cfg := scripted(int(probes))
		cfg.Window, cfg.MinCalls, cfg.FailureRate = buckets*part, int(minimum), 1
		return &script{
			openFor: scriptOpenFor,
			mine:    ours{breaker.New(cfg)},
			peer: fsafe{circuitbreaker.NewBuilder[int]().
				WithFailureRateThreshold(1, uint(minimum), buckets*part).
				WithSuccessThreshold(uint(probes)).
				WithDelay(scriptOpenFor).Build()},
		}
	}, func(s *script) {
		s.sequential(false, part)
		s.align(part)
	})
}
