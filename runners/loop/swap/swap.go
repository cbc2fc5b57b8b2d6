// Package swap makes servers answer with a newly trained model, and proves that they do.
//
// A server may answer 200 and still be wrong. It may serve the old weights, load an adapter that matches no
// module, or answer from a stale prefix cache. So a swap needs two proofs. For the first one, the server must
// list the new model. The server may also report the path of the adapter (swap.kind: lora) or the version of
// its weights (reload). If it does, they must be those of the new model. The second proof compares two
// canaries. A canary has a model's greedy answers to fixed prompts, each of which is sent twice. An answer is
// the text and, if the server reports them, the log-probabilities of its tokens. On at least one prompt, the
// new model's canary must differ from the former model's by more than 0.005 nats. It must also differ by more
// than three times the noise. The noise is the largest difference between the two answers of one model to the
// same prompt. Answers with different texts count as at least 1 nat apart. See [Canary].
//
//	Record(former model)                         before the swap
//	Load, Reload, a command, or WaitReady        the server gets the new model
//	Prove(new model, canary of the former)       list, path or version; then canary
package swap

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"coeval/schemas/redact"
)

// A Server is one OpenAI-compatible server whose model is swapped.
type Server struct {
	// URL is its base, as http://localhost:8000/v1.
	URL string
	// APIKey is sent as a bearer token; empty sends none.
	APIKey string
	// Client makes the requests. Nil means one that gives up after an hour.
	Client *http.Client
	// Waiting is called while a request has had no answer for a time, again and again. Nil for nothing.
	Waiting func(request string, since time.Duration)
	// Every is the time between two calls of Waiting. Zero means 10 seconds.
	Every time.Duration
}

