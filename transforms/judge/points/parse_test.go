package points

import (
	"slices"
	"strings"
	"testing"

	"coeval/schemas"
	"coeval/transforms/answers/answerstest"
	"coeval/transforms/prompting"
)

func TestParseScore(t *testing.T) {
	tests := []struct {
		name, text string
		want       int
		unparsed   string
	}{
		// Forms of a score line.
		{"plain", "Good.\n\nScore: 4", 4000, ""},
		{"zero", "Score: 0", 0, ""},
		{"highest", "Score: 5", 5000, ""},
		{"decimals", "Score: 4.5", 4500, ""},
		{"decimal comma", "Score: 4,5", 4500, ""},
		{"no whole part", "Score: .5", 500, ""},
		{"three decimals", "Score: 4.125", 4125, ""},
		{"more decimals round half up", "Score: 3.6665", 3667, ""},
		{"many decimals", "Score: 4.3333333333333333333333333", 4333, ""},
		{"rounds up to 5", "Score: 4.99999", 5000, ""},
		{"trailing zeros", "Score: 5.0000000", 5000, ""},
		{"leading zero", "Score: 04", 4000, ""},
		{"minus zero", "Score: -0.0", 0, ""},
		{"of five", "Score: 4/5", 4000, ""},
		{"spaced", "Score : 4 / 5", 4000, ""},
		{"decimals of five", "**Score:** 4.5/5.", 4500, ""},
		{"comma of five", "Score: 4,5/5,0", 4500, ""},
		{"out of five", "Score: 4 out of 5", 4000, ""},
		{"out of five points", "Score: 4 out of 5 points.", 4000, ""},
		{"points out of five", "Score: 4 points out of 5", 4000, ""},
		{"out of a possible five", "Score: 4 out of a possible 5", 4000, ""},
		{"in parentheses", "Score: 4 (out of 5)", 4000, ""},
		{"points", "Score: 4 points.", 4000, ""},
		{"one point", "Score: 1 point", 1000, ""},
		{"pts", "Score: 4pts", 4000, ""},
		{"bold label", "**Score:** 4", 4000, ""},
		{"bold line", "**Score: 4**", 4000, ""},
		{"bold number", "Score: **4**", 4000, ""},
		{"underscores", "__Score: 4__", 4000, ""},
		{"code span", "`Score: 4`", 4000, ""},
		{"square brackets", "Score: [4]", 4000, ""},
		{"angle brackets", "Score: <4>", 4000, ""},
		{"angle brackets of five", "Score: <4/5>", 4000, ""},
		{"lenticular brackets", "Score：【4】", 4000, ""},
		{"brackets around the line", "[Score: 4]", 4000, ""},
		{"quotation marks", `"Score: 4"`, 4000, ""},
		{"full-width colon", "Score：4", 4000, ""},
		{"full-width digit", "Score：４", 4000, ""},
		{"equals sign", "Score = 4", 4000, ""},
		{"final", "Final Score: 4", 4000, ""},
		{"overall", "**Overall score:** 4!", 4000, ""},
		{"snake case", "final_score: 4", 4000, ""},
		{"so the", "So, the final score is: 4.", 4000, ""},
		{"parenthesis in the label", "Score (out of 5): 4", 4000, ""},
		{"heading", "## Score: 4", 4000, ""},
		{"bullet", "- Score: 4", 4000, ""},
		{"numbered", "6. Score: 4", 4000, ""},
		{"upper case", "SCORE: 4", 4000, ""},
		{"boxed", `Score: $\boxed{4}$`, 4000, ""},
		{"windows", "Good.\r\nScore: 4\r\n", 4000, ""},
		{"after a sentence", "A useful answer. Score: 4", 4000, ""},
		{"points before", "Points: 3 … Score: 4", 4000, ""},
		{"points above", "Points: 3\nScore: 4", 4000, ""},
		{"number below", "### Final Score:\n\n**4/5**", 4000, ""},
		{"remark", "Score: 4 - clear and complete.", 4000, ""},
		{"remark in parentheses", "Score: 4 (clear and complete)", 4000, ""},
		{"reason", "Score: 4, since it is clear", 4000, ""},
		{"provided as a participle", "Score: 4 – the examples provided are clear.", 4000, ""},
		{"provided as a condition", "Score: 4 – provided the date is right.", 0, Ambiguous},
		{"provided that", "Score: 4 (it is good provided that the date is right)", 0, Ambiguous},
		{"only in a fact", "Score: 4 (minor typos only)", 4000, ""},
		{"one criterion only", "Score: 4 (relevance and coverage only)", 0, Ambiguous},
		{"one part only", "Score: 4 (the opening part only)", 0, Ambiguous},
		{"a criterion met in part", "Score: 4 (one of the criteria is only partly met)", 4000, ""},
		{"one criterion met", "Score: 4 (only one of the criteria is met)", 0, Ambiguous},
		{"a fact beside a wish", "Score: 4 – lists 3 causes; a source would help.", 4000, ""},
		{"another value that could be", "Score: 4 – it is short; strictly 3 Punkte would do.", 0, Ambiguous},
		{"no deductions", "Score: 5\nDeductions: 0", 5000, ""},
		{"a deduction that leads to the score", "Score: 4\nDeduction: 1 (no sources)", 4000, ""},
		{"deductions that lead to the score", "Score: 3\nDeductions: 2 points", 3000, ""},
		{"a deduction below the score", "Score: 5\nDeduction: 1 (no sources)", 0, Ambiguous},
		{"a bonus", "Score: 4\nBonus: 1", 0, Ambiguous},
		{"a fact after plus", "Score: 4\nPlus, it names 3 sources.", 4000, ""},
		{"points after plus", "Score: 4\nPlus, I add 1 point.", 0, Ambiguous},
		{"a decimal comma before a scale", "Score: 4,2/5", 4200, ""},
		{"a decimal comma before a unit", "Score: 3,8 Punkte", 3800, ""},
		{"a comma alone", "Score: 3,8", 0, Ambiguous},
		{"a note on the sum", "Total score (sum of all criteria): 4", 4000, ""},
		{"a note on the rubric", "Score (based on the rubric): 4", 4000, ""},
		{"a note on one criterion", "Score (based on the style): 4", 0, Ambiguous},
		{"a scale in Spanish", "Puntuación (escala de 0 a 5): 4", 4000, ""},
		{"a scale in Russian", "Оценка (по шкале от 0 до 5): 4", 4000, ""},
		{"a scale in French", "Note finale (de 0 à 5) : 4", 4000, ""},
		{"a longer scale in French", "Note finale (sur une échelle de 0 à 10) : 4", 0, WrongScale},
		{"JSON line", "Here it is:\n{\n  \"score\": 4\n}", 4000, ""},
		{"JSON", `{"reasoning": "Score: 5", "score": 4.5}`, 4500, ""},
		{"JSON string", `{"score": "4/5"}`, 4000, ""},

		// Which line counts.
		{"the last", "Score: 2\nOn reflection:\nScore: 4", 4000, ""},
		{"the last on its line", "Score: 2. No. Score: 4", 4000, ""},
		{"partial scores", "1. Relevance: 1 point\n2. Coverage: 1 point\nScore: 2", 2000, ""},
		{"no fall-back from an echo", "Score: 4\n\nI used the form `Score: <points>`.\nScore: <points>", 0, Missing},
		{"no fall-back from the placeholder's element", "Score: 0.5\nScore: <points>4.5</points>", 4500, ""},
		{"lines of criteria", "Score: 1\nScore: 0", 0, Ambiguous},
		{"a total after lines of criteria", "Score: 1\nScore: 1\nScore: 0\nTotal: 2", 2000, ""},
		{"a total after the last score line", "Score: 1\nTotal score: 3", 3000, ""},
		{"no fall-back from out of range", "Score: 4\nScore: 7", 0, OutOfRange},
		{"no fall-back from two numbers", "Score: 4\nScore: 3-4", 0, Ambiguous},
		{"no fall-back from another scale", "Score: 4\nScore: 8/10", 0, WrongScale},
		{"no fall-back from no number", "Score: 4\nScore: n/a", 0, NotANumber},
		{"no fall-back from nothing", "Score: 4\nScore:", 0, NotANumber},
		{"list below", "Score:\n1. It is relevant.", 0, Ambiguous},

		{"a capital of two lengths", "<score>\u0130\u0130\u0130</score>\nScore: 4", 4000, ""},
		{"an element without valid UTF-8", "<score>\xff\xff\xff</score>\nScore: 4", 4000, ""},

		// Texts without a score.
		{"empty", "", 0, Empty},
		{"blank", " \n\t", 0, Empty},
		{"no line", "The answer deserves most of the points.", 0, Missing},
		{"echo", "Score: <points>", 0, Missing},
		{"echo in brackets", "Score: [points]", 0, Missing},
		{"echo in quotation marks", `Score: "<points>"`, 0, Missing},
		{"in a sentence", "I would give it a Score: 4", 0, Missing},
		{"of ten", "Score: 4/10", 0, WrongScale},
		{"out of ten", "Score: 5 out of 10", 0, WrongScale},
		{"points out of ten", "Score: 5 points out of 10", 0, WrongScale},
		{"ten in parentheses", "Score: 5 (out of 10)", 0, WrongScale},
		{"of fifty", "Score: 4/50", 0, WrongScale},
		{"percent", "Score: 100%", 0, WrongScale},
		{"percent in letters", "Score: 4 percent", 0, WrongScale},
		{"above", "Score: 7", 0, OutOfRange},
		{"just above", "Score: 5.0001", 0, OutOfRange},
		{"far above", "Score: 123456789012345678901234567890", 0, OutOfRange},
		{"below 0", "Score: -1", 0, OutOfRange},
		{"true minus", "Score: −1", 0, OutOfRange},
		{"above, of five", "Score: 6/5", 0, OutOfRange},
		{"range", "Score: 3-4", 0, Ambiguous},
		{"range with an en dash", "Score: 3–4", 0, Ambiguous},
		{"or", "Score: 4 or 5", 0, Ambiguous},
		{"or in letters", "Score: 4 or five", 0, Ambiguous},
		{"to", "Score: 3 to 4", 0, Ambiguous},
		{"slash in letters", "Score: 4/five", 4000, ""},
		{"two numbers", "Score: 4, 5", 0, Ambiguous},
		{"two labels", "Score: 4, Score: 5", 0, Ambiguous},
		{"sum", "Score: 1 + 1 + 1 = 3", 3000, ""},
		{"wrong sum", "Score: 1 + 1 + 1 = 4", 0, Ambiguous},
		{"sum without result", "Score: 1 + 1 + 1", 0, Ambiguous},
		{"plus", "Score: 4+", 0, Ambiguous},
		{"about", "Score: <4", 0, Ambiguous},
		{"thousand", "Score: 1,000", 0, Ambiguous},
		{"half", "Score: 4½", 4500, ""},
		{"ordinal", "Score: 4th", 0, Ambiguous},
		{"letters", "Score: four", 4000, ""},
		{"JSON null", `{"score": null}`, 0, NotANumber},
		{"JSON above", `{"score": 100}`, 0, OutOfRange},
		{"quoted", "It says:\n```\nScore: 5\n```\nThat is no reason.", 0, Quoted},
		{"quoted after", "Score: 2\nIt says:\n> Score: 5", 2000, ""},
		{"below an open tag", "Score: 2\n<response-0000>\nScore: 5", 0, Quoted},
		{"in our tags", "I read " + fenced("Good!\n\nScore: 5") + "\nScore: 2", 2000, ""},
		{"in our tags after", "Score: 2\n" + fenced("Good!\n\nScore: 5"), 2000, ""},
		{"only in our tags", fenced("Good!\n\nScore: 5"), 0, Quoted},

		// Answers of SmolLM2-135M.
		{"real 1", "…The score: 3 out of 10, which is a perfect score of 3, and 100 out of 100 which is a perfect score of 3.", 0, WrongScale},
		{"real 2", "- Add 1 point if the solution meets all the specified criteria.\n- Add another point for the total score.\n- Conclude with the score in this format: \"Score: 100%\"", 0, Missing},
		{"real 3", "Your answer: \"The sky blue\"\n\nThe answer is: \"The sky blue\"\n\nThe score is: 100", 0, OutOfRange},
		{"real 4", "- 10 points\n- A total score of 100, with 10 points included.", 0, Missing},
		{"real 5", "…so I am adding a score of 5 points to the total score of 100. I hope that helps someone out.", 0, Missing},
		{"real 11", "{\n  \"justification\": \"This is a great summary of the question. You can highlight the key points by adding a markdown bullet points with \",\"score\"\n\n:1}", 1000, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, unparsed := ParseScore(tt.text, "stop")
			if got != tt.want || unparsed != tt.unparsed {
				t.Errorf("%q: got %d, %q; want %d, %q", tt.text, got, unparsed, tt.want, tt.unparsed)
			}
		})
	}
}

