package openai

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Kind classifies an answer that contains no generation.
type Kind int

const (
	// Broken is a failure of the server, or an answer that makes no sense.
	Broken Kind = iota
	// NoChoice is a well-formed answer without any choice: the server lives.
	NoChoice
	// Overloaded means that the server has no room now.
	Overloaded
	// Unreachable means that no connection came about.
	Unreachable
	// TimedOut means that the answer did not come in time.
	TimedOut
	// Refused means that this request can never succeed.
	Refused
	// Denied means that nothing that is asked there can succeed: a wrong key, path or model, or an
	// account without credit.
	Denied
	// StreamOnly means that the server answers only with stream=true.
	StreamOnly
	// CutOffSilence means that a gateway ended a request that was silent for too long.
	CutOffSilence
	// WrongField means that the server wants max_completion_tokens in place of max_tokens.
	WrongField
	// OwnMachine means that this machine is at fault, for example without a free port. Classify never
	// returns it.
	OwnMachine
)

// A Fault is an answer that contains no generation, or the reason why there is none.
type Fault struct {
	Kind Kind
	// Code is the code of the failure record if nothing better comes.
	Code string
	// Message quotes the server, on one line.
	Message string
	// Status is the HTTP status, or the one that a 200 contains; 0 without an answer.
	Status int
	// RetryAfter is how long the server asks to wait. Zero means that it does not ask.
	RetryAfter time.Duration
	// Err is the error behind a fault of this machine; nil for others.
	Err error
}

// The codes of failed calls.
const (
	CodeContextLength = "context_length"
	CodeContentFilter = "content_filter"
	CodeBadRequest    = "bad_request"
	CodeTooLarge      = "too_large"
	CodeServerError   = "server_error"
	CodeTimeout       = "timeout"
	CodeConnection    = "connection"
	CodeMalformed     = "malformed"
)

// Codes returns all codes of failed calls, sorted.
func Codes() []string {
	return []string{
		CodeBadRequest, CodeConnection, CodeContentFilter, CodeContextLength, CodeMalformed, CodeServerError, CodeTimeout, CodeTooLarge,
	}
}

// Classify returns the fault of an answer with a status other than 200.
func Classify(status int, header http.Header, body []byte) *Fault {
	f := &Fault{Status: status, Message: strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status))) + ": " + excerpt(body)}
	if to := header.Get("Location"); to != "" && status >= 300 && status < 400 {
		f.Message += " (Location: " + excerpt([]byte(to)) + ")"
	}
	said := complaintIn(body)
	if (status == http.StatusBadRequest || status == http.StatusInternalServerError) && said.has(noKey) {
		f.Status = http.StatusUnauthorized
	}
	f.Kind, f.Code = kindOf(f.Status, said)
	return f
}

// kindOf maps a status and the server's complaint to a kind and a failure code. The first rule
// that applies counts.
func kindOf(status int, said complaint) (Kind, string) {
	switch {
	case said.has(noCredit):
		return Denied, ""
	case status == http.StatusServiceUnavailable && said.has(upstreamReset):
		return Broken, CodeServerError // the server behind the gateway may have died of this request
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status == http.StatusRequestTimeout, status == 529:
		return Overloaded, CodeServerError // the code of a request that is turned away for ever
	case said.has(streamOnly):
		return StreamOnly, CodeBadRequest
	case status >= 400 && status < 500 && wantsCompletionTokens.MatchString(said.text):
		return WrongField, CodeBadRequest
	case status == http.StatusForbidden && (said.has(filteredPrompt) || said.page):
		return Refused, CodeContentFilter
	case status == http.StatusUnavailableForLegalReasons, status == http.StatusNotAcceptable && said.page:
		return Refused, CodeContentFilter
	case status < 400, status >= 401 && status <= 405:
		return Denied, ""
	case status == http.StatusRequestEntityTooLarge:
		return Refused, CodeTooLarge
	case said.has(tooLong), tooLongForm.MatchString(said.text) && sizeWord.MatchString(said.text):
		return Refused, CodeContextLength // some say so with a 500
	case status == http.StatusGatewayTimeout, status == 524:
		return CutOffSilence, CodeTimeout
	case status >= 500:
		return Broken, CodeServerError
	case said.has(noModel):
		return Denied, ""
	case said.has(filteredPrompt):
		return Refused, CodeContentFilter
	}
	return Refused, CodeBadRequest
}

