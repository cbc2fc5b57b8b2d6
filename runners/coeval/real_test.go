//go:build real

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/store/storetest"
	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/transforms/simulator"
)

// The tests of `make real` run the program against software as people use it: object stores, a reverse
// proxy with TLS, a forward proxy, a gateway, and an inference server with a model of random weights.
// Each run ends in the bytes of a local one, and verify passes.

// startPatience bounds how long software may take until it serves: vLLM compiles for minutes.
const startPatience = 10 * time.Minute

// serveReal starts software in a process group of its own, which ends with the test, and waits until a
// TCP connection to addr succeeds.
func serveReal(t *testing.T, addr string, env []string, name string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := launch(t, cmd)
	t.Cleanup(func() { endGroup(t, cmd) })
	within(t, startPatience, name+" serves", func() bool {
		if !p.alive() {
			t.Fatalf("%s ended before it served:\n%s%s", name, p.stdout.String(), p.stderr.String())
		}
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return p
}

func endGroup(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
}

// freePort returns an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// found returns the path of a program of Debian's packages, which make real installs.
func found(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath(filepath.Join("/usr/sbin", name))
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// realStores are the stores of these tests. Each starts at an address with its files in a folder.
var realStores = []struct {
	name      string
	versioned bool
	start     func(t *testing.T, addr, dir string, versioned bool) *process
}{
	{"MinIO", false, startMinIO},
	{"MinIO with versions", true, startMinIO},
	{"versitygw", false, startVersity},
	{"versitygw with versions", true, startVersity},
}

const realOut = "s3://bucket/runs/out"

// Real object stores keep the answers of a run that is killed twice, and end with the files of a local run.
func TestRealStores(t *testing.T) {
	prompts := mixed(t, killedPrompts)
	all, wanted := undisturbed(t, prompts, killedRun)
	for _, test := range realStores {
		t.Run(test.name, func(t *testing.T) {
			addr := freePort(t)
			test.start(t, addr, t.TempDir(), test.versioned)
			env, b := storetest.RemoteS3(t, "http://"+addr, test.versioned)
			killedTwice(t, env, b, prompts, all, wanted)
			want(t, env.List(), "report", "-o", filepath.Join(t.TempDir(), "r.html"), realOut)
		})
	}
}

// killedTwice kills a run two times, gives its command again, and compares the files with those of a local run.
func killedTwice(t *testing.T, env storetest.Environment, b *storetest.Bucket, prompts string, all *summary.Summary, wanted map[string]string) {
	t.Helper()
	w := newWorker(t, slowly(simulator.Options{}))
	args := killedRun(w.URL, prompts, realOut)
	var kept int64
	for i := range int64(2) {
		kept += killAndGoOn(t, w, all.Calls.Requests*(i+1)/3, all, env, b, args, true)
		sameInBucket(t, env, b, wanted)
	}
	if kept == 0 {
		t.Error("no kill left anything in the journal")
	}
	want(t, env.List(), "journal", "verify", realOut)
	want(t, env.List(), "journal", "compact", realOut)
}

// sameInBucket compares the run in a bucket with a local one, and proves it.
func sameInBucket(t *testing.T, env storetest.Environment, b *storetest.Bucket, wanted map[string]string) {
	t.Helper()
	if diff := cmp.Diff(wanted, files(t, download(t, b))); diff != "" {
		t.Errorf("files differ from those of the local run: %s", diff)
	}
	if said := want(t, env.List(), "verify", realOut); !strings.Contains(said, "proved") {
		t.Errorf("verify says %q", said)
	}
}

// A store that is killed under a run and started again has lost nothing that the run relies on, and the run
// ends with the files of a local one.
func TestRealStoresAreKilled(t *testing.T) {
	prompts := mixed(t, killedPrompts)
	all, wanted := undisturbed(t, prompts, killedRun)
	for _, test := range realStores {
		t.Run(test.name, func(t *testing.T) {
			addr, dir := freePort(t), t.TempDir()
			p := test.start(t, addr, dir, test.versioned)
			env, b := storetest.RemoteS3(t, "http://"+addr, test.versioned)
			w := newWorker(t, slowly(simulator.Options{}))
			r := begin(t, env.List(), killedRun(w.URL, prompts, realOut)...)
			eventually(t, "a third of the requests", func() bool { return w.Stats().Requests >= all.Calls.Requests/3 || !r.alive() })
			if !r.alive() {
				t.Fatalf("the run ended before the kill: this test shows nothing\n%s", r.stderr.String())
			}
			endGroup(t, p.cmd)
			<-p.ended
			time.Sleep(3 * time.Second) // nothing can be saved all this time
			test.start(t, addr, dir, test.versioned)
			within(t, startPatience, "the run ends", func() bool { return !r.alive() })
			if code := r.wait(t); code != exitDone {
				t.Fatalf("exit code %d\n%s", code, r.stderr.String())
			}
			if s := w.Stats(); s.AskedTwice != 0 {
				t.Errorf("%d generations were asked twice", s.AskedTwice)
			}
			sameInBucket(t, env, b, wanted)
		})
	}
}

// documentedPolicy is the policy of docs/storage.md for the folder runs/out of a bucket, without one right.
func documentedPolicy(t *testing.T, without string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "storage.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), "```json\n")
	policy, _, ended := strings.Cut(text, "```")
	if !found || !ended {
		t.Fatal("docs/storage.md has no policy")
	}
	policy = strings.NewReplacer("BUCKET", "bucket", "runs/1/", "runs/out/").Replace(policy)
	if without == "" {
		return policy
	}
	if !strings.Contains(policy, `"`+without+`"`) {
		t.Fatalf("the policy of docs/storage.md lacks %s", without)
	}
	// MinIO allows no empty list of actions, and a condition only with the actions that have it.
	unused := map[bool]string{true: `"s3:ListBucketVersions"`, false: `"s3:GetObjectTagging"`}[without == "s3:ListBucket"]
	return strings.Replace(policy, `"`+without+`"`, unused, 1)
}

// The rights that docs/storage.md lists are enough to run, to be killed, to go on and to verify. They reach
// nothing beside the folder, and a run that lacks one names it.
func TestRealRights(t *testing.T) {
	prompts := mixed(t, killedPrompts)
	all, wanted := undisturbed(t, prompts, killedRun)
	addr := freePort(t)
	startMinIO(t, addr, t.TempDir(), false)
	url := "http://" + addr
	_, b := storetest.RemoteS3(t, url, false)
	b.Put(t, "other/run.json", []byte("{}"))
	user := storetest.Limited(t, url, documentedPolicy(t, ""))
	killedTwice(t, user, b, prompts, all, wanted)

	w := newWorker(t, simulator.Options{})
	p := begin(t, user.List(), runOf(w.URL, prompts, "s3://bucket/other")...)
	if code, stderr := p.wait(t), p.stderr.String(); code != exitFailed || !strings.Contains(stderr, "grant s3:") {
		t.Errorf("beside the folder: exit code %d\n%s", code, stderr)
	}
	if got := b.Objects(t, "other/"); len(got) != 1 {
		t.Errorf("beside the folder there are now %d objects", len(got))
	}
	for _, right := range []string{"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"} {
		lacking := storetest.Limited(t, url, documentedPolicy(t, right))
		p := begin(t, lacking.List(), runOf(w.URL, prompts, realOut)...)
		code, stderr := p.wait(t), p.stderr.String()
		if code != exitFailed || !strings.Contains(stderr, `no permission in the bucket "bucket" (403): grant `+right+` on "runs/out/`) {
			t.Errorf("without %s: exit code %d\n%s", right, code, stderr)
		}
		if strings.Contains(stderr, lacking["AWS_SESSION_TOKEN"]) || strings.Contains(stderr, lacking["AWS_SECRET_ACCESS_KEY"]) {
			t.Errorf("without %s: a key is shown", right)
		}
	}
	if n := w.Stats().Requests; n != 0 {
		t.Errorf("%d requests were made by runs that lack a right", n)
	}
	sameInBucket(t, user, b, wanted)
}

func startMinIO(t *testing.T, addr, dir string, _ bool) *process {
	t.Helper()
	keys := storetest.Keys(t)
	p := serveReal(t, addr, []string{
		"MINIO_ROOT_USER=" + keys["AWS_ACCESS_KEY_ID"], "MINIO_ROOT_PASSWORD=" + storetest.Secret, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
	}, installedReal(t, "minio"), "server", "--quiet", "--address", addr, dir)
	within(t, startPatience, "MinIO is ready", func() bool { return p.alive() && ready(t, "http://"+addr+"/minio/health/cluster") })
	return p
}

// startVersity serves the folder's files and their versions, each below dir. Their attributes lie in a
// folder, too, but not with versions: versitygw 1.8 then loses a file that is written again after its
// removal.
func startVersity(t *testing.T, addr, dir string, versioned bool) *process {
	t.Helper()
	keys := storetest.Keys(t)
	folder := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := []string{"--port", addr, "posix", "--sidecar", folder("attributes"), folder("files")}
	if versioned {
		args = []string{"--port", addr, "posix", "--versioning-dir", folder("versions"), folder("files")}
	}
	return serveReal(t, addr, []string{"ROOT_ACCESS_KEY=" + keys["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY=" + storetest.Secret},
		installedReal(t, "versitygw"), args...)
}

func ready(t *testing.T, url string) bool {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	defer a.Body.Close()
	return a.StatusCode == http.StatusOK
}

// installedReal returns the path of something in .bin/real.
func installedReal(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", ".bin", "real", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: make real installs it", err)
	}
	return path
}

// authority writes the certificate of a private authority, and a certificate for 127.0.0.1 with its key.
func authority(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	root, rootKey := newCertificate(t, nil, nil, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority of our own"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	leaf, leafKey := newCertificate(t, root, rootKey, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "gpu"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost", hostname(t)},
	})
	secret, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	ca, cert, key = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		ca: {Type: "CERTIFICATE", Bytes: root.Raw}, cert: {Type: "CERTIFICATE", Bytes: leaf.Raw}, key: {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		write(t, name, string(pem.EncodeToMemory(block)))
	}
	return ca, cert, key
}

