package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/schemas/redact"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/outcomes"
	"coeval/transforms/fleet/policy"
	"coeval/transforms/stage"
)

// A failure record has a code, also for a fault without one.
func TestFailuresHaveCodes(t *testing.T) {
	t.Parallel()
	for i, g := range failed(&fault.Fault{Message: "no code"}, 2) {
		if g.Code == "" {
			t.Errorf("failure %d would pass for a text", i)
		}
	}
}

// chat answers chat requests with a handler, and has no other page.
func chat(t *testing.T, serve http.HandlerFunc) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, openai.CompletionsPath) {
			http.NotFound(w, r)
			return
		}
		serve(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1"
}

// When the first calls of a role are all refused for one reason, the run stops with the server's words.
func TestAllRefusedStops(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	url := chat(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, `{"error":{"message":"top_k: extra fields not permitted"}}`, http.StatusBadRequest)
	})
	f := open(t, Options{MaxInFlight: 4})
	_, err := try(t.Context(), f, callsOf(actorAt(url), 500, 1))
	if err == nil || !strings.Contains(err.Error(), "extra fields not permitted") || !strings.Contains(err.Error(), "--retry-failed=bad_request") || !strings.Contains(err.Error(), "actor") {
		t.Errorf("%v: does not quote the server and say what to do", err)
	}
	if n := asked.Load(); n < outcomes.MaxFirst || n > outcomes.MaxFirst+4 {
		t.Errorf("%d calls were made, want %d and those in flight", n, outcomes.MaxFirst)
	}
}

// servedBy is a fleet whose requests a handler answers, without a network: for the virtual time of a bubble.
func servedBy(o Options, serve http.HandlerFunc) *Fleet {
	f := New(o, &counters.Counters{})
	f.clients[""] = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		if r.Method == http.MethodPost {
			serve(w, r)
		} else {
			http.NotFound(w, r)
		}
		return w.Result(), nil
	})}
	return f
}

// A server that works for the test request, and fails all calls of a role in spite of repetitions, stops the run after
// two minutes, or after the patience if that is shorter. Until then later calls are no failures.
func TestAllFailedStops(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code     string
		status   int
		body     string
		answers  int64 // before the faults
		patience time.Duration
		want     string
		failures int
		lasts    time.Duration
	}{
		{fault.CodeMalformed, http.StatusOK, "<html>the login page</html>", 0, 10 * time.Minute, "the first 10 calls", 9, outcomes.Grace},
		{fault.CodeServerError, http.StatusInternalServerError, "the login page crashed", 0, 10 * time.Minute, "the first 10 calls", 9, outcomes.Grace},
		{fault.CodeMalformed, http.StatusOK, `{"choices":[],"note":"the login page"}`, 0, 10 * time.Minute, "the first 10 calls", 9, outcomes.Grace},
		{fault.CodeServerError, http.StatusInternalServerError, "the login page crashed", 0, time.Minute, "the first 10 calls", 9, time.Minute},
		{fault.CodeServerError, http.StatusInternalServerError, "the login page crashed", 9, 10 * time.Minute, "the last 100 calls", 99, outcomes.Grace},
	} {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int64
			f := servedBy(Options{MaxInFlight: 4, Tries: 2, Patience: tt.patience}, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(promptOf(r), "Say OK.") || asked.Add(1) <= tt.answers { // the test request whether the server works
					_, _ = io.WriteString(w, said("OK"))
					return
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			defer f.Close()
			began := time.Now()
			got, err := try(t.Context(), f, callsOf(actorAt("http://host/v1"), 500, 1))
			for _, part := range []string{tt.want, "the login page", "check their logs", "--retry-failed=" + tt.code + ":"} {
				if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "config") {
					t.Errorf("%v: does not say %q, or blames the config", err, part)
				}
			}
			failures := 0
			for _, of := range got {
				if of[0].Code != "" {
					failures++
				}
			}
			if failures != tt.failures {
				t.Errorf("%s: %d calls failed for good, want %d", tt.code, failures, tt.failures)
			}
			// A pause is at most 30 seconds long, and the calls in flight end first.
			if took := time.Since(began); took < tt.lasts || took > tt.lasts+time.Minute {
				t.Errorf("%s: the run stopped after %s, want %s", tt.code, took, tt.lasts)
			}
		})
	}
}

