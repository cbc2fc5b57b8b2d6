package answers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/schemas"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// In every form of file an answer has the ID of the prompt that a run reads.
func TestRead(t *testing.T) {
	id := schemas.PromptID([]schemas.Message{{Role: "user", Content: "Why?"}})
	for name, text := range map[string]string{
		"alpaca-eval.json": `[{"dataset": "helpful_base", "instruction": "Why?", "output": " So.\n", "generator": "m"}]`,
		"arena-hard.jsonl": `{"uid": "u", "prompt": "Why?", "answer": "So.", "model": "m"}`,
		"chat.jsonl":       `{"messages": [{"role": "user", "content": "Why?"}], "response": "So.", "model_id": "m"}`,
		"table.csv":        "prompt,completion,model\nWhy?,So.,m\n",
	} {
		got, err := Read(t.Context(), write(t, name, text))
		if err != nil || len(got) != 1 || got[0].Prompt.ID != id || got[0].Text != "So." || got[0].Model != "m" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestProblems(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"none":      {"\n", "the file has no answer"},
		"no answer": {`{"prompt": "a", "output": " "}`, ":1: there is no answer; give it in one of the fields output, answer, response, completion, generation"},
		"no text":   {`{"prompt": "a", "output": 5}`, ":1: there is no answer"},
		"no prompt": {`{"output": "b"}`, ":1: no field with a prompt was found; the line has output"},
		"twice":     {`{"prompt": "a", "output": "b"}` + "\n" + `{"prompt": "a", "output": "c"}`, ":2: the prompt has an answer in line 1 already; give one answer a prompt"},
		"many":      {strings.Repeat("{}\n", 25), "5 more problems like these"},
	} {
		got, err := Read(t.Context(), write(t, "a.jsonl", test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) || len(got) > 0 {
			t.Errorf("%s: %v and %d answers, want an error with %q", name, err, len(got), test.want)
		}
	}
}
