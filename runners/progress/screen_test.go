package progress

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/mattn/go-runewidth"
)

// terminal returns the program's end of a terminal with this number of columns, and a function that
// returns everything written to it.
func terminal(t *testing.T, columns int) (tty *os.File, written func() string) {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Skipf("this machine has no pseudo-terminal: %v", err)
	}
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: uint16(columns)}); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = all.ReadFrom(master) // ends with EIO when the other end is closed
	}()
	return tty, func() string {
		if err := tty.Close(); err != nil {
			t.Error(err)
		}
		<-ended
		if err := master.Close(); err != nil {
			t.Error(err)
		}
		return all.String()
	}
}

// The status stays on one row of a terminal of any width, and messages stand above it.
func TestStatusStaysOnItsRow(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for _, columns := range []int{1, 20, 60, 80, 100, 140} {
		tty, written := terminal(t, columns)
		s := NewScreen(tty)
		if !s.Live() {
			t.Fatal("a terminal is taken for a file")
		}
		for range 3 {
			s.Status(status().Bar)
		}
		fmt.Fprintln(s, "message")
		s.Status(func(int) string { return strings.Repeat("界", 200) }) // each takes two columns
		s.Status(func(int) string { return "a\nb\x1b[2J\r" })
		s.Clear()
		rows := strings.Split(strings.ReplaceAll(written(), "\r\n", "\n"), "\n")
		if len(rows) != 2 || !strings.HasSuffix(rows[0], "\r"+eraseToEnd+"message") || !strings.HasSuffix(rows[1], "\r"+eraseToEnd) {
			t.Errorf("at %d columns the rows are %q, want one up to the message and one after it", columns, rows)
		}
		for _, row := range rows {
			for shown := range strings.SplitSeq(row, "\r") {
				text := strings.TrimSuffix(shown, eraseToEnd)
				if strings.HasPrefix(text, eraseToEnd) {
					continue // the message
				}
				if width := runewidth.StringWidth(text); width >= max(columns, 2) || strings.ContainsAny(text, "\x1b\n") {
					t.Errorf("at %d columns a status has %d: %q", columns, width, text)
				}
			}
		}
	}
}

// A window that was made narrower is looked at again.
func TestResizedTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	tty, written := terminal(t, 140)
	s := NewScreen(tty)
	var seen []int
	for _, columns := range []uint16{140, 60} {
		if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: columns}); err != nil {
			t.Fatal(err)
		}
		s.Status(func(columns int) string { seen = append(seen, columns); return "" })
	}
	if written(); len(seen) != 2 || seen[0] != 139 || seen[1] != 59 {
		t.Errorf("the status was asked for with %v columns, want 139 and 59", seen)
	}
}

// In a log each status is a line of at most COLUMNS columns.
func TestStatusInALog(t *testing.T) {
	for _, columns := range []int{60, 80, 100, 140} {
		t.Setenv("COLUMNS", fmt.Sprint(columns))
		var log bytes.Buffer
		s := NewScreen(&log)
		s.Status(status().Log)
		fmt.Fprintln(s, "message")
		s.Status(status().Log)
		s.Clear()
		lines := strings.Split(log.String(), "\n")
		if len(lines) != 4 || lines[1] != "message" || lines[3] != "" || s.Live() {
			t.Fatalf("the lines are %q", lines)
		}
		for _, line := range lines {
			if width := runewidth.StringWidth(line); width >= columns || strings.ContainsAny(line, "\r\x1b") {
				t.Errorf("at %d columns a line has %d: %q", columns, width, line)
			}
		}
	}
}
