package summary

import (
	"bytes"
	"strings"
	"testing"

	"coeval/datasets/shards"
	"coeval/datasets/shards/shardstest"
	"coeval/runners/runs"
	"coeval/schemas"
)

// ranRun returns a run of 10 prompts with these statistics.
func ranRun(change func(*schemas.Run)) *schemas.Run {
	r := &schemas.Run{
		Ledger: schemas.Ledger{Lines: 10, Findings: 10, Roles: map[string]schemas.Outcomes{"actor": {Paired: 10}, "judge": {Paired: 10}}},
		Stats: schemas.Stats{
			Prompts:   10,
			Actor:     schemas.ActorPairStats{Pairs: 10, ChosenChars: 1000, RejectedChars: 1000},
			Judge:     schemas.JudgePairStats{Pairs: 10, ChosenChars: 1000, RejectedChars: 1000, HigherChosen: 5, LowerChosen: 5, ChosenScores: map[int]int64{3000: 4, 4000: 3, 5000: 3}},
			Responses: schemas.ResponseStats{Replicates: 20, Distinct: 20, Scored: 20},
			Judgments: schemas.TextStats{Texts: 40}, Comparisons: schemas.TextStats{Texts: 60},
		},
	}
	change(r)
	return r
}

func operation() *Operation {
	op := &Operation{}
	op.Config.Actor.MaxTokens, op.Config.Judge.MaxTokens = 64, 128
	op.Config.Method.Rho = 0.32
	return op
}

// Each warning appears beyond its threshold and names its setting. A good run has none.
func TestWarnings(t *testing.T) {
	if got := New(ranRun(func(*schemas.Run) {}), operation()).Warnings; len(got) != 0 {
		t.Errorf("a good run: %q", got)
	}
	tooFewVerdicts := schemas.Outcomes{Dropped: map[string]int64{schemas.TooFewVerdicts: 10}}
	tooFew := schemas.Outcomes{Paired: 6, Dropped: map[string]int64{schemas.TooFewScored: 4}}
	for name, c := range map[string]struct {
		change func(*schemas.Run)
		want   []string
	}{
		"all cut off": {func(r *schemas.Run) {
			r.Ledger.Roles["actor"] = schemas.Outcomes{Dropped: map[string]int64{schemas.TooFewScored: 10}}
			r.Stats.Responses.Scored, r.Stats.Responses.Truncated = 0, 20
		}, []string{"THE ACTOR HAS NO PAIR", "too_few_scored", "20 of 20 responses are cut off at actor.max_tokens (64): raise it"}},
		"empty": {func(r *schemas.Run) {
			r.Ledger.Roles["actor"] = tooFew
			r.Stats.Responses.Scored, r.Stats.Responses.Empty, r.Stats.Responses.Truncated = 8, 8, 4
		}, []string{"8 of 20 responses are empty"}},
		"judgments cut off": {func(r *schemas.Run) {
			r.Ledger.Roles["actor"] = tooFew
			r.Stats.Responses.Scored, r.Stats.Judgments.Unparsed = 8, map[string]int64{"cut_off": 5, "missing": 2}
		}, []string{"12 of 20 complete responses have too few parsed judgments: 5 judgments are cut off at judge.max_tokens (128)"}},
		"judge calls failed": {func(r *schemas.Run) {
			r.Ledger.Roles["actor"] = tooFew
			r.Stats.Responses.Scored = 8
			r.Stats.CountFailed(schemas.StageJudge, "timeout", 9)
		}, []string{"9 judge calls failed (timeout 9)"}},
		"few responses": {func(r *schemas.Run) {
			r.Ledger.Roles["actor"] = tooFew
			r.Stats.Responses = schemas.ResponseStats{Replicates: 12, Distinct: 12, Scored: 12}
		}, []string{"the actor gave 12 distinct responses: raise actor.n"}},
		"judgments cut off, for the judge": {func(r *schemas.Run) {
			r.Ledger.Roles["judge"] = schemas.Outcomes{Dropped: map[string]int64{schemas.NotContested: 10}}
			r.Stats.Responses.Scored, r.Stats.Judgments.Unparsed = 0, map[string]int64{"cut_off": 40}
		}, []string{"because of not_contested (more than 30.0 %): 20 of 20 complete responses have too few parsed judgments: 40 judgments are cut off at judge.max_tokens (128): raise it"}},
		"scores that don't differ": {func(r *schemas.Run) {
			r.Ledger.Roles["judge"] = schemas.Outcomes{Dropped: map[string]int64{schemas.NotContested: 10}}
			r.Ledger.Roles["actor"] = schemas.Outcomes{Dropped: map[string]int64{schemas.EqualScores: 10}}
		}, []string{"equal_scores (more than 30.0 %): the judge gives all responses to a prompt one score", "no response had judgments that differ"}},
		"judgments missing": {func(r *schemas.Run) {
			r.Ledger.Roles["judge"] = schemas.Outcomes{Paired: 5, Dropped: map[string]int64{schemas.TooFewJudgments: 5}}
			r.Stats.Judgments.Unparsed = map[string]int64{"missing": 20}
		}, []string{"too_few_judgments (more than 30.0 %): 20 judgments don't parse (missing): look at text in raw/judgments"}},
		"comparisons cut off": {func(r *schemas.Run) {
			r.Ledger.Roles["judge"] = tooFewVerdicts
			r.Stats.Comparisons.Unparsed = map[string]int64{"cut_off": 50, "tie": 10}
		}, []string{"too_few_verdicts (more than 30.0 %): 50 comparisons are cut off at the server's own limit, since meta_judge.max_tokens is 0: set it"}},
		"ties": {func(r *schemas.Run) {
			r.Ledger.Roles["judge"] = tooFewVerdicts
			r.Stats.Comparisons.Unparsed = map[string]int64{"tie": 60}
		}, []string{"60 comparisons name no winner (tie): look at text in raw/comparisons"}},
		"longer":            {func(r *schemas.Run) { r.Stats.Actor.ChosenChars = 1300 }, []string{"a larger method.rho", "only 10 pairs, so this is weak evidence"}},
		"shorter judgments": {func(r *schemas.Run) { r.Stats.Judge.RejectedChars = 1300 }, []string{"look at meta_judge.template"}},
		"higher":            {func(r *schemas.Run) { r.Stats.Judge.HigherChosen, r.Stats.Judge.LowerChosen = 10, 0 }, []string{"method.balance_directions"}},
		"one score":         {func(r *schemas.Run) { r.Stats.Judge.ChosenScores = map[int]int64{5000: 5, 4000: 5} }, []string{"the score 5 (", "method.judge_class_cap"}},
		"unparsed":          {func(r *schemas.Run) { r.Stats.Judgments.Unparsed = map[string]int64{"missing": 9} }, []string{"22.5 % of the texts of stage judge don't parse"}},
		"constant":          {func(r *schemas.Run) { r.Stats.Responses.Several, r.Stats.Responses.Constant = 10, 6 }, []string{"the server seems to ignore temperature"}},
	} {
		got := strings.Join(New(ranRun(c.change), operation()).Warnings, "\n")
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no warning has %q:\n%s", name, want, got)
			}
		}
	}
}

