// Package compare compares the iterations of a loop in order. The comparison shows whether the judge improves
// with the actor, or saturates.
//
// [Runs] takes the figures of each run from package figures. It lists the settings that differ, and compares
// the prompts that a run shares with the run before. It looks for signs of saturation, from the literature,
// between the first and the last run. For agreement with people it compares the last run with the best run
// before it. A sign appears when its figures cross a threshold, which is no test of significance. Each sign
// names its figures.
//
// Scores of two runs are not on one scale, because each iteration has another judge.
package compare

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"coeval/datasets/shards"
	"coeval/runners/calibrate"
	"coeval/runners/figures"
	"coeval/runners/rank"
	"coeval/runners/runs"
	"coeval/schemas"
)

// Comparison is the result of [Runs].
type Comparison struct {
	Runs []Iteration `json:"runs"`
	// Settings are the settings that differ between runs.
	Settings []Setting `json:"settings"`
	// Rho is the ρ at which lengths are compared.
	Rho float64 `json:"rho"`
	// Steps are from each run to the next.
	Steps []Step `json:"steps"`
	Signs []Sign `json:"signs"`
}

// Iteration is the compared figures of one run. Figures of the meta-judge are null without a
// comparison.
type Iteration struct {
	Out       string `json:"out"`
	Simulated bool   `json:"simulated"`
	Judge     string `json:"judge"`
	Prompts   int64  `json:"prompts"`
	// ActorPairs and JudgePairs are pairs per prompt; null if the role was not requested.
	ActorPairs *float64 `json:"actor_pairs"`
	JudgePairs *float64 `json:"judge_pairs"`
	// Responses counts the scored responses, Paired the actor pairs under the run's settings. Figures
	// without data are 0.
	Responses int64 `json:"responses"`
	Paired    int64 `json:"paired"`
	// MeanScore is the mean S of the responses in points, Deviation their standard deviation,
	// Spread the mean of Smax − Smin within a prompt, Top the share of judgments with score 5.
	MeanScore float64 `json:"mean_score"`
	Deviation float64 `json:"deviation"`
	Spread    float64 `json:"spread"`
	Top       float64 `json:"top"`
	// Ties is the share of equal means among responses to one prompt, Variance the mean V.
	Ties     float64 `json:"ties"`
	Variance float64 `json:"variance"`
	// ChosenChars is the mean length of the responses chosen at the comparison's ρ, ChosenPairs the
	// number of pairs there.
	ChosenPairs int64   `json:"chosen_pairs"`
	ChosenChars float64 `json:"chosen_chars"`
	// First is the share of verdicts for the first judgment shown, Conflicts the share of pairs of
	// judgments whose winner changes with the order, HigherWins the share of verdicts on unequal
	// scores for the higher one.
	First      *float64 `json:"first"`
	Conflicts  *float64 `json:"conflicts"`
	HigherWins *float64 `json:"higher_wins"`
	// UnparsedJudgments and UnparsedComparisons are shares of texts without a score or verdict.
	UnparsedJudgments   float64  `json:"unparsed_judgments"`
	UnparsedComparisons *float64 `json:"unparsed_comparisons"`
	// Agreement is the judge's agreement with people, ties counting half, from the file of coeval
	// calibrate in the run's folder. It is null without that file, or if the file is about another
	// judge or another prompt. Labels is the SHA-256 of the file of labels.
	Agreement *float64 `json:"agreement"`
	Labels    string   `json:"labels,omitempty"`

	// people are the figures behind Agreement; unknown is the reason why there are none.
	people  *calibrate.Figures
	unknown string
}

// Step compares a run with the run before it. Before and After count runs from 0.
type Step struct {
	Before int `json:"before"`
	After  int `json:"after"`
	// Prompts counts the prompts in both runs, Overlap is their share of the smaller run.
	Prompts int64   `json:"prompts"`
	Overlap float64 `json:"overlap"`
	// PromptRanks is Spearman's correlation of the shared prompts' mean S in both runs: whether both
	// find the same prompts easy. Null with fewer than 3 prompts or without spread.
	PromptRanks *float64 `json:"prompt_ranks"`
	// Responses counts the texts scored in both runs, whichever model wrote them. ResponseRanks is
	// Spearman's correlation of their S. OrderAgreement is the share of equal order among the pairs of
	// responses to one prompt with unequal S in both runs.
	Responses      int64    `json:"responses"`
	ResponseRanks  *float64 `json:"response_ranks"`
	OrderAgreement *float64 `json:"order_agreement"`
	OrderedPairs   int64    `json:"ordered_pairs"`
	// PastResponses counts the texts among them that are answers of the model past of the later run. Every
	// iteration scores these anew, so they show the drift of the judge: PastRanks is Spearman's
	// correlation of their S, PastShift the mean of S in the later run less S in the run before, in points.
	// Both are null without such texts.
	PastResponses int64    `json:"past_responses"`
	PastRanks     *float64 `json:"past_ranks"`
	PastShift     *float64 `json:"past_shift"`
}

