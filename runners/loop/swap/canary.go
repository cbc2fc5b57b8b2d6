package swap

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// A Canary is a model's greedy answers to fixed prompts: the text and the log-probabilities of its
// tokens. It is recorded twice, since batching alone moves log-probabilities a little. Servers cache whole blocks
// of up to 128 tokens, so that only long prompts show whether a cached prefix is of another model.
type Canary struct {
	Model string `json:"model"`
	// Server is the address of the server that answered. Empty in files of earlier versions.
	Server string     `json:"server,omitempty"`
	Asks   [][2]Reply `json:"asks"`
	// Prefixed are the first tokens of answers to long prompts: requested like any other, and requested so that no
	// cached prefix can be used, where the server knows cache_salt. Empty where it takes no long prompt.
	Prefixed [][2]Reply `json:"prefixed,omitempty"`
}

// Reply is one answer.
type Reply struct {
	Text string `json:"text"`
	// Logprobs are the log-probabilities of the tokens, empty where the server gives none.
	Logprobs []float64 `json:"logprobs,omitempty"`
}

// canaryPrompts are short, unlike each other, and have long answers. Their log-probabilities differ
// between any two models; a real adapter of rank 8 changed them and not the greedy text.
var canaryPrompts = []string{
	"Explain in one paragraph why the sky is blue.",
	"Write a short poem about a harbour in winter.",
	"List three ways to sort an array and name their cost.",
	"A train leaves at noon and travels 180 km in two hours. Describe how to find its speed.",
	"Translate into French: the library opens at nine.",
	"Give advice to somebody who learns to bake bread.",
}

const canaryTokens = 24

// longPrefix is text of more than 400 tokens: three whole blocks of 128 tokens, the largest ones known.
var longPrefix = func() string {
	var b strings.Builder
	for hour := range 16 {
		fmt.Fprintf(&b, "%02d:00 The harbour master writes down %d boats, wind of force %d and a tide of %d centimetres.\n", hour, 3+hour*7%19, 1+hour*5%8, 40+hour*37%211)
	}
	return b.String()
}()

// Record sends the canary's prompts to a model, each twice, and each twice behind a long prefix.
func (s *Server) Record(ctx context.Context, model string) (*Canary, error) {
	c := &Canary{Model: model, Server: s.URL, Asks: make([][2]Reply, len(canaryPrompts)), Prefixed: make([][2]Reply, len(canaryPrompts))}
	failed := func(err error) error { return fmt.Errorf("the canary of %s at %s: %w", model, s.URL, err) }
	for i, prompt := range canaryPrompts {
		for j := range c.Asks[i] {
			reply, err := s.ask(ctx, model, prompt, canaryTokens, "")
			if err != nil {
				return nil, failed(err)
			}
			c.Asks[i][j] = *reply
		}
	}
	for j, salt := range []string{"", rand.Text()} {
		for i, prompt := range canaryPrompts {
			reply, err := s.ask(ctx, model, longPrefix+"\n"+prompt, 1, salt)
			if a := (*Answer)(nil); errors.As(err, &a) && a.Status == http.StatusBadRequest {
				c.Prefixed = nil // the prompt is too long for the server
				return c, nil
			}
			if err != nil {
				return nil, failed(err)
			}
			c.Prefixed[i][j] = *reply
		}
	}
	return c, nil
}

