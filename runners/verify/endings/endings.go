// Package endings compares recorded scores and verdicts with the ends of their texts. It shares no code with
// the parsers that wrote a run.
//
// Its parsers are simple on purpose. They parse texts with the usual endings and report [Unconfirmed] for the
// rest, instead of copying every rule of the writer. A recorded value that contradicts a usual ending
// is [Wrong].
package endings

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"

	"coeval/schemas"
)

// A Finding is how a recorded value relates to its text.
type Finding int

// The findings, from good to bad.
const (
	// Confirmed: the text ends with the recorded value.
	Confirmed Finding = iota
	// Unconfirmed: this reader can't read the text's ending.
	Unconfirmed
	// Wrong: the text ends with another value.
	Wrong
)

// CutOff and Quoted are reasons for an unparsed text that its text can't contradict: a cut is not
// visible in a text, and package endings doesn't follow quotations.
const (
	CutOff = "cut_off"
	Quoted = "quoted"
)

// An Ending describes how texts of one kind end in their value.
type Ending struct {
	// label matches a line that mentions a value, begins a line that announces one, plain a line that
	// consists of a value. The value is the first group.
	label, begins, plain *regexp.Regexp
	// value finds everything in a line that could be the value.
	value *regexp.Regexp
	// key is the JSON key of the value.
	key string
	// word finds values in words and mixed fractions, which the plain reader doesn't read.
	word *regexp.Regexp
	// canonical brings a value to the form that it is compared in, empty for none.
	canonical func(string) string
	// custom, if not nil, finds the value instead: the first group of its last match.
	custom *regexp.Regexp
}

const (
	// Digits behind a comma that are no half or quarter are not plain: 3,4 may be a list, and 3,000 a thousand.
	numberPattern = `\d+(?:\.\d+|,(?:50?|[27]5|0{1,2})\b)?`
	labelPrefix   = `(?:the )?(?:final |overall |total |my )*`
)

// Scores returns the ending of judgments whose scores are from low to high points.
func Scores(low, high float64) *Ending {
	scale := regexp.QuoteMeta(strconv.FormatFloat(high, 'f', -1, 64)) + `(?:[.,]0+)?`
	return &Ending{
		label:  regexp.MustCompile(`(?i)\b(?:score|points|rating|total)\b`),
		begins: regexp.MustCompile(`(?i)^` + labelPrefix + `(?:score|points|rating|total)\b`),
		plain: regexp.MustCompile(`(?i)^` + labelPrefix + `(?:score|points|rating)(?: is)?\s*[:=]?\s*(-?` + numberPattern +
			`)(?:\s*(?:/|out of)\s*` + scale + `)?(?:\s*points?)?$`),
		value: regexp.MustCompile(numberPattern),
		key:   "score",
		word:  regexp.MustCompile(`(?i)\b(?:zero|half|one|two|three|four|five|six|seven|eight|nine|ten|un|deux|trois|quatre|cinq|uno|dos|tres|cuatro|cinco|eins|zwei|drei|vier|fünf|frac|\d/\d\s+point)\b|\d\s+(?:and\s+)?\d+/\d|один|два|три|четыре|пять|[½¼¾零一二三四五六七八九十➀➁➂➃➄➅➆➇➈➉]`),
		canonical: func(s string) string {
			x, err := strconv.ParseFloat(strings.Replace(s, ",", ".", 1), 64)
			if err != nil || x < low || x > high {
				return ""
			}
			return formatScore(x)
		},
	}
}

// formatScore writes a score to the nearest thousandth.
func formatScore(x float64) string {
	return strconv.FormatFloat(math.Floor(1000*x+0.5)/1000, 'f', -1, 64)
}

// Verdicts returns the ending of comparisons, whose value is the letter A or B.
func Verdicts() *Ending {
	return &Ending{
		label:  regexp.MustCompile(`(?i)\b(?:winner|verdict)\b`),
		begins: regexp.MustCompile(`(?i)^` + labelPrefix + `(?:winner|verdict)\b`),
		plain:  regexp.MustCompile(`(?i)^` + labelPrefix + `(?:winner|verdict)(?: is)?\s*[:=]?\s*(?:judge?ment |response |option )?([ab])$`),
		value:  regexp.MustCompile(`\b[ABab]\b`),
		key:    "winner",
		// Letters of other scripts may stand for A and B.
		word: regexp.MustCompile(`(?i)\b(?:first|second|former|latter|one|two)\b|(?:judge?ment|response|option|answer|assistant)[_ ]?[ab12]\b|(?:🅐|🅑|🅰|🅱)|(?:^|[^\pL])[\p{Cyrillic}\p{Arabic}\p{Hebrew}\p{Greek}\p{Han}](?:[^\pL]|$)`),
		canonical: func(s string) string {
			if u := strings.ToUpper(s); u == "A" || u == "B" {
				return u
			}
			return ""
		},
	}
}

