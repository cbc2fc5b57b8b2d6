package conversation

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// render writes messages as S: system, U: user, A: assistant.
func render(t *testing.T, line string, o Options) string {
	t.Helper()
	p, r, failure := Parse([]byte(line), o)
	if failure != nil {
		return failure.Code + ": " + failure.Message
	}
	var parts []string
	for _, m := range p.Messages {
		parts = append(parts, strings.ToUpper(m.Role[:1])+": "+m.Content)
	}
	text := strings.Join(parts, " | ") + " <" + r.Form + ">"
	if r.AnswerDropped {
		text += " answer dropped"
	}
	if len(r.Unused) > 0 {
		text += " unused " + strings.Join(r.Unused, ",")
	}
	return text
}

// The usual corpora, each with the reading that is right.
var formats = []struct{ name, line, want string }{
	{
		"Alpaca", `{"instruction":"Add.","input":"1 2","output":"3"}`,
		"U: Add.\n\n1 2 <instruction + input>",
	},
	{
		"Alpaca with history and system", `{"system":"Be brief.","instruction":"And 3?","input":"","output":"6","history":[["1+1?","2"],["+1?","3"]]}`,
		"S: Be brief. | U: 1+1? | A: 2 | U: +1? | A: 3 | U: And 3? <instruction + history + system>",
	},
	{
		"Dolly", `{"instruction":"When?","context":"In 1815, Waterloo.","response":"1815","category":"closed_qa"}`,
		"U: When?\n\nIn 1815, Waterloo. <instruction + context>",
	},
	{"Dolly without context", `{"instruction":"When?","context":"","response":"1815"}`, "U: When? <instruction>"},
	{
		"OpenOrca", `{"id":"niv.1","system_prompt":"You are kind.","question":"Why?","response":"So."}`,
		"S: You are kind. | U: Why? <question + system_prompt>",
	},
	{"OpenOrca without system", `{"id":"niv.1","system_prompt":"","question":"Why?","response":"So."}`, "U: Why? <question>"},
	{"Orca DPO", `{"system":"Help.","question":"Why?","chosen":"So.","rejected":"No."}`, "S: Help. | U: Why? <question + system>"},
	{"distilabel", `{"system":"Help.","input":"Why?","chosen":"So.","rejected":"No.","generations":["So.","No."]}`, "S: Help. | U: Why? <input + system>"},
	{"UltraFeedback", `{"source":"x","instruction":"Why?","models":["a"],"completions":[{"response":"So."}]}`, "U: Why? <instruction>"},
	{
		"UltraFeedback binarized", `{"prompt":"Why?","prompt_id":"p","chosen":[{"content":"Why?","role":"user"},{"content":"So.","role":"assistant"}],"messages":[{"content":"Why?","role":"user"}],"score_chosen":8.5}`,
		"U: Why? <prompt> unused messages",
	},
	{
		"no_robots", `{"prompt":"Why?","prompt_id":"p","messages":[{"content":"Why?","role":"user"},{"content":"So.","role":"assistant"}],"category":"QA"}`,
		"U: Why? <prompt> unused messages",
	},
	{
		"messages as JSON", `{"messages":"[{\"role\": \"system\", \"content\": \"Help.\"}, {\"role\": \"user\", \"content\": \"Why?\"}]"}`,
		"S: Help. | U: Why? <messages as JSON>",
	},
	{"prompt as JSON", `{"prompt":" [{\"from\":\"human\",\"value\":\"Why?\"}]\n"}`, "U: Why? <prompt as JSON>"},
	{"a prompt that is a list of numbers", `{"prompt":"[3, 1, 2]"}`, "U: [3, 1, 2] <prompt>"},
	{"a prompt that is a list of objects", `{"prompt":"[{\"a\": 1}]"}`, `U: [{"a": 1}] <prompt>`},
	{"a prompt that begins with a bracket", `{"prompt":"['a'] is what?"}`, "U: ['a'] is what? <prompt>"},
	{
		"messages as Python", `{"messages":"[{'role': 'user', 'content': 'Why?'}]"}`,
		"no_prompt: field messages is a string that begins like a list and is no JSON, as Python's str() makes it; write it with json.dumps",
	},
	{"messages as text", `{"messages":"Why?"}`, "U: Why? <messages>"},
	{
		"ShareGPT", `{"id":"s","system":"Help.","conversations":[{"from":"human","value":"Why?"},{"from":"gpt","value":"So."},{"from":"human","value":"Oh?"},{"from":"chatgpt","value":"Yes."}]}`,
		"S: Help. | U: Why? | A: So. | U: Oh? <conversations + system> answer dropped",
	},
	{
		"ShareGPT with its own system", `{"system":"Other.","conversations":[{"from":"system","value":"Help."},{"from":"human","value":"Why?"}]}`,
		"S: Help. | U: Why? <conversations> unused system",
	},
	{"LIMA", `{"conversations":["Why?","So."],"source":"x"}`, "U: Why? <conversations> answer dropped"},
	{
		"WildChat", `{"conversation_hash":"h","model":"gpt-4","turn":1,"conversation":[{"content":"Why?","role":"user","language":"English","toxic":false},{"content":"So.","role":"assistant","redacted":false}],"toxic":false}`,
		"U: Why? <conversation> answer dropped",
	},
	{
		"LMSYS", `{"conversation_id":"c","model":"vicuna","conversation":[{"content":"Why?","role":"user"},{"content":"So.","role":"assistant"},{"content":"Oh?","role":"user"}],"turn":2}`,
		"U: Why? | A: So. | U: Oh? <conversation>",
	},
	{
		"Chatbot Arena", `{"question_id":"q","winner":"model_a","conversation_a":[{"content":"Why?","role":"user"},{"content":"So.","role":"assistant"}],"conversation_b":[{"content":"Why?","role":"user"}]}`,
		"U: Why? <conversation_a> answer dropped",
	},
	{"UltraChat", `{"id":"0","data":["Why?","So.","Oh?","Yes."]}`, "U: Why? | A: So. | U: Oh? <data> answer dropped"},
	{"data that is no chat", `{"data":[1,2],"query":"Why?"}`, "U: Why? <query>"},
	{"Capybara", `{"source":"x","conversation":[{"input":"Why?","output":"So."},{"input":"Oh?","output":"Yes."}]}`, "U: Why? | A: So. | U: Oh? <conversation> answer dropped"},
	{"MT-Bench", `{"question_id":81,"category":"writing","turns":["Write.","Now shorter."]}`, "U: Write. <turns> unused turns after the first"},
	{"Arena-Hard", `{"question_id":"q","cluster":"c","turns":[{"content":"Write."}]}`, "U: Write. <turns>"},
	{"turns with roles", `{"turns":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`, "U: a | A: b | U: c <turns>"},
	{
		"HH", `{"chosen":"\n\nHuman: What is it?\n\nAssistant: A bird.\n\nHuman: Which one?\n\nAssistant: A jay.","rejected":"\n\nHuman: What is it?\n\nAssistant: No."}`,
		"U: What is it? | A: A bird. | U: Which one? <chosen as a transcript> answer dropped",
	},
	{"Nectar", `{"prompt":"\n\nHuman: Why?\n\nMore?\n\nAssistant: ","answers":[]}`, "U: Why?\n\nMore? <prompt as a transcript>"},
	{"Guanaco", `{"text":"### Human: Why?### Assistant: So.### Human: Oh?### Assistant: Yes."}`, "U: Why? | A: So. | U: Oh? <text as a transcript> answer dropped"},
	{"a question about humans", `{"prompt":"Human: a being.\n\nWhat is it?"}`, "U: Human: a being.\n\nWhat is it? <prompt>"},
	{"chosen as messages", `{"chosen":[{"role":"user","content":"Why?"},{"role":"assistant","content":"So."}],"rejected":[]}`, "U: Why? <chosen> answer dropped"},
	{"chosen alone", `{"chosen":"So.","rejected":"No."}`, "no_prompt: no field with a prompt was found; the line has chosen, rejected; name the field in prompts.field"},
	{
		"OpenAI batch", `{"custom_id":"r-1","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"developer","content":"Help."},{"role":"user","content":[{"type":"text","text":"Why?"},{"type":"text","text":"Now?"}]}]}}`,
		"S: Help. | U: Why?\nNow? <body.messages>",
	},
	{"Anthropic batch", `{"custom_id":"r","params":{"system":"Help.","messages":[{"role":"user","content":"Why?"}]}}`, "S: Help. | U: Why? <params.messages + system>"},
	{
		"Gemini batch", `{"request":{"systemInstruction":{"parts":[{"text":"Help."}]},"contents":[{"role":"user","parts":[{"text":"Why?"}]},{"role":"model","parts":[{"text":"So."}]}]}}`,
		"S: Help. | U: Why? <request.contents + systemInstruction> answer dropped",
	},
	{"Argilla", `{"id":"a","fields":{"instruction":"Why?","context":"Because."},"metadata":{}}`, "U: Why?\n\nBecause. <fields.instruction + context>"},
	{"OpenAssistant, first message", `{"message_id":"m","parent_id":null,"role":"prompter","text":"Why?"}`, "U: Why? <text>"},
	{
		"OpenAssistant, a reply", `{"message_id":"n","parent_id":"m","role":"assistant","text":"So."}`,
		"no_prompt: the line is one message of a tree (role assistant) and no first question; write a conversation a line, as a list of messages",
	},
	{"OpenAssistant, a tree", `{"message_tree_id":"t","prompt":{"message_id":"m","text":"Why?","role":"prompter","replies":[]}}`, "U: Why? <prompt>"},
	{"query", `{"query":"Why?","response":"So."}`, "U: Why? <query>"},
	{"two that may be it", `{"query":"Why?","problem":"How?"}`, "no_prompt: query and problem may each be the prompt; name the one in prompts.field"},
	{"input of a prompt", `{"prompt":"Sing.","input":"x","context":"y","choices":["a"]}`, "U: Sing. <prompt> unused choices,context,input"},
	{
		"roles in capitals", `{"messages":[{"role":"System","content":"Help."},{"role":"HUMAN","content":"Why?"},{"role":"Bot","content":"So."},{"role":" User ","content":"Oh?"}]}`,
		"S: Help. | U: Why? | A: So. | U: Oh? <messages>",
	},
	{
		"a call of a tool", `{"messages":[{"role":"user","content":"Hot?"},{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"heat"}}]},{"role":"tool","tool_call_id":"1","content":"22"},{"role":"assistant","content":"No."}]}`,
		`U: Hot? | A: [{"function":{"name":"heat"}}] | U: Result of a tool:` + "\n22 <messages> answer dropped",
	},
	{
		"two calls", `{"messages":[{"role":"user","content":"Hot?"},{"role":"assistant","tool_calls":[1]},{"role":"tool","content":"22"},{"role":"function","name":"f","content":"23"}]}`,
		"U: Hot? | A: [1] | U: Result of a tool:\n22\n\n23 <messages>",
	},
	{"an answer that is null", `{"messages":[{"role":"user","content":"Hot?"},{"role":"assistant","content":null}]}`, "U: Hot? <messages> answer dropped"},
	{"a call at the end", `{"messages":[{"role":"user","content":"Hot?"},{"role":"assistant","content":"","tool_calls":[1]}]}`, "U: Hot? <messages> answer dropped"},
	{"an image", `{"messages":[{"role":"user","content":[{"type":"text","text":"What?"},{"type":"image_url","image_url":{"url":"x"}}]}]}`, "no_prompt: message 1 of field messages has a part of the type image_url; only text is supported"},
	{"a name in capitals", `{"Question":"Why?","Best Answer":"So."}`, "U: Why? <Question>"},
	{"camel case", `{"userPrompt":"Why?","systemPrompt":"Help."}`, "S: Help. | U: Why? <userPrompt + system_prompt>"},
	{"a name with spaces", `{" User Prompt ":"Why?"}`, "U: Why? < User Prompt >"},
	{
		"HelpSteer3", `{"domain":"general","context":[{"role":"user","content":"Why?"},{"role":"assistant","content":"So."},{"role":"user","content":"Oh?"}],"response1":"a"}`,
		"U: Why? | A: So. | U: Oh? <context>",
	},
	{"Red team", `{"transcript":"\n\nHuman: Why?\n\nAssistant: So.\n\n","rating":1}`, "U: Why? <transcript as a transcript> answer dropped"},
	{"Chatbot Arena of Kaggle", `{"prompt":"[\"Why?\",\"Oh?\"]","response_a":"[\"So.\",\"Yes.\"]"}`, "U: Why? <prompt as JSON> unused prompt after the first"},
	{"one prompt in a list", `{"prompt":["Why?"]}`, "U: Why? <prompt>"},
	{
		"turns of Hugging Face", `{"conversations":{"from":["human","gpt","human"],"value":["Why?","So.","Oh?"]}}`,
		"U: Why? | A: So. | U: Oh? <conversations>",
	},
	{"OpenAI evals", `{"input":[{"role":"system","content":"Help."},{"role":"user","content":"Why?"}],"ideal":"So."}`, "S: Help. | U: Why? <input>"},
	{"OpenAI DPO", `{"input":{"messages":[{"role":"user","content":"Why?"}],"tools":[]},"preferred_output":[{"role":"assistant","content":"So."}]}`, "U: Why? <input.messages>"},
	{
		"Responses API", `{"custom_id":"r","body":{"model":"m","instructions":"Help.","input":[{"role":"user","content":[{"type":"input_text","text":"Why?"}]}]}}`,
		"S: Help. | U: Why? <body.input + instructions>",
	},
	{"Responses API, a text", `{"body":{"instructions":"Help.","input":"Why?"}}`, "S: Help. | U: Why? <body.input + instructions>"},
	{"Bedrock batch", `{"recordId":"1","modelInput":{"system":"Help.","messages":[{"role":"user","content":[{"type":"text","text":"Why?"}]}]}}`, "S: Help. | U: Why? <modelInput.messages + system>"},
	{"LangSmith", `{"inputs":{"question":"Why?"},"outputs":{"answer":"So."}}`, "U: Why? <inputs.question>"},
	{"datasets-server", `{"row_idx":0,"row":{"prompt":"Why?"},"truncated_cells":[]}`, "U: Why? <row.prompt>"},
	{"promptfoo", `{"vars":{"prompt":"Why?"},"assert":[]}`, "U: Why? <vars.prompt>"},
	{"WebGPT", `{"question":{"dataset":"eli5","full_text":"Why?"},"answer_0":"So."}`, "U: Why? <question>"},
	{
		"Cohere", `{"message":"Oh?","chat_history":[{"role":"USER","message":"Why?"},{"role":"CHATBOT","message":"So."}],"preamble":"Help."}`,
		"S: Help. | U: Why? | A: So. | U: Oh? <message + chat_history + preamble>",
	},
	{"SHP", `{"post_id":"p","domain":"askscience","history":"Why?","human_ref_A":"So.","human_ref_B":"No.","labels":1}`, "U: Why? <history>"},
	{"a user and an assistant", `{"system":"Help.","user":"Why?","assistant":"So."}`, "S: Help. | U: Why? <user + system>"},
	{"a user's ID", `{"user":"u-17","query":"Why?"}`, "U: Why? <query>"},
	{"rare fields", `{"goal":"Why?","behavior":"How?"}`, "no_prompt: goal and behavior may each be the prompt; name the one in prompts.field"},
	{"history of a prompt", `{"prompt":"Oh?","history":[["Why?","So."]]}`, "U: Why? | A: So. | U: Oh? <prompt + history>"},
	{"a history alone", `{"chat_history":[{"role":"user","content":"Why?"}]}`, "U: Why? <chat_history>"},
	{"a string", `"Why?"`, "U: Why? <prompt>"},
	{"a list of messages", `[{"role":"user","content":"Why?"},{"role":"assistant","content":"So."}]`, "U: Why? <conversations> answer dropped"},
	{"author", `{"messages":[{"author":"user","content":"Why?"},{"author":"gpt-4o","content":"So."}]}`, "U: Why? <messages> answer dropped"},
	{
		"ChatML", `{"text":"<|im_start|>system\nHelp.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>\n"}`,
		"S: Help. | U: Why? <text as a transcript> answer dropped",
	},
	{"ChatML, to be answered", `{"prompt":"<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"}`, "U: Why? <prompt as a transcript>"},
	{"Llama 2", `{"text":"<s>[INST] <<SYS>>\nHelp.\n<</SYS>>\n\nWhy? [/INST] So. </s><s>[INST] Oh? [/INST] Yes. </s>"}`, "S: Help. | U: Why? | A: So. | U: Oh? <text as a transcript> answer dropped"},
	{
		"Llama 3", `{"prompt":"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"}`,
		"U: Why? <prompt as a transcript>",
	},
	{"Gemma", `{"text":"<bos><start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\nSo.<end_of_turn>\n"}`, "U: Why? <text as a transcript> answer dropped"},
	{"Zephyr", `{"text":"<|system|>\n</s>\n<|user|>\nWhy?</s>\n<|assistant|>\nSo.</s>"}`, "U: Why? <text as a transcript> answer dropped"},
	{"DeepSeek", `{"prompt":"<｜begin▁of▁sentence｜><｜User｜>Why?<｜Assistant｜>"}`, "U: Why? <prompt as a transcript>"},
	{
		"Alpaca's template", `{"text":"Below is an instruction that describes a task.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3"}`,
		"U: Add.\n\n1 2 <text as a transcript> answer dropped",
	},
	{"Vicuna", `{"prompt":"A chat between a user and an assistant. USER: Why? ASSISTANT:"}`, "U: Why? <prompt as a transcript>"},
	{"BELLE", `{"instruction":"Human:Why?\nAssistant:So.\nHuman:Oh?\nAssistant:","output":"Yes."}`, "U: Why? | A: So. | U: Oh? <instruction as a transcript>"},
	{"HelpSteer, several turns", `{"prompt":"Why?\n<extra_id_1>Assistant\nSo.\n<extra_id_1>User\nOh?","response":"Yes."}`, "U: Why? | A: So. | U: Oh? <prompt as a transcript>"},
	{"Baize", `{"input":"The conversation between human and AI assistant.\n[|Human|] Why?\n[|AI|] So.\n[|Human|] "}`, "U: Why? <input as a transcript> answer dropped"},
	{
		"gpt-oss", `{"prompt":"<|start|>system<|message|>Help.<|end|><|start|>user<|message|>Why?<|end|><|start|>assistant<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>So.<|end|><|start|>user<|message|>Oh?<|end|><|start|>assistant"}`,
		"S: Help. | U: Why? | A: So. | U: Oh? <prompt as a transcript>",
	},
	{"Mistral with a system message", `{"text":"<s>[SYSTEM_PROMPT]Help.[/SYSTEM_PROMPT][INST]Why?[/INST]So.</s>"}`, "S: Help. | U: Why? <text as a transcript> answer dropped"},
	{"Phi-4", `{"prompt":"<|im_start|>system<|im_sep|>Help.<|im_end|><|im_start|>user<|im_sep|>Why?<|im_end|><|im_start|>assistant<|im_sep|>"}`, "S: Help. | U: Why? <prompt as a transcript>"},
	{"Kimi", `{"prompt":"<|im_user|>user<|im_middle|>Why?<|im_end|><|im_assistant|>assistant<|im_middle|>"}`, "U: Why? <prompt as a transcript>"},
	{"Command R", `{"prompt":"<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Why?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"}`, "U: Why? <prompt as a transcript>"},
	{"OpenChat", `{"prompt":"GPT4 Correct User: Why?<|end_of_turn|>GPT4 Correct Assistant:"}`, "U: Why? <prompt as a transcript>"},
	{"GLM", `{"prompt":"[gMASK]<sop><|user|>\nWhy?<|assistant|>\n"}`, "U: Why? <prompt as a transcript>"},
	{"DeepSeek with a system message", `{"prompt":"<｜begin▁of▁sentence｜>Help.<｜User｜>Why?<｜Assistant｜>"}`, "S: Help. | U: Why? <prompt as a transcript>"},
	{"DeepSeek's tokens in a question", `{"prompt":"What does <｜User｜> mean?"}`, "U: What does <｜User｜> mean? <prompt>"},
	{"Glaive", `{"chat":"USER: Hi\n\n\nASSISTANT: Hello <|endoftext|>\n\n\nUSER: Why?\n\n\nASSISTANT: So. <|endoftext|>"}`, "U: Hi | A: Hello | U: Why? <chat as a transcript> answer dropped"},
	{"an unknown template", `{"prompt":"<|new_turn|>user Why?"}`, "U: <|new_turn|>user Why? <prompt beginning with <|new_turn|>>"},
	{"a system message that is blank", `{"messages":[{"role":"system","content":" "},{"role":"user","content":"Why?"}]}`, "U: Why? <messages>"},
	{
		"LangChain", `{"messages":[{"type":"system","data":{"content":"Help."}},{"type":"human","data":{"content":"Why?"}},{"type":"ai","data":{"content":"So."}}]}`,
		"S: Help. | U: Why? <messages> answer dropped",
	},
	{"types as roles", `{"messages":[{"type":"human","content":"Why?"},{"type":"ai","content":"So."}]}`, "U: Why? <messages> answer dropped"},
	{"ChatGPT's authors", `{"messages":[{"author":{"role":"user"},"content":{"content_type":"text","parts":["Why?"]}}]}`, "U: Why? <messages>"},
	{
		"Anthropic's tools and thoughts", `{"messages":[{"role":"user","content":"Hot?"},{"role":"assistant","content":[{"type":"thinking","thinking":"Hm."},{"type":"tool_use","name":"heat"}]},{"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"22"}]}]}]}`,
		`U: Hot? | A: {"type":"tool_use","name":"heat"} | U: Result of a tool:` + "\n22 <messages>",
	},
	{
		"a dialog with a system", `{"turns":[{"speaker":"USER","utterance":"Why?"},{"speaker":"SYSTEM","utterance":"So."},{"speaker":"USER","utterance":"Oh?"}]}`,
		"U: Why? | A: So. | U: Oh? <turns>",
	},
	{"students and teachers", `{"conversations":[{"from":"student","value":"Why?"},{"from":"teacher","value":"So."}]}`, "U: Why? <conversations> answer dropped"},
	{"messages in the prompt", `{"prompt":{"messages":[{"role":"user","content":"Why?"}]}}`, "U: Why? <prompt.messages>"},
	{"a thread", `{"thread":[{"role":"prompter","text":"Why?"},{"role":"assistant","text":"So."}]}`, "U: Why? <thread> answer dropped"},
	{"Natural Instructions", `{"Definition":["Given x, do y."],"Input":"x","Context String":"c"}`, "U: x <Input> unused Context String,Definition"},
	{"a template in a question", `{"prompt":"What does <|im_start|>user\nmean?"}`, "U: What does <|im_start|>user\nmean? <prompt>"},
	{"a heading of instructions", `{"prompt":"### Instruction:\nAdd 1 and 2."}`, "U: ### Instruction:\nAdd 1 and 2. <prompt>"},
	{"no user", `{"messages":[{"role":"assistant","content":"So."}]}`, "last_not_user: field messages has no message from the user; a prompt ends with the user"},
	{"NaN", `{"prompt":"NaN, Infinity \" NaN","score":NaN,"low":-Infinity,"list":[Infinity,-1,1e5]}`, `U: NaN, Infinity " NaN <prompt>`},
	{"a word that is no number", `{"prompt":"a","score":Nan}`, "bad_json: the line is not a JSON object: "},
	{"control characters in names", `{"a\u001b[2J\u202e":1}`, "no_prompt: no field with a prompt was found; the line has a␛[2J⟨U+202E⟩; name the field in prompts.field"},
}

