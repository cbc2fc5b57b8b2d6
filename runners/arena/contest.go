package arena

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"coeval/runners/arena/winrate"
	"coeval/runners/style"
	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/pairwise"
	"coeval/transforms/stage"
)

// A Player is one model of a contest.
type Player struct {
	// Role answers the prompts. Its name must be schemas.RoleActor.
	Role stage.Role
	// Given are answers by prompt ID. If they are not nil, the model gets no request, and prompts without
	// an answer are not played.
	Given map[string]string
}

// A Contest lists the models and the pairings.
type Contest struct {
	// Models are measured against Baseline, and against each other where Chain is set: each
	// against the one before it.
	Models   []Player
	Baseline Player
	Chain    bool
	Judge    pairwise.Options
	// StripReasoning removes reasoning from answers before they are compared.
	StripReasoning bool
	// CategoryOf returns the category of a prompt, empty where it has none. Nil means none.
	CategoryOf func(*schemas.Prompt) string
}

// Validate returns an error that names all problems.
func (c *Contest) Validate() error {
	var errs []error
	if len(c.Models) == 0 {
		errs = append(errs, errors.New("a is missing; name the model to measure"))
	}
	seen := map[string]bool{c.Baseline.identity(): true}
	for i := range c.Models {
		id := c.Models[i].identity()
		if seen[id] {
			errs = append(errs, fmt.Errorf("model %q plays twice; give one of them a revision", id))
		}
		seen[id] = true
	}
	return errors.Join(errs...)
}

func (p *Player) identity() string { return p.Role.Identity() }

// Warnings are reasons to doubt the figures, each in one sentence.
func (c *Contest) Warnings() []string {
	judge := family(c.Judge.Role.Model)
	var warnings []string
	for _, p := range append(slices.Clone(c.Models), c.Baseline) {
		if f := family(p.Role.Model); f != "" && f == judge {
			warnings = append(warnings, fmt.Sprintf("the judge %s and %s are both of the family %q: judges prefer their own family; compare with another judge", c.Judge.Role.Model, p.identity(), f))
		}
	}
	return warnings
}

// family returns the first word of a model's name without its organization, as llama for
// meta-llama/Llama-3.1-8B-Instruct.
func family(model string) string {
	name := strings.ToLower(model[strings.LastIndex(model, "/")+1:])
	end := strings.IndexFunc(name, func(r rune) bool { return !unicode.IsLetter(r) })
	if end < 0 {
		end = len(name)
	}
	return name[:end]
}

// Ask runs a chain of stages on dossiers, through a journal.
type Ask func(ctx context.Context, dossiers []schemas.Dossier, chain []stage.Spec) error

// An AnswerRow is one answer of a model to a prompt.
type AnswerRow struct {
	PromptID string `json:"prompt_id" parquet:"prompt_id"`
	Model    string `json:"model"     parquet:"model,dict"`
	// Status is complete, empty or truncated; failed where the call failed for good, and given where
	// a file gave the answer.
	Status  string `json:"status"   parquet:"status,dict"`
	Text    string `json:"text"     parquet:"text"`
	Chars   int    `json:"chars"    parquet:"chars"`
	Headers int    `json:"headers"  parquet:"headers"`
	Lists   int    `json:"lists"    parquet:"lists"`
	Bold    int    `json:"bold"     parquet:"bold"`
}

// The statuses of an answer, in addition to those of a response.
const (
	GivenAnswer  = "given"
	FailedAnswer = "failed"
)

// A GameRow is a game with the judge's text.
type GameRow struct {
	winrate.Game

	Judge     string `json:"judge"     parquet:"judge,dict"`
	Text      string `json:"text"      parquet:"text"`
	Reasoning string `json:"reasoning" parquet:"reasoning"`
}

// Result is all that a contest gave, sorted: answers by model and prompt, games by models,
// prompt, order and replicate.
type Result struct {
	Answers []AnswerRow
	Games   []GameRow
	// Failed counts the calls of the judge that failed for good, by code.
	Failed map[string]int
	// Pairings are the models of each match, in the order in which they were given.
	Pairings [][2]string
}

