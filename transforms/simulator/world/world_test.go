package world

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"coeval/schemas"
	"coeval/transforms/simulator/world/worldtest"
)

func user(content string) []schemas.Message {
	return []schemas.Message{{Role: "user", Content: content}}
}

// figures are how often the method's picks are truly right in a world.
type figures struct {
	actorPairs, actorRight, judgePairs, judgeRight float64
	// higher is the share of judge pairs whose chosen judgment has the higher score, mode the
	// share of the commonest chosen score.
	higher, mode float64
}

const (
	perPrompt   = 7
	perResponse = 11
)

// A panel is a response with its judgments.
type panel struct {
	response     string
	texts        [perResponse]string
	truths       [perResponse]Truth
	sum, squares float64
}

// variance is n² times that of the scores.
func (p *panel) variance() float64 { return perResponse*p.squares - p.sum*p.sum }

func newPanel(w *World, prompt string, seed int64) panel {
	p := panel{response: w.Answer(user(prompt), "m", seed, 0).Text}
	judge := user("judge " + p.response)
	for i := range p.texts {
		p.texts[i] = w.Answer(judge, "m", int64(i), 0).Text
		p.truths[i] = w.Truth(p.texts[i])
		p.sum += p.truths[i].Score
		p.squares += p.truths[i].Score * p.truths[i].Score
	}
	return p
}

// judgePair runs all ordered comparisons. On a full matrix the order by Elo is the order by
// verdicts won, so that counting them is enough here.
func (p *panel) judgePair(w *World) (chosen, rejected Truth) {
	var wins [perResponse]int
	for m := range wins {
		for n := range wins {
			if m == n {
				continue
			}
			said := w.Answer(user(p.response+p.texts[m]+p.texts[n]), "m", 0, 0).Text
			if said[len(said)-1] == 'A' {
				wins[m]++
			} else {
				wins[n]++
			}
		}
	}
	best, worst := 0, 0
	for i := range wins {
		if wins[i] > wins[best] {
			best = i
		}
		if wins[i] <= wins[worst] {
			worst = i
		}
	}
	return p.truths[best], p.truths[worst]
}

// method takes a world's prompts through the method, without length control.
func method(w *World, prompts int) figures {
	var f figures
	chosenScores := map[float64]float64{}
	for i := range prompts {
		var panels [perPrompt]panel
		best, worst, contested := 0, 0, 0
		for k := range panels {
			panels[k] = newPanel(w, "prompt "+strconv.Itoa(i), int64(k))
			if panels[k].sum > panels[best].sum {
				best = k
			}
			if panels[k].sum < panels[worst].sum {
				worst = k
			}
			if panels[k].variance() > panels[contested].variance() {
				contested = k
			}
		}
		if panels[best].sum > panels[worst].sum {
			f.actorPairs++
			if w.Truth(panels[best].response).Quality > w.Truth(panels[worst].response).Quality {
				f.actorRight++
			}
		}
		chosen, rejected := panels[contested].judgePair(w)
		if chosen.Score == rejected.Score {
			continue
		}
		f.judgePairs++
		chosenScores[chosen.Score]++
		if chosen.Error < rejected.Error {
			f.judgeRight++
		}
		if chosen.Score > rejected.Score {
			f.higher++
		}
	}
	f.actorRight /= f.actorPairs
	f.judgeRight /= f.judgePairs
	f.higher /= f.judgePairs
	for _, n := range chosenScores {
		f.mode = max(f.mode, n/f.judgePairs)
	}
	return f
}

// clean takes out of a world all that can't be used, and the length of its texts.
func clean(w World) World {
	w.Empty, w.Truncated, w.Duplicates = 0, 0, 0
	w.JudgeUnparsed, w.JudgeCutOff, w.JudgeDuplicates = 0, 0, 0
	w.MetaUnparsed, w.MetaCutOff, w.Messy = 0, 0, 0
	w.ResponseChars, w.JudgmentChars, w.ComparisonChars = 0, 0, 0
	return w
}

