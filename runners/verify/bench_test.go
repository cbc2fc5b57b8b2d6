package verify
import ("testing";"os")
func BenchmarkOut(b *testing.B) {
	dir := os.Getenv("VERIFY_OUT")
	for range b.N {
		r, err := Out(b.Context(), dir)
		if err != nil { b.Fatal(err) }
		for _, p := range r.Problems { b.Error(p) }
		b.Logf("%+v", r)
	}
}
