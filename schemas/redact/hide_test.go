package redact

import (
	"strings"
	"testing"
)

func TestHide(t *testing.T) {
	for _, secret := range []string{
		"sk-abcdef123456", "sk-proj-ab_cd-ef", "sk-ant-api03-xyz", "sk_live_abcdef", "hf_abcdefgh12", "gsk_abcdefgh12", "xai-abcdefgh12", "nvapi-abc_def-12",
		"AIzaSyA1234567890abcdefghijklmn", "ghp_abcdefghijklmnop", "glpat-abcdef-12", "AKIAABCDEFGHIJKLMNOP",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc_def-g", "Bearer abc.def-123", "basic dXNlcjpwYXNz",
	} {
		for _, around := range [][2]string{{"", ""}, {"a ", " b"}, {`"`, `"`}, {"x=", ";"}, {"[", "]"}} {
			text := around[0] + secret + around[1]
			got := Hide(text)
			if last := secret[strings.LastIndexByte(secret, ' ')+1:]; strings.Contains(got, last) || !strings.Contains(got, Hidden) || !Value(text) {
				t.Errorf("%q becomes %q", text, got)
			}
			if !strings.HasPrefix(got, around[0]) {
				t.Errorf("%q becomes %q: the rest is gone", text, got)
			}
		}
	}
	for text, want := range map[string]string{
		"worker.api_key=swordfish":                        "worker.api_key=" + Hidden,
		"api_key: swordfish # mine":                       "api_key: " + Hidden + " # mine",
		`{"password": "a b c", "n": 1}`:                   `{"password": ` + Hidden + `, "n": 1}`,
		"https://user:pass@host/v1":                       "https://" + Hidden + "@host/v1",
		"https://user:p@ss@host/v1":                       "https://" + Hidden + "@host/v1",
		"s3://AK:wJalr/K7MD/bPx@bucket/out and":           "s3://" + Hidden + "@bucket/out and",
		"https://host/v1?api-key=swordfish&api-version=1": "https://host/v1?api-key=" + Hidden + "&api-version=1",
		"X-Auth-Token: swordfish":                         "X-Auth-Token: " + Hidden,
		"prompts: api_key=swordfish: there is no file":    "prompts: api_key=" + Hidden + " there is no file",
		`--retry-failed: "api_key=swordfish" is no code`:  `--retry-failed: "api_key=` + Hidden + `" is no code`,
		"prompts: api_key: swordfish":                     "prompts: api_key: " + Hidden,
		`a: b=c="token: swordfish"`:                       `a: b=c="token: ` + Hidden + `"`,
	} {
		if got := Hide(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{
		"meta-llama/Meta-Llama-3.1-8B-Instruct", "worker.api_key_env=OPENAI_API_KEY", "method.rho is 0.7; allowed is 0 to below 0.5",
		"s3://bucket/task-force/out", "unknown key worker.url; did you mean worker.urls?", "prompt_cache_key: abc", "http://127.0.0.1:8000/v1",
		"5a8e1b52-1b6c-4b52-9d5c-7f6a3e0f7f10", "stop_token: </s>", "a risk-averse_decision_maker", "mail a@b.example",
		"http://host:8000/v1/models/a@b", "http://[::1]:8000/v1/a@b", "s3://bucket/a@b/c", "see s3://bucket/a and s3://b/c@d",
	} {
		if got := Hide(text); got != text || Value(text) {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

// Names may be values of other names to any depth.
func TestHideDeepNames(t *testing.T) {
	outer := strings.Repeat("a=", 1<<17)
	if got := Hide(outer + "api_key=swordfish"); got != outer+"api_key="+Hidden {
		t.Errorf("it ends with %q", got[max(0, len(got)-80):])
	}
}

func TestName(t *testing.T) {
	for _, name := range []string{
		"api_key", "apiKey", "API-Key", "x-api-key", "token", "access_token", "X-Auth-Token", "password", "client_secret", "Authorization",
		"openai_key", "Ocp-Apim-Subscription-Key", "worker.api_key", "key", "hf_token", "aws_secret_access_key", "credentials",
		"Cookie", "Set-Cookie", "X-Token", "sig", "X-Amz-Signature", "pwd",
	} {
		if !Name(name) {
			t.Errorf("%s names no secret", name)
		}
	}
	for _, name := range []string{
		"api_key_env", "api_key_file", "max_tokens", "min_tokens", "top_k", "stop_token_ids", "prompt_cache_key", "skip_special_tokens", "eos_token",
		"chat_template_kwargs", "include_stop_str_in_output", "logprobs", "return_tokens_as_token_ids", "safety_identifier", "thinking_token_budget", "keep_alive",
		"bypass", "passes", "signal", "unk_token", "password_env",
	} {
		if Name(name) {
			t.Errorf("%s names a secret", name)
		}
	}
}
