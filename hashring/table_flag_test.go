package hashring_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"text/tabwriter"
)

var table = flag.Bool("table", false, "print the tables of what was measured")

// printTable prints rows if -table is set, the first of them being the head.
func printTable(t *testing.T, title string, rows [][]string) {
	t.Helper()
	if !*table {
		return
	}
	fmt.Println("\n" + title)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		for _, cell := range row {
			fmt.Fprint(w, cell, "\t")
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}
