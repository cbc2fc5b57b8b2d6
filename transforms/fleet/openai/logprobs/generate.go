package logprobs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coeval/schemas"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/openai/lenient"
	"coeval/transforms/stage"
)

// GeneratePath is SGLang's own API, beside /v1. It takes a prompt in tokens and reports the log-probabilities
// of tokens that the request names, which SGLang's chat completions do not.
const GeneratePath = "/generate"

// Renderable reports whether all fields of a role's extra_body act on the rendering of the prompt or on
// texts alone. [Form.AppendGenerate] leaves out extra_body, and others would change the probabilities of a chat completion.
func Renderable(r *stage.Role) bool {
	extra := strings.TrimSpace(r.ExtraBody)
	if extra == "" {
		return true
	}
	var fields map[string]jsontext.Value
	if json.Unmarshal([]byte(extra), &fields, lenient.Options) != nil {
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
func (f *Form) AppendGenerate(b []byte, r *stage.Role, prompt []int64, n int) ([]byte, error) {
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
	Text  lenient.Text   `json:"text"`
	Meta  generatedMeta  `json:"meta_info"`
	Error jsontext.Value `json:"error"`
}

type generatedMeta struct {
	PromptTokens     lenient.Number `json:"prompt_tokens"`
	CompletionTokens lenient.Number `json:"completion_tokens"`
	FinishReason     finishReason   `json:"finish_reason"`
	// Named has a list for each token of the text, of triples: log-probability, ID and text.
	Named jsontext.Value `json:"output_token_ids_logprobs"`
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (m *generatedMeta) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*m = generatedMeta{}
	type plain generatedMeta
	return lenient.Object(d, (*plain)(m))
}

// finishReason is a string, or an object with the string as its type.
type finishReason string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (r *finishReason) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var object struct {
		Type lenient.Text `json:"type"`
	}
	var err error
	if d.PeekKind() == '{' {
		err = lenient.Object(d, &object)
	} else {
		err = json.UnmarshalDecode(d, &object.Type)
	}
	*r = finishReason(object.Type)
	return err
}

// GeneratedTokens returns the tokens of f that an answer reports for the first choice.
func (f *Form) GeneratedTokens(body []byte) (tokens []stage.TokenLogProb, promptTokens int) {
	choices, flt := generatedChoices(body)
	if flt != nil || len(choices) == 0 {
		return nil, 0
	}
	return f.named(choices[0].Meta.Named), choices[0].Meta.PromptTokens.Tokens()
}

// named returns the tokens of f in the first of the lists.
func (f *Form) named(lists jsontext.Value) []stage.TokenLogProb {
	var places []jsontext.Value
	if lists.Kind() != '[' || json.Unmarshal(lists, &places, lenient.Options) != nil || len(places) == 0 || places[0].Kind() != '[' {
		return nil
	}
	var triples []jsontext.Value
	if json.Unmarshal(places[0], &triples, lenient.Options) != nil {
		return nil
	}
	var out []stage.TokenLogProb
	for _, v := range triples[:min(len(triples), maxReported)] {
		var triple []jsontext.Value
		if v.Kind() != '[' || json.Unmarshal(v, &triple, lenient.Options) != nil || len(triple) < 2 {
			continue
		}
		var logProb, id lenient.Number
		if lenient.Unmarshal(triple[0], &logProb) != nil || lenient.Unmarshal(triple[1], &id) != nil || !logProb.There || !id.There {
			continue
		}
		if at := slices.Index(f.IDs, int64(id.Value)); at >= 0 && id.Value == float64(f.IDs[at]) {
			out = append(out, stage.TokenLogProb{Token: f.Spellings[at], LogProb: logProb.Value})
		}
	}
	return out
}

// generatedChoices returns the choices of an answer: SGLang sends a list of them for more than one.
func generatedChoices(body []byte) ([]generated, *fault.Fault) {
	broken := func(what string) *fault.Fault {
		return &fault.Fault{Kind: fault.Broken, Code: fault.CodeMalformed, Message: what + ": " + fault.Excerpt(body)}
	}
	var whole jsontext.Value
	if lenient.Unmarshal(body, &whole) != nil {
		return nil, broken("the body of " + GeneratePath + " is no JSON")
	}
	var choices []generated
	switch whole.Kind() {
	case '{':
		choices = make([]generated, 1)
		if json.Unmarshal(whole, &choices[0], lenient.Options) != nil {
			return nil, broken("the body of " + GeneratePath + " has other types")
		}
	case '[':
		if json.Unmarshal(whole, &choices, lenient.Options) != nil {
			return nil, broken("the body of " + GeneratePath + " has other types")
		}
	}
	for i := range choices {
		if k := choices[i].Error.Kind(); k == '{' || k == '"' {
			return nil, cmp.Or(fault.In(body, choices[i].Error, false), broken("200 with an error"))
		}
	}
	return choices, nil
}

// DecodeGenerated reads the answer to a request of [Form.AppendGenerate], as package openai reads a chat completion. An answer without
// log-probabilities is a fault.
func (f *Form) DecodeGenerated(body []byte, n int, read *stage.Read) ([]schemas.Generation, []bool, *fault.Fault) {
	choices, flt := generatedChoices(body)
	if flt != nil {
		return nil, nil, flt
	}
	generations, has := make([]schemas.Generation, n), make([]bool, n)
	for i := range choices[:min(len(choices), n)] {
		c := &choices[i]
		tokens := f.named(c.Meta.Named)
		reason := lenient.Text(c.Meta.FinishReason).Reason()
		if kind := stage.FinishOf(reason); len(tokens) == 0 || kind == stage.FinishAbandoned {
			continue
		}
		has[i] = true
		generations[i] = schemas.Generation{
			Text: string(c.Text), FinishReason: reason, LogProbs: read.Sum(tokens),
			PromptTokens: c.Meta.PromptTokens.Tokens(), CompletionTokens: c.Meta.CompletionTokens.Tokens(),
		}
	}
	if !slices.Contains(has, true) {
		return nil, nil, &fault.Fault{Kind: fault.Broken, Code: fault.CodeMalformed, Message: "200 without the log-probability of a label: " + fault.Excerpt(body)}
	}
	return generations, has, nil
}
