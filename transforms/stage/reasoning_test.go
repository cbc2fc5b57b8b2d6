package stage

import (
	"testing"
	"unicode/utf8"

	"coeval/schemas"
)

func TestStripReasoning(t *testing.T) {
	tests := []struct {
		name            string
		text, kept      string
		want, reasoning string
		cut             bool
	}{
		{name: "none", text: " Paris.\n", want: "Paris."},
		{name: "empty"},
		{name: "kept apart by the server", text: "Paris.", kept: "France… Paris.\n", want: "Paris.", reasoning: "France… Paris."},
		{name: "block", text: "<think>\nFrance?\n</think>\n\nParis.", want: "Paris.", reasoning: "France?"},
		{name: "long tag", text: "<thinking>France?</thinking>Paris.", want: "Paris.", reasoning: "France?"},
		{name: "opened by the chat template", text: "France?\n</think>\nParis.", want: "Paris.", reasoning: "France?"},
		{name: "both ways", text: "<think>b</think>c", kept: "a", want: "c", reasoning: "a\n\nb"},
		{name: "interleaved", text: "One.\n<think>a</think>\nTwo.<think>b</think>", want: "One.\n\nTwo.", reasoning: "a\n\nb"},
		{name: "unclosed", text: "<think>France? I", reasoning: "France? I", cut: true},
		{name: "unclosed after text", text: "Paris <think>or Lyon", want: "Paris", reasoning: "or Lyon", cut: true},
		{name: "empty block", text: "<think>\n\n</think>\n\nParis.", want: "Paris."},
		{name: "a thought about the tag", text: "<think>the <think> tag</think>It opens.", want: "It opens.", reasoning: "the <think> tag"},
		{name: "two orphans", text: "a</think>b</think>c", want: "c", reasoning: "a\n\nb"},
		{name: "a tag made by a cut", text: "<th<think>a</think>ink>b", reasoning: "a\n\nb", cut: true},
		{name: "capitals", text: "<THINK>a</THINK>b", want: "b", reasoning: "a"},
		{name: "square brackets", text: "[THINK]a[/THINK]b", want: "b", reasoning: "a"},
		{name: "braces", text: "{think}a{/think}b", want: "b", reasoning: "a"},
		{name: "a fence", text: "```thinking\na\n```\nb", want: "b", reasoning: "a"},
		{name: "a fence of tildes", text: "~~~think\na\n~~~\nb", want: "b", reasoning: "a"},
		{name: "a longer fence", text: "\n````Think\na\n```\nc\n````\nb", want: "b", reasoning: "a\n```\nc"},
		{name: "a fence, unclosed", text: "```thinking\na", reasoning: "a", cut: true},
		{name: "a fence in the middle", text: "b\n```thinking\na\n```", want: "b\n```thinking\na\n```"},
		{name: "a fence of code", text: "```python\na\n```\nb", want: "```python\na\n```\nb"},
		{name: "square brackets, unclosed", text: "[THINK]a", reasoning: "a", cut: true},
		{name: "thought", text: "<thought>a</thought>b", want: "b", reasoning: "a"},
		{name: "tokens", text: "<|begin_of_thought|>a<|end_of_thought|>b", want: "b", reasoning: "a"},
		{name: "bars", text: "<|thinking|>a<|/thinking|>b", want: "b", reasoning: "a"},
		{name: "triangles", text: "◁think▷a◁/think▷b", want: "b", reasoning: "a"},
		{name: "another script", text: "【思考】a【/思考】b", want: "b", reasoning: "a"},
		{name: "full width", text: "＜think＞a＜/think＞b", want: "b", reasoning: "a"},
		{name: "a prefix", text: "<seed:think>a</seed:think>b", want: "b", reasoning: "a"},
		{name: "a stage direction stays", text: "He sat down. [thinking] What now?", want: "He sat down. [thinking] What now?"},
		{name: "harmony", text: "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>", want: "b", reasoning: "a"},
		{name: "harmony with a call", text: "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=functions.x <|constrain|>json<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>b", want: "b", reasoning: "a\n\n{}"},
		{name: "harmony, cut off", text: "<|channel|>analysis<|message|>a and", reasoning: "a and", cut: true},
		{name: "harmony without tokens", text: "analysisThe user asks.assistantfinalParis.", want: "Paris.", reasoning: "The user asks."},
		{name: "a word of that name", text: "analysis of the data", want: "analysis of the data"},
		{name: "other tags stay", text: "<thinker>a</thinker>", want: "<thinker>a</thinker>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, reasoning, cut := StripReasoning(schemas.Generation{Text: tt.text, Reasoning: tt.kept})
			if text != tt.want || reasoning != tt.reasoning || cut != tt.cut {
				t.Errorf("got %q, %q, %v; want %q, %q, %v", text, reasoning, cut, tt.want, tt.reasoning, tt.cut)
			}
		})
	}
}

