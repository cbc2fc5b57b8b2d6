package pairs_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"

	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/judge"
	"coeval/transforms/meta"
	"coeval/transforms/pairs"
	"coeval/transforms/score"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

// worker is a Caller that asks a simulated world in this process. The model's name identifies the
// simulated person.
type worker struct{ world *world.World }

func (w worker) Do(_ context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	for i := range calls {
		c := &calls[i]
		seed, err := strconv.ParseInt(c.Key()[:7], 16, 64)
		if err != nil {
			return nil, err
		}
		q := w.world.Read(c.Messages(), c.Role.Model)
		for k := range c.N {
			said := w.world.Reply(&q, seed+int64(c.First+k), 0)
			out[i] = append(out[i], schemas.Generation{Text: said.Text, Reasoning: said.Reasoning, FinishReason: said.FinishReason})
		}
	}
	return out, nil
}

// iteration runs all stages, with the paper's numbers, on this many prompts.
func iteration(t testing.TB, w world.World, prompts int) []schemas.Dossier {
	t.Helper()
	if err := w.Validate(); err != nil {
		t.Fatal(err)
	}
	stages, errs := make([]stage.Spec, 4), make([]error, 4)
	stages[0], errs[0] = generate.Spec(generate.Options{Role: stage.Role{Name: schemas.RoleActor, Model: "actor"}, StripReasoning: true})
	stages[1], errs[1] = judge.Spec(judge.Options{Role: stage.Role{Name: schemas.RoleJudge, Model: "judge"}, StripReasoning: true})
	stages[2], errs[2] = score.Spec(score.Options{})
	stages[3], errs[3] = meta.Spec(meta.Options{Role: stage.Role{Name: schemas.RoleMetaJudge, Model: "meta"}, StripReasoning: true})
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	chain, err := stage.Chain(stages)
	if err != nil {
		t.Fatal(err)
	}
	dossiers := make([]schemas.Dossier, prompts)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range dossiers {
		messages := []schemas.Message{{Role: "user", Content: fmt.Sprint("Question ", i)}}
		dossiers[i].Prompt = schemas.Prompt{ID: schemas.PromptID(messages), Messages: messages}
		group.Go(func() error { return chain(ctx, worker{&w}, &dossiers[i]) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return dossiers
}

// brief returns a named world whose texts are short, which changes no truth. Its judges round to half
// points, sometimes give no usable answer, and write their last lines in many forms.
func brief(t testing.TB, name string) world.World {
	t.Helper()
	w, err := world.Named(name)
	if err != nil {
		t.Fatal(err)
	}
	w.ResponseChars, w.JudgmentChars, w.ComparisonChars = 300, 0, 0
	return w
}

// share counts how often a condition is true.
type share struct{ yes, all int }

func (s *share) add(holds bool) {
	s.all++
	if holds {
		s.yes++
	}
}

func (s share) of() float64 { return float64(s.yes) / float64(s.all) }

func (s share) String() string { return fmt.Sprintf("%.4f of %d", s.of(), s.all) }

// judgePair returns the two judgments of a selection.
func judgePair(d *schemas.Dossier, c schemas.Selection) (chosen, rejected *schemas.Judgment) {
	contested := d.Contested()
	for i := range contested.Judgments {
		switch j := &contested.Judgments[i]; j.ID {
		case c.ChosenID:
			chosen = j
		case c.RejectedID:
			rejected = j
		}
	}
	return chosen, rejected
}

func runWeights(findings []schemas.Finding) schemas.PositionWeights {
	var all schemas.PositionCounts
	for i := range findings {
		c := pairs.CountPositions(&findings[i])
		all.First += c.First
		all.Second += c.Second
	}
	return pairs.Weights(all)
}

func findingsOf(dossiers []schemas.Dossier) []schemas.Finding {
	findings := make([]schemas.Finding, len(dossiers))
	for i := range dossiers {
		findings[i] = schemas.NewFinding(&dossiers[i])
	}
	return findings
}

// The pairs are compared with what the world knows: is the chosen response really the better
// one, is the chosen judgment's score really nearer to the truth?
//
// The test draws 200 prompts of a world and allows three standard errors, so that a share at
// its bound fails once in 740 draws; the seed is fixed. BenchmarkChaosPairsAgainstTheTruth
// draws 3,000 and allows none.
func TestPairsAgainstTheTruth(t *testing.T) { comparePairsWithTruth(t, 200, 3) }

func BenchmarkChaosPairsAgainstTheTruth(b *testing.B) {
	for b.Loop() {
		comparePairsWithTruth(b, 3000, 0)
	}
}

func comparePairsWithTruth(t testing.TB, prompts int, errors float64) {
	t.Helper()
	tests := []struct {
		world        string
		actor, judge float64 // least shares of pairs that are truly right
		// higher bounds the share of pairs whose chosen judgment has the higher score: above
		// 0.9 a run warns that its judge collapses.
		higher [2]float64
	}{
		{"mild", 0.99, 0.99, [2]float64{0, 0.9}},
		{"moderate", 0.98, 0.99, [2]float64{0, 0.9}},
		{"noisy", 0.95, 0.97, [2]float64{0, 1}},
		{"bad", 0.87, 0.75, [2]float64{0.9, 1}},
	}
	// slack returns this number of standard errors of a share p of n draws.
	slack := func(p float64, n int) float64 { return errors * math.Sqrt(p*(1-p)/float64(n)) }
	for _, tt := range tests {
		w := brief(t, tt.world)
		actor, judged, higher := truth(t, w, prompts)
		t.Logf("%s: actor pairs right %v, judge pairs right %v, higher score chosen %v", tt.world, actor, judged, higher)
		if least := 29.0 / 30; float64(actor.all) < float64(prompts)*(least-slack(least, prompts)) || actor.of() < tt.actor-slack(tt.actor, actor.all) {
			t.Errorf("%s: actor pairs: truly right are %v, want at least %v", tt.world, actor, tt.actor)
		}
		if least := 24.0 / 30; float64(judged.all) < float64(prompts)*(least-slack(least, prompts)) || judged.of() < tt.judge-slack(tt.judge, judged.all) {
			t.Errorf("%s: judge pairs: truly right are %v, want at least %v", tt.world, judged, tt.judge)
		}
		if h := higher.of(); h < tt.higher[0]-slack(tt.higher[0], higher.all) || h > tt.higher[1]+slack(tt.higher[1], higher.all) {
			t.Errorf("%s: the chosen judgment has the higher score in %v, want %v", tt.world, higher, tt.higher)
		}
	}
}

// truth returns the shares of pairs of an iteration that are truly right, and of judge pairs
// whose chosen judgment has the higher score.
func truth(t testing.TB, w world.World, prompts int) (actor, judged, higher share) {
	t.Helper()
	dossiers := iteration(t, w, prompts)
	findings := findingsOf(dossiers)
	run := runWeights(findings)
	for i := range dossiers {
		d, f := &dossiers[i], &findings[i]
		checkRho(t, f)
		if c := pairs.Actor(f, pairs.ActorOptions{}); c.Outcome == schemas.Paired {
			actor.add(quality(t, &w, d, c.ChosenID) > quality(t, &w, d, c.RejectedID))
		}
		if c := pairs.Judge(f, run, pairs.JudgeOptions{}); c.Outcome == schemas.Paired {
			chosen, rejected := judgePair(d, c)
			judged.add(gap(t, &w, chosen, rejected) > 0)
			higher.add(chosen.Score > rejected.Score)
		}
	}
	return actor, judged, higher
}

func quality(t testing.TB, w *world.World, d *schemas.Dossier, id string) float64 {
	t.Helper()
	for i := range d.Responses {
		if d.Responses[i].ID == id {
			q, ok := w.Quality(d.Responses[i].Text)
			if !ok {
				t.Fatalf("response %s is none of this world's", id)
			}
			return q
		}
	}
	t.Fatalf("no response %s", id)
	return 0
}

// gap returns by how many points the chosen judgment is nearer to the truth.
func gap(t testing.TB, w *world.World, chosen, rejected *schemas.Judgment) float64 {
	t.Helper()
	c, ok1 := w.Error(chosen.Text)
	r, ok2 := w.Error(rejected.Text)
	if !ok1 || !ok2 {
		t.Fatalf("judgment %s or %s is none of this world's", chosen.ID, rejected.ID)
	}
	return r - c
}

// checkRho checks that len(chosen) − len(rejected) never rises with ρ.
func checkRho(t testing.TB, f *schemas.Finding) {
	t.Helper()
	chars := map[string]int{}
	for _, r := range f.Responses {
		chars[r.ID] = r.Chars
	}
	before := math.MaxInt
	for _, rho := range []float64{0, 0.1, 0.2, 0.32, 0.4, 0.499999} {
		c := pairs.Actor(f, pairs.ActorOptions{Rho: rho})
		if c.Outcome != schemas.Paired {
			return
		}
		over := chars[c.ChosenID] - chars[c.RejectedID]
		if over > before {
			t.Errorf("prompt %s, rho %v: len(chosen) − len(rejected) rose from %d to %d", f.PromptID, rho, before, over)
		}
		before = over
	}
}

// gains returns the mean by which the run's position weights raise the true gap of judge pairs
// over equal weights, and its standard error, over the prompts that have a pair with both.
func gains(t testing.TB, w world.World, prompts int) (mean, standardError float64) {
	t.Helper()
	dossiers := iteration(t, w, prompts)
	findings := findingsOf(dossiers)
	run := runWeights(findings)
	even := schemas.PositionWeights{First: 0.5, Second: 0.5}
	var n, sum, squares float64
	for i := range dossiers {
		with, without := pairs.Judge(&findings[i], run, pairs.JudgeOptions{}), pairs.Judge(&findings[i], even, pairs.JudgeOptions{})
		if with.Outcome != schemas.Paired || without.Outcome != schemas.Paired {
			continue
		}
		a, b := judgePair(&dossiers[i], with)
		c, d := judgePair(&dossiers[i], without)
		gain := gap(t, &w, a, b) - gap(t, &w, c, d)
		n, sum, squares = n+1, sum+gain, squares+gain*gain
	}
	mean = sum / n
	standardError = math.Sqrt((squares/n - mean*mean) / n)
	t.Logf("w1 %.3f: the weights raise the gap by %.4f ± %.4f points over %.0f prompts", run.First, mean, standardError, n)
	return mean, standardError
}

// If one of the two orders is missing, a win in first place is weak evidence from a meta-judge that
// prefers the first: the weights discount it. If both are present, the weights hardly matter.
//
// The test draws 150 prompts and allows three standard errors; the benchmark draws 1,000 and
// wants a lower 95 % bound above 0.
func TestPositionWeightsAgainstTheTruth(t *testing.T) { comparePositionWeights(t, 150, -3) }

func BenchmarkChaosPositionWeightsAgainstTheTruth(b *testing.B) {
	for b.Loop() {
		comparePositionWeights(b, 1000, 1.96)
	}
}

func comparePositionWeights(t testing.TB, prompts int, errors float64) {
	t.Helper()
	w := brief(t, "moderate")
	w.FirstBias, w.MetaSlope, w.MetaUnparsed, w.MetaCutOff = 3, 1.5, 0.3, 0
	if mean, standardError := gains(t, w, prompts); mean-errors*standardError <= 0 {
		t.Errorf("30 %% of the verdicts missing: the weights gain %.4f ± %.4f points, want more than %.2f standard errors", mean, standardError, errors)
	}
	// Conflicts alone can change a pair here. A twentieth of a point is a tenth of the judge's step.
	w.MetaUnparsed = 0
	if mean, standardError := gains(t, w, prompts); math.Abs(mean) > 0.05+max(0, -errors)*standardError {
		t.Errorf("every verdict present: the weights gain %.4f points, want next to nothing", mean)
	}
}
