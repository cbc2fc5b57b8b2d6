// Package storetest serves gs:// and s3:// to tests: servers of both protocols, in the test's
// own process, with an empty bucket named "bucket".
//
// Nothing but tests may import it: its servers are no part of the program. It registers the clients of both, so
// that a test needs no import of package clouds.
package storetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	_ "coeval/datasets/store/clouds" // the clients of the servers
)

// A Fault stands before a server, and may answer a request itself or let it through. Nil lets
// all through.
type Fault func(w http.ResponseWriter, r *http.Request, server http.Handler)

// Environment are the variables by which a program finds the server, and nothing else of the machine.
type Environment map[string]string

// Set makes it that of the test's own process.
func (e Environment) Set(t *testing.T) {
	t.Helper()
	for name, value := range e {
		t.Setenv(name, value)
	}
}

// List is the environment as other processes are given it.
func (e Environment) List() []string {
	var all []string
	for name, value := range e {
		all = append(all, name+"="+value)
	}
	return all
}

// Bucket is the content of a server.
type Bucket struct {
	put  func(name string, data []byte) error
	list func(prefix string) (names []string, err error)
	// get returns false for an object that isn't there.
	get func(name string) ([]byte, bool)
}

// Put makes an object of the bucket.
func (b *Bucket) Put(tb testing.TB, name string, data []byte) {
	tb.Helper()
	if err := b.put(name, data); err != nil {
		tb.Fatal(err)
	}
}

// Objects returns the objects whose names begin with prefix, without it.
func (b *Bucket) Objects(tb testing.TB, prefix string) map[string][]byte {
	tb.Helper()
	names, err := b.list(prefix)
	if err != nil {
		tb.Fatal(err)
	}
	all := make(map[string][]byte, len(names))
	for _, name := range names {
		// An object that was removed since is none.
		if data, ok := b.get(name); ok {
			all[strings.TrimPrefix(name, prefix)] = data
		}
	}
	return all
}

// GCS serves gs:// until the test ends.
func GCS(tb testing.TB, f Fault) Environment {
	tb.Helper()
	e, _ := GCSBucket(tb, f)
	return e
}

// GCSBucket is [GCS] that also returns the content of the bucket.
func GCSBucket(tb testing.TB, f Fault) (Environment, *Bucket) {
	tb.Helper()
	var b *Bucket
	url := serve(tb, f, func(url string) http.Handler {
		s, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, ExternalURL: url, Writer: io.Discard})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(s.Stop)
		s.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "bucket"})
		b = bucketOfGCS(s)
		return googleWords(s.HTTPHandler())
	})
	return Environment{"STORAGE_EMULATOR_HOST": url}, b
}

func bucketOfGCS(s *fakestorage.Server) *Bucket {
	return &Bucket{
		put: func(name string, data []byte) error {
			s.CreateObject(fakestorage.Object{ObjectAttrs: fakestorage.ObjectAttrs{BucketName: "bucket", Name: name}, Content: data})
			return nil
		},
		list: func(prefix string) (names []string, err error) {
			listed, err := s.ListObjectsWithOptionsPaginated("bucket", fakestorage.ListOptions{Prefix: prefix})
			if err != nil {
				return nil, err
			}
			for _, o := range listed.Objects {
				names = append(names, o.Name)
			}
			return names, nil
		},
		get: func(name string) ([]byte, bool) {
			o, err := s.GetObject("bucket", name)
			return o.Content, err == nil
		},
	}
}

// googleWords makes a server answer with Google's messages about missing things. The server of the
// tests answers "Not Found" for all of them. Google names a missing object with its bucket.
func googleWords(server http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server.ServeHTTP(&wording{ResponseWriter: w, request: r}, r)
	})
}

// wording is an answer of googleWords.
type wording struct {
	http.ResponseWriter

	request  *http.Request
	replaced bool
}

