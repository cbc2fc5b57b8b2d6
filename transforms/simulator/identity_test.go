package simulator

import (
	"testing"
	"time"

	"coeval/transforms/simulator/world"
)

// Settings that decide texts change the identity, and no others do.
func TestIdentity(t *testing.T) {
	base := (&Options{}).Identity()
	w := world.Default()
	for name, o := range map[string]Options{
		"default world": {World: &w}, "slots": {Slots: 3}, "latency": {Latency: time.Second}, "models": {Models: []string{"m"}},
		"n": {MaxN: 2}, "retried faults": {Faults: Faults{"429": 0.5, FaultReset: 0.1, FaultUTF8: 0}, FaultSeed: 7},
	} {
		if o.Identity() != base {
			t.Errorf("%s is part of the identity", name)
		}
	}
	noisy, seeded := world.Default(), world.Default()
	noisy.JudgeNoise, seeded.Seed = 3, 1
	seen := map[string]string{base: "the default"}
	for name, o := range map[string]Options{
		"noise": {World: &noisy}, "seed": {World: &seeded}, "fresh": {FreshTexts: true}, "free": {IgnoreConstraints: true},
		"utf8": {Faults: Faults{FaultUTF8: 0.1}}, "more utf8": {Faults: Faults{FaultUTF8: 0.2}}, "400": {Faults: Faults{FaultPermanent: 0.1}},
		"fault seed": {Faults: Faults{FaultUTF8: 0.1}, FaultSeed: 1},
	} {
		id := o.Identity()
		if as := seen[id]; as != "" {
			t.Errorf("%s has the identity of %s", name, as)
		}
		seen[id] = name
	}
}
