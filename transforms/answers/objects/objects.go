// Package objects finds the JSON objects in a model's text.
//
// It also accepts objects with Python literals or with a comma after the last field, but only if their last brace is in
// the last line of the text. A text may have any number of braces, so the number of tries is bounded.
package objects

import (
	"encoding/json"
	"strings"

	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/prose"
)

// An Object is a JSON object in a text.
type Object struct {
	Fields map[string]json.RawMessage
	// Line is the number of the line where it begins, EndLine that where it ends.
	Line, EndLine int
	// Listed reports whether the object is an item of a list.
	Listed bool
	// Prefix and Suffix are the texts before and after it on its lines.
	Prefix, Suffix string
}

// maxObjects bounds the braces at which an object is looked for.
const maxObjects = 64

// Find returns the JSON objects of a text, and the text with blanks in their place.
func Find(text string) ([]Object, string) {
	if strings.IndexByte(text, '{') < 0 {
		return nil, text
	}
	var out []Object
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
		o := Object{
			Fields: fields, Line: strings.Count(text[:at], "\n"), Prefix: strings.TrimSpace(text[lineStart:at]),
			Listed: strings.HasSuffix(before, "[") || strings.HasSuffix(before, ",") && len(out) > 0 && out[len(out)-1].Listed,
		}
		o.EndLine = o.Line + strings.Count(text[at:at+size], "\n")
		suffix, _, _ := strings.Cut(text[at+size:], "\n")
		o.Suffix = strings.TrimSpace(suffix)
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

var lastComma = patterns.New(`,\s*\}`)

// decodeObject reads an object at the beginning of a text, and returns its length. It also reads an object that
// only differs from JSON in Python's literals or a last comma, if the last brace is in the last line of the text.
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
var pythonToken = patterns.New(`"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\b(?:True|False|None)\b`)

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

// Scalar returns the text of a JSON string or number, and nothing for other values.
func Scalar(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return strings.TrimSpace(prose.Plain(s))
	}
	if strings.ContainsAny(string(raw[:1]), "-0123456789") {
		return string(raw)
	}
	return ""
}

// Key returns a key in the form in which keys are compared: in lower case without separators.
func Key(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(prose.Fold(strings.TrimSpace(s)))
}
