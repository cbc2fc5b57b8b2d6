package arena

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"coeval/datasets/rundir"
	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/runners/arena/winrate"
	"coeval/schemas"
)

// The files of an arena, below its folder.
const (
	ReportFile  = "arena.json"
	PageFile    = "arena.html"
	GamesFile   = "games/games.parquet"
	AnswersFile = "answers/answers.parquet"
)

// Report is arena.json. It is written last, so that its presence means that the files are
// complete.
type Report struct {
	// Format is the version of the layout, 1.
	Format int `json:"format"`
	// Simulated reports whether the simulated worker answered any call.
	Simulated bool `json:"simulated"`
	// Config is the effective config.
	Config json.RawMessage `json:"config"`
	Judge  string          `json:"judge"`
	// Baseline is the model that all others are measured against.
	Baseline  string          `json:"baseline"`
	Pairings  [][2]string     `json:"pairings"`
	Outcome   winrate.Outcome `json:"outcome"`
	Resamples int             `json:"resamples"`
	// Known are the folders of other arenas whose games give the prompts' difficulty, with the digest
	// of each one's games.
	Known []Known `json:"known,omitempty"`
	// Prompts were read, FailedCalls of the judge failed for good, by code.
	Prompts     int            `json:"prompts"`
	FailedCalls map[string]int `json:"failed_calls,omitempty"`
	Warnings    []string       `json:"warnings,omitempty"`
	Summary
	Files []schemas.File `json:"files"`
}

// Known is another arena.
type Known struct {
	Dir    string `json:"dir"`
	SHA256 string `json:"sha256"`
}

// reportFormat is the layout that this code writes.
const reportFormat = 1

// Write writes the games, the answers and then the report, whose Files it fills in. A former
// report is removed first: while files of two contests stand side by side none claims to be whole.
func (r *Result) Write(ctx context.Context, dir string, report *Report) error {
	if err := store.Remove(ctx, store.Join(dir, ReportFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	report.Format, report.Files = reportFormat, nil
	games, err := writeRows(ctx, dir, GamesFile, r.Games)
	if err != nil {
		return err
	}
	answers, err := writeRows(ctx, dir, AnswersFile, r.Answers)
	if err != nil {
		return err
	}
	report.Files = []schemas.File{games, answers}
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("arena: %w", err)
	}
	b = append(b, '\n')
	_, digest := rundir.SHA256Line(ReportFile, b)
	if err := store.WriteFile(ctx, store.Join(dir, digestFile), digest); err != nil {
		return err
	}
	return store.WriteFile(ctx, store.Join(dir, ReportFile), b)
}

// digestFile binds [ReportFile] to the journal: a line as sha256sum writes it. It protects the settings that the
// games do not determine.
const digestFile = rundir.JournalFolder + "/" + ReportFile + ".sha256"

// checkDigest compares the digest of the report with the one in the journal. A folder without a journal is allowed, as
// of an arena that was copied.
func (v *verifier) checkDigest(ctx context.Context, dir string) error {
	report, err := store.ReadSmall(ctx, store.Join(dir, ReportFile))
	if err != nil {
		return err
	}
	b, err := store.ReadSmall(ctx, store.Join(dir, digestFile))
	_, digest := rundir.SHA256Line(ReportFile, report)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		files, err := store.List(ctx, store.Join(dir, rundir.JournalFolder)+"/")
		if err != nil {
			return err
		}
		if len(files) > 0 {
			v.problem("%s is missing: repeat the same coeval arena command to write it again", digestFile)
		}
	case err != nil:
		return err
	case !bytes.Equal(b, digest):
		v.problem("%s does not have the SHA-256 in %s: it was edited; repeat the same coeval arena command to write both again", ReportFile, digestFile)
	}
	return nil
}

func writeRows[T any](ctx context.Context, dir, name string, rows []T) (schemas.File, error) {
	var b bytes.Buffer
	info, err := shards.WriteRows(&b, rows)
	if err != nil {
		return schemas.File{}, fmt.Errorf("arena: %s: %w", name, err)
	}
	if err := store.WriteFile(ctx, store.Join(dir, name), b.Bytes()); err != nil {
		return schemas.File{}, err
	}
	return schemas.File{Path: name, Rows: info.Rows, Bytes: info.Bytes, SHA256: info.SHA256}, nil
}

