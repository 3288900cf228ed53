package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/internal/ended"
)

// Drain ends a process without dropping what it was asked to do. Make it with [NewDrain],
// tell it of servers with Serve and of what they need with Defer, and leave the rest to
// [Run]; or call Shutdown where a main has a loop of its own.
//
// It goes through these steps:
//
//   - Readiness is off at once, while liveness stays on: a process that is killed for it
//     does not drain.
//   - For Delay all is served as before, new connections too. HTTP says in each reply that
//     its connection is not to be used again, see healthhttp.Middleware. Those who have
//     joined, such as websockets, are asked to leave one by one, the oldest first, so
//     that they do not all come back to the other replicas at the same moment.
//   - The servers are shut down, all at once, and those who have joined waited for. Shortly
//     before the time for it is over [Drain.Context] ends, and when it is over, the
//     servers that can be closed by force are.
//   - Health is stopped. The hooks run one by one, the last one first. What one leaves
//     of its share of the time goes to the others.
//
// A Drain has no goroutine and no timer until it begins. What it calls runs on goroutines of
// their own. So a panic or runtime.Goexit in it is an error of the drain, and does not keep
// the rest from being done; and neither does what hangs, which is left behind when its time
// is over.
//
// It is safe for concurrent use.
type Drain struct {
	cfg     DrainConfig
	ctx     context.Context //nolint:containedctx // what Context returns
	cancel  context.CancelCauseFunc
	joined  joined
	running atomic.Bool // so is Run, or it was

	draining atomic.Bool
	begun    chan struct{} // closed when it is draining
	unserved chan struct{} // closed when Run's servers have all ended
	over     chan struct{} // closed when err is there
	err      error

	mu      sync.Mutex // of those that follow
	servers []*server
	hooks   []hook
}

// A shutdowner is what a server has to have.
type shutdowner = interface {
	Shutdown(ctx context.Context) error
}

type server struct {
	shutdowner
	name     string
	serve    func() error // nil: it is served elsewhere
	served   chan error   // closed when serve has returned
	serving  atomic.Bool  // so that it will
	stopping atomic.Bool  // from here on the end of serve is nothing to report
}

type hook struct {
	name string
	fn   func(context.Context) error
}

var _ error = drainError{}

// drainError is the cause of the contexts that a drain ends.
type drainError struct{}

// Error says so.
func (drainError) Error() string { return "health: draining" }

