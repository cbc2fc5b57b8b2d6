// Package steps keeps the log of a loop's finished steps: a line for each, appended and never changed.
package steps

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
	"strconv"
	"time"

	"coeval/schemas"
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

// Every are the steps of every iteration.
var Every = []Step{Produce, MakeSet, TrainModel, SwapModel, Measure, Decide}

// Future come before them in an iteration of the preset temporal.
var Future = []Step{PhaseOne, FutureSet, TrainFuture, SwapFuture}

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
	// Sum is the digest of the record's other fields without the times, which shows an edit. Empty in files of earlier versions.
	Sum string `json:"sum,omitempty"`
}

func (r *Record) sum() string {
	return schemas.Digest(strconv.Itoa(r.Iteration), string(r.Step), r.Input, string(r.Output))
}

// StateFile has a line for each step that is done. Lines are appended and never changed.
const StateFile = "state.jsonl"

// State is the steps that are done.
type State struct {
	path    string
	records []Record
}

// Open reads the state of a loop's folder for the loop that has its lock. A last line that a crash
// cut off is dropped from the file. Damage anywhere else is an error.
func Open(dir string) (*State, error) {
	s, whole, size, err := readState(dir)
	if err == nil && whole < size {
		err = os.Truncate(s.path, whole)
	}
	return s, err
}

// Read is Open for readers beside a running loop: it leaves a last line alone that may be in
// the writing.
func Read(dir string) (*State, error) {
	s, _, _, err := readState(dir)
	return s, err
}

// readState returns the state, the bytes of its whole lines, and the size of the file.
func readState(dir string) (s *State, whole, size int64, err error) {
	s = &State{path: filepath.Join(dir, StateFile)}
	switch is, err := os.Stat(s.path); {
	case errors.Is(err, fs.ErrNotExist):
		return s, 0, 0, nil
	case err != nil:
		return nil, 0, 0, err
	case !is.Mode().IsRegular():
		return nil, 0, 0, fmt.Errorf("%s is no regular file: restore the state of the loop, or set another dir", s.path)
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		return nil, 0, 0, err
	}
	end := bytes.LastIndexByte(b, '\n') + 1
	lines := bufio.NewScanner(bytes.NewReader(b[:end]))
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		var r Record
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			err = r.check(s.records)
		}
		if err != nil {
			return nil, 0, 0, fmt.Errorf("%s:%d is damaged: %w. Restore the file; or remove this line and all lines below it, and the loop repeats those steps", s.path, number, err)
		}
		s.records = append(s.records, r)
	}
	if err := lines.Err(); err != nil {
		return nil, 0, 0, fmt.Errorf("%s: %w", s.path, err)
	}
	return s, int64(end), int64(len(b)), nil
}

// check returns an error unless a record can follow others: the next step of the same iteration, the first step of the
// next one, or another decision after a decision.
func (r *Record) check(before []Record) error {
	if r.Sum != "" && r.Sum != r.sum() {
		return fmt.Errorf("the record of iteration %d, %s, was changed after it was written", r.Iteration, r.Step)
	}
	all := slices.Concat(Future, Every)
	at := slices.Index(all, r.Step)
	if at < 0 {
		return fmt.Errorf("step is %q; allowed is one of %v", r.Step, all)
	}
	last, done := 0, Decide // as if an iteration 0 had been decided
	if len(before) > 0 {
		last, done = before[len(before)-1].Iteration, before[len(before)-1].Step
	}
	var ok bool
	switch {
	case done != Decide:
		ok = r.Iteration == last && r.Step == all[slices.Index(all, done)+1]
	case r.Step == Decide:
		ok = last > 0 && r.Iteration == last
	default:
		ok = r.Iteration == last+1 && (r.Step == PhaseOne || r.Step == Produce)
	}
	if !ok {
		return fmt.Errorf("iteration %d, %s, can't follow iteration %d, %s: lines are missing, or in another order", r.Iteration, r.Step, last, done)
	}
	return nil
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
	r.Sum = r.sum()
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

// Output returns the output of a step that is done.
func Output[T any](s *State, t int, step Step) (*T, error) {
	r := s.Find(t, step)
	if r == nil {
		return nil, fmt.Errorf("iteration %d has no %s", t, step)
	}
	out := new(T)
	if err := json.Unmarshal(r.Output, out); err != nil {
		return nil, fmt.Errorf("iteration %d, %s: %w", t, step, err)
	}
	return out, nil
}
