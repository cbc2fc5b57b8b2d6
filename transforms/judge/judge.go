// Package judge requests N judgments of every complete response and parses their scores. With [Options.Reads]
// it reads the score of every complete response from the probabilities of one token, and requests judgments of
// the contested response alone.
//
// The judge sees a rubric of five points, the conversation and the response. Each text stands between tags that
// no quoted text can close. The judge gives its reasons and ends with a line "Score: <points>"; see
// [Template.Messages] and package points. A read is a request for one token of the same judge.
//
// The package promises:
//
//   - The judgments of a response are in the order of their replicates.
//   - A judgment without a score is kept, with its reason.
//   - A call that fails for good becomes an entry of Dossier.Failures with the response.
//
// It does not decide whether a response has enough judgments: package score does.
package judge

import (
	"context"
	"encoding/json"
	"fmt"

	"coeval/schemas"
	"coeval/transforms/judge/points"
	"coeval/transforms/prompting"
	"coeval/transforms/stage"
)

func init() {
	stage.Register(schemas.StageJudge, decodeStage)
	stage.Register(schemas.StageReads, decodeStage)
}

// Options configure the judge.
type Options struct {
	// Role is the judge. Required.
	Role stage.Role `json:"role"`
	// N is the number of judgments of a response, 1 to 256. More make the mean surer and give
	// the meta-judge more to compare, at N·(N−1) comparisons. Zero means 11.
	N int `json:"n"`
	// StripReasoning removes reasoning from a judgment before it is parsed. Zero means that
	// they stay in the text.
	StripReasoning bool `json:"strip_reasoning"`
	// Template is the source of a text/template that shows .Conversation or .Question, and
	// .Response; see docs/examples/templates. Empty means the built-in one, and
	// [BuiltIn2026November] the one before it.
	Template string `json:"template,omitempty"`
	// Rubric is what .Rubric shows to the judge and to the meta-judge. Empty means [Rubric].
	Rubric string `json:"rubric,omitempty"`
	// Scale is the range of the scores. The zero value means [points.FivePoints].
	Scale points.Scale `json:"scale,omitzero"`
	// Pattern is a regular expression whose one group is the score, in its last match in a
	// judgment. Empty means that a score line is read; see [points.Parser].
	Pattern string `json:"pattern,omitempty"`
	// Reads is the number of reads of every complete response, 1 to 256: requests for one token, which
	// come before judgments. Only the contested response is then judged. Zero means none.
	Reads int `json:"reads,omitempty"`
	// ReadMinMass is the field MinMass of [stage.Read].
	ReadMinMass float64 `json:"read_min_mass,omitempty"`
	// Rounds requests more than N judgments of the contested response, in rounds, with Reads. Nil requests N at once.
	Rounds *Rounds `json:"rounds,omitempty"`
}

func (o Options) withDefaults() Options {
	if o.N == 0 {
		o.N = 11
	}
	if o.Scale == (points.Scale{}) {
		o.Scale = points.FivePoints
	}
	if o.Rounds != nil {
		o.Rounds = new(o.Rounds.withDefaults())
	}
	return o
}

// MaxN returns the largest number of judgments of a response.
func (o Options) MaxN() int {
	if o = o.withDefaults(); o.Rounds != nil {
		return max(o.N, o.Rounds.Max)
	}
	return o.N
}

func (o Options) validate() error {
	if o.Role.Name != schemas.RoleJudge {
		return fmt.Errorf("judge: role.name is %q; allowed is %s", o.Role.Name, schemas.RoleJudge)
	}
	if o.N < 1 || o.N > 256 {
		return fmt.Errorf("judge: n is %d; allowed is 1 to 256", o.N)
	}
	if o.Reads < 0 || o.Reads > 256 {
		return fmt.Errorf("judge: reads is %d; allowed is 0 to 256", o.Reads)
	}
	if o.Rounds != nil {
		if o.Reads == 0 {
			return fmt.Errorf("judge: rounds are set without reads; they need the reads of the contested response")
		}
		if err := o.Rounds.validate(o.N); err != nil {
			return err
		}
	}
	return o.Scale.Validate()
}

// Parser returns the parser of the judgments that are made with the options. It returns an
// error if the scale or the pattern is invalid.
func (o Options) Parser() (*points.Parser, error) {
	o = o.withDefaults()
	return points.NewParser(o.Scale, o.Pattern, o.Role.Verdict != nil)
}

// ReadOptions returns the options of the reads: those of o, with a role that requests a token. It
// returns an error if the scale has fewer than two whole points.
func (o Options) ReadOptions() (Options, error) {
	labels, _ := o.Scale.Labels()
	if len(labels) < 2 {
		return o, fmt.Errorf("judge: a scale of %s to %s has %d whole points; a read needs at least 2", points.Format(o.Scale.Min), points.Format(o.Scale.Max), len(labels))
	}
	o.N, o.Reads, o.Rounds = o.Reads, 0, nil
	o.Role.Verdict, o.Role.Stop, o.Role.MaxTokens = nil, nil, 1
	o.Role.Read = &stage.Read{Labels: labels, MinMass: o.ReadMinMass}
	return o, nil
}