// Play requests the answers and their comparisons. Prompts must be distinct. It returns an error
// if the contest is invalid, or the run has to stop.
func (c *Contest) Play(ctx context.Context, prompts []schemas.Prompt, ask Ask) (*Result, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &Result{Failed: map[string]int{}}
	answers := map[string]map[string]*AnswerRow{} // by model and prompt
	for _, p := range append(slices.Clone(c.Models), c.Baseline) {
		rows, err := c.answer(ctx, prompts, &p, ask)
		if err != nil {
			return nil, err
		}
		byPrompt := map[string]*AnswerRow{}
		for i := range rows {
			byPrompt[rows[i].PromptID] = &rows[i]
		}
		answers[p.identity()] = byPrompt
		r.Answers = append(r.Answers, rows...)
	}
	for i := range c.Models {
		r.Pairings = append(r.Pairings, [2]string{c.Models[i].identity(), c.Baseline.identity()})
	}
	for i := 1; c.Chain && i < len(c.Models); i++ {
		r.Pairings = append(r.Pairings, [2]string{c.Models[i].identity(), c.Models[i-1].identity()})
	}
	for _, pairing := range r.Pairings {
		if err := c.compare(ctx, prompts, pairing, answers, ask, r); err != nil {
			return nil, err
		}
	}
	r.sort()
	return r, nil
}

func (r *Result) sort() {
	slices.SortFunc(r.Answers, func(x, y AnswerRow) int {
		return cmp.Or(cmp.Compare(x.Model, y.Model), cmp.Compare(x.PromptID, y.PromptID))
	})
	slices.SortFunc(r.Games, func(x, y GameRow) int {
		return cmp.Or(cmp.Compare(x.A, y.A), cmp.Compare(x.B, y.B), cmp.Compare(x.PromptID, y.PromptID),
			cmp.Compare(x.First, y.First), cmp.Compare(x.Replicate, y.Replicate))
	})
}

// AnswerAll requests the answers of all models and plays no game, so that a model which will not be
// served for long has answered. It returns the first model whose calls all failed, empty for none.
func (c *Contest) AnswerAll(ctx context.Context, prompts []schemas.Prompt, ask Ask) (failed string, err error) {
	for _, p := range append(slices.Clone(c.Models), c.Baseline) {
		rows, err := c.answer(ctx, prompts, &p, ask)
		if err != nil {
			return "", err
		}
		if len(rows) > 0 && !slices.ContainsFunc(rows, func(a AnswerRow) bool { return a.Status != FailedAnswer }) {
			failed = cmp.Or(failed, p.identity())
		}
	}
	return failed, nil
}

// answer returns a player's answers, given or asked for.
func (c *Contest) answer(ctx context.Context, prompts []schemas.Prompt, p *Player, ask Ask) ([]AnswerRow, error) {
	model := p.identity()
	var rows []AnswerRow
	if p.Given != nil {
		for i := range prompts {
			if text, ok := p.Given[prompts[i].ID]; ok {
				rows = append(rows, newAnswer(prompts[i].ID, model, GivenAnswer, text))
			}
		}
		return rows, nil
	}
	spec, err := generate.Spec(generate.Options{Role: p.Role, N: 1, StripReasoning: c.StripReasoning})
	if err != nil {
		return nil, err
	}
	dossiers := make([]schemas.Dossier, len(prompts))
	for i := range prompts {
		dossiers[i].Prompt = prompts[i]
	}
	if err := ask(ctx, dossiers, []stage.Spec{spec}); err != nil {
		return nil, fmt.Errorf("answers of %s: %w", model, err)
	}
	for i := range dossiers {
		d := &dossiers[i]
		if len(d.Responses) == 0 {
			rows = append(rows, newAnswer(d.Prompt.ID, model, FailedAnswer, ""))
			continue
		}
		rows = append(rows, newAnswer(d.Prompt.ID, model, string(d.Responses[0].Status), d.Responses[0].Text))
	}
	return rows, nil
}

func newAnswer(promptID, model, status, text string) AnswerRow {
	s := style.Of(text)
	return AnswerRow{
		PromptID: promptID, Model: model, Status: status, Text: text, Chars: utf8.RuneCountInString(text),
		Headers: s.Headers, Lists: s.Lists, Bold: s.Bold,
	}
}

