// Package world is the hidden truth behind the simulated worker: it writes the texts of simulated models and
// returns the true quality of each text, which the judges do not see.
//
// A [World] is pure: its answer is a function of the messages, the model's name, the seed, the token limit and
// the [Form]. Every response contains a code, for example "(ref 5f3a9c01-d2aa01b3c4f5)". Every judgment
// contains its response's code and its own score, encrypted. A request with two texts between tags such as
// <answer-0123456789ab> is an arena's. Any other request without codes is for the actor, one with the codes of
// two judgments for the meta-judge, and one with other codes for the judge. So the World works with any
// template. The judge also accepts a response without a code, from another model, between tags as
// <response-0123456789ab>.
//
// # Texts
//
// With independent standard normals e drawn from the hash of the code or of the request:
//
//	quality  = QualityMean + PromptSpread·e(prompt) + Spread·e(response)
//	z        = LengthCorrelation·e(response) + sqrt(1 − LengthCorrelation²)·e'(response)
//	length   = ResponseChars·exp(ResponseSigma·z − ResponseSigma²/2)
//	score    = quality + Leniency + JudgeLengthBias·z + JudgePersistent·e(response, judge)
//	           + JudgeNoise·e(request)
//	P(A)     = sigmoid(MetaSlope·(error_B − error_A) + FirstBias + Taste·(score_A − score_B))
//
// The judge's scale maps a score to 5·(score/5)^(2^JudgeBend), rounded to ScoreStep and clipped to [0, 5]. The
// error is |score − quality|, and A is the first judgment on the page. Quality is not clipped: two responses
// never tie. Texts are filler that zstd compresses to about a quarter of their size.
//
// A model whose name has a [Skill] answers and judges better or worse. [World.Learn] computes the skill after
// training on a set of pairs; this rule is our own. With [Hardness], better answers are harder to judge.
//
// # Reads
//
// A read asks for the probabilities of the next token instead of a text, about one response or about two
// judgments. With discrimination d = 1 − ReadLoss,
//
//	P(A)     = sigmoid(d·MetaSlope·(error_B − error_A) + FirstBias + Taste·(score_A − score_B)
//	           + ReadNoise·e(request))
//	P(v)     = probability that a draw from N(μ, JudgeNoise²) is nearer to v than to any other whole number
//	           of points from 0 to 5
//	μ        = QualityMean + d·(quality − QualityMean) + Leniency + JudgeLengthBias·z
//	           + JudgePersistent·e(response, judge) + ReadNoise·e(request)
//
// each multiplied by 1 − ReadOther. A label has two spellings, with and without a leading space. The
// share of reads with almost no probability on labels equals the share of unparsed texts of the same
// role.
//
// # Limits
//
// Texts have no meaning, and a token is four bytes. Truths are equal on all machines except for the last
// bits of the platform's mathematical functions. Error messages begin with "simulator:", because users see
// them as messages of the simulated worker.
package world
