package stage

import (
	"math"
	"strings"

	"coeval/schemas"
)

// A Read requests the probabilities of labels as the next token. No label is a prefix of a text that
// continues: each is one token of the model.
type Read struct {
	// Labels are the possible verdicts, as A and B, or 0 to 5.
	Labels []string `json:"labels"`
	// MinMass is the least sum of the labels' probabilities, above 0 to 1. It does not decide what is
	// asked. Zero means DefaultMinMass.
	MinMass float64 `json:"min_mass,omitempty"`
}

// DefaultMinMass is the default of Read.MinMass.
const DefaultMinMass = 0.5

// LowMass is the reason of a read whose labels are unlikely: the model was about to write something else.
const LowMass = "low_mass"

// spaceMarks stand for spaces in tokens: of byte-level vocabularies and of SentencePiece.
const spaceMarks = "ĠĊĉ▁"

// LabelOf returns the label that a token spells, with or without white space around it.
func (r *Read) LabelOf(token string) (label string, ok bool) {
	token = strings.TrimFunc(token, func(c rune) bool { return strings.ContainsRune(" \n\r\t\u00a0"+spaceMarks, c) })
	for _, l := range r.Labels {
		if l == token {
			return l, true
		}
	}
	return "", false
}

// A TokenLogProb is the log-probability of a token.
type TokenLogProb struct {
	Token   string
	LogProb float64
}

// minLogProb is below the log-probability of every token that a model may write. Servers report tokens
// that a mask has excluded with −9999.
const minLogProb = -1000

// Sum returns the log-probability of each label: of all of its spellings among the tokens together,
// rounded to a millionth. A label without a spelling is missing.
func (r *Read) Sum(tokens []TokenLogProb) map[string]float64 {
	sums := map[string]float64{}
	seen := map[string]bool{}
	for _, t := range tokens {
		label, ok := r.LabelOf(t.Token)
		if !ok || seen[t.Token] || !(t.LogProb > minLogProb && t.LogProb < 1) {
			continue
		}
		seen[t.Token] = true
		sums[label] += math.Exp(t.LogProb)
	}
	for label, p := range sums {
		sums[label] = math.Round(math.Log(p)*schemas.ReadUnit)/schemas.ReadUnit + 0 // + 0 makes −0 a 0
	}
	return sums
}

// Value returns the read of a generation. Values are the values of the labels in thousandths, in their order.
// With p_l = exp(LogProbs[l]), the mass m = Σ p_l and the values v_l,
//
//	value    = Σ p_l·v_l / m
//	variance = Σ p_l·v_l² / m − value²
//
// The read is unparsed if m is below MinMass.
func (r *Read) Value(g *schemas.Generation, values []int) schemas.Read {
	out := schemas.Read{LogProbs: g.LogProbs, PromptTokens: g.PromptTokens}
	var mass, sum, squares float64
	for i, label := range r.Labels {
		x, ok := g.LogProbs[label]
		if !ok {
			continue
		}
		p, v := math.Exp(x), float64(values[i])/1000
		mass += p
		sum += p * v
		squares += p * v * v
	}
	out.MassMicros = int64(math.Round(mass * schemas.ReadUnit))
	minMass := r.MinMass
	if minMass == 0 {
		minMass = DefaultMinMass
	}
	if float64(out.MassMicros) < minMass*schemas.ReadUnit || mass == 0 {
		out.Unparsed = LowMass
		return out
	}
	mean := sum / mass
	out.ValueMicros = int64(math.Round(mean * schemas.ReadUnit))
	out.VarianceMicros = int64(math.Round(max(squares/mass-mean*mean, 0) * schemas.ReadUnit))
	return out
}
