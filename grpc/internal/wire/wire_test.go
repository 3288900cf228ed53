package wire_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stormjib/stormjib/grpc/internal/echo"
	"github.com/stormjib/stormjib/grpc/internal/wire"
	"github.com/stormjib/stormjib/internal/hop"
	"github.com/stormjib/stormjib/internal/verdict"
)

// later is an error that asks for a delay.
type later time.Duration

func (l later) Error() string             { return "later" }
func (l later) RetryAfter() time.Duration { return time.Duration(l) }
func (l later) NotAttempted() bool        { return true }

// What a server refuses reaches a client over a real connection as it was meant.
func TestRefusal(t *testing.T) {
	const second = time.Second
	for _, test := range []struct {
		sent     hop.Refusal
		after    time.Duration
		pushback []string
	}{
		{hop.Refusal{Reason: hop.Shed, Scope: hop.Replica}, second, nil},
		{hop.Refusal{Reason: hop.Full, Scope: hop.Replica}, 0, nil},
		{hop.Refusal{Reason: hop.Limit, Scope: hop.Service}, 3 * second / 2, []string{"1500"}},
		{hop.Refusal{Reason: hop.Open, Scope: hop.Service}, time.Microsecond, []string{"1"}},
		{hop.Refusal{Reason: hop.Open, Scope: hop.Service}, 0, nil},
		{
			hop.Refusal{Reason: hop.Failed, Scope: hop.Service, NoRetry: true},
			second,
			[]string{"-1"},
		},
	} {
		conn := echo.Service{Call: func(ctx context.Context, _ string) (string, error) {
			return "", wire.Refuse(
				ctx, codes.Unavailable, echo.Unary, "text", test.sent, later(test.after))
		}}.Listen(t, nil)
		var trailer metadata.MD
		_, err := echo.Ask(t.Context(), conn, "", grpc.Trailer(&trailer))
		if got := trailer.Get(wire.PushbackKey); fmt.Sprint(got) != fmt.Sprint(test.pushback) {
			t.Errorf("%v pushes back by %q, want %q", test.sent, got, test.pushback)
		}
		a := wire.Read(echo.Unary, err, trailer)
		if a.Code != codes.Unavailable || a.Refusal != test.sent ||
			a.Refused() != test.sent.Refused() || a.Retryable() == test.sent.NoRetry {
			t.Errorf("%v arrives as %+v", test.sent, a)
		}
		after := max(test.after, time.Duration(len(test.pushback))*time.Millisecond)
		if a.RetryAfter() != after || verdict.RetryAfter(a) != after {
			t.Errorf("%v arrives with a delay of %v, want %v", test.sent, a.After, after)
		}
		if !errors.Is(a, err) || status.Code(a) != codes.Unavailable || a.Error() != err.Error() {
			t.Errorf("%v is not the error of the call", a)
		}
		other := wire.Read(echo.BothStream, err, nil)
		if other.Refused() || other.Refusal != (hop.Refusal{}) || other.NoRetry {
			t.Errorf("another method takes it for its own: %+v", other)
		}
	}
}

