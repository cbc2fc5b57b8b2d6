package swap_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/runners/loop/swap"
)

// A fault is how a server lies.
type fault string

const (
	honest   fault = "honest"
	keepsOld fault = "serves the old weights"
	inactive fault = "the adapter fits nothing"
	stale    fault = "stale prefix cache"
	mixed    fault = "one replica of two is old"
	blocks   fault = "stale blocks of long prompts"
)

// server is a model server with adapters, reloads and log-probabilities. Weights are a path; the
// log-probability of a token is a function of weights, prompt and place, with the noise of batching.
type server struct {
	fault    fault
	noLogits bool
	// maxPrompt is the longest prompt in bytes, 0 for any.
	maxPrompt int

	mu       sync.Mutex
	base     string            // the path of the base weights
	old      string            // those before the last reload
	adapters map[string]string // path by name
	version  string
	paused   bool
	prefixes map[string]string // weights that first saw a prompt, or computed the blocks of a long one
	requests int
	calls    []string
}

func start(t *testing.T, s *server) *swap.Server {
	t.Helper()
	s.adapters, s.prefixes = map[string]string{}, map[string]string{}
	if s.base == "" {
		s.base = "/models/base"
	}
	mux := http.NewServeMux()
	handle := func(pattern string, f func(body map[string]any) (int, any)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.calls = append(s.calls, r.URL.Path)
			var body map[string]any
			_ = json.NewDecoder(r.Body).Decode(&body) // some have none
			status, out := f(body)
			w.WriteHeader(status)
			if err := json.NewEncoder(w).Encode(out); err != nil {
				t.Error(err)
			}
		})
	}
	handle("GET /v1/models", s.models)
	handle("POST /v1/load_lora_adapter", s.load)
	handle("POST /collective_rpc", s.reload)
	handle("POST /v1/chat/completions", s.complete)
	handle("POST /pause", func(map[string]any) (int, any) { s.paused = true; return 200, nil })
	handle("POST /resume", func(map[string]any) (int, any) { s.paused = false; return 200, nil })
	handle("POST /reset_prefix_cache", func(map[string]any) (int, any) {
		if s.fault != stale {
			clear(s.prefixes)
		}
		return 200, nil
	})
	handle("POST /update_weight_version", func(body map[string]any) (int, any) {
		s.version, _ = body["new_version"].(string)
		return 200, nil
	})
	handle("GET /weight_info", func(map[string]any) (int, any) { return 200, map[string]string{"weight_version": s.version} })
	h := httptest.NewServer(mux)
	t.Cleanup(h.Close)
	return &swap.Server{URL: h.URL + "/v1", Client: h.Client()}
}

func (s *server) models(map[string]any) (int, any) {
	data := []map[string]string{{"id": "base", "root": "/models/base"}} // as vLLM: the root stays
	for name, path := range s.adapters {
		data = append(data, map[string]string{"id": name, "root": path, "parent": "base"})
	}
	return 200, map[string]any{"data": data}
}

func (s *server) load(body map[string]any) (int, any) {
	name, _ := body["lora_name"].(string)
	path, _ := body["lora_path"].(string)
	if name == "" || path == "" {
		return 400, map[string]string{"error": "lora_name and lora_path are required"}
	}
	s.adapters[name] = path
	return 200, "Success"
}

func (s *server) reload(body map[string]any) (int, any) {
	args, _ := body["kwargs"].(map[string]any)
	path, _ := args["weights_path"].(string)
	if !s.paused || body["method"] != "reload_weights" || path == "" {
		return 400, "not paused, or no path"
	}
	s.old = s.base
	if s.fault != keepsOld {
		s.base = path
	}
	return 200, map[string]any{"results": []any{nil}}
}

// weights returns those that answer a request.
func (s *server) weights(model, prompt string) string {
	s.requests++
	w := s.base
	if path, ok := s.adapters[model]; ok && s.fault != inactive {
		w = path
	}
	switch {
	case s.fault == mixed && s.requests%2 == 0 && s.old != "":
		return s.old
	case s.fault == stale:
		if first, ok := s.prefixes[prompt]; ok {
			return first
		}
		s.prefixes[prompt] = w
	}
	return w
}

