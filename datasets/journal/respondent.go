package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/store"
)

// Respondent is the kind of servers behind the answers of a journal: real ones or the simulated worker.
// A journal has one kind, because invented texts would otherwise pass for a model's.
type Respondent struct {
	// Kind is Real or Simulated, and empty while no call has an answer.
	Kind string `json:"kind"`
	// Worker identifies the simulated worker that a run started itself. Empty otherwise.
	Worker string `json:"worker,omitempty"`
	// Recorded reports whether the journal has a record of the kind. Without one it was derived.
	Recorded bool `json:"-"`
}

// The values of Respondent.Kind.
const (
	Real      = "real"
	Simulated = "simulated"
)

const (
	respondentFile = "answered-by.json"
	// modelsFolder has the servers' reports about their models, and simulatedOwner marks the
	// simulated worker there. Older journals have no other record.
	modelsFolder   = "models"
	simulatedOwner = `"coeval-simulator"`
)

// ReadRespondent returns the respondent of the journal in dir. A journal of an earlier version has no
// record of the kind: it is simulated if it contains a simulated model, and real if it has any other
// call.
func ReadRespondent(ctx context.Context, dir string) (Respondent, error) {
	name := store.Join(dir, respondentFile)
	switch b, err := readIfThere(ctx, name); {
	case err != nil:
		return Respondent{}, err
	case b != nil:
		var o Respondent
		if err := json.Unmarshal(b, &o); err != nil {
			return Respondent{}, fmt.Errorf("journal: %s does not record whether the answers are real or simulated: %w", name, err)
		}
		if o.Kind != Real && o.Kind != Simulated {
			return Respondent{}, fmt.Errorf("journal: %s has the kind %q; allowed are %s and %s", name, o.Kind, Real, Simulated)
		}
		o.Recorded = true
		return o, nil
	}
	models, err := store.List(ctx, store.Join(dir, modelsFolder)+"/")
	if err != nil {
		return Respondent{}, fmt.Errorf("journal: %w", err)
	}
	for _, f := range models {
		b, err := store.ReadSmall(ctx, f.Path)
		if err != nil {
			return Respondent{}, fmt.Errorf("journal: %w", err)
		}
		if strings.Contains(string(b), simulatedOwner) {
			return Respondent{Kind: Simulated}, nil
		}
	}
	switch has, err := hasCalls(ctx, dir); {
	case err != nil:
		return Respondent{}, err
	case has:
		return Respondent{Kind: Real}, nil
	}
	return Respondent{}, nil
}

// WriteRespondent records the respondent of the journal in dir. The caller must own the lock of the run,
// and must have checked that the journal has no respondent of the other kind.
func WriteRespondent(ctx context.Context, dir string, o Respondent) error {
	b, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := store.WriteFile(ctx, store.Join(dir, respondentFile), append(b, '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func readIfThere(ctx context.Context, name string) ([]byte, error) {
	found, err := store.List(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	for _, f := range found {
		if f.Path == name {
			b, err := store.ReadSmall(ctx, name)
			if err != nil {
				return nil, fmt.Errorf("journal: %w", err)
			}
			return b, nil
		}
	}
	return nil, nil
}

// hasCalls reports whether the journal has the record of any call. It reads bucket after bucket until
// it finds one.
func hasCalls(ctx context.Context, dir string) (bool, error) {
	names, err := store.Folders(ctx, dir)
	if err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	for _, bucket := range names {
		if !buckets.IsName(bucket) {
			continue
		}
		contents, err := Read(ctx, dir, PrefixBits{}, bucket, nil)
		if err != nil {
			return false, err
		}
		for _, records := range contents {
			for _, r := range records {
				if r.Prompt == nil {
					return true, nil
				}
			}
		}
	}
	return false, nil
}
