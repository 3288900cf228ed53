package stormjib_test

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// A role is what a package is to the import rules.
type role int

const (
	roleCore    role = iota // a pattern, or the root: no net/http, no other pattern
	roleShared              // below internal: no pattern
	roleAdapter             // a pattern brought to net/http, gRPC or Redis: its own pattern only
	roleFree                // examples, benchmarks: nobody imports them
)

// role derives what a directory is from its name alone, so that a new package
// is under the rules from its first file.
func (t *sourceTree) role(dir string) role {
	first, _, _ := strings.Cut(dir, "/")
	switch {
	case runsOnly(dir):
		return roleFree
	case first == "internal", t.nested[first] && strings.Contains(dir, "/internal"):
		return roleShared
	case t.nested[first], path.Base(dir) == path.Base(path.Dir(dir))+"http":
		return roleAdapter
	}
	return roleCore
}

// runsOnly reports whether a directory holds what is run and never imported.
func runsOnly(dir string) bool {
	first, _, _ := strings.Cut(dir, "/")
	return first == "examples" || first == "bench"
}

// checkImports holds packages apart, so that a user of one gets that one. Tests
// are free: they are in nobody's binary, and the order of composition can only
// be tested where several patterns meet.
func checkImports(t *sourceTree, p *sourcePkg) []string {
	var problems []string
	for _, file := range p.files {
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				panic(err) // the parser has accepted it
			}
			if fix := t.forbidden(p.dir, imported); fix != "" {
				problems = append(problems,
					t.problem(spec.Pos(), "%s imports %s; %s", p.dir, imported, fix))
			}
		}
	}
	return problems
}

// forbidden returns how to do without the import, or "" where it is allowed.
func (t *sourceTree) forbidden(dir, imported string) string {
	is := t.role(dir)
	local, ours := strings.CutPrefix(imported, modulePath+"/")
	first, _, _ := strings.Cut(dir, "/")
	switch {
	case is == roleFree:
		return ""
	case within(imported, "google.golang.org/grpc") && first != "grpc":
		return "put what needs gRPC in the nested module grpc"
	case is == roleCore && within(imported, "net/http"):
		return "put what needs HTTP in an adapter, <pattern>/<pattern>http"
	case !ours:
		return ""
	case t.isPattern(local) && !t.mayImport(dir, local):
		return "patterns are independent: let errors tell, or share below internal"
	case is == roleCore && t.reachesHTTP(local, map[string]bool{}):
		return "it brings net/http along: split it"
	}
	return ""
}

func within(imported, prefix string) bool {
	return imported == prefix || strings.HasPrefix(imported, prefix+"/")
}

// isPattern reports whether dir belongs to a pattern, as its core or as an adapter.
func (t *sourceTree) isPattern(dir string) bool {
	is := t.role(dir)
	return is == roleCore && dir != "." || is == roleAdapter
}

// mayImport reports whether the package in dir may import the pattern in other.
func (t *sourceTree) mayImport(dir, other string) bool {
	// What is below a pattern's own internal directory is that pattern.
	dir, _, _ = strings.Cut(dir, "/internal")
	other, _, _ = strings.Cut(other, "/internal")
	if dir == other {
		return true
	}
	family, rest, _ := strings.Cut(dir, "/")
	switch {
	case t.nested[family]:
		// grpc/breakergrpc serves breaker, redis/redislimiter serves limiter: the
		// name less the technology's.
		return slices.Contains(strings.Split(other, "/"), strings.ReplaceAll(rest, family, ""))
	case t.role(dir) == roleAdapter:
		return within(other, family)
	case dir == "retry/hedge" && other == "retry":
		return true // a hedge takes from the budget that retries take from
	}
	// The thin part of cell routing and its control plane are one pattern in two
	// packages, because they fail apart.
	return within(dir, "shuffle/cell") && within(other, "shuffle/cell")
}

// reachesHTTP reports whether a package of ours imports net/http, itself or
// through others of ours.
func (t *sourceTree) reachesHTTP(dir string, seen map[string]bool) bool {
	pkg := t.pkgs[dir]
	if pkg == nil || seen[dir] {
		return false
	}
	seen[dir] = true
	for _, file := range pkg.files {
		for _, spec := range file.Imports {
			imported := strings.Trim(spec.Path.Value, "`\"")
			local, ours := strings.CutPrefix(imported, modulePath+"/")
			if within(imported, "net/http") || ours && t.reachesHTTP(local, seen) {
				return true
			}
		}
	}
	return false
}
