package stormjib_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/printer"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	goldenDir     = "testdata/api"
	updateCommand = "go test -run TestAPI -update ."
)

var updateGolden = flag.Bool("update", false, "rewrite the files below "+goldenDir)

// TestAPI compares what each Stable package exports with a file that is read in
// review: nothing is promised, changed or withdrawn by accident.
func TestAPI(t *testing.T) {
	exported := stableAPI(readOwnTree(t))
	if *updateGolden {
		rewriteGolden(t, exported)
	}
	for _, problem := range compareAPI(os.DirFS("."), exported) {
		t.Error(problem)
	}
}

// stableAPI returns the lines of each Stable package by the name of its golden file.
func stableAPI(tree *sourceTree) map[string][]string {
	exported := map[string][]string{}
	for _, pkg := range tree.sorted() {
		if !pkg.public() || !pkg.says(stableMark) {
			continue
		}
		name := strings.ReplaceAll(pkg.dir, "/", ".")
		if pkg.dir == "." {
			name = pkg.name
		}
		exported[goldenDir+"/"+name+".txt"] = exportedAPI(pkg)
	}
	return exported
}

// compareAPI returns what differs from the golden files, their presence included.
func compareAPI(fsys fs.FS, exported map[string][]string) []string {
	var problems []string
	for _, file := range slices.Sorted(maps.Keys(exported)) {
		text, err := fs.ReadFile(fsys, file)
		if err != nil {
			problems = append(problems,
				fmt.Sprintf("%v\nif the package is meant to be Stable: %s", err, updateCommand))
			continue
		}
		// Git may check text out with the line ends of the system.
		unix := strings.ReplaceAll(string(text), "\r\n", "\n")
		golden := strings.Split(strings.TrimSpace(unix), "\n")
		if diff := lineDiff(golden, exported[file]); diff != "" {
			problems = append(problems, fmt.Sprintf(
				"%s:1: the exported API has changed:\n%sif meant, note it in CHANGELOG.md; then %s",
				file, diff, updateCommand))
		}
	}
	for _, file := range goldenFiles(fsys) {
		if _, ok := exported[file]; !ok {
			problems = append(problems, fmt.Sprintf(
				"%s:1: no Stable package of that name; if it has to go: %s", file, updateCommand))
		}
	}
	return problems
}

func goldenFiles(fsys fs.FS) []string {
	files, err := fs.Glob(fsys, goldenDir+"/*.txt")
	if err != nil {
		panic(err) // the pattern is constant
	}
	return files
}