// compare plays the prompts to which both models of a pairing have an answer.
func (c *Contest) compare(ctx context.Context, prompts []schemas.Prompt, pairing [2]string, answers map[string]map[string]*AnswerRow, ask Ask, r *Result) error {
	judge := c.Judge
	judge.StripReasoning = c.StripReasoning
	spec, err := pairwise.Spec(judge)
	if err != nil {
		return err
	}
	var dossiers []schemas.Dossier
	for i := range prompts {
		p := &prompts[i]
		a, b := answers[pairing[0]][p.ID], answers[pairing[1]][p.ID]
		if a == nil || b == nil || a.Status == FailedAnswer || b.Status == FailedAnswer {
			continue
		}
		d := schemas.Dossier{Prompt: *p}
		for _, answer := range []*AnswerRow{a, b} {
			d.Responses = append(d.Responses, schemas.Response{
				ID: schemas.ResponseID(p.ID, answer.Model, answer.Text), Text: answer.Text, Status: schemas.Status(answer.Status),
			})
		}
		dossiers = append(dossiers, d)
	}
	if err := ask(ctx, dossiers, []stage.Spec{spec}); err != nil {
		return fmt.Errorf("%s against %s: %w", pairing[0], pairing[1], err)
	}
	for i := range dossiers {
		c.addGames(&dossiers[i], pairing, r)
	}
	return nil
}

func (c *Contest) addGames(d *schemas.Dossier, pairing [2]string, r *Result) {
	category := ""
	if c.CategoryOf != nil {
		category = c.CategoryOf(&d.Prompt)
	}
	for i := range d.Comparisons {
		x := &d.Comparisons[i]
		first := winrate.SideA
		if x.FirstID != d.Responses[0].ID {
			first = winrate.SideB
		}
		r.Games = append(r.Games, GameRow{
			Game: winrate.Game{
				PromptID: d.Prompt.ID, Category: category, A: pairing[0], B: pairing[1], First: first, Replicate: x.Replicate,
				Verdict: winrate.Verdict(x.Verdict), Unparsed: x.Unparsed,
			},
			Judge: c.Judge.Role.Identity(), Text: x.Text, Reasoning: x.Reasoning,
		})
	}
	for i := range d.Failures {
		r.Failed[d.Failures[i].Code]++
	}
}

// FailedPairing returns the first pairing that has no verdict, if any calls failed.
func (r *Result) FailedPairing() (pairing [2]string, ok bool) {
	failed := len(r.Failed) > 0 || slices.ContainsFunc(r.Answers, func(a AnswerRow) bool { return a.Status == FailedAnswer })
	for _, p := range r.Pairings {
		judged := slices.ContainsFunc(r.Games, func(g GameRow) bool { return g.A == p[0] && g.B == p[1] && g.Unparsed == "" })
		if failed && !judged {
			return p, true
		}
	}
	return pairing, false
}

// PlainGames returns the games without the texts.
func (r *Result) PlainGames() []winrate.Game {
	games := make([]winrate.Game, len(r.Games))
	for i := range r.Games {
		games[i] = r.Games[i].Game
	}
	return games
}

// Summary is the content of arena.json without the config: all figures of a contest.
type Summary struct {
	Matches []*winrate.Figures `json:"matches"`
	// Standings rank all models; they are empty for a single match.
	Standings []winrate.Standing `json:"standings,omitempty"`
}

// Summarize computes the figures of all matches from games, answers and known matches. Known are matches of
// other models against the same baseline on some of the prompts; they give the difficulty of the prompts.
// With several models each one's difficulty comes from the others too.
func Summarize(baseline string, pairings [][2]string, games []winrate.Game, answers []AnswerRow, known []*winrate.Match, o winrate.Options) Summary {
	type key struct{ model, prompt string }
	byKey := make(map[key]winrate.Answer, len(answers))
	for i := range answers {
		a := &answers[i]
		byKey[key{a.Model, a.PromptID}] = winrate.Answer{Chars: a.Chars, Style: style.Style{Headers: a.Headers, Lists: a.Lists, Bold: a.Bold}}
	}
	matches := make([]*winrate.Match, len(pairings))
	for i, p := range pairings {
		matches[i] = winrate.NewMatch(p[0], p[1], games, func(promptID string, side winrate.Side) winrate.Answer {
			if side == winrate.SideA {
				return byKey[key{p[0], promptID}]
			}
			return byKey[key{p[1], promptID}]
		})
	}
	var s Summary
	for i, m := range matches {
		own := o
		if m.B == baseline {
			others := slices.Clone(known)
			for k, other := range matches {
				if k != i && other.B == baseline {
					others = append(others, other)
				}
			}
			own.Difficulty = winrate.Difficulty(others, o.Outcome)
		}
		s.Matches = append(s.Matches, winrate.Of(m, own))
	}
	if len(matches) > 1 {
		s.Standings = winrate.Standings(baseline, matches, o)
	}
	return s
}
