package hashringhttp_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stormjib/stormjib/hashring/hashringhttp"
)

func TestHeaderAndCookie(t *testing.T) {
	r := request(t, http.MethodGet, "", nil)
	header, cookie := hashringhttp.Header("x-tenant"), hashringhttp.Cookie("session")
	if header(r) != "" || cookie(r) != "" {
		t.Errorf("without them: %q, %q", header(r), cookie(r))
	}
	r.Header.Set("X-Tenant", "acme")
	r.Header.Add("X-Tenant", "globex")
	r.AddCookie(&http.Cookie{Name: "other", Value: "1"})
	r.AddCookie(&http.Cookie{Name: "session", Value: "42"})
	if header(r) != "acme" || cookie(r) != "42" {
		t.Errorf("got %q, %q", header(r), cookie(r))
	}
}

func TestPathSegment(t *testing.T) {
	for _, test := range []struct {
		path string
		i    int
		want string
	}{
		{"/users/42/basket", 0, "users"},
		{"/users/42/basket", 1, "42"},
		{"/users/42/basket", 2, "basket"},
		{"/users/42/basket", 3, ""},
		{"/users/42/basket", -1, ""},
		{"/users/%34%32", 1, "42"},
		{"/users/a%2Fb/basket", 1, "a/b"},
		{"/users//basket", 1, ""},
		{"/users//basket", 2, "basket"},
		{"/", 0, ""},
		{"", 0, ""},
		{"", 1 << 30, ""},
	} {
		u, err := url.Parse("http://host" + test.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := hashringhttp.PathSegment(test.i)(&http.Request{URL: u}); got != test.want {
			t.Errorf("segment %d of %s is %q, want %q", test.i, test.path, got, test.want)
		}
	}
	if got := hashringhttp.PathSegment(0)(&http.Request{}); got != "" {
		t.Errorf("without a URL: %q", got)
	}
}
