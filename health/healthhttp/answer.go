package healthhttp

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stormjib/stormjib/health"
)

// An answer is what a probe is told, before it is text or JSON.
type answer struct {
	kind    probe
	report  health.Report
	status  health.Status
	results []health.Result // those that count, with the status that the probe makes of them
	unknown []string        // excluded, but not there
	verbose bool
	details bool
}

// answer answers a probe that asks for more than usual, or that does not pass.
func (p *Probes) answer(w http.ResponseWriter, r *http.Request, kind probe, name string) {
	query := r.URL.Query()
	a := answer{kind: kind, report: p.Health.Report(), verbose: query.Has("verbose")}
	if name == "" {
		a.without(query["exclude"])
	} else if !a.only(name) {
		http.Error(w, "no such check", http.StatusNotFound)
		return
	}
	a.details = p.Details != nil && p.Details(r)
	status := http.StatusOK
	if a.status == health.Fail {
		status = http.StatusServiceUnavailable
	}
	if wantsJSON(r) {
		reply(w, r, status, healthJSON, a.json(p))
		return
	}
	reply(w, r, status, plainText, a.text())
}

// only makes a the answer for one check or gate, and reports whether the probe has it.
func (a *answer) only(name string) bool {
	for _, r := range a.report.Checks {
		if r.Name == name && a.kind.counts(r) {
			r.Status = a.kind.status(&a.report, r)
			a.status, a.results, a.verbose = r.Status, []health.Result{r}, true
			return true
		}
	}
	return false
}

// without makes a the answer for all but those excluded.
func (a *answer) without(excluded []string) {
	a.status = health.Pass
	a.unknown = slices.Clone(excluded)
	helped := false
	for _, r := range a.report.Checks {
		if !a.kind.counts(r) {
			continue
		}
		r.Status = a.kind.status(&a.report, r)
		if slices.Contains(excluded, r.Name) {
			helped = helped || r.Status == health.Fail
			a.unknown = slices.DeleteFunc(a.unknown, func(n string) bool { return n == r.Name })
			continue
		}
		a.status = min(a.status, r.Status)
		a.results = append(a.results, r)
	}
	if !a.passes() && (!helped || a.over()) {
		a.status = health.Fail // for a reason that is no check
	}
}

// passes reports what the short answer would be. It is of the same moment as the results.
func (a *answer) passes() bool {
	switch a.kind {
	case livez:
		return a.report.Live
	case startupz:
		return a.report.Started
	}
	return a.report.Ready
}

// over reports whether the replica is to get no more requests, whatever is excluded.
func (a *answer) over() bool {
	return a.kind == readyz && (a.report.Phase == "draining" || a.report.Phase == "stopped")
}

const withheld = "reason withheld"

// output returns what may be said about a result.
func (a *answer) output(r health.Result) string {
	switch {
	case r.Status == health.Pass || r.Output == "":
		return ""
	case a.details:
		return r.Output
	}
	return withheld
}

// text is for people at a terminal, as those of Kubernetes know it. What comes from errors
// and names is quoted where it could be taken for a line of its own.
func (a *answer) text() string {
	var b strings.Builder
	for _, r := range a.results {
		if a.verbose || r.Status == health.Fail {
			mark := [...]string{health.Fail: "-", health.Warn: "!", health.Pass: "+"}[r.Status]
			fmt.Fprintf(&b, "[%s]%s %v", mark, line(r.Name), r.Status)
			if output := a.output(r); output != "" {
				b.WriteString(": " + line(output))
			}
			b.WriteByte('\n')
		}
	}
	for _, name := range a.unknown {
		fmt.Fprintf(&b, "nothing to exclude by the name %q\n", name)
	}
	if a.verbose {
		for _, note := range a.report.Notes {
			b.WriteString("note: " + line(note) + "\n")
		}
	}
	if a.status == health.Fail {
		fmt.Fprintf(&b, "%s failed: %s\n", a.kind, a.report.Phase)
		return b.String()
	}
	return b.String() + "ok\n"
}

// line returns text as part of one line.
func line(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Sprintf("%q", text)
	}
	return text
}

// A body is an answer in the terms of draft-inadarei-api-health-check-06, and some more.
type body struct {
	Status    string             `json:"status"`
	ReleaseID string             `json:"releaseId,omitempty"`
	ServiceID string             `json:"serviceId,omitempty"`
	Notes     []string           `json:"notes,omitempty"`
	Phase     string             `json:"phase"`
	Since     time.Time          `json:"since"`
	Slowest   string             `json:"slowestStart,omitempty"`
	Checks    map[string][]check `json:"checks,omitempty"`
}

type check struct {
	Status   string     `json:"status"`
	Class    string     `json:"class"`
	Since    time.Time  `json:"since"`
	Time     *time.Time `json:"time,omitempty"`
	Value    *float64   `json:"observedValue,omitempty"`
	Unit     string     `json:"observedUnit,omitempty"`
	Failures int        `json:"consecutiveFailures"`
	Stuck    bool       `json:"stuck,omitempty"`
	Stale    bool       `json:"stale,omitempty"`
	Output   string     `json:"output,omitempty"`
}

func (a *answer) json(p *Probes) string {
	b := body{
		Status: a.status.String(), ReleaseID: p.ReleaseID, ServiceID: p.ServiceID,
		Phase: a.report.Phase, Since: a.report.Since.UTC(),
	}
	if a.verbose {
		b.Notes, b.Slowest = slices.Clone(a.report.Notes), a.report.Slowest
	}
	for _, name := range a.unknown {
		b.Notes = append(b.Notes, fmt.Sprintf("nothing to exclude by the name %q", name))
	}
	for _, r := range a.results {
		if a.verbose || r.Status == health.Fail {
			if b.Checks == nil {
				b.Checks = map[string][]check{}
			}
			b.Checks[r.Name] = []check{a.check(r)}
		}
	}
	text, err := json.Marshal(b)
	if err != nil {
		// Only a time out of the range of RFC 3339 can have done that.
		return `{"status":"` + b.Status + `"}`
	}
	return string(text) + "\n"
}

func (a *answer) check(r health.Result) check {
	c := check{
		Status: r.Status.String(), Class: r.Class.String(), Since: r.Since.UTC(),
		Failures: r.Failures, Stuck: r.Stuck, Stale: r.Stale, Output: a.output(r),
	}
	if !r.Time.IsZero() {
		at, took := r.Time.UTC(), float64(r.Took)/float64(time.Millisecond)
		c.Time, c.Value, c.Unit = &at, &took, "ms"
	}
	return c
}
