package verify

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"coeval/datasets/shards"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/rows/sums"
	"coeval/schemas"
)

// figures are the sums over the tables.
type figures struct {
	sums.Sums

	files, rows int64
	// tableRows counts the rows of each table.
	tableRows map[shards.Table]int64
	// digests are the SHA-256 of the files that could be read, by path.
	digests map[string]string
	// unreadable are the raw files that could not be read in order: their rows are missing in the figures.
	unreadable []string
}

func (f *figures) add(g *figures) {
	f.files += g.files
	f.rows += g.rows
	f.Add(&g.Sums)
	f.unreadable = append(f.unreadable, g.unreadable...)
	for path, digest := range g.digests {
		f.addDigest(path, digest)
	}
	for name, rows := range g.tableRows {
		f.addTableRows(name, rows)
	}
}

func (f *figures) addFile(path, digest string) {
	if digest != "" {
		f.files++
		f.addDigest(path, digest)
	}
}

func (f *figures) addDigest(path, digest string) {
	if f.digests == nil {
		f.digests = map[string]string{}
	}
	f.digests[path] = digest
}

func (f *figures) addRows(name shards.Table, rows int64) {
	f.rows += rows
	f.addTableRows(name, rows)
}

func (f *figures) addTableRows(name shards.Table, rows int64) {
	if f.tableRows == nil {
		f.tableRows = map[shards.Table]int64{}
	}
	f.tableRows[name] += rows
}

// checkFigures compares the ledger, the position weights and the figures of run.json with each other
// and with the tables.
func (r *run) checkFigures(sum *figures, found *problems.List) {
	l := &r.Manifest.Ledger
	if want := l.Bad + l.NotDrawn + l.Merged + l.Findings; l.Lines != want {
		found.Add("%s: ledger.lines is %d, should be bad + not_drawn + merged + findings = %d + %d + %d + %d = %d",
			runFile, l.Lines, l.Bad, l.NotDrawn, l.Merged, l.Findings, want)
	}
	for _, role := range slices.Sorted(maps.Keys(l.Roles)) {
		o := l.Roles[role]
		if o.Total() != l.Findings {
			found.Add("%s: ledger.roles.%s has %d paired + %d dropped + %d failed = %d, should be findings = %d",
				runFile, role, o.Paired, schemas.Sum(o.Dropped), schemas.Sum(o.Failed), o.Total(), l.Findings)
		}
		if !r.Settings.Wants(role) {
			found.Add("%s: ledger.roles has %s, which config.roles does not contain", runFile, role)
		}
	}
	if len(sum.unreadable) > 0 {
		found.Add("%s: ledger, position_weights and stats were not compared with the tables, as %d of them can't be read in order, the first %s",
			runFile, len(sum.unreadable), sum.unreadable[0])
		return
	}
	want := *l // no other file determines lines, not_drawn and merged
	want.Bad, want.Findings, want.Roles = sum.Bad, sum.tableRows[shards.Prompts], sum.Stats.Outcomes
	sameFigures(found, "ledger", l, &want)
	sameFigures(found, "stats", &r.Manifest.Stats, &sum.Stats)
	r.checkWeights(sum.Stats.PositionSums(), found)
}

// checkWeights computes w1 = win2nd/(win1st + win2nd) and w2 = win1st/(win1st + win2nd).
func (r *run) checkWeights(positions schemas.PositionCounts, found *problems.List) {
	got, want := r.Manifest.PositionWeights, r.RunWeights(positions)
	if (got == nil) != (want == nil) || got != nil && *got != *want {
		found.Add("%s: position_weights is %s, should be %s", runFile, problems.ShowNullable(got), problems.ShowNullable(want))
	}
}

// maxFigures is the number of differing figures of an object that are listed: a histogram has
// hundreds.
const maxFigures = 12

// sameFigures compares two objects number by number. A missing number is 0.
func sameFigures[T any](found *problems.List, name string, got, want *T) {
	recorded, err := numbers(name, got)
	if err != nil {
		found.Add("%s: %s can't be compared: %v", runFile, name, err)
		return
	}
	derived, err := numbers(name, want)
	if err != nil {
		found.Add("%s: %s can't be compared: %v", runFile, name, err)
		return
	}
	keys := maps.Clone(recorded)
	maps.Copy(keys, derived)
	var differ problems.List
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if recorded[key] != derived[key] {
			differ.Add("%s: %s is %d, the tables give %d", runFile, key, recorded[key], derived[key])
		}
	}
	found.JoinFirst(&differ, maxFigures)
}

// numbers returns the integers of an object, each under the JSON names that lead to it.
func numbers[T any](name string, object *T) (map[string]int64, error) {
	b, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	found := map[string]int64{}
	return found, flatten(name, b, found)
}

func flatten(name string, value json.RawMessage, to map[string]int64) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) == nil {
		for key, field := range fields {
			if err := flatten(name+"."+key, field, to); err != nil {
				return err
			}
		}
		return nil
	}
	var number int64
	if err := json.Unmarshal(value, &number); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	to[name] = number
	return nil
}