// A server that fails all calls for less than two minutes, for example while it restarts, ends no run.
func TestRestartEndsNoRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := servedBy(Options{MaxInFlight: 4, Tries: 2, Patience: 10 * time.Minute}, func(w http.ResponseWriter, r *http.Request) {
			prompt := promptOf(r)
			if !strings.HasPrefix(prompt, "Say OK.") && time.Since(began) < outcomes.Grace*3/4 {
				http.Error(w, "no backend", http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, said(prompt))
		})
		defer f.Close()
		got, err := try(t.Context(), f, callsOf(actorAt("http://host/v1"), 500, 1))
		if err != nil {
			t.Fatal(err)
		}
		failures := 0
		for i, of := range got {
			if of[0].Code != "" {
				failures++
			} else if want := fmt.Sprint("Question ", i); of[0].Text != want {
				t.Errorf("call %d has the answer %q, want %q", i, of[0].Text, want)
			}
		}
		if failures >= outcomes.MaxFirst {
			t.Errorf("%d calls failed for good, want fewer than %d", failures, outcomes.MaxFirst)
		}
	})
}

// A server that answers, and then refuses all calls of a role, stops the run: also after failures of other
// kinds. Refusals of prompts go on.
func TestAllRefusedFromTheMiddleStops(t *testing.T) {
	for name, tt := range map[string]struct {
		before, after string
		want          bool
	}{
		"after answers":       {"", "quota of this project is used up", true},
		"after other reasons": {"maximum context length", "quota of this project is used up", true},
		"long prompts":        {"", "maximum context length", false},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			url := chat(t, func(w http.ResponseWriter, r *http.Request) {
				why := tt.after
				if asked.Add(1) <= 9 {
					why = tt.before
				}
				if why != "" {
					http.Error(w, fmt.Sprintf(`{"error":{"message":%q}}`, why), http.StatusBadRequest)
					return
				}
				echoing(w, r)
			})
			_, err := try(t.Context(), open(t, Options{MaxInFlight: 1}), callsOf(actorAt(url), 150, 1))
			if (err != nil) != tt.want || tt.want && !strings.Contains(err.Error(), "the last 10") {
				t.Errorf("%v, want an error is %t", err, tt.want)
			}
			if tt.want && !strings.Contains(fmt.Sprint(err), "calls of the actor all failed with bad_request") {
				t.Errorf("%v, want an error is %t", err, tt.want)
			}
			// The 9 first calls, 100 in a row, and those in flight.
			if n := asked.Load(); tt.want && (n < 109 || n > 113) || !tt.want && n < 150 {
				t.Errorf("%d calls were made", n)
			}
		})
	}
}

// Refusals with different codes, and refusals in a role that has answers, are failures of their calls
// alone.
func TestSomeRefusedGoOn(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(n int64) string{
		"two reasons":             func(n int64) string { return []string{"what", "maximum context length"}[n%2] },
		"after the first answer":  func(n int64) string { return []string{"", "what"}[min(n-1, 1)] },
		"one answer among thirty": func(n int64) string { return []string{"", "what"}[min((n-1)%9, 1)] },
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			url := chat(t, func(w http.ResponseWriter, r *http.Request) {
				if why := refuse(asked.Add(1)); why != "" {
					http.Error(w, fmt.Sprintf(`{"error":{"message":%q}}`, why), http.StatusBadRequest)
					return
				}
				echoing(w, r)
			})
			if _, err := try(t.Context(), open(t, Options{MaxInFlight: 1}), callsOf(actorAt(url), 30, 1)); err != nil {
				t.Error(err)
			}
		})
	}
}

