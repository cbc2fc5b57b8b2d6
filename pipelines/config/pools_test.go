package config

import (
	"errors"
	"strings"
	"testing"

	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/pairs"
)

func poolsOf(t *testing.T, c Config) []generate.Pool {
	t.Helper()
	r, err := c.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	return r.Generate.Pools
}

// Past is sampled as the actor unless it says otherwise, and never inherits the revision of the model
// that is trained.
func TestPools(t *testing.T) {
	c := valid()
	c.Worker.Model, c.Worker.Revision = "m", "3"
	c.Actor.N, c.Actor.Temperature, c.Actor.MaxTokens, c.Actor.Stop = 4, new(0.7), 512, Texts{"END"}
	c.Past.Model = "m"
	if got := poolsOf(t, c); len(got) != 0 {
		t.Errorf("method tiers has pools: %+v", got)
	}
	c.Method.Pairs = pairs.Temporal
	got := poolsOf(t, c)
	if len(got) != 1 || got[0].N != 4 || got[0].Role.Name != schemas.RolePast {
		t.Fatalf("pools are %+v", got)
	}
	r := got[0].Role
	if r.Identity() != "m" || r.Temperature != 0.7 || r.MaxTokens != 512 || len(r.Stop) != 1 {
		t.Errorf("past is %+v", r)
	}
	c.Past.Model, c.Past.Revision, c.Past.N, c.Past.Temperature = "", "1", 2, new(1.0)
	c.Future.Model, c.Method.Phase = "next", 2
	got = poolsOf(t, c)
	if len(got) != 2 || got[0].Role.Identity() != "m@1" || got[0].N != 2 || got[0].Role.Temperature != 1 || got[1].Role.Identity() != "next" {
		t.Errorf("pools are %+v", got)
	}
	if w := c.PoolWarnings(); len(w) != 0 {
		t.Errorf("warnings: %q", w)
	}
	c.Past = PoolRole{Revision: "3"}
	if got = poolsOf(t, c); len(got) != 1 || got[0].Role.Name != schemas.RoleFuture {
		t.Errorf("the actor's own checkpoint is asked twice: %+v", got)
	}
	if w := c.PoolWarnings(); len(w) != 1 || !strings.HasPrefix(w[0], "past is the actor's own checkpoint") {
		t.Errorf("warnings: %q", w)
	}
}

func TestPoolProblems(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		key    string
	}{
		{"method", func(c *Config) { c.Method.Pairs = "best" }, "method.pairs"},
		{"phase", func(c *Config) { c.Method.Phase = 3 }, "method.phase"},
		{"no model of past", func(c *Config) { c.Past.Model = "" }, "past.model"},
		{"no model of future", func(c *Config) { c.Method.Phase = 2 }, "future.model"},
		{"future is past", func(c *Config) { c.Method.Phase, c.Future.Model = 2, "first" }, "future.model"},
		{"the actor's checkpoint with other sampling", func(c *Config) { c.Past.Model, c.Past.N = c.Worker.Model, 3 }, "past.model"},
		{"number", func(c *Config) { c.Past.N = 257 }, "past.n"},
		{"temperature", func(c *Config) { c.Past.Temperature = new(-1.0) }, "past.temperature"},
		{"URL", func(c *Config) { c.Past.URLs = []string{"localhost"} }, "past.urls[0]"},
		{"secret", func(c *Config) { c.Past.ExtraBody = map[string]any{"api_key": "x"} }, "past.extra_body.api_key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := valid()
			c.Method.Pairs, c.Past.Model = pairs.Temporal, "first"
			if err := c.Validate(); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			tt.change(&c)
			var p *Problem
			if err := c.Validate(); !errors.As(err, &p) || p.Key != tt.key {
				t.Errorf("got %v, want a problem of %s", err, tt.key)
			}
		})
	}
}
