package points

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"coeval/transforms/answers"
	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/prose"
	"coeval/transforms/answers/remarks"
)

var (
	// alternative begins a remark that makes one number two, or none.
	alternative = patterns.New(`(?i)^(?:or|to|and|through|plus|minus|maybe|perhaps|possibly|probably|if|unless|otherwise|bis|oder|ou|à|o|u|или|до|或|到|至|또는|または|から|ish|at\s+(?:most|least)|max|min|tops|times|percent|of|out|means?)(?:[^\pL]|$)|^(?:或|到|至)`)
	// ornament matches the signs around a heading: === Score: 3 ===.
	ornament   = patterns.New(`^(?:={2,}|~{2,}|<-+|<=+)\s*(?:final)?$`)
	deducted   = patterns.New(`(?i)\b(?:deduct\w*|docked|subtract\w*|points?\s+(?:off|lost)|loses?\s+\pL+\s+points?)\b`)
	undeducted = patterns.New(`(?i)\b(?:no|none|nothing|without|not|never|zero)\b|n't\b`)
	// loss begins a remark on lost points.
	loss = patterns.New(`(?i)^minus\s+(\d+(?:\.\d+)?|half\b|an?\b|one\b|two\b|three\b|four\b)`)
	// condition restricts a score to a case.
	condition = patterns.New(`(?i)\b(?:if|unless|otherwise|tentative(?:ly)?|alternative(?:ly)?|hypothetical(?:ly)?|provisional(?:ly)?|pending|rounded\s+(?:up\s+|down\s+)?to\s+(?:\d|two|three|four|five)|subject\s+to|provided\s+that\b|depending\s+on)\b|(?:^|[,;:(–—-])\s*provided\b|如果|若是|もし|만약|\bwenn\b|\bfalls\b|если`)
	// hesitation takes a score back in its own remark.
	hesitation = patterns.New(`(?i)^(?:no\s*(?:[,.;:!–—-]|wait|$)|wait\b|hmm|hold\s+on|actually|correction|sorry|scratch\s+that|on\s+second\s+thoughts?|i\s+mean|make\s+(?:it|that))|\bwait\b`)
	// connective are the lower-case words with which a remark may begin.
	connective = patterns.New(`(?i)^(?:because|since|as|due|given|for|with|which|while|although|though|but|based|it|this|thanks|considering|reflecting|indicating|meaning|rather|not|instead|overall|very|good|great|fair|poor|excellent|decent|solid|adequate|weil|da|denn|car|parce|porque|perché|потому|так)\b`)
	// restricted begins a remark that makes the value another one than the total of the whole answer.
	restricted = patterns.New(`(?i)^(?:subtotal|before\b|(?:without|excluding|except|ignoring|not\s+counting|apart\s+from)\s+(?:the\s+|any\s+)?(?:deduct\w*|penalt\w*|bonus|` + criteria + `)\b|excluding\b|normali[sz]ed|scaled|weighted|raw\b|part\s+\d` +
		`|(?:for\s+)?(?:the\s+)?(?:first|second|other|previous|next|reference|ideal)\s+(?:answer|response|reply|draft|version)\b|(?:for\s+)?(?:the\s+)?(?:first|second|third|last|other)\s+(?:part|half|section|paragraph)\b|(?:for\s+)?(?:response|answer|assistant|reply|model)\s+(?:\d|[A-Z])\b` +
		`|not\s+(?:earned|given|awarded|deserved|reached|possible|achieved|justified|warranted)\b|(?:only\b|(?:for|in|on|of|from|by|with|counting|considering|covering|based|judging|using|as)\b|.*\b(?:` + criteria + `|parts?|half|sections?|paragraphs?|answers?|responses?|reply|replies|content|draft|version|reasoning|scores?|ratings?|points|partial|tentative|estimate|maximum)\b).*\bonly\)?$)`)
	// firstOfSome begins a remark that gives the value to one criterion of several.
	firstOfSome = patterns.New(`(?i)^(?:for|on|in)\s+(?:the\s+)?(?:` + criteria + `)\s*(?:,|;|and|\+)\s*(?:and\s+)?\d`)
	// criterionOnly is a remark that names one criterion, or another ground than the rubric's, as "for effort": the
	// score is the one for that alone.
	criterionOnly = patterns.New(`(?i)^[\s(,:;–—-]*(?:for|in|on|regarding)?\s*(?:the\s+)?(?:` + criteria + `|(?:the\s+|its\s+|some\s+|good\s+)?(?:effort|trying|attempt|participation|intentions?))(?:\s+(?:only|alone))?\s*[).]?$`)
)

// criteria are the names of single criteria, as rubrics have them.
const criteria = `relevance|coverage|usefulness|form|excellence|accuracy|helpfulness|clarity|depth|creativity|completeness|harmlessness|correctness|conciseness|coherence|factuality|style|tone|format|formatting|structure|detail|level\s+of\s+detail|organi[sz]ation|safety|truthfulness|honesty|fluency|quality\s+of\s+writing|criterion\s*\d*|criteria\s*\d*`

