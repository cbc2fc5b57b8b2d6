package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	mdast "github.com/yuin/goldmark/ast"
	extast "github.com/yuin/goldmark/extension/ast"

	"coeval/runners/settings"
)

// Every message on the page of troubles is one of the program's: a literal of the source, or the problem
// of a config.
func TestMessages(t *testing.T) {
	known := append(literals(t), problems()...)
	n := 0
	for _, p := range pages(t) {
		if p.name != "docs/troubleshooting.md" {
			continue
		}
		for _, m := range messages(p) {
			n++
			if !slices.ContainsFunc(known, pattern(m).MatchString) {
				t.Errorf("the program has no message %q", m)
			}
		}
	}
	if n < 30 {
		t.Errorf("%d messages, want at least 30", n)
	}
}

// messages returns the code in the first cell of each row.
func messages(p *page) []string {
	var all []string
	p.walk(func(n mdast.Node) {
		if row, ok := n.(*extast.TableRow); ok {
			for part := row.FirstChild().FirstChild(); part != nil; part = part.NextSibling() {
				if span, ok := part.(*mdast.CodeSpan); ok {
					all = append(all, code(span, p.source))
				}
			}
		}
	})
	return all
}

// pattern is the form of a message's text, in which … replaces a value or omitted words.
func pattern(message string) *regexp.Regexp {
	parts := strings.Split(message, "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(strings.TrimSpace(parts[i]))
	}
	return regexp.MustCompile(strings.Join(parts, `.*`))
}

// A quoted message is one of the program's only if all of its words are.
func TestPattern(t *testing.T) {
	const source = "the first … calls of the … all failed with …. … said: …. Change it"
	for quoted, want := range map[string]bool{
		"the first … calls of the … all failed with …": true, "all failed with …. … said: …": true, "calls of the … all fail with": false, "failed with … first": false,
	} {
		if got := pattern(quoted).MatchString(source); got != want {
			t.Errorf("%q: got %t", quoted, got)
		}
	}
}

// literals returns the string literals of the source, with their parts joined, and with … for verbs.
func literals(t *testing.T) []string {
	t.Helper()
	verb := regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)
	var all []string
	for _, dir := range []string{"datasets", "schemas", "transforms", "pipelines", "runners"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
				return err
			}
			source, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				e, ok := n.(ast.Expr)
				if !ok {
					return true
				}
				s, ok := literal(e)
				if ok {
					all = append(all, strings.ReplaceAll(verb.ReplaceAllString(strings.ReplaceAll(s, "%%", "％"), "…"), "％", "%"))
				}
				return !ok
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// literal returns the text of an expression that is a string, or a sum with one in it.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, e.Kind == token.STRING && err == nil
	case *ast.BinaryExpr:
		left, ok := literal(e.X)
		right, ok2 := literal(e.Y)
		if !ok {
			left = "…"
		}
		if !ok2 {
			right = "…"
		}
		return left + right, e.Op == token.ADD && (ok || ok2)
	}
	return "", false
}

// problems returns the messages on some wrong configs.
func problems() []string {
	var all []string
	for _, src := range []settings.Source{
		{},
		{Settings: []settings.Setting{{Key: "worker.urls", Value: "localhost:8000", From: "--url"}}},
		{Settings: []settings.Setting{{Key: "methd.rho", Value: "0.2", From: "--set"}}},
		{Settings: []settings.Setting{{Key: "method.rho", Value: "0.5", From: "--set"}}},
	} {
		if _, err := settings.Load(src); err != nil {
			all = append(all, strings.Split(err.Error(), "\n")...)
		}
	}
	return all
}
