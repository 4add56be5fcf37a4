package rtp

import (
	"context"
	"fmt"

	"reveille/rtp/ng"
	"reveille/rtp/sdp"
)

// TryEngine has a daemon take a call and ends it at once. It gives the address that the daemon puts into descriptions.
func TryEngine(ctx context.Context, client *ng.Client, call string) (address string, err error) {
	answer, err := client.Do(ctx, "offer", ng.Dict{
		"call-id": call, "from-tag": trunkTag, "to-tag": "device", "ICE": "remove", "DTLS": "off",
		"sdp": nobody(true, []sdp.Codec{sdp.PCMA()}),
	})
	if err != nil {
		return "", err
	}
	_, _ = client.Do(ctx, "delete", ng.Dict{"call-id": call, "delete-delay": 0})
	d, err := sdp.Parse([]byte(answer.Text("sdp")))
	if err != nil {
		return "", fmt.Errorf("it answers with what is no description: %w", err)
	}
	return d.Addr.Addr().String(), nil
}
