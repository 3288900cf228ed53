package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// transportDeploy is HTTP whose clients are of two sorts: connections of HTTP/1 that are
// kept, from the socket up, and clients of HTTP/2. Anything else is as usual.
const transportDeploy = "http1+http2"

// deployClients is how many clients of HTTP/2 there are. Each has one connection.
const deployClients = 6

func dialDeploy(address string, p Protection, d dialer) call {
	first := &socketPool{address: address, dialer: d}
	var second []call
	for range deployClients {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		second = append(second, clientOf(&http.Transport{
			DialContext: d.dial, Protocols: protocols, DisableCompression: true,
		}, address, p))
	}
	other := dialHTTP(address, p, d)
	return func(ctx context.Context, r request) (string, error) {
		switch r.Kind {
		case kindHTTP1:
			return first.ask(ctx, r)
		case kindHTTP2:
			return second[r.ID%deployClients](ctx, r)
		}
		return other(ctx, r)
	}
}

// socketPool keeps connections and takes the one that is idle for longest, so that each is
// used again and again. It never sends a request twice, as net/http does with some: what is
// dropped is to be seen. A connection that it knows to be closed it does not use.
type socketPool struct {
	address string
	dialer  dialer

	mu   sync.Mutex
	idle []*socket
}

// socket is a connection that is always read, so that its end is noticed while it is idle.
type socket struct {
	conn    net.Conn
	answers chan reply // closed at the end of the connection
	ended   atomic.Bool
}

// reply is a response, all of which has been read.
type reply struct {
	res  *http.Response
	body []byte
}

func (s *socketPool) ask(ctx context.Context, r request) (string, error) {
	c, err := s.take(ctx)
	if err != nil {
		return "", err
	}
	body := fmt.Sprint(r.ID)
	_, err = fmt.Fprintf(c.conn, "POST /%s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\n"+
		"Content-Length: %d\r\n\r\n%s", r.Kind, s.address, clientField, r.Client, len(body), body)
	if err != nil {
		_ = c.conn.Close()
		return "", err
	}
	select {
	case a, ok := <-c.answers:
		if !ok {
			_ = c.conn.Close()
			return "", io.ErrUnexpectedEOF
		}
		s.put(c, a.res.Close)
		return string(a.body), failure(a.res)
	case <-ctx.Done():
		_ = c.conn.Close()
		return "", context.Cause(ctx)
	}
}

func (s *socketPool) take(ctx context.Context) (*socket, error) {
	s.mu.Lock()
	for len(s.idle) > 0 {
		c := s.idle[0]
		s.idle = s.idle[1:]
		if !c.ended.Load() {
			s.mu.Unlock()
			return c, nil
		}
		_ = c.conn.Close()
	}
	s.mu.Unlock()
	conn, err := s.dialer.dial(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	c := &socket{conn: conn, answers: make(chan reply, 1)}
	go c.read()
	return c, nil
}

// put keeps a connection, unless the other side has said that it is over.
func (s *socketPool) put(c *socket, over bool) {
	if over {
		_ = c.conn.Close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, c)
}

// read reads answers until the connection ends.
func (c *socket) read() {
	defer close(c.answers)
	defer c.ended.Store(true)
	reader := bufio.NewReader(c.conn)
	for {
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			return
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			return
		}
		c.answers <- reply{res, body}
	}
}