func hostname(t *testing.T) string {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func newCertificate(t *testing.T, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent, parentKey = c, key
	}
	b, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(b)
	if err != nil {
		t.Fatal(err)
	}
	return made, key
}

// nginxConfig is that of a reverse proxy with TLS which closes connections after few requests, limits
// how many requests are under way, and answers with its own pages in HTML.
var nginxConfig = template.Must(template.New("").Parse(`
daemon off;
pid {{.Dir}}/pid;
error_log {{.Dir}}/error.log;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	keepalive_requests 7;
	keepalive_timeout 1s;
	limit_conn_zone $server_port zone=all:1m;
	server {
		listen {{.Addr}} ssl http2;
		ssl_certificate {{.Cert}};
		ssl_certificate_key {{.Key}};
		error_page 502 504 {{.Pages}};
		location / {
			limit_conn all 6;
			proxy_pass http://{{.Worker}};
			proxy_next_upstream off;
		}
		location = /sorry.html {
			internal;
			default_type text/html;
			return 200 "<!DOCTYPE html><title>Sorry</title><h1>We are back soon</h1>";
		}
		location = /sign-in {
			default_type text/html;
			return 200 "<!DOCTYPE html><title>Sign in</title><form method=post>";
		}
	}
}
`))

// The pages that nginx shows for 502 and 504: one of its own under that status, the same as a success, and
// the way to a page to sign in.
const (
	ownPage    = "/sorry.html"
	ownSuccess = "=200 /sorry.html"
	elsewhere  = "=302 /sign-in"
)

