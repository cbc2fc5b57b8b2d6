package infer

import (
	"testing"
	"time"
)

// 40 generations of 50 are spent: a request of 11 does not fit, and none that does goes on after it.
func TestGenerationsAreReserved(t *testing.T) {
	s := newSpending(Bounds{Generations: 50, Spent: Spent{Generations: 30}})
	if !s.reserve(10) || s.isReached() || s.reserve(11) || s.reserve(1) || !s.isReached() {
		t.Errorf("spent %+v: want a request of 10, none of 11, and nothing after it", s.spent)
	}
	if s := newSpending(Bounds{Generations: 50, Spent: Spent{Generations: 50}}); !s.isReached() {
		t.Error("a bound that was reached earlier is not reached")
	}
}

// 2 USD a million prompt tokens and 10 a million written ones: 100,000 and 80,000 cost 0.2 + 0.8 = 1.
func TestCostIsCounted(t *testing.T) {
	s := newSpending(Bounds{Cost: 1, PromptPrice: 2, CompletionPrice: 10, Spent: Spent{PromptTokens: 60_000, CompletionTokens: 50_000}})
	s.add(40_000, 29_999)
	if s.isReached() {
		t.Error("reached a token early")
	}
	s.add(0, 1)
	if !s.isReached() || s.reserve(1) {
		t.Error("1.00 of 1.00 is not reached")
	}
}

// Half an hour of 4 GPUs is 2 GPU hours, which at 3 USD cost 6. Time counts from the first request.
func TestHoursAreCounted(t *testing.T) {
	now := time.Unix(0, 0)
	for name, b := range map[string]Bounds{"hours": {GPUHours: 3, GPUs: 4}, "cost": {Cost: 9, GPUs: 4, HourPrice: 3}} {
		b.Spent.Seconds = 900
		s := newSpending(b)
		s.now = func() time.Time { return now }
		now = now.Add(time.Hour) // before the first request: free
		if !s.reserve(1) {
			t.Fatalf("%s: nothing is reserved", name)
		}
		if now = now.Add(30*time.Minute - time.Second); s.isReached() {
			t.Errorf("%s: reached a second early", name)
		}
		if now = now.Add(time.Second); !s.isReached() { // 15 + 30 minutes of 4 GPUs
			t.Errorf("%s: 3 GPU hours are not reached", name)
		}
	}
}

func TestBoundsAreChecked(t *testing.T) {
	for _, b := range []Bounds{{Generations: -1}, {Cost: -1}, {Cost: 1}, {GPUHours: -2}} {
		if b.validate() == nil {
			t.Errorf("%+v is valid", b)
		}
	}
}
