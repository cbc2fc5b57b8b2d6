package loop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Step is one step of an iteration.
type Step string

// The steps, in their order. The first four belong to iterations of the preset temporal.
const (
	PhaseOne    Step = "phase-1"
	FutureSet   Step = "future-set"
	TrainFuture Step = "future-train"
	SwapFuture  Step = "future-swap"

	Produce    Step = "produce"
	MakeSet    Step = "set"
	TrainModel Step = "train"
	SwapModel  Step = "swap"
	Measure    Step = "evaluate"
	Decide     Step = "decide"
)

// Steps are those of every iteration.
var Steps = []Step{Produce, MakeSet, TrainModel, SwapModel, Measure, Decide}

// FutureSteps come before them in an iteration of the preset temporal.
var FutureSteps = []Step{PhaseOne, FutureSet, TrainFuture, SwapFuture}

// A Record is a finished step.
type Record struct {
	Iteration int  `json:"iteration"`
	Step      Step `json:"step"`
	// Input is the digest of the step's inputs: settings and the results of former steps.
	Input string `json:"input"`
	// Output is the step's result, in a form that depends on the step.
	Output json.RawMessage `json:"output"`
	Ended  time.Time       `json:"ended"`
	// Seconds it took in the attempt that ended it.
	Seconds float64 `json:"seconds"`
}

// StateFile has a line for each step that is done. Lines are appended and never changed.
const StateFile = "state.jsonl"

// State is the steps that are done.
type State struct {
	path    string
	records []Record
}

// OpenState reads the state of a loop's folder for the loop that has its lock. A last line that a crash
// cut off is dropped from the file. Damage anywhere else is an error.
func OpenState(dir string) (*State, error) {
	s, whole, size, err := readState(dir)
	if err == nil && whole < size {
		err = os.Truncate(s.path, whole)
	}
	return s, err
}

// ReadState is OpenState for readers beside a running loop: it leaves a last line alone that may be in
// the writing.
func ReadState(dir string) (*State, error) {
	s, _, _, err := readState(dir)
	return s, err
}

// readState returns the state, the bytes of its whole lines, and the size of the file.
func readState(dir string) (s *State, whole, size int64, err error) {
	s = &State{path: filepath.Join(dir, StateFile)}
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, 0, 0, nil
	}
	if err != nil {
		return nil, 0, 0, err
	}
	end := bytes.LastIndexByte(b, '\n') + 1
	lines := bufio.NewScanner(bytes.NewReader(b[:end]))
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		var r Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, 0, 0, fmt.Errorf("%s:%d is damaged: %w; restore it, or remove the line and all below it, and the steps are done again", s.path, number, err)
		}
		s.records = append(s.records, r)
	}
	if err := lines.Err(); err != nil {
		return nil, 0, 0, fmt.Errorf("%s: %w", s.path, err)
	}
	return s, int64(end), int64(len(b)), nil
}

// maxLine bounds a line of the state.
const maxLine = 16 << 20

// Find returns the last record of a step, or nil. Only decisions have more than one.
func (s *State) Find(iteration int, step Step) *Record {
	for i := len(s.records) - 1; i >= 0; i-- {
		if r := &s.records[i]; r.Iteration == iteration && r.Step == step {
			return r
		}
	}
	return nil
}

// Last returns the last iteration that was begun, and 0 where none was.
func (s *State) Last() int {
	last := 0
	for i := range s.records {
		last = max(last, s.records[i].Iteration)
	}
	return last
}

// Records returns all records in their order.
func (s *State) Records() []Record { return slices.Clone(s.records) }

// Append adds a record and returns when it is on the disk.
func (s *State) Append(r Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("loop: %w", err)
	}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	s.records = append(s.records, r)
	return nil
}
