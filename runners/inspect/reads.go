package inspect

import (
	"fmt"
	"math"
	"strings"

	"coeval/schemas"
	"coeval/schemas/sanitize"
	"coeval/transforms/score"
)

// reads lists the expected score and the standard deviation of each read of a response, or the reason why it has none.
func (p *printer) reads(id string) string {
	var parts []string
	for _, r := range p.Reads[id] {
		switch {
		case r.Value != nil && r.Variance != nil:
			parts = append(parts, fmt.Sprintf("%.2f±%.2f", *r.Value, math.Sqrt(*r.Variance)))
		case r.UnparsedReason != nil:
			parts = append(parts, sanitize.Line(*r.UnparsedReason))
		}
	}
	return strings.Join(parts, " ")
}

// rounds prints how many judgments the contested response got in rounds, and why no more.
func (p *printer) rounds(contested string) {
	rule := p.Run.Settings.Judge.Rounds
	if rule == nil {
		return
	}
	var reads []schemas.Read
	for _, r := range p.Reads[contested] {
		if r.Value != nil && r.Variance != nil {
			reads = append(reads, schemas.Read{ValueMicros: micros(*r.Value), VarianceMicros: micros(*r.Variance)})
		}
	}
	read := score.SumReads(reads)
	if read.N == 0 { // run coeval verify for the details
		return
	}
	asked := len(p.Judgments[contested])
	for i := range p.Failures {
		if p.Failures[i].Stage == schemas.StageJudge {
			asked++
		}
	}
	farthest, distance := 0.0, 0.0
	var scored []schemas.Judgment
	for _, j := range p.Judgments[contested] {
		if j.Score == nil {
			continue
		}
		scored = append(scored, schemas.Judgment{Score: int(math.Round(1000 * *j.Score))})
		if d := math.Abs(*j.Score - read.Mean()); d >= distance {
			farthest, distance = *j.Score, d
		}
	}
	_, stop := rule.Next(asked, scored, read)
	if stop == "" {
		p.say("  %d judgments in rounds, fewer than the rule requests: run coeval verify for the details", asked)
		return
	}
	p.say("  %d judgments in rounds, stopped as %s: the score farthest from the read is %g, at %.2f points; a standard deviation of the read is %.2f",
		asked, stop, farthest, distance, math.Sqrt(read.Variance()))
}

func micros(x float64) int64 { return int64(math.Round(x * schemas.ReadUnit)) }
