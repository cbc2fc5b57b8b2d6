// Package reads finds the form in which a server answers reads: requests for the probabilities of a role's
// labels as the next token. It tests the forms with short requests: first logprob_token_ids, which reports
// every label, then top_logprobs, which most servers have. SGLang's /generate, which also reports every label,
// replaces top_logprobs if both answer the test request alike. For /generate, [Post] first has the server turn
// the chat into tokens, and then posts the read with these tokens.
package reads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"coeval/schemas"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/logprobs"
	"coeval/transforms/fleet/transport"
	"coeval/transforms/stage"
)

const (
	// maxNeutralMass bounds the probability of labels as the beginning of an unrelated text. Under a mask
	// they have all of the probability.
	maxNeutralMass = 0.9
	// maskedLogProb is below all log-probabilities of a model: servers report tokens that a mask has
	// excluded with −9999 or less.
	maskedLogProb = -1000
	// maxAnswer bounds an answer of a few tokens, maxTokens the tokens of a rendered prompt, in bytes.
	maxAnswer, maxTokens = 1 << 20, 64 << 20
	// repeatTokens are enough for a label in several tokens.
	repeatTokens = 4
)

// A Probe finds how one endpoint answers the reads of one role.
type Probe struct {
	Endpoint *endpoint.Endpoint
	Role     *stage.Role
	// Ask requests the beginning of a text about content, with these fields in the body, of at most so many tokens. It
	// returns no generation if the endpoint doesn't answer. The error stops the run.
	Ask func(ctx context.Context, content, fields string, tokens int) (g *schemas.Generation, body []byte, err error)

	// silent is true after the endpoint has not answered.
	silent bool
	// asked is the last text that has nothing to do with the labels, answered the chat completion about it, and
	// reported the tokens in it.
	asked    string
	answered *schemas.Generation
	reported []stage.TokenLogProb
}

// Find returns the form in which the endpoint answers the reads. It returns false if the endpoint does not
// answer. It first requests the labels' tokens from the tokenizer and tries
// logprob_token_ids. The answer must report the labels although the text makes them unlikely. Otherwise
// it tries top_logprobs. The test texts have nothing to do with the labels, so labels with all of the
// probability reveal a mask. SGLang's own API replaces top_logprobs if both answer the test request alike.
// If no form works, Find returns an error, which stops the run.
func (p *Probe) Find(ctx context.Context) (form logprobs.Form, ok bool, err error) {
	if form, err = p.labelTokens(ctx); err != nil {
		return form, false, err
	}
	labels, works := form, false
	if len(labels.IDs) > 0 {
		if works, err = p.tryIDs(ctx, form); err != nil || p.silent {
			return form, false, err
		}
	}
	if !works {
		if form, err = p.findTop(ctx); err != nil || p.silent {
			return form, false, err
		}
		if labels.IDs == nil { // the tokens of the labels are not known
			err = p.checkRepeats(ctx)
		} else if labels.Generate = true; p.tryGenerate(ctx, labels) {
			form = labels
		}
		if err = cmp.Or(err, ctx.Err()); err != nil || p.silent {
			return form, false, err
		}
	}
	return form, true, nil
}

// problem returns the error that stops the run: the cause, and the next step.
func (p *Probe) problem(found string) error {
	return fmt.Errorf("%s cannot answer reads of %s: %s. Set %s.verdict: reasoned, or serve the model with another server", p.Endpoint.Name, p.Role.Model, found, p.Role.Name)
}

// ask is Ask, and remembers whether the endpoint answered.
func (p *Probe) ask(ctx context.Context, content, fields string, tokens int) (g *schemas.Generation, body []byte, err error) {
	g, body, err = p.Ask(ctx, content, fields, tokens)
	p.silent = p.silent || g == nil && err == nil
	return g, body, err
}

// neutral asks for the first token of a text that has nothing to do with the labels.
func (p *Probe) neutral(ctx context.Context, fields string) (*schemas.Generation, []stage.TokenLogProb, error) {
	p.asked = "Say OK. " + uuid.NewString()
	g, body, err := p.ask(ctx, p.asked, fields, 1)
	if g == nil || err != nil {
		return nil, nil, err
	}
	p.answered, p.reported = g, openai.Reported(body)
	return g, p.reported, nil
}

// tryIDs reports whether the server reports exactly the tokens that are asked for.
func (p *Probe) tryIDs(ctx context.Context, form logprobs.Form) (bool, error) {
	g, tokens, err := p.neutral(ctx, form.Fields())
	if err != nil || g == nil || g.Code != "" || len(tokens) < 1+len(form.IDs) {
		return false, err
	}
	found := p.Role.Read.Sum(tokens)
	if len(found) < len(p.Role.Read.Labels) {
		return false, nil // it reports the most likely tokens instead
	}
	return true, p.checkMask(tokens)
}

