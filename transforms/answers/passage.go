package answers

import (
	"strings"

	"coeval/transforms/answers/patterns"
)

// A Passage is the kind of text between a report and the next one. Two results that differ are a correction
// only if the passage says so; after other prose either one may be meant. Later kinds are stronger.
type Passage int

const (
	// Adjoins is a passage without prose: blank lines, headings, quotations.
	Adjoins Passage = iota
	// Separates is prose that doesn't mention the result before it.
	Separates
	// Corrects is prose, or the label of the next report, that reconsiders or disowns the result before it, or
	// the end of the model's thoughts.
	Corrects
)

// Change returns the passage at the last change of value: after the last report whose value differs from
// that of the last report. It returns false if all values agree. Reports without a value and weak ones, such as "Tally: 2",
// don't count.
func Change(reports []Report, differ func(a, b int) bool) (by Passage, changed bool) {
	last := reports[len(reports)-1]
	for i := len(reports) - 2; i >= 0; i-- {
		if by = max(by, reports[i].Then); reports[i].Reason != "" || reports[i].Kind == Weak {
			continue
		}
		if differ(reports[i].Value, last.Value) {
			return by, true
		}
		by = Adjoins
	}
	return Adjoins, false
}

// passage returns the kind of the text between two reports.
func (p *page) passage(from, to Report) Passage {
	kind := Adjoins
	see := func(s string) {
		switch {
		case correction.MatchString(s):
			kind = Corrects
		case !isShort(strings.TrimLeft(s, "#>-+• \t")):
			kind = max(kind, Separates)
		}
	}
	see(from.remark)
	see(from.rest)
	for i := from.line; i <= to.line; i++ {
		if p.lines[i].endsThoughts && to.line > from.line {
			return Corrects
		}
		if i > from.endLine && i < to.line && !p.lines[i].quoted {
			see(p.lines[i].plain)
		}
	}
	if to.line > from.endLine {
		see(p.lines[to.line].plain[:to.start])
	}
	if relabelled.MatchString(to.label) {
		kind = Corrects
	}
	return kind
}

// relabelled is the label of a result that replaces an earlier one: "Revised score".
var relabelled = patterns.New(`(?i)\b(?:revised|updated|corrected|adjusted|amended)\b`)

// correction matches a sentence that reconsiders the result before it, or disowns it.
var correction = patterns.New(`(?i)^\W*(?:(?:but|oh|no|so|well)\W+)*(?:actually|apolog\w*|sorry|typo|wait|correction|revis(?:ed|ing|ion))\b|\bactually,|\b(?:this|that|it)\s+(?:is\s+not|isn't)\s+(?:quite\s+)?right\b|\b(?:i|we)(?:\W?a?m|\s+must|\s+have\s+to|\s+need\s+to|\s+will|\s+should)?\s+(?:\pL+\s+){0,2}(?:apolog\w*|sorry|revis\w*)\b|\b(?:my|(?:this|that|it|above)\s+(?:is|was)\s+an?)\s+(?:typo|slip|mistake|correction|revision)\b|\brevis\w+\s+(?:my|the)\s+(?:score|rating|grade|verdict|total|result)\b|\b(?:on\s+reflection|rethink\w*|thinking\s+about\s+it|oops|i\s+meant?|take\s+that\s+back|hmm+|second\s+thoughts?|reconsider\w*|reassess\w*|re-?(?:count|check|read|examin|evaluat|visit|calculat|grad)\w*|scratch\s+that|hold\s+on|once\s+(?:more|again)|(?:look|check|think|read|count|verify)(?:ing)?\s+(?:\pL+\s+){0,3}again|let\s+me\s+(?:\pL+\s+)?(?:verify|check|correct|fix|count)|(?:second|closer|further)\s+(?:look|reading|inspection)|i\s+(?:realis|realiz)\w*|i\s+(?:(?:have|just|apparently|must\s+have)\s+)*(?:mixed|swapped|confused|misread|mistook|misspoke|miscounted|mistyped|erred|made\s+an?\s+(?:\pL+\s+)?(?:mistake|error|slip|typo)|was\s+(?:wrong|mistaken|too))|my\s+(?:mistake|error|bad|own)|(?:response|answer|assistant|author|user)'s\s+own|manipulat\w*|injection|double-?check\w*|(?:not|n't)\s+mine|(?:this|that|which)\s+(?:is|was)\s+(?:my\s+|too\s+)\pL+` +
	`|(?:my|the)\s+(?:first|initial|earlier|previous|above)\s+(?:score|rating|grade|verdict|impression)|(?:chang|lower|rais|reduc|increas|decreas|adjust|correct|updat)\w*\s+(?:my|the\s+(?:score|rating|grade|total)|this\s+to|it\s+to)` +
	`|i\s+(?:(?:also|must|will|should|have\s+to|need\s+to|therefore|thus|so|had|have)\s+)*(?:deduct|subtract|add(?:ed)?|remove|lower|raise|reduce|overlooked|missed|misjudged|forgot)\w*)\b` +
	`|^\W*(?:deductions?|penalt(?:y|ies)|bonus|minus|less|plus|adjust\w*|after\s+(?:\pL+\s+){0,2}(?:deduct\w*|adjust\w*|penal\w*|bonus|review|check\w*))\b` +
	`|\b(?:moment(?:\s+mal)?|halt|korrektur|genauer\s+betrachtet|attendez|en\s+fait|réflexion|en\s+realidad|corrección|pensándolo|na\s+verdade|correção|aspetta|in\s+realtà|correzione)\b|等等|不对|不對|重新|更正|修正|待って|訂正|やはり|잠깐|정정|다시|исправл|на\s+самом\s+деле|подожд`)
