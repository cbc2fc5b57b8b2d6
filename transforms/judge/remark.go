package judge

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"coeval/transforms/answers"
)

var (
	// alternative begins a remark that makes one number two, or none.
	alternative = regexp.MustCompile(`(?i)^(?:or|to|and|through|plus|minus|maybe|perhaps|possibly|probably|if|unless|otherwise|bis|oder|ou|à|o|u|или|до|或|到|至|또는|または|から|ish|at\s+(?:most|least)|max|min|tops|times|percent|of|out|means?)(?:[^\pL]|$)|^(?:或|到|至)`)
	// ornament is what stands around a heading: === Score: 3 ===.
	ornament   = regexp.MustCompile(`^(?:={2,}|~{2,}|<-+|<=+)\s*(?:final)?$`)
	deducted   = regexp.MustCompile(`(?i)\b(?:deduct\w*|docked|subtract\w*|points?\s+(?:off|lost)|loses?\s+\pL+\s+points?)\b`)
	undeducted = regexp.MustCompile(`(?i)\b(?:no|none|nothing|without|not|never|zero)\b|n't\b`)
	// loss begins a remark on lost points.
	loss = regexp.MustCompile(`(?i)^minus\s+(\d+(?:\.\d+)?|half\b|an?\b|one\b|two\b|three\b|four\b)`)
	// condition restricts a score to a case.
	condition = regexp.MustCompile(`(?i)\b(?:if|unless|otherwise|tentative(?:ly)?|provisional(?:ly)?|pending|rounded\s+(?:up\s+|down\s+)?to|subject\s+to|provided\s+that|depending\s+on)\b|如果|若是|もし|만약|\bwenn\b|\bfalls\b|если`)
	// hesitation takes a score back in its own remark.
	hesitation = regexp.MustCompile(`(?i)^(?:no\s*(?:[,.;:!–—-]|wait|$)|wait\b|hmm|hold\s+on|actually|correction|sorry|scratch\s+that|on\s+second\s+thoughts?|i\s+mean|make\s+(?:it|that))|\bwait\b`)
	// connective are the lower-case words with which a remark may begin.
	connective = regexp.MustCompile(`(?i)^(?:because|since|as|due|given|for|with|which|while|although|though|but|based|it|this|thanks|considering|reflecting|indicating|meaning|rather|not|instead|overall|weil|da|denn|car|parce|porque|perché|потому|так)\b`)
	// criterionOnly is a remark that names one criterion: the score is that criterion's alone.
	criterionOnly = regexp.MustCompile(`(?i)^[\s(,:;–—-]*(?:for|in|on|regarding)?\s*(?:the\s+)?(?:` + criteria + `)(?:\s+(?:only|alone))?\s*[).]?$`)
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
			remark, after = firstSentence(rest)
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
	remark, after = firstSentence(s)
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

var breakdownStart = regexp.MustCompile(`(?i)^\d+(?:[.,]\d+)?\s*(?:points?|pts?)?\s*(?:for|each|of|criteria|off|lost|deducted|docked|missing|\+)`)

func partOfBreakdown(s string) bool { return breakdownStart.MatchString(s) }

var sentenceEnd = regexp.MustCompile(`[.!?]["')\]]*(?:\s|$)|。`)

func firstSentence(s string) (first, rest string) {
	if at := sentenceEnd.FindStringIndex(s); at != nil {
		return s[:at[1]], s[at[1]:]
	}
	return s, ""
}

// checkRemark returns a reason if a remark puts the value in doubt: an alternative, a
// condition, a single criterion, or a number that the value doesn't explain.
func (sc Scale) checkRemark(s string, n number) (reason string) {
	bare := strings.TrimLeft(s, " ,;:([–—-")
	switch {
	case n.value*1000 == float64(sc.Max) && lessThanBest(s), alternative.MatchString(bare) && !sc.loses(s, bare, n.value), hesitation.MatchString(bare), answers.Attributed.MatchString(s), condition.MatchString(s), criterionOnly.MatchString(s), strings.HasSuffix(strings.TrimRight(s, ")] "), "?"):
		return answers.Ambiguous
	}
	if startsWithNumberWord(bare) {
		word := letters.FindString(bare)
		if next := strings.Fields(bare[len(word):]); len(next) == 0 || oneOf(next[0], "with without if when or otherwise") {
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
	ordinal     = regexp.MustCompile(`\b\d+(?:st|nd|rd|th)\b`)
	listOf      = `\s*#?\s*\d+(?:(?:\s*(?:-|–|,|&|、|和|und|et|y|to|through|and)\s*)+\d+)*`
	ofCriteria  = regexp.MustCompile(`(?i)(?:\b(?:criteri(?:on|a)|items?|rules?|steps?|aspects?|requirements?|parts?|questions?|sections?|point|no\.|kriteri(?:um|en)|critères?|criterios?)|критери\pL*|标准|基準|기준|#)` + listOf)
	metCriteria = regexp.MustCompile(`(?i)\b(?:un)?(?:met|fulfilled|satisfied|missed|failed)\s*:` + listOf)
	shareOf     = regexp.MustCompile(`(?i)(\d+(?:\.\d+)?)\s*(?:out\s+)?of\s+(?:the\s+)?(\d+)\b|(\d+(?:\.\d+)?)\s*/\s*(\d+)`)
	sumOf       = regexp.MustCompile(`\d+(?:\.\d+)?(?:\s*(?:[+–-]|plus|minus)\s*\d+(?:\.\d+)?)+`)
	lostPoints  = regexp.MustCompile(`(?i)(?:(?:^|[\s(,])[-–]|\b(?:minus|lost|loses|losing|missing|deduct(?:ed|ing)?|docked|subtract(?:ed|ing)?)\s+)(\d+(?:\.\d+)?)(?:\s*points?)?|(\d+(?:\.\d+)?)\s*points?\s+(?:was\s+|is\s+|has\s+been\s+|were\s+)?(?:off|deducted|lost|docked|removed|subtracted)`)
	denied      = regexp.MustCompile(`(?i)\b(?:not|rather\s+than|instead\s+of|short\s+of|from|than|below)\s+(?:a\s+)?\d+(?:\.\d+)?`)
	confidence  = regexp.MustCompile(`(?i)\bconfiden\pL*\b[^\d]{0,12}\d+(?:\.\d+)?\s*%?`)
	pointsFor   = regexp.MustCompile(`(?i)(\d+(?:\.\d+)?)\s*(?:points?|pts?)?\s*(?:for|on|in|each)\b`)
	terms       = regexp.MustCompile(`\b\d,\d,\d`)
	anyNumber   = regexp.MustCompile(`\d+(?:[.,]\d+)?`)
	sumTerm     = regexp.MustCompile(`(?:([+–-]|plus|minus)\s*)?(\d+(?:\.\d+)?)`)
)

// explain takes the numbers out of a remark that agree with the value: criteria by number,
// shares of the criteria, sums, lost points, denied values. It returns false if one disagrees.
func (sc Scale) explain(s string, value float64) (left string, ok bool) {
	limit := float64(sc.Max) / 1000
	ok = true
	s = ordinal.ReplaceAllString(s, "")
	if terms.MatchString(s) { // a list of terms, and no decimals
		s = strings.ReplaceAll(s, ",", ", ")
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
	s = replaceMatches(sumOf, s, func(m []string) { ok = ok && evaluate(m[0]) == value })
	lost, found := 0.0, false
	s = replaceMatches(lostPoints, s, func(m []string) { lost, found = lost+parse(m[1]+m[2]), true })
	ok = ok && (!found || math.Abs(limit-lost-value) < 1e-9)
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

func replaceMatches(re *regexp.Regexp, s string, see func(m []string)) string {
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
		if v := parse(s[at[0]:at[1]]); !fact && v != value && math.Abs(v*limit-value) > 1e-9 {
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
	claim   = regexp.MustCompile(`(?i)\b(?:scores?|scored|points?|pts|rating|rated?|graded?|marks?|total|award\w*|accept\w*|deserv\w*|g[ia]ves?|given|giving|assign\w*|earn\w*|deduct\w*|rais\w*|lower\w*|increas\w*|decreas\w*|adjust\w*|chang\w*|revis\w*|out\s+of|punkte?|puntos|puntuación|pontos|punti)\b|/\s*\d|[分点점]|балл|оценк|درجة|نقاط|スコア`)
	retract = regexp.MustCompile(`(?i)\b(?:not\s+(?:a\s+)?(?:valid|my)|disregard\w*|ignor(?:e|ed|ing)|manipulat\w*|injection|reconsider\w*|scratch\s+that|wait|correction|second\s+thoughts?|actually|retract\w*|disagree|i\s+meant?\b|typo|should\s+(?:read|have\s+(?:been|said))|apolog\w*|too\s+(?:high|low|generous|harsh|strict|lenient)|should\s+be\s+(?:higher|lower|\d)|not\s+sure|uncertain|unsure|hard\s+to\s+say)\b`)
	limits  = regexp.MustCompile(`(?i)\b(?:max(?:imum)?|minimum|highest|lowest|possible|perfect|full)\b[^\d.]{0,30}\d+(?:\.\d+)?|\bout\s+of:?\s+(?:a\s+possible\s+)?\d+|/\s*\d+|\bof\s+the\s+\d+`)
	partial = regexp.MustCompile(`(?i)^[\s•*+–-]*(?:\d+[.)]\s*)?(?:` + criteria + `|[\pL][\pL\s&/-]{2,30}:)`)
)

// contests reports whether a sentence after the score line contradicts it: with another
// number of points, or by taking it back.
func (sc Scale) contests(s string, thousandths int) bool {
	if m := other.FindStringSubmatch(s); m != nil && parse(m[1])*1000 != float64(thousandths) {
		return true
	}
	if retract.MatchString(s) || oneCriterion.MatchString(s) || answers.Amended.MatchString(s) || answers.Attributed.MatchString(s) {
		return true
	}
	if !claim.MatchString(s) {
		return false
	}
	value := float64(thousandths) / 1000
	left, ok := sc.explain(limits.ReplaceAllString(s, " "), value)
	if !ok {
		return !partial.MatchString(s)
	}
	sum, differs := 0.0, false
	see := func(v float64) {
		sum += v
		differs = differs || v != value && (v > 1 || !partial.MatchString(s))
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

// other is a sentence that offers another number: Or maybe 5.
var other = regexp.MustCompile(`(?i)^\W*(?:(?:or|maybe|perhaps|possibly|more\s+like(?:ly)?|better|rather)\W+){1,3}(?:a\s+)?(\d+(?:\.\d+)?)\s*(?:points?)?\W*$`)

// oneCriterion is the score line of one criterion, which leaves open which line is the total.
var oneCriterion = regexp.MustCompile(`(?i)^[\s•*+–-]*(?:\d+[.)]\s*)?(?:` + criteria + `)\s+(?:score|rating)\s*[:=]`)

// merge returns a reason if the reports of a text leave it open which one is the total: lines
// of at most one point each, or scores under the headings of several criteria.
func (sc Scale) merge(reports []answers.Report) (reason string) {
	last := reports[len(reports)-1]
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
	totalWord   = regexp.MustCompile(`(?i)\b(?:total|overall|sum|scores?|scored|rating|rated?|graded?|final|altogether|in\s+all|adds?\s+up|worth)\b|得分|分数|评分|总|スコア|合計|得点|점수|총|punktzahl|insgesamt|gesamt|puntuación|puntaje|оценк|итог|балл`)
	sumResult   = regexp.MustCompile(`\d\s*[+–-]\s*\d[^=]*=\s*\d`)
	numberAlone = regexp.MustCompile(`(?i)\d|\b(?:zero|one|two|three|four|five)\s+(?:points?|out\s+of)`)
	earns       = regexp.MustCompile(`(?i)\b(?:i|this|it|answer|response)\b.*\b(?:give|gives|award|assign|earns?|deserves?|gets?|receives?|merits?)\b[^.]*\b(?:\d+(?:\.\d+)?|two|three|four|five)\b`)
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