// WithPattern returns the ending with a pattern of the user's: the value is the first group of its
// last match.
func (e *Ending) WithPattern(pattern *regexp.Regexp) *Ending {
	own := *e
	own.custom = pattern
	return &own
}

// Score compares a recorded score, nil for none, and the reason why there is none with the text. For a
// Wrong finding, said is the value in the text.
func (e *Ending) Score(text string, recorded *float64, reason string) (f Finding, said string) {
	if recorded == nil {
		return e.compare(text, "", reason)
	}
	return e.compare(text, formatScore(*recorded), reason)
}

// Verdict compares a recorded winner with the text as [Ending.Score] does.
func (e *Ending) Verdict(text string, recorded schemas.Winner, reason string) (f Finding, said string) {
	letter := map[schemas.Winner]string{schemas.First: "A", schemas.Second: "B"}[recorded]
	f, said = e.compare(text, letter, reason)
	if w := map[string]schemas.Winner{"A": schemas.First, "B": schemas.Second}[said]; w != 0 {
		said = w.String()
	}
	return f, said
}

func (e *Ending) compare(text, recorded, reason string) (f Finding, said string) {
	switch {
	case recorded != "" && reason != "":
		return Wrong, fmt.Sprintf("either a value or a reason, and not both of %s and %s", recorded, reason)
	case recorded == "" && reason == "":
		return Wrong, "a value, or a reason why there is none"
	case recorded == "" && (reason == CutOff || reason == Quoted):
		return Unconfirmed, ""
	}
	lines := cleanLines(text)
	if value, plain := e.plainValue(text, lines); plain {
		switch {
		case value == recorded:
			return Confirmed, ""
		case recorded == "" && e.announces(lines) > 1:
			return Unconfirmed, "" // earlier values may have made the text ambiguous
		case value == "":
			return Wrong, "no allowed value"
		}
		return Wrong, value
	}
	return e.guess(lines, recorded)
}

// plainValue returns the value of a text that ends plainly, empty for one that is not allowed.
func (e *Ending) plainValue(text string, lines []string) (value string, plain bool) {
	if e.custom != nil {
		matches := e.custom.FindAllStringSubmatch(text, -1)
		if len(matches) == 0 {
			return "", true
		}
		return e.canonical(strings.TrimSpace(matches[len(matches)-1][1])), true
	}
	if value, ok := jsonValue(text, e.key); ok {
		if c := e.canonical(value); c != "" || strings.HasPrefix(value, "[") {
			return c, true
		}
	}
	if len(lines) == 0 {
		return "", true
	}
	if m := e.plain.FindStringSubmatch(lines[len(lines)-1]); m != nil {
		return e.canonical(m[1]), true
	}
	return "", false
}

// announces counts the lines with a label and a value.
func (e *Ending) announces(lines []string) int {
	n := 0
	for i, line := range lines {
		if e.label.MatchString(line) && (e.value.MatchString(line) || i+1 < len(lines) && e.value.MatchString(lines[i+1])) {
			n++
		}
	}
	return n
}

// guess compares a recorded value with every possible value in the last line and in the last line with
// a label, together with the line below it.
func (e *Ending) guess(lines []string, recorded string) (f Finding, said string) {
	near := lines[len(lines)-1:]
	isLabelled := false
	for i := range slices.Backward(lines) {
		if e.announcesAt(lines, i) {
			isLabelled = true
			near = append(slices.Clone(near), lines[i:min(i+2, len(lines))]...)
			break
		}
	}
	values := e.values(near)
	slices.Sort(values)
	values = slices.Compact(values)
	switch {
	case recorded == "" && len(values) == 0:
		return Confirmed, ""
	case recorded == "":
		return Unconfirmed, ""
	case len(values) == 1 && values[0] == recorded:
		return Confirmed, ""
	case slices.Contains(values, recorded), e.word.MatchString(strings.Join(near, "\n")):
		return Unconfirmed, ""
	case e.lastPlain(lines) == recorded:
		return Unconfirmed, "" // the lines below only mention other values
	case !isLabelled && slices.Contains(e.values(lines), recorded):
		return Unconfirmed, "" // the label may be of another language
	case len(values) == 0:
		return Wrong, "no value"
	}
	return Wrong, strings.Join(values, " or ")
}

