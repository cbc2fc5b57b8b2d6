package meta

import (
	"fmt"
	"regexp"
	"strings"

	"coeval/schemas"
	"coeval/transforms/answers"
	"coeval/transforms/stage"
)

// The reasons why a comparison has no verdict, as raw/comparisons names them.
const (
	// CutOff is a text that the model didn't finish.
	CutOff = answers.CutOff
	// Empty is a comparison without text.
	Empty = answers.Empty
	// Missing is a text with no verdict line.
	Missing = answers.Missing
	// Quoted is a text whose verdict lines all stand in quoted blocks.
	Quoted = answers.Quoted
	// Tie is a verdict line that names neither or both.
	Tie = "tie"
	// Ambiguous is a text that doesn't name A or B clearly.
	Ambiguous = answers.Ambiguous
)

const strongLabels = `winner|final verdict|final decision|final choice|preferred|better|more accurate|most accurate|preferred judgment|better judgment|more accurate judgment|
	preferred judgement|better judgement|more accurate judgement|better one|more accurate one|better evaluation|更好的判断|更准确的判断|更准确的评价|より正確な判断|final answer|verdict|
	获胜者|胜者|赢家|优胜者|獲勝者|勝者|最终裁决|最终判决|勝ち|승자|승리|gewinner|sieger|gagnant|vainqueur|ganador|ganadora|vencedor|vencedora|vincitore|победитель|الفائز|winnaar|zwycięzca|vinnare|kazanan|người thắng|विजेता|pemenang`

const weakLabels = `pick|decision|choice|answer|result|conclusion|preference|judgment|judgement|final|结论|最终结论|结果|結論|결론|urteil|décision|decisión|` + answers.Wrapper

func labels() map[string]answers.Kind {
	out := map[string]answers.Kind{}
	for kind, words := range map[answers.Kind]string{answers.Strong: strongLabels, answers.Weak: weakLabels} {
		for word := range strings.SplitSeq(words, "|") {
			if word = strings.TrimSpace(word); word != "" {
				out[word] = kind
			}
		}
	}
	return out
}

var verdicts = &answers.Grammar{
	Labels: labels(),
	Keys: map[string]answers.Kind{
		"winner": answers.Strong, "verdict": answers.Strong, "finalverdict": answers.Strong, "decision": answers.Strong, "choice": answers.Strong,
		"preferred": answers.Strong, "better": answers.Strong, "preference": answers.Strong, "answer": answers.Weak, "result": answers.Weak,
		"betterjudgment": answers.Strong, "preferredjudgment": answers.Strong, "moreaccurate": answers.Strong,
	},
	Parse: read, Label: func(string) string { return "" }, Sentence: sentence, Contests: contests, States: func(string) bool { return false }, Merge: merge,
}

var (
	// echo is the instruction in brackets, as <A or B>.
	echo = regexp.MustCompile(`(?i)^[\[({<]\s*(?:judge?ment\s+)?A\s*(?:or|/|\|)\s*(?:judge?ment\s+)?B\s*[\])}>]`)
	// placeholder is any other bracket without a letter A or B of its own.
	placeholder = regexp.MustCompile(`^["'“]?[<\[{(]\s*[\pL][\pL\s_.,'’/-]+[>\]})]`)
)

// A parser reads the verdicts of comparisons.
type parser struct {
	pattern  *regexp.Regexp
	enforced bool
}

func (o Options) parser() (*parser, error) {
	p := &parser{enforced: o.Role.Verdict != nil}
	if o.Pattern == "" {
		return p, nil
	}
	re, err := answers.CompilePattern(o.Pattern)
	if err != nil {
		return nil, fmt.Errorf("meta: pattern %q: %w", o.Pattern, err)
	}
	p.pattern = re
	return p, nil
}

// parse returns First or Second when a comparison names judgment A or judgment B as the more
// accurate one, else NoWins and the reason. FinishReason is the generation's.
func (p *parser) parse(text, finishReason string) (winner schemas.Winner, unparsed string) {
	if stage.FinishOf(finishReason) != stage.FinishComplete {
		return schemas.NoWins, CutOff
	}
	read := verdicts.Read
	switch {
	case p.pattern != nil:
		read = func(text string) (int, string) { return verdicts.ReadMatch(p.pattern, text) }
	case p.enforced:
		read = verdicts.ReadEnforced
	}
	n, unparsed := read(text)
	if unparsed != "" {
		return schemas.NoWins, unparsed
	}
	return schemas.Winner(n), ""
}

// ParseVerdict reads the verdict of a comparison by the verdict line; see package answers.
func ParseVerdict(text, finishReason string) (winner schemas.Winner, unparsed string) {
	return (&parser{}).parse(text, finishReason)
}
