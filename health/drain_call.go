package health

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// call calls fn on a goroutine of its own. A panic, and an end of the goroutine, is its
// error. When ctx ends before fn returns, fn is left behind.
func call(ctx context.Context, fn func(context.Context) error) error {
	return await(ctx, begin(func() error { return fn(ctx) }))
}

// begin calls fn on a goroutine of its own, and returns where its error will be.
func begin(fn func() error) <-chan error {
	done := make(chan error, 1)
	go contain(fn, func(err error) { done <- err })
	return done
}

// await returns what comes from done, or that ctx has ended before.
func await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // both are there, and this one says more
		return err
	default:
		return ctx.Err()
	}
}

// contain calls fn, and then done with its error, however fn comes to its end.
func contain(fn func() error, done func(error)) {
	err := errors.New("has ended its goroutine")
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n\n%s", v, debug.Stack())
		}
		done(err)
	}()
	err = fn()
}