// One denial among many answers stops nothing, with any status. Neither does a moment in which all
// requests are denied.
func TestPassingDenials(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403, 404, 405, 302} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			var until atomic.Int64
			url := chat(t, func(w http.ResponseWriter, r *http.Request) {
				n := asked.Add(1)
				if n == 60 {
					until.Store(time.Now().Add(500 * time.Millisecond).UnixNano())
				}
				if n == 20 || time.Now().UnixNano() < until.Load() {
					http.Error(w, "no", status)
					return
				}
				echoing(w, r)
			})
			checkEchoes(t, open(t, Options{MaxInFlight: 4}), actorAt(url), 200)
		})
	}
}

// A key that is withdrawn in the middle of a run stops it soon.
func TestLastingDenialStops(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	url := chat(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 20 {
			http.Error(w, "key revoked", http.StatusUnauthorized)
			return
		}
		echoing(w, r)
	})
	_, err := try(t.Context(), open(t, Options{MaxInFlight: 4}), callsOf(actorAt(url), 200, 1))
	if err == nil || !strings.Contains(err.Error(), "key revoked") || !strings.Contains(err.Error(), "api_key_env") {
		t.Errorf("%v: does not say what to do", err)
	}
	if n := asked.Load(); n > 100 {
		t.Errorf("%d requests were made", n)
	}
}

// A server that denies is left alone while another of the role answers, from the first call on and later.
func TestOneOfTwoDenies(t *testing.T) {
	t.Parallel()
	for _, from := range []int64{0, 30} {
		t.Run(fmt.Sprint("from request ", from), func(t *testing.T) {
			t.Parallel()
			var asked, served atomic.Int64
			denying := chat(t, func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) > from {
					http.Error(w, "no", http.StatusForbidden)
					return
				}
				echoing(w, r)
			})
			well := chat(t, func(w http.ResponseWriter, r *http.Request) {
				served.Add(1)
				echoing(w, r)
			})
			r := actorAt(denying)
			r.Endpoints = append(r.Endpoints, stage.Endpoint{URL: well})
			checkEchoes(t, open(t, Options{}), r, 300)
			if n := served.Load(); n < 200 {
				t.Errorf("the other server was asked %d times", n)
			}
		})
	}
}

// A model that a server lacks stops its role, though another role's model is served there.
func TestDenialIsTheModels(t *testing.T) {
	t.Parallel()
	url := chat(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || bytes.Contains(b, []byte(`"model":"lacking"`)) {
			http.Error(w, `{"error":{"code":"model_not_found"}}`, http.StatusNotFound)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		echoing(w, r)
	})
	f := open(t, Options{})
	checkEchoes(t, f, actorAt(url), 20)
	judge := actorAt(url)
	judge.Name, judge.Model = schemas.RoleJudge, "lacking"
	if _, err := try(t.Context(), f, callsOf(judge, 5, 1)); err == nil || !strings.Contains(err.Error(), `no model "lacking"`) {
		t.Errorf("%v: does not name the model", err)
	}
}

// A 403 for one prompt is that call's: a gateway's moderation, or a firewall's page.
func TestForbiddenPrompt(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]string{
		"moderation": `{"error":{"message":"flagged by moderation"}}`,
		"a firewall": "<!DOCTYPE html><html><title>Request blocked</title></html>",
	} {
		t.Run(name, func(t *testing.T) {
			url := chat(t, func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				if err != nil || bytes.Contains(b, []byte("Question 7")) {
					w.WriteHeader(http.StatusForbidden)
					_, _ = io.WriteString(w, page)
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(b))
				echoing(w, r)
			})
			for i, of := range ask(t, open(t, Options{MaxInFlight: 1}), callsOf(actorAt(url), 20, 1)) {
				want := ""
				if i == 7 {
					want = fault.CodeContentFilter
				}
				if of[0].Code != want {
					t.Errorf("call %d: code %q, want %q", i, of[0].Code, want)
				}
			}
		})
	}
}

// The message about a wrong path names the right one, and the models that are served there.
func TestWrongPath(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1" + openai.ModelsPath:
			_, _ = io.WriteString(w, `{"data":[{"id":"m1"},{"id":"m2"}]}`)
		case "/v1" + openai.CompletionsPath:
			http.Error(w, `{"error":{"message":"no such model"}}`, http.StatusNotFound)
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	meant := "did you mean " + s.URL + `/v1? It serves "m1", "m2"`
	for path, want := range map[string]string{
		"": meant, "/": meant, "/v1" + openai.CompletionsPath: meant, "/openai/v1": meant,
		"/v1": `no model "simulated". It serves "m1", "m2"`,
	} {
		began := time.Now()
		_, err := try(t.Context(), open(t, Options{}), callsOf(actorAt(s.URL+path), 3, 2))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v: does not say %s", path, err, want)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("%q: it took %s", path, took)
		}
	}
}

