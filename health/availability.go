package health

import (
	"math"
	"math/bits"
	"time"
)

// trillion is what availabilities are counted in: 1-0.999 is not 0.001 in a float64, and
// a year has enough nanoseconds to show it.
const trillion = 1e12

// lacking returns what an availability lacks to 1, as a whole number of trillionths. What
// is below 0, or not a number, counts as 0: those who do not know should not hope.
func lacking(availability float64) uint64 {
	if !(availability > 0) {
		return trillion
	}
	return uint64(math.Round((1 - min(availability, 1)) * trillion))
}

// Downtime returns how long a service may be down in a period and still have the
// availability, from 0 to 1: 43m12s of 30 days for 0.999. An availability is taken to the
// trillionth, and the result rounded down to the nanosecond. What is below 0 counts as 0,
// and what is above 1 as 1; in a negative period there is no time.
func Downtime(availability float64, period time.Duration) time.Duration {
	if period <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(period), lacking(availability))
	down, _ := bits.Div64(hi, lo, trillion)
	return time.Duration(down)
}

// Series returns the availability of what needs all of its parts, such as a service and
// the dependencies that it cannot do without: their product. Five of 0.999 make 0.995.
// Of no parts it is 1.
//
// It takes parts to fail independently of each other. Those that fail together, for they
// share a rack or a release, come out better than that: at best as good as the worst of
// them.
func Series(parts ...float64) float64 {
	product := 1.0
	for _, part := range parts {
		product *= within(part)
	}
	return product
}

// Parallel returns the availability of what needs any one of its parts, such as replicas of
// which one can do all the work, or a dependency that has a fallback. Two of 0.99 make
// 0.9999. Of no parts it is 0.
//
// It takes parts to fail independently of each other. They seldom do: a zone, a
// configuration or a query of death takes all replicas at once. Put what they share in
// [Series] with them, and see how little a third replica adds.
func Parallel(parts ...float64) float64 {
	none := 1.0
	for _, part := range parts {
		none *= 1 - within(part)
	}
	return 1 - none
}

// Own returns the availability that a service needs by itself to have the objective,
// with dependencies that it requires: the objective divided by their [Series]. Above 1 it
// cannot be had: a dependency must become better, or one that the service can do
// without. The rule of thumb is that what is required should have one nine more than what
// requires it.
func Own(objective float64, dependencies ...float64) float64 {
	objective = within(objective)
	if objective == 0 {
		return 0 // also of dependencies that are always down
	}
	return objective / Series(dependencies...)
}

// within returns an availability that is one.
func within(availability float64) float64 {
	if !(availability > 0) {
		return 0
	}
	return min(availability, 1)
}
