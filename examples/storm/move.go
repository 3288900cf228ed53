package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/cellhttp"
	"github.com/stormjib/stormjib/shuffle/cell/control"
)

// A tenant who writes 100 times a second is moved from one cell to another, and back. Each
// cell has two replicas, and one copy of the tenant's data. In the second move one of the
// source's replicas hears nothing from just before the flip until it is over, and is asked
// as often as before: whoever believes that it has stopped is wrong.
//
// A copy takes half a second. What is written to the source after that is lost for the
// target, unless it is copied again when nobody writes any more; and nobody writes any more
// only when each replica has said so, or can't by itself.
const (
	moveThere  = 3 * time.Second
	moveBack   = 9 * time.Second
	moveTakes  = 500 * time.Millisecond // a copy
	movePoll   = 200 * time.Millisecond // of the map, by all who have one
	moveLease  = time.Second
	moveTenant = "mover"
)

var _ = register(&Scenario{
	Name: "move",
	Shows: "a tenant who writes is moved between two cells of two replicas, there and back; one " +
		"replica\n  is cut off in the second flip",
	Note: "while the tenant changes cells its writes wait, and are sent again: that is the p99, " +
		"and tuned\n  has it as well",

	Topology: Topology{
		Transport: "http",
		Slots:     16,
		Service:   20 * time.Millisecond,
		Patience:  8 * time.Second,
		InFlight:  2000,
		Kinds: []Kind{
			{Name: moveTenant, Share: 0.5},
			{Name: "user", Share: 0.5, Clients: 20},
		},
	},
	Calibration: 1500 * time.Millisecond,
	Warmup:      2 * time.Second,
	Duration:    16 * time.Second,
	Needs:       15 * time.Second,
	Tick:        500 * time.Millisecond,

	Load: []Load{{Multiple: 0.27}},

	Variants: []Variant{
		{"bare", "copied, and then the edge's table is changed", bareMove},
		{"tuned", "writes stopped by a flag that replicas poll, two polls, copied", tunedMove},
		{"stormjib", "cellhttp, cell.Gate and control.Controller", stormjibMove},
	},
	Promises: []Promise{{
		Text:    "of the mover's writes that users were told are done, those that its cell has",
		Unit:    "%",
		AtLeast: 100,
		Value: func(own, _ *Record) float64 {
			s := own.moved()
			return percent(s.Told-s.Lost, s.Told)
		},
	}, {
		Text:    "of its writes, those that were not accepted by a cell that it had left",
		Unit:    "%",
		AtLeast: 100,
		Value: func(own, _ *Record) float64 {
			s := own.moved()
			return percent(s.Accepted-s.Stray, s.Accepted)
		},
	}, {
		Text:    "answered in time, of all, with both moves made",
		Unit:    "%",
		AtLeast: 100,
		Value: func(own, _ *Record) float64 {
			if own.moved().Moves < 2 {
				return 0
			}
			t := own.span(0, own.Length)
			return percent(t.Good, t.Offered)
		},
	}},
})

// moved returns what the variant says of its moves.
func (r *Record) moved() (s MoveStats) {
	_ = json.Unmarshal(r.Stats, &s) // Without any, there was no move.
	return s
}

// bareMove has one table, at the edge.
func bareMove(Topology) Protection {
	m := newMoving()
	var home atomic.Int32
	m.relocate = func(ctx context.Context, from, to int) error {
		if err := m.copy(ctx, from, to); err != nil {
			return err
		}
		home.Store(int32(to))
		return nil
	}
	return m.protection(func(base http.RoundTripper) http.RoundTripper {
		return chosen{base, func(tenant string) (string, error) {
			if tenant != moveTenant {
				return nodeName(0), nil
			}
			return nodeName(int(home.Load())), nil
		}}
	}, func(_, _ int, next http.Handler) http.Handler { return next })
}

