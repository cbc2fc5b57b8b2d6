package infer

import (
	"math"
	"time"
)

// A pace finds how many generations one endpoint is to be asked for at a time: enough that no
// slot of the server waits for a round trip or for the slowest of a group, and not so many that
// requests wait there when they could wait here, where another endpoint may take them.
//
// A request of n choices takes n permits, and gives back early those of choices that are
// probably done: its answer comes with the slowest, when the slots of the others are long free.
// So permits in flight are choices at the server, running or waiting, whatever the mix of
// stages (see held).
//
// What is steered is the share of waiting to running choices. The aim is (2 + 3√r)/r, and at
// most 0.3, where r is how many run for this process: several processes that see the same queue
// settle at equal parts, since the smaller one aims higher. Where gauges show that slots idle
// although more is wanted, it may be more than 0.3: the groups of a far or a quick server come in
// bursts, of which one look sees many waiting and the next an idle server. The share is known in
// one of three ways, the first that a server has (see fleet.observe):
//
//  1. The server tells it in its metrics.
//  2. A request for one token, sent now and then, tells how long requests wait. The mean time
//     of a choice, from the latencies of all others without that wait, makes a share of it. So a
//     stage of long requests isn't mistaken for a slow server.
//  3. Neither: the limit is doubled while that brings more answers. Then a quarter more is tried,
//     and a fifth less, each between two looks at what the limit itself brings: more must bring
//     more than both, less may bring a little less. Judged by one look before, more was kept by
//     chance again and again, where the client's own CPU was the bound: 16 permits became 5,800.
//
// Answers that say full lower the limit and the aim, but only where their share grows with the
// limit: the share at lower limits is remembered. One that does not depend on the limit is a fault,
// and a lower limit would only idle slots. The aim falls by a fifth and comes back by half a
// percent a round, so that a server with a short queue is refused by rarely: with a queue of 32
// the limit alone led to 19,000 to 79,000 refusals of 92,000 requests, with the aim to 4,000 to 7,000.
//
// What was tried instead is in the package's documentation.
type pace struct {
	limit float64
	// fixed says that the limit was given, and nothing moves it.
	fixed    bool
	starting bool
	// away says that most of what is in flight is not at the server, and that a quarter more of it
	// brought no more answers: it waits on its way or with this process. awayRate and awayInFlight
	// are the rate and what was in flight before that.
	away                   bool
	awayRate, awayInFlight float64
	// ceiling is what answers that say full allow, modesty the part of the aim that they do.
	ceiling, modesty float64
	rejected         rejections

	classes map[class]*latencies
	// rate is answered generations a second, service the mean time that one holds a slot.
	rate, service float64
	// share is of waiting to running choices, smoothed, and seen when it was last known.
	share float64
	seen  time.Time
	// busy is how many choices run when more are wanted, slots how many when some wait, both smoothed;
	// running is how many did at the last look, -1 where nobody tells.
	busy, slots, running float64

	round struct {
		began time.Time
		// requests and generations were answered in it.
		requests, generations int
		// limited says that a request had to wait for a permit.
		limited bool
	}
	trial trialOf
}

// trialOf is a trial of another limit.
type trialOf struct {
	less bool // than the limit
	// phase is 0 before it, 1 while it is on, and 2 when the limit is again from.
	phase          int
	from           float64
	rates          [3]float64 // of the phases
	rounds         int        // of this phase, and what was answered in how many seconds
	answers, lasts float64
}

// class tells requests apart that take differently long.
type class struct {
	stage string
	n     int
}

// latencies are those of one class.
type latencies struct {
	sum, count float64 // in this round
	// mean is of the latency without the wait, smoothed over rounds, wait of the wait.
	mean, wait float64
}

const (
	firstPermits = 16
	// leastPermits is where no signal lowers the limit any more.
	leastPermits = 2
	leastModesty = 0.33 // a waiting choice for each by which the running ones vary
	mostPermits  = 1 << 16
	// roundAnswers is how many answers make a round that tells something.
	roundAnswers = 48
	// minRound is how many seconds a round takes at least.
	minRound = 0.01
	// shareAge is how old a share may be to be believed.
	shareAge = 5 * time.Second
	// mostAim is the most of waiting to running choices that is aimed at, and idleGain how much it
	// grows with the share of slots that idle, above one that is hard to see.
	mostAim  = 0.3
	idleGain = 4
	fewIdle  = 0.02
	// taken is the share above which all slots surely are.
	taken = 0.05
	// trialRounds and trialTime, in seconds, are the least that a phase of a trial lasts.
	trialRounds = 2
	trialTime   = 0.5
)

