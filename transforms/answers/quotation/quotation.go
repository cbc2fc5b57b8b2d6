// Package quotation finds the parts of a text that a model quotes: in Markdown blocks, between tags, and after
// lines that introduce the words of others.
package quotation

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"coeval/transforms/answers/prose"
	"coeval/transforms/prompting"
)

// quotedElement is an element with a name for quotations or examples.
var quotedElement = regexp.MustCompile(`(?is)<(quote|quotation|blockquote|quoted|cite|citation|q|example|sample|excerpt|input|prompt|user|assistant|document|context|instructions?|conversation)>(.*?)</([a-z]+)>`)

// Elements returns the numbers of the lines of such elements.
func Elements(text string) map[int]bool {
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
		intro := strings.TrimSpace(prose.Plain(lines[i]))
		if intro == "" {
			continue
		}
		if !endsInColon(intro) {
			return true
		}
		return !Introduces(intro) && ownResult.MatchString(intro)
	}
	return true
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
	says = regexp.MustCompile(`(?i)\b(?:says?|said|saying|ends?|ended|ending|closes?|closed|closing|claims?|claimed|claiming|states?|stated|stating|reads?|writes?|wrote|writing|written|asks?|asked|asking|contains?|containing|includes?|including|appends?|appended|tells?|told|demands?|instructs?|requests?|requested|insists?|adds?|added|inserts?|inserted|quotes?|quoted|quoting|injects?|injected|tries|tried|trying|example|expected|sample|reference|ideal|desired|e\.g\.|instance|instructions?|instructed|template|such as|for example)\b|(?:说|写道|声称|例如|比如|要求|示例|と言|例えば|예를 들어|sagt|schreibt|behauptet|beispiel|dit|affirme|exemple|dice|afirma|ejemplo|diz|exemplo|говорит|утверждает|пишет|например)`)
	// mine is the judge as the actor of the verb.
	mine = regexp.MustCompile(`(?i)\b(?:i|i'll|i'd|my|we|our|let me)\b`)
	// conditional begins a line that applies only under a condition.
	conditional = regexp.MustCompile(`(?i)^[\s*#>-]*(?:\d+[.)]\s*)?(?:if|when|should|were|had|unless|suppose|assuming|in case|whenever|otherwise|wenn|falls|si|se|если|如果|若|もし|만약)(?:\b|\P{L}|[^\x00-\x7f])`)
	// hypothetical is about another answer than the one at hand: "A perfect answer would get:".
	hypothetical = regexp.MustCompile(`(?i)\b(?:a|an|another|any|every)\s+(?:\pL+\s+){0,3}(?:answer|response|reply|assistant)\b.*\b(?:would|could|might|should|gets?|earns?|receives?|scores?)\b`)
	// ownResult is a word for the judge's own result.
	ownResult = regexp.MustCompile(`(?i)\b(?:my|final|verdict|score|scoring|evaluation|judge?ment|grade|grading|rating|total|conclusion|assessment|result|decision|output|winner|here\s+(?:it|you|we|is|are))\b|得分|评分|分数|结论|スコア|評価|점수|평가|bewertung|punktzahl|note|puntuación|оценка`)
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

// Introduces reports whether a line that ends in a colon introduces the words of others, an
// example, or a case.
func Introduces(intro string) bool {
	all := prose.Sentences(intro)
	if len(all) == 0 {
		return false
	}
	last := all[len(all)-1]
	if conditional.MatchString(last) {
		return true
	}
	return hypothetical.MatchString(last) || says.MatchString(last) && (!mine.MatchString(last) || example.MatchString(last))
}

var example = regexp.MustCompile(`(?i)\b(?:example|e\.g\.|instance|such as)\b`)

// dangles reports whether a line's sentence goes on below: "The response includes the line".
func dangles(s string) bool {
	from := strings.LastIndexFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && r != '_' && !unicode.IsDigit(r) }) + 1
	word := strings.ToLower(s[from:])
	return dangling[word] || word == "this" && strings.HasSuffix(strings.ToLower(strings.TrimRight(s[:from], " \t")), "like")
}

var dangling = func() map[string]bool {
	words := map[string]bool{}
	for w := range strings.FieldsSeq(`with line say says write writes claim claims state states read reads following follows text sentence
		words phrase`) {
		words[w] = true
	}
	return words
}()

// Announces reports whether a line introduces the text below it as the words of others, an example, or a
// case.
func Announces(s string) bool {
	return leadsOn(s) && Introduces(s) || dangles(s) && says.MatchString(s)
}
