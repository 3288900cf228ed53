package health

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
)

// Run is what a main consists of: it starts the Health and the servers of a [Drain], waits
// for one of its Signals, and drains. It returns when that is over, and not before, as
// ListenAndServe does: a main that returns then drops what is under way.
//
//	func main() {
//		h := health.New(health.Config{Checks: checks})
//		drain := health.NewDrain(health.DrainConfig{Health: h})
//		srv := &http.Server{Addr: ":8080", Handler: handler}
//		drain.Serve("http", srv, srv.ListenAndServe)
//		if err := health.Run(context.Background(), drain); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// The drain begins as well when ctx ends, when somebody calls [Drain.Shutdown], and when one
// of the servers ends: a process without its listener is of no use, and those who start
// processes can only help if it ends. If that was the last server there is no delay.
//
// The error joins what went wrong, the first thing first: that a server ended by itself, and
// with what; then what [Drain.Shutdown] returns. It is nil where a signal, or ctx, was all
// that happened. A Drain can be run once.
//
// From the first signal on the others are nothing special. So the second one ends the
// process at once, as it does without Run. A signal before Run does so too: nobody is
// served yet. And one while the servers start is not lost.
func Run(ctx context.Context, d *Drain) error {
	if !d.running.CompareAndSwap(false, true) {
		return d.failed("Run", errors.New("was called before"))
	}
	signals := make(chan os.Signal, 1)
	if len(d.cfg.Signals) > 0 { // of no signals Notify makes all
		signal.Notify(signals, d.cfg.Signals...)
		defer signal.Stop(signals)
	}
	if ctx.Err() != nil || d.Draining() {
		signal.Stop(signals)
		return d.shutdown(context.WithoutCancel(ctx), false)
	}
	ends := d.start(ctx)
	var first error
	select {
	case <-signals:
	case <-ctx.Done():
	case <-d.begun:
	case first = <-ends:
	}
	signal.Stop(signals)
	// What ends ctx begins the drain; it does not hurry it.
	err := d.shutdown(context.WithoutCancel(ctx), true)
	errs := []error{first}
	for len(ends) > 0 {
		errs = append(errs, <-ends)
	}
	return errors.Join(append(errs, err)...)
}

// start starts everything. The channel has room for the end of each server that ends before
// it was told to.
func (d *Drain) start(ctx context.Context) <-chan error {
	if d.cfg.Health != nil {
		d.cfg.Health.Start(context.WithoutCancel(ctx)) // the checks go on in the drain
	}
	d.mu.Lock()
	var servers []*server
	for _, s := range d.servers {
		if s.serve != nil {
			servers = append(servers, s)
		}
	}
	d.mu.Unlock()
	ends := make(chan error, len(servers))
	left := new(atomic.Int64)
	left.Store(int64(len(servers)))
	for _, s := range servers {
		s.serving.Store(true)
		go contain(s.serve, func(err error) {
			defer close(s.served)
			if !s.stopping.Load() {
				ends <- d.failed(s.name, err)
			}
			if left.Add(-1) == 0 {
				close(d.unserved)
			}
		})
	}
	return ends
}
