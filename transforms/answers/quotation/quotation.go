// Package quotation finds the parts of a text that a model quotes. Quotations are Markdown blocks, text
// between tags, and text after a line that introduces a quotation.
package quotation

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/prose"
	"coeval/transforms/prompting"
)

// quotedElement is an element with a name for quotations or examples.
var quotedElement = patterns.New(`(?is)<(quote|quotation|blockquote|quoted|cite|citation|q|example|sample|excerpt|input|prompt|user|assistant|document|context|instructions?|conversation)>`)

// Elements returns the numbers of the lines of such elements.
func Elements(text string) map[int]bool {
	if !strings.Contains(text, "</") {
		return nil
	}
	out := map[int]bool{}
	folded := prose.Fold(text)
	for _, m := range quotedElement.FindAllStringSubmatchIndex(text, -1) {
		size := strings.Index(folded[m[1]:], "</"+folded[m[2]:m[3]]+">")
		if size < 0 {
			continue
		}
		first := strings.Count(text[:m[0]], "\n")
		for i := range strings.Count(text[m[0]:m[1]+size], "\n") + 1 {
			out[first+i] = true
		}
	}
	return out
}

// A block is a run of lines that Markdown or a tag marks as quoted.
type block struct {
	first, last int
	// markdown reports whether a code fence or > marks the block, which models also use for
	// their own last line; only a tag always quotes.
	markdown bool
}

// Lines reports for every line whether a part of it is quoted: it stands between the
// tags of package prompting, in a block that Markdown fences with ``` or ~~~, or behind
// Markdown's >. A block that nothing closes goes on to the end; a tag in the middle of a line
// that nothing closes is only mentioned. A Markdown block that ends the text, or is all of it,
// is the model's own unless a line such as "It says:" introduces it.
func Lines(lines []string) []bool {
	out := make([]bool, len(lines))
	for _, b := range marked(lines) {
		for i := b.first; i <= b.last; i++ {
			out[i] = true
		}
	}
	for _, b := range blocks(lines) {
		if isHeading(lines, b) {
			continue
		}
		own := b.markdown && (isEnd(lines[b.last+1:]) && ownBlock(lines, b.first) || announced(lines, b.first))
		for i := b.first; i <= b.last && !own; i++ {
			out[i] = true
		}
	}
	return out
}

// marked returns the quotations of several lines between quotation marks. The first mark begins a line, the second one
// ends a line, and text follows below: marks may also enclose all that a model writes.
func marked(lines []string) []block {
	var out []block
	for i := 0; i < len(lines); i++ {
		s := strings.TrimLeft(lines[i], " \t>*_")
		if !Opens(s) {
			continue
		}
		mark := Closing(s)
		if mark == 0 {
			continue
		}
		for k := i + 1; k < min(len(lines), i+maxMarked); k++ {
			if !strings.ContainsRune(lines[k], mark) {
				continue
			}
			if strings.HasSuffix(strings.TrimRight(lines[k], " \t.,;*_"), string(mark)) && !isEnd(lines[k+1:]) && !isOwnEnd(lines[k+1:]) {
				out = append(out, block{first: i, last: k})
				i = k
			}
			break
		}
	}
	return out
}

// maxMarked is the number of lines of the longest such quotation.
const maxMarked = 40

// isOwnEnd reports whether lines say no more than that the text before them is the judge's own: "That is my evaluation."
func isOwnEnd(lines []string) bool {
	for _, l := range lines {
		if l = prose.Plain(l); strings.TrimSpace(l) != "" && (prose.HasMoreWords(l, maxOwnEnd) || !IsOwn(l)) {
			return false
		}
	}
	return true
}

// maxOwnEnd is the number of words of the longest such line.
const maxOwnEnd = 8

// closer returns the mark that closes a quotation, by the mark that opens it, and 0 for other characters.
func closer(r rune) rune {
	switch r {
	case '"':
		return '"'
	case '“':
		return '”'
	case '„':
		return '“'
	case '«':
		return '»'
	case '「':
		return '」'
	case '『':
		return '』'
	}
	return 0
}

