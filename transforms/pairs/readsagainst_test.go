package pairs_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"coeval/schemas"
	"coeval/transforms/pairs"
	"coeval/transforms/rating"
)

// The tokens of the table of docs/sizing-and-cost.md. Prompts: the conversation 100, rubric and instructions 400,
// a response 300. Servers with n read a prompt once for all of its choices.
const (
	responseTokens, judgmentTokens, comparisonTokens = 300, 250, 350
	conversationTokens, rubricTokens                 = 100, 400
	judgePrompt                                      = rubricTokens + conversationTokens + responseTokens
	comparisonPrompt                                 = judgePrompt + 2*judgmentTokens
)

// tokens returns the tokens that a prompt of 7 responses generates and reads with n judgments for each judged
// response, and this many comparisons of so many tokens.
func tokens(judged, n int, reads bool, comparisons, perComparison float64) (generated, read float64) {
	const k = 7
	generated = k*responseTokens + float64(judged*n*judgmentTokens) + comparisons*perComparison
	read = conversationTokens + float64(judged*judgePrompt) + comparisons*comparisonPrompt
	if reads {
		generated, read = generated+k, read+k*judgePrompt
	}
	return generated, read
}

// readVariance is the variance of the whole points 0 to 5 nearest to a normal number: what a read of a
// response tells.
func readVariance(mean, deviation float64) float64 {
	var m, squares, from float64
	for v := range 6 {
		to := 1.0
		if v < 5 {
			to = math.Erfc((mean-float64(v)-.5)/deviation/math.Sqrt2) / 2
		}
		m, squares, from = m+(to-from)*float64(v), squares+(to-from)*float64(v*v), to
	}
	return squares - m*m
}

// byRead returns the contest of the response that the reads' variance chooses, with n judgments. Responses are those
// of draw.
func (l judging) byRead(prompt uint64, hidden float64, n int) contest {
	r := rand.New(rand.NewPCG(prompt, 7))
	base := 3 + .4*r.NormFloat64()
	var out contest
	most := -1.0
	for k := range uint64(7) {
		z := r.NormFloat64()
		quality := base + .6*z
		mean := quality + l.bias*(.2*z+math.Sqrt(1-.04)*r.NormFloat64()) + l.own*r.NormFloat64()
		for range 22 { // the judgments of draw
			r.NormFloat64()
		}
		v := readVariance(mean, l.noise)
		if v <= most {
			continue
		}
		most = v
		own := rand.New(rand.NewPCG(prompt, 1000+k))
		out = contest{finding: schemas.Finding{PromptID: fmt.Sprintf("prompt-%d", prompt), ContestedID: "r"}}
		for i := range n {
			score := mean + l.noise*own.NormFloat64()
			score = min(max(math.Round(score/.5)*.5, 0), 5)
			key := fmt.Sprintf("%02d", i)
			out.finding.Judgments = append(out.finding.Judgments, schemas.JudgmentFinding{ID: key, Score: int(math.Round(score * 1000)), Chars: 1, Fingerprint: key})
			out.quality = append(out.quality, -math.Abs(score-quality)+hidden*own.NormFloat64())
		}
	}
	return out
}

// read replaces the verdicts by the probabilities of the same meta-judge, with a share of its discrimination and
// an error of each read's own, in logits.
func (l judging) read(c *contest, discrimination, noise float64, r *rand.Rand) {
	n := len(c.quality)
	verdicts := make([]byte, n*n)
	c.finding.Reads = make([]int64, n*n)
	for m := range n {
		for k := range n {
			at := m*n + k
			x := discrimination*l.slope*(c.quality[m]-c.quality[k]) + l.position + l.taste*float64(c.finding.Judgments[m].Score-c.finding.Judgments[k].Score)/1000
			x += noise * r.NormFloat64()
			p := int64(math.Round(schemas.ReadUnit / (1 + math.Exp(-x))))
			c.finding.Reads[at], verdicts[at] = p, byte(schemas.Second)
			if 2*p > schemas.ReadUnit {
				verdicts[at] = byte(schemas.First)
			}
			if m == k {
				c.finding.Reads[at], verdicts[at] = -1, byte(schemas.Missing)
			}
		}
	}
	c.finding.Verdicts = string(verdicts)
}