func newPace(fixed int) *pace {
	p := &pace{limit: firstPermits, starting: true, running: -1, ceiling: mostPermits, modesty: 1, classes: map[class]*latencies{}}
	if fixed > 0 {
		p.limit, p.fixed, p.starting = float64(fixed), true, false
	}
	return p
}

// admits says whether a request of n choices may be sent while this many permits are in
// flight. On a small server a group may exceed the limit, or it would have to wait until
// nothing is in flight.
func (p *pace) admits(inFlight float64, n int) bool {
	need := float64(n)
	if !p.fixed {
		need = min(need, p.limit/4+1)
	}
	if inFlight > 0 && inFlight+need > p.limit {
		p.round.limited = true
		return false
	}
	return true
}

// held is how many permits a request holds that was sent so long ago: n at first, and then one
// for each choice that is probably not done yet, of choices that take exponentially distributed
// times of which one at least is not over. Half of the mean stays, so that requests which hang
// don't let ever more in.
func (p *pace) held(c class, age time.Duration) float64 {
	l, n := p.classes[c], float64(c.n)
	if p.fixed || c.n == 1 || l == nil || l.mean == 0 {
		return n
	}
	h := groupFactor(c.n)
	alive := math.Exp(-max(age.Seconds()-l.wait, 0) * h / l.mean)
	if alive < 1e-6 {
		return n / h / 2
	}
	return max(n*alive/(1-math.Pow(1-alive, n)), n/h/2)
}

// groupFactor is about how much longer the slowest of n choices takes than one on average:
// nine tenths of the harmonic number, for latencies a little less spread than exponential ones.
func groupFactor(n int) float64 {
	h := 0.0
	for i := 1; i <= n; i++ {
		h += 1 / float64(i)
	}
	return max(0.9*h, 1)
}

// answered takes note of an answer to a request of a class: how long it took, and how many
// permits were in flight with it when it was sent.
func (p *pace) answered(now time.Time, c class, latency time.Duration, level float64) {
	if p.fixed {
		return
	}
	l := p.classes[c]
	if l == nil {
		l = &latencies{}
		p.classes[c] = l
	}
	l.sum += latency.Seconds()
	l.count++
	p.round.requests++
	p.round.generations += c.n
	p.rejected.asked(level, false)
	p.endRound(now)
}

// refused takes note of an answer that says full.
func (p *pace) refused(now time.Time, level float64) {
	if p.fixed {
		return
	}
	p.rejected.asked(level, true)
	p.endRound(now)
}

// gauged takes note of how many choices run and wait at the server. It returns false where
// requests are out and nothing is there, which tells of no queue: it is quicker than the look.
func (p *pace) gauged(now time.Time, running, waiting, inFlight float64) bool {
	p.known(running+waiting, inFlight)
	p.running = running
	if waiting > 0 {
		blend(&p.slots, running, 0.1)
	}
	if p.round.limited {
		blend(&p.busy, running, 0.1)
	}
	if running+waiting == 0 {
		return false
	}
	p.queued(now, waiting/max(running, 1))
	return true
}

// untold is for when gauges tell nothing any more: what they told of slots is forgotten.
func (p *pace) untold() {
	p.known(0, 0)
	p.busy, p.slots, p.running = 0, 0, -1
}

// working is how many choices the server works on while some are out: all that it tells of, or this
// process's; -1 where that isn't known.
func (p *pace) working() float64 {
	switch {
	case p.running >= 0:
		return p.running
	case p.fixed:
		return -1
	}
	return p.rate * p.service
}

// queued takes note of the share of waiting to running choices.
func (p *pace) queued(now time.Time, share float64) {
	if p.fixed {
		return
	}
	if p.seen.IsZero() || p.starting {
		p.share = share
	}
	p.seen, p.trial = now, trialOf{}
	p.share += 0.5 * (share - p.share)
	switch {
	case !p.starting:
		p.steer()
	case share > taken:
		p.starting = false
	case p.round.limited:
		p.raise(p.limit / 2)
		p.round.limited = false
	}
}

