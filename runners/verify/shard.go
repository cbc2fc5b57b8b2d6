package verify

import (
	"context"
	"fmt"
	"strings"

	"coeval/datasets/shards"
	"coeval/runners/runs"
	"coeval/schemas"
)

// A shard is one file of each table, with the problems in them.
type shard struct {
	run    *run
	number int
	// files has the problems of whole files, rows the problems of rows.
	files, rows problems
	figures     figures
	balance     balance

	actor, judge *table[schemas.Pair]
	prompts      *table[schemas.PromptRow]
	responses    *table[schemas.ResponseRow]
	judgments    *table[schemas.JudgmentRow]
	comparisons  *table[schemas.ComparisonRow]
	failures     *table[schemas.FailureRow]
	reads        *table[schemas.ReadRow]
}

func (s *shard) verify(ctx context.Context) {
	s.actor = open[schemas.Pair](ctx, s, shards.Actor, s.run.Settings.Wants(schemas.RoleActor))
	s.judge = open[schemas.Pair](ctx, s, shards.Judge, s.run.Settings.Wants(schemas.RoleJudge))
	s.prompts = open[schemas.PromptRow](ctx, s, shards.Prompts, true)
	s.responses = open[schemas.ResponseRow](ctx, s, shards.Responses, true)
	s.judgments = open[schemas.JudgmentRow](ctx, s, shards.Judgments, true)
	s.comparisons = open[schemas.ComparisonRow](ctx, s, shards.Comparisons, true)
	s.failures = open[schemas.FailureRow](ctx, s, shards.Failures, true)
	s.reads = open[schemas.ReadRow](ctx, s, shards.Reads, s.run.hasReads())

	s.checkBadLines(s.failures.of(""))
	s.checkPrompts()

	finish(s, shards.Actor, s.actor)
	finish(s, shards.Judge, s.judge)
	finish(s, shards.Prompts, s.prompts)
	finish(s, shards.Responses, s.responses)
	finish(s, shards.Judgments, s.judgments)
	finish(s, shards.Comparisons, s.comparisons)
	finish(s, shards.Failures, s.failures)
	if s.run.hasReads() {
		finish(s, shards.Reads, s.reads)
	}
}

// open checks a file as a whole and begins to read its rows. A table of a role that was not asked for is
// empty.
func open[T shards.Row](ctx context.Context, s *shard, name shards.Table, asked bool) *table[T] {
	if !asked {
		return &table[T]{}
	}
	path := shards.Path(name, s.number, s.run.Shards)
	there := false
	if _, named := s.run.files[path]; named {
		digest := s.run.checkFile(ctx, path, &s.files)
		there = digest != ""
		s.figures.addFile(path, digest)
	}
	return openTable[T](ctx, s.run, path, there, &s.files)
}

// finish reads the rest of a table, closes it and counts its rows.
func finish[T shards.Row](s *shard, name shards.Table, t *table[T]) {
	t.drain()
	s.figures.addRows(name, t.rows)
	if t.torn {
		if name != shards.Actor && name != shards.Judge { // pairs counts none
			s.figures.torn = append(s.figures.torn, t.path)
		}
		return
	}
	if want := s.run.files[t.path].Rows; t.rows != want {
		s.files.add("%s has %d rows, but %s lists %d", t.path, t.rows, runFile, want)
	}
}

// checkPrompts goes through all tables prompt by prompt, while all raw tables can be read.
func (s *shard) checkPrompts() {
	for {
		id, ok := s.nextPrompt()
		if !ok {
			return
		}
		joined := promptRows{
			prompts: s.prompts.of(id), responses: s.responses.of(id), judgments: s.judgments.of(id),
			comparisons: s.comparisons.of(id), failures: s.failures.of(id), actor: s.actor.of(id), judge: s.judge.of(id),
			reads: s.reads.of(id),
		}
		if path, torn := s.tornTable(); torn {
			s.rows.add("%s: from prompt %s on the tables of shard %d were not compared with each other, as %s can't be read in order",
				s.prompts.path, id, s.number, path)
			return
		}
		d := &rows{shard: s, id: id, promptRows: joined}
		d.check()
		s.rows.joinFirst(&d.problems, maxPromptProblems)
	}
}

// maxPromptProblems is the number of problems of one prompt that are listed: a missing row can leave many
// dangling references.
const maxPromptProblems = 25

// nextPrompt returns the lowest prompt ID among the next rows of all tables.
func (s *shard) nextPrompt() (id string, ok bool) {
	id, ok = lowest(s.actor, id, ok)
	id, ok = lowest(s.judge, id, ok)
	id, ok = lowest(s.prompts, id, ok)
	id, ok = lowest(s.responses, id, ok)
	id, ok = lowest(s.judgments, id, ok)
	id, ok = lowest(s.comparisons, id, ok)
	id, ok = lowest(s.reads, id, ok)
	return lowest(s.failures, id, ok)
}

func lowest[T shards.Row](t *table[T], id string, ok bool) (string, bool) {
	if t.Head() == nil {
		return id, ok
	}
	if next := runs.PromptOf(t.Head()); !ok || next < id {
		return next, true
	}
	return id, true
}

// tornTable returns the first raw table that can't be read in order.
func (s *shard) tornTable() (path string, torn bool) {
	for _, t := range []struct {
		path string
		torn bool
	}{
		{s.prompts.path, s.prompts.torn},
		{s.responses.path, s.responses.torn},
		{s.judgments.path, s.judgments.torn},
		{s.comparisons.path, s.comparisons.torn},
		{s.failures.path, s.failures.torn},
		{s.reads.path, s.reads.torn},
	} {
		if t.torn {
			return t.path, true
		}
	}
	return "", false
}

// checkBadLines checks the failures that belong to no prompt.
func (s *shard) checkBadLines(rows []schemas.FailureRow) {
	for i := range rows {
		f := &rows[i]
		at := s.failures.row(&s.rows, f)
		if f.Stage != schemas.StagePrompts {
			at.add("prompt_id is null, should be that of the call")
			continue
		}
		s.figures.bad++
		checkCode(at, f)
		same(at, "response_id", text(f.ResponseID), "")
		same(at, "first_id", text(f.FirstID), "")
		same(at, "second_id", text(f.SecondID), "")
		sameNullable(at, "replicate", f.Replicate, nil)
		if f.SourceFile == nil || f.SourceLine == nil {
			at.add("source_file is %s and source_line %s, should be the place of the line in the input", showNullable(f.SourceFile), showNullable(f.SourceLine))
			continue
		}
		if n := schemas.Shard(fmt.Sprintf("%s:%d", *f.SourceFile, *f.SourceLine), s.run.Shards); n != s.number {
			at.add("it is in shard %d, should be in shard %d", s.number, n)
		}
	}
}

func checkCode(at location, f *schemas.FailureRow) {
	if f.Code == "" {
		at.add("code is empty, should name the cause of the failure")
	}
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
