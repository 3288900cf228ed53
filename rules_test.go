package stormjib_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Each rule is shown failing, and passing, on a tree of a few lines: a rule that
// cannot fail holds nothing.

// treeOf reads a tree from text in which a line "-- name --" begins each file.
func treeOf(t *testing.T, text string) *sourceTree {
	t.Helper()
	tree, err := readTree(filesOf(text))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func filesOf(text string) fstest.MapFS {
	files := fstest.MapFS{}
	for _, part := range strings.Split("\n"+text, "\n-- ")[1:] {
		name, body, _ := strings.Cut(part, " --")
		body = strings.TrimPrefix(body, "\n") + "\n"
		files[name] = &fstest.MapFile{Data: []byte(body)}
	}
	return files
}

// problemsOf applies one rule to the whole tree.
func problemsOf(tree *sourceTree, check func(*sourceTree, *sourcePkg) []string) []string {
	var problems []string
	for _, pkg := range tree.sorted() {
		problems = append(problems, check(tree, pkg)...)
	}
	return problems
}

// wantProblems compares problems with the beginnings they should have.
func wantProblems(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got problems\n\t%s\nwant\n\t%s",
			strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

type ruleTest struct {
	name string
	tree string
	want []string
}

func testRule(t *testing.T, check func(*sourceTree, *sourcePkg) []string, tests []ruleTest) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			wantProblems(t, problemsOf(treeOf(t, test.tree), check), test.want)
		})
	}
}

func TestCheckComment(t *testing.T) {
	testRule(t, checkComment, []ruleTest{
		{"one", `
-- a/a.go --
// Package a is.
package a
-- a/b.go --
package a`, nil},
		{"none", `
-- a/a.go --

package a`, []string{"a/a.go:2: no package comment in a;"}},
		{"two", `
-- a/a.go --
// Package a is.
package a
-- a/b.go --

// Package a was.
package a`, []string{"a/b.go:2: a second package comment in a; join it to the one at a/a.go:1"}},
		{"none in an internal package", `
-- internal/a/a.go --
package a`, []string{"internal/a/a.go:1: no package comment"}},
		{"none in a command", `
-- a/main.go --
package main`, []string{"a/main.go:1: no package comment"}},
		{"a directive alone", `
-- a/a.go --
//go:build linux
package a`, []string{"a/a.go:2: no package comment"}},
		{"that of a test", `
-- a/a.go --
package a
-- a/a_test.go --
// Package a is.
package a`, []string{"a/a.go:1: no package comment"}},
		{"that of a directory of tests", `
-- a/a_test.go --
// Package a is.
package a`, nil},
		{"none in a directory of tests", `
-- a/a_test.go --
package a`, []string{"a/a_test.go:1: no package comment"}},
		{"files that are no part of the tree", `
-- testdata/a.go --
package a
-- .b/b.go --
package b
-- _c/c.go --
package c
-- d.go --
//go:build ignore

package main`, nil},
	})
}

func TestCheckStability(t *testing.T) {
	testRule(t, checkStability, []ruleTest{
		{"stable", `
-- a/a.go --
// Package a is.
//
// Stable: the API stays.
package a`, nil},
		{"experimental", `
-- a/a.go --
// Package a is.
//
// Experimental: the API moves.
package a`, nil},
		{"neither", `
-- a/a.go --
// Package a is.
package a`, []string{"a/a.go:2: a does not say"}},
		{"in the midst of a paragraph", `
-- a/a.go --
// Package a is.
// Stable: the API stays.
package a`, []string{"a/a.go:3: a does not say"}},
		{"both", `
-- a/a.go --
// Stable: the API stays.
//
// Experimental: the API moves.
package a`, []string{"a/a.go:4: a says both"}},
		{"packages nobody imports", `
-- a/main.go --
package main
-- internal/b/b.go --
package b
-- c/internal/c/c.go --
package c
-- bench/d.go --
package bench
-- examples/e/e.go --
package e
-- f/f_test.go --
package f`, nil},
	})
}

func TestCheckExample(t *testing.T) {
	testRule(t, checkExample, []ruleTest{
		{"of a function", `
-- a/a.go --
package a
-- a/a_test.go --
package a_test
func ExampleNew() {}`, nil},
		{"of the package", `
-- a/a.go --
package a
-- a/a_test.go --
package a_test
func Example() {}`, nil},
		{"none", `
-- a/a.go --
package a`, []string{"a/a.go:1: a has no Example function"}},
		{"none but by its looks", `
-- a/a.go --
package a
-- a/a_test.go --
package a
func Examples() {}
func Example_helper(int) {}`, []string{"a/a.go:1: a has no Example function"}},
		{"none in a command", `
-- a/main.go --
package main`, nil},
	})
}

