package hop

import "context"

type attemptKey struct{}

// attemptContext is a context with the number of an attempt: one allocation, where
// context.WithValue has two.
type attemptContext struct {
	context.Context //nolint:containedctx // it is a context
	attempt         int
}

func (c *attemptContext) Value(key any) any {
	if key == (attemptKey{}) {
		return c.attempt
	}
	return c.Context.Value(key)
}

// WithAttempt returns a context that says that the work in it is done for the nth time.
// It is what an outgoing request tells; of the number that came in with a request the
// outgoing ones know nothing.
func WithAttempt(ctx context.Context, n int) context.Context {
	return &attemptContext{ctx, n}
}

// Attempt returns the number of the attempt, 1 if ctx has none.
func Attempt(ctx context.Context) int {
	if n, ok := ctx.Value(attemptKey{}).(int); ok {
		return n
	}
	return 1
}
