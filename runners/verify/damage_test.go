package verify

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/shards"
	"coeval/runners/verify/problems"
	"coeval/schemas"
	"coeval/transforms/sink"
)

// Each case damages a good run and returns phrases. One of the reported problems must contain all of
// them.
func TestDamage(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string) []string
	}{
		{"flipped byte", flippedByte},
		{"missing file", func(t *testing.T, dir string) []string {
			path := shards.Path(shards.Judgments, 1, 4)
			remove(t, dir, path)
			return []string{path + " is missing", "stats were not compared with the tables, as 1 of them can't be read in order, the first " + path}
		}},
		{"missing pairs", func(t *testing.T, dir string) []string {
			path := shards.Path(shards.Actor, 1, 4)
			remove(t, dir, path)
			run := readManifest(t, dir)
			run.Stats.Actor.Pairs++
			writeManifest(t, dir, run)
			return []string{path + " is missing", "stats.actor.pairs is"}
		}},
		{"extra file", func(t *testing.T, dir string) []string {
			path := "actor/train-00004-of-00005.parquet"
			write(t, dir, path, []byte("PAR1"))
			return []string{path + " is not a file of this run"}
		}},
		{"file that run.json doesn't name", func(t *testing.T, dir string) []string {
			run := readManifest(t, dir)
			path := shards.Path(shards.Failures, 2, 4)
			run.Files = slices.DeleteFunc(run.Files, func(f schemas.File) bool { return f.Path == path })
			writeManifest(t, dir, run)
			return []string{"run.json: files lacks " + path, path + " is not a file of this run"}
		}},
		{"file outside the tables", func(t *testing.T, dir string) []string {
			run := readManifest(t, dir)
			run.Files = append(run.Files, schemas.File{Path: "../x.parquet"})
			writeManifest(t, dir, run)
			return []string{"run.json: files names ../x.parquet, which is no file of a run with 4 shards"}
		}},
		{"shard of another table", func(t *testing.T, dir string) []string {
			from, to := shards.Path(shards.Responses, 0, 4), shards.Path(shards.Judgments, 0, 4)
			write(t, dir, to, read(t, dir, from))
			forgeDigest(t, dir, to, 0)
			return []string{to + " can't be read", "column 3 is replicates.list.element where response_id"}
		}},
		{"wrong ledger", func(t *testing.T, dir string) []string {
			run := readManifest(t, dir)
			run.Ledger.Findings++
			writeManifest(t, dir, run)
			return []string{
				"run.json: ledger.lines is 19, should be bad + not_drawn + merged + findings = 2 + 0 + 1 + 17 = 20",
				"run.json: ledger.findings is 17, the tables give 16",
				"run.json: ledger.roles.judge has", "= 16, should be findings = 17",
			}
		}},
		{"wrong ledger that adds up", func(t *testing.T, dir string) []string {
			run := readManifest(t, dir)
			run.Ledger.Lines, run.Ledger.Bad = 20, 3
			o := run.Ledger.Roles[schemas.RoleActor]
			o.Dropped = map[string]int64{schemas.Margin: o.Paired}
			o.Paired = 0
			run.Ledger.Roles[schemas.RoleActor] = o
			writeManifest(t, dir, run)
			return []string{"ledger.bad is 3, the tables give 2", "ledger.roles.actor.paired is 0, the tables give", "ledger.roles.actor.dropped.margin is"}
		}},
		{"wrong figures", func(t *testing.T, dir string) []string {
			run := readManifest(t, dir)
			run.Stats.Judge.ScoreDifference++
			run.Stats.Judgments.Unparsed["novel"] = 1
			run.PositionWeights.First += 0.125
			writeManifest(t, dir, run)
			return []string{"stats.judge.score_difference is", "stats.judgments.unparsed.novel is 1, the tables give 0", "run.json: position_weights is {"}
		}},
		{"removed row", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.JudgmentRow](t, dir, shards.Judgments)
			rows := len(f.rows)
			gone := f.remove(3)
			f.write(t)
			return []string{
				f.path + " has the SHA-256 ", fmt.Sprintf("%s has %d rows, but run.json lists %d", f.path, rows-1, rows),
				fmt.Sprintf("%s: response %s: replicate %d of the judge has neither a row nor a failure", f.path, gone.ResponseID, gone.Replicate),
			}
		}},
		{"removed response", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.ResponseRow](t, dir, shards.Responses)
			gone := f.remove(2)
			f.forge(t)
			return []string{
				fmt.Sprintf("prompt %s: replicate %d of the actor has neither a row nor a failure", gone.PromptID, gone.Replicates[0]),
				"response_id is " + gone.ID + ", which is no response to prompt " + gone.PromptID,
				"stats.responses.distinct is",
			}
		}},
		{"removed judgment", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.JudgmentRow](t, dir, shards.Judgments)
			gone := f.remove(7)
			f.forge(t)
			return []string{
				fmt.Sprintf("%s: response %s: replicate %d of the judge has neither a row nor a failure", f.path, gone.ResponseID, gone.Replicate),
				"stats.judgments.texts is",
			}
		}},
		{"removed comparison", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.ComparisonRow](t, dir, shards.Comparisons)
			gone := f.remove(5)
			f.forge(t)
			return []string{
				fmt.Sprintf("%s: prompt %s: the comparison of judgment %s, shown first, and %s has neither a row nor a failure",
					f.path, gone.PromptID, gone.FirstID, gone.SecondID),
				"stats.comparisons.texts is",
			}
		}},
		{"removed failure", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.FailureRow](t, dir, shards.Failures)
			gone := f.remove(len(f.rows) - 1)
			f.forge(t)
			return []string{"has neither a row nor a failure", "stats.failed_calls." + gone.Stage + "." + gone.Code}
		}},
		{"removed bad line", func(t *testing.T, dir string) []string {
			for i := range 4 {
				f := readTable[schemas.FailureRow](t, dir, shards.Failures, shards.Path(shards.Failures, i, 4))
				if len(f.rows) > 0 && f.rows[0].Stage == schemas.StagePrompts {
					f.remove(0)
					f.forge(t)
					return []string{"run.json: ledger.bad is 2, the tables give 1"}
				}
			}
			t.Fatal("no bad line")
			return nil
		}},
		{"removed prompt", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.PromptRow](t, dir, shards.Prompts)
			gone := f.remove(1)
			f.forge(t)
			return []string{
				f.path + ": prompt " + gone.ID + " has no row here, but is the prompt_id of 3 rows of raw/responses/",
				"ledger.findings is 16, the tables give 15",
			}
		}},
		{"removed pair", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.Pair](t, dir, shards.Judge)
			gone := f.remove(0)
			f.forge(t)
			return []string{fmt.Sprintf("%s: prompt %s: its pair %s of chosen %s and rejected %s is missing", f.path, gone.PromptID, gone.ID, gone.ChosenID, gone.RejectedID)}
		}},
		{"swapped pair", swappedPair},
		{"edited score", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.JudgmentRow](t, dir, shards.Judgments)
			i := slices.IndexFunc(f.rows, func(r schemas.JudgmentRow) bool { return r.Score != nil && *r.Score < 4 })
			was := *f.rows[i].Score
			*f.rows[i].Score = was + 0.5
			f.forge(t)
			return []string{fmt.Sprintf("%s: row %s: score is %v, should be %v", f.path, f.rows[i].ID, was+0.5, was)}
		}},
		{"edited text", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.ResponseRow](t, dir, shards.Responses)
			row := &f.rows[1]
			row.Text = "Another " + row.Text
			f.forge(t)
			id := schemas.ResponseID(row.PromptID, row.Model, row.Text)
			return []string{fmt.Sprintf("%s: row %s: prompt_id, model and text give the ID %s", f.path, row.ID, id)}
		}},
		{"edited text of a pair", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.Pair](t, dir, shards.Actor)
			row := &f.rows[0]
			was := row.Chosen[0].Content
			row.Chosen = []schemas.Message{{Role: "assistant", Content: was[:10] + "ü" + was[10:]}}
			f.forge(t)
			return []string{fmt.Sprintf(`%s: row %s: chosen.content is, from character 11 on, "ü`, f.path, row.ID)}
		}},
		{"edited verdict", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.ComparisonRow](t, dir, shards.Comparisons)
			i := slices.IndexFunc(f.rows, func(r schemas.ComparisonRow) bool { return r.Winner == "first" })
			f.rows[i].Winner = "second"
			f.forge(t)
			return []string{fmt.Sprintf(`%s: row %s: winner is "second", should be first`, f.path, f.rows[i].ID)}
		}},
		{"row in another shard", rowInAnotherShard},
		{"row twice", func(t *testing.T, dir string) []string {
			f := readLargest[schemas.JudgmentRow](t, dir, shards.Judgments)
			twice := f.rows[3]
			twice.ID = strings.ToUpper(twice.ID) // the writer refuses the same ID
			f.rows = append(f.rows, twice)
			f.forge(t)
			return []string{fmt.Sprintf("row %s: replicate has %d, which has another row or failure already", f.rows[4].ID, twice.Replicate)}
		}},
		{"edited run.json", func(t *testing.T, dir string) []string {
			write(t, dir, runFile, []byte(strings.Replace(string(read(t, dir, runFile)), `"simulated": true`, `"simulated": false`, 1)))
			return []string{"README.md does not contain the SHA-256 of run.json"}
		}},
		{"forged run.json beside its card", func(t *testing.T, dir string) []string {
			card := read(t, dir, cardFile)
			was, _ := sink.RunDigest(read(t, dir, runFile))
			run := readManifest(t, dir)
			run.Simulated = false
			writeManifest(t, dir, run) // and the card
			digest, _ := sink.RunDigest(read(t, dir, runFile))
			write(t, dir, cardFile, bytes.ReplaceAll(card, []byte(was), []byte(digest)))
			return []string{"run.json: simulated is false, should be true: README.md states"}
		}},
		{"forged run.json and card beside the journal", func(t *testing.T, dir string) []string {
			run := readManifest(t, dir)
			run.Simulated = false
			writeManifest(t, dir, run) // and the card
			card := string(read(t, dir, cardFile))
			write(t, dir, cardFile, []byte(strings.ReplaceAll(card, shards.CardSimulated, "")))
			bindJournal(t, dir, read(t, dir, runFile))
			write(t, dir, "journal/answered-by.json", []byte(`{"kind":"simulated"}`))
			return []string{"run.json: simulated is false, should be true: the answers of the journal"}
		}},
		{"edited setting", func(t *testing.T, dir string) []string {
			write(t, dir, runFile, []byte(strings.Replace(string(read(t, dir, runFile)), `"temperature": 0.8`, `"temperature": 0.7`, 1)))
			return []string{"README.md does not contain the SHA-256 of run.json"}
		}},
		{"edited count that nothing determines", func(t *testing.T, dir string) []string {
			run := readManifest(t, dir)
			was := read(t, dir, runFile)
			run.Ledger.Lines, run.Ledger.Merged = run.Ledger.Lines+1, run.Ledger.Merged+1
			writeManifest(t, dir, run) // and the card
			bindJournal(t, dir, was)
			return []string{"journal/run.json.sha256 contains"}
		}},
		{"journal without a digest", func(t *testing.T, dir string) []string {
			bindJournal(t, dir, nil)
			remove(t, dir, "journal/run.json.sha256")
			return []string{"journal/run.json.sha256 is missing"}
		}},
		{"no card", func(t *testing.T, dir string) []string {
			remove(t, dir, cardFile)
			return []string{"README.md is missing"}
		}},
		{"card of another run", func(t *testing.T, dir string) []string {
			card := string(read(t, dir, cardFile))
			digest := cardDigest(readManifest(t, dir), shards.Judge)
			card = strings.Replace(card, digest, strings.Repeat("0", len(digest)), 1)
			card = strings.Replace(card, "config_name: actor", "config_name: extra", 1)
			write(t, dir, cardFile, []byte(card))
			return []string{"should have the digest " + digest, `config "extra" is offered`, "config actor is missing"}
		}},
		{"card of many levels", func(t *testing.T, dir string) []string {
			write(t, dir, cardFile, []byte("---\na: "+strings.Repeat("[", 300_000)+"\n---\n"))
			return []string{"the header of README.md:1: is nested more than 64 levels deep"}
		}},
		{"card without header", func(t *testing.T, dir string) []string {
			write(t, dir, cardFile, []byte("# Pairs\n"))
			return []string{"README.md does not begin with a header"}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := copyRun(t)
			wanted := tt.damage(t, dir)
			report := mustVerify(t, dir)
			for _, phrase := range wanted {
				if !slices.ContainsFunc(report.Problems, func(p string) bool { return strings.Contains(p, phrase) }) {
					t.Errorf("no problem contains %q; there are\n%s", phrase, strings.Join(report.Problems, "\n"))
				}
			}
			if diff := cmp.Diff(report, mustVerify(t, dir)); diff != "" {
				t.Errorf("verified again, the report differs:\n%s", diff)
			}
		})
	}
}