// A refusal of a listed model, or of the place of the client, is reported with its own cause.
func TestDenialNamesItsCause(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"error":{"message":"The model simulated has been decommissioned"}}`:            `it lists the model "simulated" but refuses it: choose another model`,
		`{"error":{"message":"User location is not supported for the API use."}}`:        "it does not serve the place that the requests come from: choose another server",
		`{"error":{"message":"API key not valid. Please pass one.","code":"x","p":"q"}}`: "it requires an API key; set api_key_env to the name",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && r.URL.Path == "/v1"+openai.ModelsPath {
				_, _ = io.WriteString(w, `{"data":[{"id":"simulated"}]}`)
				return
			}
			http.Error(w, body, http.StatusBadRequest)
		}))
		_, err := try(t.Context(), open(t, Options{}), callsOf(actorAt(s.URL+"/v1"), 1, 1))
		if err == nil || !strings.Contains(redact.Hide(err.Error()), want) {
			t.Errorf("%s: %v: does not say %s", body, err, want)
		}
		s.Close()
	}
}

// A server that answers only as a stream is asked for one; a gateway that refuses streams is not.
func TestStreamOnly(t *testing.T) {
	t.Parallel()
	var plain, streams atomic.Int64
	url := chat(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var body struct {
			Stream   bool
			N        int
			Messages []schemas.Message
		}
		if err := json.Unmarshal(b, &body); err != nil {
			t.Error(err)
		}
		if !body.Stream {
			plain.Add(1)
			http.Error(w, `{"error":{"message":"This model only support stream mode, please enable the stream parameter"}}`, http.StatusBadRequest)
			return
		}
		streams.Add(1)
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		text := body.Messages[len(body.Messages)-1].Content
		for k := range max(body.N, 1) {
			for _, part := range []string{text[:3], text[3:]} {
				quoted, _ := json.Marshal(part) // a string
				_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":%d,\"delta\":{\"content\":%s},\"finish_reason\":null}]}\n\n", k, quoted)
			}
			_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":%d,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n", k)
		}
		_, _ = io.WriteString(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}\n\ndata: [DONE]\n\n")
	})
	for i, of := range ask(t, open(t, Options{}), callsOf(actorAt(url), 10, 2)) {
		for _, g := range of {
			if want := fmt.Sprint("Question ", i); g.Text != want || g.FinishReason != "stop" || g.PromptTokens != 5 || g.CompletionTokens != 3 {
				t.Errorf("%+v, want %q", g, want)
			}
		}
	}
	if plain.Load() > 3 || streams.Load() < 10 {
		t.Errorf("%d requests without and %d with a stream", plain.Load(), streams.Load())
	}
}

// A server that wants max_completion_tokens gets it from the second request on. If it refuses that too,
// the request has failed.
func TestMaxCompletionTokens(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, said string
		stubborn   bool
	}{
		{"OpenAI", `{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}`, false},
		{"a gateway", `{"message":"max_tokens is deprecated, please use max_completion_tokens"}`, false},
		{"a server that wants neither", `{"error":{"message":"use max_completion_tokens"}}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var refused, asked atomic.Int64
			url := chat(t, func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				var body map[string]any
				if err := json.Unmarshal(b, &body); err != nil {
					t.Error(err)
				}
				_, old := body["max_tokens"]
				_, renamed := body["max_completion_tokens"]
				if old == renamed {
					t.Errorf("the body has both names or none: %s", b)
				}
				asked.Add(1)
				if old || tt.stubborn {
					refused.Add(1)
					http.Error(w, tt.said, http.StatusBadRequest)
					return
				}
				n, _ := body["n"].(float64)
				var choices []string
				for k := range max(int(n), 1) {
					choices = append(choices, fmt.Sprintf(`{"index":%d,"message":{"content":"ok"},"finish_reason":"stop"}`, k))
				}
				_, _ = fmt.Fprintf(w, `{"choices":[%s]}`, strings.Join(choices, ","))
			})
			got, err := try(t.Context(), open(t, Options{MaxInFlight: 4}), callsOf(actorAt(url), 6, 2))
			if tt.stubborn {
				if err == nil && got[0][0].Code != fault.CodeBadRequest {
					t.Errorf("got %+v, want bad_request", got[0])
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, of := range got {
				if of[0].Text != "ok" || of[1].Text != "ok" {
					t.Errorf("%+v", of)
				}
			}
			// The probe finds it out, with one request.
			if refused.Load() != 1 || asked.Load() < 7 {
				t.Errorf("%d of %d requests were refused, want 1", refused.Load(), asked.Load())
			}
		})
	}
}

