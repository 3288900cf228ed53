package shedhttp

import (
	"net/http"
	"strings"
	"time"

	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/shed"
)

// said is what a request says of itself, as far as it is believed.
type said struct {
	hop.Sender
	trusted bool          // it may say what it likes
	timed   bool          // it has
	left    time.Duration // until nobody waits for it
}

// read reads the header of a request, which anybody may have written.
func (m *Middleware) read(r *http.Request) said {
	s := said{Sender: m.known(r)}
	class, classed := hop.ParseCriticality(only(r.Header, hop.CriticalityField))
	tenant, named := hop.ParseTenant(only(r.Header, hop.TenantField))
	s.left, s.timed = timeLeft(r.Header)
	s.trusted = (classed || named || s.timed) && m.Trust != nil && m.Trust(r)
	if s.trusted && named {
		s.Tenant = tenant
	}
	if s.trusted && classed {
		s.Criticality = class
	} else {
		// What the request says, or else what browsers say without being asked.
		s.lower(class)
		s.lower(byUrgency(r.Header["Priority"]))
		s.lower(byPurpose(r.Header.Get("Sec-Purpose")))
	}
	s.Attempt = max(s.Attempt, attempt(r.Header))
	return s
}

// known returns what the server knows of a request without asking it.
func (m *Middleware) known(r *http.Request) hop.Sender {
	s := hop.SenderOf(r.Context())
	if m.Criticality != nil {
		if c := m.Criticality(r); c >= shed.BestEffort && c <= shed.CriticalPlus {
			s.Criticality = uint8(c)
		}
	}
	if m.Tenant != nil {
		if tenant := m.Tenant(r); tenant != "" {
			s.Tenant = hop.BoundTenant(tenant)
		}
	}
	return s
}

// lower has the request be of a class, 0 being none, if that is lower than its own.
func (s *said) lower(class uint8) {
	own := s.Criticality
	if own == 0 {
		own = uint8(shed.Critical)
	}
	if class != 0 && class < own {
		s.Criticality = class
	}
}

// timeLeft returns the shortest time that a header has.
func timeLeft(h http.Header) (time.Duration, bool) {
	left, ok := hop.ParseTimeout(only(h, hop.TimeoutField))
	// Of Envoy, 0 is no time at all, but not to have any.
	envoys, found := hop.ParseTimeout(only(h, hop.EnvoyTimeoutField))
	if found && envoys > 0 && (!ok || envoys < left) {
		return envoys, true
	}
	return left, ok
}

// attempt returns the highest number of an attempt that a header has, or 0.
func attempt(h http.Header) int {
	n, _ := hop.ParseAttempt(only(h, hop.AttemptField))
	envoys, _ := hop.ParseAttempt(only(h, hop.EnvoyAttemptField))
	return max(n, envoys)
}

// only returns the value of a field that is there once. One of them could be the
// client's, and the other that of a proxy which meant to replace it.
func only(h http.Header, name string) string {
	if values := h[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// byUrgency returns the class that the Priority field of RFC 9218 stands for, or 0. Its
// urgency is from 0 to 7, the last for work in the background; 3 is that of those who
// say nothing. Nothing raises a class: everybody's page is urgent to himself.
func byUrgency(lines []string) uint8 {
	const longest = 256
	class := shed.Criticality(0)
	for _, line := range lines {
		if len(line) > longest {
			continue
		}
		for member := range strings.SplitSeq(line, ",") {
			member, _, _ = strings.Cut(strings.Trim(member, " \t"), ";")
			urgency, ok := strings.CutPrefix(member, "u=")
			if !ok || len(urgency) != 1 || urgency < "0" || urgency > "7" {
				continue
			}
			switch urgency { // the last counts
			case "5":
				class = shed.SheddablePlus
			case "6":
				class = shed.Sheddable
			case "7":
				class = shed.BestEffort
			default:
				class = 0
			}
		}
	}
	return uint8(class)
}

// byPurpose returns the class of what a browser fetches before anybody has asked for it.
func byPurpose(value string) uint8 {
	purpose, _, _ := strings.Cut(value, ";") // prefetch;prerender
	if strings.Trim(purpose, " \t") == "prefetch" {
		return uint8(shed.BestEffort)
	}
	return 0
}
