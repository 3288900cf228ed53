package cell_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

// diskConfig is that of a router that has no control plane.
func diskConfig(path string) cell.Config {
	return cell.Config{
		Path: path, Replica: "a-1",
		Source: func(context.Context) ([]byte, error) { return nil, errDown },
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pullInto has a process pull some maps, one after the other, and end.
func pullInto(t *testing.T, path, replica string, maps ...*cell.Snapshot) cell.Stats {
	t.Helper()
	var stats cell.Stats
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		p.publish(t, maps[0])
		r := cell.New(cell.Config{Source: p.pull, Path: path, Replica: replica})
		stop := run(t, r)
		for _, s := range maps[1:] {
			p.publish(t, s)
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		stop()
		stats = r.Stats()
	})
	return stats
}

func TestDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cells")
	stats := pullInto(t, path, "a-1", small(1), small(2), small(3), small(3))
	if stats.Durable != 3 || stats.DiskErrors != 0 || stats.LastError != nil {
		t.Errorf("%+v", stats)
	}
	want := "replica \"a-1\"\n" + string(encode(t, small(3)))
	if got := read(t, path); got != want {
		t.Errorf("%s has\n%s", path, got)
	}
	if got := read(t, path+".1"); !strings.HasSuffix(got, string(encode(t, small(2)))) {
		t.Errorf("%s.1 has\n%s", path, got)
	}
	files, _ := os.ReadDir(filepath.Dir(path))
	if len(files) != 2 {
		t.Errorf("%d files", len(files))
	}
	r := cell.New(diskConfig(path))
	got, err := r.Route("acme")
	if err != nil || got.Version() != 3 || !got.Stale || r.Ready() != nil {
		t.Errorf("%+v, %v, %v", got, err, r.Ready())
	}
	if got.Age() < 24*time.Hour { // Issued was in 1970
		t.Errorf("Age is %v", got.Age())
	}
	if s := r.Stats(); s.Origin != "disk" || s.Durable != 3 || s.Slots != 4 || s.Cells != 2 {
		t.Errorf("%+v", s)
	}
}

// What there is at the start, and what is made of it.
func TestBoot(t *testing.T) {
	three, two, seed := string(encode(t, small(3))), string(encode(t, small(2))), encode(t,
		small(1))
	torn := three[:len(three)/2]
	for _, test := range []struct {
		name           string
		path, previous string // "": no such file
		seed           []byte
		allow          bool
		version        uint64
		origin         string
		ready          bool
		errors         uint64
	}{
		{"nothing", "", "", nil, false, 0, "", false, 0},
		{"a map", three, two, seed, false, 3, "disk", true, 0},
		{"torn", torn, two, seed, false, 2, "previous", true, 1},
		{"empty, as after a loss of power", "\x00", two, seed, false, 2, "previous", true, 1},
		{"between the renames", "", two, seed, false, 2, "previous", true, 0},
		{"both torn", torn, torn, seed, false, 1, "seed", false, 2},
		{"both torn, and nothing else", torn, torn, nil, false, 0, "", false, 2},
		{"an ephemeral disk", "", "", seed, false, 1, "seed", false, 0},
		{"where a seed will do", "", "", seed, true, 1, "seed", true, 0},
		{"a seed that is none", "", "", []byte("seed"), true, 0, "", false, 0},
		{"a first line that is none", "replica x\n" + three, "", seed, true, 1, "seed", true, 1},
		{"too large", three + strings.Repeat("x", 10_000), "", nil, false, 0, "", false, 1},
		{"of another program", "{}", "", nil, false, 0, "", false, 1},
	} {
		path := filepath.Join(t.TempDir(), "cells")
		for name, text := range map[string]string{path: test.path, path + ".1": test.previous} {
			if text != "" {
				write(t, name, text)
			}
		}
		cfg := diskConfig(path)
		cfg.Seed, cfg.AllowSeed, cfg.MaxBytes = test.seed, test.allow, 5000
		r := cell.New(cfg)
		s := r.Stats()
		if s.Version != test.version || s.Origin != test.origin || s.DiskErrors != test.errors {
			t.Errorf("%s: %+v", test.name, s)
		}
		if (r.Ready() == nil) != test.ready {
			t.Errorf("%s: Ready is %v", test.name, r.Ready())
		}
		if _, err := r.Route("x"); (err == nil) != (test.version > 0) {
			t.Errorf("%s: %v", test.name, err)
		}
		if (s.LastError != nil) != (test.errors > 0 || string(test.seed) == "seed") {
			t.Errorf("%s: LastError is %v", test.name, s.LastError)
		}
	}
}