// The floors are those that the method has to reach with 3,000 prompts. The shares
// lie at least 3 of their standard deviations above them with 1,000: noisy actor pairs, the
// closest, at 0.97 ± sqrt(0.97·0.03/1000) = 0.97 ± 0.0054, against 0.95.
func TestMethodFindsTruth(t *testing.T) {
	for _, c := range []struct {
		world        string
		actor, judge float64
		collapsed    bool
	}{
		{"mild", 0.99, 0.99, false},
		{"moderate", 0.98, 0.99, false},
		{"noisy", 0.95, 0.97, true},
		{"bad", 0.87, 0.75, true},
	} {
		t.Run(c.world, func(t *testing.T) {
			t.Parallel()
			w, err := Named(c.world)
			if err != nil {
				t.Fatal(err)
			}
			w = clean(w)
			f := method(&w, 1000)
			t.Logf("%+v", f)
			if f.actorRight < c.actor || f.judgeRight < c.judge {
				t.Errorf("truly right: %.4f of actor pairs and %.4f of judge pairs, want at least %v and %v",
					f.actorRight, f.judgeRight, c.actor, c.judge)
			}
			// A taste for high scores shows in the figures that warnings about collapse use.
			if collapsed := f.higher > 0.9 || f.mode > 0.4; collapsed != c.collapsed {
				t.Errorf("collapse is %v (higher %.3f, mode %.3f), want %v", collapsed, f.higher, f.mode, c.collapsed)
			}
		})
	}
}

func TestSharesOfTexts(t *testing.T) {
	const n = 5000
	w := Default()
	w.Empty, w.Truncated, w.Duplicates, w.Reasoning = 0.05, 0.1, 0, 0.3
	w.JudgeUnparsed, w.JudgeCutOff = 0.1, 0.05
	w.MetaUnparsed, w.MetaCutOff = 0.1, 0.05
	type shares struct{ empty, cut, unusable float64 }
	endsIn := func(text string, ends []string) bool {
		return slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(text, "\n\n"+end) })
	}
	for role, want := range map[string]shares{
		schemas.RoleActor:     {empty: 0.05, cut: 0.1},
		schemas.RoleJudge:     {cut: 0.05, unusable: 0.1},
		schemas.RoleMetaJudge: {cut: 0.05, unusable: 0.1},
	} {
		var thought, empty, cut, unusable int
		messages := requests(&w)[role]
		for seed := range n {
			c := w.Answer(messages, "m", int64(seed), 0)
			if !utf8.ValidString(c.Text) {
				t.Fatalf("%s: %q is not UTF-8", role, c.Text)
			}
			if strings.HasPrefix(c.Text, "<think>") {
				thought++
			}
			said := c.Text
			if _, answer, ok := strings.Cut(said, "</think>"); ok {
				said = answer
			}
			switch {
			case c.FinishReason == "length":
				cut++
			case strings.TrimSpace(said) == "":
				empty++
			case endsIn(said, unscored[:]), endsIn(said, undecided[:]):
				unusable++
			}
		}
		worldtest.Near(t, role+" reasoning", thought, n, 0.3)
		worldtest.Near(t, role+" empty", empty, n, want.empty)
		worldtest.Near(t, role+" cut off", cut, n, want.cut)
		worldtest.Near(t, role+" unusable", unusable, n, want.unusable)
	}
}

// With sentences of about 80 bytes a text ends within half of one of its length; the mean of
// 5,000 lognormal lengths with sigma 0.5 has a standard deviation of 0.8 %.
func TestLengths(t *testing.T) {
	const n = 5000
	w := clean(Default())
	w.ResponseChars = 900
	chars := 0
	for seed := range n {
		chars += utf8.RuneCountInString(w.Answer(user("q"), "m", int64(seed), 0).Text)
	}
	if mean := float64(chars) / n; math.Abs(mean-900) > 45 {
		t.Errorf("mean length is %.0f, want 900 ± 45", mean)
	}
}

