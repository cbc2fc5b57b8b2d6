// Package shards writes and reads the tables of a run as Parquet files, and writes their dataset card.
//
// A table is split into shards, one file each; [Path] names them. A shard's bytes depend only on its
// rows, for one build on one architecture, and not on the number of cores. Rows are sorted by [Compare].
// The writer checks the order, and the file declares it. The writer also checks that every string is
// valid UTF-8, because most readers cannot open a file with an invalid one. The footer has no minimum
// and maximum of text columns, because long texts would make it large. Every other column has them, and
// a page index. Tables with an ID have a bloom filter on it.
//
// A writer keeps at most 1,000 rows or 4 MiB of text in memory, whichever is less. It also keeps one row
// group, compressed: at most 10,000 rows or 32 MiB of text.
//
// The package does not check that rows agree with each other (for example that a pair's response is in
// raw/responses), or that shards are disjoint. It does not check that a file is unchanged: use the SHA-256
// in run.json.
package shards

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"coeval/schemas"
)

// A Table is one of the outputs of a run. Its name is the folder of its shards.
type Table string

// The tables. Actor and Judge have rows of [schemas.Pair], the others rows of their own type.
const (
	Actor       Table = "actor"
	Judge       Table = "judge"
	Prompts     Table = "raw/prompts"
	Responses   Table = "raw/responses"
	Judgments   Table = "raw/judgments"
	Comparisons Table = "raw/comparisons"
	Failures    Table = "failures"
	// Reads is a table of runs with reads alone.
	Reads Table = "raw/reads"
)

// Tables lists the tables of every run in the order of reports.
var Tables = []Table{Actor, Judge, Prompts, Responses, Judgments, Comparisons, Failures}

// AllTables lists the tables that a run may have.
var AllTables = append(slices.Clone(Tables), Reads)

// Path returns the path of a shard below the run's folder, as in
// actor/train-00000-of-00004.parquet. Shards count from 0.
func Path(table Table, shard, shards int) string {
	part := "part"
	if table == Actor || table == Judge {
		part = "train"
	}
	return fmt.Sprintf("%s/%s-%05d-of-%05d.parquet", table, part, shard, shards)
}

// A Row is a row of a table.
type Row interface {
	schemas.Pair | schemas.PromptRow | schemas.ResponseRow | schemas.JudgmentRow | schemas.ComparisonRow | schemas.FailureRow | schemas.ReadRow
}

// Compare returns the order of two rows of a table: below 0 if a comes first, 0 if both are
// one row, above 0 if b comes first.
//
// Prompts are sorted by id. Pairs, responses, judgments, comparisons and reads are sorted by prompt_id and id,
// so that the rows of a prompt are adjacent. Failures are sorted by prompt_id, stage, code, response_id,
// first_id, second_id, replicate, source_file, source_line and message, where null comes first.
func Compare[T Row](a, b *T) int {
	switch a := any(a).(type) {
	case *schemas.Pair:
		b := any(b).(*schemas.Pair)
		return cmp.Or(strings.Compare(a.PromptID, b.PromptID), strings.Compare(a.ID, b.ID))
	case *schemas.PromptRow:
		return strings.Compare(a.ID, any(b).(*schemas.PromptRow).ID)
	case *schemas.ResponseRow:
		b := any(b).(*schemas.ResponseRow)
		return cmp.Or(strings.Compare(a.PromptID, b.PromptID), strings.Compare(a.ID, b.ID))
	case *schemas.JudgmentRow:
		b := any(b).(*schemas.JudgmentRow)
		return cmp.Or(strings.Compare(a.PromptID, b.PromptID), strings.Compare(a.ID, b.ID))
	case *schemas.ComparisonRow:
		b := any(b).(*schemas.ComparisonRow)
		return cmp.Or(strings.Compare(a.PromptID, b.PromptID), strings.Compare(a.ID, b.ID))
	case *schemas.ReadRow:
		b := any(b).(*schemas.ReadRow)
		return cmp.Or(strings.Compare(a.PromptID, b.PromptID), strings.Compare(a.ID, b.ID))
	case *schemas.FailureRow:
		return compareFailures(a, any(b).(*schemas.FailureRow))
	}
	return 0
}

func compareFailures(a, b *schemas.FailureRow) int {
	return cmp.Or(
		compareNullable(a.PromptID, b.PromptID),
		strings.Compare(a.Stage, b.Stage),
		strings.Compare(a.Code, b.Code),
		compareNullable(a.ResponseID, b.ResponseID),
		compareNullable(a.FirstID, b.FirstID),
		compareNullable(a.SecondID, b.SecondID),
		compareNullable(a.Replicate, b.Replicate),
		compareNullable(a.SourceFile, b.SourceFile),
		compareNullable(a.SourceLine, b.SourceLine),
		strings.Compare(a.Message, b.Message),
	)
}

// compareNullable puts null first.
func compareNullable[V cmp.Ordered](a, b *V) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return cmp.Compare(*a, *b)
}
