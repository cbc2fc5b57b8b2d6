package judge

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"coeval/transforms/judge/quote"
	"coeval/transforms/stage"
)

// The reasons why a judgment has no score, as raw/judgments names them.
const (
	// CutOff is a text that the model didn't finish: a partial rubric holds partial scores.
	CutOff = "cut_off"
	// Empty is a judgment without text.
	Empty = "empty"
	// Missing is a text with no score line.
	Missing = "missing"
	// Quoted is a text whose score lines all stand in quoted blocks.
	Quoted = "quoted"
	// NotANumber is a score line that doesn't begin with a number, as n/a.
	NotANumber = "not_a_number"
	// Ambiguous is a score line that says more than one number, as 3-4 or 4 or 5.
	Ambiguous = "ambiguous"
	// WrongScale is a score on another scale than 5 points, as 4/10 or 85%.
	WrongScale = "wrong_scale"
	// OutOfRange is a number below 0 or above 5.
	OutOfRange = "out_of_range"
)

// MaxScore is the rubric's highest score in thousandths of a point.
const MaxScore = 5000

// notAReport marks a labelled line that is an echo of the instruction: brackets without a number.
const notAReport = "not_a_report"

var (
	scoreLabel = quote.NewLabel("score")

	number = regexp.MustCompile(`^([\s("'“‘\[{<「【$]*)([+-]?)(\d*)(?:([.,])(\d+))?(.*)$`)
	// scale is the 5 of 4/5, 4 (out of 5) and 4 points out of 5.
	scale = regexp.MustCompile(`(?i)^[\s()\[\]{}<>"'“”‘’」】$]*(?:points?|pts?|stars?)?[\s()\[\]{}<>$]*` +
		`(?:/|\bout\s+of|\bof)\s*(?:a\s+(?:possible|maximum|total)\s+(?:of\s+)?)?[\s(\[{<$]*(\d+(?:[.,]\d+)?)(.*)$`)
	five = regexp.MustCompile(`^5(?:[.,]0+)?$`)
	unit = regexp.MustCompile(`(?i)^\s*(?:points?|pts?|stars?)\b`)
	// another begins what makes one number two.
	another = regexp.MustCompile(`(?i)^(?:(?:or|to|and|through|plus|minus|of|out)\b|[&+/~^=-])`)
)

// ParseScore returns the score of a judgment in thousandths of a point, 0 to [MaxScore], or
// the reason why it has none. FinishReason is the generation's.
//
// The last line of the form "Score: <points>" decides, and only it: when it can't be read,
// an earlier one is not taken instead. The label may begin a sentence within the line, may
// say Final, Overall or Total, and may stand alone above its number. Accepted are decimals
// with a point or a comma, a fraction of 5 (4/5, 4 out of 5), the word points, emphasis,
// brackets, quotation marks, full-width forms, and a remark without digits after the number.
// More than three decimals are rounded half up, after the number was found to be in range. A
// text that is one JSON object has its score under the key "score".
//
// Quoted lines (see package quote) and an echo of the instruction, "Score: <points>", are no
// score lines.
func ParseScore(text, finishReason string) (thousandths int, unparsed string) {
	if finishReason == stage.FinishLength {
		return 0, CutOff
	}
	if strings.TrimSpace(text) == "" {
		return 0, Empty
	}
	if value, ok := jsonScore(text); ok {
		thousandths, unparsed = parseValue(value)
		if unparsed == notAReport {
			return 0, NotANumber
		}
		return thousandths, unparsed
	}
	unparsed = Missing
	for _, report := range slices.Backward(scoreLabel.Reports(text)) {
		thousandths, reason := parseReport(report)
		switch {
		case reason == notAReport:
		case report.Quoted:
			unparsed = Quoted
		default:
			return thousandths, reason
		}
	}
	return 0, unparsed
}

