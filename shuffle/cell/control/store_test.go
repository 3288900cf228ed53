package control_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stormjib/stormjib/shuffle/cell"
	"github.com/stormjib/stormjib/shuffle/cell/control"
)

func record(t *testing.T, version uint64) control.Record {
	t.Helper()
	s := small()
	s.Version = version
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return control.Record{Version: version, Map: b}
}

func TestStores(t *testing.T) {
	for name, store := range map[string]control.Store{
		"memory": &control.Memory{},
		"file":   control.NewFile(filepath.Join(t.TempDir(), "cells")),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if r, err := store.Load(ctx); err != nil || r.Version != 0 {
				t.Errorf("an empty store has %v, %v", r, err)
			}
			for _, step := range []struct {
				old, next uint64
				good      bool
			}{
				{1, 2, false},
				{0, 1, true},
				{0, 2, false},
				{1, 2, true},
				{1, 3, false},
				{2, 7, true},
			} {
				err := store.CompareAndSwap(ctx, step.old, record(t, step.next))
				if (err == nil) != step.good || err != nil && !errors.Is(err, control.ErrConflict) {
					t.Errorf("from %d to %d: %v", step.old, step.next, err)
				}
			}
			got, err := store.Load(ctx)
			want := record(t, 7)
			if err != nil || got.Version != 7 || !bytes.Equal(got.Map, want.Map) {
				t.Errorf("it has version %d, %v", got.Version, err)
			}
		})
	}
}

// Many stores of one path, as in many processes: of each version there is one winner.
func TestFileRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cells")
	const movers, rounds = 8, 10
	won := make([]int, rounds+1)
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range movers {
		wait.Go(func() {
			f := control.NewFile(path)
			for {
				r, err := f.Load(t.Context())
				if err != nil || r.Version >= rounds {
					if err != nil {
						t.Error(err)
					}
					return
				}
				err = f.CompareAndSwap(t.Context(), r.Version, record(t, r.Version+1))
				if err == nil {
					mu.Lock()
					won[r.Version+1]++
					mu.Unlock()
				} else if !errors.Is(err, control.ErrConflict) {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	for version, n := range won[1:] {
		if n != 1 {
			t.Errorf("version %d was stored %d times", version+1, n)
		}
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 2 {
		t.Errorf("left are %v, %v", files, err)
	}
}

func TestFileDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cells")
	whole := record(t, 1).Map
	for _, n := range []int{0, 1, len(whole) / 2, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		f := control.NewFile(path)
		if _, err := f.Load(t.Context()); !errors.Is(err, cell.ErrInvalid) {
			t.Errorf("%d bytes: Load returns %v", n, err)
		}
		err := f.CompareAndSwap(t.Context(), 0, record(t, 2))
		if !errors.Is(err, cell.ErrInvalid) {
			t.Errorf("%d bytes: CompareAndSwap returns %v", n, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f := control.NewFile(path)
	wrong := record(t, 1)
	wrong.Version = 2
	if err := f.CompareAndSwap(t.Context(), 0, wrong); !errors.Is(err, cell.ErrInvalid) {
		t.Errorf("a record that is not of its version: %v", err)
	}
}

// What a process that was killed has left is swept away, and nothing else.
func TestFileSweeps(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cells")
	for _, name := range []string{"cells.123.tmp", "cells.1", "other.5.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := control.NewFile(path).CompareAndSwap(t.Context(), 0, record(t, 1)); err != nil {
		t.Fatal(err)
	}
	files, _ := os.ReadDir(dir)
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	if got := strings.Join(names, " "); got != "cells cells.1 cells.lock other.5.tmp" {
		t.Errorf("there are %s", got)
	}
}

func TestFileWithoutADirectory(t *testing.T) {
	f := control.NewFile(filepath.Join(t.TempDir(), "none", "cells"))
	if _, err := f.Load(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load returns %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Load(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Load returns %v", err)
	}
}

func TestUnitText(t *testing.T) {
	for _, u := range []control.Unit{
		{},
		{Index: 65535},
		{Tenant: "acme"},
		{Tenant: "a/b"},
		{Tenant: "acme", Index: 3},
		{Tenant: "a/b/c", Index: 1},
		{Tenant: "7", Index: 7},
	} {
		text, _ := u.MarshalText()
		var got control.Unit
		if err := got.UnmarshalText(text); err != nil || got != u {
			t.Errorf("%s becomes %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "slot", "slot/", "slot/-1", "slot/1/a", "slot/65536", "tenant/", "part/1",
		"part/1/", "x/1",
	} {
		if err := new(control.Unit).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a unit", text)
		}
	}
}

func FuzzUnitText(f *testing.F) {
	f.Add("slot/1")
	f.Add("part/3/acme")
	f.Add("tenant/a/b")
	f.Fuzz(func(t *testing.T, text string) {
		var u, again control.Unit
		if u.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(u.String())); err != nil || again != u {
			t.Errorf("%q is %+v, which is %q, which is %+v", text, u, u.String(), again)
		}
	})
}

// Each tenant is in one unit.
func TestUnitHas(t *testing.T) {
	s := small()
	s.Prefixes = map[string]cell.Assignment{"trial-": {Cell: "b", Epoch: 1}}
	s.Splits = map[string][]cell.Assignment{
		"globex": {{Cell: "a", Epoch: 1}, {Cell: "b", Epoch: 1}},
	}
	all := []control.Unit{
		acme,
		{Tenant: "globex"},
		{Tenant: "globex", Index: 1},
		{},
		{Index: 1},
		{Index: 2},
		{Index: 3},
	}
	for _, tenant := range []string{"acme", "globex", "trial-1", "one", "two", "three"} {
		for key := range 8 {
			n := 0
			for _, u := range all {
				if u.Has(s, tenant, strconv.Itoa(key)) {
					n++
				}
			}
			if want := map[bool]int{false: 1, true: 0}[tenant == "trial-1"]; n != want {
				t.Errorf("%d units have %s", n, tenant)
			}
		}
	}
}
