package pressure_test

import (
	"fmt"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stormjib/stormjib/shed/pressure"
)

const (
	statText     = "usage_usec 900\nnr_periods 30\nnr_throttled 4\nthrottled_usec %d\nnr_bursts 0\n"
	pressureText = "some avg10=99.00 avg60=9.87 avg300=0.73 total=%d\n" +
		"full avg10=77.00 avg60=0.00 avg300=0.00 total=7000000\n"
)

// fakeTree is the files of a process in a container, and the two of its cgroup.
func fakeTree(t *testing.T) (tree fstest.MapFS, stat, psi *fstest.MapFile) {
	t.Helper()
	stat = &fstest.MapFile{Data: fmt.Appendf(nil, statText, 0)}
	psi = &fstest.MapFile{Data: fmt.Appendf(nil, pressureText, 0)}
	return fstest.MapFS{
		"proc/self/cgroup": &fstest.MapFile{Data: []byte("0::/\n")},
		"proc/self/mountinfo": &fstest.MapFile{Data: []byte(
			"22 27 0:21 / /proc rw,relatime - proc none rw\n" +
				"31 23 0:27 / /sys/fs/cgroup ro,nosuid shared:9 - cgroup2 cgroup rw\n")},
		"sys/fs/cgroup/cpu.stat":     stat,
		"sys/fs/cgroup/cpu.pressure": psi,
	}, stat, psi
}

// share lets time pass in which a counter goes on by this part of it.
func share(s *pressure.Signal, file *fstest.MapFile, text string, total *int, part float64) {
	for range 100 {
		time.Sleep(100 * time.Millisecond)
		*total += int(part * 100_000)
		file.Data = fmt.Appendf(nil, text, *total)
		s.Level()
	}
}

func TestCPU(t *testing.T) {
	tests := []struct {
		name               string
		throttled, stalled float64 // of the time
		value, level       float64
	}{
		{"calm", 0, 0, 0, 0},
		{"at the start", 0, 0.2, 0.2, 0},
		{"half way", 0, 0.4, 0.4, 0.5},
		{"full", 0, 0.6, 0.6, 1},
		{"all of the time", 0, 1, 1, 1},
		{"more than there is", 0, 3, 1, 1},
		{"throttled on four processors", 1.6, 0, 0.4, 0.5},
		{"both", 1.6, 0.3, 0.4, 0.5},
		{"both, the other way", 0.8, 0.4, 0.4, 0.5},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tree, stat, psi := fakeTree(t)
				s := pressure.NewCPU(pressure.Config{}, tree, 4)
				wantStats(t, s, pressure.Stats{Name: "cpu"})
				throttled, stalled := 0, 0
				for range 100 {
					throttled += int(test.throttled * 100_000)
					stalled += int(test.stalled * 100_000)
					stat.Data = fmt.Appendf(nil, statText, throttled)
					psi.Data = fmt.Appendf(nil, pressureText, stalled)
					time.Sleep(100 * time.Millisecond)
					s.Level()
				}
				got := s.Stats()
				if d := got.Value - test.value; d > 1e-3 || d < -1e-3 {
					t.Errorf("value %v, want %v", got.Value, test.value)
				}
				if d := got.Level - test.level; d > 1e-3 || d < -1e-3 {
					t.Errorf("level %v, want %v", got.Level, test.level)
				}
			})
		})
	}
}

// It takes about a second, not ten.
func TestCPULag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree, _, psi := fakeTree(t)
		s := pressure.NewCPU(pressure.Config{}, tree, 4)
		s.Level()
		total, last := 0, 0.0
		for i := range 20 {
			time.Sleep(100 * time.Millisecond)
			total += 100_000
			psi.Data = fmt.Appendf(nil, pressureText, total)
			got := s.Stats().Value
			if got <= last {
				t.Errorf("value %v after %v", got, last)
			}
			if last = got; i == 9 && (got < 0.5 || got > 0.7) {
				t.Errorf("value %v after a second", got)
			}
		}
		if last < 0.8 {
			t.Errorf("value %v after two", last)
		}
	})
}

