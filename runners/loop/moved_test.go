package loop

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coeval/runners/loop/steps"
	"coeval/runners/loop/swap"
)

// machine is a server whose tokens have one log-probability for each model.
type machine struct {
	logprobs map[string]float64
	// root and version are its report of its weights. The root of an adapter is in loaded.
	root, version string
	loaded        map[string]string
}

func (m *machine) start(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		var data []swap.Model
		for name := range m.logprobs {
			if m.loaded == nil {
				data = append(data, swap.Model{ID: name, Root: m.root})
			}
		}
		for name, root := range m.loaded {
			data = append(data, swap.Model{ID: name, Root: root})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
	})
	mux.HandleFunc("GET /weight_info", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"weight_version": m.version})
	})
	mux.HandleFunc("POST /v1/load_lora_adapter", func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			Name string `json:"lora_name"`
			Path string `json:"lora_path"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		m.loaded[body.Name] = body.Path
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Model string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		_, _ = fmt.Fprintf(w, `{"choices": [{"message": {"content": "text"}, "logprobs": {"content": [{"logprob": %g}]}}]}`, m.logprobs[body.Model])
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL + "/v1"
}

// A server that the last swap did not include is used if it reports the weights of that swap. Otherwise the loop stops,
// whatever the server answers.
func TestMovedServers(t *testing.T) {
	for name, tt := range map[string]struct {
		kind          swap.Kind
		root, version string
		down          bool
		want          string // in the error
	}{
		"the path":              {kind: swap.Wait, root: "/m/"},
		"another path":          {kind: swap.Wait, root: "/first", want: "it reports the weights /first instead of /m (digest d1)"},
		"no report":             {kind: swap.Wait, want: "it reports neither a version nor a path"},
		"a version of the user": {kind: swap.Wait, root: "/m", version: "step-100"},
		"the version":           {kind: swap.Reload, root: "/first", version: "d1"},
		"another version":       {kind: swap.Reload, root: "/m", version: "d0", want: "it reports the weights d0 instead of /m (digest d1)"},
		"a path and no version": {kind: swap.Reload, root: "/m"},
		"down":                  {kind: swap.Reload, down: true, want: "connect"},
		"of another program":    {kind: swap.Command, root: "/first", want: "it reports the weights /first"},
		"of nobody":             {kind: swap.Command, down: true}, // the loop starts it
	} {
		m := &machine{logprobs: map[string]float64{"base": -1}, root: tt.root, version: tt.version}
		address := m.start(t)
		if tt.down {
			address = "http://127.0.0.1:1/v1"
		}
		var out strings.Builder
		l := recorded(t, &out, map[steps.Step]any{steps.SwapModel: swapped{
			Model:  checkpoint{Path: "/m", Name: "base", Digest: "d1"},
			Proofs: map[string]*swap.Proof{"http://former/v1": {Canary: constantCanary(-1)}},
		}})
		l.Config.Swap.Kind, l.Config.Swap.URLs, l.Config.Swap.Ready = tt.kind, []string{address}, 100*time.Millisecond
		if !tt.down {
			l.Config.Swap.Ready = time.Minute
		}
		err := l.checkServed(t.Context(), 2, l.currentGroup)
		moved := (*swap.NotSwappedError)(nil)
		if errors.As(err, &moved) != (tt.want != "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "the model of the server "+address+" can't be checked")) {
			t.Errorf("%s: error is %v; want %q", name, err, tt.want)
		}
		// The swap of iteration 2 would take its canary for that of the former model.
		err = l.checkFormer(t.Context(), 2, l.currentGroup(2), 0, l.formerCanary(2, l.currentGroup(2), 0))
		if wrong := tt.want != "" && tt.kind == swap.Wait; errors.As(err, &moved) != wrong {
			t.Errorf("%s: the check of the former model returns %v; want an error: %t", name, err, wrong)
		}
	}
}

// A moved server with adapters is compared with its own answers: an adapter that fits nothing answers as the base model
// of this server, and a little unlike that of the former one.
func TestCanariesOfMovedServers(t *testing.T) {
	former, next := checkpoint{Path: "/m", Name: "it-1", Digest: "d1"}, checkpoint{Path: "/n", Name: "it-2", Digest: "d2"}
	for adapter, want := range map[float64]string{-1: "answers as the base model", -3: ""} {
		m := &machine{logprobs: map[string]float64{"base": -1, "it-1": -2, "it-2": adapter}, loaded: map[string]string{"base": "/first"}}
		address := m.start(t)
		var out strings.Builder
		l := recorded(t, &out, map[steps.Step]any{steps.SwapModel: swapped{
			Model: former, Proofs: map[string]*swap.Proof{"http://former/v1": {Canary: constantCanary(-2.1)}},
		}})
		l.Config.Swap.Kind, l.Config.Swap.URLs, l.Config.Model.Path = swap.LoRA, []string{address}, "base"
		at := l.currentGroup(2)
		for file, logprob := range map[string]float64{ // of the former server, by this and by earlier versions
			canaryFile(l.Config.Dir, "canary-base", "http://former/v1"): -1.1, filepath.Join(l.Config.Dir, "canary-base-0.json"): -1.1,
			canaryFile(at.canaries, "canary", "http://former/v1"): -2.1, filepath.Join(at.canaries, "canary-0.json"): -2.1,
		} {
			b, err := json.Marshal(constantCanary(logprob))
			if err := errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, b, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(l.formerCanary(2, at, 0)); err == nil {
			t.Error("the canary of another server is used")
		}
		proof, err := l.swapServer(t.Context(), 2, at, 0, &former, &next)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("an adapter with %g: error is %v; want %q", adapter, err, want)
		}
		if m.loaded["it-1"] != "/m" {
			t.Errorf("the former adapter is not loaded: %v", m.loaded)
		}
		if err == nil && (proof.Change.Distance != 1 || proof.Canary.Server != address) {
			t.Errorf("the proof is %+v, want a distance of 1 from the former adapter on %s", proof, address)
		}
	}
}

// A moved server gets the adapter of the last swap before a run uses it. One whose modules don't fit stops the loop.
func TestMovedAdapter(t *testing.T) {
	for name, tt := range map[string]struct {
		adapter float64
		loaded  map[string]string
		want    string
	}{
		"fits":         {-2, map[string]string{"base": "/first"}, ""},
		"is loaded":    {-2, map[string]string{"base": "/first", "it-1": "/m"}, ""},
		"fits nothing": {-1, map[string]string{"base": "/first"}, "answers as the base model"},
		"another one":  {-2, map[string]string{"base": "/first", "it-1": "/other"}, "serves another model as it-1 already"},
	} {
		m := &machine{logprobs: map[string]float64{"base": -1, "it-1": tt.adapter}, loaded: tt.loaded}
		address := m.start(t)
		var out strings.Builder
		l := recorded(t, &out, map[steps.Step]any{steps.SwapModel: swapped{
			Model: checkpoint{Path: "/m", Name: "it-1", Digest: "d1"}, Proofs: map[string]*swap.Proof{"http://former/v1": {Canary: constantCanary(-2.1)}},
		}})
		l.Config.Swap.Kind, l.Config.Swap.URLs, l.Config.Model.Path = swap.LoRA, []string{address}, "base"
		err := l.checkServed(t.Context(), 2, l.currentGroup)
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "the server "+address+" does not serve /m, the model of iteration 1")) {
			t.Errorf("an adapter that %s: error is %v; want %q", name, err, tt.want)
		}
		if tt.want == "" && m.loaded["it-1"] != "/m" {
			t.Errorf("an adapter that %s is not loaded: %v", name, m.loaded)
		}
	}
}