// remark returns the rest of a value's sentence, the sentences after it, and a reason if the
// remark puts the value in doubt.
func (sc Scale) remark(c *cursor, n number) (remark, after, reason string) {
	s := strings.TrimSpace(c.rest())
	if s == "" {
		return "", "", ""
	}
	before, _ := utf8.DecodeLastRuneInString(c.s[:len(c.s)-len(s)])
	r, size := utf8.DecodeRuneInString(s)
	if (unicode.IsSymbol(r) && !strings.ContainsRune("+~≈^=<>±", r)) || unicode.Is(unicode.Mn, r) {
		c.at = len(c.s) - len(s) + size
		if rest := strings.TrimLeft(c.rest(), " "); unicode.IsLetter(firstRune(rest)) { // the symbol separates
			remark, after = prose.FirstSentence(rest)
			return remark, after, sc.checkRemark(remark, n)
		}
		return sc.remark(c, n)
	}
	if r == '.' || r == '!' || r == '。' || r == '…' {
		rest := strings.TrimLeft(s[size:], ".!。… ")
		if startsWithDigit(strings.TrimLeft(s[size:], ".…")) || trails(s) && offers(rest) {
			return "", "", answers.Ambiguous
		}
		return "", rest, ""
	}
	if ornament.MatchString(s) {
		return "", "", ""
	}
	if !(c.separated && unicode.IsLetter(r)) && !mayBegin(s, unicode.IsLetter(before) || unicode.IsDigit(before)) {
		return "", "", answers.Ambiguous
	}
	remark, after = prose.FirstSentence(s)
	return remark, after, sc.checkRemark(remark, n)
}

// trails reports whether a text begins with dots that leave a sentence open.
func trails(s string) bool { return strings.HasPrefix(s, "..") || strings.HasPrefix(s, "…") }

// offers reports whether a text begins with another value, or takes one back.
func offers(s string) bool { return alternative.MatchString(s) || hesitation.MatchString(s) }

// mayBegin reports whether a text can be a remark on the value before it, which it may touch.
func mayBegin(s string, touches bool) bool {
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case strings.ContainsRune("-–—,;:([", r):
		next := strings.TrimLeft(s[size:], " -–—([")
		if !hasLetterOrDigit(next) {
			return r != '-' || !touches
		}
		return !startsWithDigit(next) || r == '(' || r == '[' || partOfBreakdown(next)
	case unicode.IsLetter(r):
		return !touches && (connective.MatchString(s) || unicode.IsUpper(r))
	}
	if next := strings.TrimLeft(s[size:], " "); r == '=' || r == '/' {
		next = strings.TrimLeft(next, "/ ")
		return unicode.IsLetter(firstRune(next)) && !startsWithNumberWord(next)
	}
	return !unicode.IsDigit(r) && !strings.ContainsRune("?+~≈&^<>*±", r)
}

func hasLetterOrDigit(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}

func startsWithDigit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

var breakdownStart = patterns.New(`(?i)^\d+(?:[.,]\d+)?\s*(?:points?|pts?)?\s*(?:for|each|of|criteria|off|lost|deducted|docked|missing|\+)`)

func partOfBreakdown(s string) bool { return breakdownStart.MatchString(s) }

// checkRemark returns a reason if a remark puts the value in doubt: an alternative, a
// condition, a single criterion, or a number that the value doesn't explain.
func (sc Scale) checkRemark(s string, n number) (reason string) {
	bare := strings.TrimLeft(s, " ,;:([–—-")
	switch {
	case n.value*1000 == float64(sc.Max) && lessThanBest(s), alternative.MatchString(bare) && !sc.loses(s, bare, n.value), hesitation.MatchString(bare), restricted.MatchString(bare) && !sc.namesMet(bare, n.value), firstOfSome.MatchString(bare), sc.miscounts(s, n.value), sc.misstates(s, n.value), remarks.Hedged.MatchString(s), remarks.Attributed.MatchString(s), condition.MatchString(s), criterionOnly.MatchString(s) && !sc.namesMet(bare, n.value), strings.HasSuffix(strings.TrimRight(s, ")] "), "?"):
		return answers.Ambiguous
	}
	if lossWord.MatchString(s) {
		s = wordPoints(s)
	}
	if startsWithNumberWord(bare) {
		word := letters.FindString(bare)
		if next := strings.Fields(strings.TrimLeft(bare[len(word):], ")].")); len(next) == 0 || oneOf(next[0], "with without if when or otherwise") {
			if v := numberWords[strings.ToLower(strings.TrimSpace(word))]; v != n.value || len(next) > 0 {
				return answers.Ambiguous
			}
		}
	}
	if !strings.ContainsAny(s, "0123456789") {
		return ""
	}
	left, ok := sc.explain(s, n.value)
	if !ok {
		return answers.Ambiguous
	}
	return unexplained(left, n.value, float64(sc.Max)/1000)
}

// onlyCriteria is a remark that names the criteria which alone are met: "relevance and form only".
var onlyCriteria = patterns.New(`(?i)^(?:` + criteria + `)(?:\s*(?:,|&|\+|\band\b)+\s*(?:` + criteria + `))*\s+only\W*$`)

var criterionName = patterns.New(`(?i)\b(?:` + criteria + `)\b`)

// namesMet reports whether a remark names as many criteria as the value has points.
func (sc Scale) namesMet(bare string, value float64) bool {
	return sc == FivePoints && onlyCriteria.MatchString(bare) && float64(len(criterionName.FindAllString(bare, -1))) == value
}

