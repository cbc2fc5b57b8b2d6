package docs

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/yuin/goldmark/ast"
	extast "github.com/yuin/goldmark/extension/ast"

	"coeval/runners/loop/config"
	"coeval/runners/settings"
)

// Every link to a file of the repository leads to one, and every anchor to a heading.
func TestLinks(t *testing.T) {
	all := map[string]*page{}
	for _, p := range pages(t) {
		all[p.name] = p
	}
	links := 0
	for _, p := range all {
		p.walk(func(n ast.Node) {
			var destination string
			switch n := n.(type) {
			case *ast.Link:
				destination = string(n.Destination)
			case *ast.Image:
				destination = string(n.Destination)
			default:
				return
			}
			links++
			if problem := follow(all, p, destination); problem != "" {
				t.Errorf("%s links to %s: %s", p.name, destination, problem)
			}
		})
	}
	if links < 50 {
		t.Errorf("only %d links were found", links)
	}
}

// follow returns the problem of a link, or an empty text.
func follow(all map[string]*page, from *page, destination string) string {
	u, err := url.Parse(destination)
	if err != nil {
		return err.Error()
	}
	if u.Scheme != "" {
		if u.Scheme != "https" || u.Host == "" {
			return "want a path, or https://"
		}
		return ""
	}
	target := from.name
	if u.Path != "" {
		target = path.Join(path.Dir(from.name), u.Path)
	}
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(target))); err != nil {
		return "no such file"
	}
	if u.Fragment == "" {
		return ""
	}
	p := all[target]
	if p == nil {
		return "an anchor needs a page"
	}
	if !p.anchors()[u.Fragment] {
		return "no such heading"
	}
	return ""
}

// A broken link of each kind is found.
func TestFollow(t *testing.T) {
	all := map[string]*page{}
	for _, p := range pages(t) {
		all[p.name] = p
	}
	concepts := all["docs/concepts.md"]
	for destination, ok := range map[string]bool{
		"method.md": true, "../README.md": true, "#glossary": true, "method.md#1-respond": true, "https://example.org/": true,
		"methods.md": false, "../../README.md": false, "#glosary": false, "method.md#respond": false, "examples/local-vllm.yaml#top": false,
		"http://example.org/": false, "https:": false,
	} {
		if problem := follow(all, concepts, destination); (problem == "") != ok {
			t.Errorf("%s: got %q", destination, problem)
		}
	}
}

// A fact that is longer than this is two facts.
const maxSentence = 25

// Sentences of the pages have at most 25 words.
func TestSentences(t *testing.T) {
	for _, p := range pages(t) {
		// Licences of data quote others, the changelog has one line for each change.
		if strings.HasPrefix(p.name, "datasets/") || p.name == "docs/reference/cli.md" || p.name == "CHANGELOG.md" {
			continue
		}
		p.walk(func(n ast.Node) {
			switch n.Kind() {
			case ast.KindParagraph, ast.KindTextBlock, extast.KindTableCell:
				for _, s := range sentences(plain(n, p.source)) {
					if words := len(strings.Fields(s)); words > maxSentence {
						t.Errorf("%s: %d words: %s", p.name, words, s)
					}
				}
			}
		})
	}
}

// sentences splits at a full stop, a question mark or an exclamation mark before a space.
func sentences(s string) []string {
	var all []string
	begin := 0
	for i, r := range s {
		if strings.ContainsRune(".?!", r) && (i+1 == len(s) || unicode.IsSpace(rune(s[i+1]))) {
			all = append(all, strings.TrimSpace(s[begin:i+1]))
			begin = i + 1
		}
	}
	return append(all, strings.TrimSpace(s[begin:]))
}

// required are settings without which no config is whole.
var required = []settings.Setting{
	{Key: "worker.urls", Value: "[http://localhost:8000/v1]", From: "the test"},
	{Key: "worker.model", Value: "m", From: "the test"},
	{Key: "prompts.paths", Value: "[prompts.jsonl]", From: "the test"},
	{Key: "output.dir", Value: "out", From: "the test"},
}

// checkConfig returns the problems of a config of a run, or of a loop, depending on its name. Missing
// keys are no problem in a fragment.
func checkConfig(name string, text []byte, fragment bool) error {
	if strings.HasPrefix(path.Base(name), "loop") {
		c, err := config.Parse(name, text)
		if err != nil {
			return err
		}
		return c.Validate()
	}
	src := settings.Source{File: text, Name: name}
	if fragment {
		src.Settings = required
	}
	_, err := settings.Load(src)
	return err
}

// Every example is a valid config, as it is.
func TestExamples(t *testing.T) {
	t.Chdir(root)
	files, err := filepath.Glob("docs/examples/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("got %v, %v; want at least 6 examples", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkConfig(file, text, false); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if err := checkConfig("loop.yaml", []byte("dir: loop\n"), false); err == nil {
		t.Error("a loop without a model is valid")
	}
}

// Every YAML block is a valid config, or a part of one. Blocks with an apiVersion are Kubernetes'.
func TestYAMLBlocks(t *testing.T) {
	all := pages(t)
	t.Chdir(root)
	n := 0
	for _, p := range all {
		for _, b := range p.blocks() {
			if b.language != "yaml" || strings.HasPrefix(b.text, "apiVersion:") {
				continue
			}
			n++
			name, whole := strings.CutPrefix(b.info, "yaml file=")
			if err := checkConfig(name, []byte(b.text), !whole); err != nil {
				t.Errorf("%s: %v", b.place(), err)
			}
		}
	}
	if n < 3 {
		t.Errorf("only %d YAML blocks were found", n)
	}
}

// Every block of commands is one that runs, or gives the reason why not.
func TestBlocksAreMarked(t *testing.T) {
	runs := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks() {
			reason, given := strings.CutPrefix(b.comment, "norun: ")
			switch {
			case b.language == "console", b.language == "bash", b.language == "shell":
				t.Errorf("%s: the language is %s: write sh", b.place(), b.language)
			case b.language != "sh":
			case b.info == "sh":
				runs++
			case b.info != "sh norun":
				t.Errorf("%s: the info string is %q: want sh, or sh norun", b.place(), b.info)
			case !given || len(strings.Fields(reason)) < 3:
				t.Errorf("%s: want a comment <!-- norun: REASON --> before it", b.place())
			}
			if b.language == "sh" && strings.Contains(b.text, "\n$ ") || strings.HasPrefix(b.text, "$ ") {
				t.Errorf("%s: leave out the prompt $, so that readers can copy the block", b.place())
			}
		}
	}
	if runs < 10 {
		t.Errorf("only %d blocks run", runs)
	}
}

// The README is short.
func TestREADMEIsShort(t *testing.T) {
	const most = 8 * 1024
	info, err := os.Stat(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > most {
		t.Errorf("README.md has %d bytes, want at most %d", info.Size(), most)
	}
}
