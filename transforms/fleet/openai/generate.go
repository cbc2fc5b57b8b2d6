package openai

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
	"coeval/transforms/stage"
)

// GeneratePath is SGLang's own API, beside /v1. It takes a prompt in tokens and reports the log-probabilities
// of tokens that the request names, which SGLang's chat completions do not.
const GeneratePath = "/generate"

// Renderable reports whether all fields of a role's extra_body act on the rendering of the prompt or on
// texts alone. [AppendGenerate] leaves out extra_body, and others would change the probabilities of a chat completion.
func Renderable(r *stage.Role) bool {
	extra := strings.TrimSpace(r.ExtraBody)
	if extra == "" {
		return true
	}
	var fields map[string]jsontext.Value
	if json.Unmarshal([]byte(extra), &fields, lenient) != nil {
		return false
	}
	harmless := []string{"chat_template_kwargs", "reasoning_effort", "separate_reasoning"}
	for name := range fields {
		if !slices.Contains(harmless, name) {
			return false
		}
	}
	return true
}

// AppendGenerate appends the body of a read of n choices after a prompt in tokens. A model "base:adapter", as
// SGLang's chat completions name a LoRA adapter, selects the adapter.
func (f *ReadForm) AppendGenerate(b []byte, r *stage.Role, prompt []int64, n int) ([]byte, error) {
	b = appendIDs(append(b, `{"input_ids":[`...), prompt)
	b = append(b, `],"sampling_params":{"max_new_tokens":1`...)
	if r.Sends(stage.Temperature) {
		b = strconv.AppendFloat(append(b, `,"temperature":`...), r.Temperature, 'g', -1, 64)
	}
	if r.Sends(stage.TopP) {
		b = strconv.AppendFloat(append(b, `,"top_p":`...), r.TopP, 'g', -1, 64)
	}
	if n > 1 {
		b = strconv.AppendInt(append(b, `,"n":`...), int64(n), 10)
	}
	b = appendIDs(append(b, `},"stream":false,"return_logprob":true,"token_ids_logprob":[`...), f.IDs)
	b = append(b, ']')
	if _, adapter, ok := strings.Cut(r.Model, ":"); ok {
		var err error
		if b, err = jsontext.AppendQuote(append(b, `,"lora_path":`...), adapter); err != nil {
			return nil, fmt.Errorf("openai: model %q: %w", r.Model, err)
		}
	}
	return append(b, '}'), nil
}

func appendIDs(b []byte, ids []int64) []byte {
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, id, 10)
	}
	return b
}

// generated is one choice of an answer of [GeneratePath].
type generated struct {
	Text  text           `json:"text"`
	Meta  generatedMeta  `json:"meta_info"`
	Error jsontext.Value `json:"error"`
}

