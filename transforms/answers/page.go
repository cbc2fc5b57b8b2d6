package answers

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"coeval/transforms/prompting"
)

// A page is a text as the grammars see it: lines in plain characters, each with what is known
// about its origin.
type page struct {
	text  string // the text after elements were written as labels; JSON objects are blanked out
	lines []line
	// objects are the JSON objects of the text.
	objects []object
}

type line struct {
	plain string
	// quoted reports whether the line, or a part of it, is a quotation.
	quoted bool
	// turn reports whether another speaker begins here.
	turn bool
	// boxed reports whether the line has a LaTeX box.
	boxed bool
}

// turnMark matches the beginning of a turn in the transcripts that models continue.
var turnMark = regexp.MustCompile(`(?i)^[\s#*>-]*(?:(?:human|user|assistant|system|student|question|q|input|prompt|instruction|task)\s*(?:\d+\s*)?:|(?:###?#?)\s*(?:human|user|assistant|system|instruction|response|input|question|prompt|task)\b)`)

func newPage(text string) *page {
	p := &page{}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text, turns := splitTokens(text)
	inElement := quotedElements(text)
	text = labelElements(text)
	p.objects, text = findObjects(text)
	p.text = text
	raw := strings.Split(text, "\n")
	isQuoted := quotedLines(raw)
	p.lines = make([]line, len(raw))
	for i, s := range raw {
		p.lines[i] = line{plain: plain(s), quoted: isQuoted[i] || inElement[i], turn: turnMark.MatchString(s) || slices.Contains(turns, i), boxed: strings.Contains(s, `boxed{`)}
	}
	return p
}

// splitTokens takes the special tokens out of a text. A token in the middle of the text ends a
// turn: it becomes a line break, and turns has the number of the line after it.
func splitTokens(text string) (plain string, turns []int) {
	text, _ = TrimSpecialTokens(text)
	if !strings.ContainsAny(text, "<[") {
		return text, nil
	}
	var b strings.Builder
	at := 0
	for _, m := range specialToken.FindAllStringIndex(text, -1) {
		b.WriteString(text[at:m[0]])
		at = m[1]
		if strings.TrimSpace(b.String()) == "" {
			continue // it opens the text
		}
		b.WriteByte('\n')
		turns = append(turns, strings.Count(b.String(), "\n"))
	}
	if at == 0 {
		return text, nil
	}
	b.WriteString(text[at:])
	return b.String(), turns
}

// Elements around a result: the name of the first kind becomes a label, that of the second
// the label of a bare value.
var (
	openElement = regexp.MustCompile(`(?i)<((?:final|total|overall)?[ _-]?(?:score|rating|grade|points|total|mark|winner|verdict|decision|choice))>`)
	openWrapper = regexp.MustCompile(`(?i)<(answer|result|output|final|final_answer|response|judge?ment|evaluation|conclusion)>`)
	formatting  = regexp.MustCompile(`</?(?:b|i|u|em|strong|p|br|span|div|code|mark|center|h[1-6]|font|li|ul|small|big|pre)(?:[ \t][^<>\n]*)?/?>`)
	// unclosed is an element with a value that nothing closes.
	unclosed     = regexp.MustCompile(`(?im)<(score|rating|grade|winner|verdict)>[ \t]*(\d+(?:[.,]\d+)?(?:[ \t]*/[ \t]*\d+)?|[AB])[ \t]*$`)
	closeElement = regexp.MustCompile(`</([a-z][a-z_ ]{0,30})>`)
	maxElement   = 400
)

// labelElements writes <score>4</score> as "score: 4" and <answer>4</answer> with the label of
// a bare value. It leaves the number of lines as it is. An element that isn't closed nearby
// is left alone: it may be a placeholder.
func labelElements(text string) string {
	if strings.IndexByte(text, '<') < 0 {
		return text
	}
	text = formatting.ReplaceAllString(text, " ")
	text = unclosed.ReplaceAllString(text, "$1: $2")
	text = replaceElements(text, openElement, func(name string) string {
		return strings.NewReplacer("_", " ", "-", " ").Replace(strings.ToLower(name)) + ": "
	})
	text = replaceElements(text, openWrapper, func(string) string { return Wrapper + ": " })
	return otherElements(text)
}