// ReadSpec returns the stage that reads every complete response o.Reads times, for a chain. Of o.N
// judgments it requests none: they follow in the stage of [Spec]. It returns an error if o is invalid.
func ReadSpec(o Options) (stage.Spec, error) {
	reads, err := o.ReadOptions()
	if err != nil {
		return stage.Spec{}, err
	}
	if _, err := Stage(reads); err != nil {
		return stage.Spec{}, err
	}
	return stage.NewSpec(schemas.StageReads, reads)
}

// Spec returns the stage with its options, for a chain. It returns an error if o is invalid.
func Spec(o Options) (stage.Spec, error) {
	if _, err := Stage(o); err != nil {
		return stage.Spec{}, err
	}
	return stage.NewSpec(schemas.StageJudge, o)
}

// Stage returns the stage that adds to every complete response its judgments, all requested
// at once, or its reads if the role requests a token. With o.Reads it adds judgments to the contested
// response alone, with o.Rounds in rounds. It returns an error if o is invalid.
func Stage(o Options) (stage.Stage, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	t, err := ParseTemplate(o)
	if err != nil {
		return nil, err
	}
	parser, err := o.Parser()
	if err != nil {
		return nil, err
	}
	return (&judging{Options: o, template: t, parser: parser}).judge, nil
}

func decodeStage(options json.RawMessage) (stage.Stage, error) {
	var o Options
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("judge: options: %w", err)
	}
	return Stage(o)
}

// judging is the stage: the options with the template and the parser that they come to.
type judging struct {
	Options

	template Template
	parser   *points.Parser
}

func (s *judging) judge(ctx context.Context, c stage.Caller, d *schemas.Dossier) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	conversation := prompting.NewConversation(d.Prompt.Messages)
	if s.Rounds != nil {
		d.Judging = nil
		return s.inRounds(ctx, c, d, conversation, stop)
	}
	var calls []stage.Call
	var judged []*schemas.Response
	for i := range d.Responses {
		r := &d.Responses[i]
		if r.Status == schemas.Complete && (s.Reads == 0 || r.ID == d.ContestedID) {
			calls = append(calls, s.call(&d.Prompt, conversation, r.Text, stop))
			judged = append(judged, r)
		}
	}
	if len(calls) == 0 {
		return nil
	}
	said, err := stage.Do(ctx, c, calls)
	if err != nil {
		return err
	}
	for i, r := range judged {
		if s.Role.Read != nil {
			s.readValues(d, r, said[i])
			continue
		}
		r.Judgments = nil
		s.read(d, r, 0, said[i])
	}
	return nil
}

// readValues turns the probabilities of the labels into the reads of a response.
func (s *judging) readValues(d *schemas.Dossier, r *schemas.Response, said []schemas.Generation) {
	_, values := s.Scale.Labels()
	r.Reads = nil
	for replicate, g := range said {
		if g.Code != "" {
			d.Fail(schemas.StageReads, replicate, g, schemas.Failure{ResponseID: r.ID})
			continue
		}
		read := s.Role.Read.Value(&g, values)
		read.Replicate = replicate
		r.Reads = append(r.Reads, read)
	}
}

// stageName is the stage of the calls.
func (s *judging) stageName() string {
	if s.Role.Read != nil {
		return schemas.StageReads
	}
	return schemas.StageJudge
}

// call returns the call for the judgments of one response. A template that fails stops the stage.
func (s *judging) call(p *schemas.Prompt, c *prompting.Conversation, response string, stop context.CancelCauseFunc) stage.Call {
	inputs := []string{s.template.Digest(), p.ID, schemas.Digest(response)}
	if s.template.asksMetadata {
		inputs = append(inputs, schemas.Digest(p.Metadata))
	}
	return stage.Call{
		Role: &s.Role, Stage: s.stageName(), PromptID: p.ID, N: s.N, Inputs: inputs,
		Messages: func() []schemas.Message {
			messages, err := s.template.render(c, p.Metadata, response)
			if err != nil {
				stop(fmt.Errorf("prompt %s: %w", p.ID, err))
			}
			return messages
		},
	}
}

// read parses a judge's answers about a response and adds them to its judgments. First is the replicate of the
// first answer.
func (s *judging) read(d *schemas.Dossier, r *schemas.Response, first int, said []schemas.Generation) {
	for i, g := range said {
		replicate := first + i
		if g.Code != "" {
			d.Fail(schemas.StageJudge, replicate, g, schemas.Failure{ResponseID: r.ID})
			continue
		}
		text, reasoning, cut := s.Role.ReadText(g, s.StripReasoning)
		finish := g.FinishReason
		if cut {
			finish = stage.FinishLength
		}
		score, unparsed := s.parser.Parse(text, finish)
		r.Judgments = append(r.Judgments, schemas.Judgment{
			ID:        schemas.JudgmentID(r.ID, s.Role.Identity(), replicate, text),
			Replicate: replicate,
			Text:      text, Reasoning: reasoning,
			Score: score, Unparsed: unparsed,
			PromptTokens: g.PromptTokens,
		})
	}
	markDistinct(r.Judgments)
}

// markDistinct marks, of every text that was parsed, the judgment with the lowest replicate.
// The judgments are in the order of their replicates.
func markDistinct(judgments []schemas.Judgment) {
	seen := map[string]bool{}
	for i := range judgments {
		j := &judgments[i]
		j.Distinct = j.Unparsed == "" && !seen[j.Text]
		seen[j.Text] = seen[j.Text] || j.Distinct
	}
}
