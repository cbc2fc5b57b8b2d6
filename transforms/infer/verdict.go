package infer

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
)

// An enforcement is a way of telling a server what a text may be. Servers ignore the fields
// of others, with a 200.
type enforcement struct {
	name string
	// fields returns those of the request, after a comma.
	fields func(v *Verdict, reasoning int) string
}

// enforcements are in the order in which they are tried: those with which a text stays as free
// as it can be go before JSON. The second is of vLLM before 0.12.
var enforcements = []enforcement{
	{"structured_outputs", func(v *Verdict, n int) string { return `,"structured_outputs":{"regex":` + quoted(pattern(v, n)) + `}` }},
	{"guided_regex", func(v *Verdict, n int) string { return `,"guided_regex":` + quoted(pattern(v, n)) }},
	{"regex", func(v *Verdict, n int) string { return `,"regex":` + quoted(pattern(v, n)) }},
	{"grammar", func(v *Verdict, n int) string { return `,"grammar":` + quoted(grammar(v, n)) }},
	{"response_format", func(v *Verdict, n int) string {
		return `,"response_format":{"type":"json_schema","json_schema":{"name":"verdict","strict":true,"schema":` + schema(v, n) + `}}`
	}},
}

// ConstraintFields returns the fields of a request in which a verdict may be enforced.
func ConstraintFields() []string {
	names := make([]string, len(enforcements))
	for i := range enforcements {
		names[i] = enforcements[i].name
	}
	return names
}

// anyCharacter is a class of all characters but one that no text has. Engines read a dot and [\s\S]
// differently: to some a dot is no line break, to xgrammar the \s of a class is the letter.
const anyCharacter = "[^\x7f]"

// pattern is the regular expression of the whole text.
func pattern(v *Verdict, reasoning int) string {
	values := make([]string, len(v.Values))
	for i, s := range v.Values {
		values[i] = regexp.QuoteMeta(s)
	}
	before := ""
	if reasoning > 0 {
		before = fmt.Sprintf("%s{0,%d}", anyCharacter, reasoning)
	}
	return before + `\n` + regexp.QuoteMeta(v.Label) + ": (" + strings.Join(values, "|") + ")"
}

// grammar is the pattern in GBNF, which llama.cpp reads.
func grammar(v *Verdict, reasoning int) string {
	values := make([]string, len(v.Values))
	for i, s := range v.Values {
		values[i] = quoted(s)
	}
	before := ""
	if reasoning > 0 {
		before = fmt.Sprintf(`[^\x7F]{0,%d} `, reasoning)
	}
	return "root ::= " + before + quoted("\n"+v.Label+": ") + " (" + strings.Join(values, " | ") + ")"
}

// schema is that of a JSON object. Its text has no bound: not all servers allow one.
func schema(v *Verdict, reasoning int) string {
	key := quoted(strings.ToLower(v.Label))
	values := make([]string, len(v.Values))
	for i, s := range v.Values {
		values[i] = quoted(s)
	}
	free, required := "", key
	if reasoning > 0 {
		free, required = `"reasoning":{"type":"string"},`, `"reasoning",`+key
	}
	return `{"type":"object","properties":{` + free + key + `:{"type":"string","enum":[` + strings.Join(values, ",") +
		`]}},"required":[` + required + `],"additionalProperties":false}`
}

func quoted(s string) string {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil { // labels and values are written in this program
		panic(fmt.Sprintf("infer: %q: %v", s, err))
	}
	return string(b)
}

// trap is a verdict that nobody gives who isn't made to. No reasoning goes before it.
var trap = Verdict{Label: "Zebra", Values: []string{"417"}}

// trapTokens are enough for it in any form, thoughtTokens for thoughts before it.
const (
	trapTokens    = 32
	thoughtTokens = 2048
)

// sprung says that the text is the trap's only one.
func sprung(text string) bool {
	text = strings.TrimSpace(text)
	var said map[string]string
	if json.Unmarshal([]byte(text), &said) == nil {
		return said[strings.ToLower(trap.Label)] == trap.Values[0]
	}
	return text == trap.Label+": "+trap.Values[0]
}

