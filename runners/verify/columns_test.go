package verify

import (
	"cmp"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coeval/datasets/shards"
	"coeval/schemas"
)

// unproved are the columns that no other part of a run determines; the package comment lists them.
var unproved = map[shards.Table][]string{
	shards.Prompts:     {"source_file", "source_line"},
	shards.Responses:   {"reasoning", "prompt_tokens"},
	shards.Judgments:   {"reasoning", "prompt_tokens"},
	shards.Comparisons: {"reasoning", "prompt_tokens"},
	shards.Failures:    {"message"},
	shards.Reads:       {"prompt_tokens"},
}

// foundIn names the column that gives away a change of another one.
var foundIn = map[string]string{
	"comparisons/text_changed":            "winner",   // no ID depends on it
	"judgments/unparsed_reason_to_null":   "score",    // the text has a score, and was cut off
	"comparisons/unparsed_reason_changed": "unparsed", // only counts depend on it
	"judgments/unparsed_reason_changed":   "unparsed",
	"failures/code_changed":               "failed_calls", // only counts depend on it
	"failures/source_file_changed":        inShard,
	"failures/source_line_changed":        inShard,
}

const inShard = "should be in shard"

// pathOfLine is the file of the good run, which has 4 shards, where a bad line belongs.
func pathOfLine(row *schemas.FailureRow) string {
	return shards.Path(shards.Failures, schemas.Shard(fmt.Sprintf("%s:%d", *row.SourceFile, *row.SourceLine), 4), 4)
}

// Every value of every column is changed once, with a digest to match, and is found out.
func TestEveryColumn(t *testing.T) {
	t.Run("actor", func(t *testing.T) { everyColumn[schemas.Pair](t, shards.Actor, goodRun) })
	t.Run("judge", func(t *testing.T) { everyColumn[schemas.Pair](t, shards.Judge, goodRun) })
	t.Run("prompts", func(t *testing.T) { everyColumn[schemas.PromptRow](t, shards.Prompts, goodRun) })
	t.Run("responses", func(t *testing.T) { everyColumn[schemas.ResponseRow](t, shards.Responses, goodRun) })
	t.Run("judgments", func(t *testing.T) { everyColumn[schemas.JudgmentRow](t, shards.Judgments, goodRun) })
	t.Run("comparisons", func(t *testing.T) { everyColumn[schemas.ComparisonRow](t, shards.Comparisons, goodRun) })
	t.Run("failures", func(t *testing.T) { everyColumn[schemas.FailureRow](t, shards.Failures, goodRun) })
}

func everyColumn[T shards.Row](t *testing.T, table shards.Table, madeRun func() (string, error)) {
	row := reflect.TypeFor[T]()
	for i := range row.NumField() {
		column, _, _ := strings.Cut(row.Field(i).Tag.Get("parquet"), ",")
		for _, change := range changesOf(row.Field(i).Type) {
			t.Run(column+"_"+change.name, func(t *testing.T) {
				t.Parallel()
				made, err := madeRun()
				if err != nil {
					t.Fatal(err)
				}
				dir := filepath.Join(t.TempDir(), "out")
				linkTables(t, made, dir)
				f := readLargest[T](t, dir, table)
				at := len(f.rows) - 1 // failures of calls follow those of bad lines, whose codes are unproved
				for ; at >= 0 && (!change.fits(reflect.ValueOf(f.rows[at]).Field(i)) || isUndecided(f.rows[at])); at-- {
				}
				if at < 0 {
					t.Skip("no row has this value")
				}
				phrase := cmp.Or(foundIn[strings.SplitN(t.Name(), "/", 2)[1]], column)
				changed := reflect.ValueOf(&f.rows[at]).Elem().Field(i)
				changed.Set(change.apply(changed))
				if row, ok := any(&f.rows[at]).(*schemas.FailureRow); ok && phrase == inShard {
					for f.path == pathOfLine(row) { // by chance the changed line belongs there too
						changed.Set(change.apply(changed))
					}
				}
				f.forge(t)
				report := mustVerify(t, dir)
				isNamed := func(p string) bool { return strings.Contains(p, phrase) }
				switch found := slices.ContainsFunc(report.Problems, isNamed); {
				case slices.Contains(unproved[table], column):
					if len(report.Problems) > 0 {
						t.Errorf("%s counts as unproved, but there are problems:\n%s", column, strings.Join(report.Problems, "\n"))
					}
				case !found:
					t.Errorf("no problem names %s; there are\n%s", phrase, strings.Join(report.Problems, "\n"))
				}
			})
		}
	}
}

// A change makes another value of one that it fits.
type change struct {
	name  string
	fits  func(v reflect.Value) bool
	apply func(v reflect.Value) reflect.Value
}

func always(reflect.Value) bool { return true }

func changesOf(t reflect.Type) []change {
	if t.Kind() == reflect.Pointer {
		isNull := func(v reflect.Value) bool { return v.IsNil() }
		isSet := func(v reflect.Value) bool { return !v.IsNil() }
		set := func(v reflect.Value) reflect.Value {
			p := reflect.New(t.Elem())
			if !v.IsNil() {
				p.Elem().Set(v.Elem())
			}
			p.Elem().Set(another(p.Elem()))
			return p
		}
		return []change{
			{"changed", isSet, set},
			{"from_null", isNull, set},
			{"to_null", isSet, func(v reflect.Value) reflect.Value { return reflect.Zero(v.Type()) }},
		}
	}
	changes := []change{{"changed", always, another}}
	if t.Kind() == reflect.Slice {
		changes = append(changes, change{
			"shortened",
			func(v reflect.Value) bool { return v.Len() > 1 },
			func(v reflect.Value) reflect.Value { return v.Slice(1, v.Len()) },
		})
	}
	return changes
}

// another returns a value that differs from v a little, without changing the value behind v's pointers.
func another(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		out.SetString(v.String() + "x")
	case reflect.Int32, reflect.Int64:
		out.SetInt(v.Int() + 1)
	case reflect.Float64:
		out.SetFloat(v.Float() + 0.5)
	case reflect.Bool:
		out.SetBool(!v.Bool())
	case reflect.Struct: // a message
		out.Set(v)
		out.Field(1).Set(another(v.Field(1)))
	case reflect.Slice:
		last := reflect.Zero(v.Type().Elem())
		if v.Len() > 0 {
			last = v.Index(v.Len() - 1)
		}
		kept := reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v.Slice(0, max(v.Len()-1, 0)))
		out.Set(reflect.Append(kept, another(last)))
	default:
		panic("no other value of " + v.Type().String())
	}
	return out
}

// isUndecided reports whether a row is a comparison whose text doesn't end in a plain verdict, which
// one more letter makes unreadable.
func isUndecided(row any) bool {
	c, ok := row.(schemas.ComparisonRow)
	return ok && !strings.HasSuffix(c.Text, "\nWinner: A") && !strings.HasSuffix(c.Text, "\nWinner: B")
}
