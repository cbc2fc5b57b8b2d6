package charts

import "testing"

func TestLabels(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.1 + 0.2: "0.3", -200: "−200", 2.5: "2.5", 4000: "4,000", -1234567: "−1,234,567"} {
		if got := Label(v); got != want {
			t.Errorf("Label(%v) = %s, want %s", v, got, want)
		}
	}
}
