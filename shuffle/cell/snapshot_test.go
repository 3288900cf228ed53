package cell_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stormjib/stormjib/shuffle/cell"
)

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name, want string // in the error; "": none
		change     func(*cell.Snapshot)
	}{
		{"as it is", "", func(*cell.Snapshot) {}},
		{"empty", "Version is 0; Lease is 0s", func(s *cell.Snapshot) { *s = cell.Snapshot{} }},
		{"version 0", "Version is 0", func(s *cell.Snapshot) { s.Version = 0 }},
		{"a version of 16 digits", "15 digits", func(s *cell.Snapshot) { s.Version = 1e15 }},
		{"forced later", "Forced is 8", func(s *cell.Snapshot) { s.Forced = 8 }},
		{"no lease", "Lease is 0s", func(s *cell.Snapshot) { s.Lease = 0 }},
		{
			"a lease for ever", "Lease is 1h0m1s",
			func(s *cell.Snapshot) { s.Lease = 3601 * time.Second },
		},
		{"no cells", "no cells", func(s *cell.Snapshot) { s.Cells = nil }},
		{"no slots", "0 slots", func(s *cell.Snapshot) { s.Slots = nil }},
		{"three slots", "3 slots", func(s *cell.Snapshot) { s.Slots = s.Slots[:3] }},
		{"too many slots", "131072 slots", func(s *cell.Snapshot) {
			s.Slots = slices.Repeat(s.Slots, 1<<15)
		}},
		{"the same cell twice", `two cells "a"`, func(s *cell.Snapshot) { s.Cells[1].ID = "a" }},
		{"a cell without a name", `cell ""`, func(s *cell.Snapshot) { s.Cells[0].ID = "" }},
		{
			"an address that is no text", "Address",
			func(s *cell.Snapshot) { s.Cells[0].Address = "\xff" },
		},
		{"capacity below 0", "Capacity is -1", func(s *cell.Snapshot) { s.Cells[0].Capacity = -1 }},
		{"a replica twice", `two replicas "x"`, func(s *cell.Snapshot) {
			s.Cells[0].Replicas = []string{"x", "x"}
		}},
		{"a replica without a name", `replica ""`, func(s *cell.Snapshot) {
			s.Cells[0].Replicas = []string{""}
		}},
		{
			"an unknown cell", `slot "1": no cell "c"`,
			func(s *cell.Snapshot) { s.Slots[1].Cell = "c" },
		},
		{"epoch 0", `slot "1": Epoch is 0`, func(s *cell.Snapshot) { s.Slots[1].Epoch = 0 }},
		{
			"an epoch to come", `Epoch is 8 at version 7`,
			func(s *cell.Snapshot) { s.Slots[1].Epoch = 8 },
		},
		{"an unknown phase", "no phase 6", func(s *cell.Snapshot) { s.Slots[1].Phase = 6 }},
		{"stable, and yet", "but it is stable", func(s *cell.Snapshot) { s.Slots[1].Peer = "a" }},
		{"to nowhere", `no cell "" for a Peer`, func(s *cell.Snapshot) {
			s.Slots[1].Phase = cell.Flipping
		}},
		{"to itself", "to itself", func(s *cell.Snapshot) {
			s.Slots[1].Phase, s.Slots[1].Peer = cell.Cleaning, "b"
		}},
		{"no name", `tenant ""`, func(s *cell.Snapshot) { s.Tenants = entry("", 1) }},
		{"a name that is no text", "UTF-8", func(s *cell.Snapshot) {
			s.Tenants = entry("\xff",
				1)
		}},
		{"a name that is too long", "256", func(s *cell.Snapshot) {
			s.Prefixes = entry(strings.Repeat("x", 257), 1)
		}},
		{"a prefix that moves", "cannot be", func(s *cell.Snapshot) {
			s.Prefixes = map[string]cell.Assignment{"p": {Cell: "a", Epoch: 1, Phase: 1, Peer: "b"}}
		}},
		{"split, and not", "is split, and is not", func(s *cell.Snapshot) {
			s.Tenants = entry("x", 1)
			s.Splits = map[string][]cell.Assignment{"x": {{Cell: "a", Epoch: 1}}}
		}},
		{"three parts", "3 parts", func(s *cell.Snapshot) {
			s.Splits = map[string][]cell.Assignment{"x": s.Slots[:3]}
		}},
		{"no parts", "0 parts", func(s *cell.Snapshot) {
			s.Splits = map[string][]cell.Assignment{"x": {}}
		}},
		{"wrong all over", "and 1 more", func(s *cell.Snapshot) {
			s.Version, s.Lease = 0, 0
			s.Slots = slices.Repeat(s.Slots[:1], 4)
		}},
	} {
		s := small(7)
		test.change(s)
		err := s.Validate()
		if test.want == "" && err != nil || test.want != "" &&
			(!errors.Is(err, cell.ErrInvalid) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if _, encoded := s.Encode(); (encoded == nil) != (err == nil) {
			t.Errorf("%s: Encode says %v", test.name, encoded)
		}
	}
}

