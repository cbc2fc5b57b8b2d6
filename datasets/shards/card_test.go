package shards

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func exampleCard() Card {
	return Card{
		Actor:      []File{{Path(Actor, 0, 2), Info{Rows: 3, Bytes: 9, SHA256: "aa"}}, {Path(Actor, 1, 2), Info{Rows: 4, Bytes: 9, SHA256: "bb"}}},
		Judge:      []File{{Path(Judge, 0, 1), Info{Rows: 5, Bytes: 9, SHA256: "cc"}}},
		ActorModel: "llama-3-8b@step-2", JudgeModel: "a|`b`", MetaJudgeModel: "llama-3-8b",
		Prompts: 10, Responses: 70, Judgments: 770, Comparisons: 1100, Failures: 2,
	}
}

func TestCard(t *testing.T) {
	got := exampleCard().Markdown()
	const golden = "testdata/card.md"
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("card (-want +got):\n%s", diff)
	}
}

// header is a loader's view of the card's first part.
type header struct {
	Configs []struct {
		Name        string `yaml:"config_name"`
		Description string
		Default     *bool
		DataFiles   []struct{ Split, Path string } `yaml:"data_files"`
	}
}

func readHeader(t *testing.T, c Card) header {
	t.Helper()
	parts := strings.SplitN(string(c.Markdown()), "---\n", 3)
	if len(parts) != 3 || parts[0] != "" {
		t.Fatalf("the card has no header:\n%s", c.Markdown())
	}
	var h header
	if err := yaml.Unmarshal([]byte(parts[1]), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCardConfigs(t *testing.T) {
	both := readHeader(t, exampleCard())
	if len(both.Configs) != 2 {
		t.Fatalf("configs %v, want two", both.Configs)
	}
	for i, name := range []string{"actor", "judge"} {
		c := both.Configs[i]
		if c.Name != name || c.Default != nil || len(c.DataFiles) != 1 || c.DataFiles[0].Split != "train" || c.DataFiles[0].Path != name+"/train-*.parquet" {
			t.Errorf("config %d is %+v", i, c)
		}
	}
	changed := exampleCard()
	changed.Judge[0].SHA256 = "dd"
	other := readHeader(t, changed)
	if other.Configs[0].Description != both.Configs[0].Description {
		t.Error("the actor's description changed though its files did not")
	}
	if other.Configs[1].Description == both.Configs[1].Description {
		t.Error("the judge's file changed and its description did not")
	}
	empty := exampleCard()
	empty.Judge[0].Rows = 0
	if h := readHeader(t, empty); len(h.Configs) != 1 || h.Configs[0].Name != "actor" {
		t.Errorf("without judge pairs the configs are %+v, want the actor's alone", h.Configs)
	}
	if text := string(empty.Markdown()); strings.Contains(text, `"judge"`) {
		t.Errorf("the card tells how to load judge pairs, of which there are none:\n%s", text)
	}
	if h := readHeader(t, Card{}); len(h.Configs) != 0 {
		t.Errorf("without pairs the configs are %+v", h.Configs)
	}
}

func TestCardSaysSimulated(t *testing.T) {
	c := exampleCard()
	if strings.Contains(string(c.Markdown()), "simulated") {
		t.Error("a card of real data says simulated")
	}
	c.Simulated = true
	if !strings.Contains(string(c.Markdown()), "**This data is simulated.**") {
		t.Error("a card of simulated data doesn't say so")
	}
	if got := readHeader(t, c).Configs[0].Description; !strings.HasPrefix(got, "7 simulated pairs, digest ") {
		t.Errorf("the header of simulated data describes it as %q", got)
	}
}

// A model's name can neither act on a terminal nor break the table or the page.
func TestCardSanitizesNames(t *testing.T) {
	c := exampleCard()
	c.ActorModel = "a\x1b[2J\u202e\u0085b\n| x |\n---\n# y`<script>"
	card := string(c.Markdown())
	if want := "| actor | `a␛[2J⟨U+202E⟩⟨U+0085⟩b␊\\| x \\|␊---␊# y'<script>` |\n"; !strings.Contains(card, want) {
		t.Errorf("the card has no line %q:\n%s", want, card)
	}
	if strings.ContainsAny(card, "\x1b\u202e\u0085") {
		t.Error("the card has control characters")
	}
}