var (
	// allPoints is a statement that the answer has all points.
	allPoints = patterns.New(`(?i)\ball\s+(?:of\s+)?(?:the\s+)?(?:five\s+|5\s+)?(?:points|marks)\s+(?:(?:are|were|have\s+been)\s+)?(?:awarded|given|earned|granted|reached|received|deserved)\b|^\W*(?:full|maximum|perfect|top)\s+(?:marks|points|score|rating)\b`)
	// notAll takes such a statement back.
	notAll = patterns.New(`(?i)\b(?:not|never|no|almost|nearly|but|except|would|for|minus|short)\b|n't\b`)
	// criterionFails is a statement that a criterion is not met.
	criterionFails = patterns.New(`(?i)\bcriteri(?:on|a)(?:\s+\d)?\s+(?:(?:clearly|also|only)\s+)?(?:fails?|failed|unmet|missed|violated|(?:is|are|was|were)(?:n't|\s+not)\s+(?:\pL+\s+)?(?:met|satisfied|fulfilled))\b`)
	noCriterion    = patterns.New(`(?i)\b(?:no|none|not\s+one|neither|without)\b|\bif\b`)
)

// misstates reports whether a remark says that all points are awarded though they aren't, or that a criterion
// fails though the score is the best one.
func (sc Scale) misstates(s string, value float64) bool {
	if value*1000 == float64(sc.Max) {
		return criterionFails.MatchString(s) && !noCriterion.MatchString(s)
	}
	return allPoints.MatchString(s) && !notAll.MatchString(s)
}

// counted matches a number of criteria that the answer meets, or doesn't.
var counted = patterns.New(`(?i)\b(all(?:\s+(?:of\s+the\s+)?five)?|no|none\s+of\s+the|zero|one|two|three|four|five|\d+)\s+(?:(?:out\s+)?of\s+(?:the\s+)?(?:five|5)\s+)?(?:of\s+the\s+)?criteri(?:a|on)(?:\s+(?:is|are|was|were|have\s+been))?\s*((?:not|un|n't)\s*)?(?:(?:fully|completely|clearly)\s+)?(met|satisfied|fulfilled|missed|failed)?`)

// notMet is the rest of such a count: "3 criteria met, 2 not met".
var notMet = patterns.New(`(?i)\d+\s+(?:(?:is|are|was|were)\s+)?(?:not\s+met|unmet|missed)\b`)

// exception goes on after such a count: "all criteria except excellence".
var exception = patterns.New(`(?i)^\W*(?:except|but|apart|save|other\s+than)\b`)

// inPart goes on after such a count with criteria that are met in part: "one of the criteria is only partly met".
var inPart = patterns.New(`(?i)^\s*(?:(?:only|just|merely|at\s+best|at\s+most)\s+)*(?:partly|partially|half|barely|weakly|in\s+part)\b`)

// meets matches the verb before the number of criteria.
var meets = patterns.New(`(?i)\b(?:meets|satisfies|fulfil?ls)\s*$`)

// miscounts reports whether a remark counts the criteria, of which each is worth a point, in a way that
// contradicts the value. A criterion may be met in part.
func (sc Scale) miscounts(s string, value float64) bool {
	if sc != FivePoints {
		return false
	}
	for _, m := range counted.FindAllStringSubmatchIndex(s, -1) {
		if m[2] > 0 && strings.IndexByte("/.", s[m[2]-1]) >= 0 { // a share of the criteria
			continue
		}
		if exception.MatchString(s[m[1]:]) || inPart.MatchString(s[m[1]:]) {
			continue
		}
		verb := ""
		if m[6] >= 0 {
			verb = strings.ToLower(s[m[6]:m[7]])
		}
		if verb == "" && !meets.MatchString(s[:m[2]]) && !strings.Contains(strings.ToLower(s[m[0]:m[1]]), "of") {
			continue
		}
		met := countOf(strings.ToLower(s[m[2]:m[3]]))
		if m[4] >= 0 || verb == "missed" || verb == "failed" {
			met = float64(sc.Max)/1000 - met
		}
		if math.Abs(met-value) >= 1 {
			return true
		}
	}
	return false
}

// countOf returns the number of criteria that a word names.
func countOf(word string) float64 {
	switch {
	case strings.HasPrefix(word, "all"):
		return 5
	case strings.HasPrefix(word, "no"):
		return 0
	}
	if v, ok := numberWords[word]; ok {
		return v
	}
	return parse(word)
}