// bindJournal makes a journal that is bound to a run.json.
func bindJournal(t *testing.T, dir string, run []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "journal", "b0"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "journal/b0/segment", nil)
	_, file := sink.RunDigest(run)
	write(t, dir, "journal/run.json.sha256", file)
}

func flippedByte(t *testing.T, dir string) []string {
	path := shards.Path(shards.Comparisons, 2, 4)
	data := read(t, dir, path)
	data[len(data)/2] ^= 1
	write(t, dir, path, data)
	return []string{path + " has the SHA-256 "}
}

// swappedPair swaps the two sides of a pair in all columns, including its ID.
func swappedPair(t *testing.T, dir string) []string {
	f := readLargest[schemas.Pair](t, dir, shards.Actor)
	row := &f.rows[0]
	before := *row
	row.ID = schemas.PairID(schemas.RoleActor, before.RejectedID, before.ChosenID)
	row.ChosenID, row.RejectedID = before.RejectedID, before.ChosenID
	row.Chosen, row.Rejected = before.Rejected, before.Chosen
	row.ChosenScore, row.RejectedScore, row.ScoreMargin = before.RejectedScore, before.ChosenScore, -before.ScoreMargin
	row.ChosenChars, row.RejectedChars = before.RejectedChars, before.ChosenChars
	f.forge(t)
	return []string{
		fmt.Sprintf("%s: row %s: chosen and rejected are swapped", f.path, row.ID),
		fmt.Sprintf("%s: row %s: chosen_id is %q, should be %q", f.path, row.ID, before.RejectedID, before.ChosenID),
	}
}

