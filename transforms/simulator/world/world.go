package world

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"coeval/schemas"
)

// A World is the hidden truth behind a simulated fleet: the quality of each response, the error of
// each judgment, and the accuracy of the meta-judge. It has no state: equal worlds return equal texts
// for equal requests, in any order and in any process.
//
// Every zero field means zero (no noise, no bias, no text except the code); [Default] has typical
// values. Points are rubric points. Shares are in [0, 1].
type World struct {
	// Seed selects the texts and truths.
	Seed uint64 `json:"seed"`

	// QualityMean is the mean true quality in points, PromptSpread the standard deviation of
	// a prompt's mean around it, Spread that of a response around its prompt's mean.
	QualityMean  float64 `json:"quality_mean"`
	PromptSpread float64 `json:"prompt_spread"`
	Spread       float64 `json:"spread"`
	// LengthCorrelation correlates a response's log length with its quality within a prompt.
	LengthCorrelation float64 `json:"length_correlation"`
	// ResponseChars is the mean length of a response, ResponseSigma the standard deviation
	// of its logarithm.
	ResponseChars float64 `json:"response_chars"`
	ResponseSigma float64 `json:"response_sigma"`
	// Shares of responses: Empty have no text, Truncated stop early with finish_reason length, and
	// Duplicates repeat one text of their prompt.
	Empty      float64 `json:"empty"`
	Truncated  float64 `json:"truncated"`
	Duplicates float64 `json:"duplicates"`
	// ConstantActor makes the actor ignore the seed, like a server that ignores temperature.
	ConstantActor bool `json:"constant_actor"`

	// JudgeNoise is the standard deviation of a judgment's own error in points, JudgePersistent
	// that of the error that a judge repeats on a response, JudgeLengthBias the points per
	// standard deviation of log length, and Leniency the points added to every score.
	JudgeNoise      float64 `json:"judge_noise"`
	JudgeLengthBias float64 `json:"judge_length_bias"`
	JudgePersistent float64 `json:"judge_persistent"`
	Leniency        float64 `json:"leniency"`
	// JudgeBend distorts the judge's scale monotonically: it maps x points to
	// 5·(x/5)^(2^JudgeBend). For example, 1 squares the share x/5 and −1 takes its root.
	JudgeBend float64 `json:"judge_bend"`
	// ScoreStep is the unit to which scores are rounded, in points. Zero means thousandths.
	ScoreStep float64 `json:"score_step"`
	// JudgmentChars is the mean length of a judgment.
	JudgmentChars float64 `json:"judgment_chars"`
	// Shares of judgments: JudgeUnparsed have no usable score line, JudgeCutOff stop early with
	// finish_reason length, and JudgeDuplicates repeat one text on their response.
	JudgeUnparsed   float64 `json:"judge_unparsed"`
	JudgeCutOff     float64 `json:"judge_cut_off"`
	JudgeDuplicates float64 `json:"judge_duplicates"`

	// MetaSlope is the meta-judge's logits per point of error, FirstBias its logits for the
	// judgment shown first, Taste its logits per point of score.
	MetaSlope float64 `json:"meta_slope"`
	FirstBias float64 `json:"first_bias"`
	Taste     float64 `json:"taste"`
	// ComparisonChars is the mean length of a comparison.
	ComparisonChars float64 `json:"comparison_chars"`
	// MetaUnparsed and MetaCutOff are the shares of comparisons without a verdict.
	MetaUnparsed float64 `json:"meta_unparsed"`
	MetaCutOff   float64 `json:"meta_cut_off"`

	// ReadLoss is the share of the judges' discrimination that a read lacks: 0 reads as well as a text
	// decides, 1 reads nothing of the truth. ReadNoise is the standard deviation of a read's own error:
	// in logits for a comparison, in points for a score. ReadOther is the probability of tokens that are
	// no label.
	ReadLoss  float64 `json:"read_loss,omitempty"`
	ReadNoise float64 `json:"read_noise,omitempty"`
	ReadOther float64 `json:"read_other,omitempty"`

	// Messy is the share of score and verdict lines in unusual forms that parsers accept: bold,
	// brackets, a full-width colon, a fraction of 5.
	Messy float64 `json:"messy"`
	// Reasoning is the share of texts that begin with a block between think tags.
	// ReasoningApart moves that block into Choice.Reasoning.
	Reasoning      float64 `json:"reasoning"`
	ReasoningApart bool    `json:"reasoning_apart"`
}