// waited takes note of how long a request waited that needs next to no time itself.
func (p *pace) waited(now time.Time, wait time.Duration) {
	switch {
	case p.service > 0:
		p.queued(now, wait.Seconds()/p.service)
	case wait > 0:
		p.starting = false
	case p.starting && p.round.limited:
		p.raise(p.limit / 2)
		p.round.limited = false
	}
}

// known takes note of how many choices the server knows of while so many permits are in flight. A
// server behind a balancer tells of its part alone: so what counts is whether a quarter more helped.
func (p *pace) known(there, inFlight float64) {
	switch {
	case there == 0 || inFlight <= 2*there+firstPermits:
		p.away, p.awayRate = false, 0
	case p.rate > 1.05*p.awayRate:
		p.away, p.awayRate, p.awayInFlight = false, p.rate, inFlight
	default:
		p.away = inFlight > 1.25*p.awayInFlight
	}
}

func (p *pace) raise(by float64) {
	if by > 0 && p.away {
		return
	}
	p.limit = min(max(p.limit+by, leastPermits), p.ceiling, mostPermits)
}

// aim is the share of waiting to running choices that is wanted when this many run.
func (p *pace) aim(running float64) float64 {
	most := mostAim
	if p.slots > 0 {
		running = min(running, p.slots)
		most += idleGain * max(1-p.busy/p.slots-fewIdle, 0)
	}
	return min(most, (2+3*math.Sqrt(running))/running)
}

// steer moves the limit towards the share that is wanted.
func (p *pace) steer() {
	running := max(p.rate*p.service, 1)
	by := 0.3 * running * (p.modesty*p.aim(running) - p.share)
	if by > 0 && !p.round.limited {
		return // nobody wants more
	}
	p.raise(max(by, -p.limit/4))
}

// quickEbb and slowEbb bound the time between two looks at which permits of choices that are
// probably done come back. Looks that are seldom against the time of a choice idle slots: at 16
// slots of 16 ms use was 0.89 with 20 ms between them, and 0.97 with 2.
const (
	quickEbb = 2 * time.Millisecond
	slowEbb  = 20 * time.Millisecond
)

func (p *pace) betweenEbbs() time.Duration {
	if p.service == 0 {
		return slowEbb
	}
	return min(max(time.Duration(p.service*1e9/16), quickEbb), slowEbb)
}

func (p *pace) told(now time.Time) bool { return now.Sub(p.seen) < shareAge }

// endRound closes a round that is a latency old and tells enough.
func (p *pace) endRound(now time.Time) {
	if p.round.began.IsZero() {
		p.round.began = now
		return
	}
	age := now.Sub(p.round.began).Seconds()
	least := min(max(int(p.limit/4), 4), roundAnswers)
	if p.round.requests+p.rejected.fresh < least || age < max(p.latency(), minRound) {
		return
	}
	before := p.rate
	p.measure(age, p.told(now))
	if level := min(p.limit, p.rejected.level()); p.rejected.growing(level) {
		p.starting = false
		p.ceiling = max(0.97*level, leastPermits)
		p.modesty = max(0.8*p.modesty, leastModesty)
		p.trial = trialOf{}
		p.raise(0)
	} else {
		if p.rejected.fresh == 0 {
			p.modesty = min(1.005*p.modesty, 1)
		}
		by := 1.01
		if 20*p.rejected.fresh > p.round.requests { // and the limit has no part in it
			by = 1.1
		}
		p.ceiling = min(by*p.ceiling+1, mostPermits)
		if !p.told(now) {
			p.try(before, age)
		}
	}
	p.round.began, p.round.requests, p.round.generations, p.round.limited = now, 0, 0, false
	p.rejected.fresh, p.rejected.levels = 0, 0
	for _, l := range p.classes {
		l.sum, l.count = 0, 0
	}
}

// latency is the mean of the round's requests, in seconds.
func (p *pace) latency() float64 {
	var sum, count float64
	for _, l := range p.classes {
		sum, count = sum+l.sum, count+l.count
	}
	return sum / max(count, 1)
}

