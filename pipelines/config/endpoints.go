package config

import (
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"

	"coeval/pipelines/access"
	"coeval/schemas"
	"coeval/schemas/redact"
	"coeval/transforms/stage"
)

// Endpoints returns the servers of a role, each with its key.
//
// The worker's key, headers and query go only to worker.urls. A role with URLs of its own never inherits them,
// since another party may own its servers. A role without URLs uses worker.urls. Its own key, headers and query
// override those of the worker there.
func (c *Config) Endpoints(r *Role) []stage.Endpoint {
	if c.Simulate.Enabled {
		return []stage.Endpoint{{URL: c.Simulate.URL}}
	}
	urls, access := r.URLs, r.Endpoint()
	if len(urls) == 0 {
		urls, access = c.Worker.URLs, c.Worker.Overridden(&r.Access).Endpoint()
	}
	endpoints := make([]stage.Endpoint, len(urls))
	for i, u := range urls {
		access.URL, access.CAFile = u, c.Worker.CAFile
		endpoints[i] = access
	}
	return endpoints
}

// CheckSecrets returns an error for each API key and other secret of worker and these roles that can't
// be read on this machine.
func (c *Config) CheckSecrets(roles ...string) error {
	var errs []error
	seen := map[stage.Endpoint]bool{}
	check := func(section string, a *access.Access) {
		if e := a.Endpoint(); !seen[e] {
			seen[e] = true
			if _, err := e.Credentials(); err != nil {
				errs = append(errs, fmt.Errorf("%s.%w", section, err))
			}
		}
	}
	check("worker", &c.Worker.Access)
	for name, r := range c.byName() {
		if slices.Contains(roles, name) {
			check(name, &r.Access)
		}
	}
	return errors.Join(errs...)
}

// byName returns all roles in the order of the method.
func (c *Config) byName() iter.Seq2[string, *Role] {
	return func(yield func(string, *Role) bool) {
		_ = yield(schemas.RoleActor, &c.Actor.Role) && yield(schemas.RolePast, c.Past.own()) && yield(schemas.RoleFuture, c.Future.own()) &&
			yield(schemas.RoleJudge, &c.Judge.Role) && yield(schemas.RoleMetaJudge, &c.MetaJudge.Role)
	}
}

// Asked returns the roles to which a run sends requests, by name.
func (c *Config) Asked() map[string]*Role {
	asked := map[string]*Role{schemas.RoleActor: &c.Actor.Role, schemas.RoleJudge: &c.Judge.Role}
	for _, p := range c.pools() {
		asked[p.name] = p.role.own()
	}
	if c.Wants(schemas.RoleJudge) {
		asked[schemas.RoleMetaJudge] = &c.MetaJudge.Role
	}
	return asked
}

// KeyWarnings returns one sentence for each server that would receive a key unencrypted over a public
// network: its URL has http and a host that is neither loopback nor private.
func (c *Config) KeyWarnings() []string {
	if c.Simulate.Enabled {
		return nil
	}
	var warnings []string
	for _, r := range c.Asked() {
		for _, e := range c.Endpoints(r) {
			if warning := KeyWarning(e.URL); warning != "" && e.SendsSecret() {
				warnings = append(warnings, warning)
			}
		}
	}
	slices.Sort(warnings)
	return slices.Compact(warnings)
}

// KeyWarning returns the sentence for a server that receives a key, "" if the way to it is encrypted or private.
func KeyWarning(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || access.IsPrivate(u.Hostname()) {
		return ""
	}
	return fmt.Sprintf("the API key for %s is sent unencrypted, over http to a public host; use https", address)
}

// WithoutSecrets returns a copy of the config for printing, even of an invalid one. It replaces
// secrets in wrong places.
func (c Config) WithoutSecrets() Config {
	place := func(a *access.Access, urls *[]string) {
		a.Hide()
		shown := make([]string, len(*urls))
		for i, u := range *urls {
			shown[i] = access.ShowURL(u)
		}
		*urls = shown
	}
	place(&c.Worker.Access, &c.Worker.URLs)
	for _, r := range []*Role{&c.Actor.Role, &c.Judge.Role, &c.MetaJudge.Role} {
		place(&r.Access, &r.URLs)
		r.ExtraBody = access.HideBody(r.ExtraBody)
	}
	for _, p := range []*PoolRole{&c.Past, &c.Future} {
		place(&p.Access, &p.URLs)
		p.ExtraBody = access.HideBody(p.ExtraBody)
	}
	c.Prompts.Paths = slices.Clone(c.Prompts.Paths)
	for i := range c.Prompts.Paths {
		c.Prompts.Paths[i] = showPath(c.Prompts.Paths[i])
	}
	for _, file := range []*string{&c.Output.Dir, &c.Worker.CAFile, &c.Judge.Template, &c.Judge.Rubric, &c.Judge.Calibration, &c.MetaJudge.Template} {
		*file = showPath(*file)
	}
	return c
}

// showPath returns a path for printing. It may be a URL with a signature or a password, or a key in the wrong place. In a
// path with folders, a name beside = is one of them, such as user_key=12/, and only keys with a known form are replaced.
func showPath(path string) string {
	if strings.Contains(path, "://") || redact.Value(path) || !strings.Contains(path, "/") {
		return redact.Hide(path)
	}
	return path
}