func TestTruthIsRecovered(t *testing.T) {
	w := Default()
	w.Empty, w.Truncated, w.JudgeUnparsed, w.JudgeCutOff, w.Messy = 0, 0, 0, 0, 0
	response := w.Answer(user("q"), "m", 1, 0).Text
	quality, ok := w.Quality(response)
	if !ok {
		t.Fatalf("no truth behind %q", response)
	}
	for seed := range 100 {
		judgment := w.Answer(user("judge this: "+response), "j", int64(seed), 0).Text
		body, line, ok := strings.Cut(judgment, "\nScore: ")
		if !ok {
			t.Fatalf("no score line in %q", judgment)
		}
		score, err := strconv.ParseFloat(line, 64)
		if err != nil {
			t.Fatal(err)
		}
		// The code is enough, as for a meta-judge that isn't shown the scores.
		got := w.Truth("quoted: " + strings.TrimSpace(body))
		if got.Kind != "judgment" || got.Score != score || got.Quality != quality || got.Error != math.Abs(score-quality) {
			t.Fatalf("truth is %+v, want score %v of quality %v", got, score, quality)
		}
		if e, ok := w.Error(judgment); !ok || e != got.Error {
			t.Errorf("error is %v %v, want %v", e, ok, got.Error)
		}
		if _, ok := w.Quality(judgment); ok {
			t.Error("a judgment passes for a response")
		}
	}
	if got := w.Truth("(ref to a book) (note 1) (ref 00000000-000000000000)"); got != (Truth{}) {
		t.Errorf("truth behind a text of nobody: %+v", got)
	}
}

func TestWhoIsAsked(t *testing.T) {
	w := clean(Default())
	first := w.Answer(user("q"), "m", 1, 0).Text
	second := w.Answer(user("q"), "m", 2, 0).Text
	a := w.Answer(user(second), "m", 1, 0).Text
	b := w.Answer(user(second), "m", 2, 0).Text
	turn := func(role, content string) schemas.Message { return schemas.Message{Role: role, Content: content} }
	for _, c := range []struct {
		name     string
		messages []schemas.Message
		want     string
	}{
		{"a question", user("q"), schemas.RoleActor},
		{"an earlier answer in the history", []schemas.Message{turn("user", "q"), turn("assistant", first), turn("user", "and?")}, schemas.RoleActor},
		{"one response", user("rubric\n" + second), schemas.RoleJudge},
		{"a response in the system message", []schemas.Message{turn("system", second), turn("user", "judge")}, schemas.RoleJudge},
		{"two judgments", user(second + a + b), schemas.RoleMetaJudge},
		{"two judgments in two messages", []schemas.Message{turn("system", second+a), turn("user", b)}, schemas.RoleMetaJudge},
	} {
		if q := w.Read(c.messages, "m"); q.Role != c.want {
			t.Errorf("%s: asked is %s, want %s", c.name, q.Role, c.want)
		}
	}
	q := w.Read(user(first+second), "m")
	if quality, _ := w.hidden(q.response); quality != w.Truth(second).Quality {
		t.Error("the judge is not asked about the last response")
	}
	q = w.Read(user(second+a+b), "m")
	if score := float64(q.first.score) / 1000; score != w.Truth(a).Score || q.first.nonce == q.second.nonce {
		t.Error("the judgment that comes first is not A")
	}
}

// Over 20,000 responses the standard deviation of each figure is about 1/sqrt(20000) = 0.007
// of a unit; prompts add their own spread to quality, so that sd² = 0.6² + 0.4² = 0.52.
func TestHiddenTruth(t *testing.T) {
	const n = 20000
	w := Default()
	var sumQ, sumQQ, sumZ, sumZZ, sumWithin float64
	for i := range n {
		c := code{prompt: uint32(i), sample: bits48(Mix(uint64(i)))}
		q, z := w.hidden(c)
		other, _ := w.hidden(code{prompt: uint32(i), sample: bits48(Mix(uint64(i) + n))})
		sumQ, sumQQ = sumQ+q, sumQQ+q*q
		sumZ, sumZZ = sumZ+z, sumZZ+z*z
		sumWithin += (q - other) * z
	}
	within := func(what string, got, want, margin float64) {
		if math.Abs(got-want) > margin {
			t.Errorf("%s is %.4f, want %.4f ± %.4f", what, got, want, margin)
		}
	}
	mean := sumQ / n
	within("mean quality", mean, 3, 4*0.72/math.Sqrt(n))
	within("variance of quality", sumQQ/n-mean*mean, 0.52, 4*0.52*math.Sqrt(2.0/n))
	within("mean of length", sumZ/n, 0, 4/math.Sqrt(n))
	within("variance of length", sumZZ/n, 1, 4*math.Sqrt(2.0/n))
	// E[(q − q')·z] = Spread·LengthCorrelation, since the prompt's mean falls out.
	within("covariance of quality and length", sumWithin/n, 0.6*0.2, 4*0.6*math.Sqrt(2)/math.Sqrt(n))
}

