// Package source reads the prompts of a run.
//
// Every entry of the files, up to the limit, becomes one of three things:
//
//   - a prompt, keyed by the journal's bucket of its ID;
//   - a bad line with its file, line number and reason;
//   - a count, if the sample or the slice leaves the entry out.
//
// Equal prompts are not merged here: they have the same bucket, and package infer merges them.
//
// Metrics, namespace "source", counters: lines, bad.
package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"coeval/datasets/journal"
	"coeval/datasets/prompts"
	"coeval/schemas"
	_ "coeval/transforms/coders"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[readFn]())
	register.Emitter2[string, schemas.Prompt]()
	register.Emitter1[schemas.Record]()
	register.Emitter1[schemas.Tally]()
}

// Options configure Read.
type Options struct {
	// Files are read in parallel, each by one worker. Required.
	Files []prompts.File `json:"files"`
	// Reading configures how a line becomes a prompt.
	Reading prompts.Options `json:"reading"`
	// Sample selects the prompts to keep. Zero keeps all.
	Sample prompts.Sample `json:"sample"`
	// Bits is the length of the ID prefix that names a bucket, in bits.
	Bits int `json:"bits"`
}

// Outputs are the results of Read.
type Outputs struct {
	// Prompts are keyed by their bucket. PCollection<KV<string, schemas.Prompt>>
	Prompts beam.PCollection
	// BadLines are the lines that contain no valid prompt. PCollection<schemas.Record>
	BadLines beam.PCollection
	// Tallies count lines, one tally a file. PCollection<schemas.Tally>
	Tallies beam.PCollection
}

// Read reads all files. It returns an error if o is invalid.
func Read(s beam.Scope, o Options) (Outputs, error) {
	if o.Bits < 0 || o.Bits > journal.MaxBits {
		return Outputs{}, fmt.Errorf("source: Bits is %d; it must be 0 to %d", o.Bits, journal.MaxBits)
	}
	if len(o.Files) == 0 {
		return Outputs{}, errors.New("source: Files is empty; it must have at least one")
	}
	s = s.Scope("source.Read")
	files := make([]string, len(o.Files))
	for i := range o.Files {
		b, err := json.Marshal(&o.Files[i])
		if err != nil {
			return Outputs{}, fmt.Errorf("source: %w", err)
		}
		files[i] = string(b)
	}
	o.Files = nil
	spec, err := json.Marshal(&o)
	if err != nil {
		return Outputs{}, fmt.Errorf("source: %w", err)
	}
	spread := beam.Reshuffle(s, beam.CreateList(s, files))
	read, bad, tallies := beam.ParDo3(s, &readFn{Spec: string(spec)}, spread)
	return Outputs{Prompts: read, BadLines: bad, Tallies: tallies}, nil
}

var (
	linesCounter = beam.NewCounter("source", "lines")
	badCounter   = beam.NewCounter("source", "bad")
)

// readFn reads the prompts of a file.
type readFn struct {
	Spec string

	options Options
}

// Setup decodes the options.
func (f *readFn) Setup() error {
	if err := json.Unmarshal([]byte(f.Spec), &f.options); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	return nil
}

// ProcessElement emits the prompts and the bad lines of one file, and their count.
func (f *readFn) ProcessElement(ctx context.Context, spec string, prompt func(string, schemas.Prompt), bad func(schemas.Record), tally func(schemas.Tally)) error {
	var file prompts.File
	if err := json.Unmarshal([]byte(spec), &file); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	var t schemas.Tally
	err := prompts.ReadFile(ctx, file, f.options.Reading, func(line prompts.Line) error {
		t.Lines++
		linesCounter.Inc(ctx, 1)
		switch {
		case line.Bad == nil && !f.options.Sample.Keep(line.Prompt.ID):
			t.NotDrawn++
			return nil
		case line.Bad != nil:
			t.Bad++
			badCounter.Inc(ctx, 1)
			bad(schemas.Record{BadLine: line.Bad})
			return nil
		}
		prompt(journal.Bucket(line.Prompt.ID, f.options.Bits), line.Prompt)
		return nil
	})
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	tally(t)
	return nil
}
