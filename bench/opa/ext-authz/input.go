package main

import (
	"net/url"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/open-policy-agent/opa/v1/util"
)

// What a policy is asked about: the request's attributes as they came, and its path and body parsed.
func inputOf(request *authv3.CheckRequest) (any, error) {
	attributes := request.GetAttributes()
	http := attributes.GetRequest().GetHttp()
	target, err := url.Parse(http.GetPath())
	if err != nil {
		return nil, err
	}
	var body any
	if text := http.GetBody(); text != "" && strings.Contains(http.GetHeaders()["content-type"], "application/json") {
		if err := util.Unmarshal([]byte(text), &body); err != nil {
			return nil, err
		}
	}
	return map[string]any{
		"attributes": map[string]any{
			"source":      peerOf(attributes.GetSource()),
			"destination": peerOf(attributes.GetDestination()),
			"request": map[string]any{
				"time": attributes.GetRequest().GetTime().AsTime().Format("2006-01-02T15:04:05.999999999Z07:00"),
				"http": map[string]any{
					"id": http.GetId(), "method": http.GetMethod(), "path": http.GetPath(), "host": http.GetHost(),
					"scheme": http.GetScheme(), "protocol": http.GetProtocol(), "headers": http.GetHeaders(),
					"body": http.GetBody(), "size": http.GetSize(),
				},
			},
		},
		"parsed_path":    strings.Split(strings.TrimLeft(target.Path, "/"), "/"),
		"parsed_query":   target.Query(),
		"parsed_body":    body,
		"truncated_body": false,
		"version":        map[string]string{"ext_authz": "v3", "encoding": "protojson"},
	}, nil
}

func peerOf(peer *authv3.AttributeContext_Peer) map[string]any {
	return map[string]any{"principal": peer.GetPrincipal(), "address": addressOf(peer.GetAddress())}
}

func addressOf(address *corev3.Address) map[string]any {
	socket := address.GetSocketAddress()
	return map[string]any{"socketAddress": map[string]any{
		"address": socket.GetAddress(), "portValue": socket.GetPortValue(),
	}}
}
