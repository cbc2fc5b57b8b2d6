package fleet

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"coeval/schemas"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/stage"
)

const (
	// maxNeutralMass is more probability than labels have as the beginning of a text that has nothing to do
	// with them. Under a mask they have all of it.
	maxNeutralMass = 0.9
	// maskedLogProb is below all log-probabilities of a model: servers report tokens that a mask has
	// excluded with −9999 or less.
	maskedLogProb = -1000
	// repeatTokens are enough for a label in several tokens.
	repeatTokens = 4
)

// findRead finds out how the endpoint is asked for the role's reads. It returns false if the endpoint does
// not answer. First it asks the tokenizer for the tokens of the labels: with them logprob_token_ids is
// tried, where the answer must have the labels although nothing makes them likely. Otherwise
// top_logprobs has to work, with as many tokens as the server reports. Both requests are about nothing,
// so that labels with all of the probability show a mask. A server that answers no reads stops the run.
func (f *Fleet) findRead(ctx context.Context, e *endpoint.Endpoint, r *stage.Role, calls *counters.Tally, others bool) (bool, error) {
	ids, err := f.labelTokens(ctx, e, r)
	if err != nil {
		return false, err
	}
	p := &readProbe{fleet: f, endpoint: e, role: r, calls: calls, others: others}
	form := openai.ReadForm{IDs: ids}
	works := false
	if len(ids) > 0 {
		if works, err = p.tryIDs(ctx, form); err != nil || p.silent {
			return false, err
		}
	}
	if !works {
		if form, err = p.findTop(ctx); err != nil || p.silent {
			return false, err
		}
		if ids == nil { // the tokens of the labels are not known
			if err = p.checkRepeats(ctx); err != nil || p.silent {
				return false, err
			}
		}
	}
	e.SetRead(r, form)
	f.counters.Note(fmt.Sprintf("%s reads %s of %s by %s", r.Name, strings.Join(r.Read.Labels, ", "), e.Name, form))
	return true, nil
}

// A readProbe asks one endpoint about reads of one role.
type readProbe struct {
	fleet    *Fleet
	endpoint *endpoint.Endpoint
	role     *stage.Role
	calls    *counters.Tally
	others   bool
	// silent is true after the endpoint has not answered.
	silent bool
}

// problem returns the error that stops the run: what was found, and what to do.
func (p *readProbe) problem(found string) error {
	return fmt.Errorf("%s cannot answer reads of %s: %s. Set %s.verdict: reasoned, or serve the model otherwise", p.endpoint.Name, p.role.Model, found, p.role.Name)
}

// ask sends a request of one choice. It returns no generation if the endpoint does not answer.
func (p *readProbe) ask(ctx context.Context, content, fields string, tokens int) (g *schemas.Generation, body []byte, err error) {
	q := probeRequest(p.role, 1)
	messages := []schemas.Message{{Role: "user", Content: content}}
	q.messages = func() []schemas.Message { return messages }
	q.role.MaxTokens, q.constraint, q.once, q.choiceless = tokens, fields, p.others, true
	q.report = func(b []byte) { body = b }
	generations, _, err := p.fleet.ask(ctx, []*endpoint.Endpoint{p.endpoint}, nil, q, p.calls)
	if err != nil {
		return nil, nil, err
	}
	p.fleet.counters.Delivered()
	switch generations[0].Code {
	case "", openai.CodeBadRequest, openai.CodeContextLength, openai.CodeContentFilter, openai.CodeTooLarge:
		return &generations[0], body, nil
	case openai.CodeMalformed:
		if generations[0].Message == noChoiceYet {
			return &schemas.Generation{}, body, nil
		}
	}
	p.silent = true
	return nil, nil, nil
}

// neutral asks for the first token of a text that has nothing to do with the labels.
func (p *readProbe) neutral(ctx context.Context, fields string) (*schemas.Generation, []stage.TokenLogProb, error) {
	g, body, err := p.ask(ctx, "Say OK. "+uuid.NewString(), fields, 1)
	if g == nil || err != nil {
		return nil, nil, err
	}
	return g, openai.Reported(body), nil
}

// tryIDs reports whether the server reports exactly the tokens that are asked for.
func (p *readProbe) tryIDs(ctx context.Context, form openai.ReadForm) (bool, error) {
	g, tokens, err := p.neutral(ctx, form.Fields())
	if err != nil || g == nil || g.Code != "" || len(tokens) < 1+len(form.IDs) {
		return false, err
	}
	found := p.role.Read.Sum(tokens)
	if len(found) < len(p.role.Read.Labels) {
		return false, nil // it reports the most likely tokens instead
	}
	return true, p.checkMask(tokens)
}

