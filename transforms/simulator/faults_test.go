package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"coeval/transforms/simulator/world"
	"coeval/transforms/simulator/world/worldtest"
)

func TestParseFaults(t *testing.T) {
	got, err := ParseFaults(" 429=0.1, 503=0.05,reset=2e-2,poison=1,")
	if err != nil {
		t.Fatal(err)
	}
	want := Faults{"429": 0.1, "503": 0.05, FaultReset: 0.02, FaultPoison: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want- got+\n%s", diff)
	}
	if again, err := ParseFaults(got.String()); err != nil || cmp.Diff(got, again) != "" {
		t.Errorf("%q reads as %v, %v", got.String(), again, err)
	}
	for s, says := range map[string]string{
		"429":                "does not have the form NAME=SHARE",
		"429=many":           "is not a number",
		"429=0.1,429=0.2":    "occurs twice",
		"flood=0.1":          `unknown fault "flood"; allowed are reset`,
		"200=0.1":            `unknown fault "200"`,
		"429=1.5":            "allowed is 0 to 1",
		"429=-1":             "allowed is 0 to 1",
		"429=NaN":            "allowed is 0 to 1",
		"429=0.6,reset=0.6":  "at most 1",
		"=0.1":               `unknown fault ""`,
		"0429=0.1":           `unknown fault "0429"`,
		"poison=0.1,429=1.1": "429",
	} {
		if _, err := ParseFaults(s); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want one sentence with %q", s, err, says)
		}
	}
}

func FuzzParseFaults(f *testing.F) {
	f.Add("429=0.1,503=0.05,reset=0.02")
	f.Fuzz(func(t *testing.T, s string) {
		faults, err := ParseFaults(s)
		if err != nil {
			return
		}
		if again, err := ParseFaults(faults.String()); err != nil || cmp.Diff(faults, again) != "" {
			t.Errorf("%q reads as %v, and that as %v, %v", s, faults, again, err)
		}
	})
}

// Of n = 20,000 requests each share p is met with a standard deviation of sqrt(p(1-p)/n);
// near allows 4 of them.
func TestFaultShares(t *testing.T) {
	const n = 20000
	faults := Faults{"429": 0.1, "503": 0.05, FaultHTML: 0.02, FaultMalformed: 0.01, FaultPermanent: 0.05, FaultHang: 0}
	s, err := New(Options{Faults: faults, World: &world.World{}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(body(fmt.Sprint("q", i), nil)))
		s.ServeHTTP(discard{http.Header{}}, r)
	}
	st := s.Stats()
	worldtest.Near(t, "400", int(st.Faults[FaultPermanent]), n, 0.05)
	// The random faults share the requests that the permanent fault leaves, 0.95.
	for _, fault := range []Fault{"429", "503", FaultHTML, FaultMalformed} {
		worldtest.Near(t, string(fault), int(st.Faults[fault]), n, 0.95*faults[fault])
	}
	if st.Rejected[429] != st.Faults["429"] || st.Rejected[400] != st.Faults[FaultPermanent] {
		t.Errorf("rejected %v, faults %v", st.Rejected, st.Faults)
	}
	met := int64(0)
	for _, k := range st.Faults {
		met += k
	}
	if st.Generations != n-met || st.AskedTwice != 0 {
		t.Errorf("%d generations, %d faults of %d; asked twice %d", st.Generations, met, n, st.AskedTwice)
	}
}

// A fault that comes at random spares some ask of a request sooner or later, in the same way on
// each server with that seed; one that lasts never does.
func TestFaultsDrawAnew(t *testing.T) {
	asks := func(seed uint64) string {
		s, err := New(Options{Faults: Faults{"503": 0.5}, FaultSeed: seed})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for range 40 {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(body("q", nil))))
			fmt.Fprintf(&b, "%d ", w.Code)
		}
		return b.String()
	}
	first := asks(1)
	if !strings.Contains(first, "200") || !strings.Contains(first, "503") {
		t.Errorf("asked again and again: %s", first)
	}
	if asks(1) != first || asks(2) == first {
		t.Error("faults don't follow their seed")
	}
	s, err := New(Options{Faults: Faults{FaultPermanent: 0.5}})
	if err != nil {
		t.Fatal(err)
	}
	bad := 0
	for i := range 50 {
		codes := map[int]int{}
		for seed := range 3 {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(body(fmt.Sprint(i), map[string]any{"seed": seed}))))
			codes[w.Code]++
		}
		if codes[400] != 3 && codes[200] != 3 {
			t.Errorf("prompt %d: %v", i, codes)
		}
		bad += codes[400] / 3
	}
	worldtest.Near(t, "prompts with a permanent fault", bad, 50, 0.5)
}

