// Package segment is the format of the files that contain a journal's records: JSON lines in zstd frames.
//
// A writer either appends frames to a segment, or publishes it in one piece. The name of a segment that was
// published in one piece contains the digest of its bytes. After a crash the last frame of a growing segment
// may be incomplete; damage anywhere else is an error. The package works on names and bytes, and opens no file.
package segment

import (
	"coeval/schemas"
)

// A Record is one line of a segment.
type Record struct {
	// Key is the key of the call; with Replicate it identifies a generation. The key of a prompt is
	// that of journal.PromptKey.
	Key       string `json:"key"`
	Replicate int    `json:"replicate"`
	PromptID  string `json:"prompt_id"`
	Role      string `json:"role,omitempty"`

	Text             string `json:"text,omitempty"`
	Reasoning        string `json:"reasoning,omitempty"`
	FinishReason     string `json:"finish_reason,omitempty"`
	PromptTokens     int    `json:"prompt_tokens,omitempty"`
	CompletionTokens int    `json:"completion_tokens,omitempty"`
	// LogProbs are the log-probabilities of a read's labels.
	LogProbs map[string]float64 `json:"log_probs,omitempty"`
	// Code is set for a call that failed for good. Message explains it.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Prompt is set in the record of a prompt, which has no other fields but Key and PromptID.
	Prompt *schemas.Prompt `json:"prompt,omitempty"`
}

// An ID identifies a record within a bucket.
type ID struct {
	Key       string
	Replicate int
}

// ID returns the ID of the record.
func (r *Record) ID() ID { return ID{r.Key, r.Replicate} }

// Better reports whether r replaces the earlier record old.
func (r *Record) Better(old *Record) bool { return old.Code != "" && r.Code == "" }
