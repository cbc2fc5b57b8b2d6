package meta

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"coeval/schemas"
	"coeval/transforms/answers"
	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/prose"
	"coeval/transforms/answers/remarks"
)

// nouns are words of judges for the two texts that they compare.
const nouns = `judge?ments?|output|letter|judges?|response|option|assistant|model|evaluation|assessment|verdict|answer|candidate|critique|review|reviewer|grader|critic|grade|grading|ruling|opinion|rater|annotator|scorer|evaluator|text|choice|version|feedback|analysis|
	判断|判定|评价|評価|评判|評判|裁决|选项|回答|判決|審査|판단|판정|평가|응답|urteil|bewertung|beurteilung|antwort|jugement|évaluation|réponse|juicio|evaluación|respuesta|julgamento|avaliação|resposta|giudizio|valutazione|risposta|суждение|оценка|ответ|вариант|الحكم|التقييم|oordeel|beoordeling|ocena|bedömning|osąd|werdykt|dom|yargı|yargısı|değerlendirme|değerlendirmesi|nhận xét|đánh giá|penilaian|keputusan|निर्णय|คำตัดสิน|richter|juge|juez|juiz|giudice|dommer|dommeren|domare|tuomari|bíró|hakem|hakim|sędzia|soudce|rechter|beoordelaar|karar|kararı|arvio|arviointi|értékelés|hodnocení|rozsudek|posudek|vurdering|evaluare|evaluarea|κρίση|κριτής|αξιολόγηση|оцінка|судження|суддя|судья|оценщик|评审|评委|裁判|评估|심사|심판`