// A gateway that cuts a silent request after a minute gets it as a stream, and for fewer choices where
// it cuts streams as well.
func TestCutSilenceIsAskedAsAStream(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusGatewayTimeout, 524, http.StatusRequestTimeout, http.StatusServiceUnavailable} {
		for _, maxOfStream := range []int{8, 2} {
			t.Run(fmt.Sprintf("%d, streams of %d", status, maxOfStream), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { cutSilence(t, status, maxOfStream) })
			})
		}
	}
}

func cutSilence(t *testing.T, status, maxOfStream int) {
	f := New(Options{MaxInFlight: 16, Tries: 5, Patience: 10 * time.Minute}, &counters.Counters{})
	defer f.Close()
	messages := []schemas.Message{{Role: "user", Content: "Question"}}
	q := request{role: actorAt("http://host/v1"), stage: schemas.StageGenerate, n: 8, messages: func() []schemas.Message { return messages }}
	e, err := f.newEndpoint(q.role.Endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	e.HTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		var body struct {
			Stream bool
			N      int
		}
		if err := json.Unmarshal(b, &body); err != nil {
			return nil, err
		}
		asked = append(asked, fmt.Sprintf("stream %t n %d", body.Stream, max(body.N, 1)))
		w := httptest.NewRecorder()
		if !body.Stream || max(body.N, 1) > maxOfStream {
			time.Sleep(time.Minute) //nolint:forbidigo // of a synctest bubble, where time costs nothing
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "upstream request timeout")
			return w.Result(), nil
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for k := range max(body.N, 1) {
			_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":%d,\"delta\":{\"content\":\"ok\"},\"finish_reason\":\"stop\"}]}\n\n", k)
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
		return w.Result(), nil
	})}
	tally := f.counters.NewTally()
	state := retryState{History: policy.History{Last: time.Now()}}
	for range 6 {
		generations, _, flt := f.send(t.Context(), e, &q, tally)
		if flt == nil {
			if len(generations) != min(8, maxOfStream) || generations[0].Text != "ok" {
				t.Errorf("got %+v", generations)
			}
			break
		}
		if _, err := f.handleFault(t.Context(), &state, e, []*endpoint.Endpoint{e}, &q, flt, tally); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"stream false n 8", "stream true n 8"}
	if maxOfStream < 8 {
		want = append(want, "stream true n 4", "stream true n 2")
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
}

// roundTrip is a transport without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Requests that grow while their prompt tokens don't show a server that cuts prompts; equal requests,
// and prompts of one size, do not.
func TestCutPromptsAreReported(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		tokens func(chars int) int // of a prompt
		want   int                 // warnings
	}{
		{"a window of 1024", func(chars int) int { return min(chars/4, 1024) }, 1},
		{"all of each prompt", func(chars int) int { return chars / 4 }, 0},
		{"a small number of tokens", func(int) int { return 9 }, 0},
		{"no usage", func(int) int { return 0 }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := chat(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = fmt.Fprintf(w, `{"choices":[{"index":0,"message":{"content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,"completion_tokens":1}}`, tt.tokens(len(promptOf(r))))
			})
			calls := callsOf(actorAt(url), 12, 1)
			for i := range calls {
				messages := []schemas.Message{{Role: "user", Content: strings.Repeat("word ", 100*(i+1))}} // 500 to 6,000 characters
				calls[i].Messages = func() []schemas.Message { return messages }
			}
			f := open(t, Options{MaxInFlight: 1})
			ask(t, f, calls)
			warnings := f.counters.Snapshot().Warnings
			if len(warnings) != tt.want || tt.want == 1 && !strings.Contains(warnings[0], "1024 prompt tokens") {
				t.Errorf("warnings %q, want %d", warnings, tt.want)
			}
		})
	}
}

