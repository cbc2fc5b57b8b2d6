package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
)

// key has characters that JSON, URLs and HTML escape.
const key = `sk-ab+c/d&e"f'g<h>i=j%k\l~0123456789-ABCDEFGHIJ`

// escapeAll writes every byte as an escape.
func escapeAll(format string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, format, s[i])
		}
		return b.String()
	}
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return strings.Trim(string(b), `"`)
}

var codings = map[string]func(string) string{
	"as it is":        func(s string) string { return s },
	"JSON":            quoted,
	"JSON in JSON":    func(s string) string { return quoted(quoted(s)) },
	"JSON³":           func(s string) string { return quoted(quoted(quoted(s))) },
	"PHP's JSON":      func(s string) string { return strings.ReplaceAll(quoted(s), "/", `\/`) },
	"JSON, all":       escapeAll(`\u%04x`),
	"JSON, all upper": escapeAll(`\u%04X`),
	"Python":          escapeAll(`\x%02x`),
	"octal":           escapeAll(`\%03o`),
	"JavaScript":      escapeAll(`\u{%x}`),
	"C":               escapeAll(`\U%08x`),
	"octal in JSON":   func(s string) string { return quoted(escapeAll(`\%03o`)(s)) },
	"lower case":      strings.ToLower,
	"upper case":      strings.ToUpper,
	"query":           url.QueryEscape,
	"path":            url.PathEscape,
	"query twice":     func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
	"URL, all":        escapeAll("%%%02x"),
	"URL in JSON":     func(s string) string { return quoted(url.QueryEscape(s)) },
	"HTML":            html.EscapeString,
	"HTML, all":       escapeAll("&#%d;"),
	"HTML, hex":       escapeAll("&#x%02X;"),
	"HTML in JSON":    func(s string) string { return quoted(html.EscapeString(s)) },
	"hex":             func(s string) string { return hex.EncodeToString([]byte(s)) },
	"HEX":             func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	"Base64":          func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"Base64, raw":     func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) },
	"Base64, URL":     func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) },
	"Base64, raw URL": func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"Base64 at 1":     func(s string) string { return base64.StdEncoding.EncodeToString([]byte("u" + s + "!")) },
	"Base64 at 2":     func(s string) string { return base64.URLEncoding.EncodeToString([]byte("u:" + s)) },
	"Basic":           func(s string) string { return base64.StdEncoding.EncodeToString([]byte("user:" + s)) },
	"Base64 in JSON": func(s string) string {
		return strings.ReplaceAll(base64.StdEncoding.EncodeToString([]byte(s)), "/", `\/`)
	},
	"Base64 in a URL": func(s string) string { return url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(s))) },
}

// A key, and any 16 characters of it, are replaced in every coding, wherever they stand. Of a coding
// that mixes characters, such as Base64, some digits at each end belong to what is beside.
func TestKeysAreReplaced(t *testing.T) {
	r := New(key)
	for name, encode := range codings {
		t.Run(name, func(t *testing.T) {
			for from := 0; from+MinPart <= len(key); from++ {
				for _, part := range []string{key[from : from+MinPart], key[from:]} {
					coded := encode(part)
					for _, around := range [][2]string{{"", ""}, {"x", "y"}, {`{"error":"key `, ` is wrong"}`}, {"12345678", "\n"}} {
						got := r.String(around[0] + coded + around[1])
						if !strings.Contains(got, Mark) {
							t.Fatalf("%q stays of %q", got, part)
						}
						if left := len(got) - len(Mark) - len(around[0]) - len(around[1]); left > 12 {
							t.Fatalf("%q has %d characters of %q", got, left, part)
						}
					}
				}
			}
		})
	}
}

