package endpoint

import (
	"math"
	"time"

	"coeval/schemas"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/stage"
)

// The default time limit of a request: minTimeout plus twice the expected time of its tokens at the
// endpoint, or slowToken for each token before the first answer. Each timeout doubles the limit, since
// the request may have waited long at the server.
const (
	minTimeout    = 10 * time.Second
	maxTimeout    = time.Hour
	slowToken     = 200 * time.Millisecond
	unknownTokens = 16384 // for a request without max_tokens
	// slowRead is the time of a read before the first answer. A read has one token, so its time does not
	// follow from its tokens: the limit is minTimeout plus four times the mean time of reads.
	slowRead = 15 * time.Second
)

// Timeout returns the time limit of a request for a role after a number of timeouts.
func (e *Endpoint) Timeout(r *stage.Role, timeouts int) time.Duration {
	tokens := r.MaxTokens
	if tokens == 0 {
		tokens = unknownTokens
	}
	e.mu.Lock()
	perToken, perRead := 2*e.model(r).secondsPerToken, e.model(r).secondsPerRead
	e.mu.Unlock()
	if perToken == 0 {
		perToken = slowToken.Seconds()
	}
	seconds := minTimeout.Seconds() + perToken*float64(tokens)
	if r.Read != nil {
		if perRead == 0 {
			perRead = slowRead.Seconds()
		}
		seconds = minTimeout.Seconds() + 4*perRead
	}
	return time.Duration(min(seconds*math.Pow(2, float64(timeouts)), maxTimeout.Seconds()) * float64(time.Second))
}

// RecordTiming updates the time per token after an answer. The slowest choice decides the duration, but
// servers report only the sum of tokens. So the time of a token is overestimated rather than
// underestimated.
func (e *Endpoint) RecordTiming(r *stage.Role, generations []schemas.Generation, has []bool, took time.Duration) {
	prompt, tokens := openai.Usage(generations)
	if tokens == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	blend(&e.tokensPerRequest, float64(prompt+tokens), 0.05)
	if r.Read != nil {
		blend(&e.model(r).secondsPerRead, took.Seconds(), 0.05)
		return
	}
	blend(&e.model(r).secondsPerToken, took.Seconds()*float64(countTrue(has))/float64(tokens), 0.05)
}

// blend moves x by a share of the distance towards y, or sets it to y if x is unknown.
func blend(x *float64, y, share float64) {
	if *x == 0 {
		share = 1
	}
	*x += share * (y - *x)
}

func countTrue(has []bool) int {
	n := 0
	for _, ok := range has {
		if ok {
			n++
		}
	}
	return n
}

// TokensPerRequest returns the smoothed number of tokens of a request and its answer, 0 before the first.
func (e *Endpoint) TokensPerRequest() float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tokensPerRequest
}
