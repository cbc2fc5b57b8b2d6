package pairs_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"testing"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"
	"gonum.org/v1/gonum/floats"

	"coeval/schemas"
	"coeval/transforms/judge"
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

// tokens returns the generated and the prompt tokens of a prompt with 7 responses: for judgments in a
// number of requests, and for comparisons of perComparison tokens each.
func tokens(requests, judgments float64, reads bool, comparisons, perComparison float64) (generated, read float64) {
	const k = 7
	generated = k*responseTokens + judgments*judgmentTokens + comparisons*perComparison
	read = conversationTokens + requests*judgePrompt + comparisons*comparisonPrompt
	if reads {
		generated, read = generated+k, read+k*judgePrompt
	}
	return generated, read
}

// readMoments returns the mean and the variance of a read of a response: of the whole points 0 to 5 that
// are nearest to a normal number.
func readMoments(mean, deviation float64) (m, variance float64) {
	var squares, from float64
	for v := range 6 {
		to := 1.0
		if v < 5 {
			to = math.Erfc((mean-float64(v)-.5)/deviation/math.Sqrt2) / 2
		}
		m, squares, from = m+(to-from)*float64(v), squares+(to-from)*float64(v*v), to
	}
	return m, squares - m*m
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
		m, v := readMoments(mean, l.noise)
		if v <= most {
			continue
		}
		most = v
		own := rand.New(rand.NewPCG(prompt, 1000+k))
		out = contest{finding: schemas.Finding{PromptID: fmt.Sprintf("prompt-%d", prompt), ContestedID: "r"}, read: m, deviation: math.Sqrt(v)}
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
type readOutcome struct{ gap, asked, requests, judgments []float64 }

type readKind struct {
	name                  string
	discrimination, noise float64
	judgments             int // of the contested response; 0 is 11 of each response
}

// inRounds asks judgments in words by the rule of judge.Rounds.
const inRounds = -1

var readsOf = flag.String("reads", "", "regular expression of the rows of TestReadsAgainstAll: kind; judges; hidden")

var readKinds = []readKind{
	{"comparisons", 1, 0, 0},
	{"comparisons, half as sure", .5, 0, 0},
	{"comparisons, error 1", 1, 1, 0},
	{"comparisons, half as sure, error 1", .5, 1, 0},
	{"both, n = 11", 1, 0, 11},
	{"both, n = 24", 1, 0, 24},
	{"both, in rounds", 1, 0, inRounds},
}

// isBounded reports whether the test bounds the figures of a row.
func (l judging) isBounded(k readKind) bool {
	return l.name != "bad" && k.discrimination == 1 && k.noise == 0 && (k.judgments <= 0 || k.judgments >= 24)
}

// kinds returns the kinds of reads whose rows -reads names, for example "both, in rounds; mild; 0.5".
func (l judging) kinds(hidden float64) []readKind {
	pattern := regexp.MustCompile(*readsOf)
	return slices.DeleteFunc(slices.Clone(readKinds), func(k readKind) bool {
		return !pattern.MatchString(fmt.Sprintf("%s; %s; %v", k.name, l.name, hidden))
	})
}

func (l judging) runReads(t *testing.T, kinds []readKind, prompts int, hidden float64) (full []float64, reads map[string]*readOutcome) {
	full, reads = make([]float64, prompts), map[string]*readOutcome{}
	for _, k := range kinds {
		zeros := func() []float64 { return make([]float64, prompts) }
		reads[k.name] = &readOutcome{zeros(), zeros(), zeros(), zeros()}
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
			for _, k := range kinds {
				c, out := all, reads[k.name]
				at := slices.IndexFunc(readKinds, func(other readKind) bool { return other.name == k.name })
				out.requests[i], out.judgments[i] = 7, 77
				switch {
				case k.judgments == inRounds:
					c = l.byRead(uint64(i), hidden, judge.DefaultMaxJudgments)
					rounds, n := c.rounds()
					c.finding.Judgments, c.quality = c.finding.Judgments[:n], c.quality[:n]
					out.requests[i], out.judgments[i] = float64(rounds), float64(n)
				case k.judgments > 0:
					c = l.byRead(uint64(i), hidden, k.judgments)
					out.requests[i], out.judgments[i] = 1, float64(k.judgments)
				}
				l.read(&c, k.discrimination, k.noise, rand.New(rand.NewPCG(uint64(i), 500+uint64(at))))
				f, asked := c.settle(t, rating.Policy{Regret: readRegret, MaxComparisons: maxReads})
				out.gap[i], out.asked[i] = c.gap(t, &f, scores), float64(asked)
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
// runs it on 5,000 prompts a row; the test bounds what few prompts can show, as TestSettledAgainstAll does. Rows
// without bounds have five prompts in the test.
func TestReadsAgainstAll(t *testing.T) {
	w := tabwriter.NewWriter(t.Output(), 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "reads of\tjudges\thidden\tjudgments\tcomparisons\tgap\tgenerated\tread")
	allGenerated, allRead := tokens(7, 77, false, 110, comparisonTokens)
	for _, hidden := range []float64{0, .5} {
		for _, l := range judgings {
			kinds := l.kinds(hidden)
			if *paired <= 1000 {
				l.runReads(t, kinds, 5, hidden)
				kinds = slices.DeleteFunc(kinds, func(k readKind) bool { return !l.isBounded(k) })
			}
			if len(kinds) == 0 {
				continue
			}
			full, reads := l.runReads(t, kinds, *paired, hidden)
			for _, k := range kinds {
				out := reads[k.name]
				r, half := ratio(out.gap, full)
				asked := mean(out.asked)
				generated, read := tokens(mean(out.requests), mean(out.judgments), k.judgments != 0, asked, 1)
				_, _ = fmt.Fprintf(w, "%s\t%s\t%v\t%.1f\t%.1f\t%.3f ± %.3f\t%.3f\t%.3f\n", k.name, l.name, hidden, mean(out.judgments), asked, r, half, generated/allGenerated, read/allRead)
				if !l.isBounded(k) {
					continue
				}
				least, most := 1.0, 0.37 // 7 responses and 77 judgments are 0.357 of the generated tokens
				if k.judgments != 0 {
					most = 0.15
				}
				if k.judgments == inRounds { // 11 to 40 judgments, with a standard deviation of about 10: four standard errors
					most += 4 * 10 * judgmentTokens / math.Sqrt(float64(*paired)) / allGenerated
				}
				if k.judgments > 0 { // mild without a hidden part loses 0.07
					least = .93
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

// rounds returns the number of rounds, and of judgments in words, after which the rule of judge.Rounds stops. The first
// round has the default of judge.n, 11.
func (c *contest) rounds() (rounds, judgments int) {
	// judge.Rounds takes sums of reads: n = 1 has Σm = m and Σm² = V + m².
	m := int64(math.Round(1000 * c.read))
	read := schemas.Score{N: 1, Sum: m, Squares: m*m + int64(math.Round(1e6*c.deviation*c.deviation))}
	rounds, judgments = 1, 11
	for {
		var scores []schemas.Judgment
		for _, j := range c.finding.Judgments[:judgments] {
			scores = append(scores, schemas.Judgment{Score: j.Score})
		}
		more, stop := (judge.Rounds{}).Next(judgments, scores, read)
		if stop != "" {
			return rounds, judgments
		}
		rounds, judgments = rounds+1, judgments+more
	}
}

func mean(x []float64) float64 { return floats.Sum(x) / float64(len(x)) }

// ceilings returns, for each prompt and number of judgments, the gap of the best and the worst judgment of
// the response that the reads choose. Perfect comparisons would have these gaps.
func (l judging) ceilings(t *testing.T, prompts int, hidden float64, ns []int) (full []float64, spans [][]float64) {
	elo := pairs.JudgeOptions{KeepEqualScores: true, PositionWeights: pairs.ResponseWeights}
	spans = make([][]float64, len(ns))
	for i := range prompts {
		all, _ := l.draw(uint64(i), hidden)
		full = append(full, all.gap(t, &all.finding, elo))
		c := l.byRead(uint64(i), hidden, slices.Max(ns))
		for at, n := range ns {
			spans[at] = append(spans[at], slices.Max(c.quality[:n])-slices.Min(c.quality[:n]))
		}
	}
	return full, spans
}

// The table of ceilings in docs/sizing-and-cost.md: the gap of the best and the worst judgment as a ratio
// to the gap of all 110 comparisons in words. The expected ratios for 24 judgments were measured with
// 1,500 prompts. A ratio of n prompts has a standard error of at most 0.6/√n, and the test allows four of
// them.
func TestCeilingOfReadsAgainstAll(t *testing.T) {
	ns := []int{11, 24, 27, 30, 34}
	want := map[float64][]float64{0: {.972, 1.104, 1.318}, .5: {1.212, 1.231, 1.416}}
	w := tabwriter.NewWriter(t.Output(), 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "judges\thidden\tjudgments:", ns)
	for _, hidden := range []float64{0, .5} {
		for at, l := range judgings[:3] {
			full, spans := l.ceilings(t, *paired, hidden, ns)
			_, _ = fmt.Fprintf(w, "%s\t%v", l.name, hidden)
			for _, span := range spans {
				r, half := ratio(span, full)
				_, _ = fmt.Fprintf(w, "\t%.3f ± %.3f", r, half)
			}
			_, _ = fmt.Fprintln(w)
			if r, _ := ratio(spans[1], full); math.Abs(r-want[hidden][at]) > 4*.6/math.Sqrt(float64(*paired)) {
				t.Errorf("%s, hidden %v: the best and the worst of 24 judgments have %.3f of the gap, want %.3f", l.name, hidden, r, want[hidden][at])
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}