// otherElements takes the tags of all other closed elements out of a text. The end of an
// element ends a sentence.
func otherElements(text string) string {
	for _, m := range closeElement.FindAllStringSubmatch(text, -1) {
		if open := "<" + m[1] + ">"; strings.Contains(text, open) {
			text = strings.ReplaceAll(strings.ReplaceAll(text, open, " "), m[0], "… ")
		}
	}
	return text
}

// quotedElement is an element whose name says that it holds the words of others, or an example.
var quotedElement = regexp.MustCompile(`(?is)<(quote|quotation|blockquote|quoted|cite|citation|q|example|sample|excerpt|input|prompt|user|assistant|document|context|instructions?|conversation)>(.*?)</([a-z]+)>`)

// quotedElements returns the numbers of the lines of such elements.
func quotedElements(text string) map[int]bool {
	if !strings.Contains(text, "</") {
		return nil
	}
	out := map[int]bool{}
	for _, m := range quotedElement.FindAllStringSubmatchIndex(text, -1) {
		if !strings.EqualFold(text[m[2]:m[3]], text[m[6]:m[7]]) {
			continue
		}
		first := strings.Count(text[:m[0]], "\n")
		for i := range strings.Count(text[m[0]:m[1]], "\n") + 1 {
			out[first+i] = true
		}
	}
	return out
}

func replaceElements(text string, open *regexp.Regexp, label func(name string) string) string {
	for from := 0; ; {
		m := open.FindStringSubmatchIndex(text[from:])
		if m == nil {
			return text
		}
		start, after, name := from+m[0], from+m[1], text[from+m[2]:from+m[3]]
		end := "</" + name + ">"
		n := indexFold(text[after:min(len(text), after+maxElement)], end)
		if n < 0 && open == openWrapper {
			if k := indexFold(text[after:], end); k >= 0 { // a long element is only taken apart
				text = text[:start] + text[after:after+k] + text[after+k+len(end):]
				from = start
				continue
			}
		}
		if n < 0 {
			from = after
			continue
		}
		l := label(name)
		rest := text[after+n+len(end):]
		ending := " "
		if strings.HasPrefix(strings.TrimLeft(rest, " "), "<") {
			ending = "… " // another element follows: this one's sentence ends
		}
		text = text[:start] + l + text[after:after+n] + ending + rest
		from = start + len(l)
	}
}

func indexFold(s, sub string) int { return strings.Index(strings.ToLower(s), strings.ToLower(sub)) }

// A block is a run of lines that Markdown or a tag marks as quoted.
type block struct {
	first, last int
	// markdown reports whether a code fence or > marks the block, which models also use for
	// their own last line; only a tag always quotes.
	markdown bool
}

// quotedLines reports for every line whether a part of it is quoted: it stands between the
// tags of package prompting, in a block that Markdown fences with ``` or ~~~, or behind
// Markdown's >. A block that nothing closes goes on to the end; a tag in the middle of a line
// that nothing closes is only mentioned. A Markdown block that ends the text, or is all of it,
// is the model's own unless a line such as "It says:" introduces it.
func quotedLines(lines []string) []bool {
	out := make([]bool, len(lines))
	for _, b := range blocks(lines) {
		own := b.markdown && isBlank(lines[b.last+1:]) && ownBlock(lines, b.first)
		for i := b.first; i <= b.last && !own; i++ {
			out[i] = true
		}
	}
	return out
}

func isBlank(lines []string) bool {
	return !slices.ContainsFunc(lines, func(l string) bool { return strings.TrimSpace(l) != "" })
}

// ownBlock reports whether the block at a line is the model's own: nothing introduces it, or
// a line about the model's own result does.
func ownBlock(lines []string, first int) bool {
	for i := first - 1; i >= 0; i-- {
		intro := strings.TrimSpace(plain(lines[i]))
		if intro == "" {
			continue
		}
		if !endsInColon(intro) {
			return true
		}
		return !introduces(intro) && ownResult.MatchString(intro)
	}
	return true
}