func TestReadText(t *testing.T) {
	tests := []struct {
		name  string
		g     schemas.Generation
		strip bool
		want  string
		cut   bool
	}{
		{"stop", schemas.Generation{Text: " a ", FinishReason: "stop"}, true, "a", false},
		{"length", schemas.Generation{Text: "a", FinishReason: "length"}, true, "a", true},
		{"length, tags kept", schemas.Generation{Text: "<think>a", FinishReason: "length"}, false, "<think>a", true},
		{"tags kept", schemas.Generation{Text: "<think>a", FinishReason: "stop"}, false, "<think>a", false},
		{"special tokens", schemas.Generation{Text: "a</s>", FinishReason: "stop"}, true, "a", false},
		{"special tokens, tags kept", schemas.Generation{Text: "a <|im_end|>\n<|endoftext|>", FinishReason: "eos"}, false, "a", false},
		{"special tokens behind thoughts", schemas.Generation{Text: "<think>b</think>a<|eot_id|>", FinishReason: "stop"}, true, "a", false},
		{"struck out", schemas.Generation{Text: "<s>old</s>", FinishReason: "stop"}, true, "<s>old</s>", false},
		{"another word for a cut", schemas.Generation{Text: "a", FinishReason: "MAX_TOKENS"}, true, "a", true},
		{"an unknown word", schemas.Generation{Text: "a", FinishReason: "odd"}, true, "a", true},
		{"unclosed", schemas.Generation{Text: "<think>a", FinishReason: "stop"}, true, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, _, cut := ReadText(tt.g, tt.strip)
			if text != tt.want || cut != tt.cut {
				t.Errorf("got %q, %v; want %q, %v", text, cut, tt.want, tt.cut)
			}
		})
	}
}

func FuzzStripReasoning(f *testing.F) {
	for _, seed := range []string{
		"", "Paris.", "<think>a</think>b", "a</think>b", "<think>a", "<thinking>a</think>b",
		"<th<think>a</think>ink>b</think>", "</think></think>", "<think><think></think>\xff",
	} {
		f.Add(seed, "kept")
	}
	f.Fuzz(func(t *testing.T, in, kept string) {
		text, reasoning, cut := StripReasoning(schemas.Generation{Text: in, Reasoning: kept})
		if utf8.ValidString(in) && utf8.ValidString(kept) && !(utf8.ValidString(text) && utf8.ValidString(reasoning)) {
			t.Errorf("%q, %q: invalid UTF-8 in %q, %q", in, kept, text, reasoning)
		}
		if len(text) > len(in) {
			t.Errorf("%q: the text grew to %q", in, text)
		}
		again, thoughts, cutAgain := StripReasoning(schemas.Generation{Text: text})
		if again != text || thoughts != "" || cutAgain {
			t.Errorf("%q: stripped again, %q became %q, %q, %v (first cut %v)", in, text, again, thoughts, cutAgain, cut)
		}
	})
}

