package docs

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// root is the repository.
const root = "../.."

// page is one Markdown file.
type page struct {
	// name is its path from the repository, with slashes.
	name   string
	source []byte
	tree   ast.Node
}

// block is a fenced block of a page.
//
// A block of sh runs, unless its info string is "sh norun". Then the comment before it gives the reason:
//
//	<!-- norun: it needs a GPU -->
//
// The blocks of a page run in one shell, in a folder with the repository's files and some prompts. A
// comment contains commands that have to run before them but aren't worth a reader's time:
//
//	<!-- run: coeval run --simulate --prompts prompts.jsonl --out out -->
//
// A block "yaml file=NAME" is written to that file, at its place between the blocks of sh.
type block struct {
	page *page
	// line is that of its first line, or of the comment.
	line int
	// info is the info string: the language and the words after it.
	language, info string
	text           string
	// comment is the text of the comment just before it.
	comment string
}

func (b *block) place() string { return b.page.name + ":" + strconv.Itoa(b.line) }

// pages returns all pages of the repository.
func pages(t *testing.T) []*page {
	t.Helper()
	files := os.DirFS(root)
	var all []*page
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || path.Dir(name) == "." && name != "docs" && name != "datasets"):
			return fs.SkipDir // installed tools, data of tests, and folders of code
		case d.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		source, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		tree := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
		all = append(all, &page{name, source, tree})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d pages were found", len(all))
	}
	return all
}

// walk calls f with every node of the page, parents first.
func (p *page) walk(f func(ast.Node)) {
	_ = ast.Walk(p.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			f(n)
		}
		return ast.WalkContinue, nil
	})
}

// blocks returns the fenced blocks of the page, and its run comments as blocks without a language.
func (p *page) blocks() []*block {
	var all []*block
	comment := ""
	p.walk(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.HTMLBlock:
			comment = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(string(lines(n, p.source))), "<!--"), "-->"))
			if command, ok := strings.CutPrefix(comment, "run: "); ok {
				all = append(all, &block{page: p, line: p.line(n), info: "run", text: command + "\n"})
			}
		case *ast.FencedCodeBlock:
			info := ""
			if n.Info != nil {
				info = string(n.Info.Value(p.source))
			}
			language, _, _ := strings.Cut(info, " ")
			all = append(all, &block{page: p, line: p.line(n), language: language, info: info, text: string(lines(n, p.source)), comment: comment})
			comment = ""
		case *ast.Document:
		default:
			if n.Type() == ast.TypeBlock {
				comment = ""
			}
		}
	})
	return all
}

// lines returns the text of a block.
func lines(n ast.Node, source []byte) []byte {
	var b bytes.Buffer
	for i := range n.Lines().Len() {
		s := n.Lines().At(i)
		b.Write(s.Value(source))
	}
	return b.Bytes()
}

// line returns the number of a block's first line, from 1.
func (p *page) line(n ast.Node) int {
	if n.Lines().Len() == 0 {
		return 1
	}
	return 1 + bytes.Count(p.source[:n.Lines().At(0).Start], []byte("\n"))
}

// anchors returns the anchors of a page's headings, as GitHub makes them.
func (p *page) anchors() map[string]bool {
	all := map[string]bool{}
	p.walk(func(n ast.Node) {
		h, ok := n.(*ast.Heading)
		if !ok {
			return
		}
		anchor := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, plain(h, p.source))
		unique := anchor
		for i := 1; all[unique]; i++ {
			unique = anchor + "-" + strconv.Itoa(i)
		}
		all[unique] = true
	})
	return all
}

// code returns the text of a code span.
func code(c *ast.CodeSpan, source []byte) string {
	var b strings.Builder
	for part := c.FirstChild(); part != nil; part = part.NextSibling() {
		if s, ok := part.(*ast.Text); ok {
			b.Write(s.Segment.Value(source))
		}
	}
	return b.String()
}

// plain returns the text below a node without its marks. Code becomes one word.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(c ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch c := c.(type) {
		case *ast.CodeSpan:
			b.WriteString(strings.ReplaceAll(code(c, source), " ", "-"))
			return ast.WalkSkipChildren, nil
		case *ast.Text:
			b.Write(c.Segment.Value(source))
			if c.SoftLineBreak() || c.HardLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(c.Value)
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}
