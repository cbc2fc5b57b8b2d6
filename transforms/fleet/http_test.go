package fleet

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"coeval/schemas"
	"coeval/schemas/redact"
	"coeval/transforms/fleet/counters"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/stage"
)

// said returns the body of a 200 with one choice.
func said(text string) string {
	quoted, _ := json.Marshal(text) // a string
	return fmt.Sprintf(`{"choices":[{"index":0,"message":{"content":%s},"finish_reason":"stop"}]}`, quoted)
}

// promptOf returns the text of a request's last message.
func promptOf(r *http.Request) string {
	var body struct {
		Messages []schemas.Message `json:"messages"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body.Messages) == 0 {
		return ""
	}
	return body.Messages[len(body.Messages)-1].Content
}

// echoing answers each prompt with itself.
func echoing(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, said(promptOf(r)))
}

// checkEchoes asks some prompts and expects each as its own answer.
func checkEchoes(t *testing.T, f *Fleet, r *stage.Role, prompts int) {
	t.Helper()
	for i, of := range ask(t, f, callsOf(r, prompts, 1)) {
		if want := fmt.Sprint("Question ", i); of[0].Text != want {
			t.Errorf("the answer to %q is %q, code %q: %s", want, of[0].Text, of[0].Code, of[0].Message)
		}
	}
}

// A server that sends two answers for one request must not have the second taken for that of the next
// prompt.
func TestStrayAnswerIsNobodys(t *testing.T) {
	t.Parallel()
	var strays atomic.Int64
	answer := func(text string) string {
		body := said(text)
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.NotFound(w, r)
			return
		}
		prompt := promptOf(r)
		c, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }() // the client may have closed it
		for n := 0; ; n++ {              // answers each request on the connection, every other one twice
			out := answer(prompt)
			if n%2 == 0 {
				strays.Add(1)
				out += answer("a stray answer")
			}
			if _, err := io.WriteString(c, out); err != nil {
				return
			}
			next, err := http.ReadRequest(buffered.Reader)
			if err != nil {
				return
			}
			prompt = promptOf(next)
		}
	}))
	defer s.Close()
	for _, inFlight := range []int{1, 8} {
		checkEchoes(t, open(t, Options{MaxInFlight: inFlight}), actorAt(s.URL), 40)
	}
	if strays.Load() == 0 {
		t.Error("no stray answer was sent")
	}
}

// An echo of another request's ID is the sign of a mixed-up answer. IDs that a service gives itself are
// not.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	var mixed atomic.Int64
	var last atomic.Value
	serve := func(id func(sent string, prompt int64) string) *httptest.Server {
		var prompts atomic.Int64
		var asked sync.Map
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				sent := r.Header.Get("X-Request-Id")
				if sent == "" {
					t.Error("a request has no X-Request-Id")
				}
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return // the client has gone
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				prompt := int64(0)
				if _, again := asked.LoadOrStore(promptOf(r), true); !again {
					prompt = prompts.Add(1)
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				echo := id(sent, prompt)
				if strings.HasPrefix(echo, "coeval-") && echo != sent {
					mixed.Add(1)
				}
				w.Header().Set("X-Request-Id", echo)
				last.Store(sent)
				if echo != sent && echo != "" && !strings.HasPrefix(echo, "req_") {
					_, _ = io.WriteString(w, said("another's"))
					return
				}
			}
			echoing(w, r)
		}))
	}
	// Prompt is the number of a prompt that is asked for the first time, 0 of one that is asked again. Faults at
	// each third request would meet all tries of one call, if two other requests came between them.
	for name, id := range map[string]func(sent string, prompt int64) string{
		"echoes":  func(sent string, _ int64) string { return sent },
		"its own": func(sent string, _ int64) string { return "req_" + sent },
		"another request's, now and then": func(sent string, prompt int64) string {
			if was, ok := last.Load().(string); ok && prompt > 0 && prompt%3 == 0 {
				return was
			}
			return sent
		},
		"none of ours, now and then": func(sent string, prompt int64) string {
			if prompt > 0 && prompt%3 == 0 {
				return "f00"
			}
			return sent
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(id)
			defer s.Close()
			checkEchoes(t, open(t, Options{MaxInFlight: 1}), actorAt(s.URL), 12)
		})
	}
	if mixed.Load() == 0 {
		t.Error("no answer was mixed up")
	}
}

// Counts that nobody can believe are no counts, and never a hang.
func TestAbsurdUsage(t *testing.T) {
	t.Parallel()
	for _, count := range []string{"1e18", "1000000000000000000", "-5", `"many"`, "2147483648", "NaN", "1e999", "{}"} {
		t.Run(count, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					http.NotFound(w, r)
					return
				}
				body := strings.TrimSuffix(said(promptOf(r)), "}")
				_, _ = fmt.Fprintf(w, `%s,"usage":{"prompt_tokens":%s,"completion_tokens":%s}}`, body, count, count)
			}))
			defer s.Close()
			f := open(t, Options{TokensPerMinute: 60_000_000, RequestsPerMinute: 600_000})
			for _, of := range ask(t, f, callsOf(actorAt(s.URL), 5, 1)) {
				if g := of[0]; g.Code != "" || g.PromptTokens != 0 || g.CompletionTokens != 0 {
					t.Errorf("%+v", g)
				}
			}
		})
	}
}

// Compression that nobody asked for is undone, and bounded.
func TestUnaskedCompression(t *testing.T) {
	t.Parallel()
	compress := map[string]func(w io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		"Deflate": func(w io.Writer) io.WriteCloser { z, _ := flate.NewWriter(w, 1); return z }, // without its header
		"zstd":    func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z },
		"br":      func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) },
		"":        func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }, // a gateway that took the header away
	}
	for encoding, by := range compress {
		t.Run(encoding, func(t *testing.T) {
			bomb := false
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					http.NotFound(w, r)
					return
				}
				if got := r.Header.Get("Accept-Encoding"); got != "identity" {
					t.Errorf("Accept-Encoding is %q", got)
				}
				if encoding != "" {
					w.Header().Set("Content-Encoding", encoding)
				}
				z := by(w)
				prompt := promptOf(r)
				if bomb && !strings.HasPrefix(prompt, "Say OK.") {
					_, _ = z.Write(bytes.Repeat([]byte(" "), 8<<20))
				}
				_, _ = io.WriteString(z, said(prompt))
				_ = z.Close()
			}))
			defer s.Close()
			checkEchoes(t, open(t, Options{}), actorAt(s.URL), 3)
			bomb = true
			r := actorAt(s.URL) // may have 1 MiB and 64 bytes for each of 2,048 tokens
			if got := ask(t, open(t, Options{Tries: 1}), callsOf(r, 1, 1))[0][0]; got.Code != fault.CodeMalformed || !strings.Contains(got.Message, "larger than") {
				t.Errorf("8 MiB in few bytes give %+v", got)
			}
		})
	}
}

// A body in the character set of its Content-Type is converted, with any status of success. A wrong name changes
// nothing.
func TestCharacterSets(t *testing.T) {
	t.Parallel()
	const text = "Größe"
	for contentType, encode := range map[string]func(s string) string{
		"application/json; charset=iso-8859-1": func(s string) string { // the code points of Latin-1 are its bytes
			var b []byte
			for _, r := range s {
				b = append(b, byte(r))
			}
			return string(b)
		},
		"application/json; charset=utf-16": func(s string) string {
			b := []byte{0xff, 0xfe}
			for _, u := range utf16.Encode([]rune(s)) {
				b = binary.LittleEndian.AppendUint16(b, u)
			}
			return string(b)
		},
		"application/json; charset=windows-1251": func(s string) string { return s }, // it is UTF-8 in truth
		"application/json; charset=":             func(s string) string { return s },
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, encode(said(text)))
		}))
		if got := ask(t, open(t, Options{}), callsOf(actorAt(s.URL), 1, 1))[0][0]; got.Code != "" || got.Text != text {
			t.Errorf("%s gives %+v, want the text %s", contentType, got, text)
		}
		s.Close()
	}
}

// Requests to servers with HTTP/2 over TLS use it. Servers with a private certificate authority need
// its file.
func TestHTTP2AndPrivateAuthority(t *testing.T) {
	t.Parallel()
	var versions sync.Map
	for _, h2only := range []bool{false, true} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			versions.Store(r.Proto, true)
			if h2only && r.ProtoMajor != 2 {
				http.Error(w, "this server speaks HTTP/2 only", http.StatusHTTPVersionNotSupported)
				return
			}
			echoing(w, r)
		}))
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		file := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		r := actorAt(s.URL)
		r.Endpoints[0].CAFile = file
		checkEchoes(t, open(t, Options{}), r, 5)
		if _, ok := versions.Load("HTTP/1.1"); ok {
			t.Error("HTTP/1.1 was spoken")
		}
		_, err := try(t.Context(), open(t, Options{Patience: 2 * time.Second}), callsOf(actorAt(s.URL), 1, 1))
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("without the authority: %v", err)
		}
	}
}

// A server that speaks HTTP/2 without TLS, and nothing else, is asked in it.
func TestHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(echoing))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	defer s.Close()
	checkEchoes(t, open(t, Options{}), actorAt(s.URL), 5)
}

// Headers and parameters of the config go with each request, and the key goes in a header of the
// config's name. Secrets from variables and files are removed from texts that the server quotes.
func TestHeadersAndQuery(t *testing.T) {
	t.Setenv("COEVAL_TEST_KEY", "swordfish-key-0123456789")
	t.Setenv("COEVAL_TEST_ORG", "swordfish org & more?")
	secretFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secretFile, []byte("swordfish-token-987654321\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var posts atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, want := range map[string]string{"Api-Key": "swordfish-key-0123456789", "X-Org": "swordfish org & more?", "X-Plain": "lab", "Authorization": ""} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s %s: header %s is %q, want %q", r.Method, r.URL.Path, name, got, want)
			}
		}
		if strings.HasSuffix(r.URL.Path, "/metrics") { // beside the API
			http.NotFound(w, r)
			return
		}
		if q := r.URL.Query(); q.Get("api-version") != "2024-10-21" || q.Get("token") != "swordfish-token-987654321" {
			t.Errorf("%s %s: the query is %q", r.Method, r.URL.Path, r.URL.RawQuery)
		}
		if r.Method == http.MethodPost && posts.Add(1) == 3 {
			http.Error(w, "no: "+r.URL.RawQuery+" "+r.Header.Get("X-Org"), http.StatusBadRequest)
			return
		}
		echoing(w, r)
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	r := actorAt(s.URL + "/v1")
	r.Endpoints[0] = stage.Endpoint{
		URL: s.URL + "/v1", APIKeyEnv: "COEVAL_TEST_KEY", APIKeyHeader: "api-key", CAFile: file,
		Headers: stage.FieldsOf(map[string]string{"X-Org": "env:COEVAL_TEST_ORG", "X-Plain": "lab"}),
		Query:   stage.FieldsOf(map[string]string{"api-version": "2024-10-21", "token": "file:" + secretFile}),
	}
	f := open(t, Options{MaxInFlight: 1})
	var refused []string
	for i, of := range ask(t, f, callsOf(r, 5, 1)) {
		if of[0].Code != "" {
			refused = append(refused, of[0].Message)
		} else if want := fmt.Sprint("Question ", i); of[0].Text != want {
			t.Errorf("%q, want %q", of[0].Text, want)
		}
	}
	if len(refused) != 1 || strings.Contains(refused[0], "swordfish") || strings.Contains(refused[0], "987654321") || !strings.Contains(refused[0], redact.Mark) {
		t.Errorf("refusals %q: want one, without secrets", refused)
	}
	// The message about a failed connection contains its URL without secret parameters.
	s.Close()
	_, err := try(t.Context(), open(t, Options{Patience: 2 * time.Second}), callsOf(r, 1, 1))
	if err == nil || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("%v: want an error without secrets", err)
	}
}

// A connection that this machine has no room for is nobody else's fault: the run stops with a sentence
// of its own, and no call fails for good.
func TestOwnFaultsStopTheRun(t *testing.T) {
	t.Parallel()
	for fault, want := range map[error]string{
		os.NewSyscallError("socket", syscall.EMFILE): "ulimit -n", os.NewSyscallError("socket", syscall.ENFILE): "too many open files",
		os.NewSyscallError("connect", syscall.EADDRNOTAVAIL): "ports", os.NewSyscallError("socket", syscall.ENOBUFS): "memory",
		&net.DNSError{Err: "dial udp: socket: too many open files", Name: "gpu-1"}: "ulimit -n",
	} {
		f := open(t, Options{Tries: 1})
		r := actorAt("http://127.0.0.1:1/v1")
		endpoints, err := f.endpointsOf(r)
		if err != nil {
			t.Fatal(err)
		}
		endpoints[0].HTTP = &http.Client{Transport: failing{&net.OpError{Op: "dial", Err: fault}}}
		delivered := false
		err = f.Do(t.Context(), callsOf(r, 3, 1), &counters.Tally{}, func(int, int, []schemas.Generation, []bool) error {
			delivered = true
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), want) || delivered {
			t.Errorf("%v: %v, delivered: %t", fault, err, delivered)
		}
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }
