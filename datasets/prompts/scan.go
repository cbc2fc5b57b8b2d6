package prompts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"coeval/schemas"
)

// Scan is the result of reading all prompts once. Lines = Bad + Merged + Distinct.
type Scan struct {
	// Files are the files that a run reads: the files of the input up to the limit.
	Files []File
	// Sample is the run's part of the prompts.
	Sample Sample
	// Lines that are not blank; Bad ones; Merged ones, which repeat an earlier prompt; and
	// Distinct prompts.
	Lines, Bad, Merged, Distinct int64
	// Prompts is the number of prompts in the slice and the sample.
	Prompts int64
	// Chars is the number of Unicode code points in the distinct prompts' messages.
	Chars int64
	// Forms counts the prompts by the fields that they were read from.
	Forms map[string]int64
	// AnswersDropped counts the conversations whose last answer was left out.
	AnswersDropped int64
	// Unused counts the prompts by fields that look like part of one and were not used.
	Unused map[string]int64
	// BadByCode counts the bad lines by their codes; FirstBad are the first few of them.
	BadByCode map[string]int64
	FirstBad  []schemas.Failure
}

// keptBad is how many bad lines a scan keeps.
const keptBad = 5

// maxForms bounds the names that a scan counts, which come from the file.
const maxForms = 1000

// ScanFiles reads the prompts of the files that [Expand] returns for paths. It takes about 30 bytes of
// memory for each distinct prompt, and 50 more for each one of a sample. Input in which no line is a
// prompt is an error.
func ScanFiles(ctx context.Context, paths []string, o Options, selection Selection) (*Scan, error) {
	if err := selection.validate(); err != nil {
		return nil, err
	}
	files, err := Expand(ctx, paths)
	if err != nil {
		return nil, err
	}
	s := scanner{
		scan: Scan{
			Sample: Sample{Seed: selection.SampleSeed, Slice: selection.Slice},
			Forms:  map[string]int64{}, Unused: map[string]int64{}, BadByCode: map[string]int64{},
		},
		selection: selection,
		seen:      map[uuid.UUID]struct{}{},
	}
	for _, path := range files {
		s.scan.Files = append(s.scan.Files, File{Path: path})
		err := ReadFile(ctx, File{Path: path}, o, s.add)
		if errors.Is(err, errLimit) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if s.scan.Distinct == 0 {
		return nil, s.scan.none()
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	return &s.scan, nil
}

// errLimit ends a scan whose limit is reached.
var errLimit = errors.New("prompts: the limit is reached")

type scanner struct {
	scan      Scan
	selection Selection
	seen      map[uuid.UUID]struct{}
	// inSlice is the number of distinct prompts in the slice.
	inSlice int64
	// ranks are the lowest ranks so far, at most the size of the sample.
	ranks rankHeap
}

func (s *scanner) add(line Line) error {
	s.scan.Lines++
	if line.Bad != nil {
		s.scan.Bad++
		s.scan.BadByCode[line.Bad.Code]++
		if len(s.scan.FirstBad) < keptBad {
			s.scan.FirstBad = append(s.scan.FirstBad, *line.Bad)
		}
		return nil
	}
	s.countReading(&line.Reading)
	id, err := uuid.Parse(line.Prompt.ID)
	if err != nil {
		return fmt.Errorf("prompts: %s:%d: ID %s: %w", line.Prompt.File, line.Prompt.Line, line.Prompt.ID, err)
	}
	if _, ok := s.seen[id]; ok {
		s.scan.Merged++
		return nil
	}
	s.seen[id] = struct{}{}
	s.scan.Distinct++
	for _, m := range line.Prompt.Messages {
		s.scan.Chars += int64(utf8.RuneCountInString(m.Content))
	}
	if s.selection.Slice.Keep(line.Prompt.ID) {
		s.inSlice++
		if s.selection.Sample > 0 {
			s.draw(s.scan.Sample.rank(line.Prompt.ID))
		}
	}
	if s.scan.Distinct == s.selection.Limit {
		s.scan.Files[len(s.scan.Files)-1].LastLine = line.Number()
		return errLimit
	}
	return nil
}

// countReading counts how a line was read.
func (s *scanner) countReading(r *Reading) {
	count := func(counts map[string]int64, name string) {
		if _, known := counts[name]; known || len(counts) < maxForms {
			counts[name]++
		}
	}
	count(s.scan.Forms, r.Form)
	for _, name := range r.Unused {
		count(s.scan.Unused, name)
	}
	if r.AnswerDropped {
		s.scan.AnswersDropped++
	}
}

// A SelectionError reports a selection that the files have too few prompts for.
type SelectionError struct{ text string }

func (e *SelectionError) Error() string { return e.text }

func selectionError(format string, args ...any) error {
	return &SelectionError{text: fmt.Sprintf(format, args...)}
}

// finish sets the sample.
func (s *scanner) finish() error {
	s.scan.Prompts = s.inSlice
	switch {
	case s.inSlice == 0:
		return selectionError("prompts: slice %s has none of the %d distinct prompts; use fewer slices", s.selection.Slice, s.scan.Distinct)
	case s.selection.Sample > s.largestSample():
		if s.selection.Slice.Count > 0 {
			return selectionError("prompts: sample is %d and slice %s has %d of the %d distinct prompts; give at most %d, 0 for the whole slice, or fewer slices",
				s.selection.Sample, s.selection.Slice, s.inSlice, s.scan.Distinct, s.largestSample())
		}
		return selectionError("prompts: sample is %d and there are %d distinct prompts; give at most that, or 0 for all", s.selection.Sample, s.inSlice)
	case s.selection.Sample > 0 && s.selection.Sample < s.inSlice:
		s.scan.Prompts = s.selection.Sample
		s.scan.Sample.Last = s.ranks[0]
	}
	return nil
}

// largestSample is the greatest sample that is allowed. The parts of a partition have only about the same
// size: a sample of the mean size takes a smaller part whole.
func (s *scanner) largestSample() int64 {
	if n := s.selection.Slice.Count; n > 0 {
		return max(s.inSlice, (s.scan.Distinct+n-1)/n)
	}
	return s.inSlice
}

// Describe returns one line about the recognized fields and the unused ones.
func (s *Scan) Describe(o Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s in %s, read from %s", plural(s.Distinct, "prompt"), plural(s.Lines, "line"), plural(int64(len(s.Files)), "file"), strings.Join(counted(s.Forms, 5), ", "))
	if s.AnswersDropped > 0 && cmp.Or(o.DropLastAnswer, AutoDrop) == AutoDrop {
		fmt.Fprintf(&b, "; %s ended with an answer, which is left out", plural(s.AnswersDropped, "conversation"))
	}
	if len(s.Unused) > 0 {
		names := counted(s.Unused, 8)
		for i := range names {
			names[i] = strings.TrimSuffix(names[i], ")") + " lines)"
		}
		fmt.Fprintf(&b, "; not used: %s", strings.ReplaceAll(strings.Join(names, ", "), "(1 lines)", "(1 line)"))
	}
	if s.Merged > 0 {
		fmt.Fprintf(&b, "; %s merged", plural(s.Merged, "repeated line"))
	}
	if s.Bad > 0 {
		fmt.Fprintf(&b, "; %s (%s), the first at %s", plural(s.Bad, "bad line"), s.badCodes(), s.firstBad(1))
	}
	return b.String()
}

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// counted returns the names with their counts, the most frequent first, and at most maxNames of them.
func counted(counts map[string]int64, maxNames int) []string {
	names := slices.Collect(maps.Keys(counts))
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b))
	})
	var out []string
	for i, name := range names {
		if i == maxNames {
			return append(out, fmt.Sprintf("%d more (%d)", len(names)-maxNames, sumOf(names[maxNames:], counts)))
		}
		out = append(out, fmt.Sprintf("%s (%d)", show(name), counts[name]))
	}
	return out
}

