package metareward

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"coeval/schemas"
	"coeval/transforms/stage"
)

// Endpoints returns the servers of a role, each with its key.
//
// A key belongs to the URLs in the same block of the config. A role with URLs of its own never
// inherits the worker's key, since another party may own its servers. A role with a key of its own may
// use it at worker.urls.
func (c *Config) Endpoints(r *Role) []stage.Endpoint {
	if c.Simulate.Enabled {
		return []stage.Endpoint{{URL: c.Simulate.URL}}
	}
	urls, key := r.URLs, stage.Endpoint{APIKeyEnv: r.APIKeyEnv, APIKeyFile: r.APIKeyFile}
	if len(urls) == 0 {
		urls = c.Worker.URLs
		if key == (stage.Endpoint{}) {
			key = stage.Endpoint{APIKeyEnv: c.Worker.APIKeyEnv, APIKeyFile: c.Worker.APIKeyFile}
		}
	}
	endpoints := make([]stage.Endpoint, len(urls))
	for i, u := range urls {
		key.URL, key.CAFile = u, c.Worker.CAFile
		endpoints[i] = key
	}
	return endpoints
}

// Asked returns the roles that a run asks, by name.
func (c *Config) Asked() map[string]*Role {
	asked := map[string]*Role{schemas.RoleActor: &c.Actor.Role, schemas.RoleJudge: &c.Judge.Role}
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
			if err != nil || u.Scheme != "http" || privateHost(u.Hostname()) || (e.APIKeyEnv == "" && e.APIKeyFile == "") {
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