// findTop finds the number of likely tokens that the server reports, at most MaxTop.
func (p *readProbe) findTop(ctx context.Context) (openai.ReadForm, error) {
	form := openai.ReadForm{Top: openai.MaxTop}
	for {
		g, tokens, err := p.neutral(ctx, form.Fields())
		if err != nil || g == nil {
			return form, err
		}
		if g.Code != "" {
			limit, ok := openai.TopLimit(g.Message, form.Top)
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
		if reported := len(tokens) - 1; reported < len(p.role.Read.Labels) {
			return form, p.problem(fmt.Sprintf("it reports the log-probabilities of at most %d tokens, and a read of the %s has the %d labels %s",
				reported, p.role.Name, len(p.role.Read.Labels), strings.Join(p.role.Read.Labels, ", ")))
		}
		return form, nil
	}
}

// checkMask returns an error if the probabilities are those after a mask, which hides how likely the labels are.
func (p *readProbe) checkMask(tokens []stage.TokenLogProb) error {
	masked := slices.ContainsFunc(tokens, func(t stage.TokenLogProb) bool { return t.LogProb <= maskedLogProb })
	mass := 0.0
	for _, x := range p.role.Read.Sum(tokens) {
		mass += math.Exp(x)
	}
	if masked || mass > maxNeutralMass {
		return p.problem("it reports log-probabilities after a grammar's mask, where the labels have all of the probability. Reads must be unconstrained")
	}
	return nil
}

// checkReasoning returns an error if a text begins with reasoning.
func (p *readProbe) checkReasoning(g *schemas.Generation, tokens []stage.TokenLogProb) error {
	if g.Reasoning == "" && !stage.BeginsThoughts(tokens[0].Token, p.role.ReasoningTags...) {
		return nil
	}
	return p.problem("it begins its texts with reasoning, so that the first token is no label. Switch reasoning off, as with extra_body: {chat_template_kwargs: {enable_thinking: false}}")
}

// checkRepeats has the longest label repeated, and returns an error if it comes as several tokens. A model
// that writes something else shows nothing: then the share of unparsed reads will.
func (p *readProbe) checkRepeats(ctx context.Context) error {
	label := slices.MaxFunc(p.role.Read.Labels, func(a, b string) int { return len(a) - len(b) })
	form := openai.ReadForm{Top: 1}
	g, body, err := p.ask(ctx, "Repeat this and write nothing else: "+label, form.Fields(), repeatTokens)
	if err != nil || g == nil {
		return err
	}
	written := openai.Written(body)
	if len(written) == 0 || !strings.HasPrefix(strings.TrimSpace(g.Text), label) {
		return nil
	}
	if one, ok := p.role.Read.LabelOf(written[0]); ok && one == label || strings.HasPrefix(strings.TrimSpace(written[0]), label) {
		return nil
	}
	return p.severalTokens(label, len(written))
}

func (p *readProbe) severalTokens(label string, tokens int) error {
	return p.problem(fmt.Sprintf("its vocabulary writes the label %q as several tokens (%d), and a read is one token", label, tokens))
}

// labelTokens returns the tokens that spell the labels, with or without a space before it. It returns nil if
// the server has no tokenizer that answers, and an error if a label is no single token.
func (f *Fleet) labelTokens(ctx context.Context, e *endpoint.Endpoint, r *stage.Role) ([]int64, error) {
	p := &readProbe{endpoint: e, role: r}
	var ids []int64
	for _, label := range r.Read.Labels {
		found, fewest := false, 0
		for _, spelling := range []string{label, " " + label} {
			body := openai.AppendTokenize(nil, r.Model, spelling)
			a, err := e.PostTo(ctx, e.TokenizeURL(), body, minBody, endpoint.ListTimeout)
			if err != nil || a.Status != http.StatusOK {
				return nil, ctx.Err()
			}
			tokens := openai.ReadTokens(a.Body)
			if len(tokens) == 0 || len(tokens) > 2*utf8.RuneCountInString(spelling)+2 {
				return nil, nil // no tokenizer of texts
			}
			if fewest == 0 || len(tokens) < fewest {
				fewest = len(tokens)
			}
			if len(tokens) == 1 {
				found = true
				if !slices.Contains(ids, tokens[0]) {
					ids = append(ids, tokens[0])
				}
			}
		}
		if !found {
			return nil, p.severalTokens(label, fewest)
		}
	}
	return ids, nil
}
