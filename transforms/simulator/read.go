package simulator

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"coeval/schemas"
)

// maxTop is the largest number of likely tokens that the server reports.
const maxTop = 20

// A probability is the probability of one token.
type probability struct {
	token string
	p     float64
}

// isRead reports whether a request asks for the probabilities of one token.
func (req *request) isRead() bool {
	return req.logprobs && req.maxTokens == 1 && (req.topLogprobs > 0 || len(req.logprobIDs) > 0)
}

// scoreLabels are the whole points of the rubric.
const scoreLabels = "012345"

// ReadToken returns the answer of one token to a question that Read returned, with the probabilities of
// the tokens that report selects.
func (w *World) ReadToken(q *Question, seed int64, report func([]probability) []probability) Choice {
	w = q.skill.apply(w)
	r := rng(mix(q.hash ^ mix(uint64(seed)+0x5eed)))
	own := rng(mix(q.hash ^ 0x4ead)) // a model reads equal requests alike, with any seed
	noise := w.ReadNoise * own.normal()
	var labels []probability
	unparsed := 0.0
	switch q.Role {
	case schemas.RoleMetaJudge:
		labels, unparsed = w.readWinner(q, noise), w.MetaUnparsed
	case schemas.RoleJudge:
		labels, unparsed = w.readScore(q, noise), w.JudgeUnparsed
	}
	mass := 1 - w.ReadOther
	if own.float() < unparsed {
		mass = 0.1 * own.float()
	}
	var next []probability
	for _, l := range labels {
		spaced := 0.2 * own.float() // of the same label with a space before it
		next = append(next, probability{l.token, mass * l.p * (1 - spaced)}, probability{" " + l.token, mass * l.p * spaced})
	}
	next = append(next, others(&own, 1-sum(next))...)
	slices.SortStableFunc(next, func(a, b probability) int { return cmp.Compare(b.p, a.p) })
	token := next[0].token
	for x, i := r.float(), 0; i < len(next); i++ { // draws a token
		if x -= next[i].p; x < 0 {
			token = next[i].token
			break
		}
	}
	reported := report(withFirst(next, token))
	return Choice{Text: token, FinishReason: "length", Tokens: 1, next: &reported}
}

// withFirst puts a token before all others, where the server reports the written one.
func withFirst(next []probability, token string) []probability {
	at := slices.IndexFunc(next, func(p probability) bool { return p.token == token })
	return append([]probability{next[at]}, next...)
}

func sum(list []probability) float64 {
	total := 0.0
	for _, l := range list {
		total += l.p
	}
	return total
}

// others returns tokens that are no labels, whose probabilities sum to rest.
func others(r *rng, rest float64) []probability {
	out := make([]probability, 0, maxTop)
	for i, share := 0, rest/2; i < maxTop; i, share = i+1, share/2 {
		if i == maxTop-1 {
			share *= 2
		}
		out = append(out, probability{otherToken((r.next()+uint64(i))%uint64(len(nouns)), i), max(share, 0)})
	}
	return out
}

// readWinner returns the probabilities of A and B.
func (w *World) readWinner(q *Question, noise float64) []probability {
	read := *w
	read.MetaSlope *= 1 - w.ReadLoss
	p := read.firstWins(q.first, q.second)
	logit := math.Log(p/(1-p)) + noise
	p = logistic(min(max(logit, -30), 30))
	return []probability{{"A", p}, {"B", 1 - p}}
}

// readScore returns the probabilities of the whole points.
func (w *World) readScore(q *Question, noise float64) []probability {
	const minDeviation = 0.05 // of a judge without noise
	w = w.about(q.response)
	quality, z := w.hidden(q.response)
	own := rng(mix(w.Seed ^ uint64(q.response.prompt)<<32 ^ q.response.sample ^ mix(q.model)))
	mean := w.QualityMean + (1-w.ReadLoss)*(quality-w.QualityMean) + w.Leniency + w.JudgeLengthBias*z + w.JudgePersistent*own.normal() + noise
	mean = w.Bend(mean)
	deviation := max(w.JudgeNoise, minDeviation)
	below := func(x float64) float64 { return math.Erfc((mean-x)/deviation/math.Sqrt2) / 2 }
	var out []probability
	from := 0.0
	for i := range scoreLabels {
		to := 1.0
		if i < len(scoreLabels)-1 {
			to = below(float64(i) + 0.5)
		}
		out = append(out, probability{scoreLabels[i : i+1], to - from})
		from = to
	}
	return out
}

// reported returns the selection of tokens that the request asks for. The first one is the written one.
func (s *Server) reported(req *request) func([]probability) []probability {
	return func(next []probability) []probability {
		out := []probability{next[0]}
		if len(req.logprobIDs) > 0 && (s.o.Dialect == VLLM || req.generate) {
			for _, id := range req.logprobIDs {
				token := tokenOf(id)
				p := probability{token: token}
				if at := slices.IndexFunc(next[1:], func(p probability) bool { return p.token == token }); at >= 0 {
					p.p = next[1:][at].p
				}
				out = append(out, p)
			}
			return out
		}
		return append(out, next[1:][:min(req.topLogprobs, len(next)-1)]...)
	}
}

// minP is the least probability: the softmax of a model is never 0.
const minP = 1e-30

// appendNext writes the log-probabilities of a read.
func appendNext(b []byte, c *Choice) []byte {
	b = append(b, `{"content":[`...)
	entry := func(p probability) {
		b = append(b, `{"token":`...)
		b = appendQuoted(b, p.token)
		b = fmt.Appendf(b, `,"logprob":%.6f`, math.Log(max(p.p, minP)))
	}
	entry((*c.next)[0])
	b = append(b, `,"top_logprobs":[`...)
	for i, p := range (*c.next)[1:] {
		if i > 0 {
			b = append(b, ',')
		}
		entry(p)
		b = append(b, '}')
	}
	return append(b, `]}]}`...)
}