// On average the judge and the meta-judge follow the formulas.
func TestJudgesFollowTheirFormulas(t *testing.T) {
	const n = 10000
	w := clean(Default())
	w.ScoreStep, w.JudgeNoise, w.JudgeLengthBias, w.JudgePersistent, w.Leniency = 0, 0.1, 0.2, 0.3, 0.25
	q := w.Read(user(w.Answer(user("q"), "m", 1, 0).Text), "judge")
	quality, z := w.hidden(q.response)
	offsets := map[string]float64{}
	for _, model := range []string{"judge", "other"} {
		q := w.Read(user(w.Answer(user("q"), "m", 1, 0).Text), model)
		sum := 0.0
		for i := range n {
			r := Rand(i)
			sum += float64(w.score(&q, &r)) / 1000
		}
		offsets[model] = sum/n - quality - 0.25 - 0.2*z
	}
	// The persistent error is a judge's own: two judges differ in it, by 0.3·sqrt(2) typically,
	// while the mean of the noise is known to 0.1/sqrt(10000) = 0.001.
	if math.Abs(offsets["judge"]-offsets["other"]) < 0.01 || math.Abs(offsets["judge"]) > 1.2 {
		t.Errorf("persistent errors are %v", offsets)
	}
	judgments := [2]note{{about: q.response, nonce: 1, score: 5000}, {about: q.response, nonce: 2, score: int(1000 * quality)}}
	q.first, q.second = judgments[0], judgments[1]
	gap := math.Abs(float64(q.second.score)/1000-quality) - math.Abs(5-quality)
	p := 1 / (1 + math.Exp(-(w.MetaSlope*gap + w.FirstBias + w.Taste*(5-float64(q.second.score)/1000))))
	q.Role = schemas.RoleMetaJudge
	first := 0
	for i := range n {
		if strings.HasSuffix(w.Reply(&q, int64(i), 0).Text, "Winner: A") {
			first++
		}
	}
	worldtest.Near(t, "A wins", first, n, p)
}

func TestDuplicatesAndConstantActor(t *testing.T) {
	const n = 2000
	w := clean(Default())
	w.Duplicates = 0.2
	count := map[string]int{}
	most := 0
	for seed := range n {
		text := w.Answer(user("q"), "m", int64(seed), 0).Text
		count[text]++
		most = max(most, count[text])
	}
	worldtest.Near(t, "duplicates", most, n, 0.2)
	w.ConstantActor = true
	if a, b := w.Answer(user("q"), "m", 1, 0), w.Answer(user("q"), "m", 2, 0); a != b {
		t.Errorf("a constant actor said %q and %q", a.Text, b.Text)
	}
	if a, b := w.Answer(user("q"), "m", 1, 0), w.Answer(user("p"), "m", 1, 0); a == b {
		t.Error("a constant actor says the same to two prompts")
	}
}

func TestMaxTokensCuts(t *testing.T) {
	w := Default()
	w.Empty, w.Truncated, w.Duplicates, w.Reasoning, w.ReasoningApart = 0, 0, 0, 1, true
	for _, limit := range []int{1, 50, 120} {
		c := w.Answer(user("q"), "m", 3, limit)
		if c.FinishReason != "length" || c.Tokens != limit || len(c.Text)+len(c.Reasoning) > 4*limit || !utf8.ValidString(c.Text+c.Reasoning) {
			t.Errorf("with max_tokens %d: %+v", limit, c)
		}
	}
	if c := w.Answer(user("q"), "m", 3, 1<<20); c.FinishReason != "stop" || c.Reasoning == "" || c.Tokens != tokens(len(c.Text)+len(c.Reasoning)) {
		t.Errorf("without a limit that binds: %+v", c)
	}
}

