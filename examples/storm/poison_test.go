package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Poison is such for as long as the scenario says, and before the run nothing is.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := *find("poison")
		s.Faults = append(s.Faults, Fault{Mode: Hang, Kind: "hung", Until: time.Hour})
		f := &fleet{scenario: &s}
		if f.poison("poison") {
			t.Error("it is poison before the run")
		}
		zero := time.Now()
		f.zero.Store(&zero)
		for _, at := range []time.Duration{0, poisonBegins, poisonEnds - 1, poisonEnds} {
			time.Sleep(time.Until(zero.Add(at)))
			want := at >= poisonBegins && at < poisonEnds
			if f.poison("hung") || f.poison("poison") != want || f.poison("team") {
				t.Errorf("at %v it is poison: %t; the others are: %t", at, !want, f.poison("team"))
			}
		}
	})
}

// The scenario shows what there is to see: tenants with none, one and both of the poison's
// workers, in about the numbers of chance.
func TestOverlap(t *testing.T) {
	tests := []struct {
		name   string
		shard  sharding
		counts [3]int // of the 56 that have 0, 1 and 2 or more in common, on average
	}{
		{bareName, everybody, [3]int{0, 0, 56}},
		{"tuned", plain, [3]int{42, 0, 14}},
		{mainName, shuffled, [3]int{30, 24, 2}},
	}
	for _, tt := range tests {
		var counts [3]int
		for i := range uint64(poisonTenants) {
			name := find("poison").Topology.Kinds[0].client(i)
			shard := tt.shard(name)
			if n := len(shard); n != poisonShard && tt.name != bareName || n > poisonWorkers ||
				len(slices.Compact(slices.Sorted(slices.Values(shard)))) != n {
				t.Errorf("%s: the shard of %s is %v", tt.name, name, shard)
			}
			counts[min(2, overlap(tt.shard, name))]++
		}
		for common, want := range tt.counts {
			got := counts[common]
			if (got == 0) != (want == 0) || got < want/2 || got > want*3/2+2 {
				t.Errorf("%s: %d have %d in common, want about %d", tt.name, got, common, want)
			}
		}
	}
}

// answers is a base whose workers answer, each in its way, and that notes who was asked.
type answers struct {
	by    map[string]error
	asked []string
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	word, err := io.ReadAll(r.Body)
	a.asked = append(a.asked, r.URL.Host+":"+string(word))
	if err = errors.Join(err, a.by[r.URL.Host]); err != nil {
		return nil, err
	}
	body := io.NopCloser(strings.NewReader("well"))
	return &http.Response{StatusCode: http.StatusOK, Body: body, Request: r}, nil
}

// route asks for one thing and returns what came of it.
func route(t *testing.T, p http.RoundTripper) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://fleet/team",
		strings.NewReader("7"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	word, err := io.ReadAll(resp.Body)
	return string(word), err
}

// A request goes to a second worker, with its body, and to no third.
func TestRouter(t *testing.T) {
	failed := errors.New("failed")
	shard := func(string) []string { return []string{"a", "b", "c"} }
	tests := []struct {
		fail       string // who do
		least      int    // of those asked
		most       int
		mayFail    bool
		mayBeWell  bool
		eventually int // in one of many tries, so many are asked
	}{
		{"", 1, 1, false, true, 1},
		{"b", 1, 2, false, true, 2},
		{"ab", 1, 2, true, true, 2},
		{"abc", 2, 2, true, false, 2},
	}
	for _, tt := range tests {
		most := 0
		for range 50 {
			base := &answers{by: map[string]error{}}
			for _, name := range tt.fail {
				base.by[string(name)] = failed
			}
			word, err := route(t, routed(shard).HTTP(base))
			n := len(base.asked)
			most = max(most, n)
			if n < tt.least || n > tt.most || n == 2 && base.asked[0] == base.asked[1] {
				t.Errorf("%s fail: asked %v", tt.fail, base.asked)
			}
			switch {
			case err == nil && tt.mayBeWell && word == "well":
			case tt.mayFail && errors.Is(err, failed):
			default:
				t.Errorf("%s fail: %q, %v", tt.fail, word, err)
			}
			for _, asked := range base.asked {
				if !strings.HasSuffix(asked, ":7") {
					t.Errorf("%s fail: the body is not in %v", tt.fail, base.asked)
				}
			}
		}
		if most != tt.eventually {
			t.Errorf("%s fail: %d were asked at most, want %d", tt.fail, most, tt.eventually)
		}
	}
}