// The warning about an SGLang server without metrics names the missing flag. Other servers get no
// warning.
func TestSGLangWithoutMetrics(t *testing.T) {
	t.Parallel()
	for owner, want := range map[string]bool{"sglang": true, "vllm": false} {
		release := make(chan struct{})
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, openai.ModelsPath):
				_, _ = fmt.Fprintf(w, `{"data":[{"id":"simulated","owned_by":%q}]}`, owner)
			case strings.HasSuffix(r.URL.Path, "/metrics"):
				http.NotFound(w, r)
				time.AfterFunc(100*time.Millisecond, func() { // after the client has read it
					select {
					case release <- struct{}{}:
					default:
					}
				})
			case strings.Contains(promptOf(r), "Say OK."):
				_, _ = io.WriteString(w, said("OK"))
			default:
				<-release
				_, _ = io.WriteString(w, said("ok"))
			}
		}))
		f := open(t, Options{RecordModel: func(context.Context, string, *stage.Role, openai.Model) (string, error) { return "", nil }})
		ask(t, f, callsOf(actorAt(s.URL+"/v1"), 1, 1))
		s.Close()
		if got := strings.Contains(strings.Join(f.counters.Snapshot().Warnings, "\n"), "--enable-metrics"); got != want {
			t.Errorf("%s: warned %t, want %t: %q", owner, got, want, f.counters.Snapshot().Warnings)
		}
	}
}

// A probe that a model answers without a choice, since it still thinks, shows that it is alive.
func TestProbeOfAThinker(t *testing.T) {
	t.Parallel()
	url := chat(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if bytes.Contains(b, []byte(`"max_tokens":4,`)) || bytes.Contains(b, []byte(`"max_tokens":512,`)) {
			_, _ = io.WriteString(w, `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}`)
			return
		}
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"},{"index":1,"message":{"content":"b"},"finish_reason":"stop"}]}`)
	})
	f := open(t, Options{Patience: 5 * time.Second})
	for _, of := range ask(t, f, callsOf(actorAt(url), 3, 2)) {
		if of[0].Text != "a" || of[1].Text != "b" {
			t.Errorf("%+v", of)
		}
	}
}

// An extra_body that needs more tokens than a probe has does not cost the server its choices.
func TestProbeWithinBounds(t *testing.T) {
	t.Parallel()
	for field, refusal := range map[string]string{
		`{"min_tokens":600}`: "min_tokens must be less than or equal to max_tokens=4, got 600",
		`{"thinking":{"type":"enabled","budget_tokens":1024}}`: "`max_tokens` must be greater than `thinking.budget_tokens`",
	} {
		var single atomic.Int64
		url := chat(t, func(w http.ResponseWriter, r *http.Request) {
			var body struct {
				N         int
				MaxTokens int `json:"max_tokens"`
			}
			if json.NewDecoder(r.Body).Decode(&body) != nil || body.MaxTokens < 2000 {
				http.Error(w, `{"error":{"message":"`+refusal+`"}}`, http.StatusBadRequest)
				return
			}
			if body.N != 2 {
				single.Add(1)
			}
			_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"},{"index":1,"message":{"content":"b"},"finish_reason":"stop"}]}`)
		})
		r := actorAt(url)
		r.ExtraBody = field
		f := open(t, Options{MaxInFlight: 4})
		for _, of := range ask(t, f, callsOf(r, 3, 2)) {
			if of[0].Text != "a" || of[1].Text != "b" {
				t.Errorf("%s: %+v", field, of)
			}
		}
		if warnings := f.counters.Snapshot().Warnings; single.Load() > 0 || len(warnings) > 0 {
			t.Errorf("%s: %d requests for one choice, warnings %q", field, single.Load(), warnings)
		}
	}
}

