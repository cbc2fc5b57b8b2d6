package meta

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"coeval/schemas"
	"coeval/transforms/answers"
)

// nouns are words of judges for the two texts that they compare.
const nouns = `judge?ments?|judges?|response|option|assistant|model|evaluation|assessment|verdict|answer|candidate|critique|review|reviewer|grader|critic|grade|grading|ruling|opinion|rater|annotator|scorer|evaluator|text|choice|version|feedback|analysis|
	判断|判定|评价|評価|评判|評判|裁决|选项|回答|判決|審査|판단|판정|평가|응답|urteil|bewertung|beurteilung|antwort|jugement|évaluation|réponse|juicio|evaluación|respuesta|julgamento|avaliação|resposta|giudizio|valutazione|risposta|суждение|оценка|ответ|вариант|الحكم|التقييم|oordeel|beoordeling|ocena|bedömning`

var (
	noun = `(?:` + lookalikes.Replace(strings.Join(strings.Fields(nouns), "")) + `)`
	// named matches a letter with the words that may precede it.
	named = regexp.MustCompile(`(?i)^[\s("'“”„‚‘\[{<$….]*(?:(?:the|is|now|le|la|el|das|der|die|o|il|definitely|clearly|that|certainly|undoubtedly|obviously|overall|by\s+far)\s*,?\s+)*(?:` + noun + `'?s?[\s:("'\[<{_-]*)?([AB])(?:[^\pL\pN]|$|[\p{Han}\p{Hangul}\p{Hiragana}])`)
	// tie is a value that names the two or neither.
	tie = regexp.MustCompile(`(?i)^[\s("'“‘\[{<$]*(?:(?:it's|it\s+is|a|an|the|is|both|they\s+are)\s+)*(?:tie|tied|draw|both|neither|none|equal(?:ly)?|even|unentschieden|empate|égalité|pareggio|ничья|平局|平手|引き分け|무승부|تعادل|c\b)`)
	// joined is a remark that adds the other judgment to the first.
	joined = regexp.MustCompile(`(?i)^[\s)"'\]}>]*(?:(?:,\s*)?(?:and|or|&|/|\+|\?|…|\.\.+|oder|und|ou|et|o|y|e|或|和|与|跟|と|や|와|과|하고|랑|및|ve|dan|và|og|och|en|i|a|és|ja|και|और|و|または|또는|и|или)\s*(?:(?:maybe|perhaps|also|the|even)\s+)*(?:` + noun + `\s*[-_]?)?[AB](?:[^\pL\pN]|$)|,\s*(?:` + noun + `\s*[-_]?)?[AB]\b|;\s*(?:` + noun + `\s*[-_]?)?[AB]\s*(?:[.,;)\]]|$))`)
	// denied is a remark that rules the other judgment out: not B, rather than B.
	denied = regexp.MustCompile(`(?i)^[\s,(]*(?:(?:and|but)\s+)?(?:not|rather\s+than|instead\s+of|over)\s+(?:` + noun + `\s*[-_]?)?([AB])\s*[.)!]*$`)
	// compared is the sign between two letters: A > B.
	compared = regexp.MustCompile(`^[\s)"'\]}]*(>>?|<<?|=|≫|≪|≈|≥|≤|&gt;|&lt;)\s*(?:(?i:` + noun + `)\s*[-_]?)?([AB])\b`)
	closers  = regexp.MustCompile(`^[\s)"'”“’‘\]}>$|]+`)
	// byPlace names a judgment by its place in the prompt, and by its letter.
	byPlace = regexp.MustCompile(`(?i)^[\s("'“\[]*(?:the\s+)?(first|former|second|latter)(?:\s+(?:one|` + noun + `))?[\s,:]*[(\["'“]\s*(?:` + noun + `\s*)?([AB])\s*[)\]"'”]`)
	// hesitation takes the letter back in its own remark.
	hesitation = regexp.MustCompile(`(?i)^(?:no\s*(?:[,.;:!–—-]|wait|$)|hmm|hold\s+on|actually|correction|sorry|scratch\s+that|on\s+second\s+thoughts?|i\s+mean|make\s+(?:it|that))|\bwait\b`)
	repeated   = regexp.MustCompile(`(?i)^` + noun + `\s*[-_]?([AB])(?:[^\pL\pN]|$)`)
	doubtful   = regexp.MustCompile(`(?i)\b(?:if|unless|otherwise|tie|tied|draw|maybe|perhaps|or|either|equal(?:ly)?|not\s+(?:sure|certain)|toss-up|wenn|falls)\b|如果|若`)
	evenIf     = regexp.MustCompile(`(?i)\beven\s+if\b`)
	// positive follows "A is" in a verdict.
	positive  = regexp.MustCompile(`(?i)^(?:is|was|seems|as)?\s*(?:\pL+ly\s+|much\s+|far\s+|a\s+bit\s+|slightly\s+|the\s+|a\s+|still\s+|overall\s+)*(?:more\s+\pL+|better|superior|best|winner|correct|right|preferred|preferable|closer|stronger|most\s+\pL+|accurate|favou?red|it\s+\pL+)\b`)
	is        = regexp.MustCompile(`(?i)^(?:is|was|isn't|seems|are)\b`)
	reason    = regexp.MustCompile(`(?i)^(?:because|given|considering|since|as|due|for|with|by|over|which|while|whereas|despite|even|and\s+(?:it|here|this|not)|although|though|but|based|it|this|in|on|narrowly|clearly|slightly|overall|wins|has|gives|follows|weil|da|denn|car|porque)\b|^(?:更|が|です|입니다|이)`)
	possess   = regexp.MustCompile(`(?i)^'s\s+(?:` + noun + `)?`)
	theBefore = regexp.MustCompile(`(?i)\bthe\s+["'“\[(]?$`)
	// nounAfter follows a letter: the B judgment.
	nounAfter = regexp.MustCompile(`(?i)^[\s-]` + noun + `\W*$`)
	negated   = regexp.MustCompile(`(?i)\b(?:not|n't|neither|never|no longer|less)\b`)
)

