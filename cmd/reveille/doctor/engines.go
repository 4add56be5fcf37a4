package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"reveille/rtp"
	"reveille/rtp/ng"
)

// engines asks each rtpengine for a call that comes to nothing. One that does
// not answer is a fault only if no other one does.
func (e *examination) engines(ctx context.Context) []Finding {
	var out []Finding
	takes := 0
	var unknown *net.DNSError
	for _, address := range e.Media.RTPEngine.Address {
		name := "rtpengine " + address
		switch ip, err := tryEngine(ctx, address, e.Node); {
		case err == nil && slices.Contains(e.Media.RTPEngine.Drain, address):
			out = append(out, good(name, "takes calls, with audio at %s, and is drained: it gets none", ip))
		case err == nil:
			takes++
			out = append(out, good(name, "takes calls, with audio at %s: trunks and phones must reach that", ip))
		case ng.Refused(err):
			out = append(out, fail(name, "answers, and takes no call: %v; its log has more", err))
		case errors.As(err, &unknown):
			out = append(out, fail(name, "its name is not known: %v; correct it, or write the address", unknown))
		case errors.Is(err, ng.ErrNoAnswer) || errors.Is(err, context.DeadlineExceeded):
			out = append(out, fail(name, "%v; does it run, is this its listen-ng, and does a firewall let UDP through both ways?", err))
		default:
			out = append(out, fail(name, "%v", err))
		}
	}
	if takes == 0 {
		return append(out, fail("media.engine", "no rtpengine takes calls: callers will hear 503"))
	}
	for i := range out {
		if out[i].Status == Fail {
			out[i].Status = Warn // the others have its calls
		}
	}
	return out
}

// tryEngine gives the address that a daemon puts into SDP.
func tryEngine(ctx context.Context, address, node string) (ip string, err error) {
	host, err := ng.HostPort(address)
	if err != nil {
		return "", err
	}
	client := ng.NewClient(host, nil)
	defer client.Close()
	call := fmt.Sprintf("reveille-doctor-%s-%d", node, time.Now().UnixNano())
	return rtp.TryEngine(ctx, client, call)
}
