package inputs

import (
	"slices"
	"testing"

	"coeval/runners/loop/config"
	"coeval/runners/loop/nested"
	"coeval/runners/loop/steps"
	"coeval/schemas"
)

// Settings about servers may change at the top of a config and in its roles. A request field of the same name may not.
func TestLasting(t *testing.T) {
	base := map[string]any{"worker": map[string]any{"model": "m"}, "judge": map[string]any{"n": 5, "extra_body": map[string]any{"client": "a"}}}
	for key, lasts := range map[string]bool{
		"worker.urls": false, "judge.headers": false, "meta_judge.query": false, "client.patience": false, "past.api_key_env": false, "future.ca_file": false,
		"judge.extra_body.client": true, "actor.extra_body.urls": true, "worker.model": true, "method.query": true, "prompts.headers": true,
	} {
		sections := nested.Clone(base)
		nested.Set(sections, key, "value")
		if got := textOf(lasting(sections)) != textOf(base); got != lasts {
			t.Errorf("%s lasts: %t, want %t", key, got, lasts)
		}
		if got := len(lasting(map[string]any{key: "value"})) == 1; got != lasts { // as in schedule[].set
			t.Errorf("%s in one key lasts: %t, want %t", key, got, lasts)
		}
	}
}

// The digest of a run's settings is the same when its servers move, and a record of an earlier version, whose digest
// has the servers, still fits.
func TestInputsOfMovedServers(t *testing.T) {
	inputs := func(run string) []string {
		c, err := config.Parse("loop.yaml", []byte("dir: d\nmodel: {path: m}\nprompts_per_iteration: 5\nslices: same\nschedule: [{preset: paper-1}]\nrun: "+run+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		return Of(&c, 1, steps.Produce, "before")
	}
	here := inputs("{worker: {urls: ['http://a/v1'], model: m}, judge: {n: 5}}")
	moved := inputs("{worker: {urls: ['http://b/v1'], model: m, api_key_env: KEY}, judge: {n: 5, urls: ['http://c/v1']}, client: {patience: 1h}}")
	another := inputs("{worker: {urls: ['http://a/v1'], model: m}, judge: {n: 6}}")
	if here[0] != moved[0] || here[0] == another[0] {
		t.Errorf("digests are %v, with moved servers %v, with more judgments %v", here, moved, another)
	}
	earlier := schemas.Digest("before", "produce", `[{"judge":{"n":5},"worker":{"model":"m","urls":["http://a/v1"]}},{"preset":"paper-1","roles":null,"set":null},5,"same",4]`)
	if !slices.Contains(here, earlier) {
		t.Errorf("the digest of an earlier version is none of %v", here)
	}
}