// lookalikes are the letters of other scripts that look like A and B.
var lookalikes = strings.NewReplacer("А", "A", "В", "B", "Α", "A", "Β", "B", "а", "a", "β", "b")

// counterparts are the first two letters of other alphabets, which models write for A and B.
var counterparts = map[string]string{"أ": "A", "ب": "B", "א": "A", "ב": "B", "Б": "B", "甲": "A", "乙": "B"}

// firstLetters matches one of them where it stands alone, with a noun before it or not.
var firstLetters = regexp.MustCompile(`^[\s("'“\[{<]*(?:` + noun + `\s*)?([أبאבБ甲乙])(?:[^\pL\pN]|$)`)

// read reads the text after a label: which judgment it names.
func read(value string) answers.Value {
	s := strings.TrimSpace(lookalikes.Replace(value))
	if m := firstLetters.FindStringSubmatchIndex(s); m != nil {
		s = s[:m[2]] + counterparts[s[m[2]:m[3]]] + s[m[3]:]
	}
	if echo.MatchString(s) {
		return answers.Value{Reason: answers.Placeholder}
	}
	m := named.FindStringSubmatchIndex(s)
	if m == nil {
		if v, ok := place(s); ok {
			return v
		}
	}
	if m == nil || s[m[2]:m[3]] == "a" && articleA(s[m[3]:]) {
		return noLetter(s)
	}
	letter := strings.ToUpper(s[m[2]:m[3]])
	rest := possess.ReplaceAllString(s[m[3]:], "")
	if letter == "B" || theBefore.MatchString(s[:m[2]]) {
		rest = nounAfter.ReplaceAllString(rest, "")
	}
	if c := compared.FindStringSubmatch(rest); c != nil {
		return compare(letter, c[1], c[2], rest[len(c[0]):])
	}
	if joined.MatchString(rest) {
		return answers.Value{Reason: Ambiguous}
	}
	if d := denied.FindStringSubmatch(rest); d != nil && !strings.EqualFold(d[1], letter) {
		return answers.Value{N: int(winner(letter))}
	}
	touches := !strings.HasPrefix(rest, " ")
	rest = strings.TrimSpace(rest[len(closers.FindString(rest)):])
	return remark(letter, rest, touches)
}

