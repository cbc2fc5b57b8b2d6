package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/yuin/goldmark/ast"

	"coeval/runners/settings"
)

// foreign are flags of other programs that pages mention in their text.
var foreign = map[string]bool{
	// Beam.
	"--runner": true, "--endpoint": true, "--parallelism": true, "--num_workers": true, "--autoscaling_algorithm": true,
	"--subnetwork": true, "--no_use_public_ips": true, "--sdk_container_image": true, "--dry_run": true, "--artifacts-dir": true,
	"--environment_type": true, "--worker_binary": true,
	// Servers and trainers.
	"--parallel": true, "--enable-metrics": true, "--served-model-name": true, "--dataset_name": true, "--data": true,
	"--metrics": true, "--max-model-len": true,
	// Every command has it.
	"--version": true,
}

// Config keys and flags that a page names exist.
func TestNames(t *testing.T) {
	known, sections := map[string]bool{}, map[string]bool{}
	for _, k := range settings.Keys() {
		known[k.Name] = true
		section, _, _ := strings.Cut(k.Name, ".")
		sections[section] = true
	}
	commands, err := os.ReadFile(filepath.Join(root, "docs", "reference", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`^([a-z_]+)\.([a-z_]+)$`)
	flag := regexp.MustCompile(`^--[a-z][a-z_-]*`)
	n := 0
	for _, p := range pages(t) {
		if strings.HasPrefix(p.name, "datasets/") || p.name == "docs/troubleshooting.md" { // a message may quote a slip
			continue
		}
		p.walk(func(node ast.Node) {
			span, ok := node.(*ast.CodeSpan)
			if !ok {
				return
			}
			text := code(span, p.source)
			name, _, _ := strings.Cut(text, ":")
			if m := key.FindStringSubmatch(name); m != nil && sections[m[1]] && m[2] != "jsonl" && m[2] != "sh" {
				n++
				if !known[name] {
					t.Errorf("%s: there is no config key %s", p.name, name)
				}
			}
			if f := flag.FindString(text); f != "" && !foreign[f] {
				n++
				if !regexp.MustCompile(`\Q` + f + `\E[ =\[` + "`" + `]`).Match(commands) {
					t.Errorf("%s: no command has the flag %s", p.name, f)
				}
			}
		})
	}
	if n < 100 {
		t.Errorf("only %d names were found", n)
	}
}