func TestCheckImports(t *testing.T) {
	// Who imports what, and whether the rules let it.
	const ours = modulePath + "/"
	tests := []struct {
		dir, imports string
		allowed      bool
	}{
		{"breaker", "time", true},
		{"breaker", "golang.org/x/sync/semaphore", true},
		{"breaker", "net/http", false},
		{"breaker", "net/http/httptrace", false},
		{"breaker", "net/netip", true},
		{"breaker", "google.golang.org/grpc/codes", false},
		{"breaker", ours + "internal/verdict", true},
		{"breaker", ours + "internal/web", false},     // imports net/http
		{"breaker", ours + "internal/overweb", false}, // imports what does
		{"breaker", ours + "retry", false},
		{"breaker", ours + "breaker/breakerhttp", false},
		{"breaker", ours + "breaker/internal/window", true},
		{"breaker", ours + "grpc/breakergrpc", false},
		{"shed/throttle", ours + "shed", false},
		{"retry/hedge", ours + "retry", true},
		{"retry", ours + "retry/hedge", false},
		{"shed", ours + "shed/throttle", false},
		{"shuffle", ours + "shuffle/cell", false},
		{"shuffle/cell", ours + "shuffle", false},
		{"shuffle/cell/control", ours + "shuffle/cell", true},
		{"shuffle/cell/control", "net/http", false},
		{"breaker/breakerhttp", "net/http", true},
		{"breaker/breakerhttp", "google.golang.org/grpc", false},
		{"breaker/breakerhttp", ours + "breaker", true},
		{"breaker/breakerhttp", ours + "internal/web", true},
		{"breaker/breakerhttp", ours + "retry", false},
		{"shed/shedhttp", ours + "shed/throttle", true},
		{"shuffle/cell/cellhttp", ours + "shuffle/cell", true},
		{"shuffle/otherhttp", "net/http", false}, // no adapter by its name
		{".", "context", true},
		{".", "net/http", false},
		{".", ours + "breaker", false},
		{".", ours + "internal/hop", true},
		{"internal/web", ours + "breaker", false},
		{"internal/web", ours + "breaker/breakerhttp", false},
		{"internal/web", "google.golang.org/grpc", false},
		{"grpc/breakergrpc", "google.golang.org/grpc", true},
		{"grpc/breakergrpc", ours + "breaker", true},
		{"grpc/breakergrpc", ours + "retry", false},
		{"grpc/throttlegrpc", ours + "shed/throttle", true},
		{"grpc/internal/meta", ours + "breaker", false},
		{"grpc/breakergrpc", ours + "grpc/internal/meta", true},
		{"redis/redislimiter", ours + "limiter", true},
		{"redis/redislimiter", ours + "shed", false},
		{"examples/storm", "net/http", true},
		{"examples/storm", ours + "breaker", true},
		{"bench", ours + "retry", true},
	}
	const around = "\n-- grpc/go.mod --\n-- redis/go.mod --\n-- examples/go.mod --\n" +
		"-- internal/web/web.go --\npackage web\nimport _ \"net/http\"\n" +
		"-- internal/overweb/web.go --\npackage overweb\nimport _ \"" + ours + "internal/web\""
	for _, test := range tests {
		t.Run(test.dir+" imports "+test.imports, func(t *testing.T) {
			name := strings.TrimPrefix(test.dir+"/x.go", "./")
			source := "package x\n\nimport _ \"" + test.imports + "\""
			var want []string
			if !test.allowed {
				want = []string{name + ":3: " + test.dir + " imports " + test.imports + "; "}
			}
			tree := treeOf(t, "-- "+name+" --\n"+source+around)
			wantProblems(t, problemsOf(tree, checkImports), want)

			inTest := strings.TrimSuffix(name, ".go") + "_test.go"
			tree = treeOf(t, "-- "+inTest+" --\n"+source+around)
			wantProblems(t, problemsOf(tree, checkImports), nil)
		})
	}
}

func TestCheckDocs(t *testing.T) {
	testRule(t, checkDocs, []ruleTest{
		{"functions", `
-- a/a.go --
package a
func F() {}
// G is.
func G() {}
//go:noinline
func H() {}
func i() {}`, []string{"a/a.go:2: F has no doc comment", "a/a.go:6: H "}},
		{"methods", `
-- a/a.go --
package a
func (t *T) M() {}
// N is.
func (t *T) N() {}
func (g Group[K, V]) O() {}
func (t *t) P() {}`, []string{"a/a.go:2: M ", "a/a.go:5: O "}},
		{"types", `
-- a/a.go --
package a
type T int
// U is.
type U int
// A group of types.
type (
	V int
	// W is.
	W int
	x int
)`, []string{"a/a.go:2: T ", "a/a.go:7: V "}},
		{"constants and variables", `
-- a/a.go --
package a
const A = 1
// A group.
const (
	B = 1
	C = 2
)
const (
	D = 1 // D is.
	// E is.
	E = 2
	F = 3
	g = 4
)
var v, V = 1, 2`, []string{"a/a.go:2: A ", "a/a.go:12: F ", "a/a.go:15: V "}},
		{"fields", `
-- a/a.go --
package a
// T is.
type T struct {
	// A is.
	A int
	B int // B is.
	C, d, E int
	f int
	rate.Limit
	*inner
	Group[K]
}
type t struct{ A int }`, []string{
			"a/a.go:7: C ", "a/a.go:7: E ", "a/a.go:9: Limit ", "a/a.go:11: Group ",
		}},
		{"methods of an interface", `
-- a/a.go --
package a
// T is.
type T interface {
	A()
	// B is.
	B()
	c()
	fmt.Stringer
}`, []string{"a/a.go:4: A "}},
		{"a command, which godoc does not show", `
-- a/main.go --
package main
func F() {}`, nil},
	})
}

func TestReadTreeReportsSyntax(t *testing.T) {
	if _, err := readTree(filesOf("-- a/a.go --\npackage")); err == nil {
		t.Error("a file that does not parse passed unseen")
	}
}
