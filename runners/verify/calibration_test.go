package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/pipelines/config"
)

// The scores of a calibrated run follow from the map in run.json. Any other map is reported.
func TestCalibration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "map.json")
	const calibration = `{"version": 1, "date": "2026-11-25", "judge": {"model": "m", "judgments": 11, "template": "t"}, "responses": 9, "prompts": 9,
		"labels": {"file": "l", "sha256": "0000000000000000000000000000000000000000000000000000000000000000"},
		"points": [{"score": 1, "people": 0.5}, {"score": 3, "people": 2}, {"score": 4, "people": 4.5}]}`
	if err := os.WriteFile(file, []byte(calibration), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if err := makeRun(t.Context(), out, promptLines(), func(c *config.Config) { c.Judge.Calibration = file }); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil { // run.json is sufficient
		t.Fatal(err)
	}
	for _, p := range mustVerify(t, out).Problems {
		t.Error(p)
	}
	name := filepath.Join(out, "run.json")
	run, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ was, is, want string }{
		{`"people": 4.5`, `"people": 4.25`, "score_mean is"},
		{`"people": 0.5`, `"people": 3`, "a map may not reverse an order"},
	} {
		if !strings.Contains(string(run), c.was) {
			t.Fatalf("run.json lacks %s", c.was)
		}
		if err := os.WriteFile(name, []byte(strings.Replace(string(run), c.was, c.is, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if problems := strings.Join(mustVerify(t, out).Problems, "\n"); !strings.Contains(problems, c.want) {
			t.Errorf("%s for %s: no problem speaks of %q:\n%.500s", c.is, c.was, c.want, problems)
		}
	}
}