// Every file that a process could leave that is killed while it writes, or a machine that
// loses its power: a start finds one of the two maps whole.
func TestCrashWhileWriting(t *testing.T) {
	old, next := string(encode(t, small(2))), string(encode(t, small(3)))
	for n := 0; n <= len(next); n += 7 {
		for name, files := range map[string]map[string]string{
			"the temporary file": {"cells": old, "cells.77.tmp": next[:n]},
			"after one rename":   {"cells.1": old, "cells.77.tmp": next},
			"a rename before its data": {
				"cells.1": old, "cells": next[:min(n, len(next)-1)],
			},
		} {
			dir := t.TempDir()
			for file, text := range files {
				write(t, filepath.Join(dir, file), text)
			}
			r := cell.New(diskConfig(filepath.Join(dir, "cells")))
			if v := r.Stats().Version; v != 2 || r.Ready() != nil {
				t.Fatalf("%s, %d bytes: version %d", name, n, v)
			}
		}
	}
}

func TestLeftOversAreSweptUp(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cells.1.tmp", "cells.2.tmp", "cells.x", "other.3.tmp"} {
		write(t, filepath.Join(dir, name), "x")
	}
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{"cells.1.tmp", "cells.x", "other.3.tmp"} {
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	cell.New(diskConfig(filepath.Join(dir, "cells")))
	var left []string
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		left = append(left, f.Name())
	}
	if got := strings.Join(left, " "); got != "cells.2.tmp cells.x other.3.tmp" {
		t.Errorf("left are %s", got)
	}
}

// A disk that cannot be written to changes no route, and shows. When it can, it is.
func TestDiskThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	synctest.Test(t, func(t *testing.T) {
		var kinds []string
		p := &plane{}
		p.publish(t, small(1))
		r := cell.New(cell.Config{
			Source: p.pull, Path: filepath.Join(dir, "cells"), Replica: "a-1",
			OnEvent: func(e cell.Event) { kinds = append(kinds, e.Kind) },
		})
		g := cell.NewGate(cell.GateConfig{Cell: "a", Router: r})
		defer run(t, r)()
		if got := strings.Join(kinds, " "); got != "applied disk" {
			t.Errorf("events: %s", got)
		}
		s := r.Stats()
		if s.Version != 1 || s.DiskErrors != 1 || s.Durable != 0 || !errors.Is(s.LastError,
			os.ErrNotExist) {
			t.Errorf("%+v", s)
		}
		if v := g.Settled(); v != 0 {
			t.Errorf("settled %d, which a restart would not know of", v)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := r.Stats(); s.Durable != 1 || s.DiskErrors != 1 || g.Settled() != 1 {
			t.Errorf("%+v, settled %d", s, g.Settled())
		}
	})
}

// Of two processes with one file, one of which is cut off, the later map wins; and neither
// writes after a restart by what the other has left there.
func TestTwoProcessesOnOnePath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cells")
	pullInto(t, path, "a-1", small(5))
	slow := pullInto(t, path, "a-2", small(4))
	if slow.Version != 5 || slow.Rejected == 0 {
		t.Errorf("the other begins with what is there: %+v", slow)
	}

	synctest.Test(t, func(t *testing.T) {
		p, q := &plane{}, &plane{}
		p.publish(t, small(6))
		q.publish(t, small(5))
		first := cell.New(cell.Config{Source: p.pull, Path: path, Replica: "a-1"})
		second := cell.New(cell.Config{Source: q.pull, Path: path, Replica: "a-2"})
		defer run(t, second)()
		defer run(t, first)()
		p.publish(t, small(8))
		time.Sleep(5 * time.Second)
		q.publish(t, small(7)) // late
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := second.Stats(); s.Version != 7 || s.Durable != 5 || s.DiskErrors == 0 {
			t.Errorf("the slower one: %+v", s)
		}
		if got := read(t, path); !strings.Contains(got, `"version":8`) {
			t.Errorf("the later map is gone: %s", got)
		}
	})
	for replica, want := range map[string]string{
		"a-1": "", "a-2": `cell: paused for tenant "tenant-4": no lease`,
	} {
		cfg := diskConfig(path)
		cfg.Replica = replica
		g := cell.NewGate(cell.GateConfig{Cell: "a", Router: cell.New(cfg)})
		if got := enter(g, "tenant-4", 1, true); got != want {
			t.Errorf("%s: %s", replica, got)
		}
	}
}