// Opens reports whether a text begins with a mark that opens a quotation.
func Opens(s string) bool {
	first, _ := utf8.DecodeRuneInString(s)
	return closer(first) != 0
}

// Closing returns the mark that would close the quotation which is open at the end of a text, and 0 if none is.
func Closing(s string) rune {
	var mark rune
	for _, r := range s {
		switch {
		case mark == 0:
			mark = closer(r)
		case r == mark, mark == '“' && r == '”': // models mix the German marks with the English ones
			mark = 0
		}
	}
	return mark
}

// isHeading reports whether a block is one line of a few words behind >, which a model writes as a heading.
func isHeading(lines []string, b block) bool {
	if b.first != b.last || !isQuotation(lines[b.first]) || !bareWords.MatchString(lines[b.first]) {
		return false
	}
	for i := b.first - 1; i >= 0; i-- {
		if intro := strings.TrimSpace(prose.Plain(lines[i])); intro != "" {
			return !leadsOn(intro) && !quotes(intro) && !Introduces(intro)
		}
	}
	return true
}

var bareWords = patterns.New(`^\s*>[\s*_#]*\pL{2,}(?:\s+\pL{2,}){0,2}[\s*_:]*$`)

// isEnd reports whether lines are empty, or say no more than that the text ends.
func isEnd(lines []string) bool {
	return !slices.ContainsFunc(lines, func(l string) bool { return strings.TrimSpace(l) != "" && !ending.MatchString(l) })
}

// ending is a line after the judge's last word: "End of evaluation."
var ending = patterns.New(`(?i)^[\s*_#(\[-]*(?:end\s+of\s+(?:the\s+|my\s+)?(?:evaluation|judge?ment|assessment|review|comparison|analysis|report|output|text)|the\s+end|done|ende(?:\s+der\s+bewertung)?|fin|koniec|конец|完|以上|end)?[\s.!。*_)\]-]*$`)

// ownBlock reports whether the block at a line is the model's own: nothing introduces it, or
// a line about the model's own result does.
func ownBlock(lines []string, first int) bool {
	for i := first - 1; i >= 0; i-- {
		intro := strings.TrimSpace(prose.Plain(lines[i]))
		if intro == "" {
			continue
		}
		if !EndsInColon(intro) {
			return !quotes(intro)
		}
		return !Introduces(intro) && ownResult.MatchString(intro)
	}
	return true
}

// quotes reports whether the last sentence of a line is about a statement of the text that is judged: "The
// response closes by stating its own grade."
func quotes(intro string) bool {
	last := lastSentence(intro)
	return quoting.MatchString(last) && !mine.MatchString(last)
}

var quoting = patterns.New(`(?i)\b(?:response|answer|reply|assistant|author|text|user|it)\s+(?:(?:also|even|then|itself)\s+)?(?:ends|closes|concludes|finishes|says|claims|states|writes|asserts|asks|demands|tells|insists)\b`)

// announced reports whether a fenced block at a line is the model's own though more text follows: JSON
// that no line introduces, or a block below a line such as "Here is my evaluation:".
func announced(lines []string, first int) bool {
	fence := OpensFence(lines[first])
	if fence == "" {
		return false
	}
	for i := first - 1; i >= 0; i-- {
		intro := strings.TrimSpace(prose.Plain(lines[i]))
		if EndsInColon(intro) {
			return !Introduces(intro) && ownWork.MatchString(intro) && !others.MatchString(intro)
		}
		if intro != "" {
			break
		}
	}
	return strings.EqualFold(strings.TrimSpace(strings.TrimSpace(lines[first])[len(fence):]), "json")
}

