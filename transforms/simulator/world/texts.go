package world

import (
	"strings"

	"coeval/schemas"
)

// TextsVersion must change with the code that makes the texts. The identity of a simulated worker contains it.
const TextsVersion = 1

// builder builds a text. It is a strings.Builder with space for a code.
type builder struct {
	strings.Builder
	scratch [96]byte
}

// again is mixed into a question for the text that duplicates share.
const again = 0xd0b1e

// response writes the actor's text.
func (w *World) response(b *builder, q *Question, r Rand) (text, end string) {
	if r.Float64() < w.Duplicates || w.ConstantActor {
		r = Rand(Mix(q.Hash ^ again))
	}
	c := code{prompt: uint32(q.ContentHash >> 32), sample: bits48(r.Uint64()), shift: q.skill.shift()}
	switch p := r.Float64(); {
	case p < w.Empty:
		return []string{"", "\n", " \n\n"}[r.Uint64()%3], "stop"
	case p < w.Empty+w.Truncated:
		end = "length"
	default:
		end = "stop"
	}
	_, z := w.hidden(c)
	size := lengthOf(w.ResponseChars, w.ResponseSigma, z)
	b.Grow(size + 256)
	b.sentence(&r)
	b.tuck(c.appendTo(b.scratch[:0]))
	b.prose(&r, size)
	text = b.String()
	if end == "length" {
		text = cut(text, int(float64(len(text))*(0.3+0.6*r.Float64())))
	}
	return text, end
}

var criteria = [...]string{
	"\n\nIs it relevant?", "\n\nDoes it address a substantial part of the question?",
	"\n\nAre the basic elements answered usefully?", "\n\nIs it clearly written and well organised?",
	"\n\nIs it expert, and free of superfluous text?",
}

// judgment writes the judge's text about a response.
func (w *World) judgment(b *builder, q *Question, r Rand) (text, end string) {
	if r.Float64() < w.JudgeDuplicates {
		r = Rand(Mix(q.Hash ^ again))
	}
	n := note{about: q.response, nonce: bits48(r.Uint64())}
	n.score = w.score(q, &r)
	p := r.Float64()
	size := lengthOf(w.JudgmentChars, 0.35, r.NormFloat64())
	b.Grow(size + 256)
	b.WriteString("I read the answer against the rubric ")
	b.Write(n.appendTo(b.scratch[:0]))
	b.WriteByte('.')
	for i, criterion := range criteria {
		if part := size * (i + 1) / len(criteria); b.Len()+len(criterion)+typical <= part {
			b.WriteString(criterion)
			b.prose(&r, part)
		}
	}
	if q.Form != nil && p >= w.JudgeCutOff {
		return q.Form.verdict(q, b.String(), string(appendPoints(nil, n.score, '.'))), "stop"
	}
	b.WriteString("\n\n")
	switch {
	case p < w.JudgeCutOff:
		return cutOff(b, &r, "Score: 1"), "length"
	case p < w.JudgeCutOff+w.JudgeUnparsed:
		b.WriteString(unscored[r.Uint64()%uint64(len(unscored))])
	default:
		b.scoreLine(&r, n.score, w.Messy)
	}
	return b.String(), "stop"
}

// comparison writes the meta-judge's text about two judgments.
func (w *World) comparison(b *builder, q *Question, r Rand) (text, end string) {
	winner := "B"
	if r.Float64() < w.firstWins(q.first, q.second) {
		winner = "A"
	}
	p := r.Float64()
	size := lengthOf(w.ComparisonChars, 0.35, r.NormFloat64())
	b.Grow(size + 256)
	b.WriteString("Both judgments were held against the rubric.")
	b.prose(&r, size)
	if q.Form != nil && p >= w.MetaCutOff {
		return q.Form.verdict(q, b.String(), winner), "stop"
	}
	b.WriteString("\n\n")
	switch {
	case p < w.MetaCutOff:
		return cutOff(b, &r, "Winner:"), "length"
	case p < w.MetaCutOff+w.MetaUnparsed:
		b.WriteString(undecided[r.Uint64()%uint64(len(undecided))])
	default:
		b.verdictLine(&r, winner, w.Messy)
	}
	return b.String(), "stop"
}

