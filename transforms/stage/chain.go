package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"coeval/schemas"
)

// A Spec names a stage and its options, so that a chain of stages can travel to other processes.
type Spec struct {
	Name    string          `json:"name"`
	Options json.RawMessage `json:"options"`
}

var stages = map[string]func(options json.RawMessage) (Stage, error){}

// Register adds a stage under its name. Packages of stages call it in init.
func Register(name string, decode func(options json.RawMessage) (Stage, error)) {
	if _, ok := stages[name]; ok {
		panic(fmt.Sprintf("stage: %q is registered twice", name))
	}
	stages[name] = decode
}

// NewSpec returns the spec of a stage with options of a type that JSON can encode.
func NewSpec[O any](name string, options O) (Spec, error) {
	b, err := json.Marshal(options)
	if err != nil {
		return Spec{}, fmt.Errorf("stage: options of %s: %w", name, err)
	}
	return Spec{Name: name, Options: b}, nil
}

// Chain returns the stage that runs the named stages one after the other.
func Chain(specs []Spec) (Stage, error) {
	chain := make([]Stage, 0, len(specs))
	for _, spec := range specs {
		decode, ok := stages[spec.Name]
		if !ok {
			return nil, fmt.Errorf("stage: no stage %q; registered are %v", spec.Name, slices.Sorted(maps.Keys(stages)))
		}
		stage, err := decode(spec.Options)
		if err != nil {
			return nil, fmt.Errorf("stage: %s: %w", spec.Name, err)
		}
		chain = append(chain, stage)
	}
	return func(ctx context.Context, c Caller, d *schemas.Dossier) error {
		for _, stage := range chain {
			if err := stage(ctx, c, d); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
