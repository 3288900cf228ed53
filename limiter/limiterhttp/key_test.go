package limiterhttp_test

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stormjib/stormjib/limiter/limiterhttp"
)

// from returns a request from an address, with lines of X-Forwarded-For.
func from(remote string, lines ...string) *http.Request {
	return &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": lines}}
}

func TestRemoteAddr(t *testing.T) {
	tests := []struct{ name, remote, want string }{ // "": none
		{"IPv4", "192.0.2.1:1234", "192.0.2.1"},
		{"without a port", "192.0.2.1", "192.0.2.1"},
		{"mapped", "[::ffff:192.0.2.1]:1234", "192.0.2.1"},
		{"mapped, in hexadecimal", "[::ffff:c000:201]:1234", "192.0.2.1"},
		{"IPv6 is its network", "[2001:db8:1:2:3:4:5:6]:1234", "2001:db8:1:2::/64"},
		{"another of the network", "[2001:db8:1:2:ffff::]:1234", "2001:db8:1:2::/64"},
		{"another network", "[2001:db8:1:3:3:4:5:6]:1234", "2001:db8:1:3::/64"},
		{"without a port or brackets", "2001:DB8:1:2::1", "2001:db8:1:2::/64"},
		{"without a port", "[2001:db8:1:2::1]", "2001:db8:1:2::/64"},
		{"a zone", "[fe80::1%eth0]:1234", "fe80::/64"},
		{"another zone", "[fe80::1%eth1]:1234", "fe80::/64"},
		{"this host", "[::1]:1234", "::/64"},

		{"a Unix socket", "@", ""},
		{"nothing", "", ""},
		{"a name", "localhost:1234", ""},
		{"a port alone", ":1234", ""},
		{"half a bracket", "[2001:db8::1", ""},
		{"behind a bracket", "[2001:db8::1]1234", ""},
		{"octal", "192.0.02.1:1234", ""},
		{"too short", "192.0.2:1234", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := limiterhttp.RemoteAddr(from(test.remote, "198.51.100.9"))
			if got != test.want || ok != (test.want != "") {
				t.Errorf("RemoteAddr of %q is %q, %t; want %q", test.remote, got, ok, test.want)
			}
		})
	}
}

