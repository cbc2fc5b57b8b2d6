package simulator

import (
	"encoding/json"
	"fmt"

	"coeval/schemas"
	"coeval/transforms/simulator/world"
)

// lastingFaults change the answer that a client keeps. After any other fault a client repeats the
// request.
var lastingFaults = []Fault{FaultUTF8, FaultFilter, FaultEmpty, FaultNull, FaultPermanent}

// Identity returns a digest of all options that decide the server's texts: the world with its seed,
// and whether texts are fresh, ignore constraints or contain faults. Speed, limits and the names of the
// models do not matter.
func (o *Options) Identity() string {
	w := world.Default()
	if o.World != nil {
		w = *o.World
	}
	decides := struct {
		Version    int         `json:"version"`
		World      world.World `json:"world"`
		FreshTexts bool        `json:"fresh_texts"`
		Ignore     bool        `json:"ignore_constraints"`
		Faults     Faults      `json:"faults"`
		FaultSeed  *uint64     `json:"fault_seed"`
	}{Version: world.TextsVersion, World: w, FreshTexts: o.FreshTexts, Ignore: o.IgnoreConstraints, Faults: Faults{}}
	for _, f := range lastingFaults {
		if share := o.Faults[f]; share > 0 {
			decides.Faults[f] = share
			decides.FaultSeed = &o.FaultSeed
		}
	}
	b, err := json.Marshal(decides)
	if err != nil { // NaN or infinity, which Validate refuses
		panic(fmt.Sprintf("simulator: %v", err))
	}
	return schemas.Digest(string(b))
}
