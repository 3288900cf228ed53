package bench

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/httprate"
	"github.com/sethvargo/go-limiter/httplimit"
	"github.com/throttled/throttled/v2"

	"github.com/stormjib/stormjib/limiter"
	"github.com/stormjib/stormjib/limiter/limiterhttp"
)

// serve sends requests to a handler and returns the last response.
func serve(
	requests int, wrap func(http.Handler) http.Handler,
) (recorder *httptest.ResponseRecorder) {
	handler := wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for range requests {
		recorder = httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	}
	return recorder
}

// minutely is 60 in a minute for each address.
func minutely(store limiter.Store) *limiterhttp.Middleware {
	return &limiterhttp.Middleware{
		Store: store,
		Key:   limiterhttp.RemoteAddr,
		Limit: limiter.Limit{Rate: 1, Burst: 60},
	}
}

func minute() quota { return quota{60, time.Minute} }

// TestDifferenceRetryAfter reads the header as a client does: seconds, or else a date.
func TestDifferenceRetryAfter(t *testing.T) {
	retryAfter := func(wrap func(http.Handler) http.Handler) (seconds int, ok bool) {
		text := serve(61, wrap).Header().Get("Retry-After")
		if seconds, err := strconv.Atoi(text); err == nil {
			return seconds, true
		}
		_, err := http.ParseTime(text)
		return 0, err == nil
	}
	synctest.Test(t, func(t *testing.T) {
		mine := minutely(limiter.NewKeyed(limiter.KeyedConfig[string]{}))
		seconds, ok := retryAfter(mine.Handler)
		fact(t, ok && seconds <= 2, "stormjib's Retry-After is the seconds until there is a token")
		windows := httprate.LimitBy(60, time.Minute, httprate.Key("*"))
		seconds, ok = retryAfter(windows)
		fact(t, ok && seconds == 60, "httprate's Retry-After is a whole window, whenever it began")
	})
	store := newGoLimiter(minute(), 1)
	defer func() { _ = store.Close(t.Context()) }()
	peer, err := httplimit.NewMiddleware(store, httplimit.IPKeyFunc())
	if err != nil {
		t.Fatal(err)
	}
	_, ok := retryAfter(peer.Handle)
	fact(t, !ok, "go-limiter's Retry-After is no date of HTTP: it ends in UTC, not in GMT")
}

var errDown = errors.New("bench: the store is down")

// down is a store that can't be reached, in the forms of all.
type down struct{}

func (down) Take(context.Context, string, limiter.Limit, int, int) (limiter.Result, error) {
	return limiter.Result{}, errDown
}

type httprateDown struct{}

func (httprateDown) Config(int, time.Duration)                {}
func (httprateDown) Increment(string, time.Time) error        { return errDown }
func (httprateDown) IncrementBy(string, time.Time, int) error { return errDown }

func (httprateDown) Get(string, time.Time, time.Time) (now, before int, err error) {
	return 0, 0, errDown
}

type throttledDown struct{}

func (throttledDown) RateLimitCtx(
	context.Context, string, int,
) (bool, throttled.RateLimitResult, error) {
	return false, throttled.RateLimitResult{}, errDown
}

// TestDifferenceStoreDown: that nobody knows is neither the client's fault nor forever.
func TestDifferenceStoreDown(t *testing.T) {
	fact(t, serve(1, minutely(down{}).Handler).Code == http.StatusServiceUnavailable,
		"stormjib answers 503 when the store fails")
	windows := httprate.LimitBy(60, time.Minute, httprate.Key("*"),
		httprate.WithLimitCounter(httprateDown{}))
	fact(t, serve(1, windows).Code == http.StatusPreconditionRequired,
		"httprate answers 428 when the store fails: the client should send a condition")
	peer := throttled.HTTPRateLimiterCtx{
		RateLimiter: throttledDown{}, VaryBy: &throttled.VaryBy{RemoteAddr: true},
	}
	fact(t, serve(1, peer.RateLimit).Code == http.StatusInternalServerError,
		"throttled answers 500 when the store fails: a bug, and not to be tried again")
}
