// Package stormjib composes policies that keep a service under way when what it
// depends on fails, its clients retry, its traffic spikes or a tenant goes wild.
//
// The policies themselves live in packages of their own, each usable alone; see
// breaker for the first of them. This package has what they share: [Policy], the
// one method that composes; [Chain] and [Do] to build and use a composition;
// [Timeout] and [Fallback], too small for packages of their own; and
// [NotAttempted] and [RetryAfter], which read what an error says about itself.
//
// A client's chain is built once, outermost first, and used by any number of
// goroutines:
//
//	policy := stormjib.Chain(
//		stormjib.Timeout(2*time.Second),        // for all of it
//		dependency,                             // a *breaker.Breaker
//		stormjib.Timeout(250*time.Millisecond), // for the call
//	)
//	price, err := stormjib.Do(ctx, policy, func(ctx context.Context) (Price, error) {
//		return client.Price(ctx, id)
//	})
//
// # When not to use it
//
// With a single policy, call that policy's own Do: it allocates nothing, and a
// chain adds only indirection. Nesting the generic Do functions of two packages
// allocates nothing either.
//
// # Order
//
// The breaker stands outside the timeout of the call, so that it sees the
// timeouts; the timeout of the whole stands outside everything, so that it bounds
// what the policies add. [Fallback] stands outside of all: it answers for whatever
// they refuse. The README gives the order for all packages with its reasons.
//
// # Errors
//
// What the call returns is returned untouched. A policy adds an error of its own
// only where it refused the call or gave up on it, and such an error may carry
// three methods: NotAttempted() bool, the call was never made; RetryAfter()
// time.Duration, sooner is pointless; Retryable() bool, false forbids another try.
// An error of yours may carry them too, and the policies will heed it.
//
// # Failure modes
//
// A panic or a runtime.Goexit of the call passes through Chain, Do, Timeout and
// Fallback with its stack; contexts made for the call are released. Timeout waits
// for the call to return: one that ignores its context holds its caller as long
// as it likes, since a goroutine left behind with it would still hold what it
// holds, unseen.
//
// Stable: the API changes only with a major version.
package stormjib

import (
	"context"
	"fmt"
	"time"

	"github.com/stormjib/stormjib/internal/verdict"
)

// A Policy decides whether, when and how often to call a function. The policies of
// this module are safe for concurrent use.
type Policy interface {
	// Do calls fn in sequence, never after Do has returned, and returns nil only if
	// the last call of fn did. The context that fn gets is derived from ctx and may
	// be cancelled when Do returns: finish reading a response's body inside fn.
	Do(ctx context.Context, fn func(context.Context) error) error
}

// PolicyFunc is a function used as a [Policy]. It owes what Policy asks for.
type PolicyFunc func(ctx context.Context, fn func(context.Context) error) error

// Do calls f(ctx, fn).
func (f PolicyFunc) Do(ctx context.Context, fn func(context.Context) error) error {
	return f(ctx, fn)
}

// Chain composes policies into one, the first outermost. Build it once: it holds
// no state but its policies' own and is used concurrently. A Chain of none calls
// the function.
//
// A Chain of n allocates n - 1 times in a call, besides what its policies do.
// It panics if one of the policies is nil.
func Chain(policies ...Policy) Policy {
	for i, p := range policies {
		if p == nil {
			panic(fmt.Sprintf("stormjib: Chain: policy %d is nil", i))
		}
	}
	return append(chain(nil), policies...)
}

type chain []Policy

// Do calls fn under the first policy, in whose call the others follow.
func (c chain) Do(ctx context.Context, fn func(context.Context) error) error {
	switch len(c) {
	case 0:
		return fn(ctx)
	case 1:
		return c[0].Do(ctx, fn)
	}
	return c[0].Do(ctx, func(ctx context.Context) error {
		return c[1:].Do(ctx, fn)
	})
}

// Do calls fn under p and returns what its last call returned, with the error
// that p returned. The result is passed on beside an error too; it is the zero R
// only if fn was never called or returned it.
//
// It allocates twice, for the result and the function that keeps it.
func Do[R any](
	ctx context.Context, p Policy, fn func(context.Context) (R, error),
) (R, error) {
	var result R
	err := p.Do(ctx, func(ctx context.Context) error {
		var err error
		result, err = fn(ctx)
		return err
	})
	return result, err
}

// Fallback calls fn and, if it fails, returns what fallback makes of the error:
// a cached copy, a default, a simpler answer. The fallback runs with ctx itself,
// outside of every policy that fn used; it should not be able to fail as fn did.
//
// When ctx is done the caller has given up, or its time is over, and there is
// nobody to answer: the result and error of fn are returned and fallback is not
// called. Where a fallback fails too, its own error is returned; it has fn's and
// can join it.
func Fallback[R any](
	ctx context.Context,
	fn func(context.Context) (R, error),
	fallback func(context.Context, error) (R, error),
) (R, error) {
	result, err := fn(ctx)
	if err == nil || ctx.Err() != nil {
		return result, err
	}
	return fallback(ctx, err)
}

// NotAttempted reports whether err says that the call was never made, so that
// sending it elsewhere, or again, cannot do anything twice. Errors that join
// others say so only if every one of those does.
func NotAttempted(err error) bool { return verdict.NotAttempted(err) }

// RetryAfter returns for how long err says that another call is pointless, or 0
// if it does not say. It is the longest of what joined errors say.
func RetryAfter(err error) time.Duration { return verdict.RetryAfter(err) }
