package loop

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"coeval/datasets/store"
	"coeval/runners/loop/config"
	"coeval/runners/loop/nested"
	"coeval/runners/loop/steps"
	"coeval/schemas"
)

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

// figureKind identifies the settings that figures of two iterations must share to be compared.
type figureKind struct {
	Figure string `json:"figure"`
	// Contest is the digest of the arena's settings that its figures depend on, empty without an arena.
	Contest string `json:"contest"`
	// People is the file of people's labels, and Labels the digest of its content; empty for a file that can't be read,
	// or that is in a bucket.
	People string `json:"people"`
	Labels string `json:"labels"`
}

func (l *Loop) figureKind() figureKind {
	e := &l.Config.Evaluate
	kind := figureKind{Figure: e.Figure, People: e.People, Labels: contentDigest(e.People)}
	if len(e.Arena) > 0 {
		kind.Contest = schemas.Digest(textOf(l.contestSettings()))
	}
	return kind
}

// contestSettings returns the settings of the arena that its win rates depend on. Others bound, group or describe them.
// The games in known give the difficulty of prompts to length-controlled figures.
func (l *Loop) contestSettings() map[string]any {
	all, out := lasting(l.arenaSettings(nil)), map[string]any{}
	names := []string{"judge", "b", "prompts", "seed", "strip_reasoning", "outcome", "simulate"}
	if l.Config.Evaluate.Figure == config.ControlledFigure {
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
	if err != nil || !isFile(path) {
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

// measuredOtherwise reports whether an iteration has a figure of another kind than a next one would have. A figure
// that only one of the two has is no difference.
func (l *Loop) measuredOtherwise(t int) bool {
	m, err := steps.Output[measured](l.state, t, steps.Measure)
	if err != nil {
		return false // the step that reads it reports the error
	}
	return m.Kind.differs(l.figureKind())
}

func (k figureKind) differs(other figureKind) bool {
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	people := differ(k.People, other.People)
	if k.Labels != "" && other.Labels != "" {
		people = k.Labels != other.Labels
	}
	return people || differ(k.Contest, other.Contest) || k.Contest != "" && other.Contest != "" && k.Figure != other.Figure
}