// rowInAnotherShard moves all rows of a prompt to another shard.
func rowInAnotherShard(t *testing.T, dir string) []string {
	to := readLargest[schemas.PromptRow](t, dir, shards.Prompts)
	moved := to.rows[0]
	from := 0
	for i := range 4 {
		if path := shards.Path(shards.Prompts, i, 4); path != to.path {
			from = i
			break
		}
	}
	f := readTable[schemas.PromptRow](t, dir, shards.Prompts, shards.Path(shards.Prompts, from, 4))
	f.rows = append(f.rows, moved)
	f.forge(t)
	to.remove(0)
	to.forge(t)
	return []string{
		fmt.Sprintf("%s: row %s: it is in shard %d, should be in shard %d", f.path, moved.ID, from, schemas.Shard(moved.ID, 4)),
		fmt.Sprintf("%s: prompt %s has no row here, but is the prompt_id of", to.path, moved.ID),
	}
}

// Random damage to a file leads to a report, also when run.json is made to agree with the file.
func TestRandomDamage(t *testing.T) {
	good, err := goodRun()
	if err != nil {
		t.Fatal(err)
	}
	files := readManifest(t, good).Files
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		dir := copyRun(t)
		f := files[rng.IntN(len(files))]
		data := read(t, dir, f.Path)
		for range 1 + rng.IntN(3) {
			data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		}
		if rng.IntN(4) == 0 {
			data = data[:rng.IntN(len(data))]
		}
		write(t, dir, f.Path, data)
		forged := i%2 == 0
		if forged {
			forgeDigest(t, dir, f.Path, f.Rows)
		}
		if report := mustVerify(t, dir); !forged && len(report.Problems) == 0 {
			t.Errorf("damage to %s was not found", f.Path)
		}
	}
}

