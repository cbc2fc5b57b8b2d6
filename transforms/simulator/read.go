package simulator

import (
	"fmt"
	"math"
	"slices"

	"coeval/transforms/simulator/world"
)

// maxTop is the largest number of likely tokens that the server reports.
const maxTop = 20

// A choice is one choice of an answer.
type choice struct {
	world.Choice
	// next are the reported tokens of a read, the written token first; nil for a text.
	next []world.Probability
}

// isRead reports whether a request asks for the probabilities of one token.
func (req *request) isRead() bool {
	return req.logprobs && req.maxTokens == 1 && (req.topLogprobs > 0 || len(req.logprobIDs) > 0)
}

// readToken returns a choice of a read.
func (s *Server) readToken(a *ask, seed int64) choice {
	c, likely := s.world.ReadToken(a.q, seed)
	written := slices.IndexFunc(likely, func(p world.Probability) bool { return p.Token == c.Text })
	next := []world.Probability{likely[written]}
	return choice{Choice: c, next: append(next, s.reported(a.req, likely)...)}
}

// reported returns the tokens that the request lists, or else the first of the likely tokens.
func (s *Server) reported(req *request, likely []world.Probability) []world.Probability {
	if len(req.logprobIDs) == 0 || s.o.Dialect != VLLM && !req.generate {
		return likely[:min(req.topLogprobs, len(likely))]
	}
	out := make([]world.Probability, 0, len(req.logprobIDs))
	for _, id := range req.logprobIDs {
		listed := world.Probability{Token: tokenOf(id)}
		if at := slices.IndexFunc(likely, func(p world.Probability) bool { return p.Token == listed.Token }); at >= 0 {
			listed.P = likely[at].P
		}
		out = append(out, listed)
	}
	return out
}

// minP is the least probability: the softmax of a model is never 0.
const minP = 1e-30

// appendNext writes the log-probabilities of a read.
func appendNext(b []byte, next []world.Probability) []byte {
	b = append(b, `{"content":[`...)
	entry := func(p world.Probability) {
		b = append(b, `{"token":`...)
		b = appendQuoted(b, p.Token)
		b = fmt.Appendf(b, `,"logprob":%.6f`, math.Log(max(p.P, minP)))
	}
	entry(next[0])
	b = append(b, `,"top_logprobs":[`...)
	for i, p := range next[1:] {
		if i > 0 {
			b = append(b, ',')
		}
		entry(p)
		b = append(b, '}')
	}
	return append(b, `]}]}`...)
}
