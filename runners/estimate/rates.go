package estimate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"coeval/schemas"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/transport"
	"coeval/transforms/stage"
)

// A Server receives requests for a model at its endpoint.
type Server struct {
	Endpoint stage.Endpoint
	Model    string
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
		return Rates{}, errors.New("probe: there is no server to send requests to")
	}
	clients := make([]*client, len(servers))
	defer func() {
		for _, c := range clients {
			if c != nil {
				c.HTTP.CloseIdleConnections()
			}
		}
	}()
	for i, s := range servers {
		c, err := transport.New(s.Endpoint)
		if err == nil {
			c.HTTP, err = transport.NewHTTPClient(s.Endpoint.CAFile)
		}
		if err != nil {
			return Rates{}, fmt.Errorf("probe: %w", err)
		}
		clients[i] = &client{Client: c, model: s.Model}
	}
	long := strings.Repeat("Some words that are there to be read. ", longWords/8)
	read, _, err := ask(ctx, clients, duration/2, long, 1)
	if err != nil {
		return Rates{}, err
	}
	_, written, err := ask(ctx, clients, duration/2, "Tell a long story of the sea.", shortTokens)
	if err != nil {
		return Rates{}, err
	}
	if read == 0 || written == 0 {
		return Rates{}, fmt.Errorf("probe: %s returns no token counts (usage), so its rates can't be measured: set --prompt-rate and --completion-rate", clients[0].Name)
	}
	return Rates{Prompt: read, Completion: written}, nil
}

// A client sends requests to one server, in the form that the server accepts.
type client struct {
	*transport.Client
	model string
	// stream and completionTokens are set when the server accepts nothing else.
	stream, completionTokens atomic.Bool
}

// ask sends requests for a duration, waits for the last, and returns tokens per second.
func ask(ctx context.Context, clients []*client, duration time.Duration, text string, tokens int) (read, written float64, err error) {
	var prompt, completion atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range clients {
		for range atOnce {
			group.Go(func() error {
				for first := true; first || time.Since(began) < duration; first = false {
					p, w, err := c.complete(ctx, text, tokens)
					if err != nil {
						return fmt.Errorf("probe: %s: %w", c.Name, err)
					}
					prompt.Add(int64(p))
					completion.Add(int64(w))
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

// complete asks for a text, and returns the tokens of the prompt and of the text.
func (c *client) complete(ctx context.Context, text string, tokens int) (prompt, completion int, err error) {
	role := stage.Role{Model: c.model, MaxTokens: tokens, Omit: []string{stage.Temperature, stage.TopP, stage.Seed}}
	for range 3 { // in each of the two other forms
		request := openai.Request{
			Role: &role, N: 1, Messages: []schemas.Message{{Role: "user", Content: uuid.NewString() + " " + text}},
			Stream: c.stream.Load(), CompletionTokens: c.completionTokens.Load(),
		}
		body, err := openai.AppendBody(nil, &request)
		if err != nil {
			return 0, 0, err
		}
		a, err := c.Post(ctx, body, maxAnswerBytes, requestTimeout)
		if err != nil {
			return 0, 0, errors.New(c.Secrets.String(err.Error()))
		}
		flt := fault.Classify(a.Status, a.Header, a.Body)
		if a.Status == http.StatusOK {
			decode := openai.Decode
			if a.Stream {
				decode = openai.DecodeStream
			}
			var generations []schemas.Generation
			if generations, _, flt = decode(a.Body, 1); flt == nil {
				prompt, completion = openai.Usage(generations)
				return prompt, completion, nil
			}
		}
		switch {
		case flt.Kind == fault.StreamOnly && !request.Stream:
			c.stream.Store(true)
		case flt.Kind == fault.WrongField && !request.CompletionTokens:
			c.completionTokens.Store(true)
		default:
			return 0, 0, errors.New(flt.Message)
		}
	}
	return 0, 0, errors.New("the server accepts no form of the request")
}
