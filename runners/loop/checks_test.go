package loop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coeval/runners/loop/config"
	"coeval/runners/loop/filetree"
	"coeval/runners/loop/steps"
	"coeval/runners/loop/swap"
)

// recorded returns a loop whose iteration 1 has these steps with these outputs.
func recorded(t *testing.T, out *strings.Builder, outputs map[steps.Step]any) *Loop {
	t.Helper()
	c := config.Default()
	c.Dir, c.Schedule = t.TempDir(), config.PaperSchedule()
	state, err := steps.Open(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range c.Steps(1) {
		if outputs[step] == nil {
			continue
		}
		b, err := json.Marshal(outputs[step])
		if err == nil {
			err = state.Append(steps.Record{Iteration: 1, Step: step, Output: b})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return &Loop{Config: c, Out: out, state: state}
}

// constantCanary is the canary of a model whose every token has one log-probability.
func constantCanary(logprob float64) *swap.Canary {
	c := new(swap.Canary)
	for range 6 {
		r := swap.Reply{Text: "text", Logprobs: []float64{logprob}}
		c.Asks = append(c.Asks, [2]swap.Reply{r, r})
	}
	return c
}

// A server that is down, and one of which no canary was kept, are warnings; one that serves the former model is an error.
// The files have the names of earlier versions.
func TestServersThatCannotBeChecked(t *testing.T) {
	serving := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `{"choices": [{"message": {"content": "text"}, "logprobs": {"content": [{"logprob": -1}]}}]}`
		if r.URL.Path == "/v1/models" {
			answer = `{"data": [{"id": "base"}]}`
		}
		_, _ = w.Write([]byte(answer))
	}))
	defer serving.Close()
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	up, gone := serving.URL+"/v1", down.URL+"/v1"

	for name, tt := range map[string]struct {
		urls            []string
		former, swapped float64
		want            string // in the output
		reverted        bool
	}{
		"trained": {[]string{up}, -2, -1, "", false},
		"down":    {[]string{gone, up}, -2, -1, "warning: the model of " + gone + " can't be checked: ", false},
		"former":  {[]string{gone, up}, -1, -2, "Make sure that it serves /m", true},
		"slash":   {[]string{up, up + "/"}, -2, -1, "", false},
	} {
		var out strings.Builder
		proof := &swap.Proof{Canary: constantCanary(tt.swapped)}
		l := recorded(t, &out, map[steps.Step]any{steps.SwapModel: swapped{
			Model: checkpoint{Path: "/m", Name: "base"}, Proofs: map[string]*swap.Proof{up: proof, gone: proof},
		}})
		l.Config.Swap.Kind, l.Config.Swap.URLs, l.Config.Swap.Ready = swap.Wait, tt.urls, 100*time.Millisecond
		switch {
		case tt.urls[0] == up:
			l.Config.Swap.Ready = time.Minute // the server is asked in vain for no model
		case tt.reverted:
			l.Config.Swap.Ready = 3 * time.Second // the other server answers within it
		}
		b, err := json.Marshal(constantCanary(tt.former))
		for _, file := range []string{"canary-0.json", "canary-1.json"} {
			at := filepath.Join(l.Config.Folder(1), file)
			err = errors.Join(err, os.MkdirAll(filepath.Dir(at), 0o777), os.WriteFile(at, b, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		err = l.checkServed(t.Context(), 2, l.currentGroup)
		if reverted := (*swap.NotSwappedError)(nil); errors.As(err, &reverted) != tt.reverted || !tt.reverted && err != nil {
			t.Errorf("%s: error is %v", name, err)
		}
		if !strings.Contains(out.String(), tt.want) || tt.want == "" && out.Len() > 0 {
			t.Errorf("%s: the output is %q, want %q", name, out.String(), tt.want)
		}
		stopped, stop := context.WithCancel(t.Context())
		stop()
		if err := l.checkServed(stopped, 2, l.currentGroup); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, stopped: error is %v", name, err)
		}
	}
}

// The digests of earlier versions leave links out. A change of a file is found in spite of that.
func TestModelOfEarlierVersion(t *testing.T) {
	model, other := t.TempDir(), filepath.Join(t.TempDir(), "tokenizer")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(model, "weights"), "w")
	write(other, "t")
	link(t, other, filepath.Join(model, "tokenizer"))
	sum := sha256.Sum256([]byte("weights\x00w")) // the one regular file
	c := &checkpoint{Path: model, Digest: hex.EncodeToString(sum[:])}
	var out strings.Builder
	l := recorded(t, &out, map[steps.Step]any{steps.TrainModel: c})
	if err := l.checkModel(c); err != nil {
		t.Error(err)
	}
	link(t, "nowhere", filepath.Join(model, "cache"))
	if err := l.checkModel(c); err != nil {
		t.Errorf("with a link to nothing: %v", err)
	}
	if err := os.Remove(filepath.Join(model, "cache")); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(model, "weights"), "W")
	want := "remove " + l.Config.Folder(1) + " and the lines of iteration 1 and later from state.jsonl"
	if err := l.checkModel(c); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("with other weights the error is %v; want %q", err, want)
	}
	linked, err := filetree.Digest(model)
	if err != nil {
		t.Fatal(err)
	}
	write(other, "T")
	if err := l.checkModel(&checkpoint{Path: model, Digest: linked}); err == nil {
		t.Error("a change behind a link of this version's digest is not found")
	}
}

func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}
