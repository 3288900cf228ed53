package hop

import (
	"strconv"
	"strings"
)

// EpochField is the request header field by which an edge says where it believes a tenant
// to be: an Integer, the epoch of the route. In a response of 421 it is the current one,
// and CellField has the active cell, a String or a Byte Sequence as in a TenantField:
//
//	Stormjib-Epoch: 57
//	Stormjib-Cell: "cell-3"
const (
	EpochField = "Stormjib-Epoch"
	CellField  = "Stormjib-Cell"
)

// FormatEpoch returns the value of an EpochField. Epochs count changes of a map, so they
// have the 15 digits of an Integer at most; what has more is the largest of them.
func FormatEpoch(epoch uint64) string { return strconv.FormatUint(min(epoch, maxInteger), 10) }

const maxInteger = 999_999_999_999_999

// ParseEpoch reads the value of an EpochField. It reports false if it is none, or below 1.
func ParseEpoch(value string) (uint64, bool) {
	n, ok := integer(strings.TrimSpace(value))
	if !ok || n < 1 {
		return 0, false
	}
	return uint64(n), true
}

// What a cell refuses, as a Refusal's Reason.
const (
	Moved  = "moved"  // the tenant is elsewhere, or the epoch is over
	Paused = "paused" // the tenant is here, but not now
)
