package points

import (
	"fmt"
	"regexp"

	"coeval/transforms/answers"
	"coeval/transforms/answers/patterns"
	"coeval/transforms/stage"
)

// The reasons why a judgment has no score, as raw/judgments names them.
const (
	// CutOff is a text that the model didn't finish: a partial rubric contains partial scores.
	CutOff = answers.CutOff
	// Empty is a judgment without text.
	Empty = answers.Empty
	// Missing is a text with no score line.
	Missing = answers.Missing
	// Quoted is a text with score lines in quoted blocks only.
	Quoted = answers.Quoted
	// NotANumber is a score line that doesn't begin with a number, as n/a.
	NotANumber = "not_a_number"
	// Ambiguous is a text that reports more than one number, or none clearly: 3-4, 4 or 5.
	Ambiguous = answers.Ambiguous
	// WrongScale is a score on another scale than the judge's, for example 4/10 or 85%.
	WrongScale = "wrong_scale"
	// OutOfRange is a number outside the scale.
	OutOfRange = "out_of_range"
)

// MaxScore is the built-in rubric's highest score in thousandths of a point.
const MaxScore = 5000

var scores = FivePoints.grammar()

func (sc Scale) grammar() *answers.Grammar {
	return &answers.Grammar{
		Labels: scoreLabels, Keys: scoreKeys,
		Parse: sc.read, Label: sc.label, Contests: sc.contests, Joins: losses, States: sc.states, Merge: sc.merge,
	}
}

// scaleNote matches a note on the scale, or that the score is the total. Any other note, such as a criterion
// or "draft", makes the number another one than the total.
var scaleNote = patterns.New(`(?i)^(?:[^\pL]|\b(?:five|ten|out|of|on|using|as|an?|the|possible|range|scale|from|to|between|and|is|max|maximum|min|points?|pts|marks?|stars?|total|final|overall|sum|additive|rubric|number|integer|decimal|score|based|all(?:\s+(?:of|the|five|5))*\s+criteria|sum\s+of\s+(?:the\s+)?(?:five\s+|5\s+)?criteria|` +
	`maxscore|outof|maximumscore|maxpoints|scoremax|scoreoutof|von|bis|auf|einer|skala|punkten?|sur|une|points|de|a|en|em|una|uma|da|escala|scala|sobre|puntos|pontos|su|punti|из|от|до|баллов|gesamt|maximal|totale|insgesamt)\b|(?:из|от|до|по|шкале|баллов|à|échelle)|[分点點점]|満点|满分|滿分|만점|总分|總分|最高|合計|총점)*$`)

// grainNote matches the part of a note about the allowed numbers, or about their meaning: "half points
// allowed", "5 = best".
var grainNote = patterns.New(`(?i)\b(?:(?:in\s+)?(?:steps|increments)\s+of\s+(?:0?[.,]\d+|1|one|half(?:\s+an?)?)|(?:half|quarter|whole|full|decimal|fractional)[\s-](?:points?|numbers?|values?)(?:\s+(?:are\s+)?(?:allowed|possible|permitted|ok|only))?|halves|integers?\s+only|0?[.,]5[\s-]+(?:point\s+)?steps?|halbe\s+punkte(?:\s+(?:erlaubt|möglich))?|demi-points?(?:\s+(?:admis|autorisés|possibles))?|medios\s+puntos(?:\s+permitidos)?|(?:\d|one)\s+decimals?(?:\s+place)?|decimals?(?:\s+(?:are\s+)?(?:allowed|possible|permitted|ok))?|higher\s+is\s+better|(?:\d+\s*(?:=|is|:|for)?\s*|(?:=|is)\s*)?(?:the\s+)?(?:best|worst|highest|lowest))(?:\b|$)`)

// otherNote matches a note that is one letter, or names the end of the scale without its number.
var otherNote = patterns.New(`(?i)^[^\pL\d]*(?:a|max|maximum|maximal|possible|min)[^\pL\d]*$`)

var noteNumber = patterns.New(`\d+(?:\.\d+)?|\b(?:five|ten)\b`)

// label reads the scale in a label's note, as in "Score (0-5)" and "Score out of 10".
func (sc Scale) label(note string) (reason string) {
	if note == "" {
		return ""
	}
	note = grainNote.ReplaceAllString(note, "")
	all := noteNumber.FindAllString(note, -1)
	if !scaleNote.MatchString(note) || otherNote.MatchString(note) {
		return Ambiguous
	}
	if len(all) > 0 && !sc.isMax(all[len(all)-1]) {
		return WrongScale
	}
	return ""
}

// A Parser reads the scores of judgments.
type Parser struct {
	grammar  *answers.Grammar
	pattern  *regexp.Regexp
	enforced bool
}

// NewParser returns the parser for scores on a scale. A pattern that isn't empty is a regular
// expression whose one group is the score, in its last match; it replaces the rules for score
// lines. Enforced means that the server constrains the last line. NewParser returns an error
// if the scale or the pattern is invalid.
func NewParser(sc Scale, pattern string, enforced bool) (*Parser, error) {
	if err := sc.Validate(); err != nil {
		return nil, err
	}
	p := &Parser{grammar: sc.grammar(), enforced: enforced}
	if pattern != "" {
		re, err := answers.CompilePattern(pattern)
		if err != nil {
			return nil, fmt.Errorf("judge: pattern %q: %w", pattern, err)
		}
		p.pattern = re
	}
	return p, nil
}

// Parse returns the score of a judgment in thousandths of a point, or the reason why it has
// none. FinishReason is the generation's.
func (p *Parser) Parse(text, finishReason string) (thousandths int, unparsed string) {
	switch {
	case stage.FinishOf(finishReason) != stage.FinishComplete:
		return 0, CutOff
	case p.pattern != nil:
		return p.grammar.ReadMatch(p.pattern, text)
	case p.enforced:
		return p.grammar.ReadEnforced(text)
	}
	return p.grammar.Read(text)
}

// Hide returns a judgment's text without its score lines, and without the sentences that state
// the total in other words: what hide_scores shows to the meta-judge. A pattern's matches are
// removed, too.
func (p *Parser) Hide(text string) string {
	if p.pattern != nil {
		text = p.pattern.ReplaceAllString(text, "")
	}
	return p.grammar.Hide(text)
}

var builtInParser = &Parser{grammar: scores}

// ParseScore reads a score on the built-in scale, 0 to [MaxScore]; see [Parser.Parse].
func ParseScore(text, finishReason string) (thousandths int, unparsed string) {
	return builtInParser.Parse(text, finishReason)
}

// HideScore hides the score of a judgment on the built-in scale; see [Parser.Hide].
func HideScore(text string) string { return builtInParser.Hide(text) }
