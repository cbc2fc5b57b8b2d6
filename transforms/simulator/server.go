package simulator

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"coeval/schemas"
	"coeval/transforms/simulator/world"
)

// Options configure a Server.
type Options struct {
	// World is the hidden truth. Nil means [world.Default].
	World *world.World
	// Models are the names that /v1/models lists. None means "simulated".
	Models []string
	// Adapters allows clients to load models from folders of this machine while the server runs, as
	// vLLM loads LoRA adapters. By default clients can make the server read no file.
	Adapters bool
	// Skill is the skill of the served Models, as of a server that was started with trained weights. The zero
	// Skill is the world's own model.
	Skill world.Skill
	// Strict refuses unknown models with status 404. By default the server accepts any name.
	Strict bool
	// APIKey is the bearer token that requests must carry. Empty means none.
	APIKey string
	// FreshTexts gives a different text at each repetition of a request, in this process and any
	// other, so that a text shows whether a client requested it again. It sets the world's
	// Duplicates and JudgeDuplicates to 0 and ConstantActor to false.
	FreshTexts bool
	// Record keeps the hashes of all texts sent (8 bytes each), for /sent and [Server.Sent].
	Record bool

	// Slots is the number of choices that run at once. Zero means 256.
	Slots int
	// Latency is the mean of the lognormal time that a choice occupies its slot. Zero means that the
	// server answers at once and does not model slots, unless DecodeRate is set.
	Latency time.Duration
	// Sigma is the standard deviation of the logarithm of that time. Zero means 0.8, a negative
	// value that every choice takes exactly Latency.
	Sigma float64
	// PrefillRate and DecodeRate are in tokens a second: a choice takes prompt tokens /
	// PrefillRate + completion tokens / DecodeRate. Zero omits a term. They exclude Latency.
	PrefillRate, DecodeRate float64
	// CacheTokens is the size of a prefix cache. Cached prompt tokens take no prefill time. Zero
	// means no cache.
	CacheTokens int
	// RoleScale multiplies the time of a role's choices. A missing role has 1.
	RoleScale map[string]float64

	// MaxN is the largest n, as llama.cpp's number of slots. The server refuses more with status 400.
	// Zero means 1024.
	MaxN int
	// MaxQueue is the number of waiting choices at which the server refuses requests with
	// FullStatus. Zero means no limit.
	MaxQueue int
	// FullStatus is 503 or 429. Zero means 503.
	FullStatus int
	// RetryAfter is the header of refusals with 429 and 503, in whole seconds. Zero sends none.
	RetryAfter time.Duration
	// ContextTokens is the context's length. The server refuses longer requests with status 400. Zero
	// means no limit.
	ContextTokens int
	// Dialect decides metrics, errors and constraints: vllm, sglang, llamacpp, or none, which has
	// OpenAI's errors and constraints and no metrics. Empty means vllm.
	Dialect string
	// IgnoreConstraints ignores the fields that constrain a text, in every dialect.
	IgnoreConstraints bool

	// Faults are the failures to simulate, with their shares. None by default.
	Faults Faults
	// FaultSeed decides which request fails in which way. Servers of one fleet need different ones.
	FaultSeed uint64
	// SlowFactor multiplies the time of a slow answer. Zero means 10.
	SlowFactor float64

	// Addr is the address to listen on. Empty means a free port of 127.0.0.1.
	Addr string
}

func (o *Options) setDefaults() {
	if o.World == nil {
		w := world.Default()
		o.World = &w
	}
	if len(o.Models) == 0 {
		o.Models = []string{"simulated"}
	}
	setDefault(&o.Slots, 256)
	setDefault(&o.Sigma, 0.8)
	setDefault(&o.MaxN, maxChoices)
	setDefault(&o.FullStatus, http.StatusServiceUnavailable)
	setDefault(&o.Dialect, VLLM)
	setDefault(&o.SlowFactor, 10)
	setDefault(&o.Addr, "127.0.0.1:0")
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate returns an error that names every option with an invalid value.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, name string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("simulator: %s is %v; allowed is %s", name, value, allowed))
		}
	}
	check(o.Slots >= 0 && o.Slots <= 1<<20, "slots", o.Slots, "0 to 1048576")
	check(o.Latency >= 0, "latency", o.Latency, "0 or more")
	check(o.Sigma <= 5, "sigma", o.Sigma, "at most 5")
	check(o.PrefillRate >= 0, "prefill rate", o.PrefillRate, "0 or more")
	check(o.CacheTokens >= 0, "cache tokens", o.CacheTokens, "0 or more")
	check(o.DecodeRate >= 0, "decode rate", o.DecodeRate, "0 or more")
	check(o.Latency == 0 || o.PrefillRate == 0 && o.DecodeRate == 0, "latency", o.Latency, "0 when a rate is given")
	check(o.MaxN >= 0 && o.MaxN <= maxChoices, "max n", o.MaxN, fmt.Sprintf("0 to %d", maxChoices))
	check(o.MaxQueue >= 0, "max queue", o.MaxQueue, "0 or more")
	check(slices.Contains([]int{0, 429, 503}, o.FullStatus), "full status", o.FullStatus, "429 or 503")
	check(o.RetryAfter >= 0, "retry after", o.RetryAfter, "0 or more")
	check(o.ContextTokens >= 0, "context tokens", o.ContextTokens, "0 or more")
	check(o.Dialect == "" || slices.Contains(Dialects, o.Dialect), "dialect", o.Dialect, fmt.Sprint(Dialects))
	check(o.SlowFactor >= 0, "slow factor", o.SlowFactor, "0 or more")
	for role, scale := range o.RoleScale {
		check(slices.Contains(roles, role), "role", role, fmt.Sprint(roles))
		check(scale >= 0 && scale < 1e6, "scale of role "+role, scale, "0 to 1e6")
	}
	if o.World != nil {
		errs = append(errs, o.World.Validate())
	}
	return errors.Join(append(errs, o.Faults.Validate())...)
}

