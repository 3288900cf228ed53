package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

var errNoRedis = errors.New("there is no Redis at that address")

// ofMemory starts a Redis in memory, which ends with the process, and returns its address.
func ofMemory() (string, error) {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		return "", err
	}
	return server.Addr(), nil
}

// valve passes connections on, or holds up all that is on its way, as the network does when
// the other side stands still: nothing is refused, and nothing comes back.
type valve struct {
	mu     sync.Mutex
	opened chan struct{} // closed while the valve is open; nil: it is
}

// listen returns an address that leads to another, or to a Redis in memory if that is "".
func (v *valve) listen(to string) (string, error) {
	if to == "" {
		var err error
		if to, err = ofMemory(); err != nil {
			return "", err
		}
	}
	probe, err := net.DialTimeout("tcp", to, time.Second)
	if err != nil {
		return "", errors.Join(errNoRedis, err)
	}
	_ = probe.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go v.accept(l, to)
	return l.Addr().String(), nil
}

// accept ends with the process.
func (v *valve) accept(l net.Listener, to string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		go v.pass(client, to)
	}
}

func (v *valve) pass(client net.Conn, to string) {
	defer func() { _ = client.Close() }()
	server, err := net.DialTimeout("tcp", to, time.Second)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(held{server, v}, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
}

func (v *valve) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.opened = make(chan struct{})
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.opened)
	v.opened = nil
}

// wait returns when the valve is open.
func (v *valve) wait() {
	v.mu.Lock()
	opened := v.opened
	v.mu.Unlock()
	if opened != nil {
		<-opened
	}
}

// held writes when the valve is open.
type held struct {
	io.Writer
	v *valve
}

func (h held) Write(p []byte) (int, error) {
	h.v.wait()
	return h.Writer.Write(p)
}
