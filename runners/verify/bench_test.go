package verify

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"coeval/pipelines/config"
)

// BenchmarkOut measures prompts and rows per second for 64 prompts with 7 responses and 11 judgments
// each, in 4 shards.
func BenchmarkOut(b *testing.B) {
	out := filepath.Join(b.TempDir(), "out")
	var lines strings.Builder
	for i := range 64 {
		fmt.Fprintf(&lines, `{"prompt": "Question %d: %s?"}`+"\n", i, strings.Repeat("why ", 100))
	}
	err := makeRun(b.Context(), out, lines.String(), func(c *config.Config) {
		c.Actor.N, c.Judge.N, c.Output.PromptsPerShard = 7, 11, 16
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		report, err := Out(b.Context(), out)
		if err != nil || len(report.Problems) > 0 {
			b.Fatal(err, report.Problems)
		}
		b.ReportMetric(float64(report.Prompts)*float64(b.N)/b.Elapsed().Seconds(), "prompts/s")
		b.ReportMetric(float64(report.Rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	}
}
