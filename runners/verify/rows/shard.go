// Package rows recomputes the rows of each prompt in all tables from its raw texts and the run's settings. It
// compares them with the written rows, and adds up their counts.
package rows

import (
	"fmt"
	"regexp"
	"strings"

	"coeval/datasets/shards"
	"coeval/runners/runs"
	"coeval/runners/verify/endings"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/rows/sums"
	"coeval/schemas"
)

// A Run is the run that rows are compared with.
type Run struct {
	*runs.Run

	// scores and verdicts read the texts.
	scores, verdicts *endings.Ending
}

// NewRun returns an error if a pattern in the config can't be compiled.
func NewRun(opened *runs.Run) (*Run, error) {
	r := &Run{Run: opened, scores: endings.Scores(opened.Settings.Scale()), verdicts: endings.Verdicts()}
	for _, own := range []struct {
		key, pattern string
		ending       **endings.Ending
	}{{"judge.pattern", opened.Settings.Judge.Pattern, &r.scores}, {"meta_judge.pattern", opened.Settings.MetaJudge.Pattern, &r.verdicts}} {
		if own.pattern == "" {
			continue
		}
		pattern, err := regexp.Compile(own.pattern)
		if err != nil {
			return nil, fmt.Errorf("%s in the config can't be compiled: %w", own.key, err)
		}
		*own.ending = (*own.ending).WithPattern(pattern)
	}
	return r, nil
}

// HasReads reports whether the run has a table of reads.
func (r *Run) HasReads() bool { return r.Settings.ReadsScores() || r.Settings.ReadsComparisons() }

// A Shard checks the rows of one shard, prompt by prompt.
type Shard struct {
	Run    *Run
	Number int
	// Sums are the sums over the rows checked so far.
	Sums sums.Sums
}

func (s *Shard) path(table shards.Table) string { return shards.Path(table, s.Number, s.Run.Shards) }

// Check checks the rows of a prompt.
func (s *Shard) Check(p *Prompt) problems.List {
	d := &prompt{Prompt: p, shard: s}
	d.check()
	return d.found
}

// CheckBadLines checks the failures that belong to no prompt.
func (s *Shard) CheckBadLines(rows []schemas.FailureRow) problems.List {
	var found problems.List
	for i := range rows {
		f := &rows[i]
		at := found.At(s.path(shards.Failures), Name(f))
		if f.Stage != schemas.StagePrompts {
			at.Add("prompt_id is null, should be that of the call")
			continue
		}
		s.Sums.Bad++
		checkCode(at, f)
		problems.Same(at, "response_id", text(f.ResponseID), "")
		problems.Same(at, "first_id", text(f.FirstID), "")
		problems.Same(at, "second_id", text(f.SecondID), "")
		problems.SameNullable(at, "replicate", f.Replicate, nil)
		if f.SourceFile == nil || f.SourceLine == nil {
			at.Add("source_file is %s and source_line %s, should be the place of the line in the input", problems.ShowNullable(f.SourceFile), problems.ShowNullable(f.SourceLine))
			continue
		}
		if n := schemas.Shard(fmt.Sprintf("%s:%d", *f.SourceFile, *f.SourceLine), s.Run.Shards); n != s.Number {
			at.Add("it is in shard %d, should be in shard %d", s.Number, n)
		}
	}
	return found
}

func checkCode(at problems.Location, f *schemas.FailureRow) {
	if f.Code == "" {
		at.Add("code is empty, should name the cause of the failure")
	}
}

// Name names a row in a problem: by its ID, or by its call or line.
func Name[T shards.Row](row *T) string {
	id := ""
	switch r := any(row).(type) {
	case *schemas.Pair:
		id = r.ID
	case *schemas.PromptRow:
		id = r.ID
	case *schemas.ResponseRow:
		id = r.ID
	case *schemas.JudgmentRow:
		id = r.ID
	case *schemas.ComparisonRow:
		id = r.ID
	case *schemas.ReadRow:
		id = r.ID
	case *schemas.FailureRow:
		return nameFailure(r)
	}
	return "row " + id
}

// text returns the empty string for null.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// nullable returns null for the empty string.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// nameFailure names a row without an ID by its call or line.
func nameFailure(f *schemas.FailureRow) string {
	parts := []string{"row of stage " + f.Stage, "code " + f.Code}
	for _, part := range []struct {
		what string
		id   *string
	}{{"prompt", f.PromptID}, {"response", f.ResponseID}, {"first", f.FirstID}, {"second", f.SecondID}} {
		if part.id != nil {
			parts = append(parts, part.what+" "+*part.id)
		}
	}
	if f.Replicate != nil && f.FirstID == nil {
		parts = append(parts, fmt.Sprintf("replicate %d", *f.Replicate))
	}
	if f.SourceFile != nil && f.SourceLine != nil {
		parts = append(parts, fmt.Sprintf("%s:%d", *f.SourceFile, *f.SourceLine))
	}
	return strings.Join(parts, ", ")
}