// CheckOwn returns a [*rundir.Refused] if a file that an arena writes would replace one that Coeval
// did not write, or if the folder has a run.
func CheckOwn(ctx context.Context, dir string) error {
	if _, err := store.Stat(ctx, store.Join(dir, rundir.RunFile)); err == nil {
		return rundir.Refuse(dir + " is the folder of a run, whose files and figures are others: choose another --out for the arena")
	}
	if err := rundir.CheckOwn(ctx, store.Join(dir, ReportFile), isReport); err != nil {
		return err
	}
	return errors.Join(
		rundir.CheckOwn(ctx, store.Join(dir, PageFile), rundir.IsPage),
		rundir.CheckOwnTable(ctx, store.Join(dir, GamesFile)),
		rundir.CheckOwnTable(ctx, store.Join(dir, AnswersFile)))
}

// isReport recognizes [ReportFile] by its beginning.
func isReport(start []byte) bool {
	return bytes.HasPrefix(start, []byte("{\n  \"format\": ")) && bytes.Contains(start, []byte("\n  \"config\": {"))
}

// ReadReport returns the report of a folder. The error is fs.ErrNotExist where the folder has none.
func ReadReport(ctx context.Context, dir string) (*Report, error) {
	name := store.Join(dir, ReportFile)
	b, err := store.ReadSmall(ctx, name)
	if err != nil {
		return nil, err
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.Format != reportFormat {
		return nil, fmt.Errorf("%s has format %d; this program reads %d", name, r.Format, reportFormat)
	}
	return &r, nil
}

// Bounds of the rows of an arena that are in memory together. A file can repeat a row that it contains once.
const (
	maxRows      = 1 << 20
	maxTextBytes = 512 << 20
)

func checkRows(name string, rows, size int) error {
	if rows > maxRows || size > maxTextBytes {
		return fmt.Errorf("%s has more than %d rows or %d MiB of texts; give fewer prompts or models in one arena", name, maxRows, maxTextBytes>>20)
	}
	return nil
}

// ReadGames returns the games of a folder without their texts.
func ReadGames(ctx context.Context, dir string) ([]winrate.Game, error) {
	var games []winrate.Game
	name := store.Join(dir, GamesFile)
	err := shards.ReadRows(ctx, name, func(row *GameRow) error {
		games = append(games, row.Game)
		return checkRows(name, len(games), 0)
	})
	return games, err
}

// ReadAnswers returns the answers of a folder.
func ReadAnswers(ctx context.Context, dir string) ([]AnswerRow, error) {
	var answers []AnswerRow
	name := store.Join(dir, AnswersFile)
	size := 0
	err := shards.ReadRows(ctx, name, func(row *AnswerRow) error {
		answers = append(answers, *row)
		size += len(row.Text) + len(row.PromptID) + len(row.Model)
		return checkRows(name, len(answers), size)
	})
	return answers, err
}

// ReadKnown returns the matches of other arenas against a baseline.
func ReadKnown(ctx context.Context, dirs []string, baseline string) ([]*winrate.Match, []Known, error) {
	var matches []*winrate.Match
	var known []Known
	for _, dir := range dirs {
		report, err := ReadReport(ctx, dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("known: %s has no %s: give the --out of a finished arena", dir, ReportFile)
		}
		if err != nil {
			return nil, nil, err
		}
		games, err := ReadGames(ctx, dir)
		if err != nil {
			return nil, nil, err
		}
		digest := ""
		for _, f := range report.Files {
			if f.Path == GamesFile {
				digest = f.SHA256
			}
		}
		if !slices.ContainsFunc(report.Pairings, func(p [2]string) bool { return p[1] == baseline }) {
			return nil, nil, fmt.Errorf("known: no model of %s played against the baseline %s, so its games say nothing of how hard the prompts are: leave it out", dir, baseline)
		}
		known = append(known, Known{Dir: dir, SHA256: digest})
		for _, p := range report.Pairings {
			if p[1] == baseline {
				matches = append(matches, winrate.NewMatch(p[0], p[1], games, func(string, winrate.Side) winrate.Answer { return winrate.Answer{} }))
			}
		}
	}
	return matches, known, nil
}

// Verify reads an arena's files again and returns their problems. It checks the digest of each file, and the
// style and length of each answer. Every game must name prompts and models that have answers. Verify computes
// all figures again from games, answers and the games of known arenas. It compares the report with its
// digest in the journal.
func Verify(ctx context.Context, dir string) ([]string, error) {
	report, err := ReadReport(ctx, dir)
	if err != nil {
		return nil, err
	}
	v := verifier{report: report}
	for _, f := range report.Files {
		if err := v.checkFile(ctx, dir, f); err != nil {
			return nil, err
		}
	}
	if len(v.problems) > 0 {
		return v.problems, nil // the other checks would only repeat it
	}
	games, err := ReadGames(ctx, dir)
	if err != nil {
		return nil, err
	}
	answers, err := ReadAnswers(ctx, dir)
	if err != nil {
		return nil, err
	}
	v.checkRows(games, answers)
	var dirs []string
	for _, k := range report.Known {
		dirs = append(dirs, k.Dir)
	}
	known, found, err := ReadKnown(ctx, dirs, report.Baseline)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(found, report.Known) {
		v.problem("the games of another arena that gave the prompts' difficulty have changed: %v, was %v", found, report.Known)
	}
	again := Summarize(report.Baseline, report.Pairings, games, answers, known, winrate.Options{Outcome: report.Outcome, Resamples: report.Resamples})
	v.compare(&again, &report.Summary)
	if err := v.checkDigest(ctx, dir); err != nil {
		return nil, err
	}
	return v.problems, nil
}

// compare reports the matches and standings whose computed figures differ from the written ones.
func (v *verifier) compare(computed, written *Summary) {
	text := func(x any) string {
		b, err := json.Marshal(x)
		if err != nil { // NaN and infinity have no JSON
			return err.Error()
		}
		return string(b)
	}
	if len(computed.Matches) != len(written.Matches) {
		v.problem("%s has %d matches; its pairings give %d", ReportFile, len(written.Matches), len(computed.Matches))
		return
	}
	for i, m := range computed.Matches {
		if c, w := text(m), text(written.Matches[i]); c != w {
			v.problem("%s: the figures of %s against %s differ from those computed from the files: %s is written; computed is %s", ReportFile, m.A, m.B, w, c)
		}
	}
	if c, w := text(computed.Standings), text(written.Standings); c != w {
		v.problem("%s: the standings differ from those computed from the files: %s is written; computed is %s", ReportFile, w, c)
	}
}

type verifier struct {
	report   *Report
	problems []string
}

func (v *verifier) problem(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

func (v *verifier) checkFile(ctx context.Context, dir string, f schemas.File) error {
	name := store.Join(dir, f.Path)
	r, err := store.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		v.problem("%s is missing", f.Path)
		return nil
	}
	if err != nil {
		return err
	}
	digest, size, err := digestOf(r.Stream(0))
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if size != f.Bytes || digest != f.SHA256 {
		v.problem("%s has %d bytes with the SHA-256 %s; %s names %d bytes with %s", f.Path, size, digest, ReportFile, f.Bytes, f.SHA256)
	}
	return nil
}

func (v *verifier) checkRows(games []winrate.Game, answers []AnswerRow) {
	type key struct{ model, prompt string }
	have := map[key]bool{}
	for i := range answers {
		a := &answers[i]
		have[key{a.Model, a.PromptID}] = true
		if again := newAnswer(a.PromptID, a.Model, a.Status, a.Text); again != *a {
			v.problem("%s: the answer of %s to prompt %s has %+v; its text gives %+v", AnswersFile, a.Model, a.PromptID, styleOf(a), styleOf(&again))
		}
	}
	seen := map[winrate.Game]bool{}
	for _, g := range games {
		if !have[key{g.A, g.PromptID}] || !have[key{g.B, g.PromptID}] {
			v.problem("%s: a game of %s against %s on prompt %s has no answer of both", GamesFile, g.A, g.B, g.PromptID)
		}
		if ok := g.Verdict.IsKnown(); !ok && (g.Verdict != "" || g.Unparsed == "") || ok && g.Unparsed != "" {
			v.problem("%s: a game of %s against %s on prompt %s has the verdict %q and the reason %q", GamesFile, g.A, g.B, g.PromptID, g.Verdict, g.Unparsed)
		}
		same := g
		same.Verdict, same.Unparsed = "", ""
		if seen[same] {
			v.problem("%s: replicate %d of %s against %s on prompt %s stands twice", GamesFile, g.Replicate, g.A, g.B, g.PromptID)
		}
		seen[same] = true
	}
}

// styleOf returns the numbers of an answer without its text.
func styleOf(a *AnswerRow) [4]int { return [4]int{a.Chars, a.Headers, a.Lists, a.Bold} }

func digestOf(r io.Reader) (digest string, size int64, err error) {
	h := sha256.New()
	size, err = io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), size, err
}
