package pacing

import "time"

// A Quota keeps requests within a configured allowance of a hosted API per minute. It is not safe
// for concurrent use.
type Quota struct {
	requests, tokens bucket
	// perRequest is how many tokens a request of a class takes, smoothed over answers.
	perRequest map[Class]float64
}

const (
	// assumedTokens is how many tokens a choice is assumed to take before the first answer of its class.
	// The first answer replaces it, so it decides only how many requests go before that.
	assumedTokens = 500
	// tokensWeight is the weight of an answer in the smoothed tokens of a request, a mean of about the
	// last ten answers. Lognormal sizes with σ = 0.8 have a coefficient of variation of 0.95: their mean
	// is known to 0.95·√(0.1/1.9) = 22 %, which is enough to know when a bucket has room.
	tokensWeight = 0.1
)

// NewQuota returns a Quota of these numbers of requests and tokens a minute. Zero means unlimited; it
// returns nil if both are.
func NewQuota(requestsPerMinute, tokensPerMinute int) *Quota {
	if requestsPerMinute <= 0 && tokensPerMinute <= 0 {
		return nil
	}
	return &Quota{requests: newBucket(requestsPerMinute), tokens: newBucket(tokensPerMinute), perRequest: map[Class]float64{}}
}

// Take books a request and returns 0, or returns how long to wait before it may be sent.
func (q *Quota) Take(now time.Time, c Class) (wait time.Duration) {
	tokens, known := q.perRequest[c]
	if !known {
		tokens = q.tokens.atMostAMinute(assumedTokens * float64(c.N))
	}
	if wait = max(q.requests.wait(now, 1), q.tokens.wait(now, tokens)); wait == 0 {
		q.requests.take(1)
		q.tokens.take(tokens)
	}
	return wait
}

// Used records how many tokens a request took according to its answer. A number above the allowance of
// a minute counts as that allowance: the server would have refused the request, so the number is wrong.
func (q *Quota) Used(c Class, tokens int) {
	each := q.perRequest[c]
	blend(&each, q.tokens.atMostAMinute(float64(max(tokens, 0))), tokensWeight)
	q.perRequest[c] = each
}

// A bucket refills at a constant rate up to its size. A request may take more than its content; the
// debt delays later requests. The zero bucket is unlimited.
type bucket struct {
	perSecond, size float64
	content         float64
	at              time.Time // when content was right
}

// newBucket returns a bucket that admits at most n in any minute. Its burst is the allowance of one second;
// the refill rate is lowered to compensate.
func newBucket(n int) bucket {
	if n <= 0 {
		return bucket{}
	}
	size := max(float64(n/60), 1)
	return bucket{perSecond: max(float64(n)-size, 0.5) / 60, size: size, content: size}
}

// wait returns how long it takes until n may be taken. More than the size needs only a full bucket.
func (b *bucket) wait(now time.Time, n float64) time.Duration {
	if b.size == 0 {
		return 0
	}
	if b.at.IsZero() || now.After(b.at) {
		if !b.at.IsZero() {
			b.content = min(b.content+now.Sub(b.at).Seconds()*b.perSecond, b.size)
		}
		b.at = now
	}
	missing := min(n, b.size) - b.content
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing/b.perSecond*float64(time.Second)) + time.Millisecond
}

// take follows a wait of 0 at the same time.
func (b *bucket) take(n float64) {
	if b.size > 0 {
		b.content -= n
	}
}

func (b *bucket) atMostAMinute(n float64) float64 {
	if b.size == 0 {
		return n
	}
	return min(n, 60*b.perSecond+b.size)
}
