package summary

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize"

	"coeval/datasets/shards"
	"coeval/runners/runs"
	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// FailureMessage is the most frequent message of the failed calls.
type FailureMessage struct {
	Stage   string `json:"stage"`
	Code    string `json:"code"`
	Message string `json:"message"`
	// Calls is the number of failed calls with this message.
	Calls int64 `json:"calls"`
}

// maxMessages bounds the number of different messages to count.
const maxMessages = 10_000

type failureColumns struct {
	Stage    string  `parquet:"stage,dict"`
	Code     string  `parquet:"code,dict"`
	Message  string  `parquet:"message"`
	PromptID *string `parquet:"prompt_id"`
}

// CommonestFailure returns the most frequent message of failed calls, nil if no call failed. Of equally
// frequent ones it takes the first in the order of stage, code and message.
func CommonestFailure(ctx context.Context, r *runs.Run) (*FailureMessage, error) {
	calls := map[FailureMessage]int64{}
	err := runs.EachRow[schemas.FailureRow](ctx, r, shards.Failures, func(row *failureColumns) error {
		key := FailureMessage{Stage: row.Stage, Code: row.Code, Message: row.Message}
		if _, known := calls[key]; row.PromptID != nil && (known || len(calls) < maxMessages) {
			calls[key]++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var first *FailureMessage
	for m, n := range calls {
		m.Calls = n
		if first == nil || n > first.Calls || n == first.Calls && m.before(first) {
			first = &m
		}
	}
	return first, nil
}

func (m *FailureMessage) before(other *FailureMessage) bool {
	return m.Stage+"\x00"+m.Code+"\x00"+m.Message < other.Stage+"\x00"+other.Code+"\x00"+other.Message
}

// maxMessageChars bounds the part of a message that is printed.
const maxMessageChars = 300

func (m *FailureMessage) String() string {
	return MostFrequent("stage "+m.Stage, m.Code, m.Message, m.Calls)
}

// MostFrequent returns the sentence about the most frequent message of failed calls. Where is their stage or role.
func MostFrequent(where, code, message string, calls int64) string {
	head, left := sanitize.Cut(message, maxMessageChars)
	if left > 0 {
		head += "…"
	}
	return fmt.Sprintf("Most frequent message: %s, code %s, %s calls: %s", sanitize.Line(where), sanitize.Line(code), humanize.Comma(calls), sanitize.Line(head))
}

// ReplayedFailed returns the sentence about failed calls that the journal answered.
func ReplayedFailed(calls int64) string {
	return fmt.Sprintf("%d failed calls were replayed from the journal and not repeated: add --retry-failed to the same command to repeat them", calls)
}

// AddFailures adds the most frequent failure message of a finished run.
func (s *Summary) AddFailures(ctx context.Context, r *runs.Run) (err error) {
	if len(s.FailedCalls) == 0 {
		return nil
	}
	s.FailureMessage, err = CommonestFailure(ctx, r)
	return err
}

// FailedRole returns the name of a role that has no pair because calls failed, empty for none.
func (s *Summary) FailedRole() string {
	for _, r := range s.roles() {
		if r.role.Paired == 0 && r.role.Failed > 0 {
			return r.name
		}
	}
	return ""
}
