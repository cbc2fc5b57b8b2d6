package openai

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"coeval/transforms/stage"
)

// The pattern matches texts that end in a verdict, and no others.
func TestVerdictPattern(t *testing.T) {
	v := stage.Verdict{Label: "Score", Values: []string{"0", "0.5", "5"}}
	pattern := regexp.MustCompile("^(?:" + pattern(&v, 1000) + ")$")
	thousand := strings.Repeat("é", 1000)
	for text, want := range map[string]bool{
		"Good.\nIt is.\n\nScore: 0.5": true,
		"\nScore: 5":                  true,
		"Score: 5\nScore: 0":          true,
		thousand + "\nScore: 5":       true,
		"x" + thousand + "\nScore: 5": false,
		"Good. Score: 5":              false,
		"\nScore: 0x5":                false,
		"\nScore: 4":                  false,
		"\nScore: 5 or so":            false,
		"Good.":                       false,
	} {
		if pattern.MatchString(text) != want {
			t.Errorf("%.60q: taken is %t", text, !want)
		}
	}
	// The rules are in llama.cpp's grammars/README.md. make llm shows that a server accepts it.
	if got, want := grammar(&v, 10), `root ::= [^\x7F]{0,10} "\nScore: " ("0" | "0.5" | "5")`; got != want {
		t.Errorf("the grammar is %s, want %s", got, want)
	}
	for _, reasoning := range []int{0, 10} {
		var made struct {
			Properties map[string]any `json:"properties"`
			Required   []string       `json:"required"`
		}
		if err := json.Unmarshal([]byte(schema(&v, reasoning)), &made); err != nil || len(made.Properties) != len(made.Required) {
			t.Errorf("schema %s: %v", schema(&v, reasoning), err)
		}
	}
}

func TestTrapped(t *testing.T) {
	for text, want := range map[string]bool{
		"\nZebra: 417": true, "Zebra: 417\n": true, `{"zebra": "417"}`: true,
		"OK": false, "": false, "Zebra: 41": false, `{"zebra": 417}`: false, `{"zebra"`: false, "I say Zebra: 417": false,
	} {
		if Trapped(text) != want {
			t.Errorf("%q: trapped is %t", text, !want)
		}
	}
}

func TestReadGauges(t *testing.T) {
	tests := []struct {
		name, page       string
		running, waiting float64
		ok               bool
	}{
		{"vLLM, two engines", "# HELP vllm:num_requests_running x\nvllm:num_requests_running{engine=\"0\",model_name=\"a b\"} 3.0\nvllm:num_requests_running{engine=\"1\"} 4.0\n" +
			"vllm:num_requests_waiting{engine=\"0\"} 1.0\nvllm:num_requests_waiting{engine=\"1\"} 5e0 1700000000000\nvllm:num_requests_waiting_by_reason{reason=\"x\"} 9\n", 7, 6, true},
		{"SGLang", "sglang:num_running_reqs{model_name=\"m}{\"} 2\r\nsglang:num_queue_reqs{model_name=\"m\"} 0\n", 2, 0, true},
		{"llama.cpp", "llamacpp:requests_processing 4\nllamacpp:requests_deferred 11\n", 4, 11, true},
		{"only one of two", "llamacpp:requests_processing 4\n", 4, 0, false},
		{"another's", "process_open_fds 4\n", 0, 0, false},
		{"no number", "llamacpp:requests_processing NaN\nllamacpp:requests_deferred -1\n", 0, 0, false},
		{"a web page", "<html><body>llamacpp:requests_processing</body></html>", 0, 0, false},
		{"nothing", "", 0, 0, false},
	}
	for _, tt := range tests {
		running, waiting, ok := ReadGauges([]byte(tt.page))
		if running != tt.running || waiting != tt.waiting || ok != tt.ok {
			t.Errorf("%s: got %g, %g, %t; want %g, %g, %t", tt.name, running, waiting, ok, tt.running, tt.waiting, tt.ok)
		}
	}
}

func FuzzReadGauges(f *testing.F) {
	f.Add([]byte("vllm:num_requests_running{engine=\"0\"} 3.0\nvllm:num_requests_waiting 1\n"))
	f.Add([]byte("llamacpp:requests_processing 4\nllamacpp:requests_deferred 1e400\n"))
	f.Fuzz(func(t *testing.T, page []byte) {
		running, waiting, ok := ReadGauges(page)
		if ok && !(running >= 0 && waiting >= 0 && running < 1e15 && waiting < 1e15) {
			t.Errorf("got %g running and %g waiting", running, waiting)
		}
	})
}