// Runs compares at least two runs in order. It is an error if neighbouring runs, or the first and the
// last, share no prompt, unless unshared allows it.
func Runs(ctx context.Context, opened []*runs.Run, unshared bool) (*Comparison, error) {
	c := &Comparison{Settings: settingsOf(opened)}
	all := make([]*figures.Figures, 0, len(opened))
	var first, before map[string]prompt
	for i, r := range opened {
		f, err := figures.Of(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
		it := newIteration(r, f)
		if err := it.addPeople(ctx, &r.Settings); err != nil {
			return nil, err
		}
		c.Runs = append(c.Runs, it)
		after, past, err := read(ctx, r)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			step := newStep(before, after, past)
			step.Before, step.After = i-1, i
			if step.Prompts == 0 && !unshared {
				return nil, apart(opened[i-1], r)
			}
			c.Steps = append(c.Steps, step)
		} else {
			first = after
		}
		before = after
	}
	if !unshared && !share(first, before) { // signs compare the first run with the last
		return nil, apart(opened[0], opened[len(opened)-1])
	}
	c.Rho = commonRho(all)
	for i, f := range all {
		c.Runs[i].ChosenChars, c.Runs[i].ChosenPairs = chosenChars(f, c.Rho)
	}
	c.Signs = append(signs(&c.Runs[0], &c.Runs[len(c.Runs)-1]), people(c.Runs))
	return c, nil
}

func apart(a, b *runs.Run) error {
	return fmt.Errorf("%s and %s have no prompt in common, so their figures may differ because of the prompts alone; add --unshared to compare them anyway", a.Dir, b.Dir)
}

// share reports whether both runs have a prompt in common.
func share(a, b map[string]prompt) bool {
	for id := range b {
		if _, ok := a[id]; ok {
			return true
		}
	}
	return false
}

func newIteration(r *runs.Run, f *figures.Figures) Iteration {
	it := Iteration{
		Out: r.Dir, Simulated: r.Manifest.Simulated, Judge: f.Models.Judge, Prompts: f.Prompts,
		Responses: f.Scores.Responses, Paired: f.Length.Pairs,
		MeanScore: f.Scores.ResponseMean, Deviation: f.Scores.ResponseDeviation, Spread: f.Scores.Spread, Top: f.Scores.Top,
		Ties: f.Scores.Ties, Variance: f.Scores.Variance,
	}
	for _, u := range f.Scores.Unparsed {
		switch u.Stage {
		case schemas.StageJudge:
			it.UnparsedJudgments = u.Share
		case schemas.StageMeta:
			if u.Texts > 0 {
				it.UnparsedComparisons = &u.Share
			}
		}
	}
	perPrompt := func(role string) *float64 {
		o, ok := r.Manifest.Ledger.Roles[role]
		if !ok {
			return nil
		}
		share := 0.0
		if f.Prompts > 0 {
			share = float64(o.Paired) / float64(f.Prompts)
		}
		return &share
	}
	it.ActorPairs, it.JudgePairs = perPrompt(schemas.RoleActor), perPrompt(schemas.RoleJudge)
	if m := f.Meta; m != nil && m.Verdicts > 0 {
		it.First = &m.First
		if m.HigherWinsOf > 0 {
			it.HigherWins = &m.HigherWins
		}
		if m.BothOrders > 0 {
			conflicts := m.BothFirst + m.BothSecond
			it.Conflicts = &conflicts
		}
	}
	return it
}

// prompt maps a prompt's scored responses by text.
type prompt map[digest]float64

// digest identifies a text.
type digest [16]byte