// loses reports whether a remark in brackets is about the points between the best score
// and the value: 4 (minus one for padding).
func (sc Scale) loses(s, bare string, value float64) bool {
	m := loss.FindStringSubmatch(bare)
	if m == nil || !strings.HasPrefix(s, "(") && !strings.HasPrefix(s, "[") {
		return false
	}
	word := strings.ToLower(m[1])
	lost, isWord := map[string]float64{"half": 0.5, "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4}[word]
	if !isWord {
		lost = parse(word)
	}
	return math.Abs(float64(sc.Max)/1000-lost-value) < 1e-9
}

// lossWord is a word for points that are taken off.
var lossWord = patterns.New(`(?i)\b(?:deduct\w*|docked|subtract\w*|minus|less|lost|los(?:es|ing)|off|costs?|penal\w*|removed)\b`)

// pointWords are the amounts of points that models write in words.
var pointWords = patterns.New(`(?i)\b(half\s+an?|an?\s+half|one-half|half|an?\s+full|an?|one|two|three|four)(?:\s+(?:of\s+a\s+)?|-)points?\b`)

// wordPoints writes amounts of points in digits: 0.5 points for half a point.
func wordPoints(s string) string {
	return pointWords.ReplaceAllStringFunc(s, func(m string) string {
		word, _, _ := strings.Cut(strings.ToLower(m), " ")
		if v := numberWords[word]; v > 0 {
			return strconv.FormatFloat(v, 'f', -1, 64) + " points"
		}
		if strings.Contains(strings.ToLower(m), "half") {
			return "0.5 points"
		}
		return "1 points"
	})
}

// moreLost is a second loss in a remark: "and one for excellence".
var moreLost = patterns.New(`(?i)(?:\band|,)\s+(?:one|another|half|a\s+(?:half|full|whole|second|further)|the\s+other|\d)`)

// losses reports whether two sentences both take points off: "Half a point is off for X. One is lost for Y."
func losses(a, b string) bool { return takesPoints(a) && takesPoints(b) }

func takesPoints(s string) bool {
	return lossWord.MatchString(s) && lostPoints.MatchString(wordPoints(s))
}

// lessThanBest reports whether a remark takes points from the value before it.
func lessThanBest(s string) bool { return deducted.MatchString(s) && !undeducted.MatchString(s) }

func oneOf(word, list string) bool {
	for w := range strings.FieldsSeq(list) {
		if strings.EqualFold(word, w) {
			return true
		}
	}
	return false
}

var (
	ordinal = patterns.New(`\b\d+(?:st|nd|rd|th)\b|第?\d+(?:つ目|番目|個目|つ|個|項|项|个|處|处|条|行|段|步|번째|개|가지)`)
	// named is a name with a number, as criterion P5 or GPT4.
	named = patterns.New(`\b[A-Za-z]+\d+(?:\.\d+)*\b`)
	// computed is a number that code or a formula yields.
	computed    = patterns.New(`(?i)\b\pL+\(\d+\)|\b(?:yields?|returns?|prints?|outputs?|computes?)\s+-?\d+(?:\.\d+)?`)
	listOf      = `\s*#?\s*\d+(?:(?:\s*(?:-|–|,|&|、|和|und|et|y|to|through|and)\s*)+\d+)*`
	ofCriteria  = patterns.New(`(?i)(?:\b(?:criteri(?:on|a)|items?|rules?|steps?|aspects?|requirements?|parts?|questions?|sections?|point|no\.|tips?|paragraphs?|lines?|examples?|sentences?|bullets?|causes?|reasons?|sources?|claims?|facts?|tasks?|kriteri(?:um|en)|critères?|criterios?)|критери\pL*|标准|基準|기준|#)` + listOf)
	metCriteria = patterns.New(`(?i)\b(?:un)?(?:met|fulfilled|satisfied|missed|failed)\s*:` + listOf)
	shareOf     = patterns.New(`(?i)(\d+(?:\.\d+)?)\s*(?:out\s+)?of\s+(?:the\s+)?(\d+)\b|(\d+(?:\.\d+)?)\s*/\s*(\d+)`)
	sumOf       = patterns.New(`\d+(?:\.\d+)?(?:\s*(?:[+–-]|plus|minus)\s*\d+(?:\.\d+)?)+`)
	lostPoints  = patterns.New(`(?i)(?:^\s*[-–]\s*|(?:^|[\s(,])[-–]|扣[除了掉]?\s*|\b(?:minus|lost|loses|losing|missing|less|deduct(?:ed|ing)?|docked|subtract(?:ed|ing)?)\s+)(\d+(?:\.\d+)?)(?:\s*points?)?|(\d+(?:\.\d+)?)\s*points?\s+(?:was\s+|is\s+|are\s+|has\s+been\s+|have\s+been\s+|were\s+)?(?:off|deducted|lost|docked|removed|subtracted)`)
	denied      = patterns.New(`(?i)\b(?:not|rather\s+than|instead\s+of|short\s+of|from|than|below)\s+(?:a\s+)?\d+(?:\.\d+)?|\ba\s+\d+(?:\.\d+)?\s+(?:would|requires?|needs?)\b`)
	confidence  = patterns.New(`(?i)\bconfiden\pL*\b[^\d]{0,12}\d+(?:\.\d+)?\s*%?`)
	pointsFor   = patterns.New(`(?i)(\d+(?:\.\d+)?)\s*(?:points?|pts?)?\s*(?:for|on|in|each)\b`)
	terms       = patterns.New(`\b\d,\d,\d`)
	// slashed is a list of terms: 1/1/0/1/0.
	slashed      = patterns.New(`\d(?:\.\d)?(?:\s*/\s*\d(?:\.\d)?){2,}`)
	decimalComma = patterns.New(`(\d),(\d)`)
	anyNumber    = patterns.New(`\d+(?:[.,]\d+)?`)
	sumTerm      = patterns.New(`(?:([+–-]|plus|minus)\s*)?(\d+(?:\.\d+)?)`)
)

// explain takes the numbers out of a remark that agree with the value: criteria by number,
// shares of the criteria, sums, lost points, denied values. It returns false if one disagrees.
func (sc Scale) explain(s string, value float64) (left string, ok bool) {
	limit := float64(sc.Max) / 1000
	ok = true
	s = named.ReplaceAllString(computed.ReplaceAllString(ordinal.ReplaceAllString(s, ""), ""), "")
	s = slashed.ReplaceAllStringFunc(s, func(list string) string { return strings.ReplaceAll(list, "/", ", ") })
	if terms.MatchString(s) { // a list of terms, and no decimals
		s = strings.ReplaceAll(s, ",", ", ")
	} else if strings.Contains(s, "+") {
		s = decimalComma.ReplaceAllString(s, "$1.$2")
	}
	s = replaceMatches(shareOf, s, func(m []string) {
		share, of := parse(m[1]+m[3]), parse(m[2]+m[4])
		switch {
		case of == limit:
			ok = ok && (share == value || limit-share == value)
		case m[3] != "":
			ok = ok && math.Abs(share/of-value/limit) < 1e-9
		}
	})
	s = metCriteria.ReplaceAllString(ofCriteria.ReplaceAllString(s, ""), "")
	s = confidence.ReplaceAllString(s, "")
	if sc == FivePoints {
		s = notMet.ReplaceAllString(counted.ReplaceAllString(s, ""), "")
	}
	s = replaceMatches(sumOf, s, func(m []string) { ok = ok && evaluate(m[0]) == value })
	lost, found := 0.0, false
	s = replaceMatches(lostPoints, s, func(m []string) { lost, found = lost+parse(m[1]+m[2]), true })
	rest := limit - lost - value // lost for reasons without a number
	ok = ok && (!found || math.Abs(rest) < 1e-9 || rest > 0 && moreLost.MatchString(s))
	s = denied.ReplaceAllString(s, "")
	parts, n, each, small := 0.0, 0, false, true
	part := func(points float64) { parts, n, small = parts+points, n+1, small && points <= 1 }
	s = replaceMatches(pointsFor, s, func(m []string) {
		part(parse(m[1]))
		each = each || strings.HasSuffix(strings.ToLower(m[0]), "each")
	})
	if n == 0 {
		return s, ok
	}
	// Points for some of the criteria leave the others open.
	fits := small && parts <= value && value <= parts+limit-float64(n)
	return s, ok && (each || fits || math.Abs(parts-value) < 1e-9)
}

func replaceMatches(re *patterns.Pattern, s string, see func(m []string)) string {
	for _, m := range re.FindAllStringSubmatch(s, -1) {
		see(m)
	}
	return re.ReplaceAllString(s, " ")
}

func parse(s string) float64 {
	v, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", "."), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// evaluate returns the value of a sum.
func evaluate(s string) float64 {
	sum := 0.0
	for _, m := range sumTerm.FindAllStringSubmatch(s, -1) {
		if v := parse(m[2]); m[1] == "" || m[1] == "+" || m[1] == "plus" {
			sum += v
		} else {
			sum -= v
		}
	}
	return math.Round(sum*1e6) / 1e6
}

// subjunctive is a word for what could be: a number beside it is another score.
var subjunctive = patterns.New(`(?i)\b(?:could|would|might|may|wäre|könnte|würde|ginge|vertretbar|serait|pourrait|vaudrait|sería|podría|seria|poderia|sarebbe|potrebbe|zou|kunde|skulle|byłoby|mogłoby)\b|бы\s|можно|也可|可以|かもしれ|でもよい|수도|도 가능`)

// clauseEnd separates the clauses of a remark.
var clauseEnd = patterns.New(`(?i)[;–—]|,\s+(?:and|but|though|although|yet)\s`)

// clauseAt returns the clause around a position of a remark.
func clauseAt(s string, at int) string {
	start, end := 0, len(s)
	for _, m := range clauseEnd.FindAllStringIndex(s, -1) {
		if m[0] < at {
			start = m[1]
		} else {
			end = min(end, m[0])
		}
	}
	return s[start:end]
}

// unexplained returns a reason if a number that is left in a remark could be another score. A
// number before a noun is a fact, as in "it lists 3 examples".
func unexplained(s string, value, limit float64) (reason string) {
	all := anyNumber.FindAllStringIndex(s, -1)
	sum := 0.0
	for _, at := range all {
		sum += parse(s[at[0]:at[1]])
	}
	if len(all) > 1 && math.Abs(sum-value) < 1e-9 {
		return ""
	}
	for _, at := range all {
		next := strings.Fields(strings.TrimLeft(s[at[1]:], " "))
		before := strings.TrimLeft(s[:at[0]], " ,;:([–—-")
		fact := before != "" && len(next) > 0 && strings.HasPrefix(s[at[1]:], " ") && unicode.IsLetter(firstRune(next[0])) &&
			!oneOf(strings.Trim(next[0], ".,;:)"), "or if with without otherwise points point pts stars to and when but would could might may is was seems also too") && startsWithDigit(s[at[0]:])
		if v := parse(s[at[0]:at[1]]); (!fact || subjunctive.MatchString(clauseAt(s, at[0]))) && v != value && math.Abs(v*limit-value) > 1e-9 {
			return answers.Ambiguous
		}
	}
	return ""
}

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

var (
	claim   = patterns.New(`(?i)\b(?:scores?|scored|points?|pts|rating|rated?|graded?|marks?|total|award\w*|accept\w*|deserv\w*|g[ia]ves?|given|giving|assign\w*|earn\w*|deduct\w*|rais\w*|lower\w*|increas\w*|decreas\w*|adjust\w*|chang\w*|revis\w*|out\s+of|punkte?|puntos|puntuación|pontos|punti)\b|/\s*\d|[分点점]|балл|оценк|درجة|نقاط|スコア`)
	retract = patterns.New(`(?i)\b(?:not\s+(?:a\s+)?(?:valid|my)|manipulat\w*|injection|retract\w*|disagree|should\s+(?:read|have\s+(?:been|said))|too\s+(?:high|low|generous|harsh|strict|lenient)|should\s+be\s+(?:higher|lower|\d)|points?\s+(?:must|should|has\s+to|have\s+to|needs?\s+to)\s+(?:still\s+)?be\s+(?:taken|deducted|subtracted|removed)|hard\s+to\s+say)\b|(?:^\W*|\b(?:please|should\s+be|must\s+be|to\s+be)\s+)ignored?\b|\bignor(?:e|ed|ing)\s+(?:(?:the|my|that|this|all)\s+)+(?:\pL+\s+)?(?:score|line|rating|number|above|grade|verdict|instructions?|rubric)\b`)
	limits  = patterns.New(`(?i)\b(?:max(?:imum)?|minimum|highest|lowest|possible|perfect|full)\b[^\d.]{0,30}\d+(?:\.\d+)?|\bout\s+of:?\s+(?:a\s+possible\s+)?\d+|/\s*\d+|\bof\s+the\s+\d+`)
	partial = patterns.New(`(?i)^[\s•*+–-]*(?:\d+[.)]\s*)?(?:` + criteria + `|[\pL][\pL\s&/-]{2,30}:)`)
)

// adjusts is a line that changes the score above it: "Penalty: -1", "After the deduction: 3".
var adjusts = patterns.New(`(?i)^[\s•*+–-]*(?:(penalty|penalties|deductions?)|(bonus|plus|minus|less)|adjust\w*|after\s+(?:\pL+\s+){0,2}(?:penalty|deductions?|adjustments?|bonus)|actual|real|net)\b([^\d]{0,40})(\d+(?:\.\d+)?)(\s+\pL+)?`)

// adjusted reports whether such a line changes a value, and returns the line without its number. Lost points
// that lead from the best score to the value explain it, unless they have a sign, and 0 changes nothing. After
// "Plus," a number before a noun is a fact.
func (sc Scale) adjusted(s string, value float64) (left string, is bool) {
	m := adjusts.FindStringSubmatch(s)
	if m == nil {
		return s, false
	}
	amount := parse(m[4])
	counts := strings.TrimSpace(m[5])
	fact := strings.HasPrefix(m[3], ",") && counts != "" && !oneOf(counts, "point points pts marks for because since as in on off") && !claim.MatchString(m[3])
	signed := strings.ContainsAny(m[3], "-–+")
	explains := m[1] != "" && !signed && math.Abs(float64(sc.Max)/1000-amount-value) < 1e-9
	if fact || explains || m[1]+m[2] != "" && amount == 0 {
		return s[len(m[0]):], false
	}
	return s, amount != value
}

var (
	// rescales is a line with the end of the score's scale: "Out of: 10", "Scale: 1-10".
	rescales = patterns.New(`(?i)^[\s•*+(–-]*(?:(?:/|out\s+of|max(?:imum)?(?:\s+(?:score|points))?)\s*:?\s*(\d+)|scale\s*:?\s*(?:of\s+|from\s+)?\d+\s*(?:-|–|to)\s*(\d+))(?:\s*points?)?[\s.)]*$`)
	// concludes is a sentence that ends in another number, or that is about another judge: "so 2."
	concludes = patterns.New(`(?i)\b(?:so|thus|hence|therefore|making\s+it|that\s+makes|which\s+makes)\s*(?:,\s*)?(?:it(?:'s|\s+is)\s+|only\s+|a\s+)?(\d+(?:\.\d+)?)(?:\s*points?)?\W*$|\b(?:judges?|graders?|raters?)\b.*?\b(\d+(?:\.\d+)?)(?:\s*points?)?\W*$`)
)

var (
	// longSum is a sum of as many terms as only a total has.
	longSum = patterns.New(`\d+(?:\.\d+)?(?:\s*\+\s*\d+(?:\.\d+)?){2,}`)
	// criterionHead begins a line about one criterion.
	criterionHead = patterns.New(`(?i)^[\s•*+–-]*(?:\d+[.)]\s*)?(?:` + criteria + `)\b`)
)

// speaker begins a turn of somebody else's, which is no list of criteria.
var speaker = patterns.New(`(?i)^\W*(?:assistant|human|user|system|judge)\s*:`)

// contests reports whether a sentence after the score line contradicts it: with another
// number of points, or by taking it back.
func (sc Scale) contests(s string, thousandths int) bool {
	if m := rescales.FindStringSubmatch(s); m != nil {
		return !sc.isMax(m[1] + m[2])
	}
	if m := other.FindStringSubmatch(s); m != nil && parse(m[1])*1000 != float64(thousandths) {
		return true
	}
	if m := fairer.FindStringSubmatch(s); m != nil && parse(m[1])*1000 != float64(thousandths) {
		return true
	}
	if unreal.MatchString(s) && !scoreNeeds.MatchString(s) && !reconsiders(s) {
		return false
	}
	if m := advice.FindStringSubmatch(s); m != nil && strings.HasSuffix(m[1], "s") && !oneOf(m[1], "points pts marks stars less plus minus is was as this") {
		return false
	}
	if lossWord.MatchString(s) {
		s = wordPoints(s)
	}
	if m := concludes.FindStringSubmatch(s); m != nil && parse(m[1]+m[2])*1000 != float64(thousandths) {
		return true
	}
	value := float64(thousandths) / 1000
	s, changed := sc.adjusted(s, value)
	if changed {
		return true
	}
	if remarks.Retracted.MatchString(s) || retract.MatchString(s) || oneCriterion.MatchString(s) || remarks.Amended.MatchString(s) || remarks.Attributed.MatchString(s) {
		return true
	}
	if sc.miscounts(s, value) || sc.misstates(s, value) {
		return true
	}
	for _, sum := range longSum.FindAllString(s, -1) {
		if evaluate(sum) != value && !criterionHead.MatchString(s) {
			return true
		}
	}
	if !claim.MatchString(s) {
		return false
	}
	left, ok := sc.explain(limits.ReplaceAllString(s, " "), value)
	if !ok {
		return !partial.MatchString(s) || speaker.MatchString(s)
	}
	sum, differs := 0.0, false
	see := func(v float64) {
		sum += v
		differs = differs || v != value && (v > 1 || !partial.MatchString(s) || speaker.MatchString(s))
	}
	for _, m := range anyNumber.FindAllString(left, -1) {
		see(parse(m))
	}
	for _, word := range strings.FieldsFunc(left, func(r rune) bool { return !unicode.IsLetter(r) }) {
		if v, ok := numberWords[strings.ToLower(word)]; ok && len(word) > 1 && !oneOf(word, "one due dos tre tres null") {
			see(v)
		}
	}
	return differs && math.Abs(sum-value) > 1e-9
}

// unreal is a sentence about the score that a better answer would have, or about what another score takes: "A 5 would
// need sources."
var unreal = patterns.New(`(?i)^\W*(?:had\s+(?:it|the|this)|were\s+(?:it|the|this)|if\s+(?:it|the|this)\s).*\bwould\b` +
	`|^\W*(?:a|an|any|another)\s+(?:(?:much|far|even|truly|really)\s+)*(?:better|stronger|perfect|ideal|complete|full|fuller|shorter|longer|flawless|excellent|great|good|more\s+\pL+|\d(?:[.,]\d)?[\s-]*points?)\s+(?:answer|response|reply|version|one)\b.*\b(?:would|could|might|needs?)\b|^\W*an?\s+(?:answer|response|reply)\s+worth\b.*\b(?:would|could|might|needs?)\b` +
	`|^\W*(?:note\W+)?with(?:out)?\b.*\b(?:this|that|it|score|answer|response|reply)\s+(?:would|could|might)\s+have\b` +
	`|^\W*(?:an?|the)\s+(?:(?:full|higher|perfect|top)\s+)*(?:(?:score|rating|grade|mark)\s+of\s+)?(?:\d|one|two|three|four|five|score|mark)\S*(?:\s+points?)?\s+would\s+(?:also\s+|still\s+)?(?:have\s+)?(?:need(?:ed)?|require[d]?|take|taken|have\s+to|had\s+to)\b`)

// advice is a suggestion with a number of things, the first word of which is its group: "Give 2 or 3 sources."
var advice = patterns.New(`(?i)^\W*(?:\d+[.)]\W*)?(?:please\s+)?(?:give|provide|add|name|cite|list|include|use|write|keep|mention|offer|show|state|limit|choose|pick)\s+(?:\pL+\s+){0,2}\d+(?:\s*(?:or|to|-|–)\s*\d+)?\s+(\pL+)`)

// ownModal is the judge as the actor of a sentence about another score: "I would give 3 points."
var ownModal = patterns.New(`(?i)\b(?:i|we)(?:'d|\s+(?:would|could|might|should))\b`)

// counterfactual is a sentence about an answer that was not given: "If it had stopped there, I would have given 5."
var counterfactual = patterns.New(`(?i)^\W*(?:if\s+(?:it|the|this)\b.*\bhad|had\s+(?:it|the|this))\b.*\b(?:would|could|might)\s+have\b`)

// reconsiders reports whether the judge takes the score back in a sentence.
func reconsiders(s string) bool {
	return ownModal.MatchString(s) && !counterfactual.MatchString(s) || remarks.Retracted.MatchString(s) || retract.MatchString(s)
}

// fairer is a sentence that prefers another score: "A 4 would be fair too."
var fairer = patterns.New(`(?i)^\W*(?:(?:maybe|perhaps|but|though|although|however)\W+)*(?:an?\s+|the\s+)?(?:score\s+of\s+)?(?:an?\s+)?(\d(?:[.,]\d+)?)\s+(?:would|could|might|may)\s+(?:also\s+|well\s+|even\s+)*(?:be|have\s+been)\s+(?:(?:a|an|the|more|just|as|also|equally|perhaps)\s+)*(?:fair|fairer|better|just|justified|justifiable|right|accurate|appropriate|suitable|defensible|acceptable|possible|correct|reasonable|ok|okay|fine)\b`)

// scoreNeeds is a sentence that asks for another score.
var scoreNeeds = patterns.New(`(?i)\b(?:score|rating|grade|mark|total|verdict)\s+(?:would|needs?|must)\b|\bto\s+be\s+(?:a\s+)?(?:fair|just|correct|\d)`)

// other is a sentence that offers another number: Or maybe 5.
var other = patterns.New(`(?i)^\W*(?:(?:or|no|maybe|perhaps|possibly|more\s+like(?:ly)?|better|rather)\W+){0,3}(?:a\s+)?(\d+(?:\.\d+)?)\s*(?:points?)?\W*$`)

// oneCriterion is the score line of one criterion, which leaves open which line is the total.
var oneCriterion = patterns.New(`(?i)^[\s•*+–-]*(?:\d+[.)]\s*)?(?:` + criteria + `)\s+(?:score|rating)\s*[:=]`)

func differ(a, b int) bool { return a != b }

// lists reports whether the reports before the last one are a list of points that the last one adds up or
// concludes: at most one point for each criterion, or several scores on a scale without points for criteria.
func (sc Scale) lists(reports []answers.Report) bool {
	last := reports[len(reports)-1]
	sum, n := 0, 0
	for _, r := range reports[:len(reports)-1] {
		if r.Reason != "" {
			continue
		}
		if sc == FivePoints && r.Value > 1000 || r.Kind == answers.Total {
			return false
		}
		sum, n = sum+r.Value, n+1
	}
	return sum == last.Value || n > 1 && last.Kind == answers.Total
}

// merge returns a reason if two scores differ and the prose between them doesn't say that the second one
// corrects the first. Score lines with no prose between them are a repetition, of which the last one counts.
// It also returns a reason if the reports leave it open which one is the total: lines of at most one point
// each, or scores under the headings of several criteria.
func (sc Scale) merge(reports []answers.Report) (reason string) {
	last := reports[len(reports)-1]
	if by, changed := answers.Change(reports, differ); changed && by == answers.Separates && !sc.lists(reports) {
		return answers.Ambiguous
	}
	if last.Kind == answers.Total {
		return ""
	}
	// small counts the reports of at most one point at the end of the text, which may be single criteria.
	small, smallDiffer, differ, heads, partials := 0, false, false, 0, 0
	for _, r := range reports {
		if r.Reason != "" || r.Kind == answers.Total {
			continue
		}
		if r.Value > 1000 || sc.Max <= 1000 {
			small, smallDiffer = 0, false
		} else {
			small++
			smallDiffer = smallDiffer || r.Value != last.Value
		}
		differ = differ || r.Value != last.Value
		if r.Headed {
			heads++
		}
		if r.Partial {
			partials++
		}
	}
	switch {
	case small >= 3, small == 2 && smallDiffer,
		last.Headed && heads >= 2,
		last.Partial && (last.Value <= 1000 || partials >= 2),
		last.Kind == answers.Weak && differ:
		return answers.Ambiguous
	}
	return ""
}

var (
	totalWord   = patterns.New(`(?i)\b(?:total|overall|sum|scores?|scored|rating|rated?|graded?|final|altogether|in\s+all|adds?\s+up|adding\s+up|summing\s+up|sums\s+up|amounts?\s+to|comes?\s+to|worth)\b|\d\s*%\s+of\b|得分|分数|评分|总|スコア|合計|得点|점수|총|punktzahl|insgesamt|gesamt|puntuación|puntaje|оценк|итог|балл`)
	sumResult   = patterns.New(`\d\s*[+–-]\s*\d[^=]*=\s*\d`)
	numberAlone = patterns.New(`(?i)\d|\b(?:zero|one|two|three|four|five)\s+(?:points?|out\s+of)`)
	earns       = patterns.New(`(?i)\b(?:i|this|it|answer|response)\b.*\b(?:give|gives|award|assign|earns?|deserves?|gets?|receives?|merits?)\b[^.]*\b(?:\d+(?:\.\d+)?|two|three|four|five)\b`)
)

// states reports whether a sentence states the total: with a word for it and a number, as a
// share of the scale, or as the result of a sum.
func (sc Scale) states(s string) bool {
	limit := strconv.FormatFloat(float64(sc.Max)/1000, 'f', -1, 64)
	if sumResult.MatchString(s) || earns.MatchString(s) && !partial.MatchString(s) {
		return true
	}
	for _, m := range shareOf.FindAllStringSubmatch(s, -1) {
		if m[2]+m[4] == limit {
			return true
		}
	}
	return totalWord.MatchString(s) && numberAlone.MatchString(s)
}
