package fault

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

// A sign that contains another sign of its list has no effect.
func TestSigns(t *testing.T) {
	for cause, signs := range map[string][]string{
		"wrong scheme": wrongScheme, "too long": tooLong, "filtered": filteredPrompt, "reset": upstreamReset,
		"no model": noModel, "no key": noKey, "no credit": noCredit, "stream": streamOnly,
	} {
		for i, sign := range signs {
			for k, other := range signs {
				if i != k && strings.Contains(sign, other) {
					t.Errorf("%s: %q contains %q", cause, sign, other)
				}
			}
		}
	}
}

// Real error messages of servers and gateways, and their classes.
func TestClassifyComplaints(t *testing.T) {
	for _, tt := range []struct {
		status     int
		body, code string
		kind       Kind
	}{
		// A prompt that is too long.

		{400, `{"error":{"message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"}}`, CodeContextLength, Refused},
		{400, `{"object":"error","message":"The decoder prompt (length 9000) is longer than the maximum model length of 4096. Make sure that max_model_len is no smaller than the number of text tokens.","type":"BadRequestError","code":400}`, CodeContextLength, Refused},
		{422, "{\"error\":\"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 512 `max_new_tokens`\",\"error_type\":\"validation\"}", CodeContextLength, Refused},
		{413, `{"error":"Input validation error: inputs must have less than 4095 tokens. Given: 5000"}`, CodeContextLength, Refused},
		{400, `[{"error":{"code":400,"message":"The input token count (1048600) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}]`, CodeContextLength, Refused},
		{400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}`, CodeContextLength, Refused},
		{400, `{"type":"error","error":{"type":"invalid_request_error","message":"input length and max_tokens exceed context limit: 190000 + 20000 > 200000, decrease input length or max_tokens and try again"}}`, CodeContextLength, Refused},
		{400, `{"message":"ValidationException: Input is too long for requested model."}`, CodeContextLength, Refused},
		{400, `{"message":"The model returned the following errors: prompt is too long"}`, CodeContextLength, Refused},
		{400, `{"error":"This model's maximum prompt length is 131072 but the request contains 140000 tokens."}`, CodeContextLength, Refused},
		{400, `{"error":{"code":"InvalidParameter","message":"<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]"}}`, CodeContextLength, Refused},
		{400, `{"error":"Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough."}`, CodeContextLength, Refused},
		{500, `{"error":{"code":500,"message":"the request exceeds the available context size. try increasing the context size or enable context shift","type":"server_error"}}`, CodeContextLength, Refused},
		{500, `{"error":"input is too large to process. increase the physical batch size"}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"Please reduce the length of the messages or completion.","code":"context_length_exceeded"}}`, CodeContextLength, Refused},
		{400, `{"message":"Prompt contains 40000 tokens, too large for model with 32768 maximum context length"}`, CodeContextLength, Refused},
		{400, `{"detail":"Input length 5000 exceeds maximum allowed 4096"}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"Requested token count exceeds the model's maximum context length of 8192 tokens."}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"The input (5000 tokens) is longer than the model's context length (4096 tokens)."}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"too many tokens: size limit exceeded by 200 tokens"}}`, CodeContextLength, Refused},
		{400, `{"message":"too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000."}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try again.","code":"context_length_exceeded"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"Total tokens of image and text exceed max message tokens","code":"1261"}}`, CodeContextLength, Refused},
		{400, `{"error":{"code":"1261","message":"Prompt 超长"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"Invalid request: Your request exceeded model token limit: 8192","type":"invalid_request_error"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"input characters limit is 20000","code":336007}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"the max input characters is 24000"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"The total number of tokens in the prompt and max_tokens (6000) must be less than or equal to 4096"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"max_tokens is too large: 5000. This model supports at most 4096 completion tokens"}}`, CodeBadRequest, Refused},
		{500, `{"error":"llama runner process has terminated: context length exceeded"}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"n_prompt_tokens (5000) exceeds n_ctx (4096)"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"prompt tokens (9000) > max_seq_len (8192)"}}`, CodeContextLength, Refused},
		{400, `{"error":"The prompt length 5000 exceeds the max_seq_len 4096"}`, CodeContextLength, Refused},
		{422, `{"detail":[{"loc":["body","messages"],"msg":"ensure this value has at most 20000 characters","type":"value_error"}]}`, CodeBadRequest, Refused},
		// The same in the words of others, and wrapped by gateways.
		{400, `{"error":{"message":"Prompt tokens (9000) exceeds context size (8192)","type":"context_exceeded","n_ctx":8192}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"Requested tokens (2138) exceed context window of 2048"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"invalid params, context window exceeds limit (2013)"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"prompt token count of 128001 exceeds the limit of 128000","code":"model_max_prompt_tokens_exceeded"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length is 65536 tokens and your request has 57879 input tokens (8192 > 65536 - 57879)."}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"You passed 8193 input tokens and requested 200 output tokens. However, the model's context length is only 8192 tokens"}}`, CodeContextLength, Refused},
		{400, `{"message":"Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input to try again."}`, CodeContextLength, Refused},
		{400, `{"errors":[{"message":"AiError: The estimated number of input and maximum output tokens (9000) exceeded this model context window limit (7968).","code":5021}],"success":false}`, CodeContextLength, Refused},
		{400, `{"errors":[{"code":"invalid_input_argument","message":"the number of input tokens 5000 cannot exceed the total tokens limit 4096 for this model"}]}`, CodeContextLength, Refused},
		{500, `{"error":"The sum of prompt length (5000.0), query length (0) should not exceed max_num_tokens (4096)"}`, CodeContextLength, Refused},
		{400, `{"message":"the input tokens length 9000 exceeds the session_len 8192"}`, CodeContextLength, Refused},
		{422, `{"detail":[{"loc":["body"],"msg":"prompt is too long","input":"a rate limit"}]}`, CodeContextLength, Refused},
		{400, `{"detail":{"error":{"message":"prompt is too long"}}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"This endpoint's maximum context length is 8192 tokens\"}}","provider_name":"x"}}}`, CodeContextLength, Refused},
		{400, `"Input is too long for requested model."`, CodeContextLength, Refused},
		{400, `{"error_code":336007,"error_msg":"the max length of current question is 5000, input characters limit"}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"输入的上下文长度超过限制"}}`, CodeContextLength, Refused},
		// A refusal that quotes the prompt in another field is none of its words.
		{422, `{"detail":[{"loc":["body"],"msg":"Field required","input":{"messages":[{"content":"prompt is too long, insufficient balance"}]}}]}`, CodeBadRequest, Refused},
		{429, `{"error":{"message":"Request too large for gpt-4o in organization o on tokens per min (TPM): Limit 10000, Requested 12000. The input or output tokens must be reduced in order to run successfully.","type":"tokens","code":"rate_limit_exceeded"}}`, CodeTooLarge, Refused},
		// Accounts.
		{403, `{"code":30001,"message":"Sorry, your account balance is insufficient","data":null}`, "", Denied},
		{429, `{"error":{"message":"Your account org-1 <ak-2> is suspended, please check your plan and billing details","type":"exceeded_current_quota_error"}}`, "", Denied},
		{403, `{"error":"Your team t has either used all available credits or reached its monthly spending limit."}`, "", Denied},
		{412, `{"error":{"message":"Account a is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices."}}`, "", Denied},
		{400, `{"error":{"message":"Budget has been exceeded! Current cost: 10.2, Max budget: 10.0","type":"budget_exceeded","code":"400"}}`, "", Denied},
		{403, `{"error":{"code":"AllocationQuota.FreeTierOnly","message":"The free tier of the model has been exhausted."}}`, "", Denied},
		{400, `{"error":{"code":"Arrearage","message":"Access denied, please make sure your account is in good standing."}}`, "", Denied},
		{403, `[{"error":{"code":403,"message":"This API method requires billing to be enabled.","status":"PERMISSION_DENIED","details":[{"reason":"BILLING_DISABLED"}]}}]`, "", Denied},
		{400, `{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}`, "", Denied},
		{429, `{"error":{"code":"1113","message":"余额不足或无可用资源包,请充值。"}}`, "", Denied},
		{402, `{"error":"You have exceeded your monthly included credits for Inference Providers."}`, "", Denied},
		{429, `{"error":{"message":"insufficient_quota / credit_balance_exhausted"}}`, "", Denied},
		// Not of accounts: waiting helps.
		{429, `{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"34s"}]}}`, CodeServerError, Overloaded},
		{429, `{"error":{"message":"Quota exceeded for tokens per minute"}}`, CodeServerError, Overloaded},
		{503, `{"error":{"message":"Insufficient capacity, try again"}}`, CodeServerError, Overloaded},
		// Other refusals.
		{400, `{"error":{"message":"'temperature' must be at most 1"}}`, CodeBadRequest, Refused},
		{400, `{"error":{"message":"messages: roles must alternate"}}`, CodeBadRequest, Refused},
		{400, `{"error":{"message":"Conversation roles must alternate user/assistant/user/assistant/..."}}`, CodeBadRequest, Refused},
		{500, `{"error":{"message":"CUDA out of memory"}}`, CodeServerError, Broken},
		// Filters.
		{400, `{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","code":"content_filter","status":400}}`, CodeContentFilter, Refused},
		{400, `{"error":{"code":"data_inspection_failed","message":"Input data may contain inappropriate content."}}`, CodeContentFilter, Refused},
		{403, `{"error":{"message":"Your request was flagged by our moderation system"}}`, CodeContentFilter, Refused},
		{403, `<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title>`, CodeContentFilter, Refused},
		{403, `{"error":{"message":"Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_CSAM"}}`, CodeContentFilter, Refused},
		{400, `{"error":{"code":"1301","message":"系统检测到输入或生成内容可能包含不安全或敏感内容"}}`, CodeContentFilter, Refused},
		{451, `{"error":{"message":"not available for legal reasons"}}`, CodeContentFilter, Refused},
		{400, `{"error":{"message":"Output blocked by content filtering policy","type":"invalid_request_error"}}`, CodeContentFilter, Refused},
		{400, `{"error":{"message":"Prompt was blocked: PROHIBITED_CONTENT"}}`, CodeContentFilter, Refused},
		{400, `{"error":{"message":"Content Exists Risk","type":"invalid_request_error"}}`, CodeContentFilter, Refused},
		{400, `{"error":{"message":"The request was rejected because it was considered high risk","type":"content_filter"}}`, CodeContentFilter, Refused},
		{403, `{"detail":"Request blocked by our web application firewall"}`, CodeContentFilter, Refused},
		{406, `<html><body>Not Acceptable! An appropriate representation could not be found. This error was generated by Mod_Security.</body></html>`, CodeContentFilter, Refused},
		// Other protocols, and logins of others.
		{400, "Client sent an HTTP request to an HTTPS server.\n", "", Denied},
		{400, "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>", "", Denied},
		{407, "<html>Proxy Authentication Required</html>", "", Denied},
		{410, `{"error":{"message":"The model has been retired"}}`, "", Denied},
		{501, "<html>Unsupported method ('POST')</html>", "", Denied},
		{511, "<html>Log in</html>", "", Denied},
		// Keys, credit and models; overload; fields.
		{401, `{"error":{"message":"Incorrect API key provided"}}`, "", Denied},
		{403, `{"error":{"message":"You do not have access to this model"}}`, "", Denied},
		{402, `{"error":{"message":"Insufficient Balance"}}`, "", Denied},
		{429, `{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","code":"insufficient_quota"}}`, "", Denied},
		{429, `{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota"}}`, "", Denied},
		{400, `{"error":{"message":"Your credit balance is too low to access the Anthropic API."}}`, "", Denied},
		{403, `{"error":{"message":"Your account is deactivated","code":"account_deactivated"}}`, "", Denied},
		{429, `{"error":{"message":"No credits remaining. Please top up."}}`, "", Denied},
		{429, `{"error":{"code":"1113","message":"余额不足或无可用资源包,请充值。"}}`, "", Denied},
		{404, `{"error":{"message":"The model x does not exist","code":"model_not_found"}}`, "", Denied},
		{400, `{"error":{"message":"Model Not Exist"}}`, "", Denied},
		{400, `{"error":{"message":"x is not a valid model ID"}}`, "", Denied},
		{400, `{"error":"model 'x' not found, try pulling it first"}`, "", Denied},
		{400, `{"error":{"message":"Invalid model name passed in model=x. Call /v1/models"}}`, "", Denied},
		{500, `{"error":{"message":"Authentication Error, No api key passed in.","type":"auth_error","param":"None","code":"500"}}`, "", Denied},
		{500, `{"error":{"message":"Authentication Error, Malformed API Key passed in. Ensure Key has Bearer prefix.","type":"auth_error","code":"401"}}`, "", Denied},
		{503, `{"error":{"message":"no healthy upstream"}}`, CodeServerError, Overloaded},
		{429, `{"error":{"message":"Rate limit reached for requests","type":"requests","code":"rate_limit_exceeded"}}`, CodeServerError, Overloaded},
		{529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, CodeServerError, Overloaded},
		{500, `{"error":{"message":"The engine is currently overloaded, please try again later","type":"engine_overloaded_error"}}`, CodeServerError, Overloaded},
		// An overload under another status.
		{400, `{"message":"Too many requests, please wait before trying again.","__type":"ThrottlingException"}`, CodeServerError, Overloaded},
		{424, `{"error":"Model too busy, unable to get response in less than 60 second(s)","error_type":"overloaded"}`, CodeServerError, Overloaded},
		{498, `{"error":{"message":"Flex tier capacity exceeded","type":"capacity_exceeded"}}`, CodeServerError, Overloaded},
		{500, `{"error":{"message":"litellm.RateLimitError: backend"}}`, CodeServerError, Overloaded},
		// The model or the place, at statuses that mean other things.
		{400, `{"error":{"message":"The provided model identifier is invalid."}}`, "", Denied},
		{400, `{"detail":"Model 'x/y-8b' is not supported. Available: z"}`, "", Denied},
		{422, `{"error":{"message":"Unable to access model x. Please visit the list of models"}}`, "", Denied},
		{400, "{\"error\":{\"message\":\"The model `x` has been decommissioned and is no longer supported.\",\"code\":\"model_decommissioned\"}}", "", Denied},
		{503, `{"error":{"message":"No available channel for model x under group default","type":"new_api_error","code":"model_not_found"}}`, "", Denied},
		{400, `{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}`, "", Denied},
		{400, `{"error":{"message":"'logprobs' is not supported with this model"}}`, CodeBadRequest, Refused},
		{400, `{"error":{"message":"For this model, n greater than 1 is not supported"}}`, CodeBadRequest, Refused},
		{400, `{"error":{"message":"max_tokens 9000 is not supported: this model supports at most 4096"}}`, CodeBadRequest, Refused},
		// A prompt that is too long or not wanted, in words of no list.
		{400, `{"message":"Expected request to have fewer than 8192 tokens"}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"Please reduce your prompt; or completion length."}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"The requested length 8300 is greater than the limit 8192"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"Trying to submit 9000 tokens, but the model only accepts 8192"}}`, CodeContextLength, Refused},
		{400, `{"error":{"message":"The prompt was rejected because it contains harmful material"}}`, CodeContentFilter, Refused},
		{422, `{"error":{"message":"Your request was rejected by the NSFW detector"}}`, CodeContentFilter, Refused},
		{400, `{"error":{"message":"The input violates the schema: n must be an integer"}}`, CodeBadRequest, Refused},
		{400, `{"detail":"Stream must be set to true"}`, CodeBadRequest, StreamOnly},
		{400, `{"detail":"stream=false is not supported"}`, CodeBadRequest, StreamOnly},
		{400, `{"error":{"message":"Non-stream requests are not supported"}}`, CodeBadRequest, StreamOnly},
		{400, `{"error":{"message":"stream_options is only allowed when stream is true"}}`, CodeBadRequest, Refused},
		{400, `{"error":{"message":"This model only supports streaming requests. Please set stream=true."}}`, CodeBadRequest, StreamOnly},
		{400, `{"error":{"message":"parameter.enable_thinking must be set to false for non-streaming calls"}}`, CodeBadRequest, StreamOnly},
		{400, `{"error":{"message":"This model only support stream mode, please enable the stream parameter to access the model."}}`, CodeBadRequest, StreamOnly},
		{422, `{"detail":"Streaming required for this model"}`, CodeBadRequest, StreamOnly},
		{400, `{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","code":"unsupported_parameter"}}`, CodeBadRequest, WrongField},
		{400, `{"error":{"message":"max_tokens is deprecated, please use max_completion_tokens"}}`, CodeBadRequest, WrongField},
	} {
		f := Classify(tt.status, http.Header{}, []byte(tt.body))
		if f.Kind != tt.kind || tt.code != "" && f.Code != tt.code {
			t.Errorf("%d %s: kind %d, code %q; want %d, %q", tt.status, tt.body, f.Kind, f.Code, tt.kind, tt.code)
		}
	}
}

