package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/store"
	"coeval/datasets/store/storetest"
)

// servers start a store with an empty bucket named "bucket" and make it that of the test's
// environment.
var servers = map[string]func(t *testing.T, f storetest.Fault){
	"gs://": func(t *testing.T, f storetest.Fault) { use(t, storetest.GCS(t, f)) },
	"s3://": func(t *testing.T, f storetest.Fault) { use(t, storetest.S3(t, f)) },
}

func use(t *testing.T, e storetest.Environment) {
	t.Helper()
	e.Set(t)
	store.Forget()
	t.Cleanup(store.Forget)
}

var folders atomic.Int64

// folderOf returns a folder that is not there yet.
func folderOf(t *testing.T, scheme string) string {
	t.Helper()
	return fmt.Sprintf("%sbucket/new/folder%d", scheme, folders.Add(1))
}

// dice decides at random which requests meet a fault.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
	// row is the number of faults in a row of each request, by its method and path.
	row map[string]int
}

func newDice() *dice { return &dice{r: rand.New(rand.NewPCG(1, 2)), row: map[string]int{}} }

// longestRow is how often a request meets a fault before it is served: less than the six times
// that reading begins again without a byte. Requests come in another order at every run, and by
// chance alone one of some thousands would meet more.
const longestRow = 4

// hits reports whether a request meets a fault that hits one request of in.
func (d *dice) hits(r *http.Request, in int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	what := r.Method + " " + r.URL.String()
	if d.r.IntN(in) > 0 || d.row[what] == longestRow {
		d.row[what] = 0
		return false
	}
	d.row[what]++
	return true
}

// drop closes the connection without an answer.
func drop() { panic(http.ErrAbortHandler) }

// faults are the possible faults of a store, and each is counted.
func faults(count *atomic.Int64) map[string]storetest.Fault {
	d := newDice()
	return map[string]storetest.Fault{
		"503": func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if d.hits(r, 4) {
				count.Add(1)
				// Google's library reuses a chunk's memory while an answer that came early
				// lets the transport still send it, which the race detector sees.
				_, _ = io.Copy(io.Discard, r.Body)
				http.Error(w, "busy", http.StatusServiceUnavailable)
				return
			}
			server.ServeHTTP(w, r)
		},
		"reset before it is done": func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if d.hits(r, 4) {
				count.Add(1)
				_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2) // mid-upload
				drop()
			}
			server.ServeHTTP(w, r)
		},
		"reset after it is done": func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			// Google's store recognises a repeated chunk. This server appends it.
			chunk := r.URL.Query().Get("upload_id") != ""
			if r.Method != http.MethodGet && !chunk && d.hits(r, 4) {
				count.Add(1)
				server.ServeHTTP(httptest.NewRecorder(), r)
				drop()
			}
			server.ServeHTTP(w, r)
		},
		"broken off": func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if r.Method == http.MethodGet && d.hits(r, 3) {
				half(w, r, server, count)
				drop()
			}
			server.ServeHTTP(w, r)
		},
		"silent": func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if isMedia(r) && d.hits(r, 4) {
				// Of no byte at all the half is the whole, and silence would be the next request's.
				if half(w, r, server, count) {
					<-r.Context().Done()
					drop()
				}
				return
			}
			server.ServeHTTP(w, r)
		},
		"slow": func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if r.Method == http.MethodHead {
				server.ServeHTTP(w, r)
				return
			}
			answer := httptest.NewRecorder()
			server.ServeHTTP(answer, r)
			head(w, answer)
			body := answer.Body.Bytes()
			for n := max(len(body)/50, 1); len(body) > 0; body = body[min(n, len(body)):] {
				count.Add(1)
				_, _ = w.Write(body[:min(n, len(body))])
				_ = http.NewResponseController(w).Flush()
			}
		},
		"pages": func(w http.ResponseWriter, r *http.Request, server http.Handler) { pages(w, r, server, count) },
	}
}

// isMedia reports whether a request is for an object's bytes.
func isMedia(r *http.Request) bool {
	q := r.URL.Query()
	return r.Method == http.MethodGet && (q.Get("alt") == "media" || !strings.HasPrefix(r.URL.Path, "/storage/") && q.Get("list-type") == "")
}