// Default returns a world with a moderately good judge and meta-judge, a few of whose texts are
// unusable.
func Default() World {
	return World{
		QualityMean: 3, PromptSpread: 0.4, Spread: 0.6, LengthCorrelation: 0.2,
		ResponseChars: 900, ResponseSigma: 0.5, Empty: 0.002, Truncated: 0.01, Duplicates: 0.01,
		JudgeNoise: 0.8, JudgeLengthBias: 0.2, JudgePersistent: 0.2, ScoreStep: 0.5, JudgmentChars: 800,
		JudgeUnparsed: 0.01, JudgeCutOff: 0.005, JudgeDuplicates: 0.002,
		MetaSlope: 1.5, FirstBias: 0.5, Taste: 0.2, ComparisonChars: 500,
		MetaUnparsed: 0.01, MetaCutOff: 0.005, Messy: 0.15,
	}
}

// Names are the names that [Named] accepts, from the best judges to the worst.
var Names = []string{"mild", "moderate", "noisy", "bad"}

// Named returns [Default] with the judge and the meta-judge of that name.
func Named(name string) (World, error) {
	w := Default()
	switch name {
	case "mild":
		w.JudgeNoise, w.JudgeLengthBias, w.JudgePersistent = 0.5, 0.1, 0.1
		w.MetaSlope, w.FirstBias, w.Taste = 3, 0.2, 0
	case "moderate":
	case "noisy":
		w.JudgeNoise, w.JudgeLengthBias, w.JudgePersistent = 1, 0.35, 0.35
		w.MetaSlope, w.FirstBias, w.Taste = 1, 1, 0.4
	case "bad":
		w.JudgeNoise, w.JudgeLengthBias, w.JudgePersistent = 1.3, 0.6, 0.6
		w.MetaSlope, w.FirstBias, w.Taste = 0.5, 2, 0.8
	default:
		return World{}, fmt.Errorf("simulator: unknown world %q; allowed are %s", name, strings.Join(Names, ", "))
	}
	return w, nil
}

// Validate returns an error that names every field with an invalid value.
func (w *World) Validate() error {
	var errs []error
	for _, f := range []struct {
		name             string
		value, low, high float64
	}{
		{"quality_mean", w.QualityMean, 0, 5},
		{"prompt_spread", w.PromptSpread, 0, 5},
		{"spread", w.Spread, 0, 5},
		{"length_correlation", w.LengthCorrelation, -1, 1},
		{"response_chars", w.ResponseChars, 0, maxChars},
		{"response_sigma", w.ResponseSigma, 0, 3},
		{"empty", w.Empty, 0, 1},
		{"truncated", w.Truncated, 0, 1},
		{"duplicates", w.Duplicates, 0, 1},
		{"judge_noise", w.JudgeNoise, 0, 100},
		{"judge_length_bias", w.JudgeLengthBias, -100, 100},
		{"judge_persistent", w.JudgePersistent, 0, 100},
		{"leniency", w.Leniency, -100, 100},
		{"judge_bend", w.JudgeBend, -4, 4},
		{"score_step", w.ScoreStep, 0, 5},
		{"judgment_chars", w.JudgmentChars, 0, maxChars},
		{"judge_unparsed", w.JudgeUnparsed, 0, 1},
		{"judge_cut_off", w.JudgeCutOff, 0, 1},
		{"judge_duplicates", w.JudgeDuplicates, 0, 1},
		{"meta_slope", w.MetaSlope, -100, 100},
		{"first_bias", w.FirstBias, -100, 100},
		{"taste", w.Taste, -100, 100},
		{"comparison_chars", w.ComparisonChars, 0, maxChars},
		{"meta_unparsed", w.MetaUnparsed, 0, 1},
		{"meta_cut_off", w.MetaCutOff, 0, 1},
		{"read_loss", w.ReadLoss, 0, 1},
		{"read_noise", w.ReadNoise, 0, 100},
		{"read_other", w.ReadOther, 0, 1},
		{"messy", w.Messy, 0, 1},
		{"reasoning", w.Reasoning, 0, 1},
	} {
		if !(f.value >= f.low && f.value <= f.high) { // NaN included
			errs = append(errs, fmt.Errorf("simulator: world's %s is %.9g; allowed is %.9g to %.9g", f.name, f.value, f.low, f.high))
		}
	}
	return errors.Join(errs...)
}

// maxChars bounds the planned length of a text's prose, in bytes.
const maxChars = 1 << 20

// A Choice is one text of a simulated model.
type Choice struct {
	Text string
	// Reasoning is the text that a server returns separately as reasoning_content.
	Reasoning string
	// FinishReason is stop or length.
	FinishReason string
	// Tokens is the length of the completion, one token for every four bytes or part of them.
	Tokens int
	// Whole is the length before the text was cut off, zero if it was not.
	Whole int
}

