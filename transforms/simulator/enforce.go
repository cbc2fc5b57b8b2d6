package simulator

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"coeval/transforms/simulator/world"
)

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
func (s *Server) form(req *request) (*world.Form, error) {
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

func parseForm(name, raw string) (*world.Form, error) {
	var f *world.Form
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

func formOfPattern(pattern string) *world.Form {
	m := patternForm.FindStringSubmatch(pattern)
	if m == nil {
		return nil
	}
	return newForm(m, strings.Split(strings.ReplaceAll(m[3], `\`, ""), "|"))
}

func formOfGrammar(grammar string) *world.Form {
	m := grammarForm.FindStringSubmatch(grammar)
	if m == nil {
		return nil
	}
	return newForm(m, strings.Split(strings.Trim(m[3], `"`), `" | "`))
}

func newForm(m, values []string) *world.Form {
	reasoning, err := strconv.Atoi("0" + m[1])
	if err != nil {
		return nil
	}
	return &world.Form{Reasoning: reasoning, Label: m[2], Values: values}
}

func formOfSchema(raw string) *world.Form {
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
	f := &world.Form{JSON: true}
	for name, p := range v.Schema.Schema.Properties {
		switch {
		case len(p.Enum) > 0:
			f.Label, f.Values = name, p.Enum
		case name == "reasoning":
			f.Reasoning = math.MaxInt
		}
	}
	if f.Label == "" {
		return nil
	}
	return f
}
