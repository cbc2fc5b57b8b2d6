package counters

import (
	"strings"
	"testing"
)

// Most texts of a role begin with one closed tag: one warning, which names the setting. Eleven
// of 20 are most; ten are not.
func TestBeginningsAreReportedOnce(t *testing.T) {
	for tagged, want := range map[int]int{10: 0, 11: 1, 20: 1} {
		var c Counters
		for i := range 20 {
			c.RecordBeginning("actor", "<analysis>", i < tagged)
		}
		c.RecordBeginning("judge", "<analysis>", true)
		warnings := c.Snapshot().Warnings
		if tagged == 11 { // it shows at the 21st text, as those with the tag came first
			c.RecordBeginning("actor", "<analysis>", true)
			warnings = c.Snapshot().Warnings
		}
		if len(warnings) != want {
			t.Errorf("%d of 20: got %q, want %d warnings", tagged, warnings, want)
		}
		for _, w := range warnings {
			if !strings.Contains(w, "method.reasoning_tags") || !strings.Contains(w, "<analysis>") {
				t.Errorf("got %q", w)
			}
		}
	}
}
