package simulator

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"coeval/transforms/simulator/world"
)

// A Fault is one way in which a request fails. Besides the constants below, every HTTP status from
// 401 to 599 is a fault, as in "429" or "503": the server refuses the request at once. So is "302", a
// redirect.
type Fault string

// The faults. The first group is drawn anew at each repetition of a request. The second group depends
// on the messages alone, so that every repetition fails too.
const (
	// FaultReset closes the connection when the answer is due.
	FaultReset Fault = "reset"
	// FaultSlow multiplies the time of the answer by Options.SlowFactor.
	FaultSlow Fault = "slow"
	// FaultHang occupies no slot and never answers: it ends when the client disconnects.
	FaultHang Fault = "hang"
	// FaultTruncated sends half of the body and closes the connection. FaultMalformed sends a whole
	// body that is not JSON.
	FaultTruncated Fault = "truncated"
	FaultMalformed Fault = "malformed"
	// FaultErrorObject answers at once with status 200 and an error object, FaultHTML with status 200
	// and a proxy's page.
	FaultErrorObject Fault = "error"
	FaultHTML        Fault = "html"
	// FaultTrickle occupies no slot and sends an endless body byte by byte. FaultHuge sends a body of
	// 100 MB.
	FaultTrickle Fault = "trickle"
	FaultHuge    Fault = "huge"
	// FaultUTF8 puts an invalid byte into each choice's content. FaultFilter withholds all contents,
	// with finish_reason content_filter.
	FaultUTF8   Fault = "utf8"
	FaultFilter Fault = "filter"
	// FaultEmpty sets each choice's content to "", FaultNull to null. FaultMissing omits the last choice.
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

// Faults maps each fault to its share of requests.
type Faults map[Fault]float64

// ParseFaults parses the form "429=0.1,503=0.05,reset=0.02". The empty string means no faults.
func ParseFaults(s string) (Faults, error) {
	faults := Faults{}
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("simulator: fault %q does not have the form NAME=SHARE, for example 429=0.1", part)
		}
		fault := Fault(strings.TrimSpace(name))
		if _, twice := faults[fault]; twice {
			return nil, fmt.Errorf("simulator: fault %s occurs twice; remove one", fault)
		}
		share, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return nil, fmt.Errorf("simulator: share of fault %q is not a number", part)
		}
		faults[fault] = share
	}
	return faults, faults.Validate()
}

// Validate returns an error that names every fault with an unknown name or an invalid share.
func (f Faults) Validate() error {
	var errs []error
	sum := 0.0
	for _, fault := range f.sorted() {
		if !fault.known() {
			errs = append(errs, fmt.Errorf("simulator: unknown fault %q; allowed are %s, and the HTTP statuses 401 to 599", fault, listFaults()))
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
		errs = append(errs, fmt.Errorf("simulator: the shares of the random faults sum to %v; allowed is at most 1", sum))
	}
	return errors.Join(errs...)
}

// String returns the faults in the form that ParseFaults parses.
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

// lasting reports whether the fault depends on the messages alone.
func (f Fault) lasting() bool { return f == FaultPermanent || f == FaultPoison }

// status returns the status of a refusal by this fault, 0 if it is not one.
func (f Fault) status() int {
	n, err := strconv.Atoi(string(f))
	if err != nil || n != http.StatusFound && (n < 400 || n > 599) || len(f) != 3 {
		return 0
	}
	return n
}

// A faultLine divides [0, 1) among the faults, so that one draw decides.
type faultLine struct {
	seed   uint64
	faults []Fault
	until  []float64
	// permanent and poison are the shares of the lasting faults.
	permanent, poison float64
}

func newFaultLine(f Faults, seed uint64) faultLine {
	l := faultLine{seed: world.Mix(seed + 1), permanent: f[FaultPermanent], poison: f[FaultPoison]}
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

// any reports whether a request can fail at all.
func (l *faultLine) any() bool { return len(l.faults) > 0 || l.permanent > 0 || l.poison > 0 }

// draw returns the fault of one repetition of a request, or "".
func (l *faultLine) draw(content, request uint64, attempt uint32) Fault {
	r := world.Rand(world.Mix(content ^ 0xfa117))
	if r.Float64() < l.poison {
		return FaultPoison
	}
	if r.Float64() < l.permanent {
		return FaultPermanent
	}
	r = world.Rand(world.Mix(request^l.seed) + uint64(attempt))
	u := r.Float64()
	for i, until := range l.until {
		if u < until {
			return l.faults[i]
		}
	}
	return ""
}
