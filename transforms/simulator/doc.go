// Package simulator is an inference worker without a model: a server of OpenAI's chat
// protocol whose texts come from a hidden truth, so that a run can be tried, tested and timed
// on any machine, and its result held against what it should have found.
//
// # The world
//
// A [World] is pure: what it says is a function of the messages, the model's name and the seed. It
// finds out from the messages alone who is asked. Every response carries a code, as in
// "(ref 5f3a9c01-d2aa01b3c4f5)", and every judgment one with its response's code and its score,
// hidden from eyes; no code means that the actor is asked, two judgments' codes that the
// meta-judge is, else the judge. So it depends on no template's wording. A response of somebody
// else, without a code, is judged where it stands between tags as <response-0123456789ab>.
//
// With independent standard normals e drawn from the hash of the code or of the request:
//
//	quality  = QualityMean + PromptSpread·e(prompt) + Spread·e(response)
//	z        = LengthCorrelation·e(response) + sqrt(1 − LengthCorrelation²)·e'(response)
//	length   = ResponseChars·exp(ResponseSigma·z − ResponseSigma²/2)
//	score    = quality + Leniency + JudgeLengthBias·z + JudgePersistent·e(response, judge) + JudgeNoise·e(request)
//	P(A)     = sigmoid(MetaSlope·(error_B − error_A) + FirstBias + Taste·(score_A − score_B))
//
// where a score is bent to 5·(score/5)^(2^JudgeBend), rounded to ScoreStep and clipped to [0, 5], error = |score − quality|, and A is
// the judgment that stands first. Quality is not clipped: two responses never tie. Choice i of
// a request with seed s is the choice of a single request with seed s+i; a request without a
// seed has seed 0. Texts are filler that zstd makes about four times smaller.
//
// # The server
//
// A [Server] answers /v1/chat/completions and /v1/models (also without /v1), /health and /metrics,
// and for tests:
//
//	GET  /stats         its Stats as JSON
//	POST /stats/reset   starts them anew
//	GET  /truth         {"simulated": true, "world": …}
//	POST /truth         a JSON list of texts; answers the list of their Truths
//	POST /sent          a JSON list of texts; answers those that were never sent whole
//
// It honours model, n, seed, max_tokens, max_completion_tokens and stop, refuses stream, and ignores
// other fields but for the identity of a generation, by which asks are counted. Answers carry
// the header "Server: coeval-simulator", and models are owned by it.
//
// It batches as a GPU server does: each choice holds one of Slots for a time that depends on the
// request and its seed alone, waits in order when none is free, and a request ends with the
// slowest of its choices. Without Latency and rates answers come at once.
//
// What Options.Faults asks for goes wrong at random, whatever the load, drawn anew at each ask
// of a request; how a request fails is a function of FaultSeed, the request and the number of
// times it was asked. Refusals, error objects, HTML, poison and hanging hold no slot; all other faults
// hold theirs for the full time.
//
// # What it does not promise
//
// Texts mean nothing, and tokens are bytes divided by four. There is no prefix cache, no
// streaming and no constrained output. The work of a client that goes away goes on: its slots
// stay held until the end. Truths are the same on every machine up to the last bits of the
// platform's mathematical functions.
package simulator
