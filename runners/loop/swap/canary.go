package swap

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
)

// A Canary is a model's greedy answers to fixed prompts: the text and the log-probabilities of its
// tokens. It is asked twice, since batching alone moves log-probabilities a little.
type Canary struct {
	Model string     `json:"model"`
	Asks  [][2]Reply `json:"asks"`
}

// Reply is one answer.
type Reply struct {
	Text string `json:"text"`
	// Logprobs are those of the tokens, empty where the server gives none.
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

// Record asks a model the canary's prompts, each twice.
func (s *Server) Record(ctx context.Context, model string) (*Canary, error) {
	c := &Canary{Model: model}
	for _, prompt := range canaryPrompts {
		var pair [2]Reply
		for i := range pair {
			reply, err := s.ask(ctx, model, prompt)
			if err != nil {
				return nil, fmt.Errorf("the canary of %s at %s: %w", model, s.URL, err)
			}
			pair[i] = *reply
		}
		c.Asks = append(c.Asks, pair)
	}
	return c, nil
}

// ask asks once, with log-probabilities where the server gives them.
func (s *Server) ask(ctx context.Context, model, prompt string) (*Reply, error) {
	body := map[string]any{
		"model": model, "messages": []map[string]string{{"role": "user", "content": prompt}},
		"temperature": 0, "max_tokens": canaryTokens, "n": 1, "logprobs": true,
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

// minChange is the least distance that counts as a change, in nats. A LoRA adapter of rank 8, after
// six steps of DPO on a model of 135 million parameters, moved the first token by 0.07; the same
// weights asked twice differ by less than 0.001 under batching.
const minChange = 0.005

// changeOverNoise is how many times its own noise a model must be away from the former one.
const changeOverNoise = 3

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
	bound := math.Max(minChange, changeOverNoise*c.Noise)
	for i := range min(len(former.Asks), len(latter.Asks)) {
		nearest := math.Inf(1)
		for a := range 2 {
			for b := range 2 {
				x, y := &former.Asks[i][a], &latter.Asks[i][b]
				c.ByText = c.ByText && (len(x.Logprobs) == 0 || len(y.Logprobs) == 0)
				nearest = math.Min(nearest, distance(x, y))
			}
		}
		c.Distance = math.Max(c.Distance, nearest)
		if nearest > bound {
			c.Prompts++
		}
	}
	c.Changed = c.Prompts > 0
	return c
}

// A Lie is a server that took a swap and doesn't serve the new model.
type Lie struct {
	// What names the fault, in a sentence with the remedy.
	What   string
	Change Change
}

func (l *Lie) Error() string { return l.What }

// Proof is what showed that a server serves the new model.
type Proof struct {
	Canary *Canary `json:"canary"`
	Change Change  `json:"change"`
	// Identity is what the server reports of the weights, empty where it reports nothing.
	Identity string `json:"identity,omitempty"`
}

// Prove checks that a server serves the checkpoint and not the former model, whose canary was
// recorded before the swap. Base is the canary of the model without adapter, nil for other kinds
// than LoRA. It returns a [*Lie] that names which fault it is.
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
		return nil, &Lie{Change: p.Change, What: fmt.Sprintf("the server %s answers the same greedy prompt differently twice, so its model can't be identified: some of its replicas or cached prefixes are of another model; drop its prefix cache, or restart it", s.URL)}
	}
	if base != nil {
		if change := Compare(base, canary); !change.Changed {
			return nil, &Lie{Change: change, What: fmt.Sprintf("the server %s loaded the adapter %s and answers as the base model: the adapter's modules don't fit the model (check its target_modules and names)", s.URL, c.Path)}
		}
	}
	if p.Change.Changed {
		return p, nil
	}
	if kind == LoRA {
		return nil, &Lie{Change: p.Change, What: fmt.Sprintf("the server %s serves %s and answers as the former adapter: a stale prefix cache or the same file; load it under a name that was never used, and drop the prefix cache", s.URL, c.Name)}
	}
	return nil, &Lie{Change: p.Change, What: fmt.Sprintf("the server %s took the new weights of %s and answers as before: it still serves the old weights; restart it, or check the path as the server sees it", s.URL, c.Path)}
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

// checkIdentity compares what the server reports of its weights with the checkpoint.
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
		return "", &Lie{What: fmt.Sprintf("the server %s does not list %s after the swap; it lists %v", s.URL, c.Name, names)}
	}
	switch kind {
	case LoRA:
		if m.Root != "" && !samePath(m.Root, c.Path) {
			return "", &Lie{What: fmt.Sprintf("the server %s lists %s with the root %s; loaded was %s", s.URL, c.Name, m.Root, c.Path)}
		}
		return m.Root, nil
	case Reload:
		// The model list keeps the old root after a reload, so it is no evidence.
		if version, ok := s.weightVersion(ctx); ok {
			if version != c.Digest {
				return "", &Lie{What: fmt.Sprintf("the server %s reports the weights %s after the swap; the checkpoint is %s", s.URL, version, c.Digest)}
			}
			return version, nil
		}
		return "", nil
	default:
		return m.Root, nil
	}
}