// announcesAt reports whether a line announces a value: it begins with a label, or it has a label and a value.
func (e *Ending) announcesAt(lines []string, i int) bool {
	return e.begins.MatchString(lines[i]) || e.label.MatchString(lines[i]) && e.value.MatchString(lines[i])
}

// lastPlain returns the value of the last line that begins with a label, if that line is plain.
func (e *Ending) lastPlain(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if e.begins.MatchString(line) {
			if m := e.plain.FindStringSubmatch(line); m != nil {
				return e.canonical(m[1])
			}
			break
		}
	}
	return ""
}

// values returns the canonical form of everything in lines that could be a value.
func (e *Ending) values(lines []string) []string {
	var found []string
	for _, line := range lines {
		for _, v := range e.value.FindAllString(line, -1) {
			if c := e.canonical(v); c != "" {
				found = append(found, c)
			}
		}
	}
	return found
}

var (
	special = regexp.MustCompile(`(?:\s*(?:<\|[^|<>\s]{1,40}\|>|</s>|<eos>|<end_of_turn>))+\s*$`)
	// tags are those of elements, without a value in brackets, as <4> and <Judgment B>.
	tags = regexp.MustCompile(`</?[A-Za-z][A-Za-z0-9_-]{2,}>`)
)

// unmarked returns a space for emphasis, brackets, quotation marks and TeX.
func unmarked(r rune) rune {
	switch r {
	case ']', '[', '*', '_', '`', '<', '>', '(', ')', '{', '}', '$', '"', '\'', '“', '”', '‘', '’', '【', '】', '「', '」', '\\':
		return ' '
	}
	return r
}

// plainRune returns the ASCII form of a digit of any script and of a letter or digit in another style.
func plainRune(r rune) rune {
	switch {
	case r == '٫':
		return '.'
	case unicode.Is(unicode.Nd, r):
		zero := r
		for unicode.Is(unicode.Nd, zero-1) { // the digits of a script are ten in a row
			zero--
		}
		return '0' + (r-zero)%10
	case r > unicode.MaxLatin1:
		if s := norm.NFKC.String(string(r)); len(s) == 1 && s[0] > ' ' {
			return rune(s[0])
		}
	}
	return r
}

// cleanLines returns the lines of a text that contain something, in half-width forms, without emphasis,
// brackets, quotation marks and final punctuation.
func cleanLines(text string) []string {
	var lines []string
	if strings.HasSuffix(strings.TrimRight(text, "\t\n\f\r "), ">") {
		text = special.ReplaceAllString(text, "")
	}
	for line := range strings.Lines(text) {
		line = strings.Map(plainRune, width.Fold.String(line))
		if strings.Contains(line, "<") {
			line = tags.ReplaceAllString(line, " ")
		}
		if body := strings.TrimLeft(line, " #>"); strings.Count(body, "<") != strings.Count(body, ">") {
			line = body + " ~" // a comparison, which makes no line plain
		}
		line = strings.Join(strings.Fields(strings.Map(unmarked, strings.TrimLeft(line, " #>"))), " ")
		line = strings.TrimSpace(strings.TrimRight(line, ".!。"))
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// otherKey matches the keys of a JSON object that make its result another one, as max_score and revised_winner.
var otherKey = regexp.MustCompile(`(?i)score|winner|verdict|tie|draw|max|out_?of`)

// jsonValue returns the value of a key if the text is one JSON object, in a fence or not, without another
// key that is about the result.
func jsonValue(text, key string) (value string, ok bool) {
	text = strings.TrimSpace(text)
	if rest, fenced := strings.CutPrefix(text, "```"); fenced {
		text = strings.TrimSpace(strings.TrimPrefix(strings.TrimSuffix(rest, "```"), "json"))
	}
	var fields map[string]json.RawMessage
	if !strings.HasPrefix(text, "{") || json.Unmarshal([]byte(text), &fields) != nil || fields[key] == nil {
		return "", false
	}
	for name := range fields {
		if name != key && otherKey.MatchString(name) {
			return "", false
		}
	}
	if json.Unmarshal(fields[key], &value) == nil {
		return value, true
	}
	return string(fields[key]), true
}
