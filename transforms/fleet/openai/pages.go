package openai

import (
	"bufio"
	"bytes"
	"strconv"
	"strings"

	"coeval/transforms/fleet/openai/lenient"
)

// SimulatedOwner is the owner of the models of the simulated server, and its Server header.
const SimulatedOwner = "coeval-simulator"

// SGLangOwner is the owner of the models of an SGLang server.
const SGLangOwner = "sglang"

// A Model is an entry of a server's model list.
type Model struct {
	ID      string `json:"id"`
	OwnedBy string `json:"owned_by"`
	Root    string `json:"root"`
}

// Simulated reports whether the simulated server serves the model.
func (m *Model) Simulated() bool { return m.OwnedBy == SimulatedOwner }

// maxModels bounds the number of entries read from a list. Gateways list hundreds of models.
const maxModels = 10_000

// ReadModels reads the body of [ModelsPath]. It returns nil if the body is no list of models.
func ReadModels(body []byte) []Model {
	var list struct {
		Data []struct {
			ID      lenient.Text `json:"id"`
			OwnedBy lenient.Text `json:"owned_by"`
			Root    lenient.Text `json:"root"`
		} `json:"data"`
	}
	if lenient.Unmarshal(body, &list) != nil {
		return nil
	}
	models := make([]Model, 0, min(len(list.Data), maxModels))
	for _, m := range list.Data[:min(len(list.Data), maxModels)] {
		models = append(models, Model{ID: string(m.ID), OwnedBy: string(m.OwnedBy), Root: string(m.Root)})
	}
	return models
}

// gaugeNames are the names of the numbers of running and waiting requests, by server.
var gaugeNames = [][2]string{
	{"vllm:num_requests_running", "vllm:num_requests_waiting"},
	{"sglang:num_running_reqs", "sglang:num_queue_reqs"},
	{"llamacpp:requests_processing", "llamacpp:requests_deferred"},
}

// ReadGauges reads how many requests run and wait from a page of Prometheus metrics, as vLLM,
// SGLang and llama.cpp serve it. It sums over labels, which distinguish models and ranks. It
// reports false unless the page has both numbers.
func ReadGauges(page []byte) (running, waiting float64, ok bool) {
	var sums [2]float64
	var seen [2]bool
	lines := bufio.NewScanner(bytes.NewReader(page))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, ok := sample(lines.Text())
		if !ok {
			continue
		}
		for _, names := range gaugeNames {
			for i := range names {
				if name == names[i] {
					sums[i] += value
					seen[i] = true
				}
			}
		}
	}
	return sums[0], sums[1], seen[0] && seen[1] && lines.Err() == nil
}

// sample reads one line of the text format: name{labels} value [time].
func sample(line string) (name string, value float64, ok bool) {
	if end := strings.LastIndexByte(line, '}'); end >= 0 {
		name, _, _ = strings.Cut(line, "{")
		line = line[end+1:]
	} else {
		name, line, _ = strings.Cut(line, " ")
	}
	fields := strings.Fields(line)
	if len(fields) == 0 || name == "" || name[0] == '#' {
		return "", 0, false
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	return name, v, err == nil && v >= 0 && v < 1e9
}