func sumOf(names []string, counts map[string]int64) int64 {
	var sum int64
	for _, name := range names {
		sum += counts[name]
	}
	return sum
}

// BadShare returns the share of the lines that are bad.
func (s *Scan) BadShare() float64 {
	if s.Lines == 0 {
		return 0
	}
	return float64(s.Bad) / float64(s.Lines)
}

// CheckBad returns an error that names the first bad lines if their share is above maxShare.
func (s *Scan) CheckBad(maxShare float64) error {
	if s.BadShare() <= maxShare {
		return nil
	}
	return fmt.Errorf("prompts: %d of %d lines are bad (%s), which is %.2g %% and more than the %.2g %% of max_bad_prompts: %s",
		s.Bad, s.Lines, s.badCodes(), 100*s.BadShare(), 100*maxShare, s.firstBad(keptBad))
}

// none is the error of a scan without a prompt.
func (s *Scan) none() error {
	const maxNames = 3
	var names []string
	for i, f := range s.Files {
		if i == maxNames {
			names = append(names, fmt.Sprintf("%d more", len(s.Files)-maxNames))
			break
		}
		names = append(names, show(f.Path))
	}
	where := strings.Join(names, ", ")
	if s.Lines == 0 {
		return fmt.Errorf("prompts: no prompts in %s: there is no line in it", where)
	}
	return fmt.Errorf("prompts: no prompts in %s: all %d lines are bad (%s): %s", where, s.Lines, s.badCodes(), s.firstBad(keptBad))
}

func (s *Scan) badCodes() string {
	codes := slices.Collect(maps.Keys(s.BadByCode))
	slices.SortFunc(codes, func(a, b string) int {
		return cmp.Or(cmp.Compare(s.BadByCode[b], s.BadByCode[a]), strings.Compare(a, b))
	})
	for i, code := range codes {
		codes[i] = fmt.Sprintf("%d %s", s.BadByCode[code], code)
	}
	return strings.Join(codes, ", ")
}

// firstBad describes the first bad lines, at most n of them.
func (s *Scan) firstBad(n int) string {
	first := s.FirstBad[:min(n, len(s.FirstBad))]
	lines := make([]string, len(first))
	for i, f := range first {
		lines[i] = fmt.Sprintf("%s:%d: %s", show(f.File), f.Line, f.Message)
	}
	return strings.Join(lines, "; ")
}