func (s *server) complete(body map[string]any) (int, any) {
	model, _ := body["model"].(string)
	if _, ok := s.adapters[model]; !ok && model != "base" {
		return 404, "no such model"
	}
	prompt := fmt.Sprint(body["messages"])
	if s.maxPrompt > 0 && len(prompt) > s.maxPrompt {
		return 400, "the prompt is too long"
	}
	w := s.weights(model, prompt)
	if s.fault == blocks && len(prompt) > 1000 { // keyed by the name of the model, as vLLM's
		key := fmt.Sprint(model, body["cache_salt"], prompt[:1000])
		if _, ok := s.prefixes[key]; !ok {
			s.prefixes[key] = w
		}
		w += s.prefixes[key]
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(w + prompt))
	r := rand.New(rand.NewPCG(h.Sum64(), 0))
	var content []map[string]any
	for i := range 24 {
		noise := 0.001 * (float64((s.requests*7+i)%10)/10 - 0.5) // batching
		content = append(content, map[string]any{"token": "x", "logprob": -0.1 - r.Float64() + noise})
	}
	choice := map[string]any{"message": map[string]string{"content": "the same greedy text"}, "finish_reason": "length"}
	if s.noLogits {
		choice["message"] = map[string]string{"content": fmt.Sprint("text ", h.Sum64()%3)}
	} else {
		choice["logprobs"] = map[string]any{"content": content}
	}
	return 200, map[string]any{"choices": []any{choice}}
}

// try swaps from one checkpoint to the next and returns the proof.
func try(t *testing.T, s *server, kind swap.Kind) (*swap.Proof, error) {
	t.Helper()
	c := start(t, s)
	ctx := t.Context()
	base, err := c.Record(ctx, "base")
	if err != nil {
		t.Fatal(err)
	}
	former, next := base, swap.Checkpoint{Path: "/models/it-2", Name: "base", Digest: "d2"}
	if kind == swap.LoRA {
		first := swap.Checkpoint{Path: "/adapters/it-1", Name: "it-1", Digest: "d1"}
		if err := c.Load(ctx, swap.VLLM, first); err != nil {
			t.Fatal(err)
		}
		if former, err = c.Record(ctx, first.Name); err != nil {
			t.Fatal(err)
		}
		next.Path, next.Name = "/adapters/it-2", "it-2"
		if err := c.Load(ctx, swap.VLLM, next); err != nil {
			t.Fatal(err)
		}
		return c.Prove(ctx, kind, next, former, base)
	}
	if err := c.Reload(ctx, swap.VLLM, next); err != nil {
		t.Fatal(err)
	}
	if s.paused {
		t.Error("the server stays paused")
	}
	return c.Prove(ctx, kind, next, former, nil)
}

// Honest servers are believed and each liar is found, ten times of ten, with the sentence that names
// its fault.
func TestProve(t *testing.T) {
	for _, test := range []struct {
		fault fault
		kind  swap.Kind
		says  string
	}{
		{honest, swap.LoRA, ""},
		{honest, swap.Reload, ""},
		{keepsOld, swap.Reload, "still serves the old weights"},
		{inactive, swap.LoRA, "answers as the base model"},
		{stale, swap.LoRA, "answers as the"},
		{stale, swap.Reload, "answers as before"},
		{mixed, swap.Reload, "differently twice"},
	} {
		t.Run(fmt.Sprintf("%s, %s", test.kind, test.fault), func(t *testing.T) {
			for i := range 10 {
				s := &server{fault: test.fault, base: fmt.Sprintf("/models/base-%d", i)}
				proof, err := try(t, s, test.kind)
				lie, found := errors.AsType[*swap.NotSwappedError](err)
				switch {
				case test.says == "" && err != nil:
					t.Fatalf("an honest server is called a liar: %v", err)
				case test.says == "" && !proof.Change.Changed:
					t.Fatalf("proof is %+v", proof.Change)
				case test.says != "" && (!found || !strings.Contains(lie.What, test.says)):
					t.Fatalf("error is %v; want one that contains %q", err, test.says)
				}
			}
		})
	}
}

