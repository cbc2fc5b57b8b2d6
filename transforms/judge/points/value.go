// Package points reads the score of a judgment, and writes points and scales as texts.
package points

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"coeval/transforms/answers"
	"coeval/transforms/answers/patterns"
)

// A Scale is the range of a rubric's scores in thousandths of a point.
type Scale struct {
	Min int `json:"Min"`
	Max int `json:"Max"`
}

// FivePoints is the scale of the built-in rubric.
var FivePoints = Scale{0, MaxScore}

// Validate returns an error if no score can be on the scale.
func (sc Scale) Validate() error {
	if sc.Min < 0 || sc.Max <= sc.Min || sc.Max > maxScale {
		return fmt.Errorf("judge: scale is [%g, %g]; allowed are two numbers from 0 to %d, the lower one first", float64(sc.Min)/1000, float64(sc.Max)/1000, maxScale/1000)
	}
	return nil
}

// Labels returns the labels of a read on a scale and their values in thousandths of a point: its whole
// points.
func (sc Scale) Labels() (labels []string, values []int) {
	if sc == (Scale{}) {
		sc = FivePoints
	}
	for v := (sc.Min + 999) / 1000 * 1000; v <= sc.Max; v += 1000 {
		labels, values = append(labels, Format(v)), append(values, v)
	}
	return labels, values
}

// Format writes thousandths of a point as a decimal number.
func Format(thousandths int) string {
	return strconv.FormatFloat(float64(thousandths)/1000, 'f', -1, 64)
}

// maxScale is the highest score of any scale, in thousandths.
const maxScale = 100_000

// A number is a number of a text with its digits.
type number struct {
	value           float64
	sign            string
	whole, decimals string
	isWord          bool
}

// numberWords are the numbers in letters that judges write.
var numberWords = map[string]float64{
	"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
	"eins": 1, "zwei": 2, "drei": 3, "vier": 4, "fünf": 5,
	"zéro": 0, "deux": 2, "trois": 3, "quatre": 4, "cinq": 5,
	"cero": 0, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5,
	"dois": 2, "três": 3, "quatro": 4, "due": 2, "tre": 3, "quattro": 4, "cinque": 5,
	"ноль": 0, "один": 1, "два": 2, "три": 3, "четыре": 4, "пять": 5,
	"零": 0, "〇": 0, "一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5,
}

// valueWords are more of them, which count in the place of a value only.
var valueWords = map[string]float64{
	"une": 1, "uno": 1, "um": 1, "een": 1, "één": 1, "twee": 2, "drie": 3, "vijf": 5, "nul": 0,
	"noll": 0, "ett": 1, "två": 2, "fyra": 4, "fem": 5, "fire": 4, "nolla": 0, "yksi": 1, "kaksi": 2, "kolme": 3, "neljä": 4, "viisi": 5,
	"jeden": 1, "dwa": 2, "trzy": 3, "cztery": 4, "pięć": 5, "jedna": 1, "dva": 2, "tři": 3, "tri": 3, "čtyři": 4, "štyri": 4, "četiri": 4, "pět": 5, "päť": 5, "pet": 5,
	"нуль": 0, "чотири": 4, "п'ять": 5, "пет": 5, "четири": 4, "zece": 10, "doi": 2, "trei": 3, "patru": 4, "cinci": 5, "μηδέν": 0, "ένα": 1, "δύο": 2, "τρία": 3, "τέσσερα": 4, "πέντε": 5,
	"sıfır": 0, "bir": 1, "iki": 2, "üç": 3, "dört": 4, "beş": 5, "nulla": 0, "egy": 1, "kettő": 2, "három": 3, "négy": 4, "öt": 5,
	"صفر": 0, "واحد": 1, "اثنان": 2, "ثلاثة": 3, "ثلاث": 3, "أربعة": 4, "أربع": 4, "خمسة": 5, "خمس": 5, "یک": 1, "دو": 2, "سه": 3, "چهار": 4, "پنج": 5,
	"שתיים": 2, "שלוש": 3, "ארבע": 4, "חמש": 5, "शून्य": 0, "एक": 1, "दो": 2, "तीन": 3, "चार": 4, "पाँच": 5, "पांच": 5, "এক": 1, "দুই": 2, "তিন": 3, "চার": 4, "পাঁচ": 5,
	"không": 0, "một": 1, "hai": 2, "bốn": 4, "năm": 5, "satu": 1, "dua": 2, "tiga": 3, "empat": 4, "lima": 5, "사": 4, "삼": 3, "오": 5,
}

