// Package storetest serves gs:// and s3:// to tests: servers of both protocols, in the test's
// own process, with an empty bucket named "bucket".
//
// Nothing but tests may import it: its servers are no part of the program.
package storetest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
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

// Bucket is what a server holds.
type Bucket struct{ server *fakestorage.Server }

// Put makes an object of the bucket.
func (b *Bucket) Put(name string, data []byte) {
	b.server.CreateObject(fakestorage.Object{ObjectAttrs: fakestorage.ObjectAttrs{BucketName: "bucket", Name: name}, Content: data})
}

// Objects returns the objects whose names begin with prefix, without it.
func (b *Bucket) Objects(tb testing.TB, prefix string) map[string][]byte {
	tb.Helper()
	listed, err := b.server.ListObjectsWithOptionsPaginated("bucket", fakestorage.ListOptions{Prefix: prefix})
	if err != nil {
		tb.Fatal(err)
	}
	all := make(map[string][]byte, len(listed.Objects))
	for _, o := range listed.Objects {
		// An object that was removed since is none.
		if got, err := b.server.GetObject("bucket", o.Name); err == nil {
			all[strings.TrimPrefix(o.Name, prefix)] = got.Content
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

// GCSBucket is [GCS] with a look at what lies there.
func GCSBucket(tb testing.TB, f Fault) (Environment, *Bucket) {
	tb.Helper()
	b := &Bucket{}
	url := serve(tb, f, func(url string) http.Handler {
		s, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, ExternalURL: url, Writer: io.Discard})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(s.Stop)
		s.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "bucket"})
		b.server = s
		return s.HTTPHandler()
	})
	return Environment{"STORAGE_EMULATOR_HOST": url}, b
}

// S3 serves s3:// until the test ends.
func S3(tb testing.TB, f Fault) Environment {
	tb.Helper()
	url := serve(tb, f, func(string) http.Handler {
		backend := s3mem.New()
		if err := backend.CreateBucket("bucket"); err != nil {
			tb.Fatal(err)
		}
		return gofakes3.New(backend).Server()
	})
	e := Keys(tb)
	e["AWS_ENDPOINT_URL_S3"] = url
	return e
}

// Secret is the secret key of [Keys]. Nothing may tell it.
const Secret = "secret-of-the-test"

// Keys is the environment of a user of s3:// with keys, whatever the machine has.
func Keys(tb testing.TB) Environment {
	tb.Helper()
	none := filepath.Join(tb.TempDir(), "none")
	return Environment{
		"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": Secret, "AWS_REGION": "us-east-1", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL_S3": "",
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