// waiting calls s.Waiting until the returned function is called.
func (s *Server) waiting(request string) (stop func()) {
	if s.Waiting == nil {
		return func() {}
	}
	const usual = 10 * time.Second
	began, done, ended := time.Now(), make(chan struct{}), make(chan struct{})
	ticker := time.NewTicker(cmp.Or(s.Every, usual))
	go func() {
		defer close(ended)
		for {
			select {
			case <-ticker.C:
				s.Waiting(request, time.Since(began))
			case <-done:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
		<-ended
	}
}

// defaultClient leaves time to load the weights of a large model from a network disk. It follows no
// redirect, so that key and prompts reach no other host.
var defaultClient = &http.Client{
	Timeout:       time.Hour,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// maxBody bounds the part of an answer that is read.
const maxBody = 8 << 20

// root returns the URL of a path next to the base's /v1.
func (s *Server) root(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(s.URL, "/"), "/v1") + path
}

// base returns the URL of a path below the base.
func (s *Server) base(path string) string { return strings.TrimSuffix(s.URL, "/") + path }

// do sends a request with a JSON body, nil for none, and decodes the answer into out, nil for nothing. It
// returns an [*Answer] for a status other than 2xx. The answer and the error do not contain the key.
func (s *Server) do(ctx context.Context, method, address string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("swap: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+s.APIKey)
	}
	client := s.Client
	if client == nil {
		client = defaultClient
	}
	defer s.waiting(method + " " + address)()
	secrets := redact.New(s.APIKey)
	resp, err := client.Do(req)
	if err != nil {
		return withoutSecrets(secrets, err)
	}
	defer func() { _ = resp.Body.Close() }()              // it was read
	if resp.StatusCode == http.StatusSwitchingProtocols { // no time limit would end a read of its body
		return &Answer{Method: method, Path: req.URL.Path, Status: resp.StatusCode}
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, address, withoutSecrets(secrets, err))
	}
	b = secrets.Bytes(b)
	if resp.StatusCode/100 != 2 {
		return &Answer{Method: method, Path: req.URL.Path, Status: resp.StatusCode, Body: strings.TrimSpace(string(b))}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return notJSON(method+" "+req.URL.Path, b, err)
	}
	return nil
}

// withoutSecrets returns an error of an exchange, whose text may quote a server that returns the key.
func withoutSecrets(secrets *redact.Redactor, err error) error {
	if text := secrets.String(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// notJSON returns the error of an answer that can't be read.
func notJSON(request string, body []byte, err error) error {
	const shown = 100
	begin := strings.ToValidUTF8(string(body[:min(shown, len(body))]), "")
	if bytes.Contains(body, []byte("NaN")) || bytes.Contains(body, []byte("Infinity")) {
		return fmt.Errorf("%s: the answer %q has numbers that are none (NaN or Infinity): the model's weights are damaged; look at the losses in the log of its training (%w)", request, begin, err)
	}
	return fmt.Errorf("%s: status 200 and no JSON of an OpenAI-compatible server, but %q: check the URL (%w)", request, begin, err)
}

// Answer is a server's refusal.
type Answer struct {
	Method, Path string
	Status       int
	Body         string
}

func (a *Answer) Error() string {
	const shown = 300
	body := a.Body
	if len(body) > shown {
		body = strings.ToValidUTF8(body[:shown], "") + "…"
	}
	remedy := ""
	if a.Status/100 == 3 {
		remedy = ": redirects are not followed; give the address that it names"
	}
	return fmt.Sprintf("%s %s: status %d: %q%s", a.Method, a.Path, a.Status, body, remedy)
}

// isMissing reports whether an error is an answer that the path doesn't exist there.
func isMissing(err error) bool {
	a := (*Answer)(nil)
	return errors.As(err, &a) && (a.Status == http.StatusNotFound || a.Status == http.StatusMethodNotAllowed || a.Status == http.StatusNotImplemented)
}

// Checkpoint is a trained model.
type Checkpoint struct {
	// Path is the folder of the weights or of the adapter, absolute: the server reads it.
	Path string
	// Name is how requests name the model after the swap.
	Name string
	// Digest identifies the weights.
	Digest string
}

// A Kind is how a server gets a new model.
type Kind string

// The kinds of swap.
const (
	// LoRA loads an adapter under a new name, as vLLM and SGLang do.
	LoRA Kind = "lora"
	// Reload reads new weights into the running server.
	Reload Kind = "reload"
	// Command restarts the server with a command of the user.
	Command Kind = "command"
	// Wait waits until somebody else has swapped.
	Wait Kind = "wait"
)

// Dialect is whose paths a server has.
type Dialect string

// The dialects.
const (
	VLLM   Dialect = "vllm"
	SGLang Dialect = "sglang"
)

// Load loads an adapter under the checkpoint's name. The server must not know the name yet: loaded
// again under one name, prefixes of the former adapter may answer.
func (s *Server) Load(ctx context.Context, d Dialect, c Checkpoint) error {
	address, body := s.base("/load_lora_adapter"), map[string]any{"lora_name": c.Name, "lora_path": c.Path}
	if d == SGLang {
		address = s.root("/load_lora_adapter")
	}
	models, err := s.Models(ctx)
	if err != nil {
		return err
	}
	if m, ok := models[c.Name]; ok {
		if samePath(m.Root, c.Path) {
			return nil // loaded before the loop was killed
		}
		return fmt.Errorf("the server %s serves another model as %s already (its root is %q); unload that one (POST /v1/unload_lora_adapter) or restart the server", s.URL, c.Name, m.Root)
	}
	if err := s.do(ctx, http.MethodPost, address, body, nil); err != nil {
		if a := (*Answer)(nil); errors.As(err, &a) && (strings.Contains(a.Body, c.Path) || strings.Contains(a.Body, c.Name)) {
			return fmt.Errorf("the server %s did not load the adapter %s: check that it is an adapter of the server's model, and that the server reads this path (%w)", s.URL, c.Path, err)
		}
		if isMissing(err) {
			return fmt.Errorf("the server %s has no %s: start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or SGLang with --enable-lora (%w)", s.URL, path(address), err)
		}
		return err
	}
	return nil
}

// Reload makes a server read the weights at the checkpoint's path, and drops its prefix cache.
func (s *Server) Reload(ctx context.Context, d Dialect, c Checkpoint) error {
	if d == SGLang {
		var out struct {
			Success bool   `json:"success"`
			Message string `json:"message"`
		}
		err := s.do(ctx, http.MethodPost, s.root("/update_weights_from_disk"), map[string]any{
			"model_path": c.Path, "flush_cache": true, "weight_version": c.Digest,
		}, &out)
		if err == nil && !out.Success {
			err = fmt.Errorf("the server %s did not load %s: %q", s.URL, c.Path, out.Message)
		}
		return err
	}
	steps := []struct {
		path string
		body any
		// optional steps may be missing in older servers.
		optional bool
	}{
		{path: "/pause?mode=wait"},
		{path: "/collective_rpc", body: map[string]any{"method": "reload_weights", "kwargs": map[string]any{"weights_path": c.Path}}},
		{path: "/reset_prefix_cache"},
		{path: "/update_weight_version", body: map[string]any{"new_version": c.Digest}, optional: true},
	}
	var failed error
	for _, step := range steps {
		err := s.do(ctx, http.MethodPost, s.root(step.path), step.body, nil)
		if err == nil || step.optional && isMissing(err) {
			continue
		}
		if isMissing(err) {
			err = fmt.Errorf("the server %s has no %s: start vLLM with VLLM_SERVER_DEV_MODE=1 (%w)", s.URL, step.path, err)
		}
		failed = err
		break
	}
	// A paused server answers no request, so it is resumed even after an error.
	resumed := s.do(context.WithoutCancel(ctx), http.MethodPost, s.root("/resume"), nil, nil)
	return errors.Join(failed, resumed)
}

// Model is a row of /v1/models.
type Model struct {
	ID     string `json:"id"`
	Root   string `json:"root"`
	Parent string `json:"parent"`
}

// Models returns the models that a server lists, by name.
func (s *Server) Models(ctx context.Context) (map[string]Model, error) {
	var out struct {
		Data []Model `json:"data"`
	}
	if err := s.do(ctx, http.MethodGet, s.base("/models"), nil, &out); err != nil {
		return nil, err
	}
	models := make(map[string]Model, len(out.Data))
	for _, m := range out.Data {
		models[m.ID] = m
	}
	return models, nil
}

// WaitReady waits until a server lists a model. An empty name means any model. When ctx ends first, its
// error names the model and the server's last answer.
func (s *Server) WaitReady(ctx context.Context, model string, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var last error
	for {
		models, err := s.Models(ctx)
		switch _, ok := models[model]; {
		case err != nil && ctx.Err() != nil: // the end of the wait is no answer
		case err != nil:
			last = err
		case ok || model == "" && len(models) > 0:
			return nil
		default:
			last = fmt.Errorf("it lists %d models, and not this one", len(models))
		}
		select {
		case <-ctx.Done():
			if last == nil {
				last = errors.New("it did not answer")
			}
			return fmt.Errorf("the server %s does not serve %q: %w (%w)", s.URL, cmp.Or(model, "any model"), last, ctx.Err())
		case <-ticker.C:
		}
	}
}

// weightVersion returns the version of the weights that a server reports, false where it reports
// none.
func (s *Server) weightVersion(ctx context.Context) (string, bool) {
	for _, p := range []string{"/weight_info", "/get_weight_version", "/model_info", "/get_model_info"} {
		var out struct {
			WeightVersion string `json:"weight_version"`
			Version       string `json:"version"`
		}
		if err := s.do(ctx, http.MethodGet, s.root(p), nil, &out); err != nil {
			continue
		}
		for _, v := range []string{out.WeightVersion, out.Version} {
			if v != "" && v != "default" {
				return v, true
			}
		}
	}
	return "", false
}

func samePath(a, b string) bool {
	return a != "" && filepath.Clean(a) == filepath.Clean(b)
}

// path returns the path of an address, for messages.
func path(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Path
}
