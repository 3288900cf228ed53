package cell

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The encoding is a line that says what it is, with a checksum of what follows, and then
// JSON:
//
//	stormjib-cells/1 sha256=<64 hexadecimal digits>
//	{"version":7,"issued":"...","lease":"15s","slots":4,...}
//
// It is JSON and not something of half the size because the day on which people have to
// read it is not a day for tools, and because it is decoded when it has changed and not
// when it was pulled. The checksum is of bytes and not of values, so that there is no
// question of how values are written.
const (
	magic  = "stormjib-cells/1 sha256="
	header = len(magic) + 2*sha256.Size + 1
)

type wire struct {
	Version  uint64                 `json:"version"`
	Issued   time.Time              `json:"issued"`
	Lease    string                 `json:"lease"`
	Forced   uint64                 `json:"forced,omitempty"`
	Cells    []wireCell             `json:"cells"`
	Slots    int                    `json:"slots"`
	Assigned []wireGroup            `json:"assigned"`
	Tenants  map[string]wireEntry   `json:"tenants,omitempty"`
	Prefixes map[string]wireEntry   `json:"prefixes,omitempty"`
	Splits   map[string][]wireEntry `json:"splits,omitempty"`
}

type wireCell struct {
	ID       string   `json:"id"`
	Address  string   `json:"address,omitempty"`
	Capacity int      `json:"capacity,omitempty"`
	Cordoned bool     `json:"cordoned,omitempty"`
	Replicas []string `json:"replicas,omitempty"`
}

type wireEntry struct {
	Cell  string `json:"cell"`
	Epoch uint64 `json:"epoch"`
	Phase Phase  `json:"phase,omitempty"`
	Peer  string `json:"peer,omitempty"`
}

// wireGroup is all slots with the same assignment, such as "0-99,200".
type wireGroup struct {
	wireEntry

	At string `json:"at"`
}

// Encode returns s as bytes, which say the same whoever wrote them and when. It returns
// the error of [Snapshot.Validate] for what is not valid.
func (s *Snapshot) Encode() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	w := wire{
		Version: s.Version, Issued: s.Issued.UTC().Round(0), Lease: s.Lease.String(),
		Forced: s.Forced, Slots: len(s.Slots), Assigned: groups(s.Slots),
		Tenants: entries(s.Tenants), Prefixes: entries(s.Prefixes),
		Splits: make(map[string][]wireEntry, len(s.Splits)),
	}
	for _, c := range s.Cells {
		w.Cells = append(w.Cells, wireCell(c))
	}
	for tenant, parts := range s.Splits {
		for _, a := range parts {
			w.Splits[tenant] = append(w.Splits[tenant], wireEntry(a))
		}
	}
	body, err := json.Marshal(w)
	if err != nil { // the year of Issued, or nothing
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return seal(append(body, '\n')), nil
}

func seal(body []byte) []byte {
	sum := sha256.Sum256(body)
	b := append(make([]byte, 0, header+len(body)), magic...)
	b = append(hex.AppendEncode(b, sum[:]), '\n')
	return append(b, body...)
}

// open returns what seal was given, and its checksum.
func open(b []byte) (body []byte, sum [sha256.Size]byte, err error) {
	if len(b) < header || string(b[:len(magic)]) != magic || b[header-1] != '\n' {
		return nil, sum, fmt.Errorf("%w: it does not begin with %q", ErrInvalid, magic)
	}
	body = b[header:]
	sum = sha256.Sum256(body)
	if want := hex.AppendEncode(nil, sum[:]); !bytes.Equal(want, b[len(magic):header-1]) {
		return nil, sum, fmt.Errorf("%w: the checksum does not match: %d bytes are %s",
			ErrInvalid, len(body), want)
	}
	return body, sum, nil
}

// Decode returns the snapshot that was encoded as b. Its errors match [ErrInvalid]. What
// it allocates is in proportion to len(b), which is for the caller to bound.
func Decode(b []byte) (*Snapshot, error) {
	body, _, err := open(b)
	if err != nil {
		return nil, err
	}
	return decode(body)
}

func decode(body []byte) (*Snapshot, error) {
	var w wire
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: there is more behind it", ErrInvalid)
	}
	lease, err := time.ParseDuration(w.Lease)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	s := &Snapshot{
		Version: w.Version, Issued: w.Issued, Lease: lease, Forced: w.Forced,
		Tenants: assignments(w.Tenants), Prefixes: assignments(w.Prefixes),
	}
	if len(w.Splits) > 0 {
		s.Splits = make(map[string][]Assignment, len(w.Splits))
	}
	for tenant, parts := range w.Splits {
		for _, e := range parts {
			s.Splits[tenant] = append(s.Splits[tenant], Assignment(e))
		}
	}
	for _, c := range w.Cells {
		s.Cells = append(s.Cells, Cell(c))
	}
	if s.Slots, err = w.table(); err != nil {
		return nil, err
	}
	return s, s.Validate()
}

func entries(all map[string]Assignment) map[string]wireEntry {
	m := make(map[string]wireEntry, len(all))
	for name, a := range all {
		m[name] = wireEntry(a)
	}
	return m
}

func assignments(all map[string]wireEntry) map[string]Assignment {
	if len(all) == 0 {
		return nil
	}
	m := make(map[string]Assignment, len(all))
	for name, e := range all {
		m[name] = Assignment(e)
	}
	return m
}

// groups is in the order of each group's first slot.
func groups(slots []Assignment) []wireGroup {
	var all []wireGroup
	index := map[Assignment]int{}
	ranges := [][]byte{}
	for i := 0; i < len(slots); {
		first := i
		for i++; i < len(slots) && slots[i] == slots[first]; i++ {
		}
		g, ok := index[slots[first]]
		if !ok {
			g = len(all)
			index[slots[first]] = g
			all = append(all, wireGroup{wireEntry: wireEntry(slots[first])})
			ranges = append(ranges, nil)
		} else {
			ranges[g] = append(ranges[g], ',')
		}
		ranges[g] = strconv.AppendInt(ranges[g], int64(first), 10)
		if i-first > 1 {
			ranges[g] = strconv.AppendInt(append(ranges[g], '-'), int64(i-1), 10)
		}
	}
	for g := range all {
		all[g].At = string(ranges[g])
	}
	return all
}

// table returns the slots of w, each of which must be in one group.
func (w *wire) table() ([]Assignment, error) {
	if w.Slots < 1 || w.Slots > maxSlots {
		return nil, fmt.Errorf("%w: %d slots", ErrInvalid, w.Slots)
	}
	slots, taken := make([]Assignment, w.Slots), make([]bool, w.Slots)
	for _, g := range w.Assigned {
		for text := range strings.SplitSeq(g.At, ",") {
			first, last, ok := slotRange(text, w.Slots)
			if !ok || slices.Contains(taken[first:last+1], true) {
				return nil, fmt.Errorf("%w: slots %.100q, of %d, each of them once",
					ErrInvalid, text, w.Slots)
			}
			for i := first; i <= last; i++ {
				slots[i], taken[i] = Assignment(g.wireEntry), true
			}
		}
	}
	if i := slices.Index(taken, false); i >= 0 {
		return nil, fmt.Errorf("%w: slot %d has no cell", ErrInvalid, i)
	}
	return slots, nil
}

func slotRange(text string, n int) (first, last int, ok bool) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	a, err := strconv.ParseUint(from, 10, 31)
	b, err2 := strconv.ParseUint(to, 10, 31)
	return int(a), int(b), err == nil && err2 == nil && a <= b && b < uint64(n)
}
