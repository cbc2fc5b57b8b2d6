// Package spending counts the generations, the cost and the GPU hours of a run's requests against its bounds.
package spending

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bounds limit all requests of a run together. When one is reached, no further request is sent. The answers to
// requests in flight are saved, and every prompt that still lacks an answer is over budget. The zero
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

// Enabled reports whether there is a bound.
func (b *Bounds) Enabled() bool { return b.Generations > 0 || b.Cost > 0 || b.GPUHours > 0 }

// Validate returns an error for each bound and price that is not allowed.
func (b *Bounds) Validate() error {
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
			errs = append(errs, fmt.Errorf("spending: Bounds.%s is %v; allowed is 0 or more", f.name, f.value))
		}
	}
	if b.Cost > 0 && b.PromptPrice == 0 && b.CompletionPrice == 0 && b.HourPrice == 0 {
		errs = append(errs, errors.New("spending: Bounds.Cost needs a price: set PromptPrice and CompletionPrice, or HourPrice"))
	}
	return errors.Join(errs...)
}

// cost returns the cost of the consumption at the prices.
func (b *Bounds) cost(s *Spent) float64 {
	tokens := (float64(s.PromptTokens)*b.PromptPrice + float64(s.CompletionTokens)*b.CompletionPrice) / 1e6
	return max(tokens, s.Seconds/3600*b.GPUs*b.HourPrice)
}

// A Ledger counts a run's consumption against its bounds. It is safe for concurrent use.
type Ledger struct {
	bounds Bounds
	now    func() time.Time

	mu      sync.Mutex
	spent   Spent // Seconds is the time of earlier attempts
	began   time.Time
	reached bool
}

// New returns the ledger of a run that begins with the consumption of earlier attempts.
func New(b Bounds) *Ledger { return &Ledger{bounds: b, now: time.Now, spent: b.Spent} }

// Reserve reserves up to n generations and returns how many the caller may request. So a run ends
// exactly at its bound.
func (l *Ledger) Reserve(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over() {
		return 0
	}
	if l.began.IsZero() {
		l.began = l.now()
	}
	if b := l.bounds.Generations; b > 0 {
		n = int(min(int64(n), b-l.spent.Generations))
	}
	l.spent.Generations += int64(n)
	return n
}

// over reports whether a bound is reached. The caller has mu.
func (l *Ledger) over() bool {
	b, spent := &l.bounds, l.spent
	if !l.began.IsZero() {
		spent.Seconds += l.now().Sub(l.began).Seconds()
	}
	l.reached = l.reached ||
		b.Generations > 0 && spent.Generations >= b.Generations ||
		b.Cost > 0 && b.cost(&spent) >= b.Cost ||
		b.GPUHours > 0 && spent.Seconds/3600*b.GPUs >= b.GPUHours
	return l.reached
}

// IsReached reports whether a bound is reached, so that no more requests may be sent.
func (l *Ledger) IsReached() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over()
}

// Add counts the tokens of an answer.
func (l *Ledger) Add(prompt, completion int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent.PromptTokens += prompt
	l.spent.CompletionTokens += completion
}