// place reads a judgment that is named by its place and its letter, which must agree.
func place(s string) (v answers.Value, ok bool) {
	m := byPlace.FindStringSubmatch(s)
	if m == nil {
		return v, false
	}
	letter := strings.ToUpper(m[2])
	if word := strings.ToLower(m[1]); (letter == "A") != (word == "first" || word == "former") {
		return answers.Value{Reason: Ambiguous}, true
	}
	return remark(letter, strings.TrimSpace(s[len(m[0]):]), false), true
}

// articleA reports whether a small a is an article: a word follows it that is no remark.
func articleA(rest string) bool {
	word := strings.TrimLeft(rest, " ")
	return strings.HasPrefix(rest, " ") && word != "" && unicode.IsLetter(firstRune(word)) && !reason.MatchString(word) && !is.MatchString(word)
}

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

func noLetter(s string) answers.Value {
	switch {
	case tie.MatchString(s):
		return answers.Value{Reason: Tie}
	case placeholder.MatchString(s):
		return answers.Value{Reason: answers.Placeholder}
	}
	return answers.Value{Reason: Ambiguous}
}

// compare reads A > B and its like.
func compare(first, sign, second, rest string) answers.Value {
	if first == second && sign == "=" && !hasContent(rest) {
		return answers.Value{N: int(winner(first))}
	}
	if first == second || hasContent(rest) {
		return answers.Value{Reason: Ambiguous}
	}
	switch sign {
	case ">", ">>", "≫", "&gt;":
		return answers.Value{N: int(winner(first))}
	case "<", "<<", "≪", "&lt;":
		return answers.Value{N: int(winner(second))}
	case "=", "≈":
		return answers.Value{Reason: Tie}
	}
	return answers.Value{Reason: Ambiguous}
}

func winner(letter string) schemas.Winner {
	if letter == "A" {
		return schemas.First
	}
	return schemas.Second
}

func hasContent(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}

// remark checks what follows the letter: nothing, the judgment's name, the end of a sentence, or a
// reason.
func remark(letter, s string, touches bool) answers.Value {
	v := answers.Value{N: int(winner(letter))}
	if s == "" {
		return v
	}
	if m := repeated.FindStringSubmatchIndex(s); m != nil && strings.EqualFold(s[m[2]:m[3]], letter) {
		rest := s[m[3]:]
		return remark(letter, strings.TrimSpace(rest[len(closers.FindString(rest)):]), false)
	}
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r == '.' || r == '!' || r == '。':
		v.After = strings.TrimLeft(s[size:], ".!。 ")
		return v
	case r == '?' || r == '/' || r == '+' || r == '&' || r == '=' || r == '~':
		return answers.Value{Reason: Ambiguous}
	case touches && unicode.IsDigit(r) || touches && spacedLetter(r):
		return answers.Value{Reason: Ambiguous}
	case touches && r == '-' && !strings.HasPrefix(s, "- "): // a grade, or a word such as B-side
		return answers.Value{Reason: Ambiguous}
	}
	first, after := firstSentence(s)
	bare := strings.TrimLeft(first, " ,;:([–—-.…")
	switch {
	case hesitation.MatchString(bare):
		return answers.Value{Reason: Ambiguous}
	case isLoser(other(letter), first):
		return answers.Value{N: v.N, Remark: first, After: after}
	case splits(letter, first), answers.Attributed.MatchString(first):
		return answers.Value{Reason: Ambiguous}
	case doubtful.MatchString(evenIf.ReplaceAllString(first, "")) || negatedClaim(first):
		return answers.Value{Reason: map[bool]string{true: Tie, false: Ambiguous}[tie.MatchString(bare)]}
	case is.MatchString(bare) && !positive.MatchString(bare):
		return answers.Value{Reason: Ambiguous}
	case unicode.IsLetter(r) && spacedLetter(r) && !reason.MatchString(s) && !is.MatchString(s) && !positive.MatchString(s):
		return answers.Value{Reason: Ambiguous}
	case strings.HasSuffix(strings.TrimRight(first, ") "), "?"):
		return answers.Value{Reason: Ambiguous}
	}
	v.Remark, v.After = first, after
	return v
}

