package endpoint

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/stage"
)

// DenialSentence returns the message about a denial, with the remedy.
func (e *Endpoint) DenialSentence(ctx context.Context, r *stage.Role, flt *fault.Fault) string {
	var advice string
	switch {
	case fault.WantsHTTPS(flt.Message):
		advice = "it serves HTTPS: give the URL with https:// instead of http://"
	case flt.Status == 407:
		advice = "a proxy requires a login: put user and password into HTTP_PROXY or HTTPS_PROXY, or exclude the host in NO_PROXY"
	case flt.Status == 511:
		advice = "the network requires a login: log in with a browser, then run the same command again"
	case flt.Status == 410:
		advice = "the model or the path is gone: choose another model"
	case flt.Status == 501 || flt.Status == 426 || flt.Status == 505 || flt.Status == 421 || flt.Status == 101:
		advice = "no OpenAI-compatible API answers there: check host, port and path of the URL"
	case flt.Status == 401 && !e.HasKey:
		advice = "it requires an API key; set api_key_env to the name of the environment variable with the key, or api_key_file to its file"
	case flt.Status == 401:
		advice = "it rejects the API key; set api_key_env to the name of the environment variable with the right key, or api_key_file to its file"
	case flt.Status == 402 || fault.WantsCredit(flt.Message):
		advice = "the account has no credit: check the account"
	case flt.Status == 403 && fault.IsPage(flt.Message):
		advice = "a web page answers instead of the API: check the URL, and whether a firewall or a login stands before it"
	case flt.Status == 403:
		advice = "the API key may not use it: check the key's rights to the model " + strconv.Quote(r.Model)
	case flt.Status == 400 && fault.RefusesRegion(flt.Message):
		advice = "it does not serve the place that the requests come from: choose another server"
	case flt.Status == 404 || flt.Status == 405 || flt.Status == 400 || flt.Status == 422 || flt.Status == 503:
		advice = e.adviseOnPath(ctx, r, flt)
	case flt.Status >= 300 && flt.Status < 400:
		advice = "it redirects: use the URL of the redirect"
	default:
		advice = "it denies all requests: check the URL and the account"
	}
	return fmt.Sprintf("%s refuses the %s: %s (its message: %s)", e.Name, r.Name, advice, flt.Message)
}

// adviseOnPath finds out whether the model or the path is wrong, and names the available ones.
func (e *Endpoint) adviseOnPath(ctx context.Context, r *stage.Role, flt *fault.Fault) string {
	if models := e.listModels(ctx, e.URLOf(openai.ModelsPath)); len(models) > 0 {
		if slices.ContainsFunc(models, func(m openai.Model) bool { return m.ID == r.Model }) {
			if fault.RefusesModel(flt.Message) {
				return "it lists the model " + strconv.Quote(r.Model) + " but refuses it: choose another model, or see its message for the models of this account"
			}
			return "it lists the model " + strconv.Quote(r.Model) + " but not under this path: check that it serves chat completions"
		}
		return "it has no model " + strconv.Quote(r.Model) + ". It serves " + quoteSome(models)
	}
	u := *e.Base
	path := strings.TrimSuffix(u.Path, "/")
	for _, other := range []string{strings.TrimSuffix(path, openai.CompletionsPath), path + "/v1", strings.TrimSuffix(path, "/v1") + "/api/v1", "/v1"} {
		if other == path {
			continue
		}
		u.Path = other
		if models := e.listModels(ctx, e.URLAt(other+openai.ModelsPath)); len(models) > 0 {
			return "did you mean " + u.Redacted() + "? It serves " + quoteSome(models)
		}
	}
	return "it has no model " + strconv.Quote(r.Model) + ", or the URL is not the base that ends before /chat/completions (most end in /v1)"
}

// quoteSome names the first few models.
func quoteSome(models []openai.Model) string {
	const maxNames = 5
	var names []string
	for _, m := range models[:min(len(models), maxNames)] {
		names = append(names, strconv.Quote(m.ID))
	}
	if len(models) > maxNames {
		names = append(names, fmt.Sprintf("and %d more", len(models)-maxNames))
	}
	return strings.Join(names, ", ")
}

// ContactAdvice returns the next step for a user whose server could not be reached.
func ContactAdvice(message string) string {
	switch {
	case strings.Contains(message, "certificate signed by unknown authority"):
		return "Set worker.ca_file to the PEM file of the authority that signed its certificate"
	case strings.Contains(message, "x509: certificate"):
		return "Give a URL whose host the certificate names, and check its dates"
	case strings.Contains(message, "server gave HTTP response to HTTPS client"):
		return "Give the URL with http:// instead of https://"
	}
	return "Check the URL, and that the server runs and is ready"
}

// ListTimeout is short because a run does not need a server's model list.
const ListTimeout = 5 * time.Second

// maxModels bounds the list.
const maxModels = 1 << 20

// listModels returns the models at a URL, nil without a list.
func (e *Endpoint) listModels(ctx context.Context, url string) []openai.Model {
	a, err := e.Get(ctx, url, maxModels, ListTimeout)
	if err != nil || a.Status != http.StatusOK {
		return nil
	}
	return openai.ReadModels(a.Body)
}