// wordValue returns the number that a word in the place of a value names.
func wordValue(word string) (v float64, ok bool) {
	word = strings.ToLower(word)
	if v, ok = numberWords[word]; !ok {
		v, ok = valueWords[word]
	}
	return v, ok
}

// vulgar are the characters for fractions.
var vulgar = map[rune]float64{'½': 0.5, '¼': 0.25, '¾': 0.75}

// commaStep are the decimals of halves and quarters of a point. With others a comma is read as a point only
// before a scale or unit: "4,2/5".
var commaStep = map[string]bool{"5": true, "50": true, "25": true, "75": true}

// A cursor reads a value from left to right.
type cursor struct {
	s  string
	at int
	// separated reports whether a bar stands behind the value.
	separated bool
}

func (c *cursor) rest() string { return c.s[c.at:] }

func (c *cursor) spaces() { c.at += len(c.rest()) - len(strings.TrimLeft(c.rest(), " ")) }

// take moves past a match at the cursor and returns its groups.
func (c *cursor) take(re *patterns.Pattern) []string {
	m := re.FindStringSubmatch(c.rest())
	if m != nil {
		c.at += len(m[0])
	}
	return m
}

var (
	digits   = patterns.New(`^([+-]?)\s?(\d*)(?:([.,])(\d+))?`)
	mixed    = patterns.New(`^ ?(\d)\s*/\s*(\d)\b`)
	andAHalf = patterns.New(`(?i)^\s+and\s+(?:(?:a|one)[\s-]half\b|1/2(?:\D|$)|½)`)
	// pointWord is the decimal of a number in letters: three point five.
	pointWord = patterns.New(`(?i)^\s+point\s+(zero|one|two|three|four|five|six|seven|eight|nine)\b|^点([零一二三四五])`)
	letters   = patterns.New(`^[\pL\pM'’]+`)
	han       = patterns.New(`^[零〇一二两三四五]`)
)

// number reads a number at the cursor. It returns false without moving if there is none.
func (c *cursor) number() (n number, ok bool) {
	start := c.at
	m := digits.FindStringSubmatch(c.rest())
	if m != nil && m[2]+m[4] != "" {
		c.at += len(m[0])
		n = number{sign: m[1], whole: m[2], decimals: m[4]}
		n.value, _ = strconv.ParseFloat(n.sign+"0"+n.whole+"."+n.decimals+"0", 64)
		if n.sign != "" {
			v, _ := strconv.ParseFloat("0"+n.whole+"."+n.decimals+"0", 64)
			n.value = map[string]float64{"+": v, "-": -v}[n.sign]
		}
		if m[3] == "," && len(m[4]) > 2 { // 1,000
			c.at = start
			return n, false
		}
		if m[3] == "," && strings.Trim(m[4], "0") != "" && !commaStep[m[4]] && !ofScale.MatchString(c.rest()) && !unit.MatchString(c.rest()) { // 3,4 may be a list
			c.at = start
			return n, false
		}
		c.fraction(&n)
		return n, true
	}
	if r, size := utf8.DecodeRuneInString(c.rest()); vulgar[r] != 0 {
		c.at += size
		return fromFloat(vulgar[r], false), true
	}
	word := letters.FindString(c.rest())
	v, known := wordValue(word)
	if h := han.FindString(c.rest()); !known && h != "" {
		word, v, known = h, numberWords[h], true
	}
	if !known {
		return n, false
	}
	c.at += len(word)
	if c.take(andAHalf) != nil {
		v += 0.5
	} else if m := c.take(pointWord); m != nil {
		v += numberWords[strings.ToLower(m[1]+m[2])] / 10
	}
	return fromFloat(v, true), true
}

