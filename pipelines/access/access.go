// Package access configures the keys, headers and parameters that Coeval sends to servers with each request.
//
// An [Access] contains the names of environment variables and files, and never a secret itself.
// [Access.Check] refuses secrets in wrong places, and [Access.Hide] replaces them before a config is
// printed. Neither opens the named files or looks up the named variables.
package access

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"coeval/transforms/stage"
)

// Access configures the key, headers and parameters of requests. A role without urls of its own uses the
// worker's, except for its own settings.
type Access struct {
	APIKeyEnv    string            `yaml:"api_key_env" json:"api_key_env" doc:"environment variable with the API key; if it is empty, a role without urls of its own uses the worker's"`
	APIKeyFile   string            `yaml:"api_key_file" json:"api_key_file" doc:"file with the API key, instead of a variable"`
	APIKeyHeader string            `yaml:"api_key_header,omitempty" json:"api_key_header,omitempty" doc:"header with the key alone, for example api-key; empty sends Authorization: Bearer KEY"`
	Headers      map[string]string `yaml:"headers,omitempty" json:"headers,omitempty" doc:"more headers, for example {X-Org: lab}; a value env:NAME or file:PATH is read from there and never shown"`
	Query        map[string]string `yaml:"query,omitempty" json:"query,omitempty" doc:"parameters of the URL, for example {api-version: 2024-10-21}; a value env:NAME or file:PATH is read from there and never shown"`
}

// Endpoint returns a server without a URL that gets requests with this access.
func (a *Access) Endpoint() stage.Endpoint {
	return stage.Endpoint{
		APIKeyEnv: a.APIKeyEnv, APIKeyFile: a.APIKeyFile, APIKeyHeader: a.APIKeyHeader,
		Headers: stage.FieldsOf(a.Headers), Query: stage.FieldsOf(a.Query),
	}
}

// Overridden returns the access with the settings of another in its place: a key as a whole, and each
// header and parameter by its name.
func (a *Access) Overridden(by *Access) *Access {
	out := *a
	if by.APIKeyEnv != "" || by.APIKeyFile != "" {
		out.APIKeyEnv, out.APIKeyFile = by.APIKeyEnv, by.APIKeyFile
	}
	out.APIKeyHeader = cmp.Or(by.APIKeyHeader, a.APIKeyHeader)
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

// privateSuffixes end the host names of private networks, for example of clusters and home routers.
var privateSuffixes = []string{".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc", ".test"}

// privateNetworks are private networks that netip does not count: carrier-grade NAT, which overlay
// networks use.
var privateNetworks = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}

// IsPrivate reports whether a host is this machine or in a private network. A name without a dot is
// private, since no public host has one.
func IsPrivate(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() ||
			slices.ContainsFunc(privateNetworks, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return !strings.Contains(host, ".") || slices.ContainsFunc(privateSuffixes, func(s string) bool { return strings.HasSuffix(host, s) })
}
