package figures

import (
	"gonum.org/v1/gonum/graph/simple"
	"gonum.org/v1/gonum/graph/topo"

	"coeval/runners/runs"
	"coeval/schemas"
)

type metaTally struct {
	texts                              Unparsed
	first, second                      int64
	both, agree, bothFirst, bothSecond int64
	higher, unlike                     int64
	bins                               bins
	// gaps and gapsHigher are by the difference of the scores in tenths of the scale.
	gaps, gapsHigher  [11]int64
	graphs, connected int64
	largest           float64
	elo               Histogram
	eloSpread         float64
	eloResponses      int64
}

func newMetaTally(b bins) metaTally {
	return metaTally{bins: b, texts: newUnparsed(schemas.StageMeta), elo: Histogram{Width: 0.25}}
}

func (t *metaTally) add(d *runs.Numbers) {
	t.addElo(d.Judgments)
	if len(d.Comparisons) == 0 {
		return
	}
	scores := map[string]int{}
	for i := range d.Judgments {
		if j := &d.Judgments[i]; j.Distinct && j.Score != nil && contested(d, j) {
			scores[j.ID] = thousandths(*j.Score)
		}
	}
	winners := map[[2]string]bool{} // by the judgments shown first and second: whether the first won
	for i := range d.Comparisons {
		c := &d.Comparisons[i]
		t.texts.add(c.UnparsedReason)
		firstWon := c.Winner == schemas.First.String()
		if !firstWon && c.Winner != schemas.Second.String() {
			continue
		}
		winners[[2]string{c.FirstID, c.SecondID}] = firstWon
		t.addVerdict(firstWon, scores[c.FirstID]-scores[c.SecondID])
	}
	t.addOrders(winners)
	t.addGraph(scores, winners)
}

func contested(d *runs.Numbers, j *runs.Judgment) bool {
	return d.Prompt.ContestedResponseID != nil && *d.Prompt.ContestedResponseID == j.ResponseID
}

// addVerdict takes the difference of the scores, first less second, in thousandths.
func (t *metaTally) addVerdict(firstWon bool, difference int) {
	if firstWon {
		t.first++
	} else {
		t.second++
	}
	if difference == 0 {
		return
	}
	t.unlike++
	gap := t.bins.tenth(max(difference, -difference))
	t.gaps[gap]++
	if firstWon == (difference > 0) {
		t.higher++
		t.gapsHigher[gap]++
	}
}

// addOrders looks at the pairs with a winner in both orders, each once.
func (t *metaTally) addOrders(winners map[[2]string]bool) {
	for shown, firstWon := range winners {
		swapped, ok := winners[[2]string{shown[1], shown[0]}]
		if !ok || shown[0] > shown[1] {
			continue
		}
		t.both++
		switch {
		case firstWon != swapped:
			t.agree++
		case firstWon:
			t.bothFirst++
		default:
			t.bothSecond++
		}
	}
}

// addGraph finds the strong components of the graph of wins.
func (t *metaTally) addGraph(scores map[string]int, winners map[[2]string]bool) {
	if len(winners) == 0 {
		return
	}
	g := simple.NewDirectedGraph()
	nodes := make(map[string]simple.Node, len(scores))
	for id := range scores {
		nodes[id] = simple.Node(len(nodes))
		g.AddNode(nodes[id])
	}
	for shown, firstWon := range winners {
		winner, loser := shown[0], shown[1]
		if !firstWon {
			winner, loser = loser, winner
		}
		from, ok1 := nodes[winner]
		to, ok2 := nodes[loser]
		if ok1 && ok2 && from != to {
			g.SetEdge(simple.Edge{F: from, T: to})
		}
	}
	largest := 0
	for _, component := range topo.TarjanSCC(g) {
		largest = max(largest, len(component))
	}
	t.graphs++
	t.largest += float64(largest) / float64(max(len(nodes), 1))
	if largest == len(nodes) {
		t.connected++
	}
}

func (t *metaTally) addElo(judgments []runs.Judgment) {
	highest, lowest, rated := 0.0, 0.0, false
	for i := range judgments {
		if e := judgments[i].Elo; e != nil {
			if !rated {
				highest, lowest, rated = *e, *e, true
			}
			highest, lowest = max(highest, *e), min(lowest, *e)
		}
	}
	if rated {
		t.eloResponses++
		t.eloSpread += highest - lowest
		t.elo.add(highest - lowest)
	}
}

func (t *metaTally) join(u *metaTally) {
	t.texts.join(&u.texts)
	t.first += u.first
	t.second += u.second
	t.both += u.both
	t.agree += u.agree
	t.bothFirst += u.bothFirst
	t.bothSecond += u.bothSecond
	t.higher += u.higher
	t.unlike += u.unlike
	for i := range t.gaps {
		t.gaps[i] += u.gaps[i]
		t.gapsHigher[i] += u.gapsHigher[i]
	}
	t.graphs += u.graphs
	t.connected += u.connected
	t.largest += u.largest
	t.elo.join(&u.elo)
	t.eloSpread += u.eloSpread
	t.eloResponses += u.eloResponses
}

func (t *metaTally) unparsed() Unparsed { return t.texts.figures() }

func (t *metaTally) figures() *Meta {
	m := &Meta{
		Comparisons: t.texts.Texts, Verdicts: t.first + t.second, First: share(t.first, t.first+t.second),
		BothOrders: t.both, Consistent: share(t.agree, t.both), BothFirst: share(t.bothFirst, t.both), BothSecond: share(t.bothSecond, t.both),
		HigherWins: share(t.higher, t.unlike), HigherWinsOf: t.unlike,
		Graphs: t.graphs, Connected: share(t.connected, t.graphs), Largest: share(t.largest, t.graphs),
		EloResponses: t.eloResponses, EloSpread: share(t.eloSpread, t.eloResponses), EloHistogram: t.elo,
	}
	for i, n := range t.gaps {
		if n > 0 {
			m.ByGap = append(m.ByGap, GapFigures{Gap: t.bins.points(i), Verdicts: n, HigherWins: share(t.gapsHigher[i], n)})
		}
	}
	return m
}
