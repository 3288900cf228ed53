package main

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// Each stack has a tenth of the users, and the map is one that routers take.
func TestControlPlane(t *testing.T) {
	c := newControlPlane()
	if err := c.where.Validate(); err != nil {
		t.Fatal(err)
	}
	homes := make(map[string]int)
	for i := range uint64(cellUsers) {
		stack, err := c.find(find("cell").Topology.Kinds[0].client(i))
		if err != nil {
			t.Fatal(err)
		}
		homes[stack]++
	}
	for i := range cellStacks {
		if homes[nodeName(i)] != cellUsers/cellStacks {
			t.Errorf("%s has %d users", nodeName(i), homes[nodeName(i)])
		}
	}
}

// The control plane is gone when the registry has a stack less.
func TestControlPlaneGoes(t *testing.T) {
	c := newControlPlane()
	s := find("cell")
	for _, tt := range []struct {
		at   time.Duration
		want error
	}{{0, nil}, {cellDies + newsAfter, errNoControl}} {
		if err := c.told(s.registered(tt.at)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.pull(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("at %v a pull returns %v", tt.at, err)
		}
	}
}

// A directory's entries are good for a while, with or without the control plane.
func TestDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newControlPlane()
		asked := 0
		d := &directory{known: make(map[string]entry), find: func(user string) (string, error) {
			asked++
			return c.find(user)
		}}
		for range 2 {
			if stack, err := d.stack("user-7"); stack != nodeName(7) || err != nil || asked != 1 {
				t.Errorf("%q, %v after %d questions", stack, err, asked)
			}
		}
		c.down.Store(true)
		if _, err := d.stack("user-7"); err != nil {
			t.Error(err)
		}
		time.Sleep(cellRemains)
		if _, err := d.stack("user-7"); !errors.Is(err, errNoControl) {
			t.Errorf("after its time: %v", err)
		}
	})
}

// With the control plane down, users go where they were; bare has everybody everywhere.
func TestCellVariants(t *testing.T) {
	for name, one := range map[string]bool{bareName: false, "tuned": true, mainName: true} {
		v, err := find("cell").variant(name)
		if err != nil {
			t.Fatal(err)
		}
		p, hosts := v.Protect(find("cell").Topology), make(map[string]bool)
		transport := p.HTTP(roundTrip(func(r *http.Request) (*http.Response, error) {
			hosts[r.URL.Host] = true
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
		}))
		for i := range 10 * cellStacks {
			if i == cellStacks {
				_ = p.Nodes(make([]string, cellStacks-1))
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://fleet/user",
				http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(clientField, "user-13")
			resp, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_ = resp.Body.Close()
		}
		if (len(hosts) == 1) != one || !hosts[nodeName(3)] {
			t.Errorf("%s: the user is served by %v", name, hosts)
		}
	}
}

// A user is untouched if nothing failed after the stack died.
func TestUntouched(t *testing.T) {
	s := find("cell")
	var plan []Arrival
	for i := range 2 * cellUsers {
		plan = append(plan, Arrival{At: time.Duration(i) * cellEnds / (2 * cellUsers)})
	}
	r := newRecord(s, mainName, plan, cellEnds)
	for i := range r.Outcomes {
		r.Outcomes[i] = Outcome{Index: i, Result: Live}
	}
	r.Outcomes[0].Result = Failed // before it dies
	if got := r.untouched(); got != 100 {
		t.Errorf("%v %% are untouched", got)
	}
	for _, i := range []int{199, 200, 399} { // two users
		r.Outcomes[i].Result = Late
	}
	if got := r.untouched(); got != 99 {
		t.Errorf("%v %% are untouched, want 99", got)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
