package pages

import (
	"fmt"
	"math"

	"coeval/runners/figures"
	"coeval/runners/summary"
	"coeval/schemas"
)

// The thresholds of the report's own checks; package summary has the others.
const (
	// maxTop is the share of judgments that may give the highest score.
	maxTop = 0.4
	// maxFirst bounds the share of verdicts for the judgment shown first, from both sides.
	maxFirst = 0.65
	// minConsistent is the share of pairs with the same winner in both orders.
	minConsistent = 0.55
	// maxWithin is the correlation of score and length among answers to one prompt.
	maxWithin = 0.4
	// minControlled is the win share at equal length.
	minControlled = 0.7
	// minComplete is the share of a model's responses that end by themselves.
	minComplete = 0.8
	// maxFormat is the difference between the shares of chosen and of rejected texts with Markdown, from
	// both sides.
	maxFormat = 0.5
)

// A check is a figure with its threshold.
type check struct {
	Name, Value, Threshold string
	// Known is false for a figure that the run doesn't have, Look is true for one over its threshold.
	Known, Look bool
	// Warning is the sentence for Look. It is empty where package summary has one.
	Warning string
}

// checksOf lists every figure with a threshold.
func checksOf(s *summary.Summary, f *figures.Figures) []check {
	out := []check{
		topCheck(&f.Scores),
		reliabilityCheck(f.Reliability),
		crossFitCheck(f.CrossFit),
		withinCheck(&f.Length),
		controlCheck(f.Length.Control),
	}
	for _, r := range roles(s) {
		out = append(out, lengthCheck(r))
	}
	for _, stage := range []string{schemas.StageJudge, schemas.StageMeta} {
		u, known := s.UnparsedByStage[stage]
		if stage == schemas.StageMeta && s.Judge == nil {
			continue
		}
		out = append(out, check{
			Name: "Unparsed texts of stage " + stage, Value: percent(u), Threshold: "at most " + percent(summary.MaxUnparsed),
			Known: known, Look: u > summary.MaxUnparsed,
		})
	}
	out = append(out, poolChecks(f.Pools)...)
	if s.Judge != nil {
		out = append(out, collapseChecks(s.Collapse)...)
		out = append(out, metaChecks(f.Meta)...)
	}
	return out
}

func topCheck(s *figures.Scores) check {
	whose := ""
	if s.Reads {
		whose = " of contested responses"
	}
	c := check{Name: "Judgments" + whose + " with the highest score", Value: percent(s.Top), Threshold: "at most " + percent(maxTop), Known: s.Judgments > 0, Look: s.Top > maxTop}
	if c.Look {
		c.Warning = fmt.Sprintf("%s of the judgments%s give the highest score (more than %s), so the scale has no room for better answers: use a stricter rubric in judge.template, or another judge", percent(s.Top), whose, percent(maxTop))
	}
	return c
}

func reliabilityCheck(r *figures.Reliability) check {
	c := check{Name: "Reliability of S within a prompt", Threshold: fmt.Sprintf("at least %.2f", figures.EnoughReliability)}
	if r == nil || r.Within == nil {
		return c
	}
	c.Known, c.Value, c.Look = true, points(*r.Within), *r.Within < figures.EnoughReliability
	if c.Look {
		c.Warning = fmt.Sprintf("the mean scores of answers to one prompt have the reliability %.2f (less than %.2f), so the selected pairs follow noise of the judge: %s", *r.Within, figures.EnoughReliability, neededJudgments(r))
	}
	return c
}

// maxAdvised is the largest number of judgments that a report proposes.
const maxAdvised = 64

func neededJudgments(r *figures.Reliability) string {
	if r.Needed == nil || *r.Needed > maxAdvised {
		return "more judgments (judge.n) do not help; use another judge or rubric"
	}
	return fmt.Sprintf("raise judge.n to about %.0f", math.Ceil(*r.Needed))
}

func crossFitCheck(c *figures.CrossFit) check {
	out := check{Name: "Cross-fitted margin of actor pairs", Threshold: "above 0 points"}
	if c == nil {
		return out
	}
	out.Known, out.Value, out.Look = true, signed(c.Margin, 2)+" points", c.Margin <= 0
	if out.Look {
		out.Warning = fmt.Sprintf("judgments that did not choose the pairs see a margin of %s points: the pairs are noise of the judge; raise judge.n, or use another judge", signed(c.Margin, 2))
	}
	return out
}

func withinCheck(l *figures.Length) check {
	c := check{Name: "Correlation of score and length within a prompt", Value: points(l.CorrelationWithin), Threshold: fmt.Sprintf("at most %.2f", maxWithin), Known: l.LongerWinsOf > 0, Look: l.CorrelationWithin > maxWithin}
	if c.Look {
		c.Warning = fmt.Sprintf("among answers to one prompt, score and length correlate at %.3f (more than %.2f), so the judge may take length for quality: see what a larger method.rho would have done", l.CorrelationWithin, maxWithin)
	}
	return c
}