// startNginx starts nginx before a worker and returns its URL and its log.
func startNginx(t *testing.T, worker, cert, key, pages string) (url, log string) {
	t.Helper()
	dir, addr := t.TempDir(), freePort(t)
	var config bytes.Buffer
	if err := nginxConfig.Execute(&config, map[string]string{"Dir": dir, "Addr": addr, "Cert": cert, "Key": key, "Worker": worker, "Pages": pages}); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "nginx.conf"), config.String())
	log = filepath.Join(dir, "error.log")
	serveReal(t, addr, nil, found(t, "nginx"), "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", log)
	return "https://" + addr + "/v1", log
}

// sameAsLocal runs args into a folder and compares its files with those of a run without anything
// between the program and the worker.
func sameAsLocal(t *testing.T, wanted map[string]string, env []string, args []string) *summary.Summary {
	t.Helper()
	out := args[len(args)-1]
	s := completeAt(t, env, args...)
	if diff := cmp.Diff(wanted, files(t, out)); diff != "" {
		t.Errorf("files differ from those of the local run: %s", diff)
	}
	proved(t, out)
	if s.Calls.Failed != 0 {
		t.Errorf("%d calls failed for good", s.Calls.Failed)
	}
	return s
}

// behind is the command line of the run that all of these tests make; its last word is OUT.
func behind(url, prompts, out string, more ...string) []string {
	return append([]string{
		"run", "--url", url, "--model", "simulated", "--prompts", prompts, "--json", "--set", "actor.n=3", "--set", "judge.n=4", "--set", "prompts.max_bad_prompts=0.1",
	}, append(more, "--out", out)...)
}

