package progress

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"

	"coeval/schemas/sanitize"
)

// defaultColumns is the width of a log that no terminal shows.
const defaultColumns = 80

// A Screen writes one status line that changes, and messages that stay. On a terminal it rewrites the
// status line in place; elsewhere it writes each status as a new line. Its methods are safe for
// concurrent use.
type Screen struct {
	w io.Writer
	// live reports that w is a terminal that can erase a line.
	live bool
	// columns returns the width to fit.
	columns func() int

	mu    sync.Mutex
	shown bool // a status is on the last line
}

// NewScreen returns a screen on w, which is a terminal, a pipe or a file.
func NewScreen(w io.Writer) *Screen {
	s := &Screen{w: w, columns: logColumns}
	f, ok := w.(*os.File)
	if ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		s.live = true
		s.columns = func() int { return terminalColumns(f) }
	}
	return s
}

// terminalColumns returns the width of a terminal now: people resize windows.
func terminalColumns(f *os.File) int {
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns <= 0 {
		return defaultColumns
	}
	return columns
}

// logColumns returns the width of lines that are not written to a terminal: COLUMNS, or the width of
// the terminal that the program was started from, which may show a pipe's other end.
func logColumns() int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	f, err := os.Open("/dev/tty")
	if err != nil {
		return defaultColumns
	}
	defer func() { _ = f.Close() }() // nothing was written
	return terminalColumns(f)
}

// Live reports whether the status line is rewritten in place.
func (s *Screen) Live() bool { return s.live }

// Status replaces the status line by line(columns), cut to the width of the screen. The last column
// stays free: some terminals go to the next line when it is written.
func (s *Screen) Status(line func(columns int) string) {
	columns := max(s.columns()-1, 1)
	text := fit(sanitize.Line(line(columns)), columns)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live {
		fmt.Fprintln(s.w, text)
		return
	}
	s.shown = true
	fmt.Fprint(s.w, "\r", text, eraseToEnd)
}

// eraseToEnd erases from the cursor to the end of the line (ECMA-48, EL).
const eraseToEnd = "\x1b[K"

// Write writes a message that stays, above the status line. The message ends with a line feed.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	return s.w.Write(p)
}

// Clear erases the status line.
func (s *Screen) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
}

func (s *Screen) erase() {
	if s.shown {
		fmt.Fprint(s.w, "\r", eraseToEnd)
		s.shown = false
	}
}

// fit cuts a text to a number of columns.
func fit(text string, columns int) string {
	const more = "..."
	if runewidth.StringWidth(text) <= columns {
		return text
	}
	if columns <= len(more) {
		return runewidth.Truncate(text, columns, "")
	}
	return strings.TrimRight(runewidth.Truncate(text, columns-len(more), ""), " ") + more
}