func TestClassify(t *testing.T) {
	tests := []struct {
		status int
		body   string
		want   Kind
		code   string
	}{
		{429, "", Overloaded, CodeServerError},
		{503, "", Overloaded, CodeServerError},
		{408, "", Overloaded, CodeServerError},
		{529, "", Overloaded, CodeServerError},
		{429, `{"error":{"code":"insufficient_quota","message":"You exceeded your current quota, please check your plan."}}`, Denied, ""},
		{429, `[{"error":{"code":429,"message":"You exceeded your current quota, please retry in 30s","status":"RESOURCE_EXHAUSTED"}}]`, Overloaded, CodeServerError},
		{503, "upstream connect error or disconnect/reset before headers. reset reason: connection termination", Broken, CodeServerError},
		{503, "upstream connect error or disconnect/reset before headers. reset reason: overflow", Overloaded, CodeServerError},
		{503, "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure", Overloaded, CodeServerError},
		{500, "", Broken, CodeServerError},
		{502, "<html>", Broken, CodeServerError},
		{504, "", CutOffSilence, CodeTimeout},
		{524, "<html>A timeout occurred", CutOffSilence, CodeTimeout},
		{401, "", Denied, ""},
		{402, "", Denied, ""},
		{403, "", Denied, ""},
		{404, "", Denied, ""},
		{405, "", Denied, ""},
		{307, "", Denied, ""},
		{413, "", Refused, CodeTooLarge},
		{422, "", Refused, CodeBadRequest},
		{400, "what", Refused, CodeBadRequest},
		{400, `{"error":{"code":400,"type":"exceed_context_size_error","n_ctx":2048}}`, Refused, CodeContextLength},
		{400, `{"message":"This model's maximum context length is 4096 tokens."}`, Refused, CodeContextLength},
		{400, `{"message":"The input (9000 tokens) is longer than the model's context length (8192 tokens)."}`, Refused, CodeContextLength},
		{400, `{"error":{"code":"context_length_exceeded"}}`, Refused, CodeContextLength},
		{400, `{"error":{"message":"You passed 9000 input tokens and requested 2048 output tokens. However, the model's context length is only 8192 tokens"}}`, Refused, CodeContextLength},
		{500, `{"detail":"The prompt (total length 9000) is longer than the maximum model length of 8192."}`, Refused, CodeContextLength},
		{500, `{"error":{"message":"the request exceeds the available context size"}}`, Refused, CodeContextLength},
		// TGI, Gemini, Anthropic, Bedrock, xAI, DashScope, LM Studio.
		{422, "{\"error\":\"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000\",\"error_type\":\"validation\"}", Refused, CodeContextLength},
		{400, `{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}`, Refused, CodeContextLength},
		{400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}`, Refused, CodeContextLength},
		{400, `{"message":"Input is too long for requested model."}`, Refused, CodeContextLength},
		{400, `{"code":"Client specified an invalid argument","error":"This model's maximum prompt length is 131072 but the request contains 200000 tokens."}`, Refused, CodeContextLength},
		{400, `{"error":{"code":"invalid_parameter_error","message":"<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]"}}`, Refused, CodeContextLength},
		{400, `{"error":"Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens"}`, Refused, CodeContextLength},
		// vLLM, TGI, Anthropic through gateways, Bedrock, LM Studio, llama.cpp, OpenAI, Mistral, Cohere, TensorRT-LLM, Zhipu, Moonshot, Ollama.
		{400, `{"object":"error","message":"'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and your request has 200 input tokens"}`, Refused, CodeContextLength},
		{400, `{"error":{"message":"max_tokens must be at least 1, got -73."}}`, Refused, CodeContextLength},
		{422, "{\"error\":\"Input validation error: `inputs` must have less than 4095 tokens. Given: 5000\"}", Refused, CodeContextLength},
		{400, "{\"error\":{\"message\":\"litellm.BadRequestError: AnthropicException - input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000\"}}", Refused, CodeContextLength},
		{400, `{"message":"Malformed input request: expected maxLength: 100000, actual: 150000, please reformat your input and try again."}`, Refused, CodeContextLength},
		{400, `{"error":"Reached context length of 4096 tokens with this model, but this model does not currently support mid-generation context overflow."}`, Refused, CodeContextLength},
		{500, `{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}`, Refused, CodeContextLength},
		{500, `{"error":{"code":500,"message":"input is too large to process. increase the physical batch size","type":"server_error"}}`, Refused, CodeContextLength},
		{400, `{"error":{"message":"Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens."}}`, Refused, CodeContextLength},
		{400, `{"error":{"message":"Invalid 'messages[0].content': string too long. Expected a string with maximum length 10485760.","code":"string_above_max_length"}}`, Refused, CodeContextLength},
		{400, `{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"}`, Refused, CodeContextLength},
		{400, `{"message":"too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000."}`, Refused, CodeContextLength},
		{500, `{"message":"Prompt length (5000) exceeds maximum input length (4096)."}`, Refused, CodeContextLength},
		{400, `{"error":{"code":"1261","message":"Prompt exceeds max length"}}`, Refused, CodeContextLength},
		{400, `{"error":{"message":"Invalid request: Your request exceeded model token limit: 8192"}}`, Refused, CodeContextLength},
		{400, `{"error":{"message":"the input length exceeds the context length"}}`, Refused, CodeContextLength},
		{400, `{"error":{"message":"The conversation is longer than this model accepts (9000 tokens)"}}`, Refused, CodeContextLength},
		{400, `{"error":{"message":"Invalid input: temperature exceeds the maximum of 2"}}`, Refused, CodeBadRequest},
		{400, `{"error":{"message":"max_tokens is too large: 8000. This model supports at most 4096 completion tokens"}}`, Refused, CodeBadRequest},
		{429, `{"message":"Too many tokens, please wait before trying again."}`, Overloaded, CodeServerError},
		{400, `{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."}}`, WrongField, CodeBadRequest},
		{403, `{"error":{"code":"content_filter","message":"flagged"}}`, Refused, CodeContentFilter},
		{403, `{"error":{"message":"The prompt was flagged by moderation"}}`, Refused, CodeContentFilter},
		{403, "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title>", Refused, CodeContentFilter},
		{400, `{"error":{"code":"content_filter","innererror":{}}}`, Refused, CodeContentFilter},
		{400, `{"error":{"code":"content_policy_violation"}}`, Refused, CodeContentFilter},
		{400, `{"error":{"code":"data_inspection_failed"}}`, Refused, CodeContentFilter},
		{400, `{"error":{"message":"The model is unknown","code":"model_not_found"}}`, Denied, ""},
		{400, `{"error":{"message":"No connected db.","type":"no_db_connection","param":null,"code":"400"}}`, Denied, ""},
		{400, `[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]`, Denied, ""},
		{400, `{"error":"model not found"}`, Denied, ""},
		{400, `{"error":{"message":"This model only support stream mode, please enable the stream parameter"}}`, StreamOnly, CodeBadRequest},
		// The request, quoted back, is no statement of an error.
		{422, `{"detail":[{"msg":"field required","input":"why is my model not found? content_filter, prompt is too long"}]}`, Refused, CodeBadRequest},
		{400, `{"error":{"message":"bad","param":"unknown model"}}`, Refused, CodeBadRequest},
	}
	for _, tt := range tests {
		if f := Classify(tt.status, nil, []byte(tt.body)); f.Kind != tt.want || f.Code != tt.code {
			t.Errorf("%d %s: kind %d code %q, want %d %q", tt.status, tt.body, f.Kind, f.Code, tt.want, tt.code)
		}
	}
	if f := Classify(308, http.Header{"Location": {"https://host/v1/chat/completions"}}, nil); !strings.Contains(f.Message, "https://host/v1/chat/completions") {
		t.Errorf("a redirect reads %q", f.Message)
	}
}

// No byte of a server steers the terminal.
func TestExcerptIsPlain(t *testing.T) {
	got := Excerpt([]byte("a\x1b[31m\u009b0m\u202eb\u2066\r\nc\x7f\xff"))
	if got != "a [31m 0m b   c \uFFFD" {
		t.Errorf("excerpt is %q", got)
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(400, []byte(`{"error":{"message":"prompt is too long"}}`))
	f.Add(403, []byte(`<html>`))
	f.Add(429, []byte(`[{"error":{"status":"RESOURCE_EXHAUSTED"}}]`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		flt := Classify(status, nil, body)
		if !utf8.ValidString(flt.Message) || strings.ContainsAny(flt.Message, "\n\r\x1b") || flt.Code == "" && flt.Kind != Denied {
			t.Errorf("fault %+v", flt)
		}
	})
}