func TestUnusableRunFile(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{"empty", "", "run.json can't be read"},
		{"garbage", "{]", "run.json can't be read"},
		{"format", `{"format": 2, "novel": 1}`, "run.json: format is 2; this program reads format 1"},
		{"unknown field", `{"format": 1, "novel": 1, "config": {"roles": ["actor"], "actor": {"n": 1}, "judge": {"n": 1}, "method": {"min_judgments": 1, "min_meta_judgments": 2}}, "files": [{"path": "raw/prompts/x"}]}`, `unknown field "novel"`},
		{"two values", `{"format": 1}{}`, "run.json can't be read"},
		{"no config", `{"format": 1}`, "run.json: config can't be used"},
		{"no roles", `{"format": 1, "config": {"roles": []}}`, "roles is empty"},
		{"no files", `{"format": 1, "config": {"roles": ["actor"], "actor": {"n": 1}, "judge": {"n": 1}, "method": {"min_judgments": 1, "min_meta_judgments": 2}}}`, "lists no shard of raw/prompts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, runFile, []byte(tt.content))
			report := mustVerify(t, dir)
			if len(report.Problems) != 1 || !strings.Contains(report.Problems[0], tt.want) {
				t.Errorf("problems %q, want one with %q", report.Problems, tt.want)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		report := mustVerify(t, t.TempDir())
		if len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "there is no run in this folder") {
			t.Errorf("problems %q", report.Problems)
		}
	})
}

// A report stays short, and still counts everything.
func TestManyProblems(t *testing.T) {
	dir := copyRun(t)
	f := readLargest[schemas.ComparisonRow](t, dir, shards.Comparisons)
	for i := range f.rows {
		f.rows[i].Model = "another"
	}
	f.forge(t)
	report := mustVerify(t, dir)
	// Each row has another model, and so another ID than the one that follows from it.
	if all := int64(len(report.Problems)) + report.More; len(report.Problems) != problems.Max || all < 2*int64(len(f.rows)) {
		t.Errorf("%d listed, %d in all, want %d and at least %d", len(report.Problems), all, problems.Max, 2*len(f.rows))
	}
}

func (f *tableFile[T]) remove(i int) T {
	gone := f.rows[i]
	f.rows = slices.Delete(f.rows, i, i+1)
	return gone
}

func read(t *testing.T, dir, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, dir, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, path), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, path string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, path)); err != nil {
		t.Fatal(err)
	}
}
