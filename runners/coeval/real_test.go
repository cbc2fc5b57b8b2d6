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

// Real object stores keep what a run that is killed twice has, and end with the files of a local run.
func TestRealStores(t *testing.T) {
	prompts := mixed(t, killedPrompts)
	all, wanted := undisturbed(t, prompts, killedRun)
	for _, test := range []struct {
		name      string
		versioned bool
		start     func(t *testing.T, addr, dir string)
	}{
		{"MinIO", false, startMinIO},
		{"MinIO with versions", true, startMinIO},
		{"versitygw", false, startVersity},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := freePort(t)
			test.start(t, addr, t.TempDir())
			env, b := storetest.RemoteS3(t, "http://"+addr, test.versioned)
			const out = "s3://bucket/runs/out"
			w := newWorker(t, slowly(simulator.Options{}))
			args := killedRun(w.URL, prompts, out)
			var kept int64
			for i := range int64(2) {
				kept += killAndGoOn(t, w, all.Calls.Requests*(i+1)/3, all, env, b, args, true)
				if diff := cmp.Diff(wanted, files(t, download(t, b))); diff != "" {
					t.Errorf("files differ from those of the local run: %s", diff)
				}
				if said := want(t, env.List(), "verify", out); !strings.Contains(said, "proved") {
					t.Errorf("verify says %q", said)
				}
			}
			if kept == 0 {
				t.Error("no kill left anything in the journal")
			}
			for _, args := range [][]string{{"journal", "verify", out}, {"journal", "compact", out}, {"report", "-o", filepath.Join(t.TempDir(), "r.html"), out}} {
				want(t, env.List(), args...)
			}
		})
	}
}

func startMinIO(t *testing.T, addr, dir string) {
	keys := storetest.Keys(t)
	p := serveReal(t, addr, []string{
		"MINIO_ROOT_USER=" + keys["AWS_ACCESS_KEY_ID"], "MINIO_ROOT_PASSWORD=" + storetest.Secret, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
	}, installedReal(t, "minio"), "server", "--quiet", "--address", addr, dir)
	within(t, startPatience, "MinIO is ready", func() bool { return p.alive() && ready(t, "http://"+addr+"/minio/health/cluster") })
}

func startVersity(t *testing.T, addr, dir string) {
	keys := storetest.Keys(t)
	serveReal(t, addr, []string{"ROOT_ACCESS_KEY=" + keys["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY=" + storetest.Secret},
		installedReal(t, "versitygw"), "--port", addr, "posix", "--sidecar", t.TempDir(), dir)
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
		location / {
			limit_conn all 6;
			proxy_pass http://{{.Worker}};
			proxy_next_upstream off;
		}
	}
}
`))

// startNginx starts nginx before a worker and returns its URL and its log.
func startNginx(t *testing.T, worker, cert, key string) (url, log string) {
	t.Helper()
	dir, addr := t.TempDir(), freePort(t)
	var config bytes.Buffer
	if err := nginxConfig.Execute(&config, map[string]string{"Dir": dir, "Addr": addr, "Cert": cert, "Key": key, "Worker": worker}); err != nil {
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
	url, log := startNginx(t, strings.TrimSuffix(strings.TrimPrefix(w.URL, "http://"), "/v1"), cert, key)

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
	addr := freePort(t)
	url, _ = startNginx(t, addr, cert, key)
	out = filepath.Join(t.TempDir(), "out")
	p := begin(t, nil, behind(url, prompts, out, "--set", "worker.ca_file="+ca)...)
	time.Sleep(2 * time.Second) // nginx answers 502 all this time
	serveSimulator(t, addr)
	if code := p.wait(t); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, p.stderr.String())
	}
	if diff := cmp.Diff(wanted, files(t, out)); diff != "" {
		t.Errorf("files differ from those of the local run: %s", diff)
	}
}

// serveSimulator serves a worker at an address.
func serveSimulator(t *testing.T, addr string) *simulator.Server {
	t.Helper()
	s, err := simulator.New(simulator.Options{World: uneven()})
	if err != nil {
		t.Fatal(err)
	}
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go server.Serve(l) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { server.Close() })
	return s
}

// Through a CONNECT proxy the proxy sees host names and no texts.
func TestRealConnectProxy(t *testing.T) {
	prompts, wanted := localRun(t)
	ca, cert, key := authority(t, t.TempDir())
	w := newWorker(t, simulator.Options{World: uneven(), Latency: 5 * time.Millisecond})
	url, _ := startNginx(t, strings.TrimSuffix(strings.TrimPrefix(w.URL, "http://"), "/v1"), cert, key)
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

// LiteLLM's proxy passes on what it knows, under names of its own for models and errors.
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