// fraction adds a fraction after a whole number, as in 4½ and 4 1/2.
func (c *cursor) fraction(n *number) {
	if n.decimals != "" || n.sign != "" {
		return
	}
	if c.take(andAHalf) != nil {
		*n = fromFloat(n.value+0.5, false)
		return
	}
	rest := strings.TrimPrefix(c.rest(), " ")
	if r, size := utf8.DecodeRuneInString(rest); vulgar[r] != 0 {
		c.at = len(c.s) - len(rest) + size
		*n = fromFloat(n.value+vulgar[r], false)
		return
	}
	if !strings.HasPrefix(c.rest(), " ") {
		return
	}
	if m := mixed.FindStringSubmatch(c.rest()); m != nil {
		above, below := float64(m[1][0]-'0'), float64(m[2][0]-'0')
		if above < below && (below == 2 || below == 4) {
			c.at += len(m[0])
			*n = fromFloat(n.value+above/below, false)
		}
	}
}

func fromFloat(v float64, isWord bool) number {
	whole, decimals, _ := strings.Cut(strconv.FormatFloat(v, 'f', -1, 64), ".")
	return number{value: v, whole: whole, decimals: decimals, isWord: isWord}
}

var (
	openers = patterns.New(`^[\s("'“‘\[{<$|]+`)
	closers = patterns.New(`^[\s)"'”’\]}>$|]+`)
	// tag is a placeholder with a value after it, as in "<points> 4" and "<points> = 4".
	tag = patterns.New(`^\s*[<\[{]\s*[\pL][\pL\s_/-]{0,40}[>\]}]\s*[:=]?\s*`)
	// lead are the words that may stand between the label and the number.
	lead    = patterns.New(`(?i)^\s*(?:(?:a|an)\s+(?:grand\s+)?total\s+of|total|points?|score|rating|exactly|just|(?:a\s+)?(?:solid|strong|clear|full|perfect|fair|good)|得|共|计|得分)(?:\s*[:=]\s*|\s+)`)
	leadHan = patterns.New(`^(?:共计|共|计|得分|得)\s*`)
	// grade is a quality in words before its number: Very good (4).
	grade = patterns.New(`(?i)^\s*["'“]?(?:(?:very|quite|fairly|rather|mostly|above|below)\s+)?(?:good|great|excellent|outstanding|perfect|fair|poor|bad|weak|strong|average|mediocre|decent|solid|adequate|acceptable|satisfactory|ok|okay)["'”]?\s*(?:[(\[,:=–—]|-\s)\s*`)
	stars = patterns.New(`^\s*[★⭐🌟☆✩✰]+\s*`)
	// placeholder is a bracket without a value.
	placeholder = patterns.New(`^\s*["'“]?[<\[{(]\s*[\pL][\pL\s_.,'’/-]*[>\]})]`)
	// scaleFirst is a scale before the value: 5点満点中3点.
	scaleFirst = patterns.New(`^\(?(?:(\d+)\s*[点分점]?\s*(?:満点|满分|滿分|만점)\s*(?:中|に|에서|에|で|,)?\s*|(?:满分|滿分|満点|만점)\s*(\d+)\s*[点分점]?\s*,?\s*)得?\)?`)
)

// read reads the text after a label.
func (sc Scale) read(value string) answers.Value {
	c := &cursor{s: strings.TrimSpace(value)}
	if n, ok := plainNumber(c.s); ok { // almost all values are plain
		var v answers.Value
		v.N, v.Reason = sc.thousandths(n)
		return v
	}
	n, reason := sc.value(c)
	if reason != "" {
		return answers.Value{Reason: reason}
	}
	remark, after, reason := sc.remark(c, n)
	if reason != "" {
		return answers.Value{Reason: reason}
	}
	v := answers.Value{Remark: remark, After: after}
	v.N, v.Reason = sc.thousandths(n)
	return v
}