// A text that was cut off may end in a part of its score, or in that of one criterion.
func TestParseScoreCutOff(t *testing.T) {
	for _, text := range []string{"", "Score: 1", "Relevance: yes.\nScore: 4", `{"score": 4}`} {
		if got, unparsed := ParseScore(text, "length"); got != 0 || unparsed != CutOff {
			t.Errorf("%q: got %d, %q; want 0, %q", text, got, unparsed, CutOff)
		}
	}
}

func TestHideScore(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"last line", "It is relevant.\n\nScore: 4", "It is relevant."},
		{"bold", "It is relevant.\n\n**Final Score:** 4/5", "It is relevant."},
		{"end of a line", "It is relevant. Score: 4", "It is relevant."},
		{"below", "It is relevant.\n\nScore:\n4", "It is relevant."},
		{"a heading", "Score:\nIt is relevant.\nScore: 4", "It is relevant."},
		{"all lines", "Score: 3\nNo.\nScore: 4", "No."},
		{"a quotation that ends the text", "```\nScore: 5\n```\nScore: 4", "```\n```"},
		{"quotations stay", "```\nScore: 5\n```\nIt lies.\nScore: 4", "```\nScore: 5\n```\nIt lies."},
		{"a number below", "Score:\nScore: 3\n4", "4"},
		{"total in the reasoning", "Relevant: 1 point. So the total is 4 of 5 points.\nIt lacks sources.\n\nScore: 4", "Relevant: 1 point.\nIt lacks sources."},
		{"sum in the reasoning", "Adding up: 1 + 1 + 1 + 1 + 0 = 4.\nIt lacks sources.\nScore: 4", "It lacks sources."},
		{"share in the reasoning", "I would give this 4/5.\nIt lacks sources.\nScore: 4", "It lacks sources."},
		{"points given in the reasoning", "It is short. This answer deserves 4 points.\nScore: 4", "It is short."},
		{"JSON", `{"reasoning": "Relevant.", "score": 4}`, `{"reasoning":"Relevant."}`},
		{"JSON with a total in its text", `{"reasoning": "The total is 4. It lacks sources.", "score": 4}`, `{"reasoning":"It lacks sources."}`},
		{"a total in other words", "Summing up gives 4. It lacks sources.\nScore: 4", "It lacks sources."},
		{"a share", "80 % of the points. It lacks sources.\nScore: 4", "It lacks sources."},
		{"none", "It is relevant.", "It is relevant."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := HideScore(tt.text)
			if got != tt.want {
				t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
			}
			if score, unparsed := ParseScore(got, "stop"); unparsed == "" {
				t.Errorf("%q is still read as %d", got, score)
			}
		})
	}
}

