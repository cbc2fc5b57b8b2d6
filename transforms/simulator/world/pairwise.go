package world

import (
	"math"
	"regexp"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// answers are the two answers on the page of a pairwise judge.
type answers struct {
	first, second code
	// degrees reports whether the page allows the verdicts A>>B and B>>A.
	degrees bool
}

var answerTag = regexp.MustCompile(`<answer-([0-9a-z]+)>`)

// readAnswers returns the two answers of a page, nil if the page has fewer. An answer of another
// model has no code: it gets one that is derived from its text and the prompt before it.
func readAnswers(page string) *answers {
	if !strings.Contains(page, "<answer-") {
		return nil
	}
	var found []code
	for at, prompt := 0, ""; len(found) < 2; {
		m := answerTag.FindStringSubmatchIndex(page[at:])
		if m == nil {
			return nil
		}
		if prompt == "" {
			prompt = page[:at+m[0]]
		}
		begin := at + m[1]
		size := strings.Index(page[begin:], "</answer-"+page[at+m[2]:at+m[3]]+">")
		if size < 0 {
			return nil
		}
		found = append(found, codeOf(page[begin:begin+size], prompt))
		at = begin + size
	}
	return &answers{first: found[0], second: found[1], degrees: strings.Contains(page, "A>>B")}
}

// codeOf returns the first response code in a text, or derives one from the text.
func codeOf(text, prompt string) code {
	var own code
	scan(text, func(c code, n note) {
		if own == (code{}) && n.nonce == 0 {
			own = c
		}
	})
	if own != (code{}) {
		return own
	}
	return code{prompt: uint32(xxhash.Sum64String(prompt) >> 32), sample: bits48(Mix(xxhash.Sum64String(text)))}
}

const (
	// clearly is the difference in points from which one answer is much better, narrowly the difference
	// below which the two tie. They leave about a fifth of the verdicts to each of the five.
	clearly, narrowly = 1.2, 0.2
	// firstPoints is the advantage in points of the first answer at a FirstBias of 1.
	firstPoints = 0.3
)

// pairwise writes the comparison of two answers. The judge scores each answer as it would score it
// alone, adds its position bias to the first, and writes the verdict for the difference. The position
// bias is the bias of the answer that is harder to judge.
func (w *World) pairwise(b *builder, q *Question, r Rand) (text, end string) {
	bias := 0.0
	points := func(c code) float64 {
		quality, z := w.hidden(c)
		w := w.about(c)
		if math.Abs(w.FirstBias) > math.Abs(bias) {
			bias = w.FirstBias
		}
		own := Rand(Mix(w.Seed ^ uint64(c.prompt)<<32 ^ c.sample ^ Mix(q.model)))
		return quality + w.JudgeLengthBias*z + w.JudgePersistent*own.NormFloat64() + w.JudgeNoise*r.NormFloat64()
	}
	difference := points(q.answers.first) - points(q.answers.second)
	difference += firstPoints * bias
	verdict := "A>B"
	switch size := math.Abs(difference); {
	case q.answers.degrees && size < narrowly:
		verdict = "A=B"
	case q.answers.degrees && size > clearly:
		verdict = "A>>B"
	case !q.answers.degrees:
		verdict = "A"
	}
	if difference < 0 {
		verdict = strings.NewReplacer("A", "B", "B", "A").Replace(verdict)
	}
	p := r.Float64()
	size := lengthOf(w.ComparisonChars, 0.35, r.NormFloat64())
	b.Grow(size + 256)
	b.WriteString("Both answers were held against the request.")
	b.prose(&r, size)
	b.WriteString("\n\n")
	switch {
	case p < w.MetaCutOff:
		return cutOff(b, &r, "Verdict:"), "length"
	case p < w.MetaCutOff+w.MetaUnparsed:
		b.WriteString("I can't decide between the two.")
	default:
		b.WriteString("Verdict: " + verdict)
	}
	return b.String(), "stop"
}
