// Package runstest makes artificial runs for tests.
//
// Nothing but tests may import it.
package runstest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/datasets/rundir"
	"coeval/datasets/shards"
	"coeval/datasets/shards/shardstest"
	"coeval/runners/runs"
	"coeval/runners/summary"
	"coeval/schemas"
)

// Bad is part of every text of a hostile run. It tries to run a script, to load a page, to control a
// terminal and to reverse the direction of text.
const Bad = `<script>alert(1)</script><img src=x onerror=alert(1)>"'` + "`" + `{{.Out}} javascript:alert(1) </style></textarea><!-- ` +
	"\x1b[31mred\x1b]0;title\x07\x00\u009b \u202etxet\u2066\u200f\ufeff \u2028 \U000e0041"

const badFolder = "<b>out\x1b[31m\u202e"

// Acting are the characters of Bad that act instead of being seen.
var Acting = []string{"\x1b", "\x07", "\x00", "\u009b", "\u202e", "\u2066", "\u200f", "\ufeff", "\u2028", "\U000e0041"}

// Hostile writes a run of two prompts with Bad in every text and in the name of its folder. Some texts
// are 1 MB in one line.
func Hostile(t *testing.T) *runs.Run {
	t.Helper()
	out := filepath.Join(t.TempDir(), badFolder)
	long := Bad + strings.Repeat("w", 1<<20)
	said := func(text string) []schemas.Message { return []schemas.Message{{Role: "user", Content: text}} }
	pair := func(id, text string, elo *float64) schemas.Pair {
		var response *string
		if elo != nil {
			response = new("r1")
		}
		return schemas.Pair{
			ResponseID: response, ID: id, PromptID: "p" + id, Prompt: said(text), Chosen: said("chosen " + text), Rejected: said("rejected " + text),
			ChosenScore: 4, RejectedScore: 3, ScoreMargin: 1, ChosenChars: 1 << 20, RejectedChars: 1 << 20, ChosenElo: elo, RejectedElo: elo, Metadata: Bad,
		}
	}
	shardstest.WriteFile(t, out, shards.Actor, []schemas.Pair{pair("1", Bad, nil), pair("2", long, nil)}...)
	shardstest.WriteFile(t, out, shards.Judge, []schemas.Pair{pair("1", Bad, new(1.0)), pair("2", long, new(1.0))}...)
	shardstest.WriteFile(t, out, shards.Prompts, []schemas.PromptRow{
		{ID: "p1", Prompt: said(Bad), OwnID: []string{Bad, long}, SourceFile: Bad, Metadata: Bad, ActorReason: new(Bad), ContestedResponseID: new("r1")},
		{ID: "p2", Prompt: said(long), SourceFile: Bad, Metadata: Bad},
	}...)
	shardstest.WriteFile(t, out, shards.Responses, []schemas.ResponseRow{
		{ID: "r1", PromptID: "p1", Model: Bad, Text: Bad, Status: "complete", Chars: 10, ParsedJudgments: 2, ScoreMean: new(4.0), ScoreVariance: new(1.0)},
		{ID: "r2", PromptID: "p1", Model: Bad, Text: long, Status: "complete", Chars: 20, ParsedJudgments: 2, ScoreMean: new(3.0), ScoreVariance: new(0.0)},
		{ID: "r3", PromptID: "p2", Model: Bad, Text: long, Status: Bad, Chars: 1 << 20},
	}...)
	shardstest.WriteFile(t, out, shards.Judgments, []schemas.JudgmentRow{
		{ID: "j1", PromptID: "p1", ResponseID: "r1", Model: Bad, Text: Bad, Score: new(5.0), Distinct: true, Elo: new(0.5)},
		{ID: "j2", PromptID: "p1", ResponseID: "r1", Model: Bad, Text: long, Score: new(3.0), Distinct: true, Elo: new(-0.5)},
		{ID: "j3", PromptID: "p1", ResponseID: "r2", Model: Bad, Text: Bad, Score: new(3.0), Distinct: true},
		{ID: "j4", PromptID: "p1", ResponseID: "r2", Model: Bad, Text: Bad, Score: new(3.0)},
		{ID: "j5", PromptID: "p1", ResponseID: "r2", Model: Bad, Text: Bad, UnparsedReason: new(Bad)},
	}...)
	shardstest.WriteFile(t, out, shards.Comparisons, []schemas.ComparisonRow{
		{ID: "c1", PromptID: "p1", ResponseID: "r1", FirstID: "j1", SecondID: "j2", Model: Bad, Text: Bad, Winner: "first"},
		{ID: "c2", PromptID: "p1", ResponseID: "r1", FirstID: "j2", SecondID: "j1", Model: Bad, Text: long, Winner: "none", UnparsedReason: new(Bad)},
	}...)
	shardstest.WriteFile(t, out, shards.Failures, []schemas.FailureRow{
		{Stage: Bad, Code: Bad, Message: long, SourceFile: new(Bad), SourceLine: new(int64(1))},
		{Stage: "judge", Code: Bad, Message: long, PromptID: new("p1"), ResponseID: new("r1"), Replicate: new(int32(1))},
	}...)
	model, err := json.Marshal(Bad)
	if err != nil {
		t.Fatal(err)
	}
	run := schemas.Run{
		Format: schemas.RunFormat,
		Config: json.RawMessage(fmt.Sprintf(`{"roles":["actor","judge"],"actor":{"n":3,"role":{"model":%[1]s}},"judge":{"n":3,"role":{"model":%[1]s}},"meta_judge":{"role":{"model":%[1]s}},"method":{"position_weights":"run","min_judgments":1,"min_meta_judgments":2}}`, model)),
		Ledger: schemas.Ledger{Lines: 3, Bad: 1, Findings: 2, Roles: map[string]schemas.Outcomes{
			"actor": {Paired: 1, Dropped: map[string]int64{Bad: 1}, Failed: map[string]int64{Bad: 1}}, "judge": {Paired: 2},
		}},
		Stats: schemas.Stats{FailedCalls: map[string]map[string]int64{"judge": {Bad: 3}}, Actor: schemas.ActorPairStats{Pairs: 1}},
		Files: []schemas.File{{Path: shards.Path(shards.Prompts, 0, 1)}},
	}
	writeJSON(t, filepath.Join(out, rundir.RunFile), run)
	writeJSON(t, filepath.Join(out, rundir.OperationsFolder, "a.json"), summary.Operation{
		Attempt: Bad, Runner: Bad, Version: Bad, SlotUse: new(0.5), SlotUseOf: Bad, Warnings: []string{Bad},
		Calls: map[string]schemas.CallTally{"judge": {Generations: 1}, Bad: {Generations: 5, Retries: 2, RetriesByCode: map[string]int64{Bad: 1}}},
	})
	r, err := runs.Open(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func writeJSON[T any](t *testing.T, name string, v T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