// plainNumber reads a text that is nothing but a number in digits, with a point before its decimals: "4", "3.5".
func plainNumber(s string) (n number, ok bool) {
	n.whole, n.decimals, _ = strings.Cut(s, ".")
	return n, isDigits(n.whole) && (isDigits(n.decimals) || len(n.whole) == len(s))
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// value moves past a number with all that belongs to it.
func (sc Scale) value(c *cursor) (n number, reason string) {
	starred := filled(stars.FindString(c.s))
	c.take(stars)
	if reason := sc.lead(c); reason != "" {
		return n, reason
	}
	opened := c.take(openers)
	if m := c.take(scaleFirst); m != nil && !sc.isMax(m[1]+m[2]) {
		return n, WrongScale
	}
	if strings.HasPrefix(c.rest(), "≈") {
		c.at += len("≈")
		c.spaces()
	}
	if n, reason = c.expression(); reason != "" {
		return n, reason
	}
	if opened != nil && strings.Contains(opened[0], "<") && !strings.Contains(c.rest(), ">") {
		return n, Ambiguous // less than
	}
	reason = sc.tail(c, n)
	if reason == "" && starred == 0 {
		starred = filled(c.s)
	}
	if reason == "" && starred > 1 && math.Abs(float64(starred)-n.value) >= 1 { // one star is an ornament
		return n, Ambiguous
	}
	return n, reason
}

// filled returns the number of stars that are not empty.
func filled(s string) int {
	return strings.Count(s, "★") + strings.Count(s, "⭐") + strings.Count(s, "🌟")
}

// lead moves past the words and placeholders before a number.
func (sc Scale) lead(c *cursor) (reason string) {
	c.take(grade)
	for range 4 {
		c.spaces()
		if m := tag.FindString(c.rest()); m != "" && strings.TrimSpace(c.rest()[len(m):]) != "" {
			c.at += len(m)
			continue
		}
		if placeholder.MatchString(c.rest()) && !startsWithNumberWord(c.rest()) {
			return answers.Placeholder
		}
		if c.take(lead) == nil && c.take(leadHan) == nil {
			return ""
		}
	}
	return ""
}

func startsWithNumberWord(s string) bool {
	_, ok := wordValue(letters.FindString(strings.TrimLeft(s, " \"'“<[{(")))
	return ok
}

// isMax reports whether a scale's end, in digits or letters, is the scale's own.
func (sc Scale) isMax(s string) bool {
	c := &cursor{s: strings.TrimSpace(s)}
	n, ok := c.number()
	return ok && math.Abs(n.value*1000-float64(sc.Max)) < 1e-6
}

var (
	// sumLine is a sum and the place of its result. Its terms may have names.
	sumLine  = patterns.New(`^([^=]*\d[^=]*(?:\s[-–]\s|[+–])[^=]*\d[^=]*)(?:=|→)\s*[\s("'\[{<$]*`)
	halves   = patterns.New(`(^|[+\s–-])½`)
	sumNotes = patterns.New(`\([^()0-9]*\)|\[[^\[\]0-9]*\]`)
	sumNames = patterns.New(`^[\s\pL()\[\]{}:,.'’&/-]*$`)
	term     = patterns.New(`([+–-]?)\s*(\d*[.,]?\d+)(?:\s*/\s*1(?:\.0)?\b)?`)
	equals   = patterns.New(`^\s*=\s*`)
	reversed = patterns.New(`^[\s(]*\d+(?:[.,]\d+)?(?:\s*\([^()0-9]*\))?(?:\s*(?:[+–-])\s*\d+(?:[.,]\d+)?(?:\s*\([^()0-9]*\))?)+[\s)]*`)
)

// expression reads a number, or a sum with its result. A sum without a result and one with a
// wrong result have no value.
func (c *cursor) expression() (n number, reason string) {
	if m := sumLine.FindStringSubmatch(c.rest()); m != nil && strings.Count(m[1], "(") <= strings.Count(m[1], ")") { // a sum in brackets follows its result
		left := halves.ReplaceAllString(sumNotes.ReplaceAllString(m[1], " "), "${1}0.5")
		if !sumNames.MatchString(strings.ReplaceAll(term.ReplaceAllString(left, ""), "+", "")) {
			return n, Ambiguous
		}
		c.at += len(m[0])
		var ok bool
		if n, ok = c.number(); !ok || math.Abs(n.value-sumOfTerms(left)) > 1e-9 {
			return n, Ambiguous
		}
		return n, ""
	}
	n, ok := c.number()
	if !ok {
		return n, c.noNumber()
	}
	// A sum after its result: 4 = 1 + 1 + 1 + 1 + 0.
	before := c.at
	if c.take(equals) == nil {
		return n, ""
	}
	if m := reversed.FindString(c.rest()); m != "" && math.Abs(sumOfTerms(m)-n.value) < 1e-9 {
		c.at += len(m)
		return n, ""
	}
	c.at = before
	return n, ""
}

func sumOfTerms(s string) float64 {
	sum := 0.0
	for _, m := range term.FindAllStringSubmatch(s, -1) {
		if v := parse(m[2]); m[1] == "" || m[1] == "+" {
			sum += v
		} else {
			sum -= v
		}
	}
	return math.Round(sum*1e6) / 1e6
}

var doubt = patterns.New(`(?i)^\s*(?:about|around|roughly|approximately|approx|maybe|perhaps|probably|possibly|likely|between|at\s+(?:least|most)|up\s+to|over|under|above|below|nearly|almost|not|no|either|[~<>≤≥±])`)

// commaDigits are digits around a comma, which may be a number or two: 1,000 and 3,8.
var commaDigits = patterns.New(`^\s*\d+,\d`)

// noNumber returns the reason why there is no number at the cursor.
func (c *cursor) noNumber() string {
	if doubt.MatchString(c.rest()) || commaDigits.MatchString(c.rest()) {
		return Ambiguous
	}
	return NotANumber
}

var (
	unit  = patterns.New(`(?i)^(?:\s+p(?:[^\pL.]|\.|$)|[\s-]*(?:(?:possible|available)\s+)?(?:points?|pts?\.?|stars?|criteria\s+(?:are\s+|were\s+)?(?:met|satisfied|fulfilled)|punkte?n?|puntos?|pontos?|punti|punto|punten|marks?|балл(?:а|ов|ы)?|бал(?:и|ів|а)?|очк(?:а|ов)|точки|поени?|bodů|body|bodov[ai]?|točk[ei]?|puan|poäng|poeng|pistettä|pont|puncte|điểm|punkt(?:y|ów|er)?|pkte?n?\.?|poin|mata|نقاط|نقطة|درجات|درجة|امتیاز|نمره|נקודות|अंक|अंकों|পয়েন্ট|நம்பர்|புள்ளிகள்|คะแนน|βαθμο[ίι]ς?)(?:\s+(?:in\s+)?total|\s+overall|\s+awarded|\s+earned)?(?:[^\pL]|$)|[\s-]*[分点점點星])`)
	inAll = patterns.New(`(?i)^\s*(?:in\s+(?:total|all)|overall|total|final|です|だ|입니다|이다)\b?`)
	// tagAfter is the placeholder of the instruction, kept behind its value.
	tagAfter = patterns.New(`(?i)^\s*</?(?:points?|total|score|number)>`)
	symbols  = patterns.New(`^\s*[★⭐🌟☆✩✰✅👍]+`)
	percent  = patterns.New(`(?i)^\s*(?:%|percent\b|per\s+cent\b|prozent\b|パーセント|百分)`)
	ofScale  = patterns.New(`(?i)^[\s("'\[{<]*(?:/|-?\bout[\s-]+of|\bof|\bvon|\bsur|\bsu|\bsobre|\bde|\bvan(?:\s+de)?|\bna|\bze?|\bod|\bdari|\bdaripada|\bav|\baf|\bdin|\bpe|\bud\s+af|\but\s+av|\btrên|\btừ|\bkati\s+ya|из|от|із|з|από(?:\s+τα)?|στα|من(?:\s+أصل)?|از|מתוך|จาก|เต็ม|共)[\s-]*(?:the\s+|a\s+|an\s+|insgesamt\s+|maximal(?:ly)?\s+|max\.?\s+|un\s+(?:total|máximo|massimo|maximum)\s+de\s+)?(?:(?:possible|maximum|max|total)\s+(?:of\s+)?)?(?:a\s+(?:possible|maximum)\s+(?:of\s+)?)?[\s(\[{<$]*(\d+(?:[.,]\d+)?|five|ten|fünf|cinq|cinco|cinque|zehn|dix|diez)\b`)
	toScale  = patterns.New(`(?i)^[\s(]*(?:on|using)\s+(?:a|the)\s+(?:scale\s+(?:of|from)\s+)?(\d+)\s*(?:to|-|–)\s*(\d+)(?:[\s-]*(?:point\s+)?scale)?`)
	maxNote  = patterns.New(`^\s*[(,]?\s*(\d+)\s*[分点점]\s*(?:満点|满分|만점)|^\s*[(,]?\s*(?:满分|滿分|満点|만점|max(?:imum)?\.?:?|最高)\s*(?:为|為)?\s*(\d+)\s*[分点점]?`)
	ratio    = patterns.New(`^\s*(?:=|\()\s*(\d+(?:[.,]\d+)?)\s*%\s*\)?`)
)

// tail moves past the unit and the scale after a number.
func (sc Scale) tail(c *cursor, n number) (reason string) {
	scaled := false
	for range 6 {
		if closed := c.take(closers); closed != nil && strings.Contains(closed[0], "|") {
			c.separated = true
		}
		switch {
		case percent.MatchString(c.rest()):
			return WrongScale
		case c.take(symbols) != nil, c.take(inAll) != nil, c.take(tagAfter) != nil:
			continue
		}
		if m := unit.FindString(c.rest()); m != "" {
			c.at += len(m)
			if r, size := utf8.DecodeLastRuneInString(m); !unicode.IsLetter(r) && r != '.' {
				c.at -= size // what shows that the word ends
			}
			continue
		}
		if m := c.take(toScale); m != nil {
			if !sc.isMax(m[2]) {
				return WrongScale
			}
			continue
		}
		if m := c.take(maxNote); m != nil {
			if !sc.isMax(m[1] + m[2]) {
				return WrongScale
			}
			continue
		}
		if m := ofScale.FindStringSubmatch(c.rest()); m != nil && !scaled {
			c.at += len(m[0])
			if !sc.isMax(m[1]) {
				return WrongScale
			}
			scaled = true
			continue
		}
		if m := ratio.FindStringSubmatch(c.rest()); m != nil {
			share, err := strconv.ParseFloat(strings.ReplaceAll(m[1], ",", "."), 64)
			if err != nil || math.Abs(share-100*n.value*1000/float64(sc.Max)) > 0.51 {
				return Ambiguous
			}
			c.at += len(m[0])
			continue
		}
		return ""
	}
	return ""
}

// thousandths returns a number in thousandths of a point, rounded half up after it was found
// to be in range.
func (sc Scale) thousandths(n number) (thousandths int, reason string) {
	whole := strings.TrimLeft(n.whole, "0")
	zero := whole == "" && strings.Trim(n.decimals, "0") == ""
	if n.sign == "-" && !zero || len(whole) > 6 {
		return 0, OutOfRange
	}
	padded := n.decimals + "0000"
	for _, d := range "0" + whole + padded[:3] {
		thousandths = 10*thousandths + int(d-'0')
	}
	more := strings.Trim(padded[3:], "0") != ""
	if thousandths > sc.Max || thousandths == sc.Max && more || thousandths < sc.Min {
		return 0, OutOfRange
	}
	if padded[3] >= '5' {
		thousandths++
	}
	return thousandths, ""
}