// isLoser reports whether a text is the line of the judgment that lost.
func isLoser(letter, s string) bool {
	m := loser.FindStringSubmatch(s)
	return m != nil && strings.EqualFold(m[1], letter)
}

func other(letter string) string {
	if letter == "A" {
		return "B"
	}
	return "A"
}

func spacedLetter(r rune) bool {
	return unicode.IsLetter(r) && !unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul)
}

var notBetter = regexp.MustCompile(`(?i)^(?:is|was|isn't|seems|does|doesn't)?\s*(?:not|n't|isn't|less|never)\b`)

// negatedClaim reports whether a remark denies the letter before it.
func negatedClaim(s string) bool { return notBetter.MatchString(strings.TrimLeft(s, " ,;:([–—-")) }

var sentenceEnd = regexp.MustCompile(`[.!?]["')\]]*(?:\s|$)|。`)

func firstSentence(s string) (first, rest string) {
	if at := sentenceEnd.FindStringIndex(s); at != nil {
		return s[:at[1]], s[at[1]:]
	}
	return s, ""
}

// split is a remark that gives a part of the verdict to the other judgment: "A on form, B on content".
var split = regexp.MustCompile(`[,;]\s*(?:(?i:and|but|while)\s+)?(?:(?i:` + noun + `)\s*[-_]?)?([AB])\s*(?:\(|\s(?i:on|in|for|at|is\s+(?:better|more\s+accurate)|wins)\b)`)

// shares is a remark that divides the verdict by numbers: "A 50%, B 50%".
var shares = regexp.MustCompile(`^[:\s(]*\d[^AB]*,\s*(?:(?i:` + noun + `)\s*[-_]?)?([AB])\b[:\s(]*\d`)

// beside is a remark that gives the other judgment the same rank: "with B", "for style but B for accuracy".
var beside = regexp.MustCompile(`^(?i:with)\s+(?:(?i:` + noun + `)\s*[-_]?)?([AB])\b|^(?i:for|on|in)\b.*\b(?i:but|and|while)\s+(?:(?i:` + noun + `)\s*[-_]?)?([AB])\s+(?i:for|on|in)\b`)

// rival is a remark that praises the other judgment as much: "although B is more accurate".
var rival = regexp.MustCompile(`(?:[,;]|\b(?i:but|while|although|though|yet|however|whereas))\s+(?:(?i:the)\s+)?(?:(?i:` + noun + `)\s*[-_]?)?([AB])\s+(?i:(?:is|was|seems)\s+(?:(?:still|much|clearly|slightly)\s+)?(?:the\s+)?(?:better|more\s+accurate|superior|winner|as\s+(?:good|accurate)|equally\s+\pL+)(?:\s+(?:one|overall|too|as\s+well))?|wins)[\s.)]*$`)

func splits(letter, remark string) bool {
	for _, re := range []*regexp.Regexp{split, shares, beside, rival} {
		if m := re.FindStringSubmatch(remark); m != nil && strings.Join(m[1:], "") != letter {
			return true
		}
	}
	return false
}

// The parts of a verdict in words.
const (
	conclusion = `^[\s*#>-]*(?:(?i:so|thus|therefore|hence|overall|finally|in\s+(?:conclusion|summary|the\s+end)|ultimately|(?:(?:my|the|final)\s+)*(?:conclusion|verdict|decision)|consequently|accordingly|` +
		`based\s+on\s+(?:this|the\s+(?:above|rubric))|to\s+conclude|(?:between|of)\s+the\s+two|on\s+balance|all\s+in\s+all|结论是?|因此|所以|最终结论)[\s,:]+)*`
	degree = `(?i:(?:therefore|thus|overall|clearly|slightly|marginally|somewhat|significantly|much|far|definitely|undoubtedly|a\s+bit|a\s+little)\s+)*`
)

