package fault

import (
	"bytes"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"coeval/transforms/fleet/openai/lenient"
)

// apiError is the text of a server's error.
type apiError struct {
	text string // in lower case
	page bool   // HTML, as firewalls send it
}

func (e apiError) has(signs []string) bool {
	for _, sign := range signs {
		if strings.Contains(e.text, sign) {
			return true
		}
	}
	return false
}

// apiErrorIn reads the fields of an error body that state a reason. Other fields are ignored, as
// some servers quote the request in them, and a prompt may contain any sign. A body that is no JSON
// counts as a whole.
func apiErrorIn(body []byte) apiError {
	const maxLength = 4096
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	var whole jsontext.Value
	if kind := jsontext.Value(body).Kind(); kind != '{' && kind != '[' && kind != '"' || lenient.Unmarshal(body, &whole) != nil {
		s := strings.ToLower(string(body[:min(len(body), maxLength)]))
		trimmed := strings.TrimSpace(s)
		return apiError{text: s, page: strings.HasPrefix(trimmed, "<!doctype html") || strings.HasPrefix(trimmed, "<html")}
	}
	fields := statements(nil, body, 0)
	return apiError{text: strings.ToLower(strings.Join(fields, " "))}
}

// statementFields are the fields with the text of an error. wrapperFields contain other fields, since gateways
// wrap the errors of their backends.
var (
	statementFields = []string{
		"message", "msg", "code", "type", "detail", "details", "status", "reason", "error", "error_type", "error_code", "error_msg", "error_message", "errormessage",
		"errors", "err", "cause", "raw", "title", "description", "status_msg",
	}
	wrapperFields = []string{"metadata", "response", "body", "data", "base_resp"}
)

// statements appends the texts of an error body's fields that state a reason.
func statements(to []string, v jsontext.Value, depth int) []string {
	const maxDepth = 6
	if depth > maxDepth {
		return to
	}
	switch v.Kind() {
	case '"':
		var s lenient.Text
		_ = lenient.Unmarshal(v, &s) // it is a string
		return append(to, string(s))
	case '[':
		var list []jsontext.Value
		_ = lenient.Unmarshal(v, &list) // it is a list
		for _, item := range list {
			to = statements(to, item, depth+1)
		}
	case '{':
		var object map[string]jsontext.Value
		if lenient.Unmarshal(v, &object) != nil {
			return append(to, string(v))
		}
		for _, name := range slices.Sorted(maps.Keys(object)) {
			value, known := object[name], strings.ToLower(strings.TrimSpace(name))
			nested := value.Kind() == '{' || value.Kind() == '['
			if slices.Contains(statementFields, known) || nested && slices.Contains(wrapperFields, known) {
				to = statements(to, value, depth+1)
			}
		}
	}
	return to
}

