module github.com/stormjib/stormjib/examples

go 1.26.0

require github.com/stormjib/stormjib v0.0.0

replace github.com/stormjib/stormjib => ../