func TestFormats(t *testing.T) {
	for _, test := range formats {
		got := render(t, test.line, Options{})
		if strings.HasSuffix(test.want, ": ") {
			got = got[:min(len(got), len(test.want))]
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// prompts.field is any path.
func TestField(t *testing.T) {
	const line = `{"a":{"b":{"messages":[{"role":"user","content":"x"}],"n":1},"c":"y"},"turns":[{"content":"z"},{"content":"w"}],"dot.ted":"d","prompt":"p"}`
	for field, want := range map[string]string{
		"a.b.messages":            `U: x <a.b.messages> {"a":{"b":{"n":1},"c":"y"},"dot.ted":"d","prompt":"p","turns":[{"content":"z"},{"content":"w"}]}`,
		"a.c":                     `U: y <a.c> {"a":{"b":{"messages":[{"content":"x","role":"user"}],"n":1}},"dot.ted":"d","prompt":"p","turns":[{"content":"z"},{"content":"w"}]}`,
		"turns[1].content":        `U: w <turns.1.content> {"a":{"b":{"messages":[{"content":"x","role":"user"}],"n":1},"c":"y"},"dot.ted":"d","prompt":"p","turns":[{"content":"z"},{"content":"w"}]}`,
		"turns.0":                 `U: z <turns.0> {"a":{"b":{"messages":[{"content":"x","role":"user"}],"n":1},"c":"y"},"dot.ted":"d","prompt":"p","turns":[{"content":"z"},{"content":"w"}]}`,
		"dot.ted":                 `U: d <dot.ted> {"a":{"b":{"messages":[{"content":"x","role":"user"}],"n":1},"c":"y"},"prompt":"p","turns":[{"content":"z"},{"content":"w"}]}`,
		"a.b.n":                   "no field a.b.n with a string or a list of messages; the line has a, dot.ted, prompt, turns",
		"a.x.y":                   "no field a.x.y with a string or a list of messages",
		"turns[9]":                "no field turns[9] with a string or a list of messages",
		"...":                     "no field ... with a string or a list of messages",
		"prompt.x":                "no field prompt.x with a string or a list of messages",
		strings.Repeat("a.", 500): "no field a.a.a.",
	} {
		p, r, failure := Parse([]byte(line), Options{Field: field})
		var got string
		if failure != nil {
			got = failure.Message
		} else {
			got = fmt.Sprintf("U: %s <%s> %s", p.Messages[0].Content, r.Form, p.Metadata)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s:\ngot  %s\nwant %s", field, got, want)
		}
	}
}

// Nesting costs no more than the line.
func TestDeepNesting(t *testing.T) {
	const depth = 300_000
	for _, line := range []string{
		`{"prompt":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`,
		`{"prompt":"a","x":` + strings.Repeat(`{"y":`, depth) + "1" + strings.Repeat("}", depth) + `}`,
		strings.Repeat(`{"body":`, depth),
	} {
		if _, _, failure := Parse([]byte(line), Options{}); failure == nil || failure.Code != BadJSON || len(failure.Message) > 1000 {
			t.Errorf("%.40s…: %+v, want bad JSON", line, failure)
		}
	}
	body := strings.Repeat(`{"body":`, 100) + `{"prompt":"a"}` + strings.Repeat("}", 100)
	if _, _, failure := Parse([]byte(body), Options{}); failure == nil || failure.Code != NoPrompt {
		t.Errorf("a body in a body in a body …: %+v, want no prompt", failure)
	}
}
