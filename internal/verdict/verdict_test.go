package verdict_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stormjib/stormjib/internal/verdict"
)

// What an error of these tests can say about itself.
type (
	notAttempted bool
	retryAfter   time.Duration
	retryable    bool
)

func (v notAttempted) NotAttempted() bool      { return bool(v) }
func (v retryAfter) RetryAfter() time.Duration { return time.Duration(v) }
func (v retryable) Retryable() bool            { return bool(v) }

// The two shapes it can have. A link to nil is a leaf.
type (
	link struct{ next error }
	fork struct{ branches []error }
)

func (link) Error() string     { return "link" }
func (fork) Error() string     { return "fork" }
func (l link) Unwrap() error   { return l.next }
func (f fork) Unwrap() []error { return f.branches }

// linked returns an error that says v, or nothing, and wraps next, or nothing.
func linked(v any, next error) error {
	switch v := v.(type) {
	case notAttempted:
		return struct {
			link
			notAttempted
		}{link{next}, v}
	case retryAfter:
		return struct {
			link
			retryAfter
		}{link{next}, v}
	case retryable:
		return struct {
			link
			retryable
		}{link{next}, v}
	}
	return link{next}
}

// forked is linked for an error that joins branches.
func forked(v any, branches ...error) error {
	switch v := v.(type) {
	case notAttempted:
		return struct {
			fork
			notAttempted
		}{fork{branches}, v}
	case retryAfter:
		return struct {
			fork
			retryAfter
		}{fork{branches}, v}
	case retryable:
		return struct {
			fork
			retryable
		}{fork{branches}, v}
	}
	return fork{branches}
}

var (
	errSilent = errors.New("silent")
	never     = linked(notAttempted(true), nil)
	once      = linked(notAttempted(false), nil)
	allowed   = linked(retryable(true), nil)
	forbidden = linked(retryable(false), nil)
)

func wrapped(err error) error     { return fmt.Errorf("wrapped: %w", err) }
func joinedAlone(err error) error { return errors.Join(err) }

func after(seconds int) error {
	return linked(retryAfter(time.Duration(seconds)*time.Second), nil)
}

// deep applies wrap a hundred times.
func deep(wrap func(error) error, err error) error {
	for range 100 {
		err = wrap(err)
	}
	return err
}