func blocks(lines []string) []block {
	var out []block
	for i := 0; i < len(lines); i++ {
		if fence := OpensFence(lines[i]); fence != "" {
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

// OpensAt returns the line of a tag alone on its line that nothing closes, and false if there is none: the text
// below it may be quoted or not.
func OpensAt(lines []string) (at int, open bool) {
	for _, b := range blocks(lines) {
		if is, endTag := opensTag(lines[b.first:]); is && !b.markdown && b.last == len(lines)-1 && endTag != "" && !strings.Contains(lines[b.last], endTag) {
			return b.first, true
		}
	}
	return 0, false
}

func isQuotation(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), ">") }

// OpensFence returns the three or more marks with which a line opens a code block.
func OpensFence(line string) string {
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

// opensTag reports whether the first line contains quoted text, and which tag ends it if that is on a
// later line.
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
	says = patterns.New(`(?i)\b(?:says?|said|saying|ends?|ended|ending|starts|begins|opens|prints|outputs|displays|closes?|closed|closing|claims?|claimed|claiming|states?|stated|stating|reads?|writes?|wrote|writing|written|asks?|asked|asking|contains?|containing|includes?|including|appends?|appended|tells?|told|demands?|instructs?|requests?|requested|insists?|adds?|added|inserts?|inserted|quotes?|quoted|quoting|injects?|injected|tries|tried|trying|example|expected|sample|reference|ideal|desired|e\.g\.|instance|instructions?|instructed|template|such as|for example|(?:correct|required|expected|requested)\s+form(?:at)?\s+(?:is|would\s+be))\b|(?:说|写道|声称|例如|比如|要求|示例|と言|例えば|예를 들어|sagt|schreibt|behauptet|beispiel|dit|affirme|exemple|dice|afirma|ejemplo|diz|exemplo|говорит|утверждает|пишет|например)`)
	// mine is the judge as the actor of the verb.
	mine = patterns.New(`(?i)(?:^|[^\pL])(?:i|i'll|i'd|my|we|our|let me|ich|meine?|je|j|mon|ma|yo|mi|mis|eu|meu|minha|mio|mia|ik|mijn|я|мой|моя|моё|мою)(?:[^\pL]|$)|我|私|저는|제가|나의`)
	// conditional begins a line that applies only under a condition.
	conditional = patterns.New(`(?i)^[\s*#>-]*(?:\d+[.)]\s*)?(?:if|when|should|were|had|unless|suppose|assuming|in case|whenever|otherwise|wenn|falls|si|se|если|如果|若|もし|만약)(?:\b|\P{L}|[^\x00-\x7f])`)
	// hypothetical matches a line about another answer than the judged one, or about a changed form of it: "A perfect
	// answer would get:", "With a date it would be:".
	hypothetical = patterns.New(`(?i)\b(?:a|an|another|any|every)\s+(?:\pL+\s+){0,3}(?:answer|response|reply|assistant)\b.*\b(?:would|could|might|should|gets?|earns?|receives?|scores?)\b` +
		`|\b(?:it|this|that|which|answer|response|reply)\s+(?:would|could|might)\s+(?:(?:also|then|easily|even|well)\s+)?(?:have\s+)?(?:be(?:en)?|get|got(?:ten)?|earn(?:ed)?|receive[d]?|scored?|deserved?|merit(?:ed)?)\W*$` +
		`|\b(?:i|we)(?:'d|\s+(?:would|could|might))(?:\s+have|'ve)\s+(?:written|said|given|put|awarded|assigned|answered|concluded)\W*$` +
		`|(?:^|\P{L})(?:hätten?|aurait|aurais|habría|hubiera|teria|avrei|avrebbe)\P{L}.*:\W*$`)
	// format is about the form of an answer: "The format that I have to follow is:".
	format  = patterns.New(`(?i)^\W*(?:\pL+\s+){0,3}(?:format|template)(?:\s+\pL+){0,7}\s*:\W*$`)
	ownWork = patterns.New(`(?i)\b(?:my|verdict|evaluation|judge?ment|assessment|grading|here\s+(?:is|are)|here's|final\s+(?:score|rating|decision|output|result))\b|^\W*(?:score|rating|winner|decision|conclusion)\W*$`)
	others  = patterns.New(`(?i)\b(?:response|answer|assistant|user|code|program|author|reply)\b`)
	// foreign is a line about another judge, or about a part of the text that is judged.
	foreign = patterns.New(`(?i)\b(?:another|other|some|one|a\s+\pL+)\s+(?:judge|grader|reader|evaluator|reviewer|rater|person)s?\s+(?:would|could|might|may|gives?|gave|said|wrote)\b|\b(?:response|reply|answer|assistant|user|author|text|judge?ment(?:\s+[ab])?)'s\s+(?:own|self\S*|(?:very\s+)?(?:last|final|closing)\s+(?:lines?|sentences?|words?|paragraphs?|parts?))\b` +
		`|\b(?:response|reply|answer|assistant|author)\b[^.;:]*\b(?:spends?|ends?|closes?|devotes?|uses?|dedicates?|concludes?|finishes)\b[^.;:]*\b(?:its|the|their|his|her)\s+(?:very\s+)?(?:last|final|closing)\s+(?:lines?|sentences?|words?|paragraphs?|parts?)\b` +
		`|\b(?:lines?|sentences?|words?|phrase|statement|claim|remark|paragraph|block)\s+(?:(?:that\s+is|found|given|quoted)\s+)?(?:in|of|from|within|inside|at\s+the\s+(?:end|top|start)\s+of)\s+(?:(?:the|this)\s+(?:response|reply|answer|assistant|user|author|text|judge?ment)\b|(?:the\s+)?(?:judge?ment|response|answer)\s+[ab]\b)`)
	// ownResult is a word for the judge's own result.
	ownResult = patterns.New(`(?i)\b(?:my|final|verdict|score|scoring|evaluation|judge?ment|grade|grading|rating|total|conclusion|assessment|result|decision|output(?:\s+is)?\W*$|winner|here\s+(?:it|you|we|is|are))\b|得分|评分|分数|结论|スコア|評価|점수|평가|bewertung|punktzahl|note|puntuación|оценка`)
)

// EndsInColon reports whether a line ends in a colon, emphasis and quotation marks aside.
func EndsInColon(s string) bool {
	s = strings.TrimRight(s, " \t\"'*_")
	return strings.HasSuffix(s, ":")
}

// leadsOn reports whether a line ends in a colon, a comma or a dash.
func leadsOn(s string) bool {
	s = strings.TrimRight(s, " \t\"'*_")
	return EndsInColon(s) || strings.HasSuffix(s, ",") || strings.HasSuffix(s, " -") || strings.HasSuffix(s, "–") || strings.HasSuffix(s, "—")
}

// Introduces reports whether a line that ends in a colon introduces the words of others, an
// example, or a case.
func Introduces(intro string) bool {
	last := lastSentence(intro)
	if last == "" || wrapsUp(last) {
		return false
	}
	if conditional.MatchString(last) {
		return true
	}
	if format.MatchString(last) && !strings.HasPrefix(strings.ToLower(last), "in ") {
		return true
	}
	return hypothetical.MatchString(last) || foreign.MatchString(last) || says.MatchString(last) && (!mine.MatchString(last) || example.MatchString(last))
}

var example = patterns.New(`(?i)\b(?:example|e\.g\.|instance|such as)\b`)

// dangles reports whether a line's sentence goes on below: "The response includes the line".
func dangles(s string) bool {
	from := strings.LastIndexFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && r != '_' && !unicode.IsDigit(r) }) + 1
	word := strings.ToLower(s[from:])
	if s[from:] == "A" { // a name, as in "Verdict: B>A"
		return false
	}
	return dangling[word] || word == "this" && strings.HasSuffix(strings.ToLower(strings.TrimRight(s[:from], " \t")), "like")
}