// Unwrap returns the writer below.
func (w *wording) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader begins an answer, and makes all of it if nothing is there.
func (w *wording) WriteHeader(code int) {
	if code != http.StatusNotFound {
		w.ResponseWriter.WriteHeader(code)
		return
	}
	w.replaced = true
	_, path, _ := strings.Cut(w.request.URL.Path, "/b/")
	bucket, name, _ := strings.Cut(path, "/o/")
	name, _, _ = strings.Cut(name, "/rewriteTo/")
	message := "The specified bucket does not exist."
	if bucket == "bucket" {
		message = "No such object: " + bucket + "/" + name
	}
	w.Header().Del("Content-Length")
	if w.request.URL.Query().Get("alt") == "media" {
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		w.ResponseWriter.WriteHeader(code)
		_, _ = io.WriteString(w.ResponseWriter, message)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.ResponseWriter.WriteHeader(code)
	_ = json.NewEncoder(w.ResponseWriter).Encode(map[string]any{"error": map[string]any{
		"code": code, "message": message,
		"errors": []map[string]string{{"message": message, "domain": "global", "reason": "notFound"}},
	}})
}

// Write adds to the answer, but to one that has been made.
func (w *wording) Write(p []byte) (int, error) {
	if w.replaced {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// S3 serves s3:// until the test ends.
func S3(tb testing.TB, f Fault) Environment {
	tb.Helper()
	e, _ := S3Bucket(tb, f)
	return e
}

// S3Bucket is [S3] that also returns the content of the bucket.
func S3Bucket(tb testing.TB, f Fault) (Environment, *Bucket) {
	tb.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		tb.Fatal(err)
	}
	e := Keys(tb)
	e["AWS_ENDPOINT_URL_S3"] = serve(tb, f, func(string) http.Handler { return gofakes3.New(backend).Server() })
	return e, bucketOfS3(backend)
}

func bucketOfS3(backend *s3mem.Backend) *Bucket {
	return &Bucket{
		put: func(name string, data []byte) error {
			_, err := backend.PutObject("bucket", name, nil, bytes.NewReader(data), int64(len(data)), nil)
			return err
		},
		list: func(prefix string) (names []string, err error) {
			listed, err := backend.ListBucket("bucket", &gofakes3.Prefix{HasPrefix: true, Prefix: prefix}, gofakes3.ListBucketPage{})
			if err != nil {
				return nil, err
			}
			for _, o := range listed.Contents {
				names = append(names, o.Key)
			}
			return names, nil
		},
		get: func(name string) ([]byte, bool) {
			o, err := backend.GetObject("bucket", name, nil)
			if err != nil {
				return nil, false
			}
			data, err := io.ReadAll(o.Contents)
			return data, errors.Join(err, o.Contents.Close()) == nil
		},
	}
}

// Secret is the secret key of [Keys]. No message or file may contain it.
const Secret = "secret-of-the-test"

// Keys is the environment of a user of s3:// with keys. It overrides the machine's own settings.
func Keys(tb testing.TB) Environment {
	tb.Helper()
	none := filepath.Join(tb.TempDir(), "none")
	return Environment{
		"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": Secret, "AWS_REGION": "us-east-1", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL_S3": "",
		"AWS_REQUEST_CHECKSUM_CALCULATION": "", "AWS_ENDPOINT_URL_STS": "",
	}
}

// serve starts a handler with faults before it and returns its URL.
func serve(tb testing.TB, f Fault, handler func(url string) http.Handler) string {
	tb.Helper()
	// The handler is there before the first request: one of a program of another test may come
	// at once, when the address was that test's.
	s := httptest.NewUnstartedServer(nil)
	server := handler("http://" + s.Listener.Addr().String())
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f == nil {
			server.ServeHTTP(w, r)
			return
		}
		f(w, r, server)
	})
	s.Start()
	tb.Cleanup(s.Close)
	tb.Cleanup(s.CloseClientConnections)
	return s.URL
}
