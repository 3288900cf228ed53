package cell_test

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// What routes fails last, so it needs nothing that changes more often than it does: not
// the control plane, and nobody else's module.
func TestImports(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		seen++
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(name, "/")
			internal := strings.HasPrefix(name, "github.com/stormjib/stormjib/internal/")
			if strings.Contains(first, ".") && !internal || first == "net" {
				t.Errorf("%s imports %s", f.Name(), name)
			}
		}
	}
	if seen == 0 {
		t.Error("there are no files here")
	}
}
