package infer

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/datasets/journal"
	"coeval/datasets/store"
	"coeval/schemas"
)

// Identity is what a server's list of models says of a model. The journal holds it, so that
// another checkpoint under the same name is noticed.
type Identity struct {
	ID      string `json:"id"`
	OwnedBy string `json:"owned_by"`
	Root    string `json:"root"`
}

// Simulated says that the simulated worker is behind the name.
func (i *Identity) Simulated() bool { return i.OwnedBy == simulatedOwner }

const (
	simulatedOwner = "coeval-simulator"
	// identityTimeout is short: a run goes on without.
	identityTimeout = 5 * time.Second
	identityFolder  = "models"
	modelsPath      = "/models"
)

// identityFile names the record of a role's model below the journal.
func identityFile(journal string, r *Role) string {
	return store.Join(journal, identityFolder, schemas.Digest(r.Model, r.Revision)+".json")
}

// KnownIdentity returns what the journal has on a role's model; nil when nothing.
func KnownIdentity(ctx context.Context, journal string, r *Role) (*Identity, error) {
	name := identityFile(journal, r)
	found, err := store.List(ctx, name)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	b, err := store.ReadFile(ctx, name)
	if err != nil {
		return nil, err
	}
	var i Identity
	if err := json.Unmarshal(b, &i); err != nil {
		return nil, fmt.Errorf("infer: %s: %w", name, err)
	}
	return &i, nil
}

// identify asks a server what stands behind the role's model, once before its first call. It
// notes it in the journal, or warns when the journal knows another. A server that doesn't tell
// is none the worse.
func (f *fleet) identify(ctx context.Context, e *endpoint, r *Role) error {
	if f.options.Journal == "" {
		return nil
	}
	is := f.listed(ctx, e, r.Model)
	if is == nil {
		return ctx.Err()
	}
	e.simulated.Store(is.Simulated())
	f.identities.Lock()
	defer f.identities.Unlock()
	if err := f.mixed(ctx, e, is.Simulated()); err != nil {
		return err
	}
	was, err := KnownIdentity(ctx, f.options.Journal, r)
	if err != nil {
		return err
	}
	if was != nil {
		if *was != *is {
			f.watch.warn(fmt.Sprintf("%s serves %s as %+v, the journal was begun with %+v: give the new checkpoint a revision, or its texts mix with the old one's", e.name, r.Model, *is, *was))
		}
		return nil
	}
	return f.writeIdentity(ctx, r, is)
}

func (f *fleet) writeIdentity(ctx context.Context, r *Role, i *Identity) error {
	b, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	return store.WriteFile(ctx, identityFile(f.options.Journal, r), append(b, '\n'))
}

// noteSimulated makes sure that the journal knows of the simulated worker before it holds an
// answer of it, also when the list of models could not be had.
func (f *fleet) noteSimulated(ctx context.Context, r *Role) *fault {
	if f.options.Journal == "" {
		return nil
	}
	if _, noted := f.simulated.Load(r.Identity()); noted {
		return nil
	}
	f.identities.Lock()
	defer f.identities.Unlock()
	was, err := KnownIdentity(ctx, f.options.Journal, r)
	if err == nil && (was == nil || !was.Simulated()) {
		err = f.writeIdentity(ctx, r, &Identity{ID: r.Model, OwnedBy: simulatedOwner})
	}
	if err != nil {
		return &fault{treatment: stop, message: err.Error()}
	}
	f.simulated.Store(r.Identity(), true)
	return nil
}

// noteRespondent returns a fault if the journal has answers of the other kind of servers, real or
// simulated, and records the kind before the journal has its first answer. A probe's answer is not
// kept, and so not recorded.
func (f *fleet) noteRespondent(ctx context.Context, e *endpoint, q *request, simulated bool) *fault {
	if f.options.Journal == "" {
		return nil
	}
	f.identities.Lock()
	err := f.mixed(ctx, e, simulated)
	if err == nil && !f.respondent.Recorded && q.stage != stageProbe {
		f.respondent = journal.Respondent{Kind: kindOf(simulated), Recorded: true}
		err = journal.WriteRespondent(ctx, f.options.Journal, f.respondent)
	}
	f.identities.Unlock()
	switch {
	case err != nil:
		return &fault{treatment: stop, message: err.Error()}
	case simulated:
		return f.noteSimulated(ctx, q.role)
	}
	return nil
}

// mixed returns an error if the journal has answers of the other kind. The caller holds identities.
func (f *fleet) mixed(ctx context.Context, e *endpoint, simulated bool) error {
	if f.respondent.Kind == "" {
		var err error
		if f.respondent, err = journal.ReadRespondent(ctx, f.options.Journal); err != nil {
			return err
		}
	}
	if has := f.respondent.Kind; has != "" && has != kindOf(simulated) {
		return &MixedError{Journal: f.options.Journal, Has: has, Server: e.name}
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

// listed returns the entry of a model in the server's list, nil when there is none to be had.
func (f *fleet) listed(ctx context.Context, e *endpoint, model string) *Identity {
	a, err := f.get(ctx, e, e.base()+modelsPath, bodyFloor, identityTimeout)
	if err != nil {
		return nil
	}
	if a.Server == simulatedOwner {
		return &Identity{ID: model, OwnedBy: simulatedOwner} // it serves any name
	}
	if a.Status != http.StatusOK {
		return nil
	}
	var list struct {
		Data []Identity `json:"data"`
	}
	if json.Unmarshal(a.Body, &list, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)) != nil {
		return nil
	}
	for i := range list.Data {
		if list.Data[i].ID == model {
			return &list.Data[i]
		}
	}
	return nil
}
