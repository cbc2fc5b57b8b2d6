package prompts

import (
	"container/heap"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"coeval/schemas"
)

// Selection is the part of the distinct prompts that a run uses. The limit comes first: it cuts the
// input. The slice is a part of the limited input, and the sample a part of the slice.
type Selection struct {
	// Limit is the number of distinct prompts, in the order of files and lines, after which the
	// rest of the input is not read. Zero means no limit.
	Limit int64 `json:"limit,omitempty"`
	// Slice is one part of a partition. The zero Slice is all prompts.
	Slice Slice `json:"slice,omitzero"`
	// Sample is the number of distinct prompts that are drawn. Zero means all. Slices have about the same
	// size: of a slice that is smaller than the mean, a sample of up to the mean is the whole slice.
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
	return errors.Join(err, s.Slice.validate())
}

// A Slice is one of Count parts of all prompts. Parts of one seed and count don't overlap, and
// together they are everything: one can be used for each iteration of a training.
//
// For one seed and count, a prompt's ID alone decides its part, so that files can be cut, reordered, or
// grow. The parts have about the same size: of n prompts n/Count on average, with a standard deviation
// of sqrt(n·(1/Count)·(1 − 1/Count)).
type Slice struct {
	// Index is 1 to Count.
	Index int64 `json:"index,omitempty"`
	// Count is the number of parts. Zero means that the slice is everything.
	Count int64 `json:"count,omitempty"`
	// Seed decides which prompts are in which part.
	Seed int64 `json:"seed,omitempty"`
}

// maxSlices bounds the parts.
const maxSlices = 1 << 20

// ParseSlice returns the slice that a text names, for example 2/4. The empty text names everything.
func ParseSlice(text string, seed int64) (Slice, error) {
	if text == "" {
		return Slice{}, nil
	}
	index, count, ok := strings.Cut(text, "/")
	s := Slice{Seed: seed}
	var err, err2 error
	s.Index, err = strconv.ParseInt(index, 10, 64)
	s.Count, err2 = strconv.ParseInt(count, 10, 64)
	if !ok || err != nil || err2 != nil || s.Count == 0 || s.validate() != nil {
		return Slice{}, fmt.Errorf("slice is %q; allowed is INDEX/COUNT, for example 1/4 for the first of four parts", text)
	}
	return s, nil
}

func (s Slice) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Count) }

func (s Slice) validate() error {
	if s.Count < 0 || s.Count > maxSlices || s.Count > 0 && (s.Index < 1 || s.Index > s.Count) {
		return fmt.Errorf("prompts: slice is %s; the index must be 1 to the count, and the count at most %d", s, maxSlices)
	}
	return nil
}

// Keep reports whether a prompt is in the slice.
func (s Slice) Keep(promptID string) bool {
	if s.Count == 0 {
		return true
	}
	digest := schemas.Digest("slice", strconv.FormatInt(s.Seed, 10), promptID)
	hash, err := strconv.ParseUint(digest[:16], 16, 64)
	if err != nil {
		return false // a digest is hexadecimal
	}
	part, _ := bits.Mul64(hash, uint64(s.Count)) // equal ranges of the hash
	return int64(part) == s.Index-1
}

// A Sample is the set of prompts that a run keeps. The zero Sample keeps all.
type Sample struct {
	Seed int64 `json:"seed,omitempty"`
	// Last is the greatest rank in the sample, or empty.
	Last string `json:"last,omitempty"`
	// Slice is the set that the sample was drawn from.
	Slice Slice `json:"slice,omitzero"`
}

// Keep reports whether a prompt is in the slice and the sample.
func (s Sample) Keep(promptID string) bool {
	return s.Slice.Keep(promptID) && (s.Last == "" || s.rank(promptID) <= s.Last)
}

// rank puts all prompts into an order of chance, of which a sample is the beginning.
func (s Sample) rank(promptID string) string {
	return schemas.Digest("sample", strconv.FormatInt(s.Seed, 10), promptID)
}

// draw keeps a rank if it is among the lowest.
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