// In returns the fault in a 200 whose body contains an error instead of choices, nil for none. Its
// argument e is the value of the body's field error. An empty string or object is no error, nor is false.
func In(body []byte, e jsontext.Value, hasChoices bool) *Fault {
	stated := body
	switch e.Kind() {
	case '"', '{', '[', 't':
		if Empty(e) {
			if hasChoices {
				return nil
			}
			break
		}
		stated = e
	default:
		if hasChoices {
			return nil
		}
	}
	status := statusIn(stated)
	if status == 0 {
		status = statusInWords(apiErrorIn(stated).text)
	}
	if len(stated) == len(body) && status == 0 {
		return nil // no choices: the decoder returns the fault
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	f := &Fault{Status: status, Message: "200 with an error: " + Excerpt(stated)}
	f.Kind, f.Code = kindOf(status, apiErrorIn(stated))
	return f
}

// Empty reports whether an error states nothing: it has no text and no number but 0, or it states success.
func Empty(v jsontext.Value) bool {
	switch v.Kind() {
	case '"':
		var s lenient.Text
		_ = lenient.Unmarshal(v, &s) // it is a string
		return slices.Contains([]string{"", "ok", "success", "none", "null", "no error", "0", "200"}, strings.ToLower(strings.TrimSpace(string(s))))
	case '0':
		return string(v) == "0" || string(v) == "200"
	case '[', '{':
		d := jsontext.NewDecoder(bytes.NewReader(v), lenient.Options)
		for {
			name := d.PeekKind() == '"' && d.StackDepth() > 0
			if kind, length := d.StackIndex(d.StackDepth()); name && kind == '{' && length%2 == 0 {
				_ = d.SkipValue() // the name of a field
				continue
			}
			switch d.PeekKind() {
			case '"', '0', 't':
				value, err := d.ReadValue()
				if err != nil || !Empty(value) {
					return false
				}
			default:
				if _, err := d.ReadToken(); err != nil {
					return true
				}
			}
		}
	case 't':
		return false
	}
	return true
}

// statusIn returns the HTTP status that an error body states, as a number or by its name; 0 for none.
func statusIn(body []byte) int {
	var e struct {
		Code       jsontext.Value `json:"code"`
		Status     jsontext.Value `json:"status"`
		StatusCode jsontext.Value `json:"status_code"`
		HTTPStatus jsontext.Value `json:"http_status"`
		Type       jsontext.Value `json:"type"`
	}
	if jsontext.Value(body).Kind() == '{' {
		if lenient.Unmarshal(body, &e) != nil {
			return 0
		}
	} else {
		e.Code = body
	}
	values := []jsontext.Value{e.StatusCode, e.HTTPStatus, e.Code, e.Status, e.Type}
	for _, v := range values {
		if status, err := strconv.Atoi(strings.Trim(string(v), `"`)); err == nil && status >= 300 && status < 600 {
			return status
		}
	}
	for _, v := range values {
		if status, ok := statusNames[strings.ToLower(strings.Trim(string(v), `"`))]; ok {
			return status
		}
	}
	return 0
}

// statusNames maps names of errors to the statuses that belong to them.
var statusNames = map[string]int{
	"rate_limit_exceeded": 429, "rate_limit_error": 429, "too_many_requests": 429, "toomanyrequests": 429, "resource_exhausted": 429,
	"overloaded_error": 529, "overloaded": 503, "unavailable": 503, "service_unavailable": 503, "server_overloaded": 503, "engine_overloaded": 503,
	"insufficient_quota": 429, "invalid_request_error": 400, "bad_request": 400, "badrequesterror": 400, "invalid_argument": 400, "badrequest": 400,
	"authentication_error": 401, "unauthorized": 401, "unauthenticated": 401, "invalid_api_key": 401,
	"permission_error": 403, "permission_denied": 403, "forbidden": 403, "not_found_error": 404, "not_found": 404, "model_not_found": 404,
	"context_length_exceeded": 400, "content_filter": 400, "internal_error": 500, "internal": 500, "server_error": 500, "api_error": 500, "timeout": 504, "deadline_exceeded": 504,
}

// statusInWords returns the HTTP status of an error text without a status, 0 if it names none.
func statusInWords(s string) int {
	for _, w := range statusWords {
		if w.form.MatchString(s) {
			return w.status
		}
	}
	return 0
}

var statusWords = []struct {
	status int
	form   *regexp.Regexp
}{
	{http.StatusTooManyRequests, regexp.MustCompile(`\btoo many requests\b|\brate.?limit`)},
	{http.StatusServiceUnavailable, regexp.MustCompile(`\boverloaded\b|\bservice (?:is )?(?:temporarily )?unavailable\b|\bmodel is (?:currently )?loading\b`)},
	{http.StatusUnauthorized, regexp.MustCompile(`\b(?:not authenticated|unauthorized|unauthenticated|authentication (?:failed|required)|not authorized|(?:invalid|incorrect|missing|no|expired|provide an?) (?:(?:authentication|bearer|access) )?(?:api.?key|token|credentials?))\b|\bcould not validate credentials\b`)},
	{http.StatusForbidden, regexp.MustCompile(`\b(?:forbidden|permission denied|access denied)\b`)},
	{http.StatusNotFound, regexp.MustCompile(`\bnot found\b|\bdoes not exist\b`)},
}
