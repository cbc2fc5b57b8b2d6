package openai

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/transforms/stage"
)

// A Constraint is one of the ways in which a request limits the form of a text. Servers ignore the
// fields of others, with a 200, so that only a test shows which one works: see [Trap].
type Constraint struct {
	// Name is the request field.
	Name string
	// Fields returns the fields of a request, after a comma.
	Fields func(v *stage.Verdict, reasoning int) string
}

// Constraints returns all ways in the order in which to try them. The ways that leave the reasoning
// free come before JSON. guided_regex is of vLLM before 0.12.
func Constraints() []Constraint {
	return []Constraint{
		{"structured_outputs", func(v *stage.Verdict, n int) string {
			return `,"structured_outputs":{"regex":` + quoted(pattern(v, n)) + `}`
		}},
		{"guided_regex", func(v *stage.Verdict, n int) string { return `,"guided_regex":` + quoted(pattern(v, n)) }},
		{"regex", func(v *stage.Verdict, n int) string { return `,"regex":` + quoted(pattern(v, n)) }},
		{"grammar", func(v *stage.Verdict, n int) string { return `,"grammar":` + quoted(grammar(v, n)) }},
		{"response_format", func(v *stage.Verdict, n int) string {
			return `,"response_format":{"type":"json_schema","json_schema":{"name":"verdict","strict":true,"schema":` + schema(v, n) + `}}`
		}},
	}
}

// ConstraintFields returns the names of the request fields that may enforce a verdict.
func ConstraintFields() []string {
	var names []string
	for _, c := range Constraints() {
		names = append(names, c.Name)
	}
	return names
}

// anyCharacter is a class of all characters but DEL, which no text has. Engines disagree about a
// dot, which may exclude a line break, and about [\s\S], whose \s is the letter to xgrammar.
const anyCharacter = "[^\x7f]"

// pattern returns the regular expression of a whole text that ends in the verdict.
func pattern(v *stage.Verdict, reasoning int) string {
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

// grammar returns the pattern in GBNF, the language of llama.cpp.
func grammar(v *stage.Verdict, reasoning int) string {
	before := ""
	if reasoning > 0 {
		before = fmt.Sprintf(`[^\x7F]{0,%d} `, reasoning)
	}
	return "root ::= " + before + quoted("\n"+v.Label+": ") + " (" + strings.Join(quotedAll(v.Values), " | ") + ")"
}

// schema returns a JSON schema of the reasoning and the verdict. It has no bound on the reasoning,
// which not all servers allow.
func schema(v *stage.Verdict, reasoning int) string {
	key := quoted(strings.ToLower(v.Label))
	free, required := "", key
	if reasoning > 0 {
		free, required = `"reasoning":{"type":"string"},`, `"reasoning",`+key
	}
	return `{"type":"object","properties":{` + free + key + `:{"type":"string","enum":[` + strings.Join(quotedAll(v.Values), ",") +
		`]}},"required":[` + required + `],"additionalProperties":false}`
}

func quotedAll(values []string) []string {
	out := make([]string, len(values))
	for i, s := range values {
		out[i] = quoted(s)
	}
	return out
}

func quoted(s string) string {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil { // labels and values are constants of this program
		panic(fmt.Sprintf("openai: %q: %v", s, err))
	}
	return string(b)
}

// Trap is a verdict that no model gives unless the server makes it. No reasoning precedes it.
var Trap = stage.Verdict{Label: "Zebra", Values: []string{"417"}}

// Trapped reports whether a text is the trap's only one, in any of the constraints' forms.
func Trapped(text string) bool {
	text = strings.TrimSpace(text)
	var fields map[string]string
	if json.Unmarshal([]byte(text), &fields) == nil {
		return fields[strings.ToLower(Trap.Label)] == Trap.Values[0]
	}
	return text == Trap.Label+": "+Trap.Values[0]
}