// Signs of a complaint's meaning, in lower case.
var (
	tooLong = []string{
		"exceed_context_size_error", "context_length_exceeded", "maximum context length", "context window",
		"longer than the model's context length", "max_new_tokens` must be <=", "prompt is too long", "input is too long",
		"requested tokens exceed", "exceeds the available context size", "context length is only", "maximum model length",
		"context length exceeded", "exceeds the maximum number of tokens", "input token count", "context overflow",
		"range of input length", "exceeds context", "exceed the context", "exceeds the context", "maximum prompt length",
		"too many input tokens", "too many total tokens", "reduce the length of the", "context size has been exceeded", "longer than the maximum",
		"input length and", "exceeds maximum context", "larger than the model's context", "exceeds model context", "prompt too long",
		"greater than the context length", "trying to keep the first", "failed to find a slot", "input is longer than", "prompt contains too many tokens",
		"must have less than", "reached context length", "too large to process", "expected maxlength", "too many tokens:", "number of tokens in the prompt",
		"exceeds the maximum allowed length", "maximum input length", "exceeds max length", "exceeded model token limit", "tokens too long",
		"string_above_max_length", "max_tokens must be at least 1, got -", "context shift is disabled", "token limit exceeded", "exceed the token limit",
		"exceeds the token limit", "exceed max message tokens", "input characters", "exceeds n_ctx", "max_seq_len", "超长", "超过最大长度", "超出最大长度", "超过模型", "输入长度超",
	}
	filteredPrompt = []string{
		"content_filter", "content filter", "content_policy", "content policy", "moderation", "flagged", "safety", "responsibleaipolicyviolation",
		"data_inspection_failed", "inappropriate content", "blocked by", "prohibited_content", "guardrail", "sensitive words", "risk control", "content exists risk", "mod_security", "usage guidelines", "敏感", "不安全", "违规", "不合规",
	}
	// upstreamReset is of Envoy, and of gateways built on it, whose server closed the connection.
	upstreamReset = []string{"reset reason: connection termination", "reset reason: remote reset"}
	// noModel is for servers that have no 404 for it.
	noModel = []string{"model_not_found", "model not found", "invalid model", "unknown model", "no such model", "model does not exist", "model not exist", "not a valid model", "try pulling it first"}
	// noKey is for servers that answer 400 or 500 to a wrong key, or to none: Gemini, and LiteLLM's proxy.
	noKey = []string{"api_key_invalid", "api key not valid", "invalid api key", "invalid_api_key", "incorrect api key", "missing api key", "no api key passed", "malformed api key", "authentication error", "auth_error", "no_db_connection"}
	// noCredit does not end by waiting, though some send it with a 429.
	noCredit   = []string{"insufficient_quota", "insufficient balance", "insufficient_balance", "credit balance is too low", "billing_hard_limit", "payment required", "arrearage", "billing_not_active", "out of credit", "no credits", "insufficient credit", "not enough credit", "insufficient funds", "insufficient_funds", "余额不足", "欠费"}
	streamOnly = []string{"only support stream", "only supports stream", "stream must be true", "stream=true is required", "only streaming", "streaming is required", "must be streamed", "non-streaming", "only support streaming", "set stream to true", "streaming required", "stream is required"}
)

var (
	// tooLongForm and sizeWord together match what servers say of a prompt that is too long, in words
	// that are not in the list.
	tooLongForm = regexp.MustCompile(`\b(?:prompt|input|inputs|context|conversation|messages?|sequence)\b.{0,80}\b(?:too (?:long|large)|exceed\w*|over(?:flow\w*|runs?)?|(?:longer|larger|greater|more) than|beyond)\b`)
	sizeWord    = regexp.MustCompile(`\b(?:tokens?|length|context|too long)\b`)
	// wantsCompletionTokens matches the refusal of max_tokens in favour of max_completion_tokens.
	wantsCompletionTokens = regexp.MustCompile(`max_tokens\b.{0,120}\b(?:use|instead|replaced by|deprecated)\b.{0,60}max_completion_tokens|\buse\W{0,3}max_completion_tokens`)
)