func TestMoreReasoningTags(t *testing.T) {
	g := schemas.Generation{Text: "<analysis>a</analysis>b ((plan)) c ((done))d"}
	text, reasoning, cut := StripReasoning(g, "<analysis>", "((plan)) ((done))")
	if text != "b d" || reasoning != "a\n\nc" || cut {
		t.Errorf("got %q, %q, %v", text, reasoning, cut)
	}
	if text, _, _ := StripReasoning(g); text != g.Text {
		t.Errorf("without the tags got %q", text)
	}
	g.Text = "BEGIN_PLAN a END_PLAN\nb"
	if text, reasoning, _ := StripReasoning(g, "BEGIN_PLAN END_PLAN"); text != "b" || reasoning != "a" {
		t.Errorf("with tags without brackets got %q, %q", text, reasoning)
	}
	for _, tag := range []string{"", "<", "a b c", "x x"} {
		if err := ValidateReasoningTags([]string{"<a>", tag}); err == nil {
			t.Errorf("%q is allowed", tag)
		}
	}
}

func TestUnknownThoughts(t *testing.T) {
	for text, want := range map[string]string{
		"<analysis>\na\n</analysis>\nParis.": "<analysis>", "[PLAN]a[/PLAN] b": "[PLAN]", " <|reason|>a<|/reason|>b": "<|reason|>",
		"<think>a</think>b": "", "<b>bold</b>": "", "<p>a": "", "Paris.": "", "<mine>a</mine>b": "",
	} {
		got, ok := UnknownThoughts(text, "<mine>")
		if got != want && ok || ok != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", text, got, ok, want)
		}
	}
}

// Thoughts in the tags of more models and languages are taken out, and so are the tokens that open
// the answer after them.
func TestThoughtsOfMoreModels(t *testing.T) {
	const answer = "The sky is blue."
	for _, text := range []string{
		"<think>a</think>" + answer,
		"<THINKING>a</THINKING>\n" + answer,
		"[THINK]a[/THINK]" + answer,
		"<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>" + answer + "<|END_RESPONSE|>",
		"<|thought_start|>a<|thought_end|>" + answer,
		"<|think|>a<|/think|>" + answer,
		"<unused94>thought\na<unused95>" + answer,
		"<|inner_prefix|>a<|inner_suffix|>" + answer,
		"<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>" + answer + "<|end_of_solution|>",
		"◁think▷a◁/think▷" + answer,
		"<seed:think>a</seed:think>" + answer,
		"<think type=\"x\">a</think>" + answer,
		"< think >a</ think >" + answer,
		"<think>a</think\n>" + answer,
		"<think\n>a</think>" + answer,
		"<think>a</THINK>" + answer,
		"a\n</think>\n\n" + answer,
		"<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>" + answer + "<|return|>",
		"analysisaassistantfinal" + answer,
		"<｜think｜>a<｜/think｜>" + answer,
		"《思考》a《/思考》" + answer,
		"【思考】a【/思考】" + answer,
		"（思考）a（/思考）" + answer,
		"<思考>a</思考>" + answer,
		"<reasoning_content>a</reasoning_content>" + answer,
		"<internal_monologue>a</internal_monologue>" + answer,
		"<thinking_process>a</thinking_process>" + answer,
		"<thought_process>a</thought_process>" + answer,
		"<chain_of_thought>a</chain_of_thought>" + answer,
		"<cot>a</cot>" + answer,
		"<CoT>a</CoT>" + answer,
		"<scratchpad>a</scratchpad>" + answer,
		"<inner_thought>a</inner_thought>" + answer,
		"<antThinking>a</antThinking>" + answer,
		"<thinking>a</thinking>" + answer,
		"<|think_start|>a<|think_end|>" + answer,
		"<think_start>a<think_end>" + answer,
		"<start_think>a<end_think>" + answer,
		"<think>a</think><think>b</think>" + answer,
		"<|assistant|><think>a</think>" + answer,
		"<Gedanken>a</Gedanken>" + answer,
		"<pensée>a</pensée>" + answer,
		"<pensamiento>a</pensamiento>" + answer,
		"<pensamento>a</pensamento>" + answer,
		"<تفكير>a</تفكير>" + answer,
		"<विचार>a</विचार>" + answer,
		"<推理>a</推理>" + answer,
	} {
		if got, _, cut := ReadText(schemas.Generation{Text: text, FinishReason: "stop"}, true); got != answer || cut {
			t.Errorf("%q: got %q, cut %t", text, got, cut)
		}
	}
}
