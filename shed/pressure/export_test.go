package pressure

import "io/fs"

// NewMemory and the others make signals that read what a test says.
func NewMemory(cfg Config, read func([]float64)) *Signal    { return newMemory(cfg, read) }
func NewScheduler(cfg Config, read func([]float64)) *Signal { return newScheduler(cfg, read) }
func NewCPU(cfg Config, root fs.FS, procs int) *Signal {
	return newCPU(cfg, root, func() int { return procs })
}

// RuntimeReader and CgroupDir are what the signals themselves read with.
func RuntimeReader(names ...string) func([]float64) { return runtimeReader(names...) }
func CgroupDir(root fs.FS) (string, bool)           { return cgroupDir(root) }
