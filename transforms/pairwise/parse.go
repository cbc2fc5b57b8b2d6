package pairwise

import (
	"html"
	"regexp"
	"slices"
	"strings"

	"coeval/transforms/answers"
	"coeval/transforms/stage"
)

// Verdict is the outcome of a comparison for the answer that was shown first, A.
type Verdict string

// The verdicts. The scale two has Better and Worse only.
const (
	MuchBetter Verdict = "A>>B"
	Better     Verdict = "A>B"
	Tie        Verdict = "A=B"
	Worse      Verdict = "B>A"
	MuchWorse  Verdict = "B>>A"
)

// The reasons why a comparison has no verdict.
const (
	// CutOff is a text that the model didn't finish.
	CutOff = "cut_off"
	// Empty is a comparison without text.
	Empty = "empty"
	// Missing is a text with no verdict line.
	Missing = "missing"
	// Quoted is a text with verdict lines in quoted blocks only.
	Quoted = "quoted"
	// OffScale is a tie on a scale that has none.
	OffScale = "tie"
	// Ambiguous is a verdict line that names no verdict, or more than one.
	Ambiguous = "ambiguous"
)

var (
	// token is one verdict: a relation of both letters, one letter, or a word for a tie.
	token = regexp.MustCompile(`(?:\b([AB])\s*(>>|>|==|=|~|<<|<)\s*([AB])\b)|\b([AB])\b|(?i:\b(tie|tied|draw|both|neither|equal|equally)\b)`)
	// lead matches the allowed text before the verdict on its line.
	lead = regexp.MustCompile(`^[\s("'“‘\[{<「【$]*(?i:(?:the\s+)?(?:answer|assistant|response|model)[\s:("'\[<]*)?$`)
	// remark matches the allowed text after it: none, a pause, or a reason.
	remark = regexp.MustCompile(`^[\s)\]}>"'”’」】$]*(?:$|[.,;:!(–—]|-\s|(?i:because|since|as|is|wins|by|with|for)\b)`)
)

// ParseVerdict returns the verdict of a comparison, or the reason why it has none. FinishReason is
// the generation's.
//
// The last line of the form "Verdict: A>B" decides, and only it; see package answers. "Winner:"
// may take the label's place. Accepted are A<B for B>A, emphasis, brackets, one letter alone for a
// better answer, a word for a tie, and a remark behind it that names no other verdict. A JSON object
// has its verdict under the key "verdict" or "winner".
func ParseVerdict(text, finishReason string, scale Scale) (verdict Verdict, unparsed string) {
	if stage.FinishOf(finishReason) != stage.FinishComplete {
		return "", CutOff
	}
	n, unparsed := grammars[scale].Read(text)
	if unparsed != "" {
		return "", unparsed
	}
	return verdicts[n], ""
}

// verdicts are in the order of the numbers that a grammar has for them.
var verdicts = []Verdict{MuchBetter, Better, Tie, Worse, MuchWorse}

var grammars = map[Scale]*answers.Grammar{Five: grammar(Five), Two: grammar(Two)}

func grammar(scale Scale) *answers.Grammar {
	return &answers.Grammar{
		Labels: map[string]answers.Kind{
			"verdict": answers.Strong, "winner": answers.Strong, "final verdict": answers.Strong,
			"final answer": answers.Weak, answers.Wrapper: answers.Weak,
		},
		Keys: map[string]answers.Kind{"verdict": answers.Strong, "winner": answers.Strong},
		Parse: func(text string) answers.Value {
			if isPlaceholder(text) {
				return answers.Value{Reason: answers.Placeholder}
			}
			verdict, unparsed := parseValue(text, scale)
			return answers.Value{N: slices.Index(verdicts, verdict), Reason: unparsed}
		},
		Label:    func(string) string { return "" },
		Contests: func(string, int) bool { return false },
		States:   func(string) bool { return false },
		Merge:    func([]answers.Report) string { return "" },
	}
}

// isPlaceholder reports whether a value repeats the list of choices of the instruction, as
// <A>>B, A>B, A=B, B>A or B>>A> or [A/B].
func isPlaceholder(value string) bool {
	value = strings.TrimSpace(value)
	if value == "" || !strings.ContainsRune("<[({", rune(value[0])) {
		return false
	}
	return len(distinct(value)) > 1
}

// distinct returns the different verdicts that a text names.
func distinct(text string) []Verdict {
	var out []Verdict
	for _, m := range token.FindAllStringSubmatch(text, -1) {
		if v := tokenVerdict(m); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// tokenVerdict returns the verdict of a match of token. It is empty for a letter beside itself.
func tokenVerdict(m []string) Verdict {
	first, relation, second, alone, tie := m[1], m[2], m[3], m[4], m[5]
	switch {
	case tie != "":
		return Tie
	case alone == "A":
		return Better
	case alone == "B":
		return Worse
	case first == second:
		return ""
	}
	value := map[string]Verdict{">>": MuchBetter, ">": Better, "=": Tie, "==": Tie, "~": Tie, "<": Worse, "<<": MuchWorse}[relation]
	if first == "B" {
		value = opposite[value]
	}
	return value
}

var opposite = map[Verdict]Verdict{MuchBetter: MuchWorse, Better: Worse, Tie: Tie, Worse: Better, MuchWorse: MuchBetter}

var unfold = strings.NewReplacer("≫", ">>", "≪", "<<", "≻", ">", "≺", "<", "≈", "=")

func parseValue(value string, scale Scale) (Verdict, string) {
	value = unfold.Replace(html.UnescapeString(value))
	if len(value) <= 3 { // a lower-case letter alone is a verdict; in prose "a" is an article
		value = strings.ToUpper(value)
	}
	at := token.FindStringSubmatchIndex(value)
	if at == nil || !lead.MatchString(value[:at[0]]) {
		return "", Ambiguous
	}
	named := distinct(value)
	switch rest := value[at[1]:]; {
	case len(named) != 1 || named[0] == "" || !remark.MatchString(rest):
		return "", Ambiguous
	case scale == Two && named[0] == Tie:
		return "", OffScale
	case scale == Two && named[0] == MuchBetter:
		return Better, ""
	case scale == Two && named[0] == MuchWorse:
		return Worse, ""
	default:
		return named[0], ""
	}
}