func TestRead(t *testing.T) {
	unavailable := status.Error(codes.Unavailable, "text")
	with := func(details ...protoadapt.MessageV1) error {
		st, err := status.New(codes.Unavailable, "text").WithDetails(details...)
		if err != nil {
			t.Fatal(err)
		}
		return st.Err()
	}
	delay := func(d time.Duration) *errdetails.RetryInfo {
		return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
	}
	pushback := func(values ...string) metadata.MD {
		return metadata.MD{wire.PushbackKey: values}
	}
	for _, test := range []struct {
		name    string
		err     error
		trailer metadata.MD
		code    codes.Code
		after   time.Duration
		noRetry bool
		reason  string
	}{
		{"a status", unavailable, nil, codes.Unavailable, 0, false, ""},
		{"wrapped", fmt.Errorf("w: %w", unavailable), nil, codes.Unavailable, 0, false, ""},
		{"a plain error", errors.New("boom"), nil, codes.Unknown, 0, false, ""},
		{"a context's", context.Canceled, nil, codes.Canceled, 0, false, ""},
		{"and its deadline", context.DeadlineExceeded, nil, codes.DeadlineExceeded, 0, false, ""},
		{"a delay", with(delay(time.Second)), nil, codes.Unavailable, time.Second, false, ""},
		{"below zero", with(delay(-time.Second)), nil, codes.Unavailable, 0, false, ""},
		{
			"longer than a Duration",
			with(&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: math.MaxInt64}}),
			nil, codes.Unavailable, math.MaxInt64, false, "",
		},
		{
			"of another domain",
			with(&errdetails.ErrorInfo{Reason: "shed", Domain: "other", Metadata: map[string]string{
				"method": echo.Unary, "retry": "no",
			}}), nil, codes.Unavailable, 0, false, "",
		},

		// The vectors of gRFC A6.
		{"pushback", unavailable, pushback("9000"), codes.Unavailable, 9 * time.Second, false, ""},
		{"at once", with(delay(time.Second)), pushback("0"), codes.Unavailable, 0, false, ""},
		{"never", unavailable, pushback("-1"), codes.Unavailable, 0, true, ""},
		{"no number", unavailable, pushback("xxx"), codes.Unavailable, 0, true, ""},
		{"nothing", unavailable, pushback(""), codes.Unavailable, 0, true, ""},
		{"two numbers", unavailable, pushback("1", "2"), codes.Unavailable, 0, true, ""},
		{"too large", unavailable, pushback("4294967296"), codes.Unavailable, 0, true, ""},

		// Envoy means it by the presence of the key.
		{
			"Envoy sheds", unavailable, metadata.Pairs("x-envoy-overloaded", "false"),
			codes.Unavailable, 0, true, hop.Shed,
		},
		{
			"Envoy limits", unavailable, metadata.Pairs("x-envoy-ratelimited", "true"),
			codes.Unavailable, 0, true, hop.Limit,
		},
	} {
		a := wire.Read(echo.Unary, test.err, test.trailer)
		if a.Code != test.code || a.After != test.after || a.NoRetry != test.noRetry ||
			a.Refusal.Reason != test.reason ||
			a.Pushback != (test.trailer.Get(wire.PushbackKey) != nil) {
			t.Errorf("%s: %+v", test.name, a)
		}
		if status.Code(a) != status.Code(test.err) {
			t.Errorf("%s: its status is %v", test.name, status.Code(a))
		}
	}
}

// What a client's own policy refuses is the policy's error, and a status.
func TestLocal(t *testing.T) {
	for _, after := range []time.Duration{0, time.Minute} {
		err := wire.Local(later(after), codes.ResourceExhausted)
		if !errors.Is(err, later(after)) || !verdict.NotAttempted(err) ||
			verdict.RetryAfter(err) != after || err.Error() != "later" {
			t.Errorf("%v is not the policy's", err)
		}
		a := wire.Read(echo.Unary, err, nil)
		if a.Code != codes.ResourceExhausted || a.After != after || a.Refused() ||
			!verdict.NotAttempted(a) {
			t.Errorf("it reads as %+v", a)
		}
	}
}

// Text that no message can hold leaves the code.
func TestStatusOfBadText(t *testing.T) {
	r := hop.Refusal{Reason: hop.Shed, Scope: hop.Replica}
	st := wire.Status(codes.Unavailable, "/\xff/", "text", r, time.Second)
	if st.Code() != codes.Unavailable || st.Message() != "text" {
		t.Errorf("it is %v", st)
	}
}

// To wait for ever is no delay: it would be 292 years to whoever reads it.
func TestForEver(t *testing.T) {
	const ever = later(math.MaxInt64)
	for name, err := range map[string]error{
		"refused": wire.Refuse(t.Context(), codes.ResourceExhausted, echo.Unary, "text",
			hop.Refusal{Reason: hop.Limit, Scope: hop.Service, NoRetry: true}, ever),
		"here":   wire.Local(ever, codes.ResourceExhausted),
		"spread": wire.Local(wire.Spread(ever), codes.ResourceExhausted),
	} {
		if a := wire.Read(echo.Unary, err, nil); a.After != 0 {
			t.Errorf("%s: a delay of %v", name, a.After)
		}
	}
}

func TestLater(t *testing.T) {
	for _, after := range []time.Duration{0, time.Second} {
		st := wire.Later(status.New(codes.Unavailable, "text"), later(after))
		a := wire.Read(echo.Unary, st.Err(), nil)
		if a.After != after || a.Refused() || st.Message() != "text" {
			t.Errorf("%v becomes %+v", after, a)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, test := range []struct{ after, most time.Duration }{
		{0, 0},
		{time.Nanosecond, time.Nanosecond},
		{time.Second, 6 * time.Second / 5},
		{time.Hour, time.Hour + time.Minute},
		{math.MaxInt64 - time.Second, math.MaxInt64 - time.Second},
	} {
		seen := make(map[time.Duration]bool)
		for range 100 {
			err := wire.Spread(later(test.after))
			after := verdict.RetryAfter(err)
			if after < test.after || after > test.most || !errors.Is(err, later(test.after)) ||
				!verdict.NotAttempted(err) {
				t.Fatalf("%v becomes %v by %v", test.after, after, err)
			}
			seen[after] = true
		}
		if (len(seen) > 1) != (test.most > test.after) {
			t.Errorf("%v becomes one of %d", test.after, len(seen))
		}
	}
}
