package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"

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

const (
	// maxRecordBytes bounds a record: an answer's body and a prompt have at most 64 MiB, and the rest 1 MiB.
	maxRecordBytes = 65 << 20
	// maxTokens bounds the JSON tokens of a record larger than manyBytes. An empty message takes 3 bytes
	// in the file and 33 bytes in memory.
	maxTokens = 1 << 20
	manyBytes = 1 << 20
)

var errLongRecord = fmt.Errorf("%w: a record has more than %d MiB", errTooLarge, maxRecordBytes>>20)

// decodeLine reads a JSON line and calls each with its record if keep returns true for its prompt; nil keeps all.
func decodeLine(line []byte, keep func(string) bool, each func(*Record)) error {
	if len(line) > manyBytes {
		if err := checkTokens(line); err != nil {
			return err
		}
	}
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
	return nil
}

func checkTokens(line []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(line), jsontext.AllowDuplicateNames(true))
	for range maxTokens {
		_, err := d.ReadToken()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("not a record: %w", err)
		}
	}
	return fmt.Errorf("%w: %w: a record of %d MiB has more than %d JSON tokens", ErrDamaged, errTooLarge, len(line)>>20, maxTokens)
}
