package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// How long an actor may take for what takes it milliseconds.
const (
	readyWithin = 10 * time.Second
	endWithin   = 5 * time.Second
)

// process is an actor as its parent sees it. Only what was launched here is
// ever ended here.
type process struct {
	role   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan event    // closed when the process has closed its stdout
	read   chan struct{} // closed when all events have been taken
	words  words         // its stderr
}

// launch starts an actor and waits until it is ready. Its address is that of
// its listener.
func launch(ctx context.Context, role string, o orders) (p *process, address string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	p = &process{role: role, cmd: exec.Command(self, roleArgument, role)}
	p.cmd.Stderr = &p.words
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, "", err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, "", err
	}
	p.events, p.read = make(chan event), make(chan struct{})
	go p.decode(stdout)
	if err := json.NewEncoder(p.stdin).Encode(o); err != nil {
		return nil, "", p.abandon(err)
	}
	if address, err = p.ready(ctx); err != nil {
		return nil, "", p.abandon(err)
	}
	return p, address, nil
}

func (p *process) decode(stdout io.Reader) {
	defer close(p.events)
	lines := json.NewDecoder(stdout)
	for {
		var e event
		if lines.Decode(&e) != nil {
			return
		}
		p.events <- e
	}
}

// ready waits for the first event.
func (p *process) ready(ctx context.Context) (address string, err error) {
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	select {
	case e := <-p.events:
		switch {
		case e.Error != "":
			return "", fmt.Errorf("%s: %s", p.role, e.Error)
		case e.Ready == "":
			return "", fmt.Errorf("%s did not start", p.role)
		}
		return e.Ready, nil
	case <-timer.C:
		return "", fmt.Errorf("%s did not start in %v", p.role, readyWithin)
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// begin announces when measuring starts.
func (p *process) begin(zero time.Time) error {
	return json.NewEncoder(p.stdin).Encode(start{Zero: zero})
}

// abandon ends a process that failed to start and returns why it failed.
func (p *process) abandon(why error) error {
	go p.ignore()
	_ = p.end()
	return why
}

// ignore takes the events of a process that has nothing to tell. Without a
// reader it could not end.
func (p *process) ignore() {
	defer close(p.read)
	for range p.events {
	}
}

// end closes stdin, which tells the actor to finish, and waits for it and for
// whoever takes its events.
func (p *process) end() error {
	_ = p.stdin.Close()
	timer := time.AfterFunc(endWithin, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.read // Wait would close the pipe under the reader.
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", p.role, err, p.words.String())
	}
	return nil
}

// words keeps the beginning of what a process writes to stderr.
type words struct {
	mu   sync.Mutex
	text []byte
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p[:min(len(p), 2000-len(w.text))]...)
	return len(p), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(string(w.text))
}
