package counters

import (
	"fmt"
	"slices"
)

// Warn adds a warning for the user. It ignores repetitions.
func (c *Counters) Warn(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.warnings, s) {
		c.warnings = append(c.warnings, s)
	}
}

// Note adds a sentence about a server for the user. It ignores repetitions.
func (c *Counters) Note(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.notes, s) {
		c.notes = append(c.notes, s)
	}
}

// warnOnce is Warn for a sentence whose variable parts are not in the key.
func (c *Counters) warnOnce(key, sentence string) {
	c.mu.Lock()
	known := c.odd[key] || len(c.odd) >= maxFailures
	if !known {
		if c.odd == nil {
			c.odd = map[string]bool{}
		}
		c.odd[key] = true
	}
	c.mu.Unlock()
	if !known {
		c.Warn(sentence)
	}
}

// RecordUnknownFinish counts a text with an unknown finish reason, and warns once of each reason.
func (c *Counters) RecordUnknownFinish(server, reason string) {
	c.mu.Lock()
	if c.unknownFinishes == nil {
		c.unknownFinishes = map[string]int64{}
	}
	if _, known := c.unknownFinishes[reason]; !known && len(c.unknownFinishes) >= maxFailures {
		reason = "(others)"
	}
	c.unknownFinishes[reason]++
	c.mu.Unlock()
	c.warnOnce("finish "+reason, fmt.Sprintf("%s ends texts with the finish reason %q, which is not known: these texts count as cut off", server, reason))
}

// RecordCutPrompts warns once that a server seems to cut prompts: it reported one number of tokens for
// requests of shortest and of longest bytes.
func (c *Counters) RecordCutPrompts(server, model string, tokens, shortest, longest int) {
	c.warnOnce("prompts "+server+" "+model, fmt.Sprintf("%s reports %d prompt tokens for requests of %d and of %d bytes alike: it seems to cut prompts of %s without an error, so models answer and judge incomplete prompts. Raise its context length (OLLAMA_CONTEXT_LENGTH at Ollama), then run again with a new worker.revision",
		server, tokens, shortest, longest, model))
}

// RecordMissingMetrics warns once that an SGLang server has no metrics.
func (c *Counters) RecordMissingMetrics(server string) {
	c.warnOnce("metrics "+server, fmt.Sprintf("%s is an SGLang server without /metrics: Coeval cannot read its queue and may send too many requests. Start the server with --enable-metrics", server))
}

// RecordReasoningOnly warns once that a role's answers have reasoning without a text.
func (c *Counters) RecordReasoningOnly(server, role string) {
	c.warnOnce("thoughts "+role, fmt.Sprintf("%s answers the %s with reasoning_content and no text: the reasoning may use up max_tokens. Raise max_tokens, or turn reasoning off in extra_body", server, role))
}

// minBeginnings is the number of texts of a role from which their common opening tag is reported.
const minBeginnings = 20

// RecordBeginning counts the texts of a role, and those with an opening tag that is closed later. It
// warns once when most texts begin with the same tag.
func (c *Counters) RecordBeginning(role, tag string, tagged bool) {
	c.mu.Lock()
	if c.beginnings == nil {
		c.beginnings = map[[2]string]int{}
	}
	c.beginnings[[2]string{role}]++
	n, all := 0, c.beginnings[[2]string{role}]
	if key := [2]string{role, tag}; tagged && (c.beginnings[key] > 0 || len(c.beginnings) < maxFailures) {
		c.beginnings[key]++
		n = c.beginnings[key]
	}
	c.mu.Unlock()
	if tagged && all >= minBeginnings && 2*n > all {
		c.warnOnce("tag "+role+" "+tag, fmt.Sprintf("most texts of the %s begin with %s and a later closing tag: this part may be reasoning, and would be judged and trained on. If so, add %q to method.reasoning_tags and run again; Coeval reuses all answers that this does not change", role, tag, tag))
	}
}