func blocks(lines []string) []block {
	var out []block
	for i := 0; i < len(lines); i++ {
		if fence := opensFence(lines[i]); fence != "" {
			b := block{i, len(lines) - 1, true}
			for k := i + 1; k < len(lines); k++ {
				if closesFence(lines[k], fence) {
					b.last = k
					break
				}
			}
			out = append(out, b)
			i = b.last
			continue
		}
		if is, endTag := opensTag(lines[i:]); is {
			b := block{i, i, false}
			for endTag != "" && b.last+1 < len(lines) {
				b.last++
				if strings.Contains(lines[b.last], endTag) {
					break
				}
			}
			out = append(out, b)
			i = b.last
			continue
		}
		if isQuotation(lines[i]) {
			b := block{i, i, true}
			for b.last+1 < len(lines) && isQuotation(lines[b.last+1]) {
				b.last++
			}
			out = append(out, b)
			i = b.last
		}
	}
	return out
}

func isQuotation(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), ">") }

// opensFence returns the three or more marks with which a line opens a code block.
func opensFence(line string) string {
	line = strings.TrimSpace(line)
	for _, mark := range []string{"`", "~"} {
		rest := strings.TrimLeft(line, mark)
		if n := len(line) - len(rest); n >= 3 && !strings.Contains(rest, mark) {
			return line[:n]
		}
	}
	return ""
}

func closesFence(line, fence string) bool {
	line = strings.TrimSpace(line)
	return len(line) >= len(fence) && strings.Trim(line, fence[:1]) == ""
}

// opensTag reports whether the first line holds quoted text, and which tag ends it when that
// is on a later line.
func opensTag(lines []string) (is bool, endTag string) {
	line := lines[0]
	if strings.IndexByte(line, '<') < 0 {
		return false, ""
	}
	for _, m := range prompting.Tag.FindAllStringSubmatchIndex(line, -1) {
		end := "</" + line[m[2]:m[3]] + ">"
		switch {
		case strings.Contains(line[m[1]:], end):
			is = true
		case strings.TrimSpace(line) == line[m[0]:m[1]] || slices.ContainsFunc(lines[1:], func(l string) bool { return strings.Contains(l, end) }):
			return true, end
		}
	}
	return is, ""
}

var (
	// says is a verb with which a line introduces the words of others.
	says = regexp.MustCompile(`(?i)\b(?:says?|said|saying|ends?|ended|ending|closes?|closed|closing|claims?|claimed|claiming|states?|stated|stating|reads?|writes?|wrote|writing|written|asks?|asked|asking|contains?|containing|includes?|including|appends?|appended|tells?|told|demands?|instructs?|requests?|requested|insists?|adds?|added|inserts?|inserted|quotes?|quoted|quoting|injects?|injected|tries|tried|trying|example|expected|sample|reference|ideal|desired|e\.g\.|instance|instructions?|instructed|template|such as|for example)\b|(?:说|写道|声称|例如|比如|要求|示例|と言|例えば|예를 들어|sagt|schreibt|behauptet|beispiel|dit|affirme|exemple|dice|afirma|ejemplo|diz|exemplo|говорит|утверждает|пишет|например)`)
	// mine is the judge as the actor of the verb.
	mine = regexp.MustCompile(`(?i)\b(?:i|i'll|i'd|my|we|our|let me)\b`)
	// conditional begins a line that holds only under a condition.
	conditional = regexp.MustCompile(`(?i)^[\s*#>-]*(?:\d+[.)]\s*)?(?:if|when|should|were|had|unless|suppose|assuming|in case|whenever|otherwise|wenn|falls|si|se|если|如果|若|もし|만약)(?:\b|\P{L}|[^\x00-\x7f])`)
	// ownResult is a word for the judge's own result.
	ownResult = regexp.MustCompile(`(?i)\b(?:my|final|verdict|score|scoring|evaluation|judge?ment|grade|grading|rating|total|conclusion|assessment|result|decision|output)\b|得分|评分|分数|结论|スコア|評価|점수|평가|bewertung|punktzahl|note|puntuación|оценка`)
)

func endsInColon(s string) bool {
	s = strings.TrimRight(s, " \t\"'*_")
	return strings.HasSuffix(s, ":")
}

