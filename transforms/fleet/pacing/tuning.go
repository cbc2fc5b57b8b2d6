package pacing

// Tuning are the constants of a Pace that simulation chose. TestAblations in package schedule shows for
// each what slot use, queue or rejections become without it. New uses Defaults.
type Tuning struct {
	// InitialLimit is the limit before the first answer.
	InitialLimit float64

	// Gain is the part of the missing choices by which one observation of the queue moves the limit.
	// Without smoothing of the step, bursts of groups look like queues.
	Gain float64
	// MaxAim is the highest number of waiting choices per running one that is wanted, while no slots
	// idle. IdleGain is how much that grows with the share of idle slots above IdleNoise.
	MaxAim, IdleGain, IdleNoise float64

	// Rejections that grow with the limit multiply the aim by AimDecrease. A round without rejections
	// multiplies it by AimIncrease, up to the aim without rejections.
	AimDecrease, AimIncrease float64
	// CeilingAfter is the new ceiling, in parts of the permits in flight with the rejected requests.
	CeilingAfter float64

	// RoundAnswers is the largest number of answers that a round needs. Fewer are noise.
	RoundAnswers int
	// PhaseRounds and PhaseSeconds are the least that a phase of an experiment lasts.
	PhaseRounds  int
	PhaseSeconds float64
	// StartGain is the growth of the rate that continues the start, without sizes of answers.
	StartGain float64

	// MinSized is the shortest answer, in seconds, of which the size is evidence. Of shorter ones the
	// network and this process take too large a part.
	MinSized float64
	// MaxStretch is how many times longer than their tokens need answers may take before the limit is
	// cut. A batch of hundreds makes a token 2 to 4 times slower than a batch of one.
	MaxStretch float64
	// CutTo is the limit after a cut, in choices that run. CutSeconds is how long the tokens of a
	// second are counted before the cut is judged.
	CutTo, CutSeconds float64

	// Slowest is the expected time of the slowest of n choices, in parts of the harmonic number of n:
	// 1 for exponentially distributed times.
	Slowest float64
}

// Defaults are the constants in use.
var Defaults = Tuning{
	InitialLimit: 16,
	Gain:         0.3, MaxAim: 0.3, IdleGain: 4, IdleNoise: 0.02,
	AimDecrease: 0.8, AimIncrease: 1.005, CeilingAfter: 0.97,
	RoundAnswers: 48, PhaseRounds: 2, PhaseSeconds: 0.5, StartGain: 1.15,
	MinSized: 0.05, MaxStretch: 4, CutTo: 3, CutSeconds: 2,
	Slowest: 0.9,
}