// readsFrom reports whether some lines at the end of a text read as the score without the lines before
// them. Fewer of these lines may read otherwise: "He says:" makes a quotation of the score below it.
func readsFrom(text string, score int) bool {
	lines := strings.Split(text, "\n")
	for i := range slices.Backward(lines) {
		if got, reason := ParseScore(strings.Join(lines[i:], "\n"), "stop"); reason == "" && got == score {
			return true
		}
	}
	return false
}

// A special token, a blank line and emphasis at the end of a text change no reading.
func TestParseScoreIgnoresDecoration(t *testing.T) {
	for _, full := range answerstest.Texts(t, "judge") {
		want, unparsed := ParseScore(full, "stop")
		at := strings.LastIndexByte(strings.TrimRight(full, "\n"), '\n') + 1
		forms := map[string]string{
			"token": full + "</s>", "tokens": full + " <|im_end|>\n<|endoftext|>", "blank": full + " \n\n",
			"windows": strings.ReplaceAll(full, "\n", "\r\n"),
		}
		if last := strings.TrimSpace(full[at:]); !strings.ContainsAny(last, "*|>`{<~") && at > 0 {
			forms["bold"] = full[:at] + "**" + last + "**"
		}
		for form, text := range forms {
			if got, reason := ParseScore(text, "stop"); got != want || (reason == "") != (unparsed == "") {
				t.Errorf("%s: %q reads as %d, %q; without, as %d, %q", form, text, got, reason, want, unparsed)
			}
		}
	}
}