func TestCPUCounters(t *testing.T) {
	const off = "no cpu.stat or cpu.pressure of a cgroup v2"
	steps := []struct {
		name string
		data string // of cpu.pressure
		wait time.Duration
		off  string
		up   bool // the value is above 0
	}{
		{"at first", "some avg10=0 total=5000000", 0, "", false},
		{"it grows", "some avg10=0 total=5500000\n", time.Second, "", true},
		{"too soon", "nothing", 99 * time.Millisecond, "", true},
		{"garbage", "some rubbish\xff\x00", time.Second, off, false},
		{"it is back", "some avg10=0 total=9000000\n", time.Second, "", false},
		{"and grows", "some avg10=0 total=9900000\n", time.Second, "", true},
		{"backwards", "some avg10=0 total=100000\n", time.Second, "", true}, // fading
		{"from there", "some avg10=0 total=200000\n", time.Second, "", true},
		{"a pause", "some avg10=0 total=9999999\n", 5001 * time.Millisecond, "", false},
		{"calm after it", "some avg10=0 total=9999999\n", time.Second, "", false},
		{"growing", "some avg10=0 total=10500000\n", time.Second, "", true},
		{"empty", "", time.Second, off, false},
		{"no total", "some avg10=0\n", time.Second, off, false},
		{"negative", "some avg10=0 total=-5\n", time.Second, off, false},
		{"a fraction", "some avg10=0 total=1.5\n", time.Second, off, false},
		{"too large", "some avg10=0 total=99999999999999999999\n", time.Second, off, false},
		{"too large to add up", "some total=18446744073709551615\n", time.Second, off, false},
		{"full alone", "full avg10=0 total=5\n", time.Second, off, false},
		{"the largest", "some total=9223372036854775807\n", time.Second, "", false},
		{"the smallest", "some total=0\n", time.Second, "", false},
		{"all of it", "some total=9223372036854775807\n", time.Second, "", true},
	}
	synctest.Test(t, func(t *testing.T) {
		tree, _, psi := fakeTree(t)
		delete(tree, "sys/fs/cgroup/cpu.stat")
		s := pressure.NewCPU(pressure.Config{}, tree, 2)
		for _, step := range steps {
			time.Sleep(step.wait)
			psi.Data = []byte(step.data)
			got := s.Stats()
			if got.Off != step.off || got.Value > 0 != step.up || got.Level > 1 || got.Level < 0 {
				t.Errorf("%s: %+v", step.name, got)
			}
			if step.off != "" && s.Level() != 0 {
				t.Errorf("%s: level %v", step.name, s.Level())
			}
		}
	})
}

// Each of the two files is enough, and one that turns to garbage leaves the other.
func TestCPUOneFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree, stat, _ := fakeTree(t)
		delete(tree, "sys/fs/cgroup/cpu.pressure")
		s, total := pressure.NewCPU(pressure.Config{}, tree, 1), 0
		s.Level()
		share(s, stat, statText, &total, 0.5)
		if got := s.Stats(); got.Value < 0.49 || got.Off != "" {
			t.Errorf("cpu.stat alone: %+v", got)
		}
		tree, stat, psi := fakeTree(t)
		s, total = pressure.NewCPU(pressure.Config{}, tree, 1), 0
		stat.Data = []byte("usage_usec 17\n") // as where there is no quota
		s.Level()
		share(s, psi, pressureText, &total, 0.5)
		if got := s.Stats(); got.Value < 0.49 || got.Off != "" {
			t.Errorf("cpu.pressure alone: %+v", got)
		}
	})
}