func entry(name string, epoch uint64) map[string]cell.Assignment {
	return map[string]cell.Assignment{name: {Cell: "a", Epoch: epoch}}
}

// full is a map with something of everything.
func full() *cell.Snapshot {
	s := small(9)
	s.Forced = 4
	s.Cells[1].Cordoned = true
	s.Slots[2] = cell.Assignment{Cell: "a", Epoch: 3, Phase: cell.Replicating, Peer: "b"}
	s.Tenants = map[string]cell.Assignment{
		"acme":       {Cell: "b", Epoch: 9, Phase: cell.Draining, Peer: "a"},
		"x\u2028\"<": {Cell: "a", Epoch: 2},
	}
	s.Prefixes = map[string]cell.Assignment{"eu-": {Cell: "a", Epoch: 5}, "eu-de-": {
		Cell:  "b",
		Epoch: 5,
	}}
	s.Splits = map[string][]cell.Assignment{"big": {{Cell: "a", Epoch: 6}, {Cell: "b", Epoch: 7}}}
	return s
}

func TestEncode(t *testing.T) {
	for _, s := range []*cell.Snapshot{small(1), full()} {
		b := encode(t, s)
		got, err := cell.Decode(b)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("comes back as %+v, %v, not as %+v", got, err, s)
		}
		if again := encode(t, got); !bytes.Equal(again, b) {
			t.Errorf("is encoded as\n%s and then as\n%s", b, again)
		}
	}
}

