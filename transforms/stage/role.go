package stage

import (
	"slices"
	"strconv"
	"strings"

	"coeval/schemas"
)

// Role is a model in one part of the method: its sampling settings and its servers.
type Role struct {
	// Name is actor, judge or meta_judge.
	Name  string `json:"name"`
	Model string `json:"model"`
	// Revision distinguishes checkpoints that are served under one name. May be empty.
	Revision  string     `json:"revision,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`

	Temperature float64  `json:"temperature"`
	TopP        float64  `json:"top_p"`
	MaxTokens   int      `json:"max_tokens"`
	Stop        []string `json:"stop,omitempty"`
	// ExtraBody is a JSON object whose fields are sent unchanged. May be empty.
	ExtraBody string `json:"extra_body,omitempty"`
	// Verdict is the ending that the servers must enforce on each text. Nil leaves texts free.
	Verdict *Verdict `json:"verdict,omitempty"`
	// Read requests the probabilities of labels as the next token instead of a text. Nil requests texts.
	Read *Read `json:"read,omitempty"`
	// ReasoningTags are additional tags around reasoning; see [StripReasoning]. They decide how texts
	// are read, and not which ones are asked for.
	ReasoningTags []string `json:"reasoning_tags,omitempty"`
	// Seed is the run's seed.
	Seed int64 `json:"seed"`
	// Omit names fields of the request that are not sent: Temperature, TopP or Seed. Some servers
	// refuse one or another.
	Omit []string `json:"omit,omitempty"`
	// Simulated identifies the simulated worker that answers instead of a model: its hidden truth
	// and all else that decides its texts. Empty means real servers.
	Simulated string `json:"simulated,omitempty"`
}

// The fields that Role.Omit may name.
const (
	Temperature = "temperature"
	TopP        = "top_p"
	Seed        = "seed"
)

// Sends reports whether requests of the role have the field.
func (r *Role) Sends(field string) bool { return !slices.Contains(r.Omit, field) }

// Identity returns the model with its revision, as IDs and rows show it.
func (r *Role) Identity() string {
	if r.Revision == "" {
		return r.Model
	}
	return r.Model + "@" + r.Revision
}

// digest covers every field that influences the texts. The endpoints do not.
func (r *Role) digest() string {
	f := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	parts := []string{
		r.Name, r.Model, r.Revision, f(r.Temperature), f(r.TopP), strconv.Itoa(r.MaxTokens),
		schemas.Digest(r.Stop...), r.ExtraBody, strconv.FormatInt(r.Seed, 10),
	}
	if r.Verdict != nil {
		parts = append(parts, r.Verdict.digest(r.MaxReasoning()))
	}
	if r.Read != nil {
		parts = append(parts, "read", schemas.Digest(r.Read.Labels...))
	}
	if len(r.Omit) > 0 {
		parts = append(parts, "omit", schemas.Digest(r.Omit...))
	}
	if r.Simulated != "" {
		parts = append(parts, "simulated", r.Simulated)
	}
	return schemas.Digest(parts...)
}

// A Verdict is the line that must end a text: the label and one of the values, as in
// "Score: 3.5". Servers that can enforce only JSON return {"reasoning": …, "score": "3.5"}.
type Verdict struct {
	Label  string   `json:"label"`
	Values []string `json:"values"`
}

const (
	// maxReasoning bounds the characters before an enforced verdict. RE2 repeats at most 1,000
	// times, and the paper bounds a chosen judgment at about the same length.
	maxReasoning = 1000
	// verdictTokens are reserved for the verdict line.
	verdictTokens = 16
)

// MaxReasoning returns how many characters may precede an enforced verdict: one for each token
// of the role except those of the verdict, so that the verdict comes before the tokens run out.
func (r *Role) MaxReasoning() int {
	if r.MaxTokens == 0 {
		return maxReasoning
	}
	return min(maxReasoning, max(r.MaxTokens-verdictTokens, r.MaxTokens/2))
}

// isLine reports whether a line is the label and one of the values.
func (v *Verdict) isLine(line string) bool {
	value, ok := strings.CutPrefix(strings.TrimSpace(line), v.Label+":")
	return ok && slices.Contains(v.Values, strings.TrimSpace(value))
}

// digest covers everything that influences which texts are possible.
func (v *Verdict) digest(reasoning int) string {
	return schemas.Digest(append([]string{v.Label, strconv.Itoa(reasoning)}, v.Values...)...)
}