// cutOff cuts a text in its middle, or inside its last line.
func cutOff(b *builder, r *Rand, half string) string {
	if r.Float64() < 0.5 {
		b.WriteString(half)
		return b.String()
	}
	s := strings.TrimSpace(b.String())
	return cut(s, int(float64(len(s))*(0.3+0.6*r.Float64())))
}

// reason puts a block of reasoning before a choice. The block ends with a result line, to test that
// parsers skip it.
func (w *World) reason(q *Question, r Rand, c Choice) Choice {
	var b builder
	b.WriteString("Let me think about it first.")
	b.prose(&r, 300)
	switch q.Role {
	case schemas.RoleJudge:
		b.WriteString("\nScore: 0")
	case schemas.RoleMetaJudge:
		b.WriteString("\nWinner: A")
	}
	switch {
	case w.ReasoningApart:
		c.Reasoning = b.String()
	case c.FinishReason == "length" && r.Float64() < 0.5:
		c.Text = "<think>\n" + b.String()
	default:
		c.Text = "<think>\n" + b.String() + "\n</think>\n\n" + c.Text
	}
	return c
}

// Endings without a score or a verdict.
var (
	unscored = [...]string{
		"Score: 8/10", "Score: 3-4", "Score: 4 or 5", "Score: 7", "Score: 85%", "Score: -1",
		"Score: <points>", "The answer deserves most of the points.", "Score: n/a", "The score: 3 out of 10",
	}
	undecided = [...]string{
		"Both judgments are equally accurate.", "A is indeed the better option.", "Winner: tie",
		"Winner: A or B", "Winner: neither", "I can't decide between the two.",
	}
)

// scoreLine writes the last line of a judgment; score is in thousandths.
func (b *builder) scoreLine(r *Rand, score int, messy float64) {
	points := appendPoints(b.scratch[:0], score, '.')
	form := uint64(0)
	if r.Float64() < messy {
		form = 1 + r.Uint64()%10
	}
	before, after := "Score: ", ""
	switch form {
	case 1:
		before = "**Score:** "
	case 2:
		before, after = "**Score: ", "**"
	case 3:
		after = "/5"
	case 4:
		before, after = "Score: [", "]"
	case 5:
		before = "Final Score: "
	case 6:
		before = "Score："
	case 7:
		points = appendPoints(b.scratch[:0], score, ',')
	case 8:
		after = "."
	case 9:
		before, after = "**Score:** ", "/5."
	case 10:
		after = "\n"
	}
	b.WriteString(before)
	b.Write(points)
	b.WriteString(after)
}

// verdictLine writes the last line of a comparison.
func (b *builder) verdictLine(r *Rand, winner string, messy float64) {
	form := uint64(0)
	if r.Float64() < messy {
		form = 1 + r.Uint64()%8
	}
	before, after := "Winner: ", ""
	switch form {
	case 1:
		before = "**Winner:** "
	case 2:
		before, after = "**Winner: ", "**"
	case 3:
		before, after = "Winner: [", "]"
	case 4:
		before = "Winner: Judgment "
	case 5:
		before, after = "Winner: [Judgement ", "]"
	case 6:
		after = "."
	case 7:
		before, winner = "winner: ", strings.ToLower(winner)
	case 8:
		after = "\n"
	}
	b.WriteString(before)
	b.WriteString(winner)
	b.WriteString(after)
}

// appendPoints appends thousandths as a decimal number without trailing zeros.
func appendPoints(dst []byte, thousandths int, point byte) []byte {
	dst = append(dst, byte('0'+thousandths/1000))
	rest := thousandths % 1000
	if rest == 0 {
		return dst
	}
	dst = append(dst, point)
	for ; rest > 0; rest = rest % 100 * 10 {
		dst = append(dst, byte('0'+rest/100))
	}
	return dst
}

// tuck inserts a code before the full stop of the last sentence.
func (b *builder) tuck(code []byte) {
	b.WriteString(" ")
	b.Write(code)
	b.WriteByte('.')
}

// typical is the length of a typical sentence.
const typical = 80

