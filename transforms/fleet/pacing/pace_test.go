package pacing

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	epoch  = time.Unix(1e9, 0)
	stages = []string{"generate", "judge", "meta"}
)

func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * 1e9)) }

// Permits stay within bounds for any answers at any time.
func TestPaceBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		p := New(0)
		now := 0.0
		for range 500 {
			now += r.ExpFloat64() * math.Pow(10, float64(r.IntN(6)-4))
			switch r.IntN(5) {
			case 0:
				p.Rejected(at(now), Class{Stage: "judge", N: 1}, r.Float64()*2000)
			case 1:
				p.ObserveQueue(at(now), float64(r.IntN(3)*r.IntN(300)), float64(r.IntN(3)*r.IntN(300)), r.Float64()*2000)
			case 2:
				p.ObserveWait(at(now), time.Duration(r.Int64N(1e11)))
			default:
				p.Answered(at(now), Class{stages[r.IntN(3)], 1 + r.IntN(11)}, time.Duration(r.Int64N(1e11)), r.Float64()*2000, r.IntN(3)*r.IntN(5000))
			}
			p.Admits(r.Float64()*100, 1+r.IntN(11))
			c := Class{stages[r.IntN(3)], 1 + r.IntN(11)}
			if h := p.ExpectedPermits(c, time.Duration(r.Int64N(1e12))); !(h > 0 && h <= float64(c.N)) {
				t.Fatalf("%v holds %g permits", c, h)
			}
			if !(p.limit >= minLimit && p.limit <= maxLimit) {
				t.Fatalf("the limit is %g", p.limit)
			}
		}
	}
}

// Permits beyond twice the choices that a server reports do not reach it: the limit stays. (Against a
// server without latency it once rose to 11,000, with 35,000 goroutines that waited for this process's
// processors.)
func TestCongestedElsewhere(t *testing.T) {
	p, now := New(0), 0.0
	read := func(running, inFlight float64) {
		now += Defaults.MinReadingInterval.Seconds()
		p.Admits(p.limit, 1) // a request waits for a permit
		p.ObserveQueue(at(now), running, 0, inFlight)
	}
	for range 100 {
		read(8, p.limit)
	}
	// 2·8 + 16 may be in flight; the last raise was by half.
	if p.limit > 1.5*(2*8+Defaults.InitialLimit) {
		t.Errorf("the limit is %g with 8 running", p.limit)
	}
	// A balancer's metrics show a part of its servers: the limit rises while that brings more answers.
	for _, rate := range []float64{100, 150, 220} {
		before := p.limit
		p.rate = rate
		read(8, p.limit)
		if p.limit <= before {
			t.Errorf("the limit stays at %g though answers are %g a second", before, rate)
		}
		raised := p.limit
		if read(8, p.limit); p.limit > raised {
			t.Errorf("the limit rises from %g to %g and nothing says that it helps", raised, p.limit)
		}
	}
	// Nor do metrics that are there no more hold it.
	before := p.limit
	if p.ForgetQueue(); p.congestedElsewhere {
		t.Error("metrics that tell nothing hold the limit")
	}
	read(p.limit, p.limit)
	if p.limit <= before {
		t.Errorf("the limit stays at %g though all of it runs", before)
	}
}
