package answers

import (
	"encoding/json"
	"strings"

	"coeval/transforms/answers/objects"
	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/quotation"
)

// objectReport reads the value of an object.
func (g *Grammar) objectReport(p *page, o *objects.Object) (Report, bool) {
	r := Report{Kind: Strong, line: o.Line, endLine: o.EndLine, object: true, quoted: p.lines[o.Line].quoted, Partial: o.Listed || len(p.objects) > 1}
	found := g.objectValue(o.Fields, &r)
	if !found {
		inner := 0
		for key, raw := range o.Fields {
			if otherKey.MatchString(objects.Key(key)) {
				continue
			}
			var fields map[string]json.RawMessage
			if json.Unmarshal(raw, &fields) != nil {
				continue
			}
			if _, ok := g.Keys[objects.Key(key)]; ok {
				addValue(fields, key)
			}
			if g.objectValue(fields, &r) {
				inner++
			}
		}
		if found = inner > 0; inner > 1 {
			r.Reason = Ambiguous
		}
	}
	if !found {
		return r, false
	}
	r.rest = o.Suffix
	if r.Reason == "" && continued.MatchString(strings.TrimLeft(o.Suffix, ", ")) {
		r.Reason = Ambiguous
	}
	if r.Reason != "" {
		r.Value = 0
	}
	switch {
	case o.Prefix == "" && g.introduced(p, o.Line), quotation.Introduces(o.Prefix):
		r.quoted = true
	}
	return r, true
}

// wholeKey begins a key for the result of the whole, as overall_winner.
var wholeKey = patterns.New(`^(?:overall|final|total)`)

// otherKey is the key of an object whose result isn't the judge's.
var otherKey = patterns.New(`example|sample|reference|ideal|previous|expected|template|format|schema|quote|^other`)

// later is a key of a value that replaces the first one, as score_after_penalty.
var later = patterns.New(`after|adjusted|revised|corrected|updated|penal|deduct|^new|final`)

// contradicted reports whether another key of the object has a later value than n.
func (g *Grammar) contradicted(fields map[string]json.RawMessage, n int) bool {
	for key, raw := range fields {
		name := objects.Key(key)
		if _, known := g.Keys[name]; known || !later.MatchString(name) {
			continue
		}
		for known := range g.Keys {
			if v := g.Parse(objects.Scalar(raw)); strings.Contains(name, known) && v.whole() && v.N != n {
				return true
			}
		}
	}
	return false
}

// objectValue reads the value of an object's own fields. Several with different values
// contradict each other.
func (g *Grammar) objectValue(fields map[string]json.RawMessage, r *Report) (found bool) {
	for key, raw := range fields {
		name := objects.Key(key)
		if (name == "tie" || name == "draw") && string(raw) == "true" {
			r.Reason = Ambiguous
		}
		if reason := g.Label(name + " " + string(raw)); maxKey[name] && reason != "" {
			r.Reason = reason
		}
		kind, ok := g.Keys[name]
		if whole := wholeKey.ReplaceAllString(name, ""); !ok && whole != name {
			_, ok = g.Keys[whole]
			kind = Total
		}
		if !ok || raw[0] == '{' { // the value of an inner object counts
			continue
		}
		v := g.Parse(objects.Scalar(raw))
		if kind == Weak && !v.whole() {
			continue
		}
		switch {
		case v.Reason != "":
			r.Reason = v.Reason
		case found && v.N != r.Value:
			r.Reason = Ambiguous
		}
		r.Value, found = v.N, true
		if kind == Total {
			r.Kind = Total
		}
	}
	if found && r.Reason == "" && g.contradicted(fields, r.Value) {
		r.Reason = Ambiguous
	}
	return found
}

// addValue gives the value of an object under the key of a result that key, if the object also has the end
// of the scale: {"score": {"value": 4, "max": 5}}.
func addValue(fields map[string]json.RawMessage, key string) {
	var value json.RawMessage
	scaled := false
	for name, raw := range fields {
		if innerKey[objects.Key(name)] {
			value = raw
		}
		scaled = scaled || maxKey[objects.Key(name)]
	}
	if scaled && len(value) > 0 {
		fields[key] = value
	}
}

// innerKey are keys of the value in such an object.
var innerKey = map[string]bool{"value": true, "awarded": true, "given": true, "result": true, "number": true}

// maxKey are keys of the end of the scale.
var maxKey = map[string]bool{
	"maxscore": true, "maximum": true, "max": true, "outof": true, "scale": true,
	"maximumscore": true, "maxpoints": true, "scoremax": true, "scoreoutof": true,
}