var roles = []string{schemas.RoleActor, schemas.RoleJudge, schemas.RoleMetaJudge}

// A Server is a simulated worker. It is an http.Handler and safe for concurrent use.
type Server struct {
	o     Options
	world *world.World
	line  faultLine
	mux   *http.ServeMux
	start time.Time
	// timed reports whether choices take time and occupy slots.
	timed    bool
	sent     sentTexts
	adapters adapters

	mu    sync.Mutex // guards the fields below
	queue *queue
	tally tally
	cache *prefixCache // nil without a cache

	// nonce differs between processes, asks between the requests of this one.
	nonce uint64
	asks  atomic.Uint64
}

// New creates a server. It returns an error if o is invalid.
func New(o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	w := *o.World
	if o.FreshTexts {
		w.Duplicates, w.JudgeDuplicates, w.ConstantActor = 0, 0, false
	}
	s := &Server{
		o: o, world: &w, line: newFaultLine(o.Faults, o.FaultSeed), start: time.Now(),
		timed: o.Latency > 0 || o.PrefillRate > 0 || o.DecodeRate > 0,
		queue: newQueue(o.Slots),
		tally: newTally(),
	}
	var nonce [8]byte
	if o.CacheTokens > 0 {
		s.cache = newPrefixCache(o.CacheTokens)
	}
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	s.nonce = binary.LittleEndian.Uint64(nonce[:])
	if o.Record {
		s.sent.hashes = map[uint64]struct{}{}
	}
	s.mux = s.routes()
	return s, nil
}

// ServeHTTP implements the chat protocol and the simulator's own paths.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, base := range []string{"", "/v1"} {
		mux.HandleFunc("POST "+base+"/chat/completions", s.complete)
		mux.HandleFunc("GET "+base+"/models", s.listModels)
		if s.o.Adapters {
			mux.HandleFunc("POST "+base+"/load_lora_adapter", s.loadAdapter)
		}
	}
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /metrics", s.metrics)
	if s.o.Dialect != None {
		mux.HandleFunc("POST /tokenize", s.tokenize)
	}
	if s.o.Dialect == SGLang {
		mux.HandleFunc("POST /generate", s.generate)
	}
	mux.HandleFunc("GET /stats", s.getStats)
	mux.HandleFunc("POST /stats/reset", s.postReset)
	mux.HandleFunc("GET /truth", s.getTruth)
	mux.HandleFunc("POST /truth", s.postTruth)
	mux.HandleFunc("POST /sent", s.postSent)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s.refuse(w, http.StatusNotFound, "not_found_error", "no such path")
	})
	return mux
}

// now returns the time since the server's start.
func (s *Server) now() time.Duration { return time.Since(s.start) }

// maxBody is the largest body of a request, pooledBody the largest buffer that the pool keeps.
const (
	maxBody    = 64 << 20
	pooledBody = 1 << 20
)

var bodies = sync.Pool{New: func() any { return new([]byte) }}

// giveBack returns the buffer b, grown from buf, to the pool.
func giveBack(buf *[]byte, b []byte) {
	if cap(b) <= pooledBody {
		*buf = b[:0]
		bodies.Put(buf)
	}
}

