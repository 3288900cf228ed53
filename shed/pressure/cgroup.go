package pressure

import (
	"io/fs"
	"path"
	"strings"
)

// cgroupDir returns the directory of the process's cgroup of version 2, as a path in root.
// Not simply /sys/fs/cgroup: that is right in a container with a namespace of its own, and
// on the host is the group of all processes.
func cgroupDir(root fs.FS) (string, bool) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return "", false
	}
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(groups)) {
		if group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return mounted(string(mounts), group)
		}
	}
	return "", false
}

// mounted returns where a group can be seen. A line of mountinfo is like
//
//	31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 none rw
//
// with the group that is mounted, its mount point, any number of optional fields, a
// dash, and the type.
func mounted(mounts, group string) (string, bool) {
	for line := range strings.Lines(mounts) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !strings.HasPrefix(after, "cgroup2 ") || len(fields) < 5 {
			continue
		}
		top, point := fields[3], fields[4]
		below, ok := strings.CutPrefix(group, strings.TrimSuffix(top, "/"))
		if ok && (below == "" || below[0] == '/') {
			return strings.TrimPrefix(path.Join(point, below), "/"), true
		}
	}
	return "", false
}