// findTop finds the number of likely tokens that the server reports, at most MaxTop.
func (p *Probe) findTop(ctx context.Context) (logprobs.Form, error) {
	form := logprobs.Form{Top: logprobs.MaxTop}
	for {
		g, tokens, err := p.neutral(ctx, form.Fields())
		if err != nil || g == nil {
			return form, err
		}
		if g.Code != "" {
			limit, ok := logprobs.TopLimit(g.Message, form.Top)
			if !ok {
				return form, p.problem("it refuses logprobs with top_logprobs (" + g.Message + ")")
			}
			form.Top = limit
			continue
		}
		if len(tokens) == 0 {
			return form, p.problem("it ignores logprobs and top_logprobs, and returns texts without log-probabilities")
		}
		if err := p.checkReasoning(g, tokens); err != nil {
			return form, err
		}
		if err := p.checkMask(tokens); err != nil {
			return form, err
		}
		if reported := len(tokens) - 1; reported < len(p.Role.Read.Labels) {
			return form, p.problem(fmt.Sprintf("it reports the log-probabilities of at most %d tokens, and a read of the %s has the %d labels %s",
				reported, p.Role.Name, len(p.Role.Read.Labels), strings.Join(p.Role.Read.Labels, ", ")))
		}
		return form, nil
	}
}

// checkMask returns an error if the probabilities were computed after a mask, which hides how likely
// the labels are.
func (p *Probe) checkMask(tokens []stage.TokenLogProb) error {
	masked := slices.ContainsFunc(tokens, func(t stage.TokenLogProb) bool { return t.LogProb <= maskedLogProb })
	mass := 0.0
	for _, x := range p.Role.Read.Sum(tokens) {
		mass += math.Exp(x)
	}
	if masked || mass > maxNeutralMass {
		return p.problem("it reports log-probabilities after a grammar's mask, where the labels have all of the probability. Reads must be unconstrained")
	}
	return nil
}

// checkReasoning returns an error if a text begins with reasoning.
func (p *Probe) checkReasoning(g *schemas.Generation, tokens []stage.TokenLogProb) error {
	if g.Reasoning == "" && !stage.BeginsThoughts(tokens[0].Token, p.Role.ReasoningTags...) {
		return nil
	}
	return p.problem("it begins its texts with reasoning, so that the first token is no label. Switch reasoning off, as with extra_body: {chat_template_kwargs: {enable_thinking: false}}")
}

// checkRepeats makes the model repeat the longest label, and returns an error if the label arrives as
// several tokens. If the model writes something else, the test is inconclusive, and the share of
// unparsed reads will show the problem.
func (p *Probe) checkRepeats(ctx context.Context) error {
	label := slices.MaxFunc(p.Role.Read.Labels, func(a, b string) int { return len(a) - len(b) })
	form := logprobs.Form{Top: 1}
	g, body, err := p.ask(ctx, "Repeat this and write nothing else: "+label, form.Fields(), repeatTokens)
	if err != nil || g == nil {
		return err
	}
	written := openai.Written(body)
	if len(written) == 0 || !strings.HasPrefix(strings.TrimSpace(g.Text), label) {
		return nil
	}
	if one, ok := p.Role.Read.LabelOf(written[0]); ok && one == label || strings.HasPrefix(strings.TrimSpace(written[0]), label) {
		return nil
	}
	return p.severalTokens(label, len(written))
}

func (p *Probe) severalTokens(label string, tokens int) error {
	return p.problem(fmt.Sprintf("its vocabulary writes the label %q as several tokens (%d), and a read is one token", label, tokens))
}

// labelTokens returns the tokens that spell the labels, with or without a space before it. It returns none if
// the server has no tokenizer that answers, and an error if a label is no single token.
func (p *Probe) labelTokens(ctx context.Context) (logprobs.Form, error) {
	var form logprobs.Form
	for _, label := range p.Role.Read.Labels {
		found, fewest := false, 0
		for _, spelling := range []string{label, " " + label} {
			tokens := p.tokenize(ctx, spelling)
			if tokens == nil {
				return logprobs.Form{}, ctx.Err()
			}
			if fewest == 0 || len(tokens) < fewest {
				fewest = len(tokens)
			}
			if len(tokens) == 1 {
				found = true
				add(&form, tokens[0], spelling)
			}
		}
		if !found {
			return logprobs.Form{}, p.severalTokens(label, fewest)
		}
	}
	return form, nil
}