func TestCgroupDir(t *testing.T) {
	const (
		v2     = "31 23 0:27 / /sys/fs/cgroup rw shared:9 - cgroup2 none rw,nsdelegate\n"
		hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup none rw,cpu\n" +
			"41 31 0:38 / /sys/fs/cgroup/unified rw master:1 shared:2 - cgroup2 none rw\n"
		docker = "31 23 0:27 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
	)
	tests := []struct {
		name           string
		groups, mounts string
		want           string // "" if there is none
	}{
		{"a container", "0::/\n", v2, "sys/fs/cgroup"},
		{
			"a unit of systemd", "0::/system.slice/shop.service\n", v2,
			"sys/fs/cgroup/system.slice/shop.service",
		},
		{"a container without a namespace", "0::/docker/abc\n", docker, "sys/fs/cgroup"},
		{"a group in it", "0::/docker/abc/init\n", docker, "sys/fs/cgroup/init"},
		{"one beside it", "0::/docker/abcdef\n", docker, ""},
		{"one that is not seen", "0::/../other\n", docker, ""},
		{"both versions", "3:cpu,cpuacct:/a\n0::/b\n", hybrid, "sys/fs/cgroup/unified/b"},
		{"version 1", "3:cpu,cpuacct:/a\n2:memory:/a\n", hybrid, ""},
		{"version 2, not mounted", "0::/a\n", "22 27 0:21 / /proc rw - proc none rw\n", ""},
		{"the second mount", "0::/a\n", docker + v2, "sys/fs/cgroup/a"},
		{"no newline", "0::/a", v2[:len(v2)-1], "sys/fs/cgroup/a"},
		{"nothing", "", "", ""},
		{"garbage", "\x00\xff::\n0:\n0::\n", " - cgroup2 \n\n - \n1 2 3 - cgroup2 x\n", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree := fstest.MapFS{
				"proc/self/cgroup":    &fstest.MapFile{Data: []byte(test.groups)},
				"proc/self/mountinfo": &fstest.MapFile{Data: []byte(test.mounts)},
			}
			got, ok := pressure.CgroupDir(tree)
			if got != test.want || ok != (test.want != "") {
				t.Errorf("got %q, %v, want %q", got, ok, test.want)
			}
		})
	}
}

// Whatever is missing, the signal is off and nothing fails.
func TestCPUOff(t *testing.T) {
	full, _, _ := fakeTree(t)
	for missing := range full {
		tree, _, _ := fakeTree(t)
		delete(tree, missing)
		s := pressure.NewCPU(pressure.Config{}, tree, 2)
		enough := missing == "sys/fs/cgroup/cpu.stat" || missing == "sys/fs/cgroup/cpu.pressure"
		if got := s.Stats(); (got.Off == "") != enough || got.Level != 0 {
			t.Errorf("without %s: %+v", missing, got)
		}
	}
	if got := pressure.NewCPU(pressure.Config{}, fstest.MapFS{}, 2).Stats(); got.Off == "" {
		t.Errorf("without anything: %+v", got)
	}
	directory, _, _ := fakeTree(t)
	delete(directory, "sys/fs/cgroup/cpu.stat")
	delete(directory, "sys/fs/cgroup/cpu.pressure")
	directory["sys/fs/cgroup/cpu.stat/x"] = &fstest.MapFile{}
	if got := pressure.NewCPU(pressure.Config{}, directory, 2).Stats(); got.Off == "" {
		t.Errorf("with a directory: %+v", got)
	}
	// And on whatever machine this is.
	if got := pressure.CPU(pressure.Config{}).Stats(); got.Level != 0 {
		t.Errorf("at once %+v", got)
	}
}

func FuzzCgroupDir(f *testing.F) {
	f.Add("0::/a\n", "31 23 0:27 / /sys/fs/cgroup rw - cgroup2 none rw\n", "some total=1\n")
	f.Fuzz(func(t *testing.T, groups, mounts, text string) {
		synctest.Test(t, func(t *testing.T) {
			tree, stat, psi := fakeTree(t)
			stat.Data, psi.Data = []byte(text), []byte(text)
			s := pressure.NewCPU(pressure.Config{}, tree, 2)
			s.Level()
			time.Sleep(time.Second)
			if got := s.Level(); !(got >= 0 && got <= 1) {
				t.Errorf("level %v", got)
			}
			tree["proc/self/cgroup"].Data = []byte(groups)
			tree["proc/self/mountinfo"].Data = []byte(mounts)
			pressure.NewCPU(pressure.Config{}, tree, 2).Level()
		})
	})
}
