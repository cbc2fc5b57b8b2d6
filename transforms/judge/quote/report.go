package quote

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// A Label is the word before a result, as Score in "Score: 4".
type Label struct {
	word string
	line *regexp.Regexp
}

// NewLabel returns the label of a word in lower case.
func NewLabel(word string) Label {
	const (
		line   = `^[\s>#•·+–—-]*(?:\d+[.)]\s+)?["'“‘(\[{「【]*`
		inside = `[.!?;。]["'”’)\]]*\s+|…\s*`
		before = `(?:(?:so|thus|therefore|hence|finally|overall|final|total|the|my|your),?\s+)*`
		after  = `["'”’)\]}」】]*(?:\s*\([^()]*\))?(?:\s+(?:is|was))?\s*[:=]`
	)
	return Label{word, regexp.MustCompile(`(?i)(?:(` + line + `)|` + inside + `)(` + before + word + after + `)`)}
}

// A Report is one line of an answer that a label begins.
type Report struct {
	// Value is what follows the label, plain: without emphasis, with narrow forms for full-width ones.
	Value string
	// Quoted says that the line is quoted and reports nothing.
	Quoted bool
	// Below says that the label stands alone and Value is the whole next line.
	Below bool

	// line and column, in bytes, are where the first label of the line begins; column is zero
	// when nothing is said before it.
	line, column int
}

// Reports returns the reports of a text in their order. The label begins a line or a
// sentence; a colon or an equals sign follows it. Of several on a line the last one counts.
func (l Label) Reports(text string) []Report { return l.reports(text, l.bare) }

func (l Label) reports(text string, bare func(line string) (value string, ok bool)) []Report {
	lines := strings.Split(text, "\n")
	isQuoted := quoted(lines)
	var reports []Report
	for i, line := range lines {
		if !hasSeparator(line) {
			continue // most lines: the expression is a hundred times dearer
		}
		if value, ok := bare(line); ok {
			reports = append(reports, l.report(lines, isQuoted, i, value, 0))
			continue
		}
		p, at := plain(line)
		if !strings.Contains(strings.ToLower(p), l.word) {
			continue
		}
		all := l.line.FindAllStringSubmatchIndex(p, -1)
		if len(all) == 0 {
			continue
		}
		first, last := all[0], all[len(all)-1]
		column := 0
		if first[2] < 0 {
			column = at[first[4]]
		}
		reports = append(reports, l.report(lines, isQuoted, i, p[last[1]:], column))
	}
	return reports
}

func (l Label) report(lines []string, isQuoted []bool, i int, value string, column int) Report {
	r := Report{Value: strings.TrimSpace(value), Quoted: isQuoted[i], line: i, column: column}
	if r.Value == "" {
		r.Value, r.Below = below(lines, isQuoted, i)
	}
	return r
}

// bare returns the value of a line that is the label, a colon and a value without anything
// that the expression or [plain] is there for, as nearly all reports are.
func (l Label) bare(line string) (value string, ok bool) {
	k := len(l.word)
	if len(line) <= k || line[k] != ':' || !strings.EqualFold(line[:k], l.word) {
		return "", false
	}
	value = line[k+1:]
	for i := range len(value) {
		if c := value[i]; c >= utf8.RuneSelf || strings.IndexByte("*`_\\", c) >= 0 {
			return "", false
		}
	}
	return value, !strings.Contains(strings.ToLower(value), l.word)
}

func hasSeparator(line string) bool {
	return strings.IndexByte(line, ':') >= 0 || strings.IndexByte(line, '=') >= 0 ||
		strings.Contains(line, "：") || strings.Contains(line, "＝")
}

// below returns the first line after i that isn't blank, unless a quoted one comes first.
func below(lines []string, isQuoted []bool, i int) (value string, ok bool) {
	for i++; i < len(lines); i++ {
		if isQuoted[i] {
			break
		}
		p, _ := plain(lines[i])
		if p = strings.TrimSpace(p); p != "" {
			return p, true
		}
	}
	return "", false
}

// Remove returns text without the reports for which drop is true.
func (l Label) Remove(text string, drop func(Report) bool) string {
	lines := strings.Split(text, "\n")
	gone := make([]bool, len(lines))
	for _, r := range l.Reports(text) {
		if !drop(r) {
			continue
		}
		if lines[r.line] = lines[r.line][:r.column]; r.column == 0 {
			gone[r.line] = true
		}
		for i := r.line + 1; r.Below && i < len(lines); i++ {
			gone[i] = true
			if strings.TrimSpace(lines[i]) != "" {
				break
			}
		}
	}
	kept := lines[:0]
	for i, line := range lines {
		if !gone[i] {
			kept = append(kept, line)
		}
	}
	return strings.TrimSpace(strings.Join(kept, "\n"))
}

// plain returns a line without Markdown's emphasis and TeX's \boxed, with spaces for
// underscores and narrow forms for full-width ones, and for each of its bytes the place in
// the line that it comes from.
func plain(line string) (s string, at []int) {
	var b strings.Builder
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		switch {
		case r == '*' || r == '`':
			size = 1
			r = -1
		case strings.HasPrefix(line[i:], `\boxed`):
			size = len(`\boxed`)
			r = -1
		case r == '_' || r == '\u00a0' || r == '\u3000':
			r = ' '
		case r == '−':
			r = '-'
		case r >= '！' && r <= '～':
			r -= '！' - '!'
		}
		if r >= 0 {
			n := b.Len()
			b.WriteRune(r)
			for ; n < b.Len(); n++ {
				at = append(at, i)
			}
		}
		i += size
	}
	return b.String(), at
}