// What is around a key stays, byte by byte, also when the key was escaped.
func TestTheRestStays(t *testing.T) {
	r := New(key, "other-secret-0815", "t0k3n")
	for in, want := range map[string]string{
		"a " + key + " b": "a " + Mark + " b",
		key + key:         Mark,
		`{"a":"\u0041","m":"` + quoted(key) + `","b":"\n%41&amp;"}`: `{"a":"\u0041","m":"` + Mark + `","b":"\n%41&amp;"}`,
		"1 other-secret-0815 2 " + url.QueryEscape(key) + " 3":      "1 " + Mark + " 2 " + Mark + " 3",
		"t0k3n, xt0k3n, t0k3ns, (t0k3n)":                            Mark + ", xt0k3n, t0k3ns, (" + Mark + ")",
		"\xff" + key + "\xfe":                                       "\xff" + Mark + "\xfe",
	} {
		if got := r.String(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
		if got := string(r.Bytes([]byte(in))); got != want {
			t.Errorf("%q becomes %q as bytes, want %q", in, got, want)
		}
	}
}

// Texts without a key stay the same, with no copy made. Fifteen characters are no secret, and neither
// are placeholders.
func TestOthersStay(t *testing.T) {
	r := New(key, "EMPTY", "none", "", "  ", "1234", "a1")
	for _, text := range []string{
		"", "short", key[:MinPart-1] + " " + key[len(key)-MinPart+1:], "EMPTY none 1234 a1", `\u0041%41&amp;\\n`, "\\", "%", "&", "%4", `\u00`,
		strings.Repeat("The quick brown fox. ", 1000),
	} {
		b := []byte(text)
		got := r.Bytes(b)
		if !bytes.Equal(got, b) || (len(b) > 0 && &got[0] != &b[0]) {
			t.Errorf("%.60q was copied or changed to %.60q", text, got)
		}
		if r.String(text) != text {
			t.Errorf("%.60q was changed", text)
		}
	}
	var none *Redactor
	if none.String(key) != key || New().String(key) != key {
		t.Error("no secrets are replaced")
	}
}

// Of a header's value each word is a secret, and of Basic the password.
func TestParts(t *testing.T) {
	r := New("Bearer token-of-mine-42", "Basic "+base64.StdEncoding.EncodeToString([]byte("user:correct-horse-battery")), "short-1x")
	for _, text := range []string{"token-of-mine-42", "correct-horse-battery", "user:correct-horse-battery", "short-1x", base64.StdEncoding.EncodeToString([]byte("short-1x"))} {
		if got := r.String("<" + text + ">"); got != "<"+Mark+">" && !strings.Contains(got, Mark) {
			t.Errorf("%q stays as %q", text, got)
		}
	}
	if got := r.String("The bearer of basic news"); got != "The bearer of basic news" {
		t.Errorf("a scheme's word was replaced: %q", got)
	}
}

// Whatever is around a key and however it is cut, no 16 characters of it stay in any coding.
func FuzzRedactor(f *testing.F) {
	f.Add("before", "after", uint8(0), uint8(20), "as it is")
	f.Add(`{"a":"`, `"}`, uint8(5), uint8(30), "JSON in JSON")
	f.Add("%25", "&", uint8(5), uint8(30), "Base64 at 2")
	r := New(key)
	f.Fuzz(func(t *testing.T, before, after string, from, length uint8, coding string) {
		encode, ok := codings[coding]
		if !ok {
			encode = codings["query"]
		}
		start := int(from) % len(key)
		part := key[start:min(len(key), start+int(length))]
		got := r.String(before + encode(part) + after)
		if len(part) >= MinPart && strings.Contains(got, encode(part)) {
			t.Errorf("%q has %q", got, part)
		}
		for i := 0; i+MinPart <= len(key); i++ {
			if strings.Contains(got, key[i:i+MinPart]) {
				t.Errorf("%q has %q", got, key[i:i+MinPart])
			}
		}
		if again := r.String(got); strings.Count(again, Mark) < strings.Count(got, Mark) {
			t.Errorf("redacted twice %q becomes %q", got, again)
		}
	})
}

// The texts of one prompt: 194 generations of about 1,500 bytes, with the escapes of a body.
func BenchmarkBytes(b *testing.B) {
	prose := []byte(strings.Repeat(`He said: \"for i in range(10):\n    print(f\"{100 * i / n}% of R&D\")\" and left. `, 20))
	for name, keys := range map[string][]string{
		"usual":   {"sk-proj-0123456789abcdefghijABCDEFGHIJ0123456789abcdefgh", "sk-another-key-of-a-second-server-with-48-letters-0"},
		"escaped": {key}, // whose bytes include those that JSON escapes everywhere
	} {
		b.Run(name, func(b *testing.B) {
			r := New(keys...)
			b.SetBytes(int64(194 * len(prose)))
			for b.Loop() {
				for range 194 {
					r.Bytes(prose)
				}
			}
		})
	}
}
