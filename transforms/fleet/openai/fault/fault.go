// Package fault classifies the faults of inference servers: answers that contain no generation, and the reasons why
// there is no answer.
//
// [Classify] reads an answer whose status is not 200. The function [In] reads the error inside an answer with
// status 200. Both return a [Fault] with a [Kind] and the code of the failure record. They decide by the status
// and by the server's words. Package policy decides the reaction to each kind.
//
// The package does no I/O and has no state. It reads the text of an error within bounds. It reads only fields that
// state a reason, because other fields may quote the prompt.
package fault

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// A Kind classifies an answer that contains no generation.
type Kind int

const (
	// Broken is a failure of the server, or an unreadable answer.
	Broken Kind = iota
	// NoChoice is a well-formed answer without any choice: the server works.
	NoChoice
	// Overloaded means that the server has no room now.
	Overloaded
	// Unreachable means that no connection could be made.
	Unreachable
	// TimedOut means that the answer did not arrive in time.
	TimedOut
	// Refused means that this request can never succeed.
	Refused
	// Denied means that every request to the server would fail: the key, path or model is wrong, or the
	// account has no credit.
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
	// Code is the code of the failure record if the call has no better answer.
	Code string
	// Message quotes the server, on one line.
	Message string
	// Status is the HTTP status, or the status in the body of a 200. It is 0 without an answer.
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
	f := &Fault{Status: status, Message: strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status))) + ": " + Excerpt(body)}
	if to := header.Get("Location"); to != "" && status >= 300 && status < 400 {
		f.Message += " (Location: " + Excerpt([]byte(to)) + ")"
	}
	e := apiErrorIn(body)
	if (status == http.StatusBadRequest || status == http.StatusInternalServerError) && e.has(noKey) {
		f.Status = http.StatusUnauthorized
	}
	f.Kind, f.Code = kindOf(f.Status, e)
	return f
}

// maxBusy bounds the text of a 400 of a server without room. A longer text may quote a prompt about rate limits.
const maxBusy = 300

// kindOf maps a status and an error text to a kind and a failure code. The first rule
// that applies counts.
func kindOf(status int, e apiError) (Kind, string) {
	switch {
	case e.has(noCredit), !e.page && status < 500 && creditForm.MatchString(e.text):
		return Denied, ""
	case status == http.StatusTooManyRequests && tooLargeForRate.MatchString(e.text):
		return Refused, CodeTooLarge
	case status >= 400 && e.has(noModelAnywhere):
		return Denied, ""
	case status == http.StatusServiceUnavailable && e.has(upstreamReset):
		return Broken, CodeServerError // the server behind the gateway may have died of this request
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status == http.StatusRequestTimeout, status == 529:
		return Overloaded, CodeServerError // the code if the server rejects the request for good
	case slices.Contains(busyStatuses, status) && busyForm.MatchString(e.text) && (status != http.StatusBadRequest || len(e.text) <= maxBusy):
		return Overloaded, CodeServerError
	case e.has(streamOnly), streamForm.MatchString(e.text):
		return StreamOnly, CodeBadRequest
	case status >= 400 && status < 500 && wantsCompletionTokens.MatchString(e.text):
		return WrongField, CodeBadRequest
	case status == http.StatusForbidden && (e.has(filteredPrompt) || e.page):
		return Refused, CodeContentFilter
	case status == http.StatusUnavailableForLegalReasons, status == http.StatusNotAcceptable && e.page:
		return Refused, CodeContentFilter
	case status < 400, status >= 401 && status <= 405, slices.Contains(deniedStatuses, status), e.has(wrongScheme):
		return Denied, ""
	case e.isTooLong(status):
		return Refused, CodeContextLength // some servers send a 500 or a 413
	case status == http.StatusRequestEntityTooLarge:
		return Refused, CodeTooLarge
	case status == http.StatusGatewayTimeout, status == 524:
		return CutOffSilence, CodeTimeout
	case status >= 500:
		return Broken, CodeServerError
	case e.has(noModel), noModelForm.MatchString(e.text), noRegionForm.MatchString(e.text):
		return Denied, ""
	case e.has(filteredPrompt), filteredForm.MatchString(e.text):
		return Refused, CodeContentFilter
	}
	return Refused, CodeBadRequest
}