// localRun returns the prompts and the files of that run.
func localRun(t *testing.T) (prompts string, wanted map[string]string) {
	t.Helper()
	prompts = mixed(t, 20)
	out := filepath.Join(t.TempDir(), "out")
	complete(t, behind(newWorker(t, simulator.Options{World: uneven()}).URL, prompts, out)...)
	return prompts, files(t, out)
}

// Behind nginx with a private authority, kept connections end after seven requests, and requests beyond
// a limit get a page in HTML. When the worker is gone for a while, nginx answers 502.
func TestRealNginx(t *testing.T) {
	prompts, wanted := localRun(t)
	ca, cert, key := authority(t, t.TempDir())
	w := newWorker(t, simulator.Options{World: uneven(), Latency: 5 * time.Millisecond})
	url, log := startNginx(t, strings.TrimSuffix(strings.TrimPrefix(w.URL, "http://"), "/v1"), cert, key, ownPage)

	out := filepath.Join(t.TempDir(), "out")
	_, stderr, code := coeval(t, behind(url, prompts, out)...)
	if code != exitFailed || !strings.Contains(stderr, "certificate") || !strings.Contains(stderr, "ca_file") {
		t.Errorf("without the authority: exit code %d\n%s", code, stderr)
	}
	sameAsLocal(t, wanted, nil, behind(url, prompts, filepath.Join(t.TempDir(), "out"), "--set", "worker.ca_file="+ca))
	if b, err := os.ReadFile(log); err != nil || !bytes.Contains(b, []byte("limiting connections by zone")) {
		t.Errorf("nothing was turned away: this run shows nothing of the limit (%v)\n%s", err, b)
	}
	// SSL_CERT_FILE works without a setting.
	sameAsLocal(t, wanted, []string{"SSL_CERT_FILE=" + ca}, behind(url, prompts, filepath.Join(t.TempDir(), "out")))

	// The worker ends and comes back on the same address while the run goes on.
	for _, pages := range []string{ownPage, ownSuccess, elsewhere} {
		addr := freePort(t)
		worker := serveSimulator(t, addr)
		url, _ = startNginx(t, addr, cert, key, pages)
		out = filepath.Join(t.TempDir(), "out")
		p := begin(t, nil, behind(url, prompts, out, "--set", "worker.ca_file="+ca)...)
		eventually(t, "requests", func() bool { return worker.Stats().Requests > 50 || !p.alive() })
		worker.stop()
		time.Sleep(2 * time.Second) // nginx shows its page all this time
		if !p.alive() {
			t.Errorf("with %s: the run ended before the worker: exit code %d\n%s", pages, p.wait(t), p.stderr.String())
			continue
		}
		serveSimulator(t, addr)
		if code := p.wait(t); code != exitDone {
			t.Errorf("with %s: exit code %d\n%s", pages, code, p.stderr.String())
			continue
		}
		if diff := cmp.Diff(wanted, files(t, out)); diff != "" {
			t.Errorf("with %s: files differ from those of the local run: %s", pages, diff)
		}
		proved(t, out)
	}
}

// addressedWorker is a worker at a certain address, which can be stopped.
type addressedWorker struct {
	*simulator.Server

	server *http.Server
}

func (w *addressedWorker) stop() { _ = w.server.Close() } // requests in flight break off

