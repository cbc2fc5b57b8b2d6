package endpoint

import (
	"testing"
	"testing/synctest"
	"time"

	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/stage"
)

// A model that was never served is denied at once. One that was served before is denied after three denials
// over more than 3 s, or over more than 2 minutes by a gateway, whose backends may be restarting.
func TestDenialsThatLast(t *testing.T) {
	for _, tt := range []struct {
		name   string
		served bool
		status int
		wants  []bool // of denials after 0, 2, 4 and 121 s
	}{
		{"never served", false, 404, []bool{true, true, true, true}},
		{"never served by a gateway", false, 503, []bool{true, true, true, true}},
		{"served before", true, 404, []bool{false, false, true, true}},
		{"served before by a gateway", true, 503, []bool{false, false, false, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, r := &Endpoint{models: map[string]*modelState{}}, &stage.Role{Model: "m"}
				if tt.served {
					e.RecordSuccess(r)
				}
				last := time.Duration(0)
				for i, at := range []time.Duration{0, 2 * time.Second, 4 * time.Second, 121 * time.Second} {
					<-time.After(at - last) // virtual time
					last = at
					if got := e.RecordDenial(r, &fault.Fault{Kind: fault.Denied, Status: tt.status}); got != tt.wants[i] {
						t.Errorf("the denial after %s lasts: %v, want %v", at, got, tt.wants[i])
					}
				}
			})
		})
	}
}
