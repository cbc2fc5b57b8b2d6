package pairwise

import (
	"html"
	"regexp"
	"slices"
	"strings"

	"coeval/transforms/answers"
	"coeval/transforms/answers/remarks"
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
	// reason matches a remark that may name the other answer: "because B invents a date", "(B is wrong)".
	reason = regexp.MustCompile(`^[\s)\]}>"'”’」】$.]*(?:[,;:–—-]\s*)?(?:(?i:\(?\s*(?:because|since)\b|\(?\s*as\s+(?:it|its|the|this|that)\b|\(?\s*as\s+(?:(?:answer|assistant|response|model)\s+)?[AB]\b|is\s+(?:\pL+\s+){0,2}better\s+than\b)|\(\s*(?i:(?:the\s+)?(?:answer|assistant|response|model)\s+)?[AB]\s+\pL{3,})`)
	// lost says that the named answer is the worse one.
	lost = `^\W*is\s+(?:\pL+\s+){0,2}(?:worse|worst|weaker|weakest|inferior|poorer|wrong|incorrect|loser)\b`
	// rival and doubtful match remarks that leave the verdict open.
	rival    = regexp.MustCompile(`(?i)\b[AB]\s+(?:is\s+(?:\pL+\s+){0,2}(?:better|best|superior|the\s+winner)|wins|and|or)\b|^\W*is\s+(?:\pL+\s+)?(?:not|no|never|hardly|barely)\b|` + lost)
	doubtful = regexp.MustCompile(`(?i)\b(?:unless|otherwise|maybe|perhaps|(?:not\s+|un)(?:sure|certain)|depends?|wait|hmm|(?:only|even|as)\s+if|either\s+(?:is|one|would|could|works))\b|\?` +
		`|(?:^|[.,;:(–—-])\W*(?:(?:but|and|only)\s+)*(?:if|either)\b|(?:^|[.;:(–—-])\W*or\b|\bor\s+(?:(?:answer|assistant|response|model)\s+)?(?-i:[AB])\b|^\W*is\s+(?:\pL+\s+)?(?:not|no|never|hardly|barely)\b|` + lost)
)

// ParseVerdict returns the verdict of a comparison, or the reason why it has none. FinishReason is
// the generation's.
//
// The last line of the form "Verdict: A>B" decides, unless another one contradicts it; see package answers. "Winner:"
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
		Label: func(string) string { return "" },
		Contests: func(sentence string, _ int) bool {
			return remarks.Retracted.MatchString(sentence) || remarks.Amended.MatchString(sentence) || remarks.Attributed.MatchString(sentence)
		},
		States: func(string) bool { return false },
		Merge:  merge,
		Refine: refine,
	}
}

// merge returns a reason if two reports contradict each other: they are on different sides.
func merge(reports []answers.Report) (reason string) {
	last := reports[len(reports)-1]
	for _, r := range reports {
		if r.Reason == "" && side(r.Value) != side(last.Value) {
			return Ambiguous
		}
	}
	return ""
}

// refine returns the verdict with the highest degree: "Winner: A" has none.
func refine(reports []answers.Report) (n int) {
	n = reports[len(reports)-1].Value
	for _, r := range reports {
		if r.Reason == "" && verdicts[r.Value] != side(r.Value) {
			n = r.Value
		}
	}
	return n
}

// side returns a verdict without its degree.
func side(n int) Verdict {
	switch v := verdicts[n]; v {
	case MuchBetter:
		return Better
	case MuchWorse:
		return Worse
	default:
		return v
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
	rest := value[at[1]:]
	named := distinct(value)
	if reason.MatchString(rest) && !rival.MatchString(rest) {
		named = distinct(value[:at[1]])
	}
	switch {
	case len(named) != 1 || named[0] == "" || !remark.MatchString(rest) || doubtful.MatchString(rest), remarks.Hedged.MatchString(rest):
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