func TestValidate(t *testing.T) {
	for _, name := range Names {
		w, err := Named(name)
		if err != nil || w.Validate() != nil {
			t.Errorf("world %s: %v, %v", name, err, w.Validate())
		}
	}
	if _, err := Named("worst"); err == nil {
		t.Error("there is a world named worst")
	}
	w := Default()
	w.Empty, w.Spread = 1.5, math.NaN()
	err := w.Validate()
	for _, field := range []string{"empty", "spread"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
}

// FuzzTruth looks for texts that break the search for codes, or give back another code than
// was written.
func FuzzTruth(f *testing.F) {
	f.Add("before (ref ", " after", uint32(1), uint64(2), uint64(3), 4500)
	f.Add("(note 12345678-", "((", uint32(0), uint64(0), uint64(0), 0)
	w := Default()
	f.Fuzz(func(t *testing.T, before, after string, prompt uint32, sample, nonce uint64, score int) {
		w.Truth(before + after)
		c := code{prompt: prompt, sample: bits48(sample)}
		n := note{about: c, nonce: bits48(nonce), score: int(uint(score) % 5001)}
		var codes []code
		var notes []note
		scan(before+string(n.appendTo(nil))+string(c.appendTo(nil)), func(c code, n note) {
			codes, notes = append(codes, c), append(notes, n)
		})
		if k := len(codes); k < 2 || codes[k-1] != c || codes[k-2] != c || notes[k-2] != n {
			t.Errorf("wrote %v and %v, read %v and %v", n, c, notes, codes)
		}
	})
}

// A bent scale keeps its ends and its order, and 0 bends nothing.
func TestBend(t *testing.T) {
	straight := World{}
	if got := straight.Bend(7.5); got != 7.5 {
		t.Errorf("without a bend 7.5 becomes %v", got)
	}
	for bend, want := range map[float64]float64{1: 1.8, -1: math.Sqrt(15)} { // 5·(3/5)² and 5·√(3/5)
		w := World{JudgeBend: bend}
		if got := w.Bend(3); math.Abs(got-want) > 1e-12 {
			t.Errorf("bend %v: 3 becomes %v, want %v", bend, got, want)
		}
		if w.Bend(-1) != 0 || w.Bend(6) != 5 {
			t.Errorf("bend %v: the ends become %v and %v", bend, w.Bend(-1), w.Bend(6))
		}
		for x := 0.0; x < 5; x += 0.01 {
			if w.Bend(x) >= w.Bend(x+0.01) {
				t.Fatalf("bend %v reverses %v", bend, x)
			}
		}
	}
	if err := (&World{JudgeBend: 5}).Validate(); err == nil || !strings.Contains(err.Error(), "judge_bend is 5; allowed is -4 to 4") {
		t.Errorf("%v", err)
	}
}

// A response that nobody of this world wrote is judged where it stands between tags, the same text
// always the same way, and only there.
func TestForeignResponses(t *testing.T) {
	w := Default()
	w.JudgeNoise, w.JudgeUnparsed, w.JudgeCutOff = 0, 0, 0
	graded := func(text string) Question {
		return w.Read(user("Grade it.\n<user-0123456789ab>\nWhy?\n</user-0123456789ab>\n<response-ba9876543210>\n"+text+"\n</response-ba9876543210>\nScore:"), "m")
	}
	one, same, other := graded("Because."), graded("Because."), graded("No.")
	if one.Role != schemas.RoleJudge || one.response != same.response || one.response.sample == other.response.sample || one.response.prompt != other.response.prompt {
		t.Errorf("%+v, %+v, %+v", one, same, other)
	}
	for _, text := range []string{
		"What is <response-ba9876543210>?", "<response-ba98>x</response-ba99>", "<response-ba9876543210>", "<user-ba9876543210>\nx\n</user-ba9876543210>",
	} {
		if q := w.Read(user(text), "m"); q.Role != schemas.RoleActor {
			t.Errorf("%q is taken for a question to the %s", text, q.Role)
		}
	}
}
