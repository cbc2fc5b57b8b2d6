package simulator

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"coeval/schemas"
)

// A form is the shape that a request prescribes for its texts: reasoning of bounded length, then a
// line of a label and one of the values, or both as a JSON object.
type form struct {
	reasoning int
	label     string
	values    []string
	isJSON    bool
}

// constraintFields are the fields that a server of each dialect obeys. It ignores all others, as real
// servers do.
var constraintFields = map[string][]string{
	VLLM:     {"structured_outputs", "response_format"},
	SGLang:   {"regex", "response_format"},
	LlamaCpp: {"grammar", "response_format"},
	None:     {"response_format"},
}

// isConstraint reports whether any dialect has the field.
func isConstraint(field string) bool {
	return slices.ContainsFunc(Dialects, func(d string) bool { return slices.Contains(constraintFields[d], field) })
}

// form returns the form that the request prescribes, nil for none. It returns an error for a
// constraint that a form cannot express.
func (s *Server) form(req *request) (*form, error) {
	if s.o.IgnoreConstraints {
		return nil, nil
	}
	for _, name := range constraintFields[s.o.Dialect] {
		if raw, ok := req.constraints[name]; ok {
			return parseForm(name, raw)
		}
	}
	return nil, nil
}

func parseForm(name, raw string) (*form, error) {
	var f *form
	switch name {
	case "structured_outputs":
		var v struct {
			Regex string `json:"regex"`
		}
		if json.Unmarshal([]byte(raw), &v) == nil {
			f = formOfPattern(v.Regex)
		}
	case "regex":
		var v string
		if json.Unmarshal([]byte(raw), &v) == nil {
			f = formOfPattern(v)
		}
	case "grammar":
		var v string
		if json.Unmarshal([]byte(raw), &v) == nil {
			f = formOfGrammar(v)
		}
	case "response_format":
		f = formOfSchema(raw)
	}
	if f == nil {
		return nil, fmt.Errorf("%s must describe a verdict: a bounded text, then a line of a label and one of several values; this server supports no other form", name)
	}
	return f, nil
}

var (
	patternForm = regexp.MustCompile("^(?:\\[\\^\x7f\\]\\{0,([0-9]{1,5})\\})?\\\\n([A-Za-z]+): \\(([^()]+)\\)$")
	grammarForm = regexp.MustCompile(`^root ::= (?:\[\^\\x7F\]\{0,([0-9]{1,5})\} )?"\\n([A-Za-z]+): " \(("[^()]+")\)$`)
)

func formOfPattern(pattern string) *form {
	m := patternForm.FindStringSubmatch(pattern)
	if m == nil {
		return nil
	}
	return newForm(m, strings.Split(strings.ReplaceAll(m[3], `\`, ""), "|"))
}

func formOfGrammar(grammar string) *form {
	m := grammarForm.FindStringSubmatch(grammar)
	if m == nil {
		return nil
	}
	return newForm(m, strings.Split(strings.Trim(m[3], `"`), `" | "`))
}

func newForm(m, values []string) *form {
	reasoning, err := strconv.Atoi("0" + m[1])
	if err != nil {
		return nil
	}
	return &form{reasoning: reasoning, label: m[2], values: values}
}

func formOfSchema(raw string) *form {
	var v struct {
		Schema struct {
			Schema struct {
				Properties map[string]struct {
					Enum []string `json:"enum"`
				} `json:"properties"`
			} `json:"schema"`
		} `json:"json_schema"`
	}
	if json.Unmarshal([]byte(raw), &v) != nil {
		return nil
	}
	f := &form{isJSON: true}
	for name, p := range v.Schema.Schema.Properties {
		switch {
		case len(p.Enum) > 0:
			f.label, f.values = name, p.Enum
		case name == "reasoning":
			f.reasoning = math.MaxInt
		}
	}
	if f.label == "" {
		return nil
	}
	return f
}

// verdict ends a text in the form, with the value nearest to the world's own verdict.
func (f *form) verdict(q *Question, before, said string) string {
	value := f.nearest(q, said)
	if f.reasoning < len(before) {
		before = cut(before, f.reasoning)
	}
	if !f.isJSON {
		return before + "\n" + f.label + ": " + value
	}
	object := map[string]string{f.label: value}
	if f.reasoning > 0 {
		object["reasoning"] = before
	}
	b, err := json.Marshal(object)
	if err != nil { // strings always encode
		panic(err)
	}
	return string(b)
}

func (f *form) nearest(q *Question, said string) string {
	if q.Role != schemas.RoleJudge {
		if slices.Contains(f.values, said) {
			return said
		}
		return f.values[q.hash%uint64(len(f.values))]
	}
	best, distance := f.values[0], math.Inf(1)
	score, _ := strconv.ParseFloat(said, 64)
	for _, v := range f.values {
		if x, err := strconv.ParseFloat(v, 64); err == nil && math.Abs(x-score) < distance {
			best, distance = v, math.Abs(x-score)
		}
	}
	return best
}
