package prose

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTrimSpecialTokens(t *testing.T) {
	tests := []struct{ text, want, token string }{
		{"Score: 4", "Score: 4", ""},
		{"Score: 4</s>", "Score: 4", "</s>"},
		{"Score: 4 <|im_end|>\n<|endoftext|> ", "Score: 4", "<|endoftext|>"},
		{"Fin.<｜end▁of▁sentence｜>", "Fin.", "<｜end▁of▁sentence｜>"},
		{"Fin.[/INST]", "Fin.", "[/INST]"},
		{"Fin.<end_of_turn>\n", "Fin.", "<end_of_turn>"},
		{"x < y and y > z", "x < y and y > z", ""},
		{"see <s>", "see", "<s>"},
		{"a list [1]", "a list [1]", ""},
		{"<b>bold</b>", "<b>bold</b>", ""},
		{"</s>", "", "</s>"},
		{"the token </s> ends a text.", "the token </s> ends a text.", ""},
		{"vector<int>", "vector<int>", ""},
	}
	for _, tt := range tests {
		if got, token := TrimSpecialTokens(tt.text); got != tt.want || token != tt.token {
			t.Errorf("%q: got %q, %q; want %q, %q", tt.text, got, token, tt.want, tt.token)
		}
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"**Score:** `4`":            "Score: 4",
		"Ｓｃｏｒｅ：４":                   "Score:4",
		"total_score = 4":           "total score = 4",
		`$\boxed{\text{Score: }4}$`: "${Score: 4}$",
		"٤٫٥":                       "4.5",
		"३":                         "3",
		"4️⃣":                       "4",
		"【4】":                       "[4]",
		"−1":                        "-1",
		"𝟜":                         "4",
	} {
		if got := Plain(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestSentences(t *testing.T) {
	got := Sentences(`It is 4.5 of 5. "Good!" No. 3 is short, e.g. here. 不错。Fine`)
	want := []string{"It is 4.5 of 5.", `"Good!`, `" No. 3 is short, e.g. here.`, "不错。", "Fine"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzTrimSpecialTokens(f *testing.F) {
	f.Add("Score: 4</s>")
	f.Add("<|a|><|b|>")
	f.Fuzz(func(t *testing.T, text string) {
		trimmed, token := TrimSpecialTokens(text)
		if !strings.HasPrefix(text, trimmed) || token == "" && trimmed != text {
			t.Errorf("%q: got %q, %q", text, trimmed, token)
		}
		if again, token := TrimSpecialTokens(trimmed); token != "" || again != trimmed {
			t.Errorf("%q: trimmed again it is %q", text, again)
		}
	})
}