// proxies are the trusted networks of these tests.
func proxies() limiterhttp.KeyFunc {
	return limiterhttp.ForwardedFor(
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"))
}

func TestForwardedFor(t *testing.T) {
	const proxy, client = "10.0.0.1:1234", "192.0.2.1"
	lines := func(lines ...string) []string { return lines }
	tests := []struct {
		name, remote string
		lines        []string
		want         string
	}{
		{"one proxy", proxy, lines("192.0.2.1"), client},
		{"two proxies", proxy, lines("192.0.2.1, 10.0.0.2"), client},
		{"two proxies, in two lines", proxy, lines("192.0.2.1", "10.0.0.2"), client},
		{"no spaces", proxy, lines("192.0.2.1,10.0.0.2"), client},
		{"tabs and spaces", proxy, lines(" \t192.0.2.1\t ,  10.0.0.2 "), client},
		{"with ports", proxy, lines("192.0.2.1:55, [fd00::1]:77"), client},
		{"with brackets", proxy, lines("[2001:db8:1:2::3], fd00::1"), "2001:db8:1:2::/64"},
		{"IPv6 is its network", proxy, lines("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"},
		{"mapped", proxy, lines("::ffff:192.0.2.1"), client},
		{"a proxy, mapped", "[::ffff:10.0.0.1]:1", lines("192.0.2.1, ::ffff:10.0.0.2"), client},
		{"a proxy with a zone", "[fd00::1%eth0]:1", lines("192.0.2.1, fd00::2%eth1"), client},

		// Somebody writes the field himself. What counts is added after it.
		{"a lie", proxy, lines("198.51.100.9, 192.0.2.1"), client},
		{"a lie in a line of its own", proxy, lines("198.51.100.9", "192.0.2.1"), client},
		{"a lie about proxies", proxy, lines("198.51.100.9, 10.0.0.7, 192.0.2.1"), client},
		{"to be nobody", proxy, lines("unknown, 192.0.2.1"), client},
		{"to be a proxy", proxy, lines("10.0.0.7, 192.0.2.1"), client},
		{"without a proxy", "192.0.2.1:1234", lines("198.51.100.9"), client},
		{"without a proxy, as one", "192.0.2.1:1234", lines("198.51.100.9, 10.0.0.1"), client},
		{"a proxy that is not trusted", "198.51.100.1:1", lines("192.0.2.1"), "198.51.100.1"},
		{"a proxy of theirs", proxy, lines("192.0.2.1, 198.51.100.1"), "198.51.100.1"},

		// All are trusted.
		{"the proxy itself", proxy, nil, "10.0.0.1"},
		{"one of our own", proxy, lines("10.9.9.9, 10.0.0.2"), "10.9.9.9"},
		{"one of our own, in two lines", proxy, lines("10.9.9.9", "10.0.0.2"), "10.9.9.9"},

		// A proxy adds what is no address.
		{"it does not know", proxy, lines("192.0.2.1, unknown"), "10.0.0.1"},
		{"the one before does not know", proxy, lines("192.0.2.1, unknown, 10.0.0.2"), "10.0.0.2"},
		{"and the line before", proxy, lines("192.0.2.1", "unknown", "10.0.0.2"), "10.0.0.2"},
		{"it adds nothing", proxy, lines("192.0.2.1, "), "10.0.0.1"},
		{"it adds nothing, in a line of its own", proxy, lines("192.0.2.1", ""), "10.0.0.1"},
		{"it adds nothing in between", proxy, lines("192.0.2.1,,10.0.0.2"), "10.0.0.2"},
		{"a Unix socket", proxy, lines("192.0.2.1, unix:"), "10.0.0.1"},
		{"quotes", proxy, lines(`"192.0.2.1"`), "10.0.0.1"},

		{"no address at all", "@", lines("192.0.2.1"), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := proxies()(from(test.remote, test.lines...))
			if got != test.want || ok != (test.want != "") {
				t.Errorf("%s with %q: %q, %t; want %q", test.remote, test.lines, got, ok, test.want)
			}
		})
	}
}

func TestForwardedForTrustsNobody(t *testing.T) {
	got, ok := limiterhttp.ForwardedFor()(from("10.0.0.1:1234", "192.0.2.1"))
	if got != "10.0.0.1" || !ok {
		t.Errorf("%q, %t", got, ok)
	}
}

func TestForwardedForPanics(t *testing.T) {
	const want = "but must have networks of proxies alone"
	for _, p := range []netip.Prefix{
		{}, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"),
	} {
		got := panicText(func() {
			limiterhttp.ForwardedFor(netip.MustParsePrefix("10.0.0.0/8"), p)
		})
		if !strings.HasPrefix(got, "limiterhttp: ForwardedFor: trusted has ") ||
			!strings.HasSuffix(got, want) {
			t.Errorf("%v: %q", p, got)
		}
	}
}

// The caller's slice is the caller's.
func TestForwardedForKeepsItsNetworks(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	key := limiterhttp.ForwardedFor(trusted...)
	trusted[0] = netip.MustParsePrefix("192.0.2.0/24")
	if got, _ := key(from("10.0.0.1:1", "198.51.100.9, 192.0.2.1")); got != "192.0.2.1" {
		t.Errorf("%q", got)
	}
}

// Whatever a client writes, its bucket is that of the address that it comes from.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{
		"", "198.51.100.9", "198.51.100.9, 10.0.0.1", "\n", ",,,", "unknown", "[::1",
		"::ffff:1.2.3.4", "10.0.0.1\n10.0.0.2, \n", "a]b:c", "]:[", "%", "[fe80::1%]",
		"[]", "[]:", ":", "1.2.3.4:",
	} {
		f.Add(seed)
	}
	key := proxies()
	f.Fuzz(func(t *testing.T, written string) {
		lines := strings.Split(written, "\n")
		check := func(want, remote string, lines ...string) {
			t.Helper()
			if got, ok := key(from(remote, lines...)); got != want || !ok {
				t.Errorf("from %s with %q: %q, %t; want %q", remote, lines, got, ok, want)
			}
		}
		check("192.0.2.1", "192.0.2.1:1234", lines...)
		check("192.0.2.1", "10.0.0.1:1234", append(slices.Clone(lines), "192.0.2.1 , 10.0.0.2")...)
		sameLine := strings.Split(written+", 2001:db8::1", "\n")
		check("2001:db8::/64", "10.0.0.1:1234", sameLine...)

		// A key that there is, is one that an address has.
		got, ok := key(from("10.0.0.1:1234", lines...))
		ip, err := netip.ParseAddr(strings.TrimSuffix(got, "/64"))
		if !ok || err != nil || ip.Is4In6() || ip.Zone() != "" ||
			ip.Is6() && got != netip.PrefixFrom(ip, 64).Masked().String() ||
			ip.Is4() && got != ip.String() {
			t.Errorf("with %q: %q, %t", lines, got, ok)
		}
		if again, ok := limiterhttp.RemoteAddr(from(written)); ok != (again != "") {
			t.Errorf("RemoteAddr of %q is %q, %t", written, again, ok)
		}
	})
}

func TestKeyAllocations(t *testing.T) {
	key := proxies()
	for _, test := range []struct {
		name string
		r    *http.Request
		most float64
	}{
		{"IPv4", from("192.0.2.1:1234"), 0},
		{"IPv4 by a proxy", from("10.0.0.1:1234", "198.51.100.9, 192.0.2.1, 10.0.0.2"), 0},
		{"IPv6", from("[2001:db8::1]:1234"), 1},
		{"IPv6 by a proxy", from("10.0.0.1:1234", "2001:db8::1, 10.0.0.2"), 1},
	} {
		if got := testing.AllocsPerRun(100, func() { key(test.r) }); got > test.most {
			t.Errorf("%s: %v allocations, want %v", test.name, got, test.most)
		}
	}
}