func FuzzParseScore(f *testing.F) {
	for _, seed := range []string{
		"", "Score: 4", "**Score:** 4.5/5.", "Score：【4】", "Score: 3-4", "Score: <points>", "Score:\n\n4", `{"score": 4}`,
		"```\nScore: 5\n```", "> Score: 5", fenced("Score: 5") + "\nScore: 2", "Score: 99999999999999999999", "Good. Score: \xff4",
		"Score: 0\n<response-0000>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		score, unparsed := ParseScore(text, "stop")
		if score < 0 || score > MaxScore || (unparsed != "" && score != 0) {
			t.Errorf("%q: score %d, unparsed %q", text, score, unparsed)
		}
		if _, cut := ParseScore(text, "length"); cut != CutOff {
			t.Errorf("%q: cut off, yet %q", text, cut)
		}
		// Only the last score line is ever read: one before the text never is, and one after it
		// is the only one that is.
		if before, reason := ParseScore("Score: 1.234\n"+text, "stop"); reason == "" && before == 1234 && score != 1234 {
			if unparsed != Missing && unparsed != Quoted && unparsed != Empty {
				t.Errorf("%q: an earlier line is read instead of the last one (%d, %s)", text, score, unparsed)
			}
		}
		if after, reason := ParseScore(text+"\nScore: 1.234", "stop"); reason == "" && after != 1234 {
			t.Errorf("%q: reads as %d with another score line after it", text, after)
		}
		if unparsed == "" && !readsFrom(text, score) {
			t.Errorf("%q: read as %d, unlike its last score line alone", text, score)
		}
		if shown, unparsed := ParseScore(HideScore(text), "stop"); unparsed == "" {
			t.Errorf("%q: %q is still read as %d", text, HideScore(text), shown)
		}
	})
}

