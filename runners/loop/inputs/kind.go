package inputs

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"os"
	"slices"

	"coeval/datasets/store"
	"coeval/runners/loop/config"
	"coeval/runners/loop/nested"
	"coeval/schemas"
)

// A Kind identifies the settings that figures of two iterations must share to be compared.
type Kind struct {
	Figure string `json:"figure"`
	// Contest is the digest of the arena's settings that its figures depend on, empty without an arena.
	Contest string `json:"contest"`
	// People is the file of people's labels, and Labels the digest of its content; empty for a file that can't be read,
	// or that is in a bucket.
	People string `json:"people"`
	Labels string `json:"labels"`
}

// KindOf returns the kind of the figures under a config. Arena is the config of the arena with the loop's models, nil
// without an arena.
func KindOf(c *config.Config, arena map[string]any) Kind {
	e := &c.Evaluate
	kind := Kind{Figure: e.Figure, People: e.People, Labels: contentDigest(e.People)}
	if arena != nil {
		kind.Contest = schemas.Digest(textOf(contestSettings(arena, e.Figure)))
	}
	return kind
}

// Differs reports whether figures of two kinds can't be compared. A figure that only one of the two has is no difference.
func (k Kind) Differs(other Kind) bool {
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	people := differ(k.People, other.People)
	if k.Labels != "" && other.Labels != "" {
		people = k.Labels != other.Labels
	}
	return people || differ(k.Contest, other.Contest) || k.Contest != "" && other.Contest != "" && k.Figure != other.Figure
}

// contestSettings returns the settings of the arena that its win rates depend on. Others bound, group or describe them.
// The games in known give the difficulty of prompts to length-controlled figures.
func contestSettings(arena map[string]any, figure string) map[string]any {
	all, out := lasting(arena), map[string]any{}
	names := []string{"judge", "b", "prompts", "seed", "strip_reasoning", "outcome", "simulate"}
	if figure == config.ControlledFigure {
		names = append(names, "known")
	}
	for _, name := range names {
		if value, ok := all[name]; ok {
			out[name] = value
		}
	}
	judge, worker := nested.Section(out, "judge"), nested.Section(all, "worker")
	for _, key := range []string{"model", "revision"} {
		if judge[key] == nil && worker[key] != nil {
			judge[key] = worker[key]
		}
	}
	if name, ok := judge["template"].(string); ok && contentDigest(name) != "" {
		judge["template"] = contentDigest(name)
	}
	for section, keys := range map[string][]string{"prompts": {"max_bad_prompts"}, "simulate": {"slots", "latency", "max_n", "faults"}} {
		if settings, ok := out[section].(map[string]any); ok {
			maps.DeleteFunc(settings, func(key string, _ any) bool { return slices.Contains(keys, key) })
			if len(settings) == 0 {
				delete(out, section)
			}
		}
	}
	return out
}

// contentDigest returns the digest of a local file, empty if the file can't be read.
func contentDigest(name string) string {
	path, err := store.ParsePath(name)
	if err != nil {
		return ""
	}
	if is, err := os.Stat(path); err != nil || !is.Mode().IsRegular() {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // it was read
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return ""
	}
	return hex.EncodeToString(sum.Sum(nil))
}
