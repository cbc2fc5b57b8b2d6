// Package winrate computes whether a model is better than a baseline, from games that a pairwise
// judge decided.
//
// A game shows both answers to one prompt to the judge, in one order. Both orders of a prompt are
// always played. A replicate of a prompt counts only if the judge gave a verdict in both orders, so
// that a preference for a position cancels. The unit of every figure is the prompt, not the game.
// Games of one prompt depend on each other, so a bootstrap over games gives intervals that are too
// narrow. The intervals here resample prompts.
//
// The figures follow from the games, the lengths and styles of the answers, the known difficulties of the
// prompts, and the options. These inputs are enough to check the figures. The package keeps no state and reads
// no clock; its bootstrap has a fixed seed.
package winrate

import (
	"cmp"
	"slices"

	"coeval/runners/style"
)

// Verdict is the outcome of a game for the answer that was shown first.
type Verdict string

// The verdicts, by the answer shown first (A) and second (B). A binary judge gives the second and
// the fourth only.
const (
	MuchBetter Verdict = "A>>B"
	Better     Verdict = "A>B"
	Tie        Verdict = "A=B"
	Worse      Verdict = "B>A"
	MuchWorse  Verdict = "B>>A"
)

// verdicts maps each verdict to the share of the game that the first answer gets: hard counts who
// won, soft how clearly.
var verdicts = map[Verdict]struct{ hard, soft float64 }{
	MuchBetter: {1, 1}, Better: {1, 0.75}, Tie: {0.5, 0.5}, Worse: {0, 0.25}, MuchWorse: {0, 0},
}

// IsKnown reports whether v is one of the verdicts.
func (v Verdict) IsKnown() bool {
	_, ok := verdicts[v]
	return ok
}

// Side names one of the two models of a game.
type Side string

// The sides: A is the model that is measured, B the baseline.
const (
	SideA Side = "a"
	SideB Side = "b"
)

// A Game is one verdict of the judge.
type Game struct {
	PromptID string `json:"prompt_id" parquet:"prompt_id"`
	// Category is the prompt's, empty where it has none.
	Category string `json:"category" parquet:"category,dict"`
	// A and B identify the models.
	A string `json:"a" parquet:"a,dict"`
	B string `json:"b" parquet:"b,dict"`
	// First is the side that was shown first.
	First     Side `json:"first"     parquet:"first,dict"`
	Replicate int  `json:"replicate" parquet:"replicate"`
	// Verdict is empty if there is none; Unparsed is the reason.
	Verdict  Verdict `json:"verdict"  parquet:"verdict,dict"`
	Unparsed string  `json:"unparsed" parquet:"unparsed,dict"`
}

// share returns side A's share of the game, hard and soft, and false without a verdict.
func (g *Game) share() (hard, soft float64, ok bool) {
	v, ok := verdicts[g.Verdict]
	if g.First == SideB {
		v.hard, v.soft = 1-v.hard, 1-v.soft
	}
	return v.hard, v.soft, ok
}

// An Answer contains the properties of a text that the figures need.
type Answer struct {
	// Chars is the length in Unicode code points.
	Chars int
	Style style.Style
}

// A Round is all that counts of one prompt in a match of two models.
type Round struct {
	PromptID, Category string
	// A and B are the two answers.
	A, B Answer
	// Hard and Soft are side A's mean results over the replicates that count.
	Hard, Soft float64
	// Replicates counts those with a verdict in both orders. A round with none is in no figure.
	Replicates int
}

// A Match is all games of one model against the baseline.
type Match struct {
	A, B string
	// Rounds are those with at least one replicate that counts, by prompt ID.
	Rounds []Round
	Tally  Tally
}

// Tally counts the games of a match.
type Tally struct {
	Games int `json:"games"`
	// Unparsed counts games without a verdict, by reason.
	Unparsed map[string]int `json:"unparsed,omitempty"`
	// Prompts were played, Counted of them have a replicate with a verdict in both orders.
	Prompts int `json:"prompts"`
	Counted int `json:"counted"`
	// FirstWins and SecondWins count the decided games by the position of the winner.
	FirstWins  int `json:"first_wins"`
	SecondWins int `json:"second_wins"`
	// BothOrders counts the replicates that count, Agree those of them whose two verdicts name the
	// same winner or are both ties.
	BothOrders int `json:"both_orders"`
	Agree      int `json:"agree"`
}

// NewMatch groups the games of a match. Answers gives the answer of a side to a prompt. Games of
// other models are ignored. The order of the games doesn't matter.
func NewMatch(a, b string, games []Game, answers func(promptID string, side Side) Answer) *Match {
	m := &Match{A: a, B: b, Tally: Tally{Unparsed: map[string]int{}}}
	byPrompt := map[string][]*Game{}
	for i := range games {
		if g := &games[i]; g.A == a && g.B == b {
			byPrompt[g.PromptID] = append(byPrompt[g.PromptID], g)
			m.Tally.count(g)
		}
	}
	for id, own := range byPrompt {
		m.Tally.Prompts++
		r := Round{PromptID: id, Category: own[0].Category, A: answers(id, SideA), B: answers(id, SideB)}
		m.add(&r, own)
		if r.Replicates > 0 {
			m.Tally.Counted++
			m.Rounds = append(m.Rounds, r)
		}
	}
	slices.SortFunc(m.Rounds, func(x, y Round) int { return cmp.Compare(x.PromptID, y.PromptID) })
	return m
}

func (t *Tally) count(g *Game) {
	t.Games++
	switch g.Verdict {
	case MuchBetter, Better:
		t.FirstWins++
	case Worse, MuchWorse:
		t.SecondWins++
	case Tie:
	default:
		t.Unparsed[cmp.Or(g.Unparsed, "missing")]++
	}
}

// add sums the replicates of a prompt that have a verdict in both orders.
func (m *Match) add(r *Round, games []*Game) {
	type orders struct{ a, b *Game } // by the side that was shown first
	replicates := map[int]orders{}
	for _, g := range games {
		o := replicates[g.Replicate]
		if g.First == SideA {
			o.a = g
		} else {
			o.b = g
		}
		replicates[g.Replicate] = o
	}
	// Shares are multiples of a quarter: their sums are exact in any order.
	for _, o := range replicates {
		if o.a == nil || o.b == nil {
			continue
		}
		hardA, softA, okA := o.a.share()
		hardB, softB, okB := o.b.share()
		if !okA || !okB {
			continue
		}
		r.Replicates++
		r.Hard += (hardA + hardB) / 2
		r.Soft += (softA + softB) / 2
		m.Tally.BothOrders++
		if hardA == hardB {
			m.Tally.Agree++
		}
	}
	if r.Replicates > 0 {
		r.Hard /= float64(r.Replicates)
		r.Soft /= float64(r.Replicates)
	}
}
