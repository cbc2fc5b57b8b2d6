package main

import (
	"fmt"
	"strings"
	"testing"

	"coeval/datasets/shards"
	"coeval/schemas"
)

// A dossier is found by number, ID, the beginning of the ID and own ID; it shows the pairs of the tables,
// every verdict, and no character that acts.
func TestInspect(t *testing.T) {
	t.Parallel()
	prompts := promptFile(t, 6, `{"id": "mine", "prompt": "\u001b[31mred\u001b]0;title\u0007 \u202etxet"}`)
	out := simulatedRun(t, prompts, "--set", "output.prompts_per_shard=2", "--set", "actor.n=4", "--set", "judge.n=5")
	text := want(t, nil, "inspect", out, "7")
	for _, acts := range []string{"\x1b", "\x07", "\u202e"} {
		if strings.Contains(text, acts) {
			t.Errorf("the text has %U in it", []rune(acts)[0])
		}
	}
	if !strings.Contains(text, "␛[31mred␛]0;title␇ ⟨U+202E⟩txet") {
		t.Errorf("the prompt is not shown:\n%s", text)
	}
	var row schemas.PromptRow
	for _, r := range rows[schemas.PromptRow](t, out, shards.Prompts) {
		if len(r.OwnID) > 0 && r.OwnID[0] == "mine" {
			row = r
		}
	}
	for _, name := range []string{row.ID, row.ID[:8], "mine"} {
		if other := want(t, nil, "inspect", out, name); other != text {
			t.Errorf("%s shows\n%s\nand not\n%s", name, other, text)
		}
	}
	full := want(t, nil, "inspect", "--full", out, "7")
	judgments, comparisons, first := 0, 0, 0
	for _, j := range rows[schemas.JudgmentRow](t, out, shards.Judgments) {
		if j.PromptID == row.ID {
			judgments++
		}
	}
	for _, c := range rows[schemas.ComparisonRow](t, out, shards.Comparisons) {
		if c.PromptID == row.ID {
			comparisons++
			if c.Winner == schemas.First.String() {
				first++
			}
		}
	}
	if got := strings.Count(full, "\nJUDGMENT "); got != judgments {
		t.Errorf("%d judgments in full, want %d", got, judgments)
	}
	if got := strings.Count(full, "\nCOMPARISON "); got != comparisons {
		t.Errorf("%d comparisons in full, want %d", got, comparisons)
	}
	// Verdicts of the matrix: after the head, each judgment's row has one mark for each other.
	_, matrix, _ := strings.Cut(text, "\nCONTESTED")
	matrix, _, _ = strings.Cut(matrix, "row shown first")
	if marks := strings.Count(matrix, ">") + strings.Count(matrix, "<") + strings.Count(matrix, "="); marks != comparisons {
		t.Errorf("%d marks in the matrix, want %d:\n%s", marks, comparisons, matrix)
	}
	if won := strings.Count(matrix, ">"); won != first || 2*first == comparisons {
		t.Errorf("the first shown wins %d times in the matrix, and %d of %d times in the table", won, first, comparisons)
	}
	for _, p := range rows[schemas.Pair](t, out, shards.Actor) {
		if p.PromptID == row.ID && !strings.Contains(text, fmt.Sprintf("%+.3f points, %+d characters", p.ScoreMargin, p.ChosenChars-p.RejectedChars)) {
			t.Errorf("the actor pair of margin %v is not shown:\n%s", p.ScoreMargin, text)
		}
	}
	for _, p := range rows[schemas.Pair](t, out, shards.Judge) { // chosen has the highest Elo, and the first row
		if p.PromptID == row.ID && !strings.Contains(text, fmt.Sprintf("JUDGE PAIR  1 over %d: Elo %+.3f against %+.3f", strings.Count(matrix, "·"), *p.ChosenElo, *p.RejectedElo)) {
			t.Errorf("the judge pair is not shown:\n%s", text)
		}
	}
}

// A prompt without a pair says why.
func TestInspectWithoutPair(t *testing.T) {
	t.Parallel()
	out := simulatedRun(t, promptFile(t, 1), "--set", "simulate.faults=empty=1")
	text := want(t, nil, "inspect", out, "1")
	for _, why := range []string{"ACTOR PAIR  dropped: too_few_scored (see method.min_judgments", "JUDGE PAIR  dropped: "} {
		if !strings.Contains(text, why) {
			t.Errorf("it doesn't say %q:\n%s", why, text)
		}
	}
	for name, wanted := range map[string]string{
		"2": "or a number from 1 to 1", "zzzz": `has no prompt "zzzz"`, "": `has no prompt ""`, "\x1b[31m": `has no prompt "\x1b[31m"`,
	} {
		if _, stderr, code := coeval(t, "inspect", out, name); code != exitFailed || !strings.Contains(stderr, wanted) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("inspect %q: exit code %d, said %q, want %q", name, code, stderr, wanted)
		}
	}
	if _, stderr, code := coeval(t, "inspect", "--chars=-1", out, "1"); code != exitUsage || !strings.Contains(stderr, "--chars is -1; allowed is 0 or more") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}