// An adapter that is loaded in place answers long prompts from blocks of the former one, as vLLM does
// (vllm-project/vllm#42125). Short prompts fill no block, and show the new adapter.
func TestProveInPlace(t *testing.T) {
	for _, fault := range []fault{honest, blocks} {
		for i := range 10 {
			s := &server{fault: fault}
			c := start(t, s)
			name := fmt.Sprint("policy-", i)
			if err := c.Load(t.Context(), swap.VLLM, swap.Checkpoint{Path: "/adapters/1", Name: name}); err != nil {
				t.Fatal(err)
			}
			former, err := c.Record(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			s.adapters[name] = "/adapters/2"
			s.mu.Unlock()
			proof, err := c.Prove(t.Context(), swap.Wait, swap.Checkpoint{Path: "/adapters/2", Name: name}, former, nil)
			lie, found := errors.AsType[*swap.NotSwappedError](err)
			switch {
			case fault == honest && (err != nil || proof.Change.Prompts < 6):
				t.Fatalf("an honest server: %+v, %v", proof, err)
			case fault == blocks && (!found || !strings.Contains(lie.What, "from cached prefixes of the former model")):
				t.Fatalf("stale blocks: %v", err)
			}
		}
	}
}

// A server that refuses long prompts is proved by short ones.
func TestProveShort(t *testing.T) {
	s := &server{maxPrompt: 1000}
	if _, err := try(t, s, swap.Reload); err != nil {
		t.Error(err)
	}
}

// Where a server gives no log-probabilities, texts are compared.
func TestProveByText(t *testing.T) {
	proof, err := try(t, &server{noLogits: true}, swap.Reload)
	if err != nil {
		t.Fatal(err)
	}
	if !proof.Change.ByText || !proof.Change.Changed {
		t.Errorf("change is %+v", proof.Change)
	}
	if _, err := try(t, &server{noLogits: true, fault: keepsOld}, swap.Reload); err == nil {
		t.Error("a server that keeps its weights is believed by its texts")
	}
}

// A name that is taken by another adapter is refused, the same adapter again is not.
func TestLoadTwice(t *testing.T) {
	c := start(t, &server{})
	first := swap.Checkpoint{Path: "/adapters/1", Name: "it-1"}
	for range 2 {
		if err := c.Load(t.Context(), swap.VLLM, first); err != nil {
			t.Fatal(err)
		}
	}
	first.Path = "/adapters/2"
	if err := c.Load(t.Context(), swap.VLLM, first); err == nil || !strings.Contains(err.Error(), "unload that one") {
		t.Errorf("a second adapter of one name: %v", err)
	}
}

// For a server without the paths the error shows how to start it.
func TestMissingPaths(t *testing.T) {
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/models") {
			_, _ = w.Write([]byte(`{"data":[{"id":"base"}]}`))
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(h.Close)
	c := &swap.Server{URL: h.URL + "/v1", Client: h.Client()}
	if err := c.Load(t.Context(), swap.VLLM, swap.Checkpoint{Path: "/x", Name: "x"}); err == nil || !strings.Contains(err.Error(), "--enable-lora") {
		t.Errorf("load: %v", err)
	}
	if err := c.Reload(t.Context(), swap.VLLM, swap.Checkpoint{Path: "/x", Name: "x"}); err == nil || !strings.Contains(err.Error(), "VLLM_SERVER_DEV_MODE") {
		t.Errorf("reload: %v", err)
	}
}

// A recorded canary is read from its file, since the model can't be asked after a reload. A damaged file is an error.
func TestRecordOnce(t *testing.T) {
	s := &server{}
	c, file := start(t, s), filepath.Join(t.TempDir(), "canary-0.json")
	first, err := c.RecordOnce(t.Context(), file, "base")
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.base = "/models/other"
	s.mu.Unlock()
	again, err := c.RecordOnce(t.Context(), file, "base")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the canary changed: %s", diff)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RecordOnce(t.Context(), file, "base"); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a damaged file: %v", err)
	}
}