// isTooLong reports whether an error is about a prompt that is too long.
func (e apiError) isTooLong(status int) bool {
	if e.has(tooLong) || tooLongForm.MatchString(e.text) && sizeWord.MatchString(e.text) {
		return true
	}
	return status < 500 && sizesForm.MatchString(e.text) && !RefusesBound(e.text)
}

// busyStatuses are overloads if the text says so: of gateways that pass on the errors of their backends.
var busyStatuses = []int{http.StatusBadRequest, http.StatusForbidden, http.StatusConflict, http.StatusFailedDependency, http.StatusTooEarly, 498, http.StatusInternalServerError, http.StatusBadGateway}

// deniedStatuses deny all requests besides 401 to 405: a proxy or a network that wants a login, a model that is
// gone, another protocol, a server without POST.
var deniedStatuses = []int{
	http.StatusProxyAuthRequired, http.StatusGone, http.StatusMisdirectedRequest, http.StatusUpgradeRequired, http.StatusNotImplemented,
	http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired,
}

// Signs of an error's cause, in lower case. An error text that contains one of them has that cause.
var (
	// wrongScheme is for servers of HTTPS that get an HTTP request.
	wrongScheme = []string{"client sent an http request to an https server", "plain http request was sent to https port", "speaking plain http to an ssl-enabled server", "this combination of host and port requires tls"}
	tooLong     = []string{
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
		"exceeds the token limit", "exceed max message tokens", "input characters", "context_exceeded", "max_prompt_tokens_exceeded",
		"exceeds the limit of", "number of input tokens", "session_len", "max_num_tokens", "tokens_limit_reached", "input tokens exceed",
		"total tokens limit", "too many prompt tokens", "context limit", "max_kv_size", "exceeds max_tokens_per",
		"longer than the context", "context_window_exceeded", "contextwindowexceeded", "context is full", "context full", "过长", "超过上限", "超出上限", "上下文长度", "トークン数が", "exceeds n_ctx", "max_seq_len", "超长", "超过最大长度", "超出最大长度", "超过模型", "输入长度超",
	}
	filteredPrompt = []string{
		"content_filter", "content filter", "content_policy", "content policy", "moderation", "flagged", "safety", "responsibleaipolicyviolation",
		"data_inspection_failed", "inappropriate content", "blocked by", "prohibited_content", "guardrail", "sensitive words", "risk control", "content exists risk", "mod_security", "usage guidelines", "敏感", "不安全", "违规", "不合规",
	}
	// upstreamReset is the message of Envoy, and of gateways built on it, after the backend closed the
	// connection.
	upstreamReset = []string{"reset reason: connection termination", "reset reason: remote reset"}
	// noModel is for servers that have no 404 for it.
	noModel = []string{"model not found", "invalid model", "unknown model", "no such model", "model does not exist", "model not exist", "not a valid model", "try pulling it first"}
	// noModelAnywhere is for gateways that answer any status to a model that they don't know.
	noModelAnywhere = []string{"model_not_found", "no available channel for model"}
	// noKey is for servers that answer 400 or 500 to a wrong key, or to none: Gemini, and LiteLLM's proxy.
	noKey = []string{"api_key_invalid", "api key not valid", "invalid api key", "invalid_api_key", "incorrect api key", "missing api key", "no api key passed", "malformed api key", "authentication error", "auth_error", "no_db_connection"}
	// noCredit is for refusals that waiting does not end, although some servers send them with a 429.
	noCredit = []string{
		"exceeded_current_quota_error", "credit_balance", "billing_disabled", "budget_exceeded", "budget has been exceeded", "freetieronly", "free tier only", "exceeded your monthly included credits",
		"good standing", "accountoverdue", "overdue balance", "no_credits", "quota_not_enough", "user quota is not enough", "token quota is not enough", "额度不足", "余额", "充值", "insufficient_quota", "insufficient balance", "insufficient_balance", "credit balance is too low", "billing_hard_limit", "payment required", "arrearage", "billing_not_active", "out of credit", "no credits", "insufficient credit", "not enough credit", "insufficient funds", "insufficient_funds", "欠费",
	}
	streamOnly = []string{"only support stream", "only supports stream", "stream must be true", "stream=true is required", "only streaming", "streaming is required", "must be streamed", "non-streaming", "set stream to true", "streaming required", "stream is required"}
)