func TestNotAttempted(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"nil", nil, false},
		{"an error that says nothing", errSilent, false},
		{"yes", never, true},
		{"no", once, false},
		{"another verdict is not this one", after(1), false},

		{"found through a wrap", wrapped(never), true},
		{"the outermost answers: yes over no", linked(notAttempted(true), once), true},
		{"the outermost answers: no over yes", linked(notAttempted(false), never), false},
		{"what says nothing is passed by", deep(wrapped, never), true},
		{"a wrap of nothing", link{}, false},

		// A request sent to two replicas, one of which refused it: the other may
		// have charged the card.
		{"a join of all", errors.Join(never, never), true},
		{"a join of one that says no", errors.Join(never, once), false},
		{"a join of one that says nothing", errors.Join(never, errSilent), false},
		{"the order does not matter", errors.Join(errSilent, never), false},
		{"a join of none that says yes", errors.Join(errSilent, errSilent), false},
		{"two verbs", fmt.Errorf("%w, then %w", never, never), true},
		{"two verbs, one silent", fmt.Errorf("%w, then %w", never, errSilent), false},
		{"a join in a join", errors.Join(never, wrapped(errors.Join(never, never))), true},
		{
			"a join in a join, one silent",
			errors.Join(never, wrapped(errors.Join(never, errSilent))), false,
		},
		{"joins in depth", deep(joinedAlone, never), true},

		{"nil branches are no errors", fork{[]error{nil, never, nil}}, true},
		{"only nil branches", fork{[]error{nil, nil}}, false},
		{"an empty join", fork{[]error{}}, false},
		{"a join of nil", fork{}, false},
		{"a join that answers itself", forked(notAttempted(true), errSilent), true},
		{"a join that answers itself: no", forked(notAttempted(false), never, never), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := verdict.NotAttempted(test.err); got != test.want {
				t.Errorf("NotAttempted(%v) = %t, want %t", test.err, got, test.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want time.Duration
	}{
		{"nil", nil, 0},
		{"an error that says nothing", errSilent, 0},
		{"some time", after(3), 3 * time.Second},
		{"no time", after(0), 0},
		{"a server's clock that is ahead", after(-3), 0},
		{"the least there is", linked(retryAfter(math.MinInt64), nil), 0},
		{"the most there is", linked(retryAfter(math.MaxInt64), nil), math.MaxInt64},
		{"another verdict is not this one", never, 0},

		{"found through a wrap", wrapped(after(3)), 3 * time.Second},
		{"the outermost answers", linked(retryAfter(time.Second), after(9)), time.Second},
		{"the outermost answers, if with none", linked(retryAfter(0), after(9)), 0},
		{"the outermost answers, if below none", linked(retryAfter(-time.Second), after(9)), 0},
		{"what says nothing is passed by", deep(wrapped, after(3)), 3 * time.Second},

		// Two quotas at once: a call after the shorter one runs into the longer.
		{"the longest of a join", errors.Join(after(1), after(3), after(2)), 3 * time.Second},
		{"silence does not count", errors.Join(errSilent, after(1)), time.Second},
		{"a join of none that says", errors.Join(errSilent, errSilent), 0},
		{"a join of negative ones", errors.Join(after(-1), after(-2)), 0},
		{"two verbs", fmt.Errorf("%w, then %w", after(1), after(3)), 3 * time.Second},
		{
			"a join in a join",
			errors.Join(after(1), wrapped(errors.Join(errSilent, after(3)))), 3 * time.Second,
		},
		{"joins in depth", deep(joinedAlone, after(3)), 3 * time.Second},

		{"nil branches are no errors", fork{[]error{nil, after(1)}}, time.Second},
		{"only nil branches", fork{[]error{nil, nil}}, 0},
		{"an empty join", fork{[]error{}}, 0},
		{"a join of nil", fork{}, 0},
		{"a join that answers itself", forked(retryAfter(time.Second), after(9)), time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := verdict.RetryAfter(test.err); got != test.want {
				t.Errorf("RetryAfter(%v) = %v, want %v", test.err, got, test.want)
			}
		})
	}
}

func TestRetryable(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"nil", nil, true},
		{"an error that says nothing forbids nothing", errSilent, true},
		{"yes", allowed, true},
		{"no", forbidden, false},
		{"another verdict is not this one", once, true},

		{"found through a wrap", wrapped(forbidden), false},
		{"the outermost answers: yes over no", linked(retryable(true), forbidden), true},
		{"the outermost answers: no over yes", linked(retryable(false), allowed), false},
		{"what says nothing is passed by", deep(wrapped, forbidden), false},

		// One layer retries. Where any of two calls has been retried already,
		// trying both again would multiply the attempts.
		{"one branch forbids it", errors.Join(allowed, forbidden, errSilent), false},
		{"the order does not matter", errors.Join(forbidden, allowed), false},
		{"none forbids it", errors.Join(allowed, errSilent), true},
		{"two verbs", fmt.Errorf("%w, then %w", errSilent, forbidden), false},
		{
			"a join in a join",
			errors.Join(allowed, wrapped(errors.Join(errSilent, forbidden))), false,
		},
		{"joins in depth", deep(joinedAlone, forbidden), false},

		{"nil branches are no errors", fork{[]error{nil, forbidden}}, false},
		{"only nil branches", fork{[]error{nil, nil}}, true},
		{"an empty join", fork{[]error{}}, true},
		{"a join of nil", fork{}, true},
		{"a join that answers itself", forked(retryable(true), forbidden), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := verdict.Retryable(test.err); got != test.want {
				t.Errorf("Retryable(%v) = %t, want %t", test.err, got, test.want)
			}
		})
	}
}