// readBody reads a body into buf and returns the grown buffer.
func readBody(w http.ResponseWriter, r *http.Request, buf []byte) ([]byte, error) {
	buf = slices.Grow(buf, int(min(max(r.ContentLength, 0), pooledBody))+1)
	body := http.MaxBytesReader(w, r.Body, maxBody)
	for {
		buf = slices.Grow(buf, 1)
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// complete answers a chat completion.
func (s *Server) complete(w http.ResponseWriter, r *http.Request) { s.reply(w, r, parseRequest) }

// reply answers a request that parse reads.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, parse func(body []byte) (request, error)) {
	if !s.authorized(w, r) {
		return
	}
	req, ok := s.readRequest(w, r, parse)
	if !ok {
		return
	}
	q := s.world.Read(req.messages, s.find(req.model))
	var err error
	if q.Form, err = s.form(&req); err != nil {
		s.refuse(w, http.StatusBadRequest, "invalid_request_error", err.Error())
		return
	}
	if !s.acceptable(w, &req, &q) {
		return
	}
	a := &ask{req: &req, q: &q, id: world.Mix(q.Hash + req.sampling)}
	s.arrive(a)
	choices, end := s.work(r.Context(), a)
	s.leave(a, choices, end)
	s.answer(r.Context(), w, a, choices, end)
}

// readRequest returns false when it has already answered the request.
func (s *Server) readRequest(w http.ResponseWriter, r *http.Request, parse func(body []byte) (request, error)) (request, bool) {
	buf := bodies.Get().(*[]byte)
	body, err := readBody(w, r, *buf)
	defer func() { giveBack(buf, body) }()
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		s.refuse(w, http.StatusRequestEntityTooLarge, "invalid_request_error", "the body is too large")
		return request{}, false
	}
	if err != nil {
		s.refuse(w, http.StatusBadRequest, "invalid_request_error", "the body ended early")
		return request{}, false
	}
	req, err := parse(body)
	if err != nil {
		s.refuse(w, http.StatusBadRequest, "invalid_request_error", err.Error())
		return request{}, false
	}
	if _, err := world.ParseSkill(req.model); err != nil {
		s.refuse(w, http.StatusNotFound, "not_found_error", err.Error())
		return request{}, false
	}
	return req, true
}

// An ask is one request in progress.
type ask struct {
	req   *request
	q     *world.Question
	id    uint64
	fault Fault
	// cached is the number of prompt tokens in the prefix cache.
	cached int
	// full reports whether the queue was full on arrival.
	full bool
	// held is the slot time of each choice, until the end of the last one.
	held  []time.Duration
	until time.Duration
}

// generation identifies one choice, in whichever request it comes.
func (a *ask) generation(index int) uint64 {
	return world.Mix(a.id ^ world.Mix(uint64(a.req.seed)+uint64(index)))
}

// identity identifies the request with its seed and n.
func (a *ask) identity() uint64 { return world.Mix(a.generation(0) + uint64(a.req.n)) }

// authorized checks the API key.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) bool {
	want := "Bearer " + s.o.APIKey
	if s.o.APIKey == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) == 1 {
		return true
	}
	s.refuse(w, http.StatusUnauthorized, "authentication_error", "Invalid API Key")
	return false
}

// acceptable refuses requests that would fail at every repetition.
func (s *Server) acceptable(w http.ResponseWriter, req *request, q *world.Question) bool {
	switch {
	case req.stream:
		s.refuse(w, http.StatusBadRequest, "invalid_request_error", "stream is not supported")
	case req.n < 1 || req.n > s.o.MaxN:
		s.refuse(w, http.StatusBadRequest, "invalid_request_error",
			fmt.Sprintf("Field 'n': Value must be between 1 <= value <= %d, but got %d", s.o.MaxN, req.n))
	case req.topLogprobs < 0 || req.topLogprobs > maxTop || req.topLogprobs > 0 && !req.logprobs:
		s.refuse(w, http.StatusBadRequest, "invalid_request_error",
			fmt.Sprintf("top_logprobs must be within 0 to %d, and needs logprobs: got %d", maxTop, req.topLogprobs))
	case s.o.Strict && !slices.Contains(s.o.Models, req.model):
		s.refuse(w, http.StatusNotFound, "not_found_error", fmt.Sprintf("The model `%s` does not exist.", req.model))
	case s.o.ContextTokens > 0 && s.tooLong(req, q):
		s.refuseLong(w, req, q)
	default:
		return true
	}
	return false
}

// An ending is the outcome of a request.
type ending int

const (
	delivered ending = iota
	// partial is an answer that lacks its last choice.
	partial
	broken
	full
	refused
	abandoned
)

// work processes a request until its answer is due.
func (s *Server) work(ctx context.Context, a *ask) ([]choice, ending) {
	switch a.fault {
	case FaultPoison, FaultErrorObject, FaultHTML, FaultTrickle, FaultHuge:
		return nil, broken
	case FaultHang:
		<-ctx.Done()
		return nil, abandoned
	}
	if a.fault.status() != 0 {
		return nil, refused
	}
	if a.full {
		return nil, full
	}
	choices := s.choices(a)
	if !s.admit(a) {
		return nil, full
	}
	if !s.wait(ctx, a.until) {
		return nil, abandoned
	}
	switch a.fault {
	case "", FaultSlow, FaultFilter:
		return choices, delivered
	case FaultUTF8:
		for i := range choices { // as a JSON reader replaces the byte that answer inserts
			choices[i].Text = "\uFFFD" + choices[i].Text
		}
		return choices, delivered
	case FaultMissing:
		return choices[:len(choices)-1], partial
	default:
		return choices, broken
	}
}

