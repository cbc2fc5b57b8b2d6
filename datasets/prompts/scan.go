package prompts

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"coeval/schemas"
)

// Selection says which of the distinct prompts a run uses. The limit comes first: it cuts
// the input, and the sample is drawn from what it leaves.
type Selection struct {
	// Limit is the number of distinct prompts, in the order of files and lines, after which the
	// rest of the input is not read. Zero means no limit.
	Limit int64 `json:"limit,omitempty"`
	// Sample is the number of distinct prompts that are drawn. Zero means all.
	Sample int64 `json:"sample,omitempty"`
	// SampleSeed decides which prompts are drawn, and nothing else does: neither their order
	// nor their number of lines.
	SampleSeed int64 `json:"sample_seed,omitempty"`
}

func (s Selection) validate() error {
	var err error
	if s.Limit < 0 {
		err = fmt.Errorf("prompts: limit is %d; allowed is 0 for all, or more", s.Limit)
	}
	if s.Sample < 0 {
		err = errors.Join(err, fmt.Errorf("prompts: sample is %d; allowed is 0 for all, or more", s.Sample))
	}
	return err
}

// A Sample is the set of prompts that were drawn. The zero Sample holds all.
type Sample struct {
	Seed int64 `json:"seed,omitempty"`
	// Last is the greatest rank in the sample, or empty.
	Last string `json:"last,omitempty"`
}

// Keep says whether a prompt is in the sample.
func (s Sample) Keep(promptID string) bool {
	return s.Last == "" || s.rank(promptID) <= s.Last
}

// rank puts all prompts into an order of chance, of which a sample is the beginning.
func (s Sample) rank(promptID string) string {
	return schemas.Digest("sample", strconv.FormatInt(s.Seed, 10), promptID)
}

// Scan is what reading all prompts once tells of them. Lines = Bad + Merged + Distinct.
type Scan struct {
	// Files are to be read by a run: those of the input, without what the limit cuts off.
	Files []File
	// Sample is what the run keeps of them.
	Sample Sample
	// Lines that are not blank; Bad ones; Merged ones, which say what an earlier one said; and
	// Distinct prompts.
	Lines, Bad, Merged, Distinct int64
	// Prompts are those that the sample keeps.
	Prompts int64
	// Chars is the number of Unicode code points in the distinct prompts' messages.
	Chars int64
	// BadByCode counts the bad lines by their codes; FirstBad are the first few of them.
	BadByCode map[string]int64
	FirstBad  []schemas.Failure
}

// keptBad is how many bad lines a scan keeps.
const keptBad = 5

// ScanFiles reads the prompts that paths stand for, as [Expand] says. It takes about 30 bytes
// of memory for each distinct prompt, and 50 more for each one of a sample. Input in which no
// line is a prompt is an error.
func ScanFiles(ctx context.Context, paths []string, o Options, selection Selection) (*Scan, error) {
	if err := selection.validate(); err != nil {
		return nil, err
	}
	files, err := Expand(ctx, paths)
	if err != nil {
		return nil, err
	}
	s := scanner{
		scan:      Scan{Sample: Sample{Seed: selection.SampleSeed}, BadByCode: map[string]int64{}},
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
	s.finish()
	return &s.scan, nil
}

// errLimit ends a scan whose limit is reached.
var errLimit = errors.New("prompts: the limit is reached")

type scanner struct {
	scan      Scan
	selection Selection
	seen      map[uuid.UUID]struct{}
	// ranks are the least of those seen, at most as many as the sample has.
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
	if s.selection.Sample > 0 {
		s.draw(s.scan.Sample.rank(line.Prompt.ID))
	}
	if s.scan.Distinct == s.selection.Limit {
		s.scan.Files[len(s.scan.Files)-1].LastLine = line.Number()
		return errLimit
	}
	return nil
}

// draw keeps a rank if it is one of the least.
func (s *scanner) draw(rank string) {
	switch {
	case int64(len(s.ranks)) < s.selection.Sample:
		heap.Push(&s.ranks, rank)
	case rank < s.ranks[0]:
		s.ranks[0] = rank
		heap.Fix(&s.ranks, 0)
	}
}

// A rankHeap has its greatest rank first; see [heap.Interface].
type rankHeap []string

func (h rankHeap) Len() int           { return len(h) }
func (h rankHeap) Less(i, j int) bool { return h[i] > h[j] }
func (h rankHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *rankHeap) Push(rank any)     { *h = append(*h, rank.(string)) }
func (h *rankHeap) Pop() any {
	last := len(*h) - 1
	rank := (*h)[last]
	*h = (*h)[:last]
	return rank
}

func (s *scanner) finish() {
	s.scan.Prompts = s.scan.Distinct
	if s.selection.Sample > 0 && s.selection.Sample < s.scan.Distinct {
		s.scan.Prompts = s.selection.Sample
		s.scan.Sample.Last = s.ranks[0]
	}
}

// BadShare returns the share of the lines that are bad.
func (s *Scan) BadShare() float64 {
	if s.Lines == 0 {
		return 0
	}
	return float64(s.Bad) / float64(s.Lines)
}

// CheckBad returns an error that names the first bad lines if their share is above most.
func (s *Scan) CheckBad(most float64) error {
	if s.BadShare() <= most {
		return nil
	}
	return fmt.Errorf("prompts: %d of %d lines are bad (%s), which is %.2g %% and more than the %.2g %% of max_bad_prompts: %s",
		s.Bad, s.Lines, s.badCodes(), 100*s.BadShare(), 100*most, s.firstBad())
}

// none is the error of a scan without a prompt.
func (s *Scan) none() error {
	const most = 3
	var names []string
	for i, f := range s.Files {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(s.Files)-most))
			break
		}
		names = append(names, f.Path)
	}
	where := strings.Join(names, ", ")
	if s.Lines == 0 {
		return fmt.Errorf("prompts: no prompts in %s: there is no line in it", where)
	}
	return fmt.Errorf("prompts: no prompts in %s: all %d lines are bad (%s): %s", where, s.Lines, s.badCodes(), s.firstBad())
}

func (s *Scan) badCodes() string {
	codes := make([]string, 0, len(s.BadByCode))
	for code := range s.BadByCode {
		codes = append(codes, code)
	}
	slices.SortFunc(codes, func(a, b string) int {
		return cmp.Or(cmp.Compare(s.BadByCode[b], s.BadByCode[a]), strings.Compare(a, b))
	})
	for i, code := range codes {
		codes[i] = fmt.Sprintf("%d %s", s.BadByCode[code], code)
	}
	return strings.Join(codes, ", ")
}

func (s *Scan) firstBad() string {
	lines := make([]string, len(s.FirstBad))
	for i, f := range s.FirstBad {
		lines[i] = fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
	}
	return strings.Join(lines, "; ")
}
