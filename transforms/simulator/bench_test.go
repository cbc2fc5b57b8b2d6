package simulator

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"coeval/schemas"
	"coeval/transforms/simulator/world"
	"coeval/transforms/simulator/world/worldtest"
)

// requests returns the request to each role in a world.
func requests(w *world.World) map[string][]schemas.Message {
	return worldtest.Requests(func(messages []schemas.Message, seed int64) string { return w.Answer(messages, "m", seed, 0).Text })
}

// discard is a response writer without the recorder's own cost.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func BenchmarkServeHTTP(b *testing.B) {
	w := world.Default()
	s, err := New(Options{World: &w})
	if err != nil {
		b.Fatal(err)
	}
	for role, messages := range requests(&w) {
		n := map[string]int{schemas.RoleActor: 7, schemas.RoleJudge: 11, schemas.RoleMetaJudge: 1}[role]
		body, err := json.Marshal(map[string]any{"model": "m", "messages": messages, "n": n, "seed": 1, "temperature": 0.8})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(role, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(body))
				s.ServeHTTP(discard{http.Header{}}, r)
			}
		})
	}
}

// BenchmarkHTTP includes the network and a plain client, both on the same cores.
func BenchmarkHTTP(b *testing.B) {
	w := world.Default()
	r, err := Start(Options{World: &w})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := r.Close(); err != nil {
			b.Error(err)
		}
	})
	body, err := json.Marshal(map[string]any{"model": "m", "messages": requests(&w)[schemas.RoleMetaJudge], "seed": 1})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		resp, err := http.Post(r.URL()+"/chat/completions", "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
