// Package simulator is an inference server without a model. It speaks OpenAI's chat protocol, and its
// texts follow a hidden truth, so that a run can be tried, tested and timed on any machine, and its
// result compared with the truth.
//
// # The world
//
// A [World] is pure: its answer is a function of the messages, the model's name and the seed. It
// derives the role from the messages alone, so that it depends on no template's wording. Every
// response contains a code, for example "(ref 5f3a9c01-d2aa01b3c4f5)". Every judgment contains its
// response's code and its own score, encrypted. A request without a code is for the actor, one with
// the codes of two judgments for the meta-judge, and any other for the judge. The judge also accepts
// a response without a code, from another model, between tags as <response-0123456789ab>.
//
// With independent standard normals e drawn from the hash of the code or of the request:
//
//	quality  = QualityMean + PromptSpread·e(prompt) + Spread·e(response)
//	z        = LengthCorrelation·e(response) + sqrt(1 − LengthCorrelation²)·e'(response)
//	length   = ResponseChars·exp(ResponseSigma·z − ResponseSigma²/2)
//	score    = quality + Leniency + JudgeLengthBias·z + JudgePersistent·e(response, judge) + JudgeNoise·e(request)
//	P(A)     = sigmoid(MetaSlope·(error_B − error_A) + FirstBias + Taste·(score_A − score_B))
//
// where the judge's scale maps a score to 5·(score/5)^(2^JudgeBend), rounded to ScoreStep and clipped
// to [0, 5], error = |score − quality|, and A is the first judgment on the page. Quality is not
// clipped: two responses never tie. Choice i of a request with seed s equals the choice of a single
// request with seed s+i. A request without a seed has seed 0. Texts are filler that zstd compresses
// about four times.
//
// A model whose name has a [Skill] answers better or worse, and judges better or worse, by our own rule:
// [World.Learn] says what a training set changes, [Hardness] that better answers are harder to judge.
//
// A request with logprobs, top_logprobs or logprob_token_ids, and max_tokens 1 about a response or two judgments is a
// read: it gets the probabilities of the next token instead of a text. With discrimination d = 1 − ReadLoss,
//
//	P(A)     = sigmoid(d·MetaSlope·(error_B − error_A) + FirstBias + Taste·(score_A − score_B) + ReadNoise·e(request))
//	P(v)     = share of N(μ, JudgeNoise²) that is nearest to the whole point v, of 0 to 5
//	μ        = QualityMean + d·(quality − QualityMean) + Leniency + JudgeLengthBias·z + JudgePersistent·e(response, judge) + ReadNoise·e(request)
//
// each times 1 − ReadOther; a label has two spellings, with a space before it and without. The judge's and the
// meta-judge's share of unparsed texts is their share of reads with hardly any probability on labels.
//
// # The server
//
// A [Server] answers /v1/chat/completions and /v1/models (also without /v1), /health and /metrics,
// and for tests:
//
//	GET  /stats         its Stats as JSON
//	POST /stats/reset   resets them
//	GET  /truth         {"simulated": true, "world": …}
//	POST /truth         takes a JSON list of texts; answers the list of their Truths
//	POST /sent          takes a JSON list of texts; answers the texts that the server never sent whole
//
// The server honours model, n, seed, max_tokens, max_completion_tokens, stop, logprobs, top_logprobs up to 20 and, in
// vLLM's dialect, logprob_token_ids, and refuses stream. In the dialects of vLLM and llama.cpp it answers /tokenize.
// All other fields are only part of the identity of a generation, by which the server counts repeated
// requests. Answers carry the header "Server: coeval-simulator", and the model list names
// coeval-simulator as the owner.
//
// The server batches as a GPU server does. Each choice occupies one of Slots for a time that depends
// on the request and its seed alone, and waits in order when no slot is free. A request ends with its
// slowest choice. Without Latency and rates the server answers at once.
//
// Options.Faults make requests fail at random, whatever the load. Each repetition of a request draws
// anew: its fault is a function of FaultSeed, the request and the number of its repetitions.
// Refusals, error objects, HTML, poison and hangs occupy no slot. All other faults occupy their slots
// for the full time.
//
// # Limits
//
// Texts have no meaning, and a token is four bytes. There is no streaming. When a client disconnects,
// its choices keep their slots until they end. Truths are equal on all machines except for the last
// bits of the platform's mathematical functions.
package simulator
