// Package inputs derives from the config of a loop the settings on which its finished steps depend.
//
// [Of] returns the digests of a step's settings. A step that was done with other settings is not repeated
// silently: the loop refuses to go on. The digests omit prices, and the servers' addresses, keys and client
// settings, so these may change between two starts. Earlier versions of Coeval wrote digests that omit only the
// prices. Stop rules are in the digest of the decision only: if they change, the loop makes its last decision
// again. A [Kind] has the settings of an evaluation that must be the same in two iterations for their figures
// to be comparable.
package inputs

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"coeval/runners/loop/config"
	"coeval/runners/loop/nested"
	"coeval/runners/loop/steps"
	"coeval/schemas"
)

// Of returns the digests that the record of a step of iteration t may have as its input. Before is the digest of all
// earlier steps. New records have the first digest. Records of earlier versions have the second one, which includes the
// addresses, keys and client settings of the servers.
func Of(c *config.Config, t int, step steps.Step, before string) []string {
	var all []string
	for _, earlier := range []bool{false, true} {
		all = append(all, schemas.Digest(before, string(step), textOf(settingsOf(c, t, step, earlier))))
	}
	return all
}

// settingsOf returns the settings that a step depends on. Prices, thresholds and those of serverKeys may change between
// two starts. Digests of earlier versions include the addresses, keys and client settings of the servers. Decisions are
// made again by other rules. For evaluate see [Kind].
func settingsOf(c *config.Config, t int, step steps.Step, earlier bool) any {
	of := lasting
	if earlier {
		of = func(settings map[string]any) map[string]any { return settings }
	}
	switch step {
	case steps.PhaseOne, steps.Produce:
		turn := c.Turn(t)
		turn.Set = of(turn.Set)
		return []any{of(c.Run), turn, c.PromptsPerIteration, c.Slices, c.Parts()}
	case steps.FutureSet, steps.MakeSet:
		return []any{c.Set, c.Turn(t).Roles}
	case steps.TrainFuture, steps.TrainModel:
		return []any{c.Train.Command, c.Model}
	case steps.SwapFuture:
		if earlier {
			return []any{c.Swap.Kind, c.Swap.Future}
		}
		return []any{c.Swap.Kind, c.Swap.Future.Command}
	case steps.SwapModel:
		return []any{c.Swap.Kind, c.Swap.Command}
	case steps.Decide:
		return c.Decide
	default:
		return nil
	}
}

// textOf returns settings as text, and an empty one for none.
func textOf(settings any) string {
	if settings == nil {
		return ""
	}
	b, err := json.Marshal(settings)
	if err != nil {
		return fmt.Sprint(settings) // YAML allows keys that JSON has not
	}
	return string(b)
}

// serverKeys are the settings about the addresses, keys and limits of servers. They stand at the top of a config and in
// serverSections; a request field in extra_body may have the same name.
var (
	serverKeys     = []string{"client", "urls", "api_key_env", "api_key_file", "api_key_header", "headers", "query", "ca_file"}
	serverSections = []string{"worker", "actor", "past", "future", "judge", "meta_judge", "b"}
)

// lasting copies the settings of a run that its pairs depend on. Servers may move, and other bounds suit them, between
// two starts.
func lasting(settings map[string]any) map[string]any {
	out := nested.Clone(settings)
	for key, value := range out {
		name, rest, _ := strings.Cut(key, ".")
		section, ok := value.(map[string]any)
		switch {
		case ofServers(name), slices.Contains(serverSections, name) && ofServers(rest):
			delete(out, key)
		case ok && slices.Contains(serverSections, key):
			maps.DeleteFunc(section, func(inner string, _ any) bool { return ofServers(inner) })
			if len(section) == 0 {
				delete(out, key)
			}
		}
	}
	return out
}

// ofServers reports whether a key, such as urls or client.patience, is one of serverKeys or in one.
func ofServers(key string) bool {
	name, _, _ := strings.Cut(key, ".")
	return slices.Contains(serverKeys, name)
}
