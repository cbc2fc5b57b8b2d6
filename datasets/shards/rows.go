package shards

import (
	"fmt"
	"unicode/utf8"

	"coeval/schemas"
)

// A layout has the facts about a row type that the writer needs in addition to its schema.
type layout struct {
	tables []Table
	// sorted are the columns of Compare's order, in which null may come first. A failure's message
	// is not among them: it only breaks ties.
	sorted     []string
	nullsFirst bool
	// texts are the columns without bounds, for texts of people and models.
	texts [][]string
	// keyed reports whether rows have a unique id.
	keyed bool
}

func layoutOf[T Row]() layout {
	byPrompt := []string{"prompt_id", "id"}
	switch any(new(T)).(type) {
	case *schemas.Pair:
		return layout{
			tables: []Table{Actor, Judge}, sorted: byPrompt, keyed: true,
			texts: [][]string{messageTexts("prompt"), messageTexts("chosen"), messageTexts("rejected"), listOf("own_id"), {"metadata"}},
		}
	case *schemas.PromptRow:
		return layout{
			tables: []Table{Prompts}, sorted: []string{"id"}, keyed: true,
			texts: [][]string{messageTexts("prompt"), listOf("own_id"), {"source_file"}, {"metadata"}},
		}
	case *schemas.ResponseRow:
		return layout{tables: []Table{Responses}, sorted: byPrompt, keyed: true, texts: [][]string{{"model"}, {"text"}, {"reasoning"}}}
	case *schemas.JudgmentRow:
		return layout{tables: []Table{Judgments}, sorted: byPrompt, keyed: true, texts: [][]string{{"model"}, {"text"}, {"reasoning"}}}
	case *schemas.ComparisonRow:
		return layout{tables: []Table{Comparisons}, sorted: byPrompt, keyed: true, texts: [][]string{{"model"}, {"text"}, {"reasoning"}}}
	case *schemas.ReadRow:
		return layout{tables: []Table{Reads}, sorted: byPrompt, keyed: true, texts: [][]string{{"model"}, listOf("labels")}}
	default:
		return layout{
			tables: []Table{Failures},
			sorted: []string{
				"prompt_id", "stage", "code", "response_id", "first_id", "second_id", "replicate", "source_file", "source_line",
			},
			nullsFirst: true,
			texts:      [][]string{{"message"}, {"source_file"}},
		}
	}
}

func messageTexts(column string) []string { return []string{column, "list", "element", "content"} }

func listOf(column string) []string { return []string{column, "list", "element"} }

// A rowCheck measures a row's strings and finds its first problem.
type rowCheck struct {
	bytes   int
	problem string
}

// TextBytes returns the size of a row's texts.
func TextBytes[T Row](row *T) int { return checkRow(row).bytes }

func checkRow[T Row](row *T) rowCheck {
	var c rowCheck
	switch r := any(row).(type) {
	case *schemas.Pair:
		c.pair(r)
	case *schemas.PromptRow:
		c.prompt(r)
	case *schemas.ResponseRow:
		c.response(r)
	case *schemas.JudgmentRow:
		c.judgment(r)
	case *schemas.ComparisonRow:
		c.comparison(r)
	case *schemas.ReadRow:
		c.read(r)
	case *schemas.FailureRow:
		c.failure(r)
	}
	return c
}

func (c *rowCheck) pair(r *schemas.Pair) {
	c.text("id", r.ID)
	c.text("prompt_id", r.PromptID)
	c.messages("prompt", r.Prompt)
	c.messages("chosen", r.Chosen)
	c.messages("rejected", r.Rejected)
	c.nullable("response_id", r.ResponseID)
	c.text("chosen_id", r.ChosenID)
	c.text("rejected_id", r.RejectedID)
	c.nullable("chosen_model", r.ChosenModel)
	c.nullable("rejected_model", r.RejectedModel)
	c.texts("own_id", r.OwnID)
	c.text("metadata", r.Metadata)
}

