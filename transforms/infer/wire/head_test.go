package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// answerOf reads an answer as exchange does.
func answerOf(sent []byte) (*Answer, *head, error) {
	r := bufio.NewReaderSize(bytes.NewReader(sent), bufferSize)
	h, err := readHead(r)
	if err != nil {
		return nil, nil, err
	}
	body, err := h.readBody(r, 1000)
	return &Answer{Status: h.status, Server: h.serverName(), Header: h.header, Body: body}, h, err
}

func TestHead(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name, sent string
		close      bool
		server     string
		wrong      bool
	}{
		{"spaces and case", ok + "sErVeR: \t vLLM \t\r\ncontent-length:0\r\n\r\n", false, "vLLM", false},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, "", false},
		{"lines end in LF", "HTTP/1.1 200 OK\nServer: x\nContent-Length: 0\n\n", false, "x", false},
		{"a line longer than the buffer", ok + "Set-Cookie: " + strings.Repeat("x", 3*bufferSize) + "\r\nServer: x\r\nContent-Length: 0\r\n\r\n", false, "x", false},
		{"close", ok + "Connection: x, Close\r\nContent-Length: 0\r\n\r\n", true, "", false},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true, "", false},
		{"HTTP/1.0 that stays", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", false, "", false},
		{"no length", ok + "\r\n", true, "", false},
		{"one length twice", ok + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", false, "", false},
		{"two lengths", ok + "Content-Length: 0\r\nContent-Length: 1\r\n\r\n", false, "", true},
		{"no number", ok + "Content-Length: +1\r\n\r\n", false, "", true},
		{"another encoding", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n", false, "", true},
		{"folded", ok + "Server: a\r\n b\r\n\r\n", false, "", true},
		{"a space in a name", ok + "Content-Length : 0\r\n\r\n", false, "", true},
		{"no colon", ok + "Content-Length\r\n\r\n", false, "", true},
		{"HTTP/2", "HTTP/2 200\r\n\r\n", false, "", true},
		{"four digits", "HTTP/1.1 2000 OK\r\n\r\n", false, "", true},
		{"a head without end", ok + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 300), false, "", true},
		{"a line without end", ok + "X: " + strings.Repeat("x", maxHead), false, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, h, err := answerOf([]byte(tt.sent))
			if tt.wrong != (err != nil) {
				t.Fatalf("got %v", err)
			}
			if err == nil && (h.close != tt.close || a.Server != tt.server) {
				t.Errorf("close is %t, Server %q", h.close, a.Server)
			}
		})
	}
}

// What is read as an answer net/http reads as the same.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n2\r\nok\r\n0\r\nRetry-After: 1\r\n\r\n",
		"HTTP/1.0 429 x\r\nRetry-After: 1\r\nRetry-After: 2\r\nConnection: keep-alive\r\n\r\nrest",
		"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200\nConnection: close\n\nok",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		got, h, err := answerOf(sent)
		if err != nil {
			return
		}
		r := bufio.NewReader(bytes.NewReader(sent))
		resp, err := http.ReadResponse(r, nil)
		for err == nil && resp.StatusCode < 200 {
			resp, err = http.ReadResponse(r, nil)
		}
		if err != nil {
			t.Fatalf("%q: net/http says %v", sent, err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil && h.chunked {
			return // it looks into trailers, which are read over here
		}
		if err != nil || !bytes.Equal(body, got.Body) || resp.StatusCode != got.Status {
			t.Fatalf("%q: %d %q, net/http has %d %q, %v", sent, got.Status, got.Body, resp.StatusCode, body, err)
		}
		if resp.Header.Get("Server") != got.Server {
			t.Errorf("%q: Server is %q, net/http has %q", sent, got.Server, resp.Header.Get("Server"))
		}
		for _, name := range Heeded {
			if resp.Header.Get(name) != got.Header.Get(name) {
				t.Errorf("%q: %s is %q, net/http has %q", sent, name, got.Header.Get(name), resp.Header.Get(name))
			}
		}
		if resp.Close && !h.close {
			t.Errorf("%q: the connection is kept, net/http closes it", sent)
		}
	})
}

func TestHeadEndsEarly(t *testing.T) {
	for _, sent := range []string{"", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nServer: x", "HTTP/1.1 200 OK\r\nServer: x\r\n", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*bufferSize)} {
		if _, _, err := answerOf([]byte(sent)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%.40q: got %v", sent, err)
		}
	}
}
