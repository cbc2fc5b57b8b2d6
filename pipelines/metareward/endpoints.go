package metareward

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"coeval/schemas"
	"coeval/transforms/stage"
)

// Endpoints returns the servers of a role, each with its key.
//
// Keys, headers and query belong to the URLs in the same block of the config. A role with URLs of its
// own never inherits the worker's, since another party may own its servers. A role with a key of its
// own may use it at worker.urls, and its headers and query there override those of the worker.
func (c *Config) Endpoints(r *Role) []stage.Endpoint {
	if c.Simulate.Enabled {
		return []stage.Endpoint{{URL: c.Simulate.URL}}
	}
	urls, access := r.URLs, r.endpoint()
	if len(urls) == 0 {
		urls, access = c.Worker.URLs, c.Worker.overridden(&r.Access).endpoint()
	}
	endpoints := make([]stage.Endpoint, len(urls))
	for i, u := range urls {
		access.URL, access.CAFile = u, c.Worker.CAFile
		endpoints[i] = access
	}
	return endpoints
}

func (a *Access) endpoint() stage.Endpoint {
	return stage.Endpoint{
		APIKeyEnv: a.APIKeyEnv, APIKeyFile: a.APIKeyFile, APIKeyHeader: a.APIKeyHeader,
		Headers: stage.FieldsOf(a.Headers), Query: stage.FieldsOf(a.Query),
	}
}

// overridden returns the access with what another sets in its place: a key as a whole, and each
// header and parameter by its name.
func (a *Access) overridden(by *Access) *Access {
	out := *a
	if by.APIKeyEnv != "" || by.APIKeyFile != "" {
		out.APIKeyEnv, out.APIKeyFile = by.APIKeyEnv, by.APIKeyFile
	}
	out.APIKeyHeader = or(by.APIKeyHeader, a.APIKeyHeader)
	out.Headers, out.Query = maps.Clone(a.Headers), merged(a.Query, by.Query)
	for name := range by.Headers {
		maps.DeleteFunc(out.Headers, func(other, _ string) bool { return strings.EqualFold(other, name) })
	}
	out.Headers = merged(out.Headers, by.Headers)
	return &out
}

func merged(a, b map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// CheckSecrets returns an error for each API key and other secret of worker and these roles that can't
// be read on this machine.
func (c *Config) CheckSecrets(roles ...string) error {
	var errs []error
	seen := map[stage.Endpoint]bool{}
	check := func(section string, a *Access) {
		if e := a.endpoint(); !seen[e] {
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

// Asked returns the roles that a run asks, by name.
func (c *Config) Asked() map[string]*Role {
	asked := map[string]*Role{schemas.RoleActor: &c.Actor.Role, schemas.RoleJudge: &c.Judge.Role}
	for _, p := range c.pools() {
		asked[p.name] = p.role.own()
	}
	if c.wants(schemas.RoleJudge) {
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
			u, err := url.Parse(e.URL)
			if err != nil || u.Scheme != "http" || privateHost(u.Hostname()) || !e.SendsSecret() {
				continue
			}
			warnings = append(warnings, fmt.Sprintf("the API key for %s is sent unencrypted, over http to a public host; use https", e.URL))
		}
	}
	slices.Sort(warnings)
	return slices.Compact(warnings)
}

// privateSuffixes end the host names of private networks, for example of clusters and home routers.
var privateSuffixes = []string{".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc", ".test"}

// privateNetworks are private networks that netip does not count: carrier-grade NAT, which overlay
// networks use.
var privateNetworks = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}

// privateHost reports whether a host is this machine or in a private network. A name without a dot is
// private, since no public host has one.
func privateHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() ||
			slices.ContainsFunc(privateNetworks, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return !strings.Contains(host, ".") || slices.ContainsFunc(privateSuffixes, func(s string) bool { return strings.HasSuffix(host, s) })
}
