package answers

import (
	"encoding/json"
	"regexp"
	"strings"

	"coeval/transforms/answers/prose"
	"coeval/transforms/answers/quotation"
)

// An object is a JSON object in a text.
type object struct {
	fields  map[string]json.RawMessage
	line    int // where it begins
	endLine int
	// listed reports whether the object is an item of a list.
	listed bool
	// prefix and suffix are the texts before and after it on its lines.
	prefix, suffix string
}

// maxObjects bounds the braces at which an object is looked for.
const maxObjects = 64

// findObjects returns the JSON objects of a text, and the text with blanks in their place.
func findObjects(text string) ([]object, string) {
	if strings.IndexByte(text, '{') < 0 {
		return nil, text
	}
	var out []object
	for at, tries := 0, 0; tries < maxObjects; tries++ {
		n := strings.IndexByte(text[at:], '{')
		if n < 0 {
			break
		}
		at += n
		fields, size := decodeObject(text[at:])
		if fields == nil {
			at++
			continue
		}
		lineStart := strings.LastIndexByte(text[:at], '\n') + 1
		before := strings.TrimSpace(text[:at])
		o := object{
			fields: fields, line: strings.Count(text[:at], "\n"), prefix: strings.TrimSpace(text[lineStart:at]),
			listed: strings.HasSuffix(before, "[") || strings.HasSuffix(before, ",") && len(out) > 0 && out[len(out)-1].listed,
		}
		o.endLine = o.line + strings.Count(text[at:at+size], "\n")
		suffix, _, _ := strings.Cut(text[at+size:], "\n")
		o.suffix = strings.TrimSpace(suffix)
		out = append(out, o)
		text = text[:at] + blank(text[at:at+size]) + text[at+size:]
		at += size
	}
	return out, text
}

func blank(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] != '\n' {
			b[i] = ' '
		}
	}
	return string(b)
}

var lastComma = regexp.MustCompile(`,\s*\}`)

// decodeObject reads an object at the beginning of a text, and returns its length. Objects
// that only differ from JSON in single quotes or a last comma are read too, if they end the line.
func decodeObject(s string) (fields map[string]json.RawMessage, size int) {
	d := json.NewDecoder(strings.NewReader(s))
	if d.Decode(&fields) == nil && len(fields) > 0 {
		return fields, int(d.InputOffset())
	}
	end := strings.LastIndexByte(s, '}') + 1
	if end == 0 || strings.Contains(strings.TrimSpace(s[end:]), "\n") {
		return nil, 0
	}
	mended := lastComma.ReplaceAllString(fromPython(s[:end]), "}")
	fields = nil
	if json.Unmarshal([]byte(mended), &fields) != nil || len(fields) == 0 {
		return nil, 0
	}
	return fields, end
}

// pythonToken matches the tokens of a Python literal that JSON writes otherwise, and strings in double quotes.
var pythonToken = regexp.MustCompile(`"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\b(?:True|False|None)\b`)

// fromPython writes the strings and constants of a Python literal as JSON does.
func fromPython(s string) string {
	return pythonToken.ReplaceAllStringFunc(s, func(token string) string {
		switch token[0] {
		case '"':
			return token
		case '\'':
			token = strings.NewReplacer(`\'`, `'`, `\\`, `\\`, `"`, `\"`).Replace(token[1 : len(token)-1])
			return `"` + token + `"`
		}
		return map[string]string{"True": "true", "False": "false", "None": "null"}[token]
	})
}

// objectReport reads the value of an object.
func (g *Grammar) objectReport(p *page, o *object) (Report, bool) {
	r := Report{Kind: Strong, line: o.line, endLine: o.endLine, object: true, quoted: p.lines[o.line].quoted, Partial: o.listed || len(p.objects) > 1}
	found := g.objectValue(o.fields, &r)
	if !found {
		inner := 0
		for key, raw := range o.fields {
			if otherKey.MatchString(keyName(key)) {
				continue
			}
			var fields map[string]json.RawMessage
			if json.Unmarshal(raw, &fields) != nil {
				continue
			}
			if _, ok := g.Keys[keyName(key)]; ok {
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
	r.rest = o.suffix
	if r.Reason == "" && continued.MatchString(strings.TrimLeft(o.suffix, ", ")) {
		r.Reason = Ambiguous
	}
	if r.Reason != "" {
		r.Value = 0
	}
	switch {
	case o.prefix == "" && g.introduced(p, o.line), quotation.Introduces(o.prefix):
		r.quoted = true
	}
	return r, true
}

// wholeKey begins a key for the result of the whole, as overall_winner.
var wholeKey = regexp.MustCompile(`^(?:overall|final|total)`)

// otherKey is the key of an object whose result isn't the judge's.
var otherKey = regexp.MustCompile(`example|sample|reference|ideal|previous|expected|template|format|schema|quote|^other`)

// later is a key of a value that replaces the first one, as score_after_penalty.
var later = regexp.MustCompile(`after|adjusted|revised|corrected|updated|penal|deduct|^new|final`)

// contradicted reports whether another key of the object has a later value than n.
func (g *Grammar) contradicted(fields map[string]json.RawMessage, n int) bool {
	for key, raw := range fields {
		name := keyName(key)
		if _, known := g.Keys[name]; known || !later.MatchString(name) {
			continue
		}
		for known := range g.Keys {
			if v := g.Parse(scalar(raw)); strings.Contains(name, known) && v.whole() && v.N != n {
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
		name := keyName(key)
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
		v := g.Parse(scalar(raw))
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

// scalar returns the text of a JSON string or number, and nothing for other values.
func scalar(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return strings.TrimSpace(prose.Plain(s))
	}
	if strings.ContainsAny(string(raw[:1]), "-0123456789") {
		return string(raw)
	}
	return ""
}

// addValue gives the value of an object under the key of a result that key, if the object also has the end
// of the scale: {"score": {"value": 4, "max": 5}}.
func addValue(fields map[string]json.RawMessage, key string) {
	var value json.RawMessage
	scaled := false
	for name, raw := range fields {
		if innerKey[keyName(name)] {
			value = raw
		}
		scaled = scaled || maxKey[keyName(name)]
	}
	if scaled && len(value) > 0 {
		fields[key] = value
	}
}

// innerKey are keys of the value in such an object.
var innerKey = set("value awarded given result number")

// maxKey are keys of the end of the scale.
var maxKey = set("maxscore maximum max outof scale maximumscore maxpoints scoremax scoreoutof")

func keyName(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(prose.Fold(strings.TrimSpace(s)))
}
