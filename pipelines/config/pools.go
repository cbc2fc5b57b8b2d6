package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"coeval/pipelines/access"
	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/pairs"
	"coeval/transforms/stage"
)

// PoolRole has the settings of another checkpoint that answers the same prompts. Settings that are not
// given are the actor's, so that the answers differ by their model alone.
type PoolRole struct {
	URLs          []string `yaml:"urls"        json:"urls"        doc:"servers of this role; empty takes worker.urls"`
	Model         string   `yaml:"model"       json:"model"       doc:"model of this role; needed by method.pairs: temporal, unless its revision differs from the actor's"`
	Revision      string   `yaml:"revision"    json:"revision"    doc:"checkpoint of this role; empty is none"`
	access.Access `yaml:",inline"`
	N             int            `yaml:"n"           json:"n"           doc:"responses to a prompt; 0 is actor.n"`
	Temperature   *float64       `yaml:"temperature" json:"temperature" doc:"sampling temperature; null is actor.temperature"`
	TopP          *float64       `yaml:"top_p"       json:"top_p"       doc:"nucleus sampling; null is actor.top_p"`
	MaxTokens     int            `yaml:"max_tokens"  json:"max_tokens"  doc:"longest text; 0 is actor.max_tokens"`
	Stop          Texts          `yaml:"stop"        json:"stop"        doc:"texts that end a generation; empty is actor.stop"`
	ExtraBody     map[string]any `yaml:"extra_body"  json:"extra_body"  doc:"request fields sent unchanged; empty is actor.extra_body"`
}

// own returns the settings as those of any role, with nothing of the actor's.
func (p *PoolRole) own() *Role {
	return &Role{
		URLs: p.URLs, Model: p.Model, Revision: p.Revision, Access: p.Access,
		Temperature: p.Temperature, TopP: p.TopP, MaxTokens: p.MaxTokens, Stop: p.Stop, ExtraBody: p.ExtraBody,
	}
}

// samples reports whether a setting of sampling is given.
func (p *PoolRole) samples() bool {
	return p.N != 0 || p.Temperature != nil || p.TopP != nil || p.MaxTokens != 0 || len(p.Stop) > 0 || len(p.ExtraBody) > 0
}

// pools are the roles beside the actor whose answers the method uses, by name in their order.
func (c *Config) pools() []struct {
	name string
	role *PoolRole
} {
	all := []struct {
		name string
		role *PoolRole
	}{{schemas.RolePast, &c.Past}, {schemas.RoleFuture, &c.Future}}
	switch {
	case c.Method.Pairs != pairs.Temporal:
		return nil
	case c.Method.Phase == 2:
		return all
	}
	return all[:1]
}

// pool returns how a role beside the actor is asked.
func (c *Config) pool(name string, p *PoolRole) (generate.Pool, error) {
	r := p.own()
	a := &c.Actor
	r.Temperature, r.TopP = cmp.Or(r.Temperature, a.Temperature), cmp.Or(r.TopP, a.TopP)
	r.MaxTokens = cmp.Or(r.MaxTokens, a.MaxTokens)
	if len(r.Stop) == 0 {
		r.Stop = a.Stop
	}
	if len(r.ExtraBody) == 0 {
		r.ExtraBody = a.ExtraBody
	}
	role, err := c.NewRole(name, r)
	if err != nil {
		return generate.Pool{}, err
	}
	// A revision of the worker or the actor is the revision of the current model.
	role.Revision = p.Revision
	if p.Model == "" {
		role.Model = cmp.Or(a.Model, c.Worker.Model)
		if p.Revision == "" {
			role.Revision = cmp.Or(a.Revision, c.Worker.Revision)
		}
	}
	return generate.Pool{Role: *role, N: cmp.Or(p.N, a.N)}, nil
}

// resolvePools returns the pools that are asked. A pool that is the actor's own checkpoint is not:
// its responses are the actor's.
func (c *Config) resolvePools(actor *stage.Role) ([]generate.Pool, error) {
	var out []generate.Pool
	for _, p := range c.pools() {
		pool, err := c.pool(p.name, p.role)
		if err != nil {
			return nil, err
		}
		if pool.Role.Identity() == actor.Identity() {
			if p.role.samples() {
				return nil, &Problem{
					Key: p.name + ".model", Value: fmt.Sprintf("%q", pool.Role.Identity()),
					Allowed: fmt.Sprintf("another model or %s.revision than the actor's while %s has n or sampling of its own", p.name, p.name),
				}
			}
			continue
		}
		if slices.ContainsFunc(out, func(o generate.Pool) bool { return o.Role.Identity() == pool.Role.Identity() }) {
			return nil, &Problem{Key: p.name + ".model", Value: fmt.Sprintf("%q", pool.Role.Identity()), Allowed: "another model or revision than past's"}
		}
		out = append(out, pool)
	}
	return out, nil
}

// AskedPool is a role that answers beside the actor.
type AskedPool struct {
	// Stage is the stage of its answers, N their number for each prompt. AsActor reports that N follows actor.n.
	Stage   string `json:"stage"`
	N       int    `json:"n"`
	AsActor bool   `json:"as_actor"`
}

// AskedPools returns the roles that answer the prompts of a run beside the actor.
func (c *Config) AskedPools() ([]AskedPool, error) {
	r, err := c.Resolve()
	if err != nil {
		return nil, err
	}
	var out []AskedPool
	for _, p := range r.Generate.Pools {
		one := AskedPool{Stage: generate.PoolStage(p.Role.Name), N: p.N}
		for _, own := range c.pools() {
			one.AsActor = one.AsActor || own.name == p.Role.Name && own.role.N == 0
		}
		out = append(out, one)
	}
	return out, nil
}

// PoolWarnings returns one sentence for each pool that is the actor's own checkpoint.
func (c *Config) PoolWarnings() []string {
	r, err := c.Resolve()
	if err != nil {
		return nil
	}
	var warnings []string
	for _, p := range c.pools() {
		isAsked := func(o generate.Pool) bool { return o.Role.Name == p.name }
		if !slices.ContainsFunc(r.Generate.Pools, isAsked) {
			warnings = append(warnings, fmt.Sprintf("%s is the actor's own checkpoint, so that it changes no pair; give the other checkpoint in %s.model or %s.revision", p.name, p.name, p.name))
		}
	}
	return warnings
}

// pools checks the settings of past and future.
func (v *validator) pools(c *Config) {
	v.check(c.Method.Pairs == pairs.Tiers || c.Method.Pairs == pairs.Temporal, "method.pairs", string(c.Method.Pairs), "tiers, temporal")
	v.check(within(c.Method.Phase, 1, 2), "method.phase", c.Method.Phase, "1, or 2 where future answers too")
	for _, p := range c.pools() {
		v.check(c.Simulate.Enabled || p.role.Model != "" || p.role.Revision != "", p.name+".model", "",
			fmt.Sprintf("the name under which the %s checkpoint is served (method.pairs is temporal)", map[string]string{schemas.RolePast: "first", schemas.RoleFuture: "next"}[p.name]))
		v.check(within(p.role.N, 0, maxCount), p.name+".n", p.role.N, fmt.Sprintf("0 (actor.n) to %d", maxCount))
	}
	if actor, err := c.NewRole(schemas.RoleActor, &c.Actor.Role); err == nil {
		_, err = c.resolvePools(actor)
		if problem := (*Problem)(nil); errors.As(err, &problem) && !slices.ContainsFunc(v.problems, func(e error) bool { return e.Error() == problem.Error() }) {
			v.problems = append(v.problems, problem)
		}
	}
}
