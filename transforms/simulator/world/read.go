package world

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"coeval/schemas"
)

// A Probability is the probability of one token.
type Probability struct {
	Token string
	P     float64
}

// scoreLabels are the whole points of the rubric.
const scoreLabels = "012345"

// ReadToken returns the answer of one token to a question that Read returned, and the probabilities of the
// likely tokens in falling order. The answer is one of these tokens.
func (w *World) ReadToken(q *Question, seed int64) (Choice, []Probability) {
	w = q.skill.apply(w)
	r := Rand(Mix(q.Hash ^ Mix(uint64(seed)+0x5eed)))
	own := Rand(Mix(q.Hash ^ 0x4ead)) // a model reads equal requests alike, with any seed
	noise := w.ReadNoise * own.NormFloat64()
	var labels []Probability
	unparsed := 0.0
	switch q.Role {
	case schemas.RoleMetaJudge:
		labels, unparsed = w.readWinner(q, noise), w.MetaUnparsed
	case schemas.RoleJudge:
		labels, unparsed = w.readScore(q, noise), w.JudgeUnparsed
	}
	mass := 1 - w.ReadOther
	if own.Float64() < unparsed {
		mass = 0.1 * own.Float64()
	}
	var next []Probability
	for _, l := range labels {
		spaced := 0.2 * own.Float64() // of the same label with a space before it
		next = append(next, Probability{l.Token, mass * l.P * (1 - spaced)}, Probability{" " + l.Token, mass * l.P * spaced})
	}
	next = append(next, others(&own, 1-sum(next))...)
	slices.SortStableFunc(next, func(a, b Probability) int { return cmp.Compare(b.P, a.P) })
	token := next[0].Token
	for x, i := r.Float64(), 0; i < len(next); i++ { // draws a token
		if x -= next[i].P; x < 0 {
			token = next[i].Token
			break
		}
	}
	return Choice{Text: token, FinishReason: "length", Tokens: 1}, next
}

func sum(list []Probability) float64 {
	total := 0.0
	for _, l := range list {
		total += l.P
	}
	return total
}

const (
	// wordsPerRead is the number of words that a read has.
	wordsPerRead = 20
	// Words is the number of words: the tokens of reads that are no labels.
	Words = 64 * wordsPerRead
)

// Word returns the word of a number from 0 to Words − 1, for example method7.
func Word(number int) string {
	return nouns[number/wordsPerRead][1:] + strconv.Itoa(number%wordsPerRead)
}

// WordNumber returns the number of a word, false for any other text.
func WordNumber(text string) (number int, ok bool) {
	for noun := range nouns {
		digits, found := strings.CutPrefix(text, nouns[noun][1:])
		i, err := strconv.Atoi(digits)
		if number = noun*wordsPerRead + i; found && err == nil && i >= 0 && i < wordsPerRead && Word(number) == text {
			return number, true
		}
	}
	return 0, false
}

// others returns words whose probabilities sum to rest.
func others(r *Rand, rest float64) []Probability {
	out := make([]Probability, 0, wordsPerRead)
	for i, share := 0, rest/2; i < wordsPerRead; i, share = i+1, share/2 {
		if i == wordsPerRead-1 {
			share *= 2
		}
		out = append(out, Probability{Word(int((r.Uint64()+uint64(i))%uint64(len(nouns)))*wordsPerRead + i), max(share, 0)})
	}
	return out
}

// readWinner returns the probabilities of A and B.
func (w *World) readWinner(q *Question, noise float64) []Probability {
	read := *w
	read.MetaSlope *= 1 - w.ReadLoss
	p := read.firstWins(q.first, q.second)
	logit := math.Log(p/(1-p)) + noise
	p = logistic(min(max(logit, -30), 30))
	return []Probability{{"A", p}, {"B", 1 - p}}
}

// readScore returns the probabilities of the whole points.
func (w *World) readScore(q *Question, noise float64) []Probability {
	const minDeviation = 0.05 // of a judge without noise
	w = w.about(q.response)
	quality, z := w.hidden(q.response)
	own := Rand(Mix(w.Seed ^ uint64(q.response.prompt)<<32 ^ q.response.sample ^ Mix(q.model)))
	mean := w.QualityMean + (1-w.ReadLoss)*(quality-w.QualityMean) + w.Leniency + w.JudgeLengthBias*z + w.JudgePersistent*own.NormFloat64() + noise
	mean = w.Bend(mean)
	deviation := max(w.JudgeNoise, minDeviation)
	below := func(x float64) float64 { return math.Erfc((mean-x)/deviation/math.Sqrt2) / 2 }
	var out []Probability
	from := 0.0
	for i := range scoreLabels {
		to := 1.0
		if i < len(scoreLabels)-1 {
			to = below(float64(i) + 0.5)
		}
		out = append(out, Probability{scoreLabels[i : i+1], to - from})
		from = to
	}
	return out
}
