package meta

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"coeval/schemas"
	"coeval/transforms/judge/quote"
	"coeval/transforms/stage"
)

// The reasons why a comparison has no verdict, as raw/comparisons names them.
const (
	// CutOff is a text that the model didn't finish.
	CutOff = "cut_off"
	// Empty is a comparison without text.
	Empty = "empty"
	// Missing is a text with no verdict line.
	Missing = "missing"
	// Quoted is a text whose verdict lines all stand in quoted blocks.
	Quoted = "quoted"
	// Tie is a verdict line that names neither or both.
	Tie = "tie"
	// Ambiguous is a verdict line that doesn't say A or B clearly.
	Ambiguous = "ambiguous"
)

var (
	winnerLabel = quote.NewLabel("winner")

	letter = regexp.MustCompile(`^[\s("'“‘\[{<「【$]*(?:(?i:the\s+)?(?i:judge?ment)[\s:("'\[<]*)?([AaBb])([^\pL\pN].*)?$`)
	tie    = regexp.MustCompile(`(?i)\b(?:tie|tied|draw|both|neither|none|equal|equally)\b`)
	// echo is the instruction in brackets, as <A or B>.
	echo = regexp.MustCompile(`^[\[({<]\s*(?i:judge?ment\s+)?A\s*(?:or|/|\|)\s*(?i:judge?ment\s+)?B\s*[\])}>]`)
	// remark is what may follow the letter: nothing, a pause, or a reason.
	remark = regexp.MustCompile(`^[\s)\]}>"'”’」】$]*(?:$|[.,;:!(–—]|-\s|(?i:because|since|as|is)\b)`)
)

// ParseVerdict returns First or Second when a comparison says that judgment A or judgment B
// is the more accurate, else NoWins and the reason. FinishReason is the generation's.
//
// The last line of the form "Winner: A" decides, and only it. The label may begin a sentence
// within the line, may say Final or Overall, and may stand alone above the letter. Accepted are
// Judgment or Judgement before the letter, lower case, emphasis, brackets, punctuation, and a
// remark that doesn't name the other letter or a tie. A text that is one JSON object has its
// verdict under the key "winner".
//
// Quoted lines (see package quote) and an echo of the instruction, "Winner: <A or B>", are no
// verdict lines.
func ParseVerdict(text, finishReason string) (winner schemas.Winner, unparsed string) {
	if finishReason == stage.FinishLength {
		return schemas.NoWins, CutOff
	}
	if strings.TrimSpace(text) == "" {
		return schemas.NoWins, Empty
	}
	if value, ok := jsonWinner(text); ok {
		return parseValue(value)
	}
	unparsed = Missing
	for _, report := range slices.Backward(winnerLabel.Reports(text)) {
		switch {
		case echo.MatchString(report.Value):
		case report.Quoted:
			unparsed = Quoted
		default:
			return parseValue(report.Value)
		}
	}
	return schemas.NoWins, unparsed
}

func jsonWinner(text string) (value string, ok bool) {
	var fields struct {
		Winner *string `json:"winner"`
	}
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") || json.Unmarshal([]byte(text), &fields) != nil || fields.Winner == nil {
		return "", false
	}
	return *fields.Winner, true
}

func parseValue(value string) (winner schemas.Winner, unparsed string) {
	m := letter.FindStringSubmatch(value)
	switch {
	case m == nil && tie.MatchString(value):
		return schemas.NoWins, Tie
	case m == nil:
		return schemas.NoWins, Ambiguous
	case tie.MatchString(m[2]):
		return schemas.NoWins, Tie
	case !remark.MatchString(m[2]) || namesOther(m[1], m[2]):
		return schemas.NoWins, Ambiguous
	case m[1] == "A" || m[1] == "a":
		return schemas.First, ""
	default:
		return schemas.Second, ""
	}
}

var (
	namesA = regexp.MustCompile(`\bA\b`)
	namesB = regexp.MustCompile(`\bB\b`)
)

// namesOther says whether a remark names the letter that it doesn't follow. Who writes a for
// A writes b for B.
func namesOther(letter, rest string) bool {
	if letter == "a" || letter == "b" {
		rest = strings.ToUpper(rest)
	}
	if strings.EqualFold(letter, "a") {
		return namesB.MatchString(rest)
	}
	return namesA.MatchString(rest)
}