var (
	noun = `(?:` + lookalikes.Replace(strings.Join(strings.Fields(strings.ReplaceAll(strings.Join(strings.Fields(nouns), " "), "| ", "|")), `\s+`)) + `)`
	// named matches a letter with the words that may precede it.
	named = patterns.New(`(?i)^[\s("'“”„‚‘\[{<$….=>–—\p{So}-]*(?:(?:the|is|now|i\s+(?:choose|pick|prefer|select)|it's|it\s+is|this\s+is|le|la|el|das|der|die|o|il|definitely|clearly|that|certainly|undoubtedly|obviously|overall|by\s+far)\s*,?\s+)*(?:` + noun + `(?:'s)?[\s:("'\[<{_#-]*)?([AB])(?:[^\pL\pN]|$|[\p{Han}\p{Hangul}\p{Hiragana}])`)
	// tie is a value that names the two or neither.
	tie = patterns.New(`(?i)^[\s("'“‘\[{<$]*(?:(?:it's|it\s+is|a|an|the|is|both|they\s+are)\s+)*(?:tie|tied|draw|both|neither|none|equal(?:ly)?|even|unentschieden|empate|égalité|pareggio|ничья|平局|平手|引き分け|무승부|تعادل|c\b)`)
	// joined is a remark that adds the other judgment to the first.
	joined = patterns.New(`(?i)^[\s)"'\]}>]*(?:(?:,\s*)?(?:(?:and|or|through|to|then|nor|vs\.?|versus|against|oder|und|ou|et|o|y|e|ve|dan|và|og|och|en|i|a|és|ja|και|और|و|или|и)\s+|(?:&|/|\+|\?|或|和|与|跟|と|や|와|과|하고|랑|및|또는|または)\s*)(?:(?:maybe|perhaps|also|the|even)\s+)*(?:` + noun + `\s*[-_]?)?([AB])(?:[^\pL\pN]|$)|,\s*(?:` + noun + `\s*[-_]?)?([AB])\b|(?:[;–(—-]|…|\.\.+)\s*(?:` + noun + `\s*[-_]?)?([AB])\s*(?:[.,;)\]]|$))`)
	// denied is a remark that rules the other judgment out: not B, rather than B.
	denied = patterns.New(`(?i)^[\s,(]*(?:(?:and|but)\s+)?(?:not|rather\s+than|instead\s+of|over)\s+(?:` + noun + `\s*[-_]?)?([AB])\s*[.)!]*$`)
	// compared is the sign between two letters: A > B.
	compared = patterns.New(`^[\s)"'\]}]*(>>?|<<?|=|≫|≪|≻|≺|≈|≥|≤|&gt;|&lt;)\s*(?:(?i:` + noun + `)\s*[-_]?)?([AB])\b`)
	closers  = patterns.New(`^[\s)"'”“’‘\]}>$|]+`)
	// byPlace names a judgment by its place in the prompt, and by its letter.
	byPlace = patterns.New(`(?i)^[\s("'“\[]*(?:the\s+)?(first|former|second|latter|` + noun + `\s*#?[12])(?:\s+(?:one|` + noun + `))?\s*[(\["'“,:]\s*(?:` + noun + `\s*)?([AB])\s*[)\]"'”]`)
	// hesitation takes the letter back in its own remark.
	hesitation = patterns.New(`(?i)^(?:no\s*(?:[,.;:!–—-]|wait|$)|hmm|hold\s+on|actually|correction|sorry|scratch\s+that|on\s+second\s+thoughts?|i\s+mean|make\s+(?:it|that))|\bwait\b`)
	repeated   = patterns.New(`(?i)^` + noun + `\s*[-_]?([AB])(?:[^\pL\pN]|$)`)
	doubtful   = patterns.New(`(?i)\b(?:if|unless|otherwise|tie|tied|draw|maybe|perhaps|or|either|equal(?:s|ly)?|not\s+(?:sure|certain)|toss-up|(?:might|could|may)\s+(?:also\s+|well\s+)?be|provided\s+that|assuming|at\s+first|50\s*[/:-]\s*50|coin|as\s+long\s+as|depend\w*|wenn|falls)\b|(?:^|[,;:(–—-])\s*provided\b|如果|若`)
	evenIf     = patterns.New(`(?i)\b(?:even\s+if|if\s+only)\b|\bonly\s+(?:just|slightly|marginally|barely|narrowly|somewhat|a\s+(?:little|bit)|by)\b`)
	// positive follows "A is" in a verdict.
	positive = patterns.New(`(?i)^(?:is|was|seems|as|would\s+be)?\s*(?:\pL+ly\s+|much\s+|far\s+|a\s+bit\s+|slightly\s+|the\s+|a\s+|still\s+|overall\s+)*(?:more\s+\pL+|better|superior|best|winner|correct|right|preferred|preferable|closer|stronger|most\s+\pL+|accurate|favou?red|it\s+\pL+|my\s+(?:choice|pick))\b`)
	is       = patterns.New(`(?i)^(?:is|was|isn't|seems|are|would|could|might|may|should|can)\b`)
	reason   = patterns.New(`(?i)^(?:because|given|considering|since|as|due|for|with|by|over|which|while|whereas|despite|even|and\s+(?:it|here|this|not)|although|though|but|based|it|this|in|on|narrowly|clearly|slightly|overall|wins|has|gives|follows|weil|da|denn|car|porque|` +
		`had|about|above|across|after|against|along|among|around|at|before|behind|below|beyond|during|from|of\s+(?:the\s+two|course)|per|regarding|thanks|according|owing|compared|through|throughout|under|unlike|until|upon|using|via|vs|versus|within|without|rather|only|still|here|again|indeed|so|then|was|does|did|would\s+be|karena|want|omdat|ponieważ|bo|fordi|eftersom|koska|çünkü|vì)\b|^(?:更|が|です|입니다|이)`)
	// faulty is a predicate that finds fault with the judgment that it is about.
	faulty = patterns.New(`(?i)^(?:\pL+ly\s+){0,2}(?:miss(?:es|ed)|overlook\w*|ignor\w*|lack\w*|fail\w*|mis(?:read|judg|stat|represent|appl|interpret|understand)\w*|over(?:stat|rat|estimat|praise)\w*|under(?:stat|rat|estimat)\w*|exaggerat\w*|wrong\w*|incorrect\w*|inaccurate\w*|unfair\w*|los(?:es|t)|does\s+not|doesn't|did\s+not|didn't|cannot|can't|neglect\w*|omit\w*|forget\w*|contradict\w*|worse|weaker|too|gets?\s+wrong|comes?\s+(?:second|last))\b`)
	// partial is a remark that gives a judgment one criterion, or a part of it, alone: "A on coverage".
	partial = patterns.New(`(?i)^(?:on|for|in|at|regarding|in\s+terms\s+of|when\s+it\s+comes\s+to)\s+(?:the\s+|its\s+)?(?:(?:relevance|coverage|usefulness|form|excellence|style|clarity|tone|format(?:ting)?|structure|length|wording|(?:criterion|criteria)\s*\d*)(?:\s+(?:only|alone))?[\s.,;:)]*(?:$|[;,]|and\b)|(?:first|second|third|last|opening)\s+\pL+)`)
	// notIt denies the letter before it in languages that put the negation last.
	notIt = patterns.New(`^\s*(?:では(?:な|無|あり)|じゃな|不|并非|並非|未必|(?:가|이|은|는)\s*(?:아니|아님|아닌|안\s))`)
	// comparative is a phrase about a judgment without a name: "A better judgment is".
	comparative = patterns.New(`(?i)^(?:better|(?:more|most|less)\s+\pL+)\s+` + noun + `\b`)
	possess     = patterns.New(`(?i)^['’]s\s+(?:((?:` + noun + `|reasoning|reasons|scoring|total|score)\b))?`)
	theBefore   = patterns.New(`(?i)\bthe\s+["'“\[(]?$`)
	// nounAfter follows a letter: the B judgment.
	nounAfter = patterns.New(`(?i)^[\s-]` + noun + `\W*$`)
	negated   = patterns.New(`(?i)\b(?:not|n't|neither|never|no longer|less)\b`)
)

