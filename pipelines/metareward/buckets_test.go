package metareward

import (
	"fmt"
	"hash/fnv"
	"slices"
	"testing"

	"coeval/datasets/journal"
	"coeval/datasets/prompts"
	"coeval/pipelines/config"
	"coeval/schemas"
)

// Runners deal buckets out by hash. Whole prompts, dealt so, would give the busiest of 8
// workers about 1.2 times the mean of 62.5: its standard deviation is √(500·⅛·⅞) = 7.4, and the
// largest of 8 normal numbers is 1.42 of them above. Of 128 buckets of 3.9 prompts each
// worker gets 16, with a deviation of √(128·⅛·⅞·(3.9 + 3.9²)) = 16: 1.37 times the mean.
func TestSharesOfWorkersAreEven(t *testing.T) {
	const count, workers, sets = 500, 8, 20
	c := config.Default()
	in := &Input{Workers: workers, Scan: &prompts.Scan{Prompts: count}}
	var ratios []float64
	for set := range sets {
		shares := make([]int, workers)
		for i := range count {
			p := schemas.Prompt{Messages: []schemas.Message{{Role: "user", Content: fmt.Sprintf("prompt %d of set %d", i, set)}}}
			h := fnv.New32a()
			_, _ = h.Write([]byte(journal.Bucket(schemas.PromptID(p.Messages), Bits(&c, in)))) // never an error
			shares[h.Sum32()%workers]++
		}
		ratios = append(ratios, float64(slices.Max(shares))*workers/count)
	}
	slices.Sort(ratios)
	if median := (ratios[sets/2-1] + ratios[sets/2]) / 2; median > 1.7 {
		t.Errorf("the busiest worker has %.2f times the mean share in the median, want at most 1.7: %.2f", median, ratios)
	}
}

func TestBits(t *testing.T) {
	c := config.Default()
	for _, test := range []struct {
		prompts int64
		workers int
		bits    int
		shards  int // of at most 1,250 prompts
	}{
		{100, 0, 0, 1},             // one bucket of at most 128
		{200, 1, 1, 1},             // 2 of 100
		{500, 8, 7, 1},             // 500/256 = 1, so 4 a bucket: 125, rounded up to 128 buckets
		{10_000, 8, 9, 8},          // 10,000/256 = 39 a bucket: 256.4, rounded up to 512
		{10_000_000, 64, 17, 8192}, // 128 a bucket: 78,125, rounded up to 131,072; 8,000 shards, rounded up
		{10_000_000, 1, 17, 8192},  // the same on one machine, whose memory holds a bucket at a time
	} {
		in := &Input{Workers: test.workers, Scan: &prompts.Scan{Prompts: test.prompts}}
		if got := Bits(&c, in); got != test.bits {
			t.Errorf("%d prompts on %d workers have %d bits, want %d", test.prompts, test.workers, got, test.bits)
		}
		if got := Shards(&c, in.Scan); got != test.shards {
			t.Errorf("%d prompts have %d shards, want %d", test.prompts, got, test.shards)
		}
	}
}
