package verify

import (
	"context"

	"coeval/datasets/shards"
	"coeval/runners/runs"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/rows"
	"coeval/schemas"
)

// A shard is one file of each table, with the problems in them.
type shard struct {
	run    *run
	number int
	// inFiles has the problems of whole files, inRows the problems of rows.
	inFiles, inRows problems.List
	figures         figures

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
	s.reads = open[schemas.ReadRow](ctx, s, shards.Reads, s.run.HasReads())

	checked := &rows.Shard{Run: s.run.Run, Number: s.number}
	badLines := checked.CheckBadLines(s.failures.of(""))
	s.inRows.Join(&badLines)
	s.checkPrompts(checked)
	s.figures.Sums = checked.Sums

	finish(s, shards.Actor, s.actor)
	finish(s, shards.Judge, s.judge)
	finish(s, shards.Prompts, s.prompts)
	finish(s, shards.Responses, s.responses)
	finish(s, shards.Judgments, s.judgments)
	finish(s, shards.Comparisons, s.comparisons)
	finish(s, shards.Failures, s.failures)
	if s.run.HasReads() {
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
		digest := s.run.checkFile(ctx, path, &s.inFiles)
		there = digest != ""
		s.figures.addFile(path, digest)
	}
	return openTable[T](ctx, s.run, path, there, &s.inFiles)
}

// finish reads the rest of a table, closes it and counts its rows.
func finish[T shards.Row](s *shard, name shards.Table, t *table[T]) {
	t.drain()
	s.figures.addRows(name, t.count)
	if t.unreadable {
		if name != shards.Actor && name != shards.Judge { // pairs counts none
			s.figures.unreadable = append(s.figures.unreadable, t.path)
		}
		return
	}
	if want := s.run.files[t.path].Rows; t.count != want {
		s.inFiles.Add("%s has %d rows, but %s lists %d", t.path, t.count, runFile, want)
	}
}

// checkPrompts goes through all tables prompt by prompt, while all raw tables can be read.
func (s *shard) checkPrompts(checked *rows.Shard) {
	for {
		id, ok := s.nextPrompt()
		if !ok {
			return
		}
		joined := rows.Prompt{
			ID: id, Prompts: s.prompts.of(id), Responses: s.responses.of(id), Judgments: s.judgments.of(id),
			Comparisons: s.comparisons.of(id), Failures: s.failures.of(id), Actor: s.actor.of(id), Judge: s.judge.of(id),
			Reads: s.reads.of(id),
		}
		joined.ActorUnreadable, joined.JudgeUnreadable = s.actor.unreadable, s.judge.unreadable
		if path, unreadable := s.unreadableTable(); unreadable {
			s.inRows.Add("%s: from prompt %s on the tables of shard %d were not compared with each other, as %s can't be read in order",
				s.prompts.path, id, s.number, path)
			return
		}
		found := checked.Check(&joined)
		s.inRows.JoinFirst(&found, maxPromptProblems)
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

// unreadableTable returns the first raw table that can't be read in order.
func (s *shard) unreadableTable() (path string, unreadable bool) {
	for _, t := range []struct {
		path       string
		unreadable bool
	}{
		{s.prompts.path, s.prompts.unreadable},
		{s.responses.path, s.responses.unreadable},
		{s.judgments.path, s.judgments.unreadable},
		{s.comparisons.path, s.comparisons.unreadable},
		{s.failures.path, s.failures.unreadable},
		{s.reads.path, s.reads.unreadable},
	} {
		if t.unreadable {
			return t.path, true
		}
	}
	return "", false
}
