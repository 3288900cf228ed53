package stormjib_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// The rules every package follows that a linter does not know, each a function
// from one package to the problems it has. They read source, not types, so that
// one test in the root sees the nested modules too, whatever those require, and
// so that rules_test.go can show each of them failing on a few lines of text.

const modulePath = "github.com/stormjib/stormjib"

type sourceRule struct {
	name  string
	check func(*sourceTree, *sourcePkg) []string
}

func sourceRules() []sourceRule {
	return []sourceRule{
		{"one package comment", checkComment},
		{"stability", checkStability},
		{"imports", checkImports},
		{"every exported name documented", checkDocs},
		{"an example", checkExample},
	}
}

func TestSourceRules(t *testing.T) {
	tree := readOwnTree(t)
	for _, rule := range sourceRules() {
		t.Run(rule.name, func(t *testing.T) {
			for _, pkg := range tree.sorted() {
				for _, problem := range rule.check(tree, pkg) {
					t.Error(problem)
				}
			}
		})
	}
}

// A sourceTree is the repository as parsed: every module of it, testdata left out.
type sourceTree struct {
	fset   *token.FileSet
	nested map[string]bool       // directories, other than the root, with a go.mod
	pkgs   map[string]*sourcePkg // by directory, "." being the root
}

// A sourcePkg is what one directory holds.
type sourcePkg struct {
	dir   string // slash-separated, below the root
	name  string
	files []*ast.File
	tests []*ast.File // those of the external test package among them
}

// readOwnTree reads the repository this test was built from: go test runs it in
// the directory of its package, which is the root.
func readOwnTree(t *testing.T) *sourceTree {
	t.Helper()
	tree, err := readTree(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	// A walk that found nothing would pass every rule.
	for _, dir := range []string{".", "breaker"} {
		if tree.pkgs[dir] == nil {
			t.Fatalf("no package found in %s: is this the root of the repository?", dir)
		}
	}
	return tree
}

func readTree(fsys fs.FS) (*sourceTree, error) {
	tree := &sourceTree{token.NewFileSet(), map[string]bool{}, map[string]*sourcePkg{}}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if skipped(entry.Name()) {
				return fs.SkipDir
			}
		case path.Base(name) == "go.mod" && name != "go.mod":
			tree.nested[path.Dir(name)] = true
		case strings.HasSuffix(name, ".go"):
			return tree.add(fsys, name)
		}
		return nil
	})
	return tree, err
}

// skipped names the directories that the go command does not look into either.
func skipped(dir string) bool {
	return dir == "testdata" || dir == "vendor" ||
		dir != "." && (strings.HasPrefix(dir, ".") || strings.HasPrefix(dir, "_"))
}

func (t *sourceTree) add(fsys fs.FS, name string) error {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	const mode = parser.ParseComments | parser.SkipObjectResolution
	file, err := parser.ParseFile(t.fset, name, text, mode)
	if err != nil {
		return err
	}
	if ignored(file) {
		return nil
	}
	pkg := t.pkgs[path.Dir(name)]
	if pkg == nil {
		pkg = &sourcePkg{dir: path.Dir(name)}
		t.pkgs[pkg.dir] = pkg
	}
	if strings.HasSuffix(name, "_test.go") {
		pkg.tests = append(pkg.tests, file)
	} else {
		pkg.files = append(pkg.files, file)
		pkg.name = file.Name.Name
	}
	return nil
}

// ignored reports whether the file is a program kept beside a package, such as
// a generator. Other build constraints are not looked at: what is exported on
// one system only is held to the same rules, and checked on every system.
func ignored(file *ast.File) bool {
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if comment.Pos() < file.Package && comment.Text == "//go:build ignore" {
				return true
			}
		}
	}
	return false
}

func (t *sourceTree) sorted() []*sourcePkg {
	var pkgs []*sourcePkg
	for _, dir := range slices.Sorted(maps.Keys(t.pkgs)) {
		pkgs = append(pkgs, t.pkgs[dir])
	}
	return pkgs
}

func (t *sourceTree) problem(pos token.Pos, format string, args ...any) string {
	at := t.fset.Position(pos)
	return fmt.Sprintf("%s:%d: ", at.Filename, at.Line) + fmt.Sprintf(format, args...)
}

// start is where to report what is missing from a package as a whole.
func (p *sourcePkg) start() token.Pos {
	return slices.Concat(p.files, p.tests)[0].Package
}

// public reports whether users can import the package. Nobody can import a
// program, a directory of tests or what is below internal, and nobody has a
// reason to import examples and benchmarks.
func (p *sourcePkg) public() bool {
	return len(p.files) > 0 && p.name != "main" && !runsOnly(p.dir) &&
		!slices.Contains(strings.Split(p.dir, "/"), "internal")
}

// checkComment asks for exactly one package comment, because godoc would join
// several in the order of the file names. A directory of tests has it in one of
// those, where its readers look.
func checkComment(t *sourceTree, p *sourcePkg) []string {
	files := p.files
	if len(files) == 0 {
		files = p.tests
	}
	var docs []*ast.CommentGroup
	for _, file := range files {
		if file.Doc.Text() != "" {
			docs = append(docs, file.Doc)
		}
	}
	if len(docs) == 0 {
		return []string{t.problem(p.start(),
			"no package comment in %s; write one above a package clause", p.dir)}
	}
	var problems []string
	for _, doc := range docs[1:] {
		problems = append(problems, t.problem(doc.Pos(),
			"a second package comment in %s; join it to the one at %s",
			p.dir, t.fset.Position(docs[0].Pos())))
	}
	return problems
}