// prose writes sentences until the text is about size bytes long.
func (b *builder) prose(r *Rand, size int) {
	for b.Len()+typical/2 < size {
		if r.Uint64()&7 == 0 {
			b.WriteString("\n\n")
		} else {
			b.WriteByte(' ')
		}
		b.sentence(r)
		b.WriteByte('.')
	}
}

// sentence writes one sentence without its full stop, from the 64 bits of one draw. About 45 of the
// bits matter, so that journals of simulated texts compress about as real ones do.
func (b *builder) sentence(r *Rand) {
	x := r.Uint64()
	pick := func(words *[64]string) string {
		w := words[x&63]
		x >>= 6
		return w
	}
	b.WriteString(openers[x&15])
	x >>= 4
	b.WriteString(pick(&adjectives))
	b.WriteString(pick(&nouns))
	b.WriteString(pick(&verbs))
	b.WriteString(pick(&adjectives))
	b.WriteString(pick(&nouns))
	if x&1 != 0 {
		return
	}
	x >>= 1
	b.WriteString(links[x&15])
	x >>= 4
	b.WriteString(pick(&adjectives))
	b.WriteString(pick(&nouns))
}

// Each word starts with its space.
var (
	openers = [16]string{
		"The", "In short, the", "At first, the", "Here the", "In practice, a", "More often, this",
		"For most readers, the", "As a rule, the", "Then the", "Even so, this", "By contrast, each", "Every",
		"Once checked, the", "In the end, the", "Taken alone, that", "As it happens, the",
	}
	links = [16]string{
		" with the", " under a", " before the", " after each", " without the", " because of the",
		" in spite of a", " through the", " beside the", " as part of the", " instead of a", " within the",
		" along the", " against a", " for every", " around the",
	}
	adjectives = [64]string{
		" early", " careful", " simple", " direct", " second", " broad", " narrow", " formal", " useful", " modern",
		" familiar", " gradual", " steady", " local", " hidden", " precise", " naïve", " typical", " short", " clear",
		" recent", " common", " robust", " large", " partial", " likely", " strict", " plain", " final", " complete",
		" regular", " private", " public", " quiet", " central", " missing", " minor", " major", " practical", " fragile",
		" stable", " natural", " technical", " small", " hard", " sound", " visible", " deep", " modest", " linear",
		" rapid", " uneven", " explicit", " lasting", " single", " double", " shared", " separate", " open", " remote",
		" average", " expected", " empirical", " historical",
	}
	nouns = [64]string{
		" method", " answer", " example", " reader", " detail", " question", " model", " figure", " step", " rule",
		" sample", " report", " market", " engine", " system", " budget", " schedule", " theory", " measure", " result",
		" project", " letter", " city", " river", " teacher", " student", " library", " function", " variable", " table",
		" column", " language", " sentence", " paragraph", " summary", " résumé", " argument", " source", " reference", " list",
		" contract", " deadline", " process", " factor", " pattern", " signal", " error", " estimate", " design", " material",
		" surface", " network", " server", " record", " memory", " culture", " history", " garden", " recipe", " journey",
		" season", " habit", " decision", " audience",
	}
	verbs = [64]string{
		" explains the", " supports the", " replaces a", " follows the", " improves the", " limits the", " describes a", " needs the",
		" reaches the", " confirms the", " extends a", " repeats the", " avoids the", " measures the", " compares the", " defines a",
		" shapes the", " protects the", " opens a", " closes the", " simplifies the", " predicts the", " reflects a", " adjusts the",
		" carries the", " reveals the", " produces a", " reduces the", " corrects the", " joins the", " divides the", " organises a",
		" begins with the", " ends with a", " depends on the", " differs from the", " leads to the", " rests on a", " adds to the", " agrees with the",
		" draws on the", " points to a", " turns into the", " stands for the", " makes up the", " takes over the", " rules out a", " builds on the",
		" works against the", " comes before the", " goes beyond a", " deals with the", " holds for the", " applies to the", " accounts for a", " focuses on the",
		" moves toward the", " keeps the", " tests a", " updates the", " arranges the", " outlines the", " balances the", " delays a",
	}
)