// mean is rounded to 1e-9, so that it does not depend on the order of the sum.
func (p prompt) mean() float64 {
	scores := make([]float64, 0, len(p))
	for _, s := range p {
		scores = append(scores, s)
	}
	return math.Round(stat.Mean(scores, nil)*1e9) / 1e9
}

type promptID struct {
	ID string `parquet:"id"`
}

type scored struct {
	PromptID  string   `parquet:"prompt_id"`
	Model     string   `parquet:"model,dict"`
	Text      string   `parquet:"text"`
	ScoreMean *float64 `parquet:"score_mean"`
}

// answer identifies a text among the answers to a prompt.
type answer struct {
	promptID string
	text     digest
}

// read returns the scored responses of each prompt, and which of them are answers of the model past.
func read(ctx context.Context, r *runs.Run) (prompts map[string]prompt, past map[answer]bool, err error) {
	prompts, past = map[string]prompt{}, map[answer]bool{}
	err = runs.EachRow[schemas.PromptRow](ctx, r, shards.Prompts, func(p *promptID) error {
		prompts[p.ID] = prompt{}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	err = runs.EachRow[schemas.ResponseRow](ctx, r, shards.Responses, func(row *scored) error {
		if p := prompts[row.PromptID]; p != nil && row.ScoreMean != nil {
			sum := sha256.Sum256([]byte(row.Text))
			text := digest(sum[:len(digest{})])
			p[text] = *row.ScoreMean
			if r.Settings.PoolOf(row.Model) == schemas.RolePast {
				past[answer{row.PromptID, text}] = true
			}
		}
		return nil
	})
	return prompts, past, err
}

// pair is a score in both runs.
type pair struct{ before, after float64 }

// newStep compares two runs. Past are the answers of the model past of the later one.
func newStep(before, after map[string]prompt, past map[answer]bool) Step {
	var step Step
	var prompts, responses, ofPast []pair
	var alike int64
	ids := make([]string, 0, len(after))
	for id := range after {
		if _, ok := before[id]; ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	step.Prompts = int64(len(ids))
	if fewer := min(len(before), len(after)); fewer > 0 {
		step.Overlap = float64(len(ids)) / float64(fewer)
	}
	for _, id := range ids {
		a, b := before[id], after[id]
		if len(a) > 0 && len(b) > 0 {
			prompts = append(prompts, pair{a.mean(), b.mean()})
		}
		var both []pair
		for response, s := range b {
			other, ok := a[response]
			if !ok {
				continue
			}
			both = append(both, pair{other, s})
			if past[answer{id, response}] {
				ofPast = append(ofPast, pair{other, s})
			}
		}
		for i, x := range both {
			for _, y := range both[:i] {
				order := cmp.Compare(x.before, y.before) * cmp.Compare(x.after, y.after)
				if order != 0 {
					step.OrderedPairs++
				}
				if order > 0 {
					alike++
				}
			}
		}
		responses = append(responses, both...)
	}
	step.Responses = int64(len(responses))
	step.PromptRanks, step.ResponseRanks = spearman(prompts), spearman(responses)
	step.PastResponses, step.PastRanks, step.PastShift = int64(len(ofPast)), spearman(ofPast), shift(ofPast)
	if step.OrderedPairs > 0 {
		share := float64(alike) / float64(step.OrderedPairs)
		step.OrderAgreement = &share
	}
	return step
}

// shift returns the mean change, rounded to 1e-9, so that it does not depend on the order of the sum. It is
// nil of nothing.
func shift(pairs []pair) *float64 {
	if len(pairs) == 0 {
		return nil
	}
	sum := 0.0
	for _, p := range pairs {
		sum += p.after - p.before
	}
	mean := math.Round(sum/float64(len(pairs))*1e9) / 1e9
	return &mean
}

// spearman is [rank.Spearman] of at least 3 pairs in any order.
func spearman(pairs []pair) *float64 {
	const least = 3
	if len(pairs) < least {
		return nil
	}
	slices.SortFunc(pairs, func(a, b pair) int { return cmp.Or(cmp.Compare(a.before, b.before), cmp.Compare(a.after, b.after)) })
	before, after := make([]float64, len(pairs)), make([]float64, len(pairs))
	for i, p := range pairs {
		before[i], after[i] = p.before, p.after
	}
	r, ok := rank.Spearman(before, after)
	if !ok {
		return nil
	}
	return &r
}
