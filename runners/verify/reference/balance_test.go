package reference

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"coeval/schemas"
	"coeval/transforms/pairs"
)

// The reference's balance agrees with the run's on random sets of pairs: 0 to 3,000 pairs, many scores
// or one, and shares at which the rules meet.
func TestBalanceAgrees(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 16))
	shares := []float64{0, 0.1, 0.2, 0.25, 0.4, 0.5, 0.9, 1}
	for round := range 300 {
		o := pairs.BalanceOptions{ClassCap: shares[rng.IntN(len(shares))], Directions: shares[rng.IntN(len(shares)-1)]}
		cells, counts := map[schemas.BalanceCell]int64{}, map[Kind]int64{}
		kindOf := map[schemas.BalanceCell]Kind{}
		scores, lean := 1+rng.IntN(11), rng.Float64()
		for i := range rng.IntN(1 + 10*round) {
			id := fmt.Sprint(round, " ", i)
			chosen, rejected := 500*rng.IntN(scores), 500*rng.IntN(scores)
			if rng.Float64() < lean {
				chosen, rejected = max(chosen, rejected), min(chosen, rejected)
			}
			cell, kind := pairs.BalanceCell(id, chosen, rejected), KindOf(id, float64(chosen)/1000, float64(rejected)/1000)
			cells[cell]++
			counts[kind]++
			kindOf[cell] = kind
		}
		want := pairs.NewBalance(schemas.BalanceCounts{Cells: cells}, o)
		got := Balance(counts, o.ClassCap, o.Directions)
		for cell, kind := range kindOf {
			if got[kind] != want.Reason(cell) {
				t.Fatalf("round %d, %+v: %+v is %q by the reference, %q by the run", round, o, kind, got[kind], want.Reason(cell))
			}
		}
	}
}