// The bytes are a format that others read.
func TestEncodingIsGolden(t *testing.T) {
	s := with(3, "acme", cell.Assignment{Cell: "a", Epoch: 3, Phase: cell.Draining, Peer: "b"})
	s.Slots[1].Cell = "a"
	want := "stormjib-cells/1 " +
		"sha256=4c68939ccb7457fc8491a9c85818a3e64b46d4618d40ec18f7f3a18c4bbcd625\n" +
		`{"version":3,"issued":"1970-01-12T13:46:40Z","lease":"15s","cells":[` +
		`{"id":"a","address":"a:80","capacity":10,"replicas":["a-1","a-2"]},` +
		`{"id":"b","address":"b:80","capacity":10,"replicas":["b-1"]}],"slots":4,"assigned":[` +
		`{"cell":"a","epoch":1,"at":"0-2"},{"cell":"b","epoch":1,"at":"3"}],"tenants":{` +
		`"acme":{"cell":"a","epoch":3,"phase":"draining","peer":"b"}}}` + "\n"
	if got := string(encode(t, s)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Whatever a disk or a network makes of a map, it is a map or none.
func TestDecodeDamaged(t *testing.T) {
	whole := encode(t, full())
	for n := range whole {
		if _, err := cell.Decode(whole[:n]); !errors.Is(err, cell.ErrInvalid) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
		flipped := bytes.Clone(whole)
		flipped[n] ^= 0x20
		if _, err := cell.Decode(flipped); !errors.Is(err, cell.ErrInvalid) {
			t.Fatalf("byte %d flipped: %v", n, err)
		}
	}
	_, body, _ := bytes.Cut(whole, []byte("\n"))
	for name, b := range map[string][]byte{
		"two maps": cell.Seal(append(bytes.Clone(body), body...)), "nothing": nil,
		"more":  append(bytes.Clone(whole), '\n'),
		"zeros": make([]byte, len(whole)),
	} {
		if _, err := cell.Decode(b); !errors.Is(err, cell.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClone(t *testing.T) {
	s := full()
	c := s.Clone()
	c.Cells[0].Replicas[0], c.Cells[1].ID = "z", "z"
	c.Slots[0].Cell, c.Splits["big"][0].Cell = "z", "z"
	c.Tenants["z"], c.Prefixes["z"] = cell.Assignment{}, cell.Assignment{}
	c.Splits["z"] = nil
	if !reflect.DeepEqual(s, full()) {
		t.Errorf("a change of the copy is one of the original: %+v", s)
	}
}

func TestPhaseText(t *testing.T) {
	for p := cell.Stable; p <= cell.Cleaning; p++ {
		text, err := p.MarshalText()
		var back cell.Phase
		if err != nil || string(text) != p.String() || back.UnmarshalText(text) != nil ||
			back != p {
			t.Errorf("%d is %q, %v and back %v", p, text, err, back)
		}
	}
	if got := cell.Phase(6).String(); got != "phase(6)" {
		t.Error(got)
	}
	if _, err := cell.Phase(math.MaxUint8).MarshalText(); !errors.Is(err, cell.ErrInvalid) {
		t.Error(err)
	}
	if err := new(cell.Phase).UnmarshalText([]byte("Stable")); !errors.Is(err, cell.ErrInvalid) {
		t.Error(err)
	}
}

func TestFollows(t *testing.T) {
	a, b := "a", "b"
	one := func(c string, epoch uint64) []cell.Assignment {
		return []cell.Assignment{{Cell: c, Epoch: epoch}}
	}
	for _, test := range []struct {
		name     string
		ok       bool
		old, new func(*cell.Snapshot) // versions 7 and 9
	}{
		{"nothing", true, nil, nil},
		{"an older version", false, nil, func(s *cell.Snapshot) { s.Version = 6 }},
		{"the same version", false, nil, func(s *cell.Snapshot) { s.Version = 7 }},
		{"other slots", false, nil, func(s *cell.Snapshot) { s.Slots = s.Slots[:2] }},
		{"a longer lease", true, nil, func(s *cell.Snapshot) { s.Lease++ }},
		{"a shorter lease", false, nil, func(s *cell.Snapshot) { s.Lease-- }},
		{"forced", true, nil, func(s *cell.Snapshot) { s.Lease--; s.Forced = 8 }},
		{"forced before", false, nil, func(s *cell.Snapshot) { s.Lease--; s.Forced = 7 }},

		{"a slot flips", true, nil, func(s *cell.Snapshot) { s.Slots[0] = one(b, 8)[0] }},
		{"with its old epoch", false, nil, func(s *cell.Snapshot) { s.Slots[0] = one(b, 1)[0] }},
		{"with one there might have been", false, nil, func(s *cell.Snapshot) {
			s.Slots[0] = one(b, 7)[0]
		}},
		{"a slot is given a new epoch", true, nil, func(s *cell.Snapshot) { s.Slots[0].Epoch = 9 }},
		{
			"a slot goes back", false, func(s *cell.Snapshot) { s.Slots[0].Epoch = 5 },
			func(s *cell.Snapshot) { s.Slots[0].Epoch = 4 },
		},
		{"a phase changes nothing", true, nil, func(s *cell.Snapshot) {
			s.Slots[0].Phase, s.Slots[0].Peer = cell.Flipping, b
		}},

		// The slot of "acme" is 2, and so that of cell a.
		{"an entry as the slot has it", true, nil, func(s *cell.Snapshot) {
			s.Tenants = entry("acme", 1)
		}},
		{"an entry that flips", true, nil, func(s *cell.Snapshot) {
			s.Tenants = map[string]cell.Assignment{"acme": {Cell: b, Epoch: 8}}
		}},
		{"an entry that lies", false, nil, func(s *cell.Snapshot) {
			s.Tenants = map[string]cell.Assignment{"acme": {Cell: b, Epoch: 7}}
		}},
		{"an entry is taken", true, func(s *cell.Snapshot) { s.Tenants = entry("acme", 1) }, nil},
		{
			"too early", false,
			func(s *cell.Snapshot) { s.Tenants = entry("acme", 5) }, nil,
		},
		{
			"with its slot", true, func(s *cell.Snapshot) { s.Tenants = entry("acme", 5) },
			func(s *cell.Snapshot) { s.Slots[2].Epoch = 9 },
		},
		{
			"all entries are lost", false, func(s *cell.Snapshot) {
				s.Tenants = map[string]cell.Assignment{"acme": {Cell: b, Epoch: 5}}
			}, nil,
		},

		{"a tenant is split", true, nil, func(s *cell.Snapshot) {
			s.Splits = map[string][]cell.Assignment{"acme": {one(a, 1)[0], one(b, 8)[0]}}
		}},
		{"and a part lies", false, nil, func(s *cell.Snapshot) {
			s.Splits = map[string][]cell.Assignment{"acme": {one(a, 1)[0], one(b, 2)[0]}}
		}},
		{
			"in halves", true, func(s *cell.Snapshot) {
				s.Splits = map[string][]cell.Assignment{"acme": {one(a, 5)[0], one(b, 6)[0]}}
			}, func(s *cell.Snapshot) {
				s.Splits = map[string][]cell.Assignment{
					"acme": {one(a, 5)[0], one(a, 5)[0], one(b, 6)[0], one(a, 9)[0]},
				}
			},
		},
		{
			"in the wrong halves", false, func(s *cell.Snapshot) {
				s.Splits = map[string][]cell.Assignment{"acme": {one(a, 5)[0], one(b, 6)[0]}}
			}, func(s *cell.Snapshot) {
				s.Splits = map[string][]cell.Assignment{
					"acme": {one(a, 5)[0], one(b, 6)[0], one(a, 5)[0], one(b, 6)[0]},
				}
			},
		},
		{
			"no longer split", true, func(s *cell.Snapshot) {
				s.Splits = map[string][]cell.Assignment{"acme": {one(a, 5)[0], one(b, 6)[0]}}
			}, func(s *cell.Snapshot) { s.Tenants = entry("acme", 8) },
		},

		{"a new prefix", true, nil, func(s *cell.Snapshot) { s.Prefixes = entry("ac", 8) }},
		{"with an old epoch", false, nil, func(s *cell.Snapshot) { s.Prefixes = entry("ac", 7) }},
		{
			"in an old prefix", true, func(s *cell.Snapshot) { s.Prefixes = entry("ac", 2) },
			func(s *cell.Snapshot) {
				s.Prefixes = map[string]cell.Assignment{
					"ac":  {Cell: a, Epoch: 2},
					"acm": {Cell: a, Epoch: 2},
				}
			},
		},
		{
			"a prefix is taken", false,
			func(s *cell.Snapshot) { s.Prefixes = entry("ac", 5) }, nil,
		},
		{
			"with all slots", true, func(s *cell.Snapshot) { s.Prefixes = entry("ac", 5) },
			func(s *cell.Snapshot) {
				for i := range s.Slots {
					s.Slots[i].Epoch = 9
				}
			},
		},
		{
			"with a shorter one left", true, func(s *cell.Snapshot) {
				s.Prefixes = map[string]cell.Assignment{
					"ac":  {Cell: a, Epoch: 2},
					"acm": {Cell: b, Epoch: 4},
				}
			}, func(s *cell.Snapshot) { s.Prefixes = entry("ac", 9) },
		},
		{
			"with an older one left", false, func(s *cell.Snapshot) {
				s.Prefixes = map[string]cell.Assignment{
					"ac":  {Cell: a, Epoch: 2},
					"acm": {Cell: b, Epoch: 4},
				}
			}, func(s *cell.Snapshot) { s.Prefixes = entry("ac", 2) },
		},
	} {
		old, next := small(7), small(9)
		if test.old != nil {
			test.old(old)
		}
		if test.new != nil {
			test.new(next)
		}
		for _, s := range []*cell.Snapshot{old, next} {
			if err := s.Validate(); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
		}
		err := next.Follows(old)
		if (err == nil) != test.ok || err != nil && !errors.Is(err, cell.ErrInvalid) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(nil), true)
	for _, s := range []*cell.Snapshot{small(1), full()} {
		b, err := s.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
		_, body, _ := bytes.Cut(b, []byte("\n"))
		f.Add(body, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed { // else none would come through
			b = cell.Seal(b)
		}
		s, err := cell.Decode(b)
		if err != nil {
			if !errors.Is(err, cell.ErrInvalid) {
				t.Fatalf("%v is not ErrInvalid", err)
			}
			return
		}
		again, err := cell.Decode(encode(t, s))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
			t.Fatalf("%+v comes back as %+v, %v", s, again, err)
		}
	})
}