// choices writes the texts and sets the slot time of each.
func (s *Server) choices(a *ask) []choice {
	choices := make([]choice, a.req.n)
	if s.timed {
		a.held = make([]time.Duration, a.req.n)
	}
	for i := range choices {
		seed := a.req.seed + int64(i)
		asked := seed
		if s.o.FreshTexts {
			asked = int64(world.Mix(s.nonce + s.asks.Add(1)))
		}
		if a.req.isRead() {
			choices[i] = s.readToken(a, asked)
		} else {
			choices[i].Choice = s.world.Reply(a.q, asked, a.req.maxTokens)
		}
		choices[i].StopAt(a.req.stop)
		if s.timed {
			a.held[i] = s.duration(a, seed, &choices[i].Choice)
		}
	}
	return choices
}

// duration returns the slot time of a choice. It depends on the request, the seed, the cached part of the
// prompt and the fault, even with fresh texts.
func (s *Server) duration(a *ask, seed int64, c *world.Choice) time.Duration {
	var seconds float64
	if s.o.Latency > 0 {
		r := world.Rand(world.Mix(a.q.Hash ^ world.Mix(uint64(seed)+0x1a7e)))
		sigma := max(s.o.Sigma, 0)
		seconds = s.o.Latency.Seconds() * math.Exp(sigma*r.NormFloat64()-sigma*sigma/2)
		if c.Whole > 0 { // a text that was cut off ends sooner
			seconds *= float64(c.Tokens) / float64(c.Whole)
		}
	}
	if s.o.PrefillRate > 0 {
		seconds += float64(a.q.PromptTokens-a.cached) / s.o.PrefillRate
	}
	if s.o.DecodeRate > 0 {
		seconds += float64(c.Tokens) / s.o.DecodeRate
	}
	if scale, ok := s.o.RoleScale[a.q.Role]; ok {
		seconds *= scale
	}
	if a.fault == FaultSlow {
		seconds *= s.o.SlowFactor
	}
	return time.Duration(min(seconds, 1e6) * float64(time.Second))
}

// wait returns false if the client disconnects before that time.
func (s *Server) wait(ctx context.Context, until time.Duration) bool {
	if !s.timed {
		return true
	}
	timer := time.NewTimer(until - s.now())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// answer sends the response to a request.
func (s *Server) answer(ctx context.Context, w http.ResponseWriter, a *ask, choices []choice, end ending) {
	switch end {
	case abandoned:
		return
	case full:
		s.refuse(w, s.o.FullStatus, "overloaded_error", "too many requests are waiting")
		return
	case refused:
		s.refuse(w, a.fault.status(), "simulated_fault", "refused by a simulated fault")
		return
	}
	switch a.fault {
	case FaultPoison, FaultReset:
		hangUp(w)
		return
	case FaultErrorObject:
		writeJSON(w, errorBody(None, http.StatusInternalServerError, "server_error", "a simulated fault"))
		return
	case FaultTrickle:
		trickle(ctx, w)
		return
	case FaultHuge:
		w.Header()["Content-Type"] = jsonType
		for range hugeBody / len(spaces) {
			if _, err := w.Write(spaces); err != nil {
				return
			}
		}
		return
	case FaultHTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><head><title>502 Bad Gateway</title></head><body></body></html>\n")
		return
	}
	if end != broken {
		s.sent.add(choices)
	}
	buf := bodies.Get().(*[]byte)
	write := appendAnswer
	if a.req.generate {
		write = appendGenerated
	}
	body := write(*buf, a.id, a.req, a.q, choices, a.fault)
	defer giveBack(buf, body)
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Server"] = serverName
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	switch a.fault {
	case FaultTruncated:
		// The server closes the connection after a body shorter than its length.
		body = body[:len(body)/2]
	case FaultMalformed:
		body[len(body)/2] = 0
		body[len(body)-1] = '<'
	}
	_, _ = w.Write(body)
}

var (
	jsonType   = []string{"application/json"}
	serverName = []string{"coeval-simulator"}
)

const hugeBody = 100 << 20

var spaces = bytes.Repeat([]byte{' '}, 1<<20)

// trickle sends a body byte by byte until the client disconnects.
func trickle(ctx context.Context, w http.ResponseWriter) {
	w.Header()["Content-Type"] = jsonType
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for {
		if _, err := w.Write(spaces[:1]); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// hangUp closes the connection. On a network the client sees a reset.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the server's way to close a connection
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