var (
	// tooLongForm and sizeWord together match the refusal of a prompt that is too long, in words
	// that are not in the list.
	tooLongForm = regexp.MustCompile(`\b(?:prompt|input|inputs|context|conversation|messages?|sequence)\b.{0,80}\b(?:too (?:long|large)|exceed\w*|over(?:flow\w*|runs?)?|(?:longer|larger|greater|more) than|beyond)\b`)
	// sizesForm matches refusals that compare sizes: 9000 tokens where the model has 8192.
	sizesForm = regexp.MustCompile(`\b(?:fewer|less) than \d+ (?:input )?tokens|\breduce (?:your|the) (?:prompt|input|messages|context)\b|\btokens?\b.{0,60}\b(?:but|only)\b.{0,30}\b(?:accepts|supports|allows|has)\b|` +
		`\brequested length\b.{0,40}\b(?:greater|larger|longer)\b|\bconversation (?:exceeds|is too)\b|\b(?:prompt|input)\b.{0,40}\btokens?\b.{0,60}>|\bn_ctx\b`)
	sizeWord = regexp.MustCompile(`\b(?:tokens?|length|context|too long)\b`)
	// creditForm matches the refusal of an account without credit.
	creditForm = regexp.MustCompile(`\b(?:balance|credits?|funds)\b.{0,60}\b(?:insufficient|exhausted|depleted|too low|used up|negative|expired|not enough|not sufficient|is empty|is zero)\b` +
		`|\b(?:exhausted|depleted|run out of|ran out of|out of|used all|not enough|no remaining|zero)\b.{0,30}\b(?:balance|credits?|funds)\b` +
		`|\b(?:spend(?:ing)?|credit|billing|budget|monthly) (?:hard )?limit\b.{0,40}\b(?:reached|exceeded|hit)\b|\b(?:reached|exceeded|hit|reaching)\b.{0,40}\b(?:spend(?:ing)?|credit|billing|budget)[ _]limit\b` +
		`|\baccount\b.{0,30}\b(?:suspended|deactivated|arrears|overdue|delinquent)\b|\bbilling\b.{0,30}\b(?:disabled|not enabled|inactive|not active|not set up)\b|\bpayment (?:is )?(?:required|overdue|failed)\b`)
	// busyForm matches the error of a server without room, or of an account at its rate.
	busyForm = regexp.MustCompile(`\bthrottl\w+|\btoo many (?:concurrent )?requests\b|\brate[ _-]?limit|\boverloaded\b|overloaded_error|\btoo busy\b|\b(?:is|currently) (?:at|over) capacity\b|\bcapacity[ _](?:temporarily )?exceeded\b|resource_exhausted`)
	// streamForm matches the refusal of a request without stream=true.
	streamForm = regexp.MustCompile(`\bstream\b\W{0,3}(?:parameter |field |option )?(?:must|should|has to|needs to) be (?:set to )?\W?true|\bstream\W{0,4}false\W{0,2} (?:is )?(?:not|un)|\bnon[- ]?stream(?:ed|ing)?\b.{0,30}\b(?:not (?:supported|allowed|available|enabled)|unsupported|disabled)\b`)
	// noModelForm matches the refusal of the model's name.
	noModelForm = regexp.MustCompile(`\bmodel(?: id| identifier| name)?(?: \W?[\w./:@-]+\W?)? (?:is|was|has been|are) (?:not supported|unsupported|not available|unavailable|not found|not valid|invalid|retired|decommissioned|deprecated|disabled|removed|no longer \w+)\b|\b(?:unsupported|unavailable) model\b|\bunable to access model\b|\bmodel_(?:decommissioned|deprecated|not_supported|not_available)\b`)
	// noRegionForm matches the refusal of the place that the request comes from.
	noRegionForm = regexp.MustCompile(`\b(?:location|country|region|territory)\b.{0,40}\b(?:is )?not (?:supported|allowed|available)\b|\bunsupported (?:country|region|location)\b|unsupported_country_region`)
	// filteredForm matches the refusal of a prompt for its content.
	filteredForm = regexp.MustCompile(`\b(?:prompt|input|request|content|messages?)\b.{0,60}\b(?:harmful|unsafe|nsfw|toxic|disallowed content|prohibited content|violat\w+ (?:of )?(?:our|the|this|your)?\s?(?:\w+ )?polic\w+)\b`)
	// tooLargeForRate matches the refusal of a request that is larger than a minute's whole allowance.
	tooLargeForRate = regexp.MustCompile(`request (?:is )?too large for|input or output tokens must be reduced`)
	// wantsCompletionTokens matches the refusal of max_tokens in favour of max_completion_tokens.
	wantsCompletionTokens = regexp.MustCompile(`max_tokens\b.{0,120}\b(?:use|instead|replaced by|deprecated)\b.{0,60}max_completion_tokens|\buse\W{0,3}max_completion_tokens`)
)

