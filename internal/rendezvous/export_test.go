package rendezvous

// One is the cost of a score in the middle.
const One = oneCost

// Logs, Cost and CompareCosts are for tables.
var (
	Logs         = logs[:]
	Cost         = cost
	CompareCosts = compareCosts
)