// meet asks a server on which every request meets one fault.
func meet(t *testing.T, fault Fault, n int) (resp *http.Response, text []byte, err error) {
	t.Helper()
	r := start(t, Options{Faults: Faults{fault: 1}, RetryAfter: 1500 * time.Millisecond})
	resp, err = http.Post(r.URL()+"/chat/completions", "application/json", bytes.NewReader(body("q", map[string]any{"n": n})))
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	if got := r.Server().Stats().Faults[fault]; got != 1 {
		t.Errorf("%s is counted %d times", fault, got)
	}
	return resp, text, err
}

func TestFaultsOnTheWire(t *testing.T) {
	for _, fault := range []Fault{FaultReset, FaultPoison, FaultTruncated} {
		if resp, text, err := meet(t, fault, 1); err == nil {
			t.Errorf("%s: answered %d %q", fault, resp.StatusCode, text)
		}
	}
	for _, fault := range []Fault{"429", "503", "500", "504", FaultPermanent} {
		resp, text, err := meet(t, fault, 1)
		if err != nil || fmt.Sprint(resp.StatusCode) != string(fault) || !json.Valid(text) {
			t.Fatalf("%s: %v %s %v", fault, resp, text, err)
		}
		want := map[Fault]string{"429": "2", "503": "2"}[fault]
		if got := resp.Header.Get("Retry-After"); got != want {
			t.Errorf("%s: Retry-After is %q, want %q", fault, got, want)
		}
	}
	for fault, holds := range map[Fault]func(text []byte, c completion) bool{
		FaultMalformed: func(text []byte, _ completion) bool { return len(text) > 0 && !json.Valid(text) },
		FaultHTML:      func(text []byte, _ completion) bool { return bytes.HasPrefix(text, []byte("<html>")) },
		FaultErrorObject: func(text []byte, c completion) bool {
			return bytes.HasPrefix(text, []byte(`{"error":`)) && len(c.Choices) == 0
		},
		FaultEmpty: func(_ []byte, c completion) bool { return len(c.Choices) == 3 && *c.Choices[0].Message.Content == "" },
		FaultNull:  func(_ []byte, c completion) bool { return len(c.Choices) == 3 && c.Choices[2].Message.Content == nil },
		FaultUTF8: func(text []byte, c completion) bool {
			return !utf8.Valid(text) && strings.HasPrefix(*c.Choices[2].Message.Content, "\uFFFD")
		},
		FaultFilter: func(_ []byte, c completion) bool {
			return c.Choices[2].Message.Content == nil && c.Choices[2].FinishReason == "content_filter"
		},
		FaultHuge:    func(text []byte, _ completion) bool { return len(text) == hugeBody },
		FaultMissing: func(_ []byte, c completion) bool { return len(c.Choices) == 2 && *c.Choices[1].Message.Content != "" },
	} {
		resp, text, err := meet(t, fault, 3)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %v", fault, resp, err)
		}
		var c completion
		_ = json.Unmarshal(text, &c) // some are no JSON
		if !holds(text, c) {
			t.Errorf("%s: %s", fault, text)
		}
	}
}

func TestHangEndsWithTheClient(t *testing.T) {
	r := start(t, Options{Faults: Faults{FaultHang: 1}})
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL()+"/chat/completions", bytes.NewReader(body("q", nil)))
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		resp, err := http.DefaultClient.Do(request)
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	for r.Server().Stats().InFlight.Requests == 0 {
		get(t, r.Root()+"/health")
	}
	cancel()
	if err := <-failed; err == nil {
		t.Error("a hanging request was answered")
	}
	for r.Server().Stats().Abandoned == 0 {
		get(t, r.Root()+"/health")
	}
	if st := r.Server().Stats(); st.InFlight.Requests != 0 || st.Generations != 0 {
		t.Errorf("stats are %+v", st)
	}
}

// A trickling body has no end: the client's patience ends it.
func TestTrickle(t *testing.T) {
	r := start(t, Options{Faults: Faults{FaultTrickle: 1}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL()+"/chat/completions", bytes.NewReader(body("q", nil)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 3 {
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the body ended")
	}
}

func TestRedirect(t *testing.T) {
	r := start(t, Options{Faults: Faults{"302": 1}})
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Post(r.URL()+"/chat/completions", "application/json", bytes.NewReader(body("q", nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusFound || resp.Header.Get("Location") == "" {
		t.Errorf("%d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
}

// A choice that was worked on and lost counts as asked twice when it is asked again, but not as asked
// after delivery. A delivered choice counts as both.
func TestFaultsAndAsksAgain(t *testing.T) {
	for fault, want := range map[Fault][2]int64{FaultMalformed: {3, 0}, FaultMissing: {3, 2}, "503": {0, 0}, FaultHTML: {0, 0}} {
		s, err := New(Options{Faults: Faults{fault: 1}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(body("q", map[string]any{"n": 3})))
			s.ServeHTTP(discard{http.Header{}}, r)
		}
		if st := s.Stats(); st.AskedTwice != want[0] || st.AskedAfterDelivery != want[1] {
			t.Errorf("%s: asked twice %d, after delivery %d, want %v", fault, st.AskedTwice, st.AskedAfterDelivery, want)
		}
	}
}
