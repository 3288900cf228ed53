package health_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stormjib/stormjib/health"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

func TestDowntime(t *testing.T) {
	tests := []struct {
		availability float64
		period       time.Duration
		want         string
	}{
		{0.9, 30 * day, "72h0m0s"},
		{0.99, 30 * day, "7h12m0s"},
		{0.995, 30 * day, "3h36m0s"},
		{0.999, 30 * day, "43m12s"},
		{0.9995, 30 * day, "21m36s"},
		{0.9999, 30 * day, "4m19.2s"},
		{0.99999, 30 * day, "25.92s"},
		{0.999999, 30 * day, "2.592s"},
		{0.99, year, "87h36m0s"},
		{0.999, year, "8h45m36s"},
		{0.9999, year, "52m33.6s"},
		{0.99999, year, "5m15.36s"},
		{0.999999, year, "31.536s"},
		{0.9999999, year, "3.1536s"},
		{0.999999999, year, "31.536ms"},
		{0.999999999999, year, "31.536µs"},
		{0.9999999999999, year, "0s"}, // less than a trillionth
		{0.999, day, "1m26.4s"},
		{0.999, time.Minute, "60ms"},
		{0.999, 1, "0s"},
		{0.5, 3, "1ns"}, // rounded down

		{0, 30 * day, "720h0m0s"},
		{1, 30 * day, "0s"},
		{2, 30 * day, "0s"},
		{math.Inf(1), 30 * day, "0s"},
		{-1, 30 * day, "720h0m0s"},
		{math.NaN(), 30 * day, "720h0m0s"},
		{0.5, 0, "0s"},
		{0.5, -day, "0s"},
		{0, math.MaxInt64, time.Duration(math.MaxInt64).String()},
	}
	for _, test := range tests {
		if got := health.Downtime(test.availability, test.period).String(); got != test.want {
			t.Errorf("%v of %v: %v, want %v", test.availability, test.period, got, test.want)
		}
	}
}

func TestSeries(t *testing.T) {
	tests := []struct {
		parts []float64
		want  float64
	}{
		{nil, 1},
		{[]float64{0.999}, 0.999},
		{[]float64{0.999, 0.999}, 0.998001},
		{[]float64{0.999, 0.999, 0.999, 0.999, 0.999}, 0.995009990004999},
		{[]float64{0.5, 0.5, 0.5}, 0.125},
		{[]float64{1, 1}, 1},
		{[]float64{0.9, 0}, 0},
		{[]float64{0.9, -3}, 0},
		{[]float64{0.9, 3}, 0.9},
		{[]float64{0.9, math.NaN()}, 0},
	}
	for _, test := range tests {
		if got := health.Series(test.parts...); !near(got, test.want) {
			t.Errorf("%v: %v, want %v", test.parts, got, test.want)
		}
	}
}

func TestParallel(t *testing.T) {
	tests := []struct {
		parts []float64
		want  float64
	}{
		{nil, 0},
		{[]float64{0.99}, 0.99},
		{[]float64{0.99, 0.99}, 0.9999},
		{[]float64{0.99, 0.99, 0.99}, 0.999999},
		{[]float64{0.5, 0.5, 0.5}, 0.875},
		{[]float64{0.9, 0}, 0.9},
		{[]float64{0.9, 1}, 1},
		{[]float64{0.9, 7}, 1},
		{[]float64{0.9, -7}, 0.9},
		{[]float64{0.9, math.NaN()}, 0.9},
	}
	for _, test := range tests {
		if got := health.Parallel(test.parts...); !near(got, test.want) {
			t.Errorf("%v: %v, want %v", test.parts, got, test.want)
		}
	}
}

func TestOwn(t *testing.T) {
	tests := []struct {
		objective    float64
		dependencies []float64
		want         float64
	}{
		{0.999, nil, 0.999},
		{0.998001, []float64{0.999}, 0.999},
		{0.99, []float64{0.999, 0.999, 0.999}, 0.992975949914871},
		{0.999, []float64{0.999}, 1},
		{0.999, []float64{0.99}, 1.0090909090909090},
		{0.9, []float64{0}, math.Inf(1)},
		{0, []float64{0}, 0},
		{math.NaN(), nil, 0},
		{5, nil, 1},
	}
	for _, test := range tests {
		got := health.Own(test.objective, test.dependencies...)
		if got != test.want && !(math.Abs(got-test.want) < 1e-9) {
			t.Errorf("%v with %v: %v, want %v",
				test.objective, test.dependencies, got, test.want)
		}
	}
}

// The same with numbers that are never rounded.
func TestCompositionAgainstRationals(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 1))
	one := big.NewRat(1, 1)
	for range 1000 {
		parts := make([]float64, rng.IntN(9))
		all, none := big.NewRat(1, 1), big.NewRat(1, 1)
		for i := range parts {
			parts[i] = 1 - math.Pow(rng.Float64(), 4)
			part := new(big.Rat).SetFloat64(parts[i])
			all.Mul(all, part)
			none.Mul(none, new(big.Rat).Sub(one, part))
		}
		want, _ := all.Float64()
		if got := health.Series(parts...); !near(got, want) {
			t.Fatalf("Series of %v: %v, want %v", parts, got, want)
		}
		want, _ = new(big.Rat).Sub(one, none).Float64()
		if got := health.Parallel(parts...); !near(got, want) {
			t.Fatalf("Parallel of %v: %v, want %v", parts, got, want)
		}
	}
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-15 }