// readOutcome is what a kind of reads gave, by prompt.
type readOutcome struct{ gap, asked []float64 }

type readKind struct {
	name                  string
	discrimination, noise float64
	judgments             int // of the contested response; 0 is 11 of each response
}

var readKinds = []readKind{
	{"comparisons", 1, 0, 0},
	{"comparisons, half as sure", .5, 0, 0},
	{"comparisons, error 1", 1, 1, 0},
	{"comparisons, half as sure, error 1", .5, 1, 0},
	{"both, n = 11", 1, 0, 11},
	{"both, n = 16", 1, 0, 16},
	{"both, n = 24", 1, 0, 24},
}

func (l judging) runReads(t *testing.T, prompts int, hidden float64) (full []float64, reads map[string]*readOutcome) {
	full, reads = make([]float64, prompts), map[string]*readOutcome{}
	for _, k := range readKinds {
		reads[k.name] = &readOutcome{make([]float64, prompts), make([]float64, prompts)}
	}
	elo := pairs.JudgeOptions{KeepEqualScores: true, PositionWeights: pairs.ResponseWeights}
	scores := elo
	scores.Rating = pairs.ScoresRating
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range prompts {
		group.Go(func() error {
			all, _ := l.draw(uint64(i), hidden)
			full[i] = all.gap(t, &all.finding, elo)
			for at, k := range readKinds {
				c := all
				if k.judgments > 0 {
					c = l.byRead(uint64(i), hidden, k.judgments)
				}
				l.read(&c, k.discrimination, k.noise, rand.New(rand.NewPCG(uint64(i), 500+uint64(at))))
				f, asked := c.settle(t, rating.Policy{Regret: readRegret, MaxComparisons: maxReads})
				reads[k.name].gap[i], reads[k.name].asked[i] = c.gap(t, &f, scores), float64(asked)
			}
			return nil
		})
	}
	_ = group.Wait() // no function returns an error
	return full, reads
}

// maxReads bounds the comparisons of a prompt so that reads of both kinds stay below 0.40 of the prompt tokens:
// (100 + 8·800 + 36·1300) / (100 + 7·800 + 110·1300) = 0.36.
const maxReads = 36

// readRegret is half of the default: a read costs a prompt alone.
const readRegret = 0.08

// The table of reads in docs/sizing-and-cost.md: verdicts of one token until settled against all 110 in words on the
// same responses and, but for "both", the same judgments. Tokens are shares of the full method's. `make budget`
// runs it on 5,000 prompts a row; the test bounds what few prompts can show, as TestSettledAgainstAll does.
func TestReadsAgainstAll(t *testing.T) {
	w := tabwriter.NewWriter(t.Output(), 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "reads of\tjudges\thidden\tcomparisons\tgap\tgenerated\tread")
	allGenerated, allRead := tokens(7, 11, false, 110, comparisonTokens)
	for _, hidden := range []float64{0, .5} {
		for _, l := range judgings {
			full, reads := l.runReads(t, *paired, hidden)
			for _, k := range readKinds {
				r, half := ratio(reads[k.name].gap, full)
				asked := 0.0
				for _, x := range reads[k.name].asked {
					asked += x / float64(*paired)
				}
				judged, n := 7, 11
				if k.judgments > 0 {
					judged, n = 1, k.judgments
				}
				generated, read := tokens(judged, n, k.judgments > 0, asked, 1)
				_, _ = fmt.Fprintf(w, "%s\t%s\t%v\t%.1f\t%.3f ± %.3f\t%.2f\t%.2f\n", k.name, l.name, hidden, asked, r, half, generated/allGenerated, read/allRead)
				if l.name == "bad" || k.discrimination < 1 || k.noise > 0 || k.judgments > 0 && k.judgments < 24 {
					continue
				}
				least, most := 1.0, 0.37 // 7 responses and 77 judgments are 0.357 of the generated tokens
				if k.judgments > 0 {
					least, most = .93, 0.15
				}
				if least -= 4 * .45 / math.Sqrt(float64(*paired)); r < least || generated > most*allGenerated || read > .4*allRead {
					t.Errorf("reads of %s, %s, hidden %v: %.3f of the gap for %.2f of the generated and %.2f of the prompt tokens", k.name, l.name, hidden, r, generated/allGenerated, read/allRead)
				}
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}