// Beside a pattern, enforced verdicts are refused: the warnings name the pattern.
func TestWarningsBesideAPattern(t *testing.T) {
	run := ranRun(func(r *schemas.Run) {
		r.Ledger.Roles["judge"] = schemas.Outcomes{Dropped: map[string]int64{schemas.TooFewVerdicts: 10}}
		r.Stats.Comparisons.Unparsed = map[string]int64{"missing": 60}
	})
	op := operation()
	op.Config.MetaJudge.Pattern = `\[\[([AB])\]\]`
	got := strings.Join(New(run, op).Warnings, "\n")
	for _, want := range []string{"and compare their ends with meta_judge.pattern", "or compare their ends with meta_judge.pattern"} {
		if !strings.Contains(got, want) {
			t.Errorf("no warning has %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "enforced") {
		t.Errorf("a warning names a setting that is refused:\n%s", got)
	}
}

// A larger max_tokens is no cure for ends that are not known.
func TestUnknownEnds(t *testing.T) {
	run := ranRun(func(r *schemas.Run) {
		r.Ledger.Roles["actor"] = schemas.Outcomes{Dropped: map[string]int64{schemas.TooFewScored: 10}}
		r.Stats.Responses.Scored, r.Stats.Responses.Truncated = 0, 20
	})
	op := operation()
	op.UnknownFinishes = map[string]int64{"tired": 20}
	got := strings.Join(New(run, op).Warnings, "\n")
	if want := "20 of 20 responses count as cut off, as their finish reasons are not known (tired 20)"; !strings.Contains(got, want) || strings.Contains(got, "raise it") {
		t.Errorf("no warning has %q, or one says to raise max_tokens:\n%s", want, got)
	}
}

// Failures that are replayed name the flag, and a role without a pair because of them ends the run.
func TestFailures(t *testing.T) {
	op := operation()
	op.Calls = map[string]schemas.CallTally{schemas.StageGenerate: {Replayed: 20, Failed: 20, ReplayedFailed: 20}}
	run := ranRun(func(r *schemas.Run) {
		r.Ledger.Roles = map[string]schemas.Outcomes{"actor": {Failed: map[string]int64{"bad_request": 10}}}
		r.Stats.CountFailed(schemas.StageGenerate, "bad_request", 20)
	})
	s := New(run, op)
	if got := strings.Join(s.Warnings, "\n"); !strings.Contains(got, "20 failed calls were replayed") || !strings.Contains(got, "--retry-failed") {
		t.Errorf("warnings %q", got)
	}
	if s.FailedRole() != "actor" {
		t.Errorf("the failed role is %q", s.FailedRole())
	}
	out := t.TempDir()
	row := func(code, message string, replicate int32) schemas.FailureRow {
		return schemas.FailureRow{Stage: schemas.StageGenerate, Code: code, Message: message, PromptID: new("p"), Replicate: &replicate}
	}
	shardstest.WriteFile(t, out, shards.Failures,
		schemas.FailureRow{Stage: schemas.StagePrompts, Code: "bad_json", Message: "bad", SourceFile: new("f"), SourceLine: new(int64(1))},
		row("bad_request", "top_k is not allowed\x1b[31m", 0), row("bad_request", "top_k is not allowed\x1b[31m", 1), row("timeout", "slow", 2))
	if err := s.AddFailures(t.Context(), &runs.Run{Dir: out, Shards: 1}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Print(&b); err != nil {
		t.Fatal(err)
	}
	if want := "Most frequent message: stage generate, code bad_request, 2 calls: top_k is not allowed␛[31m"; !strings.Contains(b.String(), want) {
		t.Errorf("the summary lacks %q:\n%s", want, b.String())
	}
}

// The summary has a line with the failed calls of each stage that a run can request, in the order of the stages.
func TestFailedCallsOfEveryStage(t *testing.T) {
	run := ranRun(func(r *schemas.Run) {
		for _, stage := range schemas.Stages {
			r.Stats.CountFailed(stage, "timeout", 3)
		}
	})
	var b bytes.Buffer
	if err := New(run, operation()).Print(&b); err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, stage := range schemas.Stages {
		next := strings.Index(b.String()[at:], " "+stage+": timeout 3\n")
		if next < 0 {
			t.Fatalf("the failed calls of %s are missing or out of order:\n%s", stage, b.String())
		}
		at += next
	}
}

// A run with comparisons until settled reports the share that was asked, the reasons for stopping, and
// the possible error: 0.3 of a spread of 2 logits is 15 %.
func TestAskingIsTold(t *testing.T) {
	run := &schemas.Run{Ledger: schemas.Ledger{Findings: 3, Roles: map[string]schemas.Outcomes{schemas.RoleJudge: {Paired: 3}}}}
	run.Stats.Asking.Count(schemas.StopSettled, 0.2, 2, 30, 11)
	run.Stats.Asking.Count(schemas.StopSettled, 0.3, 2, 40, 11)
	run.Stats.Asking.Count(schemas.StopBound, 0.4, 2, 60, 11)
	var b strings.Builder
	if err := New(run, &Operation{}).Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"130 of 330 requested (39.4 %); prompts by the reason for the stop: settled 2, bound 1", "expected regret of the picks: 15.0 % of the distance"} {
		if !strings.Contains(strings.ReplaceAll(b.String(), "\u00a0", " "), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// The printed summary counts texts by finish reasons that are not known, and ends with the next command.
func TestPrint(t *testing.T) {
	op := operation()
	op.Config.Output.Dir = "some/out"
	op.UnknownFinishes = map[string]int64{"weary": 1, "tired": 1234}
	var b bytes.Buffer
	if err := New(ranRun(func(*schemas.Run) {}), op).Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`count as cut off: "tired" 1,234, "weary" 1`, "\nnext: coeval report some/out\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the summary lacks %q:\n%s", want, b.String())
		}
	}
	if !strings.HasSuffix(b.String(), "next: coeval report some/out\n") {
		t.Errorf("the summary does not end with the next command:\n%s", b.String())
	}
}