// lookalikes are the letters of other scripts that look like A and B.
var lookalikes = strings.NewReplacer("А", "A", "В", "B", "Α", "A", "Β", "B", "а", "a", "β", "b")

// counterparts are the first two letters of other alphabets, which models write for A and B.
var counterparts = map[string]string{"أ": "A", "ب": "B", "א": "A", "ב": "B", "Б": "B", "甲": "A", "乙": "B"}

// firstLetters matches one of them where it stands alone, with a noun before it or not.
var firstLetters = patterns.New(`^[\s("'“\[{<]*(?:` + noun + `\s*)?([أبאבБ甲乙])(?:[^\pL\pN]|$)`)

// read reads the text after a label: which judgment it names.
func read(value string) answers.Value {
	s := strings.TrimSpace(lookalikes.Replace(value))
	if s == "A" || s == "B" { // almost all values are a letter
		return answers.Value{N: int(winner(s))}
	}
	if !prose.IsASCII(s) {
		if m := firstLetters.FindStringSubmatchIndex(s); m != nil {
			s = s[:m[2]] + counterparts[s[m[2]:m[3]]] + s[m[3]:]
		}
	}
	if at := echo.FindStringIndex(s); at != nil {
		if rest := strings.TrimLeft(s[at[1]:], " :=-"); hasContent(rest) {
			return read(rest)
		}
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
	rest := s[m[3]:]
	if of := possess.FindStringSubmatchIndex(rest); of != nil {
		if of[2] < 0 { // something else of the judgment's
			return answers.Value{Reason: Ambiguous}
		}
		rest = " " + rest[of[1]:]
	}
	if letter == "B" || theBefore.MatchString(s[:m[2]]) {
		rest = nounAfter.ReplaceAllString(rest, "")
	}
	if c := compared.FindStringSubmatch(rest); c != nil {
		return compare(letter, c[1], c[2], rest[len(c[0]):])
	}
	if j := joined.FindStringSubmatch(rest); j != nil && !strings.EqualFold(strings.Join(j[1:], ""), letter) {
		return answers.Value{Reason: Ambiguous}
	}
	if d := denied.FindStringSubmatch(rest); d != nil {
		if strings.EqualFold(d[1], letter) {
			return answers.Value{Reason: Ambiguous}
		}
		return answers.Value{N: int(winner(letter))}
	}
	closed := closers.FindString(rest)
	rest = rest[len(closed):]
	return remark(letter, strings.TrimSpace(rest), closed == "" && !strings.HasPrefix(rest, " "), hasContent(s[:m[2]]) || strings.TrimSpace(closed) != "")
}

// place reads a judgment that is named by its place and its letter, which must agree.
func place(s string) (v answers.Value, ok bool) {
	m := byPlace.FindStringSubmatch(s)
	if m == nil {
		return v, false
	}
	letter := strings.ToUpper(m[2])
	if word := strings.ToLower(m[1]); (letter == "A") != (word == "first" || word == "former" || strings.HasSuffix(word, "1")) {
		return answers.Value{Reason: Ambiguous}, true
	}
	return remark(letter, strings.TrimSpace(s[len(m[0]):]), false, true), true
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
	best := first
	switch sign {
	case ">", ">>", "≫", "≻", "&gt;":
	case "<", "<<", "≪", "≺", "&lt;":
		best = second
	case "=", "≈":
		if first != second {
			return answers.Value{Reason: Tie}
		}
	default:
		return answers.Value{Reason: Ambiguous}
	}
	rest = strings.TrimLeft(rest, " )]}\"'")
	if first == second && (sign != "=" || hasContent(rest)) || strings.IndexAny(rest, "<>=") == 0 {
		return answers.Value{Reason: Ambiguous}
	}
	return remark(best, rest, false, false)
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

// remark checks the text after the letter, which may explain the verdict. Touches reports whether nothing
// stands between the two. Bound reports whether the letter can't be a part of a phrase, because a noun
// or brackets stand with it: "A matter of taste" is no verdict.
func remark(letter, s string, touches, bound bool) answers.Value {
	v := answers.Value{N: int(winner(letter))}
	if s == "" {
		return v
	}
	if m := repeated.FindStringSubmatchIndex(s); m != nil && strings.EqualFold(s[m[2]:m[3]], letter) {
		rest := s[m[3]:]
		return remark(letter, strings.TrimSpace(rest[len(closers.FindString(rest)):]), false, true)
	}
	if open := strings.TrimLeft(s, ".… "); (strings.HasPrefix(s, "..") || strings.HasPrefix(s, "…")) && open != "" && unicode.IsLower(firstRune(open)) {
		s = ", " + open // the dots leave the sentence open
	}
	if sign := arrow.FindString(s); sign != "" {
		s = ", " + s[len(sign):]
	}
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case only(s) == other(letter), remarks.Hedged.MatchString(s):
		return answers.Value{Reason: Ambiguous}
	case touches && r == '.' && unicode.IsDigit(firstRune(s[size:])):
		return answers.Value{Reason: Ambiguous}
	case r == '.' || r == '!' || r == '。':
		v.After = strings.TrimLeft(s[size:], ".!。 ")
		return v
	case r == '?' || r == '/' || r == '+' || r == '&' || r == '=' || r == '~' || r == '<':
		return answers.Value{Reason: Ambiguous}
	case touches && unicode.IsDigit(r) || touches && spacedLetter(r):
		return answers.Value{Reason: Ambiguous}
	case touches && r == '-' && !strings.HasPrefix(s, "- "): // a grade, or a word such as B-side
		return answers.Value{Reason: Ambiguous}
	}
	first, after := prose.FirstSentence(s)
	bare := strings.TrimLeft(first, " ,;:([–—-.…")
	switch {
	case hesitation.MatchString(bare), partial.MatchString(bare), notIt.MatchString(s):
		return answers.Value{Reason: Ambiguous}
	case isLoser(other(letter), first):
		return answers.Value{N: v.N, Remark: first, After: after}
	case splits(letter, first), remarks.Attributed.MatchString(first):
		return answers.Value{Reason: Ambiguous}
	case doubtful.MatchString(evenIf.ReplaceAllString(first, "")) || negatedClaim(first):
		return answers.Value{Reason: map[bool]string{true: Tie, false: Ambiguous}[tie.MatchString(bare)]}
	case is.MatchString(bare) && !positive.MatchString(bare):
		return answers.Value{Reason: Ambiguous}
	case spacedLetter(r) && (faulty.MatchString(s) || !continues(s, bound)):
		return answers.Value{Reason: Ambiguous}
	case strings.HasSuffix(strings.TrimRight(first, ") "), "?"):
		return answers.Value{Reason: Ambiguous}
	}
	v.Remark, v.After = first, after
	return v
}

// continues reports whether a phrase goes on after a letter in a way that leaves the letter the name of a
// judgment: with a function word, a verb, or any word after a bound letter.
func continues(s string, bound bool) bool {
	if comparative.MatchString(s) {
		return false
	}
	if reason.MatchString(s) || is.MatchString(s) || positive.MatchString(s) {
		return true
	}
	if !unicode.IsLower(firstRune(s)) {
		return false
	}
	for word := range strings.FieldsSeq(s) {
		word = strings.TrimRight(word, ".,;:!)")
		if strings.HasSuffix(word, "ly") {
			continue
		}
		return bound || reason.MatchString(word) || pastTense.MatchString(s) || len(word) > 3 && strings.HasSuffix(word, "s") && !strings.HasSuffix(word, "ss") && !strings.HasSuffix(word, "us")
	}
	return true
}

// pastTense is a verb in -ed with an object: "A noticed the slip".
var pastTense = patterns.New(`(?i)^(?:\pL+ly\s+){0,2}\pL+ed\s+(?:the|an?|its?|this|that|both|all|each|every|points?|more)\b`)

// arrow matches a sign between a verdict and its reason.
var arrow = patterns.New(`^(?:={1,2}>|-{1,2}>|//|#)\s*`)

// single matches a text that only names a judgment: "No, B."
var single = patterns.New(`(?i)^[^\pL\pN]*(?:(?:or|rather|no|maybe|perhaps|it's|so|then|make\s+it)[^\pL\pN]+)*(?:` + noun + `[^\pL\pN]*)?([AB])[^\pL\pN]*$`)

// only returns the letter of a text that only names a judgment, and nothing for any other.
func only(s string) string {
	if m := single.FindStringSubmatch(s); m != nil {
		return strings.ToUpper(m[1])
	}
	return ""
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

var notBetter = patterns.New(`(?i)^(?:is|was|isn't|seems|does|doesn't)?\s*(?:not|n't|isn't|less|never)\b`)

// negatedClaim reports whether a remark denies the letter before it.
func negatedClaim(s string) bool { return notBetter.MatchString(strings.TrimLeft(s, " ,;:([–—-")) }

// split is a remark that gives a part of the verdict to the other judgment: "A on form, B on content".
var split = patterns.New(`[,;]\s*(?:(?i:and|but|while)\s+)?(?:(?i:` + noun + `)\s*[-_]?)?([AB])\s*(?:\(|\s(?i:on|in|for|at|is\s+(?:better|more\s+accurate)|wins)\b)`)

// shares is a remark that divides the verdict by numbers: "A 50%, B 50%".
var shares = patterns.New(`^[:\s(]*\d[^AB]*,\s*(?:(?i:` + noun + `)\s*[-_]?)?([AB])\b[:\s(]*\d`)

// bracketed is a remark in brackets with the other judgment behind it: "A (form) / B (accuracy)".
var bracketed = patterns.New(`[)\]]\s*(?:[/,&+]|(?i:and|or))\s*(?:(?i:` + noun + `)\s*[-_]?)?([AB])\b`)

// beside is a remark that gives the other judgment the same rank: "with B", "for style but B for accuracy".
var beside = patterns.New(`^(?i:with)\s+(?:(?i:` + noun + `)\s*[-_]?)?([AB])\b|^(?i:for|on|in)\b.*\b(?i:but|and|while)\s+(?:(?i:` + noun + `)\s*[-_]?)?([AB])\s+(?i:for|on|in)\b`)

// sameVerb is a remark that only compares what both judgments do: "A gives 4 points, B gives 2 points".
var sameVerb = patterns.New(`^(\pL+s)\s[^.,;]*\d[^.]*[,;]\s*(?:(?i:and|but|while|whereas)\s+)?(?:(?i:` + noun + `)\s*[-_]?)?([AB])\s+(\pL+s)\s[^.]*\d`)

// rival is a remark that praises the other judgment as much: "although B is more accurate".
var rival = patterns.New(`(?:[,;]|\b(?i:but|while|although|though|yet|however|whereas))\s+(?:(?i:the)\s+)?(?:(?i:` + noun + `)\s*[-_]?)?([AB])\s+(?i:(?:is|was|seems)\s+(?:(?:still|much|clearly|slightly)\s+)?(?:the\s+)?(?:better|more\s+accurate|superior|winner|as\s+(?:good|accurate)|equally\s+\pL+)(?:\s+(?:one|overall|too|as\s+well))?|wins)[\s.)]*$`)

// shared is a remark that credits the other judgment too: "A is better at explaining and B is better at
// scoring". The group before the letter is the conjunction, the one after it are the words before the praise.
var shared = patterns.New(`([,;]|\b(?i:and|but|while|whereas|yet|though|although))\s+(?:(?i:the)\s+)?(?:(?i:` + noun + `)\s*[-_]?)?([AB])((?:\s+\pL+){0,2})\s+(?i:better|best|wins?|superior|stronger|right|correct|clearer|fairer|more\s+(?:accurate|precise|reliable|faithful|correct|convincing))\b`)

var (
	concedes = patterns.New(`(?i)^(?:but|yet|though|although)$`)
	// limited is a remark that praises a judgment in one respect.
	limited = patterns.New(`(?i)^(?:is\s+|was\s+)?(?:better|stronger|superior|clearer|wins|more\s+\pL+)\s+(?:at|on|in|for|with)\b`)
	denying = patterns.New(`(?i)\b(?:not|no|never|hardly|less|neither|nowhere)\b|n't\b`)
)

// sharesPraise reports whether a remark credits the other judgment as much as the one with the letter. After
// "but" it does only if the remark praises the first one in one respect.
func sharesPraise(letter, remark string) bool {
	for _, m := range shared.FindAllStringSubmatch(remark, -1) {
		if m[2] != letter && !denying.MatchString(m[3]) && (!concedes.MatchString(m[1]) || limited.MatchString(remark)) {
			return true
		}
	}
	return false
}

func splits(letter, remark string) bool {
	if m := sameVerb.FindStringSubmatch(remark); m != nil && m[2] != letter && m[1] == m[3] && !is.MatchString(m[1]) {
		return true
	}
	if sharesPraise(letter, remark) {
		return true
	}
	for _, re := range []*patterns.Pattern{split, shares, bracketed, beside, rival} {
		if m := re.FindStringSubmatch(remark); m != nil && strings.Join(m[1:], "") != letter {
			return true
		}
	}
	return false
}

// The parts of a verdict in words.
const (
	degree = `(?i:(?:therefore|thus|overall|clearly|slightly|marginally|somewhat|significantly|much|far|definitely|undoubtedly|a\s+bit|a\s+little)\s+)*`
)

var (
	// lettered is a judgment in a sentence: a noun with a letter, or a capital alone.
	lettered = `(?:(?i:the\s+)?(?i:` + noun + `)\s*[-_"'(\[]*((?i:[AB]))["')\]]*|(\[\[)?([AB])(?:\]\])?)`
	chosen   = patterns.New(`(?i:\bi\s+(?:(?:therefore|thus|hence|would|will|must|clearly|have\s+to)\s+)*(?:choose|pick|select|declare|consider|find|deem|vote\s+for|name)\s+)` + lettered + `(?i:\s+(?:as|to\s+be)?\s*(?:the\s+)?(?:overall\s+)?(?:winner|better\s+one|more\s+accurate\s+one|(?:better|best|more\s+accurate)(?:\s+(?:one|` + noun + `))?))`)
	claims   = patterns.New(lettered + `\s*(?i:(?:is|was)\s+` + degree + `(?:the\s+(?:clear\s+|obvious\s+|overall\s+)?)?(?:more\s+(?:accurate|correct|precise|reliable|faithful|consistent)|better|superior|winner|best|most\s+accurate|preferable|preferred)(?:\s+(?:one|judge?ment|choice|option|evaluation|assessment|of\s+the\s+two|reasoned|justified|supported|grounded|calibrated))?|wins` +
		`|(?:比\s*` + noun + `?\s*[AB])?\s*(?:获胜|胜出|胜|更准确|更为准确|更正確|更精确|更好|更优|更胜一筹)|(?:优于|好于|胜过|强于)\s*` + noun + `?\s*[AB]|(?:の(?:ほう|方)が|が|は)(?:より)?(?:正確|優れている|優れています|勝者)(?:です|である|だ)?|の勝ち(?:です)?|(?:가|이)?\s*(?:` + noun + `?\s*[AB]보다)?\s*(?:더\s*)?(?:정확합니다|정확하다|정확함|승자입니다|낫습니다|우수합니다)` +
		`|(?:ist\s+)?(?:(?:insgesamt|deutlich|etwas|daher|somit|damit|also)\s+)*(?:d(?:as|ie|er)\s+)?(?:genauere?|präzisere?|bessere?|besser|zutreffendere?|gewinner|sieger)(?:\s+(?:urteil|bewertung))?|gewinnt|est\s+(?:donc\s+)?(?:l[ea]\s+)?(?:plus\s+(?:précise?|exacte?|juste|fiable)|meilleure?|gagnant|vainqueur)|gagne` +
		`|es\s+(?:(?:el|la)\s+)?(?:más\s+(?:precis|exact|acertad|correct)[oa]|mejor|ganador)|gana|é\s+(?:[oa]\s+)?(?:mais\s+(?:precis|exat|corret)[oa]|melhor|vencedor)|vence|è\s+(?:(?:il|la)\s+)?(?:più\s+(?:accurat|precis|corrett)[oa]|migliore|vincitore)|vince` +
		`|(?:более\s+точн\pL+|точнее|лучше|побеждает|выигрывает)|is\s+(?:nauwkeuriger|beter|preciezer)|daha\s+doğru|jest\s+(?:dokładniejsz\pL+|lepsz\pL+|trafniejsz\pL+))`)
)

// sentence reads a verdict in words: "Judgment A is more accurate than Judgment B." A letter without a
// noun or brackets needs the other letter in the sentence: "A is better" may be about an option.
func sentence(s string, leads func(string) bool) (n int, ok bool) {
	s = lookalikes.Replace(s)
	if ordered.MatchString(s) {
		v := read(s)
		return v.N, v.Reason == ""
	}
	if at := chosen.FindStringIndex(s); at != nil && leads(s[:at[0]]) {
		m := chosen.FindStringSubmatch(s[at[0]:])
		return int(winner(strings.ToUpper(m[1] + m[3]))), explains(strings.TrimSpace(s[at[1]:]))
	}
	at := claims.FindStringIndex(s)
	if at == nil || !leads(s[:at[0]]) {
		return 0, false
	}
	m := claims.FindStringSubmatch(s[at[0]:])
	letter, sure := strings.ToUpper(m[1]+m[3]), m[1]+m[2] != ""
	rest := strings.TrimSpace(s[at[1]:])
	if than := thanOther.FindStringSubmatch(rest); than != nil {
		if strings.EqualFold(than[1], letter) {
			return 0, false
		}
		rest, sure = rest[len(than[0]):], true
	}
	sure = sure || strings.HasSuffix(strings.TrimRight(s[:at[0]], " "), ":")
	return int(winner(letter)), sure && explains(rest)
}

// explains reports whether the rest of a sentence with a verdict is empty, or a reason.
func explains(rest string) bool {
	rest = strings.TrimLeft(rest, " .!。")
	if claims.MatchString(rest) { // a loop: "A is better because A is better because A is"
		return false
	}
	return rest == "" || !partial.MatchString(strings.TrimLeft(rest, " ,")) && !doubtful.MatchString(rest) && (becauseOf.MatchString(rest) || wholly.MatchString(rest) && !letterIn.MatchString(rest) && !however.MatchString(rest))
}

// ordered is a sentence that begins with A > B.
var ordered = patterns.New(`^\W*(?:(?i:` + noun + `)\s*)?[AB]\s*(?:>>?|<<?|≫|≪|≻|≺)\s*(?:(?i:` + noun + `)\s*)?[AB]\b`)

var (
	thanOther = patterns.New(`(?i)^\s*(?:than|over|to|als|que|di|чем|niż)\s+(?:(?:the|le|la|el|o|il|das|die)\s+)?(?:` + noun + `\s*[-_]?)?([ab])\b`)
	// wholly is the rest of a sentence that gives the verdict to a judgment as a whole.
	wholly    = patterns.New(`(?i)^,?\s*(?:overall|here|in\s+(?:its|general|all|every)|with|by|and\s+(?:consistent|fair|complete|thorough|aligned|balanced|reliable|precise)|aligned|according\s+to\s+the\s+rubric)\b`)
	becauseOf = patterns.New(`(?i)^,?\s*(?:(?:because|since|as|due to|given|weil|da|denn|car|parce\s+qu|porque|ya\s+que|pois|perché|poiché|потому|так\s+как|поскольку|ponieważ|omdat)\b|因为|因為|由于|なぜなら|왜냐하면)`)
	undecided = patterns.New(`(?i)\b(?:tie|draw|equally|can(?:'|no)t\s+decide)\b`)
	winning   = patterns.New(`(?i)\b(?:winner|wins?|more\s+accurate|better|superior|choose|prefer|pick|verdict|best)\b|胜|勝|승자|gewinner|ganador|gagnant`)
	loser     = patterns.New(`(?i)^\W*(?:loser|worse|less\s+accurate)\s*[:=]\s*(?:` + noun + `\s*[-_]?)?([AB])\b`)
	// deniesWin is a sentence that a judgment is not the better one: "B's total does not make its reasons better."
	deniesWin = patterns.New(`(?i:\bthat\s+)?\b[AB]\b[^.;,]*(?i:\b(?:does|do|did|is|are|was|were)\s+(?:not|never|hardly)\s+(?:\pL+\s+){0,4}(?:the\s+)?(?:winner|wins?|more\s+accurate|better|superior|best)\W*$)`)
	// notBut corrects one letter by the other: "not A but B".
	notBut = patterns.New(`\b(?i:not)\s+(?:(?i:the\s+)?(?i:` + noun + `)\s*)?([AB]),?\s+(?i:but)\s+(?i:rather\s+)?(?:(?i:the\s+)?(?i:` + noun + `)\s*)?([AB])\b`)
	// notOnly is a word with which a negation affirms.
	notOnly = patterns.New(`(?i)\b(?:not\s+(?:only|just|merely|simply)|but)\b`)
	// however is a word for a reservation.
	however  = patterns.New(`(?i)\b(?:but|though|although|however|while|whereas|yet|except)\b`)
	letterIn = patterns.New(`\b[AB]\b`)
)

// contests reports whether a sentence after the verdict names another winner or takes the
// verdict back.
func contests(s string, n int) bool {
	s = lookalikes.Replace(s)
	if letter := only(s); letter != "" && int(winner(letter)) != n {
		return true
	}
	if remarks.Retracted.MatchString(s) || undecided.MatchString(s) || remarks.Amended.MatchString(s) || remarks.Attributed.MatchString(s) {
		return true
	}
	if m := loser.FindStringSubmatch(s); m != nil {
		return int(winner(strings.ToUpper(m[1]))) == n
	}
	if m := notBut.FindStringSubmatch(s); m != nil {
		return int(winner(m[2])) != n
	}
	if !winning.MatchString(s) || negated.MatchString(s) && !letterIn.MatchString(s) {
		return false
	}
	all := letterIn.FindAllString(s, -1)
	if len(all) == 0 || deniesWin.MatchString(s) && !notOnly.MatchString(s) {
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
