package estimate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"coeval/schemas/redact"
	"coeval/transforms/inprocess"
	"coeval/transforms/stage"
)

// A Server receives requests at URL/chat/completions.
type Server struct {
	URL   string
	Model string
	// Access has the key, headers and query for the server; nil for none.
	Access *stage.Credentials
}

const (
	// atOnce is the number of concurrent requests to each server.
	atOnce = 64
	// longWords and shortTokens are the load of the two halves.
	longWords   = 1500
	shortTokens = 128
	// requestTimeout limits one request, maxAnswerBytes its answer.
	requestTimeout = 2 * time.Minute
	maxAnswerBytes = 8 << 20
)

// MeasureRates loads all servers for a duration and returns the total number of tokens per second that
// they process and write.
//
// Half of the time goes to long prompts with one token of output, half to short prompts with
// shortTokens of output. Each server receives atOnce concurrent requests, enough to fill a usual
// server. Every prompt starts with different random words, so prefix caches have no effect.
// MeasureRates journals no call. The rates are slightly too low, because servers idle while it waits
// for the last requests.
//
// The first failed request ends the measurement with its error: a failing fleet has no rate.
func MeasureRates(ctx context.Context, servers []Server, duration time.Duration) (Rates, error) {
	if len(servers) == 0 {
		return Rates{}, errors.New("probe: there is no server to ask")
	}
	transport := &http.Transport{MaxIdleConnsPerHost: atOnce, Proxy: http.ProxyFromEnvironment}
	inprocess.Attach(transport)
	client := &http.Client{
		Timeout:   requestTimeout,
		Transport: transport,
		// A redirect may lead to a foreign host, which must not receive the key.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	long := strings.Repeat("Some words that are there to be read. ", longWords/8)
	read, _, err := ask(ctx, client, servers, duration/2, long, 1)
	if err != nil {
		return Rates{}, err
	}
	_, written, err := ask(ctx, client, servers, duration/2, "Tell a long story of the sea.", shortTokens)
	if err != nil {
		return Rates{}, err
	}
	if read == 0 || written == 0 {
		return Rates{}, fmt.Errorf("probe: %s returns no token counts (usage), so its rates can't be measured: set --prompt-rate and --completion-rate", servers[0].URL)
	}
	return Rates{Prompt: read, Completion: written}, nil
}

// ask sends requests for a duration, waits for the last, and returns tokens per second.
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
	var secrets *redact.Redactor
	if s.Access != nil {
		secrets = redact.New(s.Access.Secrets...)
		maps.Copy(r.Header, s.Access.Header)
		query := r.URL.Query()
		for name, value := range s.Access.Query {
			query.Set(name, value)
		}
		r.URL.RawQuery = query.Encode()
	}
	answer, err := client.Do(r)
	if err != nil {
		return u, errors.New(secrets.String(err.Error()))
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswerBytes))
	if err != nil {
		return u, err
	}
	if answer.StatusCode != http.StatusOK {
		const shown = 200
		said = secrets.Bytes(said)
		return u, fmt.Errorf("status %d: %q", answer.StatusCode, said[:min(len(said), shown)])
	}
	var told struct {
		Usage usage `json:"usage"`
	}
	if err := json.Unmarshal(said, &told); err != nil {
		return u, fmt.Errorf("the answer is not JSON: %w", err)
	}
	return usage{max(told.Usage.PromptTokens, 0), max(told.Usage.CompletionTokens, 0)}, nil
}