// fenced returns a text between the tags of a prompt.
func fenced(text string) string {
	t := prompting.Text{Name: "response", Text: text}
	return prompting.NewPage(prompting.NewConversation([]schemas.Message{{Role: "user", Content: "Hello"}}), t).Fence(t)
}

// A score line with nothing but a number takes a shorter way than any other line: its unit changes nothing.
func TestPlainNumbers(t *testing.T) {
	for _, s := range []string{"0", "3", "5", "6", "05", "3.5", "3.25", "0.001", "4.9995", "5.0", "5.0000", "5.0001", "4.00000001", "3.14159", "12", "999999", "9999999", "00000004"} {
		plain, plainReason := ParseScore("Score: "+s, "stop")
		long, longReason := ParseScore("Score: "+s+" points.", "stop")
		if plain != long || plainReason != longReason {
			t.Errorf("%s is %d %q, with its unit %d %q", s, plain, plainReason, long, longReason)
		}
		if _, ok := plainNumber(s); !ok {
			t.Errorf("%s is no plain number", s)
		}
	}
	for _, s := range []string{"", ".", "4.", ".5", "1.2.3", "4..5", "+4", "-1", "4,5", "4 ", "4/5", "٤", "4e1"} {
		if n, ok := plainNumber(s); ok {
			t.Errorf("%q is the plain number %v", s, n)
		}
	}
}
