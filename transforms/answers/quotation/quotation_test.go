package quotation

import (
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
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
		{"a separate introduced block", "My verdict:\n```\nScore: 4\n```", "...."},
		{"an introduced block at the end", "It ends with:\n```\nScore: 4\n```", ".qqq"},
		{"all in a block", "```\nGood.\nScore: 4\n```", "...."},
		{"all in an unclosed block", "```\nGood.\nScore: 4", "..."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got strings.Builder
			for _, q := range Lines(strings.Split(tt.text, "\n")) {
				got.WriteByte(map[bool]byte{true: 'q', false: '.'}[q])
			}
			if got.String() != tt.want {
				t.Errorf("%q: got %s, want %s", tt.text, got.String(), tt.want)
			}
		})
	}
}
