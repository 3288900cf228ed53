package shed_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stormjib/stormjib/shed"
)

// Whoever has more waiting than others is told so; not whoever is refused for being one of
// too many, for a higher class, or without a tenant.
func TestOverShare(t *testing.T) {
	c := fixed(1)
	c.Queue = 4
	tests := []struct {
		name    string
		waiting []string // tenants
		comes   string
		why     shed.Reason // of who has to go
		share   bool
	}{
		{"all are one's own", []string{"a", "a", "a", "a"}, "a", shed.QueueFull, false},
		{"most are one's own", []string{"a", "a", "a", "b"}, "a", shed.QueueFull, true},
		{"as many", []string{"a", "b", "c", "d"}, "e", shed.QueueFull, false},
		{"one more than others", []string{"a", "b", "c", "d"}, "d", shed.QueueFull, true},
		{"others have more", []string{"a", "a", "a", "b"}, "b", shed.Evicted, true},
		{"unknown", []string{"", "", "", "b"}, "", shed.QueueFull, false},
		{"unknown are many", []string{"", "", "", "b"}, "b", shed.Evicted, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, c, func(t *testing.T, s *shed.Shedder) {
				p := take(t, s)
				defer p.Record(shed.OK)
				failed := make(chan error, 9)
				acquire := func(tenant string) {
					ctx := as(t, tenant)
					go func() {
						p, err := s.Acquire(ctx)
						if p.Record(shed.OK); err != nil {
							failed <- err
						}
					}()
					synctest.Wait()
				}
				for _, tenant := range tt.waiting {
					acquire(tenant)
				}
				acquire(tt.comes)
				e := refusedFor(t, <-failed, tt.why)
				if e.OverShare != tt.share {
					t.Errorf("over its share: %t, want %t", e.OverShare, tt.share)
				}
				if strings.Contains(e.Error(), "over its share") != tt.share {
					t.Error(e)
				}
			})
		})
	}
}
