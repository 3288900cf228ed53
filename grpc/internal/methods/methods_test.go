package methods_test

import (
	"testing"

	"github.com/stormjib/stormjib/grpc/internal/methods"
)

func TestSkipped(t *testing.T) {
	list := []string{"/shop.Cart/Add", "/shop.Admin/"}
	for _, test := range []struct {
		method               string
		none, listed, nobody bool // by no list, by the list, by an empty one
	}{
		{"/shop.Cart/Add", false, true, false},
		{"/shop.Cart/AddAll", false, false, false},
		{"/shop.Cart/Ad", false, false, false},
		{"/shop.Admin/Stop", false, true, false},
		{"/shop.Administration/Stop", false, false, false},
		{"/grpc.health.v1.Health/Check", true, false, false},
		{"/grpc.health.v1.Health/Watch", true, false, false},
		{"/grpc.health.v2.Health/Check", false, false, false},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true, false, false},
		{"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", true, false, false},
		{"/grpc.channelz.v1.Channelz/GetServers", false, false, false},
		{"", false, false, false},
	} {
		for i, l := range [][]string{nil, list, {}} {
			want := [...]bool{test.none, test.listed, test.nobody}[i]
			if got := methods.Skipped(l, test.method); got != want {
				t.Errorf("%q is skipped by %q: %t", test.method, l, got)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for name, good := range map[string]bool{
		"/shop.Cart/Add": true, "/shop.Cart/": true, "/Cart/Add": true,
		"": false, "/": false, "//": false, "//Add": false, "/shop.Cart": false,
		"shop.Cart/Add": false, "/shop.Cart/Add/": false, "/shop.Cart/Add/x": false,
	} {
		func() {
			defer func() {
				if v := recover(); (v == nil) != good {
					t.Errorf("%q: %v", name, v)
				}
			}()
			methods.Check("Skip", []string{name})
		}()
	}
}
