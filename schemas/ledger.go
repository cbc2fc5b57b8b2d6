package schemas

import "maps"

// A Tally has the counts of one bundle. Commit adds them up.
type Tally struct {
	// Lines counts the entries read, Bad the invalid ones, NotDrawn the prompts outside the sample,
	// Merged the repetitions of another line's messages, and Findings the finished dossiers.
	Lines    int64 `json:"lines,omitempty"`
	Bad      int64 `json:"bad,omitempty"`
	NotDrawn int64 `json:"not_drawn,omitempty"`
	Merged   int64 `json:"merged,omitempty"`
	Findings int64 `json:"findings,omitempty"`
	// BadLines and Selections count the elements on their way to the files: selections by role.
	BadLines   int64            `json:"bad_lines,omitempty"`
	Selections map[string]int64 `json:"selections,omitempty"`
	// Calls counts by stage.
	Calls map[string]CallTally `json:"calls,omitempty"`
}

// CallTally counts the calls of a stage. Everything but requests and retries is in generations.
type CallTally struct {
	// Requests counts the requests sent, Retries the repeated ones among them, RetriesByCode the
	// repeated ones by the code of the failure.
	Requests      int64            `json:"requests"`
	Retries       int64            `json:"retries"`
	RetriesByCode map[string]int64 `json:"retries_by_code,omitempty"`
	// RequestMicros is the time from sending a request to its answer or fault, summed over all
	// requests. GenerationMicros weights each request by its number of choices: it is the stage's
	// share of all work in flight.
	RequestMicros    int64 `json:"request_micros"`
	GenerationMicros int64 `json:"generation_micros"`
	// Generations counts answers of servers, Replayed those of the journal. Failed counts the final
	// failures among both, ReplayedFailed those among Replayed.
	Generations      int64 `json:"generations"`
	Replayed         int64 `json:"replayed"`
	Failed           int64 `json:"failed"`
	ReplayedFailed   int64 `json:"replayed_failed,omitempty"`
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
	addCounts(&t.Selections, u.Selections)
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
		c.RetriesByCode = maps.Clone(c.RetriesByCode) // others may share the map
		addCounts(&c.RetriesByCode, d.RetriesByCode)
	}
	c.RequestMicros += d.RequestMicros
	c.GenerationMicros += d.GenerationMicros
	c.Generations += d.Generations
	c.Replayed += d.Replayed
	c.Failed += d.Failed
	c.ReplayedFailed += d.ReplayedFailed
	c.PromptTokens += d.PromptTokens
	c.CompletionTokens += d.CompletionTokens
	return c
}