// RecordOnce returns the canary of a model that a file has. Without the file it records the canary and writes it.
func (s *Server) RecordOnce(ctx context.Context, file, model string) (*Canary, error) {
	b, err := os.ReadFile(file)
	if err == nil {
		c := new(Canary)
		if err := json.Unmarshal(b, c); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return c, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c, err := s.Record(ctx, model)
	if err != nil {
		return nil, err
	}
	if b, err = json.Marshal(c); err != nil {
		return nil, fmt.Errorf("loop: %w", err)
	}
	if err := os.WriteFile(file+".tmp", b, 0o666); err != nil {
		return nil, err
	}
	return c, os.Rename(file+".tmp", file)
}

// ask asks once, with log-probabilities where the server gives them. With a salt, only prefixes that were
// asked with it may come from the server's cache.
func (s *Server) ask(ctx context.Context, model, prompt string, tokens int, salt string) (*Reply, error) {
	body := map[string]any{
		"model": model, "messages": []map[string]string{{"role": "user", "content": prompt}},
		"temperature": 0, "max_tokens": tokens, "n": 1, "logprobs": true,
	}
	if salt != "" {
		body["cache_salt"] = salt
	}
	reply, err := s.complete(ctx, body)
	if a := (*Answer)(nil); errors.As(err, &a) && a.Status == http.StatusBadRequest {
		delete(body, "logprobs") // a server that refuses the field
		return s.complete(ctx, body)
	}
	return reply, err
}

func (s *Server) complete(ctx context.Context, body map[string]any) (*Reply, error) {
	var out struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
			Logprobs *struct {
				Content []struct {
					Logprob float64 `json:"logprob"`
				} `json:"content"`
			} `json:"logprobs"`
		} `json:"choices"`
	}
	if err := s.do(ctx, http.MethodPost, s.base("/chat/completions"), body, &out); err != nil {
		return nil, err
	}
	if len(out.Choices) == 0 {
		return nil, errors.New("the answer has no choice")
	}
	r := &Reply{Text: out.Choices[0].Message.Content}
	if l := out.Choices[0].Logprobs; l != nil {
		for _, token := range l.Content {
			r.Logprobs = append(r.Logprobs, token.Logprob)
		}
	}
	return r, nil
}

// distance returns how far two replies are apart: the largest difference of log-probabilities over
// the tokens that both have, or, without log-probabilities, 1 for unlike texts. Texts that differ
// are at least 1 apart.
func distance(a, b *Reply) float64 {
	d := 0.0
	for i := range min(len(a.Logprobs), len(b.Logprobs)) {
		if x := math.Abs(a.Logprobs[i] - b.Logprobs[i]); x > d {
			d = x
		}
	}
	if a.Text != b.Text {
		d = math.Max(d, 1)
	}
	return d
}

// Noise returns how far the model is from itself, over all prompts.
func (c *Canary) Noise() float64 {
	noise := 0.0
	for i := range c.Asks {
		noise = math.Max(noise, distance(&c.Asks[i][0], &c.Asks[i][1]))
	}
	return noise
}

// cacheGap returns how far the first tokens of answers behind a long prefix move when no cached prefix is used.
func (c *Canary) cacheGap() float64 {
	gap := 0.0
	for i := range c.Prefixed {
		cached, fresh := c.Prefixed[i][0].Logprobs, c.Prefixed[i][1].Logprobs
		if len(cached) > 0 && len(fresh) > 0 {
			gap = math.Max(gap, math.Abs(cached[0]-fresh[0]))
		}
	}
	return gap
}

// minCacheGap is the smallest gap, in nats, that shows a cached prefix of another model. Batching alone
// changed a token by up to 0.06 in bfloat16.
const minCacheGap = 0.1

// minChange is the least distance that counts as a change, in nats. A LoRA adapter of rank 8, after
// six steps of DPO on a model of 135 million parameters, moved the first token by 0.07; the same
// weights asked twice differ by less than 0.001 under batching.
const minChange = 0.005

// changeOverNoise is how many times its own noise a model must be away from the former one.
const changeOverNoise = 3

// leastChange returns the distance above which two models differ, given the noise of their canaries.
func leastChange(noise float64) float64 { return math.Max(minChange, changeOverNoise*noise) }

// Change describes how two canaries differ.
type Change struct {
	// Distance is the largest over the prompts, Noise that of either canary to itself.
	Distance float64 `json:"distance"`
	Noise    float64 `json:"noise"`
	// Prompts counts those that differ by more than the noise.
	Prompts int `json:"prompts"`
	// Changed reports whether the models differ.
	Changed bool `json:"changed"`
	// ByText reports whether only texts were compared.
	ByText bool `json:"by_text"`
}

