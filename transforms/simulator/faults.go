package simulator

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A Fault is one way for a request to go wrong. Besides those below, every HTTP status from
// 401 to 599 is a fault: the request is refused with it at once, as in "429" or "503". So is
// "302", which redirects.
type Fault string

// The faults. Those of the first group draw anew at each ask of the same request, those of
// the second depend on the messages alone: asked again, they go wrong again.
const (
	// FaultReset closes the connection when the answer is due.
	FaultReset Fault = "reset"
	// FaultSlow makes the answer take Options.SlowFactor times as long.
	FaultSlow Fault = "slow"
	// FaultHang takes no slot and never answers: it ends when the client goes away.
	FaultHang Fault = "hang"
	// FaultTruncated sends half of the body and closes the connection, FaultMalformed
	// a whole body that is no JSON.
	FaultTruncated Fault = "truncated"
	FaultMalformed Fault = "malformed"
	// FaultErrorObject answers at once with status 200 and an error, FaultHTML with status 200
	// and a proxy's page.
	FaultErrorObject Fault = "error"
	FaultHTML        Fault = "html"
	// FaultTrickle takes no slot and sends a body a byte at a time, without end; FaultHuge sends one
	// of 100 MB.
	FaultTrickle Fault = "trickle"
	FaultHuge    Fault = "huge"
	// FaultUTF8 puts a byte into each choice's content that is no UTF-8, FaultFilter withholds all
	// contents with finish_reason content_filter.
	FaultUTF8   Fault = "utf8"
	FaultFilter Fault = "filter"
	// FaultEmpty makes each choice's content "", FaultNull null; FaultMissing leaves out the last choice.
	FaultEmpty   Fault = "empty"
	FaultNull    Fault = "null"
	FaultMissing Fault = "missing"

	// FaultPermanent refuses with status 400.
	FaultPermanent Fault = "400"
	// FaultPoison closes the connection at once.
	FaultPoison Fault = "poison"
)

var faultNames = []Fault{
	FaultReset, FaultSlow, FaultHang, FaultTruncated, FaultMalformed, FaultErrorObject, FaultHTML,
	FaultTrickle, FaultHuge, FaultUTF8, FaultFilter, FaultEmpty, FaultNull, FaultMissing, FaultPermanent, FaultPoison,
}

// Faults holds the share of requests that meets each fault.
type Faults map[Fault]float64

// ParseFaults reads the form "429=0.1,503=0.05,reset=0.02". The empty string is no faults.
func ParseFaults(s string) (Faults, error) {
	faults := Faults{}
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("simulator: fault %q wants the form NAME=SHARE, as in 429=0.1", part)
		}
		fault := Fault(strings.TrimSpace(name))
		if _, twice := faults[fault]; twice {
			return nil, fmt.Errorf("simulator: fault %s is given twice", fault)
		}
		share, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return nil, fmt.Errorf("simulator: share of fault %q is not a number", part)
		}
		faults[fault] = share
	}
	return faults, faults.Validate()
}

// Validate returns an error that names every fault that is unknown or whose share is none.
func (f Faults) Validate() error {
	var errs []error
	sum := 0.0
	for _, fault := range f.sorted() {
		if !fault.known() {
			errs = append(errs, fmt.Errorf("simulator: no fault %q; known are %s, and the HTTP statuses 401 to 599", fault, listFaults()))
		}
		share := f[fault]
		if !(share >= 0 && share <= 1) {
			errs = append(errs, fmt.Errorf("simulator: share of fault %s is %v; allowed is 0 to 1", fault, share))
		}
		if !fault.lasting() {
			sum += share
		}
	}
	if len(errs) == 0 && sum > 1+1e-9 {
		errs = append(errs, fmt.Errorf("simulator: the shares of the faults that come at random sum to %v, more than 1", sum))
	}
	return errors.Join(errs...)
}

// String writes faults in the form that ParseFaults reads.
func (f Faults) String() string {
	parts := make([]string, 0, len(f))
	for _, fault := range f.sorted() {
		parts = append(parts, string(fault)+"="+strconv.FormatFloat(f[fault], 'g', -1, 64))
	}
	return strings.Join(parts, ",")
}

func (f Faults) sorted() []Fault {
	names := make([]Fault, 0, len(f))
	for fault := range f {
		names = append(names, fault)
	}
	slices.Sort(names)
	return names
}

func listFaults() string {
	names := make([]string, 0, len(faultNames))
	for _, fault := range faultNames {
		names = append(names, string(fault))
	}
	return strings.Join(names, ", ")
}

func (f Fault) known() bool {
	if slices.Contains(faultNames, f) {
		return true
	}
	return f.status() > 0
}

// lasting says that the fault depends on the messages alone.
func (f Fault) lasting() bool { return f == FaultPermanent || f == FaultPoison }

// status returns the status that the fault refuses with, or 0.
func (f Fault) status() int {
	n, err := strconv.Atoi(string(f))
	if err != nil || n != http.StatusFound && (n < 400 || n > 599) || len(f) != 3 {
		return 0
	}
	return n
}

// A faultLine lays the faults out on [0, 1), so that one draw decides.
type faultLine struct {
	seed   uint64
	faults []Fault
	until  []float64
	// permanent and poison are the shares of the lasting faults.
	permanent, poison float64
}

func newFaultLine(f Faults, seed uint64) faultLine {
	l := faultLine{seed: mix(seed + 1), permanent: f[FaultPermanent], poison: f[FaultPoison]}
	sum := 0.0
	for _, fault := range f.sorted() {
		if !fault.lasting() && f[fault] > 0 {
			sum += f[fault]
			l.faults = append(l.faults, fault)
			l.until = append(l.until, sum)
		}
	}
	if n := len(l.until); n > 0 && sum > 1-1e-9 {
		l.until[n-1] = math.Inf(1)
	}
	return l
}

// any says whether an ask can meet a fault.
func (l *faultLine) any() bool { return len(l.faults) > 0 || l.permanent > 0 || l.poison > 0 }

// draw returns the fault of one ask of a request, or "".
func (l *faultLine) draw(content, request uint64, attempt uint32) Fault {
	r := rng(mix(content ^ 0xfa117))
	if r.float() < l.poison {
		return FaultPoison
	}
	if r.float() < l.permanent {
		return FaultPermanent
	}
	r = rng(mix(request^l.seed) + uint64(attempt))
	u := r.float()
	for i, until := range l.until {
		if u < until {
			return l.faults[i]
		}
	}
	return ""
}