var (
	// lettered is a judgment in a sentence: a noun with a letter, or a capital alone.
	lettered = `(?:(?i:the\s+)?(?i:` + noun + `)\s*[-_"'(\[]*((?i:[AB]))["')\]]*|(\[\[)?([AB])(?:\]\])?)`
	claims   = regexp.MustCompile(conclusion + lettered + `\s*(?i:(?:is|was)\s+` + degree + `(?:the\s+)?(?:more\s+accurate|better|superior|winner|best|most\s+accurate|preferable|preferred)(?:\s+(?:one|judge?ment|choice|option|evaluation|of\s+the\s+two))?|wins|获胜|胜出|胜|更准确|更正確|更好|更优|のほうが正確(?:です)?|の方が正確(?:です)?|の勝ち(?:です)?|が勝者(?:です)?|が優れている|가 더 정확합니다|가 승자입니다|가 더 낫습니다)`)
)

// sentence reads a verdict in words: "Judgment A is more accurate than Judgment B." A letter without a
// noun or brackets needs the other letter in the sentence: "A is better" may be about an option.
func sentence(s string) (n int, ok bool) {
	s = lookalikes.Replace(s)
	if m := ordered.FindStringSubmatch(s); m != nil && m[1] != m[2] {
		return int(winner(m[1])), true
	}
	m := claims.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	letter, sure := strings.ToUpper(m[1]+m[3]), m[1]+m[2] != ""
	rest := strings.TrimSpace(s[len(m[0]):])
	if than := thanOther.FindStringSubmatch(rest); than != nil {
		if strings.EqualFold(than[1], letter) {
			return 0, false
		}
		rest, sure = rest[len(than[0]):], true
	}
	return int(winner(letter)), sure && explains(rest)
}

// explains reports whether the rest of a sentence with a verdict is empty, or a reason.
func explains(rest string) bool {
	rest = strings.TrimLeft(strings.ToLower(rest), " .!。")
	return rest == "" || becauseOf.MatchString(rest) && !doubtful.MatchString(rest)
}

// ordered is a sentence that is nothing but A > B.
var ordered = regexp.MustCompile(`^\W*([AB])\s*(?:>>?|≫)\s*([AB])\W*$`)

var (
	thanOther = regexp.MustCompile(`(?i)^\s*(?:than|over)\s+(?:the\s+)?(?:` + noun + `\s*[-_]?)?([ab])\b`)
	becauseOf = regexp.MustCompile(`(?i)^,?\s*(?:because|since|as|due to|given)\b`)
	retract   = regexp.MustCompile(`(?i)\b(?:actually|wait|correction|on\s+second\s+thought|reconsider\w*|scratch\s+that|disregard\w*|ignore\s+(?:this|that)|not\s+my|tie|draw|equally|can(?:'|no)t\s+decide|unsure|uncertain)\b`)
	winning   = regexp.MustCompile(`(?i)\b(?:winner|wins?|more\s+accurate|better|superior|choose|prefer|pick|verdict|best)\b|胜|勝|승자|gewinner|ganador|gagnant`)
	loser     = regexp.MustCompile(`(?i)^\W*(?:loser|worse|less\s+accurate)\s*[:=]\s*(?:` + noun + `\s*[-_]?)?([AB])\b`)
	letterIn  = regexp.MustCompile(`\b[AB]\b`)
)

// contests reports whether a sentence after the verdict names another winner or takes the
// verdict back.
func contests(s string, n int) bool {
	s = lookalikes.Replace(s)
	if retract.MatchString(s) || answers.Amended.MatchString(s) || answers.Attributed.MatchString(s) {
		return true
	}
	if m := loser.FindStringSubmatch(s); m != nil {
		return int(winner(strings.ToUpper(m[1]))) == n
	}
	if !winning.MatchString(s) || negated.MatchString(s) && !letterIn.MatchString(s) {
		return false
	}
	all := letterIn.FindAllString(s, -1)
	if len(all) == 0 {
		return false
	}
	for _, l := range all {
		if int(winner(l)) != n {
			continue
		}
		return false
	}
	return true
}

// merge returns a reason if two reports name different judgments.
func merge(reports []answers.Report) (reason string) {
	last := reports[len(reports)-1]
	for _, r := range reports {
		if r.Reason == "" && r.Value != last.Value {
			return Ambiguous
		}
	}
	return ""
}