// Compare compares the canaries of two models. Changed needs a distance above [minChange] and above
// three times the noise on at least one prompt.
func Compare(former, latter *Canary) Change {
	c := Change{Noise: math.Max(former.Noise(), latter.Noise()), ByText: true}
	bound := leastChange(c.Noise)
	for i := range min(len(former.Asks), len(latter.Asks)) {
		nearest, byLogprobs := apart(&former.Asks[i], &latter.Asks[i])
		c.ByText = c.ByText && !byLogprobs
		c.Distance = math.Max(c.Distance, nearest)
		if nearest > bound {
			c.Prompts++
		}
	}
	c.Changed = c.Prompts > 0
	return c
}

// Reverted reports whether a model that gets requests now answers as the former model and not as the one that was swapped
// in: most of the prompts that tell the two apart are nearer to the former one. A prompt on which the two differ by no
// more than the noise of the three canaries is not counted.
func Reverted(former, swapped, now *Canary) bool {
	bound := leastChange(max(former.Noise(), swapped.Noise(), now.Noise()))
	back := 0
	for i := range min(len(former.Asks), len(swapped.Asks), len(now.Asks)) {
		if change, _ := apart(&former.Asks[i], &swapped.Asks[i]); change <= bound {
			continue
		}
		f, _ := apart(&former.Asks[i], &now.Asks[i])
		s, _ := apart(&swapped.Asks[i], &now.Asks[i])
		switch {
		case f < s:
			back++
		case s < f:
			back--
		}
	}
	return back > 0
}

// apart returns the least distance of two pairs of replies, and whether any log-probabilities were compared.
func apart(a, b *[2]Reply) (nearest float64, byLogprobs bool) {
	nearest = math.Inf(1)
	for i := range a {
		for j := range b {
			nearest = math.Min(nearest, distance(&a[i], &b[j]))
			byLogprobs = byLogprobs || len(a[i].Logprobs) > 0 && len(b[j].Logprobs) > 0
		}
	}
	return nearest, byLogprobs
}

// A NotSwappedError reports that a server accepted a swap but does not serve the new model.
type NotSwappedError struct {
	// What names the fault, in a sentence with the remedy.
	What   string
	Change Change
}

func (e *NotSwappedError) Error() string { return e.What }

// Proof is the evidence that a server serves the new model.
type Proof struct {
	Canary *Canary `json:"canary"`
	Change Change  `json:"change"`
	// Identity is the server's report of its weights, empty where it reports none.
	Identity string `json:"identity,omitempty"`
}

// Prove checks that a server serves the checkpoint and not the former model, whose canary was
// recorded before the swap. Base is the canary of the model without adapter, nil for other kinds
// than LoRA. It returns a [*NotSwappedError] that names the fault.
func (s *Server) Prove(ctx context.Context, kind Kind, c Checkpoint, former, base *Canary) (*Proof, error) {
	identity, err := s.checkIdentity(ctx, kind, c)
	if err != nil {
		return nil, err
	}
	canary, err := s.Record(ctx, c.Name)
	if err != nil {
		return nil, err
	}
	p := &Proof{Canary: canary, Identity: identity, Change: Compare(former, canary)}
	if !canary.repeats() {
		return nil, &NotSwappedError{Change: p.Change, What: fmt.Sprintf("the server %s answers the same greedy prompt differently twice, so its model can't be identified: some of its replicas or cached prefixes are of another model; drop its prefix cache, or restart it", s.URL)}
	}
	if gap := canary.cacheGap(); gap > math.Max(minCacheGap, changeOverNoise*former.cacheGap()) {
		return nil, &NotSwappedError{Change: p.Change, What: fmt.Sprintf("the server %s answers long prompts as %s from cached prefixes of the former model (%.2f nats away from an answer without the cache): drop its prefix cache, load adapters under names that were never used, or restart it", s.URL, c.Name, gap)}
	}
	if base != nil {
		if change := Compare(base, canary); !change.Changed {
			return nil, &NotSwappedError{Change: change, What: fmt.Sprintf("the server %s loaded the adapter %s and answers as the base model: the adapter's modules don't fit the model (check its target_modules and names)", s.URL, c.Path)}
		}
	}
	if p.Change.Changed {
		return p, nil
	}
	if kind == LoRA {
		return nil, &NotSwappedError{Change: p.Change, What: fmt.Sprintf("the server %s serves %s and answers as the former adapter: a stale prefix cache or the same file; load it under a name that was never used, and drop the prefix cache", s.URL, c.Name)}
	}
	return nil, &NotSwappedError{Change: p.Change, What: fmt.Sprintf("the server %s accepted the new weights of %s and answers as before: it still serves the old weights; restart it, or check the path on its machine", s.URL, c.Path)}
}