// Who fails five times in a row is left alone for as long as a restart takes, and then not.
func TestRouterLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &answers{by: map[string]error{"a": errDropped}}
		p := routed(func(string) []string { return []string{"a"} }).HTTP(base)
		for range poisonTrips {
			if _, err := route(t, p); !errors.Is(err, errDropped) {
				t.Errorf("it fails with %v", err)
			}
		}
		_, err := route(t, p)
		if len(base.asked) != poisonTrips || statusOf(err) != http.StatusServiceUnavailable {
			t.Errorf("asked %d times, and then refused with %v", len(base.asked), err)
		}
		time.Sleep(restartAfter)
		base.by = nil
		if word, err := route(t, p); word != "well" || err != nil {
			t.Errorf("after the restart it is %q, %v", word, err)
		}
	})
}

// An attempt has its time, answer included; and what is in time arrives whole.
func TestHurried(t *testing.T) {
	for took, want := range map[time.Duration]error{
		poisonTimeout - 1: nil, poisonTimeout + 1: context.DeadlineExceeded,
	} {
		synctest.Test(t, func(t *testing.T) {
			h := hurried{inMemory{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = sleep(r.Context(), took)
				_, _ = io.WriteString(w, "well")
			})}}
			began := time.Now()
			word, err := route(t, h)
			if !errors.Is(err, want) || (want == nil) != (word == "well") ||
				time.Since(began) > poisonTimeout {
				t.Errorf("%v: %q, %v after %v", took, word, err, time.Since(began))
			}
			synctest.Wait()
		})
	}
}

// A worker that is left alone takes none of the attempts.
func TestRouterPassesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &answers{by: map[string]error{"a": errDropped, "b": errDropped}}
		var shard []string
		p := routed(func(string) []string { return shard }).HTTP(base)
		shard = []string{"a", "b"}
		for range poisonTrips {
			route(t, p)
		}
		base.by["c"], base.asked = errDropped, nil
		shard = []string{"a", "b", "c", "d"}
		for range poisonTrips - 1 {
			if word, err := route(t, p); word != "well" {
				t.Errorf("it is %q, %v", word, err)
			}
		}
	})
}

func TestFine(t *testing.T) {
	for got, want := range map[int]int{98: 0, 99: 1, 100: 1} {
		if fine := (tenant{offered: 100, got: got}).fine(); fine != want {
			t.Errorf("of 100 with %d answered %d are fine, want %d", got, fine, want)
		}
	}
}

// Requests count for the tenant that has sent them, and while there is poison.
func TestTenants(t *testing.T) {
	s := find("poison")
	var plan []Arrival
	for i := range 10 * poisonTenants {
		plan = append(plan, Arrival{At: poisonBegins + time.Duration(i), Kind: 0})
	}
	for i := range 2 * poisonTenants {
		plan = append(plan, Arrival{At: poisonEnds, Kind: 0})
		plan[5*poisonTenants+i].Kind = 1 // two are the poison's
	}
	r := newRecord(s, mainName, plan, s.Duration)
	for i := range plan {
		r.Outcomes[i] = Outcome{Index: i, Result: Live}
		switch {
		case i%poisonTenants == 7 && i < poisonTenants:
			r.Outcomes[i].Result = Late // one of eight
		case r.Plan[i].At >= poisonEnds, r.Plan[i].Kind == 1:
			r.Outcomes[i].Result = Failed
		}
	}
	fine := 0
	for i, tenant := range r.tenants() {
		want := 8
		if i == 7 {
			want = 7
		}
		if tenant.name != fmt.Sprintf("team-%d", i) || tenant.offered != 8 || tenant.got != want {
			t.Errorf("%d is %+v", i, tenant)
		}
		fine += tenant.fine()
	}
	if fine != poisonTenants-1 {
		t.Errorf("%d are fine", fine)
	}
	tenants, below, common := 0, 0, -1
	for _, s := range r.shards() {
		if tenants += s.Tenants; s.Common <= common || s.Offered != 8*s.Tenants {
			t.Errorf("%+v comes after %d", s, common)
		}
		below, common = below+s.Below, s.Common
	}
	if tenants != poisonTenants || below != 1 {
		t.Errorf("%d tenants in all, %d below; want %d and 1", tenants, below, poisonTenants)
	}
	var out bytes.Buffer
	show, report := newScreen(&out), newScenarioReport(s, s.Duration)
	report.take([]*Record{r})
	show.shards(report)
	if n := strings.Count(out.String(), "the poison: "); n != 3 {
		t.Errorf("%d lines, want 3:\n%s", n, &out)
	}
	r.Scenario = squall
	if r.shards() != nil {
		t.Error("there are shards where there is no poison")
	}
}
