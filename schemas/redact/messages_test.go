package redact

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The program hides secrets in its error messages as it prints them. No sentence of its own may look like one, as
// "an API key: set …" does.
func TestOwnMessagesStayWhole(t *testing.T) {
	other := []string{"testdata", "enginetest", "simulator", "pages"} // not error messages
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(name, ".") && name != ".." || slices.Contains(other, name)):
			return fs.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if _, ok := n.(*ast.Field); ok {
				return false // tags
			}
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err == nil && strings.Contains(text, " ") && Hide(text) != text {
				t.Errorf("%s: %q would be printed as %q", files.Position(literal.Pos()), text, Hide(text))
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