// WaitReady ends with the server's last answer when its time is over.
func TestWaitReady(t *testing.T) {
	c := start(t, &server{})
	if err := c.WaitReady(t.Context(), "base", time.Millisecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 3 { // during a request, as the end of a wait mostly is
			cancel()
			return
		}
		_, _ = w.Write([]byte(`{"data": [{"id": "base"}]}`))
	}))
	t.Cleanup(h.Close)
	c = &swap.Server{URL: h.URL + "/v1"}
	err := c.WaitReady(ctx, "absent", time.Millisecond)
	for _, want := range []string{c.URL, `"absent"`, "it lists 1 models", "context canceled"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}

// Paths are compared after cleaning.
func TestPathsOfCheckpoints(t *testing.T) {
	c := start(t, &server{})
	p := swap.Checkpoint{Path: "/adapters/one", Name: "one"}
	if err := c.Load(t.Context(), swap.VLLM, p); err != nil {
		t.Fatal(err)
	}
	p.Path = "/adapters/./one/"
	if err := c.Load(t.Context(), swap.VLLM, p); err != nil {
		t.Errorf("the same folder is another one: %v", err)
	}
}

// A server that says the key back leaves it in no canary and no error, and a redirect takes the key nowhere.
func TestKeyIsRedacted(t *testing.T) {
	const key = "swordfish-4711-0123456789"
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was redirected", r.Method, r.URL)
	}))
	defer elsewhere.Close()
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", elsewhere.URL)
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"choices":[{"message":{"content":"your key is %s"}}]}`, r.Header.Get("Authorization"))
	}))
	defer s.Close()
	server := &swap.Server{URL: s.URL + "/v1", APIKey: key}
	canary, err := server.Record(t.Context(), "m")
	if err != nil || canary.Asks[0][0].Text != "your key is Bearer (the API key)" {
		t.Errorf("the canary is %+v, %v", canary, err)
	}
	for _, status = range []int{http.StatusInternalServerError, http.StatusTemporaryRedirect} {
		if _, err = server.Models(t.Context()); err == nil || strings.Contains(err.Error(), "swordfish") || !strings.Contains(err.Error(), "(the API key)") {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// The errors of net/http quote a malformed answer, and with it the key. A switch of protocols ends at once.
func TestMalformedAnswersOfASwap(t *testing.T) {
	t.Parallel()
	const key = "swordfish-4711-0815"
	for head, want := range map[string]string{
		"HTTP/1.1 " + key:                                             "(the API key)",
		"HTTP/1.1 200 OK\r\nno header " + key:                         "(the API key)",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + key:                "(the API key)",
		"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x": "status 101",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }() // the client has gone
			_, _ = io.WriteString(c, head+"\r\n\r\n")
			_, _ = io.Copy(io.Discard, c) // until the client closes the connection
		}))
		_, err := (&swap.Server{URL: s.URL + "/v1", APIKey: key}).Models(t.Context())
		s.CloseClientConnections()
		s.Close()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%q: %v, want %q", head, err, want)
		}
	}
}

// A request without an answer is reported again and again while it waits.
func TestWaiting(t *testing.T) {
	said := make(chan string)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 2 { // the answer comes after two reports
			if request := <-said; !strings.HasPrefix(request, "GET http://") || !strings.HasSuffix(request, "/v1/models") {
				t.Errorf("it waits for %q", request)
			}
		}
		_, _ = w.Write([]byte(`{"data": [{"id": "base"}]}`))
		go func() {
			for range said { // reports until the answer is read
			}
		}()
	}))
	t.Cleanup(h.Close)
	c := &swap.Server{URL: h.URL + "/v1", Every: time.Millisecond, Waiting: func(request string, _ time.Duration) { said <- request }}
	if models, err := c.Models(t.Context()); err != nil || len(models) != 1 {
		t.Errorf("models are %v, %v", models, err)
	}
	close(said)
}

// The error of a refused swap has the server's words, or names the fault of its answer, and the remedy.
func TestAnswersOfASwap(t *testing.T) {
	for body, want := range map[string]string{
		"404 {\"message\": \"No adapter found for /adapters/1\"}": "did not load the adapter /adapters/1: check that it is an adapter",
		"400 {\"message\": \"it-1: rank 128 is too large\"}":      "did not load the adapter /adapters/1",
		"404 {\"detail\": \"Not Found\"}":                         "--enable-lora",
		"302 ":                                                    "redirects are not followed",
	} {
		status, text, _ := strings.Cut(body, " ")
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/models") {
				_, _ = w.Write([]byte(`{"data":[{"id":"base"}]}`))
				return
			}
			code := 0
			if _, err := fmt.Sscan(status, &code); err != nil {
				t.Error(err)
			}
			w.WriteHeader(code)
			_, _ = w.Write([]byte(text))
		}))
		c := &swap.Server{URL: h.URL + "/v1"}
		if err := c.Load(t.Context(), swap.VLLM, swap.Checkpoint{Path: "/adapters/1", Name: "it-1"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v; want %q", body, err, want)
		}
		h.Close()
	}
	for body, want := range map[string]string{
		`{"choices":[{"message":{"content":"!!"},"logprobs":{"content":[{"logprob":NaN}]}}]}`: "the model's weights are damaged",
		"<html>": `no JSON of an OpenAI-compatible server, but "<html>": check the URL`,
	} {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
		c := &swap.Server{URL: h.URL + "/v1"}
		if _, err := c.Record(t.Context(), "m"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v; want %q", body, err, want)
		}
		h.Close()
	}
}

// A server that was restarted with its first weights after a swap answers as the former model.
func TestReverted(t *testing.T) {
	for _, byText := range []bool{false, true} {
		s := &server{noLogits: byText}
		c := start(t, s)
		record := func() *swap.Canary {
			canary, err := c.Record(t.Context(), "base")
			if err != nil {
				t.Fatal(err)
			}
			return canary
		}
		former := record()
		if err := c.Reload(t.Context(), swap.VLLM, swap.Checkpoint{Path: "/models/it-1", Name: "base", Digest: "d1"}); err != nil {
			t.Fatal(err)
		}
		swapped := record()
		if swap.Reverted(former, swapped, record()) {
			t.Errorf("by text %t: the swapped model is taken for the former one", byText)
		}
		s.base = "/models/base" // a restart
		if !swap.Reverted(former, swapped, record()) {
			t.Errorf("by text %t: the former model is taken for the swapped one", byText)
		}
	}
}

// One prompt distinguishes two models, and the noise of batching moves the others by less than three times itself. Only
// that prompt decides, however many of the others are nearer to the wrong model.
func TestRevertedUnderNoise(t *testing.T) {
	canary := func(first float64, others ...float64) *swap.Canary {
		c := &swap.Canary{Asks: [][2]swap.Reply{{{Logprobs: []float64{first}}, {Logprobs: []float64{first}}}}}
		for _, other := range others {
			c.Asks = append(c.Asks, [2]swap.Reply{{Logprobs: []float64{other}}, {Logprobs: []float64{other + 0.01}}})
		}
		return c
	}
	former, swapped := canary(-1, -2, -2, -2, -2), canary(-1.5, -2.02, -2.02, -2.02, -2.02)
	for name, tt := range map[string]struct {
		now      *swap.Canary
		reverted bool
	}{
		"swapped, with noise of the former": {canary(-1.5, -2, -2, -2, -2), false},
		"former, with noise of the swapped": {canary(-1, -2.02, -2.02, -2.02, -2.02), true},
		"swapped":                           {swapped, false},
		"former":                            {former, true},
	} {
		if got := swap.Reverted(former, swapped, tt.now); got != tt.reverted {
			t.Errorf("%s: reverted is %t", name, got)
		}
	}
	if !swap.Compare(former, swapped).Changed {
		t.Error("the one prompt shows no change")
	}
}
