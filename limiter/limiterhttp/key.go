package limiterhttp

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// KeyFunc returns the key of the bucket that a request takes from, such as the tenant that
// an earlier handler has authenticated. It reports false if there is none.
//
// An empty key is none, whatever it reports: a header that is not there would be one
// bucket for all who leave it out. Who wants one for everybody returns a constant.
// Nor should it return what the client can choose at will, such as a token that nobody
// has checked: each new one is a full bucket. A key of several parts needs a separator that
// none of them can contain.
type KeyFunc func(*http.Request) (key string, ok bool)

// RemoteAddr is the KeyFunc for the address that a request comes from: for servers whose
// clients connect to them, and not to a proxy. Of an IPv6 address it is the /64, since that
// is what a client has, and it can choose among the rest. An IPv4 address is the same in
// whatever form it comes. It reports false where there is no address, as with a Unix
// socket. An earlier handler that sets RemoteAddr from a header makes it what clients say.
func RemoteAddr(r *http.Request) (key string, ok bool) {
	a, ok := parseAddress(r.RemoteAddr)
	return a.key(), ok
}

// ForwardedFor returns the KeyFunc for servers behind proxies, which have to be the only
// ones in the trusted networks: the address of the client of the first of them, from
// X-Forwarded-For.
//
// Each proxy adds the address that it got the request from at the end of that field. So it
// is read from there, to the first address that is not trusted; what is before that
// has been written by a client, who may write what it likes. Where the request itself
// comes from elsewhere, the field says nothing, and it is that address.
//
// If all are trusted it is the first of them: one of the service's own has sent
// the request. If what a proxy added is not an address, it is that of the proxy, so that all
// of whom it does not know the address share a bucket.
//
// Addresses are taken as by [RemoteAddr]. It panics if a prefix is not valid, or has a
// length of 0: whoever trusts everybody lets each client choose its bucket.
func ForwardedFor(trusted ...netip.Prefix) KeyFunc {
	for _, p := range trusted {
		if p.Bits() <= 0 {
			panic(fmt.Sprintf("limiterhttp: ForwardedFor: trusted has %v, "+
				"but must have networks of proxies alone", p))
		}
	}
	trusted = slices.Clone(trusted)
	trust := func(a address) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a.ip) })
	}
	return func(r *http.Request) (key string, ok bool) {
		from, ok := parseAddress(r.RemoteAddr)
		for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
			var known bool
			if from, known = furthest(line, from, trust); !known {
				break
			}
		}
		return from.key(), ok
	}
}

// furthest follows a line of X-Forwarded-For from its end to the first address that is not
// trusted, which from may be. It reports false if it meets what is none: an empty one
// is none, since to pass it by would be to believe what is before.
func furthest(line string, from address, trust func(address) bool) (address, bool) {
	for more := true; more && trust(from); {
		var last string
		i := strings.LastIndexByte(line, ',')
		line, last, more = line[:max(0, i)], line[i+1:], i >= 0
		a, ok := parseAddress(strings.Trim(last, " \t"))
		if !ok {
			return from, false
		}
		from = a
	}
	return from, true
}

// address is an address without its zone. Text is how an IPv4 address was written, for
// which there is one way.
type address struct {
	ip   netip.Addr
	text string
}

// parseAddress reads an address with or without a port, and with or without brackets.
func parseAddress(s string) (address, bool) {
	host := s
	switch last := strings.LastIndexByte(s, ':'); {
	case strings.HasPrefix(s, "["):
		var port string
		var closed bool
		host, port, closed = strings.Cut(s[1:], "]")
		if !closed || port != "" && port[0] != ':' {
			return address{}, false
		}
	case last >= 0 && last == strings.IndexByte(s, ':'): // IPv6 has two at least
		host = s[:last]
	}
	ip, err := netip.ParseAddr(host)
	if ip.Is4() {
		return address{ip, host}, true
	}
	return address{ip: ip.WithZone("").Unmap()}, err == nil
}

// key returns the key of an address, or "" without one.
func (a address) key() string {
	switch {
	case a.text != "":
		return a.text
	case a.ip.Is4(): // it was mapped
		return a.ip.String()
	case a.ip.Is6():
		p, _ := a.ip.Prefix(64) // fails for what is too short
		var buf [32]byte
		return string(p.AppendTo(buf[:0])) // half of what String allocates
	}
	return ""
}
