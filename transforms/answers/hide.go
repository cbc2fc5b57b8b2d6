package answers

import (
	"encoding/json"
	"strings"

	"coeval/transforms/answers/objects"
	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/prose"
)

// maxHides bounds the passes of [Grammar.Hide]: a pass can leave a number below a bare label.
const maxHides = 8

// Hide returns a text without its reports, and without the other sentences that state the
// result, as g.States finds them. Quoted text stays.
func (g *Grammar) Hide(text string) string {
	text, _ = prose.TrimSpecialTokens(text)
	text, _ = prose.SplitTokens(strings.ReplaceAll(text, "\r\n", "\n"))
	if shown, ok := g.hideKeys(text); ok {
		if _, reason := g.Read(shown); reason != "" {
			return shown
		}
		text = shown
	}
	for range maxHides {
		shown := g.hideOnce(text)
		if shown == text {
			break
		}
		text = shown
	}
	return strings.TrimRight(text, " \t\n")
}

// hideOnce makes one pass over a text.
func (g *Grammar) hideOnce(text string) string {
	p := newPage(text)
	lines := strings.Split(text, "\n")
	if len(lines) != len(p.lines) {
		return text
	}
	gone := make([]bool, len(lines))
	first := map[int]bool{} // lines with a report
	for _, r := range g.reports(p) {
		if r.quoted || r.Reason == Placeholder {
			continue
		}
		first[r.line] = true
		for i := r.line + 1; i <= r.endLine; i++ {
			gone[i] = gone[i] || r.Reason == "" || r.Reason != "" && r.object
		}
		gone[r.line] = gone[r.line] || r.object
	}
	kept := lines[:0:0]
	for i, l := range lines {
		if gone[i] {
			continue
		}
		if p.lines[i].quoted || strings.TrimSpace(l) == "" {
			kept = append(kept, l)
			continue
		}
		if shown := g.hideSentences(l, first[i]); strings.TrimSpace(shown) != "" {
			kept = append(kept, shown)
		}
	}
	return strings.Join(kept, "\n")
}

// hideSentences returns a line without the sentences that report or state a result.
func (g *Grammar) hideSentences(l string, reports bool) string {
	all := prose.Sentences(l)
	kept := all[:0:0]
	for _, s := range all {
		p := prose.Plain(s)
		if !g.States(p) && !(reports && (g.reportsIn(p) || len(all) == 1)) {
			kept = append(kept, s)
		}
	}
	if len(kept) == len(all) {
		if reports {
			return "" // the report spans several sentences
		}
		return l
	}
	if len(kept) == 0 {
		return ""
	}
	return strings.Join(kept, " ")
}

func (g *Grammar) reportsIn(s string) bool {
	p := newPage(s)
	return len(g.reports(p)) > 0
}

// hideKeys returns a text that is one JSON object, alone or in a code block, without the keys of the
// result, and without the sentences about the result in its other texts.
func (g *Grammar) hideKeys(text string) (string, bool) {
	m := wholeObject.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(m[2]), &fields) != nil {
		return "", false
	}
	before := len(fields)
	for key, raw := range fields {
		var said string
		if _, ok := g.Keys[objects.Key(key)]; ok {
			delete(fields, key)
		} else if raw[0] == '"' && json.Unmarshal(raw, &said) == nil {
			shown, err := json.Marshal(g.Hide(said))
			if err != nil {
				return "", false
			}
			fields[key] = shown
		}
	}
	b, err := json.Marshal(fields)
	if err != nil || len(fields) == before {
		return "", false
	}
	return m[1] + string(b) + m[3], true
}

var wholeObject = patterns.New("(?s)^(\\s*(?:```[a-z]*\\s*)?)(\\{.*\\})(\\s*(?:```\\s*)?)$")