// Every refused call is asked all three, and refusals come by the million when
// something is down: errors.As would allocate for each.
func TestAllocatesNothing(t *testing.T) {
	err := wrapped(errors.Join(
		wrapped(linked(notAttempted(true), errSilent)),
		fmt.Errorf("%w and %w", after(3), forbidden),
	))
	allocs := testing.AllocsPerRun(100, func() {
		verdict.NotAttempted(err)
		verdict.RetryAfter(err)
		verdict.Retryable(err)
	})
	if allocs != 0 {
		t.Errorf("the three verdicts allocate %v times, want 0", allocs)
	}
}

// A node is an error drawn as a tree, for the model.
type node struct {
	says     any // notAttempted, retryAfter, retryable or nil
	forks    bool
	branches []*node // one at most unless it forks; nil: a nil error
}

// err builds the error that n draws.
func (n *node) err() error {
	if n == nil {
		return nil
	}
	var below []error
	for _, branch := range n.branches {
		below = append(below, branch.err())
	}
	switch {
	case n.forks:
		return forked(n.says, below...)
	case below != nil:
		return linked(n.says, below[0])
	}
	return linked(n.says, nil)
}

// answers collects who is to be heard about one verdict: the outermost node that
// says it on each path down. A path on which nobody does ends in a nil.
func (n *node) answers(says func(any) bool) []any {
	if says(n.says) {
		return []any{n.says}
	}
	var heard []any
	for _, branch := range n.branches {
		if branch != nil {
			heard = append(heard, branch.answers(says)...)
		}
	}
	if heard == nil {
		return []any{nil}
	}
	return heard
}

func is[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

// model is the specification in its simplest words: every path is heard.
func (n *node) model() (unmade bool, longest time.Duration, again bool) {
	unmade, again = n != nil, true
	if n == nil {
		return unmade, longest, again
	}
	for _, v := range n.answers(is[notAttempted]) {
		unmade = unmade && v == any(notAttempted(true))
	}
	for _, v := range n.answers(is[retryAfter]) {
		if v, ok := v.(retryAfter); ok {
			longest = max(longest, time.Duration(v))
		}
	}
	for _, v := range n.answers(is[retryable]) {
		again = again && v != any(retryable(false))
	}
	return unmade, longest, again
}

// grow draws the tree that script describes, two bytes a node, and returns what is
// left of the script.
func grow(script []byte, depth int) (*node, []byte) {
	if len(script) < 2 || script[0]&7 == 7 {
		return nil, script[min(1, len(script)):]
	}
	shape, value := script[0], script[1]
	script = script[2:]
	n := &node{forks: shape&8 != 0}
	switch shape & 3 {
	case 1:
		n.says = notAttempted(value&1 != 0)
	case 2:
		n.says = retryAfter(int8(value))
	case 3:
		n.says = retryable(value&1 != 0)
	}
	width := int(shape >> 4 & 3)
	if !n.forks {
		width = min(width, 1)
	}
	for range width {
		if depth == 0 {
			break
		}
		var branch *node
		branch, script = grow(script, depth-1)
		n.branches = append(n.branches, branch)
	}
	return n, script
}

func FuzzVerdicts(f *testing.F) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		script := make([]byte, 1+random.IntN(60))
		for i := range script {
			script[i] = byte(random.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		tree, _ := grow(script, 12)
		err := tree.err()
		unmade, longest, again := tree.model()
		if got := verdict.NotAttempted(err); got != unmade {
			t.Errorf("NotAttempted = %t, the model says %t", got, unmade)
		}
		if got := verdict.RetryAfter(err); got != longest {
			t.Errorf("RetryAfter = %v, the model says %v", got, longest)
		}
		if got := verdict.Retryable(err); got != again {
			t.Errorf("Retryable = %t, the model says %t", got, again)
		}
	})
}
