package simulator

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"coeval/transforms/simulator/world"
)

// The dialects, which decide the form of metrics and errors.
const (
	VLLM     = "vllm"
	SGLang   = "sglang"
	LlamaCpp = "llamacpp"
	None     = "none"
)

// Dialects are the allowed values of Options.Dialect.
var Dialects = []string{VLLM, SGLang, LlamaCpp, None}

// refuse answers with an error in the server's dialect.
func (s *Server) refuse(w http.ResponseWriter, status int, kind, message string) {
	s.refuseWith(w, status, errorBody(s.o.Dialect, status, kind, message))
}

func (s *Server) refuseWith(w http.ResponseWriter, status int, body map[string]any) {
	s.mu.Lock()
	s.tally.stats.Rejected[status]++
	s.mu.Unlock()
	if (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) && s.o.RetryAfter > 0 {
		seconds := math.Ceil(s.o.RetryAfter.Seconds())
		w.Header().Set("Retry-After", strconv.FormatFloat(seconds, 'f', 0, 64))
	}
	if status == http.StatusFound {
		w.Header().Set("Location", "/login")
	}
	w.Header()["Content-Type"] = jsonType
	w.Header()["Server"] = serverName
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// errorBody returns an error in a dialect. SGLang does not wrap errors in an object, and llama.cpp
// has no field param.
func errorBody(dialect string, status int, kind, message string) map[string]any {
	e := map[string]any{"message": message, "type": kind, "code": status}
	switch dialect {
	case SGLang:
		e["object"], e["param"] = "error", nil
		return e
	case LlamaCpp:
	default:
		e["param"] = nil
	}
	return map[string]any{"error": e}
}

// tooLong reports whether the request exceeds the context. llama.cpp and SGLang count the prompt alone.
func (s *Server) tooLong(req *request, q *world.Question) bool {
	total := q.PromptTokens
	if s.o.Dialect != LlamaCpp && s.o.Dialect != SGLang {
		total += req.maxTokens
	}
	return total > s.o.ContextTokens
}

// refuseLong refuses a request that exceeds the context, with the dialect's message.
func (s *Server) refuseLong(w http.ResponseWriter, req *request, q *world.Question) {
	const status = http.StatusBadRequest
	limit := s.o.ContextTokens
	switch s.o.Dialect {
	case LlamaCpp:
		s.refuseWith(w, status, map[string]any{"error": map[string]any{
			"code": status, "type": "exceed_context_size_error", "n_prompt_tokens": q.PromptTokens, "n_ctx": limit,
			"message": "the request exceeds the available context size. try increasing the context size or enable context shift",
		}})
	case SGLang:
		s.refuse(w, status, "BadRequestError",
			fmt.Sprintf("The input (%d tokens) is longer than the model's context length (%d tokens).", q.PromptTokens, limit))
	default:
		message := fmt.Sprintf("This model's maximum context length is %d tokens. However, you requested %d tokens "+
			"(%d in the messages, %d in the completion). Please reduce the length of the messages or completion.",
			limit, q.PromptTokens+req.maxTokens, q.PromptTokens, req.maxTokens)
		if s.o.Dialect == VLLM {
			s.refuse(w, status, "BadRequestError", message)
			return
		}
		s.refuseWith(w, status, map[string]any{"error": map[string]any{
			"message": message, "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded",
		}})
	}
}

// writeJSON answers with status 200.
func writeJSON(w http.ResponseWriter, body any) {
	w.Header()["Content-Type"] = jsonType
	w.Header()["Server"] = serverName
	_ = json.NewEncoder(w).Encode(body)
}

func (s *Server) listModels(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(w, r) {
		return
	}
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
		Root    string `json:"root,omitempty"`
	}
	var data []model
	for _, name := range s.o.Models {
		data = append(data, model{ID: name, Object: "model", Created: created, OwnedBy: ownedBy})
	}
	for name, a := range s.adapters.all() {
		data = append(data, model{ID: name, Object: "model", Created: created, OwnedBy: ownedBy, Root: a.path})
	}
	writeJSON(w, map[string]any{"object": "list", "data": data})
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]string{"status": "ok"})
}

// metrics writes the depth of the queue as Prometheus text, under the dialect's names.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	label := fmt.Sprintf("{model_name=%q}", s.o.Models[0])
	var running, waiting, prompt, completion string
	switch s.o.Dialect {
	case VLLM:
		running, waiting = "vllm:num_requests_running"+label, "vllm:num_requests_waiting"+label
		prompt, completion = "vllm:prompt_tokens_total"+label, "vllm:generation_tokens_total"+label
	case SGLang:
		running, waiting = "sglang:num_running_reqs"+label, "sglang:num_queue_reqs"+label
		prompt, completion = "sglang:prompt_tokens_total"+label, "sglang:generation_tokens_total"+label
	case LlamaCpp:
		running, waiting = "llamacpp:requests_processing", "llamacpp:requests_deferred"
		prompt, completion = "llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total"
	default:
		s.refuse(w, http.StatusNotFound, "not_found_error", "this dialect has no metrics")
		return
	}
	st := s.Stats()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	for _, m := range []struct {
		name, kind string
		value      int64
	}{
		{running, "gauge", int64(st.Running)},
		{waiting, "gauge", int64(st.Waiting)},
		{prompt, "counter", st.PromptTokens},
		{completion, "counter", st.CompletionTokens},
	} {
		bare, _, _ := strings.Cut(m.name, "{")
		_, _ = fmt.Fprintf(w, "# TYPE %s %s\n%s %d\n", bare, m.kind, m.name, m.value)
	}
}

func (s *Server) getStats(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Stats()) }

func (s *Server) postReset(w http.ResponseWriter, _ *http.Request) {
	s.Reset()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) getTruth(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]any{"simulated": true, "world": s.world})
}

// postTruth takes a JSON list of texts and returns the list of their truths.
func (s *Server) postTruth(w http.ResponseWriter, r *http.Request) {
	texts, ok := s.readTexts(w, r)
	if !ok {
		return
	}
	truths := make([]world.Truth, len(texts))
	for i, text := range texts {
		truths[i] = s.world.Truth(text)
	}
	writeJSON(w, truths)
}

// postSent takes a JSON list of texts and returns the texts that the server never sent.
func (s *Server) postSent(w http.ResponseWriter, r *http.Request) {
	if !s.o.Record {
		s.refuse(w, http.StatusConflict, "invalid_request_error", "the server was started without recording its texts")
		return
	}
	texts, ok := s.readTexts(w, r)
	if !ok {
		return
	}
	never := []string{}
	for _, text := range texts {
		if !s.Sent(text) {
			never = append(never, text)
		}
	}
	writeJSON(w, never)
}

func (s *Server) readTexts(w http.ResponseWriter, r *http.Request) ([]string, bool) {
	var texts []string
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&texts); err != nil {
		s.refuse(w, http.StatusBadRequest, "invalid_request_error", "the body must be a JSON list of texts")
		return nil, false
	}
	return texts, true
}
