package calibrate

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"

	"coeval/schemas"
)

// Verdicts compare reads, scores of one token, with judgments in words on the same labels and by the same model.
type Verdicts struct {
	Read     VerdictFigures `json:"read"`
	Reasoned VerdictFigures `json:"reasoned"`
	// Ratio is the discrimination of reads by that of judgments in words; null if either is not known.
	Ratio *Estimate `json:"ratio"`
	// Pairs are the pairs that people decided and whose responses both kinds scored.
	Pairs int `json:"pairs"`
}

// VerdictFigures describe one kind of verdict.
type VerdictFigures struct {
	// Agreement is [Agreement].WithTies; null without a pair.
	Agreement *Estimate `json:"agreement"`
	// Discrimination is the mean of S(better) − S(worse), by people's preference, over its standard deviation:
	// how many standard deviations a preferred response is ahead.
	Discrimination *float64 `json:"discrimination"`
	// Unparsed is the share of verdicts without a score.
	Unparsed float64 `json:"unparsed"`
	// GeneratedTokens and PromptTokens are a response's mean numbers of tokens: four characters of a text
	// are one token, and a request with several choices reads its prompt once.
	GeneratedTokens float64 `json:"generated_tokens"`
	PromptTokens    float64 `json:"prompt_tokens"`
}

// OfBoth compares both kinds of verdicts. The dossiers have both, the figures are of one kind each.
func OfBoth(reads, reasoned *Figures, dossiers []schemas.Dossier) *Verdicts {
	v := &Verdicts{Read: figuresOf(reads), Reasoned: figuresOf(reasoned)}
	v.addTokens(dossiers)
	var byPrompt [][]ahead
	places := map[string]int{}
	for i := range reads.Pairs {
		p, q := &reads.Pairs[i], &reasoned.Pairs[i]
		if p.People == Tie || p.Agree == nil || q.Agree == nil {
			continue
		}
		id := reads.Responses[p.First].PromptID
		if _, ok := places[id]; !ok {
			places[id] = len(byPrompt)
			byPrompt = append(byPrompt, nil)
		}
		at := places[id]
		byPrompt[at] = append(byPrompt[at], ahead{p.People.sign() * reads.difference(p), p.People.sign() * reasoned.difference(q)})
		v.Pairs++
	}
	all := slices.Concat(byPrompt...)
	read, words := discrimination(all)
	v.Read.Discrimination, v.Reasoned.Discrimination = finite(read), finite(words)
	if ratio := finite(read / words); ratio != nil && words > 0 {
		v.Ratio = &Estimate{Value: *ratio}
		v.Ratio.Low, v.Ratio.High = intervalOf(byPrompt, reads.Bootstrap)
	}
	return v
}

// ahead is by how much the better response of a pair is ahead, in points, by each kind of verdict.
type ahead struct{ read, reasoned float64 }

func figuresOf(f *Figures) VerdictFigures {
	out := VerdictFigures{Unparsed: f.Unparsed.Share}
	if f.Agreement != nil {
		out.Agreement = f.Agreement.WithTies
	}
	return out
}

// addTokens adds the tokens of a response.
func (v *Verdicts) addTokens(dossiers []schemas.Dossier) {
	const charsPerToken = 4
	responses := 0.0
	for i := range dossiers {
		for k := range dossiers[i].Responses {
			r := &dossiers[i].Responses[k]
			responses++
			for n := range r.Reads {
				v.Read.GeneratedTokens++
				if n == 0 {
					v.Read.PromptTokens += float64(r.Reads[n].PromptTokens)
				}
			}
			for n := range r.Judgments {
				j := &r.Judgments[n]
				v.Reasoned.GeneratedTokens += float64(len(j.Text)+len(j.Reasoning)) / charsPerToken
				if n == 0 {
					v.Reasoned.PromptTokens += float64(j.PromptTokens)
				}
			}
		}
	}
	for _, f := range []*VerdictFigures{&v.Read, &v.Reasoned} {
		f.GeneratedTokens /= max(responses, 1)
		f.PromptTokens /= max(responses, 1)
	}
}

