package schemas

import "maps"

// A Tally is counts of one bundle, made where the counted things are and added up in Commit.
type Tally struct {
	// Lines are the entries read, Bad those that are no prompt, NotDrawn those that the sample
	// leaves out, Merged those whose messages another line of the run had already, Findings the
	// dossiers that were finished.
	Lines    int64 `json:"lines,omitempty"`
	Bad      int64 `json:"bad,omitempty"`
	NotDrawn int64 `json:"not_drawn,omitempty"`
	Merged   int64 `json:"merged,omitempty"`
	Findings int64 `json:"findings,omitempty"`
	// BadLines and Choices are what was sent to the files: choices by role.
	BadLines int64            `json:"bad_lines,omitempty"`
	Choices  map[string]int64 `json:"choices,omitempty"`
	// Calls counts by stage.
	Calls map[string]CallTally `json:"calls,omitempty"`
}

// CallTally counts the calls of a stage. Everything but requests and retries is in generations.
type CallTally struct {
	// Requests were sent, Retries of them again after one that failed, RetriesByCode says of what.
	Requests      int64            `json:"requests"`
	Retries       int64            `json:"retries"`
	RetriesByCode map[string]int64 `json:"retries_by_code,omitempty"`
	// RequestMicros is the time from sending a request to its answer or fault, over all
	// requests. GenerationMicros is the same with each request taken as often as it asked for
	// choices: the stage's part of all that was in flight.
	RequestMicros    int64 `json:"request_micros"`
	GenerationMicros int64 `json:"generation_micros"`
	// Generations came from workers, Replayed from the journal. Failed of both together
	// were final failures.
	Generations      int64 `json:"generations"`
	Replayed         int64 `json:"replayed"`
	Failed           int64 `json:"failed"`
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
}

// Add adds u to t.
func (t *Tally) Add(u Tally) {
	t.Lines += u.Lines
	t.Bad += u.Bad
	t.NotDrawn += u.NotDrawn
	t.Merged += u.Merged
	t.Findings += u.Findings
	t.BadLines += u.BadLines
	addCounts(&t.Choices, u.Choices)
	for stage, c := range u.Calls {
		if t.Calls == nil {
			t.Calls = map[string]CallTally{}
		}
		t.Calls[stage] = t.Calls[stage].Plus(c)
	}
}

// Plus returns the sum of both.
func (c CallTally) Plus(d CallTally) CallTally {
	c.Requests += d.Requests
	c.Retries += d.Retries
	if len(d.RetriesByCode) > 0 {
		c.RetriesByCode = maps.Clone(c.RetriesByCode) // others may have it too
		addCounts(&c.RetriesByCode, d.RetriesByCode)
	}
	c.RequestMicros += d.RequestMicros
	c.GenerationMicros += d.GenerationMicros
	c.Generations += d.Generations
	c.Replayed += d.Replayed
	c.Failed += d.Failed
	c.PromptTokens += d.PromptTokens
	c.CompletionTokens += d.CompletionTokens
	return c
}