// repeats reports whether the model repeats its answer to most prompts, within the noise of batching.
func (c *Canary) repeats() bool {
	const batching = 0.3 // nats; the largest change of one token that batching was seen to make in bfloat16 is 0.06
	apart := 0
	for i := range c.Asks {
		if distance(&c.Asks[i][0], &c.Asks[i][1]) > batching {
			apart++
		}
	}
	return apart <= len(c.Asks)/3
}

// checkIdentity compares the server's report of its weights with the checkpoint.
func (s *Server) checkIdentity(ctx context.Context, kind Kind, c Checkpoint) (string, error) {
	models, err := s.Models(ctx)
	if err != nil {
		return "", err
	}
	m, listed := models[c.Name]
	if !listed {
		names := make([]string, 0, len(models))
		for name := range models {
			names = append(names, name)
		}
		slices.Sort(names)
		return "", &NotSwappedError{What: fmt.Sprintf("the server %s does not list %s after the swap; it lists %v", s.URL, c.Name, names)}
	}
	switch kind {
	case LoRA:
		if m.Root != "" && !samePath(m.Root, c.Path) {
			return "", &NotSwappedError{What: fmt.Sprintf("the server %s lists %s with the root %s; loaded was %s", s.URL, c.Name, m.Root, c.Path)}
		}
		return m.Root, nil
	case Reload:
		// The model list keeps the old root after a reload, so it is no evidence.
		if version, ok := s.weightVersion(ctx); ok {
			if version != c.Digest {
				return "", &NotSwappedError{What: fmt.Sprintf("the server %s reports the weights %s after the swap; the checkpoint is %s", s.URL, version, c.Digest)}
			}
			return version, nil
		}
		return "", nil
	default:
		return m.Root, nil
	}
}

// Identify returns the version or the path of the weights that a server reports for a model, empty for none, and
// reports whether it is that of the checkpoint. A version decides after a reload, where the path may be the former one.
func (s *Server) Identify(ctx context.Context, kind Kind, c Checkpoint) (reported string, same bool, err error) {
	models, err := s.Models(ctx)
	if err != nil {
		return "", false, err
	}
	root := models[c.Name].Root
	version, ok := s.weightVersion(ctx)
	switch {
	case ok && version == c.Digest:
		return version, true, nil
	case ok && kind == Reload:
		return version, false, nil
	}
	return root, samePath(root, c.Path), nil
}

// waitInterval is the time between two proofs of [Server.ProveLater].
const waitInterval = 5 * time.Second

// ProveLater is [Server.Prove] for a model that somebody else swaps: it waits for at most so long until the proof
// succeeds.
func (s *Server) ProveLater(ctx context.Context, c Checkpoint, former *Canary, most time.Duration) (*Proof, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	for {
		proof, err := s.Prove(ctx, Wait, c, former, nil)
		if err == nil {
			return proof, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the model was not swapped within %s (swap.ready): %w", most, err)
		case <-ticker.C:
		}
	}
}
