package simulator

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"

	"coeval/schemas"
	"coeval/transforms/simulator/world"
)

// The vocabulary has a token for each byte, one for each byte after a space, and one for each [world.Word],
// which reads report beside labels. A chat is rendered as four tokens and the content for each message, up to
// four bytes a token, so that it has the PromptTokens of its question.
const (
	spacedToken  = 256
	wordToken    = spacedToken + 256
	messageToken = wordToken + world.Words
	roleToken    = messageToken + 1
	contentToken = roleToken + 3
	endToken     = contentToken + 1
	packedToken  = 1 << 40
	packedBytes  = 4
)

// chatRoles are the roles of messages, by their tokens.
var chatRoles = [...]string{"system", "user", "assistant"}

// tokenOf returns the text of a token, empty for a token of the rendering.
func tokenOf(id int64) string {
	switch {
	case id < 0 || id >= messageToken:
		return ""
	case id >= wordToken:
		return world.Word(int(id - wordToken))
	case id >= spacedToken:
		return " " + string(rune(id-spacedToken))
	}
	return string(rune(id))
}

// tokensOf returns the tokens of a text: one for a byte alone, for a byte after a space and for a word, and one
// for each byte of any other text.
func tokensOf(text string) []int64 {
	if len(text) == 2 && text[0] == ' ' {
		return []int64{spacedToken + int64(text[1])}
	}
	if number, ok := world.WordNumber(text); ok {
		return []int64{wordToken + int64(number)}
	}
	ids := make([]int64, 0, len(text))
	for _, c := range []byte(text) {
		ids = append(ids, int64(c))
	}
	return ids
}

// render returns the tokens of a chat.
func render(messages []schemas.Message) ([]int64, error) {
	var ids []int64
	for _, m := range messages {
		role := -1
		for i, name := range chatRoles {
			if name == m.Role {
				role = i
			}
		}
		if role < 0 {
			return nil, fmt.Errorf("the template has no role %q", m.Role)
		}
		ids = append(ids, messageToken, roleToken+int64(role), contentToken)
		for rest := m.Content; rest != ""; {
			n := min(packedBytes, len(rest))
			var word [packedBytes]byte
			copy(word[:], rest[:n])
			ids = append(ids, packedToken+int64(n-1)<<32+int64(binary.BigEndian.Uint32(word[:])))
			rest = rest[n:]
		}
		ids = append(ids, endToken)
	}
	return ids, nil
}

var errNotRendered = errors.New("input_ids must be the tokens of messages as /tokenize returns them")

// unrender returns the chat of the tokens that render returned.
func unrender(ids []int64) ([]schemas.Message, error) {
	var messages []schemas.Message
	for len(ids) >= 4 {
		role := ids[1] - roleToken
		if ids[0] != messageToken || role < 0 || role >= int64(len(chatRoles)) || ids[2] != contentToken {
			return nil, errNotRendered
		}
		var content []byte
		for ids = ids[3:]; len(ids) > 0 && ids[0] >= packedToken; ids = ids[1:] {
			n := (ids[0]-packedToken)>>32 + 1
			if n > packedBytes {
				return nil, errNotRendered
			}
			content = append(content, binary.BigEndian.AppendUint32(nil, uint32(ids[0]-packedToken))[:n]...)
		}
		if len(ids) == 0 || ids[0] != endToken {
			return nil, errNotRendered
		}
		ids = ids[1:]
		messages = append(messages, schemas.Message{Role: chatRoles[role], Content: string(content)})
	}
	if len(ids) > 0 || len(messages) == 0 {
		return nil, errNotRendered
	}
	return messages, nil
}

// tokenize answers with the tokens of a text, which llama.cpp calls content, or of a chat.
func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(w, r) {
		return
	}
	var body struct {
		Prompt   *string           `json:"prompt"`
		Content  *string           `json:"content"`
		Messages []schemas.Message `json:"messages"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&body)
	text := body.Prompt
	if s.o.Dialect == LlamaCpp {
		text, body.Messages = body.Content, nil
	}
	ids := []int64{}
	switch {
	case err != nil:
	case (text == nil) == (body.Messages == nil) && s.o.Dialect != LlamaCpp:
		err = errors.New("exactly one of prompt and messages must be given")
	case text != nil:
		ids = append(ids, tokensOf(*text)...)
	case body.Messages != nil:
		ids, err = render(body.Messages)
	}
	if err != nil {
		s.refuse(w, http.StatusBadRequest, "invalid_request_error", err.Error())
		return
	}
	writeJSON(w, map[string]any{"tokens": ids, "count": len(ids)})
}

// generate answers a read by SGLang's own API.
func (s *Server) generate(w http.ResponseWriter, r *http.Request) { s.reply(w, r, s.parseGenerate) }

// parseGenerate decodes a request of SGLang's own API for one token.
func (s *Server) parseGenerate(body []byte) (request, error) {
	var fields struct {
		Prompt   []int64                    `json:"input_ids"`
		Sampling map[string]json.RawMessage `json:"sampling_params"`
		LogProb  bool                       `json:"return_logprob"`
		IDs      []int64                    `json:"token_ids_logprob"`
		LoRA     string                     `json:"lora_path"`
		Stream   bool                       `json:"stream"`
	}
	if err := json.Unmarshal(body, &fields); err != nil {
		return request{}, err
	}
	messages, err := unrender(fields.Prompt)
	if err != nil {
		return request{}, err
	}
	req := request{n: 1, messages: messages, model: s.o.Models[0], stream: fields.Stream, logprobs: fields.LogProb, logprobIDs: fields.IDs, generate: true}
	if fields.LoRA != "" {
		return request{}, fmt.Errorf("the LoRA adapter %s is not loaded", fields.LoRA)
	}
	for name, value := range fields.Sampling {
		switch name {
		case "n":
			req.n, err = readInt(name, string(value), 1)
		case "max_new_tokens":
			req.maxTokens, err = readInt(name, string(value), 0)
		default:
			req.sampling += sampled(name, string(value))
		}
		if err != nil {
			return request{}, err
		}
	}
	if !req.isRead() {
		return request{}, errors.New("the simulated /generate answers max_new_tokens 1 with return_logprob and token_ids_logprob alone")
	}
	return req, nil
}

// appendGenerated writes the body of a complete answer of SGLang's own API: an object for one choice, a list
// for more.
func appendGenerated(b []byte, id uint64, req *request, q *world.Question, choices []choice, fault Fault) []byte {
	if req.n > 1 {
		b = append(b, '[')
	}
	for i := range choices {
		if i > 0 {
			b = append(b, ',')
		}
		c := &choices[i]
		b = appendText(append(b, `{"text":`...), c, fault)
		b = append(b, `,"meta_info":{"id":"`...)
		b = fmt.Appendf(b, `%016x","finish_reason":{"type":"length","length":1},"prompt_tokens":%d,"completion_tokens":%d`, id, q.PromptTokens, c.Tokens)
		b = append(b, `,"output_token_ids_logprobs":[[`...)
		for k, p := range c.next[1:] {
			if k > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, `[%.6f,%d,null]`, math.Log(max(p.P, minP)), req.logprobIDs[k])
		}
		b = append(b, `]]}}`...)
	}
	if req.n > 1 {
		b = append(b, ']')
	}
	return b
}