func rewriteGolden(t *testing.T, exported map[string][]string) {
	t.Helper()
	for _, file := range goldenFiles(os.DirFS(".")) {
		if err := os.Remove(filepath.FromSlash(file)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.FromSlash(goldenDir), 0o777); err != nil {
		t.Fatal(err)
	}
	for file, lines := range exported {
		text := strings.Join(lines, "\n") + "\n"
		if err := os.WriteFile(filepath.FromSlash(file), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// lineDiff compares two lists as sets: every line is a whole declaration.
func lineDiff(before, after []string) string {
	var diff strings.Builder
	for _, line := range slices.Sorted(slices.Values(slices.Concat(before, after))) {
		switch {
		case !slices.Contains(after, line):
			fmt.Fprintf(&diff, "\t- %s\n", line)
		case !slices.Contains(before, line):
			fmt.Fprintf(&diff, "\t+ %s\n", line)
		}
	}
	return diff.String()
}

// exportedAPI returns the exported declarations of a package, one a line, in
// the manner of the files below api in Go's own source: members on lines of
// their own, parameters without their names, so that what can break a caller is
// a changed line and nothing else is.
//
// It reads source without its types. What that costs: a variable declared
// without a type shows none.
func exportedAPI(pkg *sourcePkg) []string {
	var lines []string
	for _, file := range pkg.files {
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				lines = append(lines, funcLines(decl)...)
			case *ast.GenDecl:
				lines = append(lines, genLines(decl)...)
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines) // a name may be declared once for each system
}

func funcLines(fn *ast.FuncDecl) []string {
	if !fn.Name.IsExported() || !receiverExported(fn) {
		return nil
	}
	signature := fn.Name.Name + signatureText(fn.Type)
	if fn.Recv == nil {
		return []string{"func " + signature}
	}
	return []string{fmt.Sprintf("method (%s) %s", exprText(fn.Recv.List[0].Type), signature)}
}

func genLines(decl *ast.GenDecl) []string {
	var lines []string
	var last *ast.ValueSpec // whose type and values an empty constant repeats
	for i, spec := range decl.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			lines = append(lines, typeLines(spec)...)
		case *ast.ValueSpec:
			if last == nil || spec.Type != nil || spec.Values != nil {
				last = spec
			}
			lines = append(lines, valueLines(decl.Tok, spec.Names, last, i)...)
		}
	}
	return lines
}

var iotaWord = regexp.MustCompile(`\biota\b`)

// valueLines shows a constant with its value, since callers are compiled with
// it: iota is replaced by what it is there, or a reordering would not show. The
// value of a variable is not API, but says that a sentinel is an error.
func valueLines(tok token.Token, names []*ast.Ident, from *ast.ValueSpec, index int) []string {
	var lines []string
	for i, name := range names {
		if !name.IsExported() {
			continue
		}
		line := tok.String() + " " + name.Name
		if from.Type != nil {
			line += " " + exprText(from.Type)
		}
		if i < len(from.Values) {
			value := exprText(from.Values[i])
			switch {
			case tok == token.CONST:
				line += " = " + iotaWord.ReplaceAllLiteralString(value, strconv.Itoa(index))
			case from.Type == nil && strings.HasPrefix(value, "errors.New("):
				line += " error"
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func typeLines(spec *ast.TypeSpec) []string {
	if !spec.Name.IsExported() {
		return nil
	}
	head := "type " + spec.Name.Name + typeParamsText(spec.TypeParams)
	if spec.Assign.IsValid() {
		return []string{head + " = " + exprText(spec.Type)}
	}
	switch expr := spec.Type.(type) {
	case *ast.StructType:
		head += " struct"
		return append([]string{head}, fieldLines(head, expr)...)
	case *ast.InterfaceType:
		head += " interface"
		return append([]string{head}, methodLines(head, expr)...)
	}
	return []string{head + " " + exprText(spec.Type)}
}

func fieldLines(head string, expr *ast.StructType) []string {
	var lines []string
	for _, field := range expr.Fields.List {
		typ := exprText(field.Type)
		if len(field.Names) == 0 && baseName(field.Type).IsExported() {
			lines = append(lines, head+", embedded "+typ)
		}
		for _, name := range field.Names {
			if name.IsExported() {
				lines = append(lines, head+", "+name.Name+" "+typ)
			}
		}
	}
	return lines
}

// methodLines has a line as well for methods that are not exported: with one,
// users cannot implement the interface, and it may grow.
func methodLines(head string, expr *ast.InterfaceType) []string {
	var lines []string
	for _, method := range expr.Methods.List {
		signature, isMethod := method.Type.(*ast.FuncType)
		switch {
		case !isMethod:
			lines = append(lines, head+", "+exprText(method.Type))
		case method.Names[0].IsExported():
			lines = append(lines, head+", "+method.Names[0].Name+signatureText(signature))
		default:
			lines = append(lines, head+", unexported methods")
		}
	}
	return lines
}

// signatureText prints a function type without its first word.
func signatureText(fn *ast.FuncType) string {
	return strings.TrimPrefix(exprText(fn), "func")
}

// typeParamsText prints a list of type parameters, which the printer takes only
// as part of something larger.
func typeParamsText(params *ast.FieldList) string {
	if params == nil {
		return ""
	}
	fn := &ast.FuncType{TypeParams: params, Params: &ast.FieldList{}}
	return strings.TrimSuffix(signatureText(fn), "()")
}

// exprText prints an expression on one line, less comments and the names of
// parameters. It prints with an empty file set: knowing no lines, the printer
// breaks none where the source did. The tree is changed in passing; each test
// reads its own.
func exprText(expr ast.Expr) string {
	ast.Inspect(expr, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncType:
			dropNames(node.Params)
			dropNames(node.Results)
		case *ast.Field:
			node.Doc, node.Comment = nil, nil
		}
		return true
	})
	var b strings.Builder
	if err := printer.Fprint(&b, token.NewFileSet(), expr); err != nil {
		panic(err) // the tree was parsed, and a Builder takes everything
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func dropNames(params *ast.FieldList) {
	if params == nil {
		return
	}
	var types []*ast.Field
	for _, param := range params.List {
		for range max(1, len(param.Names)) {
			types = append(types, &ast.Field{Type: param.Type})
		}
	}
	params.List = types
}

func TestExportedAPI(t *testing.T) {
	tests := []struct{ name, source, want string }{
		{"functions", `
// F is.
func F(a, b int, c ...string) (err error) { return nil }
func g() {}
func Do[R any](
	ctx context.Context, // the caller's
	fn func(ctx context.Context) (r R, err error),
) (R, error) {}`, `
func Do[R any](context.Context, func(context.Context) (R, error)) (R, error)
func F(int, int, ...string) error`},
		{"methods", `
func (t *T) M() {}
func (t T) N(x int) int {}
func (g *Group[K]) Get(k K) *T {}
func (t *t) M() {}`, `
method (*Group[K]) Get(K) *T
method (*T) M()
method (T) N(int) int`},
		{"structs", `
type Config struct {
	// Window is.
	Window time.Duration // long
	A, b   int
	On     func(from, to State)
	rate.Limit
	*inner
}
type Group[K comparable, V any] struct{ m map[K]V }
type t struct{ A int }`, `
type Config struct
type Config struct, A int
type Config struct, On func(State, State)
type Config struct, Window time.Duration
type Config struct, embedded rate.Limit
type Group[K comparable, V any] struct`},
		{"interfaces", `
type P interface {
	Do(ctx context.Context) error // does
	sealed()
	fmt.Stringer
	~int | ~string
}`, `
type P interface
type P interface, Do(context.Context) error
type P interface, fmt.Stringer
type P interface, unexported methods
type P interface, ~int | ~string`},
		{"other types", `
type F func(n int) bool
type A = B
type S int32`, `
type A = B
type F func(int) bool
type S int32`},
		{"constants, with their values", `
const (
	Closed State = iota + 1
	Open
	_
	Ramp
)
const Max, min = 1 << 4, 0`, `
const Closed State = 0 + 1
const Max = 1 << 4
const Open State = 1 + 1
const Ramp State = 3 + 1`},
		{"variables, without", `
var ErrOpen = errors.New("open")
var V, w int = 3, 4
var W = f()`, `
var ErrOpen error
var V int
var W`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree := treeOf(t, "-- a/a.go --\npackage a\n"+test.source)
			got := "\n" + strings.Join(exportedAPI(tree.pkgs["a"]), "\n")
			if got != test.want {
				t.Errorf("got%s\nwant%s", got, test.want)
			}
		})
	}
}

func TestCompareAPI(t *testing.T) {
	const source = `
-- x/y/y.go --
// Package y is.
//
// Stable: the API stays.
package y
func F() {}
func G(int) {}`
	tests := []struct {
		name, golden string
		want         []string
	}{
		{"same", "func F()\nfunc G(int)\n", nil},
		{"same, as checked out on Windows", "func F()\r\nfunc G(int)\r\n", nil},
		{"changed", "func F()\nfunc G()\n", []string{
			"testdata/api/x.y.txt:1: the exported API has changed:\n" +
				"\t- func G()\n\t+ func G(int)\nif meant",
		}},
		{"missing", "", []string{"open testdata/api/x.y.txt: file does not exist\n"}},
		{"stale", "func F()\nfunc G(int)\n-- testdata/api/gone.txt --\nfunc F()", []string{
			"testdata/api/gone.txt:1: no Stable package of that name",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files := filesOf("-- testdata/api/x.y.txt --\n" + test.golden)
			if test.golden == "" {
				clear(files)
			}
			wantProblems(t, compareAPI(files, stableAPI(treeOf(t, source))), test.want)
		})
	}
	t.Run("no promise, no golden file", func(t *testing.T) {
		tree := treeOf(t, strings.ReplaceAll(source, stableMark, experimentalMark))
		wantProblems(t, compareAPI(filesOf(""), stableAPI(tree)), nil)
	})
}
