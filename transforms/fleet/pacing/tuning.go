package pacing

import "time"

// Tuning are the constants of a Pace that simulation chose. For each of them TestAblations in package
// schedule shows how slot use, the queue or rejections get worse without it, or with another value. New
// uses Defaults.
type Tuning struct {
	// InitialLimit is the limit before the first answer.
	InitialLimit float64
	// Admission is the part of the limit that must be free for a larger group of choices.
	Admission float64
	// Arrivals is the largest number of permits in flight for each choice that the server reports. Permits
	// beyond it count as congested elsewhere, for example in this process.
	Arrivals float64

	// Gain is the part of the missing choices by which one observation of the queue moves the limit.
	// With the whole part, bursts of groups look like queues.
	Gain float64
	// AimRoot is the wanted queue in standard deviations of the number of running choices: their root.
	AimRoot float64
	// MaxAim is the highest number of waiting choices per running one that is wanted, while no slots
	// idle. IdleGain is how much that grows with the share of idle slots.
	MaxAim, IdleGain float64
	// MaxFall is the largest part of the limit that one observation takes away.
	MaxFall float64
	// StartGrowth is the part by which the start raises the limit while observations show no queue.
	StartGrowth float64
	// ReadingPart is the time between two readings of a queue, in parts of the time of a choice.
	// MinReadingInterval is its minimum. More frequent readings would raise the limit before its last change
	// shows.
	ReadingPart        float64
	MinReadingInterval time.Duration

	// Rejections that grow with the limit multiply the aim by AimDecrease. A round without rejections
	// multiplies it by AimIncrease, up to the aim without rejections.
	AimDecrease, AimIncrease float64
	// CeilingAfter is the new ceiling, in parts of the permits in flight with the rejected requests.
	CeilingAfter float64
	// RejectedNoise is by how many standard errors the share of rejections must exceed that of a lower
	// level. RejectedAlone is the share that lowers the limit when no lower level is known.
	RejectedNoise, RejectedAlone float64
	// RejectedSame is the part of a level's share of rejections from which that of a lower level counts as
	// the same. Then the aim and the ceiling are those without rejections again.
	RejectedSame float64
	// MinRejected is the smallest number of rejections that is evidence, MinBelow the smallest number of
	// requests of a lower level.
	MinRejected, MinBelow float64
	// RejectedGrowth is the part by which a round raises the limit that rejections have lowered, when
	// answers are the only evidence.
	RejectedGrowth float64

	// A round needs RoundPart answers for each permit, and RoundMin at least. Fewer are noise.
	RoundPart float64
	RoundMin  int
	// RateBlend is the weight of a round in the smoothed rates. MeanAnswers is the number of answers
	// whose mean latency has half of the weight.
	RateBlend, MeanAnswers float64

	// PhaseRounds and PhaseSeconds are the shortest phase of an experiment.
	PhaseRounds  int
	PhaseSeconds float64
	// Step is the other limit of an experiment, in parts of the present one, or its inverse. Better is
	// how much more throughput a higher limit must bring; SizedBetter is the same for sized answers, of which
	// rates vary less.
	Step, Better, SizedBetter, Worse, SizedWorse float64
	// StartGain is the growth of the rate that continues the start, without sizes of answers.
	StartGain float64

	// StartLevel is the part of the limit that must have been in flight for the answers to count.
	StartLevel float64

	// MinSized is the shortest time of an answer, in seconds, whose size is evidence. The network and this
	// process take too large a part of shorter times. MinGroups is the smallest limit in groups of
	// choices.
	MinSized, MinGroups float64
	// MaxStretch is how many times longer than their tokens need answers may take before the limit is
	// cut. A batch of hundreds makes a token 2 to 4 times slower than a batch of one.
	MaxStretch float64
	// CutTo is the limit after a cut, in running choices. After CutRounds rounds, the tokens a second are
	// counted for CutSeconds at least. The cut is undone if they are fewer than CutLoss times the rate
	// before it.
	CutTo, CutSeconds, CutLoss float64
	CutRounds                  int

	// Slowest is the expected time of the slowest of n choices, in parts of the harmonic number of n:
	// 1 for exponentially distributed times.
	Slowest float64
	// Kept is the part of a group's permits that it keeps until its answer, in parts of the mean.
	Kept float64
	// ReleasePart is the time between two releases of expected permits, in parts of the time of a choice.
	// MinRelease and MaxRelease bound it. Rare releases idle slots.
	ReleasePart            float64
	MinRelease, MaxRelease time.Duration
}

// Defaults are the constants in use.
var Defaults = Tuning{
	InitialLimit: 16, Admission: 0.25, Arrivals: 2,
	Gain: 0.3, AimRoot: 3, MaxAim: 0.3, IdleGain: 4, MaxFall: 0.25, StartGrowth: 0.5,
	ReadingPart: 0.25, MinReadingInterval: 50 * time.Millisecond,
	AimDecrease: 0.8, AimIncrease: 1.005, CeilingAfter: 0.97,
	RejectedNoise: 2.5, RejectedAlone: 0.35, RejectedSame: 0.5, MinRejected: 3, MinBelow: 20, RejectedGrowth: 1.0 / 16,
	RoundPart: 0.25, RoundMin: 4, RateBlend: 0.3, MeanAnswers: 50,
	PhaseRounds: 2, PhaseSeconds: 0.5, Step: 1.25, Better: 1.05, SizedBetter: 1.02, Worse: 0.97, SizedWorse: 0.99, StartGain: 1.15, StartLevel: 0.5,
	MinSized: 0.05, MinGroups: 4, MaxStretch: 4, CutTo: 3, CutSeconds: 2, CutLoss: 0.85, CutRounds: 2,
	Slowest: 0.9, Kept: 0.5,
	ReleasePart: 1.0 / 16, MinRelease: 2 * time.Millisecond, MaxRelease: 20 * time.Millisecond,
}
