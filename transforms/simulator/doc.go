// Package simulator is an inference server without a model, the simulated worker. It implements OpenAI's
// chat protocol. Every simulated text has a true quality that the judges do not see. It is called the hidden
// truth; POST /truth returns it. So a run can be tried, tested and timed on any machine, and its result
// compared with the truth.
//
// # The world
//
// A [World] is pure: its answer is a function of the messages, the model's name, the seed, the token limit and
// the constraint. Every response contains a code, for example "(ref 5f3a9c01-d2aa01b3c4f5)". Every judgment
// contains its response's code and its own score, encrypted. A request with two texts between tags such as
// <answer-0123456789ab> is an arena's. Otherwise its codes show its role: none for the actor, those of two
// judgments for the meta-judge, any other for the judge. So the World works with any template. The judge also
// accepts a response without a code, from another model, between tags as <response-0123456789ab>.
//
// With independent standard normals e drawn from the hash of the code or of the request:
//
//	quality  = QualityMean + PromptSpread·e(prompt) + Spread·e(response)
//	z        = LengthCorrelation·e(response) + sqrt(1 − LengthCorrelation²)·e'(response)
//	length   = ResponseChars·exp(ResponseSigma·z − ResponseSigma²/2)
//	score    = quality + Leniency + JudgeLengthBias·z + JudgePersistent·e(response, judge) + JudgeNoise·e(request)
//	P(A)     = sigmoid(MetaSlope·(error_B − error_A) + FirstBias + Taste·(score_A − score_B))
//
// The judge's scale maps a score to 5·(score/5)^(2^JudgeBend), rounded to ScoreStep and clipped to [0, 5].
// The error is |score − quality|, and A is the first judgment on the page. Quality is not clipped: two
// responses never tie. Choice i of a request with seed s equals the choice of a single
// request with seed s+i. A request without a seed has seed 0. Texts are filler that zstd compresses
// about four times.
//
// A model whose name has a [Skill] answers and judges better or worse. [World.Learn] computes the skill after
// training on a set of pairs; this rule is our own. With [Hardness], better answers are harder to judge.
//
// A request about one response, or about two judgments, is a read if it has max_tokens 1, logprobs, and
// top_logprobs or logprob_token_ids. It gets the probabilities of the next token instead of a text. With discrimination
// d = 1 − ReadLoss,
//
//	P(A)     = sigmoid(d·MetaSlope·(error_B − error_A) + FirstBias + Taste·(score_A − score_B) + ReadNoise·e(request))
//	P(v)     = probability that v, of the whole points 0 to 5, is nearest to a draw from N(μ, JudgeNoise²)
//	μ        = QualityMean + d·(quality − QualityMean) + Leniency + JudgeLengthBias·z + JudgePersistent·e(response, judge) + ReadNoise·e(request)
//
// each multiplied by 1 − ReadOther. A label has two spellings, with and without a leading space. The
// share of reads with almost no probability on labels equals the share of unparsed texts of the same
// role.
//
// # The server
//
// A [Server] answers /v1/chat/completions and /v1/models (also without /v1), /health and /metrics. With
// Options.Adapters it also answers /v1/load_lora_adapter. For tests it answers:
//
//	GET  /stats         its Stats as JSON
//	POST /stats/reset   resets them
//	GET  /truth         {"simulated": true, "world": …}
//	POST /truth         takes a JSON list of texts; answers the list of their Truths
//	POST /sent          takes a JSON list of texts; returns the texts that the server never sent completely
//
// The server supports model, n, seed, max_tokens, max_completion_tokens, stop, logprobs, top_logprobs up
// to 20 and, in vLLM's dialect, logprob_token_ids, and refuses stream. It obeys the fields of its dialect
// that constrain a text (see constraintFields), unless Options.IgnoreConstraints is set. All other fields
// change no text: they only distinguish requests when the server counts repeated ones. It answers /tokenize in
// every dialect except "none"; in those of vLLM and SGLang also for messages. In SGLang's dialect it answers
// reads at /generate, which takes the tokens that /tokenize returns and always uses the first of
// Options.Models. Answers carry the header "Server: coeval-simulator", and the model list names
// coeval-simulator as the owner.
//
// The server batches as a GPU server does. Each choice occupies one of Slots. Its time depends on the
// request, the seed, the cached part of the prompt, and the fault if there is one. When no slot is free, choices wait in the order of
// their arrival. A request ends with its slowest choice. Without Latency and rates the server answers at
// once.
//
// Options.Faults make requests fail at random, at any load. The fault of each repetition is a function
// of FaultSeed, the request and the number of the repetition. See [Fault] for the kinds. Refusals occupy
// no slot, nor do FaultErrorObject, FaultHTML, FaultTrickle, FaultHuge, FaultPoison and FaultHang. All
// other faults occupy their slots for the full time.
//
// # Limits
//
// Texts have no meaning, and a token is four bytes. There is no streaming. When a client disconnects,
// its choices keep their slots until they end. Truths are equal on all machines except for the last
// bits of the platform's mathematical functions.
package simulator
