package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands calls f for a command and all below it.
func commands(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		commands(sub, f)
	}
}

// Every command's help has an example, whose flags the command has.
func TestHelpHasExamples(t *testing.T) {
	flag := regexp.MustCompile(`(?:^| )--([a-z][a-z-]*)`)
	commands(newRoot(), func(c *cobra.Command) {
		if strings.TrimSpace(c.Example) == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			own, _, _ := strings.Cut(line, " -- ") // Beam's flags follow
			words := strings.Fields(own)
			if strings.HasPrefix(line, "  coeval ") {
				named, _, err := c.Root().Find(words[1:])
				if err != nil || c.HasParent() && named != c && named.Parent() != c {
					t.Errorf("%s: %q is an example of another command", c.CommandPath(), line)
					continue
				}
				for _, m := range flag.FindAllStringSubmatch(own, -1) {
					if named.Flags().Lookup(m[1]) == nil && named.InheritedFlags().Lookup(m[1]) == nil {
						t.Errorf("%s has no flag --%s: %q", named.CommandPath(), m[1], line)
					}
				}
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no description", c.CommandPath(), f.Name)
			}
		})
	})
}

// The version names the commit, as a command and as a flag.
func TestVersion(t *testing.T) {
	t.Parallel()
	stdout, _, code := coeval(t, "version")
	flag, _, flagCode := coeval(t, "--version")
	if code != exitDone || flagCode != exitDone || !regexp.MustCompile(`^coeval \S+.*\ngo1\.\S+ \w+/\w+, Beam 2\.\d+`).MatchString(stdout) {
		t.Errorf("version: exit %d, %q; --version: exit %d, %q", code, stdout, flagCode, flag)
	}
	if first, _, _ := strings.Cut(stdout, "\n"); !strings.HasSuffix(strings.TrimSpace(flag), strings.TrimPrefix(first, "coeval ")) {
		t.Errorf("version says %q and --version %q", stdout, flag)
	}
}

// The help lists completion, and completion makes scripts.
func TestCompletion(t *testing.T) {
	t.Parallel()
	if stdout, _, code := refused(t, "--help"); code != exitDone || !strings.Contains(stdout, "\n  completion ") {
		t.Errorf("exit %d: the help lacks completion:\n%s", code, stdout)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if stdout, stderr, code := refused(t, "completion", shell); code != exitDone || !strings.Contains(stdout, "coeval") {
			t.Errorf("%s: exit %d: %s", shell, code, stderr)
		}
	}
}

func TestHelpForUnknownCommands(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		words []string
		want  string
	}{
		{[]string{"rnu"}, `unknown command "rnu"; did you mean coeval run?`},
		{[]string{"journal", "verfy"}, `unknown command "verfy"; did you mean coeval journal verify?`},
		{[]string{"run", "fast"}, `"fast" is one argument too many: coeval run takes none`},
	} {
		if stdout, stderr, code := refused(t, append([]string{"help"}, tt.words...)...); code != exitUsage || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("help %s: exit %d, %q, %q; want %q", strings.Join(tt.words, " "), code, stdout, stderr, tt.want)
		}
	}
	if stdout, _, code := refused(t, "help", "journal", "verify"); code != exitDone || !strings.Contains(stdout, "coeval journal verify") {
		t.Errorf("exit %d: %s", code, stdout)
	}
}

// Each command that users see has a man page with its example, the same for the same date.
func TestManPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, stderr, code := refused(t, "man", dir, "--date", "2026-11-28"); code != exitDone {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	commands(newRoot(), func(c *cobra.Command) {
		if !c.IsAvailableCommand() { // hidden, or help
			return
		}
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(b), "EXAMPLE") || !strings.Contains(string(b), `"Nov 2026"`) {
			t.Errorf("%s: %v\n%.300s", name, err, b)
		}
	})
}

// Neither man pages nor simulated adapters replace files that are not theirs; their own they replace.
func TestForeignFilesStay(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		file, text string
		command    []string
	}{
		"a page":            {"coeval.1", ".TH \"OTHER\" \"1\"\n", []string{"man"}},
		"notes":             {"coeval-journal-salvage.1", "mine\n", []string{"man"}},
		"nothing":           {"coeval-run.1", "", []string{"man"}},
		"a real adapter":    {"adapter_config.json", `{"peft_type": "LORA", "r": 16}`, []string{"simulate", "train", "--model", "base", "--out"}},
		"an empty adapter":  {"adapter_config.json", "", []string{"simulate", "train", "--model", "base", "--out"}},
		"a list":            {"adapter_config.json", "[]", []string{"simulate", "train", "--model", "base", "--out"}},
		"a skill of others": {"adapter_config.json", `{"skill": "juggling"}`, []string{"simulate", "train", "--model", "base", "--out"}},
	} {
		dir := t.TempDir()
		command := slices.Concat(tt.command, []string{dir})
		for range 2 {
			if _, stderr, code := refused(t, command...); code != exitDone {
				t.Fatalf("%s: exit %d: %s", name, code, stderr)
			}
		}
		file := filepath.Join(dir, tt.file)
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := refused(t, command...)
		if b, err := os.ReadFile(file); err != nil || string(b) != tt.text || code != exitUsage || !strings.Contains(stderr, tt.file+" exists and was not written by Coeval") {
			t.Errorf("%s: exit %d: %s: %q, %v", name, code, stderr, b, err)
		}
	}
}