// half answers with the first half of the body, and reports whether there is another.
func half(w http.ResponseWriter, r *http.Request, server http.Handler, count *atomic.Int64) bool {
	count.Add(1)
	answer := httptest.NewRecorder()
	server.ServeHTTP(answer, r)
	head(w, answer)
	_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	return answer.Body.Len() > 0
}

func head(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), answer.Header())
	w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
	w.WriteHeader(answer.Code)
}

// pages makes every listing one of pages of two. S3's server does that itself.
func pages(w http.ResponseWriter, r *http.Request, server http.Handler, count *atomic.Int64) {
	const most = 2
	q := r.URL.Query()
	if q.Get("list-type") == "2" {
		count.Add(1)
		q.Set("max-keys", strconv.Itoa(most))
		r.URL.RawQuery = q.Encode()
	}
	if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/b/bucket/o") {
		server.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	server.ServeHTTP(answer, r)
	var listing struct {
		Items    []json.RawMessage `json:"items,omitempty"`
		Prefixes []string          `json:"prefixes,omitempty"`
		Next     string            `json:"nextPageToken,omitempty"`
	}
	if json.Unmarshal(answer.Body.Bytes(), &listing) != nil || answer.Code != http.StatusOK {
		head(w, answer)
		_, _ = w.Write(answer.Body.Bytes())
		return
	}
	from, _ := strconv.Atoi(q.Get("pageToken")) // of the first page: 0
	if from > 0 {
		count.Add(1)
		listing.Prefixes = nil
	}
	listing.Items = listing.Items[min(from, len(listing.Items)):]
	if len(listing.Items) > most {
		listing.Items, listing.Next = listing.Items[:most], strconv.Itoa(from+most)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(listing)
}

// A store with faults keeps all promises.
func TestConformanceWithFaults(t *testing.T) {
	t.Cleanup(store.Hasten(200 * time.Millisecond))
	for scheme, serve := range servers {
		var count atomic.Int64
		for name, f := range faults(&count) {
			t.Run(scheme+"/"+name, func(t *testing.T) {
				count.Store(0)
				serve(t, f)
				for name, test := range conformance {
					if name == "large" { // two parts are as good as three, and quicker with each fault
						test = func(t *testing.T, folder string) { testSize(t, folder, 10<<20+7) }
					}
					t.Run(name, func(t *testing.T) { test(t, folderOf(t, scheme)) })
				}
				t.Run("swap", func(t *testing.T) { testSwap(t, folderOf(t, scheme)) })
				if count.Load() == 0 {
					t.Error("there was no fault")
				}
			})
		}
	}
}

// checkedParts answers as S3 does where parts come with checksums: an upload that was not begun with
// their algorithm, or does not end with each of them, has no such part.
type checkedParts struct {
	mu sync.Mutex
	// uploads are the objects whose uploads were begun with the algorithm.
	uploads map[string]bool
	parts   map[string][]string
	headers map[string]bool // of all requests, the requests with checksums
}

func (c *checkedParts) fault(w http.ResponseWriter, r *http.Request, server http.Handler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range r.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-checksum-") && name != "x-amz-checksum-mode" || name == "x-amz-trailer" || name == "x-amz-sdk-checksum-algorithm" {
			c.headers[r.Method+" "+name] = true
		}
	}
	q := r.URL.Query()
	switch checksum := r.Header.Get("x-amz-checksum-crc32"); {
	case r.Method == http.MethodPost && q.Has("uploads"):
		c.uploads[r.URL.Path] = r.Header.Get("x-amz-checksum-algorithm") == "CRC32"
	case q.Has("partNumber") && checksum != "":
		c.parts[r.URL.Path] = append(c.parts[r.URL.Path], "<ChecksumCRC32>"+checksum+"</ChecksumCRC32>")
		w.Header().Set("x-amz-checksum-crc32", checksum)
	case r.Method == http.MethodPost && q.Has("uploadId"):
		body, _ := io.ReadAll(r.Body)
		for _, part := range c.parts[r.URL.Path] {
			if !c.uploads[r.URL.Path] || !bytes.Contains(body, []byte(part)) {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, "<Error><Code>InvalidPart</Code><Message>One or more of the specified parts could not be found.</Message></Error>")
				return
			}
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	server.ServeHTTP(w, r)
}

