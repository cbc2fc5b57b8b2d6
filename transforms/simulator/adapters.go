package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"coeval/transforms/simulator/world"
)

// adapters are the models that clients load while the server runs, as vLLM loads LoRA adapters. An
// adapter is a folder whose adapter_config.json has the field skill: the name of a model with a
// skill, as in sim:quality=+0.30; see [world.Skill.Model].
type adapters struct {
	mu     sync.Mutex
	loaded map[string]adapter
}

type adapter struct{ path, model string }

// ownedBy is the owner of each model in the model list.
const ownedBy = "coeval-simulator"

// AdapterFile is the name of the one file in an adapter's folder.
const AdapterFile = "adapter_config.json"

// adapterConfig is the content of the AdapterFile.
type adapterConfig struct {
	Skill string `json:"skill"`
}

// maxAdapterBytes is the largest size of an AdapterFile.
const maxAdapterBytes = 1 << 20

// ReadAdapter reads the skill in an adapter's folder.
func ReadAdapter(dir string) (world.Skill, error) {
	name := filepath.Join(dir, AdapterFile)
	info, err := os.Stat(name)
	if err != nil {
		return world.Skill{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxAdapterBytes {
		return world.Skill{}, fmt.Errorf("%s is not a file of at most %d bytes", name, maxAdapterBytes)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return world.Skill{}, err
	}
	skill, err := parseAdapter(b)
	if err != nil {
		return world.Skill{}, fmt.Errorf("%s: %w", name, err)
	}
	return skill, nil
}

func parseAdapter(b []byte) (world.Skill, error) {
	var c adapterConfig
	if err := json.Unmarshal(b, &c); err != nil {
		return world.Skill{}, err
	}
	if c.Skill == "" {
		return world.Skill{}, errors.New("it has no skill")
	}
	return world.ParseSkill(c.Skill)
}

// IsAdapter reports whether b is the content of an AdapterFile that [WriteAdapter] wrote. The adapters of
// real models have a file of the same name.
func IsAdapter(b []byte) bool {
	var c adapterConfig
	return json.Unmarshal(b, &c) == nil && strings.HasPrefix(c.Skill, "sim:")
}

// WriteAdapter creates an adapter's folder.
func WriteAdapter(dir string, s world.Skill) error {
	b, err := json.Marshal(adapterConfig{Skill: s.Model()})
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, AdapterFile), append(b, '\n'), 0o666)
}

// find returns the model to simulate under a name: the adapter's model, or else the name itself.
func (a *adapters) find(name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l, ok := a.loaded[name]; ok {
		return l.model
	}
	return name
}

// find returns the model to simulate under a name: a loaded adapter's, the server's own weights for a
// name that it serves from its start, or else the name itself.
func (s *Server) find(name string) string {
	if s.o.Skill != (world.Skill{}) && slices.Contains(s.o.Models, name) {
		return s.o.Skill.Model()
	}
	return s.adapters.find(name)
}

// all returns the loaded adapters by name.
func (a *adapters) all() map[string]adapter {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.loaded)
}

// loadAdapter answers POST /v1/load_lora_adapter.
func (s *Server) loadAdapter(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(w, r) {
		return
	}
	var body struct {
		Name string `json:"lora_name"`
		Path string `json:"lora_path"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdapterBytes)).Decode(&body); err != nil || body.Name == "" || body.Path == "" {
		s.refuse(w, http.StatusBadRequest, "invalid_request_error", "lora_name and lora_path are required")
		return
	}
	skill, err := ReadAdapter(body.Path)
	if err != nil {
		s.refuse(w, http.StatusNotFound, "not_found_error", err.Error())
		return
	}
	s.adapters.mu.Lock()
	defer s.adapters.mu.Unlock()
	if s.adapters.loaded == nil {
		s.adapters.loaded = map[string]adapter{}
	}
	s.adapters.loaded[body.Name] = adapter{path: body.Path, model: skill.Model()}
	w.WriteHeader(http.StatusOK)
	_, _ = fmt.Fprintf(w, "Success: LoRA adapter '%s' added successfully.", body.Name) // the client may have disconnected
}

// logprobTokens is the largest number of tokens in an answer's log-probabilities.
const logprobTokens = 64

// appendLogprobs writes log-probabilities of a choice's first tokens. They are a function of the
// model, the request and the position, so that two models never return equal ones.
func appendLogprobs(b []byte, q *world.Question, c *choice) []byte {
	if c.next != nil {
		return appendNext(b, c.next)
	}
	b = append(b, `{"content":[`...)
	r := world.Rand(world.Mix(q.Hash ^ 0x10960b))
	for i := range min(c.Tokens, logprobTokens) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"token":`...)
		b = appendQuoted(b, c.Token(i))
		b = fmt.Appendf(b, `,"logprob":%.6f,"top_logprobs":[]}`, -0.02-1.5*r.Float64()*r.Float64())
	}
	return append(b, `]}`...)
}
