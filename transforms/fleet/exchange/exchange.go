// Package exchange posts one request to an endpoint, and returns the generations of its answer or the fault.
//
// It sends a read in the form that package reads found for the endpoint. It bounds the body by the requested
// tokens, and removes secrets from the texts. Each error of a connection, status or body becomes a fault, so
// that callers have one thing to react to. The package repeats no request and has no state.
package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"coeval/schemas"
	"coeval/schemas/machine"
	"coeval/schemas/redact"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/pacing"
	"coeval/transforms/fleet/reads"
	"coeval/transforms/fleet/transport"
	"coeval/transforms/stage"
)

// A Request is one POST for some choices of a chat.
type Request struct {
	Role *stage.Role
	// Chat is the body of the chat completion.
	Chat []byte
	// N is the number of choices that it asks for.
	N int
	// Streamed reports whether it asks for a stream.
	Streamed bool
	Timeout  time.Duration
}

// A Result has generations or a fault.
type Result struct {
	Generations []schemas.Generation
	// Has reports which of the generations the answer has.
	Has   []bool
	Fault *fault.Fault
	// Answer is nil if none came.
	Answer *transport.Answer
	// Body is the body of a complete 200, nil for any other answer.
	Body []byte
	// Took is the time until the answer was complete.
	Took time.Duration
}

// minSilenceLimit is below the shortest time after which gateways close silent requests: most do after
// one minute, some after 30 seconds.
const minSilenceLimit = 25 * time.Second

const (
	// bytesPerToken bounds a body by the requested tokens, bytesPerEvent a stream, which has one
	// event for each token. minBody covers the rest of the body.
	bytesPerToken = 64
	bytesPerEvent = 1024
	minBody       = 1 << 20
	maxBody       = 64 << 20
)

// Do posts a request and reads its answer.
func Do(ctx context.Context, e *endpoint.Endpoint, q *Request) *Result {
	limit := q.maxAnswer()
	began := time.Now()
	a, decode, err := post(ctx, e, q, limit)
	r := &Result{Answer: a, Took: time.Since(began)}
	if r.Fault = faultOf(e, a, err, limit, q.Timeout); r.Fault != nil {
		switch silent := r.Took >= minSilenceLimit; {
		case r.Fault.Kind == fault.CutOffSilence && !silent:
			r.Fault.Kind = fault.Broken // no gateway has a limit this short
		case silent && r.Fault.EndedSilence():
			r.Fault.Kind, r.Fault.Code = fault.CutOffSilence, fault.CodeTimeout
		}
		return r
	}
	r.Body = a.Body
	if r.Generations, r.Has, r.Fault = decode(a.Body, q.N, q.Role.Read); r.Fault != nil {
		r.Fault = withWait(r.Fault, a)
		return r
	}
	redactTexts(e.Secrets, r.Generations)
	return r
}

// maxAnswer returns the largest body that is read, in bytes.
func (q *Request) maxAnswer() int64 {
	if q.Role.MaxTokens <= 0 {
		return maxBody
	}
	perToken := int64(bytesPerToken)
	if q.Streamed {
		perToken = bytesPerEvent
	}
	return min(maxBody, minBody+int64(q.N)*int64(q.Role.MaxTokens)*perToken)
}

// decoder reads the body of a 200, as [openai.DecodeRead].
type decoder func(body []byte, n int, read *stage.Read) ([]schemas.Generation, []bool, *fault.Fault)

// post sends the body of a chat, or asks for the read of it in another form. It returns the decoder of the answer.
func post(ctx context.Context, e *endpoint.Endpoint, q *Request, limit int64) (*transport.Answer, decoder, error) {
	if form := e.ReadOf(q.Role); form != nil && form.Generate {
		a, err := reads.Post(ctx, e, &reads.Rendered{Role: q.Role, Form: form, N: q.N}, q.Chat, limit, q.Timeout)
		return a, form.DecodeGenerated, err
	}
	a, err := e.Post(ctx, q.Chat, limit, q.Timeout)
	if a != nil && a.Stream {
		return a, openai.DecodeReadStream, err
	}
	return a, openai.DecodeRead, err
}

// redactTexts removes secrets from decoded texts. The body was searched before, but a text of several parts,
// as of a stream, may contain a secret that no part has.
func redactTexts(secrets *redact.Redactor, generations []schemas.Generation) {
	for i := range generations {
		g := &generations[i]
		for _, text := range []*string{&g.Text, &g.Reasoning, &g.FinishReason, &g.Message} {
			*text = secrets.String(*text)
		}
	}
}

// faultOf returns the fault of an exchange, nil for a 200 with a complete body.
func faultOf(e *endpoint.Endpoint, a *transport.Answer, err error, limit int64, timeout time.Duration) *fault.Fault {
	broken := func(kind fault.Kind, code, message string) *fault.Fault {
		return &fault.Fault{Kind: kind, Code: code, Message: message}
	}
	if own := machine.Fault(err); own != "" {
		return broken(fault.OwnMachine, fault.CodeConnection, own+" ("+e.Secrets.String(err.Error())+")")
	}
	switch {
	case errors.Is(err, endpoint.ErrUnresponsive):
		return broken(fault.TimedOut, fault.CodeTimeout, err.Error())
	case errors.Is(err, transport.ErrForeign):
		return broken(fault.Broken, fault.CodeMalformed, err.Error())
	case a != nil && !transport.IsSuccess(a.Status): // after a broken body the status is enough
		return withWait(fault.Classify(a.Status, a.Header, a.Body), a)
	case err == nil:
		return nil
	case errors.Is(err, transport.ErrTooLarge):
		return broken(fault.Broken, fault.CodeMalformed, fmt.Sprintf("the body is larger than %d bytes", limit))
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return broken(fault.TimedOut, fault.CodeTimeout, fmt.Sprintf("no complete answer within %s", timeout.Round(time.Second)))
	case transport.Unreachable(err):
		return broken(fault.Unreachable, fault.CodeConnection, e.Secrets.String(err.Error()))
	case a != nil:
		return broken(fault.Broken, fault.CodeConnection, "the body broke off: "+e.Secrets.String(err.Error()))
	}
	return broken(fault.Broken, fault.CodeConnection, e.Secrets.String(err.Error()))
}

// withWait adds to the fault of a full server how long it asks to wait: in its header, or else in its body.
func withWait(flt *fault.Fault, a *transport.Answer) *fault.Fault {
	if flt.Kind == fault.Overloaded {
		now := time.Now()
		flt.RetryAfter = cmp.Or(pacing.RetryAfter(a.Header, now), pacing.RetryIn(a.Body, now))
	}
	return flt
}