func (c *rowCheck) prompt(r *schemas.PromptRow) {
	c.text("id", r.ID)
	c.messages("prompt", r.Prompt)
	c.texts("own_id", r.OwnID)
	c.text("source_file", r.SourceFile)
	c.text("metadata", r.Metadata)
	c.nullable("actor_outcome", r.ActorOutcome)
	c.nullable("actor_reason", r.ActorReason)
	c.nullable("judge_outcome", r.JudgeOutcome)
	c.nullable("judge_reason", r.JudgeReason)
	c.nullable("contested_response_id", r.ContestedResponseID)
	c.nullable("asking_stopped", r.AskingStopped)
}

func (c *rowCheck) response(r *schemas.ResponseRow) {
	c.text("id", r.ID)
	c.text("prompt_id", r.PromptID)
	c.text("model", r.Model)
	c.text("text", r.Text)
	c.nullable("reasoning", r.Reasoning)
	c.text("status", r.Status)
}

func (c *rowCheck) judgment(r *schemas.JudgmentRow) {
	c.text("id", r.ID)
	c.text("prompt_id", r.PromptID)
	c.text("response_id", r.ResponseID)
	c.text("model", r.Model)
	c.text("text", r.Text)
	c.nullable("reasoning", r.Reasoning)
	c.nullable("unparsed_reason", r.UnparsedReason)
}

func (c *rowCheck) comparison(r *schemas.ComparisonRow) {
	c.text("id", r.ID)
	c.text("prompt_id", r.PromptID)
	c.text("response_id", r.ResponseID)
	c.text("first_id", r.FirstID)
	c.text("second_id", r.SecondID)
	c.text("model", r.Model)
	c.text("text", r.Text)
	c.nullable("reasoning", r.Reasoning)
	c.text("winner", r.Winner)
	c.nullable("unparsed_reason", r.UnparsedReason)
}

func (c *rowCheck) read(r *schemas.ReadRow) {
	c.text("id", r.ID)
	c.text("prompt_id", r.PromptID)
	c.text("response_id", r.ResponseID)
	c.nullable("first_id", r.FirstID)
	c.nullable("second_id", r.SecondID)
	c.text("model", r.Model)
	c.texts("labels", r.Labels)
	c.nullable("unparsed_reason", r.UnparsedReason)
}

func (c *rowCheck) failure(r *schemas.FailureRow) {
	c.text("stage", r.Stage)
	c.text("code", r.Code)
	c.text("message", r.Message)
	c.nullable("source_file", r.SourceFile)
	c.nullable("prompt_id", r.PromptID)
	c.nullable("response_id", r.ResponseID)
	c.nullable("first_id", r.FirstID)
	c.nullable("second_id", r.SecondID)
}

func (c *rowCheck) text(column, s string) {
	c.bytes += len(s)
	if !utf8.ValidString(s) && c.problem == "" {
		c.problem = "column " + column + " is not valid UTF-8"
	}
}

func (c *rowCheck) nullable(column string, s *string) {
	if s != nil {
		c.text(column, *s)
	}
}

func (c *rowCheck) texts(column string, list []string) {
	for _, s := range list {
		c.text(column, s)
	}
}

// messages refuses an empty conversation too, because it crashes trainers.
func (c *rowCheck) messages(column string, messages []schemas.Message) {
	if len(messages) == 0 && c.problem == "" {
		c.problem = "column " + column + " has no message"
	}
	for i := range messages {
		c.text(column, messages[i].Role)
		c.text(column, messages[i].Content)
	}
}

// nameRow identifies a row in messages.
func nameRow[T Row](row *T) string {
	switch r := any(row).(type) {
	case *schemas.Pair:
		return r.ID
	case *schemas.PromptRow:
		return r.ID
	case *schemas.ResponseRow:
		return r.ID
	case *schemas.JudgmentRow:
		return r.ID
	case *schemas.ComparisonRow:
		return r.ID
	case *schemas.ReadRow:
		return r.ID
	case *schemas.FailureRow:
		name := r.Stage + " " + r.Code
		if r.PromptID != nil {
			name += " of prompt " + *r.PromptID
		}
		if r.SourceFile != nil && r.SourceLine != nil {
			name += fmt.Sprintf(" at %s:%d", *r.SourceFile, *r.SourceLine)
		}
		return name
	}
	return ""
}
