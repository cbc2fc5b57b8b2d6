package figures

import (
	"math"

	"coeval/runners/runs"
	"coeval/transforms/pairs"
	"coeval/transforms/score"
)

// A tally adds up the sums behind the figures, prompt by prompt.
type tally struct {
	prompts int64
	scores  scoreTally
	length  lengthTally
	cross   crossTally
	meta    metaTally
	pools   poolTally
}

// newTally returns a tally of a run whose judge gives at most this number of points. Reads reports whether responses are
// scored by reads.
func newTally(o pairs.ActorOptions, c *score.Calibration, highest float64, reads bool) *tally {
	b := bins{top: thousandths(highest)}
	return &tally{scores: newScoreTally(b), length: newLengthTally(o, c, b, reads), cross: crossTally{options: o, calibration: c}, meta: newMetaTally(b), pools: newPoolTally()}
}

// bins divide the judge's scale, from 0 to top thousandths, into tenths and twentieths: half points and
// quarter points of the built-in scale.
type bins struct{ top int }

// tenth returns the nearest tenth of the scale, halves upwards.
func (b bins) tenth(thousandths int) int { return min((10*thousandths+b.top/2)/b.top, 10) }

// points returns the score in the middle of a tenth.
func (b bins) points(tenth int) float64 { return float64(tenth*b.top) / 10_000 }

// twentieth returns the twentieth of the scale that begins at or below a score in points.
func (b bins) twentieth(points float64) int { return min(int(points/b.width()), 20) }

// width returns the points of a twentieth.
func (b bins) width() float64 { return float64(b.top) / 20_000 }

func (t *tally) add(d *runs.Numbers) error {
	t.prompts++
	t.scores.add(d)
	t.length.add(d)
	t.cross.add(d)
	t.meta.add(d)
	t.pools.add(d)
	return nil
}

func (t *tally) join(u *tally) {
	t.prompts += u.prompts
	t.scores.join(&u.scores)
	t.length.join(&u.length)
	t.cross.join(&u.cross)
	t.meta.join(&u.meta)
	t.pools.join(&u.pools)
}

func thousandths(points float64) int { return int(math.Round(points * 1000)) }

// add counts a value of at least 0.
func (h *Histogram) add(value float64) {
	bin := int(value / h.Width)
	for len(h.Counts) <= bin {
		h.Counts = append(h.Counts, 0)
	}
	h.Counts[bin]++
}

func (h *Histogram) join(o *Histogram) {
	for bin, n := range o.Counts {
		for len(h.Counts) <= bin {
			h.Counts = append(h.Counts, 0)
		}
		h.Counts[bin] += n
	}
}

// moments are the means of pairs of numbers with the sums of squares and products of their
// deviations, so that a line can be fitted to more pairs than fit into memory.
type moments struct {
	n            int64
	meanX, meanY float64
	xx, xy, yy   float64
}

// add is Welford's step.
func (m *moments) add(x, y float64) {
	m.join(&moments{n: 1, meanX: x, meanY: y})
}

// join is the pairwise step of Chan, Golub and LeVeque.
func (m *moments) join(o *moments) {
	if o.n == 0 {
		return
	}
	n := m.n + o.n
	dx, dy := o.meanX-m.meanX, o.meanY-m.meanY
	w := float64(m.n) * float64(o.n) / float64(n)
	m.xx += o.xx + dx*dx*w
	m.xy += o.xy + dx*dy*w
	m.yy += o.yy + dy*dy*w
	m.meanX += dx * float64(o.n) / float64(n)
	m.meanY += dy * float64(o.n) / float64(n)
	m.n = n
}

func (m *moments) slope() float64 {
	if m.xx == 0 {
		return 0
	}
	return m.xy / m.xx
}

func (m *moments) correlation() float64 {
	if m.xx == 0 || m.yy == 0 {
		return 0
	}
	return m.xy / math.Sqrt(m.xx*m.yy)
}
