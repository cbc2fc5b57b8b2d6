package endpoint

import "coeval/transforms/stage"

// PromptSizes show whether a server cuts prompts silently, as Ollama does at num_ctx tokens. Prompts of
// different sizes then have the same number of tokens, the largest so far.
type PromptSizes struct {
	Tokens            int // the largest number that the server reported
	answers           int // with that number
	Shortest, Longest int // of their requests, in bytes
}

const (
	// minCutTokens is the smallest number of prompt tokens that counts as a bound.
	minCutTokens = 256
	// minCutAnswers answers with the largest number of tokens, of which the longest request is
	// minCutGrowth times the shortest, show that a server cuts prompts.
	minCutAnswers = 3
	minCutGrowth  = 1.25
)

// add notes an answer, and reports whether the server cuts prompts.
func (p *PromptSizes) add(tokens, size int) bool {
	switch {
	case tokens < minCutTokens || tokens < p.Tokens:
		return false
	case tokens > p.Tokens:
		*p = PromptSizes{Tokens: tokens, Shortest: size, Longest: size}
	}
	p.answers++
	p.Shortest, p.Longest = min(p.Shortest, size), max(p.Longest, size)
	return p.answers >= minCutAnswers && float64(p.Longest) >= minCutGrowth*float64(p.Shortest)
}

// CutsPrompts notes an answer to a prompt of size bytes, and reports whether the server cuts prompts.
func (e *Endpoint) CutsPrompts(r *stage.Role, tokens, size int) (PromptSizes, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := &e.model(r).prompts
	cuts := p.add(tokens, size)
	return *p, cuts
}
