package control_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/control"
)

// newStore returns a store with a map of two cells that share eight slots.
func newStore() control.Store {
	s := &cell.Snapshot{
		Version: 1, Lease: time.Millisecond,
		Cells: []cell.Cell{{ID: "cell-1", Capacity: 10}, {ID: "cell-2", Capacity: 10}},
	}
	for i := range 8 {
		s.Slots = append(s.Slots, cell.Assignment{Cell: s.Cells[i%2].ID, Epoch: 1})
	}
	store := &control.Memory{}
	c := control.New(control.Config{Store: store})
	if err := c.Create(context.Background(), s); err != nil {
		fmt.Println(err)
	}
	return store
}

// printing returns hooks that say what they would do.
func printing() control.Hooks {
	say := func(what string) func(context.Context, control.Move) error {
		return func(_ context.Context, m control.Move) error {
			fmt.Println(what, m.Unit, "from", m.From, "to", m.To)
			return nil
		}
	}
	return control.Hooks{
		Copy: say("copy"), Verify: say("verify"), CatchUp: say("catch up"), Clean: say("clean"),
	}
}

func ExampleController() {
	controller := control.New(control.Config{
		Store: newStore(), Hooks: printing(), Poll: time.Millisecond,
	})
	ctx := context.Background()
	if err := controller.Move(ctx, control.Unit{Tenant: "acme"}, "cell-1"); err != nil {
		fmt.Println(err)
		return
	}
	why, _ := controller.Explain(ctx, "acme", "")
	fmt.Println("acme is in", why.Assignment.Cell, "by its", why.Source)
	// Output:
	// copy tenant/acme from cell-2 to cell-1
	// verify tenant/acme from cell-2 to cell-1
	// catch up tenant/acme from cell-2 to cell-1
	// clean tenant/acme from cell-2 to cell-1
	// acme is in cell-1 by its tenant
}

// What would be done, and what if a cell died.
func ExampleController_Plan() {
	controller := control.New(control.Config{Store: newStore()})
	ctx := context.Background()
	plan, _ := controller.Plan(ctx, control.Goal{Add: []cell.Cell{{ID: "cell-3", Capacity: 10}}})
	fmt.Print(plan)
	plan, _ = controller.Simulate(ctx, "cell-1")
	fmt.Print(plan)
	// Output:
	// 2 moves, 0 without a place, from version 1
	// cell-1: load 4 to 3 of 10, 0.40 to 0.30
	// cell-2: load 4 to 3 of 10, 0.40 to 0.30
	// cell-3: load 0 to 2 of 10, 0.00 to 0.20
	// 4 moves, 0 without a place, from version 1
	// cell-1: load 4 to 0 of 10, 0.40 to 0.00
	// cell-2: load 4 to 8 of 10, 0.40 to 0.80, which is above the headroom
}

// A configuration from a file is looked at before it can panic.
func ExampleConfig_Validate() {
	fmt.Println(control.Config{Store: newStore(), Headroom: 60}.Validate())
	// Output:
	// control: Config: Headroom is 60, but must be from 0 to 1
}

func ExampleFile() {
	dir, err := os.MkdirTemp("", "cells")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	first, _ := newStore().Load(ctx)
	store := control.NewFile(filepath.Join(dir, "cells"))
	fmt.Println(store.CompareAndSwap(ctx, 0, first))
	err = store.CompareAndSwap(ctx, 0, first)
	fmt.Println(err, errors.Is(err, control.ErrConflict))
	// Output:
	// <nil>
	// control: the store has another version: 1, and not 0 true
}

func ExampleMemory() {
	var store control.Memory
	_, err := control.New(control.Config{Store: &store}).Snapshot(context.Background())
	fmt.Println(err)
	// Output: control: the store is empty
}

func ExampleUnit() {
	fmt.Println(control.Unit{Index: 17}, control.Unit{Tenant: "acme"},
		control.Unit{Tenant: "globex", Index: 3})
	// Output: slot/17 tenant/acme part/3/globex
}