// EndedSilence reports whether a gateway may have ended a request because it was silent for too long.
// Some gateways use another status than 504 and 524.
func (f *Fault) EndedSilence() bool {
	switch f.Status {
	case http.StatusRequestTimeout, http.StatusGatewayTimeout, 524:
		return true
	case http.StatusBadGateway, http.StatusServiceUnavailable, 499, 520, 522:
		return timedOut.MatchString(f.Message)
	}
	return false
}

var (
	timedOut = regexp.MustCompile(`(?i)time[sd]?[ -]?out|\bH12\b`)
	// bound matches refusals of a bound on tokens that is too low for another field of the request.
	bound = regexp.MustCompile(`(?i)\bm(?:in|ax)_(?:completion_|new_|output_)?tokens\b|\bbudget(?:_tokens)?\b|thinking_?budget`)
)

// RefusesBound reports whether a refusal is about the number of tokens.
func RefusesBound(message string) bool { return bound.MatchString(message) }

// WantsHTTPS reports whether a fault's message quotes a server of HTTPS that was sent HTTP.
func WantsHTTPS(message string) bool {
	return apiError{text: strings.ToLower(message)}.has(wrongScheme)
}

// WantsCredit reports whether a fault's message quotes a refusal for want of credit.
func WantsCredit(message string) bool {
	e := apiError{text: strings.ToLower(message)}
	return e.has(noCredit) || creditForm.MatchString(e.text)
}

// RefusesModel reports whether a fault's message quotes a refusal of the model.
func RefusesModel(message string) bool {
	e := apiError{text: strings.ToLower(message)}
	return e.has(noModel) || e.has(noModelAnywhere) || noModelForm.MatchString(e.text)
}

// RefusesRegion reports whether a fault's message quotes a refusal of the place of the client.
func RefusesRegion(message string) bool { return noRegionForm.MatchString(strings.ToLower(message)) }

// IsPage reports whether a fault's message quotes a web page.
func IsPage(message string) bool {
	message = strings.ToLower(message)
	return strings.Contains(message, "<!doctype html") || strings.Contains(message, "<html")
}

// refusedField matches the refusal of a sampling field that a request may leave out.
var refusedField = regexp.MustCompile(`(?i)\b(temperature|top_p|seed)\b`)

// RefusedField returns the sampling field that a server's refusal names, empty for none.
func RefusedField(message string) string { return strings.ToLower(refusedField.FindString(message)) }

// Excerpt returns the start of a server's words on one line. Characters that steer a terminal
// become spaces.
func Excerpt(b []byte) string {
	const maxLength = 300
	s := strings.ToValidUTF8(string(b[:min(len(b), maxLength)]), "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	if len(b) > maxLength {
		s += "…"
	}
	if strings.TrimSpace(s) == "" {
		return "(an empty body)"
	}
	return s
}
