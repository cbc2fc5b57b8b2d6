package answers

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuotedLines(t *testing.T) {
	const fenced = "<response-0123456789ab>\nGood.\nScore: 5\n</response-0123456789ab>"
	tests := []struct{ name, text, want string }{ // a q for every quoted line
		{"none", "Good.\nScore: 4", ".."},
		{"a code block", "It says:\n```\nScore: 5\n```\nNo.", ".qqq."},
		{"tildes", "It says:\n~~~text\nScore: 5\n```\nScore: 3\n~~~\nNo.", ".qqqqq."},
		{"a longer fence", "It says:\n````\n```\nScore: 5\n````\nNo.", ".qqqq."},
		{"an unclosed block", "It says:\n```\nScore: 5", ".qq"},
		{"a code span", "```Score: 4```", "."},
		{"a block quotation", "It says:\n> Score: 5\nNo.", ".q."},
		{"our tags", fenced + "\nScore: 4", "qqqq."},
		{"our tags at the end", "Score: 4\n" + fenced, ".qqqq"},
		{"our tags with a short code", "<response-7f3a>\nScore: 5\n</response-7f3a>\nNo.", "qqq."},
		{"our tags in one line", "<response-0123456789ab>Score: 5</response-0123456789ab>\nScore: 4", "q."},
		{"our tags cut short", "<response-0123456789ab>\nScore: 5", "qq"},
		{"our tag mentioned", "The text in <response-0123456789ab> is good.\nScore: 4", ".."},
		{"another tag", "<my-face>\nScore: 4", ".."},
		{"a block of the model's own", "Good.\n```\nScore: 4\n```", "...."},
		{"an introduced block of its own", "My verdict:\n```\nScore: 4\n```", "...."},
		{"an introduced block at the end", "It ends with:\n```\nScore: 4\n```", ".qqq"},
		{"all in a block", "```\nGood.\nScore: 4\n```", "...."},
		{"all in an unclosed block", "```\nGood.\nScore: 4", "..."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got strings.Builder
			for _, q := range quotedLines(strings.Split(tt.text, "\n")) {
				got.WriteByte(map[bool]byte{true: 'q', false: '.'}[q])
			}
			if got.String() != tt.want {
				t.Errorf("%q: got %s, want %s", tt.text, got.String(), tt.want)
			}
		})
	}
}

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
		if got := plain(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestSentences(t *testing.T) {
	got := sentences(`It is 4.5 of 5. "Good!" No. 3 is short, e.g. here. 不错。Fine`)
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
