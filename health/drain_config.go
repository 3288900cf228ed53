package health

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// DrainConfig says how a process ends. The zero DrainConfig is one for a pod of Kubernetes
// with the grace period that it has if nobody says otherwise.
type DrainConfig struct {
	// Name is carried in errors. It is for people, and need not be unique.
	Name string

	// Health is made not ready when the drain begins, and stopped before the hooks. [Run]
	// starts it. If it has not been ready yet nobody sends requests, and Delay is left
	// out. If nil, readiness is to be seen to in OnBegin.
	Health *Health

	// Delay is for how long requests are served after readiness is off, for those who
	// have not noticed yet: at least the interval of the load balancer's checks times the
	// number that must fail, and the timeout of one. As they come that is 8s of HAProxy (2s,
	// 3 checks, 2s), 15s of Google's balancers (5s, 2, 5s) and 65s of Amazon's (30s, 2, 5s).
	// Kubernetes does not wait for checks when it ends a pod, but its nodes take seconds to
	// hear of it. If zero, 5s, which is usual there. If negative, there is none.
	Delay time.Duration

	// Timeout is for everything after Delay: for the servers to answer what they have
	// begun to, and for the hooks, which have the last fifth of it, if there are any. If
	// zero, 20s: with Delay and two seconds to spare it is within the 30s of Kubernetes.
	Timeout time.Duration

	// GracePeriod is after what time the process is killed, less what a preStop hook takes
	// of it: of a pod, its terminationGracePeriodSeconds. [DrainConfig.Validate] sees to it
	// that the drain fits, with two seconds to spare. If zero, nobody does.
	GracePeriod time.Duration

	// Signals are those that have [Run] begin the drain. If nil, SIGTERM, and os.Interrupt
	// for those who sit in front of it. If empty but not nil, none, as in a test.
	Signals []os.Signal

	// OnBegin is called when the drain begins, after Health has been told, on a goroutine
	// of its own. It is for what else makes readiness known, such as the health service
	// of gRPC, and should be quick: Delay does not wait for it. It may call any method but
	// Shutdown. A panic is an error of the drain. If nil, nobody is told.
	OnBegin func()
}

const (
	spare   = 2 * time.Second
	maxStay = 24 * time.Hour
)

// Validate returns an error that names every field that has no meaning, with its value,
// or nil. [NewDrain] panics with the same text.
func (c DrainConfig) Validate() error {
	var bad problems
	bad.check(c.Delay <= maxStay, "Delay", c.Delay, "be at most 24h")
	bad.check(c.Timeout >= 0 && c.Timeout <= maxStay, "Timeout", c.Timeout,
		"not be negative, and be at most 24h")
	if bad == nil {
		full := c.filled()
		least := full.Delay + full.Timeout + spare
		bad.check(c.GracePeriod == 0 || c.GracePeriod >= least, "GracePeriod", c.GracePeriod,
			"be at least "+least.String()+", Delay and Timeout and two seconds")
	}
	bad.check(!slices.Contains(c.Signals, nil), "Signals", c.Signals, "have no nil in it")
	if bad == nil {
		return nil
	}
	return errors.New("health: DrainConfig" + quoted(c.Name) + ": " + strings.Join(bad, "; "))
}

// filled returns c with its defaults.
func (c DrainConfig) filled() DrainConfig {
	c.Delay = max(0, cmp.Or(c.Delay, 5*time.Second))
	c.Timeout = cmp.Or(c.Timeout, 20*time.Second)
	c.Signals = slices.Clone(c.Signals)
	if c.Signals == nil {
		c.Signals = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	return c
}
