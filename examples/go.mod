module github.com/stormjib/stormjib/examples

go 1.26.0

require (
	github.com/stormjib/stormjib v0.0.0
	golang.org/x/sync v0.24.0
	golang.org/x/time v0.16.0
)

require github.com/cespare/xxhash/v2 v2.3.0 // indirect

replace github.com/stormjib/stormjib => ../
