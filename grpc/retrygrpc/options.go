package retrygrpc

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/stormjib/stormjib/grpc/internal/stream"
)

// got is what comes back from an attempt beside its error. Each attempt has its own: of two
// at a time both may be writing, and what the one before it got is not the next one's.
type got struct {
	reply   any
	header  metadata.MD
	trailer metadata.MD
	peer    peer.Peer
}

// options returns the call options of the attempt.
func (g *got) options(opts []grpc.CallOption, more ...grpc.CallOption) []grpc.CallOption {
	opts = stream.With(opts,
		grpc.Header(&g.header), grpc.Trailer(&g.trailer), grpc.Peer(&g.peer))
	return append(opts, more...)
}

// asked is what the caller asks for by its options, which is one answer for all attempts.
type asked struct {
	headers  []*metadata.MD
	trailers []*metadata.MD
	peers    []*peer.Peer
	finish   []func(error)
}

// split takes from opts what is for the call as a whole.
func split(opts []grpc.CallOption) (rest []grpc.CallOption, a asked) {
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			a.headers = append(a.headers, opt.HeaderAddr)
		case grpc.TrailerCallOption:
			a.trailers = append(a.trailers, opt.TrailerAddr)
		case grpc.PeerCallOption:
			a.peers = append(a.peers, opt.PeerAddr)
		case grpc.OnFinishCallOption:
			a.finish = append(a.finish, opt.OnFinish)
		default:
			rest = append(rest, opt)
		}
	}
	return rest, a
}

// tell gives the caller what it asked for, when the call has come to err. g is what the last
// attempt got, or nil if none was made.
func (a *asked) tell(g *got, err error) {
	if g == nil {
		g = &got{}
	}
	for _, header := range a.headers {
		*header = g.header
	}
	for _, trailer := range a.trailers {
		*trailer = g.trailer
	}
	for _, p := range a.peers {
		*p = g.peer
	}
	for _, finish := range a.finish {
		finish(err)
	}
}