// discrimination returns the mean of a column over its standard deviation, NaN without one.
func discrimination(pairs []ahead) (read, reasoned float64) {
	of := func(x func(ahead) float64) float64 {
		var sum, squares float64
		for _, p := range pairs {
			sum += x(p)
			squares += x(p) * x(p)
		}
		n := float64(len(pairs))
		mean := sum / n
		return mean / math.Sqrt(squares/n-mean*mean)
	}
	return of(func(a ahead) float64 { return a.read }), of(func(a ahead) float64 { return a.reasoned })
}

func finite(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

// intervalOf resamples the prompts, each with all its pairs.
func intervalOf(byPrompt [][]ahead, b Bootstrap) (low, high *float64) {
	if len(byPrompt) < 2 {
		return nil, nil
	}
	var ratios []float64
	for i := range b.Resamples {
		r := rand.New(rand.NewPCG(b.Seed, uint64(i))) //nolint:gosec // chance, no secret
		var drawn []ahead
		for range byPrompt {
			drawn = append(drawn, byPrompt[r.IntN(len(byPrompt))]...)
		}
		read, words := discrimination(drawn)
		if x := finite(read / words); x != nil && words > 0 {
			ratios = append(ratios, *x)
		}
	}
	if 2*len(ratios) < b.Resamples {
		return nil, nil
	}
	slices.Sort(ratios)
	tail := (1 - b.Level) / 2
	return new(quantile(ratios, tail)), new(quantile(ratios, 1-tail))
}

// minRatio is the least discrimination of reads, against that of judgments in words, at which the judge pairs are
// about as good: at half of it judge pairs lose a tenth to a fifth of their gap in simulation.
const minRatio = 0.9

// Sentence names the kind of verdict that is worth its price.
func (v *Verdicts) Sentence() string {
	if v.Ratio == nil || v.Ratio.Low == nil {
		return "The labels do not show which verdicts are worth their price: too few of their pairs have a better response that both kinds scored."
	}
	begin := fmt.Sprintf("Reads tell the better response %.2f times as sharply as judgments in words (%.2f to %.2f), for %.0f instead of %.0f generated tokens a response",
		v.Ratio.Value, *v.Ratio.Low, *v.Ratio.High, v.Read.GeneratedTokens, v.Reasoned.GeneratedTokens)
	switch {
	case *v.Ratio.Low >= minRatio:
		return begin + ": reads are worth their price (judge.verdict: read)."
	case *v.Ratio.High < minRatio:
		return begin + ": judgments in words are worth theirs (judge.verdict: reasoned)."
	}
	return begin + ": the labels are too few to tell which are worth their price."
}

// Print writes the comparison as text.
func (v *Verdicts) Print(w io.Writer) error {
	shown := func(x *float64) string {
		if x == nil {
			return "–"
		}
		return fmt.Sprintf("%.2f", *x)
	}
	agreement := func(e *Estimate) string {
		if e == nil {
			return "–"
		}
		return percent(e.Value)
	}
	_, err := fmt.Fprintf(w, "\nread and reasoned, on %d pairs that people decided:\n", v.Pairs)
	for _, kind := range []struct {
		name string
		f    VerdictFigures
	}{{"read", v.Read}, {"reasoned", v.Reasoned}} {
		_, e := fmt.Fprintf(w, "  %-8s  discrimination %s, agreement %s, unparsed %s; %.0f generated and %.0f prompt tokens a response\n",
			kind.name, shown(kind.f.Discrimination), agreement(kind.f.Agreement), percent(kind.f.Unparsed), kind.f.GeneratedTokens, kind.f.PromptTokens)
		err = cmp.Or(err, e)
	}
	_, e := fmt.Fprintln(w, v.Sentence())
	return cmp.Or(err, e)
}
