package segment

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// EncodeLines writes the records as JSON lines.
func EncodeLines(w *bytes.Buffer, records []Record) error {
	e := jsontext.NewEncoder(w) // which ends every value with a line break
	for i := range records {
		if err := json.MarshalEncode(e, &records[i]); err != nil {
			return fmt.Errorf("journal: record of prompt %s: %w", records[i].PromptID, err)
		}
	}
	return nil
}

// decodeLines reads JSON lines and calls each with the records of the prompts for which keep returns
// true; nil keeps all.
func decodeLines(b []byte, keep func(string) bool, each func(*Record)) error {
	for line := range bytes.Lines(b) {
		r := new(Record)
		if err := json.Unmarshal(line, r); err != nil {
			return fmt.Errorf("not a record: %w", err)
		}
		if r.Key == "" || r.PromptID == "" {
			return errors.New("a record without key or prompt_id")
		}
		if keep == nil || keep(r.PromptID) {
			each(r)
		}
	}
	return nil
}