// IsPage reports whether a fault's message quotes a web page.
func IsPage(message string) bool {
	message = strings.ToLower(message)
	return strings.Contains(message, "<!doctype html") || strings.Contains(message, "<html")
}

// refusedField matches the refusal of a sampling field that a request may leave out.
var refusedField = regexp.MustCompile(`(?i)\b(temperature|top_p|seed)\b`)

// RefusedField returns the sampling field that a server's refusal names, empty for none.
func RefusedField(message string) string { return strings.ToLower(refusedField.FindString(message)) }

// complaint is what a server says is wrong.
type complaint struct {
	text string // in lower case
	page bool   // HTML, as firewalls send it
}

func (c complaint) has(signs []string) bool {
	for _, sign := range signs {
		if strings.Contains(c.text, sign) {
			return true
		}
	}
	return false
}

// complaintIn reads the fields of an error body that state a reason. Other fields are ignored, as
// some servers quote the request in them, and a prompt may contain any sign. A body that is no JSON
// counts as a whole.
func complaintIn(body []byte) complaint {
	const most = 4096
	var outer struct {
		apiError
		Error jsontext.Value `json:"error"`
	}
	if unmarshal(body, &outer) != nil {
		var list []jsontext.Value // Gemini's compatible endpoint wraps its error in a list
		if unmarshal(body, &list) == nil && len(list) > 0 && list[0].Kind() == '{' {
			return complaintIn(list[0])
		}
		s := strings.ToLower(string(body[:min(len(body), most)]))
		trimmed := strings.TrimSpace(s)
		return complaint{text: s, page: strings.HasPrefix(trimmed, "<!doctype html") || strings.HasPrefix(trimmed, "<html")}
	}
	inner := outer.apiError
	if outer.Error.Kind() == '{' && unmarshal(outer.Error, &inner) != nil {
		return complaint{text: strings.ToLower(string(outer.Error))}
	}
	fields := []string{string(inner.Message), string(inner.Code), string(inner.Type), string(inner.Detail), string(inner.Status), string(inner.Reason)}
	if outer.Error.Kind() == '"' {
		var s text
		_ = s.UnmarshalJSON(outer.Error) // it is a string
		fields = append(fields, string(s))
	}
	return complaint{text: strings.ToLower(strings.Join(fields, " "))}
}

// apiError has the fields in which servers state what is wrong.
type apiError struct {
	Message plain `json:"message"`
	Code    plain `json:"code"`
	Type    plain `json:"type"`
	Detail  plain `json:"detail"`
	Status  plain `json:"status"`
	Reason  plain `json:"reason"`
}

// plain is a string, and empty where another value is.
type plain string

// UnmarshalJSON implements json.Unmarshaler.
func (p *plain) UnmarshalJSON(b []byte) error {
	*p = ""
	if jsontext.Value(b).Kind() != '"' {
		return nil
	}
	return json.Unmarshal(b, (*string)(p), lenient)
}

// errorIn returns the fault in a 200 that contains an error instead of choices. An empty string or
// object is no error, nor is false.
func errorIn(r *response, body []byte) *Fault {
	said := body
	switch r.Error.Kind() {
	case '"', '{', '[', 't':
		if empty(r.Error) {
			if len(r.Choices) > 0 {
				return nil
			}
			break
		}
		said = r.Error
	default:
		if len(r.Choices) > 0 {
			return nil
		}
	}
	status := statusIn(said)
	if len(said) == len(body) && status == 0 {
		return nil // no choices: what Decode makes of it
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	f := &Fault{Status: status, Message: "200 with an error: " + excerpt(said)}
	f.Kind, f.Code = kindOf(status, complaintIn(said))
	return f
}

func empty(v jsontext.Value) bool {
	s := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, string(v))
	return s == `""` || s == "{}" || s == "[]"
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
		if unmarshal(body, &e) != nil {
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

// excerpt returns the start of a server's words on one line. Characters that steer a terminal
// become spaces.
func excerpt(b []byte) string {
	const most = 300
	s := strings.ToValidUTF8(string(b[:min(len(b), most)]), "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	if len(b) > most {
		s += "…"
	}
	if strings.TrimSpace(s) == "" {
		return "(an empty body)"
	}
	return s
}