// enforced is the key of what an endpoint was proved to enforce. What it takes for one role it
// may refuse for another.
func enforced(r *Role) string { return r.Name + "\x00" + r.Identity() }

// constraint returns the fields with which the endpoint is told of the role's verdict.
func (e *endpoint) constraint(r *Role) string {
	if r.Verdict == nil {
		return ""
	}
	e.mu.Lock()
	by := e.enforcing[enforced(r)]
	e.mu.Unlock()
	if by == nil {
		return "" // a probe
	}
	return by.fields(r.Verdict, r.MaxReasoning())
}

// proved says that the endpoint was seen to enforce the role's verdict, or that none is to be.
func (e *endpoint) proved(r *Role) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.isProved(r)
}

func (e *endpoint) isProved(r *Role) bool { return r.Verdict == nil || e.enforcing[enforced(r)] != nil }

// proveAll finds out, before anything else is asked in this process, that there are servers of
// each of these roles which enforce its verdict: what an actor had said until the judge's first
// call was refused would be paid for in vain.
func (p *process) proveAll(ctx context.Context, calls *callCounts) error {
	if len(p.options.Prove) == 0 {
		return nil
	}
	select {
	case p.proving <- struct{}{}: // one at a time, and the others wait
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.proving }()
	if p.proved {
		return nil
	}
	for i := range p.options.Prove {
		r := &p.options.Prove[i]
		endpoints, err := p.fleet.of(r)
		if err != nil {
			return err
		}
		if _, _, err := p.fleet.batch(ctx, endpoints, r, 1, calls); err != nil {
			return err
		}
	}
	p.proved = true
	return nil
}

// prove finds out how the endpoint enforces the role's verdict, and returns false when it
// doesn't answer. Each way is tried with the trap and then with the verdict itself. An
// endpoint that enforces nothing ends the run: what it said would pass for enforced.
func (f *fleet) prove(ctx context.Context, e *endpoint, r *Role, calls *callCounts, others bool) (bool, error) {
	for i := range enforcements {
		by := &enforcements[i]
		said, err := f.constrained(ctx, e, r, by.fields(&trap, 0), trapTokens, calls, others)
		if err == nil && said.Code == "" && strings.TrimSpace(said.Text) == "" {
			// A model that thinks first has thought only.
			said, err = f.constrained(ctx, e, r, by.fields(&trap, 0), max(thoughtTokens, r.MaxTokens), calls, others)
		}
		if err != nil {
			return false, err
		}
		if said.Code == "" && sprung(said.Text) {
			said, err = f.constrained(ctx, e, r, by.fields(r.Verdict, r.MaxReasoning()), probeTokens, calls, others)
			if err != nil {
				return false, err
			}
			if said.Code == "" {
				e.mu.Lock()
				e.enforcing[enforced(r)] = by
				e.mu.Unlock()
				return true, nil
			}
		}
		switch said.Code {
		case "", CodeBadRequest, CodeContextLength, CodeContentFilter, CodeTooLarge: // it has answered
		default:
			return false, nil
		}
	}
	return false, fmt.Errorf("%s constrains no output of %s, and verdicts are to be enforced: %s were refused or had no effect; set verdicts: free, or serve the model with structured outputs",
		e.name, r.Model, strings.Join(ConstraintFields(), ", "))
}

func (f *fleet) constrained(ctx context.Context, e *endpoint, r *Role, fields string, tokens int, calls *callCounts, others bool) (schemas.Generation, error) {
	q := probeRequest(r, 1)
	q.role.MaxTokens, q.constraint, q.once = tokens, fields, others
	generations, _, err := f.ask(ctx, []*endpoint{e}, nil, q, calls)
	if err != nil {
		return schemas.Generation{}, err
	}
	f.watch.kept()
	return generations[0], nil
}