// Requests to stores other than S3 have no checksums unless the user asks for them. The user's
// checksums end an upload as S3 requires.
func TestChecksums(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(profile, []byte("[default]\nrequest_checksum_calculation = when_supported\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	checked := map[string]bool{"PUT x-amz-checksum-crc32": true, "PUT x-amz-sdk-checksum-algorithm": true, "POST x-amz-checksum-algorithm": true}
	tests := []struct {
		what string
		env  storetest.Environment
		want map[string]bool
	}{
		{"nobody asks", nil, map[string]bool{}},
		{"the environment asks", storetest.Environment{"AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported"}, checked},
		{"the profile asks", storetest.Environment{"AWS_CONFIG_FILE": profile}, checked},
		{"the environment says no", storetest.Environment{"AWS_CONFIG_FILE": profile, "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}, map[string]bool{}},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			c := &checkedParts{uploads: map[string]bool{}, parts: map[string][]string{}, headers: map[string]bool{}}
			servers["s3://"](t, c.fault)
			test.env.Set(t)
			folder := folderOf(t, "s3://")
			testLarge(t, folder)
			write(t, store.Join(folder, "small"), "x")
			testSwap(t, folder)
			if diff := cmp.Diff(test.want, c.headers); diff != "" {
				t.Errorf("headers that tell of checksums: %s", diff)
			}
			if parts := len(c.parts["/bucket"+strings.TrimPrefix(folder, "s3://bucket")+"/large"]); (parts == 3) != (len(test.want) > 0) {
				t.Errorf("%d parts of 20 MiB had checksums", parts)
			}
		})
	}
}

// S3 answers concurrent conditional writes with a conflict. That is no evidence about the content: the
// client repeats the request. If the conflict stays, the file has not changed.
func TestConflicts(t *testing.T) {
	t.Cleanup(store.Hasten(time.Minute))
	const often = 3
	var conflicts, left atomic.Int64
	left.Store(often)
	servers["s3://"](t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodPut && conflicts.Add(1) <= left.Load() {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, "<Error><Code>ConditionalRequestConflict</Code><Message>The conditional request cannot succeed due to a conflicting operation against this resource.</Message></Error>")
			return
		}
		server.ServeHTTP(w, r)
	})
	name := store.Join(folderOf(t, "s3://"), "lease")
	first, err := store.Swap(t.Context(), name, "", []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	conflicts.Store(0)
	if _, err = store.Swap(t.Context(), name, first, []byte("second")); err != nil {
		t.Fatal(err)
	}
	conflicts.Store(0)
	left.Store(1000)
	if _, err = store.Swap(t.Context(), name, first, []byte("third")); err == nil || errors.Is(err, store.ErrChanged) || !strings.Contains(err.Error(), "ConditionalRequestConflict") {
		t.Errorf("a conflict that stays: %v", err)
	}
	if n := conflicts.Load(); n <= often || n > 100 {
		t.Errorf("it was asked %d times", n)
	}
}

// A file that is replaced while it is read is an error, never a mixture.
func TestReplacedWhileItIsRead(t *testing.T) {
	t.Cleanup(store.Hasten(time.Minute))
	for scheme, serve := range servers {
		t.Run(scheme, func(t *testing.T) {
			serve(t, nil)
			name := store.Join(folderOf(t, scheme), "a")
			write(t, name, strings.Repeat("a", 3<<20))
			r, err := store.Open(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			part := make([]byte, 1)
			if _, err := r.ReadAt(part, 0); err != nil {
				t.Fatal(err)
			}
			write(t, name, strings.Repeat("b", 3<<20))
			if _, err := r.ReadAt(part, 2<<20); !errors.Is(err, store.ErrChanged) {
				t.Errorf("ReadAt gave %q, %v; want ErrChanged", part, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A store that never answers well is an error in the end, and one sentence.
func TestFaultsThatStay(t *testing.T) {
	t.Cleanup(store.Hasten(50 * time.Millisecond))
	answer := func(code int, body string) storetest.Fault {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	s3XML := func(code, message string) string {
		return "<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"
	}
	tests := []struct {
		what, scheme string
		fault        storetest.Fault
		bucket, want string
	}{
		{"wrong bucket", "gs://", nil, "other", `there is no bucket "other"`},
		{"wrong bucket", "s3://", nil, "other", `there is no bucket "other"`},
		{
			"no permission", "gs://", answer(403, `{"error":{"code":403,"message":"me@x.iam lacks storage.objects.list\nsee there"}}`), "bucket",
			`no permission in the bucket "bucket" (403): grant storage.objects.`,
		},
		{
			"no permission", "s3://", answer(403, s3XML("AccessDenied", "Access Denied")), "bucket",
			`no permission in the bucket "bucket" (403): grant s3:`,
		},
		{"wrong key", "gs://", answer(401, `{"error":{"code":401,"message":"Invalid Credentials"}}`), "bucket", "the credentials are not accepted (401)"},
		{"wrong key", "s3://", answer(403, s3XML("SignatureDoesNotMatch", "no")), "bucket", "the credentials are not accepted (SignatureDoesNotMatch)"},
		{"another region", "s3://", answer(301, s3XML("PermanentRedirect", "use eu-west-1")), "bucket", "lies in another region than AWS_REGION"},
		{"silence", "gs://", func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, _ = io.Copy(io.Discard, r.Body) // else the end of the connection is not seen
			<-r.Context().Done()
		}, "bucket", "the store took a request and does not answer"},
		{"silence", "s3://", func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, "bucket", "the store took a request and does not answer"},
		{"always 503", "gs://", answer(503, `{"error":{"code":503,"message":"busy"}}`), "bucket", "503"},
		{"always 503", "s3://", answer(503, s3XML("SlowDown", "busy")), "bucket", "SlowDown"},
	}
	for _, test := range tests {
		t.Run(test.scheme+test.what, func(t *testing.T) {
			servers[test.scheme](t, test.fault)
			name := test.scheme + test.bucket + "/a"
			var listErr, writeErr error
			var calls sync.WaitGroup // a silent store takes as long for both as for one
			calls.Go(func() { _, listErr = store.List(t.Context(), name) })
			calls.Go(func() { writeErr = store.WriteFile(t.Context(), name, []byte("x")) })
			calls.Wait()
			for what, err := range map[string]error{"List": listErr, "WriteFile": writeErr} {
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "store: "+name+": ") {
					t.Errorf("%s: %v\nlacks %q", what, err, test.want)
				}
				if err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), storetest.Secret)) {
					t.Errorf("%s: %q is more than a sentence, or tells a secret", what, err)
				}
			}
		})
	}
}

// deniedRight lets a server refuse the requests that a function selects, in the words of its protocol.
func deniedRight(of func(*http.Request) bool) storetest.Fault {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		switch {
		case !of(r):
			server.ServeHTTP(w, r)
		case strings.Contains(r.Header.Get("Authorization"), "AWS4"):
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"error":{"code":403,"message":"no"}}`)
		}
	}
}

// A refusal names the right that the request needed and the object, or the beginning of the names in a listing.
func TestMissingRights(t *testing.T) {
	listing := func(r *http.Request) bool {
		q := r.URL.Query()
		return r.Method == http.MethodGet && (q.Has("list-type") || q.Has("prefix"))
	}
	reading := func(r *http.Request) bool {
		return !listing(r) && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	}
	writing := func(r *http.Request) bool {
		return r.Method == http.MethodPut || r.Method == http.MethodPost && !r.URL.Query().Has("delete")
	}
	removing := func(r *http.Request) bool {
		return r.Method == http.MethodDelete || r.URL.Query().Has("delete")
	}
	ctx := t.Context()
	list := func(folder string) error { _, err := store.List(ctx, folder+"/"); return err }
	read := func(folder string) error { _, err := store.ReadFile(ctx, store.Join(folder, "a")); return err }
	open := func(folder string) error { _, err := store.Open(ctx, store.Join(folder, "a")); return err }
	put := func(folder string) error { return store.WriteFile(ctx, store.Join(folder, "a"), []byte("x")) }
	swap := func(folder string) error {
		_, err := store.Swap(ctx, store.Join(folder, "b"), "", []byte("x"))
		return err
	}
	move := func(folder string) error { return store.Move(ctx, store.Join(folder, "a"), store.Join(folder, "b")) }
	remove := func(folder string) error { return store.Remove(ctx, store.Join(folder, "a")) }
	removeAll := func(folder string) error { return store.RemoveFiles(ctx, []string{store.Join(folder, "a")}) }
	for _, test := range []struct {
		what   string
		denied func(*http.Request) bool
		do     func(folder string) error
		s3     string
		gs     string
	}{
		{"list", listing, list, `grant s3:ListBucket on "f/"`, `grant storage.objects.list on "f/"`},
		{"read", reading, read, `grant s3:GetObject on "f/a"`, `grant storage.objects.get on "f/a"`},
		{"open", reading, open, `grant s3:GetObject on "f/a"`, `grant storage.objects.get on "f/a"`},
		{"write", writing, put, `grant s3:PutObject on "f/a"`, `grant storage.objects.create and storage.objects.delete on "f/a"`},
		{"swap", writing, swap, `grant s3:PutObject on "f/b"`, `grant storage.objects.create and storage.objects.delete on "f/b"`},
		{"move", writing, move, `grant s3:GetObject and s3:PutObject on "f/b"`, `grant storage.objects.create and storage.objects.delete on "f/b"`},
		{"remove", removing, remove, `grant s3:DeleteObject on "f/a"`, `grant storage.objects.delete on "f/a"`},
		{"remove many", removing, removeAll, "grant s3:DeleteObject", "grant storage.objects.delete"},
	} {
		for scheme, want := range map[string]string{"s3://": test.s3, "gs://": test.gs} {
			t.Run(scheme+test.what, func(t *testing.T) {
				var on atomic.Bool
				servers[scheme](t, deniedRight(func(r *http.Request) bool { return on.Load() && test.denied(r) }))
				folder := scheme + "bucket/f"
				write(t, store.Join(folder, "a"), "x")
				on.Store(true)
				if err := test.do(folder); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			})
		}
	}
}

// Where the right to list depends on a prefix, S3 answers 403 to a read of an object that does not exist.
func TestAbsentObjectsThatAreRefused(t *testing.T) {
	refused := func(r *http.Request) bool {
		return !r.URL.Query().Has("list-type") && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	}
	servers["s3://"](t, deniedRight(refused))
	write(t, "s3://bucket/f/ab", "x") // its name begins as that of the absent one
	if _, err := store.ReadFile(t.Context(), "s3://bucket/f/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	if _, err := store.Open(t.Context(), "s3://bucket/f/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	// Without the right to list, no answer shows whether the object exists.
	servers["s3://"](t, deniedRight(func(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }))
	if _, err := store.ReadFile(t.Context(), "s3://bucket/f/a"); err == nil || !strings.Contains(err.Error(), "grant s3:ListBucket") {
		t.Errorf("without the right to list: %v", err)
	}
}

// A missing bucket is never reported as a missing file, in any store's words.
func TestReadOfAWrongBucket(t *testing.T) {
	for scheme, serve := range servers {
		serve(t, nil)
		want := "store: " + scheme + `other/a: there is no bucket "other"`
		if _, err := store.ReadFile(t.Context(), scheme+"other/a"); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

func TestNoCredentials(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.json")
	t.Setenv("STORAGE_EMULATOR_HOST", "")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", none)
	use(t, storetest.Keys(t))
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Cleanup(store.Forget)
	for name, want := range map[string]string{
		"gs://bucket/a": "store: gs://bucket/a: no credentials for Google Cloud: set GOOGLE_APPLICATION_CREDENTIALS",
		"s3://bucket/a": "store: s3://bucket/a: no credentials for S3: set AWS_ACCESS_KEY_ID",
	} {
		_, err := store.Stat(t.Context(), name)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v\nwant %q", err, want)
		}
	}
	use(t, storetest.Keys(t))
	t.Setenv("AWS_REGION", "")
	if _, err := store.Stat(t.Context(), "s3://bucket/a"); err == nil || !strings.Contains(err.Error(), "no region for S3: set AWS_REGION") {
		t.Errorf("without a region: %v", err)
	}
	if _, err := store.Stat(t.Context(), "gs:///a"); err == nil || !strings.Contains(err.Error(), "the bucket is missing") {
		t.Errorf("without a bucket: %v", err)
	}
}

// A poll never sees a file that is not whole, however it is written.
func TestNoFileIsEverPartial(t *testing.T) {
	for scheme, serve := range servers {
		t.Run(scheme, func(t *testing.T) {
			serve(t, nil)
			name := store.Join(folderOf(t, scheme), "a")
			whole := bytes.Repeat([]byte("x"), 9<<20) // more than a part of either store
			var done atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() {
				for !done.Load() {
					data, err := store.ReadFile(t.Context(), name)
					if err == nil && len(data) != len(whole) || err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%d of %d bytes, %v", len(data), len(whole), err)
						return
					}
				}
			})
			w, err := store.Create(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at < len(whole); at += 1 << 20 {
				if _, err := w.Write(whole[at : at+1<<20]); err != nil {
					t.Error(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if read(t, name) != string(whole) {
				t.Error("other bytes were written")
			}
			done.Store(true)
			wg.Wait()
		})
	}
}

// A request that a store takes and never answers is repeated: reading, writing, listing, removing,
// copying.
func TestSilenceOnce(t *testing.T) {
	t.Cleanup(store.Hasten(50 * time.Millisecond))
	for scheme, serve := range servers {
		var requests, silent atomic.Int64
		serve(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if requests.Add(1)%2 == 1 { // every one at first
				silent.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
				return
			}
			server.ServeHTTP(w, r)
		})
		t.Run(scheme, func(t *testing.T) {
			t.Parallel() // the pauses of both stores
			folder := folderOf(t, scheme)
			name := store.Join(folder, "a")
			write(t, name, "text")
			if got := read(t, name); got != "text" {
				t.Errorf("read %q", got)
			}
			if err := store.Move(t.Context(), name, store.Join(folder, "b")); err != nil {
				t.Error(err)
			}
			if got := list(t, folder+"/"); len(got) != 1 {
				t.Errorf("listed %v", got)
			}
			if v, err := store.Swap(t.Context(), store.Join(folder, "lease"), "", []byte("x")); err != nil || v == "" {
				t.Errorf("Swap = %q, %v", v, err)
			}
			if err := store.RemoveFiles(t.Context(), []string{store.Join(folder, "b"), store.Join(folder, "lease")}); err != nil {
				t.Error(err)
			}
			// To write, read, move (head, copy, remove), list, swap and remove takes at least eight.
			if n := silent.Load(); n < 8 {
				t.Errorf("%d requests met silence", n)
			}
		})
	}
}

// The client stops waiting for a store that takes requests and answers none after the time of one
// request with its repetitions. That holds during the reading of a file too.
func TestSilentReadsEnd(t *testing.T) {
	const silence = 50 * time.Millisecond
	const answered = 60 * silence // of one request with its repetitions, as Hasten sets it
	t.Cleanup(store.Hasten(silence))
	for scheme, serve := range servers {
		var silent atomic.Bool
		serve(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if silent.Load() {
				<-r.Context().Done()
				return
			}
			server.ServeHTTP(w, r)
		})
		t.Run(scheme, func(t *testing.T) {
			t.Parallel() // the time of both stores
			name := store.Join(folderOf(t, scheme), "a")
			write(t, name, strings.Repeat("a", 3<<20))
			r, err := store.Open(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			silent.Store(true)
			var reads sync.WaitGroup
			for what, read := range map[string]func() error{
				"ReadFile": func() error { _, err := store.ReadFile(t.Context(), name); return err },
				"ReadAt":   func() error { _, err := r.ReadAt(make([]byte, 1), 2<<20); return err },
			} {
				reads.Go(func() {
					began := time.Now()
					err := read()
					if err == nil || !strings.Contains(err.Error(), "does not answer") {
						t.Errorf("%s: %v", what, err)
					}
					if took := time.Since(began); took > 2*answered {
						t.Errorf("%s took %s, want about %s", what, took, answered)
					}
				})
			}
			reads.Wait()
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Many objects are removed with few requests where a store can, and with one each where it can't.
func TestRemovalIsBatched(t *testing.T) {
	const files = 30
	for _, test := range []struct {
		what    string
		refuses string
		most    int64
	}{
		{"at once", "", 1},
		{"not implemented", "NotImplemented", files + 1},
	} {
		t.Run(test.what, func(t *testing.T) {
			var removes, together atomic.Int64
			servers["s3://"](t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				_, many := r.URL.Query()["delete"]
				if many {
					together.Add(1)
				}
				if many || r.Method == http.MethodDelete {
					removes.Add(1)
				}
				if many && test.refuses != "" {
					w.WriteHeader(http.StatusNotImplemented)
					_, _ = io.WriteString(w, "<Error><Code>"+test.refuses+"</Code></Error>")
					return
				}
				server.ServeHTTP(w, r)
			})
			folder := folderOf(t, "s3://")
			var names []string
			for i := range files {
				names = append(names, store.Join(folder, fmt.Sprint(i)))
				write(t, names[i], "x")
			}
			if err := store.RemoveFiles(t.Context(), names); err != nil {
				t.Fatal(err)
			}
			if got := list(t, folder+"/"); len(got) != 0 {
				t.Errorf("left are %v", got)
			}
			if removes.Load() > test.most || together.Load() != 1 {
				t.Errorf("%d requests to remove %d files, %d of them for many; want at most %d", removes.Load(), files, together.Load(), test.most)
			}
		})
	}
}

// assumed is the environment of a user whose keys are those of a role, which this handler gives out.
func assumed(t *testing.T, roles http.HandlerFunc) storetest.Environment {
	t.Helper()
	sts := httptest.NewServer(roles)
	t.Cleanup(sts.Close)
	e := storetest.S3(t, nil)
	e["AWS_CONFIG_FILE"] = filepath.Join(t.TempDir(), "config")
	profile := "[profile team]\nrole_arn = arn:aws:iam::123456789012:role/team\nsource_profile = me\n" +
		"[profile me]\naws_access_key_id = key\naws_secret_access_key = " + storetest.Secret + "\n"
	if err := os.WriteFile(e["AWS_CONFIG_FILE"], []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	e["AWS_ACCESS_KEY_ID"], e["AWS_PROFILE"], e["AWS_ENDPOINT_URL_STS"] = "", "team", sts.URL
	return e
}

// The message about unusable credentials names the reason.
func TestCredentialsThatAreRefused(t *testing.T) {
	use(t, assumed(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>")
	}))
	_, err := store.Stat(t.Context(), "s3://bucket/a")
	for _, want := range []string{"store: s3://bucket/a: no credentials for S3: set ", "AccessDenied: not authorized to perform: sts:AssumeRole"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
	if said := fmt.Sprint(err); strings.Contains(said, "\n") || strings.Contains(said, storetest.Secret) {
		t.Errorf("%q is more than a sentence, or tells a secret", said)
	}
}

// Slow credentials do not delay a caller whose context has ended. All callers wait for the same
// credentials.
func TestCredentialsThatAreSlow(t *testing.T) {
	asked, open := make(chan struct{}), make(chan struct{})
	var requests atomic.Int64
	use(t, assumed(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 {
			close(asked)
		}
		<-open
		_, _ = io.WriteString(w, "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>key</AccessKeyId>"+
			"<SecretAccessKey>"+storetest.Secret+"</SecretAccessKey><SessionToken>token</SessionToken>"+
			"<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>")
	}))
	ctx, cancel := context.WithCancel(t.Context())
	var gone, waiting sync.WaitGroup
	for range 3 {
		gone.Go(func() {
			if _, err := store.List(ctx, "s3://bucket/"); !errors.Is(err, context.Canceled) {
				t.Errorf("who had to go is told %v", err)
			}
		})
		waiting.Go(func() {
			if _, err := store.List(t.Context(), "s3://bucket/"); err != nil {
				t.Errorf("who waited is told %v", err)
			}
		})
	}
	<-asked
	cancel()
	gone.Wait()
	close(open)
	waiting.Wait()
	if n := requests.Load(); n != 1 {
		t.Errorf("credentials were asked for %d times", n)
	}
}

// A region that isn't one is a host that can't be found.
func TestNoSuchRegion(t *testing.T) {
	t.Cleanup(store.Hasten(time.Minute))
	e := storetest.Keys(t)
	e["AWS_ENDPOINT_URL_S3"] = "http://s3.no-such-region-1.invalid" // RFC 6761: there is none
	use(t, e)
	t.Cleanup(store.Forget)
	_, err := store.Stat(t.Context(), "s3://bucket/a")
	want := `store: s3://bucket/a: there is no host "s3.no-such-region-1.invalid" to be found; AWS_ENDPOINT_URL_S3 names it`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}
