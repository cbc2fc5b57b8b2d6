package reference

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"sort"
	"strconv"

	"coeval/schemas"
)

// A Kind contains the properties of a judge pair that the balance of a run depends on.
type Kind struct {
	// Score is the chosen judgment's, in thousandths of a point. Direction is 1 if that is the higher
	// score of the two, -1 if it is the lower one, else 0.
	Score, Direction int
	// Part is the pair's part of 4,096; it follows from the prompt's ID.
	Part int
}

// KindOf returns the kind of a prompt's judge pair, from the scores of its judgments in points. The part
// is the first 12 bits of the SHA-256 of "balance" and the ID, each after its length as
// a uvarint.
func KindOf(promptID string, chosen, rejected float64) Kind {
	var hashed []byte
	for _, s := range []string{"balance", promptID} {
		hashed = append(binary.AppendUvarint(hashed, uint64(len(s))), s...)
	}
	sum := sha256.Sum256(hashed)
	c, r := rational(chosen, 1000), rational(rejected, 1000)
	score := new(big.Rat).Mul(c, big.NewRat(1000, 1)).Num().Int64()
	return Kind{Score: int(score), Direction: c.Cmp(r), Part: int(sum[0])<<4 | int(sum[1])>>4}
}

// Balance returns the reason for which the pairs of each kind are dropped; kinds that are kept are not
// in it. Counts are the counts of the run's judge pairs. Two rules are applied in turn to the pairs that
// are left, until neither drops any:
//
//	directions  |H − L| ≤ share·(H + L)  for H pairs whose chosen judgment scores higher, L lower
//	class cap   n(s) ≤ cap·Σn            for n(s) pairs of the chosen score s
//
// If a rule is broken, the fewest possible pairs of the excess kind are dropped, in whole parts, the
// last part first. A share or cap of 0 is no rule. Pairs that both rules drop have the reason
// direction.
func Balance(counts map[Kind]int64, classCap, directions float64) map[Kind]string {
	b := balance{counts: counts, dropped: map[Kind]string{}}
	for b.direct(directions) || b.capClasses(classCap) {
	}
	return b.dropped
}

type balance struct {
	counts  map[Kind]int64
	dropped map[Kind]string
}

// left returns the number of pairs of a set that are not dropped.
func (b *balance) left(in func(Kind) bool) (sum int64) {
	for k, n := range b.counts {
		if b.dropped[k] == "" && in(k) {
			sum += n
		}
	}
	return sum
}

func (b *balance) direct(share float64) bool {
	if share <= 0 {
		return false
	}
	of := func(direction int) func(Kind) bool { return func(k Kind) bool { return k.Direction == direction } }
	more, most, least := 1, b.left(of(1)), b.left(of(-1))
	if least > most {
		more, most, least = -1, least, most
	}
	if atMost(most-least, share, most+least) {
		return false
	}
	// The least excess that breaks the rule, less 1.
	excess := sort.Search(int(most-least), func(x int) bool { return !atMost(int64(x), share, int64(x)+2*least) }) - 1
	b.drop(of(more), least+int64(excess), schemas.Direction)
	return true
}

func (b *balance) capClasses(share float64) (changed bool) {
	if share <= 0 || share >= 1 {
		return false
	}
	classes, most := map[int]int64{}, int64(0)
	for k, n := range b.counts {
		if b.dropped[k] == "" {
			classes[k.Score] += n
			most = max(most, classes[k.Score])
		}
	}
	// With at most level pairs of each score, the rule is satisfied from 0 up to some level.
	level := int64(sort.Search(int(most)+1, func(level int) bool {
		var sum int64
		for _, n := range classes {
			sum += min(n, int64(level))
		}
		return !atMost(int64(level), share, sum)
	}) - 1)
	for score, n := range classes {
		if n > level {
			b.drop(func(k Kind) bool { return k.Score == score }, level, schemas.ClassCap)
			changed = true
		}
	}
	return changed
}

// drop drops the pairs of a set from the first part on with which more than most would be left.
func (b *balance) drop(in func(Kind) bool, most int64, reason string) {
	var perPart [4096]int64
	for k, n := range b.counts {
		if b.dropped[k] == "" && in(k) {
			perPart[k.Part] += n
		}
	}
	bound, sum := 0, int64(0)
	for ; bound < len(perPart) && sum+perPart[bound] <= most; bound++ {
		sum += perPart[bound]
	}
	for k := range b.counts {
		if in(k) && k.Part >= bound && (b.dropped[k] == "" || reason == schemas.Direction) {
			b.dropped[k] = reason
		}
	}
}

// atMost reports whether n ≤ share·of, for the share as the config writes it in decimals.
func atMost(n int64, share float64, of int64) bool {
	exact, ok := new(big.Rat).SetString(strconv.FormatFloat(share, 'f', -1, 64))
	if !ok {
		panic(fmt.Sprintf("reference: the share %v is no number", share)) // the settings are checked
	}
	return new(big.Rat).SetInt64(n).Cmp(exact.Mul(exact, big.NewRat(of, 1))) <= 0
}