type generatedMeta struct {
	PromptTokens     number       `json:"prompt_tokens"`
	CompletionTokens number       `json:"completion_tokens"`
	FinishReason     finishReason `json:"finish_reason"`
	// Named has a list for each token of the text, of triples: log-probability, ID and text.
	Named jsontext.Value `json:"output_token_ids_logprobs"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *generatedMeta) UnmarshalJSON(b []byte) error {
	*m = generatedMeta{}
	if jsontext.Value(b).Kind() != '{' {
		return nil
	}
	type plain generatedMeta
	return json.Unmarshal(b, (*plain)(m), lenient)
}

// finishReason is a string, or an object with the string as its type.
type finishReason string

// UnmarshalJSON implements json.Unmarshaler.
func (r *finishReason) UnmarshalJSON(b []byte) error {
	*r = ""
	if jsontext.Value(b).Kind() == '{' {
		var object struct {
			Type text `json:"type"`
		}
		err := json.Unmarshal(b, &object, lenient)
		*r = finishReason(object.Type)
		return err
	}
	var t text
	err := t.UnmarshalJSON(b)
	*r = finishReason(t)
	return err
}

// GeneratedTokens returns the tokens of f that an answer reports for the first choice.
func (f *ReadForm) GeneratedTokens(body []byte) (tokens []stage.TokenLogProb, promptTokens int) {
	choices, flt := generatedChoices(body)
	if flt != nil || len(choices) == 0 {
		return nil, 0
	}
	return f.named(choices[0].Meta.Named), choices[0].Meta.PromptTokens.tokens()
}

// named returns the tokens of f in the first of the lists.
func (f *ReadForm) named(lists jsontext.Value) []stage.TokenLogProb {
	var places []jsontext.Value
	if lists.Kind() != '[' || json.Unmarshal(lists, &places, lenient) != nil || len(places) == 0 || places[0].Kind() != '[' {
		return nil
	}
	var triples []jsontext.Value
	if json.Unmarshal(places[0], &triples, lenient) != nil {
		return nil
	}
	var out []stage.TokenLogProb
	for _, v := range triples[:min(len(triples), maxReported)] {
		var triple []jsontext.Value
		if v.Kind() != '[' || json.Unmarshal(v, &triple, lenient) != nil || len(triple) < 2 {
			continue
		}
		var logProb, id number
		if logProb.UnmarshalJSON(triple[0]) != nil || id.UnmarshalJSON(triple[1]) != nil || !logProb.there || !id.there {
			continue
		}
		if at := slices.Index(f.IDs, int64(id.value)); at >= 0 && id.value == float64(f.IDs[at]) {
			out = append(out, stage.TokenLogProb{Token: f.Spellings[at], LogProb: logProb.value})
		}
	}
	return out
}

// generatedChoices returns the choices of an answer: SGLang sends a list of them for more than one.
func generatedChoices(body []byte) ([]generated, *Fault) {
	broken := func(what string) *Fault {
		return &Fault{Kind: Broken, Code: CodeMalformed, Message: what + ": " + excerpt(body)}
	}
	var whole jsontext.Value
	if unmarshal(body, &whole) != nil {
		return nil, broken("the body of " + GeneratePath + " is no JSON")
	}
	var choices []generated
	switch whole.Kind() {
	case '{':
		choices = make([]generated, 1)
		if json.Unmarshal(whole, &choices[0], lenient) != nil {
			return nil, broken("the body of " + GeneratePath + " has other types")
		}
	case '[':
		if json.Unmarshal(whole, &choices, lenient) != nil {
			return nil, broken("the body of " + GeneratePath + " has other types")
		}
	}
	for i := range choices {
		if k := choices[i].Error.Kind(); k == '{' || k == '"' {
			return nil, cmp.Or(errorIn(&response{Error: choices[i].Error}, body), broken("200 with an error"))
		}
	}
	return choices, nil
}

// DecodeGenerated reads the answer to a request of [ReadForm.AppendGenerate], as [DecodeRead]. An answer without
// log-probabilities is a fault.
func (f *ReadForm) DecodeGenerated(body []byte, n int, read *stage.Read) ([]schemas.Generation, []bool, *Fault) {
	choices, flt := generatedChoices(body)
	if flt != nil {
		return nil, nil, flt
	}
	generations, has := make([]schemas.Generation, n), make([]bool, n)
	for i := range choices[:min(len(choices), n)] {
		c := &choices[i]
		tokens := f.named(c.Meta.Named)
		reason := reasonOf(text(c.Meta.FinishReason))
		if kind := stage.FinishOf(reason); len(tokens) == 0 || kind == stage.FinishAbandoned {
			continue
		}
		has[i] = true
		generations[i] = schemas.Generation{
			Text: string(c.Text), FinishReason: reason, LogProbs: read.Sum(tokens),
			PromptTokens: c.Meta.PromptTokens.tokens(), CompletionTokens: c.Meta.CompletionTokens.tokens(),
		}
	}
	if !slices.Contains(has, true) {
		return nil, nil, &Fault{Kind: Broken, Code: CodeMalformed, Message: "200 without the log-probability of a label: " + excerpt(body)}
	}
	return generations, has, nil
}