const (
	stableMark       = "Stable:"
	experimentalMark = "Experimental:"
)

// checkStability asks every public package to say what may change under its
// users, in a paragraph of its own that TestAPI reads as well.
func checkStability(t *sourceTree, p *sourcePkg) []string {
	if !p.public() {
		return nil
	}
	stable, experimental := p.says(stableMark), p.says(experimentalMark)
	switch {
	case stable && experimental:
		return []string{t.problem(p.start(), "%s says both %q and %q; choose",
			p.dir, stableMark, experimentalMark)}
	case !stable && !experimental:
		return []string{t.problem(p.start(),
			"%s does not say how stable it is; begin a paragraph of its doc with %q or %q",
			p.dir, stableMark, experimentalMark)}
	}
	return nil
}

// says reports whether a paragraph of the package comment begins with mark.
func (p *sourcePkg) says(mark string) bool {
	for _, file := range p.files {
		for paragraph := range strings.SplitSeq(file.Doc.Text(), "\n\n") {
			if strings.HasPrefix(paragraph, mark) {
				return true
			}
		}
	}
	return false
}

// checkExample asks for one Example function at least: the package in use is
// the first thing its readers look for.
func checkExample(t *sourceTree, p *sourcePkg) []string {
	if !p.public() {
		return nil
	}
	for _, file := range p.tests {
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && isExample(fn) {
				return nil
			}
		}
	}
	return []string{t.problem(p.start(),
		"%s has no Example function; show its first use in example_test.go", p.dir)}
}

func isExample(fn *ast.FuncDecl) bool {
	rest, ok := strings.CutPrefix(fn.Name.Name, "Example")
	next, _ := utf8.DecodeRuneInString(rest)
	return ok && fn.Recv == nil && len(fn.Type.Params.List) == 0 && !unicode.IsLower(next)
}

// checkDocs asks for a comment on every exported name, fields and interface
// methods included: a field's comment is where its default is argued.
func checkDocs(t *sourceTree, p *sourcePkg) []string {
	if p.name == "main" {
		return nil
	}
	var problems []string
	for _, file := range p.files {
		for _, decl := range file.Decls {
			for _, name := range undocumented(decl) {
				problems = append(problems,
					t.problem(name.Pos(), "%s has no doc comment; write one", name.Name))
			}
		}
	}
	return problems
}

func undocumented(decl ast.Decl) []*ast.Ident {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Name.IsExported() && receiverExported(decl) && decl.Doc.Text() == "" {
			return []*ast.Ident{decl.Name}
		}
	case *ast.GenDecl:
		var names []*ast.Ident
		for _, spec := range decl.Specs {
			names = append(names, undocumentedIn(spec, decl)...)
		}
		return names
	}
	return nil
}

// receiverExported reports whether a function is seen by users at all: it is
// when it has no receiver, or one of an exported type.
func receiverExported(fn *ast.FuncDecl) bool {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return true
	}
	return baseName(fn.Recv.List[0].Type).IsExported()
}

// baseName returns the type's own name: that of *Group[K] is Group, that of an
// embedded rate.Limit is Limit.
func baseName(expr ast.Expr) *ast.Ident {
	switch expr := expr.(type) {
	case *ast.Ident:
		return expr
	case *ast.StarExpr:
		return baseName(expr.X)
	case *ast.ParenExpr:
		return baseName(expr.X)
	case *ast.SelectorExpr:
		return expr.Sel
	case *ast.IndexExpr:
		return baseName(expr.X)
	case *ast.IndexListExpr:
		return baseName(expr.X)
	}
	return &ast.Ident{NamePos: expr.Pos(), Name: "_"}
}

// undocumentedIn looks at one spec of a declaration. A group of constants or
// variables is documented by its own comment; types never share one.
func undocumentedIn(spec ast.Spec, decl *ast.GenDecl) []*ast.Ident {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		if decl.Doc.Text()+spec.Doc.Text()+spec.Comment.Text() == "" {
			return slices.DeleteFunc(slices.Clone(spec.Names), unexported)
		}
	case *ast.TypeSpec:
		if !spec.Name.IsExported() {
			return nil
		}
		names := undocumentedMembers(spec.Type)
		if spec.Doc.Text() == "" && (decl.Lparen.IsValid() || decl.Doc.Text() == "") {
			names = append([]*ast.Ident{spec.Name}, names...)
		}
		return names
	}
	return nil
}

func unexported(name *ast.Ident) bool { return !name.IsExported() }

// undocumentedMembers looks at the fields of a struct and the methods of an
// interface. An embedded field counts, under the name it has.
func undocumentedMembers(expr ast.Expr) []*ast.Ident {
	var members []*ast.Field
	switch expr := expr.(type) {
	case *ast.StructType:
		members = expr.Fields.List
	case *ast.InterfaceType:
		members = expr.Methods.List
	}
	var names []*ast.Ident
	for _, member := range members {
		if member.Doc.Text()+member.Comment.Text() != "" {
			continue
		}
		own := slices.Clone(member.Names)
		if _, isStruct := expr.(*ast.StructType); isStruct && len(own) == 0 {
			own = []*ast.Ident{baseName(member.Type)}
		}
		names = append(names, slices.DeleteFunc(own, unexported)...)
	}
	return names
}