// A server may filter even the texts of probes. The run then requests each choice separately, and every call has the failure.
func TestProbeThatIsFiltered(t *testing.T) {
	t.Parallel()
	url := chat(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"content_filter"},{"index":1,"message":{"content":"b"},"finish_reason":"content_filter"}]}`)
	})
	for _, of := range ask(t, open(t, Options{Patience: time.Hour}), callsOf(actorAt(url), 3, 2)) {
		if of[0].Code != fault.CodeContentFilter || of[1].Code != fault.CodeContentFilter {
			t.Errorf("%+v", of)
		}
	}
}

// Unknown finish reasons, and texts of thoughts alone, give one warning.
func TestOddAnswersAreTold(t *testing.T) {
	t.Parallel()
	url := chat(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"","reasoning_content":"hm"},"finish_reason":"tired"}]}`)
	})
	f := open(t, Options{})
	ask(t, f, callsOf(actorAt(url), 20, 1))
	warnings := f.counters.Snapshot().Warnings
	if len(warnings) != 2 || !strings.Contains(strings.Join(warnings, "\n"), `"tired"`) || !strings.Contains(strings.Join(warnings, "\n"), "reasoning_content") {
		t.Errorf("warnings %q", warnings)
	}
	if n := f.counters.Snapshot().UnknownFinishes["tired"]; n != 20 {
		t.Errorf("%d texts ended with an unknown reason, want 20", n)
	}
}

// Servers that answer with web pages fail at first contact. The message about a refused field names the
// setting that leaves it out.
func TestFirstContactNamesTheCause(t *testing.T) {
	t.Parallel()
	status, body := http.StatusOK, "<html>Sign in</html>"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	defer s.Close()
	_, err := try(t.Context(), open(t, Options{Patience: 2 * time.Second}), callsOf(actorAt(s.URL), 1, 2))
	if err == nil || !strings.Contains(err.Error(), "has sent a chat completion within") || !strings.Contains(err.Error(), "Sign in") {
		t.Errorf("a page: %v", err)
	}

	status = http.StatusForbidden
	_, err = try(t.Context(), open(t, Options{}), callsOf(actorAt(s.URL), 1, 2))
	if err == nil || !strings.Contains(err.Error(), "a web page answers instead of the API") {
		t.Errorf("a page with 403: %v", err)
	}

	// A server of HTTPS that is sent HTTP, a proxy's login, and a server without an API.
	for text, answer := range map[string]struct {
		status int
		body   string
	}{
		"give the URL with https:// instead of http://": {http.StatusBadRequest, "Client sent an HTTP request to an HTTPS server.\n"},
		"a proxy requires a login":                      {http.StatusProxyAuthRequired, "<html>"},
		"no OpenAI-compatible API answers there":        {http.StatusNotImplemented, "<html>Unsupported method ('POST')</html>"},
		"the model or the path is gone":                 {http.StatusGone, "{}"},
		"the account has no credit":                     {http.StatusForbidden, `{"message":"Sorry, your account balance is insufficient"}`},
	} {
		status, body = answer.status, answer.body
		if _, err := try(t.Context(), open(t, Options{}), callsOf(actorAt(s.URL), 1, 2)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%d: %v, want %s", status, err, text)
		}
	}

	for field, key := range map[string]string{"temperature": "actor.temperature", "top_p": "actor.top_p", "seed": "seed"} {
		status, body = http.StatusBadRequest, `{"error":{"message":"Unsupported parameter: '`+field+`'"}}`
		f := open(t, Options{})
		if got := ask(t, f, callsOf(actorAt(s.URL), 1, 2))[0][0]; got.Code != fault.CodeBadRequest {
			t.Errorf("%s: %+v", field, got)
		}
		if warnings := f.counters.Snapshot().Warnings; !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, "set "+key+" to null") }) {
			t.Errorf("%s: warnings %q", field, warnings)
		}
	}
}