func controlCheck(c *figures.Control) check {
	out := check{Name: "Win share of the chosen response at equal length", Threshold: "at least " + percent(minControlled)}
	if c == nil {
		return out
	}
	out.Known, out.Value, out.Look = true, percent(c.Controlled), c.Controlled < minControlled
	if out.Look {
		out.Warning = fmt.Sprintf("at equal length a single judgment prefers the chosen response in only %s of cases (less than %s), so the pairs carry little: use a smaller method.rho, a larger method.min_margin or more judgments (judge.n)", percent(c.Controlled), percent(minControlled))
	}
	return out
}

// poolChecks are about each model beside the actor: do its responses end, and do the pairs that it is
// in differ by more than format?
func poolChecks(p *figures.Pools) []check {
	if p == nil {
		return nil
	}
	var out []check
	for i := range p.Sources {
		s := &p.Sources[i]
		if s.Role == schemas.RoleActor {
			continue
		}
		complete := check{
			Name: "Complete responses of " + s.Role, Value: percent(s.Complete), Threshold: "at least " + percent(minComplete),
			Known: s.Responses > 0, Look: s.Responses > 0 && s.Complete < minComplete,
		}
		if complete.Look {
			complete.Warning = fmt.Sprintf("only %s of the responses of %s are complete (less than %s), so its judged ones are a selection: raise actor.max_tokens, or use another checkpoint as %s", percent(s.Complete), s.Role, percent(minComplete), s.Role)
		}
		out = append(out, complete, formatCheck(s.Role, p.Pairs))
	}
	return out
}

// formatCheck compares the format of both sides of the pairs with a response of a role.
func formatCheck(role string, pairs []figures.SourcePairs) check {
	c := check{Name: "Markdown in chosen less rejected texts, in pairs with " + role, Threshold: "at most " + percent(maxFormat) + " apart"}
	var chosen, rejected, all float64
	for i := range pairs {
		if p := &pairs[i]; p.Chosen == role || p.Rejected == role {
			n := float64(p.Pairs)
			chosen, rejected, all = chosen+n*p.ChosenMarkdown, rejected+n*p.RejectedMarkdown, all+n
		}
	}
	if all == 0 {
		return c
	}
	apart := (chosen - rejected) / all
	c.Known, c.Value, c.Look = true, signed(100*apart, 1)+"\u00a0%", math.Abs(apart) > maxFormat
	if c.Look {
		c.Warning = fmt.Sprintf("in pairs with a response of %s, %s of the chosen and %s of the rejected texts have headers, lists or bold words: such pairs teach format; read some of them, and use another checkpoint as %s", role, percent(chosen/all), percent(rejected/all), role)
	}
	return c
}

func lengthCheck(r namedRole) check {
	c := check{Name: "Length difference of the " + r.name + "'s pairs", Threshold: "at most " + percent(summary.MaxLength) + " of the mean length"}
	if r.role.Paired == 0 || r.role.MeanLength == 0 {
		return c
	}
	part := r.role.LengthDifference / r.role.MeanLength
	c.Known, c.Value, c.Look = true, signed(100*part, 1)+"\u00a0%", math.Abs(part) > summary.MaxLength
	return c
}

func collapseChecks(c *summary.Collapse) []check {
	higher := check{Name: "Judge pairs whose chosen judgment scores higher", Threshold: "at most " + percent(summary.MaxHigher)}
	one := check{Name: "Commonest score of chosen judgments", Threshold: "at most " + percent(summary.MaxOneScore) + " of the judge pairs"}
	if c == nil {
		return []check{higher, one}
	}
	higher.Known, higher.Value, higher.Look = true, percent(c.HigherChosen), c.HigherChosen > summary.MaxHigher
	most := 0.0
	for _, s := range c.ChosenScores {
		if s.Share > most {
			most = s.Share
			one.Value = fmt.Sprintf("%g in %s", s.Score, percent(s.Share))
		}
	}
	one.Known, one.Look = true, most > summary.MaxOneScore
	return []check{higher, one}
}

func metaChecks(m *figures.Meta) []check {
	first := check{Name: "Verdicts for the judgment shown first", Threshold: "between " + percent(1-maxFirst) + " and " + percent(maxFirst)}
	consistent := check{Name: "Same winner in both orders", Threshold: "at least " + percent(minConsistent)}
	if m == nil || m.Verdicts == 0 {
		return []check{first, consistent}
	}
	first.Known, first.Value, first.Look = true, percent(m.First), m.First > maxFirst || m.First < 1-maxFirst
	if first.Look {
		first.Warning = fmt.Sprintf("the judgment shown first wins %s of the verdicts (outside %s to %s), so the meta-judge follows position: the weights balance that where both orders are present; a stronger meta_judge.model does better", percent(m.First), percent(1-maxFirst), percent(maxFirst))
	}
	if m.BothOrders > 0 {
		consistent.Known, consistent.Value, consistent.Look = true, percent(m.Consistent), m.Consistent < minConsistent
	}
	if consistent.Look {
		consistent.Warning = fmt.Sprintf("only %s of the pairs of judgments have the same winner in both orders (less than %s; chance gives 50\u00a0%%), so judge pairs carry little: use a lower meta_judge.temperature or a stronger meta_judge.model", percent(m.Consistent), percent(minConsistent))
	}
	return []check{first, consistent}
}

// warningsOf are the warnings of checks.
func warningsOf(checks []check) []string {
	var out []string
	for _, c := range checks {
		if c.Warning != "" {
			out = append(out, c.Warning)
		}
	}
	return out
}
