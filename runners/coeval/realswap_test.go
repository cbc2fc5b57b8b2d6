//go:build real

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coeval/runners/loop/swap"
)

// A real vLLM is swapped by adapters and by weights. The proof accepts swaps that took effect. It refuses
// three that vLLM reports as successful: an adapter that fits no module, a name loaded again in place, and
// weights read without dropping the prefix cache.
func TestRealSwap(t *testing.T) {
	addr := freePort(t)
	startSwappable(t, addr)
	server := &swap.Server{URL: "http://" + addr + "/v1"}
	base, err := server.Record(t.Context(), "random")
	if err != nil {
		t.Fatal(err)
	}
	if len(base.Prefixed) == 0 {
		t.Fatal("vLLM refuses the canary's long prompts")
	}
	first, second := writeAdapter(t, "self_attn.q_proj", 1), writeAdapter(t, "self_attn.q_proj", 2)

	t.Run("lora", func(t *testing.T) { swapAdapters(t, server, base, first, second) })
	t.Run("in place", func(t *testing.T) { swapInPlace(t, server, first, second) })
	t.Run("weights", func(t *testing.T) { swapWeights(t, server, base) })
}

func swapAdapters(t *testing.T, server *swap.Server, base *swap.Canary, first, second string) {
	t.Helper()
	former := base
	for i, path := range []string{first, second} {
		c := swap.Checkpoint{Path: path, Name: fmt.Sprint("it-", i+1)}
		if err := server.Load(t.Context(), swap.VLLM, c); err != nil {
			t.Fatal(err)
		}
		proof, err := server.Prove(t.Context(), swap.LoRA, c, former, base)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		t.Logf("%s: %+v", c.Name, proof.Change)
		former = proof.Canary
	}
	if err := server.Load(t.Context(), swap.VLLM, swap.Checkpoint{Path: first, Name: "it-2"}); err == nil || !strings.Contains(err.Error(), "serves another model as it-2 already") {
		t.Errorf("another adapter under a name in use: %v", err)
	}
	unknown := swap.Checkpoint{Path: writeAdapter(t, "attention.query", 3), Name: "it-3"}
	if err := server.Load(t.Context(), swap.VLLM, unknown); err == nil || !strings.Contains(err.Error(), "expected target modules") {
		t.Errorf("modules of names that vLLM does not know: %v", err)
	}
	// vLLM knows the last part of these names, and no module has the whole.
	misfit := swap.Checkpoint{Path: writeAdapter(t, "attention.q_proj", 4), Name: "it-4"}
	if err := server.Load(t.Context(), swap.VLLM, misfit); err != nil {
		t.Fatalf("vLLM refuses the misfit by itself: %v", err)
	}
	_, err := server.Prove(t.Context(), swap.LoRA, misfit, former, base)
	wantLie(t, err, "answers as the base model")
}

// swapInPlace loads another adapter under one name.
func swapInPlace(t *testing.T, server *swap.Server, first, second string) {
	t.Helper()
	ask(t, server, "/v1/load_lora_adapter", map[string]any{"lora_name": "policy", "lora_path": first})
	former, err := server.Record(t.Context(), "policy")
	if err != nil {
		t.Fatal(err)
	}
	ask(t, server, "/v1/load_lora_adapter", map[string]any{"lora_name": "policy", "lora_path": second, "load_inplace": true})
	proveUnlessStale(t, server, swap.Checkpoint{Path: second, Name: "policy"}, former)
}

// swapWeights makes vLLM read other weights, first without dropping the prefix cache, then as the loop
// does.
func swapWeights(t *testing.T, server *swap.Server, base *swap.Canary) {
	t.Helper()
	changed := swap.Checkpoint{Path: changedModel(t), Name: "random", Digest: "changed"}
	ask(t, server, "/collective_rpc", map[string]any{"method": "reload_weights", "kwargs": map[string]any{"weights_path": changed.Path}})
	proveUnlessStale(t, server, changed, base)
	if err := server.Reload(t.Context(), swap.VLLM, changed); err != nil {
		t.Fatal(err)
	}
	proof, err := server.Prove(t.Context(), swap.Reload, changed, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("weights: %+v, identity %q", proof.Change, proof.Identity)
	same := swap.Checkpoint{Path: changed.Path, Name: "random", Digest: "same"}
	if err := server.Reload(t.Context(), swap.VLLM, same); err != nil {
		t.Fatal(err)
	}
	_, err = server.Prove(t.Context(), swap.Reload, same, proof.Canary, nil)
	wantLie(t, err, "still serves the old weights")
}

// proveUnlessStale proves a checkpoint that somebody else loaded. Where the answers to long prompts change once the prefix
// cache is dropped, they came from the former model's blocks, and the proof must say so.
func proveUnlessStale(t *testing.T, server *swap.Server, c swap.Checkpoint, former *swap.Canary) {
	t.Helper()
	_, proved := server.Prove(t.Context(), swap.Wait, c, former, nil)
	var canaries [2]*swap.Canary
	for i := range canaries {
		var err error
		if canaries[i], err = server.Record(t.Context(), c.Name); err != nil {
			t.Fatal(err)
		}
		ask(t, server, "/reset_prefix_cache", nil)
	}
	gap := 0.0
	for i := range canaries[0].Prefixed {
		gap = max(gap, math.Abs(canaries[0].Prefixed[i][0].Logprobs[0]-canaries[1].Prefixed[i][0].Logprobs[0]))
	}
	t.Logf("without the cache the first tokens move by %.3f nats; the proof says: %v", gap, proved)
	if gap > 0.1 {
		wantLie(t, proved, "from cached prefixes of the former model")
	} else if proved != nil {
		t.Errorf("no cached prefix was stale: %v", proved)
	}
	if _, err := server.Prove(t.Context(), swap.Wait, c, former, nil); err != nil {
		t.Errorf("without the cache: %v", err)
	}
}

func wantLie(t *testing.T, err error, says string) {
	t.Helper()
	if lie, found := errors.AsType[*swap.NotSwappedError](err); !found || !strings.Contains(lie.What, says) {
		t.Errorf("error is %v; want one that says %q", err, says)
	}
}

// ask posts a request to vLLM that the loop does not make.
func ask(t *testing.T, server *swap.Server, path string, body map[string]any) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(strings.TrimSuffix(server.URL, "/v1")+path, "application/json", bytes.NewReader(b)) //nolint:noctx // it ends with the server
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v: %s", path, resp.StatusCode, err, said)
	}
}