// add adds a token to a form that does not have it yet.
func add(form *logprobs.Form, id int64, spelling string) {
	if !slices.Contains(form.IDs, id) {
		form.IDs, form.Spellings = append(form.IDs, id), append(form.Spellings, spelling)
	}
}

// tokenize returns the tokens of a short text, nil if the server has no tokenizer of texts.
func (p *Probe) tokenize(ctx context.Context, text string) []int64 {
	e := p.Endpoint
	a, err := e.PostTo(ctx, e.URLBeside(logprobs.TokenizePath), logprobs.AppendTokenize(nil, p.Role.Model, text), maxAnswer, endpoint.ListTimeout)
	if err != nil || a.Status != http.StatusOK {
		return nil
	}
	tokens := logprobs.ReadTokens(a.Body)
	if len(tokens) > 2*utf8.RuneCountInString(text)+2 {
		return nil
	}
	return tokens
}

const (
	// maxWitnesses bounds the likely tokens of which two forms must report the same probability.
	maxWitnesses = 5
	// minWitness is the least probability of such a token, minWitnessed that of all together.
	minWitness, minWitnessed = 0.01, 0.1
	// maxDisagreement is above the error of a probability between two batches of a model in 16 bits.
	maxDisagreement = 0.05
)

// tryGenerate reports whether the server answers reads by /generate as the chat completion answers them: it
// counts as many tokens in the prompt of the last text, and gives the likeliest tokens the same probability. So the
// prompt is the chat's, and the adapter the same. It must report all labels, without a mask.
func (p *Probe) tryGenerate(ctx context.Context, labels logprobs.Form) bool {
	if !logprobs.Renderable(p.Role) {
		return false
	}
	form := logprobs.Form{Generate: true, IDs: slices.Clone(labels.IDs), Spellings: slices.Clone(labels.Spellings)}
	witnesses, witnessed := map[string]float64{}, 0.0
	for _, t := range p.reported[1:] {
		probability := math.Exp(t.LogProb)
		if _, ok := witnesses[t.Token]; ok || probability < minWitness || len(witnesses) == maxWitnesses {
			continue
		}
		if tokens := p.tokenize(ctx, t.Token); len(tokens) == 1 {
			add(&form, tokens[0], t.Token)
			witnesses[t.Token] = probability
			witnessed += probability
		}
	}
	if witnessed < minWitnessed {
		return false
	}
	found, promptTokens := p.generate(ctx, form)
	if len(found) != len(form.IDs) || promptTokens != p.answered.PromptTokens || p.checkMask(found) != nil {
		return false
	}
	for _, t := range found {
		if want, ok := witnesses[t.Token]; ok && math.Abs(math.Exp(t.LogProb)-want) > maxDisagreement {
			return false
		}
	}
	return true
}

// generate asks for a read of the last text by /generate, and returns no tokens without an answer.
func (p *Probe) generate(ctx context.Context, form logprobs.Form) (found []stage.TokenLogProb, promptTokens int) {
	short := *p.Role
	short.MaxTokens, short.Stop, short.Verdict, short.Read = 1, nil, nil, nil
	messages := []schemas.Message{{Role: "user", Content: p.asked}}
	body, err := openai.AppendBody(nil, &openai.Request{Role: &short, Messages: messages, N: 1})
	if err != nil {
		return nil, 0
	}
	a, err := Post(ctx, p.Endpoint, &Rendered{Role: &short, Form: &form, N: 1}, body, maxAnswer, p.Endpoint.Timeout(&short, 0))
	if err != nil || a.Status != http.StatusOK {
		return nil, 0
	}
	return form.GeneratedTokens(a.Body)
}

// A Rendered read is one whose prompt the server renders in a request of its own.
type Rendered struct {
	Role *stage.Role
	Form *logprobs.Form
	N    int
}

var errNoTokens = errors.New(logprobs.TokenizePath + " returned no tokens of the messages")

// Post has the server render a chat, whose body it gets, as the tokens of a prompt, and posts the read of it.
// The answer is that of the second request, or of the first one if it failed.
func Post(ctx context.Context, e *endpoint.Endpoint, q *Rendered, chat []byte, limit int64, timeout time.Duration) (*transport.Answer, error) {
	a, err := e.PostAlive(ctx, e.URLBeside(logprobs.TokenizePath), chat, maxTokens, timeout)
	if err != nil || !transport.IsSuccess(a.Status) {
		return a, err
	}
	prompt := logprobs.ReadTokens(a.Body)
	if len(prompt) == 0 {
		return nil, errNoTokens
	}
	body, err := q.Form.AppendGenerate(nil, q.Role, prompt, q.N)
	if err != nil {
		return nil, err
	}
	return e.PostAlive(ctx, e.URLBeside(logprobs.GeneratePath), body, limit, timeout)
}
