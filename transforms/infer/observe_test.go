package infer

import "testing"

func TestParseGauges(t *testing.T) {
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
		running, waiting, ok := parseGauges([]byte(tt.page))
		if running != tt.running || waiting != tt.waiting || ok != tt.ok {
			t.Errorf("%s: got %g, %g, %t; want %g, %g, %t", tt.name, running, waiting, ok, tt.running, tt.waiting, tt.ok)
		}
	}
}

func FuzzParseGauges(f *testing.F) {
	f.Add([]byte("vllm:num_requests_running{engine=\"0\"} 3.0\nvllm:num_requests_waiting 1\n"))
	f.Add([]byte("llamacpp:requests_processing 4\nllamacpp:requests_deferred 1e400\n"))
	f.Fuzz(func(t *testing.T, page []byte) {
		running, waiting, ok := parseGauges(page)
		if ok && !(running >= 0 && waiting >= 0 && running < 1e15 && waiting < 1e15) {
			t.Errorf("got %g running and %g waiting", running, waiting)
		}
	})
}