// startSwappable serves the model of random weights so that adapters and weights can be loaded.
func startSwappable(t *testing.T, addr string) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{
		"VLLM_CPU_KVCACHE_SPACE=1", "VLLM_CPU_OMP_THREADS_BIND=nobind", "HF_HUB_OFFLINE=1", "VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1",
		"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True", "VLLM_SERVER_DEV_MODE=1",
	}
	p := serveReal(t, addr, env, installedReal(t, "vllm/bin/vllm"), "serve", installedReal(t, "model"), "--served-model-name", "random",
		"--host", "127.0.0.1", "--port", port, "--enforce-eager", "--max-model-len", "4096", "--max-num-seqs", "8", "--dtype", "bfloat16",
		"--enable-lora", "--max-lora-rank", "8", "--max-loras", "2", "--enable-prefix-caching")
	within(t, startPatience, "vLLM is ready", func() bool {
		if !p.alive() {
			t.Fatalf("vLLM ended:\n%s%s", p.stdout.String(), p.stderr.String())
		}
		return ready(t, "http://"+addr+"/health")
	})
}

// The sizes of the model of random weights; see runners/real/model.py.
const (
	realLayers = 2
	realHidden = 64
	realRank   = 8
)

// writeAdapter writes an adapter of random weights for a module of each layer, and returns its folder.
func writeAdapter(t *testing.T, module string, seed uint64) string {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	tensors := map[string]tensor{}
	for layer := range realLayers {
		for _, part := range []string{"lora_A", "lora_B"} {
			x := tensor{Type: "F32", Shape: []int{realRank, realHidden}}
			if part == "lora_B" {
				x.Shape = []int{realHidden, realRank}
			}
			for range realRank * realHidden {
				x.data = binary.LittleEndian.AppendUint32(x.data, math.Float32bits(float32(r.NormFloat64())))
			}
			tensors[fmt.Sprintf("base_model.model.model.layers.%d.%s.%s.weight", layer, module, part)] = x
		}
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "adapter_model.safetensors"), string(safetensors(t, tensors)))
	_, name, _ := strings.Cut(module, ".")
	write(t, filepath.Join(dir, "adapter_config.json"), fmt.Sprintf(`{"peft_type": "LORA", "r": %d, "lora_alpha": 16, "target_modules": [%q], "bias": "none"}`, realRank, name))
	return dir
}

// A tensor is an entry of a safetensors file.
type tensor struct {
	Type    string `json:"dtype"`
	Shape   []int  `json:"shape"`
	Offsets [2]int `json:"data_offsets"`
	data    []byte
}

// safetensors returns a file: the length of its header, the header, the data.
func safetensors(t *testing.T, tensors map[string]tensor) []byte {
	t.Helper()
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		x := tensors[name]
		x.Offsets = [2]int{len(data), len(data) + len(x.data)}
		data = append(data, x.data...)
		header[name] = x
	}
	b, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b, data)
}

// changedModel copies the model of random weights and turns the signs of a projection in its first layer, so that the
// keys and values of the second layer change.
func changedModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(installedReal(t, "model"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "model.safetensors")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	size := binary.LittleEndian.Uint64(b)
	header := map[string]json.RawMessage{}
	if err := json.Unmarshal(b[8:8+size], &header); err != nil {
		t.Fatal(err)
	}
	var x tensor
	if err := json.Unmarshal(header["model.layers.0.self_attn.o_proj.weight"], &x); err != nil || x.Type != "BF16" {
		t.Fatalf("%+v: %v", x, err)
	}
	for i := x.Offsets[0] + 1; i < x.Offsets[1]; i += 2 { // the sign is in the second byte
		b[int(size)+8+i] ^= 0x80
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
