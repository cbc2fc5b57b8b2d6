// Package probe measures for some seconds how fast servers read and write.
//
// Half of the time goes into long prompts with one token to write, half into short prompts with a
// text to write, on all servers at once, so many requests at a time that a server of common size is
// full. Every prompt begins otherwise, so that no cache serves it. Nothing of it goes into a journal.
//
// The rates are those of such load, and rather too low than too high: what is asked when the time
// is over is waited for, while the servers run empty.
package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"coeval/runners/estimate"
	"coeval/transforms/infer"
)

// A Server is asked at URL/chat/completions.
type Server struct {
	URL string
	// Key is a bearer token; empty sends none.
	Key   string
	Model string
}

const (
	// atOnce are the requests that each server is asked at a time.
	atOnce = 64
	// longWords and shortTokens are the load of the two halves.
	longWords   = 1500
	shortTokens = 128
	// most is how long one request may take, and mostBytes how long its answer may be.
	most      = 2 * time.Minute
	mostBytes = 8 << 20
)

// Rates asks all servers for a time and returns the tokens that they read and wrote in a second, all
// together. The first request that fails is an error, since a fleet that fails has no rate.
func Rates(ctx context.Context, servers []Server, duration time.Duration) (estimate.Rates, error) {
	if len(servers) == 0 {
		return estimate.Rates{}, errors.New("probe: there is no server to ask")
	}
	client := &http.Client{Timeout: most, Transport: &http.Transport{MaxIdleConnsPerHost: atOnce, Proxy: http.ProxyFromEnvironment}}
	defer client.CloseIdleConnections()
	long := strings.Repeat("Some words that are there to be read. ", longWords/8)
	read, _, err := ask(ctx, client, servers, duration/2, long, 1)
	if err != nil {
		return estimate.Rates{}, err
	}
	_, written, err := ask(ctx, client, servers, duration/2, "Tell a long story of the sea.", shortTokens)
	if err != nil {
		return estimate.Rates{}, err
	}
	if read == 0 || written == 0 {
		return estimate.Rates{}, fmt.Errorf("probe: %s tells no token counts (usage), so that its rates can't be measured; state them with --prompt-rate and --completion-rate", servers[0].URL)
	}
	return estimate.Rates{Prompt: read, Completion: written}, nil
}

// ask sends requests for a time, waits for the last, and returns the tokens per second.
func ask(ctx context.Context, client *http.Client, servers []Server, duration time.Duration, text string, tokens int) (read, written float64, err error) {
	var prompt, completion atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range servers {
		for range atOnce {
			group.Go(func() error {
				for first := true; first || time.Since(began) < duration; first = false {
					u, err := complete(ctx, client, &servers[i], text, tokens)
					if err != nil {
						return fmt.Errorf("probe: %s: %w", servers[i].URL, err)
					}
					prompt.Add(u.PromptTokens)
					completion.Add(u.CompletionTokens)
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	seconds := time.Since(began).Seconds()
	return float64(prompt.Load()) / seconds, float64(completion.Load()) / seconds, nil
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type request struct {
	Model     string    `json:"model"`
	Messages  []message `json:"messages"`
	MaxTokens int       `json:"max_tokens"`
}

type usage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
}

func complete(ctx context.Context, client *http.Client, s *Server, text string, tokens int) (u usage, err error) {
	body, err := json.Marshal(request{Model: s.Model, Messages: []message{{"user", uuid.NewString() + " " + text}}, MaxTokens: tokens})
	if err != nil {
		return u, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.URL, "/")+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return u, err
	}
	r.Header.Set("Content-Type", "application/json")
	if s.Key != "" {
		r.Header.Set("Authorization", "Bearer "+s.Key)
	}
	answer, err := client.Do(r)
	if err != nil {
		return u, err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, mostBytes))
	if err != nil {
		return u, err
	}
	if answer.StatusCode != http.StatusOK {
		const shown = 200
		said = infer.WithoutKey(said, s.Key)
		return u, fmt.Errorf("status %d: %q", answer.StatusCode, said[:min(len(said), shown)])
	}
	var told struct {
		Usage usage `json:"usage"`
	}
	if err := json.Unmarshal(said, &told); err != nil {
		return u, fmt.Errorf("the answer is no JSON: %w", err)
	}
	return usage{max(told.Usage.PromptTokens, 0), max(told.Usage.CompletionTokens, 0)}, nil
}
