package infer

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bounds limit all requests of a run together. When one is reached no further request is sent: those in
// flight are answered and kept, and every prompt that still lacks an answer is over budget. The zero
// value bounds nothing.
type Bounds struct {
	// Generations is the largest number of generations. Zero means no limit.
	Generations int64 `json:"generations,omitempty"`
	// Cost is in the currency of the prices. Zero means no limit.
	Cost float64 `json:"cost,omitempty"`
	// GPUHours is the largest number of GPU hours: the time from the first request, multiplied by
	// GPUs. Zero means no limit.
	GPUHours float64 `json:"gpu_hours,omitempty"`

	// PromptPrice and CompletionPrice are for a million tokens, HourPrice for one GPU and hour. With
	// prices of tokens and of hours the larger cost counts.
	PromptPrice     float64 `json:"prompt_price,omitempty"`
	CompletionPrice float64 `json:"completion_price,omitempty"`
	HourPrice       float64 `json:"hour_price,omitempty"`
	GPUs            float64 `json:"gpus,omitempty"`

	// Spent is the consumption of earlier attempts.
	Spent Spent `json:"spent,omitzero"`
}

// Spent is the consumption of requests.
type Spent struct {
	Generations      int64   `json:"generations,omitempty"`
	PromptTokens     int64   `json:"prompt_tokens,omitempty"`
	CompletionTokens int64   `json:"completion_tokens,omitempty"`
	Seconds          float64 `json:"seconds,omitempty"`
}

func (b *Bounds) enabled() bool { return b.Generations > 0 || b.Cost > 0 || b.GPUHours > 0 }

func (b *Bounds) validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value float64
	}{
		{"Generations", float64(b.Generations)},
		{"Cost", b.Cost},
		{"GPUHours", b.GPUHours},
		{"PromptPrice", b.PromptPrice},
		{"CompletionPrice", b.CompletionPrice},
		{"HourPrice", b.HourPrice},
		{"GPUs", b.GPUs},
	} {
		if !(f.value >= 0) {
			errs = append(errs, fmt.Errorf("infer: Bounds.%s is %v; allowed is 0 or more", f.name, f.value))
		}
	}
	if b.Cost > 0 && b.PromptPrice == 0 && b.CompletionPrice == 0 && b.HourPrice == 0 {
		errs = append(errs, errors.New("infer: Bounds.Cost needs a price: set PromptPrice and CompletionPrice, or HourPrice"))
	}
	return errors.Join(errs...)
}

// cost returns the cost of the consumption at the prices.
func (b *Bounds) cost(s *Spent) float64 {
	tokens := (float64(s.PromptTokens)*b.PromptPrice + float64(s.CompletionTokens)*b.CompletionPrice) / 1e6
	return max(tokens, s.Seconds/3600*b.GPUs*b.HourPrice)
}

// spending counts a run's consumption against its bounds. It is safe for concurrent use.
type spending struct {
	bounds Bounds
	now    func() time.Time

	mu      sync.Mutex
	spent   Spent // Seconds is that of earlier attempts
	began   time.Time
	reached bool
}

func newSpending(b Bounds) *spending { return &spending{bounds: b, now: time.Now, spent: b.Spent} }

// reserve counts n generations and reports whether the request may be sent. Once it returns false, it
// always does, even for smaller requests.
func (s *spending) reserve(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() || s.bounds.Generations > 0 && s.spent.Generations+int64(n) > s.bounds.Generations {
		s.reached = true
		return false
	}
	if s.began.IsZero() {
		s.began = s.now()
	}
	s.spent.Generations += int64(n)
	return true
}

// over reports whether a bound is reached. The caller has mu.
func (s *spending) over() bool {
	b, spent := &s.bounds, s.spent
	if !s.began.IsZero() {
		spent.Seconds += s.now().Sub(s.began).Seconds()
	}
	s.reached = s.reached ||
		b.Generations > 0 && spent.Generations >= b.Generations ||
		b.Cost > 0 && b.cost(&spent) >= b.Cost ||
		b.GPUHours > 0 && spent.Seconds/3600*b.GPUs >= b.GPUHours
	return s.reached
}

// isReached reports whether nothing more may be asked.
func (s *spending) isReached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over()
}

// add counts the tokens of an answer.
func (s *spending) add(prompt, completion int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent.PromptTokens += prompt
	s.spent.CompletionTokens += completion
}