// serveSimulator serves a worker at an address.
func serveSimulator(t *testing.T, addr string) *addressedWorker {
	t.Helper()
	s, err := simulator.New(simulator.Options{World: uneven(), Latency: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	w := &addressedWorker{Server: s, server: &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}}
	go w.server.Serve(l) //nolint:errcheck // it ends with the test
	t.Cleanup(w.stop)
	return w
}

// Through a CONNECT proxy the proxy sees host names and no texts.
func TestRealConnectProxy(t *testing.T) {
	prompts, wanted := localRun(t)
	ca, cert, key := authority(t, t.TempDir())
	w := newWorker(t, simulator.Options{World: uneven(), Latency: 5 * time.Millisecond})
	url, _ := startNginx(t, strings.TrimSuffix(strings.TrimPrefix(w.URL, "http://"), "/v1"), cert, key, ownPage)
	// Go's client uses no proxy for localhost and loopback addresses, so the URL has this machine's name.
	host := hostname(t)
	if addresses, err := net.DefaultResolver.LookupHost(t.Context(), host); err != nil || !slices.Contains(addresses, "127.0.0.1") {
		t.Skipf("this machine's name %s does not lead to 127.0.0.1: %v, %v", host, addresses, err)
	}
	_, port, err := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(url, "https://"), "/v1"))
	if err != nil {
		t.Fatal(err)
	}
	proxy, dir := freePort(t), t.TempDir()
	_, proxyPort, err := net.SplitHostPort(proxy)
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	write(t, filepath.Join(dir, "conf"), fmt.Sprintf(
		"Port %s\nListen 127.0.0.1\nTimeout 600\nMaxClients 200\nLogFile \"%s\"\nLogLevel Connect\nAllow 127.0.0.1\nConnectPort %s\n", proxyPort, log, port))
	serveReal(t, proxy, nil, found(t, "tinyproxy"), "-d", "-c", filepath.Join(dir, "conf"))
	s := sameAsLocal(t, wanted, []string{"HTTPS_PROXY=http://" + proxy},
		behind("https://"+host+":"+port+"/v1", prompts, filepath.Join(t.TempDir(), "out"), "--set", "worker.ca_file="+ca))
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("CONNECT "+host+":"+port)) || s.Calls.Requests == 0 {
		t.Errorf("the proxy was not used:\n%s", b)
	}
}

// LiteLLM's proxy passes on the fields that it knows, under names of its own for models and errors.
func TestRealLiteLLM(t *testing.T) {
	prompts, wanted := localRun(t)
	w := newWorker(t, simulator.Options{World: uneven(), Latency: 5 * time.Millisecond, APIKey: "sk-behind"})
	dir, addr := t.TempDir(), freePort(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.yaml")
	write(t, config, fmt.Sprintf(`model_list:
  - model_name: simulated
    litellm_params: {model: openai/simulated, api_base: %q, api_key: sk-behind}
general_settings: {master_key: sk-gateway}
litellm_settings: {num_retries: 0, telemetry: false}
`, w.URL))
	p := serveReal(t, addr, []string{"LITELLM_LOCAL_MODEL_COST_MAP=True", "DO_NOT_TRACK=1"},
		installedReal(t, "litellm/bin/litellm"), "--config", config, "--host", "127.0.0.1", "--port", port, "--telemetry", "False")
	url := "http://" + addr + "/v1"
	within(t, startPatience, "the gateway is ready", func() bool { return p.alive() && ready(t, "http://"+addr+"/health/liveliness") })

	wrong := begin(t, []string{"COEVAL_TEST_KEY=sk-wrong"}, behind(url, prompts, filepath.Join(t.TempDir(), "out"), "--set", "worker.api_key_env=COEVAL_TEST_KEY")...)
	if code := wrong.wait(t); code != exitFailed || !strings.Contains(wrong.stderr.String(), "it rejects the API key") {
		t.Errorf("with a wrong key: exit code %d\n%s", code, wrong.stderr.String())
	}
	out := filepath.Join(t.TempDir(), "out")
	s := completeAt(t, []string{"COEVAL_TEST_KEY=sk-gateway"}, behind(url, prompts, out, "--set", "worker.api_key_env=COEVAL_TEST_KEY")...)
	got := files(t, out)
	for _, name := range []string{"README.md", "run.json"} { // nothing shows through the gateway that the worker is simulated
		delete(wanted, name)
		delete(got, name)
	}
	if diff := cmp.Diff(wanted, got); diff != "" || s.Calls.Failed != 0 {
		t.Errorf("%d calls failed, files differ from those of the local run: %s", s.Calls.Failed, diff)
	}
	proved(t, out)
}

// A real vLLM with a model of random weights serves free and enforced verdicts. It is killed with its
// engine and started again while a run goes on, and the run ends with the files of an undisturbed one.
func TestRealVLLM(t *testing.T) {
	addr := freePort(t)
	p := startVLLM(t, addr)
	url := "http://" + addr + "/v1"
	prompts := promptFile(t, 8)
	run := func(out string, more ...string) []string {
		return append([]string{
			"run", "--url", url, "--model", "random", "--prompts", prompts, "--out", out, "--json",
			"--set", "actor.n=2", "--set", "judge.n=3", "--set", "actor.max_tokens=24", "--set", "judge.max_tokens=24", "--set", "meta_judge.max_tokens=24",
			"--set", `actor.extra_body={logit_bias: {"2": 6}}`, "--set", "client.patience=10m",
		}, more...)
	}
	free := filepath.Join(t.TempDir(), "free")
	s := complete(t, run(free)...)
	if s.Calls.Failed != 0 || s.Unparsed < 0.5 {
		t.Errorf("free: %d calls failed, %.2f unparsed; random texts have no verdicts", s.Calls.Failed, s.Unparsed)
	}
	proved(t, free)
	enforced := filepath.Join(t.TempDir(), "enforced")
	s = complete(t, run(enforced, "--set", "verdicts=enforced", "--set", "judge.max_tokens=64", "--set", "meta_judge.max_tokens=64")...)
	if s.Calls.Failed != 0 || s.Unparsed > 0.1 {
		t.Errorf("enforced: %d calls failed, %.2f unparsed", s.Calls.Failed, s.Unparsed)
	}
	proved(t, enforced)

	again := filepath.Join(t.TempDir(), "again")
	r := begin(t, nil, run(again)...)
	eventually(t, "a first answer is in the journal", func() bool { return !r.alive() || sum(durable(t, again)) > 0 })
	if !r.alive() {
		t.Fatal("the run ended before the kill: this test shows nothing")
	}
	endGroup(t, p.cmd)
	<-p.ended
	startVLLM(t, addr)
	within(t, startPatience, "the run ends", func() bool { return !r.alive() })
	if code := r.wait(t); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, r.stderr.String())
	}
	proved(t, again)
	if diff := cmp.Diff(files(t, free), files(t, again)); diff != "" {
		t.Errorf("files differ from those of the undisturbed run: %s", diff)
	}
}

