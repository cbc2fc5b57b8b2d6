// Package progress shows the state of a run on one line that fits the terminal.
//
// A [Status] formats itself for a width, and drops the least important parts first. A [Screen]
// overwrites the line on a terminal, and appends lines to a log.
package progress

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"

	"coeval/transforms/infer"
)

// A Status describes the progress of a run at one moment.
type Status struct {
	// Total is the number of prompts of the run.
	Total int64
	// Elapsed is the time since the run began.
	Elapsed time.Duration
	// Now is the work so far, Before the work at the last poll, Interval ago.
	Now, Before infer.Snapshot
	Interval    time.Duration
	// Servers are the loads of the servers.
	Servers []Server
	// Silent is how long no server has answered. Zero means that some server answers.
	Silent time.Duration
	// Patience is how long the run waits while no server answers.
	Patience time.Duration
}

// A Server is the load of one server.
type Server struct {
	URL     string
	Failing bool
	// InUse is the number of generations in flight, Permits the largest number allowed.
	InUse, Permits float64
}

// part is a piece of a status line.
type part struct {
	text string
	// rank is 0 for the most important part. A line leaves out the highest ranks first.
	rank int
}

const separator = " · "

// Log returns the status as a line of a log, with the time since the run began.
func (s *Status) Log(columns int) string {
	elapsed := spell(s.Elapsed.Seconds())
	if text := s.only(); text != "" {
		return elapsed + ": " + text
	}
	return join(append([]part{{elapsed, 0}}, s.parts()...), columns)
}

// Bar returns the status as a line of a terminal, which begins with a bar where there is room.
func (s *Status) Bar(columns int) string {
	if text := s.only(); text != "" {
		return text
	}
	line := join(s.parts(), columns)
	// A bar of fewer than 10 cells adds nothing to the numbers.
	const least, most = 10, 30
	if room := columns - runewidth.StringWidth(line) - len("[] "); room >= least && s.Total > 0 {
		cells := min(room, most)
		done := int(min(float64(s.Now.Prompts)/float64(s.Total), 1) * float64(cells))
		line = "[" + strings.Repeat("#", done) + strings.Repeat("-", cells-done) + "] " + line
	}
	return line
}

// only returns the text of a status that is more important than any number.
func (s *Status) only() string {
	switch {
	case s.Silent > 0:
		return fmt.Sprintf("no server answers for %s, waiting up to %s: %s", spell(s.Silent.Seconds()), s.Patience, s.Now.LastFault)
	case s.Total > 0 && s.Now.Prompts >= s.Total:
		return "writing files"
	}
	return ""
}

// join joins the parts that fit, in their order. It leaves out the highest ranks first.
func join(parts []part, columns int) string {
	for {
		texts := make([]string, len(parts))
		least := 0
		for i, p := range parts {
			texts[i] = p.text
			if p.rank > parts[least].rank {
				least = i
			}
		}
		line := strings.Join(texts, separator)
		if len(parts) <= 1 || runewidth.StringWidth(line) <= columns {
			return line
		}
		parts = slices.Delete(slices.Clone(parts), least, least+1)
	}
}

// stalls reports whether prompts are left and nothing moves after a fault, as during a Retry-After.
func (s *Status) stalls() bool {
	now, before := &s.Now, &s.Before
	return now.LastFault != "" && now.Requests > 0 && now.InFlight == 0 && now.Prompts < s.Total &&
		now.Generations == before.Generations && now.Replayed == before.Replayed
}

// parts returns the numbers of the status, in the order of the line.
func (s *Status) parts() []part {
	n := humanize.Comma
	parts := []part{{fmt.Sprintf("%s/%s prompts", n(s.Now.Prompts), n(s.Total)), 0}}
	add := func(rank int, text string) { parts = append(parts, part{text, rank}) }
	if left, ok := s.left(); ok {
		add(1, spell(left)+" left")
	}
	if s.Now.Failed > 0 {
		add(2, n(s.Now.Failed)+" failed")
	}
	if s.stalls() {
		add(2, "waiting after: "+s.Now.LastFault)
	}
	add(3, rate(s.Now.Generations-s.Before.Generations, s.Interval)+" generations/s")
	add(4, n(s.Now.InFlight)+" in flight")
	if s.Now.Permits > 0 {
		add(6, fmt.Sprintf("%.0f %% of the limit", 100*s.Now.Held/float64(s.Now.Permits)))
	}
	add(7, rate(s.Now.Requests-s.Before.Requests, s.Interval)+" requests/s")
	if s.Now.Replayed > 0 {
		add(8, n(s.Now.Replayed)+" replayed")
	}
	if failing := s.failing(); failing != "" {
		add(5, failing)
	}
	for i := range s.Servers {
		if len(s.Servers) > 1 {
			add(10+i, s.Servers[i].String())
		}
	}
	if s.Now.Retries > 0 && s.Now.LastFault != "" {
		add(9, fmt.Sprintf("%s retries, the last: %s", n(s.Now.Retries), s.Now.LastFault))
	}
	return parts
}

// failing counts the servers of several that fail.
func (s *Status) failing() string {
	failing := 0
	for i := range s.Servers {
		if s.Servers[i].Failing {
			failing++
		}
	}
	if failing == 0 || len(s.Servers) < 2 {
		return ""
	}
	return fmt.Sprintf("%d of %d servers fail", failing, len(s.Servers))
}

func (s *Server) String() string {
	name := s.URL
	if u, err := url.Parse(s.URL); err == nil {
		name = u.Host
	}
	if s.Failing {
		return name + " fails"
	}
	return fmt.Sprintf("%s %.0f/%.0f", name, s.InUse, s.Permits)
}

func rate(count int64, in time.Duration) string {
	if in <= 0 {
		return "0"
	}
	return humanize.Comma(int64(math.Round(float64(count) / in.Seconds())))
}

// left estimates the seconds until all prompts are done, false before the first prompt that servers
// were asked about. Replayed prompts take no time, so only the others count:
//
//	asked so far   a  prompts done that servers were asked about, and half of those under way
//	still to ask   half of those under way, and of the prompts not begun the share that was asked so far
//	seconds left   asking time × still to ask / a
func (s *Status) left() (seconds float64, ok bool) {
	n := &s.Now
	asking := n.Asking.Seconds()
	if n.Asked == 0 || asking <= 0 || n.Begun == 0 {
		return 0, false
	}
	underWay := float64(max(n.Begun-n.Prompts, 0))
	share := (float64(n.Asked) + underWay) / float64(n.Begun)
	asked := float64(n.Asked) + underWay/2
	toAsk := underWay/2 + float64(max(s.Total-n.Begun, 0))*share
	return asking * toAsk / asked, true
}

// spell writes a time with its two largest units: 57s, 12m5s, 3h20m, 4d7h.
func spell(seconds float64) string {
	const minute, hour, day, years = 60, 3600, 86400, 100 * 365 * 86400
	if seconds >= years || math.IsNaN(seconds) {
		return "over 100 years"
	}
	units := func(large, small int64, ofLarge, ofSmall string) string {
		n := int64(seconds) / small
		text := fmt.Sprintf("%d%s", n/(large/small), ofLarge)
		if rest := n % (large / small); rest > 0 {
			text += fmt.Sprintf("%d%s", rest, ofSmall)
		}
		return text
	}
	switch seconds = math.Round(max(seconds, 0)); {
	case seconds < minute:
		return fmt.Sprintf("%.0fs", seconds)
	case seconds < hour:
		return units(minute, 1, "m", "s")
	case seconds < day:
		return units(hour, minute, "h", "m")
	}
	return units(day, hour, "d", "h")
}
