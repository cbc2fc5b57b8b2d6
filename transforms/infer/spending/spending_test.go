package spending

import (
	"testing"
	"time"
)

// 40 generations of 50 are spent: of a request of 11 ten fit, and nothing after it.
func TestGenerationsAreReserved(t *testing.T) {
	s := New(Bounds{Generations: 50, Spent: Spent{Generations: 30}})
	if s.Reserve(10) != 10 || s.IsReached() || s.Reserve(11) != 10 || s.Reserve(1) != 0 || !s.IsReached() {
		t.Errorf("spent %+v: want a request of 10, 10 of 11, and nothing after it", s.spent)
	}
	if s := New(Bounds{Generations: 50, Spent: Spent{Generations: 50}}); !s.IsReached() {
		t.Error("a bound that was reached earlier is not reached")
	}
}

// 2 USD a million prompt tokens and 10 a million written ones: 100,000 and 80,000 cost 0.2 + 0.8 = 1.
func TestCostIsCounted(t *testing.T) {
	s := New(Bounds{Cost: 1, PromptPrice: 2, CompletionPrice: 10, Spent: Spent{PromptTokens: 60_000, CompletionTokens: 50_000}})
	s.Add(40_000, 29_999)
	if s.IsReached() {
		t.Error("reached a token early")
	}
	s.Add(0, 1)
	if !s.IsReached() || s.Reserve(1) != 0 {
		t.Error("1.00 of 1.00 is not reached")
	}
}

// Half an hour of 4 GPUs is 2 GPU hours, which at 3 USD cost 6. Time counts from the first request.
func TestHoursAreCounted(t *testing.T) {
	now := time.Unix(0, 0)
	for name, b := range map[string]Bounds{"hours": {GPUHours: 3, GPUs: 4}, "cost": {Cost: 9, GPUs: 4, HourPrice: 3}} {
		b.Spent.Seconds = 900
		s := New(b)
		s.now = func() time.Time { return now }
		now = now.Add(time.Hour) // before the first request: free
		if s.Reserve(1) != 1 {
			t.Fatalf("%s: nothing is reserved", name)
		}
		if now = now.Add(30*time.Minute - time.Second); s.IsReached() {
			t.Errorf("%s: reached a second early", name)
		}
		if now = now.Add(time.Second); !s.IsReached() { // 15 + 30 minutes of 4 GPUs
			t.Errorf("%s: 3 GPU hours are not reached", name)
		}
	}
}

func TestBoundsAreChecked(t *testing.T) {
	for _, b := range []Bounds{{Generations: -1}, {Cost: -1}, {Cost: 1}, {GPUHours: -2}} {
		if b.Validate() == nil {
			t.Errorf("%+v is valid", b)
		}
	}
}