// startVLLM serves the model of random weights that make real has made.
func startVLLM(t *testing.T, addr string) *process {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	p := serveReal(t, addr, []string{"VLLM_CPU_KVCACHE_SPACE=1", "VLLM_CPU_OMP_THREADS_BIND=nobind", "HF_HUB_OFFLINE=1", "VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1"},
		installedReal(t, "vllm/bin/vllm"), "serve", installedReal(t, "model"), "--served-model-name", "random", "--host", "127.0.0.1", "--port", port,
		"--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "8", "--dtype", "bfloat16")
	within(t, startPatience, "vLLM is ready", func() bool {
		if !p.alive() {
			t.Fatalf("vLLM ended:\n%s%s", p.stdout.String(), p.stderr.String())
		}
		return ready(t, "http://"+addr+"/health")
	})
	return p
}

// The same vLLM is read by the probabilities of the labels' own tokens, however unlikely a model of random weights finds
// them, and never under the constraint that its judgments in words have.
func TestRealVLLMReads(t *testing.T) {
	addr := freePort(t)
	startVLLM(t, addr)
	out := filepath.Join(t.TempDir(), "reads")
	args := []string{
		"run", "--url", "http://" + addr + "/v1", "--model", "random", "--prompts", promptFile(t, 4), "--out", out,
		"--set", "actor.n=2", "--set", "judge.n=4", "--set", "actor.max_tokens=24", "--set", "judge.max_tokens=64", "--set", "verdicts=enforced",
		"--set", "judge.verdict=read", "--set", "meta_judge.verdict=read", "--set", "method.read_min_mass=0.000001",
		"--set", `actor.extra_body={logit_bias: {"2": 6}}`, "--set", "client.patience=10m",
	}
	r := begin(t, nil, args...)
	if code := r.wait(t); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, r.stderr.String())
	}
	for _, role := range []string{"judge reads 0, 1, 2, 3, 4, 5 of ", "meta_judge reads A, B of "} {
		if said := r.stderr.String(); !strings.Contains(said, role) || !strings.Contains(said, "by logprob_token_ids") {
			t.Errorf("%q with logprob_token_ids is not said:\n%s", role, said)
		}
	}
	proved(t, out)
	// All labels have a probability: a random model finds each of 4,000 tokens about equally likely.
	stats := readRun(t, out).Stats
	for kind, s := range map[string]schemas.ReadStats{"scores": stats.ScoreReads, "comparisons": stats.ComparisonReads} {
		if mass := float64(s.MassMicros) / float64(max(s.Reads, 1)); s.Reads == 0 || schemas.Sum(s.Unparsed) > 0 || mass < 1 || mass > 0.2e6 {
			t.Errorf("%s are %+v, with a mean mass of %v millionths", kind, s, mass)
		}
	}
}