// NewDrain returns a Drain that has not begun. It panics if cfg is not valid; see
// [DrainConfig.Validate].
func NewDrain(cfg DrainConfig) *Drain {
	if err := cfg.Validate(); err != nil {
		panic(err.Error())
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Drain{
		cfg:      cfg.filled(),
		ctx:      ctx,
		cancel:   cancel,
		begun:    make(chan struct{}),
		unserved: make(chan struct{}),
		over:     make(chan struct{}),
	}
}

// Serve adds a server. Its Shutdown has to stop it from taking on more, and wait for what
// it has begun; an [net/http.Server] is one. If it does not come to an end in time, or
// fails, and the server has a Close() error as well, that is called.
//
// [Run] calls serve, such as the server's ListenAndServe, on a goroutine of its own, and
// drains when it returns. After Shutdown it has to. If it is nil the server is served
// elsewhere. The name is for errors. Add servers before Run.
func (d *Drain) Serve(
	name string, s interface {
		Shutdown(ctx context.Context) error
	}, serve func() error,
) {
	if s == nil {
		panic("health: Drain.Serve: nil server")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.servers = append(d.servers, &server{
		shutdowner: s, name: name, serve: serve, served: make(chan error),
	})
}

// Defer adds a hook, which is called after all servers are down: to write out what is
// buffered, or to close what the servers needed. As with a defer statement, what was added
// last is called first. A hook should return when its context ends, and is left behind if
// it does not. One that is added after the hooks have run is never called.
func (d *Drain) Defer(name string, fn func(ctx context.Context) error) {
	if fn == nil {
		panic("health: Drain.Defer: nil function")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hooks = append(d.hooks, hook{name, fn})
}

// Draining reports whether the drain has begun.
func (d *Drain) Draining() bool { return d.draining.Load() }

// Context returns a context that ends when there is no time left to wait: a tenth of Timeout
// before servers are closed by force, or when they are down. It is for the BaseContext of
// an http.Server, so that handlers that would be cut off can still say so:
//
//	srv.BaseContext = func(net.Listener) context.Context { return drain.Context() }
//
// A context that ends with the signal is not for that: it has every request fail that is
// under way.
func (d *Drain) Context() context.Context { return d.ctx }

// Join is for whoever stays long: a websocket, a stream of events, a long poll. The context
// that it returns is derived from ctx, and ends when the drain asks it to leave. Until
// leave is called, which must be, the drain waits for it, which http.Server.Shutdown does
// not do for a connection that was hijacked.
//
//	ctx, leave := drain.Join(r.Context())
//	defer leave()
//	select {
//	case event := <-events:
//		...
//	case <-ctx.Done():
//		conn.Close(websocket.StatusGoingAway, "")
//	}
//
// Who joins a drain that has begun is asked too, in its turn; and at once when Delay is
// over.
func (d *Drain) Join(ctx context.Context) (stay context.Context, leave func()) {
	return d.joined.join(ctx)
}

// Shutdown drains, and returns when that is over. The error joins all that went wrong, each
// with the name that it was added by, or is nil. A call while another drains, or has,
// returns the same error when it is over, or that its context has ended.
//
// When ctx ends the first call goes on in a hurry: what is left of Delay is skipped, and
// servers are closed by force. The hooks have their time all the same.
func (d *Drain) Shutdown(ctx context.Context) error { return d.shutdown(ctx, true) }

func (d *Drain) shutdown(ctx context.Context, served bool) error {
	if !d.draining.CompareAndSwap(false, true) {
		return d.wait(ctx)
	}
	defer close(d.over)
	close(d.begun)
	d.err = d.drain(ctx, served)
	return d.err
}

// wait is Shutdown for those who were not the first.
func (d *Drain) wait(ctx context.Context) error {
	select {
	case <-d.over:
		return d.err
	default:
	}
	select {
	case <-d.over:
		return d.err
	case <-ctx.Done():
		return ended.New(ctx, "health", false)
	}
}

// drain goes through the steps. Without anybody who was served there is no delay.
func (d *Drain) drain(ctx context.Context, served bool) error {
	if h := d.cfg.Health; h != nil {
		served = served && h.Started()
		h.SetDraining()
	}
	told := begin(d.tell)
	if served && d.cfg.Delay > 0 {
		d.delay(ctx)
	}
	end := time.Now().Add(d.cfg.Timeout)
	errs := d.stop(ctx, told)
	d.cancel(drainError{})
	if d.cfg.Health != nil {
		d.cfg.Health.Stop()
	}
	return errors.Join(append(errs, d.runHooks(ctx, end)...)...)
}

func (d *Drain) tell() error {
	if d.cfg.OnBegin != nil {
		d.cfg.OnBegin()
	}
	return nil
}

// delay goes on serving, and asks those who have joined to leave.
func (d *Drain) delay(ctx context.Context) {
	begin := time.Now()
	s := spread{end: d.cfg.Delay}
	ticker := time.NewTicker(max(d.cfg.Delay/100, time.Millisecond))
	defer ticker.Stop()
	timer := time.NewTimer(d.cfg.Delay)
	defer timer.Stop()
	for {
		select {
		case <-ticker.C:
			d.joined.ask(s.due(time.Since(begin), d.joined.unasked()))
		case <-timer.C:
			return
		case <-d.unserved:
			return
		case <-ctx.Done():
			return
		}
	}
}

// stop shuts the servers down and waits for those who have joined. A twentieth of Timeout
// is left for closing by force, and a fifth for hooks.
func (d *Drain) stop(ctx context.Context, told <-chan error) []error {
	d.joined.askAll()
	d.mu.Lock()
	servers, hooks := slices.Clone(d.servers), len(d.hooks)
	d.mu.Unlock()
	patience := d.cfg.Timeout / 20 * 19
	if hooks > 0 {
		patience = d.cfg.Timeout / 4 * 3
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	warning := time.AfterFunc(patience-d.cfg.Timeout/10, func() { d.cancel(drainError{}) })
	defer warning.Stop()

	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { errs[i] = d.failed(s.name, s.stop(ctx, d.cfg.Timeout/20)) })
	}
	err := d.joined.wait(ctx)
	wg.Wait()
	return append(errs, d.failed("Join", err), d.failed("OnBegin", await(ctx, told)))
}

// stop shuts one server down, or closes it by force.
func (s *server) stop(ctx context.Context, force time.Duration) error {
	s.stopping.Store(true)
	err := call(ctx, s.Shutdown)
	if err == nil {
		err = s.wait(ctx)
	}
	closer, ok := s.shutdowner.(interface{ Close() error })
	if err == nil || !ok {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), force)
	defer cancel()
	return errors.Join(err, call(ctx, func(context.Context) error { return closer.Close() }))
}

// wait waits until serve has returned, if Run has called it: what it needs is about to be
// closed.
func (s *server) wait(ctx context.Context) error {
	if !s.serving.Load() {
		return nil
	}
	return await(ctx, s.served)
}

// runHooks gives each hook its part of the time that is left.
func (d *Drain) runHooks(ctx context.Context, end time.Time) (errs []error) {
	for h, left := d.nextHook(); left > 0; h, left = d.nextHook() {
		share := time.Until(end) / time.Duration(left)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), share)
		errs = append(errs, d.failed(h.name, call(ctx, h.fn)))
		cancel()
	}
	return errs
}

// nextHook takes the last hook out, and returns how many there were.
func (d *Drain) nextHook() (h hook, left int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	left = len(d.hooks)
	if left > 0 {
		h = d.hooks[left-1]
		d.hooks = d.hooks[:left-1]
	}
	return h, left
}

// failed returns an error with the name of what has failed, or nil.
func (d *Drain) failed(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("health: drain%s: %s: %w", quoted(d.cfg.Name), name, err)
}