// StopAt ends c before the first stop string in its text. No stop string may be empty.
func (c *Choice) StopAt(stop []string) {
	at := -1
	for _, s := range stop {
		if i := strings.Index(c.Text, s); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at >= 0 {
		c.Text, c.FinishReason = c.Text[:at], "stop"
		c.Tokens = tokens(len(c.Reasoning) + at)
	}
}

// Token returns token i of the text. It is empty beyond the text's end, and a rune that spans tokens is
// missing in the token where it begins.
func (c *Choice) Token(i int) string {
	return cut(c.Text[min(i*tokenBytes, len(c.Text)):], tokenBytes)
}

// A Question is a decoded request: its role and its subject.
type Question struct {
	// Role is schemas.RoleActor, RoleJudge, RoleMetaJudge or RolePairwise.
	Role string
	// PromptTokens is the length of the prompt, one token for every four bytes or part of them,
	// and four for each message.
	PromptTokens int
	// Hash identifies the messages and the model, ContentHash the messages alone. Both depend on the world's
	// Seed.
	Hash, ContentHash uint64
	// Form constrains the text. Nil means no constraint.
	Form *Form

	model         uint64
	skill         Skill
	response      code
	first, second note
	answers       *answers
}

// Answer returns the model's answer to the messages. Choice i of a request with seed s is the answer
// with seed s+i. MaxTokens of zero or less means no limit.
func (w *World) Answer(messages []schemas.Message, model string, seed int64, maxTokens int) Choice {
	q := w.Read(messages, model)
	return w.Reply(&q, seed, maxTokens)
}

// Read derives the role of a request from the codes in its messages. Codes in an assistant's turns
// are history and do not count. A request without a code is for the actor. One with the codes of two
// judgments is for the meta-judge, about the last two, the earlier one being A. Any other is for the
// judge, about the last response. A response of another model has no code: the judge is asked about
// the text between tags as <response-0123456789ab>, and its hidden truth is drawn from that text and
// the messages before it.
func (w *World) Read(messages []schemas.Message, model string) Question {
	q := Question{Role: schemas.RoleActor, model: xxhash.Sum64String(model)}
	q.skill, _ = ParseSkill(model) // the server refuses an invalid name
	content := Mix(w.Seed + 1)
	notes := 0
	for i := range messages {
		m := &messages[i]
		content = Mix(content ^ xxhash.Sum64String(m.Role))
		content = Mix(content + xxhash.Sum64String(m.Content))
		q.PromptTokens += 4 + tokens(len(m.Content))
		if m.Role == "assistant" {
			continue
		}
		hasCode := false
		scan(m.Content, func(c code, n note) {
			hasCode = true
			if n.nonce == 0 {
				q.response = c
				return
			}
			notes++
			q.first, q.second = q.second, n
		})
		if c, ok := foreign(m.Content); ok && !hasCode {
			q.response = c
		}
	}
	q.ContentHash = content
	q.Hash = Mix(content ^ q.model)
	if len(messages) > 0 {
		q.answers = readAnswers(messages[len(messages)-1].Content)
	}
	switch {
	case q.answers != nil:
		q.Role = schemas.RolePairwise
	case notes >= 2:
		q.Role = schemas.RoleMetaJudge
	case q.response != code{}:
		q.Role = schemas.RoleJudge
	}
	return q
}

// Reply returns the answer to a question that Read returned.
func (w *World) Reply(q *Question, seed int64, maxTokens int) Choice {
	r := Rand(Mix(q.Hash ^ Mix(uint64(seed)+0x5eed)))
	var b builder
	var text, end string
	w = q.skill.apply(w)
	switch q.Role {
	case schemas.RolePairwise:
		text, end = w.pairwise(&b, q, r)
	case schemas.RoleJudge:
		text, end = w.judgment(&b, q, r)
	case schemas.RoleMetaJudge:
		text, end = w.comparison(&b, q, r)
	default:
		text, end = w.response(&b, q, r)
	}
	if q.Form != nil && q.Role == schemas.RoleActor {
		text, end = q.Form.verdict(q, text, ""), "stop"
	}
	c := Choice{Text: text, FinishReason: end}
	if own := r + 0x7e; w.Reasoning > 0 && own.Float64() < w.Reasoning && (q.Form == nil || w.ReasoningApart) {
		c = w.reason(q, own, c)
	}
	c.Tokens = tokens(len(c.Reasoning) + len(c.Text))
	if maxTokens > 0 && c.Tokens > maxTokens {
		c.Reasoning = cut(c.Reasoning, tokenBytes*maxTokens)
		c.Text = cut(c.Text, tokenBytes*maxTokens-len(c.Reasoning))
		c.Whole = c.Tokens
		c.FinishReason, c.Tokens = "length", maxTokens
	}
	return c
}

// tokenBytes is the length of a token.
const tokenBytes = 4

// tokens returns the number of tokens in n bytes.
func tokens(n int) int { return (n + tokenBytes - 1) / tokenBytes }

// cut returns at most n bytes of s and never splits a rune.
func cut(s string, n int) string {
	if n >= len(s) {
		return s
	}
	n = max(n, 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// A Truth is the hidden truth of one text.
type Truth struct {
	// Kind is response or judgment, empty for any other text.
	Kind string `json:"kind"`
	// Quality is the response's true quality in points, LengthZ its log length in standard deviations. A
	// judgment has its response's values.
	Quality float64 `json:"quality"`
	LengthZ float64 `json:"length_z"`
	// Score is the judgment's score, whether or not its text shows it. Error is |score −
	// quality|: of two judgments the one with the smaller error is better.
	Score float64 `json:"score"`
	Error float64 `json:"error"`
}

// Truth returns the hidden truth of a text of this world. The text may be trimmed, or stripped of its
// reasoning and its score line.
func (w *World) Truth(text string) Truth {
	var t Truth
	scan(text, func(c code, n note) {
		quality, z := w.hidden(c)
		t = Truth{Kind: "response", Quality: quality, LengthZ: z}
		if n.nonce != 0 {
			score := float64(n.score) / 1000
			t.Kind, t.Score, t.Error = "judgment", score, math.Abs(score-quality)
		}
	})
	return t
}

// Quality returns the true quality of a response, false if the text is not from this world.
func (w *World) Quality(responseText string) (float64, bool) {
	t := w.Truth(responseText)
	return t.Quality, t.Kind == "response"
}

// Error returns |score − quality| of a judgment, false if the text is not from this world.
func (w *World) Error(judgmentText string) (float64, bool) {
	t := w.Truth(judgmentText)
	return t.Error, t.Kind == "judgment"
}

// hidden returns a response's true quality and its log length in standard deviations.
func (w *World) hidden(c code) (quality, lengthZ float64) {
	p := Rand(Mix(w.Seed ^ uint64(c.prompt)<<20))
	r := Rand(Mix(w.Seed ^ uint64(c.prompt)<<32 ^ c.sample))
	z := r.NormFloat64()
	quality = w.QualityMean + w.PromptSpread*p.NormFloat64() + w.Spread*z
	rho := w.LengthCorrelation
	lengthZ = rho*z + math.Sqrt(1-rho*rho)*r.NormFloat64()
	return quality + float64(c.shift.quality)/100, lengthZ + float64(c.shift.length)/100
}

// score returns the judge's score in thousandths:
//
//	quality + Leniency + JudgeLengthBias·z + persistent(response, model) + noise
//
// mapped by JudgeBend, rounded to ScoreStep and clipped to [0, 5]. All but the quality grow with the
// skill of the model that answered; see [Hardness].
func (w *World) score(q *Question, r *Rand) int {
	w = w.about(q.response)
	quality, z := w.hidden(q.response)
	own := Rand(Mix(w.Seed ^ uint64(q.response.prompt)<<32 ^ q.response.sample ^ Mix(q.model)))
	s := quality + w.Leniency + w.JudgeLengthBias*z + w.JudgePersistent*own.NormFloat64() + w.JudgeNoise*r.NormFloat64()
	s = w.Bend(s)
	if w.ScoreStep > 0 {
		s = math.Round(s/w.ScoreStep) * w.ScoreStep
	}
	return int(math.Round(1000 * min(max(s, 0), 5)))
}

// Bend returns the points on the judge's scale for points on the true scale.
func (w *World) Bend(points float64) float64 {
	if w.JudgeBend == 0 {
		return points
	}
	const highest = 5
	return highest * math.Pow(min(max(points, 0), highest)/highest, math.Exp2(w.JudgeBend))
}

// firstWins returns the probability that the meta-judge prefers judgment A:
//
//	sigmoid(MetaSlope·(error_B − error_A) + FirstBias + Taste·(score_A − score_B))
//
// It does so worse where the judged response is better; see [Hardness].
func (w *World) firstWins(a, b note) float64 {
	w = w.about(b.about)
	errorOf := func(n note) float64 {
		quality, _ := w.hidden(n.about)
		return math.Abs(float64(n.score)/1000 - quality)
	}
	logit := w.MetaSlope*(errorOf(b)-errorOf(a)) + w.FirstBias + w.Taste*float64(a.score-b.score)/1000
	return logistic(logit)
}

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// lengthOf returns a lognormal length with this mean, z standard deviations from the median.
func lengthOf(mean, sigma, z float64) int {
	return int(min(mean*math.Exp(sigma*z-sigma*sigma/2), maxChars))
}
