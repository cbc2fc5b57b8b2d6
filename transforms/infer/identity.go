package infer

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"coeval/datasets/journal"
	"coeval/datasets/store"
	"coeval/schemas"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/stage"
)

// Identity is the entry of a model in its server's list. The journal records it, so that another
// checkpoint under the same name is noticed.
type Identity = openai.Model

const identityFolder = "models"

// identityFile returns the file with the identity of a role's model, below the journal.
func identityFile(folder string, r *stage.Role) string {
	return store.Join(folder, identityFolder, schemas.Digest(r.Model, r.Revision)+".json")
}

// KnownIdentity returns the identity that the journal has of a role's model; nil if it has none.
func KnownIdentity(ctx context.Context, folder string, r *stage.Role) (*Identity, error) {
	name := identityFile(folder, r)
	found, err := store.List(ctx, name)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	b, err := store.ReadSmall(ctx, name)
	if err != nil {
		return nil, err
	}
	var i Identity
	if err := json.Unmarshal(b, &i); err != nil {
		return nil, fmt.Errorf("infer: %s: %w", name, err)
	}
	return &i, nil
}

// models records which models and which kind of servers, real or simulated, gave the journal's answers.
type models struct {
	journal string

	mu sync.Mutex // while the journal's records are read and written
	// respondent is the kind of servers, empty until an answer came.
	respondent journal.Respondent
	// simulated has the roles whose record shows the simulated server.
	simulated map[string]bool
}

// recordModel writes the identity of a role's model into the journal before its first answer, or returns
// a warning if the journal has another.
func (m *models) recordModel(ctx context.Context, server string, r *stage.Role, is Identity) (warning string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkMixed(ctx, server, is.Simulated()); err != nil {
		return "", err
	}
	was, err := KnownIdentity(ctx, m.journal, r)
	switch {
	case err != nil:
		return "", err
	case was == nil:
		return "", m.write(ctx, r, &is)
	case *was != is:
		return fmt.Sprintf("%s serves %s as %+v, but the journal has answers of %+v: set a new revision, or the journal mixes the texts of both checkpoints", server, r.Model, is, *was), nil
	}
	return "", nil
}

// recordAnswer returns an error if the journal has answers of the other kind of servers. Otherwise it
// records the kind, and the simulated server behind a model, before the journal has their first answer.
// The answer to a probe is not kept, and so not recorded.
func (m *models) recordAnswer(ctx context.Context, server string, r *stage.Role, simulated, probe bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkMixed(ctx, server, simulated); err != nil {
		return err
	}
	if !m.respondent.Recorded && !probe {
		m.respondent = journal.Respondent{Kind: kindOf(simulated), Recorded: true}
		if err := journal.WriteRespondent(ctx, m.journal, m.respondent); err != nil {
			return err
		}
	}
	if !simulated || m.simulated[r.Identity()] {
		return nil
	}
	was, err := KnownIdentity(ctx, m.journal, r)
	if err == nil && (was == nil || !was.Simulated()) {
		err = m.write(ctx, r, &Identity{ID: r.Model, OwnedBy: openai.SimulatedOwner})
	}
	if err != nil {
		return err
	}
	if m.simulated == nil {
		m.simulated = map[string]bool{}
	}
	m.simulated[r.Identity()] = true
	return nil
}

func (m *models) write(ctx context.Context, r *stage.Role, i *Identity) error {
	b, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	return store.WriteFile(ctx, identityFile(m.journal, r), append(b, '\n'))
}

// checkMixed returns an error if the journal has answers of the other kind. The caller has m.mu.
func (m *models) checkMixed(ctx context.Context, server string, simulated bool) error {
	if m.respondent.Kind == "" {
		var err error
		if m.respondent, err = journal.ReadRespondent(ctx, m.journal); err != nil {
			return err
		}
	}
	if has := m.respondent.Kind; has != "" && has != kindOf(simulated) {
		return &MixedError{Journal: m.journal, Has: has, Server: server}
	}
	return nil
}

func kindOf(simulated bool) string {
	if simulated {
		return journal.Simulated
	}
	return journal.Real
}

// A MixedError reports that a journal would get real answers beside simulated ones.
type MixedError struct {
	// Journal is the folder, and Has the kind of the answers in it: journal.Real or journal.Simulated.
	Journal, Has string
	// Server would give answers of the other kind.
	Server string
}

func (m *MixedError) Error() string {
	if m.Has == journal.Real {
		return fmt.Sprintf("%s has answers of real servers, and %s is the simulated worker. Give this run another --out", m.Journal, m.Server)
	}
	return fmt.Sprintf("%s has answers of the simulated worker, and %s is none. Give this run another --out", m.Journal, m.Server)
}