// HideScore returns a judgment's text without its score lines: what hide_scores shows to the
// meta-judge.
func HideScore(text string) string {
	fields, isJSON := jsonObject(text)
	if _, ok := fields["score"]; isJSON && ok {
		delete(fields, "score")
		if b, err := json.Marshal(fields); err == nil {
			text = string(b)
		}
	}
	for { // what is removed can leave a number below a bare label
		shown := scoreLabel.Remove(text, func(r quote.Report) bool {
			_, reason := parseReport(r)
			return !r.Quoted && reason != notAReport && (reason == "" || !r.Below)
		})
		if shown == text {
			return shown
		}
		text = shown
	}
}

func jsonObject(text string) (fields map[string]json.RawMessage, ok bool) {
	text = strings.TrimSpace(text)
	ok = strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &fields) == nil
	return fields, ok
}

func jsonScore(text string) (value string, ok bool) {
	fields, _ := jsonObject(text)
	raw, ok := fields["score"]
	if !ok {
		return "", false
	}
	if json.Unmarshal(raw, &value) == nil && string(raw) != "null" {
		return value, true
	}
	return string(raw), true
}

// parseReport reads what follows a label. A number below the label must be all of its line, or
// a list under the heading "Score:" would count as one.
func parseReport(r quote.Report) (thousandths int, unparsed string) {
	if m := number.FindStringSubmatch(r.Value); r.Below && m != nil && m[3]+m[5] != "" {
		if rest, _ := cutScale(m[6]); strings.ContainsFunc(rest, unicode.IsLetter) {
			return 0, Ambiguous
		}
	}
	return parseValue(r.Value)
}

func parseValue(value string) (thousandths int, unparsed string) {
	m := number.FindStringSubmatch(value)
	if m == nil {
		return 0, NotANumber // a line break inside a JSON string
	}
	open, sign, whole, point, decimals, rest := m[1], m[2], m[3], m[4], m[5], m[6]
	if whole+decimals == "" {
		if strings.ContainsAny(open, "<[{(") {
			return 0, notAReport
		}
		return 0, NotANumber
	}
	if strings.Contains(open, "<") && !strings.Contains(rest, ">") {
		return 0, Ambiguous // less than
	}
	if point == "," && len(decimals) > 2 {
		return 0, Ambiguous // 1,000
	}
	rest, isFive := cutScale(rest)
	if !isFive {
		return 0, WrongScale
	}
	if saysMore(rest) {
		return 0, Ambiguous
	}
	return inThousandths(sign, whole, decimals)
}

// cutScale takes a unit and a scale off what follows a number, and says whether the scale,
// if there is one, is 5.
func cutScale(rest string) (after string, isFive bool) {
	if m := scale.FindStringSubmatch(rest); m != nil {
		return unit.ReplaceAllString(m[2], ""), five.MatchString(m[1])
	}
	rest = unit.ReplaceAllString(rest, "")
	trimmed := strings.ToLower(strings.TrimSpace(rest))
	return rest, !strings.HasPrefix(trimmed, "%") && !strings.HasPrefix(trimmed, "percent")
}

// saysMore says whether a remark could change the number before it.
func saysMore(rest string) bool {
	if strings.ContainsFunc(rest, unicode.IsNumber) {
		return true
	}
	if r := []rune(rest); len(r) > 0 && unicode.IsLetter(r[0]) {
		return true // 4th, 4k
	}
	rest = strings.TrimLeft(rest, " \t)]}>\"'”’」】$")
	if strings.HasPrefix(rest, "- ") {
		return false // a dash before a remark
	}
	return another.MatchString(strings.TrimLeft(rest, "( "))
}

// inThousandths returns the number with these digits, rounded half up.
func inThousandths(sign, whole, decimals string) (thousandths int, unparsed string) {
	whole = strings.TrimLeft(whole, "0")
	zero := whole == "" && strings.Trim(decimals, "0") == ""
	switch {
	case sign == "-" && !zero, len(whole) > 1, whole > "5", whole == "5" && strings.Trim(decimals, "0") != "":
		return 0, OutOfRange
	}
	padded := decimals + "0000"
	n := 0
	for _, digit := range "0" + whole + padded[:3] {
		n = 10*n + int(digit-'0')
	}
	if padded[3] >= '5' {
		n++
	}
	return n, ""
}
