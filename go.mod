module github.com/stormjib/stormjib

go 1.26.0
