package shedgrpc

import "google.golang.org/grpc/codes"

// Code returns the code of a refusal.
func Code(err error) codes.Code {
	code, _ := refusal(err)
	return code
}
