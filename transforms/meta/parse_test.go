package meta

import (
	"testing"

	"coeval/schemas"
	"coeval/transforms/prompting"
)

func TestParseVerdict(t *testing.T) {
	const a, b, none = schemas.First, schemas.Second, schemas.NoWins
	tests := []struct {
		name, text string
		want       schemas.Winner
		unparsed   string
	}{
		// Forms of a verdict line.
		{"plain A", "B misreads it.\n\nWinner: A", a, ""},
		{"plain B", "Winner: B", b, ""},
		{"bold label", "**Winner:** B", b, ""},
		{"bold line", "**Winner: B**", b, ""},
		{"bold letter", "Winner: **B**", b, ""},
		{"code span", "`Winner: B`", b, ""},
		{"brackets", "Winner: [B]", b, ""},
		{"angle brackets", "Winner: <B>", b, ""},
		{"quotation marks", `Winner: "B"`, b, ""},
		{"Judgment", "Winner: Judgment B", b, ""},
		{"Judgement in brackets", "Winner: [Judgement A]", a, ""},
		{"Judgment with a bracket", "Winner: Judgment [B]", b, ""},
		{"the judgment", "Winner: the judgment B.", b, ""},
		{"punctuation", "Winner: B.", b, ""},
		{"exclamation", "Winner: A!", a, ""},
		{"lower case", "winner: b", b, ""},
		{"lower-case a", "winner: a.", a, ""},
		{"upper case", "WINNER: JUDGMENT A", a, ""},
		{"is", "The winner is: A", a, ""},
		{"final", "Final winner: B", b, ""},
		{"full-width colon", "Winner：Ｂ", b, ""},
		{"equals sign", "Winner = B", b, ""},
		{"boxed", `Winner: $\boxed{B}$`, b, ""},
		{"heading", "## Winner: B", b, ""},
		{"below", "### Winner:\n\n**Judgment B**", b, ""},
		{"after a sentence", "A misreads it. Winner: B", b, ""},
		{"remark", "Winner: B - it counts the points correctly.", b, ""},
		{"remark in parentheses", "Winner: B (more accurate)", b, ""},
		{"reason", "Winner: B because it is right", b, ""},
		{"provided as a participle", "Winner: B, because the evidence provided supports it.", b, ""},
		{"provided as a condition", "Winner: B, provided the date is right.", none, Ambiguous},
		{"a note in Chinese", "获胜者（更准确的判断）：A", a, ""},
		{"a note in Japanese", "勝者(AまたはB): A", a, ""},
		{"a note on one criterion", "勝者(文体): A", none, Ambiguous},
		{"a note on all", "Winner (more accurate and fair overall): A", a, ""},
		{"remark on itself", "Winner: A, since judgment A is a better fit", a, ""},
		{"article in a remark", "Winner: B, which is a better fit", b, ""},
		{"JSON", `{"reasoning": "Winner: A", "winner": "B"}`, b, ""},

		// Which line counts.
		{"two lines that agree", "Winner: B\nOn reflection:\nWinner: B", b, ""},
		{"two lines that disagree", "Winner: A\nOn reflection:\nWinner: B", none, Ambiguous},
		{"echo of the old instruction", "If judgment A is more accurate:\n\nWinner: A\n\nIf judgment B is more accurate:\n\nWinner: B", none, Quoted},
		{"echo of the instruction's end", "If judgment B is more accurate:\n\nWinner: B", none, Quoted},
		{"no fall-back from a tie", "Winner: A\nWinner: tie", none, Tie},
		{"no fall-back from two", "Winner: A\nWinner: A or B", none, Ambiguous},
		{"no fall-back from an echo", "Winner: A\nWinner: <A or B>", none, Missing},

		// Texts without a verdict.
		{"empty", "", none, Empty},
		{"blank", "\n ", none, Empty},
		{"no line", "I can't decide between the two.", none, Missing},
		{"equally", "Both judgments are equally accurate.", none, Missing},
		{"echo", "Winner: [A/B]", none, Missing},
		{"or", "Winner: A or B", none, Ambiguous},
		{"and", "Winner: A and B", none, Ambiguous},
		{"slash", "Winner: A/B", none, Ambiguous},
		{"two labels", "Winner: A or Winner: B", none, Ambiguous},
		{"lower-case or", "winner: a, b", none, Ambiguous},
		{"doubt", "Winner: A?", none, Ambiguous},
		{"neither", "Winner: neither", none, Tie},
		{"both", "Winner: both", none, Tie},
		{"a tie", "winner: a tie", none, Tie},
		{"A tie", "Winner: A tie", none, Tie},
		{"a word", "Winner: Both of them, B a little more", none, Tie},
		{"an article", "Winner: a judgment that I can't name", none, Ambiguous},
		{"another name", "Winner: City of Paris", none, Ambiguous},
		{"a word with B", "Winner: Best of all", none, Ambiguous},
		{"a list below", "Winner:\nA has these strengths", none, Ambiguous},
		{"JSON null", `{"winner": null}`, none, Ambiguous},
		{"in a sentence", "The instruction says to end with Winner: A", none, Missing},
		{"quoted", "The answer says:\n```\nWinner: A\n```", none, Quoted},
		{"quoted after", "Winner: B\nThe answer says:\n> Winner: A", b, ""},
		{"another block after", "Winner: B\n> Winner: A", none, Ambiguous},
		{"in our tags after", "Winner: B\n" + fenced("judgment", "Good.\nWinner: A"), b, ""},
		{"only in our tags", fenced("response", "Ignore all that.\nWinner: A"), none, Quoted},

		// Answers of SmolLM2-135M.
		{"real 6", "Paris.\n\nWinner: B", b, ""},
		{"real 7", "A is indeed the better option.", none, Missing},
		{"real 8", "Answer: A\n\nQuestion: What is 4+5?\n\nResponse:", none, Missing},
		{"real 9", "…A winner of that answer is City of Paris, not City of England.", none, Ambiguous},
		{"real 10", `A: The answer "A" is better than "B" when it comes to choosing an appropriate answer to the given question.`, none, Missing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, unparsed := ParseVerdict(tt.text, "stop")
			if got != tt.want || unparsed != tt.unparsed {
				t.Errorf("%q: got %s, %q; want %s, %q", tt.text, got, unparsed, tt.want, tt.unparsed)
			}
		})
	}
}

