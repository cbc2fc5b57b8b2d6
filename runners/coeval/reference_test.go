package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

const commandReference = "../../docs/reference/cli.md"

const commandsHead = "# Commands\n\n<!-- Made by `go test ./runners/coeval -run CommandReference -args -golden`. -->\n\n" +
	"This page is the help of each command. Config keys are in [config.md](config.md): `--set KEY=VALUE` sets any of them.\n\n" +
	"| exit code | meaning |\n| --- | --- |\n| 0 | done |\n| 1 | failed; the message says what to do |\n" +
	"| 2 | wrong flags or a wrong config; no request was sent |\n" +
	"| 3 | `verify` found a difference, or `journal verify` found damage |\n\n" +
	"## Shell completion and man pages\n\nCompletion for the current shell:\n\n" +
	"```sh\nsource <(coeval completion bash)\n```\n\n" +
	"`coeval completion zsh`, `fish` and `powershell` print the scripts of other shells; `coeval completion SHELL --help` says " +
	"where to put them. `make man` writes man pages into `.bin/man`, and `man .bin/man/coeval-run.1` shows one. Archives of " +
	"`make dist` contain them.\n\n" +
	"## All commands\n\n| command | what it does |\n| --- | --- |\n"

// The reference of the commands is the help of the program.
func TestCommandReference(t *testing.T) {
	want := commandPages(t)
	if *update {
		if err := os.WriteFile(commandReference, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(commandReference)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/reference/cli.md differs from the help: run go test ./runners/coeval -run CommandReference -args -golden")
	}
}

// commandPages joins the pages that cobra makes into one, without its lists of related commands.
func commandPages(t *testing.T) []byte {
	t.Helper()
	root := newRoot()
	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	var b bytes.Buffer
	b.WriteString(commandsHead)
	var pages bytes.Buffer
	commands(root, func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.HasParent() && c.Parent().Name() == "completion" {
			return
		}
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		b.WriteString("| [" + c.CommandPath() + "](#" + name + ") | " + c.Short + " |\n")
		var page bytes.Buffer
		if err := doc.GenMarkdown(c, &page); err != nil {
			t.Fatal(err)
		}
		own, _, _ := strings.Cut(page.String(), "### SEE ALSO")
		own = strings.NewReplacer("### Synopsis\n\n", "", "### Examples\n", "Examples:\n", "### Options inherited from parent commands\n", "Flags of the command above:\n", "### Options\n", "Flags:\n").Replace(own)
		pages.WriteString("\n" + strings.TrimSpace(own) + "\n")
	})
	b.Write(pages.Bytes())
	// A flag whose default is a path would make the page depend on the machine.
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 && strings.Contains(b.String(), filepath.Clean(home)+"/") {
		t.Errorf("the help contains the home folder %s", home)
	}
	return b.Bytes()
}
