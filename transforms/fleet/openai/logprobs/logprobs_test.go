package logprobs

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/stage"
)

var letters = &stage.Read{Labels: []string{"A", "B"}}

// The real refusals of OpenAI, Azure, vLLM and SGLang, and others that are about something else.
func TestTopLimit(t *testing.T) {
	for message, want := range map[string]int{
		"Invalid value for 'top_logprobs': must be less than or equal to 5.":        5,
		"Requested sample logprobs of 20, which is greater than max allowed: 10":    10,
		"1 validation error: top_logprobs: Input should be less than or equal to 8": 8,
		"top_logprobs is too large":                                       5, // a quarter of 20
		"you must set logprobs to true when using top_logprobs":           5,
		"max_tokens is too large: 20":                                     0,
		"This model's maximum context length is 5 tokens":                 0,
		"top_logprobs must be within 0 to 20, and needs logprobs: got 21": 5,
		"Number of top logprobs 20 exceeds the server's limit of 3":       3,
	} {
		if got, ok := TopLimit(message, 20); got != want || ok != (want > 0) {
			t.Errorf("%q: limit %d, want %d", message, got, want)
		}
	}
}

func TestFields(t *testing.T) {
	for want, form := range map[string]Form{
		`,"logprobs":true,"top_logprobs":20`:           {Top: 20},
		`,"logprobs":true,"logprob_token_ids":[32,33]`: {Top: 20, IDs: []int64{32, 33}},
	} {
		if got := form.Fields(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// The answers of vLLM and of llama.cpp, and pages that are none.
func TestReadTokens(t *testing.T) {
	for body, want := range map[string][]int64{
		`{"count":2,"max_model_len":2048,"tokens":[220,32],"token_strs":null}`: {220, 32},
		`{"tokens":[32]}`:                      {32},
		`{"tokens":[{"id":32,"piece":"A"}]}`:   nil,
		`{"tokens":[1.5]}`:                     nil,
		`<html>`:                               nil,
		``:                                     nil,
		`{"error":{"message":"no such path"}}`: nil,
	} {
		if diff := cmp.Diff(want, ReadTokens([]byte(body))); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

var generateForm = &Form{Generate: true, IDs: []int64{32, 362, 33}, Spellings: []string{"A", " A", "B"}}

// The answers are in the form of SGLang 0.5.
func TestDecodeGenerated(t *testing.T) {
	choice := func(named string) string {
		return `{"text":"A","output_ids":[32],"meta_info":{"id":"a1","finish_reason":{"type":"length","length":1},"prompt_tokens":9,"weight_version":"default",` +
			`"output_token_logprobs":[[-0.1,32,null]],"output_token_ids_logprobs":` + named + `,"completion_tokens":1,"cached_tokens":8,"e2e_latency":0.1}}`
	}
	want := schemas.Generation{Text: "A", FinishReason: "length", PromptTokens: 9, CompletionTokens: 1}
	// exp(-1) + exp(-2) = 0.503215, whose logarithm is -0.686738
	want.LogProbs = map[string]float64{"A": -0.686738, "B": -2.5}
	named := `[[[-1.0,32,null],[-2.0,362," A"],[-2.5,33,null],[-9,5,null],[null,33,null],7]]`
	for name, body := range map[string]string{
		"an object": choice(named), "a list": "[" + choice(named) + "]", "more choices": "[" + choice(named) + "," + choice(named) + "]",
	} {
		got, has, flt := generateForm.DecodeGenerated([]byte(body), 1, letters)
		if flt != nil || !has[0] {
			t.Fatalf("%s: %v", name, flt)
		}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	two, has, flt := generateForm.DecodeGenerated([]byte("["+choice(named)+","+choice("null")+"]"), 2, letters)
	if flt != nil || !has[0] || has[1] || two[0].LogProbs["B"] != -2.5 {
		t.Errorf("of two choices, one without log-probabilities: %v %v %v", two, has, flt)
	}
	for _, body := range []string{
		``, `{}`, `[]`, `null`, `"A"`, `<html>`, choice("null"), choice("[]"), choice("[[]]"), choice("[[[-1,7,null]]]"), choice(`{"A":-1}`),
		`{"text":"","meta_info":{"finish_reason":{"type":"abort","message":"Abort before prefill"},"output_token_ids_logprobs":[[[-1,32,null]]]}}`,
		`{"error":{"message":"out of memory"}}`, `{"text":1,"meta_info":"x"}`,
	} {
		if got, has, flt := generateForm.DecodeGenerated([]byte(body), 1, letters); flt == nil || got != nil || has != nil {
			t.Errorf("%s gives %v, want a fault", body, got)
		}
	}
}

func TestAppendGenerate(t *testing.T) {
	r := &stage.Role{Model: "base:tuned", Temperature: 0.5, TopP: 0.9}
	got, err := generateForm.AppendGenerate(nil, r, []int64{1, 2}, 2)
	const want = `{"input_ids":[1,2],"sampling_params":{"max_new_tokens":1,"temperature":0.5,"top_p":0.9,"n":2},` +
		`"stream":false,"return_logprob":true,"token_ids_logprob":[32,362,33],"lora_path":"tuned"}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	r = &stage.Role{Model: "base", Omit: []string{stage.Temperature, stage.TopP}}
	if got, _ := generateForm.AppendGenerate(nil, r, []int64{1}, 1); string(got) != `{"input_ids":[1],"sampling_params":{"max_new_tokens":1},"stream":false,"return_logprob":true,"token_ids_logprob":[32,362,33]}` {
		t.Errorf("%s", got)
	}
}

func FuzzDecodeGenerated(f *testing.F) {
	f.Add([]byte(`{"text":"A","meta_info":{"finish_reason":{"type":"length"},"prompt_tokens":9,"output_token_ids_logprobs":[[[-1.0,32,null],[-2.0,362," A"]]]}}`))
	f.Add([]byte(`[{"text":"A","meta_info":{"finish_reason":"stop","output_token_ids_logprobs":[[[NaN,"32",null],[-2e400,33.5]]]}}]`))
	f.Add([]byte(`{"tokens":[32,1e30,-1]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ReadTokens(body)
		got, has, flt := generateForm.DecodeGenerated(body, 2, letters)
		if flt != nil {
			return
		}
		for i, g := range got {
			for label, x := range g.LogProbs {
				if !has[i] || label != "A" && label != "B" || !(x > -1000 && x < 2) {
					t.Errorf("%q has %v in %s", label, x, body)
				}
			}
		}
	})
}