var dangling = func() map[string]bool {
	words := map[string]bool{}
	for w := range strings.FieldsSeq(`with line say says write writes claim claims state states read reads following follows text sentence
		words phrase contains containing includes including ends ending quotes adds appends inserts prints outputs be been get gets got gotten give given receive receives received earn earns earned deserve deserves merit merits
		is are was were of to as at by for a an the than would could should might`) {
		words[w] = true
	}
	return words
}()

// Attributes reports whether the text before a result on its line makes it the words of others, an
// example, a case, or denies it.
func Attributes(s string) bool { return s != "" && (Introduces(s) || denies.MatchString(s)) }

var denies = patterns.New(`(?i)\b(?:not|never|cannot|neither|nor|without|answer|response|reply|code|program|author|user)\b|n't\b`)

// earns is a line that gives the text its result below: "The response therefore earns:".
var earns = patterns.New(`(?i)\b(?:this|the)\s+(?:response|answer|reply)\s+(?:(?:therefore|thus|hence|then|is|has)\s+)*(?:receives?|earns?|earned|gets?|scores?|deserves?|merits?|awarded|given)\s*:\W*$`)

// summary begins a line, or a clause, in which the judge sums up or turns to the form of its result: "Putting it all
// together:", "As requested:".
var summary = patterns.New(`(?i)^\W*(?:(?:so|and|now|finally|therefore|thus)\W+)*(?:(?:putting|taking|adding|summing|pulling|tying|weighing|bringing|tallying|counting|combining|considering|totalling|totaling)\s+(?:\pL+\s+){0,4}(?:together|up|account|consideration|everything|all|sum|points?|criteria|rubric|above|weaknesses|cons)` +
	`|as\s+(?:requested|required|instructed|asked|specified|prescribed|per\s+(?:the|your)\s+(?:instructions?|format|rubric|request))|in\s+the\s+(?:requested|required|specified|prescribed|desired)\s+(?:form|format)|all\s+things\s+considered|on\s+balance|all\s+in\s+all|to\s+(?:sum\s+up|conclude|summari[sz]e)|in\s+(?:short|summary|total|sum|conclusion)` +
	`|zusammenfassend|alles\s+(?:in\s+allem|zusammen\pL*)|unter\s+dem\s+strich|en\s+(?:résumé|resumen|définitive)|tout\s+bien\s+considéré|au\s+total|teniendo\s+todo\s+en\s+cuenta|en\s+resumen,\s+teniendo\s+todo\s+en\s+cuenta|em\s+resumo|no\s+total|in\s+sintesi|nel\s+complesso|samenvattend|podsumowując|sammanfattningsvis|(?:подводя\s+итог|в\s+итоге|в\s+целом)\pL*|综上所述?|综合(?:以上|来看)|まとめると|以上をまとめると|종합하면)\s*[:：,，、–—-]\s*`)