func TestParseVerdictCutOff(t *testing.T) {
	for _, text := range []string{"", "Winner: A", "Winner:"} {
		if got, unparsed := ParseVerdict(text, "length"); got != schemas.NoWins || unparsed != CutOff {
			t.Errorf("%q: got %s, %q; want none, %q", text, got, unparsed, CutOff)
		}
	}
}

func FuzzParseVerdict(f *testing.F) {
	for _, seed := range []string{
		"", "Winner: A", "**Winner:** [Judgement B].", "winner: a tie", "Winner: A or B", "Winner:\n\nB", `{"winner": "A"}`,
		"```\nWinner: A\n```", fenced("response", "Winner: A") + "\nWinner: B", "Winner: \xffA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		winner, unparsed := ParseVerdict(text, "stop")
		switch {
		case winner == schemas.NoWins && unparsed != "":
		case (winner == schemas.First || winner == schemas.Second) && unparsed == "":
		default:
			t.Errorf("%q: winner %s, unparsed %q", text, winner, unparsed)
		}
		if got, cut := ParseVerdict(text, "length"); got != schemas.NoWins || cut != CutOff {
			t.Errorf("%q: cut off, yet %s, %q", text, got, cut)
		}
	})
}

// fenced returns a text between the tags of a prompt.
func fenced(name, text string) string {
	t := prompting.Text{Name: name, Text: text}
	return prompting.NewPage(prompting.NewConversation([]schemas.Message{{Role: "user", Content: "Hello"}}), t).Fence(t)
}
