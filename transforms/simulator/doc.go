// Package simulator is an inference server without a model, the simulated worker. It implements OpenAI's
// chat protocol. Its texts are those of a [world.World]. Each has a true quality that the judges do not see,
// the hidden truth; POST /truth returns it. So a run can be tried, tested and timed on any machine, and its
// result compared with the truth.
//
// # Protocol
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
// The server refuses stream. It supports model, n, seed, max_tokens, max_completion_tokens, stop, logprobs and
// top_logprobs up to 20, and in vLLM's dialect also logprob_token_ids. Choice i of a request with seed s equals
// the choice of a single request with seed s+i. A request without a seed has seed 0. The server obeys the
// fields of its dialect that constrain a text (see constraintFields), unless Options.IgnoreConstraints is set.
// All other fields change no text: they only distinguish requests when the server counts repeated ones.
//
// A request is a read if it has max_tokens 1, logprobs, and top_logprobs or logprob_token_ids. It gets the
// probabilities of the next token instead of a text. In every dialect except "none", /tokenize takes a text; in
// those of vLLM and SGLang it takes a text or messages. In SGLang's dialect the server also answers a read that
// is sent to /generate. That path takes the tokens that /tokenize returns, and always uses the first of
// Options.Models.
//
// Answers carry the header "Server: coeval-simulator", and the model list names coeval-simulator as the
// owner.
//
// # Batching and faults
//
// The server batches as a GPU server does. Each choice occupies one of Slots. Its time depends on the
// request, the seed, the cached part of the prompt, and the fault if there is one. When no slot is free,
// choices wait in the order of their arrival. A request ends with its slowest choice. Without Latency and
// rates the server answers at once.
//
// Options.Faults make requests fail at random, at any load. The fault of each repetition is a function
// of FaultSeed, the request and the number of the repetition. See [Fault] for the kinds. Refusals occupy
// no slot, nor do FaultErrorObject, FaultHTML, FaultTrickle, FaultHuge, FaultPoison and FaultHang. All
// other faults occupy their slots for the full time.
//
// # Limits
//
// There is no streaming. When a client disconnects, its choices keep their slots until they end.
package simulator
