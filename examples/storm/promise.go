package main

import (
	"encoding/json"
	"math"
	"strconv"
)

// Verdict is one promise held against every variant.
type Verdict struct {
	Text    string            `json:"text"`
	Unit    string            `json:"unit"`
	AtLeast float64           `json:"at_least,omitempty"`
	AtMost  float64           `json:"at_most,omitempty"`
	Premise bool              `json:"premise,omitempty"` // about bare alone
	Also    []string          `json:"also,omitempty"`    // those who have to keep it too
	Values  map[string]Number `json:"values"`            // by variant
	Kept    map[string]bool   `json:"kept"`              // by variant
}

// Number is a value that may be infinite, for never, which JSON lacks: there
// it is null.
type Number float64

// MarshalJSON writes the number, or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsInf(float64(n), 0) || math.IsNaN(float64(n)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// String returns the number with as many decimals as it deserves.
func (n Number) String() string {
	switch f := float64(n); {
	case math.IsInf(f, 0) || math.IsNaN(f):
		return "never"
	case math.Abs(f) >= 100:
		return strconv.FormatFloat(f, 'f', 0, 64)
	default:
		return strconv.FormatFloat(f, 'f', 2, 64)
	}
}

// judge holds the promises against the records, which are in the order of the
// scenario's variants.
func judge(s *Scenario, records []*Record) []Verdict {
	bare := records[max(s.order(bareName), 0)]
	verdicts := make([]Verdict, 0, len(s.Promises))
	for _, p := range s.Promises {
		v := Verdict{
			Text: p.Text, Unit: p.Unit, AtLeast: p.AtLeast, AtMost: p.AtMost, Premise: p.Premise,
			Also:   p.Also,
			Values: map[string]Number{}, Kept: map[string]bool{},
		}
		for _, r := range records {
			if p.Premise && r != bare {
				continue
			}
			value := p.Value(r, bare)
			v.Values[r.Variant] = Number(value)
			v.Kept[r.Variant] = p.kept(value)
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// kept reports whether value is within the promise; what is not a number is
// not.
func (p Promise) kept(value float64) bool {
	if p.AtLeast != 0 {
		return value >= p.AtLeast
	}
	return value <= p.AtMost
}

// keptAll reports whether a variant kept every promise.
func keptAll(verdicts []Verdict, variant string) bool {
	for _, v := range verdicts {
		if !v.Premise && !v.Kept[variant] {
			return false
		}
	}
	return true
}

// broke returns the first of the library's variants that broke a promise, "" if none did.
func broke(verdicts []Verdict) string {
	if !keptAll(verdicts, mainName) {
		return mainName
	}
	for _, v := range verdicts {
		for _, variant := range v.Also {
			if !v.Kept[variant] {
				return variant
			}
		}
	}
	return ""
}

// premised reports whether bare suffered what it should.
func premised(verdicts []Verdict) bool {
	for _, v := range verdicts {
		if v.Premise && !v.Kept[bareName] {
			return false
		}
	}
	return true
}

// conclude returns the exit code the verdicts deserve, and in words why.
func conclude(verdicts []Verdict) (code int, why string) {
	switch broken := broke(verdicts); {
	case broken != "":
		return exitBroken, "BROKEN: " + broken + " did not keep its promise"
	case keptAll(verdicts, bareName):
		return exitBroken, "SHOWS NOTHING: " + bareName + " keeps the promise too"
	case !premised(verdicts):
		return exitBroken, "SHOWS NOTHING: " + bareName + " does not suffer what it should"
	default:
		return exitKept, "KEPT: " + mainName + " keeps its promise, " + bareName + " does not"
	}
}
