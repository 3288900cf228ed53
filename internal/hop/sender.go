package hop

import "context"

// Sender is what a request tells of who sent it, as far as it was believed. The zero
// Sender is one of whom nothing is known.
type Sender struct {
	Criticality uint8  // as package shed numbers them; 0: not said
	Attempt     int    // with which it came in; 0 or 1: the first
	Tenant      string // "": not said
}

type senderKey struct{}

// senderContext is a context with a Sender: one allocation, and one lookup for all of it.
type senderContext struct {
	context.Context //nolint:containedctx // it is a context
	sender          Sender
}

func (c *senderContext) Value(key any) any {
	if key == (senderKey{}) {
		return &c.sender
	}
	return c.Context.Value(key)
}

// WithSender returns a context in which work is done for s.
func WithSender(ctx context.Context, s Sender) context.Context {
	return &senderContext{ctx, s}
}

// SenderOf returns the Sender of ctx, or the zero one.
func SenderOf(ctx context.Context) Sender {
	if s, ok := ctx.Value(senderKey{}).(*Sender); ok {
		return *s
	}
	return Sender{}
}