// Summary returns the clause at the beginning of a text in which the judge sums up.
func Summary(s string) string { return summary.FindString(s) }

func wrapsUp(s string) bool { return len(summary.FindString(s)) == len(s) && s != "" }

// IsOwn reports whether a line is about the model's own work or result.
func IsOwn(s string) bool {
	return earns.MatchString(s) || wrapsUp(s) || ownResult.MatchString(s) || ownWork.MatchString(s) || mine.MatchString(s)
}

// IsForeign reports whether a line is about another judge, or about a part of the text that is judged.
func IsForeign(s string) bool { return foreign.MatchString(s) }

// Presents reports whether a line that ends in a colon presents the words of others, over any number of lines.
func Presents(s string) bool {
	if !EndsInColon(s) {
		return false
	}
	return Announces(s) || presenting.MatchString(s) || others.MatchString(s) && !IsOwn(s) && !grounds.MatchString(s) && !judging.MatchString(s)
}

var (
	// presenting is a line about a text of somebody else's.
	presenting = patterns.New(`(?i)^\W*translat(?:ed|ion)\b|\b(?:colleague|coworker|supervisor|spreadsheet|few-shot|e-?mail|letter|customer\s+review)\b`)
	// judging begins a line about the judge's own work.
	judging = patterns.New(`(?i)^\W*(?:(?:now|let's|let\s+us)\W+)*(?:\pL+(?:ing)|how|what|where|why|whether)\b`)
	// grounds is a word for the judge's own list of grounds.
	grounds = patterns.New(`(?i)\b(?:criteri(?:on|a)|rubric|points?|steps?|strengths?|weaknesses|analysis|breakdown|comparison|reasoning)\b`)
)

// Announces reports whether a line introduces the text below it as the words of others, an example, or a
// case.
func Announces(s string) bool {
	return (leadsOn(s) || dangles(s)) && Introduces(s) || dangles(s) && says.MatchString(lastSentence(s))
}

// lastSentence returns the last sentence of a text, empty if there is none.
func lastSentence(s string) string {
	all := prose.Sentences(s)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}