// tunedMove stops the writes before it copies, and gives replicas the time to hear of it.
func tunedMove(Topology) Protection {
	m := newMoving()
	var home, frozen atomic.Int32 // frozen is a cell, from 1 on
	m.relocate = func(ctx context.Context, from, to int) error {
		m.silence()
		frozen.Store(int32(from) + 1)
		if err := sleep(ctx, 2*movePoll); err != nil {
			return err
		}
		if err := m.copy(ctx, from, to); err != nil {
			return err
		}
		home.Store(int32(to))
		frozen.Store(0)
		m.silent.Store(false)
		return nil
	}
	return m.protection(func(base http.RoundTripper) http.RoundTripper {
		return chosen{base, func(tenant string) (string, error) {
			if tenant != moveTenant {
				return nodeName(0), nil
			}
			return nodeName(int(home.Load())), nil
		}}
	}, func(where, replica int, next http.Handler) http.Handler {
		var stopped atomic.Bool
		go func() {
			for range time.Tick(movePoll) {
				if !m.deaf(where, replica) {
					stopped.Store(frozen.Load() == int32(where)+1)
				}
			}
		}()
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if stopped.Load() && r.Header.Get(clientField) == moveTenant {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "the tenant is being moved", http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
}

// stormjibMove leaves the steps to the controller. There is no fence in the data, so that
// what is seen is what the gates let through.
func stormjibMove(Topology) Protection {
	m := newMoving()
	controller := control.New(control.Config{
		Store: new(control.Memory),
		Poll:  movePoll / 4,
		Hooks: control.Hooks{
			Copy: func(ctx context.Context, v control.Move) error {
				return m.copy(ctx, numberOf(v.From), numberOf(v.To))
			},
			Verify: func(context.Context, control.Move) error {
				m.silence() // The next step is the flip.
				return nil
			},
			CatchUp: func(_ context.Context, v control.Move) error {
				m.level(numberOf(v.From), numberOf(v.To))
				return nil
			},
		},
		OnChange: func(c control.Change) {
			if c.To.Phase == cell.Draining {
				m.silent.Store(false)
			}
		},
	})
	m.relocate = func(ctx context.Context, _, to int) error {
		return controller.Move(ctx, control.Unit{Tenant: moveTenant}, nodeName(to))
	}
	first := &cell.Snapshot{
		Version: 1, Issued: time.Now(), Lease: moveLease,
		Cells: []cell.Cell{
			{ID: nodeName(0), Address: nodeName(0)}, {ID: nodeName(1), Address: nodeName(1)},
		},
		Slots: []cell.Assignment{{Cell: nodeName(0), Epoch: 1}},
	}
	seed, err := first.Encode()
	if err = errors.Join(err, controller.Create(context.Background(), first)); err != nil {
		panic(err) // There is nothing in it that could be an error.
	}
	return m.protection(func(base http.RoundTripper) http.RoundTripper {
		edge := cell.New(cell.Config{
			Period: movePoll, Seed: seed, AllowSeed: true,
			Source: func(ctx context.Context) ([]byte, error) {
				return controller.Pull(ctx, control.Report{})
			},
		})
		go func() { _ = edge.Run(context.Background()) }() // Ends with the process.
		return &cellhttp.Transport{Base: base, Router: edge, Tenant: tenantOf}
	}, func(where, replica int, next http.Handler) http.Handler {
		gate := m.gate(controller, where, replica)
		return (&cellhttp.Middleware{Gate: gate, Tenant: tenantOf}).Handler(next)
	})
}

func tenantOf(r *http.Request) string { return r.Header.Get(clientField) }

// gate returns the gate of a replica, whose router hears nothing while it is deaf.
func (m *moving) gate(controller *control.Controller, where, replica int) *cell.Gate {
	var gate *cell.Gate
	name := nodeName(where) + "/" + nodeName(replica)
	router := cell.New(cell.Config{
		Period: movePoll, Replica: name,
		Source: func(ctx context.Context) ([]byte, error) {
			if m.deaf(where, replica) {
				return nil, errNoControl
			}
			return controller.Pull(ctx, control.Report{
				Cell: nodeName(where), Replica: name, Settled: gate.Settled(),
			})
		},
	})
	gate = cell.NewGate(cell.GateConfig{Cell: nodeName(where), Router: router})
	go func() { _ = router.Run(context.Background()) }() // Ends with the process.
	return gate
}

func numberOf(name string) int {
	if name == nodeName(1) {
		return 1
	}
	return 0
}