// measure sets what a round of this age tells of rates and times.
func (p *pace) measure(age float64, told bool) {
	wait := 0.0
	if told {
		wait = p.share * p.service
	}
	var generations, held float64
	for c, l := range p.classes {
		if l.count == 0 {
			continue
		}
		blend(&l.mean, max(l.sum/l.count-wait, 0.1*l.sum/l.count), l.count/(l.count+50))
		l.wait = wait
		generations += l.count * float64(c.n)
		held += l.count * float64(c.n) * l.mean / groupFactor(c.n)
	}
	if generations > 0 {
		blend(&p.service, held/generations, 0.3)
	}
	blend(&p.rate, float64(p.round.generations)/age, 0.3)
}

// blend moves x towards y by a share of the way, all of it when x is not known yet.
func blend(x *float64, y, share float64) {
	if *x == 0 {
		share = 1
	}
	*x += share * (y - *x)
}

// try looks for the limit when nothing but the answers tells of it.
func (p *pace) try(before, age float64) {
	if p.starting && p.rate > 1.15*before {
		p.raise(p.limit)
		return
	}
	p.starting = false
	switch {
	case p.modesty == 1:
		p.compare(age)
	case p.round.limited: // it says itself when it has too much
		p.raise(p.limit / 16)
	}
}

// compare tries other limits for one that brings more answers, or as many with less in flight.
func (p *pace) compare(age float64) {
	t := &p.trial
	if t.phase == 0 && !p.round.limited {
		*t = trialOf{less: t.less} // nobody wants more
		return
	}
	t.rounds++
	t.answers += float64(p.round.generations)
	if t.lasts += age; t.rounds < trialRounds || t.lasts < trialTime {
		return
	}
	t.rates[t.phase] = t.answers / t.lasts
	t.rounds, t.answers, t.lasts = 0, 0, 0
	switch t.phase {
	case 0:
		t.phase, t.from = 1, p.limit
		p.raise(t.other() - p.limit)
	case 1:
		t.phase = 2
		p.raise(t.from - p.limit)
	default:
		brings := t.brings()
		if brings {
			p.raise(t.other() - p.limit)
		}
		*t = trialOf{less: t.less == brings}
	}
}

func (t *trialOf) other() float64 {
	if t.less {
		return 0.8 * t.from
	}
	return 1.25 * t.from
}

// brings says that the other limit is the better one.
func (t *trialOf) brings() bool {
	than := max(t.rates[0], t.rates[2])
	if t.less {
		return t.rates[1] > 0.97*than
	}
	return t.rates[1] > 1.05*than
}

// rejections remember how many requests were turned away that were sent with how many in
// flight.
type rejections struct {
	bins [64]tried // by the logarithm of the permits in flight
	// fresh are those of this round, levels the sum of what was in flight with them.
	fresh  int
	levels float64
}

type tried struct{ asked, full float64 }

func bin(level float64) int { return min(int(4*math.Log2(max(level, 1))), 63) }

func (r *rejections) asked(level float64, full bool) {
	b := &r.bins[bin(level)]
	b.asked++
	if full {
		b.full++
		r.fresh++
		r.levels += level
	}
	if b.asked > 2000 { // what is long ago counts less
		b.asked, b.full = b.asked/2, b.full/2
	}
}

// level is what was in flight with this round's rejections, on average.
func (r *rejections) level() float64 { return r.levels / float64(max(r.fresh, 1)) }

// growing says whether more are turned away at this level than at lower ones.
func (r *rejections) growing(level float64) bool {
	here := r.bins[bin(level)]
	if r.fresh == 0 || here.full < 3 {
		return false
	}
	share, least, known := here.full/here.asked, 1.0, false
	for i := range max(bin(level)-1, 0) {
		if below := r.bins[i]; below.asked >= 20 {
			base := below.full / below.asked
			noise := math.Sqrt(base*(1-base)*(1/below.asked+1/here.asked)) + 1/below.asked
			least, known = min(least, base+0.01+2.5*noise), true
		}
	}
	if !known {
		return share > 0.35 // nothing is known of lower levels: they are tried if it is as bad as that
	}
	return share > least
}
