package simulator

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"coeval/transforms/simulator/world"
)

// The server reports at most 20 tokens, the tokens of vLLM's form however unlikely they are, and the written
// token.
func TestReadsOverHTTP(t *testing.T) {
	s := start(t, Options{})
	response := s.Server().world.Answer(user("a question"), "m", 1, 0).Text
	type entry struct {
		Token   string  `json:"token"`
		LogProb float64 `json:"logprob"`
		Top     []entry `json:"top_logprobs"`
	}
	ask := func(fields map[string]any) (int, []entry) {
		fields["logprobs"], fields["max_tokens"] = true, 1
		status, b := post(t, s.URL()+"/chat/completions", body("judge this: "+response, fields))
		var answer struct {
			Choices []struct {
				LogProbs struct {
					Content []entry `json:"content"`
				} `json:"logprobs"`
			} `json:"choices"`
		}
		if status == 200 {
			if err := json.Unmarshal([]byte(b), &answer); err != nil || len(answer.Choices[0].LogProbs.Content) != 1 {
				t.Fatalf("%v: %s", err, b)
			}
			return status, answer.Choices[0].LogProbs.Content
		}
		if !strings.Contains(b, "top_logprobs") {
			t.Errorf("refused with %s", b)
		}
		return status, nil
	}
	if status, _ := ask(map[string]any{"top_logprobs": 21}); status != 400 {
		t.Errorf("21 tokens give status %d", status)
	}
	if _, got := ask(map[string]any{"top_logprobs": 3}); len(got[0].Top) != 3 || got[0].Top[0].LogProb < got[0].Top[2].LogProb {
		t.Errorf("3 tokens are %+v", got)
	}
	_, got := ask(map[string]any{"logprob_token_ids": []int{'0', '5', 256 + '0', 'A'}})
	if top := got[0].Top; len(top) != 4 || top[0].Token != "0" || top[2].Token != " 0" || top[3].Token != "A" || top[3].LogProb > -60 {
		t.Errorf("the tokens of four IDs are %+v", top)
	}
}

// In SGLang's dialect a read by /generate has the probabilities of the chat, after a prompt of the same number
// of tokens: four for a message, and one for each four bytes of the content.
func TestGenerate(t *testing.T) {
	s := start(t, Options{Dialect: SGLang})
	root := strings.TrimSuffix(s.URL(), "/v1")
	response := s.Server().world.Answer(user("a question"), "simulated", 1, 0).Text
	tokenize := func(b string) []int64 {
		status, answer := post(t, root+"/tokenize", []byte(b))
		var got struct{ Tokens []int64 }
		if err := json.Unmarshal([]byte(answer), &got); err != nil || status != 200 {
			t.Fatalf("%d %v: %s", status, err, answer)
		}
		return got.Tokens
	}
	if got := tokenize(`{"messages":[{"role":"user","content":"résumé of a text of 31 bytes."}]}`); len(got) != 12 {
		t.Errorf("a message of 31 bytes has %d tokens, want 12", len(got))
	}
	if ids := append(tokenize(`{"prompt":"A"}`), tokenize(`{"prompt":" A"}`)...); !slices.Equal(ids, []int64{'A', 256 + 'A'}) {
		t.Errorf("A has the tokens %v", ids)
	}
	for _, word := range []string{world.Word(0), world.Word(world.Words - 1), world.Word(507)} {
		if ids := tokensOf(word); len(ids) != 1 || tokenOf(ids[0]) != word {
			t.Errorf("%s has the tokens %v", word, ids)
		}
	}

	chat := body("judge this: "+response, map[string]any{"model": "simulated", "max_tokens": 1, "logprobs": true, "top_logprobs": 20})
	prompt := tokenize(string(chat))
	_, b := post(t, s.URL()+"/chat/completions", chat)
	var answer struct {
		Choices []struct {
			LogProbs struct {
				Content []struct {
					Top []struct {
						Token   string
						LogProb float64
					} `json:"top_logprobs"`
				}
			}
		}
		Usage struct {
			Prompt int `json:"prompt_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(b), &answer); err != nil || answer.Usage.Prompt != len(prompt) {
		t.Fatalf("%v: %d tokens, rendered as %d", err, answer.Usage.Prompt, len(prompt))
	}
	generate := func(fields map[string]any) (int, string) {
		all := map[string]any{"input_ids": prompt, "return_logprob": true, "sampling_params": map[string]any{"max_new_tokens": 1}}
		maps.Copy(all, fields)
		b, _ := json.Marshal(all)
		return post(t, root+"/generate", b)
	}
	want, ids := map[int64]float64{}, []int64{}
	for _, top := range answer.Choices[0].LogProbs.Content[0].Top {
		id := tokensOf(top.Token)
		want[id[0]] = top.LogProb
		ids = append(ids, id[0])
	}
	type generated struct {
		Meta struct {
			Prompt int               `json:"prompt_tokens"`
			Named  [][][]json.Number `json:"output_token_ids_logprobs"`
		} `json:"meta_info"`
	}
	status, b := generate(map[string]any{"token_ids_logprob": ids, "sampling_params": map[string]any{"max_new_tokens": 1, "n": 2}})
	var two []generated
	if err := json.Unmarshal([]byte(b), &two); err != nil || status != 200 || len(two) != 2 || len(two[1].Meta.Named[0]) != len(ids) || len(ids) != 20 {
		t.Fatalf("%d %v: %s", status, err, b)
	}
	for _, triple := range two[1].Meta.Named[0] {
		x, _ := triple[0].Float64()
		id, _ := triple[1].Int64()
		if x != want[id] {
			t.Errorf("%s has %v, in the chat %v", tokenOf(id), x, want[id])
		}
	}
	for name, fields := range map[string]map[string]any{
		"two tokens": {"token_ids_logprob": ids, "sampling_params": map[string]any{"max_new_tokens": 2}}, "no tokens": {}, "other prompts": {"input_ids": []int{1, 2}},
		"a cut prompt": {"input_ids": prompt[:len(prompt)-1], "token_ids_logprob": ids}, "an adapter": {"token_ids_logprob": ids, "lora_path": "tuned"},
	} {
		if status, b := generate(fields); status != 400 {
			t.Errorf("%s: %d %s", name, status, b)
		}
	}
	if status, b := post(t, root+"/tokenize", []byte(`{"prompt":"A","messages":[]}`)); status != 400 {
		t.Errorf("a text and a chat: %d %s", status, b)
	}
	if status, _ := post(t, strings.TrimSuffix(start(t, Options{}).URL(), "/v1")+"/generate", []byte(`{}`)); status != 404 {
		t.Errorf("vLLM has /generate: %d", status)
	}
}