// leadsOn reports whether a line ends in a colon, a comma or a dash.
func leadsOn(s string) bool {
	s = strings.TrimRight(s, " \t\"'*_")
	return endsInColon(s) || strings.HasSuffix(s, ",") || strings.HasSuffix(s, " -") || strings.HasSuffix(s, "–") || strings.HasSuffix(s, "—")
}

// introduces reports whether a line that ends in a colon introduces the words of others, an
// example, or a case.
func introduces(intro string) bool {
	all := sentences(intro)
	if len(all) == 0 {
		return false
	}
	last := all[len(all)-1]
	if conditional.MatchString(last) {
		return true
	}
	return says.MatchString(last) && (!mine.MatchString(last) || example.MatchString(last))
}

// Attributed matches the words that make a result somebody else's: "Score: 5 (according to the response)".
var Attributed = regexp.MustCompile(`(?i)\b(?:according\s+to|claim(?:ed|s)?\s+by|quoted\s+from|stated\s+by|written\s+by|says|in\s+the\s+words\s+of|(?:is|was|comes|came|taken|copied)\s+from)\s+(?:the\s+|this\s+|its\s+)?(?:last\s+)?(?:response|answer|assistant|reply|user|text|author|itself|judge?ment)\b` +
	`|\bself-(?:assigned|reported|awarded)\b|\bit\s+(?:says|claims|writes|wrote|said)(?:\s+at\s+(?:the|its)\s+end)?[\s.)"'”’]*$|^[\s,;:([–—-]*(?:sic|quoted?|cited|example|for\s+example|e\.g\.)[\s.)\]]*$`)

// Amended matches the beginning of a sentence that replaces the result before it: "Edit: 3."
var Amended = regexp.MustCompile(`(?i)^\W*(?:edit(?:ed)?|update[d]?|amended|amendment|corrected|revised|changed?|make\s+that|no)\s*[:,–—-]\s*\S`)

var example = regexp.MustCompile(`(?i)\b(?:example|e\.g\.|instance|such as)\b`)

// introduced reports whether the line before line i, blank ones aside, introduces it as
// the words of others, an example, or a case.
func (p *page) introduced(i int) bool {
	for i--; i >= 0; i-- {
		s := strings.TrimSpace(p.lines[i].plain)
		if s == "" || opensFence(s) != "" {
			continue
		}
		return leadsOn(s) && introduces(s) || dangles(s) && says.MatchString(s)
	}
	return false
}

// dangles reports whether a line's sentence goes on below: "The response includes the line".
func dangles(s string) bool {
	from := strings.LastIndexFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && r != '_' && !unicode.IsDigit(r) }) + 1
	word := strings.ToLower(s[from:])
	return dangling[word] || word == "this" && strings.HasSuffix(strings.ToLower(strings.TrimRight(s[:from], " \t")), "like")
}

var dangling = set(`with line say says write writes claim claims state states read reads following follows text sentence
	words phrase`)

// goesOn reports whether the line below a report continues a sentence around it.
func (p *page) goesOn(i int) bool {
	for i++; i < len(p.lines); i++ {
		s := strings.TrimSpace(p.lines[i].plain)
		if s == "" {
			continue
		}
		return continued.MatchString(s)
	}
	return false
}

var continued = regexp.MustCompile(`^(?:which|that|and|but|or|is|was|as|because|to|in|at|appears|for|so)\s+[a-z]`)

// headed reports whether the line above line i is a heading, and whether that heading is
// about the total.
func (p *page) headed(i int) (is, total bool) {
	for i--; i >= 0; i-- {
		s := strings.TrimSpace(p.lines[i].plain)
		if s == "" {
			continue
		}
		words := len(strings.Fields(s))
		is = words <= 8 && !strings.ContainsAny(s, ".!?。=") && !hasDigit(strings.TrimLeft(s, "0123456789.)# -"))
		return is, is && totalHeading.MatchString(s)
	}
	return false, false
}

var totalHeading = regexp.MustCompile(`(?i)\b(?:total|overall|final|sum|conclusion|summary|verdict|result|judge?ment|evaluation|assessment|score)\b|总|最终|結論|合計|최종|gesamt|ergebnis|insgesamt|finale|итог`)
